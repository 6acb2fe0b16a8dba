//! Section 8 of `docs/isolation.md`: connections.
//!
//! ```text
//!             opener's SYN            segment without SYN, both have sent
//!   (none) ───────────────► OPENING ───────────────────────────────────► ESTABLISHED
//!                              ▲                                             │ FIN
//!                 opener's SYN │                                             ▼
//!                              ├───────────────────────────────────────── CLOSING ◄─ FIN of any state
//!                              └────────────────────────────────────────── RESET  ◄─ RST of any state
//! ```

use crate::abi::{Address, FlowEntry, FlowKey, FlowSide, flow_state, segment_flags, side_flags};
use crate::policy::destination::{self, Request};
use crate::policy::source::{self, Source};
use crate::policy::{Context, Frame, Packet, Report, Tables};
use crate::reason::DropReason;
use crate::wire::{Ipv4, Ipv6, Transport, icmp_type, icmpv6_type, protocol, tcp_flags};

/// Returns the timeout of a connection in a state, seconds. RFC 5382 §5: established TCP "MUST NOT be
/// less than 2 hours 4 minutes".
#[inline(always)]
fn timeout(state: u8) -> u64 {
    match state {
        flow_state::ESTABLISHED => 7_440,
        flow_state::RESET => 10,
        flow_state::UNREPLIED | flow_state::ECHO => 30,
        flow_state::OTHER => 600,
        flow_state::REPLIED => 180,
        _ => 60,
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Eq, PartialEq)]
struct End {
    address: Address,
    port: u16,
}

/// The key of a packet's connection, and which side sent it.
struct Keyed {
    key: FlowKey,
    from_a: bool,
}

#[inline(always)]
fn keyed(vpc_id: u32, protocol: u8, first: End, second: End) -> Keyed {
    let first_is_a = is_lesser(&first, &second);
    let (a, b) = if first_is_a {
        (first, second)
    } else {
        (second, first)
    };
    let key = FlowKey {
        vpc_id,
        protocol: u32::from(protocol),
        a: a.address,
        b: b.address,
        port_a: a.port,
        port_b: b.port,
    };
    Keyed {
        key,
        from_a: first_is_a,
    }
}

#[inline(always)]
fn is_lesser(first: &End, second: &End) -> bool {
    let ([a, b, c, d], [e, f, g, h]) = (first.address.0, second.address.0);
    if d != h {
        return d < h;
    }
    if a != e {
        return a < e;
    }
    if b != f {
        return b < f;
    }
    if c != g {
        return c < g;
    }
    first.port <= second.port
}

#[inline(always)]
fn packet_key<T: Tables>(context: &Context<'_, T>, packet: &Packet) -> Keyed {
    let from = End {
        address: packet.source,
        port: packet.source_port,
    };
    let to = End {
        address: packet.destination,
        port: packet.destination_port,
    };
    keyed(context.segment.vpc_id, packet.protocol, from, to)
}

/// Returns (the side that sent, the other side).
#[inline(always)]
fn sides(flow: &mut FlowEntry, from_a: bool) -> (&mut FlowSide, &mut FlowSide) {
    let [a, b] = &mut flow.sides;
    if from_a { (a, b) } else { (b, a) }
}

/// The fast path: a packet of a connection that needs no second judgement costs this one lookup.
/// Returns the side it goes to.
#[inline(always)]
pub(super) fn established<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
    report: &mut Report,
) -> Option<FlowSide> {
    if !packet.is_plain() {
        return None;
    }
    let Keyed { key, from_a } = packet_key(context, packet);
    let mut flow = context.tables.flow(&key)?;
    let now = context.tables.now();
    let (from, to) = sides(&mut flow, from_a);
    let (from, to) = (*from, *to);
    // guard: established
    if flow.expires <= now
        || from.generation != context.generation.number
        || from.vlan_id != context.vlan_id
        || from.mac != context.source_mac
    {
        return None;
    }
    advance(context, &mut flow, packet, from_a, now);
    report.rule_id = flow.rule_id;
    report.to_vlan_id = to.vlan_id;
    Some(to)
}

/// Moves a connection on after one of its packets.
#[inline(always)]
fn advance<T: Tables>(
    context: &Context<'_, T>,
    flow: &mut FlowEntry,
    packet: &Packet,
    from_a: bool,
    now: u64,
) {
    let from_opener = (flow.opener == 0) == from_a;
    let (_, to) = sides(flow, from_a);
    let other_has_sent = to.generation != 0 || to.flags & side_flags::SILENT != 0;
    let state = match packet.protocol {
        protocol::TCP => next_tcp_state(flow.state, packet.tcp_flags, from_opener, other_has_sent),
        protocol::UDP if !from_opener => flow_state::REPLIED,
        _ => flow.state,
    };
    if state != flow.state {
        flow.state = state;
    }
    let expires = now + timeout(state) * u64::from(context.generation.ticks_per_second);
    if expires != flow.expires {
        flow.expires = expires;
    }
}

#[inline(always)]
fn next_tcp_state(state: u8, flags: u8, from_opener: bool, other_has_sent: bool) -> u8 {
    if flags & tcp_flags::RST != 0 {
        return flow_state::RESET;
    }
    if flags & tcp_flags::SYN != 0 {
        let reopens = from_opener && (state == flow_state::CLOSING || state == flow_state::RESET);
        return if reopens { flow_state::OPENING } else { state };
    }
    if flags & tcp_flags::FIN != 0 {
        return if state == flow_state::RESET {
            state
        } else {
            flow_state::CLOSING
        };
    }
    if state == flow_state::OPENING && other_has_sent {
        return flow_state::ESTABLISHED;
    }
    state
}

/// Judges a packet whose source was judged: a connection's that must be judged again, or a new one's.
/// Returns the side it goes to.
#[inline(always)]
pub(super) fn check<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &Packet,
    source: &Source,
    report: &mut Report,
) -> Result<FlowSide, DropReason> {
    if is_icmp_error(packet) {
        return check_icmp_error(frame, context, packet, report);
    }
    let pure_syn = check_tcp_flags(packet)?;
    let Keyed { key, from_a } = packet_key(context, packet);
    if let Some(mut flow) = context.tables.flow(&key) {
        let now = context.tables.now();
        if flow.expires > now {
            let from_opener = (flow.opener == 0) == from_a;
            let syn = packet.protocol == protocol::TCP && packet.tcp_flags & tcp_flags::SYN != 0;
            // guard: tcp-syn-direction
            if syn && pure_syn != from_opener {
                return Err(DropReason::TcpFlags);
            }
            let to = judge_again(context, &mut flow, packet, source, from_a);
            let Ok(to) = to else {
                drop(flow);
                context.tables.remove_flow(&key);
                return to;
            };
            advance(context, &mut flow, packet, from_a, now);
            report.rule_id = flow.rule_id;
            report.to_vlan_id = to.vlan_id;
            return Ok(to);
        }
    }
    check_opening(packet, pure_syn)?;
    open(context, packet, source, &Keyed { key, from_a }, report)
}

/// Section 8.4. Returns whether it is a SYN without ACK.
#[inline(always)]
fn check_tcp_flags(packet: &Packet) -> Result<bool, DropReason> {
    if packet.protocol != protocol::TCP || packet.tcp_flags & tcp_flags::SYN == 0 {
        return Ok(false);
    }
    // guard: tcp-flags
    if packet.tcp_flags & (tcp_flags::FIN | tcp_flags::RST) != 0 {
        return Err(DropReason::TcpFlags);
    }
    Ok(packet.tcp_flags & tcp_flags::ACK == 0)
}

/// Section 8.3: what can open a connection at all.
#[inline(always)]
fn check_opening(packet: &Packet, pure_syn: bool) -> Result<(), DropReason> {
    // guard: tcp-no-connection
    if packet.protocol == protocol::TCP && !pure_syn {
        return Err(DropReason::TcpNoConnection);
    }
    // guard: echo-reply-unrelated
    if packet.is_icmp() && !packet.is_echo_request() {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    Ok(())
}

/// Opens a connection if section 9 allows it.
#[inline(always)]
fn open<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
    source: &Source,
    keyed: &Keyed,
    report: &mut Report,
) -> Result<FlowSide, DropReason> {
    let request = Request {
        src_class: source.class,
        destination: packet.destination,
        protocol: packet.protocol,
        port: packet.destination_port,
        ipv4: packet.ipv4,
    };
    let allowed = destination::check(context, context.segment, context.vlan_id, &request)?;
    report.rule_id = allowed.rule_id;
    report.to_vlan_id = allowed.side.vlan_id;
    let state = match packet.protocol {
        protocol::TCP => flow_state::OPENING,
        protocol::UDP => flow_state::UNREPLIED,
        _ if packet.is_icmp() => flow_state::ECHO,
        _ => flow_state::OTHER,
    };
    let from = judged_side(context, source);
    let ticks = timeout(state) * u64::from(context.generation.ticks_per_second);
    let entry = FlowEntry {
        expires: context.tables.now() + ticks,
        sides: if keyed.from_a {
            [from, allowed.side]
        } else {
            [allowed.side, from]
        },
        rule_id: allowed.rule_id,
        opener: u8::from(!keyed.from_a),
        state,
        _pad: 0,
    };
    context.tables.insert_flow(&keyed.key, &entry);
    report.opened = true;
    Ok(allowed.side)
}

/// The side of a connection that the frame at hand was sent by.
#[inline(always)]
fn judged_side<T: Tables>(context: &Context<'_, T>, source: &Source) -> FlowSide {
    FlowSide {
        mac: context.source_mac,
        vlan_id: context.vlan_id,
        generation: context.generation.number,
        mtu: context.segment.mtu,
        flags: if source.bound { side_flags::FORWARD } else { 0 },
    }
}

/// Section 8.2: judges a live connection again, in the direction in which it was opened.
#[inline(always)]
fn judge_again<T: Tables>(
    context: &Context<'_, T>,
    flow: &mut FlowEntry,
    packet: &Packet,
    source: &Source,
    from_a: bool,
) -> Result<FlowSide, DropReason> {
    let from_opener = (flow.opener == 0) == from_a;
    let judged = judged_side(context, source);
    let (from, to) = sides(flow, from_a);
    let (rule_id, to_side) = if from_opener {
        let request = Request {
            src_class: source.class,
            destination: packet.destination,
            protocol: packet.protocol,
            port: packet.destination_port,
            ipv4: packet.ipv4,
        };
        let allowed = destination::check(context, context.segment, context.vlan_id, &request)?;
        let mut side = allowed.side;
        side.generation = to.generation;
        if side.flags & (side_flags::FORWARD | side_flags::SILENT) == 0 {
            side.mac = to.mac;
        }
        (allowed.rule_id, side)
    } else {
        (check_opener(context, packet, to.vlan_id)?, *to)
    };
    *from = judged;
    *to = to_side;
    flow.rule_id = rule_id;
    Ok(to_side)
}

/// May the other side of this reply (still) open the connection to its sender? Returns the rule.
#[inline(always)]
fn check_opener<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
    vlan_id: u16,
) -> Result<u32, DropReason> {
    let opener = packet.destination;
    let segment = context
        .tables
        .segment(context.generation.slot, vlan_id)
        .ok_or(DropReason::NoPolicy)?;
    // guard: opener-segment
    if segment.flags & segment_flags::PRESENT == 0 || !source::is_in(segment, opener, packet.ipv4) {
        return Err(DropReason::NoPolicy);
    }
    let request = Request {
        src_class: source::class_of(context, segment, opener, packet.ipv4),
        destination: packet.source,
        protocol: packet.protocol,
        port: packet.source_port,
        ipv4: packet.ipv4,
    };
    destination::check(context, segment, vlan_id, &request).map(|allowed| allowed.rule_id)
}

/// Is it an ICMP error of the packet's own family?
#[inline(always)]
pub(super) fn is_icmp_error(packet: &Packet) -> bool {
    if !packet.is_icmp() {
        return false;
    }
    if packet.ipv4 {
        matches!(
            packet.icmp_type,
            icmp_type::UNREACHABLE | icmp_type::TIME_EXCEEDED | icmp_type::PARAMETER_PROBLEM
        )
    } else {
        matches!(
            packet.icmp_type,
            icmpv6_type::UNREACHABLE..=icmpv6_type::PARAMETER_PROBLEM
        )
    }
}

/// Section 8.1: an ICMP error passes if it is the answer of one side of a live connection to a packet of
/// the other.
#[inline(never)]
fn check_icmp_error<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &Packet,
    report: &mut Report,
) -> Result<FlowSide, DropReason> {
    let (protocol, from, to) = read_quoted(frame, packet).ok_or(DropReason::IcmpErrorUnrelated)?;
    // guard: icmp-error-ends
    if from.address != packet.destination || to.address != packet.source {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    let Keyed { key, from_a } = keyed(context.segment.vpc_id, protocol, from, to);
    let mut flow = context
        .tables
        .flow(&key)
        .ok_or(DropReason::IcmpErrorUnrelated)?;
    let live = flow.expires > context.tables.now();
    let (quoted, reporter) = sides(&mut flow, from_a);
    // guard: icmp-error-live
    if !live
        || quoted.generation != context.generation.number
        || reporter.vlan_id != context.vlan_id
    {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    report.to_vlan_id = quoted.vlan_id;
    Ok(*quoted)
}

/// Reads the packet that an ICMP error quotes: protocol, source, destination.
#[inline(always)]
fn read_quoted<F: Frame>(frame: &F, packet: &Packet) -> Option<(u8, End, End)> {
    let at = usize::from(packet.l4) + 8;
    let end = usize::from(packet.l3) + usize::from(packet.length);
    let (protocol, source, destination, l4) = if packet.ipv4 {
        let ip = frame.read::<Ipv4>(at)?;
        // guard: quoted-shape
        if ip.version_ihl != 0x45 || ip.fragment.get() & 0x1fff != 0 {
            return None;
        }
        let (source, destination) = (ip.source, ip.destination);
        let source = Address::from_ipv4_word(source);
        (
            ip.protocol,
            source,
            Address::from_ipv4_word(destination),
            at + 20,
        )
    } else {
        let ip = frame.read::<Ipv6>(at)?;
        if ip.version.get() >> 28 != 6 {
            return None;
        }
        (ip.next_header, ip.source, ip.destination, at + 40)
    };
    if l4 + 8 > end {
        return None;
    }
    let transport = frame.read::<Transport>(l4)?;
    let (source_port, destination_port) = quoted_ports(packet.ipv4, protocol, &transport)?;
    Some((
        protocol,
        End {
            address: source,
            port: source_port,
        },
        End {
            address: destination,
            port: destination_port,
        },
    ))
}

#[inline(always)]
fn quoted_ports(ipv4: bool, protocol: u8, transport: &Transport) -> Option<(u16, u16)> {
    match protocol {
        protocol::TCP | protocol::UDP => Some((transport.first.get(), transport.second.get())),
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, _] = transport.first.get().to_be_bytes();
            let id = transport.third.get();
            match (ipv4, protocol, kind) {
                (true, protocol::ICMP, icmp_type::ECHO_REQUEST)
                | (false, protocol::ICMPV6, icmpv6_type::ECHO_REQUEST) => Some((id, 0)),
                (true, protocol::ICMP, icmp_type::ECHO_REPLY)
                | (false, protocol::ICMPV6, icmpv6_type::ECHO_REPLY) => Some((0, id)),
                _ => None,
            }
        }
        _ => Some((0, 0)),
    }
}
