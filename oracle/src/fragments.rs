//! `docs/isolation.md` section 3, last two rows: later fragments follow a judged first one.

use std::net::IpAddr;

use netmodel::model::SegmentId;

use crate::ip::{Fragment, Packet};
use crate::link::Way;
use crate::{Reason, State, World};

/// How long later fragments may follow, in seconds from the first one.
const LIFETIME: u64 = 30;

/// What first and later fragments of one packet have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Key {
    segment: SegmentId,
    way: Way,
    source_mac: [u8; 6],
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
}

impl Key {
    fn of(packet: &Packet<'_>, id: u32, protocol: u8) -> Self {
        Self {
            segment: packet.segment,
            way: packet.way,
            source_mac: packet.source_mac,
            source: packet.source,
            destination: packet.destination,
            id,
            protocol,
        }
    }
}

/// A first fragment that was allowed.
#[derive(Clone, Debug)]
pub struct JudgedFirst {
    key: Key,
    generation: u32,
    /// Octets of the fragmentable part that it holds.
    length: usize,
    /// Second at which it is forgotten.
    pub(crate) deadline: u64,
}

/// Checks a later fragment. `true`: it follows a judged first one; `false`: it is none.
pub(crate) fn check(world: &World<'_>, state: &State, packet: &Packet<'_>) -> Result<bool, Reason> {
    let Fragment::Later {
        id,
        protocol,
        offset,
    } = packet.fragment
    else {
        return Ok(false);
    };
    let key = Key::of(packet, id, protocol);
    let first = state
        .fragments
        .iter()
        .find(|first| first.key == key && first.generation == world.generation)
        .ok_or(Reason::FragmentWithoutFirst)?;
    if offset < first.length {
        return Err(Reason::OverlappingFragment);
    }
    Ok(true)
}

/// Remembers a first fragment that was allowed; it replaces an earlier one of the same packet.
pub(crate) fn remember(world: &World<'_>, state: &mut State, packet: &Packet<'_>, now: u64) {
    let Fragment::First {
        id,
        protocol,
        length,
    } = packet.fragment
    else {
        return;
    };
    let key = Key::of(packet, id, protocol);
    state.fragments.retain(|first| first.key != key);
    let deadline = now + LIFETIME;
    state.fragments.push(JudgedFirst {
        key,
        generation: world.generation,
        length,
        deadline,
    });
}
