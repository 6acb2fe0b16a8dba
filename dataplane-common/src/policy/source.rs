//! Section 4 of `docs/isolation.md`: may this address and this MAC send from this segment?

use crate::abi::{
    Address, BoundMacKey, EndpointKey, Mac, NO_PREFIX, PrefixEntry, PrefixKey, SegmentEntry,
    bound_mac_flags, endpoint_flags, prefix_flags, segment_flags, side_flags,
};
use crate::policy::tables::{Keys, Scratch};
use crate::policy::{Context, Packet, Tables};
use crate::reason::DropReason;
use crate::wire::{dhcp_port, icmpv6_type, protocol};

/// A source that may send.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Source {
    /// Its class in `PAIRS`.
    pub(super) class: u32,
    /// Is it an endpoint with a known MAC (so that packets can be forwarded to it)?
    pub(super) bound: bool,
}

/// What the inventory says of an address and a MAC.
#[derive(Clone, Copy)]
pub(super) enum Binding {
    /// The address is an endpoint's with this very MAC.
    Bound {
        /// Source class of the endpoint.
        class: u32,
    },
    /// The address is an endpoint's whose MAC is not known.
    AnyMac {
        /// Source class of the endpoint.
        class: u32,
    },
    /// Neither the address nor the MAC is bound (in this family).
    Free,
    /// The address is another MAC's, or the MAC has other addresses.
    Contradicts,
}

/// Checks the source address of an IP packet. Leaves what it finds in [`Scratch::source`].
#[inline(always)]
pub(super) fn check<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.source = judge(context, &scratch.packet, &mut scratch.keys)?;
    Ok(())
}

#[inline(always)]
fn judge<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
    keys: &mut Keys,
) -> Result<Source, DropReason> {
    let segment = context.segment;
    let family = if packet.ipv4 {
        segment_flags::IPV4
    } else {
        segment_flags::IPV6
    };
    // guard: source-family
    if segment.flags & family == 0 && !packet.is_neighbour_discovery() {
        return Err(DropReason::SourceNotInSegment);
    }
    if packet.source == unspecified(packet.ipv4) {
        return check_unspecified(segment, packet);
    }
    // guard: martian-source
    if is_martian(packet.source, packet.ipv4) || is_multicast(packet.source, packet.ipv4) {
        return Err(DropReason::MartianSource);
    }
    if !packet.ipv4 && is_link_local(packet.source) {
        return check_link_local(context, packet);
    }
    // guard: source-gateway-claim
    if is_gateway(segment, packet.source, packet.ipv4) {
        return Err(DropReason::GatewayClaim);
    }
    // guard: source-subnet
    if !is_host_of(segment, packet.source, packet.ipv4) {
        return Err(DropReason::SourceNotInSegment);
    }
    match binding(
        context,
        context.source_mac,
        packet.source,
        packet.ipv4,
        keys,
    ) {
        Binding::Bound { class } => Ok(Source { class, bound: true }),
        Binding::AnyMac { class } => Ok(Source {
            class,
            bound: false,
        }),
        Binding::Free => Ok(Source {
            class: class_of_free(context, segment, packet.source, packet.ipv4, keys),
            bound: false,
        }),
        // guard: spoofed-source
        // off: Binding::Contradicts => Ok(Source { class: segment.src_class, bound: false }),
        Binding::Contradicts => Err(DropReason::SpoofedSource),
    }
}

/// "`0.0.0.0` only to UDP 67; `::` only for DAD/MLD" (SPEC.md section 3, point 2).
#[inline(always)]
fn check_unspecified(segment: &SegmentEntry, packet: &Packet) -> Result<Source, DropReason> {
    let allowed = if packet.ipv4 {
        packet.protocol == protocol::UDP
            && packet.source_port == dhcp_port::CLIENT4
            && packet.destination_port == dhcp_port::SERVER4
            && packet.destination == Address::from_ipv4([255; 4])
            && !packet.is_fragment()
    } else {
        packet.protocol == protocol::ICMPV6
            && matches!(
                packet.icmp_type,
                icmpv6_type::NEIGHBOUR_SOLICITATION
                    | icmpv6_type::MLD_REPORT
                    | icmpv6_type::MLD_DONE
                    | icmpv6_type::MLD_REPORT_V2
            )
    };
    // guard: unspecified-source
    if !allowed {
        return Err(DropReason::SourceNotInSegment);
    }
    Ok(Source {
        class: segment.src_class,
        bound: false,
    })
}

#[inline(always)]
fn check_link_local<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
) -> Result<Source, DropReason> {
    // guard: link-local-gateway-claim
    if packet.source == context.generation.router_link_local {
        return Err(DropReason::GatewayClaim);
    }
    // guard: link-local-source-scope
    if !is_link_local(packet.destination) && !is_multicast(packet.destination, false) {
        return Err(DropReason::LinkLocalScope);
    }
    Ok(Source {
        class: context.segment.src_class,
        bound: false,
    })
}

/// Compares an address and a MAC, the one that sends or is sent to, with the inventory.
#[inline(always)]
pub(super) fn binding<T: Tables>(
    context: &Context<'_, T>,
    mac: Mac,
    address: Address,
    ipv4: bool,
    keys: &mut Keys,
) -> Binding {
    let slot = context.generation.slot;
    keys.endpoint = EndpointKey {
        vpc_id: context.segment.vpc_id,
        address,
    };
    if let Some(endpoint) = context.tables.endpoint(slot, &keys.endpoint) {
        if endpoint.flags & endpoint_flags::MAC_KNOWN != 0 {
            // guard: bound-mac
            // off: let here = true;
            // exempt part: `endpoint.vlan_id == context.vlan_id`: the address lies in this segment's
            //  subnet, and the model keeps an endpoint's addresses in its segment
            let here = endpoint.vlan_id == context.vlan_id && endpoint.mac == mac;
            if !here {
                return Binding::Contradicts;
            }
            return Binding::Bound {
                class: endpoint.src_class,
            };
        }
        // guard: bound-mac-at-any-mac
        if is_bound_elsewhere(context, mac, ipv4, keys) {
            return Binding::Contradicts;
        }
        return Binding::AnyMac {
            class: endpoint.src_class,
        };
    }
    // guard: bound-mac-at-free-address
    if is_bound_elsewhere(context, mac, ipv4, keys) {
        return Binding::Contradicts;
    }
    Binding::Free
}

/// Has the MAC fixed addresses of this family on this VLAN? Then it may use no other.
#[inline(always)]
fn is_bound_elsewhere<T: Tables>(
    context: &Context<'_, T>,
    mac: Mac,
    ipv4: bool,
    keys: &mut Keys,
) -> bool {
    keys.bound_mac = BoundMacKey {
        vlan_id: context.vlan_id,
        mac,
    };
    let flag = if ipv4 {
        bound_mac_flags::IPV4
    } else {
        bound_mac_flags::IPV6
    };
    match context
        .tables
        .bound_mac(context.generation.slot, &keys.bound_mac)
    {
        Some(flags) => flags & flag != 0,
        None => false,
    }
}

/// Returns the source class of the packet's destination, which opened its connection from `segment`, and leaves in
/// [`Scratch::to`] how packets to it are forwarded: MAC and flags, all else as it is.
#[inline(always)]
pub(super) fn class_of_opener<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    scratch: &mut Scratch,
) -> u32 {
    let Scratch {
        packet,
        to: side,
        keys,
        ..
    } = scratch;
    let (address, ipv4) = (packet.destination, packet.ipv4);
    keys.endpoint = EndpointKey {
        vpc_id: segment.vpc_id,
        address,
    };
    side.flags = 0;
    match context
        .tables
        .endpoint(context.generation.slot, &keys.endpoint)
    {
        Some(endpoint) => {
            if endpoint.flags & endpoint_flags::MAC_KNOWN != 0 {
                side.flags = side_flags::FORWARD;
                side.mac = endpoint.mac;
            }
            endpoint.src_class
        }
        None => class_of_free(context, segment, address, ipv4, keys),
    }
}

/// Returns the source class of an address of `segment` that is no endpoint.
#[inline(always)]
pub(super) fn class_of_free<T: Tables>(
    context: &Context<'_, T>,
    segment: &SegmentEntry,
    address: Address,
    ipv4: bool,
    keys: &mut Keys,
) -> u32 {
    let by_prefix = if ipv4 {
        segment_flags::CLASS_BY_PREFIX4
    } else {
        segment_flags::CLASS_BY_PREFIX6
    };
    if segment.flags & by_prefix == 0 {
        return segment.src_class;
    }
    match longest_prefix(context, segment.vpc_id, address, ipv4, &mut keys.prefix) {
        Some(prefix) if prefix.flags & prefix_flags::SEGMENT != 0 => prefix.src_class,
        _ => segment.src_class,
    }
}

/// Finds the longest prefix that holds an address: one hash lookup per length in use.
#[inline(never)]
pub(super) fn longest_prefix<'a, T: Tables>(
    context: &Context<'a, T>,
    vpc_id: u32,
    address: Address,
    ipv4: bool,
    key: &mut PrefixKey,
) -> Option<&'a PrefixEntry> {
    let generation = context.generation;
    let prefixes = if ipv4 {
        &generation.prefixes4
    } else {
        &generation.prefixes6
    };
    for prefix in prefixes {
        if prefix.length == NO_PREFIX {
            return None;
        }
        *key = PrefixKey {
            vpc_id,
            length: prefix.length,
            address: address.masked(prefix.mask),
        };
        if let Some(entry) = context.tables.prefix(generation.slot, key) {
            return Some(entry);
        }
    }
    None
}

/// Is the address a host address of the segment's subnet (neither its network nor its broadcast
/// address)?
#[inline(always)]
pub(super) fn is_host_of(segment: &SegmentEntry, address: Address, ipv4: bool) -> bool {
    is_in(segment, address, ipv4) && !is_network_or_broadcast(segment, address, ipv4)
}

/// Does the address lie in the segment's subnet of that family?
#[inline(always)]
pub(super) fn is_in(segment: &SegmentEntry, address: Address, ipv4: bool) -> bool {
    if ipv4 {
        segment.flags & segment_flags::IPV4 != 0
            && address.0[3] & segment.mask4 == segment.net4.0[3]
    } else {
        segment.flags & segment_flags::IPV6 != 0 && address.masked(segment.mask6) == segment.net6
    }
}

/// Is the address the network address (IPv6: subnet-router anycast) or the IPv4 broadcast address?
#[inline(always)]
pub(super) fn is_network_or_broadcast(
    segment: &SegmentEntry,
    address: Address,
    ipv4: bool,
) -> bool {
    if ipv4 {
        let host_bits = address.0[3] & !segment.mask4;
        segment.prefix_len4 <= 30 && (host_bits == 0 || host_bits == !segment.mask4)
    } else {
        segment.prefix_len6 <= 126 && address == segment.net6
    }
}

/// Is it the gateway address of the segment in that family?
#[inline(always)]
pub(super) fn is_gateway(segment: &SegmentEntry, address: Address, ipv4: bool) -> bool {
    if ipv4 {
        segment.flags & segment_flags::IPV4 != 0 && address == segment.gateway4
    } else {
        segment.flags & segment_flags::IPV6 != 0 && address == segment.gateway6
    }
}

#[inline(always)]
fn unspecified(ipv4: bool) -> Address {
    if ipv4 {
        Address::from_ipv4([0; 4])
    } else {
        Address([0; 4])
    }
}

/// Loopback, "this network", class E; in IPv6 all of ::/8 (loopback, IPv4-mapped, and the unassigned).
#[inline(always)]
pub(super) fn is_martian(address: Address, ipv4: bool) -> bool {
    if ipv4 {
        let first = first_octet(address.0[3]);
        first == 0 || first == 127 || first >= 240
    } else {
        first_octet(address.0[0]) == 0
    }
}

/// Multicast, or the limited broadcast address.
#[inline(always)]
pub(super) fn is_multicast(address: Address, ipv4: bool) -> bool {
    if ipv4 {
        first_octet(address.0[3]) & 0xf0 == 224 || address.0[3] == u32::MAX
    } else {
        first_octet(address.0[0]) == 0xff
    }
}

/// fe80::/10.
#[inline(always)]
pub(super) fn is_link_local(address: Address) -> bool {
    u32::from_be(address.0[0]) & 0xffc0_0000 == 0xfe80_0000
}

/// Returns the first octet of a word in wire order.
#[inline(always)]
pub(super) const fn first_octet(word: u32) -> u32 {
    u32::from_be(word) >> 24
}
