//! Response-rate limiting over UDP: how many replies a client, and a segment, may cause in a second.
//!
//! A source address in UDP can be forged by a neighbour in the same segment. What goes over a limit is answered
//! by "ask over TCP" or not at all, in turns: a client that is there finds its way, a victim is sent less than
//! the forger sends. A good cookie (RFC 7873) shows who asks, and lifts the limit.
//!
//! # Guarantees
//!
//! * **Bounded.** The table has a fixed size. A client that no longer asks has its place for a second at most; one
//!   that is pushed out by others is limited by its segment alone.
//! * **Apart.** No segment's questions count against another's.
//! * No lock, and nothing is allocated.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::view::ViewId;

/// Places for clients; a power of two.
const CLIENTS: usize = 1 << 14;
/// Places for views; a site has at most 4,094 segments. The last one is for addresses of no segment.
const VIEWS: usize = 1 << 12;
/// Microseconds that are saved up: a burst is a second's worth.
const BURST: u64 = 1_000_000;
/// The part of a place that is a time; what is above tells clients apart.
const TIME: u64 = (1 << 48) - 1;

/// Replies per second over UDP; 0 is no limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rates {
    /// For one address.
    pub client: u32,
    /// For all clients of a view.
    pub view: u32,
    /// Signatures that are made for the clients of a view, over UDP and TCP.
    pub signatures: u32,
}

/// What is to be done with a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Answer it.
    Answer,
    /// Say that it is to be asked over TCP.
    Truncate,
    /// Do not answer.
    Drop,
}

/// Counts replies; shared by all threads.
///
/// A place holds the time at which what was answered so far would be paid for at the rate (GCRA).
pub struct Limiter {
    intervals: Intervals,
    start: Instant,
    seed: RandomState,
    clients: Box<[AtomicU64]>,
    views: Box<[AtomicU64]>,
    signatures: Box<[AtomicU64]>,
    turn: AtomicU32,
}

/// How many microseconds one costs, by [`Rates`]; `None` is nothing.
struct Intervals {
    client: Option<u64>,
    view: Option<u64>,
    signature: Option<u64>,
}

/// A limiter at one moment.
#[derive(Clone, Copy)]
pub struct Limit<'a> {
    limiter: &'a Limiter,
    /// Microseconds since its start.
    now: u64,
}

impl Limiter {
    /// Makes one.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let places = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let interval = |rate: u32| BURST.checked_div(rate.into());
        Self {
            intervals: Intervals {
                client: interval(rates.client),
                view: interval(rates.view),
                signature: interval(rates.signatures),
            },
            start: Instant::now(),
            seed: RandomState::new(),
            clients: places(CLIENTS),
            views: places(VIEWS),
            signatures: places(VIEWS),
            turn: AtomicU32::new(0),
        }
    }

    /// Forgets what was counted for views: their numbers are those of another generation now. Each has a burst again.
    pub(crate) fn forget_views(&self) {
        for place in self.views.iter().chain(&self.signatures) {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// Looks at the clock, once for a batch of queries.
    #[must_use]
    pub fn at(&self, now: Instant) -> Limit<'_> {
        let since = now.saturating_duration_since(self.start).as_micros();
        Limit {
            limiter: self,
            now: u64::try_from(since).unwrap_or(u64::MAX) & TIME,
        }
    }

    /// Takes a place's share; tells whether there was one left.
    fn take(place: &AtomicU64, tag: u64, now: u64, interval: Option<u64>) -> bool {
        let Some(interval) = interval else {
            return true;
        };
        let taken = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            let paid = if old & !TIME == tag { old & TIME } else { 0 };
            let paid = paid.max(now) + interval;
            (paid - now <= BURST).then_some(tag | (paid & TIME))
        });
        taken.is_ok()
    }

    fn client(&self, source: IpAddr, now: u64) -> bool {
        if self.intervals.client.is_none() {
            return true;
        }
        let hash = self.seed.hash_one(source);
        let tag = hash & !TIME;
        let index = usize::try_from(hash & TIME).unwrap_or(0) % CLIENTS;
        let places = [index, index ^ 1].map(|index| self.clients.get(index));
        let [Some(first), Some(second)] = places else {
            return true;
        };
        let [a, b] = [first, second].map(|place| place.load(Ordering::Relaxed));
        // Its own place; otherwise the one that was left alone for longer.
        let is_first = match (a & !TIME == tag, b & !TIME == tag) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => a & TIME <= b & TIME,
        };
        Self::take(
            if is_first { first } else { second },
            tag,
            now,
            self.intervals.client,
        )
    }

    fn view(&self, view: Option<ViewId>, now: u64) -> bool {
        let index = view.map_or(VIEWS - 1, |view| view.0 % (VIEWS - 1));
        let place = self.views.get(index);
        place.is_none_or(|place| Self::take(place, 0, now, self.intervals.view))
    }

    fn signature(&self, view: ViewId, now: u64) -> bool {
        let place = self.signatures.get(view.0 % (VIEWS - 1));
        place.is_none_or(|place| Self::take(place, 0, now, self.intervals.signature))
    }
}

impl Limit<'_> {
    /// Counts a signature that is to be made for a client of a view; tells whether it may be.
    #[must_use]
    pub fn may_sign(self, view: ViewId) -> bool {
        self.limiter.signature(view, self.now)
    }

    /// Counts a query of a client without a good cookie.
    #[must_use]
    pub fn check(self, view: Option<ViewId>, source: IpAddr) -> Verdict {
        let limiter = self.limiter;
        // What a client is not answered does not count against its neighbours.
        if limiter.client(source, self.now) && limiter.view(view, self.now) {
            return Verdict::Answer;
        }
        match limiter.turn.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Verdict::Truncate,
            _ => Verdict::Drop,
        }
    }
}

impl std::fmt::Debug for Limit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limit")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(client: u32, view: u32) -> Limiter {
        Limiter::new(Rates {
            client,
            view,
            signatures: 0,
        })
    }

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    /// How many of `count` queries at one moment are answered.
    fn answered(limiter: &Limiter, after: Duration, view: usize, sources: &[IpAddr]) -> usize {
        let limit = limiter.at(limiter.start + after);
        let view = Some(ViewId(view));
        let asked = sources.iter().map(|source| limit.check(view, *source));
        asked.filter(|verdict| *verdict == Verdict::Answer).count()
    }

    const LATER: Duration = Duration::from_secs(5);

    #[test]
    fn a_client_has_a_burst_of_a_second_and_then_its_rate() {
        let limiter = limiter(10, 0);
        let one = [address(1); 100];
        assert_eq!(answered(&limiter, LATER, 0, &one), 10);
        let half = LATER + Duration::from_millis(500);
        assert_eq!(answered(&limiter, half, 0, &one), 5);
        assert_eq!(
            answered(&limiter, half, 0, &[address(2); 100]),
            10,
            "a neighbour"
        );
        assert_eq!(
            answered(&limiter, half + LATER, 0, &one),
            10,
            "no more is saved up"
        );
    }

    #[test]
    fn a_segment_has_a_rate_for_all_of_its_clients_and_no_other_pays_for_it() {
        let limiter = limiter(10, 50);
        let many: Vec<IpAddr> = (0..1000).map(address).collect();
        assert_eq!(answered(&limiter, LATER, 0, &many), 50);
        assert_eq!(
            answered(&limiter, LATER, 1, &many[..1]),
            1,
            "another segment"
        );
    }

    #[test]
    fn what_one_client_is_not_answered_is_left_to_its_neighbours() {
        let limiter = limiter(10, 50);
        assert_eq!(answered(&limiter, LATER, 0, &[address(1); 1000]), 10);
        assert_eq!(answered(&limiter, LATER, 0, &[address(2); 1000]), 10);
    }

    #[test]
    fn over_the_limit_every_second_query_is_sent_to_tcp_and_the_others_nowhere() {
        let limiter = limiter(1, 0);
        let limit = limiter.at(limiter.start + LATER);
        let verdicts: Vec<Verdict> = (0..5).map(|_| limit.check(None, address(1))).collect();
        use Verdict::{Answer, Drop, Truncate};
        assert_eq!(verdicts, [Answer, Truncate, Drop, Truncate, Drop]);
    }

    #[test]
    fn a_segment_has_a_rate_of_signatures_and_no_other_pays_for_it() {
        let limiter = Limiter::new(Rates {
            client: 0,
            view: 0,
            signatures: 20,
        });
        let limit = limiter.at(limiter.start + LATER);
        let made = |view| (0..100).filter(|_| limit.may_sign(ViewId(view))).count();
        assert_eq!((made(0), made(1), made(0)), (20, 20, 0));
    }

    #[test]
    fn after_a_new_generation_nobody_pays_for_who_had_his_number_before() {
        let limiter = limiter(0, 50);
        let many: Vec<IpAddr> = (0..1000).map(address).collect();
        assert_eq!(answered(&limiter, LATER, 0, &many), 50);
        limiter.forget_views();
        assert_eq!(answered(&limiter, LATER, 0, &many), 50);
    }

    #[test]
    fn zero_is_no_limit() {
        let limiter = limiter(0, 0);
        assert_eq!(answered(&limiter, LATER, 0, &[address(1); 5000]), 5000);
    }

    #[test]
    fn a_client_finds_its_place_among_many_and_memory_does_not_grow() {
        let limiter = limiter(100, 0);
        let many: Vec<IpAddr> = (0..200_000).map(address).collect();
        assert_eq!(
            answered(&limiter, LATER, 0, &many),
            many.len(),
            "each asked once"
        );
        assert_eq!(limiter.clients.len(), CLIENTS);
        let one = [address(7); 1000];
        assert_eq!(answered(&limiter, LATER, 0, &one), 100);
    }
}
