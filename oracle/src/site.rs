//! Questions about the model that several sections ask. All are linear scans.

use std::net::IpAddr;

use netmodel::ids::MacAddr;
use netmodel::model::{Host, Interface, Model, Segment, SegmentId};

use crate::{RouterFacts, World};

/// The address plan that is enforced: the site's own.
const SITE_PLAN: u32 = 0;

/// Returns the segment that carries a VLAN id.
pub(crate) fn segment_of_vlan(model: &Model, vlan: u16) -> Option<SegmentId> {
    let index = model
        .segments
        .iter()
        .position(|s| s.vlan_id.as_u16() == vlan)?;
    Some(SegmentId(index))
}

/// Returns the segment whose subnet holds an address.
pub(crate) fn segment_of_address(model: &Model, address: IpAddr) -> Option<SegmentId> {
    let index = model
        .segments
        .iter()
        .position(|s| s.vpc_id == SITE_PLAN && holds(s, address))?;
    Some(SegmentId(index))
}

/// Is the address in one of the segment's subnets?
pub(crate) fn holds(segment: &Segment, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => segment.ipv4.is_some_and(|subnet| subnet.net.contains(&a)),
        IpAddr::V6(a) => segment.ipv6.is_some_and(|subnet| subnet.net.contains(&a)),
    }
}

/// Has the segment a subnet of this address's family?
pub(crate) fn has_family_of(segment: &Segment, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => segment.ipv4.is_some(),
        IpAddr::V6(_) => segment.ipv6.is_some(),
    }
}

/// Is the address the gateway of the segment?
pub(crate) fn is_gateway(segment: &Segment, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => segment.ipv4.is_some_and(|subnet| subnet.gateway == a),
        IpAddr::V6(a) => segment.ipv6.is_some_and(|subnet| subnet.gateway == a),
    }
}

/// Is the address the gateway of the segment, or the link-local address of the router?
pub(crate) fn is_own_gateway(router: &RouterFacts, segment: &Segment, address: IpAddr) -> bool {
    is_gateway(segment, address) || address == IpAddr::V6(router.link_local)
}

/// Is the address the network or broadcast address of the segment's subnet?
///
/// IPv4 subnets of 31 and 32 bits have neither. IPv6 has no broadcast; its network address is the
/// subnet-router anycast address, which subnets of 127 and 128 bits do not have.
pub(crate) fn is_network_or_broadcast(segment: &Segment, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => segment.ipv4.is_some_and(|subnet| {
            subnet.net.prefix_len() <= 30
                && (a == subnet.net.network() || a == subnet.net.broadcast())
        }),
        IpAddr::V6(a) => segment
            .ipv6
            .is_some_and(|subnet| subnet.net.prefix_len() <= 126 && a == subnet.net.network()),
    }
}

/// Has the interface this fixed address?
pub(crate) fn has_address(interface: &Interface, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => interface.ipv4 == Some(a),
        IpAddr::V6(a) => interface.ipv6 == Some(a),
    }
}

/// Every interface of the inventory, with its host.
pub(crate) fn interfaces(model: &Model) -> impl Iterator<Item = (&Host, &Interface)> {
    model.hosts.iter().flat_map(|host| {
        host.interfaces
            .iter()
            .map(move |interface| (host, interface))
    })
}

/// Returns the endpoint of an address: the interface on a segment that has it.
pub(crate) fn endpoint(model: &Model, address: IpAddr) -> Option<(&Host, &Interface)> {
    interfaces(model).find(|(_, interface)| {
        interface
            .segment
            .is_some_and(|id| model.segment(id).vpc_id == SITE_PLAN)
            && has_address(interface, address)
    })
}

/// May `mac` on `segment` use `address`, as far as the bindings know? (Section 4, "binding".)
pub(crate) fn binding_permits(
    model: &Model,
    segment: SegmentId,
    mac: [u8; 6],
    address: IpAddr,
) -> bool {
    let bound = endpoint(model, address).and_then(|(_, interface)| interface.mac);
    match bound {
        Some(MacAddr(owner)) => owner == mac,
        None => !is_bound_mac(model, segment, mac, address),
    }
}

/// Has an endpoint on this segment this MAC, and a fixed address of the family of `like`?
fn is_bound_mac(model: &Model, segment: SegmentId, mac: [u8; 6], like: IpAddr) -> bool {
    interfaces(model).any(|(_, interface)| {
        interface.segment == Some(segment)
            && interface.mac == Some(MacAddr(mac))
            && match like {
                IpAddr::V4(_) => interface.ipv4.is_some(),
                IpAddr::V6(_) => interface.ipv6.is_some(),
            }
    })
}

/// Does the inventory declare the address as a host interface of the router, on a segment?
pub(crate) fn declared_router_segment(model: &Model, address: IpAddr) -> Option<SegmentId> {
    interfaces(model)
        .filter(|(host, interface)| host.is_router && has_address(interface, address))
        .find_map(|(_, interface)| interface.segment)
}

/// Is this one of the addresses of the router, on any interface?
pub(crate) fn is_router_address(world: &World<'_>, address: IpAddr) -> bool {
    let model = world.model;
    world.router.extra_addresses.contains(&address)
        || address == IpAddr::V6(world.router.link_local)
        || model
            .segments
            .iter()
            .any(|s| s.vpc_id == SITE_PLAN && is_gateway(s, address))
        || interfaces(model).any(|(host, i)| host.is_router && has_address(i, address))
}
