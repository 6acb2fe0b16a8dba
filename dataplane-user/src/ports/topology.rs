//! What is plugged in where: bridges, their ports, and which of them is a machine's.

use std::collections::BTreeSet;

use super::Names;
use crate::network::{Kind, Link, Observed};

/// The bridges that carry the site's segments.
///
/// ```text
///   one bridge       nic0 ── vmbr0 ── tap101i0
///   one per VLAN     nic0 ── nic0.100 ── vmbr0v100 ── tap101i0
///   with a firewall  nic0 ── vmbr0 ── fwpr101p0 ══ fwln101i0 ── fwbr101i0 ── tap101i0
/// ```
pub(super) struct Topology<'o> {
    /// The port towards the switch.
    pub(super) uplink: Option<&'o Link>,
    /// Ports that are neither the uplink's side nor a cable between two of the bridges.
    pub(super) access: Vec<&'o Link>,
    /// Hardware addresses of the host on these bridges.
    pub(super) macs: BTreeSet<[u8; 6]>,
}

impl<'o> Topology<'o> {
    pub(super) fn of(observed: &'o Observed, names: &Names) -> Self {
        let links = || observed.links.values();
        let called = |name: &str| links().find(|link| link.is_called(name));
        let uplink = names.uplink.as_deref().and_then(called);
        let bridge = called(&names.bridge).filter(|link| is_bridge(link));
        let found = Found::from(observed, uplink, bridge);
        let is_port = |link: &&Link| {
            let on = link.controller;
            on.is_some_and(|on| found.bridges.contains(&on)) && !found.inner.contains(&link.index)
        };
        let own = found.bridges.iter().chain(&found.devices);
        let macs = own.filter_map(|index| {
            let mac = observed.links.get(index)?.mac?;
            (mac != [0; 6] && mac[0] & 1 == 0).then_some(mac)
        });
        Self {
            uplink,
            access: links().filter(is_port).collect(),
            macs: macs.collect(),
        }
    }
}

/// Is it a port that is no end of a machine's or a container's cable?
pub(super) fn is_foreign(link: &Link) -> bool {
    !matches!(link.kind, Kind::Tap | Kind::Veth { .. })
}

fn is_bridge(link: &Link) -> bool {
    matches!(link.kind, Kind::Bridge { .. })
}

/// Everything that hangs together.
#[derive(Default)]
struct Found {
    bridges: BTreeSet<u32>,
    /// The uplink, and VLAN devices on it or on one of the bridges.
    devices: BTreeSet<u32>,
    /// Ports of the bridges that lead to another of them, or to the uplink.
    inner: BTreeSet<u32>,
}

impl Found {
    fn from(observed: &Observed, uplink: Option<&Link>, bridge: Option<&Link>) -> Self {
        let mut found = Self::default();
        found.bridges.extend(bridge.map(|link| link.index));
        found.devices.extend(uplink.map(|link| link.index));
        found.inner.extend(uplink.map(|link| link.index));
        // Each round finds at least one link more, or is the last.
        while observed
            .links
            .values()
            .any(|link| found.add(observed, link))
        {}
        found
    }

    /// Adds what the link joins; says whether that is new.
    fn add(&mut self, observed: &Observed, link: &Link) -> bool {
        let controller = link.controller.and_then(|index| observed.links.get(&index));
        let Some(bridge) = controller.filter(|link| is_bridge(link)) else {
            return self.add_device(link);
        };
        match link.kind {
            // A cable between two bridges.
            Kind::Veth { peer: Some(peer) } => {
                let other = observed.links.get(&peer).and_then(|peer| peer.controller);
                other.is_some_and(|other| self.bridges.contains(&other))
                    && (self.inner.insert(peer)
                        | self.inner.insert(link.index)
                        | self.bridges.insert(bridge.index))
            }
            Kind::Vlan { .. }
            | Kind::Bridge { .. }
            | Kind::Veth { .. }
            | Kind::Tap
            | Kind::Other => {
                self.add_device(link)
                    | (self.devices.contains(&link.index) && self.bridges.insert(bridge.index))
            }
        }
    }

    /// A VLAN device on something of ours.
    fn add_device(&mut self, link: &Link) -> bool {
        let Kind::Vlan {
            parent: Some(parent),
            ..
        } = link.kind
        else {
            return false;
        };
        if !self.devices.contains(&parent) && !self.bridges.contains(&parent) {
            return false;
        }
        self.inner.insert(link.index);
        self.devices.insert(link.index)
    }
}
