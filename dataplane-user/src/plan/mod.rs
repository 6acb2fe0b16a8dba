//! What a change of the desired state would do, before it is done.
//!
//! Pure: two builds in, a [`Difference`] out. No kernel, no clock, no files.
//!
//! # Guarantees
//!
//! * **Nothing unsaid.** Every object, map entry and connection that differs is part of the difference.
//! * **Nothing surprising.** What destroys more than was allowed, empties the site, cuts a protected flow
//!   or fails one of the inventory's policy tests has a [`Refusal`] that names it and the remedy.
//! * **Small.** The cost is that of looking at everything once; output is about what changes.

pub mod agreement;
mod destroy;
mod json;
pub mod objects;
mod protected;
pub mod reachability;
mod refusal;
pub mod tenant;
#[cfg(test)]
mod tests;
mod text;

use netmodel::Model;

pub use self::destroy::Destroyed;
use self::objects::{MapChange, ObjectChange, map_changes};
use self::reachability::ReachabilityChange;
pub use self::refusal::Refusal;
pub use self::text::{NetworkChange, Plan, Summary};
use crate::can::Site;
use crate::compile::{CompileError, RouterFacts, Tables, compile};

/// A checked model, what the kernel says about the router, and what both compile to.
#[derive(Clone, Debug)]
pub struct Build {
    /// The model.
    pub model: Model,
    /// What the compiler had to know about the router.
    pub facts: RouterFacts,
    /// What is enforced.
    pub tables: Tables,
}

impl Build {
    /// Compiles a model.
    ///
    /// # Errors
    ///
    /// [`CompileError`] if it cannot be enforced.
    pub fn new(model: Model, facts: RouterFacts) -> Result<Self, CompileError> {
        let tables = compile(&model, &facts)?;
        Ok(Self {
            model,
            facts,
            tables,
        })
    }

    /// Returns the build as something that can be asked.
    #[must_use]
    pub fn site(&self) -> Site<'_> {
        Site {
            model: &self.model,
            tables: &self.tables,
        }
    }
}

/// What is different between two builds.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Objects that are added, changed and removed: the platform's, then each tenant's.
    pub objects: Vec<ObjectChange>,
    /// Map entries that are written.
    pub maps: Vec<MapChange>,
    /// Connections that become possible or are cut.
    pub reachability: Vec<ReachabilityChange>,
    /// What will not be there any more.
    pub destroyed: Destroyed,
    /// Why this may not be applied; empty if it may.
    pub refusals: Vec<Refusal>,
    /// Was there no segment before?
    pub is_first: bool,
    /// Is there no segment afterwards?
    pub is_last: bool,
}

impl Difference {
    /// Returns what is different. `old` is `None` before the first generation; `allow_destroy` is how
    /// many objects may go, see [`Destroyed::count`].
    #[must_use]
    pub fn new(old: Option<&Build>, new: &Build, allow_destroy: usize) -> Self {
        let objects = objects::changes(old, new);
        let destroyed = Destroyed::of(&objects);
        let mut refusals = protected::check(old, new);
        refusals.extend(destroy::check(old, new, &destroyed, allow_destroy));
        let nothing = Tables::empty();
        let old_tables = old.map_or(&nothing, |build| &build.tables);
        Self {
            maps: map_changes(old_tables, &new.tables),
            reachability: reachability::changes(old, new),
            is_first: old.is_none_or(|build| build.model.segments.is_empty()),
            is_last: new.model.segments.is_empty(),
            objects,
            destroyed,
            refusals,
        }
    }

    /// Is nothing different? Refusals do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.maps.is_empty() && self.reachability.is_empty()
    }
}
