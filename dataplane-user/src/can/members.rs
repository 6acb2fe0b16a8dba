//! Who belongs to a party: known addresses, and one for all the others of each segment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use dataplane_common::abi::{EndpointEntry, endpoint_flags, prefix_flags};
use ipnet::IpNet;
use netmodel::model::{HostId, Interface, PeerKind, Segment, SegmentId, TenantId, Zone};

use super::party::{Party, PartyKind, owned};
use super::{AskError, Site, with_address};

/// How many addresses of a prefix are tried in the search for one without an endpoint.
const TRIES: usize = 1024;

/// Addresses outside of the site that stand for the internet; the first that nobody excludes.
const INTERNET: [&str; 6] = [
    "1.1.1.1",
    "9.9.9.9",
    "198.41.0.4",
    "2606:4700:4700::1111",
    "2620:fe::fe",
    "2001:503:ba3e::2:30",
];

/// An address of a party, standing for all members that the tables treat alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// VLAN id of its segment; 0 outside of the site.
    pub vlan_id: u16,
    /// The address that is asked for.
    pub address: IpAddr,
    /// Whose it is.
    pub name: String,
    /// How many more members are treated alike.
    pub others: usize,
    /// Does it stand for the addresses that no host has?
    pub is_unbound: bool,
}

impl Member {
    /// Returns its name with its address, and how many others it stands for.
    #[must_use]
    pub fn label(&self) -> String {
        let label = match self.is_unbound {
            true => self.name.clone(),
            false => with_address(&self.name, self.address),
        };
        match self.others {
            0 => label,
            others => format!("{label} and {others} alike"),
        }
    }
}

impl Site<'_> {
    /// Returns the members of a party as sources.
    ///
    /// # Errors
    ///
    /// [`AskError::NoAddress`] if there is none, [`AskError::Router`] if only the router is.
    pub fn sources(&self, party: &Party) -> Result<Vec<Member>, AskError> {
        if party.kind == PartyKind::Peer(PeerKind::Internet) {
            return Err(AskError::NoAddress {
                name: party.text.clone(),
            });
        }
        let members = self.members(party)?;
        if !members.is_empty() && members.iter().all(|member| self.is_router(member.address)) {
            return Err(AskError::Router {
                name: party.text.clone(),
            });
        }
        let sending = |member: &Member| member.vlan_id != 0 && !self.is_router(member.address);
        let members = members.into_iter().filter(sending).collect();
        let alike = |address| (self.tables.src_class_of(address), false);
        self.not_empty(party, merge(members, alike))
    }

    /// Returns the members of a party as destinations.
    ///
    /// # Errors
    ///
    /// [`AskError::NoAddress`] if there is none.
    pub fn destinations(&self, party: &Party) -> Result<Vec<Member>, AskError> {
        let members = self.members(party)?;
        let alike = |address| (self.tables.dst_class_of(address), self.is_router(address));
        self.not_empty(party, merge(members, alike))
    }

    fn not_empty(&self, party: &Party, members: Vec<Member>) -> Result<Vec<Member>, AskError> {
        if members.is_empty() {
            return Err(AskError::NoAddress {
                name: party.text.clone(),
            });
        }
        Ok(members)
    }

    fn members(&self, party: &Party) -> Result<Vec<Member>, AskError> {
        Ok(match party.kind {
            PartyKind::Peer(PeerKind::Address(address)) => vec![self.member(address)],
            PartyKind::Peer(PeerKind::Host(host)) => self.of_host(host),
            PartyKind::Peer(PeerKind::Zone(Zone::Segment(id))) | PartyKind::Segment(id) => {
                self.of_segment(id)
            }
            PartyKind::Peer(PeerKind::Zone(Zone::Tenants)) => {
                let tenants = (0..self.model.tenants.len()).map(TenantId);
                tenants.flat_map(|tenant| self.of_tenant(tenant)).collect()
            }
            PartyKind::Peer(PeerKind::Tenant(tenant)) => self.of_tenant(tenant),
            PartyKind::Peer(PeerKind::Internet) => self.of_internet(),
            PartyKind::Service(id) => {
                let service = self.model.service(id);
                let ipv4 = service.ipv4.map(IpAddr::V4);
                let addresses = ipv4.into_iter().chain(service.ipv6.map(IpAddr::V6));
                addresses
                    .map(|a| self.named(a, service.name.clone()))
                    .collect()
            }
        })
    }

    fn of_tenant(&self, tenant: TenantId) -> Vec<Member> {
        let segments = self.model.tenant(tenant).segments.iter();
        segments.flat_map(|&id| self.of_segment(id)).collect()
    }

    /// Returns a host's fixed addresses; without one, an address that it may be given.
    fn of_host(&self, id: HostId) -> Vec<Member> {
        let host = self.model.host(id);
        let name = owned(self.model, host.owner, host.name.as_str());
        let interfaces = host.interfaces.iter();
        interfaces
            .flat_map(|interface| {
                let fixed = fixed_addresses(interface);
                match (fixed.is_empty(), interface.segment) {
                    (true, Some(segment)) => self.unbound(segment, &name),
                    _ => fixed
                        .into_iter()
                        .map(|a| self.named(a, name.clone()))
                        .collect(),
                }
            })
            .collect()
    }

    /// Returns the known addresses of a segment, then one for each part without endpoints.
    fn of_segment(&self, id: SegmentId) -> Vec<Member> {
        let segment = self.model.segment(id);
        let mut members: Vec<_> = self
            .model
            .hosts
            .iter()
            .flat_map(|host| {
                host.interfaces
                    .iter()
                    .map(move |interface| (host, interface))
            })
            .filter(|(_, interface)| interface.segment == Some(id))
            .flat_map(|(host, interface)| {
                let name = owned(self.model, host.owner, host.name.as_str());
                let addresses = fixed_addresses(interface).into_iter();
                addresses.map(move |address| self.named(address, name.clone()))
            })
            .collect();
        for service in self
            .model
            .services
            .iter()
            .filter(|service| service.segment == id)
        {
            let ipv4 = service.ipv4.map(IpAddr::V4);
            for address in ipv4.into_iter().chain(service.ipv6.map(IpAddr::V6)) {
                if !members.iter().any(|member| member.address == address) {
                    members.push(self.named(address, service.name.clone()));
                }
            }
        }
        let full = owned(self.model, segment.owner, segment.name.as_str());
        members.extend(self.unbound(id, &format!("other addresses of {full}")));
        members
    }

    /// Returns an address without an endpoint of each part of the segment that rules tell apart.
    fn unbound(&self, id: SegmentId, name: &str) -> Vec<Member> {
        let vlan_id = self.model.segment(id).vlan_id.as_u16();
        let parts = self.tables.prefixes.iter().filter(|(_, prefix)| {
            prefix.vlan_id == vlan_id && prefix.flags & prefix_flags::SEGMENT != 0
        });
        parts
            .filter_map(|(key, _)| {
                let address = Ipv6Addr::from(key.address.octets());
                let net = match address.to_ipv4_mapped() {
                    Some(v4) => IpNet::new(IpAddr::V4(v4), u8::try_from(key.length - 96).ok()?),
                    None => IpNet::new(IpAddr::V6(address), u8::try_from(key.length).ok()?),
                };
                let address = self.free_address(self.model.segment(id), net.ok()?)?;
                Some(Member {
                    vlan_id,
                    address,
                    name: name.to_owned(),
                    others: 0,
                    is_unbound: true,
                })
            })
            .collect()
    }

    /// Finds an address of the prefix that is no endpoint and belongs to no longer prefix.
    fn free_address(&self, segment: &Segment, net: IpNet) -> Option<IpAddr> {
        let own = self.tables.longest_prefix(net.addr())?;
        let edges: Vec<IpAddr> = {
            let v4 = segment.ipv4.filter(|subnet| subnet.net.prefix_len() <= 30);
            let v4 = v4.map(|s| [s.net.network(), s.net.broadcast()].map(IpAddr::V4));
            let v6 = segment.ipv6.map(|s| IpAddr::V6(s.net.network()));
            v4.into_iter().flatten().chain(v6).collect()
        };
        // From the end: low addresses are where people put hosts.
        let addresses: Box<dyn Iterator<Item = IpAddr>> = match net {
            IpNet::V4(net) => Box::new(
                (u32::from(net.network())..=u32::from(net.broadcast()))
                    .rev()
                    .map(|bits| IpAddr::V4(bits.into())),
            ),
            IpNet::V6(net) => Box::new(
                (u128::from(net.network())..=u128::from(net.broadcast()))
                    .rev()
                    .map(|bits| IpAddr::V6(bits.into())),
            ),
        };
        let is_free = |address: &IpAddr| {
            !edges.contains(address)
                && self.endpoint(*address).is_none()
                && self.tables.longest_prefix(*address) == Some(own)
        };
        addresses.take(TRIES).find(is_free)
    }

    fn of_internet(&self) -> Vec<Member> {
        let addresses = INTERNET
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok());
        let free: Vec<_> = addresses
            .filter(|a| self.tables.longest_prefix(*a).is_none() && self.endpoint(*a).is_none())
            .collect();
        let ipv4 = free.iter().find(|address| address.is_ipv4());
        let ipv6 = free.iter().find(|address| address.is_ipv6());
        let found = ipv4.into_iter().chain(ipv6);
        found
            .map(|&address| Member {
                vlan_id: 0,
                address,
                name: "internet".to_owned(),
                others: 0,
                is_unbound: true,
            })
            .collect()
    }

    fn member(&self, address: IpAddr) -> Member {
        self.named(
            address,
            self.name_of(address).unwrap_or_else(|| address.to_string()),
        )
    }

    fn named(&self, address: IpAddr, name: String) -> Member {
        let vlan_id = self.tables.vlan_of(address).unwrap_or(0);
        Member {
            vlan_id,
            address,
            name,
            others: 0,
            is_unbound: false,
        }
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        let host = self.model.hosts.iter().find(|host| {
            host.interfaces
                .iter()
                .any(|interface| fixed_addresses(interface).contains(&address))
        })?;
        Some(owned(self.model, host.owner, host.name.as_str()))
    }

    fn endpoint(&self, address: IpAddr) -> Option<&EndpointEntry> {
        self.tables.endpoint_at(address)
    }

    fn is_router(&self, address: IpAddr) -> bool {
        self.endpoint(address)
            .is_some_and(|e| e.flags & endpoint_flags::ROUTER != 0)
    }
}

/// Joins members on one segment that the tables treat alike.
fn merge(members: Vec<Member>, class: impl Fn(IpAddr) -> (u32, bool)) -> Vec<Member> {
    let mut places: BTreeMap<(u16, (u32, bool), bool), usize> = BTreeMap::new();
    let mut merged: Vec<Member> = Vec::new();
    for member in members {
        let key = (
            member.vlan_id,
            class(member.address),
            member.address.is_ipv4(),
        );
        match places.get(&key) {
            Some(&i) if key.0 != 0 => merged[i].others += 1,
            _ => {
                places.insert(key, merged.len());
                merged.push(member);
            }
        }
    }
    merged
}

fn fixed_addresses(interface: &Interface) -> Vec<IpAddr> {
    let ipv4 = interface.ipv4.map(IpAddr::V4);
    ipv4.into_iter()
        .chain(interface.ipv6.map(IpAddr::V6))
        .collect()
}
