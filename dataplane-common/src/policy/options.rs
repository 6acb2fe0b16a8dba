//! Section 3 of `docs/isolation.md`: IPv4 options, IPv6 extension headers and fragment headers.

use crate::policy::packet::{
    check_group, cut_short, fragment_shape, is_extension, offset16, read_transport, shape,
};
use crate::policy::{Context, Frame, Packet, Tables, opaque};
use crate::reason::DropReason;
use crate::wire::{FragmentHeader, protocol};

/// Most IPv6 extension headers that are walked.
const MAX_EXTENSION_HEADERS: u32 = 6;

/// Most IPv4 options that are walked.
const MAX_OPTIONS: u32 = 8;

/// Reads what is behind options, extension headers and fragment headers.
#[inline(never)]
pub(super) fn complete<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    if packet.ipv4 {
        if packet.has_options() {
            check_options(frame, packet)?;
        }
    } else {
        walk_extensions(frame, packet)?;
    }
    check_group(context, packet)?;
    let l4 = opaque(packet.l4);
    let end = usize::from(packet.l3) + usize::from(packet.length);
    read_transport(frame, packet, l4, end.saturating_sub(l4))
}

/// Walks IPv4 options, RFC 791 §3.1, for a source route.
#[inline(always)]
fn check_options<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), DropReason> {
    packet.cursor = packet.l3 + 20;
    let mut count = 0;
    while count < MAX_OPTIONS && packet.cursor < packet.l4 {
        let length = check_option(frame, packet)?;
        if length == 0 {
            return Ok(());
        }
        packet.cursor += length;
        count += 1;
    }
    // guard: option-count
    if packet.cursor < packet.l4 && check_option(frame, packet)? != 0 {
        return Err(DropReason::IpOptions);
    }
    Ok(())
}

/// Checks the option at the cursor; returns its length, 0 at the end of the list.
#[inline(always)]
fn check_option<F: Frame>(frame: &F, packet: &Packet) -> Result<u16, DropReason> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    let at = opaque(packet.cursor);
    // guard: option-read
    // exempt: it lies in the header, which ipv4-malformed holds against the frame's length
    let kind = frame.read::<u8>(at).ok_or(DropReason::Truncated)?;
    if kind == END {
        return Ok(0);
    }
    if kind == NO_OPERATION {
        return Ok(1);
    }
    // guard: source-route
    if kind == LOOSE_SOURCE_ROUTE || kind == STRICT_SOURCE_ROUTE {
        return Err(DropReason::IpOptions);
    }
    let left = packet.l4 - packet.cursor;
    // guard: option-cut
    if left < 2 {
        return Err(DropReason::IpOptions);
    }
    // guard: option-length-read
    // exempt: as option-read
    let length = u16::from(frame.read::<u8>(at + 1).ok_or(DropReason::Truncated)?);
    // guard: option-length
    if length < 2 || length > left {
        return Err(DropReason::IpOptions);
    }
    Ok(length)
}

/// Walks IPv6 extension headers, RFC 8200 §4, until the transport or a later fragment's payload.
#[inline(always)]
fn walk_extensions<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), DropReason> {
    packet.shape |= shape::OPTIONS;
    let mut count = 0;
    while count < MAX_EXTENSION_HEADERS {
        if !is_extension(packet.protocol) {
            return Ok(());
        }
        // guard: hop-by-hop-not-first
        if packet.protocol == protocol::HOP_BY_HOP && count != 0 {
            return Err(DropReason::IpOptions);
        }
        walk_extension(frame, packet)?;
        if packet.shape & shape::LATER_FRAGMENT != 0 {
            return Ok(());
        }
        count += 1;
    }
    // guard: extension-count
    if is_extension(packet.protocol) {
        return Err(DropReason::IpOptions);
    }
    Ok(())
}

/// Steps over the extension header at `l4`.
#[inline(always)]
fn walk_extension<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), DropReason> {
    let end = usize::from(packet.l3) + usize::from(packet.length);
    let at = opaque(packet.l4);
    let kind = packet.protocol;
    // guard: extension-header
    if kind != protocol::FRAGMENT
        && kind != protocol::HOP_BY_HOP
        && kind != protocol::DESTINATION_OPTIONS
    {
        return Err(DropReason::IpOptions);
    }
    // guard: second-fragment-header
    if kind == protocol::FRAGMENT && packet.shape & shape::FRAGMENT_HEADER != 0 {
        return Err(DropReason::IpOptions);
    }
    // guard: extension-cut
    if at + 8 > end {
        return Err(cut_short(packet));
    }
    // guard: extension-read
    // exempt: extension-cut holds it against the packet's length, ipv6-malformed that against the frame's
    let header = frame
        .read::<FragmentHeader>(at)
        .ok_or(DropReason::Truncated)?;
    packet.protocol = header.next_header;
    if kind == protocol::FRAGMENT {
        packet.l4 = offset16(at + 8);
        read_fragment_header(packet, &header, end);
        return Ok(());
    }
    // The second octet is the length in every header but the fragment header.
    let next = at + (usize::from(header.reserved) + 1) * 8;
    // guard: extension-length
    if next > end {
        return Err(cut_short(packet));
    }
    packet.l4 = offset16(next);
    Ok(())
}

#[inline(always)]
fn read_fragment_header(packet: &mut Packet, header: &FragmentHeader, end: usize) {
    let offset_more = header.offset_more.get();
    packet.shape |= shape::FRAGMENT_HEADER;
    if offset_more & !6 != 0 {
        packet.fragment_id = header.id.get();
        packet.fragment_offset = offset_more & 0xfff8;
        packet.fragment_length = offset16(end.saturating_sub(usize::from(packet.l4)));
        packet.shape |= fragment_shape(packet.fragment_offset);
    }
}
