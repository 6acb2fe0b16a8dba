//! `docs/isolation.md` section 6: ICMPv6 neighbour discovery and MLD.
//!
//! First the messages that only a router sends are refused; then the shape of the others is checked,
//! then their link-layer options, then the row of the message.

use std::net::IpAddr;

use crate::ip::{Family, Fragment, Packet};
use crate::link::Way;
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

/// Is this a message of section 6?
pub(crate) fn is_section_6(packet: &Packet<'_>) -> bool {
    !matches!(packet.fragment, Fragment::Later { .. })
        && packet.family() == Family::V6
        && packet.is_icmp()
        && matches!(packet.transport.first(), Some(130..=137 | 143))
}

/// Decides on a message of section 6.
pub(crate) fn check(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let kind = u8_at(packet.transport, 0)?;
    match kind {
        ROUTER_ADVERTISEMENT | MLD_QUERY => return Err(Reason::RouterAdvertisement),
        REDIRECT => return Err(Reason::IcmpRedirect),
        _ => check_shape(world, packet, kind)?,
    }
    match kind {
        ROUTER_SOLICITATION => router_solicitation(packet),
        NEIGHBOUR_SOLICITATION => neighbour_solicitation(world, packet),
        NEIGHBOUR_ADVERTISEMENT => neighbour_advertisement(world, packet),
        _ => mld_report(packet),
    }
}

/// No fragment (not even a whole one with a fragment header), hop limit, code, destination.
fn check_shape(world: &World<'_>, packet: &Packet<'_>, kind: u8) -> Result<(), Reason> {
    let needs_255 = (ROUTER_SOLICITATION..=REDIRECT).contains(&kind);
    let code = u8_at(packet.transport, 1)?;
    let segment = world.model.segment(packet.segment);
    let d = packet.destination;
    let is_neighbour = packet.way == Way::Within && site::holds(segment, d);
    let is_local = is_link_local(d)
        || is_link_scope_multicast(d)
        || site::is_gateway(segment, d)
        || is_neighbour;
    if packet.has_fragment_header || (needs_255 && packet.ttl != 255) || code != 0 || !is_local {
        return Err(Reason::NdMalformed);
    }
    Ok(())
}

/// Is the address in ff02::/16?
fn is_link_scope_multicast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.segments()[0] == 0xff02)
}

/// The target of a solicitation or advertisement.
fn target_of(packet: &Packet<'_>) -> Result<IpAddr, Reason> {
    ipv6_at(packet.transport, 8)
        .map(IpAddr::V6)
        .map_err(|_| Reason::NdMalformed)
}

/// The types of the options, and the addresses that link-layer options (source and target) give.
struct Options {
    types: Vec<u8>,
    link_layer: Vec<[u8; 6]>,
}

/// At most four options, each of length ≥ 1 (8 octets) that fits; a link-layer address has length 1.
fn options_of(packet: &Packet<'_>, place: usize) -> Result<Options, Reason> {
    let mut rest = packet.transport.get(place..).ok_or(Reason::NdMalformed)?;
    let mut options = Options {
        types: Vec::new(),
        link_layer: Vec::new(),
    };
    while !rest.is_empty() {
        let (&kind, &units) = rest.first().zip(rest.get(1)).ok_or(Reason::NdMalformed)?;
        let length = usize::from(units) * 8;
        if options.types.len() == MAX_OPTIONS || length == 0 || length > rest.len() {
            return Err(Reason::NdMalformed);
        }
        if [SOURCE_LINK_LAYER, TARGET_LINK_LAYER].contains(&kind) {
            let address = rest[2..length]
                .try_into()
                .map_err(|_| Reason::NdMalformed)?;
            options.link_layer.push(address);
        }
        options.types.push(kind);
        rest = &rest[length..];
    }
    Ok(options)
}

/// Every link-layer option says the source MAC.
fn check_link_layer(packet: &Packet<'_>, options: &Options) -> Result<(), Reason> {
    if options
        .link_layer
        .iter()
        .all(|address| *address == packet.source_mac)
    {
        return Ok(());
    }
    Err(Reason::NdMismatch)
}

/// Row 133.
fn router_solicitation(packet: &Packet<'_>) -> Result<Verdict, Reason> {
    check_link_layer(packet, &options_of(packet, 8)?)?;
    Ok(Verdict::ToKernel)
}

/// Row 135.
fn neighbour_solicitation(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let target = target_of(packet)?;
    let options = options_of(packet, 24)?;
    if packet.source.is_unspecified() {
        if !options.link_layer.is_empty() {
            return Err(Reason::NdMalformed);
        }
        check_claim(world, packet, target)?;
        return Ok(Verdict::ToKernel);
    }
    check_link_layer(packet, &options)?;
    let segment = world.model.segment(packet.segment);
    if segment.ipv6.is_none() && !is_link_local(target) {
        return Err(Reason::NdMismatch);
    }
    let is_plain = !packet.has_options && matches!(options.types[..], [] | [SOURCE_LINK_LAYER]);
    if is_plain && site::is_own_gateway(&world.router, segment, target) {
        return Ok(Verdict::Answered);
    }
    Ok(Verdict::ToKernel)
}

/// Row 136.
fn neighbour_advertisement(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    let target = target_of(packet)?;
    let options = options_of(packet, 24)?;
    check_link_layer(packet, &options)?;
    check_claim(world, packet, target)?;
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
