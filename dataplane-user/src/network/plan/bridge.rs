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

    /// Whatever is managed: the uplink passes no VLAN that is no segment, so the host must not live by one. And a bridge that begins to
    /// filter passes nothing to a VLAN device of the host unless its own side carries the VLAN. Says whether the host would be cut off.
    pub(super) fn tagged_side(&mut self, wanted: &DesiredBridge) -> bool {
        let found = self.by_name.get(wanted.name.as_str()).copied();
        let Some((bridge, filters, _)) = found.and_then(as_bridge) else {
            return false;
        };
        let cut = self.tagged_hosts(wanted, bridge, filters);
        let is_cut = !cut.is_empty();
        self.conflicts.extend(cut);
        is_cut
    }

    fn tagged_hosts(&self, wanted: &DesiredBridge, bridge: &Link, filters: bool) -> Vec<Conflict> {
        let port = wanted.uplink_port.as_deref();
        let port = port.and_then(|name| self.by_name.get(name).copied());
        let port = port.filter(|port| port.controller == Some(bridge.index));
        let begins = !filters && self.desired.manage.links;
        let cut = self.observed.links.values().filter_map(|device| {
            let Kind::Vlan { parent, vlan_id } = device.kind else {
                return None;
            };
            if parent != Some(bridge.index) {
                return None;
            }
            let holder = self.host_behind(device)?;
            let own = bridge.vlans.get(&vlan_id);
            let own = own.is_some_and(|how| !how.untagged);
            // What does not reach the host as it is cannot be cut off.
            let reaches = |port: &Link| !filters || (own && port.vlans.contains_key(&vlan_id));
            let is_segment = wanted.vlans.contains(&vlan_id);
            let is_cut = (begins && !own) || (!is_segment && port.is_some_and(reaches));
            let vlan = (vlan_id, is_segment);
            is_cut.then(|| Conflict::tagged_host(&holder.name, &bridge.name, vlan))
        });
        cut.collect()
    }

    /// The link by which the host lives on a VLAN device, if it does: that device, or the bridge that it is a port of.
    fn host_behind(&self, device: &'a Link) -> Option<&'a Link> {
        let links = &self.observed.links;
        let over = device.controller.and_then(|index| links.get(&index));
        let over = over.filter(|over| matches!(over.kind, Kind::Bridge { .. }));
        let mut holders = [Some(device), over].into_iter().flatten();
        holders.find(|link| {
            let mut addresses = link.addresses.iter();
            addresses.any(|address| address.origin != Origin::Kernel)
        })
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
    }

    /// Ports of machines; nothing of the host's own depends on them.
    pub(super) fn access_ports(&mut self, wanted: &DesiredBridge) {
        let found = self.by_name.get(wanted.name.as_str()).copied();
        let Some((bridge, ..)) = found.and_then(as_bridge) else {
            return;
        };
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
