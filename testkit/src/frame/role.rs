//! Who plays in a frame: addresses for documentation (RFC 5737, RFC 3849, RFC 7042), so that no test
//! can mean a real machine.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A machine on a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Role {
    /// Hardware address, wire order.
    pub mac: [u8; 6],
    /// VLAN id of its segment.
    pub vlan: u16,
    /// IPv4 address.
    pub ipv4: Ipv4Addr,
    /// IPv6 address.
    pub ipv6: Ipv6Addr,
}

/// The router's hardware address on every segment.
pub const ROUTER_MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x01];
/// The router's IPv4 address on tenant A's segment.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router's IPv6 address on tenant A's segment.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);

/// A well-behaved tenant.
pub const TENANT_A: Role = Role {
    mac: [0x00, 0x00, 0x5e, 0x00, 0x53, 0x0a],
    vlan: 100,
    ipv4: Ipv4Addr::new(192, 0, 2, 10),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10),
};
/// Another tenant, on another segment.
pub const TENANT_B: Role = Role {
    mac: [0x00, 0x00, 0x5e, 0x00, 0x53, 0x0b],
    vlan: 101,
    ipv4: Ipv4Addr::new(198, 51, 100, 10),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x10),
};
/// A machine on tenant A's segment that claims what is not its own.
pub const INTRUDER: Role = Role {
    mac: [0x00, 0x00, 0x5e, 0x00, 0x53, 0x66],
    vlan: 100,
    ipv4: Ipv4Addr::new(192, 0, 2, 66),
    ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x66),
};
/// A host on the internet.
pub const INTERNET_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// A host on the internet.
pub const INTERNET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x80);
