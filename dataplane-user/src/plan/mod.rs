//! What a change would do.
pub mod reachability;

use crate::compile::{RouterFacts, Tables};
use netmodel::Model;

/// A build.
#[derive(Clone, Debug)]
pub struct Build {
    /// The model.
    pub model: Model,
    /// Facts.
    pub facts: RouterFacts,
    /// Tables.
    pub tables: Tables,
}
