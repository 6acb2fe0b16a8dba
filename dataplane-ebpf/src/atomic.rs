//! Numbers in maps that several CPUs change at once.
//!
//! The target has no atomics of Rust's, since older processors of it had none; Linux has them from 5.12 on.
//! <https://github.com/torvalds/linux/blob/v6.1/Documentation/bpf/instruction-set.rst>

use core::arch::asm;

/// Adds to a number; returns what it was.
///
/// # Safety
///
/// `place` is valid for reads and writes, and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn fetch_add(place: *mut u64, by: u64) -> u64 {
    let old;
    // SAFETY: one instruction on the caller's place.
    unsafe {
        asm!(
            "{number} = atomic_fetch_add((u64 *)({place} + 0), {number})",
            place = in(reg) place,
            number = inout(reg) by => old,
        );
    }
    old
}

/// Replaces a number if it is what it is thought to be; returns what it was.
///
/// # Safety
///
/// As for [`fetch_add`].
#[inline(always)]
pub(crate) unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> u64 {
    let seen;
    // SAFETY: as for `fetch_add`.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            inout("r0") old => seen,
            place = in(reg) place,
            new = in(reg) new,
        );
    }
    seen
}
