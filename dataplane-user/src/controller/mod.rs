//! Changes what is enforced: from a checked inventory to the kernel, as one generation (ADR 0006).
//!
//! ```text
//!  inventory ─► Desired ─┐
//!                        ├─ prepare ─► Prepared (what would change) ─► apply ─► generation N
//!  kernel ────► Observed ┘                                              │
//!                                                     store ─ links ─ maps ─ flip ─ publish
//! ```
//!
//! # Guarantees
//!
//! * **One writer.** Whatever changes something holds the lock of [`Place::lock`].
//! * **Whole or not at all.** What fails before the flip leaves the old generation enforced and current. If the process dies
//!   meanwhile, [`Controller::converge`] goes on with the generation that `current` names.
//! * **Nothing by surprise.** [`Controller::apply`] does what [`Controller::prepare`] has found, and nothing else.

mod apply;
mod enforcement;
mod observe;
mod rollback;

use std::time::Duration;

use netmodel::Model;
use netmodel::model::HostId;
use netmodel::published::Published;

pub use self::apply::Applied;
pub use self::enforcement::{Enforcement, EnforcementChange};
pub use self::observe::Observed;
pub use self::rollback::{Confirmed, Converged, Drift, Undone};
use crate::compile::{RouterFacts, Tables, compile};
use crate::loader::{Datapath, Pins, TableDifference, WantedMode};
use crate::run::{Place, RunError};
use crate::store::{KEPT, Store};

/// Where and how.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Where.
    pub place: Place,
    /// How to attach.
    pub mode: WantedMode,
    /// Connections that are remembered at once.
    pub connections: u32,
    /// Generations that are kept.
    pub kept: usize,
}

impl ControlOptions {
    /// Makes options with all else by default.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            mode: WantedMode::Auto,
            connections: crate::loader::DEFAULT_CONNECTIONS,
            kept: KEPT,
        }
    }
}

/// What should be: a checked inventory, and which of its hosts this machine is.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The model.
    pub model: Model,
    /// This machine; `None` is the model's first router.
    pub host: Option<HostId>,
    /// [`netmodel::Sources::digest`] of the inventory.
    pub inventory: String,
}

impl Desired {
    /// Returns what a stored generation says.
    #[must_use]
    pub fn of_generation(published: Published, host: Option<&str>) -> Self {
        let mut hosts = published.model.hosts.iter();
        let host = host.and_then(|name| hosts.position(|host| host.name.as_str() == name));
        Self {
            host: host.map(HostId),
            inventory: published.inventory,
            model: published.model,
        }
    }
}

/// A model, the router that it is for, and what that makes in the kernel.
#[derive(Clone, Debug)]
pub struct Build {
    /// The model.
    pub model: Model,
    /// The router.
    pub facts: RouterFacts,
    /// What the packet path looks up.
    pub tables: Tables,
}

/// What would change.
#[derive(Debug)]
pub struct Prepared {
    /// Number of the generation that it starts from.
    pub base: Option<u32>,
    /// What is enforced now, as it should be; `None` if nothing was applied yet.
    pub old: Option<Build>,
    /// What will be.
    pub new: Build,
    /// Digest of the inventory.
    pub inventory: String,
    /// What the kernel has.
    pub observed: Observed,
    /// How the maps differ from `new`.
    pub tables: Vec<TableDifference>,
    /// What changes in the programs and maps.
    pub enforcement: Vec<EnforcementChange>,
}

impl Prepared {
    /// Is there nothing to do? Then there is also nothing to number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.enforcement.is_empty() && self.is_same_model()
    }

    fn is_same_model(&self) -> bool {
        let text = |model| serde_json::to_vec(model).expect("a model can be written as JSON");
        self.old
            .as_ref()
            .is_some_and(|old| text(&old.model) == text(&self.new.model))
    }
}

/// Changes the enforcement on one trunk.
pub struct Controller {
    options: ControlOptions,
    store: Store,
    /// Loaded when it is needed first.
    datapath: Option<Datapath>,
    why: String,
}

impl Controller {
    /// Makes one; nothing is touched yet.
    #[must_use]
    pub fn new(options: ControlOptions) -> Self {
        Self {
            store: Store::at(&options.place.store),
            options,
            datapath: None,
            why: String::new(),
        }
    }

    /// Returns the generations on disk.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns where this one works.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.options.place
    }

    /// Lets what the programs log be read.
    ///
    /// # Errors
    ///
    /// If the programs were built without their feature `debug-log`.
    #[cfg(feature = "debug-log")]
    pub(crate) fn follow_debug_log(&mut self) -> Result<(), RunError> {
        match &mut self.datapath {
            Some(datapath) => crate::run::debug_log::follow(datapath),
            None => Ok(()),
        }
    }

    /// Finds out what would change.
    ///
    /// # Errors
    ///
    /// If the store or the kernel cannot be read, or the model cannot be enforced.
    pub async fn prepare(&self, desired: Desired) -> Result<Prepared, RunError> {
        let base = self.store.current()?;
        let old = base.map(|number| self.stored(number)).transpose()?;
        let observed = self.observe(&desired).await?;
        let new = build(desired.model, desired.host, &observed)?;
        let old = match old {
            Some(old) => Some(build(old.model, old.host, &observed)?),
            None => None,
        };
        let tables = Pins::at(&self.options.place.pins).differences(&new.tables)?;
        let enforcement = observed.enforcement.changes(&self.options, base, &tables);
        Ok(Prepared {
            base,
            old,
            new,
            inventory: desired.inventory,
            observed,
            tables,
            enforcement,
        })
    }

    /// Returns the generation before the current one.
    ///
    /// # Errors
    ///
    /// [`RunError::NoPrevious`] if there is none.
    pub fn previous(&self) -> Result<u32, RunError> {
        let current = self.store.current()?.ok_or(RunError::NoPrevious)?;
        let previous = self.store.record(current)?.previous;
        previous.ok_or(RunError::NoPrevious)
    }

    /// Takes what one tenant owns out of `desired`, and all else out of the current generation.
    ///
    /// # Errors
    ///
    /// Always, for now.
    pub fn only_tenant(&self, _desired: Desired, _tenant: &str) -> Result<Desired, RunError> {
        Err(RunError::NoPrevious)
    }

    /// Returns what a generation in the store says.
    ///
    /// # Errors
    ///
    /// If it is not there or damaged.
    pub fn stored(&self, number: u32) -> Result<Desired, RunError> {
        let host = self.store.record(number)?.host;
        let published = self.store.generation(number)?;
        Ok(Desired::of_generation(published, host.as_deref()))
    }
}

fn build(model: Model, host: Option<HostId>, observed: &Observed) -> Result<Build, RunError> {
    let facts = RouterFacts {
        host: host.or(model.routers.first().map(|router| router.host)),
        ..observed.router.clone()
    };
    let tables = compile(&model, &facts)?;
    Ok(Build {
        model,
        facts,
        tables,
    })
}

/// How an apply is done.
#[derive(Clone, Debug)]
pub struct How {
    /// Why there is a new generation.
    pub cause: crate::store::Cause,
    /// Undo it unless it is confirmed within this time.
    pub confirm_within: Option<Duration>,
    /// The plan as it was shown.
    pub plan: String,
    /// What the plan counted.
    pub summary: crate::store::Summary,
}
