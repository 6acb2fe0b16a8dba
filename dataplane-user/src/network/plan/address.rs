//! The addresses of one VLAN device.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Conflict, Planner, link_ref};
use crate::network::change::{Change, LinkRef};
use crate::network::desired::Device;
use crate::network::observed::{Address, Link, Origin, link_local};

impl Planner<'_> {
    /// Those of a device that will be made. Its link-local address comes from the kernel, as it comes up.
    pub(super) fn new_addresses(&mut self, link: &LinkRef, device: &Device) {
        for &address in &device.addresses {
            self.add(link, address);
        }
    }

    /// `has_ipv6`: as it will be.
    pub(super) fn addresses(&mut self, trunk: &Link, link: &Link, device: &Device, has_ipv6: bool) {
        let mut wanted: BTreeSet<IpNet> = device.addresses.clone();
        // The kernel gives it when the device comes up; if the device is, somebody took it away.
        let own = link.mac.or(trunk.mac).map(local);
        if link.running && has_ipv6 {
            wanted.extend(own);
        }
        let to = link_ref(link);
        for &address in &wanted {
            self.want(&to, link, address);
        }
        // Linux itself takes those of IPv6 away when the MTU gets too small for it.
        let stay = link
            .addresses
            .iter()
            .filter(|found| has_ipv6 || found.net.addr().is_ipv4());
        for found in stay {
            self.spare(&to, *found, &wanted, own);
        }
    }

    fn want(&mut self, to: &LinkRef, link: &Link, address: IpNet) {
        let mut same = link.addresses.iter();
        if link.addresses.iter().any(|found| found.net == address) {
            return;
        }
        let Some(found) = same.find(|found| found.net.addr() == address.addr()) else {
            self.add(to, address);
            return;
        };
        if found.origin == Origin::Ours {
            self.prepare.push(Change::ReplaceAddress {
                link: to.clone(),
                from: found.net,
                to: address,
            });
        } else {
            let conflict = Conflict::foreign_length(address, found.net, &link.name);
            self.conflicts.push(conflict);
        }
    }

    fn add(&mut self, link: &LinkRef, address: IpNet) {
        if let Some(holder) = self.foreign_holder(address.addr()) {
            let conflict = Conflict::address_elsewhere(address, &link.name, holder);
            self.conflicts.push(conflict);
            return;
        }
        self.prepare.push(Change::AddAddress {
            link: link.clone(),
            address,
        });
    }

    /// Another link with the address. On a device of ours it goes, or it is a segment's own link-local one.
    fn foreign_holder(&self, ip: IpAddr) -> Option<&str> {
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return None;
        }
        let holders = self.holders.get(&ip)?.iter();
        let mut links = holders.filter_map(|index| self.observed.links.get(index));
        let holder = links.find(|link| {
            let mut addresses = link.addresses.iter();
            addresses.any(|found| found.net.addr() == ip && found.origin != Origin::Ours)
        });
        holder.map(|link| link.name.as_str())
    }

    /// What to do with an address that is there.
    fn spare(
        &mut self,
        link: &LinkRef,
        found: Address,
        wanted: &BTreeSet<IpNet>,
        own: Option<IpNet>,
    ) {
        if wanted.contains(&found.net) || Some(found.net) == own {
            return;
        }
        let is_replaced = wanted.iter().any(|net| net.addr() == found.net.addr());
        match found.origin {
            Origin::Ours if is_replaced => {}
            Origin::Ours => self.remove_addresses.push(Change::RemoveAddress {
                link: link.clone(),
                address: found.net,
            }),
            Origin::Kernel => {}
            Origin::RouterAdvertisement | Origin::Foreign if is_replaced => {}
            Origin::RouterAdvertisement | Origin::Foreign => {
                let foreign = Conflict::foreign_address(found.net, &link.name);
                self.foreign.push(foreign);
            }
        }
    }
}

fn local(mac: [u8; 6]) -> IpNet {
    IpNet::V6(ipnet::Ipv6Net::new_assert(link_local(mac), 64))
}
