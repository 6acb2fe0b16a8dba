//! Section 9 of `docs/isolation.md`: who may open a connection to whom.

use crate::abi::{
    ALLOW_ANY, Address, EndpointEntry, EndpointKey, FlowSide, PairKey, RuleKey, SegmentEntry,
    endpoint_flags, prefix_flags, segment_flags, service_index, side_flags,
};
use crate::policy::tables::Scratch;
use crate::policy::{Context, Tables, source};
use crate::reason::DropReason;
use crate::wire::protocol;

/// A connection that somebody wants to open.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Request {
    /// Class of the source address.
    pub src_class: u32,
    /// Destination address.
    pub destination: Address,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port; 0 without ports.
    pub port: u16,
    /// IPv4?
    pub ipv4: bool,
}

/// An allowed destination.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Allowed {
    /// Where packets to it go; `generation` is 0.
    pub side: FlowSide,
    /// The deciding rule; 0 for the built-in ones.
    pub rule_id: u32,
}

impl Allowed {
    /// A side whose packets do not come over the trunk: the router, the internet.
    #[inline(always)]
    fn silent(vlan_id: u16, mtu: u16) -> Self {
        let side = FlowSide {
            vlan_id,
            mtu,
            flags: side_flags::SILENT,
            ..FlowSide::default()
        };
        Self { side, rule_id: 0 }
    }
}

/// Is it the segment's own gateway address, or the router's link-local one?
#[inline(always)]
pub(super) fn is_own_gateway<T: Tables>(
    context: &Context<'_, T>,
    address: Address,
    ipv4: bool,
) -> bool {
    source::is_gateway(context.segment, address, ipv4)
        || (!ipv4 && address == context.generation.router_link_local)
}

/// Decides whether `segment` may open the connection of [`Scratch::request`]. Leaves the answer in
/// [`Scratch::allowed`].
#[inline(always)]
pub(super) fn check<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    vlan_id: u16,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let request = &scratch.request;
    // guard: martian-destination
    if source::is_martian(request.destination, request.ipv4) {
        return Err(DropReason::MartianDestination);
    }
    scratch.keys.endpoint = EndpointKey {
        vpc_id: segment.vpc_id,
        address: request.destination,
    };
    let endpoint = context
        .tables
        .endpoint(context.generation.slot, &scratch.keys.endpoint);
    let router_flags = match endpoint {
        Some(endpoint) if endpoint.flags & endpoint_flags::ROUTER != 0 => endpoint.flags,
        _ => 0,
    };
    let link_local = !request.ipv4 && source::is_link_local(request.destination);
    if source::is_gateway(segment, request.destination, request.ipv4)
        || (link_local && request.destination == context.generation.router_link_local)
    {
        check_gateway(segment, request, router_flags)?;
        scratch.allowed = Allowed::silent(vlan_id, segment.mtu);
        return Ok(());
    }
    // guard: link-local-destination
    if link_local && !context.local {
        return Err(DropReason::LinkLocalScope);
    }
    if router_flags != 0 {
        // guard: router-address
        if router_flags & endpoint_flags::DECLARED == 0 {
            return Err(DropReason::RouterAddress);
        }
        if endpoint.is_some_and(|endpoint| endpoint.vlan_id == vlan_id) {
            scratch.allowed = Allowed::silent(vlan_id, segment.mtu);
            return Ok(());
        }
    }
    let same_segment = source::is_in(segment, request.destination, request.ipv4);
    if context.local && (same_segment || link_local) {
        return check_local(context, segment, vlan_id, scratch);
    }
    // guard: same-segment
    if same_segment {
        return Err(DropReason::SameSegment);
    }
    match endpoint {
        Some(endpoint) => check_endpoint(context, segment, endpoint, scratch),
        None => check_prefix(context, segment, scratch),
    }
}

/// Section 10: from one host of a segment to another.
#[inline(always)]
fn check_local<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    vlan_id: u16,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let (address, ipv4) = (scratch.request.destination, scratch.request.ipv4);
    // guard: local-broadcast
    if source::is_network_or_broadcast(segment, address, ipv4) {
        return Err(DropReason::MartianDestination);
    }
    let mut rule_id = 0;
    if segment.flags & segment_flags::LOCAL_POLICY != 0 {
        let classes = PairKey {
            src_class: scratch.request.src_class,
            dst_class: local_class(context, segment, scratch),
        };
        // guard: host-isolation
        // off: rule_id = check_pair(context, classes, scratch).unwrap_or(0);
        rule_id = check_pair(context, classes, scratch).ok_or(DropReason::HostIsolation)?;
    }
    scratch.allowed = Allowed {
        side: FlowSide {
            vlan_id,
            mtu: segment.mtu,
            ..FlowSide::default()
        },
        rule_id,
    };
    Ok(())
}

/// Returns the destination class of an address of `segment`; 0, which nothing is allowed to, for a link-local one: the
/// inventory does not say whose that is.
#[inline(always)]
fn local_class<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    scratch: &mut Scratch,
) -> u32 {
    let (address, ipv4) = (scratch.request.destination, scratch.request.ipv4);
    // guard: isolated-link-local
    // exempt: such an address has no endpoint, and lies in no prefix of the segment
    if !source::is_in(segment, address, ipv4) {
        return 0;
    }
    let slot = context.generation.slot;
    scratch.keys.endpoint = EndpointKey {
        vpc_id: segment.vpc_id,
        address,
    };
    if let Some(endpoint) = context.tables.endpoint(slot, &scratch.keys.endpoint) {
        return endpoint.dst_class;
    }
    let key = &mut scratch.keys.prefix;
    match source::longest_prefix(context, segment.vpc_id, address, ipv4, key) {
        Some(prefix) if prefix.flags & prefix_flags::SEGMENT != 0 => prefix.dst_class,
        _ => segment.dst_class,
    }
}

/// The own gateway: its services, or everything if the router is a declared host there.
#[inline(always)]
fn check_gateway(
    segment: &SegmentEntry,
    request: &Request,
    router_flags: u32,
) -> Result<(), DropReason> {
    let wanted = match (request.protocol, request.port) {
        (protocol::UDP, 67) if request.ipv4 => segment_flags::DHCP,
        (protocol::UDP, 547) if !request.ipv4 => segment_flags::DHCP,
        (protocol::UDP | protocol::TCP, 53) => segment_flags::DNS,
        (protocol::UDP, 123) => segment_flags::NTP,
        (protocol::ICMP | protocol::ICMPV6, _) => segment_flags::ECHO,
        _ => 0,
    };
    // guard: gateway-service
    if segment.flags & wanted == 0 && router_flags & endpoint_flags::DECLARED == 0 {
        return Err(DropReason::GatewayService);
    }
    Ok(())
}

#[inline(always)]
fn check_endpoint<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    endpoint: &EndpointEntry,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    // guard: endpoint-segment
    // exempt: the array has an entry for every VLAN id
    let to = context
        .tables
        .segment(context.generation.slot, endpoint.vlan_id)
        .ok_or(DropReason::NoPolicy)?;
    let classes = PairKey {
        src_class: scratch.request.src_class,
        dst_class: endpoint.dst_class,
    };
    let denied = denial(segment.tenant, to.tenant);
    let rule_id = check_pair(context, classes, scratch).ok_or(denied)?;
    scratch.allowed = Allowed {
        side: FlowSide {
            mac: endpoint.mac,
            vlan_id: endpoint.vlan_id,
            generation: 0,
            mtu: to.mtu,
            flags: side_of_endpoint(endpoint.flags),
            state: 0,
        },
        rule_id,
    };
    Ok(())
}

/// A destination that is no endpoint: somewhere in a segment, or not of the site.
#[inline(always)]
fn check_prefix<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let (address, ipv4) = (scratch.request.destination, scratch.request.ipv4);
    let prefix = match source::longest_prefix(
        context,
        segment.vpc_id,
        address,
        ipv4,
        &mut scratch.keys.prefix,
    ) {
        Some(prefix) if prefix.flags & prefix_flags::SEGMENT != 0 => prefix,
        // guard: internet-excludes
        // off: Some(_) => return check_internet(segment, scratch),
        Some(_) => return Err(DropReason::NotInternet),
        None => return check_internet(segment, scratch),
    };
    // guard: prefix-segment
    // exempt: the array has an entry for every VLAN id
    let to = context
        .tables
        .segment(context.generation.slot, prefix.vlan_id)
        .ok_or(DropReason::NoPolicy)?;
    // guard: broadcast-destination
    if source::is_network_or_broadcast(to, address, ipv4) {
        return Err(DropReason::MartianDestination);
    }
    let classes = PairKey {
        src_class: scratch.request.src_class,
        dst_class: prefix.dst_class,
    };
    let denied = denial(segment.tenant, to.tenant);
    let rule_id = check_pair(context, classes, scratch).ok_or(denied)?;
    scratch.allowed = Allowed {
        side: FlowSide {
            vlan_id: prefix.vlan_id,
            mtu: to.mtu,
            ..FlowSide::default()
        },
        rule_id,
    };
    Ok(())
}

#[inline(always)]
fn check_internet(segment: &SegmentEntry, scratch: &mut Scratch) -> Result<(), DropReason> {
    // guard: not-internet
    if !is_public(scratch.request.destination, scratch.request.ipv4) {
        return Err(DropReason::NotInternet);
    }
    // guard: internet-denied
    if segment.flags & segment_flags::INTERNET == 0 {
        return Err(DropReason::InternetDenied);
    }
    scratch.allowed = Allowed::silent(0, u16::MAX);
    Ok(())
}

/// Looks the connection up in the compiled policy; returns the deciding rule, if it is allowed.
#[inline(always)]
fn check_pair<T: Tables>(
    context: &Context<'_, T>,
    classes: PairKey,
    scratch: &mut Scratch,
) -> Option<u32> {
    let slot = context.generation.slot;
    let Scratch { request, keys, .. } = scratch;
    keys.pair = classes;
    // guard: pair
    // off: let Some(pair) = context.tables.pair(slot, &keys.pair) else { return Some(0) };
    let pair = context.tables.pair(slot, &keys.pair)?;
    if pair.ruleset == ALLOW_ANY {
        return Some(pair.rule_id);
    }
    let index = service_index(request.protocol, request.port);
    keys.rule = RuleKey {
        ruleset: pair.ruleset,
        service_class: context.tables.service(slot, index)?,
    };
    // guard: rule
    // off: Some(context.tables.rule(slot, &keys.rule).unwrap_or_default())
    context.tables.rule(slot, &keys.rule)
}

/// Returns the reason why the platform (0) or a tenant may not reach another.
#[inline(always)]
fn denial(from_tenant: u32, to_tenant: u32) -> DropReason {
    // guard: denial-reason
    // exempt: it only names the reason; pair and rule deny
    if from_tenant == 0 {
        DropReason::NoPolicy
    } else if to_tenant == 0 {
        DropReason::PlatformAddress
    } else if to_tenant == from_tenant {
        DropReason::TenantRule
    } else {
        DropReason::OtherTenant
    }
}

/// Returns [`side_flags`] of an endpoint.
#[inline(always)]
fn side_of_endpoint(flags: u32) -> u8 {
    if flags & endpoint_flags::ROUTER != 0 {
        side_flags::SILENT
    } else if flags & endpoint_flags::MAC_KNOWN != 0 {
        side_flags::FORWARD
    } else {
        0
    }
}

/// Can the address be part of the internet, whatever the inventory excludes?
///
/// IPv4: not 10/8, 100.64/10, 169.254/16, 172.16/12, 192.168/16, 224/4 (martians are gone before). IPv6:
/// 2000::/3, the only global unicast space that is in use (RFC 4291 §2.4, IANA).
#[inline(always)]
fn is_public(address: Address, ipv4: bool) -> bool {
    if !ipv4 {
        return source::first_octet(address.0[0]) >> 5 == 1;
    }
    let a = u32::from_be(address.0[3]);
    !(a >> 24 == 10
        || a >> 22 == 0x6440_0000 >> 22
        || a >> 16 == 0xa9fe
        || a >> 20 == 0xac10_0000 >> 20
        || a >> 16 == 0xc0a8
        || a >> 28 == 14)
}
