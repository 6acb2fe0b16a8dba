//! The verdict on a frame.
//!
//! # What it guarantees
//!
//! The contract is `docs/isolation.md`; the modules follow its sections:
//!
//! | section | module |
//! |---|---|
//! | 1 link layer | [`link`] |
//! | 2 ARP and RARP | [`arp`] |
//! | 3 IP shape, options, fragments | [`packet`], [`options`], [`fragment`] |
//! | 4 source and binding | [`source`] |
//! | 5 and 7 multicast, servers | [`ip`], which leads an IP packet through all sections |
//! | 6 neighbour discovery | [`nd`] |
//! | 8 connections | [`connection`], [`related`]; the fast path: [`established`](mod@established) |
//! | 9 who may open a connection to whom | [`destination`] |
//! | what happens to what is allowed | [`next_hop`] |
//! | 10 a hypervisor's ports | [`port`] |
//! | 11 fairness | [`limit`], [`ticket`] |
//!
//! *Fail closed*: whatever is missing, short or unknown is an `Err`. No check returns an action or
//! counts; the hook does both, once.
//!
//! # Shape
//!
//! Functions that are not inlined return one integer (`Result<(), DropReason>` is one) and write the rest
//! through references: the verifier refuses a function that leaves a pointer to its stack in `r0`, as
//! those do whose value is returned in memory.
//!
//! # Cost
//!
//! A packet of a connection that both was judged under the current generation and comes from the same
//! VLAN and MAC costs one hash lookup ([`established()`]). Only what that does not know goes through
//! [`from_trunk`]; in the kernel it is a program of its own behind a tail call, so that the fast path
//! carries none of its weight (ADR 0002).

mod arp;
mod connection;
mod destination;
mod established;
mod fragment;
mod ip;
mod limit;
mod link;
mod nd;
mod next_hop;
mod options;
mod packet;
mod port;
mod related;
mod source;
pub mod tables;
mod ticket;

use crate::abi::{Generation, Mac, SegmentEntry};
use crate::reason::DropReason;
use crate::wire::{Wire, ether_type};

pub use self::connection::timeout as flow_timeout;
pub use self::established::established;
pub use self::packet::Packet;
pub use self::port::{
    Ports, from_peer, from_router, from_tenant, is_of_router, to_tenant, to_uplink,
};
pub use self::tables::{Scratch, Tables};

/// No header that is judged lies farther from the start of the frame: [`Frame::read`] refuses. It bounds
/// offsets for the verifier; the longest legal chain of headers that fits an Ethernet frame is shorter.
pub const MAX_OFFSET: usize = 0x7ff;

/// A frame, wherever it lies: in an XDP buffer, a socket buffer, or a slice.
pub trait Frame {
    /// Reads a header at an offset from the Ethernet header; `None` if the frame ends before, or the
    /// offset is above [`MAX_OFFSET`].
    fn read<W: Wire>(&self, offset: usize) -> Option<W>;

    /// Returns the length in octets, without a tag that the kernel took out.
    fn length(&self) -> usize;

    /// Returns the octets that go over a wire: more than `length` for a socket buffer that will be segmented, or was put
    /// together, since each segment has headers.
    #[inline(always)]
    fn octets(&self) -> usize {
        self.length()
    }

    /// Returns the same frame. In the kernel, where its outer tag was is forgotten with it by the verifier, which else
    /// would go through all that follows twice.
    fn again(&self) -> impl Frame;

    /// Returns the outer tag (TPID, TCI) if it is in the metadata and not in the bytes.
    fn offloaded_tag(&self) -> Option<(u16, u16)>;

    /// Returns the largest IP packet that the frame becomes on the wire. It differs from `length` for a
    /// socket buffer that will be segmented (GSO); `headers` is the octets of IP and transport header.
    fn wire_length(&self, length: u16, headers: u16) -> u16;
}

/// Hides from the compiler how an offset was computed, so that it compares and uses one and the same
/// register: the verifier must see the bound of [`Frame::read`] on the value that is used.
#[inline(always)]
fn opaque(offset: u16) -> usize {
    usize::from(core::hint::black_box(offset))
}

/// Reads an offset back from memory that the verifier does not follow: it forgets that the tag was in the bytes (18) or
/// was not (14), and goes through the rest of the program once, not once for each. The bound comes from [`Frame::read`].
#[inline(always)]
fn forgotten(offset: &u16) -> usize {
    opaque(*core::hint::black_box(offset))
}

/// Zero, hidden from the compiler: it gathers stores of many known zeros into a call of `memset`, and a call
/// costs as much as all else that the judge does between two lookups.
#[inline(always)]
fn zero<N: Default>() -> N {
    core::hint::black_box(N::default())
}

/// What happens to an allowed frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verdict {
    /// The kernel's stack takes it.
    #[default]
    ToKernel,
    /// The program sends it back out of the trunk, to [`Report::hop`].
    Forward,
    /// The program answers an ARP request for the gateway's address. The frame is turned around in place, as for
    /// all answers.
    AnswerArp,
    /// The program sends a neighbour advertisement for the solicited target.
    AnswerNeighbour,
    /// The same; the solicitation's one option, its source's link-layer address, becomes the target's.
    AnswerNeighbourWithOption,
    /// ICMP echo reply.
    AnswerEcho4,
    /// ICMPv6 echo reply.
    AnswerEcho6,
}

/// Where a forwarded frame goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Hop {
    /// Destination MAC.
    pub mac: Mac,
    /// VLAN id of the destination segment.
    pub vlan_id: u16,
    /// IPv4 (TTL and checksum change) or IPv6 (hop limit)?
    pub ipv4: bool,
}

/// The verdict on an allowed frame, and what was learned on the way to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Report {
    /// Generation that judged.
    pub generation: u32,
    /// Rule that decided; 0 if none, and for packets of connections that were judged before.
    pub rule_id: u32,
    /// VLAN id in the frame; 0 if it had no valid tag.
    pub vlan_id: u16,
    /// VLAN id of the destination's segment; 0 if unknown or outside.
    pub to_vlan_id: u16,
    /// Offset of the IP or ARP header from the Ethernet header.
    pub l3: u16,
    /// What happens to the frame if it is allowed.
    pub verdict: Verdict,
    /// The frame opened a connection.
    pub opened: bool,
    /// Where the frame goes, with [`Verdict::Forward`].
    pub hop: Hop,
    /// When it may go to a machine whose port has a bandwidth, in nanoseconds of `CLOCK_MONOTONIC`; 0: at once.
    pub departs: u64,
}

impl Report {
    /// Returns the report on a frame of which nothing is known.
    #[inline(always)]
    #[must_use]
    pub fn blank() -> Self {
        let (word, half) = (zero(), zero());
        Self {
            generation: word,
            rule_id: word,
            vlan_id: half,
            to_vlan_id: half,
            l3: half,
            verdict: Verdict::ToKernel,
            opened: false,
            hop: Hop {
                mac: Mac([half; 3]),
                vlan_id: half,
                ipv4: false,
            },
            departs: zero(),
        }
    }
}

/// What every check behind the link layer knows.
pub struct Context<'a, T: Tables> {
    /// The tables.
    pub tables: &'a T,
    /// The generation that judges.
    pub generation: &'a Generation,
    /// The segment the frame came from.
    pub segment: &'a SegmentEntry,
    /// Its VLAN id.
    pub vlan_id: u16,
    /// Source MAC.
    pub source_mac: Mac,
    /// Was the frame sent to a group MAC?
    pub to_group_mac: bool,
    /// Is this a port of a hypervisor, and not the router's trunk?
    pub at_port: bool,
    /// At a port: it stays in its segment. On the trunk nothing does.
    pub local: bool,
    /// At a port: the router sent it, out of this segment or of the internet.
    pub routed: bool,
}

impl<'a, T: Tables> Context<'a, T> {
    #[inline(always)]
    fn new(
        tables: &'a T,
        generation: &'a Generation,
        link: &link::Link<'a>,
        report: &Report,
    ) -> Self {
        Self {
            tables,
            generation,
            segment: link.segment,
            vlan_id: report.vlan_id,
            source_mac: link.source_mac,
            to_group_mac: link.to_group_mac,
            local: false,
            at_port: false,
            routed: false,
        }
    }
}

/// Decides on a frame that came in over the trunk. What was learned of it is left in [`Scratch::report`]; if it is
/// allowed, [`Report::verdict`] tells what happens to it.
///
/// # Errors
///
/// The reason to drop it: the first check of `docs/isolation.md` that failed.
#[inline(always)]
pub fn from_trunk<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.report = Report::blank();
    // guard: no-generation
    // off: let Some(generation) = tables.generation() else { return Ok(()) };
    let generation = tables.generation().ok_or(DropReason::NoGeneration)?;
    scratch.report.generation = generation.number;
    scratch.port = 0;
    let outer = link::outer_tag(frame)?;
    let frame = &frame.again();
    let link = link::check(frame, &outer, tables, generation, &mut scratch.report)?;
    let context = Context::new(tables, generation, &link, &scratch.report);
    match link.ether_type {
        ether_type::IPV4 => packet::parse_ipv4(frame, &context, link.l3, &mut scratch.packet)?,
        ether_type::IPV6 => packet::parse_ipv6(frame, &context, link.l3, &mut scratch.packet)?,
        ether_type::ARP | ether_type::RARP => {
            return arp::check(frame, &context, link.ether_type, scratch);
        }
        // guard: unknown-ether-type
        _ => return Err(DropReason::UnknownEtherType),
    }
    ip::judge(frame, &context, scratch)?;
    limit::check_bandwidth(&context, frame.octets(), scratch)
}
