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

use crate::abi::{
    Address, FlowEntry, FlowKey, FlowSide, LINK_PLANS, SegmentEntry, flow_state, limit_kind,
    side_flags,
};
use crate::policy::destination::{self, Request};
use crate::policy::source::{self, Source};
use crate::policy::tables::Scratch;
use crate::policy::{Context, Packet, Tables, limit, ticket};
use crate::reason::DropReason;
use crate::wire::{protocol, tcp_flags};

/// Returns the timeout of a connection in a state, seconds. RFC 5382 §5: established TCP "MUST NOT be
/// less than 2 hours 4 minutes".
#[inline(always)]
#[must_use]
pub const fn timeout(state: u8) -> u64 {
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
pub(super) struct End {
    pub(super) address: Address,
    pub(super) port: u16,
}

/// Writes the key of a packet's connection; returns whether side `a` sent the packet.
#[inline(always)]
pub(super) fn write_key(
    key: &mut FlowKey,
    vpc_id: u32,
    protocol: u8,
    (from, from_port): (&Address, u16),
    (to, to_port): (&Address, u16),
) -> bool {
    key.plan = FlowKey::plan_and_protocol(vpc_id, protocol);
    let from_a = is_lesser((from, from_port), (to, to_port));
    if from_a {
        key.a.copy_from(from);
        key.b.copy_from(to);
        (key.port_a, key.port_b) = (from_port, to_port);
    } else {
        key.a.copy_from(to);
        key.b.copy_from(from);
        (key.port_a, key.port_b) = (to_port, from_port);
    }
    from_a
}

#[inline(always)]
fn is_lesser((from, from_port): (&Address, u16), (to, to_port): (&Address, u16)) -> bool {
    // The last word first: IPv4 addresses differ in no other.
    let words = [
        (from.0[3], to.0[3]),
        (from.0[0], to.0[0]),
        (from.0[1], to.0[1]),
        (from.0[2], to.0[2]),
    ];
    for (from, to) in words {
        if from != to {
            return from < to;
        }
    }
    from_port <= to_port
}

/// Returns the address plan that an address of the packet's segment is of. Link-local addresses mean something on
/// their link only: what another tenant does with the same ones must not touch this one's connections.
#[inline(always)]
pub(super) fn plan_of<T: Tables>(context: &Context<'_, T>, address: Address, ipv4: bool) -> u32 {
    // guard: link-plan
    if !ipv4 && source::is_link_local(address) {
        return LINK_PLANS | u32::from(context.vlan_id);
    }
    context.segment.vpc_id
}

/// Writes [`Scratch::flow_key`], and which side sent the packet.
#[inline(always)]
fn write_packet_key<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) {
    let packet = &scratch.packet;
    let from_a = write_key(
        &mut scratch.flow_key,
        plan_of(context, packet.source, packet.ipv4),
        packet.protocol,
        (&packet.source, packet.source_port),
        (&packet.destination, packet.destination_port),
    );
    scratch.found = Found {
        from_a,
        ..Found::default()
    };
}

/// Returns (the side that sent, the other side).
#[inline(always)]
pub(super) fn sides(flow: &mut FlowEntry, from_a: bool) -> (&mut FlowSide, &mut FlowSide) {
    let [a, b] = &mut flow.sides;
    if from_a { (a, b) } else { (b, a) }
}

/// Moves a connection on after one of its packets. `tcp_flags` counts for TCP only.
#[inline(always)]
pub(super) fn advance(
    flow: &mut FlowEntry,
    (protocol, tcp_flags): (u8, u8),
    from_a: bool,
    now: u64,
    ticks_per_second: u32,
) {
    let old = flow.sides[0].state;
    let (from, to) = sides(flow, from_a);
    let from_opener = from.flags & side_flags::OPENER != 0;
    let other_has_sent = to.generation != 0 || to.flags & side_flags::SILENT != 0;
    let state = match protocol {
        protocol::TCP => next_tcp_state(old, tcp_flags, from_opener, other_has_sent),
        protocol::UDP if !from_opener => flow_state::REPLIED,
        _ => old,
    };
    if state != old {
        flow.sides[0].state = state;
    }
    let expires = now + timeout(state) * u64::from(ticks_per_second);
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

/// What is known of a packet's connection before section 9 is asked.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Found {
    /// There is one, and it is live.
    live: bool,
    /// The packet comes from side `a`.
    from_a: bool,
    /// The packet goes back to the side that opened it.
    backwards: bool,
    /// VLAN id of the opener's segment, if `backwards`.
    opener_vlan: u16,
}

/// Judges a packet whose source may send: sections 8.2 to 8.5, and 9. Where it goes is left in [`Scratch::to`].
#[inline(always)]
pub(super) fn judge<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    if is_opening(&scratch.packet)? {
        judge_opening(context, scratch)
    } else {
        judge_other(context, scratch)
    }
}

/// [`judge`] for TCP's opening segment.
#[inline(never)]
fn judge_opening<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.request = request_of(scratch);
    destination::check(context, context.segment, context.vlan_id, scratch)?;
    write_packet_key(context, scratch);
    find(context, scratch, true)?;
    enter(context, scratch)
}

/// [`judge`] for everything else.
#[inline(never)]
fn judge_other<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    write_packet_key(context, scratch);
    find(context, scratch, false)?;
    let allowed = ask(context, scratch);
    // guard: revoked-connection
    // without: context.tables.remove_flow(&scratch.flow_key);
    if allowed.is_err() && scratch.found.live {
        context.tables.remove_flow(&scratch.flow_key);
    }
    allowed?;
    enter(context, scratch)
}

/// Judges a packet that the internet sent: it passes in a connection that somebody here opened, and opens none.
#[inline(never)]
pub(super) fn judge_answer<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let opening = is_opening(&scratch.packet)?;
    write_packet_key(context, scratch);
    find(context, scratch, opening)?;
    // guard: unsolicited
    if !scratch.found.live || !scratch.found.backwards {
        return Err(DropReason::NoPolicy);
    }
    // guard: revoked-answer
    // off: let _ = ask(context, scratch);
    ask(context, scratch)?;
    renew(context, scratch);
    report(scratch);
    Ok(())
}

/// Finds the connection of [`Scratch::flow_key`] and checks what the packet may be to it (8.3, 8.5). Leaves its
/// findings in [`Scratch::found`].
#[inline(always)]
fn find<T: Tables>(
    context: &Context<'_, T>,
    scratch: &mut Scratch,
    opening: bool,
) -> Result<(), DropReason> {
    let packet = &scratch.packet;
    let from_a = scratch.found.from_a;
    match context.tables.flow(&scratch.flow_key) {
        // guard: connection-live
        // without: if flow.expires > context.tables.now()
        Some(flow) if flow.expires > context.tables.now() => {
            let [a, b] = &flow.sides;
            let from = if from_a { a } else { b };
            let from_opener = from.flags & side_flags::OPENER != 0;
            check_syn_direction(packet, opening, from_opener)?;
            scratch.found.live = true;
            scratch.found.backwards = !from_opener;
            scratch.found.opener_vlan = if from_a { b.vlan_id } else { a.vlan_id };
            Ok(())
        }
        _ => check_opening(context, packet, opening),
    }
}

/// Enters an allowed packet into its connection.
#[inline(always)]
fn enter<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) -> Result<(), DropReason> {
    if scratch.found.live {
        renew(context, scratch);
    } else {
        // guard: connection-rate
        limit::check(context, limit_kind::CONNECTION, scratch)?;
        prepare(context, scratch);
        // If there is no room, nothing is remembered: UDP is judged anew, TCP's answer is `tcp-no-connection`.
        if ticket::take(context, scratch) {
            context.tables.insert_flow(&scratch.flow_key, &scratch.flow);
        }
        scratch.report.opened = true;
    }
    report(scratch);
    Ok(())
}

/// Tells the hook which rule allowed the packet, and where it goes.
#[inline(always)]
fn report(scratch: &mut Scratch) {
    scratch.report.rule_id = scratch.allowed.rule_id;
    scratch.report.to_vlan_id = scratch.to.vlan_id;
}

/// Section 8.2. Returns whether it is TCP's opening segment: SYN without ACK.
#[inline(always)]
fn is_opening(packet: &Packet) -> Result<bool, DropReason> {
    if packet.protocol != protocol::TCP || packet.tcp_flags & tcp_flags::SYN == 0 {
        return Ok(false);
    }
    // guard: tcp-flags
    if packet.tcp_flags & (tcp_flags::FIN | tcp_flags::RST) != 0 {
        return Err(DropReason::TcpFlags);
    }
    Ok(packet.tcp_flags & tcp_flags::ACK == 0)
}

/// Section 8.3: a SYN comes from the opener, a SYN with ACK from the other side.
#[inline(always)]
fn check_syn_direction(
    packet: &Packet,
    opening: bool,
    from_opener: bool,
) -> Result<(), DropReason> {
    let syn = packet.protocol == protocol::TCP && packet.tcp_flags & tcp_flags::SYN != 0;
    // guard: tcp-syn-direction
    if syn && opening != from_opener {
        return Err(DropReason::TcpFlags);
    }
    Ok(())
}

/// Section 8.5: what can open a connection at all.
#[inline(always)]
fn check_opening<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
    opening: bool,
) -> Result<(), DropReason> {
    // guard: tcp-no-connection
    if packet.protocol == protocol::TCP && !opening && !is_taken_over(context, packet) {
        return Err(DropReason::TcpNoConnection);
    }
    // guard: echo-reply-unrelated
    if packet.is_icmp() && !packet.is_echo_request() {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    Ok(())
}

/// At a port: a segment in the middle of a connection that is older than the port's programs, or was known to another
/// hypervisor. Section 9 decides as if its sender opened it.
#[inline(always)]
fn is_taken_over<T: Tables>(context: &Context<'_, T>, packet: &Packet) -> bool {
    const ALL: u8 = tcp_flags::SYN | tcp_flags::RST | tcp_flags::FIN | tcp_flags::ACK;
    context.at_port && packet.tcp_flags & ALL == tcp_flags::ACK
}

/// Returns what section 9 is asked about a packet of the side that opens its connection.
#[inline(always)]
fn request_of(scratch: &Scratch) -> Request {
    Request {
        src_class: scratch.source.class,
        destination: scratch.packet.destination,
        protocol: scratch.packet.protocol,
        port: scratch.packet.destination_port,
        ipv4: scratch.packet.ipv4,
    }
}

/// Asks section 9 about the packet's connection, in the direction in which it is or was opened. Leaves the
/// answer in [`Scratch::allowed`].
#[inline(always)]
fn ask<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) -> Result<(), DropReason> {
    let mut segment = context.segment;
    let mut vlan_id = context.vlan_id;
    scratch.request = request_of(scratch);
    if scratch.found.backwards {
        vlan_id = scratch.found.opener_vlan;
        segment = opener_segment(context, &scratch.packet, vlan_id)?;
        scratch.to = FlowSide {
            vlan_id,
            mtu: segment.mtu,
            ..FlowSide::default()
        };
        scratch.request.src_class = source::class_of_opener(context, segment, scratch);
        scratch.request.destination = scratch.packet.source;
        scratch.request.port = scratch.packet.source_port;
    }
    destination::check(context, segment, vlan_id, scratch)
}

/// Returns the segment of a connection's opener, the packet's destination.
#[inline(always)]
fn opener_segment<'a, T: Tables>(
    context: &Context<'a, T>,
    packet: &Packet,
    vlan_id: u16,
) -> Result<&'a SegmentEntry, DropReason> {
    // guard: opener-segment-entry
    // exempt: the array has an entry for every VLAN id
    let segment = context
        .tables
        .segment(context.generation.slot, vlan_id)
        .ok_or(DropReason::NoPolicy)?;
    let on_link = context.local && !packet.ipv4 && source::is_link_local(packet.destination);
    // A VLAN id without a segment has no subnet either.
    // guard: opener-segment
    if !on_link && !source::is_in(segment, packet.destination, packet.ipv4) {
        return Err(DropReason::NoPolicy);
    }
    Ok(segment)
}

/// Makes the entry of a connection that section 9 allows: [`Scratch::flow`].
#[inline(always)]
fn prepare<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) {
    let packet = &scratch.packet;
    let state = match packet.protocol {
        protocol::TCP => flow_state::OPENING,
        protocol::UDP => flow_state::UNREPLIED,
        _ if packet.is_icmp() => flow_state::ECHO,
        _ => flow_state::OTHER,
    };
    let ticks = timeout(state) * u64::from(context.generation.ticks_per_second);
    let flow = &mut scratch.flow;
    flow.expires = context.tables.now() + ticks;
    let (from, to) = sides(flow, scratch.found.from_a);
    *from = judged_side(context, &scratch.source);
    from.flags |= side_flags::OPENER;
    to.copy_from(&scratch.allowed.side);
    flow.sides[0].state = state;
    scratch.to.copy_from(&scratch.allowed.side);
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
        state: 0,
    }
}

/// Notes in a live connection that a packet of it was judged again, and how. If another CPU has removed it
/// meanwhile, the packet goes where section 9 says and the next one opens it anew.
#[inline(always)]
fn renew<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) {
    if !scratch.found.backwards {
        scratch.to.copy_from(&scratch.allowed.side);
    }
    let from_a = scratch.found.from_a;
    let Some(mut flow) = context.tables.flow(&scratch.flow_key) else {
        return;
    };
    let (from, to) = sides(&mut flow, from_a);
    // Who opened it, and its state, never change on the way: another CPU may be looking.
    let mut judged = judged_side(context, &scratch.source);
    judged.flags |= from.flags & side_flags::OPENER;
    judged.state = from.state;
    *from = judged;
    // If another CPU has judged that side under the next generation already, it knows the place better: an old one
    // under the new number would let in whoever is there.
    if to.generation <= context.generation.number {
        place(to, &scratch.to, scratch.found.backwards);
    }
    scratch.to.copy_from(to);
    advance(
        &mut flow,
        (scratch.packet.protocol, scratch.packet.tcp_flags),
        from_a,
        context.tables.now(),
        context.generation.ticks_per_second,
    );
}

/// Notes where packets to a side go. Its VLAN id is section 9's to say if it did not open the connection; its MAC if
/// that is known.
#[inline(always)]
fn place(side: &mut FlowSide, to: &FlowSide, is_opener: bool) {
    if !is_opener {
        side.vlan_id = to.vlan_id;
    }
    side.mtu = to.mtu;
    side.flags = to.flags | (side.flags & side_flags::OPENER);
    if to.flags & side_flags::FORWARD != 0 {
        side.mac = to.mac;
    }
}
