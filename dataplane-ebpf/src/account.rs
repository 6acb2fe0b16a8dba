//! The one exit: turns a verdict into an action, counts it, tells of it.

use core::hint::black_box;

use dataplane_common::abi::{OUTCOMES, direction};
use dataplane_common::policy::{Report, Tables, Verdict};
use dataplane_common::reason::{ANSWERED, DropReason, FORWARDED, TO_KERNEL};
use dataplane_common::rewrite;

use crate::events::{spend_event, tell};
use crate::frame::Hook;
use crate::maps::KernelTables;
use crate::trunk::COUNTERS;

/// Carries out a verdict; returns the hook's action.
#[inline(always)]
pub(crate) fn account<H: Hook>(
    hook: &mut H,
    judged: Result<(), DropReason>,
    report: &Report,
) -> i32 {
    let (outcome, action) = match judged {
        Ok(()) => send(hook, report),
        Err(reason) => (reason as u32, hook.discard()),
    };
    count(report.vlan_id, direction::FROM_TENANT, outcome);
    if report.to_vlan_id != 0 && report.to_vlan_id != report.vlan_id {
        count(report.to_vlan_id, direction::TO_TENANT, outcome);
    }
    if (judged.is_err() || report.opened) && spend_event() {
        tell(hook, outcome, report);
    }
    action
}

/// Carries out the verdict on an allowed frame; returns outcome and action.
#[inline(always)]
fn send<H: Hook>(hook: &mut H, report: &Report) -> (u32, i32) {
    if report.verdict == Verdict::ToKernel {
        return (TO_KERNEL, hook.pass());
    }
    // 18 or 14: with the tag in the bytes, or without. Constants, so that the verifier sees the bounds.
    let l3 = if report.l3 == 18 { 18 } else { 14 };
    let (outcome, done) = match report.verdict {
        Verdict::Forward => (FORWARDED, rewrite::forward(hook, &report.hop, l3)),
        answer @ (Verdict::ToKernel
        | Verdict::AnswerArp
        | Verdict::AnswerNeighbour
        | Verdict::AnswerNeighbourWithOption
        | Verdict::AnswerEcho4
        | Verdict::AnswerEcho6) => (ANSWERED, answer_apart(hook, answer, l3)),
    };
    if done.is_none() {
        return (DropReason::ForwardFailed as u32, hook.discard());
    }
    (outcome, hook.send_back())
}

/// [`rewrite::answer`] with a stack frame of its own.
#[inline(never)]
fn answer_apart<H: Hook>(hook: &mut H, answer: Verdict, l3: usize) -> Option<()> {
    let mac = KernelTables.generation()?.router_mac;
    // Constants, so that the verifier sees the bounds.
    let l3 = if l3 == 18 { 18 } else { 14 };
    rewrite::answer(hook, answer, mac, l3)
}

/// Counts a frame.
///
/// The compiler knows that every outcome is below [`OUTCOMES`] and would leave out the remainder that the
/// verifier needs to see; hence `black_box`.
#[inline(always)]
fn count(vlan_id: u16, direction: usize, outcome: u32) {
    let Some(counters) = COUNTERS.get_ptr_mut(u32::from(vlan_id)) else {
        return;
    };
    // SAFETY: this CPU's own slot; a program does not interrupt itself.
    let counters = unsafe { &mut *counters };
    if let Some(packets) = counters.packets.get_mut(direction)
        && let Some(packets) = packets.get_mut(black_box(outcome) as usize % OUTCOMES)
    {
        *packets += 1;
    }
}
