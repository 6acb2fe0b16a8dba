//! One fluent builder for every frame that a test needs, and a parser for what comes back.
//!
//! ```
//! use testkit::frame::{Frame, ParsedFrame, tcp_flag};
//! use testkit::frame::role::{GATEWAY_V4, TENANT_A, ROUTER_MAC};
//!
//! let bytes = Frame::new(TENANT_A.mac, ROUTER_MAC)
//!     .vlan(100)
//!     .ipv4(TENANT_A.ipv4, GATEWAY_V4)
//!     .tcp(40_000, 443, tcp_flag::SYN)
//!     .build();
//! assert!(ParsedFrame::parse(&bytes).unwrap().checksums_ok);
//! ```
//!
//! # Guarantees
//!
//! * A frame is well formed, with right lengths and checksums, unless a method that says otherwise
//!   was called ([`Frame::total_length`], [`Frame::network_checksum`], [`Frame::cut`], …).
//! * The builder never refuses: a test must be able to send what no stack would.

mod build;
mod checksum;
mod fragment;
mod icmpv6;
mod parse;
pub mod role;

pub use build::Frame;
pub use fragment::fragments;
pub use parse::{ParsedArp, ParsedFrame, ParsedIp, ParsedTransport};

/// EtherTypes, host byte order.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP.
    pub const RARP: u16 = 0x8035;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// The tag that some switches used before 802.1ad.
    pub const OLD_QINQ: u16 = 0x9100;
    /// Link layer discovery, which no tenant may send.
    pub const LLDP: u16 = 0x88cc;
}

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE, an example of a protocol without ports.
    pub const GRE: u8 = 47;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// TCP flags.
pub mod tcp_flag {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// SYN and ACK: the answer to a SYN.
    pub const SYN_ACK: u8 = SYN | ACK;
}

/// The Ethernet broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Returns the Ethernet address of an IPv4 multicast group (RFC 1112 section 6.4).
#[must_use]
pub fn multicast_mac_v4(group: std::net::Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = group.octets();
    [0x01, 0x00, 0x5e, b & 0x7f, c, d]
}

/// Returns the Ethernet address of an IPv6 multicast group (RFC 2464 section 7).
#[must_use]
pub fn multicast_mac_v6(group: std::net::Ipv6Addr) -> [u8; 6] {
    let o = group.octets();
    [0x33, 0x33, o[12], o[13], o[14], o[15]]
}

/// Returns the solicited-node group of an address (RFC 4291 section 2.7.1).
#[must_use]
pub fn solicited_node(address: std::net::Ipv6Addr) -> std::net::Ipv6Addr {
    let o = address.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&o[13..]);
    group.into()
}

/// Returns the link-local address that a hardware address makes (RFC 4291 appendix A).
#[must_use]
pub fn link_local(mac: [u8; 6]) -> std::net::Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    std::net::Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}
