//! Frames of IPv6: what DHCPv6 and router advertisements travel in.
//!
//! ```text
//! | to 6 | from 6 | [0x8100 2 | tag 2] | 0x86dd 2 | IPv6 40 | UDP 8 | message |
//! | to 6 | from 6 | [0x8100 2 | tag 2] | 0x86dd 2 | IPv6 40 | ICMPv6 |
//! ```

use std::net::Ipv6Addr;

use netmodel::ids::{MacAddr, VlanId};

use crate::frame::{fold, start, sum};
use crate::six::{Advert, Reply6, SERVER_PORT};

pub(crate) const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HEADER: usize = 40;
/// Hop limit of answers.
const HOPS: u8 = 64;
/// Hop limit of everything of neighbour discovery: RFC 4861 says that it never was forwarded.
const NEVER_FORWARDED: u8 = 255;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER: u8 = 1;

/// A packet that came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packet6<'a> {
    /// A datagram to port 547.
    Message {
        /// The packet's source.
        from: Ipv6Addr,
        /// The packet's destination.
        to: Ipv6Addr,
        /// UDP payload.
        payload: &'a [u8],
    },
    /// A router solicitation.
    Solicitation {
        /// The packet's source.
        from: Ipv6Addr,
    },
}

/// Parses a packet; `None` is anything else, or one with a wrong length or checksum.
pub(crate) fn parse(packet: &[u8]) -> Option<Packet6<'_>> {
    let (header, rest) = packet.split_first_chunk::<HEADER>()?;
    let [first, _, _, _, l0, l1, next, hops, ..] = *header;
    if first >> 4 != 6 {
        return None;
    }
    let body = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
    let address = |at: usize| {
        let octets: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets))
    };
    let (from, to) = (address(8)?, address(24)?);
    let pseudo = pseudo_header((from, to), next, body.len());
    match next {
        UDP => {
            let payload = datagram(body, pseudo)?;
            Some(Packet6::Message { from, to, payload })
        }
        ICMPV6 => {
            let is_solicitation = hops == NEVER_FORWARDED && is_solicitation(body, from);
            let is_right = sum(pseudo, body) == 0xffff;
            (is_solicitation && is_right).then_some(Packet6::Solicitation { from })
        }
        _ => None,
    }
}

/// Returns the payload of a whole UDP datagram to port 547.
fn datagram(udp: &[u8], pseudo: u64) -> Option<&[u8]> {
    let (ports, payload) = udp.split_first_chunk::<8>()?;
    let [_, _, p0, p1, l0, l1, c0, c1] = *ports;
    let is_whole = usize::from(u16::from_be_bytes([l0, l1])) == udp.len();
    // Unlike IPv4, none is no checksum (RFC 8200 section 8.1). The sum of the pseudo header alone never was on a wire.
    let checksum = u16::from_be_bytes([c0, c1]);
    let is_right =
        checksum != 0 && (sum(pseudo, udp) == 0xffff || u64::from(checksum) == fold(pseudo));
    let is_server = u16::from_be_bytes([p0, p1]) == SERVER_PORT;
    (is_whole && is_right && is_server).then_some(payload)
}

/// RFC 4861 section 6.1.1.
fn is_solicitation(icmp: &[u8], from: Ipv6Addr) -> bool {
    let Some(([kind, code, ..], mut options)) = icmp.split_first_chunk::<8>() else {
        return false;
    };
    let mut has_source = false;
    while let [option, units, ..] = options {
        has_source |= *option == SOURCE_LINK_LAYER;
        match options.get(usize::from(*units) * 8..) {
            Some(rest) if *units > 0 => options = rest,
            _ => return false,
        }
    }
    let is_sender = from.is_unicast_link_local() || from.is_unspecified();
    *kind == ROUTER_SOLICITATION
        && *code == 0
        && options.is_empty()
        && is_sender
        && !(has_source && from.is_unspecified())
}

fn pseudo_header((from, to): (Ipv6Addr, Ipv6Addr), next: u8, length: usize) -> u64 {
    let addresses = [from.octets(), to.octets()].concat();
    sum(u64::from(next) + length as u64, &addresses)
}

/// The link-local address that the kernel makes of a hardware address (RFC 4291, appendix A), and the data
/// plane answers neighbours as.
pub(crate) fn link_local(MacAddr([a, b, c, d, e, f]): MacAddr) -> Ipv6Addr {
    let half = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let prefix = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    let mut octets = [0; 16];
    for (octet, part) in octets.iter_mut().zip(prefix.into_iter().chain(half)) {
        *octet = part;
    }
    octets.into()
}

/// Appends a packet; `body` has room for its checksum at `at`.
fn push(
    frame: &mut Vec<u8>,
    (from, to): (Ipv6Addr, Ipv6Addr),
    (next, hops): (u8, u8),
    (mut body, at): (Vec<u8>, usize),
) -> Option<()> {
    let length = u16::try_from(body.len()).ok()?;
    let pseudo = pseudo_header((from, to), next, body.len());
    let checksum = u16::try_from(0xffff - sum(pseudo, &body)).ok()?;
    // RFC 8200 section 8.1: zero is sent as all ones.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    body.get_mut(at..at + 2)?
        .copy_from_slice(&checksum.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([next, hops]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(body);
    Some(())
}

/// Returns the frame of an answer; `None` if it is longer than a packet can be, which none is.
#[must_use]
pub fn reply(reply: &Reply6, mac: MacAddr, tag: Option<VlanId>) -> Option<Vec<u8>> {
    let is_local = reply.to.is_unicast_link_local();
    let from = if is_local {
        link_local(mac)
    } else {
        reply.from
    };
    let length = u16::try_from(reply.payload.len() + 8).ok()?;
    let mut udp = Vec::with_capacity(usize::from(length));
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(reply.to_port.to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(&reply.payload);
    let mut frame = start(reply.to_mac, mac, tag, IPV6);
    push(&mut frame, (from, reply.to), (UDP, HOPS), (udp, 6))?;
    Some(frame)
}

/// Returns the frame of a router advertisement.
#[must_use]
pub fn advert(advert: &Advert, mac: MacAddr, tag: Option<VlanId>) -> Option<Vec<u8>> {
    let mut icmp = vec![ROUTER_ADVERTISEMENT, 0, 0, 0];
    icmp.extend(&advert.body);
    icmp.extend([SOURCE_LINK_LAYER, 1]);
    icmp.extend(mac.0);
    let mut frame = start(advert.to_mac, mac, tag, IPV6);
    let addresses = (link_local(mac), advert.to);
    push(&mut frame, addresses, (ICMPV6, NEVER_FORWARDED), (icmp, 2))?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use testkit::frame::{Frame as Builder, ParsedFrame};

    use super::*;
    use crate::counters::Reason;
    use crate::frame::{self, Frame};

    const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

    fn request() -> Builder {
        Builder::new(CLIENT, [0x33, 0x33, 0, 1, 0, 2])
            .ipv6(link_local(MacAddr(CLIENT)), SERVERS)
            .udp(546, 547)
            .payload(b"hello")
    }

    fn solicitation(from: Ipv6Addr) -> Builder {
        Builder::new(CLIENT, [0x33, 0x33, 0, 0, 0, 2])
            .ipv6(from, ROUTERS)
            .hop_limit(255)
            .icmp(ROUTER_SOLICITATION, 0, [0; 4])
    }

    fn packet(frame: &[u8]) -> Option<(Option<u16>, Packet6<'_>)> {
        match frame::parse(frame, None) {
            Ok(Frame::Six { vlan, packet, .. }) => Some((vlan, packet)),
            Ok(Frame::Message { .. } | Frame::Taken { .. }) | Err(_) => None,
        }
    }

    #[test]
    fn a_message_is_found_with_and_without_a_tag() {
        let wanted = Packet6::Message {
            from: link_local(MacAddr(CLIENT)),
            to: SERVERS,
            payload: b"hello",
        };
        assert_eq!(packet(&request().build()), Some((None, wanted)));
        let tagged = request().vlan(100).build();
        assert_eq!(packet(&tagged), Some((Some(100), wanted)));
    }

    #[test]
    fn a_packet_that_is_cut_off_or_wrong_is_refused() {
        let whole = request().build();
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap_or_default();
            assert_eq!(
                frame::parse(cut, None),
                Err((None, Reason::MalformedPacket))
            );
        }
        let wrong = [
            request().transport_checksum(7),
            request().transport_checksum(0),
            request().udp(546, 548),
            request().udp_length(9000),
            request().udp_length(12),
            request().version(4),
            request().protocol(6),
        ];
        for frame in wrong {
            assert_eq!(packet(&frame.build()), None);
        }
    }

    #[test]
    fn only_a_solicitation_of_this_link_is_one() {
        let from = link_local(MacAddr(CLIENT));
        let source = [1, 1, 2, 0, 0, 0, 0, 1];
        let right = |from| Some((None, Packet6::Solicitation { from }));
        let plain = solicitation(from).build();
        assert_eq!(packet(&plain), right(from));
        let with_source = solicitation(from).payload(&source).build();
        assert_eq!(packet(&with_source), right(from));
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(packet(&solicitation(nobody).build()), right(nobody));
        let wrong = [
            solicitation(from).hop_limit(254),
            solicitation(from).icmp(ROUTER_SOLICITATION, 1, [0; 4]),
            solicitation(from).icmp(ROUTER_ADVERTISEMENT, 0, [0; 4]),
            solicitation(from).transport_checksum(7),
            solicitation(from).payload(&[1, 0, 0, 0, 0, 0, 0, 0]),
            solicitation(from).payload(&[1, 2, 0, 0, 0, 0, 0, 0]),
            solicitation(from).payload(&[1]),
            solicitation(nobody).payload(&source),
            solicitation(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9)),
        ];
        for frame in wrong {
            assert_eq!(packet(&frame.build()), None);
        }
    }

    #[test]
    fn what_is_sent_has_its_tag_and_right_checksums_and_comes_from_the_link_where_it_must() {
        let router = MacAddr([2, 0, 0, 0, 0, 0xfe]);
        let (vlan, gateway) = (
            VlanId::new(100).unwrap(),
            Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1),
        );
        let to = |to| Reply6 {
            vlan,
            to_mac: MacAddr(CLIENT),
            from: gateway,
            to,
            to_port: 546,
            payload: vec![7; 301],
            is_binding: false,
        };
        let relay = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
        let local = link_local(MacAddr(CLIENT));
        for (to_address, from) in [(local, link_local(router)), (relay, gateway)] {
            let frame = reply(&to(to_address), router, Some(vlan)).unwrap();
            let parsed = ParsedFrame::parse(&frame).unwrap();
            assert_eq!((parsed.vlan(), parsed.checksums_ok), (Some(100), true));
            assert_eq!(frame.get(26..42), Some(&from.octets()[..]));
        }
        let sent = Advert {
            vlan,
            to_mac: MacAddr(CLIENT),
            to: local,
            body: vec![64, 0xc0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let frame = advert(&sent, router, None).unwrap();
        let parsed = ParsedFrame::parse(&frame).unwrap();
        assert_eq!((parsed.vlan(), parsed.checksums_ok), (None, true));
        assert_eq!(frame.get(21), Some(&255), "hop limit");
        assert!(
            frame.ends_with(&[1, 1, 2, 0, 0, 0, 0, 0xfe]),
            "the router's own address"
        );
    }
}
