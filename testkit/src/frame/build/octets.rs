//! Out of the parts, octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{checksum, ether_type, protocol};
use super::{Arp, Frame, Network, Transport};

impl Frame {
    /// Returns the frame, ready for a raw socket (without the frame check sequence).
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + self.payload.len());
        bytes.extend_from_slice(&self.destination);
        bytes.extend_from_slice(&self.source);
        for (tpid, tci) in &self.tags {
            bytes.extend_from_slice(&tpid.to_be_bytes());
            bytes.extend_from_slice(&tci.to_be_bytes());
        }
        bytes.extend_from_slice(&self.real_ether_type().to_be_bytes());
        bytes.extend_from_slice(&self.build_packet());
        bytes.resize(bytes.len() + self.padding, 0);
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }

    /// Returns what is inside of the Ethernet frame.
    #[must_use]
    pub fn build_packet(&self) -> Vec<u8> {
        match self.network {
            Network::None => self.payload.clone(),
            Network::Arp(arp) => [arp.octets().as_slice(), &self.payload].concat(),
            Network::V4(source, destination) => self.build_ipv4(source, destination),
            Network::V6(source, destination) => self.build_ipv6(source, destination),
        }
    }

    fn real_ether_type(&self) -> u16 {
        self.ether_type.unwrap_or(match self.network {
            Network::None => 0x88b5, // IEEE 802: local experimental
            Network::Arp(arp) => arp.ether_type,
            Network::V4(..) => ether_type::IPV4,
            Network::V6(..) => ether_type::IPV6,
        })
    }

    fn build_ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let segment = self.build_transport(source.into(), destination.into());
        let header_length = 20 + self.options.len();
        let words = self.header_words.unwrap_or(low_octet(header_length / 4));
        let length = self
            .total_length
            .unwrap_or(length_field(header_length + segment.len()));
        let mut packet = vec![self.version.unwrap_or(4) << 4 | words & 0xf, 0];
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&self.identification.to_be_bytes()[2..]);
        let (offset, more) = self.fragment.unwrap_or_default();
        packet.extend_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        packet.extend_from_slice(&[self.hop_limit, self.real_protocol(), 0, 0]);
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&destination.octets());
        packet.extend_from_slice(&self.options);
        let sum = self.network_checksum.unwrap_or(checksum::plain(&packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend_from_slice(&segment);
        packet
    }

    fn build_ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let (first, extensions) = self.build_extensions();
        let segment = self.build_transport(source.into(), destination.into());
        let length = self
            .total_length
            .unwrap_or(length_field(extensions.len() + segment.len()));
        let mut packet = vec![self.version.unwrap_or(6) << 4, 0, 0, 0];
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&[first, self.hop_limit]);
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&destination.octets());
        packet.extend_from_slice(&extensions);
        packet.extend_from_slice(&segment);
        packet
    }

    /// Returns the type of the first header behind the fixed one, and all extension headers.
    fn build_extensions(&self) -> (u8, Vec<u8>) {
        let mut chain = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let mut header = vec![0, 0];
            header.extend_from_slice(&(offset & !7 | u16::from(more)).to_be_bytes());
            header.extend_from_slice(&self.identification.to_be_bytes());
            chain.push((protocol::FRAGMENT, header));
        }
        let mut next = self.real_protocol();
        let mut octets = Vec::new();
        for (kind, mut header) in chain.into_iter().rev() {
            if let Some(first) = header.first_mut() {
                *first = next;
            }
            header.extend_from_slice(&octets);
            octets = header;
            next = kind;
        }
        (next, octets)
    }

    fn real_protocol(&self) -> u8 {
        self.protocol.unwrap_or(match self.transport {
            Transport::None if self.is_ipv6() => protocol::NO_NEXT,
            Transport::None => 253, // RFC 3692: for experiments
            Transport::Tcp { .. } => protocol::TCP,
            Transport::Udp { .. } => protocol::UDP,
            Transport::Icmp { .. } if self.is_ipv6() => protocol::ICMPV6,
            Transport::Icmp { .. } => protocol::ICMP,
        })
    }

    fn build_transport(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let (mut segment, checksum_at) = match &self.transport {
            Transport::None => return self.payload.clone(),
            Transport::Tcp {
                ports,
                sequence,
                acknowledgement,
                flags,
            } => {
                let mut header = ports_octets(*ports);
                header.extend_from_slice(&sequence.to_be_bytes());
                header.extend_from_slice(&acknowledgement.to_be_bytes());
                header.extend_from_slice(&[5 << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                (header, 16)
            }
            Transport::Udp { ports, length } => {
                let mut header = ports_octets(*ports);
                let length = length.unwrap_or(length_field(8 + self.payload.len()));
                header.extend_from_slice(&length.to_be_bytes());
                header.extend_from_slice(&[0, 0]);
                (header, 6)
            }
            Transport::Icmp { kind, code, rest } => {
                let mut header = vec![*kind, *code, 0, 0];
                header.extend_from_slice(rest);
                (header, 2)
            }
        };
        segment.extend_from_slice(&self.payload);
        let sum = self
            .transport_checksum
            .unwrap_or_else(|| self.checksum(source, destination, &segment));
        segment[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    fn checksum(&self, source: IpAddr, destination: IpAddr, segment: &[u8]) -> u16 {
        let number = match &self.transport {
            Transport::None => return 0,
            Transport::Icmp { .. } if !self.is_ipv6() => return checksum::plain(segment),
            Transport::Icmp { .. } => protocol::ICMPV6,
            Transport::Tcp { .. } => protocol::TCP,
            Transport::Udp { .. } => protocol::UDP,
        };
        match checksum::transport(source, destination, number, segment) {
            // RFC 768: "An all zero transmitted checksum value means that the transmitter
            // generated no checksum", so a computed zero goes out as ones.
            0 if number == protocol::UDP => 0xffff,
            sum => sum,
        }
    }
}

impl Arp {
    fn octets(self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(28);
        octets.extend_from_slice(&self.hardware.to_be_bytes());
        octets.extend_from_slice(&self.protocol.to_be_bytes());
        octets.extend_from_slice(&self.lengths);
        octets.extend_from_slice(&self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            octets.extend_from_slice(&mac);
            octets.extend_from_slice(&address.octets());
        }
        octets
    }
}

fn ports_octets([source, destination]: [u16; 2]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(20);
    octets.extend_from_slice(&source.to_be_bytes());
    octets.extend_from_slice(&destination.to_be_bytes());
    octets
}

/// A length as a 16-bit field; too long a packet says the most that the field can.
fn length_field(octets: usize) -> u16 {
    u16::try_from(octets).unwrap_or(u16::MAX)
}

pub(super) fn low_octet(number: usize) -> u8 {
    u8::try_from(number & 0xff).expect("masked to 8 bits")
}
