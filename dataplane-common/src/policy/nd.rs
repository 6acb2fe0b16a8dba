//! Section 6 of `docs/isolation.md`: neighbour discovery (RFC 4861) and multicast listener discovery
//! (RFC 2710, RFC 3810).

use crate::abi::{Address, segment_flags};
use crate::policy::source::{self, Binding};
use crate::policy::tables::{Keys, Scratch};
use crate::policy::{Context, Frame, Packet, Tables, Verdict, destination, opaque};
use crate::reason::DropReason;
use crate::wire::{NdLinkLayer, icmpv6_type};

/// Most options that are walked.
const MAX_OPTIONS: u32 = 4;
/// Option types, RFC 4861 §4.6.1.
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

#[inline(never)]
pub(super) fn check<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let packet = &mut scratch.packet;
    match packet.icmp_type {
        // guard: router-advertisement
        icmpv6_type::ROUTER_ADVERTISEMENT | icmpv6_type::MLD_QUERY => {
            return Err(DropReason::RouterAdvertisement);
        }
        // guard: icmpv6-redirect
        icmpv6_type::REDIRECT => return Err(DropReason::IcmpRedirect),
        _ => {}
    }
    check_shape(context, packet)?;
    match packet.icmp_type {
        icmpv6_type::NEIGHBOUR_SOLICITATION => check_solicitation(frame, context, scratch),
        icmpv6_type::NEIGHBOUR_ADVERTISEMENT => {
            check_advertisement(frame, context, packet, &mut scratch.keys)
        }
        icmpv6_type::ROUTER_SOLICITATION => {
            walk_options(frame, context, packet, 8)?;
            Ok(())
        }
        _ => check_report(packet),
    }
}

#[inline(always)]
fn check_shape<T: Tables>(context: &Context<'_, T>, packet: &Packet) -> Result<(), DropReason> {
    let is_nd = matches!(
        packet.icmp_type,
        icmpv6_type::ROUTER_SOLICITATION..=icmpv6_type::REDIRECT
    );
    // guard: nd-hop-limit
    if is_nd && packet.ttl != 255 {
        return Err(DropReason::NdMalformed);
    }
    // guard: nd-shape
    if packet.has_fragment_header() || packet.icmp_code != 0 {
        return Err(DropReason::NdMalformed);
    }
    let link_multicast = u32::from_be(packet.destination.0[0]) >> 16 == 0xff02;
    let neighbour = context.local && source::is_in(context.segment, packet.destination, false);
    // guard: nd-destination
    if !link_multicast
        && !neighbour
        && !source::is_link_local(packet.destination)
        && !source::is_gateway(context.segment, packet.destination, false)
    {
        return Err(DropReason::NdMalformed);
    }
    Ok(())
}

#[inline(always)]
fn check_solicitation<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let packet = &mut scratch.packet;
    let target = read_target(frame, packet)?;
    let link_layer = walk_options(frame, context, packet, 24)?;
    if packet.source == Address([0; 4]) {
        return check_claim(context, target, &mut scratch.keys);
    }
    // guard: nd-target-family
    if context.segment.flags & segment_flags::IPV6 == 0 && !source::is_link_local(target) {
        return Err(DropReason::NdMismatch);
    }
    let length = packet.length - (packet.l4 - packet.l3);
    let turns_around = !packet.has_options() && (length == 24 || (length == 32 && link_layer));
    if turns_around && destination::is_own_gateway(context, target, false) {
        scratch.report.verdict = if length == 32 {
            Verdict::AnswerNeighbourWithOption
        } else {
            Verdict::AnswerNeighbour
        };
    }
    Ok(())
}

#[inline(always)]
fn check_advertisement<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &mut Packet,
    keys: &mut Keys,
) -> Result<(), DropReason> {
    let target = read_target(frame, packet)?;
    walk_options(frame, context, packet, 24)?;
    check_claim(context, target, keys)
}

/// May the frame's source MAC claim this address?
#[inline(always)]
fn check_claim<T: Tables>(
    context: &Context<'_, T>,
    target: Address,
    keys: &mut Keys,
) -> Result<(), DropReason> {
    // guard: nd-gateway-claim
    if destination::is_own_gateway(context, target, false) {
        return Err(DropReason::GatewayClaim);
    }
    if source::is_link_local(target) {
        return Ok(());
    }
    // guard: nd-claim-subnet
    if !source::is_host_of(context.segment, target, false) {
        return Err(DropReason::NdMismatch);
    }
    // guard: nd-claim-binding
    if let Binding::Contradicts = source::binding(context, context.source_mac, target, false, keys)
    {
        return Err(DropReason::NdMismatch);
    }
    Ok(())
}

#[inline(always)]
fn check_report(packet: &Packet) -> Result<(), DropReason> {
    let from_link = source::is_link_local(packet.source) || packet.source == Address([0; 4]);
    // guard: mld-report
    if !from_link || !source::is_multicast(packet.destination, false) {
        return Err(DropReason::NdMalformed);
    }
    Ok(())
}

#[inline(always)]
fn read_target<F: Frame>(frame: &F, packet: &Packet) -> Result<Address, DropReason> {
    // guard: nd-target
    if packet.length - (packet.l4 - packet.l3) < 24 {
        return Err(DropReason::NdMalformed);
    }
    // guard: nd-target-read
    // exempt: nd-target holds it against the packet's length, ipv6-malformed that against the frame's
    frame
        .read::<Address>(opaque(packet.l4 + 8))
        .ok_or(DropReason::NdMalformed)
}

/// Walks the options behind `fixed` octets; returns whether one holds a link-layer address.
#[inline(always)]
fn walk_options<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &mut Packet,
    fixed: u16,
) -> Result<bool, DropReason> {
    packet.cursor = packet.l4 + fixed;
    let mut count = 0;
    while count < MAX_OPTIONS && packet.cursor < packet.l3 + packet.length {
        walk_option(frame, context, packet)?;
        count += 1;
    }
    // guard: nd-option-count
    if packet.cursor < packet.l3 + packet.length {
        return Err(DropReason::NdMalformed);
    }
    // guard: nd-link-layer-mac
    if packet.link_layer_differs {
        return Err(DropReason::NdMismatch);
    }
    Ok(packet.has_link_layer)
}

/// Checks the option at the cursor and steps over it.
#[inline(always)]
fn walk_option<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    // guard: nd-option-read
    // exempt: of an option that is cut short, nd-option-length refuses the length, or that it is 0
    let option = frame
        .read::<NdLinkLayer>(opaque(packet.cursor))
        .ok_or(DropReason::NdMalformed)?;
    let length = u16::from(option.length) * 8;
    // guard: nd-option-length
    // exempt part: `length == 0`: the walk does not get on, which nd-option-count refuses
    if length == 0 || packet.cursor + length > packet.l3 + packet.length {
        return Err(DropReason::NdMalformed);
    }
    if option.kind == SOURCE_LINK_LAYER || option.kind == TARGET_LINK_LAYER {
        // guard: nd-link-layer-length
        if length != 8 {
            return Err(DropReason::NdMalformed);
        }
        // RFC 4861 §7.1.1: "If the IP source address is the unspecified address, there is no source
        // link-layer address option in the message."
        // guard: dad-option
        if packet.icmp_type == icmpv6_type::NEIGHBOUR_SOLICITATION
            && packet.source == Address([0; 4])
        {
            return Err(DropReason::NdMalformed);
        }
        packet.has_link_layer = true;
        packet.link_layer_differs |= option.mac != context.source_mac;
    }
    packet.cursor += length;
    Ok(())
}
