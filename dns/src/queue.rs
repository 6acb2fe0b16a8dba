//! Updates that wait, one queue for each view.
//!
//! # Guarantees
//!
//! * **A place of one's own.** Clients of a view fill the queue of their own view and no other: their source
//!   address cannot be forged (see [`crate::view`]), so a tenant that floods keeps out only itself.
//! * **Turns.** [`Queue::take`] goes round: each view that waits gets a place in a batch before any gets a second.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::view::ViewOwner;

/// Updates of one view that may wait. What does not fit is not answered: clients ask again.
const PER_VIEW: usize = 64;
/// Updates of all views that may wait: bounds memory, and takes 128 views at their limit to reach.
const TOTAL: usize = 8192;

/// Waiting jobs.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    is_filled: Condvar,
}

struct State<T> {
    waiting: BTreeMap<ViewOwner, VecDeque<T>>,
    count: usize,
    /// Who had the last turn.
    last: Option<ViewOwner>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                count: 0,
                last: None,
            }),
            is_filled: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds a job; tells whether there was room.
    pub(crate) fn put(&self, view: ViewOwner, job: T) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let own = state.waiting.get(&view).map_or(0, VecDeque::len);
        if state.count >= TOTAL || own >= PER_VIEW {
            return false;
        }
        state.waiting.entry(view).or_default().push_back(job);
        state.count += 1;
        drop(state);
        self.is_filled.notify_one();
        true
    }

    /// Takes up to `most` jobs, each view in its turn; waits for the first of them, but not for ever.
    pub(crate) fn take(&self, most: usize, patience: Duration) -> Vec<T> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .is_filled
            .wait_timeout_while(state, patience, |state| state.count == 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(job) = state.next() else { break };
            taken.push(job);
        }
        taken
    }
}

impl<T> State<T> {
    fn next(&mut self) -> Option<T> {
        let last = self.last.as_ref();
        let behind = (
            last.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let mut others = self.waiting.range::<ViewOwner, _>(behind);
        let next = others.next().or_else(|| self.waiting.iter().next());
        let view = next?.0.clone();
        let own = self.waiting.get_mut(&view)?;
        let job = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&view);
        }
        self.count = self.count.saturating_sub(1);
        self.last = Some(view);
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn tenant(number: usize) -> ViewOwner {
        ViewOwner::Tenant(format!("t{number}").into())
    }

    #[test]
    fn one_that_floods_keeps_out_only_itself() {
        let queue = Queue::default();
        let kept = (0..10_000)
            .filter(|number| queue.put(tenant(1), *number))
            .count();
        assert_eq!(kept, PER_VIEW);
        assert!(queue.put(tenant(2), -1), "the neighbour has a place");
        let batch = queue.take(8, NOW);
        assert!(batch.contains(&-1), "and its turn: {batch:?}");
        assert!(queue.put(tenant(1), 0), "what was taken made room");
    }

    #[test]
    fn each_view_has_its_turn_and_its_own_order() {
        let queue = Queue::default();
        for (view, job) in [
            (5, "5a"),
            (5, "5b"),
            (5, "5c"),
            (0, "0a"),
            (0, "0b"),
            (9, "9a"),
        ] {
            assert!(queue.put(tenant(view), job));
        }
        assert_eq!(queue.take(4, NOW), ["0a", "5a", "9a", "0b"]);
        assert_eq!(queue.take(4, NOW), ["5b", "5c"]);
        assert_eq!(queue.take(4, NOW), Vec::<&str>::new());
    }

    #[test]
    fn memory_is_bounded() {
        let queue = Queue::default();
        let views = 0..TOTAL / PER_VIEW + 10;
        let kept = views.flat_map(|view| (0..PER_VIEW).map(move |job| (tenant(view), job)));
        assert_eq!(
            kept.filter(|(view, job)| queue.put(view.clone(), *job))
                .count(),
            TOTAL
        );
    }
}
