//! The tenant inventory: parse, check, model.
//!
//! [`load`] reads a site tree and a tenants tree and returns a [`Model`], if there is nothing wrong
//! with them, and the [`Finding`]s in any case. Everything else of bulkhead reads the model only.
//!
//! # Guarantees
//!
//! * There is a model if and only if there is no finding of severity *error*.
//! * Equal trees give equal models and equal findings in equal order.
//! * Whatever is in a tenant's tree, loading ends, within bounds of time and memory, and opens no
//!   file outside of that tree.
//!
//! It does not evaluate policy: that is the compiler's and the reference evaluator's work.

#![forbid(unsafe_code)]

mod ansible;
pub mod bandwidth;
mod check;
pub mod finding;
pub mod ids;
pub mod leases;
pub mod model;
mod options;
pub mod published;
mod reader;
pub mod show;
pub mod source;
pub mod tree;
mod yaml;

pub use finding::{Code, Finding, Severity, explain};
pub use model::Model;
pub use options::{Bounds, CONNECTIONS, Loaded, Options, load, load_trees, promisable};
pub use source::Sources;
