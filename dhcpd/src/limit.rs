//! Rates: a token bucket for one hardware address, and one for all strangers of a segment.

use std::collections::HashMap;

use netmodel::ids::MacAddr;

use crate::counters::Reason;
use crate::settings::Settings;
use crate::time::Time;

/// Most hardware addresses of one segment whose rates are known at once.
const MACS: usize = 4096;
/// Tokens are counted in thousandths: one message costs this much.
const MESSAGE: u64 = 1000;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u64,
    filled: Time,
}

/// What a bucket allows.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Messages per second; 0 is no limit.
    per_second: u64,
    /// Messages at once.
    burst: u64,
}

impl Bucket {
    fn full(rate: Rate, now: Time) -> Self {
        Self {
            tokens: rate.burst * MESSAGE,
            filled: now,
        }
    }

    /// A message per second is a thousandth of a message per millisecond: one token.
    fn fill(&mut self, rate: Rate, now: Time) {
        let gained = now.since(self.filled).saturating_mul(rate.per_second);
        self.tokens = self.tokens.saturating_add(gained).min(rate.burst * MESSAGE);
        self.filled = now;
    }

    fn take(&mut self, rate: Rate, now: Time) -> bool {
        self.fill(rate, now);
        let is_enough = self.tokens >= MESSAGE;
        if is_enough {
            self.tokens -= MESSAGE;
        }
        is_enough || rate.per_second == 0
    }
}

/// The rates of one segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    by_mac: HashMap<MacAddr, Bucket>,
    strangers: Option<Bucket>,
    /// When idle ones were forgotten last.
    swept: Time,
}

impl Limits {
    /// May the client send one more message? Strangers, who hold no address and have none reserved, share one rate: whoever
    /// has one is not theirs to crowd out.
    ///
    /// # Errors
    ///
    /// [`Reason::RateStrangers`], [`Reason::RateMac`].
    pub(crate) fn admit(
        &mut self,
        settings: &Settings,
        (mac, is_known): (MacAddr, bool),
        now: Time,
    ) -> Result<(), Reason> {
        let rate = |per_second: u32, burst: u64| Rate {
            per_second: per_second.into(),
            burst: u64::from(per_second) * burst,
        };
        let strangers = rate(settings.strangers_per_segment, 2);
        if !is_known && !self.admit_stranger(strangers, now) {
            return Err(Reason::RateStrangers);
        }
        let each = rate(settings.messages_per_mac, 4);
        if !self.admit_mac(mac, each, now) {
            return Err(Reason::RateMac);
        }
        Ok(())
    }

    /// May the client send one more message? A client that cannot be kept track of, because too many
    /// are, may: what strangers do together is limited by [`Limits::admit_stranger`].
    fn admit_mac(&mut self, mac: MacAddr, rate: Rate, now: Time) -> bool {
        if let Some(bucket) = self.by_mac.get_mut(&mac) {
            return bucket.take(rate, now);
        }
        if self.by_mac.len() >= MACS && now.since(self.swept) >= 1000 {
            self.swept = now;
            self.by_mac.retain(|_, bucket| {
                bucket.fill(rate, now);
                bucket.tokens < rate.burst * MESSAGE
            });
        }
        if self.by_mac.len() >= MACS {
            return true;
        }
        let bucket = self
            .by_mac
            .entry(mac)
            .or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
    }

    /// May strangers send one more message?
    fn admit_stranger(&mut self, rate: Rate, now: Time) -> bool {
        let bucket = self
            .strangers
            .get_or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 2,
        burst: 3,
    };

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let mut limits = Limits::default();
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let mut admitted = |millis| limits.admit_mac(mac, RATE, Time(millis));
        assert_eq!([0, 0, 0, 0].map(&mut admitted), [true, true, true, false]);
        assert_eq!([499, 500, 501].map(&mut admitted), [false, true, false]);
    }

    #[test]
    fn a_clock_that_goes_back_neither_gives_nor_takes() {
        let mut limits = Limits::default();
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let mut admitted = |millis| limits.admit_mac(mac, RATE, Time(millis));
        assert_eq!([9000, 9000, 9000].map(&mut admitted), [true, true, true]);
        assert_eq!([1000, 1500].map(&mut admitted), [false, true]);
    }

    #[test]
    fn addresses_that_are_invented_do_not_fill_the_memory() {
        let mut limits = Limits::default();
        for number in 0..20_000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            limits.admit_mac(MacAddr([2, 0, a, b, c, d]), RATE, Time(0));
        }
        assert_eq!(limits.by_mac.len(), MACS);
        assert!(limits.admit_mac(MacAddr([4, 0, 0, 0, 0, 1]), RATE, Time(5000)));
        assert_eq!(limits.by_mac.len(), 1, "idle ones are forgotten");
    }
}
