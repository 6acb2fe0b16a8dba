//! Headers as they stand in a frame, and the numbers in them.
//!
//! Every struct is `repr(C)` and holds for any bytes, so it can be read at once; multi-octet numbers are
//! wrapped in [`Be16`] and [`Be32`] until asked for.

use core::mem::size_of;

use crate::abi::{Address, Mac};

/// A type that any run of bytes of its size is a valid value of.
///
/// # Safety
///
/// `repr(C)`, `Copy`, no padding, no invalid bit patterns.
pub unsafe trait Wire: Copy {}

/// A 16-bit number in network byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// Makes it of a number in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// Returns the number in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// A 32-bit number in network byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(transparent)]
pub struct Be32(u32);

impl Be32 {
    /// Makes it of a number in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number.to_be())
    }

    /// Returns the number in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }
}

/// EtherTypes and tag protocol identifiers.
pub mod ether_type {
    /// ARP, RFC 826.
    pub const ARP: u16 = 0x0806;
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// Pre-standard service tag.
    pub const QINQ_OLD: u16 = 0x9100;
    /// RARP, RFC 903.
    pub const RARP: u16 = 0x8035;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
}

/// IP protocol numbers.
pub mod protocol {
    /// Hop-by-hop options, RFC 8200 §4.3.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// Routing header, RFC 8200 §4.4.
    pub const ROUTING: u8 = 43;
    /// Fragment header, RFC 8200 §4.5.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header, RFC 4302.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Destination options, RFC 8200 §4.6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header, RFC 6275.
    pub const MOBILITY: u8 = 135;
    /// Host identity protocol, RFC 7401.
    pub const HIP: u8 = 139;
    /// Shim6, RFC 5533.
    pub const SHIM6: u8 = 140;
}

/// TCP flag bits.
pub mod tcp_flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// ICMP types, RFC 792.
pub mod icmp_type {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// ICMPv6 types, RFC 4443, 4861, 2710, 3810.
pub mod icmpv6_type {
    /// Destination unreachable, the first of the errors.
    pub const UNREACHABLE: u8 = 1;
    /// Parameter problem, the last of the errors.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query.
    pub const MLD_QUERY: u8 = 130;
    /// Multicast listener report.
    pub const MLD_REPORT: u8 = 131;
    /// Multicast listener done.
    pub const MLD_DONE: u8 = 132;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Version 2 multicast listener report.
    pub const MLD_REPORT_V2: u8 = 143;
}

/// UDP ports of DHCP.
pub mod dhcp_port {
    /// DHCPv4 server.
    pub const SERVER4: u16 = 67;
    /// DHCPv4 client.
    pub const CLIENT4: u16 = 68;
    /// DHCPv6 client.
    pub const CLIENT6: u16 = 546;
    /// DHCPv6 server.
    pub const SERVER6: u16 = 547;
}

/// Ethernet header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ether {
    /// Destination.
    pub destination: Mac,
    /// Source.
    pub source: Mac,
    /// EtherType or TPID.
    pub ether_type: Be16,
}

/// What follows a TPID: tag control information and the next EtherType.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tag {
    /// Priority (3 bits), drop eligible (1), VLAN id (12).
    pub tci: Be16,
    /// EtherType of what is behind the tag.
    pub ether_type: Be16,
}

/// IPv4 header without options.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv4 {
    /// Version (4 bits), header length in words (4).
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Octets of header and payload.
    pub total_length: Be16,
    /// Identification.
    pub id: Be16,
    /// Reserved, DF, MF, then the offset in units of 8 octets (13 bits).
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Be16,
    /// Source address, as it stands in memory.
    pub source: u32,
    /// Destination address, as it stands in memory.
    pub destination: u32,
}

/// IPv6 header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv6 {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version: Be32,
    /// Octets behind this header.
    pub payload_length: Be16,
    /// Protocol of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

/// Fragment header, RFC 8200 §4.5; the first two octets of every other extension header, too.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FragmentHeader {
    /// Protocol of what follows.
    pub next_header: u8,
    /// Reserved. Other headers: length in units of 8 octets, not counting the first 8.
    pub reserved: u8,
    /// Offset in units of 8 octets (13 bits), reserved (2), more fragments (1).
    pub offset_more: Be16,
    /// Identification.
    pub id: Be32,
}

/// The first octets of every transport header that is judged: 8 octets, enough for UDP and ICMP.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Transport {
    /// TCP, UDP: source port. ICMP: type, code.
    pub first: Be16,
    /// TCP, UDP: destination port. ICMP: checksum.
    pub second: Be16,
    /// ICMP echo: identifier. UDP: length.
    pub third: Be16,
    /// ICMP echo: sequence number. UDP: checksum.
    pub fourth: Be16,
}

/// ARP and RARP for IPv4 over Ethernet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Arp {
    /// Hardware type: 1.
    pub hardware: Be16,
    /// Protocol type: 0x0800.
    pub protocol: Be16,
    /// Hardware address length: 6.
    pub hardware_length: u8,
    /// Protocol address length: 4.
    pub protocol_length: u8,
    /// 1 request, 2 reply, 3 and 4 the same for RARP.
    pub operation: Be16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address: two halves, since it is aligned to 2 octets only.
    pub sender: [u16; 2],
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target: [u16; 2],
}

/// An option of neighbour discovery that holds a link-layer address, RFC 4861 §4.6.1.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NdLinkLayer {
    /// Type.
    pub kind: u8,
    /// Length in units of 8 octets.
    pub length: u8,
    /// Hardware address (if the type is 1 or 2).
    pub mac: Mac,
}

macro_rules! wire {
    ($($name:ty = $size:literal),* $(,)?) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size);
            // SAFETY: `repr(C)`, integers only, and the size shows that there is no padding.
            unsafe impl Wire for $name {}
        )*
    };
}

wire!(
    Ether = 14,
    Tag = 4,
    Ipv4 = 20,
    Ipv6 = 40,
    FragmentHeader = 8,
    Transport = 8,
    Arp = 28,
    NdLinkLayer = 8,
    Address = 16,
    Be16 = 2,
    Be32 = 4,
    Mac = 6,
    u8 = 1,
);
