//! What happens to what is allowed: the last section of `docs/isolation.md`.

use crate::abi::{FlowSide, limit_kind, side_flags};
use crate::policy::tables::Scratch;
use crate::policy::{Context, Frame, Hop, Tables, Verdict, destination, limit};
use crate::reason::DropReason;

/// What decides whether the program can forward a packet.
pub(super) struct Outgoing {
    /// TTL or hop limit.
    pub(super) ttl: u8,
    pub(super) ipv4: bool,
    /// Octets of IP header and payload.
    pub(super) length: u16,
    /// Octets of IP and transport header.
    pub(super) headers: u16,
}

/// Returns how the program forwards a packet to a side of a connection; `None` if the kernel must.
#[inline(always)]
pub(super) fn hop<F: Frame>(
    frame: &F,
    packet: &Outgoing,
    vlan_id: u16,
    to: &FlowSide,
) -> Option<Hop> {
    let known = to.flags & side_flags::FORWARD != 0 && to.vlan_id != vlan_id;
    if !known || packet.ttl <= 1 || frame.wire_length(packet.length, packet.headers) > to.mtu {
        return None;
    }
    Some(Hop {
        mac: to.mac,
        vlan_id: to.vlan_id,
        ipv4: packet.ipv4,
    })
}

/// Chooses what happens to an allowed packet, which goes to [`Scratch::to`].
#[inline(always)]
pub(super) fn choose_verdict<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let (packet, to) = (&scratch.packet, &scratch.to);
    let outgoing = Outgoing {
        ttl: packet.ttl,
        ipv4: packet.ipv4,
        length: packet.length,
        headers: packet.l4 - packet.l3 + u16::from(packet.transport_length),
    };
    if let Some(hop) = hop(frame, &outgoing, context.vlan_id, to) {
        scratch.report.hop = hop;
        scratch.report.verdict = Verdict::Forward;
        return Ok(());
    }
    if to.flags & side_flags::SILENT != 0
        && packet.is_echo_request()
        && !packet.is_fragment()
        && !packet.has_options()
        && destination::is_own_gateway(context, packet.destination, packet.ipv4)
    {
        scratch.report.verdict = if packet.ipv4 {
            Verdict::AnswerEcho4
        } else {
            Verdict::AnswerEcho6
        };
        // guard: echo-rate
        limit::check(context, limit_kind::NEIGHBOUR, scratch)?;
    }
    Ok(())
}
