//! `docs/isolation.md` section 3: the shape of an IP packet.

use std::net::IpAddr;

use netmodel::model::SegmentId;

use crate::Reason;
use crate::link::{Link, Way, is_group_mac};
use crate::wire::{ipv4_at, ipv6_at, is_group, u8_at, u16_at, u32_at};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are refused: routing, AH, mobility, HIP, Shim6. (ESP is a transport here, as
/// in IPv4.)
const REFUSED_EXTENSIONS: [u8; 5] = [43, 51, 135, 139, 140];
const MAX_IPV4_OPTIONS: usize = 8;
const MAX_EXTENSIONS: usize = 6;

/// Which IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Which part of an IP packet this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fragment {
    /// Unfragmented (an IPv6 fragment header with offset 0 and no more fragments included).
    Whole,
    /// Offset 0, more fragments follow; `length` octets of the fragmentable part are in it.
    First {
        id: u32,
        protocol: u8,
        length: usize,
    },
    /// Offset > 0, in octets.
    Later {
        id: u32,
        protocol: u8,
        offset: usize,
    },
}

/// An IP packet of the right shape.
#[derive(Clone, Debug)]
pub(crate) struct Packet<'f> {
    pub(crate) segment: SegmentId,
    pub(crate) source_mac: [u8; 6],
    pub(crate) way: Way,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Octets, from the IP header on.
    pub(crate) length: usize,
    /// Has it IPv4 options or IPv6 extension headers?
    pub(crate) has_options: bool,
    /// Has it an IPv6 fragment header?
    pub(crate) has_fragment_header: bool,
    pub(crate) fragment: Fragment,
    /// The transport protocol; of a later IPv6 fragment, what its fragment header says.
    pub(crate) protocol: u8,
    /// From the transport header to the end of the packet; meaningless in a later fragment.
    pub(crate) transport: &'f [u8],
}

impl Packet<'_> {
    pub(crate) fn family(&self) -> Family {
        match self.source {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Is it the ICMP of its own family?
    pub(crate) fn is_icmp(&self) -> bool {
        self.protocol == icmp_of(self.family())
    }

    /// Source and destination port, if it is UDP.
    pub(crate) fn udp_ports(&self) -> Result<Option<(u16, u16)>, Reason> {
        if self.protocol != UDP {
            return Ok(None);
        }
        Ok(Some((
            u16_at(self.transport, 0)?,
            u16_at(self.transport, 2)?,
        )))
    }

    pub(crate) fn is_udp(&self, from: u16, to: u16) -> Result<bool, Reason> {
        Ok(self.udp_ports()? == Some((from, to)))
    }
}

/// Returns the protocol number of ICMP in a family.
pub(crate) fn icmp_of(family: Family) -> u8 {
    match family {
        Family::V4 => ICMP,
        Family::V6 => ICMPV6,
    }
}

/// Applies the rows of section 3 down to `truncated`.
pub(crate) fn check<'f>(link: &Link<'f>, family: Family) -> Result<Packet<'f>, Reason> {
    let packet = match family {
        Family::V4 => parse_ipv4(link)?,
        Family::V6 => parse_ipv6(link)?,
    };
    if is_group_mac(link.destination_mac) != is_group(packet.destination) {
        return Err(Reason::MacIpMismatch);
    }
    check_transport_fits(&packet)?;
    Ok(packet)
}

fn parse_ipv4<'f>(link: &Link<'f>) -> Result<Packet<'f>, Reason> {
    let bytes = link.bytes;
    let destination = ipv4_at(bytes, 16)?;
    let header_length = usize::from(bytes[0] & 0x0f) * 4;
    let length = usize::from(u16_at(bytes, 2)?);
    if bytes[0] >> 4 != 4 || header_length < 20 || length < header_length || length > bytes.len() {
        return Err(Reason::IpMalformed);
    }
    let source = IpAddr::V4(ipv4_at(bytes, 12)?);
    check_ipv4_options(&bytes[20..header_length])?;
    let protocol = bytes[9];
    Ok(Packet {
        segment: link.segment,
        source_mac: link.source_mac,
        way: link.way,
        source,
        destination: IpAddr::V4(destination),
        ttl: bytes[8],
        length,
        has_options: header_length > 20,
        has_fragment_header: false,
        fragment: ipv4_fragment(bytes, protocol, length - header_length)?,
        protocol,
        transport: &bytes[header_length..length],
    })
}

fn ipv4_fragment(bytes: &[u8], protocol: u8, length: usize) -> Result<Fragment, Reason> {
    let word = u16_at(bytes, 6)?;
    let (offset, more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
    let id = u32::from(u16_at(bytes, 4)?);
    Ok(match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First {
            id,
            protocol,
            length,
        },
        _ => Fragment::Later {
            id,
            protocol,
            offset,
        },
    })
}

/// No source route; at most eight options (each NOP is one), that fit.
///
/// End-of-list ends the walk; what is behind it is padding.
fn check_ipv4_options(mut options: &[u8]) -> Result<(), Reason> {
    const END_OF_LIST: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const SOURCE_ROUTES: [u8; 2] = [131, 137];
    let mut count = 0;
    while let Some(&kind) = options.first() {
        if kind == END_OF_LIST {
            break;
        }
        count += 1;
        if count > MAX_IPV4_OPTIONS || SOURCE_ROUTES.contains(&kind) {
            return Err(Reason::IpOptions);
        }
        let length = match (kind, options.get(1)) {
            (NO_OPERATION, _) => 1,
            (_, Some(&length)) if length >= 2 => usize::from(length),
            _ => return Err(Reason::IpOptions),
        };
        options = options.get(length..).ok_or(Reason::IpOptions)?;
    }
    Ok(())
}

fn parse_ipv6<'f>(link: &Link<'f>) -> Result<Packet<'f>, Reason> {
    let bytes = link.bytes;
    let destination = IpAddr::V6(ipv6_at(bytes, 24)?);
    let source = IpAddr::V6(ipv6_at(bytes, 8)?);
    let length = 40 + usize::from(u16_at(bytes, 4)?);
    if bytes[0] >> 4 != 6 || length > bytes.len() {
        return Err(Reason::IpMalformed);
    }
    let chain = walk_extensions(bytes[6], &bytes[40..length])?;
    Ok(Packet {
        segment: link.segment,
        source_mac: link.source_mac,
        way: link.way,
        source,
        destination,
        ttl: bytes[7],
        length,
        has_options: chain.transport.len() != length - 40,
        has_fragment_header: chain.has_fragment_header,
        fragment: chain.fragment,
        protocol: chain.protocol,
        transport: chain.transport,
    })
}

/// The end of a chain of extension headers.
struct Chain<'f> {
    protocol: u8,
    fragment: Fragment,
    has_fragment_header: bool,
    transport: &'f [u8],
}

/// Walks hop-by-hop, destination options and fragment headers to the transport header.
///
/// A later fragment ends the walk, whatever its fragment header says comes next.
fn walk_extensions(first: u8, payload: &[u8]) -> Result<Chain<'_>, Reason> {
    let mut chain = Chain {
        protocol: first,
        fragment: Fragment::Whole,
        has_fragment_header: false,
        transport: payload,
    };
    let mut count = 0;
    while [HOP_BY_HOP, DESTINATION_OPTIONS, FRAGMENT].contains(&chain.protocol) {
        count += 1;
        let repeated = chain.protocol == FRAGMENT && chain.has_fragment_header;
        let misplaced = chain.protocol == HOP_BY_HOP && count > 1;
        if count > MAX_EXTENSIONS || repeated || misplaced {
            return Err(Reason::IpOptions);
        }
        let cut_short = cut_short(&chain.fragment);
        chain = if chain.protocol == FRAGMENT {
            behind_fragment(chain)
        } else {
            behind(chain)
        }
        .map_err(|_| cut_short)?;
        if matches!(chain.fragment, Fragment::Later { .. }) {
            return Ok(chain);
        }
    }
    if REFUSED_EXTENSIONS.contains(&chain.protocol) {
        return Err(Reason::IpOptions);
    }
    Ok(chain)
}

/// The reason for a packet that ends inside of its headers.
fn cut_short(fragment: &Fragment) -> Reason {
    match fragment {
        Fragment::First { .. } => Reason::TinyFragment,
        Fragment::Later { .. } | Fragment::Whole => Reason::Truncated,
    }
}

/// Steps over a hop-by-hop or destination options header: next header, length in 8 octets - 1.
fn behind(chain: Chain<'_>) -> Result<Chain<'_>, Reason> {
    let length = (usize::from(u8_at(chain.transport, 1)?) + 1) * 8;
    let transport = chain.transport.get(length..).ok_or(Reason::Truncated)?;
    Ok(Chain {
        protocol: chain.transport[0],
        transport,
        ..chain
    })
}

/// Steps over a fragment header: next header, reserved, offset and flags, identification.
fn behind_fragment(chain: Chain<'_>) -> Result<Chain<'_>, Reason> {
    let id = u32_at(chain.transport, 4)?;
    let word = u16_at(chain.transport, 2)?;
    let protocol = chain.transport[0];
    let transport = &chain.transport[8..];
    let fragment = match (usize::from(word & 0xfff8), word & 1 == 1) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First {
            id,
            protocol,
            length: transport.len(),
        },
        (offset, _) => Fragment::Later {
            id,
            protocol,
            offset,
        },
    };
    Ok(Chain {
        protocol,
        fragment,
        has_fragment_header: true,
        transport,
    })
}

/// The whole transport header must be in sight.
fn check_transport_fits(packet: &Packet<'_>) -> Result<(), Reason> {
    let needed = match packet.protocol {
        TCP => 20,
        UDP | ICMP | ICMPV6 => 8,
        _ => 0,
    };
    match packet.fragment {
        Fragment::Later { .. } => Ok(()),
        _ if packet.transport.len() >= needed => Ok(()),
        ref cut @ (Fragment::First { .. } | Fragment::Whole) => Err(cut_short(cut)),
    }
}
