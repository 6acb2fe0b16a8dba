//! A kernel, as far as a plan can see: what a change does to what is observed, and what Linux refuses.

use std::net::IpAddr;

use super::*;
use crate::network::desired::DesiredRouter;
use crate::network::sysctl::{ALL_DEVICES, Family, on_trunk};

const LEAST_IPV6_MTU: u32 = 1280;
/// What a new device has, and no table wants.
const UNSET: i32 = -7;

pub(super) struct Kernel {
    pub(super) state: Observed,
    /// Is a program on the trunk?
    pub(super) attached: bool,
    /// Is the new policy in force?
    pub(super) flipped: bool,
    wanted: DesiredRouter,
}

type Done = Result<(), String>;

fn ensure(is: bool, rule: &str) -> Done {
    if is { Ok(()) } else { Err(rule.to_owned()) }
}

impl Kernel {
    pub(super) fn new(state: Observed, wanted: DesiredRouter) -> Self {
        Self {
            state,
            attached: false,
            flipped: false,
            wanted,
        }
    }

    pub(super) fn apply(&mut self, change: &Change) -> Done {
        match change {
            Change::CreateVlan {
                name,
                trunk,
                vlan_id,
                mtu,
                ..
            } => self.create(name, trunk.index.unwrap(), (*vlan_id, *mtu)),
            Change::RemoveVlan { link, .. } => self.remove(link),
            Change::SetMtu { link, to, .. } => self.set_mtu(link, *to),
            Change::SetUp { link } => self.set_up(link),
            Change::SetDown { link } => {
                let link = self.link(link)?;
                (link.up, link.running) = (false, false);
                link.addresses.retain(|found| found.net.addr().is_ipv4());
                Ok(())
            }
            Change::AddAddress { link, address } => self.add(link, *address),
            Change::ReplaceAddress { link, from, to } => {
                let link = self.link(link)?;
                let found = link.addresses.iter_mut().find(|found| found.net == *from);
                let found = found.ok_or("no such address")?;
                ensure(found.origin == Origin::Ours, "touched a foreign address")?;
                found.net = *to;
                Ok(())
            }
            Change::RemoveAddress { link, address } => {
                ensure(self.flipped, "an address went before the flip")?;
                self.remove_address(link, *address)
            }
            Change::SetSysctls { device, values } => {
                for value in values {
                    self.set_sysctl(device, value.key, value.to)?;
                }
                Ok(())
            }
            Change::SetRxVlanOff { .. } => {
                self.state.rx_vlan_offload = Some(false);
                Ok(())
            }
            Change::SetVlanFiltering { .. }
            | Change::ClearDefaultPvid { .. }
            | Change::CarryVlans { .. }
            | Change::SetAccessVlan { .. }
            | Change::TagVlans { .. }
            | Change::DropVlans { .. } => Err("no change of a router".to_owned()),
        }
    }

    fn link(&mut self, wanted: &LinkRef) -> Result<&mut Link, String> {
        let mut links = self.state.links.values_mut();
        let found = links.find(|link| match wanted.index {
            Some(index) => link.index == index,
            None => link.name == wanted.name,
        });
        let link = found.ok_or(format!("no link {wanted}"))?;
        let is_handed_over = link.name == self.wanted.trunk;
        ensure(link.is_ours() || is_handed_over, "touched a foreign link")?;
        Ok(link)
    }

    fn create(&mut self, name: &str, parent: u32, (vlan_id, mtu): (u16, u32)) -> Done {
        let trunk = self.state.links.get(&parent).ok_or("no trunk")?;
        ensure(mtu <= trunk.mtu, "mtu above the trunk's")?;
        let mac = trunk.mac;
        let kind = Kind::Vlan {
            parent: Some(parent),
            vlan_id,
        };
        for link in self.state.links.values() {
            let is_named = link.name == name || link.altnames.contains(name);
            ensure(!is_named && link.kind != kind, "exists")?;
        }
        let index = self.state.links.keys().max().unwrap() + 1;
        let mut device = vlan(index, name, vlan_id);
        (device.kind, device.mac, device.mtu) = (kind, mac, mtu);
        (device.up, device.running) = (false, false);
        device.addresses.clear();
        device.sysctls = DEVICE.iter().map(|(key, _)| (*key, UNSET)).collect();
        drop_ipv6_if_small(&mut device);
        self.state.links.insert(index, device);
        Ok(())
    }

    fn remove(&mut self, wanted: &LinkRef) -> Done {
        let names: Vec<_> = self
            .wanted
            .devices
            .values()
            .map(|d| d.name.clone())
            .collect();
        let flipped = self.flipped;
        let link = self.link(wanted)?;
        ensure(!link.up, "removed while up")?;
        let blocks = names
            .iter()
            .any(|name| *name == link.name || link.altnames.contains(name));
        ensure(flipped || blocks, "a device went before the flip")?;
        let index = link.index;
        self.state.links.remove(&index);
        Ok(())
    }

    fn set_mtu(&mut self, wanted: &LinkRef, mtu: u32) -> Done {
        let kind = self.link(wanted)?.kind;
        if let Kind::Vlan { parent, .. } = kind {
            let parent = parent.and_then(|index| self.state.links.get(&index));
            ensure(
                parent.is_some_and(|trunk| mtu <= trunk.mtu),
                "mtu above the trunk's",
            )?;
        }
        let link = self.link(wanted)?;
        let had_ipv6 = link.mtu >= LEAST_IPV6_MTU;
        link.mtu = mtu;
        if mtu >= LEAST_IPV6_MTU && !had_ipv6 {
            let keys = DEVICE.iter().map(|(key, _)| *key);
            let v6 = keys.filter(|key| key.family == Family::V6);
            link.sysctls.extend(v6.map(|key| (key, UNSET)));
        }
        drop_ipv6_if_small(link);
        Ok(())
    }

    /// The rules of the order: a device comes up complete, behind a program.
    fn set_up(&mut self, wanted: &LinkRef) -> Done {
        ensure(self.attached, "up without a program")?;
        let trunk_up = self.trunk().is_some_and(|trunk| trunk.up);
        let devices = self.wanted.devices.clone();
        let link = self.link(wanted)?;
        let is_trunk = link.kind == Kind::Other;
        for (key, value) in DEVICE.iter().filter(|(key, _)| !is_trunk || on_trunk(*key)) {
            let found = link.sysctls.get(key);
            ensure(
                found.is_none_or(|found| found == value),
                "up without its sysctls",
            )?;
        }
        link.up = true;
        if let Kind::Vlan { vlan_id, .. } = link.kind {
            link.running = trunk_up;
            for net in &devices[&vlan_id].addresses {
                let has = link
                    .addresses
                    .iter()
                    .any(|found| found.net.addr() == net.addr());
                ensure(has || net.addr().is_ipv6(), "up without its addresses")?;
            }
            give_link_local(link);
            return Ok(());
        }
        link.running = true;
        let trunk = link.index;
        for device in self.state.links.values_mut() {
            if matches!(device.kind, Kind::Vlan { parent, .. } if parent == Some(trunk)) {
                device.running = device.up;
                give_link_local(device);
            }
        }
        Ok(())
    }

    fn trunk(&self) -> Option<&Link> {
        let mut links = self.state.links.values();
        links.find(|link| link.name == self.wanted.trunk)
    }

    fn add(&mut self, wanted: &LinkRef, net: ipnet::IpNet) -> Done {
        let link = self.link(wanted)?;
        let mut found = link.addresses.iter();
        if found.any(|found| found.net == net) {
            return Ok(());
        }
        let has_ipv6 = link.mtu >= LEAST_IPV6_MTU;
        let is_taken = link
            .addresses
            .iter()
            .any(|found| found.net.addr() == net.addr());
        ensure(
            net.addr().is_ipv4() || (has_ipv6 && !is_taken),
            "exists, or no IPv6",
        )?;
        link.addresses.push(Address {
            net,
            origin: Origin::Ours,
        });
        Ok(())
    }

    /// Without `promote_secondaries`, the later addresses of the subnet go, too.
    fn remove_address(&mut self, wanted: &LinkRef, net: ipnet::IpNet) -> Done {
        let link = self.link(wanted)?;
        let at = link.addresses.iter().position(|found| found.net == net);
        let found = link.addresses.remove(at.ok_or("no such address")?);
        ensure(found.origin == Origin::Ours, "touched a foreign address")?;
        let promote = link
            .sysctls
            .iter()
            .find(|(key, _)| key.name == "promote_secondaries");
        if net.addr().is_ipv4() && promote.is_some_and(|(_, value)| *value != 1) {
            link.addresses
                .retain(|other| other.net.trunc() != net.trunc());
        }
        Ok(())
    }

    fn set_sysctl(&mut self, device: &str, key: crate::network::sysctl::Key, to: i32) -> Done {
        if device == ALL_DEVICES {
            let opens = FORWARDING.iter().any(|(forwarding, _)| *forwarding == key);
            ensure(self.attached || !opens, "forwarding without a program")?;
            self.state.sysctls.insert(key, to);
            return Ok(());
        }
        let link = self.link(&LinkRef {
            name: device.to_owned(),
            index: None,
        })?;
        let value = link.sysctls.get_mut(&key).ok_or("no such sysctl")?;
        *value = to;
        give_link_local(link);
        Ok(())
    }
}

fn drop_ipv6_if_small(link: &mut Link) {
    if link.mtu < LEAST_IPV6_MTU {
        link.sysctls.retain(|key, _| key.family == Family::V4);
        link.addresses.retain(|found| found.net.addr().is_ipv4());
    }
}

fn give_link_local(link: &mut Link) {
    let mode = link
        .sysctls
        .iter()
        .find(|(key, _)| key.name == "addr_gen_mode");
    let Some((_, 0)) = mode else { return };
    let (true, Some(mac)) = (link.running, link.mac) else {
        return;
    };
    let own = IpAddr::V6(link_local(mac));
    if !link.addresses.iter().any(|found| found.net.addr() == own) {
        link.addresses.push(kernel_address());
    }
}
