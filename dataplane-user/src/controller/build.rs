//! Builds: what is desired, and what was applied before, for the router of the site.

use netmodel::Model;
use netmodel::model::HostId;
use netmodel::published::Body;

use super::Desired;
use super::ports::router;
use crate::compile::RouterFacts;
use crate::plan::Build;
use crate::run::{RunError, with_causes};
use crate::store::Store;

/// Returns what a generation in the store says.
pub(super) fn stored(store: &Store, number: u32) -> Result<Desired, RunError> {
    let host = store.record(number)?.host;
    let published = store.generation(number)?;
    Ok(Desired::of_generation(published, host.as_deref()))
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
        let build = build(model, host, router)?;
        let body = Body::new(&build.model);
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
    enforced: u32,
    router: Facts<'_>,
) -> Result<AppliedBefore, RunError> {
    let mut problem = None;
    let base = store.current().unwrap_or_else(|error| {
        problem = Some(with_causes(&error));
        (enforced > 0).then_some(enforced)
    });
    let build = match base.map(|number| stored(store, number)) {
        None => None,
        Some(Ok(stored)) => Some(build(stored.model, stored.host, router)?),
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

fn build(model: Model, host: Option<HostId>, facts: Facts<'_>) -> Result<Build, RunError> {
    let facts = RouterFacts {
        host: router(&model, host, facts.named).map(|router| router.host),
        ..facts.observed.clone()
    };
    Ok(Build::new(model, facts)?)
}
