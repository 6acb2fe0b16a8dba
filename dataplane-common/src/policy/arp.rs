//! Section 2 of `docs/isolation.md`: ARP (RFC 826) and RARP (RFC 903).

use crate::abi::{Address, limit_kind, segment_flags};
use crate::policy::source::{self, Binding};
use crate::policy::tables::{Keys, Scratch};
use crate::policy::{Context, Frame, Tables, Verdict, limit, opaque};
use crate::reason::DropReason;
use crate::wire::{Arp, ether_type};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const RARP_REQUEST: u16 = 3;
const RARP_REPLY: u16 = 4;

#[inline(never)]
pub(super) fn check<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    ether_type: u16,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    // guard: arp-cut-short
    let arp = frame
        .read::<Arp>(opaque(scratch.report.l3))
        .ok_or(DropReason::Truncated)?;
    check_shape(&arp, context.segment.flags, ether_type)?;
    // guard: arp-sender-mac
    if arp.sender_mac != context.source_mac {
        return Err(DropReason::ArpSenderMismatch);
    }
    let sender = address(arp.sender);
    if arp.sender != [0, 0] {
        check_sender(context, sender, &mut scratch.keys)?;
    }
    let for_gateway = source::is_gateway(context.segment, address(arp.target), true);
    if arp.operation.get() == REQUEST && for_gateway && arp.sender != [0, 0] {
        scratch.report.verdict = Verdict::AnswerArp;
    }
    // guard: arp-rate
    limit::check(context, limit_kind::NEIGHBOUR, scratch)?;
    Ok(())
}

#[inline(always)]
fn check_shape(arp: &Arp, segment: u32, ether_type: u16) -> Result<(), DropReason> {
    let operation = arp.operation.get();
    let operation_fits = match ether_type {
        ether_type::ARP => operation == REQUEST || operation == REPLY,
        _ => operation == RARP_REQUEST || operation == RARP_REPLY,
    };
    // guard: arp-malformed
    if arp.hardware.get() != 1
        || arp.protocol.get() != ether_type::IPV4
        || arp.hardware_length != 6
        || arp.protocol_length != 4
        || !operation_fits
        || segment & segment_flags::IPV4 == 0
    {
        return Err(DropReason::ArpMalformed);
    }
    Ok(())
}

#[inline(always)]
fn check_sender<T: Tables>(
    context: &Context<'_, T>,
    sender: Address,
    keys: &mut Keys,
) -> Result<(), DropReason> {
    // guard: arp-gateway-claim
    if source::is_gateway(context.segment, sender, true) {
        return Err(DropReason::GatewayClaim);
    }
    // guard: arp-sender-subnet
    if !source::is_host_of(context.segment, sender, true) {
        return Err(DropReason::ArpSenderMismatch);
    }
    // guard: arp-sender-binding
    if let Binding::Contradicts = source::binding(context, context.source_mac, sender, true, keys) {
        return Err(DropReason::ArpSenderMismatch);
    }
    Ok(())
}

#[inline(always)]
fn address(halves: [u16; 2]) -> Address {
    let ([a, b], [c, d]) = (halves[0].to_ne_bytes(), halves[1].to_ne_bytes());
    Address::from_ipv4([a, b, c, d])
}
