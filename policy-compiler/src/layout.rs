//! Where things are: segments, endpoints, bound MACs and prefixes, each with its classes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane_common::abi::{
    Address, BoundMacKey, EndpointEntry, EndpointKey, Limits, Mac, NO_PREFIX_LENGTH,
    PREFIX_LENGTHS, PrefixEntry, PrefixKey, SegmentEntry, bound_mac_flags, endpoint_flags,
    limit_kind, octet_time, prefix_flags, segment_flags,
};
use ipnet::IpNet;
use netmodel::ids::MacAddr;
use netmodel::model::{HostId, Interface, Owner, Segment, SegmentId};

use super::classes::{Classes, Place};
use super::index::{Index, addresses, interfaces, splits, subnet_of, subnets};
use super::internet;
use super::{CompileError, RouterFacts, SITE_PLAN, Tables, number};

/// Fills the tables that say where addresses are.
pub(super) struct Layout<'a, 'i, 'm> {
    index: &'i Index<'m>,
    router: &'a RouterFacts,
    classes: &'a mut Classes<'i, 'm>,
    tables: &'a mut Tables,
}

impl<'a, 'i, 'm> Layout<'a, 'i, 'm> {
    pub(super) fn new(
        index: &'i Index<'m>,
        router: &'a RouterFacts,
        classes: &'a mut Classes<'i, 'm>,
        tables: &'a mut Tables,
    ) -> Self {
        Self {
            index,
            router,
            classes,
            tables,
        }
    }

    /// Fills every table, segments first.
    pub(super) fn fill(&mut self) -> Result<(), CompileError> {
        for id in (0..self.index.model.segments.len()).map(SegmentId) {
            self.add_segment(id);
        }
        for (id, host, interface) in interfaces(self.index.model) {
            self.add_interface(id, interface, host.is_router);
        }
        self.add_services();
        self.add_router_addresses();
        self.add_excludes();
        self.tables.prefix_lengths4 = prefix_lengths(self.tables, 4)?;
        self.tables.prefix_lengths6 = prefix_lengths(self.tables, 6)?;
        Ok(())
    }

    fn add_segment(&mut self, id: SegmentId) {
        let segment = self.index.model.segment(id);
        let mut entry = segment_entry(self.index, id);
        if self.native_segment() == Some(id) {
            entry.flags |= segment_flags::BLACKHOLE;
        }
        let nets = subnets(segment);
        if let Some(&net) = nets.first() {
            (entry.src_class, entry.dst_class) = self.classes.of(Place {
                segment: id,
                net,
                host: None,
            });
        }
        for net in nets {
            if self.add_prefixes(id, net, entry.src_class) {
                entry.flags |= match net {
                    IpNet::V4(_) => segment_flags::CLASS_BY_PREFIX4,
                    IpNet::V6(_) => segment_flags::CLASS_BY_PREFIX6,
                };
            }
        }
        self.tables.segments.insert(segment.vlan_id.as_u16(), entry);
        for net in self.refinements(id) {
            let is_address = net.prefix_len() == net.max_prefix_len();
            if is_address && !is_edge(segment, net.addr()) {
                self.endpoint(net.addr(), id, None);
            }
        }
        for gateway in gateways(segment) {
            self.endpoint(gateway, id, None).flags |= endpoint_flags::ROUTER;
        }
    }

    fn native_segment(&self) -> Option<SegmentId> {
        let routers = &self.index.model.routers;
        let is_ours = |host| self.router.host.is_none_or(|ours| ours == host);
        routers
            .iter()
            .find(|router| is_ours(router.host))?
            .native_segment
    }

    /// Adds a subnet and the parts of it that rules tell apart. Says whether any part's source class
    /// differs from `src_class`.
    fn add_prefixes(&mut self, segment: SegmentId, subnet: IpNet, src_class: u32) -> bool {
        let mut parts = self.refinements(segment);
        parts.retain(|net| subnet.contains(net) && net.prefix_len() < net.max_prefix_len());
        parts.insert(subnet);
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|net| (net.prefix_len(), net.network()));

        let mut added: Vec<(IpNet, (u32, u32))> = Vec::new();
        for net in parts {
            let classes = self.classes.of(Place {
                segment,
                net,
                host: None,
            });
            let around = added.iter().rev().find(|(other, _)| other.contains(&net));
            if around.is_none_or(|(_, around)| *around != classes) {
                added.push((net, classes));
            }
        }
        let vlan_id = self.index.model.segment(segment).vlan_id.as_u16();
        for &(net, (src_class, dst_class)) in &added {
            let flags = prefix_flags::SEGMENT;
            let entry = PrefixEntry {
                flags,
                vlan_id,
                src_class,
                dst_class,
                ..Default::default()
            };
            self.tables.prefixes.insert(prefix_key(net), entry);
        }
        added.iter().any(|(_, (part, _))| *part != src_class)
    }

    /// Returns the prefixes inside of the segment that a rule treats differently from the rest.
    fn refinements(&self, id: SegmentId) -> BTreeSet<IpNet> {
        let model = self.index.model;
        let policies = self.index.policies_from(id).iter();
        let sources = policies.filter_map(|&i| model.policies[i].source_net);
        let destinations = self.index.narrow_policies_to(id).map(|(_, net)| net);
        let rules = self.index.cidr_rules(id).iter().map(|(_, _, net)| *net);
        let nets = sources.chain(destinations).chain(rules);
        nets.filter(|net| splits(*net, model.segment(id)))
            .map(|net| net.trunc())
            .collect()
    }

    fn add_interface(&mut self, host: HostId, interface: &Interface, is_router: bool) {
        let segment = interface
            .segment
            .map(|id| (id, self.index.model.segment(id)));
        if let Some(((_, segment), mac)) = segment.zip(interface.mac) {
            let key = bound_mac_key(segment, mac);
            *self.tables.bound_macs.entry(key).or_default() |= bound_mac_flags::ENDPOINT;
        }
        for address in addresses(interface) {
            let Some((id, segment)) = segment.filter(|(_, s)| subnet_of(s, address).is_some())
            else {
                self.add_stray(address, is_router);
                continue;
            };
            let entry = self.endpoint(address, id, Some(host));
            if let Some(mac) = interface.mac {
                entry.mac = Mac::from_octets(mac.0);
                entry.flags |= endpoint_flags::MAC_KNOWN;
                let key = bound_mac_key(segment, mac);
                *self.tables.bound_macs.entry(key).or_default() |= match address {
                    IpAddr::V4(_) => bound_mac_flags::IPV4,
                    IpAddr::V6(_) => bound_mac_flags::IPV6,
                };
            }
            if is_router {
                let entry = self.endpoint(address, id, Some(host));
                entry.flags |= endpoint_flags::ROUTER | endpoint_flags::DECLARED;
            }
        }
    }

    /// Adds an address that is on no segment: the router's is its own, any other is an address of
    /// the site that no policy can name, and no part of the internet.
    fn add_stray(&mut self, address: IpAddr, is_router: bool) {
        if is_router {
            self.add_router_address(address);
        } else if internet::could_be_part(IpNet::from(address)) {
            self.exclude(IpNet::from(address));
        }
    }

    fn add_services(&mut self) {
        for service in &self.index.model.services {
            let ipv4 = service.ipv4.map(IpAddr::V4);
            for address in ipv4.into_iter().chain(service.ipv6.map(IpAddr::V6)) {
                let segment = self.index.model.segment(service.segment);
                if subnet_of(segment, address).is_some() && !is_edge(segment, address) {
                    self.endpoint(address, service.segment, None);
                }
            }
        }
    }

    fn add_router_addresses(&mut self) {
        for &address in &self.router.addresses {
            self.add_router_address(address);
        }
    }

    fn add_router_address(&mut self, address: IpAddr) {
        let segments = (0..self.index.model.segments.len()).map(SegmentId);
        let home = segments.filter(|&id| self.index.model.segment(id).vpc_id == SITE_PLAN);
        let home = home
            .into_iter()
            .find(|&id| subnet_of(self.index.model.segment(id), address).is_some());
        let entry = match home {
            Some(id) => self.endpoint(address, id, None),
            None => self
                .tables
                .endpoints
                .entry(endpoint_key(address))
                .or_default(),
        };
        entry.flags |= endpoint_flags::ROUTER;
    }

    /// Returns the entry of an address on a segment; makes it with its classes if it is new.
    fn endpoint(
        &mut self,
        address: IpAddr,
        segment: SegmentId,
        host: Option<HostId>,
    ) -> &mut EndpointEntry {
        let entry = self
            .tables
            .endpoints
            .entry(endpoint_key(address))
            .or_default();
        if entry.vlan_id == 0 || host.is_some() {
            let place = Place {
                segment,
                net: IpNet::from(address),
                host,
            };
            (entry.src_class, entry.dst_class) = self.classes.of(place);
            entry.vlan_id = self.index.model.segment(segment).vlan_id.as_u16();
        }
        entry
    }

    fn add_excludes(&mut self) {
        for &net in &self.index.model.internet_excludes {
            if internet::could_be_part(net) {
                self.exclude(net.trunc());
            }
        }
    }

    /// Excludes a prefix from the internet. What of it belongs to a segment stays the segment's.
    fn exclude(&mut self, net: IpNet) {
        let segments = self.index.model.segments.iter();
        let is_site = segments
            .flat_map(subnets)
            .any(|subnet| subnet.contains(&net));
        if !is_site {
            let flags = prefix_flags::EXCLUDED;
            let entry = PrefixEntry {
                flags,
                ..Default::default()
            };
            self.tables.prefixes.insert(prefix_key(net), entry);
        }
    }
}

/// Is it the network or broadcast address of the segment? No connection goes there.
fn is_edge(segment: &Segment, address: IpAddr) -> bool {
    subnet_of(segment, address).is_some_and(|net| match net {
        IpNet::V4(net) => {
            let edges = [net.network(), net.broadcast()].map(IpAddr::V4);
            net.prefix_len() <= 30 && edges.contains(&address)
        }
        IpNet::V6(net) => net.prefix_len() <= 126 && net.network() == address,
    })
}

fn segment_entry(index: &Index, id: SegmentId) -> SegmentEntry {
    let segment = index.model.segment(id);
    let mut entry = SegmentEntry {
        flags: segment_flags::PRESENT | gateway_flags(index),
        vpc_id: segment.vpc_id,
        tenant: match segment.owner {
            Owner::Platform => 0,
            Owner::Tenant(tenant) => number(tenant.0) + 1,
        },
        mtu: segment.mtu,
        ..Default::default()
    };
    if let Some(subnet) = segment.ipv4 {
        entry.flags |= segment_flags::IPV4;
        entry.prefix_len4 = subnet.net.prefix_len();
        entry.mask4 = u32::from(subnet.net.netmask()).to_be();
        entry.net4 = address(IpAddr::V4(subnet.net.network()));
        entry.gateway4 = address(IpAddr::V4(subnet.gateway));
    }
    if let Some(subnet) = segment.ipv6 {
        entry.flags |= segment_flags::IPV6;
        entry.prefix_len6 = subnet.net.prefix_len();
        entry.mask6 = Address::mask(subnet.net.prefix_len().into());
        entry.net6 = address(IpAddr::V6(subnet.net.network()));
        entry.gateway6 = address(IpAddr::V6(subnet.gateway));
    }
    if segment.ipv4.is_none() && segment.ipv6.is_none() {
        entry.flags |= segment_flags::BLACKHOLE;
    }
    if internet::may_reach(index.model, id) {
        entry.flags |= segment_flags::INTERNET;
    }
    if let Owner::Tenant(id) = segment.owner {
        let tenant = index.model.tenant(id);
        entry.limits = Limits {
            connections: tenant.limits.connections,
            rates: rates(tenant.limits),
        };
        entry.octet_time = octet_time(tenant.limits.bandwidth.kbit());
        entry.port_rates = rates(tenant.endpoint_limits);
        entry.port_octet_time = octet_time(tenant.endpoint_limits.bandwidth.kbit());
        if index.has_local_policy(id) {
            entry.flags |= segment_flags::LOCAL_POLICY;
        }
    }
    entry
}

/// Returns rates by kind. A first fragment must be remembered as a new connection must, and as many may come.
fn rates(limits: netmodel::model::Limits) -> [u32; 4] {
    let mut rates = [0; 4];
    rates[limit_kind::CONNECTION] = limits.connection_rate;
    rates[limit_kind::NEIGHBOUR] = limits.neighbour_rate;
    rates[limit_kind::DHCP] = limits.dhcp_rate;
    rates[limit_kind::FRAGMENT] = limits.connection_rate;
    rates
}

fn bound_mac_key(segment: &Segment, mac: MacAddr) -> BoundMacKey {
    BoundMacKey {
        vlan_id: segment.vlan_id.as_u16(),
        mac: Mac::from_octets(mac.0),
    }
}

fn gateway_flags(index: &Index) -> u32 {
    let offered = index.model.gateway_services;
    [
        (offered.dhcp, segment_flags::DHCP),
        (offered.dns, segment_flags::DNS),
        (offered.ntp, segment_flags::NTP),
        (offered.icmp, segment_flags::ECHO),
    ]
    .into_iter()
    .filter(|(is_offered, _)| *is_offered)
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn gateways(segment: &Segment) -> impl Iterator<Item = IpAddr> + use<> {
    let ipv4 = segment.ipv4.map(|subnet| IpAddr::V4(subnet.gateway));
    ipv4.into_iter()
        .chain(segment.ipv6.map(|subnet| IpAddr::V6(subnet.gateway)))
}

/// Returns the form that tables hold an address in.
pub(super) fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::from_ipv4(address.octets()),
        IpAddr::V6(address) => Address::from_ipv6(address.octets()),
    }
}

pub(super) fn endpoint_key(of: IpAddr) -> EndpointKey {
    EndpointKey {
        vpc_id: SITE_PLAN,
        address: address(of),
    }
}

pub(super) fn prefix_key(net: IpNet) -> PrefixKey {
    let offset = match net {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    PrefixKey {
        vpc_id: SITE_PLAN,
        length: offset + u32::from(net.prefix_len()),
        address: address(net.network()),
    }
}

fn prefix_lengths(tables: &Tables, family: u8) -> Result<[u8; PREFIX_LENGTHS], CompileError> {
    let offset = if family == 4 { 96 } else { 0 };
    let keys = tables
        .prefixes
        .keys()
        .filter(|key| key.address.is_ipv4() == (family == 4));
    let lengths: BTreeSet<u8> = keys
        .filter_map(|key| u8::try_from(key.length - offset).ok())
        .collect();
    if lengths.len() > PREFIX_LENGTHS {
        let lengths = lengths.into_iter().collect();
        return Err(CompileError::TooManyPrefixLengths { family, lengths });
    }
    let mut listed = [NO_PREFIX_LENGTH; PREFIX_LENGTHS];
    for (slot, length) in listed.iter_mut().zip(lengths.into_iter().rev()) {
        *slot = length;
    }
    Ok(listed)
}
