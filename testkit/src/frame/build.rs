//! The builder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{BROADCAST, ether_type, protocol};

mod octets;

/// An Ethernet frame in the making. Every method returns the frame, so that a test reads as one
/// sentence; what is not said is filled in by [`Frame::build`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Frame {
    source: [u8; 6],
    destination: [u8; 6],
    /// (TPID, TCI), outermost first.
    tags: Vec<(u16, u16)>,
    ether_type: Option<u16>,
    network: Network,
    version: Option<u8>,
    hop_limit: u8,
    identification: u32,
    options: Vec<u8>,
    /// (type, whole header with room for the next type in octet 0), outermost first.
    extensions: Vec<(u8, Vec<u8>)>,
    /// (offset in octets, more fragments).
    fragment: Option<(u16, bool)>,
    header_words: Option<u8>,
    total_length: Option<u16>,
    network_checksum: Option<u16>,
    protocol: Option<u8>,
    transport: Transport,
    transport_checksum: Option<u16>,
    payload: Vec<u8>,
    padding: usize,
    cut: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Network {
    None,
    Arp(Arp),
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// The 28 octets of ARP for IPv4 over Ethernet (RFC 826), and of RARP.
#[derive(Clone, Copy, Debug)]
struct Arp {
    ether_type: u16,
    hardware: u16,
    protocol: u16,
    lengths: [u8; 2],
    operation: u16,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
}

#[derive(Clone, Debug)]
enum Transport {
    None,
    Tcp {
        ports: [u16; 2],
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
    },
    Udp {
        ports: [u16; 2],
        length: Option<u16>,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
}

/// Addressing and link layer.
impl Frame {
    /// Starts an untagged frame without contents.
    pub fn new(source: [u8; 6], destination: [u8; 6]) -> Self {
        Self {
            source,
            destination,
            tags: Vec::new(),
            ether_type: None,
            network: Network::None,
            version: None,
            hop_limit: 64,
            identification: 1,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            header_words: None,
            total_length: None,
            network_checksum: None,
            protocol: None,
            transport: Transport::None,
            transport_checksum: None,
            payload: Vec::new(),
            padding: 0,
            cut: None,
        }
    }

    /// Starts a packet for [`Frame::build_packet`], where hardware addresses do not matter.
    pub fn packet() -> Self {
        Self::new([0; 6], [0; 6])
    }

    /// Replaces the source hardware address.
    pub fn source_mac(mut self, mac: [u8; 6]) -> Self {
        self.source = mac;
        self
    }

    /// Replaces the destination hardware address.
    pub fn destination_mac(mut self, mac: [u8; 6]) -> Self {
        self.destination = mac;
        self
    }

    /// Adds an 802.1Q tag inside of those already there.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(ether_type::VLAN, id)
    }

    /// Adds any tag inside of those already there. The TCI holds priority and VLAN id.
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }

    /// Removes all tags.
    pub fn untagged(mut self) -> Self {
        self.tags.clear();
        self
    }

    /// Says another EtherType than that of the contents.
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.ether_type = Some(ether_type);
        self
    }

    /// Adds zeroes behind the packet, which are not part of it.
    pub fn pad(mut self, octets: usize) -> Self {
        self.padding = octets;
        self
    }

    /// Ends the frame after so many octets.
    pub fn cut(mut self, octets: usize) -> Self {
        self.cut = Some(octets);
        self
    }
}

/// ARP and RARP.
impl Frame {
    /// Asks who has `target`, as the frame's source MAC and `sender`. Set the destination to
    /// [`BROADCAST`] yourself if it is not.
    pub fn arp_request(self, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        let mac = self.source;
        self.arp(1, (mac, sender), ([0; 6], target))
    }

    /// Tells the destination that `sender` is at the frame's source MAC.
    pub fn arp_reply(self, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        let (mac, to) = (self.source, self.destination);
        self.arp(2, (mac, sender), (to, target))
    }

    /// Announces an address to everyone (RFC 5227 section 1.1).
    pub fn gratuitous_arp(mut self, address: Ipv4Addr) -> Self {
        self.destination = BROADCAST;
        let mac = self.source;
        self.arp(1, (mac, address), ([0; 6], address))
    }

    /// ARP with every address chosen by the caller.
    pub fn arp(
        mut self,
        operation: u16,
        sender: ([u8; 6], Ipv4Addr),
        target: ([u8; 6], Ipv4Addr),
    ) -> Self {
        let (ether_type, hardware, protocol, lengths) =
            (ether_type::ARP, 1, ether_type::IPV4, [6, 4]);
        let arp = Arp {
            ether_type,
            hardware,
            protocol,
            lengths,
            operation,
            sender,
            target,
        };
        self.network = Network::Arp(arp);
        self
    }

    /// Makes the ARP a RARP (RFC 903: request 3, reply 4).
    pub fn rarp(mut self, operation: u16) -> Self {
        if let Network::Arp(arp) = &mut self.network {
            arp.ether_type = ether_type::RARP;
            arp.operation = operation;
        }
        self
    }

    /// Says another hardware type, protocol type and address lengths in the ARP.
    pub fn arp_format(mut self, hardware: u16, protocol: u16, lengths: [u8; 2]) -> Self {
        if let Network::Arp(arp) = &mut self.network {
            (arp.hardware, arp.protocol, arp.lengths) = (hardware, protocol, lengths);
        }
        self
    }
}

/// IPv4 and IPv6.
impl Frame {
    /// Contents: an IPv4 packet.
    pub fn ipv4(mut self, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        self.network = Network::V4(source, destination);
        self
    }

    /// Contents: an IPv6 packet.
    pub fn ipv6(mut self, source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        self.network = Network::V6(source, destination);
        self
    }

    /// Contents: an IP packet of the family of both addresses.
    ///
    /// # Panics
    ///
    /// If the families differ.
    pub fn ip(self, source: IpAddr, destination: IpAddr) -> Self {
        match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.ipv4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.ipv6(from, to),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("a packet has addresses of one family")
            }
        }
    }

    /// Says another version nibble than the family's.
    pub fn version(mut self, version: u8) -> Self {
        self.version = Some(version);
        self
    }

    /// TTL or hop limit; 64 if not said.
    pub fn hop_limit(mut self, hops: u8) -> Self {
        self.hop_limit = hops;
        self
    }

    /// Identification: of every IPv4 packet, and of an IPv6 fragment.
    pub fn identification(mut self, id: u32) -> Self {
        self.identification = id;
        self
    }

    /// IPv4 options; padded with zeroes (end of options) to a multiple of 4.
    pub fn ipv4_options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an IPv6 extension header of the usual shape; `contents` are what follows the two octets
    /// of type and length, and are padded with zeroes (Pad1) to a multiple of 8.
    pub fn extension(self, kind: u8, contents: &[u8]) -> Self {
        let mut header = vec![0, 0];
        header.extend_from_slice(contents);
        header.resize(header.len().next_multiple_of(8), 0);
        let units = match kind {
            protocol::AH => header.len() / 4 - 2, // RFC 4302 section 2.2
            _ => header.len() / 8 - 1,
        };
        header[1] = octets::low_octet(units);
        self.raw_extension(kind, &header)
    }

    /// Adds an IPv6 extension header as it stands; only its first octet, the type of what follows,
    /// is filled in.
    pub fn raw_extension(mut self, kind: u8, header: &[u8]) -> Self {
        self.extensions.push((kind, header.to_vec()));
        self
    }

    /// Makes the packet a fragment: IPv4 in its header, IPv6 by a fragment header behind the other
    /// extension headers. `offset` is in octets.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Says another IPv4 header length, in 32-bit words.
    pub fn header_words(mut self, words: u8) -> Self {
        self.header_words = Some(words);
        self
    }

    /// Says another IPv4 total length or IPv6 payload length.
    pub fn total_length(mut self, octets: u16) -> Self {
        self.total_length = Some(octets);
        self
    }

    /// Says another IPv4 header checksum than the right one.
    pub fn network_checksum(mut self, checksum: u16) -> Self {
        self.network_checksum = Some(checksum);
        self
    }

    /// Says another protocol than that of the contents.
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }
}

/// Transport and payload.
impl Frame {
    /// TCP without options.
    pub fn tcp(mut self, source_port: u16, destination_port: u16, flags: u8) -> Self {
        let ports = [source_port, destination_port];
        self.transport = Transport::Tcp {
            ports,
            sequence: 1,
            acknowledgement: 0,
            flags,
        };
        self
    }

    /// Sets TCP's sequence and acknowledgement numbers.
    pub fn sequence(mut self, number: u32, acknowledged: u32) -> Self {
        if let Transport::Tcp {
            sequence,
            acknowledgement,
            ..
        } = &mut self.transport
        {
            (*sequence, *acknowledgement) = (number, acknowledged);
        }
        self
    }

    /// UDP.
    pub fn udp(mut self, source_port: u16, destination_port: u16) -> Self {
        let ports = [source_port, destination_port];
        self.transport = Transport::Udp {
            ports,
            length: None,
        };
        self
    }

    /// Says another UDP length than the right one.
    pub fn udp_length(mut self, octets: u16) -> Self {
        if let Transport::Udp { length, .. } = &mut self.transport {
            *length = Some(octets);
        }
        self
    }

    /// ICMP in an IPv4 packet, ICMPv6 in an IPv6 packet; `rest` are octets 4 to 7.
    pub fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.transport = Transport::Icmp { kind, code, rest };
        self
    }

    /// Echo request of the packet's family.
    pub fn echo_request(self, id: u16, sequence: u16) -> Self {
        let kind = if self.is_ipv6() { 128 } else { 8 };
        self.echo(kind, id, sequence)
    }

    /// Echo reply of the packet's family.
    pub fn echo_reply(self, id: u16, sequence: u16) -> Self {
        let kind = if self.is_ipv6() { 129 } else { 0 };
        self.echo(kind, id, sequence)
    }

    fn echo(self, kind: u8, id: u16, sequence: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        self.icmp(kind, 0, [a, b, c, d])
    }

    /// Destination unreachable (port) about `packet`, as [`Frame::build_packet`] gives it.
    pub fn port_unreachable(self, packet: &[u8]) -> Self {
        let (kind, code) = if self.is_ipv6() { (1, 4) } else { (3, 3) };
        self.icmp(kind, code, [0; 4]).payload(packet)
    }

    /// Path MTU too small for `packet`.
    pub fn packet_too_big(self, mtu: u16, packet: &[u8]) -> Self {
        let [a, b] = mtu.to_be_bytes();
        let (kind, code) = if self.is_ipv6() { (2, 0) } else { (3, 4) };
        self.icmp(kind, code, [0, 0, a, b]).payload(packet)
    }

    /// What a DHCPv4 client broadcasts (RFC 2131 section 4.1), with a message of zeroes but for
    /// the fields that tell a request.
    pub fn dhcp_discover(mut self) -> Self {
        self.destination = BROADCAST;
        let mut message = vec![1, 1, 6, 0];
        message.resize(28, 0);
        message.extend_from_slice(&self.source);
        message.resize(236, 0);
        message.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 255]);
        self.ipv4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
            .udp(68, 67)
            .payload(&message)
    }

    /// Says another transport checksum than the right one.
    pub fn transport_checksum(mut self, checksum: u16) -> Self {
        self.transport_checksum = Some(checksum);
        self
    }

    /// What follows the headers; replaces what was there.
    pub fn payload(mut self, octets: &[u8]) -> Self {
        self.payload = octets.to_vec();
        self
    }

    /// Adds to what follows the headers.
    pub fn append(mut self, octets: &[u8]) -> Self {
        self.payload.extend_from_slice(octets);
        self
    }
}

impl Frame {
    pub(super) fn is_ipv6(&self) -> bool {
        matches!(self.network, Network::V6(..))
    }

    pub(super) fn source(&self) -> [u8; 6] {
        self.source
    }
}
