//! `plan`, `apply`, `confirm`, `rollback`, `drift` and `run` on a real trunk in a network namespace, as an operator uses them, and
//! as operators and machines fail: killed processes, lost and damaged files, foreign hands.
//!
//! Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its input must fail"
)]

mod change;
mod confirm;
mod hold;
mod lab;
mod network;
mod reconcile;
mod store;
mod traffic;
mod watch;
