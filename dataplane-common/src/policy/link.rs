//! Section 1 of `docs/isolation.md`: Ethernet, the 802.1Q tag, the segment, the MAC addresses.

use crate::abi::{Generation, Mac, SegmentEntry, segment_flags};
use crate::policy::{Frame, Report, Tables, forgotten};
use crate::reason::DropReason;
use crate::wire::{Be16, Tag, ether_type};

/// What the link layer says about a frame that passed it.
pub(super) struct Link<'a> {
    pub(super) segment: &'a SegmentEntry,
    pub(super) source_mac: Mac,
    pub(super) to_group_mac: bool,
    /// EtherType behind the tag.
    pub(super) ether_type: u16,
    /// Offset of what is behind the tag.
    pub(super) l3: usize,
}

/// The outer tag, and what is behind it.
pub(super) struct Outer {
    pub(super) vlan_id: u16,
    pub(super) ether_type: u16,
    /// Offset of what is behind the tag.
    pub(super) l3: u16,
}

#[inline(always)]
pub(super) fn check<'a, F: Frame, T: Tables>(
    frame: &F,
    outer: &Outer,
    tables: &'a T,
    generation: &Generation,
    report: &mut Report,
) -> Result<Link<'a>, DropReason> {
    let segment = check_tag(outer, tables, generation, report)?;
    let (source_mac, destination) = read_macs(frame)?;
    check_source_mac(source_mac, generation)?;
    let to_group_mac = destination.is_multicast();
    // guard: not-for-router
    if !to_group_mac && destination != generation.router_mac {
        return Err(DropReason::NotForRouter);
    }
    check_arp_group(outer.ether_type, destination)?;
    Ok(Link {
        segment,
        source_mac,
        to_group_mac,
        ether_type: outer.ether_type,
        l3: forgotten(&report.l3),
    })
}

/// Checks the tag of a frame from a trunk; returns its segment.
#[inline(always)]
pub(super) fn check_tag<'a, T: Tables>(
    outer: &Outer,
    tables: &'a T,
    generation: &Generation,
    report: &mut Report,
) -> Result<&'a SegmentEntry, DropReason> {
    // guard: priority-tag
    if outer.vlan_id == 0 {
        return Err(DropReason::PriorityTag);
    }
    report.vlan_id = outer.vlan_id;
    report.l3 = outer.l3;
    // guard: segment-entry
    // exempt: the array has an entry for every VLAN id
    let segment = tables
        .segment(generation.slot, outer.vlan_id)
        .ok_or(DropReason::UnknownVlan)?;
    // guard: unknown-vlan
    if segment.flags & segment_flags::PRESENT == 0 {
        return Err(DropReason::UnknownVlan);
    }
    // guard: double-tag
    if is_tag(outer.ether_type) {
        return Err(DropReason::DoubleTag);
    }
    // guard: blackhole-segment
    if segment.flags & segment_flags::BLACKHOLE != 0 {
        return Err(DropReason::BlackholeSegment);
    }
    Ok(segment)
}

/// Returns the source MAC and the destination MAC.
#[inline(always)]
pub(super) fn read_macs<F: Frame>(frame: &F) -> Result<(Mac, Mac), DropReason> {
    // guard: source-mac-read
    // exempt: ether-cut-short
    let source = frame.read::<Mac>(6).ok_or(DropReason::Truncated)?;
    // guard: destination-mac-read
    // exempt: ether-cut-short
    let destination = frame.read::<Mac>(0).ok_or(DropReason::Truncated)?;
    Ok((source, destination))
}

/// ARP and RARP go to one MAC or to all.
#[inline(always)]
pub(super) fn check_arp_group(ether_type: u16, destination: Mac) -> Result<(), DropReason> {
    let is_arp = matches!(ether_type, ether_type::ARP | ether_type::RARP);
    // guard: arp-multicast
    if is_arp && destination.is_multicast() && destination != Mac::BROADCAST {
        return Err(DropReason::MulticastNotAllowed);
    }
    Ok(())
}

#[inline(always)]
pub(super) fn check_source_mac(source: Mac, generation: &Generation) -> Result<(), DropReason> {
    // guard: bad-source-mac
    if source.is_multicast() || source.is_zero() {
        return Err(DropReason::BadSourceMac);
    }
    // guard: router-mac-spoof
    if source == generation.router_mac {
        return Err(DropReason::RouterMacSpoof);
    }
    Ok(())
}

/// Finds the outer tag: in the metadata, where TC sees it (and a NIC with `rxvlan` puts it), or in the
/// bytes, where XDP sees it.
#[inline(always)]
pub(super) fn outer_tag<F: Frame>(frame: &F) -> Result<Outer, DropReason> {
    // guard: ether-cut-short
    // off: let next = frame.read::<Be16>(12).map_or(0, Be16::get);
    let next = frame.read::<Be16>(12).ok_or(DropReason::Truncated)?.get();
    if let Some((tpid, tci)) = frame.offloaded_tag() {
        // guard: offloaded-service-tag
        if tpid != ether_type::VLAN {
            return Err(DropReason::DoubleTag);
        }
        return Ok(Outer {
            vlan_id: tci & 0xfff,
            ether_type: next,
            l3: 14,
        });
    }
    if next == ether_type::VLAN {
        // guard: tag-cut-short
        let tag = frame.read::<Tag>(14).ok_or(DropReason::Truncated)?;
        let vlan_id = tag.tci.get() & 0xfff;
        return Ok(Outer {
            vlan_id,
            ether_type: tag.ether_type.get(),
            l3: 18,
        });
    }
    // guard: service-tag
    if matches!(next, ether_type::QINQ | ether_type::QINQ_OLD) {
        return Err(DropReason::DoubleTag);
    }
    // guard: untagged
    // off: Ok(Outer { vlan_id: 1, ether_type: next, l3: 14 })
    Err(DropReason::Untagged)
}

#[inline(always)]
pub(super) fn is_tag(ether_type: u16) -> bool {
    matches!(
        ether_type,
        ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD
    )
}
