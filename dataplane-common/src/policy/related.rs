//! Section 8.1 of `docs/isolation.md`: ICMP errors about live connections.

use crate::abi::{Address, side_flags};
use crate::policy::connection::{End, plan_of, sides, write_key};
use crate::policy::tables::Scratch;
use crate::policy::{Context, Frame, Packet, Tables, opaque};
use crate::reason::DropReason;
use crate::wire::{Ipv4, Ipv6, Transport, icmp_type, icmpv6_type, protocol};

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
pub(super) fn check_icmp_error<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let packet = &scratch.packet;
    // guard: icmp-error-quote
    // off: let Some((protocol, from, to)) = read_quoted(frame, packet) else { return Ok(()) };
    let (protocol, from, to) = read_quoted(frame, packet).ok_or(DropReason::IcmpErrorUnrelated)?;
    // guard: icmp-error-ends
    if from.address != packet.destination || to.address != packet.source {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    let from_a = write_key(
        &mut scratch.flow_key,
        plan_of(context, from.address, packet.ipv4),
        protocol,
        (&from.address, from.port),
        (&to.address, to.port),
    );
    // guard: icmp-error-connection
    // off: let Some(mut flow) = context.tables.flow(&scratch.flow_key) else { return Ok(()) };
    let mut flow = context
        .tables
        .flow(&scratch.flow_key)
        .ok_or(DropReason::IcmpErrorUnrelated)?;
    let live = flow.expires > context.tables.now();
    let (quoted, reporter) = sides(&mut flow, from_a);
    // The router and the internet are never judged: there, the other side of the connection is.
    let judged = if quoted.flags & side_flags::SILENT != 0 {
        reporter.generation
    } else {
        quoted.generation
    };
    // guard: icmp-error-live
    // exempt part: `reporter.vlan_id != context.vlan_id`: the source lies in this segment's subnet,
    //  which no other VLAN has as long as there is one address plan
    if !live || judged != context.generation.number || reporter.vlan_id != context.vlan_id {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    scratch.report.to_vlan_id = quoted.vlan_id;
    scratch.to.copy_from(quoted);
    Ok(())
}

/// [`check_icmp_error`] for one that the internet sent: any router on the way may be its source, and the quoted packet
/// is of a live connection that somebody here opened.
#[inline(never)]
pub(super) fn check_icmp_error_from_internet<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let packet = &scratch.packet;
    // guard: internet-error-quote
    // off: let Some((protocol, from, to)) = read_quoted(frame, packet) else { return Ok(()) };
    let (protocol, from, to) = read_quoted(frame, packet).ok_or(DropReason::IcmpErrorUnrelated)?;
    // guard: internet-error-end
    if from.address != packet.destination {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    let from_a = write_key(
        &mut scratch.flow_key,
        plan_of(context, from.address, packet.ipv4),
        protocol,
        (&from.address, from.port),
        (&to.address, to.port),
    );
    // guard: internet-error-connection
    // off: let Some(mut flow) = context.tables.flow(&scratch.flow_key) else { return Ok(()) };
    let mut flow = context
        .tables
        .flow(&scratch.flow_key)
        .ok_or(DropReason::IcmpErrorUnrelated)?;
    let live = flow.expires > context.tables.now();
    let (quoted, _) = sides(&mut flow, from_a);
    // guard: internet-error-live
    if !live || quoted.generation != context.generation.number {
        return Err(DropReason::IcmpErrorUnrelated);
    }
    Ok(())
}

/// Reads the packet that an ICMP error quotes: protocol, source, destination.
#[inline(always)]
fn read_quoted<F: Frame>(frame: &F, packet: &Packet) -> Option<(u8, End, End)> {
    let at = opaque(packet.l4 + 8);
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
        // guard: quoted-version
        if ip.version.get() >> 28 != 6 {
            return None;
        }
        (ip.next_header, ip.source, ip.destination, at + 40)
    };
    // guard: quoted-length
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
                // guard: quoted-icmp-type
                // off: _ => Some((id, 0)),
                _ => None,
            }
        }
        _ => Some((0, 0)),
    }
}
