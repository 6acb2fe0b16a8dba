//! The programs on a hypervisor's ports: entry points and their maps.
//!
//! ```text
//!   tenant ─► from_tenant ─┐                        ┌─► to_tenant ─► tenant
//!                          ├─ mark ─► bridge ─ mark ─┤
//!   uplink ─► from_uplink ─┘                        └─► to_uplink ─► uplink
//! ```
//!
//! An object of its own, so that the router's does not depend on what this one needs of the verifier.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point macros make public functions without documentation"
)]

mod atomic;
mod events;
#[expect(dead_code, reason = "ports change no frame, and have no XDP")]
mod frame;
mod maps;

use core::hint::black_box;

use aya_ebpf::btf_maps::{HashMap, PerCpuArray, ProgramArray};
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use dataplane_common::abi::{
    OUTCOMES, PortCounters, PortEntry, StationEntry, StationKey, VLAN_IDS, hook, judged_mark,
};
use dataplane_common::policy::{self, Ports, Report};
use dataplane_common::reason::{DropReason, TO_KERNEL};

use crate::events::{spend_event, tell};
use crate::frame::{Hook as _, SkbFrame};
use crate::maps::KernelTables;

/// Access ports that a host can have.
const MOST_PORTS: usize = 8192;

/// Who is behind an access port, by interface index.
#[btf_map]
static PORTS: HashMap<u32, PortEntry, MOST_PORTS> = HashMap::new();
/// Where the hardware addresses of this host are.
#[btf_map]
static STATIONS: HashMap<StationKey, StationEntry, MOST_PORTS> = HashMap::new();
/// The program behind `tc_from_uplink`: together they are too much for the verifier.
#[btf_map]
static FROM_ROUTER: ProgramArray<1> = ProgramArray::new();
/// Frames by segment, hook and outcome.
#[btf_map]
static PORT_COUNTERS: PerCpuArray<PortCounters, { VLAN_IDS as usize }> = PerCpuArray::new();

/// TC ingress of the host's end of an access port; frames that leave the tenant.
#[classifier]
pub fn tc_from_tenant(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    let Some(scratch) = maps::scratch() else {
        return frame.discard();
    };
    let judged = policy::from_tenant(&frame, ifindex(&context), &KernelTables, scratch);
    conclude_entry(&context, &frame, hook::FROM_TENANT, judged, &scratch.report)
}

/// TC egress of the host's end of an access port; frames that go to the tenant.
#[classifier]
pub fn tc_to_tenant(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    let Some(scratch) = maps::scratch() else {
        return frame.discard();
    };
    let at = (ifindex(&context), mark(&context));
    let judged = policy::to_tenant(&frame, at, &KernelTables, scratch);
    if judged.is_ok() && scratch.report.departs != 0 {
        // `fq` waits until then; other queues take no notice, and then what comes too fast is only dropped.
        // <https://github.com/torvalds/linux/blob/v6.1/net/sched/sch_fq.c#L462-L478>
        // SAFETY: `skb` is the program's context, and programs may write its time.
        unsafe { (*context.skb.skb).tstamp = scratch.report.departs };
    }
    conclude(&frame, hook::TO_TENANT, judged, &scratch.report)
}

/// TC ingress of the physical uplink, below any VLAN device.
#[classifier]
pub fn tc_from_uplink(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    if policy::is_of_router(&frame, &KernelTables) {
        // SAFETY: the array holds classifiers only.
        unsafe { FROM_ROUTER.tail_call(&context, 0) };
        // Comes back only if the program is not there: then the frame is not judged, so it is dropped.
        let report = Report::default();
        let judged = Err(DropReason::NoGeneration);
        return conclude(&frame, hook::FROM_UPLINK, judged, &report);
    }
    let Some(scratch) = maps::scratch() else {
        return frame.discard();
    };
    let judged = policy::from_peer(&frame, &KernelTables, scratch);
    conclude_entry(
        &context,
        &frame.reloaded(),
        hook::FROM_UPLINK,
        judged,
        &scratch.report,
    )
}

/// Behind `tc_from_uplink`: what the router sent.
#[classifier]
pub fn tc_from_router(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    let Some(scratch) = maps::scratch() else {
        return frame.discard();
    };
    let judged = policy::from_router(&frame, &KernelTables, scratch);
    conclude_entry(
        &context,
        &frame.reloaded(),
        hook::FROM_UPLINK,
        judged,
        &scratch.report,
    )
}

/// TC egress of the physical uplink, below any VLAN device.
#[classifier]
pub fn tc_to_uplink(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    let Some(scratch) = maps::scratch() else {
        return frame.discard();
    };
    // SAFETY: `skb` is the program's context.
    let came_from = unsafe { (*context.skb.skb).ingress_ifindex };
    let at = (came_from, mark(&context));
    let judged = policy::to_uplink(&frame, at, &KernelTables, scratch);
    conclude(&frame, hook::TO_UPLINK, judged, &scratch.report)
}

/// [`conclude`], and marks what is allowed.
#[inline(always)]
fn conclude_entry(
    context: &TcContext,
    frame: &SkbFrame,
    hook: usize,
    judged: Result<(), DropReason>,
    report: &Report,
) -> i32 {
    if judged.is_ok() {
        let mark = judged_mark(mark(context), report.vlan_id);
        // SAFETY: `skb` is the program's context, and programs may write its mark.
        unsafe { (*context.skb.skb).mark = mark };
    }
    conclude(frame, hook, judged, report)
}

/// Counts and tells of a verdict; returns the hook's action.
#[inline(always)]
fn conclude(frame: &SkbFrame, hook: usize, judged: Result<(), DropReason>, report: &Report) -> i32 {
    let outcome = match judged {
        Ok(()) => TO_KERNEL,
        Err(reason) => reason as u32,
    };
    count(report.vlan_id, hook, outcome);
    if judged.is_err() && spend_event() {
        tell(frame, outcome, report);
    }
    if judged.is_ok() {
        frame.pass()
    } else {
        frame.discard()
    }
}

/// As for the trunk's counters: the verifier must see the remainder.
#[inline(always)]
fn count(vlan_id: u16, hook: usize, outcome: u32) {
    let Some(counters) = PORT_COUNTERS.get_ptr_mut(u32::from(vlan_id)) else {
        return;
    };
    // SAFETY: this CPU's own place. One program at a time runs on a CPU in this hook's context.
    let counters = unsafe { &mut *counters };
    if let Some(frames) = counters.frames.get_mut(hook)
        && let Some(frames) = frames.get_mut(black_box(outcome) as usize % OUTCOMES)
    {
        *frames += 1;
    }
}

#[inline(always)]
fn ifindex(context: &TcContext) -> u32 {
    // SAFETY: `skb` is the program's context.
    unsafe { (*context.skb.skb).ifindex }
}

#[inline(always)]
fn mark(context: &TcContext) -> u32 {
    // SAFETY: `skb` is the program's context.
    unsafe { (*context.skb.skb).mark }
}

impl Ports for KernelTables {
    #[inline(always)]
    fn port(&self, ifindex: u32) -> Option<PortEntry> {
        // SAFETY: plain integers; the controller replaces whole entries.
        unsafe { PORTS.get(ifindex).copied() }
    }

    #[inline(always)]
    fn station(&self, key: &StationKey) -> Option<StationEntry> {
        // SAFETY: as above.
        unsafe { STATIONS.get(key).copied() }
    }
}

/// Helpers are for programs under a licence that the kernel takes as compatible with its own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
