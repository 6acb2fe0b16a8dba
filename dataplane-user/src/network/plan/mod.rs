//! The difference between what the inventory wants and what the kernel has, as an ordered list of changes.

mod address;
mod bridge;
mod conflict;
mod router;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde::Serialize;

pub use self::conflict::Conflict;
use super::change::{Change, LinkRef};
use super::desired::Desired;
use super::observed::{Link, Observed};

/// What is to be done, in this order, and what is in the way.
///
/// # Order: no window is open
///
/// ```text
///   prepare    sysctls, offload, MTU of the trunk; devices are made, down; their sysctls, MTU, addresses
///              (bridges: VLANs that a port carries from now on)
///   ---------- from here on the program must be on the trunk: with tables, or the stub that drops everything
///   open       trunk up, devices up, forwarding on; bridge filters VLANs
///   ---------- the packet path switches to the new generation
///   after      addresses go, devices go down, devices go (bridges: VLANs that a port carries no more)
/// ```
///
/// * A device comes up with the sysctls and addresses that it shall have, never before: else it would take router
///   advertisements, or answer for other segments, for a moment.
/// * A device comes up, and the kernel forwards, only behind an attached program. Until the switch, the old
///   generation does not know the new VLAN, and drops its frames.
/// * What goes, goes when no packet is sent there any more; and it is down before it is removed, so that the
///   kernel never forwards over a device without addresses.
/// * One exception: a device of ours whose name a new one needs (the trunk is another NIC now) goes in `prepare`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct NetworkPlan {
    changes: Vec<Change>,
    /// Where [`NetworkPlan::open`] begins in `changes`.
    open: usize,
    /// Where [`NetworkPlan::after_flip`] begins.
    after: usize,
    /// What is in the way and will not be touched: the desired state cannot be reached until the operator acts.
    pub conflicts: Vec<Conflict>,
    /// What others put on devices of ours; it stays, and hinders nothing.
    pub foreign: Vec<Conflict>,
}

impl NetworkPlan {
    /// All changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What comes before the policy switches: [`NetworkPlan::prepare`], then [`NetworkPlan::open`].
    #[must_use]
    pub fn before_flip(&self) -> &[Change] {
        &self.changes[..self.after]
    }

    /// What needs no program on the trunk yet.
    #[must_use]
    pub fn prepare(&self) -> &[Change] {
        &self.changes[..self.open]
    }

    /// What must only be done when a program is attached to the trunk.
    #[must_use]
    pub fn open(&self) -> &[Change] {
        &self.changes[self.open..self.after]
    }

    /// What goes after the policy has switched.
    #[must_use]
    pub fn after_flip(&self) -> &[Change] {
        &self.changes[self.after..]
    }

    /// Is there nothing to do? Conflicts do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Computes what makes the kernel's network what the inventory wants; linear in the number of devices.
///
/// Nothing that is not ours is changed: see [`NetworkPlan::conflicts`].
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> NetworkPlan {
    let mut planner = Planner::new(desired, observed);
    if let Some(router) = &desired.router {
        planner.router(router);
    }
    if let Some(bridge) = &desired.bridge {
        let keep = planner.untagged_side(bridge);
        let is_cut = planner.tagged_side(bridge);
        if desired.manage.links && !is_cut {
            planner.bridge(bridge, keep);
        }
        if desired.manage.links {
            planner.access_ports(bridge);
        }
    }
    planner.finish()
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// By name and by every other name.
    by_name: HashMap<&'a str, &'a Link>,
    /// Links that have an address.
    holders: HashMap<IpAddr, Vec<u32>>,
    /// Links that are removed before others are made.
    gone_first: HashSet<u32>,
    /// IPv6 must not be forwarded: an uplink would lose its routes.
    no_forwarding6: bool,
    prepare: Vec<Change>,
    open: Vec<Change>,
    /// Addresses that go, before devices do.
    remove_addresses: Vec<Change>,
    after: Vec<Change>,
    conflicts: Vec<Conflict>,
    foreign: Vec<Conflict>,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        let mut by_name = HashMap::new();
        let mut holders: HashMap<IpAddr, Vec<u32>> = HashMap::new();
        for link in observed.links.values() {
            by_name.insert(link.name.as_str(), link);
            by_name.extend(link.altnames.iter().map(|name| (name.as_str(), link)));
            for address in &link.addresses {
                let holders = holders.entry(address.net.addr()).or_default();
                holders.push(link.index);
            }
        }
        Self {
            desired,
            observed,
            by_name,
            holders,
            gone_first: HashSet::new(),
            no_forwarding6: false,
            prepare: Vec::new(),
            open: Vec::new(),
            remove_addresses: Vec::new(),
            after: Vec::new(),
            conflicts: Vec::new(),
            foreign: Vec::new(),
        }
    }

    fn finish(self) -> NetworkPlan {
        let (open, gone) = (self.prepare.len(), self.open.len());
        let mut changes = self.prepare;
        changes.extend(self.open);
        changes.extend(self.remove_addresses);
        changes.extend(self.after);
        NetworkPlan {
            changes,
            open,
            after: open + gone,
            conflicts: self.conflicts,
            foreign: self.foreign,
        }
    }
}

fn link_ref(link: &Link) -> LinkRef {
    LinkRef {
        name: link.name.clone(),
        index: Some(link.index),
    }
}
