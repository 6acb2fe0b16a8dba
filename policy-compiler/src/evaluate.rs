//! Walks compiled tables as the kernel does: section 9 of `docs/isolation.md`.

use std::net::{IpAddr, Ipv6Addr};

use dataplane_common::abi::{
    ALLOW_ANY, EndpointEntry, PairKey, PrefixEntry, RuleKey, SegmentEntry, endpoint_flags,
    prefix_flags, segment_flags, service_index,
};
use dataplane_common::reason::DropReason;
use ipnet::IpNet;

use super::Tables;
use super::layout::{address, endpoint_key};
use super::services::{ICMP, ICMPV6, TCP, UDP};

/// A connection that somebody wants to open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    /// VLAN id of the segment it comes from.
    pub vlan_id: u16,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number; ICMP (1, 58) stands for an echo request.
    pub protocol: u8,
    /// Destination port of TCP and UDP.
    pub port: u16,
}

/// What the tables say about a [`Connection`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Allowed by the rule with this id.
    Allow(u32),
    /// Denied.
    Deny(DropReason),
}

impl Verdict {
    /// May the connection be opened?
    #[must_use]
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

impl Tables {
    /// Decides whether `source`, on the segment its address belongs to, may open a connection.
    #[must_use]
    pub fn evaluate(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Verdict {
        let Some(prefix) = self.prefix(source).filter(|prefix| is_segment(prefix)) else {
            return Verdict::Deny(DropReason::SourceNotInSegment);
        };
        let vlan_id = prefix.vlan_id;
        self.judge(&Connection {
            vlan_id,
            source,
            destination,
            protocol,
            port,
        })
    }

    /// Decides on a connection whose source was already found to be genuine.
    #[must_use]
    pub fn judge(&self, connection: &Connection) -> Verdict {
        self.decide(connection)
            .map_or_else(Verdict::Deny, Verdict::Allow)
    }

    fn decide(&self, connection: &Connection) -> Result<u32, DropReason> {
        let destination = connection.destination;
        let segment = self
            .segments
            .get(&connection.vlan_id)
            .ok_or(DropReason::UnknownVlan)?;
        if is_martian(destination) {
            return Err(DropReason::MartianDestination);
        }
        let router = self.router_link_local.map(IpAddr::V6);
        if is_gateway(segment, destination) || router == Some(destination) {
            return self.decide_gateway(segment, connection);
        }
        if is_link_local(destination) {
            return Err(DropReason::LinkLocalScope);
        }
        let endpoint = self.endpoint(destination);
        if let Some(router) = endpoint.filter(|endpoint| is_router(endpoint)) {
            if router.flags & endpoint_flags::DECLARED == 0 {
                return Err(DropReason::RouterAddress);
            }
            if router.vlan_id == connection.vlan_id {
                return Ok(self.router_host_rule(connection.vlan_id));
            }
        }
        if is_in_subnet(segment, destination) {
            return Err(DropReason::SameSegment);
        }
        match endpoint {
            Some(endpoint) => {
                let (vlan_id, dst_class) = (endpoint.vlan_id, endpoint.dst_class);
                self.decide_pair(segment, connection, vlan_id, dst_class)
            }
            None => self.decide_prefix(segment, connection),
        }
    }

    fn decide_gateway(
        &self,
        segment: &SegmentEntry,
        connection: &Connection,
    ) -> Result<u32, DropReason> {
        let is_ipv4 = connection.destination.is_ipv4();
        let service = match (connection.protocol, connection.port) {
            (UDP, 67) if is_ipv4 => segment_flags::DHCP,
            (UDP, 547) if !is_ipv4 => segment_flags::DHCP,
            (UDP | TCP, 53) => segment_flags::DNS,
            (UDP, 123) => segment_flags::NTP,
            (ICMP, _) if is_ipv4 => segment_flags::ECHO,
            (ICMPV6, _) if !is_ipv4 => segment_flags::ECHO,
            _ => 0,
        };
        if segment.flags & service != 0 {
            return Ok(self.gateway_rule);
        }
        let declared = endpoint_flags::ROUTER | endpoint_flags::DECLARED;
        let entry = self.endpoint(connection.destination);
        if entry.is_some_and(|entry| entry.flags & declared == declared) {
            return Ok(self.router_host_rule(connection.vlan_id));
        }
        Err(DropReason::GatewayService)
    }

    fn router_host_rule(&self, vlan_id: u16) -> u32 {
        self.router_host_rules.get(&vlan_id).copied().unwrap_or(0)
    }

    /// Decides on a destination that is no endpoint: somewhere in a segment, or not of the site.
    fn decide_prefix(
        &self,
        segment: &SegmentEntry,
        connection: &Connection,
    ) -> Result<u32, DropReason> {
        let destination = connection.destination;
        let Some(prefix) = self.prefix(destination) else {
            return self.decide_internet(segment, connection);
        };
        if !is_segment(prefix) {
            return Err(DropReason::NotInternet);
        }
        let to = self.segments.get(&prefix.vlan_id);
        if to.is_some_and(|segment| is_edge(segment, destination)) {
            return Err(DropReason::MartianDestination);
        }
        self.decide_pair(segment, connection, prefix.vlan_id, prefix.dst_class)
    }

    fn decide_pair(
        &self,
        segment: &SegmentEntry,
        connection: &Connection,
        vlan_id: u16,
        dst_class: u32,
    ) -> Result<u32, DropReason> {
        let to = self
            .segments
            .get(&vlan_id)
            .ok_or(DropReason::NoPolicy)?
            .tenant;
        let key = PairKey {
            src_class: self.src_class(segment, connection.source),
            dst_class,
        };
        let rule = self.pairs.get(&key).and_then(|pair| match pair.ruleset {
            ALLOW_ANY => Some(pair.rule_id),
            ruleset => {
                let service_class = self.service_class(connection);
                self.rules
                    .get(&RuleKey {
                        ruleset,
                        service_class,
                    })
                    .copied()
            }
        });
        rule.ok_or(match (segment.tenant, to) {
            (0, _) => DropReason::NoPolicy,
            (_, 0) => DropReason::PlatformAddress,
            (from, to) if from == to => DropReason::TenantRule,
            _ => DropReason::OtherTenant,
        })
    }

    fn decide_internet(
        &self,
        segment: &SegmentEntry,
        connection: &Connection,
    ) -> Result<u32, DropReason> {
        if !is_public(connection.destination) {
            return Err(DropReason::NotInternet);
        }
        if segment.flags & segment_flags::INTERNET == 0 {
            return Err(DropReason::InternetDenied);
        }
        Ok(self
            .internet_rules
            .get(&connection.vlan_id)
            .copied()
            .unwrap_or(0))
    }

    fn src_class(&self, segment: &SegmentEntry, source: IpAddr) -> u32 {
        if let Some(endpoint) = self.endpoint(source) {
            return endpoint.src_class;
        }
        let by_prefix = match source {
            IpAddr::V4(_) => segment_flags::CLASS_BY_PREFIX4,
            IpAddr::V6(_) => segment_flags::CLASS_BY_PREFIX6,
        };
        if segment.flags & by_prefix == 0 {
            return segment.src_class;
        }
        self.prefix(source).map_or(0, |prefix| prefix.src_class)
    }

    /// Returns the class of the service. The protocol number of the other family's ICMP is no echo.
    fn service_class(&self, connection: &Connection) -> u32 {
        let foreign_icmp = if connection.destination.is_ipv4() {
            ICMPV6
        } else {
            ICMP
        };
        if connection.protocol == foreign_icmp {
            return 0;
        }
        let index = service_index(connection.protocol, connection.port);
        self.services.get(index as usize).copied().unwrap_or(0)
    }

    fn endpoint(&self, address: IpAddr) -> Option<&EndpointEntry> {
        self.endpoints.get(&endpoint_key(address))
    }

    /// Returns the longest prefix that holds the address.
    fn prefix(&self, address: IpAddr) -> Option<&PrefixEntry> {
        self.longest_match(address).map(|(_, prefix)| prefix)
    }
}

/// What questions about names need to know beside verdicts.
impl Tables {
    /// Returns what the tables know of an address by itself.
    #[must_use]
    pub fn endpoint_at(&self, address: IpAddr) -> Option<&EndpointEntry> {
        self.endpoint(address)
    }

    /// Returns the longest prefix that holds an address.
    #[must_use]
    pub fn longest_prefix(&self, address: IpAddr) -> Option<&PrefixEntry> {
        self.prefix(address)
    }

    /// Returns the VLAN id of the segment that holds an address.
    #[must_use]
    pub fn vlan_of(&self, address: IpAddr) -> Option<u16> {
        let prefix = self.prefix(address).filter(|prefix| is_segment(prefix));
        prefix.map(|prefix| prefix.vlan_id)
    }

    /// Returns the source class of an address; 0 outside of the site.
    #[must_use]
    pub fn src_class_of(&self, address: IpAddr) -> u32 {
        let segment = self
            .vlan_of(address)
            .and_then(|vlan_id| self.segments.get(&vlan_id));
        segment.map_or(0, |segment| self.src_class(segment, address))
    }

    /// Returns the destination class of an address; 0 outside of the site.
    #[must_use]
    pub fn dst_class_of(&self, address: IpAddr) -> u32 {
        match self.endpoint(address) {
            Some(endpoint) => endpoint.dst_class,
            None => self.prefix(address).map_or(0, |prefix| prefix.dst_class),
        }
    }
}

fn is_segment(prefix: &PrefixEntry) -> bool {
    prefix.flags & prefix_flags::SEGMENT != 0
}

fn is_router(endpoint: &EndpointEntry) -> bool {
    endpoint.flags & endpoint_flags::ROUTER != 0
}

/// Unspecified, loopback, 0/8, 240/4; everything in ::/8.
pub(super) fn is_martian(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first == 0 || first == 127 || first >= 240
        }
        IpAddr::V6(address) => address.octets()[0] == 0,
    }
}

pub(super) fn is_gateway(segment: &SegmentEntry, destination: IpAddr) -> bool {
    let (flag, gateway) = match destination {
        IpAddr::V4(_) => (segment_flags::IPV4, segment.gateway4),
        IpAddr::V6(_) => (segment_flags::IPV6, segment.gateway6),
    };
    segment.flags & flag != 0 && gateway == address(destination)
}

fn is_link_local(destination: IpAddr) -> bool {
    match destination {
        // 169.254/16 is judged as any address that is not public.
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Returns the segment's subnet of the address's family.
pub(super) fn subnet(segment: &SegmentEntry, family_of: IpAddr) -> Option<IpNet> {
    let (flag, net, length) = match family_of {
        IpAddr::V4(_) => (segment_flags::IPV4, segment.net4, segment.prefix_len4),
        IpAddr::V6(_) => (segment_flags::IPV6, segment.net6, segment.prefix_len6),
    };
    let net = Ipv6Addr::from(net.octets());
    let net = match family_of {
        IpAddr::V4(_) => IpAddr::V4(net.to_ipv4_mapped()?),
        IpAddr::V6(_) => IpAddr::V6(net),
    };
    (segment.flags & flag != 0).then(|| IpNet::new(net, length).ok())?
}

fn is_in_subnet(segment: &SegmentEntry, destination: IpAddr) -> bool {
    subnet(segment, destination).is_some_and(|net| net.contains(&destination))
}

/// Is it the segment's network or broadcast address? Neither is a host.
#[must_use]
pub fn is_edge(segment: &SegmentEntry, destination: IpAddr) -> bool {
    let Some(net) = subnet(segment, destination) else {
        return false;
    };
    match net {
        IpNet::V4(net) if net.prefix_len() > 30 => false,
        IpNet::V4(net) => {
            let edges = [net.network(), net.broadcast()];
            edges.map(IpAddr::V4).contains(&destination)
        }
        IpNet::V6(net) => net.prefix_len() < 127 && net.network() == destination,
    }
}

/// Can the address be part of the internet, whatever the inventory excludes?
pub(super) fn is_public(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_local = address.is_private() || address.is_link_local() || is_shared;
            !is_local && !address.is_multicast()
        }
        IpAddr::V6(address) => address.octets()[0] >> 5 == 1,
    }
}
