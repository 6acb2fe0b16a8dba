//! The files that were read, and places in them.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::model::Origin;
use crate::published::hex;

/// A file in [`Sources`]: the number of its shelf, and its place there, 16 bits each.
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

/// The files of one tree. A tree is read without knowing how many files the others have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    number: u16,
    files: Vec<Source>,
}

impl Shelf {
    /// Makes an empty shelf.
    pub(crate) fn new(number: u16) -> Self {
        let files = Vec::new();
        Self { number, files }
    }

    /// Is a word anywhere in its files?
    pub(crate) fn mentions(&self, word: &str) -> bool {
        self.files.iter().any(|file| file.text.contains(word))
    }

    /// Adds a file. Names of files are chosen by tenants: control characters are taken out.
    ///
    /// A shelf is larger than the bound on a tree's files; what is beyond all the same (folders that cannot be read)
    /// shares the last place.
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
        let place = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        if self.files.len() <= usize::from(u16::MAX) {
            self.files.push(source);
        }
        FileId(u32::from(self.number) << 16 | u32::from(place))
    }
}

/// All files of one load: the site's, then each tenant's.
#[derive(Clone, Debug)]
pub struct Sources {
    shelves: Vec<Shelf>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            shelves: vec![Shelf::new(0)],
        }
    }
}

impl Sources {
    /// Adds a file of the site.
    pub(crate) fn add(&mut self, source: Source) -> FileId {
        self.site().add(source)
    }

    /// Returns the site's files.
    pub(crate) fn site(&mut self) -> &mut Shelf {
        self.shelf(0)
    }

    /// Returns the files of a tree.
    pub(crate) fn shelf(&mut self, number: u16) -> &mut Shelf {
        let count = u16::try_from(self.shelves.len()).unwrap_or(u16::MAX);
        self.shelves.extend((count..=number).map(Shelf::new));
        &mut self.shelves[usize::from(number)]
    }

    /// Puts a shelf that was filled elsewhere into its place.
    pub(crate) fn put(&mut self, shelf: Shelf) {
        let number = shelf.number;
        *self.shelf(number) = shelf;
    }

    /// Returns the first file that was read; a tree without any file has got one by then.
    pub(crate) fn first(&mut self) -> FileId {
        if self.site().files.is_empty() {
            return self.add(Source {
                path: "".into(),
                text: "".into(),
                realm: Realm::Site,
            });
        }
        FileId(0)
    }

    fn files(&self) -> impl Iterator<Item = &Source> {
        self.shelves.iter().flat_map(|shelf| &shelf.files)
    }

    /// Returns a file.
    #[must_use]
    pub fn get(&self, file: FileId) -> &Source {
        let [shelf, place] = [file.0 >> 16, file.0 & 0xffff].map(|part| part as usize);
        &self.shelves[shelf].files[place]
    }

    /// Returns the paths of all files: the site's, then each tenant's.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files().map(|source| &*source.path)
    }

    /// Returns the SHA-256 of all paths and texts, in lower-case hexadecimal: has anything changed?
    #[must_use]
    pub fn digest(&self) -> String {
        let mut sha = Sha256::new();
        for source in self.files() {
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
