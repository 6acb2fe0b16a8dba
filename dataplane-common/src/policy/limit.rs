//! Section 11 of `docs/isolation.md`: how much of what all share one of them may take (ADR 0014).
//!
//! *Holder* is who pays: the segment that a frame came from; at a hypervisor's access port, the port.

use crate::abi::{PORT_HOLDER, SegmentEntry, TENANT_HOLDER, way};
use crate::policy::tables::{Holder, Scratch};
use crate::policy::{Context, Tables};
use crate::reason::DropReason;

/// How often a bucket is tried that other processors change at the same time. They do so for the same holder.
const ATTEMPTS: u32 = 4;
/// A bucket holds at least so many, however low the rate is.
const LEAST_BURST: u64 = 4;
/// Ticks that one processor's clock may be behind the tick that another one has left in a bucket.
const BEHIND: u32 = 1 << 16;
/// How far beyond now a line may be busy, in nanoseconds: what comes at once and is let through, or waits.
const BACKLOG: u64 = 100_000_000;

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

/// Is there bandwidth for a frame that its sender's tenant sends over the router? It is taken.
///
/// On the fast path, which does not enter who is not known, and leaves the rest to [`check_bandwidth`].
#[inline(never)]
pub(super) fn has_bandwidth<T: Tables>(tables: &T, segment: &SegmentEntry, octets: usize) -> bool {
    let Some(mut holder) = tables.known_holder(TENANT_HOLDER | segment.tenant) else {
        return false;
    };
    let now = tables.nanoseconds();
    occupy(&mut holder, way::SENT, octets, segment.octet_time, now) != 0
}

/// The same on the slow path, asked last.
#[inline(never)]
pub(super) fn check_bandwidth<T: Tables>(
    context: &Context<'_, T>,
    octets: usize,
    scratch: &Scratch,
) -> Result<(), DropReason> {
    let (tables, segment) = (context.tables, context.segment);
    if segment.octet_time == 0 {
        return Ok(());
    }
    // guard: bandwidth-holder
    // exempt: the table makes room for who pays
    let mut holder = tables
        .holder(TENANT_HOLDER | segment.tenant, &scratch.nothing)
        .ok_or(DropReason::OverBandwidth)?;
    let now = tables.nanoseconds();
    // guard: bandwidth
    if occupy(&mut holder, way::SENT, octets, segment.octet_time, now) == 0 {
        return Err(DropReason::OverBandwidth);
    }
    Ok(())
}

/// Takes the bandwidth of a port for a frame that leaves it, or goes to it; `ifindex` is the port's. Returns when the frame may
/// leave, in nanoseconds; 0 if it may not.
#[inline(always)]
pub(super) fn at_port<T: Tables>(
    tables: &T,
    (ifindex, way): (u32, usize),
    (octets, octet_time): (usize, u32),
    scratch: &Scratch,
) -> u64 {
    let now = tables.nanoseconds();
    match tables.holder(PORT_HOLDER | ifindex, &scratch.nothing) {
        Some(mut holder) => occupy(&mut holder, way, octets, octet_time, now),
        None => 0,
    }
}

/// Puts a frame on a line that is busy until some time. Returns when the frame's turn is; 0 if the line is too far behind.
///
/// One number is a token bucket and a queue's departure times at once: what is let through may have taken a
/// [`BACKLOG`] more than the time that has passed. Nothing is tried again: another processor that finds the line idle at the
/// same moment may lose the time of one frame.
#[inline(always)]
fn occupy(holder: &mut impl Holder, way: usize, octets: usize, octet_time: u32, now: u64) -> u64 {
    let time = (octets as u64 * u64::from(octet_time)) >> 10;
    let before = holder.occupy(way, time);
    if before < now {
        holder.replace_busy(way, before.wrapping_add(time), now + time);
        return now;
    }
    if before > now + BACKLOG {
        holder.occupy(way, time.wrapping_neg());
        return 0;
    }
    before
}

#[cfg(all(test, feature = "user"))]
mod tests {
    use std::cell::RefCell;
    use std::vec::Vec;

    use super::*;
    use crate::abi::{HolderEntry, octet_time};

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

    /// Octets of what passes of `frames` frames of 1,000 octets that come every `step` ns, at `kbit`.
    fn sent(holder: &mut HolderEntry, (now, step): (u64, u64), frames: u64, kbit: u32) -> u64 {
        let holder = RefCell::new(*holder);
        let times = (0..frames).map(|i| now + i * step);
        let passed = times
            .filter(|&now| occupy(&mut holder.borrow_mut(), 0, 1000, octet_time(kbit), now) != 0);
        1000 * passed.count() as u64
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn line_carries_its_bandwidth_and_a_backlog() {
        for kbit in [1_000, 10_000, 1_000_000] {
            let mut holder = HolderEntry::default();
            // Twice as much as fits, for ten seconds.
            let step = SECOND * 8 / u64::from(kbit) / 2;
            let passed = sent(&mut holder, (SECOND, step), 10 * SECOND / step, kbit);
            let (fits, burst) = (u64::from(kbit) * 125 * 10, u64::from(kbit) * 125 / 10);
            assert!(
                (fits..=fits + burst + 2_000).contains(&passed),
                "{passed} of {fits} at {kbit} kbit/s"
            );
        }
    }

    #[test]
    fn what_stays_below_its_bandwidth_passes_whole_and_at_once() {
        let holder = RefCell::new(HolderEntry::default());
        for i in 0..10_000 {
            // 1,000 octets every 10 ms at 1 Mbit/s: eight of them.
            let now = SECOND + i * 10_000_000;
            let turn = occupy(&mut holder.borrow_mut(), 0, 1000, octet_time(1_000), now);
            assert_eq!(turn, now);
        }
    }

    #[test]
    fn turns_of_what_comes_at_once_are_as_far_apart_as_the_frames_are_long() {
        let holder = RefCell::new(HolderEntry::default());
        let turn = || occupy(&mut holder.borrow_mut(), 0, 1000, octet_time(1_000), SECOND);
        let turns: Vec<_> = (0..14).map(|_| turn()).collect();
        let expected: Vec<_> = (0..13).map(|i| SECOND + i * 8_000_000).collect();
        let (passed, last) = turns.split_at(expected.len());
        assert_eq!(passed, expected, "until a backlog of 100 ms");
        assert_eq!(last, [0]);
        assert_eq!(turn(), 0, "what is refused takes no time of the line");
        assert_eq!(holder.borrow().busy_until, [SECOND + 104_000_000, 0]);
    }

    #[test]
    fn octets_take_the_time_of_their_bandwidth() {
        assert_eq!(octet_time(0), 0, "any");
        assert_eq!(octet_time(1), u32::MAX, "the slowest line");
        assert_eq!(octet_time(64), 128_000_000, "125 µs");
        assert_eq!(octet_time(8_000_000), 1024, "one ns");
        assert_eq!(octet_time(u32::MAX), 1);
    }
}
