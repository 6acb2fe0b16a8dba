//! The eBPF programs of bulkhead: entry points only.
//!
//! ```text
//!  trunk ─► *_from_trunk ─► policy::established ──known──► account: rewrite, count, tell, action
//!                                │                            ▲
//!                                └─tail call─► *_judge ─► policy::from_trunk
//! ```

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point macros make public functions without documentation"
)]

mod account;
mod atomic;
mod events;
mod frame;
mod maps;
mod trunk;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use dataplane_common::policy::{self, Report};
use dataplane_common::reason::DropReason;

use crate::account::account;
use crate::frame::{Hook as _, SkbFrame, XdpFrame};
use crate::maps::KernelTables;
use crate::trunk::{TC_JUDGE, XDP_JUDGE};

/// XDP on the router's trunk; frames that leave the tenants' and the platform's segments.
#[xdp]
pub fn xdp_from_trunk(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&context);
    if let Some(report) = policy::established(&frame, &KernelTables) {
        return account(&mut frame, Ok(()), &report) as u32;
    }
    // SAFETY: the array holds XDP programs only.
    // Comes back only if the program is not there: then the frame is not judged, so it is dropped.
    unsafe { XDP_JUDGE.tail_call(&context, 0) };
    account(
        &mut frame,
        Err(DropReason::NoGeneration),
        &Report::default(),
    ) as u32
}

/// Behind `xdp_from_trunk`: everything that the fast path does not know.
#[xdp]
pub fn xdp_judge(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&context);
    let Some(scratch) = maps::scratch() else {
        return frame.discard() as u32;
    };
    let judged = policy::from_trunk(&frame, &KernelTables, scratch);
    account(&mut frame, judged, &scratch.report) as u32
}

/// TC ingress (TCX or clsact) on the router's trunk; the same frames.
#[classifier]
pub fn tc_from_trunk(context: TcContext) -> i32 {
    let mut frame = SkbFrame::new(&context);
    if let Some(report) = policy::established(&frame, &KernelTables) {
        return account(&mut frame, Ok(()), &report);
    }
    // SAFETY: the array holds classifiers only. As in `xdp_from_trunk`.
    unsafe { TC_JUDGE.tail_call(&context, 0) };
    account(
        &mut frame,
        Err(DropReason::NoGeneration),
        &Report::default(),
    )
}

/// Behind `tc_from_trunk`: everything that the fast path does not know.
#[classifier]
pub fn tc_judge(context: TcContext) -> i32 {
    let frame = SkbFrame::new(&context);
    let Some(scratch) = maps::scratch() else {
        return frame.discard();
    };
    let judged = policy::from_trunk(&frame, &KernelTables, scratch);
    account(&mut frame.reloaded(), judged, &scratch.report)
}

/// `bpf_ktime_get_ns` is for programs under a licence that the kernel takes as compatible with its own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
