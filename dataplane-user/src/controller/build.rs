//! Builds: what is desired, and what was applied before, for the router of the site.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread::{self, JoinHandle};

use netmodel::Model;
use netmodel::model::HostId;
use netmodel::published::Body;

use super::Desired;
use super::ports::router;
use crate::compile::{RouterFacts, compile};
use crate::plan::Build;
use crate::run::{RunError, with_causes};
use crate::store::Store;

/// Returns what a generation in the store says.
pub(super) fn stored(store: &Store, number: u32) -> Result<Desired, RunError> {
    let host = store.record(number)?.host;
    let published = store.generation(number)?;
    Ok(Desired::of_generation(published, host.as_deref()))
}

/// The generation that was applied, read in a thread of its own while somebody reads the inventory: both take as long as the site is
/// large.
#[derive(Debug)]
pub struct Recall {
    thread: JoinHandle<Option<(u32, Desired)>>,
}

impl Recall {
    /// Begins to read the current generation of a store. What cannot be read is read again when it is needed; then it is said why.
    #[must_use]
    pub fn start(store: &Path) -> Self {
        let store = Store::at(store);
        let read = move || {
            let number = store.current().ok()??;
            Some((number, stored(&store, number).ok()?))
        };
        Self {
            thread: thread::spawn(read),
        }
    }

    /// Returns what a generation says, if it is the one that was read: generations do not change.
    pub(super) fn take(self, number: u32) -> Option<Desired> {
        let read = self.thread.join().unwrap_or_else(|p| resume_unwind(p));
        read.and_then(|(found, desired)| (found == number).then_some(desired))
    }
}

/// A build, and its model as it is stored and published.
pub(super) struct Packed {
    pub(super) build: Build,
    pub(super) body: Body,
}

impl Packed {
    pub(super) fn build(
        model: Model,
        host: Option<HostId>,
        router: Facts<'_>,
    ) -> Result<Self, RunError> {
        let facts = router.of(&model, host);
        let (body, tables) = thread::scope(|scope| {
            let body = scope.spawn(|| Body::new(&model));
            let tables = compile(&model, &facts);
            (body.join().unwrap_or_else(|p| resume_unwind(p)), tables)
        });
        let build = Build {
            tables: tables?,
            model,
            facts,
        };
        Ok(Self { build, body })
    }
}

/// What was applied before.
#[derive(Debug, Default)]
pub(super) struct AppliedBefore {
    /// The generation's number.
    pub(super) base: Option<u32>,
    /// What it says, for the router as it is now.
    pub(super) build: Option<Build>,
    /// What of the store is damaged.
    pub(super) problem: Option<String>,
}

/// Returns the generation to compare with, and what it says. A store that is damaged must not hinder the apply that mends it:
/// then the generation that the kernel enforces is as good, if it can be read.
pub(super) fn applied(
    store: &Store,
    recall: Option<Recall>,
    enforced: u32,
    router: Facts<'_>,
) -> Result<AppliedBefore, RunError> {
    let mut problem = None;
    let base = store.current().unwrap_or_else(|error| {
        problem = Some(with_causes(&error));
        (enforced > 0).then_some(enforced)
    });
    let read = |number| {
        let recalled = recall.and_then(|recall| recall.take(number));
        recalled.map_or_else(|| stored(store, number), Ok)
    };
    let build = match base.map(read) {
        None => None,
        Some(Ok(stored)) => {
            let facts = router.of(&stored.model, stored.host);
            Some(Build::new(stored.model, facts)?)
        }
        Some(Err(error)) => {
            problem = Some(with_causes(&error));
            None
        }
    };
    Ok(AppliedBefore {
        base,
        build,
        problem,
    })
}

/// What is known of the router beside a model.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    /// What the kernel says, or the inventory to a hypervisor.
    pub(super) observed: &'a RouterFacts,
    /// Its name, where this machine is not it.
    pub(super) named: Option<&'a str>,
}

impl Facts<'_> {
    fn of(self, model: &Model, host: Option<HostId>) -> RouterFacts {
        RouterFacts {
            host: router(model, host, self.named).map(|router| router.host),
            ..self.observed.clone()
        }
    }
}
