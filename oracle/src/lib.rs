//! What bulkhead enforces, evaluated naively: the oracle of the differential tests.
//!
//! This crate reads like `docs/isolation.md`: one module per section, in its order, with linear
//! scans over the checked model. It shares no code with the policy compiler or the packet path;
//! it depends on the model's types only.
//!
//! * [`from_trunk`] decides on a frame that arrives on the trunk;
//! * [`may_connect`] is section 9 alone: who may open a connection to whom;
//! * [`fixtures`] has a model to test with, [`generate`] makes models, frames and whole scenarios;
//! * [`differential`] compares an implementation with it.

#![forbid(unsafe_code)]

mod allowed;
mod arp;
mod build;
mod connections;
mod destinations;
pub mod differential;
pub mod fixtures;
mod fragments;
pub mod frames;
pub mod generate;
mod ip;
mod link;
mod neighbour;
mod policy;
pub mod port;
mod reason;
mod servers;
mod site;
mod source;
mod wire;
mod world;

pub use connections::{Connection, Phase, Side};
pub use fragments::JudgedFirst;
pub use policy::{Decision, Source, Tier, Why, may_connect};
pub use reason::Reason;
pub use world::{RouterFacts, State, World};

use ip::{Fragment, Packet};
use link::Payload;
use wire::is_group;

/// A frame as it arrives on the trunk.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'f> {
    /// The octets, from the destination MAC on, without frame check sequence.
    pub bytes: &'f [u8],
    /// The tag that the NIC took out of the octets: (TPID, TCI), host byte order.
    pub offloaded_tag: Option<(u16, u16)>,
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Allowed; the program itself answers as the gateway.
    Answered,
    /// Dropped.
    Drop(Reason),
    /// Allowed; the program sends it back out of the trunk.
    Forwarded {
        /// VLAN id of the new tag.
        vlan: u16,
        /// New destination MAC.
        dst_mac: [u8; 6],
    },
    /// Allowed; the kernel's network stack takes it.
    ToKernel,
}

impl Verdict {
    /// Is this anything but a drop?
    #[must_use]
    pub fn is_allow(self) -> bool {
        !matches!(self, Self::Drop(_))
    }

    /// Returns the name that `docs/isolation.md` gives it: the verdict's or the drop reason's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Drop(reason) => reason.name(),
            Self::Forwarded { .. } => "forwarded",
            Self::ToKernel => "to-kernel",
        }
    }
}

/// Decides on a frame that arrives on the trunk at `now` (seconds; must not go backwards).
pub fn from_trunk(world: &World<'_>, state: &mut State, frame: &Frame<'_>, now: u64) -> Verdict {
    state.forget_expired(now);
    judge(world, state, frame, now).unwrap_or_else(Verdict::Drop)
}

/// The sections of `docs/isolation.md` in their order.
fn judge(
    world: &World<'_>,
    state: &mut State,
    frame: &Frame<'_>,
    now: u64,
) -> Result<Verdict, Reason> {
    let link = link::check(world, frame)?; // section 1
    let family = match link.payload {
        Payload::Arp | Payload::Rarp => return arp::check(world, &link), // section 2
        Payload::Ipv4 => ip::Family::V4,
        Payload::Ipv6 => ip::Family::V6,
    };
    let packet = ip::check(&link, family)?; // section 3, shape
    judge_packet(world, state, &packet, now)
}

/// Section 3's later fragments, and sections 4 to 9.
fn judge_packet(
    world: &World<'_>,
    state: &mut State,
    packet: &Packet<'_>,
    now: u64,
) -> Result<Verdict, Reason> {
    let after_first = fragments::check(world, state, packet)?;
    source::check(world, packet)?; // section 4
    let verdict = match (&packet.fragment, after_first) {
        (Fragment::Later { .. }, true) => allowed::send(world, packet),
        _ => judge_transport(world, state, packet, now)?,
    };
    fragments::remember(world, state, packet, now);
    Ok(verdict)
}

/// Sections 5 to 9, for packets whose transport header is in sight.
fn judge_transport(
    world: &World<'_>,
    state: &mut State,
    packet: &Packet<'_>,
    now: u64,
) -> Result<Verdict, Reason> {
    if neighbour::is_section_6(packet) {
        return neighbour::check(world, packet); // section 6, before section 5
    }
    if is_group(packet.destination) {
        return destinations::check(world, packet); // section 5
    }
    servers::check(packet)?; // section 7
    connections::check(world, state, packet, now)?; // section 8, and 9 from there
    Ok(allowed::send(world, packet))
}
