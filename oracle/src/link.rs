//! `docs/isolation.md` section 1: the link layer.

use netmodel::model::SegmentId;

use crate::wire::{octets, u16_at};
use crate::{Frame, Reason, World, site};

const TPID_8021Q: u16 = 0x8100;
const TPIDS_OF_OTHERS: [u16; 2] = [0x88a8, 0x9100];

/// What the frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Payload {
    Arp,
    Ipv4,
    Ipv6,
    Rarp,
}

/// Where a frame came from, and whether it stays in its segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// A hypervisor's uplink: the router sent it, out of another segment or of the internet.
    FromRouter,
    /// Any end of the segment, at a port; it goes to the router.
    ToRouter,
    /// It is at the router's trunk.
    Trunk,
    /// Any end of the segment; it goes to another one.
    Within,
}

/// A frame that passed section 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<'f> {
    pub(crate) segment: SegmentId,
    pub(crate) source_mac: [u8; 6],
    pub(crate) destination_mac: [u8; 6],
    pub(crate) payload: Payload,
    pub(crate) way: Way,
    /// What is behind the EtherType.
    pub(crate) bytes: &'f [u8],
}

/// Applies the table of section 1, row by row.
pub(crate) fn check<'f>(world: &World<'_>, frame: &Frame<'f>) -> Result<Link<'f>, Reason> {
    let bytes = frame.bytes;
    let destination_mac = octets::<6>(bytes, 0)?;
    let source_mac = octets::<6>(bytes, 6)?;
    let (tci, behind_tag) = outer_tag(frame)?;
    let vlan = tci & 0x0fff;
    if vlan == 0 {
        return Err(Reason::PriorityTag);
    }
    let segment = site::segment_of_vlan(world.model, vlan).ok_or(Reason::UnknownVlan)?;
    let ether_type = u16_at(bytes, behind_tag)?;
    if is_tag(ether_type) {
        return Err(Reason::DoubleTag);
    }
    if is_blackhole(world, segment) {
        return Err(Reason::BlackholeSegment);
    }
    check_macs(world, source_mac, destination_mac)?;
    let payload = payload_of(ether_type)?;
    let bytes = &bytes[behind_tag + 2..];
    Ok(Link {
        segment,
        source_mac,
        destination_mac,
        payload,
        way: Way::Trunk,
        bytes,
    })
}

pub(crate) fn payload_of(ether_type: u16) -> Result<Payload, Reason> {
    match ether_type {
        0x0800 => Ok(Payload::Ipv4),
        0x0806 => Ok(Payload::Arp),
        0x8035 => Ok(Payload::Rarp),
        0x86dd => Ok(Payload::Ipv6),
        _ => Err(Reason::UnknownEtherType),
    }
}

/// Returns the tag control information of the outer tag, and where the next EtherType is.
pub(crate) fn outer_tag(frame: &Frame<'_>) -> Result<(u16, usize), Reason> {
    let first = u16_at(frame.bytes, 12)?;
    let (tpid, tci, behind_tag) = match frame.offloaded_tag {
        Some((tpid, tci)) => (tpid, tci, 12),
        None if !is_tag(first) => return Err(Reason::Untagged),
        None if first != TPID_8021Q => return Err(Reason::DoubleTag),
        None => (first, u16_at(frame.bytes, 14)?, 16),
    };
    if tpid != TPID_8021Q {
        return Err(Reason::DoubleTag);
    }
    u16_at(frame.bytes, behind_tag)?;
    Ok((tci, behind_tag))
}

pub(crate) fn is_tag(ether_type: u16) -> bool {
    ether_type == TPID_8021Q || TPIDS_OF_OTHERS.contains(&ether_type)
}

/// No subnet in either family, or the router's native segment.
pub(crate) fn is_blackhole(world: &World<'_>, id: SegmentId) -> bool {
    let segment = world.model.segment(id);
    (segment.ipv4.is_none() && segment.ipv6.is_none()) || world.router.native_segment == Some(id)
}

fn check_macs(world: &World<'_>, source: [u8; 6], destination: [u8; 6]) -> Result<(), Reason> {
    if is_group_mac(source) || source == [0; 6] {
        return Err(Reason::BadSourceMac);
    }
    if source == world.router.mac {
        return Err(Reason::RouterMacSpoof);
    }
    if !is_group_mac(destination) && destination != world.router.mac {
        return Err(Reason::NotForRouter);
    }
    Ok(())
}

/// Is the MAC multicast or broadcast?
pub(crate) fn is_group_mac(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 1
}
