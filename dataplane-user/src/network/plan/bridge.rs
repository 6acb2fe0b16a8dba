//! A hypervisor's bridge and its uplink port.

use std::collections::BTreeMap;

use super::{Conflict, Planner, link_ref};
use crate::network::change::{Change, VlanRange};
use crate::network::desired::DesiredBridge;
use crate::network::observed::{BridgeVlan, Kind, Link, Origin};

impl<'a> Planner<'a> {
    /// Whatever is managed: untagged frames of the uplink reach nobody, so the host must not live by them.
    pub(super) fn untagged_side(&mut self, wanted: &DesiredBridge) -> Option<u16> {
        let found = self.by_name.get(wanted.name.as_str()).copied();
        let (bridge, filters, default_pvid) = found.and_then(as_bridge)?;
        let (vlan, conflict) = untagged_host(bridge, filters, default_pvid)?;
        self.conflicts.push(conflict);
        Some(vlan)
    }

    /// The port carries what is new, then the bridge filters, then what is not wanted goes. `keep`: the VLAN of the host's
    /// untagged side, if it lives by that.
    pub(super) fn bridge(&mut self, wanted: &DesiredBridge, keep: Option<u16>) {
        let found = self.by_name.get(wanted.name.as_str()).copied();
        let Some((bridge, filters, default_pvid)) = found.and_then(as_bridge) else {
            self.conflicts.push(Conflict::no_bridge(&wanted.name));
            return;
        };
        if !filters {
            self.open.push(Change::SetVlanFiltering {
                bridge: link_ref(bridge),
            });
        }
        if default_pvid != 0 && keep.is_none() {
            self.after.push(Change::ClearDefaultPvid {
                bridge: link_ref(bridge),
                from: default_pvid,
            });
        }
        if let Some(port) = &wanted.uplink_port {
            self.port(wanted, bridge, port, keep);
        }
        for (&port, &vlan) in &wanted.access {
            self.access_port(bridge, port, vlan);
        }
    }

    /// A machine's port is in the VLAN of its endpoint, without a tag, and in no other.
    fn access_port(&mut self, bridge: &Link, port: u32, vlan: u16) {
        let found = self.observed.links.get(&port);
        let Some(port) = found.filter(|port| port.controller == Some(bridge.index)) else {
            return;
        };
        let untagged = BridgeVlan {
            pvid: true,
            untagged: true,
        };
        if port.vlans.get(&vlan) != Some(&untagged) {
            self.open.push(Change::SetAccessVlan {
                port: link_ref(port),
                vlan,
            });
        }
        let others = port.vlans.keys().copied().filter(|&other| other != vlan);
        let vlans = ranges(others);
        if !vlans.is_empty() {
            let port = link_ref(port);
            self.after.push(Change::DropVlans { port, vlans });
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

/// The VLAN of the bridge's own untagged side (0: it has no number), if the host itself has an address there. A bridge that
/// does not filter has one side only.
fn untagged_host(bridge: &Link, filters: bool, default_pvid: u16) -> Option<(u16, Conflict)> {
    let mut own = bridge.vlans.iter();
    let pvid = own.find(|(_, how)| how.pvid).map(|(vlan, _)| *vlan);
    let by_default = (default_pvid != 0 && bridge.vlans.is_empty()).then_some(default_pvid);
    let vlan = pvid.or(by_default).or((!filters).then_some(0))?;
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
