//! What is counted: replies by code, updates by result, and how long they took.
//!
//! # Guarantees
//!
//! * **Bounded.** There is one set of counters for each zone and each view of the generation, and one for
//!   addresses of no segment. Nothing that a client sends makes another.
//! * **Kept.** A new generation goes on counting where the one before it ended, as long as the zone is called the same,
//!   or the view is of the same tenant or segment.
//! * Each thread counts in a place of its own: one cache line per zone and per view.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::message::rcode;
use crate::name::Name;
use crate::view::ViewOwner;

/// Names of what replies are counted by; the last one is everything else.
const CODES: [(u16, &str); 8] = [
    (rcode::NOERROR, "noerror"),
    (rcode::FORMERR, "formerr"),
    (rcode::SERVFAIL, "servfail"),
    (rcode::NXDOMAIN, "nxdomain"),
    (rcode::NOTIMP, "notimp"),
    (rcode::REFUSED, "refused"),
    (rcode::NOTAUTH, "notauth"),
    (u16::MAX, "other"),
];
/// Names of the results of updates (RFC 2136, 3.8).
const RESULTS: [(u16, &str); 11] = [
    (rcode::NOERROR, "noerror"),
    (rcode::FORMERR, "formerr"),
    (rcode::SERVFAIL, "servfail"),
    (rcode::NXDOMAIN, "nxdomain"),
    (rcode::REFUSED, "refused"),
    (rcode::YXDOMAIN, "yxdomain"),
    (rcode::YXRRSET, "yxrrset"),
    (rcode::NXRRSET, "nxrrset"),
    (rcode::NOTAUTH, "notauth"),
    (rcode::NOTZONE, "notzone"),
    (u16::MAX, "other"),
];

/// The name that a code is counted by.
fn place(names: &[(u16, &'static str)], code: u16) -> usize {
    let known = names.iter().position(|(there, _)| *there == code);
    known.unwrap_or(names.len() - 1)
}

/// Replies that one thread gave, by [`CODES`].
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard([AtomicU64; CODES.len()]);

/// Counters of one zone or one view.
#[derive(Debug)]
pub struct Counters {
    shards: Box<[Shard]>,
    updates: [AtomicU64; RESULTS.len()],
    truncated: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    fn new(threads: usize) -> Self {
        Self {
            shards: (0..threads.max(1)).map(|_| Shard::default()).collect(),
            updates: Default::default(),
            truncated: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Counts a reply with this code, given by this thread.
    pub(crate) fn add(&self, thread: usize, code: u16) {
        // There is one for each thread; a thread that nobody thought of counts all the same.
        let shard = self.shards.get(thread).or_else(|| self.shards.first());
        let count = shard.and_then(|shard| shard.0.get(place(&CODES, code)));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an update that was answered by this code.
    pub(crate) fn add_update(&self, code: u16) {
        if let Some(count) = self.updates.get(place(&RESULTS, code)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a query over its limit.
    pub(crate) fn add_limited(&self, is_answered: bool) {
        let count = if is_answered {
            &self.truncated
        } else {
            &self.dropped
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what was counted so far.
    #[must_use]
    pub fn read(&self) -> Counted {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut queries = BTreeMap::new();
        for (index, (_, name)) in CODES.iter().enumerate() {
            let of = |shard: &Shard| shard.0.get(index).map_or(0, load);
            let count: u64 = self.shards.iter().map(of).sum();
            if count > 0 {
                queries.insert(*name, count);
            }
        }
        let updates = RESULTS.iter().zip(&self.updates);
        let updates = updates.map(|((_, name), count)| (*name, load(count)));
        Counted {
            queries,
            updates: updates.filter(|(_, count)| *count > 0).collect(),
            rate_truncated: load(&self.truncated),
            rate_dropped: load(&self.dropped),
        }
    }
}

/// Counters at one moment; what is 0 is left out.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counted {
    /// Replies by code.
    pub queries: BTreeMap<&'static str, u64>,
    /// Updates by result.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub updates: BTreeMap<&'static str, u64>,
    /// Queries over the limit that were sent to TCP.
    #[serde(skip_serializing_if = "is_zero")]
    pub rate_truncated: u64,
    /// Queries over the limit that were not answered.
    #[serde(skip_serializing_if = "is_zero")]
    pub rate_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How long answers took; as `bulkhead-dhcpd` counts it.
#[derive(Debug, Default)]
pub struct Latency {
    /// The nth counts answers that took less than 2^n microseconds, and not less than half of that.
    below_power_of_two_us: [AtomicU64; 24],
}

impl Latency {
    /// Counts answers that took this long.
    pub(crate) fn add(&self, took: Duration, answers: usize) {
        let bits = u128::BITS - took.as_micros().leading_zeros();
        let last = self.below_power_of_two_us.len() - 1;
        let place = usize::try_from(bits).unwrap_or(last).min(last);
        if let Some(count) = self.below_power_of_two_us.get(place) {
            count.fetch_add(u64::try_from(answers).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.below_power_of_two_us.iter();
        let counts: Vec<u64> = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        BTreeMap::from([("below_power_of_two_us", counts)]).serialize(serializer)
    }
}

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    threads: usize,
    zones: Mutex<HashMap<Name, Arc<Counters>>>,
    views: Mutex<HashMap<ViewOwner, Arc<Counters>>>,
    /// Addresses of no segment.
    pub elsewhere: Counters,
    /// Over UDP, from the socket to the socket.
    pub udp: Latency,
    /// Over TCP and TLS, without the time on the network.
    pub tcp: Latency,
    /// Updates, from the queue to the answer: with the disk.
    pub updates: Latency,
}

impl Metrics {
    /// Begins to count for this many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            zones: Mutex::default(),
            views: Mutex::default(),
            elsewhere: Counters::new(threads),
            udp: Latency::default(),
            tcp: Latency::default(),
            updates: Latency::default(),
        }
    }

    /// Returns the counters of zones, in their order; zones of one name share them. Those of other zones are
    /// forgotten.
    pub(crate) fn zones<'n>(&self, names: impl Iterator<Item = &'n Name>) -> Vec<Arc<Counters>> {
        keep(lock(&self.zones), names.cloned(), self.threads)
    }

    /// As [`Metrics::zones`], of views by their owners.
    pub(crate) fn views<'o>(
        &self,
        owners: impl Iterator<Item = &'o ViewOwner>,
    ) -> Vec<Arc<Counters>> {
        keep(lock(&self.views), owners.cloned(), self.threads)
    }

    /// Returns the counters of a view, for what outlives its generation.
    pub(crate) fn view(&self, owner: &ViewOwner) -> Option<Arc<Counters>> {
        lock(&self.views).get(owner).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep<K: Clone + Eq + std::hash::Hash>(
    mut known: MutexGuard<'_, HashMap<K, Arc<Counters>>>,
    names: impl Iterator<Item = K>,
    threads: usize,
) -> Vec<Arc<Counters>> {
    let mut before = std::mem::take(&mut *known);
    let mut all = Vec::new();
    for name in names {
        let counters = known.entry(name).or_insert_with_key(|name| {
            let kept = before.remove(name);
            kept.unwrap_or_else(|| Arc::new(Counters::new(threads)))
        });
        all.push(Arc::clone(counters));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_apart_is_read_together_and_0_is_left_out() {
        let counters = Counters::new(2);
        for (thread, code) in [(0, 0), (1, 0), (2, 3), (0, 23), (1, 6)] {
            counters.add(thread, code);
        }
        counters.add_update(rcode::NXRRSET);
        counters.add_limited(true);
        let counted = counters.read();
        let queries = [("noerror", 2), ("nxdomain", 1), ("other", 2)];
        assert_eq!(counted.queries, BTreeMap::from(queries));
        assert_eq!(counted.updates, BTreeMap::from([("nxrrset", 1)]));
        assert_eq!((counted.rate_truncated, counted.rate_dropped), (1, 0));
    }

    #[test]
    fn a_new_generation_goes_on_counting_and_what_is_gone_is_forgotten() {
        let metrics = Metrics::new(1);
        let name = |text: &str| Name::absolute(text).unwrap();
        let (a, b) = (name("a.example"), name("b.example"));
        let first = metrics.zones([&a, &b, &a].into_iter());
        first[0].add(0, 0);
        assert!(Arc::ptr_eq(&first[0], &first[2]), "zones of one name");
        let next = metrics.zones([&a].into_iter());
        assert_eq!(next[0].read().queries.get("noerror"), Some(&1));
        assert_eq!(metrics.zones.lock().unwrap().len(), 1);
        let back = metrics.zones([&b].into_iter());
        assert!(!Arc::ptr_eq(&back[0], &first[1]));
    }

    #[test]
    fn a_tenant_and_a_segment_of_one_name_are_counted_apart() {
        let metrics = Metrics::new(1);
        let owners = [
            ViewOwner::Segment("guest".into()),
            ViewOwner::Tenant("guest".into()),
        ];
        let counters = metrics.views(owners.iter());
        counters[0].add(0, 0);
        assert!(counters[1].read().queries.is_empty());
        assert!(Arc::ptr_eq(
            &metrics.view(&owners[1]).unwrap(),
            &counters[1]
        ));
    }

    #[test]
    fn the_nth_place_is_for_less_than_two_to_the_nth_microseconds() {
        let latency = Latency::default();
        for micros in [0, 1, 2, 3, 1000, u64::MAX] {
            latency.add(Duration::from_micros(micros), 1);
        }
        let text = serde_json::to_string(&latency).unwrap();
        let counts: Vec<u64> = serde_json::from_str::<BTreeMap<String, Vec<u64>>>(&text).unwrap()
            ["below_power_of_two_us"]
            .clone();
        let at = |place: usize| counts[place];
        assert_eq!((at(0), at(1), at(2), at(10), at(23)), (1, 1, 2, 1, 1));
    }
}
