//! What the program changes in a frame that it forwards or answers.
//!
//! Each function reads what it needs, then writes; `None` means that the frame was too short or could
//! not be changed, and the hook drops it (`forward-failed`).

use crate::abi::{Address, Mac};
use crate::policy::{Frame, Hop, Verdict};
use crate::wire::{Arp, Be16, Be32, Ether, Ipv4, Transport, Wire, protocol};

/// TTL and hop limit of what the router sends itself.
const OWN_TTL: u8 = 64;

/// Offsets in the IPv6 header (RFC 8200 §3): what changes is written alone, since a header of 40 octets that is changed
/// on the stack takes too much of it.
const IPV6_HOP_LIMIT: usize = 7;
const IPV6_SOURCE: usize = 8;
const IPV6_DESTINATION: usize = 24;

/// A frame that can be changed.
pub trait FrameMut: Frame {
    /// Writes a header at an offset from the Ethernet header; `None` if the frame ends before.
    fn write<W: Wire>(&mut self, offset: usize, value: W) -> Option<()>;

    /// Sets the outer tag: VLAN id, priority 0. Invalidates no offset.
    fn set_vlan(&mut self, vlan_id: u16) -> Option<()>;
}

/// Turns a frame into one that the router forwards: TTL, MAC addresses, tag. It was sent to the router's MAC, which
/// becomes its source.
#[inline(always)]
pub fn forward<F: FrameMut>(frame: &mut F, hop: &Hop, l3: usize) -> Option<()> {
    if hop.ipv4 {
        let mut ip = frame.read::<Ipv4>(l3)?;
        ip.ttl = ip.ttl.wrapping_sub(1);
        // The TTL is the upper octet of its word.
        ip.checksum = Be16::new(updated(ip.checksum.get(), 0x0100, 0));
        frame.write(l3, ip)?;
    } else {
        let hop_limit = frame.read::<u8>(l3 + IPV6_HOP_LIMIT)?;
        frame.write(l3 + IPV6_HOP_LIMIT, hop_limit.wrapping_sub(1))?;
    }
    let router_mac = frame.read::<Mac>(0)?;
    frame.write(0, hop.mac)?;
    frame.write(6, router_mac)?;
    frame.set_vlan(hop.vlan_id)
}

/// Turns a request to the gateway into its answer.
#[inline(always)]
pub fn answer<F: FrameMut>(
    frame: &mut F,
    answer: Verdict,
    router_mac: Mac,
    l3: usize,
) -> Option<()> {
    match answer {
        Verdict::AnswerArp => answer_arp(frame, router_mac, l3)?,
        Verdict::AnswerNeighbour => answer_neighbour(frame, false, router_mac, l3)?,
        Verdict::AnswerNeighbourWithOption => answer_neighbour(frame, true, router_mac, l3)?,
        Verdict::AnswerEcho4 => answer_echo4(frame, l3)?,
        Verdict::AnswerEcho6 => answer_echo6(frame, l3)?,
        Verdict::ToKernel | Verdict::Forward => return None,
    }
    let ether = frame.read::<Ether>(0)?;
    frame.write(
        0,
        Ether {
            destination: ether.source,
            source: router_mac,
            ..ether
        },
    )
}

#[inline(always)]
fn answer_arp<F: FrameMut>(frame: &mut F, router_mac: Mac, l3: usize) -> Option<()> {
    let arp = frame.read::<Arp>(l3)?;
    let reply = Arp {
        operation: Be16::new(2),
        sender_mac: router_mac,
        sender: arp.target,
        target_mac: arp.sender_mac,
        target: arp.sender,
        ..arp
    };
    frame.write(l3, reply)
}

/// Neighbour advertisement, RFC 4861 §4.4: the solicitation's target becomes the source, and its one
/// option, if any, becomes the target's link-layer address.
#[inline(always)]
fn answer_neighbour<F: FrameMut>(
    frame: &mut F,
    option: bool,
    router_mac: Mac,
    l3: usize,
) -> Option<()> {
    /// Router, solicited, override.
    const FLAGS: u32 = 0xe000_0000;
    let l4 = l3 + 40;
    let asker = frame.read::<Address>(l3 + IPV6_SOURCE)?;
    let target = frame.read::<Address>(l4 + 8)?;
    let payload_length = frame.read::<Be16>(l3 + 4)?;
    let mut sum = sum_address(target) * 2 + sum_address(asker);
    sum += u32::from(payload_length.get()) + u32::from(protocol::ICMPV6);
    sum += 0x8800 + (FLAGS >> 16);
    if option {
        let [a, b, c] = router_mac.0.map(|word| u32::from(u16::from_be(word)));
        sum += 0x0201 + a + b + c;
        frame.write(l4 + 24, Be16::new(0x0201))?;
        frame.write(l4 + 26, router_mac)?;
    }
    frame.write(l3 + IPV6_HOP_LIMIT, 255_u8)?;
    frame.write(l3 + IPV6_SOURCE, target)?;
    frame.write(l3 + IPV6_DESTINATION, asker)?;
    frame.write(l4, Be16::new(0x8800))?;
    frame.write(l4 + 2, Be16::new(!fold(sum)))?;
    frame.write(l4 + 4, Be32::new(FLAGS))
}

#[inline(always)]
fn answer_echo4<F: FrameMut>(frame: &mut F, l3: usize) -> Option<()> {
    let ip = frame.read::<Ipv4>(l3)?;
    let old = u16::from_be_bytes([ip.ttl, ip.protocol]);
    let new = u16::from_be_bytes([OWN_TTL, ip.protocol]);
    let reply = Ipv4 {
        source: ip.destination,
        destination: ip.source,
        ttl: OWN_TTL,
        checksum: Be16::new(updated(ip.checksum.get(), old, new)),
        ..ip
    };
    frame.write(l3, reply)?;
    answer_echo(frame, l3 + 20, 0x0000)
}

#[inline(always)]
fn answer_echo6<F: FrameMut>(frame: &mut F, l3: usize) -> Option<()> {
    let asker = frame.read::<Address>(l3 + IPV6_SOURCE)?;
    let gateway = frame.read::<Address>(l3 + IPV6_DESTINATION)?;
    frame.write(l3 + IPV6_HOP_LIMIT, OWN_TTL)?;
    frame.write(l3 + IPV6_SOURCE, gateway)?;
    frame.write(l3 + IPV6_DESTINATION, asker)?;
    answer_echo(frame, l3 + 40, 0x8100)
}

/// Changes type and code, and the checksum with them. Swapping addresses leaves it as it is.
#[inline(always)]
fn answer_echo<F: FrameMut>(frame: &mut F, l4: usize, type_code: u16) -> Option<()> {
    let icmp = frame.read::<Transport>(l4)?;
    let checksum = updated(icmp.second.get(), icmp.first.get(), type_code);
    let reply = Transport {
        first: Be16::new(type_code),
        second: Be16::new(checksum),
        ..icmp
    };
    frame.write(l4, reply)
}

/// RFC 1624, equation 3: "HC' = ~(~HC + ~m + m')".
#[inline(always)]
fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

#[inline(always)]
fn sum_address(address: Address) -> u32 {
    let [a, b, c, d] = address.0.map(|word| {
        let word = u32::from_be(word);
        (word >> 16) + (word & 0xffff)
    });
    a + b + c + d
}

/// Folds a sum of 16-bit words into one (RFC 1071).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "folded twice, so it fits")]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
