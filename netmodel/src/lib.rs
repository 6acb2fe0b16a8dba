//! The tenant inventory: parse, check, model.

#![forbid(unsafe_code)]

pub mod ids;
pub mod model;

pub use model::Model;
