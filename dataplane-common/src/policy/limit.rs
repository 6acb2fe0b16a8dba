//! Section 11 of `docs/isolation.md`: how much of what all share one of them may take (ADR 0014).
//!
//! *Holder* is who pays: the segment that a frame came from; at a hypervisor's access port, the port.

use crate::abi::PORT_HOLDER;
use crate::policy::tables::{Holder as _, Scratch};
use crate::policy::{Context, Tables};
use crate::reason::DropReason;

/// How often a bucket is tried that other processors change at the same time. They do so for the same holder.
const ATTEMPTS: u32 = 4;
/// A bucket holds at least so many, however low the rate is.
const LEAST_BURST: u64 = 4;
/// Ticks that one processor's clock may be behind the tick that another one has left in a bucket.
const BEHIND: u32 = 1 << 16;

/// Returns the number of who pays for a frame.
#[inline(always)]
pub(super) fn holder<T: Tables>(context: &Context<'_, T>, scratch: &Scratch) -> u32 {
    match scratch.port {
        0 => u32::from(context.vlan_id),
        ifindex => PORT_HOLDER | ifindex,
    }
}

#[inline(always)]
fn rate<T: Tables>(context: &Context<'_, T>, kind: usize, scratch: &Scratch) -> u32 {
    let rates = match scratch.port {
        0 => &context.segment.limits.rates,
        _ => &context.segment.port_rates,
    };
    rates.get(kind).copied().unwrap_or_default()
}

/// Returns how many connections are remembered for who pays; at least one.
#[inline(always)]
pub(super) fn quota<T: Tables>(context: &Context<'_, T>, scratch: &Scratch) -> u64 {
    let quota = match (scratch.port, context.segment.limits.connections) {
        (0, 0) => context.generation.share,
        (0, own) => own,
        _ => scratch.quota,
    };
    u64::from(quota).max(1)
}

/// Takes one of what the holder may send of a kind in a second. It is asked last of all that can refuse a frame, so that
/// what is not lawful costs nothing of it.
#[inline(never)]
pub(super) fn check<T: Tables>(
    context: &Context<'_, T>,
    kind: usize,
    scratch: &Scratch,
) -> Result<(), DropReason> {
    let rate = rate(context, kind, scratch);
    if rate == 0 {
        return Ok(());
    }
    // guard: holder
    // exempt: the table makes room for who pays
    let mut holder = context
        .tables
        .holder(holder(context, scratch), &scratch.nothing)
        .ok_or(DropReason::RateLimited)?;
    let now = context.tables.now();
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        let before = holder.bucket(kind);
        let after = take(before, now, rate, context.generation.ticks_per_second);
        // guard: rate-limited
        // off: let Some(after) = after else { return Ok(()) };
        let after = after.ok_or(DropReason::RateLimited)?;
        if holder.replace_bucket(kind, before, after) {
            return Ok(());
        }
        attempts += 1;
    }
    // guard: rate-contended
    // exempt: no test changes a bucket that often while it is looked at
    Err(DropReason::RateLimited)
}

/// Takes a packet out of a bucket (see [`crate::abi::HolderEntry::buckets`]); `None` if it has none. A second's worth fits in.
#[inline(always)]
fn take(bucket: u64, now: u64, rate: u32, ticks_per_second: u32) -> Option<u64> {
    let (rate, packet) = (u64::from(rate), u64::from(ticks_per_second));
    let (last, credit) = (bucket & 0xffff_ffff, bucket >> 32);
    let now = now & 0xffff_ffff;
    let elapsed = now.wrapping_sub(last) & 0xffff_ffff;
    let is_behind = elapsed > u64::from(u32::MAX - BEHIND);
    let (now, elapsed) = if is_behind { (last, 0) } else { (now, elapsed) };
    let full = rate.max(LEAST_BURST) * packet;
    // One that nobody has taken from is full.
    let credit = if bucket == 0 {
        full
    } else {
        credit + elapsed * rate
    };
    let credit = credit.min(full).min(0xffff_ffff);
    Some(credit.checked_sub(packet)? << 32 | now)
}

#[cfg(all(test, feature = "user"))]
mod tests {
    use super::*;

    const HZ: u32 = 250;

    /// How many of `count` packets pass that come every `step` ticks from `now` on.
    fn passing(bucket: &mut u64, (now, step): (u64, u64), count: u64, rate: u32) -> u64 {
        let ticks = (0..count).map(|i| now + i * step);
        let passed = ticks.filter(|&now| match take(*bucket, now, rate, HZ) {
            Some(after) => {
                *bucket = after;
                true
            }
            None => false,
        });
        passed.count() as u64
    }

    #[test]
    fn second_is_worth_its_rate_and_not_more() {
        for rate in [1, 10, 1000, 1_000_000] {
            let burst = u64::from(rate).max(LEAST_BURST);
            let mut bucket = 0;
            assert_eq!(passing(&mut bucket, (1 << 20, 0), 2 * burst, rate), burst);
            let second = passing(&mut bucket, ((1 << 20) + 250, 0), 2 * burst, rate);
            assert_eq!(second, u64::from(rate), "a second later");
        }
    }

    #[test]
    fn steady_stream_at_its_rate_passes_whole() {
        // 50 a second are one every 5 ticks.
        let mut bucket = 0;
        assert_eq!(passing(&mut bucket, (1 << 20, 5), 5000, 50), 5000);
        // Twice as many: the half, beside the first second's worth.
        let twice = passing(&mut bucket, (1 << 24, 2), 5000, 50);
        assert!((2000..=2050).contains(&twice), "{twice}");
    }

    #[test]
    fn long_pause_and_a_clock_that_wraps_fill_it_once() {
        let mut bucket = 0;
        passing(&mut bucket, (0xffff_fff0, 0), 20, 10);
        for now in [0x1_0000_0000 + 1000, 0x1_8000_0000, 0x2_0000_0000 + 10] {
            assert_eq!(passing(&mut bucket, (now, 0), 20, 10), 10, "{now:x}");
        }
    }

    #[test]
    fn processor_whose_clock_is_behind_gains_nothing() {
        let mut bucket = 0;
        passing(&mut bucket, (1 << 20, 0), 20, 10);
        assert_eq!(passing(&mut bucket, ((1 << 20) - 1, 0), 20, 10), 0);
        assert_eq!(bucket & 0xffff_ffff, 1 << 20, "the later tick stays");
    }
}
