//! A small parser, to assert on what a test received.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{checksum, ether_type, protocol};

/// A received frame, taken apart as far as it is well formed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedFrame {
    /// Destination hardware address.
    pub destination: [u8; 6],
    /// Source hardware address.
    pub source: [u8; 6],
    /// (TPID, TCI), outermost first.
    pub tags: Vec<(u16, u16)>,
    /// EtherType behind the tags.
    pub ether_type: u16,
    /// Where the contents begin.
    pub packet_at: usize,
    /// Contents: ARP or RARP for IPv4 over Ethernet.
    pub arp: Option<ParsedArp>,
    /// Contents: IP.
    pub ip: Option<ParsedIp>,
    /// Whether every checksum that could be checked is right. A UDP checksum of zero over IPv4 is.
    pub checksums_ok: bool,
}

/// ARP or RARP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ParsedArp {
    /// 1 request, 2 reply, 3 and 4 their RARP twins.
    pub operation: u16,
    /// Sender hardware and protocol address.
    pub sender: ([u8; 6], Ipv4Addr),
    /// Target hardware and protocol address.
    pub target: ([u8; 6], Ipv4Addr),
}

/// An IP packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedIp {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Protocol behind the extension headers.
    pub protocol: u8,
    /// (offset in octets, more fragments), if the packet is a fragment.
    pub fragment: Option<(u16, bool)>,
    /// Length of the packet as its header says it, header included.
    pub packet_length: usize,
    /// TCP, UDP, ICMP or ICMPv6, if the packet is whole and holds it.
    pub transport: Option<ParsedTransport>,
}

/// The transport header and what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedTransport {
    /// Source port; the type of an ICMP message.
    pub source_port: u16,
    /// Destination port; the code of an ICMP message.
    pub destination_port: u16,
    /// TCP flags; 0 for others.
    pub tcp_flags: u8,
    /// Octets 4 to 7: TCP sequence number; identifier and sequence of an ICMP echo.
    pub word: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    take(bytes, at).map(u16::from_be_bytes)
}

impl ParsedFrame {
    /// Takes a frame apart; `None` if it is too short for Ethernet and the tags that it announces.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut tags = Vec::new();
        let mut at = 12;
        let mut kind = number(frame, at)?;
        while let ether_type::VLAN | ether_type::SERVICE_VLAN | ether_type::OLD_QINQ = kind {
            tags.push((kind, number(frame, at + 2)?));
            at += 4;
            kind = number(frame, at)?;
        }
        let packet_at = at + 2;
        let packet = &frame[packet_at..];
        let (ip, checksums_ok) = match kind {
            ether_type::IPV4 => parse_ipv4(packet).unzip(),
            ether_type::IPV6 => parse_ipv6(packet).unzip(),
            _ => (None, None),
        };
        Some(Self {
            destination: take(frame, 0)?,
            source: take(frame, 6)?,
            tags,
            ether_type: kind,
            packet_at,
            arp: matches!(kind, ether_type::ARP | ether_type::RARP)
                .then(|| parse_arp(packet))
                .flatten(),
            ip,
            checksums_ok: checksums_ok.unwrap_or(true),
        })
    }

    /// Returns the VLAN id of the outermost tag.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        self.tags.first().map(|(_, tci)| tci & 0xfff)
    }

    /// Returns the transport header, if there is one.
    #[must_use]
    pub fn transport(&self) -> Option<&ParsedTransport> {
        self.ip.as_ref()?.transport.as_ref()
    }

    /// Returns whether the frame is an ICMP or ICMPv6 message of this type.
    #[must_use]
    pub fn is_icmp(&self, kind: u8) -> bool {
        let Some(ip) = &self.ip else { return false };
        matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6)
            && ip
                .transport
                .as_ref()
                .is_some_and(|icmp| icmp.source_port == u16::from(kind))
    }
}

fn parse_arp(packet: &[u8]) -> Option<ParsedArp> {
    if take(packet, 0)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let side = |at| {
        Some((
            take::<6>(packet, at)?,
            Ipv4Addr::from(take::<4>(packet, at + 6)?),
        ))
    };
    Some(ParsedArp {
        operation: number(packet, 6)?,
        sender: side(8)?,
        target: side(18)?,
    })
}

/// Returns the packet and whether its checksums are right.
fn parse_ipv4(packet: &[u8]) -> Option<(ParsedIp, bool)> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let packet_length = usize::from(number(packet, 2)?);
    let place = number(packet, 6)?;
    let fragment = (place & 0x3fff != 0).then_some((place << 3, place & 0x2000 != 0));
    let mut ip = ParsedIp {
        source: Ipv4Addr::from(take::<4>(packet, 12)?).into(),
        destination: Ipv4Addr::from(take::<4>(packet, 16)?).into(),
        hop_limit: *packet.get(8)?,
        protocol: *packet.get(9)?,
        fragment,
        packet_length,
        transport: None,
    };
    let header_ok = checksum::plain(packet.get(..header)?) == 0;
    let segment = packet.get(header..packet_length)?;
    let segment_ok = ip.parse_segment(segment);
    Some((ip, header_ok && segment_ok))
}

/// Returns the packet and whether its checksums are right.
fn parse_ipv6(packet: &[u8]) -> Option<(ParsedIp, bool)> {
    let packet_length = 40 + usize::from(number(packet, 4)?);
    let mut next = *packet.get(6)?;
    let mut at = 40;
    let mut fragment = None;
    loop {
        match next {
            protocol::FRAGMENT => {
                let place = number(packet, at + 2)?;
                fragment = Some((place & !7, place & 1 != 0));
                next = packet[at];
                at += 8;
            }
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                next = *packet.get(at)?;
                at += 8 + 8 * usize::from(*packet.get(at + 1)?);
            }
            _ => break,
        }
    }
    let mut ip = ParsedIp {
        source: Ipv6Addr::from(take::<16>(packet, 8)?).into(),
        destination: Ipv6Addr::from(take::<16>(packet, 24)?).into(),
        hop_limit: *packet.get(7)?,
        protocol: next,
        fragment,
        packet_length,
        transport: None,
    };
    let segment_ok = ip.parse_segment(packet.get(at..packet_length)?);
    Some((ip, segment_ok))
}

impl ParsedIp {
    /// Fills in the transport; returns whether its checksum is right, as far as it can be told.
    fn parse_segment(&mut self, segment: &[u8]) -> bool {
        if self.fragment.is_some() {
            return true;
        }
        self.transport = match self.protocol {
            protocol::TCP => parse_tcp(segment),
            protocol::UDP => parse_ports(segment, 8, 0),
            protocol::ICMP | protocol::ICMPV6 => parse_icmp(segment),
            _ => None,
        };
        match self.protocol {
            protocol::ICMP => checksum::plain(segment) == 0,
            protocol::UDP if self.source.is_ipv4() && number(segment, 6) == Some(0) => true,
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => {
                checksum::transport(self.source, self.destination, self.protocol, segment) == 0
            }
            _ => true,
        }
    }
}

fn parse_tcp(segment: &[u8]) -> Option<ParsedTransport> {
    let header = usize::from(*segment.get(12)? >> 4) * 4;
    parse_ports(segment, header, *segment.get(13)?)
}

fn parse_ports(segment: &[u8], header: usize, tcp_flags: u8) -> Option<ParsedTransport> {
    Some(ParsedTransport {
        source_port: number(segment, 0)?,
        destination_port: number(segment, 2)?,
        tcp_flags,
        word: u32::from_be_bytes(take(segment, 4)?),
        payload: segment.get(header..)?.to_vec(),
    })
}

fn parse_icmp(segment: &[u8]) -> Option<ParsedTransport> {
    Some(ParsedTransport {
        source_port: u16::from(*segment.first()?),
        destination_port: u16::from(*segment.get(1)?),
        tcp_flags: 0,
        word: u32::from_be_bytes(take(segment, 4)?),
        payload: segment.get(8..)?.to_vec(),
    })
}
