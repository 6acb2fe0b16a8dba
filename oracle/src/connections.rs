//! `docs/isolation.md` section 8: connections.

use std::net::IpAddr;

use netmodel::model::SegmentId;

use crate::ip::{Family, ICMP, ICMPV6, Packet, TCP, UDP, icmp_of};
use crate::link::Way;
use crate::policy::{Source, may_connect, may_connect_within};
use crate::wire::{ipv4_at, ipv6_at, is_link_local, u8_at, u16_at};
use crate::{Reason, State, World, site};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Protocol, addresses and ports of a packet, in the direction in which it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Flow {
    /// The VLAN id, for link-local addresses: they mean something on one link only.
    link: Option<u16>,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
}

impl Flow {
    fn reversed(self) -> Self {
        Self {
            link: self.link,
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
    vlan: u16,
    mac: [u8; 6],
    generation: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// TCP after a FIN.
    Closing,
    /// TCP after both sides sent something (or one is silent).
    Established,
    /// TCP after the opener's SYN.
    Opening,
    /// Not TCP: it has no phases.
    Other,
    /// TCP after an RST.
    Reset,
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

impl Sender {
    fn other(self) -> Self {
        match self {
            Self::Opener => Self::Responder,
            Self::Responder => Self::Opener,
        }
    }
}

impl Connection {
    /// Returns who sends packets of `flow`, if it is this connection's.
    fn sender_of(&self, flow: Flow) -> Option<Sender> {
        if self.flow == flow {
            return Some(Sender::Opener);
        }
        (self.flow == flow.reversed()).then_some(Sender::Responder)
    }

    /// Returns where the packets of one side came from, and when they were judged last.
    fn side(&self, sender: Sender) -> Option<Side> {
        match sender {
            Sender::Opener => Some(self.opener),
            Sender::Responder => self.responder,
        }
    }
}

/// Applies rules 1 to 5: `Ok` if the packet is of a connection, or opens one.
pub(crate) fn check(
    world: &World<'_>,
    state: &mut State,
    packet: &Packet<'_>,
    now: u64,
) -> Result<(), Reason> {
    if is_icmp_error(packet)? {
        return check_related(world, state, packet);
    }
    if packet.protocol == TCP && is_impossible(tcp_flags(packet)?) {
        return Err(Reason::TcpFlags);
    }
    let flow = flow_of(world, packet)?;
    if packet.protocol == TCP && tcp_flags(packet)? & (SYN | ACK) == SYN {
        check_policy(world, packet.way, packet.segment, flow)?;
    }
    let Some((index, sender)) = find(state, flow) else {
        return open(world, state, packet, now);
    };
    check_side(packet, sender)?;
    if let Err(reason) = judge_again(world, &mut state.connections[index], packet, sender) {
        state.connections.remove(index);
        return Err(reason);
    }
    advance(world, &mut state.connections[index], packet, sender, now)
}

/// The live connection of a flow, and which side sends it.
fn find(state: &State, flow: Flow) -> Option<(usize, Sender)> {
    state
        .connections
        .iter()
        .enumerate()
        .find_map(|(index, connection)| Some((index, connection.sender_of(flow)?)))
}

/// Protocol, addresses and ports.
fn flow_of(world: &World<'_>, packet: &Packet<'_>) -> Result<Flow, Reason> {
    let (source_port, destination_port) = ports(packet.protocol, packet.transport)?;
    Ok(Flow {
        link: link_of(world, packet, packet.source),
        protocol: packet.protocol,
        source: packet.source,
        destination: packet.destination,
        source_port,
        destination_port,
    })
}

/// The VLAN that a packet came from, if an address means something there only.
fn link_of(world: &World<'_>, packet: &Packet<'_>, address: IpAddr) -> Option<u16> {
    is_link_local(address).then(|| vlan_of(world, packet))
}

/// For echo the requester's port is the identifier, the other side's is 0; other protocols than TCP,
/// UDP and ICMP have 0 and 0.
fn ports(protocol: u8, transport: &[u8]) -> Result<(u16, u16), Reason> {
    match protocol {
        TCP | UDP => Ok((u16_at(transport, 0)?, u16_at(transport, 2)?)),
        ICMP | ICMPV6 => {
            let identifier = u16_at(transport, 4)?;
            let is_request = is_echo_request(protocol, u8_at(transport, 0)?);
            Ok(if is_request {
                (identifier, 0)
            } else {
                (0, identifier)
            })
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

/// Rule 1: an ICMP error is about a live connection, whose packet it quotes was judged under this
/// generation, and comes from the other end and its VLAN.
fn check_related(world: &World<'_>, state: &State, packet: &Packet<'_>) -> Result<(), Reason> {
    let unrelated = Reason::IcmpErrorUnrelated;
    let quoted = quoted_flow(world, packet).ok_or(unrelated)?;
    let (index, x) = find(state, quoted).ok_or(unrelated)?;
    let connection = &state.connections[index];
    let from_y_to_x = packet.source == quoted.destination && packet.destination == quoted.source;
    let x_is_judged = connection
        .side(x)
        .is_some_and(|side| side.generation == world.generation);
    // The router and the internet are never judged: there, the other side of the connection is.
    let y_is_judged = connection
        .side(x.other())
        .is_some_and(|side| side.generation == world.generation);
    let x_is_judged = x_is_judged || (is_silent(world, quoted.source) && y_is_judged);
    // Where `y` has sent nothing yet, section 4 has seen to it that it is on its segment's VLAN.
    let vlan = vlan_of(world, packet);
    let from_vlan_of_y = connection
        .side(x.other())
        .is_none_or(|side| side.vlan == vlan);
    if from_y_to_x && x_is_judged && from_vlan_of_y {
        Ok(())
    } else {
        Err(unrelated)
    }
}

/// The flow of the packet that an ICMP error quotes: a plain IP header and 8 octets.
fn quoted_flow(world: &World<'_>, packet: &Packet<'_>) -> Option<Flow> {
    let quote = packet.transport.get(8..)?;
    let (source, destination, protocol, transport) = match packet.family() {
        Family::V4 => quoted_ipv4(quote)?,
        Family::V6 => quoted_ipv6(quote)?,
    };
    let transport = transport.get(..8)?;
    if protocol == icmp_of(packet.family()) && !is_echo(protocol, *transport.first()?) {
        return None;
    }
    let (source_port, destination_port) = ports(protocol, transport).ok()?;
    Some(Flow {
        link: link_of(world, packet, source),
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

/// Rule 2: no TCP segment opens and closes at once.
fn is_impossible(flags: u8) -> bool {
    flags & SYN != 0 && flags & (FIN | RST) != 0
}

/// Rule 3: only the opener sends a SYN, only the other side a SYN+ACK.
fn check_side(packet: &Packet<'_>, sender: Sender) -> Result<(), Reason> {
    if packet.protocol != TCP {
        return Ok(());
    }
    let wrong = match sender {
        Sender::Opener => SYN | ACK,
        Sender::Responder => SYN,
    };
    if tcp_flags(packet)? & (SYN | ACK) == wrong {
        Err(Reason::TcpFlags)
    } else {
        Ok(())
    }
}

/// Rule 4: the side was judged here and now, or is judged again.
///
/// (Section 4 was applied to the packet already: it gives the same answer every time.)
fn judge_again(
    world: &World<'_>,
    connection: &mut Connection,
    packet: &Packet<'_>,
    sender: Sender,
) -> Result<(), Reason> {
    let side = side_of(world, packet);
    // At a port every packet is: it can stay in the segment or go to the router.
    if packet.way == Way::Trunk && connection.side(sender) == Some(side) {
        return Ok(());
    }
    let segment = match sender {
        Sender::Opener => packet.segment,
        Sender::Responder => opener_segment(world, packet.way, connection)?,
    };
    check_policy(world, packet.way, segment, connection.flow)?;
    match sender {
        Sender::Opener => connection.opener = side,
        Sender::Responder => connection.responder = Some(side),
    }
    Ok(())
}

fn side_of(world: &World<'_>, packet: &Packet<'_>) -> Side {
    Side {
        vlan: vlan_of(world, packet),
        mac: packet.source_mac,
        generation: world.generation,
    }
}

fn vlan_of(world: &World<'_>, packet: &Packet<'_>) -> u16 {
    world.model.segment(packet.segment).vlan_id.as_u16()
}

/// The segment that the opener's packets came from, if it still holds the opener's address.
fn opener_segment(
    world: &World<'_>,
    way: Way,
    connection: &Connection,
) -> Result<SegmentId, Reason> {
    let opener = connection.flow.source;
    let on_link = way == Way::Within && is_link_local(opener);
    site::segment_of_vlan(world.model, connection.opener.vlan)
        .filter(|id| on_link || site::holds(world.model.segment(*id), opener))
        .ok_or(Reason::NoPolicy)
}

fn check_policy(world: &World<'_>, way: Way, segment: SegmentId, flow: Flow) -> Result<(), Reason> {
    let source = Source {
        segment,
        address: flow.source,
    };
    let ask = match way {
        Way::FromRouter | Way::ToRouter | Way::Trunk => may_connect,
        Way::Within => may_connect_within,
    };
    let decision = ask(
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

/// Rule 5: a packet of no live connection opens one, if it may.
fn open(world: &World<'_>, state: &mut State, packet: &Packet<'_>, now: u64) -> Result<(), Reason> {
    let phase = match packet.protocol {
        TCP if is_taken_over(packet)? => Phase::Opening,
        TCP if tcp_flags(packet)? & (SYN | ACK | RST | FIN) != SYN => {
            return Err(Reason::TcpNoConnection);
        }
        TCP => Phase::Opening,
        ICMP | ICMPV6 if !is_echo_request(packet.protocol, u8_at(packet.transport, 0)?) => {
            return Err(Reason::IcmpErrorUnrelated);
        }
        _ => Phase::Other,
    };
    let flow = flow_of(world, packet)?;
    check_policy(world, packet.way, packet.segment, flow)?;
    let opener = side_of(world, packet);
    let mut connection = Connection {
        flow,
        opener,
        responder: None,
        phase,
        deadline: now,
    };
    connection.deadline = now + lifetime(&connection);
    state.connections.push(connection);
    Ok(())
}

/// At a port: a segment of a connection that was opened where nobody looked.
fn is_taken_over(packet: &Packet<'_>) -> Result<bool, Reason> {
    let flags = tcp_flags(packet)? & (SYN | ACK | RST | FIN);
    Ok(packet.way != Way::Trunk && flags == ACK)
}

/// A packet of the internet: of a connection that somebody here opened, and none that it opens.
pub(crate) fn check_answer(
    world: &World<'_>,
    state: &mut State,
    packet: &Packet<'_>,
    now: u64,
) -> Result<(), Reason> {
    if is_icmp_error(packet)? {
        return check_internet_error(world, state, packet);
    }
    let flags = match packet.protocol {
        TCP => tcp_flags(packet)?,
        _ => 0,
    };
    if is_impossible(flags) {
        return Err(Reason::TcpFlags);
    }
    let Some((index, sender)) = find(state, flow_of(world, packet)?) else {
        return Err(match packet.protocol {
            TCP if is_taken_over(packet)? => Reason::NoPolicy,
            TCP if flags & (SYN | ACK) != SYN => Reason::TcpNoConnection,
            ICMP | ICMPV6 if !is_echo_request(packet.protocol, u8_at(packet.transport, 0)?) => {
                Reason::IcmpErrorUnrelated
            }
            _ => Reason::NoPolicy,
        });
    };
    check_side(packet, sender)?;
    if sender == Sender::Opener {
        return Err(Reason::NoPolicy);
    }
    judge_again(world, &mut state.connections[index], packet, sender)?;
    advance(world, &mut state.connections[index], packet, sender, now)
}

/// An error out of the internet is about a live connection, whose packet it quotes was judged under this generation.
fn check_internet_error(
    world: &World<'_>,
    state: &State,
    packet: &Packet<'_>,
) -> Result<(), Reason> {
    let quoted = quoted_flow(world, packet).ok_or(Reason::IcmpErrorUnrelated)?;
    let about = find(state, quoted).and_then(|(index, x)| state.connections[index].side(x));
    let is_judged = about.is_some_and(|side| side.generation == world.generation);
    if packet.destination == quoted.source && is_judged {
        Ok(())
    } else {
        Err(Reason::IcmpErrorUnrelated)
    }
}

/// Moves the connection on, and the end of its life.
fn advance(
    world: &World<'_>,
    connection: &mut Connection,
    packet: &Packet<'_>,
    sender: Sender,
    now: u64,
) -> Result<(), Reason> {
    if packet.protocol == TCP {
        let other_has_sent = match sender {
            Sender::Opener => {
                connection.responder.is_some() || is_silent(world, connection.flow.destination)
            }
            Sender::Responder => true,
        };
        let flags = tcp_flags(packet)?;
        connection.phase = next_phase(connection.phase, flags, sender, other_has_sent);
    }
    connection.deadline = now + lifetime(connection);
    Ok(())
}

/// Is this the router or the internet, whose packets do not come over the trunk?
fn is_silent(world: &World<'_>, address: IpAddr) -> bool {
    site::is_router_address(world, address)
        || (!is_link_local(address) && site::segment_of_address(world.model, address).is_none())
}

fn next_phase(phase: Phase, flags: u8, sender: Sender, other_has_sent: bool) -> Phase {
    let has = |flag| flags & flag != 0;
    match phase {
        _ if has(RST) => Phase::Reset,
        // Rule 3 let only a SYN without ACK come here.
        Phase::Closing | Phase::Reset if has(SYN) && sender == Sender::Opener => Phase::Opening,
        Phase::Reset => Phase::Reset,
        _ if has(FIN) => Phase::Closing,
        Phase::Opening if !has(SYN) && other_has_sent => Phase::Established,
        Phase::Closing | Phase::Established | Phase::Opening | Phase::Other => phase,
    }
}

/// Seconds that a connection lives without another packet.
fn lifetime(connection: &Connection) -> u64 {
    match (connection.phase, connection.flow.protocol) {
        (Phase::Opening | Phase::Closing, _) => 60,
        (Phase::Established, _) => 2 * 3600 + 4 * 60,
        (Phase::Reset, _) => 10,
        (Phase::Other, UDP) if connection.responder.is_none() => 30,
        (Phase::Other, UDP) => 180,
        (Phase::Other, ICMP | ICMPV6) => 30,
        (Phase::Other, _) => 600,
    }
}

fn tcp_flags(packet: &Packet<'_>) -> Result<u8, Reason> {
    u8_at(packet.transport, 13)
}

fn is_echo_request(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (ICMP, 8) | (ICMPV6, 128))
}
