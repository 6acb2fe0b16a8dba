//! Authoritative DNS for the site, its tenants and their reverse zones, one view per segment.
//!
//! The binary `bulkhead-dns` follows the generation that the controller publishes
//! ([`netmodel::published`]). At a cold start it needs that file and nothing else: no other daemon, no
//! database. What tenants add by dynamic update is in its own journal ([`journal`]).
//!
//! ```text
//! generation ──► plan ──► world ◄── journal ◄── update ◄─┐
//!              (zones,   (zones as                       │ signed
//!               views)    they are)                      │
//!                           ▲                            │
//!   UDP, TCP ──► message ──► answer ─────────────────────┘
//! ```
//!
//! * [`plan`] says which zones there are and who sees them, [`view`] why; both are pure.
//! * [`lookup`] says what the right answer is; [`zone`] keeps answers prepared as octets ([`compose`]).
//! * [`answer`] is all that stands between a socket and a zone.
//!
//! * [`transfer`] copies zones to secondaries ([`catalog`]), which are told of each change.
//!
//! * [`forward`] asks upstream resolvers for names of others, where a view may.
//!
//! * [`dnssec`] signs answers out of zones that are to be signed.

// Only `udp::batch` has any.
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

// What tests of the outside share calls the crate by its name.
#[cfg(test)]
extern crate self as dns;

pub mod answer;
pub mod api;
pub mod args;
pub mod catalog;
pub mod client;
pub mod compose;
pub mod cookie;
pub mod dnssec;
mod follow;
pub mod forward;
mod gate;
pub mod history;
pub mod import;
pub mod inspect;
pub mod journal;
pub mod keys;
pub mod leases;
pub mod limit;
pub mod lookup;
pub mod message;
pub mod metrics;
pub mod name;
mod notify;
mod padding;
pub mod plan;
mod queue;
pub mod rdata;
mod reverse;
mod secret;
pub mod server;
pub mod status;
#[cfg(test)]
#[path = "../tests/conformance/support.rs"]
#[allow(dead_code, reason = "every test program uses its own part")]
mod support;
mod tcp;
pub mod test_key;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod transfer;
pub mod tsig;
mod udp;
pub mod update;
mod updater;
pub mod view;
pub mod world;
pub mod zone;

/// Returns an error with what caused it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
