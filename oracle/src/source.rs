//! `docs/isolation.md` section 4: the source address, its subnet and its binding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::{Fragment, Packet};
use crate::neighbour::{MLD_REPORTS, NEIGHBOUR_SOLICITATION, is_section_6};
use crate::wire::{is_link_local, u8_at};
use crate::{Reason, World, site};

/// Applies section 4: the family, then the numbered list.
pub(crate) fn check(world: &World<'_>, packet: &Packet<'_>) -> Result<(), Reason> {
    let segment = world.model.segment(packet.segment);
    if !site::has_family_of(segment, packet.source) && !is_section_6(packet) {
        return Err(Reason::SourceNotInSegment);
    }
    match packet.source {
        IpAddr::V4(source) if source.is_unspecified() => return check_unspecified_ipv4(packet),
        IpAddr::V4(source) => check_martian_ipv4(source)?,
        IpAddr::V6(source) if source.is_unspecified() => return check_unspecified_ipv6(packet),
        IpAddr::V6(source) => check_martian_ipv6(source)?,
    }
    if is_link_local(packet.source) {
        return check_link_local(world, packet);
    }
    check_address(world, packet)
}

/// IPv4 1: only as a DHCP client's broadcast.
fn check_unspecified_ipv4(packet: &Packet<'_>) -> Result<(), Reason> {
    let is_dhcp = packet.fragment == Fragment::Whole
        && packet.is_udp(68, 67)?
        && packet.destination == IpAddr::V4(Ipv4Addr::BROADCAST);
    if is_dhcp {
        Ok(())
    } else {
        Err(Reason::SourceNotInSegment)
    }
}

/// IPv4 2: 0/8, 127/8, 224/4, 240/4.
fn check_martian_ipv4(source: Ipv4Addr) -> Result<(), Reason> {
    match source.octets()[0] {
        0 | 127 | 224.. => Err(Reason::MartianSource),
        _ => Ok(()),
    }
}

/// IPv6 1: only for duplicate address detection or an MLD report.
fn check_unspecified_ipv6(packet: &Packet<'_>) -> Result<(), Reason> {
    let is_later = matches!(packet.fragment, Fragment::Later { .. });
    if packet.is_icmp() && !is_later {
        let kind = u8_at(packet.transport, 0)?;
        if kind == NEIGHBOUR_SOLICITATION || MLD_REPORTS.contains(&kind) {
            return Ok(());
        }
    }
    Err(Reason::SourceNotInSegment)
}

/// IPv6 2: `::1`, ff00::/8, `::ffff:0:0/96` and the rest of `::/8`.
fn check_martian_ipv6(source: Ipv6Addr) -> Result<(), Reason> {
    match source.octets()[0] {
        0 | 0xff => Err(Reason::MartianSource),
        _ => Ok(()),
    }
}

/// IPv6 3: link-local stays on the link, and the router's own is the router's.
fn check_link_local(world: &World<'_>, packet: &Packet<'_>) -> Result<(), Reason> {
    if packet.source == IpAddr::V6(world.router.link_local) {
        return Err(Reason::GatewayClaim);
    }
    if is_link_local(packet.destination) || packet.destination.is_multicast() {
        return Ok(());
    }
    Err(Reason::LinkLocalScope)
}

/// IPv4 3 to 5, IPv6 4: gateway, subnet, binding.
fn check_address(world: &World<'_>, packet: &Packet<'_>) -> Result<(), Reason> {
    let segment = world.model.segment(packet.segment);
    if site::is_gateway(segment, packet.source) {
        return Err(Reason::GatewayClaim);
    }
    let in_subnet = site::holds(segment, packet.source);
    if !in_subnet || site::is_network_or_broadcast(segment, packet.source) {
        return Err(Reason::SourceNotInSegment);
    }
    if !site::binding_permits(
        world.model,
        packet.segment,
        packet.source_mac,
        packet.source,
    ) {
        return Err(Reason::SpoofedSource);
    }
    Ok(())
}
