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
//! | 3 IP shape, fragments | [`ip`], [`fragment`] |
//! | 4 source and binding | [`source`] |
//! | 5 and 7 multicast, servers | [`ip`] |
//! | 6 neighbour discovery | [`nd`] |
//! | 8 connections | [`connection`] |
//! | 9 who may open a connection to whom | [`destination`] |
//!
//! *Fail closed*: whatever is missing, short or unknown is an `Err`. No check returns an action or
//! counts; the hook does both, once.
//!
//! # Cost
//!
//! A packet of a connection that both was judged under the current generation and comes from the same
//! VLAN and MAC costs one hash lookup ([`connection::established`]); the rest is `#[inline(never)]`
//! behind it.

mod arp;
mod connection;
mod destination;
mod fragment;
mod ip;
mod link;
mod nd;
mod source;
pub mod tables;

use crate::abi::{Generation, Mac, SegmentEntry};
use crate::reason::DropReason;
use crate::wire::{Wire, ether_type};

pub use self::ip::Packet;
pub use self::tables::Tables;

/// A frame, wherever it lies: in an XDP buffer, a socket buffer, or a slice.
pub trait Frame {
    /// Reads a header at an offset from the Ethernet header; `None` if the frame ends before.
    fn read<W: Wire>(&self, offset: usize) -> Option<W>;

    /// Returns the length in octets, without a tag that the kernel took out.
    fn length(&self) -> usize;

    /// Returns the outer tag (TPID, TCI) if it is in the metadata and not in the bytes.
    fn offloaded_tag(&self) -> Option<(u16, u16)>;

    /// Returns the largest IP packet that the frame becomes on the wire. It differs from `length` for a
    /// socket buffer that will be segmented (GSO); `headers` is the octets of IP and transport header.
    fn wire_length(&self, length: u16, headers: u16) -> u16;
}

/// What happens to an allowed frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The kernel's stack takes it.
    ToKernel,
    /// The program sends it back out of the trunk.
    Forward(Hop),
    /// The program answers as the gateway.
    Answer(Answer),
}

/// Where a forwarded frame goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hop {
    /// Destination MAC.
    pub mac: Mac,
    /// VLAN id of the destination segment.
    pub vlan_id: u16,
    /// IPv4 (TTL and checksum change) or IPv6 (hop limit)?
    pub ipv4: bool,
}

/// What the program answers with. The frame is turned around in place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// ARP reply for the gateway's address.
    Arp,
    /// Neighbour advertisement for the solicited target; `true` if there is an option to turn into a target
    /// link-layer address.
    Neighbour {
        /// The solicitation has exactly one option: its source's link-layer address.
        option: bool,
    },
    /// ICMP echo reply.
    Echo4,
    /// ICMPv6 echo reply.
    Echo6,
}

/// What was learned on the way to the verdict, for counters and events.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// VLAN id in the frame; 0 if it had no valid tag.
    pub vlan_id: u16,
    /// VLAN id of the destination's segment; 0 if unknown or outside.
    pub to_vlan_id: u16,
    /// Generation that judged.
    pub generation: u32,
    /// Rule that decided; 0 if none.
    pub rule_id: u32,
    /// The frame opened a connection.
    pub opened: bool,
    /// Offset of the IP or ARP header from the Ethernet header.
    pub l3: u16,
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
}

/// Decides on a frame that came in over the trunk.
///
/// # Errors
///
/// The reason to drop it: the first check of `docs/isolation.md` that failed.
#[inline(always)]
pub fn from_trunk<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    report: &mut Report,
) -> Result<Verdict, DropReason> {
    let generation = tables.generation().ok_or(DropReason::NoGeneration)?;
    report.generation = generation.number;
    let link = link::check(frame, tables, generation, report)?;
    let context = Context {
        tables,
        generation,
        segment: link.segment,
        vlan_id: report.vlan_id,
        source_mac: link.source_mac,
        to_group_mac: link.to_group_mac,
    };
    let packet = match link.ether_type {
        ether_type::IPV4 => ip::parse_ipv4(frame, &context, link.l3)?,
        ether_type::IPV6 => ip::parse_ipv6(frame, &context, link.l3)?,
        ether_type::ARP | ether_type::RARP => {
            return arp::check(frame, &context, link.l3, link.ether_type);
        }
        // guard: unknown-ether-type
        _ => return Err(DropReason::UnknownEtherType),
    };
    if let Some(to) = connection::established(&context, &packet, report) {
        return Ok(ip::next_hop(frame, &context, &packet, &to));
    }
    ip::judge(frame, &context, &packet, report)
}
