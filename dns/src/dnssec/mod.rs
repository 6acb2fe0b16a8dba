//! Signing of zones, answer by answer (ADR 0013).
//!
//! ```text
//! key folder ──► zone key ──► signatures of a zone ──► answer with DO
//!  (files)                     (made when asked for,      ▲
//!                               kept beside the sets)   denial (RFC 9824)
//! ```
//!
//! # Guarantees
//!
//! * **All or nothing.** A zone that is to be signed and has no key that can be used is not answered for at all.
//! * **Nothing to walk.** What is not there is denied by a record about the name that was asked for, and about no other.
//! * **Bounded.** Signatures are kept for what the zone has, never for what clients make up; how many are
//!   made in a second for the clients of one view is limited ([`crate::limit`]).
//!
//! Keys, signatures, and the form that is signed are hickory's; its cryptography is ring's.

mod denial;
pub mod folder;
pub mod key;
mod signatures;
mod slot;

pub(crate) use signatures::{Kinds, Signatures, Unsigned};
pub use slot::Moment;

use crate::rdata::rtype;

/// Is it a type that the server makes, and nobody else says?
#[must_use]
pub fn is_made(kind: u16) -> bool {
    matches!(
        kind,
        rtype::RRSIG
            | rtype::NSEC
            | rtype::DNSKEY
            | rtype::NSEC3
            | rtype::NSEC3PARAM
            | rtype::CDS
            | rtype::CDNSKEY
    )
}
