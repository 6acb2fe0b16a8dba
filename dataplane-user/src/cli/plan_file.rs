//! What `bulkhead plan --out` writes and `bulkhead apply FILE` holds the change against.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::args::WhatArgs;
use crate::controller::Review;

/// Version of the file.
const FORMAT_VERSION: u32 = 1;
/// Longest file, in octets: a file that is longer is something else.
const MOST_BYTES: u64 = 1 << 20;

/// The file: not the plan itself, but by what it can be known again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct PlanFile {
    format_version: u32,
    /// The generation that the plan starts from.
    base: Option<u32>,
    /// Digest of the inventory.
    inventory: String,
    /// Digest of the whole plan: what was desired, and what was observed.
    digest: String,
    /// `--tenant`.
    tenant: Option<String>,
    /// `--allow-destroy`.
    allow_destroy: usize,
}

/// The plan cannot be used.
#[derive(Debug, Error)]
pub enum PlanFileError {
    /// It cannot be read or written.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is no plan of this version.
    #[error("{} is no plan of this bulkhead: {what} (remedy: bulkhead plan --out)", path.display())]
    NoPlan {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// What would be done now is not what was planned.
    #[error("the plan no longer holds: {0} (remedy: look at a new one, `bulkhead plan`)")]
    Stale(String),
}

impl PlanFile {
    /// Makes the file of what was planned.
    pub(super) fn new(review: &Review<'_>, what: &WhatArgs) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            base: review.prepared().base,
            inventory: review.prepared().inventory.clone(),
            digest: review.digest(),
            tenant: what.tenant.clone(),
            allow_destroy: what.allow_destroy,
        }
    }

    /// Returns what was planned.
    pub(super) fn what(&self) -> WhatArgs {
        WhatArgs {
            tenant: self.tenant.clone(),
            allow_destroy: self.allow_destroy,
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), PlanFileError> {
        let text = serde_json::to_vec_pretty(self).expect("a plan file can be written as JSON");
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(path).and_then(|mut f| f.write_all(&text));
        written.map_err(|source| PlanFileError::Io {
            op: "write",
            path: path.to_owned(),
            source,
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, PlanFileError> {
        let io = |source| PlanFileError::Io {
            op: "read",
            path: path.to_owned(),
            source,
        };
        let no_plan = |what: String| PlanFileError::NoPlan {
            path: path.to_owned(),
            what,
        };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > MOST_BYTES {
            return Err(no_plan(format!("it has {length} octets")));
        }
        let text = std::fs::read(path).map_err(io)?;
        let file: Self =
            serde_json::from_slice(&text).map_err(|error| no_plan(error.to_string()))?;
        if file.format_version != FORMAT_VERSION {
            return Err(no_plan(format!("it has format {}", file.format_version)));
        }
        Ok(file)
    }

    /// Refuses if something has changed since.
    pub(super) fn check(&self, review: &Review<'_>) -> Result<(), PlanFileError> {
        let now = review.prepared();
        let what = if now.base != self.base {
            match now.base {
                Some(number) => format!("generation {number} was applied since"),
                None => "the generation that it starts from is gone".to_owned(),
            }
        } else if now.inventory != self.inventory {
            "the inventory has changed since".to_owned()
        } else if review.digest() != self.digest {
            "the kernel is not as it was then".to_owned()
        } else {
            return Ok(());
        };
        Err(PlanFileError::Stale(what))
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::controller::Prepared;
    use crate::controller::tests::change;

    #[test]
    fn plan_that_no_longer_holds_says_what_has_changed() {
        let planned = change();
        let what = WhatArgs {
            tenant: None,
            allow_destroy: 1,
        };
        let file = PlanFile::new(&Review::new(&planned, Some(1)), &what);
        let check = |edit: fn(&mut Prepared)| {
            let mut now = change();
            edit(&mut now);
            file.check(&Review::new(&now, Some(1)))
        };
        assert!(check(|_| ()).is_ok());
        let edits: [fn(&mut Prepared); 4] = [
            |now| now.base = Some(8),
            |now| now.base = None,
            |now| now.inventory = "another".to_owned(),
            |now| now.nat.clear(),
        ];
        let said = edits.map(|edit| check(edit).unwrap_err().to_string());
        assert_snapshot!(said.join("\n"), @r"
        the plan no longer holds: generation 8 was applied since (remedy: look at a new one, `bulkhead plan`)
        the plan no longer holds: the generation that it starts from is gone (remedy: look at a new one, `bulkhead plan`)
        the plan no longer holds: the inventory has changed since (remedy: look at a new one, `bulkhead plan`)
        the plan no longer holds: the kernel is not as it was then (remedy: look at a new one, `bulkhead plan`)
        ");
    }
}
