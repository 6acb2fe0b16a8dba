//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use netmodel::published::PublishedError;
use thiserror::Error;

/// The store cannot be used. Enforcement does not depend on it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder refused something.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written.
    #[error(
        "{} is damaged: {what} (remedy: `bulkhead apply`; the enforced generation stays until then)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A model cannot be read or written.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// The generation was pruned or never was.
    #[error("there is no generation {number} in {} (`bulkhead history` lists those there are)", folder.display())]
    NoGeneration {
        /// Its number.
        number: u32,
        /// The store.
        folder: PathBuf,
    },
    /// The number was given before: a bug.
    #[error("generation {number} exists already (a bug in bulkhead)")]
    Exists {
        /// The number.
        number: u32,
    },
}

impl StoreError {
    pub(super) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { op, path, source }
    }
}
