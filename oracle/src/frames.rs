//! A small builder of frames, valid or not; the octets that tests and generators send.
//!
//! Transport checksums are left zero: nothing on the way verifies them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// TPID of 802.1Q.
pub const TPID: u16 = 0x8100;

/// EtherTypes.
pub mod ether {
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// RARP.
    pub const RARP: u16 = 0x8035;
}

/// Protocol numbers of IP.
pub mod protocol {
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP: a protocol without ports, as far as policy knows.
    pub const SCTP: u8 = 132;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

/// TCP flags.
pub mod flags {
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Open.
    pub const SYN: u8 = 0x02;
}

/// An Ethernet frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ether {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// Tags, outer first: (TPID, TCI).
    pub tags: Vec<(u16, u16)>,
    /// What `body` is.
    pub ether_type: u16,
    /// Everything behind the EtherType.
    pub body: Vec<u8>,
}

impl Ether {
    /// Returns the octets.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(22 + self.body.len());
        bytes.extend(self.destination);
        bytes.extend(self.source);
        for (tpid, tci) in &self.tags {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(self.ether_type.to_be_bytes());
        bytes.extend(&self.body);
        bytes
    }
}

/// An ARP or RARP message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arp {
    /// 1 request, 2 reply, 3 RARP request, 4 RARP reply.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: [u8; 6],
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: [u8; 6],
    /// Target protocol address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Returns the octets.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0x08, 0x00, 6, 4];
        bytes.extend(self.operation.to_be_bytes());
        bytes.extend(self.sender_mac);
        bytes.extend(self.sender.octets());
        bytes.extend(self.target_mac);
        bytes.extend(self.target.octets());
        bytes
    }
}

/// Which part of a packet a fragment is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// Identification (IPv4 takes the low 16 bits).
    pub id: u32,
    /// Offset in units of 8 octets.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// An IP packet; the addresses say which family (both must be of one).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ip {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Fragment; in IPv6 a fragment header behind `extensions`.
    pub part: Option<Part>,
    /// IPv4 options (padded with end-of-list).
    pub options: Vec<u8>,
    /// IPv6 extension headers: type, and octets whose first is overwritten with the next type.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Ip {
    /// An unfragmented packet without options, TTL 64.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            ttl: 64,
            part: None,
            options: Vec::new(),
            extensions: Vec::new(),
            protocol,
            payload,
        }
    }

    /// Returns the EtherType.
    #[must_use]
    pub fn ether_type(&self) -> u16 {
        if self.destination.is_ipv4() {
            ether::IPV4
        } else {
            ether::IPV6
        }
    }

    /// Returns the octets.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6_bytes(source, destination),
            (source, destination) => self.ipv4_bytes(v4(source), v4(destination)),
        }
    }

    fn ipv4_bytes(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let header_length = 20 + options.len();
        let part = self.part.unwrap_or(Part {
            id: 0x1234,
            offset: 0,
            more: false,
        });
        let word = (u16::from(part.more) << 13) | (part.offset & 0x1fff);
        let mut bytes = vec![0x40 | low_octet(header_length / 4), 0];
        bytes.extend(low_word(header_length + self.payload.len()).to_be_bytes());
        bytes.extend(low_word(part.id as usize).to_be_bytes());
        bytes.extend(word.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(options);
        let checksum = header_checksum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    fn ipv6_bytes(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut chain = self.extensions.clone();
        if let Some(part) = self.part {
            chain.push((protocol::FRAGMENT, fragment_header(part)));
        }
        let types: Vec<u8> = chain
            .iter()
            .map(|(kind, _)| *kind)
            .chain([self.protocol])
            .collect();
        for (index, (_, body)) in chain.iter_mut().enumerate() {
            if let Some(next) = body.first_mut() {
                *next = types[index + 1];
            }
        }
        let length: usize = chain.iter().map(|(_, body)| body.len()).sum();
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(low_word(length + self.payload.len()).to_be_bytes());
        bytes.extend([types[0], self.ttl]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        for (_, body) in chain {
            bytes.extend(body);
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// Returns the octets of an IPv6 fragment header; its next header is to be written.
#[must_use]
pub fn fragment_header(part: Part) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(((part.offset << 3) | u16::from(part.more)).to_be_bytes());
    body.extend(part.id.to_be_bytes());
    body
}

/// Returns a TCP header without data.
#[must_use]
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// Returns a UDP datagram.
#[must_use]
pub fn udp(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + data.len());
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend(low_word(8 + data.len()).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    bytes
}

/// Returns an ICMP or ICMPv6 message: type, code, the four octets behind the checksum, the rest.
#[must_use]
pub fn icmp(kind: u8, code: u8, word: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(word);
    bytes.extend(rest);
    bytes
}

/// Returns an echo message of either family.
#[must_use]
pub fn echo(kind: u8, identifier: u16) -> Vec<u8> {
    let [a, b] = identifier.to_be_bytes();
    icmp(kind, 0, [a, b, 0, 1], b"bulkhead")
}

/// Returns a neighbour solicitation or advertisement.
#[must_use]
pub fn neighbour(kind: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut rest = target.octets().to_vec();
    rest.extend(options);
    icmp(kind, 0, [0; 4], &rest)
}

/// Returns a neighbour discovery option that gives a link-layer address: 1 source, 2 target.
#[must_use]
pub fn link_layer_option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = vec![kind, 1];
    bytes.extend(mac);
    bytes
}

/// Returns the group MAC of a multicast or broadcast address; `None` for unicast.
#[must_use]
pub fn group_mac(address: IpAddr) -> Option<[u8; 6]> {
    match address {
        IpAddr::V4(a) if a.is_broadcast() => Some([0xff; 6]),
        IpAddr::V4(a) if a.is_multicast() => {
            let [_, b, c, d] = a.octets();
            Some([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(a) if a.is_multicast() => {
            let [.., c, d, e, f] = a.octets();
            Some([0x33, 0x33, c, d, e, f])
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// An IPv6 address where IPv4 is needed gives 0.0.0.0: such packets are malformed on purpose.
fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(a) => a,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn low_octet(number: usize) -> u8 {
    number.to_be_bytes()[size_of::<usize>() - 1]
}

fn low_word(number: usize) -> u16 {
    let bytes = number.to_be_bytes();
    u16::from_be_bytes([bytes[size_of::<usize>() - 2], bytes[size_of::<usize>() - 1]])
}

/// RFC 791's header checksum.
fn header_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !low_word(folded as usize)
}
