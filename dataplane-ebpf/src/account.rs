//! The one exit: turns a verdict into an action, counts it, tells of it.

#![expect(
    clippy::cast_possible_truncation,
    reason = "no frame is 4 GiB long; a checked conversion costs a branch"
)]

use core::hint::black_box;

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use dataplane_common::abi::{OUTCOMES, direction};
use dataplane_common::policy::{Report, Tables, Verdict};
use dataplane_common::reason::{ANSWERED, DropReason, FORWARDED, TO_KERNEL};
use dataplane_common::rewrite;

use crate::frame::Hook;
use crate::maps::{COUNTERS, EVENT_BUDGET, EVENTS, KernelTables};

/// Most events per tick and CPU.
const EVENTS_PER_TICK: u64 = 16;

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

/// Writes an event.
#[inline(never)]
fn tell<H: Hook>(hook: &H, outcome: u32, report: &Report) {
    #[cfg(feature = "debug-log")]
    aya_log_ebpf::debug!(
        &hook.context(),
        "generation {} VLAN {} -> {}: outcome {}, rule {}",
        report.generation,
        report.vlan_id,
        report.to_vlan_id,
        outcome,
        report.rule_id
    );
    let Some(mut entry) = EVENTS.reserve(0) else {
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: `event` is the reserved record; every field but the tail of `bytes` behind `captured` is
    // written. That tail holds older events: nothing that the reader may not see.
    unsafe {
        (*event).time = bpf_ktime_get_ns();
        (*event).outcome = outcome;
        (*event).rule_id = report.rule_id;
        (*event).generation = report.generation;
        (*event).length = hook.length() as u32;
        (*event).vlan_id = report.vlan_id;
        (*event)._pad = 0;
        (*event).captured = hook.capture((&raw mut (*event).bytes).cast());
    }
    entry.submit(0);
}

/// Counts an event; returns whether this CPU may still write it in this tick.
#[inline(always)]
fn spend_event() -> bool {
    let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the helper takes nothing; the slot is this CPU's own.
    let (now, budget) = unsafe { (bpf_jiffies64(), &mut *budget) };
    if budget.tick != now {
        budget.tick = now;
        budget.left = EVENTS_PER_TICK;
    }
    if budget.left == 0 {
        return false;
    }
    budget.left -= 1;
    true
}
