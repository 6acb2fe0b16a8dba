//! What the tables make of one address: addresses of equal kind are judged alike.
//!
//! [`Tables::judge`] depends on a source only by its [`SourceKind`] and on a destination only by its
//! [`DestinationKind`] (and on the family, which both must share). That makes two generations
//! comparable without asking for every pair of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_common::abi::{
    Address, EndpointEntry, NO_PREFIX_LENGTH, PrefixEntry, endpoint_flags,
};
use dataplane_common::abi::{prefix_flags, segment_flags};
use ipnet::IpNet;

use super::Tables;
use super::evaluate::{is_edge, is_gateway, is_martian, is_public, subnet};
use super::layout::prefix_key;

/// A source as the tables see it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceKind {
    /// VLAN id of its segment.
    pub vlan_id: u16,
    /// Source class.
    pub class: u32,
}

/// How a destination is judged for sources of other segments.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// Always denied.
    Never,
    /// As a part of the internet.
    Internet,
    /// By source class and destination class.
    Class {
        /// VLAN id of its segment.
        vlan_id: u16,
        /// Destination class.
        class: u32,
    },
}

/// A destination that is the router itself, for the sources that it serves.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Own {
    /// The gateway address of the segment with this VLAN id.
    Gateway(u16),
    /// The router's link-local address: every segment's gateway.
    AnyGateway,
    /// Declared as a host interface of the router on the segment with this VLAN id.
    RouterHost(u16),
}

/// A destination as the tables see it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DestinationKind {
    /// How it is judged for all but [`DestinationKind::own`]'s sources.
    pub way: Way,
    /// Is it the router itself?
    pub own: Option<Own>,
}

impl DestinationKind {
    /// Denied for everybody.
    pub const NEVER: Self = Self {
        way: Way::Never,
        own: None,
    };

    /// Does the router answer this source itself, instead of [`DestinationKind::way`]?
    #[must_use]
    pub fn is_own_of(&self, source: SourceKind) -> bool {
        match self.own {
            None => false,
            Some(Own::AnyGateway) => true,
            Some(Own::Gateway(vlan_id) | Own::RouterHost(vlan_id)) => source.vlan_id == vlan_id,
        }
    }
}

impl Tables {
    /// Returns the kind of a source; `None` if nobody can send with that address: it is on no
    /// segment, the router's own, or on a segment of which every frame is dropped.
    #[must_use]
    pub fn source_kind(&self, address: IpAddr) -> Option<SourceKind> {
        if let Some(endpoint) = self.endpoint_at(address) {
            return self.source_kind_of(endpoint);
        }
        let vlan_id = self.vlan_of(address)?;
        let class = self.src_class_of(address);
        self.is_served(vlan_id)
            .then_some(SourceKind { vlan_id, class })
    }

    /// Returns the source kind of an address with that entry in [`Tables::endpoints`].
    #[must_use]
    pub fn source_kind_of(&self, endpoint: &EndpointEntry) -> Option<SourceKind> {
        let is_router = endpoint.flags & endpoint_flags::ROUTER != 0;
        let (vlan_id, class) = (endpoint.vlan_id, endpoint.src_class);
        (!is_router && self.is_served(vlan_id)).then_some(SourceKind { vlan_id, class })
    }

    fn is_served(&self, vlan_id: u16) -> bool {
        let segment = self.segments.get(&vlan_id);
        segment.is_some_and(|segment| segment.flags & segment_flags::BLACKHOLE == 0)
    }

    /// Returns the kind of a destination.
    #[must_use]
    pub fn destination_kind(&self, address: IpAddr) -> DestinationKind {
        match self.endpoint_at(address) {
            Some(endpoint) => self.destination_kind_of(address, endpoint),
            None => self.fixed_kind(address).unwrap_or_else(|| DestinationKind {
                way: self.way_by_prefix(address),
                own: None,
            }),
        }
    }

    /// Returns the destination kind of an address with that entry in [`Tables::endpoints`].
    #[must_use]
    pub fn destination_kind_of(&self, address: IpAddr, entry: &EndpointEntry) -> DestinationKind {
        if let Some(kind) = self.fixed_kind(address) {
            return kind;
        }
        let vlan_id = entry.vlan_id;
        let Some(segment) = self.segments.get(&vlan_id) else {
            return DestinationKind::NEVER;
        };
        let way = Way::Class {
            vlan_id,
            class: entry.dst_class,
        };
        if entry.flags & endpoint_flags::ROUTER == 0 {
            return DestinationKind { way, own: None };
        }
        let is_declared = entry.flags & endpoint_flags::DECLARED != 0;
        let own = match is_gateway(segment, address) {
            true => Some(Own::Gateway(vlan_id)),
            false => is_declared.then_some(Own::RouterHost(vlan_id)),
        };
        let way = if is_declared { way } else { Way::Never };
        DestinationKind { way, own }
    }

    /// Returns the kind of what is decided before any table is asked.
    fn fixed_kind(&self, address: IpAddr) -> Option<DestinationKind> {
        if is_martian(address) {
            return Some(DestinationKind::NEVER);
        }
        if self.router_link_local.map(IpAddr::V6) == Some(address) {
            return Some(DestinationKind {
                way: Way::Never,
                own: Some(Own::AnyGateway),
            });
        }
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        is_link_local.then_some(DestinationKind::NEVER)
    }

    fn way_by_prefix(&self, address: IpAddr) -> Way {
        let Some((_, prefix)) = self.longest_match(address) else {
            return if is_public(address) {
                Way::Internet
            } else {
                Way::Never
            };
        };
        let vlan_id = prefix.vlan_id;
        let is_segment = prefix.flags & prefix_flags::SEGMENT != 0;
        let segment = self.segments.get(&vlan_id);
        match segment.filter(|segment| is_segment && !is_edge(segment, address)) {
            Some(_) => Way::Class {
                vlan_id,
                class: prefix.dst_class,
            },
            None => Way::Never,
        }
    }

    /// Returns the longest prefix that holds an address, with its entry.
    #[must_use]
    pub fn longest_match(&self, address: IpAddr) -> Option<(IpNet, &PrefixEntry)> {
        let lengths = match address {
            IpAddr::V4(_) => &self.prefix_lengths4,
            IpAddr::V6(_) => &self.prefix_lengths6,
        };
        let lengths = lengths.iter().copied();
        lengths
            .take_while(|&length| length != NO_PREFIX_LENGTH)
            .filter_map(|length| IpNet::new(address, length).ok())
            .find_map(|net| Some((net.trunc(), self.prefixes.get(&prefix_key(net))?)))
    }

    /// Returns every prefix of [`Tables::prefixes`].
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.prefixes.keys().filter_map(|key| {
            let address = ip_of(key.address);
            let offset = if address.is_ipv4() { 96 } else { 0 };
            let length = u8::try_from(key.length.checked_sub(offset)?).ok()?;
            IpNet::new(address, length).ok()
        })
    }

    /// Returns the network and broadcast addresses of all segments: no connection goes there.
    pub fn edges(&self) -> impl Iterator<Item = IpAddr> {
        self.segments.values().flat_map(|segment| {
            let v4 = subnet(segment, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let v6 = subnet(segment, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let ends = v4.into_iter().chain(v6);
            let ends = ends.flat_map(|net| [net.network(), net.broadcast()]);
            ends.filter(|&address| is_edge(segment, address))
        })
    }
}

/// Returns an address out of the form that tables hold it in.
#[must_use]
pub fn ip_of(address: Address) -> IpAddr {
    let address = Ipv6Addr::from(address.octets());
    match address.to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None => IpAddr::V6(address),
    }
}
