//! Who applied a generation, when and why, and what came of it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Version of the file.
const FORMAT_VERSION: u32 = 1;

/// `record.json` of a generation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// Version of the file.
    pub format_version: u32,
    /// Number of the generation.
    pub number: u32,
    /// The generation before it; `None` for the first.
    pub previous: Option<u32>,
    /// When it was applied: seconds since 1970, UTC.
    pub at: u64,
    /// Who applied it: see [`who()`].
    pub who: String,
    /// Why.
    pub cause: Cause,
    /// [`netmodel::Sources::digest`] of the inventory.
    pub inventory: String,
    /// The host of the inventory that this machine is.
    pub host: Option<String>,
    /// What the plan counted.
    pub summary: Summary,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a generation was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Cause {
    /// `bulkhead apply`.
    Apply,
    /// `bulkhead run --watch` saw a change of the inventory.
    Watch,
    /// `bulkhead rollback`, or an apply that was not confirmed.
    Rollback {
        /// The generation whose model it has.
        to: u32,
        /// Nobody confirmed in time.
        unconfirmed: bool,
    },
    /// The kernel was not what the current generation says: the router's addresses changed, or somebody changed the maps.
    Repair,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply => f.write_str("apply"),
            Self::Watch => f.write_str("watch"),
            Self::Rollback {
                to,
                unconfirmed: false,
            } => write!(f, "rollback to {to}"),
            Self::Rollback {
                to,
                unconfirmed: true,
            } => write!(f, "not confirmed: back to {to}"),
            Self::Repair => f.write_str("repair"),
        }
    }
}

/// What a plan counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// Objects to add.
    pub add: usize,
    /// Objects to change, with rules, settings, links and addresses.
    pub change: usize,
    /// Objects to destroy.
    pub destroy: usize,
}

/// What came of a generation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outcome {
    /// On its way into the kernel. If the process that did it is gone, `bulkhead run` goes on with it.
    Applying,
    /// Enforced, or was until a later one.
    Applied,
    /// Enforced, and undone unless confirmed in time.
    Unconfirmed,
    /// Undone by a later generation.
    RolledBack {
        /// Number of that one.
        by: u32,
    },
    /// It never was enforced.
    Failed {
        /// Why not.
        why: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applying => f.write_str("applying"),
            Self::Applied => f.write_str("applied"),
            Self::Unconfirmed => f.write_str("not confirmed yet"),
            Self::RolledBack { by } => write!(f, "rolled back by {by}"),
            Self::Failed { why } => write!(f, "failed: {why}"),
        }
    }
}

impl Record {
    /// Makes the record of a generation that is about to be applied, by the user of this process, now.
    #[must_use]
    pub fn new(number: u32, previous: Option<u32>, cause: Cause, inventory: &str) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            number,
            previous,
            at: now(),
            who: who(),
            cause,
            inventory: inventory.to_owned(),
            host: None,
            summary: Summary::default(),
            outcome: Outcome::Applying,
        }
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if record.format_version == FORMAT_VERSION {
            Ok(record)
        } else {
            Err(format!("it has format {}", record.format_version))
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a record can be written as JSON")
    }
}

/// Returns who runs this process: `alice (sudo)`, `root`, or the number of a user without a name.
#[must_use]
pub fn who() -> String {
    if let Ok(user) = std::env::var("SUDO_USER")
        && !user.is_empty()
    {
        return format!("{user} (sudo)");
    }
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
