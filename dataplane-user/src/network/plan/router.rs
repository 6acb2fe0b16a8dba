//! A router's trunk and its VLAN devices.

use std::collections::{HashMap, HashSet};

use super::{Conflict, Planner, link_ref};
use crate::network::change::{Change, LinkRef, SysctlChange};
use crate::network::desired::{DesiredRouter, Device, LEAST_IPV6_MTU};
use crate::network::observed::{Kind, Link, Origin};
use crate::network::sysctl::{
    ACCEPT_RA, ALL, ALL_DEVICES, DEVICE, FORWARDING, FORWARDING6, Family, Key, on_trunk,
};

impl<'a> Planner<'a> {
    pub(super) fn router(&mut self, router: &'a DesiredRouter) {
        let Some(&trunk) = self.by_name.get(router.trunk.as_str()) else {
            self.conflicts.push(Conflict::no_trunk(&router.trunk));
            return;
        };
        if self.desired.manage.sysctls {
            self.check_advertisements(trunk);
            self.all_devices(ALL, |planner| &mut planner.prepare);
        }
        self.trunk(router, trunk);
        let devices = self.devices_of(trunk);
        self.remove_devices(router, trunk);
        for (&vlan_id, device) in &router.devices {
            match devices.get(&vlan_id) {
                Some(link) if link.is_ours() || !self.desired.manage.links => {
                    self.device(trunk, link, device);
                }
                Some(link) => {
                    let conflict = Conflict::foreign_device(&link.name, &trunk.name, vlan_id);
                    self.conflicts.push(conflict);
                }
                None => self.create(trunk, vlan_id, device),
            }
        }
        if self.desired.manage.sysctls {
            self.forwarding();
        }
    }

    fn trunk(&mut self, router: &DesiredRouter, trunk: &Link) {
        let manage = self.desired.manage;
        let least = router.trunk_mtu();
        if manage.offloads && router.tags_in_frames && self.observed.rx_vlan_offload == Some(true) {
            let link = link_ref(trunk);
            self.prepare.push(Change::SetRxVlanOff { link });
        }
        if manage.links && trunk.mtu < least {
            self.prepare.push(Change::SetMtu {
                link: link_ref(trunk),
                from: trunk.mtu,
                to: least,
            });
        }
        if manage.sysctls {
            let mtu = if manage.links {
                trunk.mtu.max(least)
            } else {
                trunk.mtu
            };
            self.sysctls(trunk, mtu, on_trunk);
        }
        if manage.links && !trunk.up {
            let link = link_ref(trunk);
            self.open.push(Change::SetUp { link });
        }
    }

    /// VLAN devices on the trunk, whoever made them.
    fn devices_of(&self, trunk: &Link) -> HashMap<u16, &'a Link> {
        let links = self.observed.links.values();
        let devices = links.filter_map(|link| {
            let Kind::Vlan { parent, vlan_id } = link.kind else {
                return None;
            };
            (parent == Some(trunk.index)).then_some((vlan_id, link))
        });
        devices.collect()
    }

    /// Devices of ours that no segment wants: of a VLAN that is gone, or on what was the trunk before.
    fn remove_devices(&mut self, router: &DesiredRouter, trunk: &Link) {
        if !self.desired.manage.links {
            return;
        }
        let names: HashSet<&str> = router.devices.values().map(|d| d.name.as_str()).collect();
        for link in self.observed.links.values().filter(|link| link.is_ours()) {
            let Kind::Vlan { parent, vlan_id } = link.kind else {
                continue;
            };
            if parent == Some(trunk.index) && router.devices.contains_key(&vlan_id) {
                continue;
            }
            let blocks = names.contains(link.name.as_str())
                || link
                    .altnames
                    .iter()
                    .any(|name| names.contains(name.as_str()));
            let list = if blocks {
                &mut self.prepare
            } else {
                &mut self.after
            };
            let link_ref = link_ref(link);
            if link.up {
                let link = link_ref.clone();
                list.push(Change::SetDown { link });
            }
            list.push(Change::RemoveVlan {
                link: link_ref,
                vlan_id,
            });
            if blocks {
                self.gone_first.insert(link.index);
            }
        }
    }

    fn create(&mut self, trunk: &Link, vlan_id: u16, device: &Device) {
        let manage = self.desired.manage;
        if !manage.links {
            // Without it there is nowhere for the addresses to go. If nobody asks for those either, the operator has
            // a way of their own.
            if manage.addresses && !device.addresses.is_empty() {
                let conflict = Conflict::no_device(&trunk.name, vlan_id);
                self.conflicts.push(conflict);
            }
            return;
        }
        let holder = self.by_name.get(device.name.as_str());
        if holder.is_some_and(|link| !self.gone_first.contains(&link.index)) {
            self.conflicts
                .push(Conflict::name_taken(&device.name, vlan_id));
            return;
        }
        self.prepare.push(Change::CreateVlan {
            name: device.name.clone(),
            trunk: link_ref(trunk),
            vlan_id,
            segment: device.segment.clone(),
            mtu: device.mtu,
        });
        if manage.sysctls {
            let wanted = DEVICE
                .iter()
                .filter(|(key, _)| self.applies(*key, device.mtu));
            let values = wanted.map(|&(key, to)| SysctlChange {
                key,
                from: None,
                to,
            });
            self.prepare.push(Change::SetSysctls {
                device: device.name.clone(),
                values: values.collect(),
            });
        }
        let link = LinkRef {
            name: device.name.clone(),
            index: None,
        };
        if manage.addresses {
            self.new_addresses(&link, device);
        }
        self.open.push(Change::SetUp { link });
    }

    fn device(&mut self, trunk: &Link, link: &'a Link, device: &'a Device) {
        let manage = self.desired.manage;
        if manage.links && link.mtu != device.mtu {
            self.prepare.push(Change::SetMtu {
                link: link_ref(link),
                from: link.mtu,
                to: device.mtu,
            });
        }
        let mtu = if manage.links { device.mtu } else { link.mtu };
        if manage.sysctls {
            self.sysctls(link, mtu, |_| true);
        }
        if manage.addresses {
            self.addresses(trunk, link, device, mtu >= LEAST_IPV6_MTU);
        }
        if manage.links && !link.up {
            let link = link_ref(link);
            self.open.push(Change::SetUp { link });
        }
    }

    /// `mtu`: that the link will have.
    fn sysctls(&mut self, link: &Link, mtu: u32, is_wanted: fn(Key) -> bool) {
        let mut values = Vec::new();
        let wanted = DEVICE
            .iter()
            .filter(|(key, _)| is_wanted(*key) && self.applies(*key, mtu));
        for &(key, to) in wanted {
            let from = link.sysctls.get(&key).copied();
            if from != Some(to) {
                values.push(SysctlChange { key, from, to });
            }
        }
        if !values.is_empty() {
            let device = link.name.clone();
            self.prepare.push(Change::SetSysctls { device, values });
        }
    }

    fn all_devices(&mut self, table: &[(Key, i32)], list: impl Fn(&mut Self) -> &mut Vec<Change>) {
        let mut values = Vec::new();
        for &(key, to) in table {
            let from = self.observed.sysctls.get(&key).copied();
            if from != Some(to) {
                values.push(SysctlChange { key, from, to });
            }
        }
        if !values.is_empty() {
            let device = ALL_DEVICES.to_owned();
            list(self).push(Change::SetSysctls { device, values });
        }
    }

    fn forwarding(&mut self) {
        let mut table = FORWARDING.to_vec();
        table.retain(|(key, _)| *key != FORWARDING6 || !self.no_forwarding6);
        self.all_devices(&table, |planner| &mut planner.open);
    }

    /// An uplink that lives by router advertisements is not cut off.
    fn check_advertisements(&mut self, trunk: &Link) {
        if self.observed.sysctls.get(&FORWARDING6) != Some(&0) {
            return;
        }
        let links = self.observed.links.values().filter(|link| {
            let mut addresses = link.addresses.iter();
            link.index != trunk.index
                && !link.is_ours()
                && link.sysctls.get(&ACCEPT_RA) == Some(&1)
                && addresses.any(|address| address.origin == Origin::RouterAdvertisement)
        });
        let found: Vec<_> = links
            .map(|link| Conflict::needs_advertisements(&link.name))
            .collect();
        self.no_forwarding6 = !found.is_empty();
        self.conflicts.extend(found);
    }

    /// Is the sysctl set on a link of this MTU?
    fn applies(&self, key: Key, mtu: u32) -> bool {
        let exists = key.family == Family::V4 || mtu >= LEAST_IPV6_MTU;
        exists && !(self.no_forwarding6 && key == FORWARDING6)
    }
}
