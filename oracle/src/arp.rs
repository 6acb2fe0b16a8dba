//! `docs/isolation.md` section 2: ARP and RARP.

use std::net::{IpAddr, Ipv4Addr};

use netmodel::model::Subnet4;

use crate::link::{Link, Payload, is_group_mac};
use crate::wire::{ipv4_at, octets, u16_at};
use crate::{Reason, Verdict, World, site};

const BROADCAST: [u8; 6] = [0xff; 6];

/// An ARP or RARP message for Ethernet and IPv4.
struct Message {
    operation: u16,
    sender_mac: [u8; 6],
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

/// Applies the table of section 2, row by row.
pub(crate) fn check(world: &World<'_>, link: &Link<'_>) -> Result<Verdict, Reason> {
    if is_group_mac(link.destination_mac) && link.destination_mac != BROADCAST {
        return Err(Reason::MulticastNotAllowed);
    }
    let message = parse(link)?;
    let subnet = world
        .model
        .segment(link.segment)
        .ipv4
        .ok_or(Reason::ArpMalformed)?;
    if message.sender_mac != link.source_mac {
        return Err(Reason::ArpSenderMismatch);
    }
    check_sender(world, link, subnet, message.sender)?;
    let asks_for_gateway = link.payload == Payload::Arp
        && message.operation == 1
        && message.target == subnet.gateway
        && !message.sender.is_unspecified();
    Ok(if asks_for_gateway {
        Verdict::Answered
    } else {
        Verdict::ToKernel
    })
}

fn parse(link: &Link<'_>) -> Result<Message, Reason> {
    let bytes = octets::<28>(link.bytes, 0)?;
    let operation = u16_at(&bytes, 6)?;
    let operations = match link.payload {
        Payload::Rarp => [3, 4],
        Payload::Arp | Payload::Ipv4 | Payload::Ipv6 => [1, 2],
    };
    let is_ethernet_ipv4 = bytes[..6] == [0, 1, 0x08, 0x00, 6, 4];
    if !is_ethernet_ipv4 || !operations.contains(&operation) {
        return Err(Reason::ArpMalformed);
    }
    Ok(Message {
        operation,
        sender_mac: octets(&bytes, 8)?,
        sender: ipv4_at(&bytes, 14)?,
        target: ipv4_at(&bytes, 24)?,
    })
}

/// The sender protocol address: gateway, subnet, binding. 0.0.0.0 claims nothing.
fn check_sender(
    world: &World<'_>,
    link: &Link<'_>,
    subnet: Subnet4,
    sender: Ipv4Addr,
) -> Result<(), Reason> {
    if sender == subnet.gateway {
        return Err(Reason::GatewayClaim);
    }
    if sender.is_unspecified() {
        return Ok(());
    }
    let segment = world.model.segment(link.segment);
    let address = IpAddr::V4(sender);
    let in_subnet = site::holds(segment, address);
    if !in_subnet || site::is_network_or_broadcast(segment, address) {
        return Err(Reason::ArpSenderMismatch);
    }
    if !site::binding_permits(world.model, link.segment, link.source_mac, address) {
        return Err(Reason::ArpSenderMismatch);
    }
    Ok(())
}
