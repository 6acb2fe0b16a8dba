//! A hypervisor's bridge and its uplink port.

use std::collections::BTreeMap;

use super::{Conflict, Planner, link_ref};
use crate::network::change::{Change, VlanRange};
use crate::network::desired::DesiredBridge;
use crate::network::observed::{BridgeVlan, Kind, Link, Origin};

impl<'a> Planner<'a> {
    /// The port carries what is new, then the bridge filters, then what is not wanted goes.
    pub(super) fn bridge(&mut self, wanted: &DesiredBridge) {
        let found = self.by_name.get(wanted.name.as_str()).copied();
        let Some((bridge, filters, default_pvid)) = found.and_then(as_bridge) else {
            self.conflicts.push(Conflict::no_bridge(&wanted.name));
            return;
        };
        let untagged = untagged_host(bridge, default_pvid);
        if let Some((_, conflict)) = &untagged {
            self.conflicts.push(conflict.clone());
        }
        if !filters {
            self.open.push(Change::SetVlanFiltering {
                bridge: link_ref(bridge),
            });
        }
        if default_pvid != 0 && untagged.is_none() {
            self.after.push(Change::ClearDefaultPvid {
                bridge: link_ref(bridge),
                from: default_pvid,
            });
        }
        if let Some(port) = &wanted.uplink_port {
            self.port(wanted, bridge, port, untagged.map(|(vlan, _)| vlan));
        }
    }

    fn port(&mut self, wanted: &DesiredBridge, bridge: &Link, name: &str, keep: Option<u16>) {
        let port = self.by_name.get(name).copied();
        let port = port.filter(|port| port.controller == Some(bridge.index));
        let Some(port) = port else {
            self.conflicts.push(Conflict::no_port(name, &bridge.name));
            return;
        };
        let mut rest: BTreeMap<u16, BridgeVlan> = port.vlans.clone();
        let (mut carry, mut tag) = (Vec::new(), Vec::new());
        for &vlan in &wanted.vlans {
            match rest.remove(&vlan) {
                None => carry.push(vlan),
                Some(how) if how != BridgeVlan::default() && keep != Some(vlan) => tag.push(vlan),
                Some(_) => {}
            }
        }
        let gone = rest.into_keys().filter(|&vlan| keep != Some(vlan));
        let (carry, tag) = (ranges(carry), ranges(tag));
        let (gone, port) = (ranges(gone), link_ref(port));
        if !carry.is_empty() {
            self.prepare.push(Change::CarryVlans {
                port: port.clone(),
                vlans: carry,
            });
        }
        if !tag.is_empty() {
            self.after.push(Change::TagVlans {
                port: port.clone(),
                vlans: tag,
            });
        }
        if !gone.is_empty() {
            self.after.push(Change::DropVlans { port, vlans: gone });
        }
    }
}

fn as_bridge(link: &Link) -> Option<(&Link, bool, u16)> {
    let Kind::Bridge {
        vlan_filtering,
        default_pvid,
    } = link.kind
    else {
        return None;
    };
    Some((link, vlan_filtering, default_pvid))
}

/// The VLAN of the bridge's own untagged side, if the host itself has an address there. A bridge that does not
/// filter yet has one side only.
fn untagged_host(bridge: &Link, default_pvid: u16) -> Option<(u16, Conflict)> {
    let mut own = bridge.vlans.iter();
    let pvid = own.find(|(_, how)| how.pvid).map(|(vlan, _)| *vlan);
    let vlan = pvid.or((default_pvid != 0 && bridge.vlans.is_empty()).then_some(default_pvid))?;
    let mut addresses = bridge.addresses.iter();
    let address = addresses.find(|address| address.origin != Origin::Kernel)?;
    let conflict = Conflict::untagged_host(&bridge.name, vlan, address.net);
    Some((vlan, conflict))
}

/// `vlans` must be sorted.
fn ranges(vlans: impl IntoIterator<Item = u16>) -> Vec<VlanRange> {
    let mut ranges: Vec<VlanRange> = Vec::new();
    for vlan in vlans {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == vlan => range.last = vlan,
            Some(_) | None => ranges.push(VlanRange {
                first: vlan,
                last: vlan,
            }),
        }
    }
    ranges
}
