//! Reading octets: nothing here knows a protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Reason;

/// Returns `N` octets at `offset`, or [`Reason::Truncated`].
pub(crate) fn octets<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Reason> {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(Reason::Truncated)
}

/// Returns the octet at `offset`.
pub(crate) fn u8_at(bytes: &[u8], offset: usize) -> Result<u8, Reason> {
    octets::<1>(bytes, offset).map(|[octet]| octet)
}

/// Returns the big-endian number at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Reason> {
    octets::<2>(bytes, offset).map(u16::from_be_bytes)
}

/// Returns the big-endian number at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Reason> {
    octets::<4>(bytes, offset).map(u32::from_be_bytes)
}

/// Returns the IPv4 address at `offset`.
pub(crate) fn ipv4_at(bytes: &[u8], offset: usize) -> Result<Ipv4Addr, Reason> {
    octets::<4>(bytes, offset).map(Ipv4Addr::from)
}

/// Returns the IPv6 address at `offset`.
pub(crate) fn ipv6_at(bytes: &[u8], offset: usize) -> Result<Ipv6Addr, Reason> {
    octets::<16>(bytes, offset).map(Ipv6Addr::from)
}

/// Is the address in fe80::/10?
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80)
}

/// Is the address multicast, or 255.255.255.255?
///
/// A directed broadcast (the last address of a subnet) is unicast to this question.
pub(crate) fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}
