//! The programs that hold the trunk until the first generation is in: entry points and their two maps.
//!
//! An object of its own, so that it loads when the policy's programs and maps do not.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point macros make public functions without documentation"
)]

#[expect(dead_code, reason = "the hold changes no frame and copies none")]
mod frame;

use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use dataplane_common::hold::{HOLD_OUTCOMES, Needs, judge};

use crate::frame::{Hook, SkbFrame, XdpFrame};

/// What the operator needs.
#[btf_map]
static HOLD_NEEDS: Array<Needs, 1> = Array::new();
/// Frames: those that passed, then those that were dropped, by reason.
#[btf_map]
static HOLD_COUNTERS: PerCpuArray<u64, { HOLD_OUTCOMES as usize }> = PerCpuArray::new();

/// XDP on the router's trunk, instead of `xdp_from_trunk`.
#[xdp]
pub fn xdp_hold(context: XdpContext) -> u32 {
    hold(&XdpFrame::new(&context)) as u32
}

/// TC ingress on the router's trunk, instead of `tc_from_trunk`.
#[classifier]
pub fn tc_hold(context: TcContext) -> i32 {
    hold(&SkbFrame::new(&context))
}

#[inline(always)]
fn hold<H: Hook>(frame: &H) -> i32 {
    let Some(needs) = HOLD_NEEDS.get(0) else {
        return frame.discard();
    };
    let (outcome, action) = match judge(frame, needs) {
        Ok(()) => (0, frame.pass()),
        Err(reason) => (reason as u32, frame.discard()),
    };
    if let Some(count) = HOLD_COUNTERS.get_ptr_mut(outcome) {
        // SAFETY: this CPU's own place. One program at a time runs on a CPU in this hook's context.
        unsafe { *count += 1 };
    }
    action
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
