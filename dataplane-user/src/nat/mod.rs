//! The router's way out: masquerading and the guards of the uplinks, in one nftables table of our own.
//!
//! # Guarantees
//!
//! * Nothing outside of the table `inet bulkhead` is read or written.
//! * [`apply`] changes the table in one transaction of the kernel: no packet meets half of it or none, and running
//!   connections lose no packet.
//! * The table names interfaces, so it can be there before they are: fail closed at boot.
//! * The number of rules does not depend on the number of tenants: prefixes are in sets.
//!
//! What it does to a packet:
//!
//! ```text
//! from an uplink   source of the site             drop (site-source)      before connections are looked up
//!                  not to a source of the internet drop (unsolicited)
//!                  answer of what is no internet   drop (excluded-source)
//!                  no answer to a connection       drop (unsolicited)
//! to an uplink     not from an internet zone       drop (source-not-granted)
//!                  to what is no internet          drop (not-internet)
//!                  uplink with `mode: nat`         masquerade IPv4 and unique local IPv6
//!                  ... and still not translated    drop (untranslated)
//! ```
//!
//! The router's own connections are not judged. `docs/adr/0008-uplinks-by-the-nft-program.md` says why it is done with `nft`.
//! Everything works in the network namespace of the calling thread.

mod desired;
mod kernel;
mod observed;
mod plan;
mod table;
mod transaction;

pub use self::desired::{Ruleset, Uplink, desired};
pub use self::kernel::{NatError, apply, observe, remove};
pub use self::observed::{Drops, Observed};
pub use self::plan::{Action, NatChange, plan};

/// Name of the table, of family `inet`.
pub const TABLE: &str = "bulkhead";
