//! Section 3 of `docs/isolation.md`: later fragments follow a judged first one.

use crate::abi::{FlowSide, FragmentEntry, FragmentKey};
use crate::policy::{Context, Packet, Report, Tables};
use crate::reason::DropReason;

/// How long later fragments may follow, seconds.
const TIMEOUT: u64 = 30;

#[inline(always)]
fn key<T: Tables>(context: &Context<'_, T>, packet: &Packet) -> FragmentKey {
    FragmentKey {
        vpc_id: context.segment.vpc_id,
        protocol: u32::from(packet.protocol),
        source: packet.source,
        destination: packet.destination,
        id: packet.fragment_id,
    }
}

/// Remembers what a first fragment was judged to be.
#[inline(never)]
pub(super) fn remember<T: Tables>(context: &Context<'_, T>, packet: &Packet, to: &FlowSide) {
    let ticks = TIMEOUT * u64::from(context.generation.ticks_per_second);
    let entry = FragmentEntry {
        expires: context.tables.now() + ticks,
        source: FlowSide {
            mac: context.source_mac,
            vlan_id: context.vlan_id,
            generation: context.generation.number,
            mtu: 0,
            flags: 0,
        },
        destination: *to,
        first_end: u32::from(packet.fragment_length),
        _pad: 0,
    };
    // If it cannot be stored, the later fragments are dropped.
    context
        .tables
        .insert_fragment(&key(context, packet), &entry);
}

/// Finds the first fragment that a later one follows, and where it went.
#[inline(never)]
pub(super) fn follow<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
    report: &mut Report,
) -> Result<FlowSide, DropReason> {
    let first = context
        .tables
        .fragment(&key(context, packet))
        .ok_or(DropReason::FragmentWithoutFirst)?;
    // guard: fragment-source
    if first.expires <= context.tables.now()
        || first.source.generation != context.generation.number
        || first.source.vlan_id != context.vlan_id
        || first.source.mac != context.source_mac
    {
        return Err(DropReason::FragmentWithoutFirst);
    }
    // guard: overlapping-fragment
    if u32::from(packet.fragment_offset) < first.first_end {
        return Err(DropReason::OverlappingFragment);
    }
    report.to_vlan_id = first.destination.vlan_id;
    Ok(first.destination)
}
