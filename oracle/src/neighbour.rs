//! `docs/isolation.md` section 6: ICMPv6 neighbour discovery and MLD.
//!
//! Checks come in this order: fragment, hop limit, code; messages refused by their type;
//! destination; length and options; then the row of the message.

use std::net::{IpAddr, Ipv6Addr};

use crate::ip::{Family, Fragment, Packet};
use crate::source::is_link_scope_multicast;
use crate::wire::{ipv6_at, is_link_local, u8_at};
use crate::{Reason, Verdict, World, site};

pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(crate) const MLD_REPORTS: [u8; 3] = [131, 132, 143];

const MLD_QUERY: u8 = 130;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const MAX_OPTIONS: usize = 4;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Is this a message of section 6?
pub(crate) fn is_section_6(packet: &Packet<'_>) -> bool {
    !matches!(packet.fragment, Fragment::Later { .. })
        && packet.family() == Family::V6
        && packet.is_icmp()
        && matches!(packet.transport.first(), Some(130..=137 | 143))
}

/// Is this a message of section 6, or a later fragment that section 3 will refuse?
pub(crate) fn may_be_section_6(packet: &Packet<'_>) -> bool {
    matches!(packet.fragment, Fragment::Later { .. }) || is_section_6(packet)
}

/// Decides on a message of section 6.
pub(crate) fn check(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let kind = u8_at(packet.transport, 0)?;
    check_header(packet, kind)?;
    match kind {
        ROUTER_ADVERTISEMENT | MLD_QUERY => return Err(Reason::RouterAdvertisement),
        REDIRECT => return Err(Reason::IcmpRedirect),
        _ => {}
    }
    check_destination(world, packet)?;
    match kind {
        ROUTER_SOLICITATION => router_solicitation(world, packet),
        NEIGHBOUR_SOLICITATION => neighbour_solicitation(world, packet),
        NEIGHBOUR_ADVERTISEMENT => neighbour_advertisement(world, packet),
        _ => mld_report(packet),
    }
}

/// No fragment (not even a whole one with a fragment header), hop limit, code.
fn check_header(packet: &Packet<'_>, kind: u8) -> Result<(), Reason> {
    let needs_255 = (ROUTER_SOLICITATION..=REDIRECT).contains(&kind);
    let code = u8_at(packet.transport, 1)?;
    if packet.has_fragment_header || (needs_255 && packet.ttl != 255) || code != 0 {
        return Err(Reason::NdMalformed);
    }
    Ok(())
}

/// "Destinations of the above".
fn check_destination(world: &World<'_>, packet: &Packet<'_>) -> Result<(), Reason> {
    let segment = world.model.segment(packet.segment);
    let d = packet.destination;
    if is_link_local(d) || is_link_scope_multicast(d) || site::is_gateway(segment, d) {
        return Ok(());
    }
    Err(Reason::NdMalformed)
}

/// The link-layer addresses that options of one kind give.
///
/// At most four options, each of length ≥ 1 (8 octets) that fits; a link-layer address has length 1.
fn link_layer_options(mut options: &[u8], wanted: u8) -> Result<Vec<[u8; 6]>, Reason> {
    let mut found = Vec::new();
    let mut count = 0;
    while !options.is_empty() {
        count += 1;
        let (&kind, &units) = options
            .first()
            .zip(options.get(1))
            .ok_or(Reason::NdMalformed)?;
        let length = usize::from(units) * 8;
        if count > MAX_OPTIONS || length == 0 || length > options.len() {
            return Err(Reason::NdMalformed);
        }
        if kind == wanted {
            let address = options[2..length]
                .try_into()
                .map_err(|_| Reason::NdMalformed)?;
            found.push(address);
        }
        options = &options[length..];
    }
    Ok(found)
}

/// Every such option says the source MAC.
fn check_link_layer(packet: &Packet<'_>, addresses: &[[u8; 6]]) -> Result<(), Reason> {
    if addresses
        .iter()
        .all(|address| *address == packet.source_mac)
    {
        return Ok(());
    }
    Err(Reason::NdMismatch)
}

/// Row 133.
fn router_solicitation(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let addresses = link_layer_options(&packet.transport[8..], SOURCE_LINK_LAYER)?;
    check_link_layer(packet, &addresses)?;
    let segment = world.model.segment(packet.segment);
    let to_router = packet.destination == IpAddr::V6(ALL_ROUTERS)
        || site::is_own_gateway(&world.router, segment, packet.destination);
    if to_router {
        Ok(Verdict::ToKernel)
    } else {
        Err(Reason::NdMalformed)
    }
}

/// Row 135.
fn neighbour_solicitation(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let target = IpAddr::V6(ipv6_at(packet.transport, 8)?);
    let addresses = link_layer_options(&packet.transport[24..], SOURCE_LINK_LAYER)?;
    check_link_layer(packet, &addresses)?;
    let segment = world.model.segment(packet.segment);
    if packet.source.is_unspecified() {
        check_claim(world, packet, target)?;
        if !addresses.is_empty() {
            return Err(Reason::NdMalformed);
        }
    } else if site::is_own_gateway(&world.router, segment, target) {
        return Ok(Verdict::Answered);
    } else if segment.ipv6.is_none() && !is_link_local(target) {
        return Err(Reason::NdMismatch);
    }
    if packet.destination.is_multicast() {
        return Ok(Verdict::ToKernel);
    }
    Err(Reason::NdMalformed)
}

/// Row 136.
fn neighbour_advertisement(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let target = IpAddr::V6(ipv6_at(packet.transport, 8)?);
    let addresses = link_layer_options(&packet.transport[24..], TARGET_LINK_LAYER)?;
    check_claim(world, packet, target)?;
    check_link_layer(packet, &addresses)?;
    Ok(Verdict::ToKernel)
}

/// May the source MAC claim the target: not the router's, and link-local, or in the subnet and per
/// the binding?
fn check_claim(world: &World<'_>, packet: &Packet<'_>, target: IpAddr) -> Result<(), Reason> {
    let segment = world.model.segment(packet.segment);
    if site::is_own_gateway(&world.router, segment, target) {
        return Err(Reason::GatewayClaim);
    }
    if is_link_local(target) {
        return Ok(());
    }
    let claimable = site::holds(segment, target)
        && !site::is_network_or_broadcast(segment, target)
        && site::binding_permits(world.model, packet.segment, packet.source_mac, target);
    if claimable {
        Ok(())
    } else {
        Err(Reason::NdMismatch)
    }
}

/// Rows 131, 132 and 143.
fn mld_report(packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let source_fits = is_link_local(packet.source) || packet.source.is_unspecified();
    if source_fits && packet.destination.is_multicast() {
        return Ok(Verdict::ToKernel);
    }
    Err(Reason::NdMalformed)
}
