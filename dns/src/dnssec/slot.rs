//! Places for what is signed: made when it is first asked for, and again before it expires.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::key::Validity;
use crate::limit::Limit;
use crate::view::ViewId;

/// A signature is good from a while ago, for clocks that are behind, in seconds.
const BEFORE: u64 = 3600;
/// How long a signature is good, in seconds.
const LIFETIME: u64 = 14 * 86_400;
/// How long before its end it is made anew, in seconds: many times the longest TTL that is signed, and time to mend a clock.
const REFRESH: u64 = 7 * 86_400;

/// When something is signed, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Seconds since 1970.
    pub now: u64,
    /// Who pays for signatures that are not there yet; `None`: there is no limit.
    pub limit: Option<(Limit<'a>, ViewId)>,
}

impl Moment<'_> {
    /// Takes the share of one signature.
    pub(super) fn may_sign(&self) -> bool {
        self.limit.is_none_or(|(limit, view)| limit.may_sign(view))
    }

    pub(super) fn validity(&self) -> Validity {
        Validity {
            inception: self.now.saturating_sub(BEFORE),
            expiration: self.now + LIFETIME,
        }
    }
}

/// Something signed, and when.
#[derive(Debug)]
pub(crate) struct Made<T> {
    pub(crate) value: T,
    /// When the oldest signature in it was made.
    pub(super) since: u64,
}

impl<T> Made<T> {
    /// Is it as good as new? A clock that was set back makes it one of the future, which nobody would believe.
    fn is_fresh(&self, now: u64) -> bool {
        now < self.since + (LIFETIME - REFRESH) && self.is_good(now)
    }

    fn is_good(&self, now: u64) -> bool {
        now + BEFORE >= self.since && now < self.since + LIFETIME - BEFORE
    }
}

/// A place for one thing.
#[derive(Debug)]
pub(super) struct Slot<T>(ArcSwapOption<Made<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<T> Slot<T> {
    /// Takes over what is in another place.
    pub(super) fn take_over(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Returns what is there. If it gets old, it is made anew; if that cannot be done now, the old one is good for a while.
    pub(super) fn get_or_make<E>(
        &self,
        now: u64,
        make: impl FnOnce() -> Result<Made<T>, E>,
    ) -> Result<Arc<Made<T>>, E> {
        let there = self.0.load();
        if let Some(made) = there.as_ref().filter(|made| made.is_fresh(now)) {
            return Ok(Arc::clone(made));
        }
        match make() {
            Ok(made) => {
                let made = Arc::new(made);
                self.0.store(Some(Arc::clone(&made)));
                Ok(made)
            }
            Err(why) => {
                let old = there.as_ref().filter(|made| made.is_good(now));
                old.map(Arc::clone).ok_or(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn asked(slot: &Slot<u64>, now: u64, can: bool) -> Option<u64> {
        let make = || {
            let made = Made {
                value: now,
                since: now,
            };
            can.then_some(made).ok_or(())
        };
        slot.get_or_make(now, make).ok().map(|made| made.value)
    }

    #[test]
    fn a_signature_is_made_once_and_again_a_week_before_its_end() {
        let slot = Slot::default();
        assert_eq!(asked(&slot, NOW, true), Some(NOW));
        assert_eq!(asked(&slot, NOW + 600_000, true), Some(NOW));
        let later = NOW + 7 * 86_400;
        assert_eq!(asked(&slot, later, true), Some(later));
    }

    #[test]
    fn an_old_signature_serves_until_its_end_when_none_can_be_made() {
        let slot = Slot::default();
        assert_eq!(asked(&slot, NOW, false), None);
        assert_eq!(asked(&slot, NOW, true), Some(NOW));
        assert_eq!(asked(&slot, NOW + 13 * 86_400, false), Some(NOW));
        assert_eq!(asked(&slot, NOW + 14 * 86_400, false), None);
    }

    #[test]
    fn a_signature_of_the_future_is_made_anew() {
        let slot = Slot::default();
        assert_eq!(asked(&slot, NOW, true), Some(NOW));
        let back = NOW - 86_400;
        assert_eq!(asked(&slot, back, true), Some(back));
    }
}
