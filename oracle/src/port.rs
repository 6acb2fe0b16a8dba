//! `docs/isolation.md` section 10: the ports of a hypervisor.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netmodel::ids::MacAddr;
use netmodel::model::SegmentId;

use crate::ip::{self, Family, Fragment, Packet};
use crate::link::{Link, Payload, Way, is_blackhole, is_group_mac, is_tag, outer_tag, payload_of};
use crate::neighbour::is_section_6;
use crate::wire::{is_group, is_link_local, octets, u16_at};
use crate::{
    Frame, Reason, State, World, arp, connections, fragments, judge_packet, servers, site,
};

/// Who is plugged in where on a host.
#[derive(Clone, Debug, Default)]
pub struct Plugged {
    /// By interface index: the endpoint's MAC, and the VLAN id of its segment.
    pub ports: BTreeMap<u32, ([u8; 6], u16)>,
    /// The MACs of the host itself.
    pub host_macs: Vec<[u8; 6]>,
}

/// Decides on a frame that the endpoint behind a port sent; tells the VLAN id as which it is judged.
///
/// # Errors
/// The drop reason.
pub fn from_tenant(
    (world, plugged): (&World<'_>, &Plugged),
    state: &mut State,
    frame: &Frame<'_>,
    ifindex: u32,
    now: u64,
) -> Result<u16, Reason> {
    state.forget_expired(now);
    let (mac, segment) = known_port(world, plugged, ifindex)?;
    let ether_type = check_untagged(frame)?;
    let destination_mac = octets::<6>(frame.bytes, 0)?;
    let source_mac = octets::<6>(frame.bytes, 6)?;
    if is_group_mac(source_mac) || source_mac == [0; 6] {
        return Err(Reason::BadSourceMac);
    }
    if source_mac == world.router.mac {
        return Err(Reason::RouterMacSpoof);
    }
    if source_mac != mac {
        return Err(Reason::SpoofedMac);
    }
    if plugged.host_macs.contains(&destination_mac) {
        return Err(Reason::HostAddress);
    }
    let way = if destination_mac == world.router.mac {
        Way::ToRouter
    } else {
        Way::Within
    };
    let link = Link {
        segment,
        source_mac,
        destination_mac,
        payload: Payload::Arp,
        way,
        bytes: &frame.bytes[14..],
    };
    judge(world, state, link, ether_type, now)?;
    Ok(world.model.segment(segment).vlan_id.as_u16())
}

/// Decides on a frame on its way to the endpoint behind a port; `judged` is the VLAN id as which it was judged.
///
/// # Errors
/// The drop reason.
pub fn to_tenant(
    (world, plugged): (&World<'_>, &Plugged),
    frame: &Frame<'_>,
    ifindex: u32,
    judged: Option<u16>,
) -> Result<(), Reason> {
    let (mac, segment) = known_port(world, plugged, ifindex)?;
    check_judged(judged, world.model.segment(segment).vlan_id.as_u16())?;
    check_untagged(frame)?;
    let destination_mac = octets::<6>(frame.bytes, 0)?;
    if !is_group_mac(destination_mac) && destination_mac != mac {
        return Err(Reason::NotForPort);
    }
    Ok(())
}

/// Decides on a frame that came in over the uplink; tells the VLAN id as which it is judged.
///
/// # Errors
/// The drop reason.
pub fn from_uplink(
    (world, plugged): (&World<'_>, &Plugged),
    state: &mut State,
    frame: &Frame<'_>,
    now: u64,
) -> Result<u16, Reason> {
    state.forget_expired(now);
    let (vlan, segment, behind_tag) = check_tag(world, frame)?;
    let destination_mac = octets::<6>(frame.bytes, 0)?;
    let source_mac = octets::<6>(frame.bytes, 6)?;
    if is_group_mac(source_mac) || source_mac == [0; 6] {
        return Err(Reason::BadSourceMac);
    }
    let port_of = |mac| plugged.ports.values().find(|(at, _)| *at == mac);
    if port_of(source_mac).is_some() || plugged.host_macs.contains(&source_mac) {
        return Err(Reason::LocalMacClaim);
    }
    if !is_group_mac(destination_mac) {
        if plugged.host_macs.contains(&destination_mac) {
            return Ok(vlan);
        }
        let (_, at) = port_of(destination_mac).ok_or(Reason::NotForPort)?;
        if *at != vlan {
            return Err(Reason::OtherSegment);
        }
    }
    let is_router = source_mac == world.router.mac;
    let link = Link {
        segment,
        source_mac,
        destination_mac,
        payload: Payload::Arp,
        way: if is_router {
            Way::FromRouter
        } else {
            Way::Within
        },
        bytes: &frame.bytes[behind_tag + 2..],
    };
    let ether_type = u16_at(frame.bytes, behind_tag)?;
    if is_router {
        from_the_router(world, state, link, ether_type, now)?;
    } else {
        judge(world, state, link, ether_type, now)?;
    }
    Ok(vlan)
}

/// How a frame came to be on a hypervisor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// It came in, and was judged as one of this VLAN.
    Judged(u16),
    /// It came in by a port that has no programs.
    Unjudged,
    /// The hypervisor made it.
    MadeHere,
}

/// Decides on a frame that leaves over the uplink.
///
/// # Errors
/// The drop reason.
pub fn to_uplink(
    (world, plugged): (&World<'_>, &Plugged),
    frame: &Frame<'_>,
    origin: Origin,
) -> Result<(), Reason> {
    let (vlan, _, _) = check_tag(world, frame)?;
    let source_mac = octets::<6>(frame.bytes, 6)?;
    let judged = match origin {
        Origin::MadeHere if plugged.host_macs.contains(&source_mac) => return Ok(()),
        Origin::MadeHere | Origin::Unjudged => None,
        Origin::Judged(vlan) => Some(vlan),
    };
    check_judged(judged, vlan)
}

/// The endpoint behind a port, and its segment: if the inventory has it there.
fn known_port(
    world: &World<'_>,
    plugged: &Plugged,
    ifindex: u32,
) -> Result<([u8; 6], SegmentId), Reason> {
    let (mac, vlan) = *plugged.ports.get(&ifindex).ok_or(Reason::UnknownPort)?;
    let segment = site::segment_of_vlan(world.model, vlan).ok_or(Reason::UnknownPort)?;
    let is_there = site::interfaces(world.model).any(|(_, interface)| {
        interface.mac == Some(MacAddr(mac)) && interface.segment == Some(segment)
    });
    if !is_there {
        return Err(Reason::UnknownPort);
    }
    if is_blackhole(world, segment) {
        return Err(Reason::BlackholeSegment);
    }
    Ok((mac, segment))
}

fn check_untagged(frame: &Frame<'_>) -> Result<u16, Reason> {
    let ether_type = u16_at(frame.bytes, 12)?;
    if is_tag(ether_type) || frame.offloaded_tag.is_some() {
        return Err(Reason::TaggedFrame);
    }
    Ok(ether_type)
}

/// The rows of section 1 about tags. Returns VLAN id, segment, and where the EtherType is.
fn check_tag(world: &World<'_>, frame: &Frame<'_>) -> Result<(u16, SegmentId, usize), Reason> {
    let (tci, behind_tag) = outer_tag(frame)?;
    let vlan = tci & 0x0fff;
    if vlan == 0 {
        return Err(Reason::PriorityTag);
    }
    let segment = site::segment_of_vlan(world.model, vlan).ok_or(Reason::UnknownVlan)?;
    if is_tag(u16_at(frame.bytes, behind_tag)?) {
        return Err(Reason::DoubleTag);
    }
    if is_blackhole(world, segment) {
        return Err(Reason::BlackholeSegment);
    }
    Ok((vlan, segment, behind_tag))
}

fn check_judged(judged: Option<u16>, vlan: u16) -> Result<(), Reason> {
    match judged {
        None => Err(Reason::NotJudged),
        Some(judged) if judged != vlan => Err(Reason::OtherSegment),
        Some(_) => Ok(()),
    }
}

/// Sections 2 to 9 for a frame of an end of the segment.
fn judge(
    world: &World<'_>,
    state: &mut State,
    mut link: Link<'_>,
    ether_type: u16,
    now: u64,
) -> Result<(), Reason> {
    link.payload = payload_of(ether_type)?;
    let family = match link.payload {
        Payload::Arp | Payload::Rarp => return arp::check(world, &link).map(|_| ()),
        Payload::Ipv4 => Family::V4,
        Payload::Ipv6 => Family::V6,
    };
    let packet = ip::check(&link, family)?;
    if link.way == Way::Within && !is_group_mac(link.destination_mac) {
        check_receiver(world, &link, &packet)?;
    }
    judge_packet(world, state, &packet, now).map(|_| ())
}

/// Is the destination MAC one that the destination address can be at?
fn check_receiver(world: &World<'_>, link: &Link<'_>, packet: &Packet<'_>) -> Result<(), Reason> {
    let segment = world.model.segment(link.segment);
    let to = packet.destination;
    if site::is_own_gateway(&world.router, segment, to) {
        return Err(Reason::MacIpMismatch);
    }
    if is_link_local(to) {
        return Ok(());
    }
    let fits = site::holds(segment, to)
        && site::binding_permits(world.model, link.segment, link.destination_mac, to)
        && !site::is_router_address(world, to);
    if fits {
        Ok(())
    } else {
        Err(Reason::MacIpMismatch)
    }
}

/// A frame that the router sent into the segment.
fn from_the_router(
    world: &World<'_>,
    state: &mut State,
    mut link: Link<'_>,
    ether_type: u16,
    now: u64,
) -> Result<(), Reason> {
    link.payload = payload_of(ether_type)?;
    let family = match link.payload {
        Payload::Arp | Payload::Rarp => return Ok(()),
        Payload::Ipv4 => Family::V4,
        Payload::Ipv6 => Family::V6,
    };
    let mut packet = ip::check(&link, family)?;
    if is_section_6(&packet) {
        return Ok(());
    }
    if is_group(packet.destination) {
        let whole = packet.fragment == Fragment::Whole;
        let dhcp = family == Family::V4 && whole && packet.is_udp(67, 68)?;
        return if dhcp {
            Ok(())
        } else {
            Err(Reason::MulticastNotAllowed)
        };
    }
    check_receiver(world, &link, &packet)?;
    if is_never_a_source(packet.source) {
        return Err(Reason::MartianSource);
    }
    let own = world.model.segment(link.segment);
    if site::is_own_gateway(&world.router, own, packet.source)
        || site::is_router_address(world, packet.source)
    {
        return Ok(());
    }
    if is_link_local(packet.source) {
        return Err(Reason::LinkLocalScope);
    }
    let from = site::segment_of_address(world.model, packet.source);
    if let Some(from) = from {
        if is_blackhole(world, from) {
            return Err(Reason::BlackholeSegment);
        }
        if site::is_network_or_broadcast(world.model.segment(from), packet.source) {
            return Err(Reason::SourceNotInSegment);
        }
        packet.segment = from;
    }
    routed(world, state, &packet, from.is_none(), now)
}

fn routed(
    world: &World<'_>,
    state: &mut State,
    packet: &Packet<'_>,
    is_internet: bool,
    now: u64,
) -> Result<(), Reason> {
    if fragments::check(world, state, packet)? {
        return Ok(());
    }
    servers::check(packet)?;
    if is_internet {
        connections::check_answer(world, state, packet, now)?;
    } else {
        connections::check(world, state, packet, now)?;
    }
    fragments::remember(world, state, packet, now);
    Ok(())
}

fn is_never_a_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => matches!(a.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(a) => matches!(a.octets()[0], 0 | 0xff),
    }
}
