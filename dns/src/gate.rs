//! How many of something the clients of a view may have open at once, and those of all views together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::view::ViewOwner;

/// Counts what is open, over all generations.
#[derive(Clone)]
pub(crate) struct Gate {
    per_view: usize,
    total: usize,
    open: Arc<Mutex<HashMap<Option<ViewOwner>, usize>>>,
}

/// The place of one that is open; dropping it gives it back.
pub(crate) struct Pass {
    gate: Gate,
    view: Option<ViewOwner>,
}

impl Gate {
    /// Makes one for so many of each view, and of all.
    pub(crate) fn new(per_view: usize, total: usize) -> Self {
        Self {
            per_view,
            total,
            open: Arc::default(),
        }
    }

    /// Takes a place, if the view may have one more; the router itself (`None`) counts as one.
    pub(crate) fn enter(&self, view: Option<ViewOwner>) -> Option<Pass> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = open.values().sum();
        let own = open.get(&view).copied().unwrap_or(0);
        if own >= self.per_view || total >= self.total {
            return None;
        }
        open.insert(view.clone(), own + 1);
        Some(Pass {
            gate: self.clone(),
            view,
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self
            .gate
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.view) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.view);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> Option<ViewOwner> {
        Some(ViewOwner::Tenant(format!("t{number}").into()))
    }

    #[test]
    fn one_that_opens_many_keeps_out_only_itself() {
        let gate = Gate::new(3, 100);
        let held: Vec<Pass> = (0..3).map(|_| gate.enter(tenant(1)).unwrap()).collect();
        assert!(gate.enter(tenant(1)).is_none(), "one more is not taken");
        assert!(gate.enter(tenant(2)).is_some(), "the neighbour's is");
        assert!(
            gate.enter(Some(ViewOwner::Segment("t1".into()))).is_some(),
            "a segment of the same name is another"
        );
        assert!(gate.enter(None).is_some(), "and so is the router");
        drop(held);
        assert!(gate.enter(tenant(1)).is_some(), "what is done makes room");
    }

    #[test]
    fn all_together_are_bounded() {
        let gate = Gate::new(3, 5);
        let held: Vec<Option<Pass>> = (0..9).map(|number| gate.enter(tenant(number))).collect();
        assert_eq!(held.iter().flatten().count(), 5);
    }
}
