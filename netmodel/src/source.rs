//! The files that were read, and places in them.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::model::Origin;
use crate::published::hex;

/// Index of a file in [`Sources`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId(pub(crate) u32);

/// A position in a file.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Pos {
    /// 1-based line.
    pub line: u32,
    /// 1-based column, in characters.
    pub column: u32,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The first character.
    pub start: Pos,
    /// Behind the last character.
    pub end: Pos,
}

impl Place {
    /// Returns the very beginning of a file: for what is said about the file as a whole.
    #[must_use]
    pub fn file(file: FileId) -> Self {
        let start = Pos { line: 1, column: 1 };
        Self {
            file,
            start,
            end: start,
        }
    }
}

/// Whose tree a file is in.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Realm {
    /// The platform admin's site tree.
    Site,
    /// The tree of the tenant with this folder name.
    Tenant(Arc<str>),
}

/// A file that was read, or that should have been there.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path as the operator gave the tree, joined with the path inside of it.
    pub path: Arc<str>,
    /// Its text; empty if it could not be read.
    pub text: Arc<str>,
    /// Whose tree it is in.
    pub realm: Realm,
}

/// All files of one load.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file. Names of files are chosen by tenants: control characters are taken out.
    pub(crate) fn add(&mut self, mut source: Source) -> FileId {
        if source.path.chars().any(char::is_control) {
            let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            source.path = source
                .path
                .chars()
                .map(printable)
                .collect::<String>()
                .into();
        }
        let id = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(source);
        FileId(id)
    }

    /// Returns the first file that was read; a tree without any file has got one by then.
    pub(crate) fn first(&mut self) -> FileId {
        if self.files.is_empty() {
            return self.add(Source {
                path: "".into(),
                text: "".into(),
                realm: Realm::Site,
            });
        }
        FileId(0)
    }

    /// Returns a file.
    #[must_use]
    pub fn get(&self, file: FileId) -> &Source {
        &self.files[file.0 as usize]
    }

    /// Returns the paths of all files, in the order in which they were read.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|source| &*source.path)
    }

    /// Returns the SHA-256 of all paths and texts, in lower-case hexadecimal: has anything changed?
    #[must_use]
    pub fn digest(&self) -> String {
        let mut sha = Sha256::new();
        for source in &self.files {
            for part in [&source.path, &source.text] {
                // The length goes first, so that no two lists of files are the same octets.
                sha.update((part.len() as u64).to_be_bytes());
                sha.update(part.as_bytes());
            }
        }
        hex(&sha.finalize())
    }

    /// Turns a place into what the model keeps.
    #[must_use]
    pub fn origin(&self, place: Place) -> Origin {
        Origin {
            file: Arc::clone(&self.get(place.file).path),
            line: place.start.line,
            column: place.start.column,
        }
    }
}
