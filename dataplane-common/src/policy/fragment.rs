//! Section 3 of `docs/isolation.md`: later fragments follow a judged first one.

use crate::abi::{FlowSide, FragmentEntry, FragmentKey, LINK_PLANS, limit_kind};
use crate::policy::connection::plan_of;
use crate::policy::tables::Scratch;
use crate::policy::{Context, Packet, Tables, limit};
use crate::reason::DropReason;

/// How long later fragments may follow, seconds.
const TIMEOUT: u64 = 30;
/// Of the address plan in a key, at a port: the fragment came back from the router. On a host with both ends, a fragment
/// passes twice, and the two entries must not meet.
const FROM_ROUTER: u32 = LINK_PLANS << 1;
/// Of the address plan in a key, at a port: it stays in its segment. Fragments do not change their way.
const LOCAL: u32 = LINK_PLANS << 2;

#[inline(always)]
fn key<T: Tables>(context: &Context<'_, T>, packet: &Packet) -> FragmentKey {
    FragmentKey {
        vpc_id: plan_of(context, packet.source, packet.ipv4)
            | if context.routed { FROM_ROUTER } else { 0 }
            | if context.local { LOCAL } else { 0 },
        protocol: u32::from(packet.protocol),
        source: packet.source,
        destination: packet.destination,
        id: packet.fragment_id,
    }
}

/// Remembers what a first fragment was judged to be. If the table refuses it, the later fragments are dropped.
#[inline(never)]
pub(super) fn remember<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    // guard: fragment-rate
    limit::check(context, limit_kind::FRAGMENT, scratch)?;
    let ticks = TIMEOUT * u64::from(context.generation.ticks_per_second);
    scratch.fragment_key = key(context, &scratch.packet);
    scratch.fragment = FragmentEntry {
        expires: context.tables.now() + ticks,
        source: FlowSide {
            mac: context.source_mac,
            vlan_id: context.vlan_id,
            generation: context.generation.number,
            ..FlowSide::default()
        },
        destination: scratch.to,
        first_end: u32::from(scratch.packet.fragment_length),
        _pad: 0,
    };
    let (key, entry) = (&scratch.fragment_key, &scratch.fragment);
    context.tables.insert_fragment(key, entry);
    Ok(())
}

/// Finds the first fragment that a later one follows. Where it went is left in [`Scratch::to`].
#[inline(never)]
pub(super) fn follow<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.fragment_key = key(context, &scratch.packet);
    // guard: fragment-first
    // off: let Some(first) = context.tables.fragment(&scratch.fragment_key) else { return Ok(()) };
    let first = context
        .tables
        .fragment(&scratch.fragment_key)
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
    if u32::from(scratch.packet.fragment_offset) < first.first_end {
        return Err(DropReason::OverlappingFragment);
    }
    scratch.report.to_vlan_id = first.destination.vlan_id;
    scratch.to = first.destination;
    Ok(())
}
