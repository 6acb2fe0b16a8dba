//! The frames that are judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_common::wire::tcp_flags::{ACK, SYN};
use testkit::frame::Frame;

use crate::site::{self, FIRST_PORT, IOT, MANAGEMENT};

/// The router's hardware address on the trunk.
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// Octets of a state for the benchmark, behind the TCP header.
const STATE: [u8; 16] = [0; 16];

/// A TCP segment to be judged.
#[derive(Clone, Debug)]
pub struct Probe {
    /// From the Ethernet header on, with the tag.
    pub bytes: Vec<u8>,
    /// Offset of the TCP header.
    pub ports: i16,
}

impl Probe {
    fn new(vlan_id: u16, source: IpAddr, destination: IpAddr, port: u16, flags: u8) -> Self {
        let bytes = Frame::new(site::mac(vlan_id), ROUTER)
            .vlan(vlan_id)
            .ip(source, destination)
            .tcp(40_000, port, flags)
            .payload(&STATE)
            .build();
        let ports = if source.is_ipv4() { 38 } else { 58 };
        Self { bytes, ports }
    }

    /// Offset of the benchmark's state: behind the TCP header.
    #[must_use]
    pub fn state(&self) -> i16 {
        self.ports + 20
    }

    /// The segment as a SYN, if `syn`, or of an established connection.
    fn flags(syn: bool) -> u8 {
        if syn { SYN } else { ACK }
    }

    /// From `management` to the tenant: its operators may open every port. It is forwarded.
    #[must_use]
    pub fn operated(tenant: u16, is_ipv4: bool, syn: bool) -> Self {
        let source = site::host(MANAGEMENT, is_ipv4);
        let destination = site::host(tenant, is_ipv4);
        Self::new(MANAGEMENT, source, destination, 443, Self::flags(syn))
    }

    /// From the tenant to the internet: to the kernel.
    #[must_use]
    pub fn internet(tenant: u16, is_ipv4: bool, syn: bool) -> Self {
        let destination = if is_ipv4 {
            Ipv4Addr::new(8, 8, 8, 8).into()
        } else {
            Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into()
        };
        let source = site::host(tenant, is_ipv4);
        Self::new(tenant, source, destination, 443, Self::flags(syn))
    }

    /// A SYN from `iot` to the first port that a rule of the tenant's opens: the longest way to an allow.
    #[must_use]
    pub fn requested(tenant: u16, is_ipv4: bool) -> Self {
        let destination = site::host(tenant, is_ipv4);
        Self::new(IOT, site::host(IOT, is_ipv4), destination, FIRST_PORT, SYN)
    }

    /// A SYN from the tenant to `iot`, which nobody allows it.
    #[must_use]
    pub fn denied(tenant: u16, is_ipv4: bool) -> Self {
        let destination = site::host(IOT, is_ipv4);
        Self::new(tenant, site::host(tenant, is_ipv4), destination, 443, SYN)
    }

    /// A SYN from the tenant's host under another address of its subnet.
    #[must_use]
    pub fn spoofed(tenant: u16, is_ipv4: bool) -> Self {
        let source = if is_ipv4 {
            site::ipv4(tenant, 77).into()
        } else {
            site::ipv6(tenant, 77).into()
        };
        Self::new(tenant, source, site::host(MANAGEMENT, is_ipv4), 443, SYN)
    }
}
