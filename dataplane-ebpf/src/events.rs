//! Events: verdicts worth telling, a bounded number.

#![expect(
    clippy::cast_possible_truncation,
    reason = "no frame is 4 GiB long; a checked conversion costs a branch"
)]

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use dataplane_common::policy::Report;

use crate::frame::Hook;
use crate::maps::{EVENT_BUDGET, EVENTS};

/// Most events per tick and CPU.
const EVENTS_PER_TICK: u64 = 16;

/// Writes an event.
#[inline(never)]
pub(crate) fn tell<H: Hook>(hook: &H, outcome: u32, report: &Report) {
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
pub(crate) fn spend_event() -> bool {
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
