//! Frames: what a DHCP message travels in, both ways, and ARP for probes.
//!
//! ```text
//! | to 6 | from 6 | [0x8100 2 | tag 2] | 0x0800 2 | IPv4 20.. | UDP 8 | message |
//! ```

use std::net::Ipv4Addr;

use netmodel::ids::{MacAddr, VlanId};

use crate::counters::Reason;
use crate::engine::{ProbeRequest, Reply, SERVER_PORT};
use crate::frame6::{self, IPV6, Packet6};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const UDP: u8 = 17;
/// Time to live of answers.
const HOPS: u8 = 64;

/// A frame that came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frame<'a> {
    /// A datagram to port 67.
    Message {
        /// VLAN id of the tag; `None` is no tag.
        vlan: Option<u16>,
        /// The frame's source.
        source: MacAddr,
        /// The packet's destination.
        to: Ipv4Addr,
        /// UDP payload.
        payload: &'a [u8],
    },
    /// An answer to an ARP probe.
    Taken {
        /// VLAN id of the tag; `None` is no tag.
        vlan: Option<u16>,
        /// The address that is taken.
        address: Ipv4Addr,
        /// By whom.
        mac: MacAddr,
    },
    /// A packet of IPv6.
    Six {
        /// VLAN id of the tag; `None` is no tag.
        vlan: Option<u16>,
        /// The frame's source.
        source: MacAddr,
        /// What is in it.
        packet: Packet6<'a>,
    },
}

impl Frame<'_> {
    /// Returns the VLAN id of the tag.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        match self {
            Self::Message { vlan, .. } | Self::Taken { vlan, .. } | Self::Six { vlan, .. } => *vlan,
        }
    }
}

/// Parses a frame. `hidden` is the tag that the kernel took out of the bytes, with priority bits.
/// Also returns the VLAN id, as far as it got.
///
/// # Errors
///
/// Why it is neither a message to a server, nor an answer to a probe, nor a router solicitation.
pub fn parse(frame: &[u8], hidden: Option<u16>) -> Result<Frame<'_>, (Option<u16>, Reason)> {
    let (mut vlan, bad) = (hidden.map(|tag| tag & 0xfff), Reason::MalformedPacket);
    let (header, mut rest) = frame.split_first_chunk::<12>().ok_or((vlan, bad))?;
    let [_, _, _, _, _, _, source @ ..] = *header;
    let mut ether_type = take_u16(&mut rest).ok_or((vlan, bad))?;
    if ether_type == VLAN {
        if vlan.is_some() {
            return Err((vlan, Reason::DoubleTagged));
        }
        vlan = Some(take_u16(&mut rest).ok_or((None, bad))? & 0xfff);
        ether_type = take_u16(&mut rest).ok_or((vlan, bad))?;
    }
    match ether_type {
        IPV4 => match datagram(rest) {
            Some((to, payload)) => Ok(Frame::Message {
                vlan,
                source: MacAddr(source),
                to,
                payload,
            }),
            None => Err((vlan, bad)),
        },
        ARP => taken(rest, vlan).ok_or((vlan, bad)),
        IPV6 => match frame6::parse(rest) {
            Some(packet) => Ok(Frame::Six {
                vlan,
                source: MacAddr(source),
                packet,
            }),
            None => Err((vlan, bad)),
        },
        VLAN | SERVICE_VLAN => Err((vlan, Reason::DoubleTagged)),
        _ => Err((vlan, bad)),
    }
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (pair, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_be_bytes(*pair))
}

/// Returns destination and payload of a whole UDP datagram to port 67.
fn datagram(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let (header, _) = packet.split_first_chunk::<20>()?;
    let [first, _, l0, l1, _, _, f0, f1, _, protocol, ..] = *header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let header_length = usize::from(first & 15) * 4;
    let is_fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    if first >> 4 != 4 || is_fragment || protocol != UDP || header_length < 20 {
        return None;
    }
    // What follows is padding.
    let packet = packet.get(..length)?;
    let (header, udp) = packet.split_at_checked(header_length)?;
    if sum(0, header) != 0xffff {
        return None;
    }
    let (ports, _) = udp.split_first_chunk::<8>()?;
    let [_, _, p0, p1, l0, l1, c0, c1] = *ports;
    let udp = udp.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
    // A checksum of zero is none. A veth hands over packets whose checksum a device was to fill in
    // (CHECKSUM_PARTIAL): the sum of the pseudo header alone. It then never was on a wire.
    let checksum = u16::from_be_bytes([c0, c1]);
    let pseudo = pseudo_header(header.get(12..20)?, udp.len());
    let is_right =
        checksum == 0 || sum(pseudo, udp) == 0xffff || u64::from(checksum) == fold(pseudo);
    let is_server = u16::from_be_bytes([p0, p1]) == SERVER_PORT;
    let to: [u8; 4] = header.get(16..20)?.try_into().ok()?;
    let payload = udp.get(8..)?;
    (is_right && is_server).then_some((to.into(), payload))
}

fn pseudo_header(addresses: &[u8], length: usize) -> u64 {
    sum(u64::from(UDP) + length as u64, addresses)
}

/// Adds octets as big-endian words in one's complement.
pub(crate) fn sum(start: u64, octets: &[u8]) -> u64 {
    let words = octets.chunks(2).map(|pair| match pair {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        [high] => u64::from(*high) << 8,
        _ => 0,
    });
    fold(start + words.sum::<u64>())
}

pub(crate) fn fold(mut sum: u64) -> u64 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum
}

/// Reads an ARP reply to a probe: one whose target has no address (RFC 5227 section 2.1.1).
fn taken(packet: &[u8], vlan: Option<u16>) -> Option<Frame<'_>> {
    let (packet, _) = packet.split_first_chunk::<28>()?;
    let [
        0,
        1,
        8,
        0,
        6,
        4,
        0,
        2,
        m0,
        m1,
        m2,
        m3,
        m4,
        m5,
        a,
        b,
        c,
        d,
        ..,
    ] = *packet
    else {
        return None;
    };
    let is_probed = packet.ends_with(&[0; 4]);
    is_probed.then_some(Frame::Taken {
        vlan,
        address: Ipv4Addr::new(a, b, c, d),
        mac: MacAddr([m0, m1, m2, m3, m4, m5]),
    })
}

/// Starts a frame; `vlan` is the tag to write.
pub(crate) fn start(to: MacAddr, from: MacAddr, vlan: Option<VlanId>, ether_type: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(400);
    frame.extend(to.0);
    frame.extend(from.0);
    if let Some(vlan) = vlan {
        frame.extend(VLAN.to_be_bytes());
        frame.extend(vlan.as_u16().to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame
}

/// Returns the frame of an answer; `None` if it is longer than an IP packet can be, which none is.
#[must_use]
pub fn reply(reply: &Reply, from: MacAddr, tag: Option<VlanId>) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(reply.payload.len() + 8).ok()?;
    let length = udp_length.checked_add(20)?;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0, 0, HOPS, UDP, 0, 0]);
    header.extend(reply.from.octets());
    header.extend(reply.to.octets());
    put_checksum(&mut header, 10, 0)?;
    let mut udp = Vec::with_capacity(usize::from(udp_length));
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(reply.to_port.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(&reply.payload);
    let pseudo = pseudo_header(header.get(12..20)?, udp.len());
    put_checksum(&mut udp, 6, pseudo)?;
    let mut frame = start(reply.to_mac, from, tag, IPV4);
    frame.extend(header);
    frame.extend(udp);
    Some(frame)
}

fn put_checksum(octets: &mut [u8], at: usize, start: u64) -> Option<()> {
    let checksum = u16::try_from(0xffff - sum(start, octets)).ok()?;
    // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    octets
        .get_mut(at..at + 2)?
        .copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// Returns the frame of an ARP probe: a request whose sender has no address.
#[must_use]
pub fn probe(probe: ProbeRequest, from: MacAddr, tag: Option<VlanId>) -> Vec<u8> {
    let mut frame = start(MacAddr([0xff; 6]), from, tag, ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(from.0);
    frame.extend([0; 4]);
    frame.extend([0; 6]);
    frame.extend(probe.address.octets());
    // The shortest frame of Ethernet: some drivers do not pad.
    frame.resize(frame.len().max(60), 0);
    frame
}

#[cfg(test)]
mod tests {
    use testkit::frame::Frame as Builder;

    use super::*;

    const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn request() -> Builder {
        Builder::new(CLIENT, [0xff; 6]).dhcp_discover()
    }

    fn is_message(frame: &[u8], hidden: Option<u16>, wanted: Option<u16>) -> bool {
        matches!(parse(frame, hidden), Ok(Frame::Message { vlan, source, to, payload })
            if vlan == wanted && source.0 == CLIENT && to.is_broadcast() && payload.len() == 244)
    }

    #[test]
    fn the_tag_may_be_in_the_bytes_or_hidden() {
        assert!(is_message(&request().build(), None, None));
        assert!(is_message(&request().vlan(100).build(), None, Some(100)));
        assert!(
            is_message(&request().build(), Some(0xe064), Some(100)),
            "priority bits"
        );
        assert!(is_message(
            &request().tag(0x8100, 0xe064).build(),
            None,
            Some(100)
        ));
    }

    #[test]
    fn a_second_tag_is_refused_wherever_it_is() {
        let twice = request().vlan(100).vlan(101).build();
        assert_eq!(parse(&twice, None), Err((Some(100), Reason::DoubleTagged)));
        let once = request().vlan(101).build();
        assert_eq!(
            parse(&once, Some(100)),
            Err((Some(100), Reason::DoubleTagged))
        );
        let service = request().tag(0x88a8, 100).build();
        assert_eq!(parse(&service, None), Err((None, Reason::DoubleTagged)));
    }

    #[test]
    fn padding_is_not_payload() {
        let frame = [request().build(), vec![0; 30]].concat();
        assert!(is_message(&frame, None, None));
    }

    #[test]
    fn a_frame_that_is_cut_off_or_wrong_is_refused() {
        let whole = request().build();
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap_or_default();
            assert_eq!(
                parse(cut, None),
                Err((None, Reason::MalformedPacket)),
                "{length}"
            );
        }
        let wrong = [
            request().transport_checksum(7),
            request().network_checksum(7),
            request().fragment(0, true),
            request().fragment(8, false),
            request().udp_length(9000),
            request().total_length(20),
            request().header_words(4),
            request().version(6),
            request().protocol(6),
        ];
        for frame in wrong {
            let frame = frame.build();
            assert_eq!(parse(&frame, None), Err((None, Reason::MalformedPacket)));
        }
    }

    #[test]
    fn an_answer_to_a_probe_names_who_has_the_address() {
        let address = Ipv4Addr::new(10, 0, 0, 7);
        let reply = |target| {
            Builder::new(CLIENT, [2; 6])
                .vlan(100)
                .arp_reply(address, target)
                .build()
        };
        let taken = Frame::Taken {
            vlan: Some(100),
            address,
            mac: MacAddr(CLIENT),
        };
        assert_eq!(parse(&reply(Ipv4Addr::UNSPECIFIED), None), Ok(taken));
        let other = reply(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            parse(&other, None),
            Err((Some(100), Reason::MalformedPacket))
        );
    }

    #[test]
    fn what_is_sent_has_its_tag_and_right_checksums() {
        let vlan = VlanId::new(100);
        let sent = Reply {
            vlan: vlan.unwrap(),
            to_mac: MacAddr(CLIENT),
            from: Ipv4Addr::new(10, 0, 0, 1),
            to: Ipv4Addr::new(10, 0, 0, 7),
            to_port: 68,
            payload: vec![7; 301],
            is_binding: false,
        };
        for (tag, wanted) in [(vlan, Some(100)), (None, None)] {
            let frame = reply(&sent, MacAddr([2; 6]), tag).unwrap();
            let parsed = testkit::frame::ParsedFrame::parse(&frame).unwrap();
            assert_eq!((parsed.vlan(), parsed.checksums_ok), (wanted, true));
            assert_eq!((parsed.destination, parsed.source), (CLIENT, [2; 6]));
        }
    }
}
