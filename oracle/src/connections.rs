//! `docs/isolation.md` section 8: connections.

use std::net::IpAddr;

use netmodel::model::SegmentId;

use crate::ip::{Family, ICMP, ICMPV6, Packet, TCP, UDP, icmp_of};
use crate::policy::{Source, may_connect};
use crate::wire::{ipv4_at, ipv6_at, u8_at, u16_at};
use crate::{Reason, State, World, site};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Protocol, addresses and ports of a packet, in the direction in which it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Flow {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
}

impl Flow {
    fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// Where and when one side of a connection was judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Side {
    segment_vlan: u16,
    mac: [u8; 6],
    generation: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// TCP after a FIN.
    Closing,
    /// TCP after the opener's ACK of the SYN+ACK.
    Established,
    /// TCP after the opener's SYN, and after the SYN+ACK (`answered`).
    Opening {
        /// The SYN+ACK was seen.
        answered: bool,
    },
    /// Neither TCP nor UDP.
    Other,
    /// TCP after an RST.
    Reset,
    /// UDP; `replied` once the other side sent something.
    Udp {
        /// The other side sent something.
        replied: bool,
    },
}

/// A live connection. (Its address plan is the site's.)
#[derive(Clone, Debug)]
pub struct Connection {
    /// In the direction in which it was opened.
    flow: Flow,
    opener: Side,
    /// `None` until the other side sent something through the trunk.
    responder: Option<Side>,
    phase: Phase,
    /// Second at which it is forgotten.
    pub(crate) deadline: u64,
}

/// Who of the two sent a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sender {
    Opener,
    Responder,
}

impl Connection {
    /// Returns who sends packets of `flow`, if it is this connection's.
    fn sender_of(&self, flow: Flow) -> Option<Sender> {
        if self.flow == flow {
            return Some(Sender::Opener);
        }
        (self.flow == flow.reversed()).then_some(Sender::Responder)
    }

    /// Was its policy judged under this generation, by a packet of either side?
    fn is_of_generation(&self, generation: u32) -> bool {
        [Some(self.opener), self.responder]
            .iter()
            .flatten()
            .any(|side| side.generation == generation)
    }
}

/// Applies rules 1 to 4: `Ok` if the packet is of a connection, or opens one.
pub(crate) fn check(
    world: &World<'_>,
    state: &mut State,
    packet: &Packet<'_>,
    now: u64,
) -> Result<(), Reason> {
    if is_icmp_error(packet)? {
        return check_related(world, state, packet);
    }
    let flow = flow_of(packet)?;
    let found = state
        .connections
        .iter()
        .enumerate()
        .find_map(|(index, connection)| Some((index, connection.sender_of(flow)?)));
    let Some((index, sender)) = found else {
        return open(world, state, packet, now);
    };
    if let Err(reason) = judge_again(world, &mut state.connections[index], packet, sender) {
        state.connections.remove(index);
        return Err(reason);
    }
    let connection = &mut state.connections[index];
    check_sequence(connection, packet, sender)?;
    advance(connection, packet, sender, now)
}

/// Protocol, addresses and ports: an echo's identifier is both ports, other protocols have 0.
fn flow_of(packet: &Packet<'_>) -> Result<Flow, Reason> {
    let (source_port, destination_port) =
        ports(packet.protocol, packet.family(), packet.transport)?;
    Ok(Flow {
        protocol: packet.protocol,
        source: packet.source,
        destination: packet.destination,
        source_port,
        destination_port,
    })
}

fn ports(protocol: u8, family: Family, transport: &[u8]) -> Result<(u16, u16), Reason> {
    match protocol {
        TCP | UDP => Ok((u16_at(transport, 0)?, u16_at(transport, 2)?)),
        _ if protocol == icmp_of(family) => {
            let identifier = u16_at(transport, 4)?;
            Ok((identifier, identifier))
        }
        _ => Ok((0, 0)),
    }
}

fn is_icmp_error(packet: &Packet<'_>) -> Result<bool, Reason> {
    if !packet.is_icmp() {
        return Ok(false);
    }
    let kind = u8_at(packet.transport, 0)?;
    Ok(match packet.family() {
        Family::V4 => matches!(kind, 3 | 11 | 12),
        Family::V6 => matches!(kind, 1..=4),
    })
}

/// Rule 1: an ICMP error is about a live connection, and comes from its other end.
fn check_related(world: &World<'_>, state: &State, packet: &Packet<'_>) -> Result<(), Reason> {
    let quoted = quoted_flow(packet).ok_or(Reason::IcmpErrorUnrelated)?;
    let about_a_connection = state.connections.iter().any(|connection| {
        connection.sender_of(quoted).is_some() && connection.is_of_generation(world.generation)
    });
    let from_its_end = packet.source == quoted.destination && packet.destination == quoted.source;
    if about_a_connection && from_its_end {
        return Ok(());
    }
    Err(Reason::IcmpErrorUnrelated)
}

/// The flow of the packet that an ICMP error quotes: a plain IP header and 8 octets.
fn quoted_flow(packet: &Packet<'_>) -> Option<Flow> {
    let quote = packet.transport.get(8..)?;
    let (source, destination, protocol, transport) = match packet.family() {
        Family::V4 => quoted_ipv4(quote)?,
        Family::V6 => quoted_ipv6(quote)?,
    };
    let transport = transport.get(..8)?;
    if protocol == icmp_of(packet.family()) && !is_echo(protocol, *transport.first()?) {
        return None;
    }
    let (source_port, destination_port) = ports(protocol, packet.family(), transport).ok()?;
    Some(Flow {
        protocol,
        source,
        destination,
        source_port,
        destination_port,
    })
}

/// Source, destination, protocol and what follows.
type Quoted<'q> = (IpAddr, IpAddr, u8, &'q [u8]);

/// Version 4, no options, no later fragment.
fn quoted_ipv4(quote: &[u8]) -> Option<Quoted<'_>> {
    let is_later_fragment = u16_at(quote, 6).ok()? & 0x1fff != 0;
    if *quote.first()? != 0x45 || is_later_fragment {
        return None;
    }
    let (source, destination) = (ipv4_at(quote, 12).ok()?, ipv4_at(quote, 16).ok()?);
    Some((
        source.into(),
        destination.into(),
        *quote.get(9)?,
        quote.get(20..)?,
    ))
}

/// Version 6; an extension header is a protocol that no connection has.
fn quoted_ipv6(quote: &[u8]) -> Option<Quoted<'_>> {
    if quote.first()? >> 4 != 6 {
        return None;
    }
    let (source, destination) = (ipv6_at(quote, 8).ok()?, ipv6_at(quote, 24).ok()?);
    Some((
        source.into(),
        destination.into(),
        *quote.get(6)?,
        quote.get(40..)?,
    ))
}

fn is_echo(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (ICMP, 0 | 8) | (ICMPV6, 128 | 129))
}

/// Rule 2: the side was judged here and now, or is judged again.
///
/// (Section 4 was applied to the packet already: it gives the same answer every time.)
fn judge_again(
    world: &World<'_>,
    connection: &mut Connection,
    packet: &Packet<'_>,
    sender: Sender,
) -> Result<(), Reason> {
    let side = side_of(world, packet);
    let judged = match sender {
        Sender::Opener => Some(connection.opener),
        Sender::Responder => connection.responder,
    };
    if judged == Some(side) {
        return Ok(());
    }
    let segment = match sender {
        Sender::Opener => packet.segment,
        Sender::Responder => opener_segment(world, connection)?,
    };
    check_policy(world, segment, connection.flow)?;
    match sender {
        Sender::Opener => connection.opener = side,
        Sender::Responder => connection.responder = Some(side),
    }
    Ok(())
}

fn side_of(world: &World<'_>, packet: &Packet<'_>) -> Side {
    Side {
        segment_vlan: world.model.segment(packet.segment).vlan_id.as_u16(),
        mac: packet.source_mac,
        generation: world.generation,
    }
}

/// The segment of the VLAN on which the connection was opened, if it still holds the opener.
fn opener_segment(world: &World<'_>, connection: &Connection) -> Result<SegmentId, Reason> {
    site::segment_of_vlan(world.model, connection.opener.segment_vlan)
        .filter(|id| site::holds(world.model.segment(*id), connection.flow.source))
        .ok_or(Reason::SourceNotInSegment)
}

fn check_policy(world: &World<'_>, segment: SegmentId, flow: Flow) -> Result<(), Reason> {
    let source = Source {
        segment,
        address: flow.source,
    };
    let decision = may_connect(
        world,
        source,
        flow.destination,
        flow.protocol,
        flow.destination_port,
    );
    match decision.reason() {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// Rule 3: a packet of no live connection opens one, if it may.
fn open(world: &World<'_>, state: &mut State, packet: &Packet<'_>, now: u64) -> Result<(), Reason> {
    let phase = match packet.protocol {
        TCP if tcp_flags(packet)? & (SYN | ACK | RST | FIN) != SYN => {
            return Err(Reason::TcpNoConnection);
        }
        TCP => Phase::Opening { answered: false },
        UDP => Phase::Udp { replied: false },
        _ if packet.is_icmp() && !is_echo_request(packet)? => {
            return Err(Reason::IcmpErrorUnrelated);
        }
        _ => Phase::Other,
    };
    let flow = flow_of(packet)?;
    check_policy(world, packet.segment, flow)?;
    let deadline = now + lifetime(packet, phase);
    let opener = side_of(world, packet);
    state.connections.push(Connection {
        flow,
        opener,
        responder: None,
        phase,
        deadline,
    });
    Ok(())
}

/// Rule 4, and what a reply is: TCP flags and echo types that the sender may send.
fn check_sequence(
    connection: &Connection,
    packet: &Packet<'_>,
    sender: Sender,
) -> Result<(), Reason> {
    if packet.protocol == TCP {
        return check_tcp_flags(tcp_flags(packet)?, sender);
    }
    let from_opener = sender == Sender::Opener;
    if packet.is_icmp() && is_echo_request(packet)? != from_opener {
        return Err(Reason::IcmpErrorUnrelated);
    }
    debug_assert!(connection.flow.protocol == packet.protocol);
    Ok(())
}

fn check_tcp_flags(flags: u8, sender: Sender) -> Result<(), Reason> {
    let syn = flags & SYN != 0;
    let impossible = syn && flags & (FIN | RST) != 0;
    let wrong_side = match sender {
        Sender::Opener => syn && flags & ACK != 0,
        Sender::Responder => syn && flags & ACK == 0,
    };
    if impossible || wrong_side {
        Err(Reason::TcpFlags)
    } else {
        Ok(())
    }
}

/// Moves the connection on, and its timeout.
fn advance(
    connection: &mut Connection,
    packet: &Packet<'_>,
    sender: Sender,
    now: u64,
) -> Result<(), Reason> {
    let before = connection.phase;
    connection.phase = match before {
        Phase::Udp { replied } => Phase::Udp {
            replied: replied || sender == Sender::Responder,
        },
        Phase::Other => Phase::Other,
        Phase::Closing | Phase::Established | Phase::Opening { .. } | Phase::Reset => {
            next_tcp_phase(before, tcp_flags(packet)?, sender)
        }
    };
    // "10 s after RST": what comes later does not prolong it.
    if (before, connection.phase) != (Phase::Reset, Phase::Reset) {
        connection.deadline = now + lifetime(packet, connection.phase);
    }
    Ok(())
}

fn next_tcp_phase(phase: Phase, flags: u8, sender: Sender) -> Phase {
    let (syn, ack) = (flags & SYN != 0, flags & ACK != 0);
    if flags & RST != 0 {
        return Phase::Reset;
    }
    match (phase, sender) {
        // The same ports once more: rule 4 let only a SYN without ACK, FIN, RST come here.
        (Phase::Closing | Phase::Reset, Sender::Opener) if syn => {
            Phase::Opening { answered: false }
        }
        (Phase::Reset, _) => Phase::Reset,
        _ if flags & FIN != 0 => Phase::Closing,
        (Phase::Opening { .. }, Sender::Responder) if syn && ack => {
            Phase::Opening { answered: true }
        }
        (Phase::Opening { answered: true }, Sender::Opener) if ack => Phase::Established,
        _ => phase,
    }
}

/// Seconds that a connection lives without another packet.
fn lifetime(packet: &Packet<'_>, phase: Phase) -> u64 {
    match phase {
        Phase::Opening { .. } | Phase::Closing => 60,
        Phase::Established => 2 * 3600 + 4 * 60,
        Phase::Reset => 10,
        Phase::Udp { replied: false } => 30,
        Phase::Udp { replied: true } => 180,
        Phase::Other if packet.is_icmp() => 30,
        Phase::Other => 600,
    }
}

fn tcp_flags(packet: &Packet<'_>) -> Result<u8, Reason> {
    u8_at(packet.transport, 13)
}

fn is_echo_request(packet: &Packet<'_>) -> Result<bool, Reason> {
    let kind = u8_at(packet.transport, 0)?;
    Ok(match packet.family() {
        Family::V4 => kind == 8,
        Family::V6 => kind == 128,
    })
}
