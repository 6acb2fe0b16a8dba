//! Where the files of an inventory come from: a folder, or memory.
//!
//! # Guarantee
//!
//! A [`DirTree`] made for a tenant's folder opens nothing outside of that folder: the kernel itself
//! refuses every path that leaves it (`openat2(2)` with `RESOLVE_BENEATH`, Linux 5.6), whether by
//! `..`, by an absolute symbolic link or by a race.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use thiserror::Error;

/// Why a path of a tree could not be read.
#[derive(Debug, Error)]
pub enum TreeError {
    /// There is nothing of that name.
    #[error("there is no such file")]
    NotFound,
    /// The path, or a symbolic link on it, leads out of the folder.
    #[error("it leads out of the folder")]
    Escapes,
    /// It is neither a file nor a folder, or not the one of both that was wanted.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is larger than the bound, in octets.
    #[error("it is larger than {0} octets")]
    TooLarge(u64),
    /// The operating system says no.
    #[error("{0}")]
    Os(#[source] std::io::Error),
}

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// Anything else; reading it tells whether it is of use.
    File,
}

/// One entry of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirEntry {
    /// Its name, without the folder's.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// A tree of files. Paths are relative to its root, `/`-separated; the root itself is `""`.
///
/// Several threads read different parts of one tree at once.
pub trait Tree: Sync {
    /// Returns the root as the operator gave it: the beginning of every path that is shown.
    fn root(&self) -> &str;

    /// Lists a folder in name order.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such folder; otherwise as the operating system says.
    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, TreeError>;

    /// Reads a file of at most `limit` octets.
    ///
    /// # Errors
    ///
    /// Each variant of [`TreeError`].
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, TreeError>;

    /// Returns the folder `name` of the root as a tree that nothing leads out of.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such folder; otherwise as the operating system says.
    fn subtree(&self, name: &str) -> Result<Box<dyn Tree>, TreeError>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct DirTree {
    shown: String,
    root: OwnedFd,
    resolve: ResolveFlags,
}

impl DirTree {
    /// Opens a folder that its owner is trusted with: links in it may lead anywhere.
    ///
    /// # Errors
    ///
    /// As the operating system says.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let resolve = ResolveFlags::empty();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat2(CWD, path, flags, Mode::empty(), resolve).map_err(tree_error)?;
        Ok(Self {
            shown: path.display().to_string(),
            root,
            resolve,
        })
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, TreeError> {
        let path = if path.is_empty() { "." } else { path };
        // NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        openat2(&self.root, path, flags, Mode::empty(), self.resolve).map_err(tree_error)
    }

    fn kind(&self, path: &str, listed: FileType) -> EntryKind {
        let is_dir = match listed {
            FileType::Directory => true,
            FileType::Symlink | FileType::Unknown => self.open_at(path, OFlags::DIRECTORY).is_ok(),
            FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice => false,
        };
        if is_dir {
            EntryKind::Dir
        } else {
            EntryKind::File
        }
    }
}

impl Tree for DirTree {
    fn root(&self) -> &str {
        &self.shown
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, TreeError> {
        let fd = self.open_at(dir, OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for entry in Dir::new(fd).map_err(tree_error)? {
            let entry = entry.map_err(tree_error)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let kind = self.kind(&join(dir, &name), entry.file_type());
            entries.push(DirEntry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, TreeError> {
        let fd = self.open_at(path, OFlags::empty())?;
        let stat = fstat(fd.as_fd()).map_err(tree_error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(TreeError::NotAFile);
        }
        // With room for all of it and the end, two calls read a file.
        let size = u64::try_from(stat.st_size).unwrap_or_default().min(limit);
        let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or_default());
        std::fs::File::from(fd)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(TreeError::Os)?;
        within(bytes, limit)
    }

    fn subtree(&self, name: &str) -> Result<Box<dyn Tree>, TreeError> {
        Ok(Box::new(Self {
            shown: join(&self.shown, name),
            root: self.open_at(name, OFlags::DIRECTORY)?,
            resolve: ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        }))
    }
}

fn tree_error(errno: Errno) -> TreeError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => TreeError::NotFound,
        // "The path escapes" (BENEATH); a loop of links is no better.
        Errno::XDEV | Errno::LOOP => TreeError::Escapes,
        other => TreeError::Os(other.into()),
    }
}

fn within(bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, TreeError> {
    if bytes.len() as u64 > limit {
        return Err(TreeError::TooLarge(limit));
    }
    Ok(bytes)
}

/// Joins two parts of a path; either may be empty.
pub(crate) fn join(dir: &str, name: &str) -> String {
    match (dir, name) {
        ("", name) => name.to_owned(),
        (dir, "") => dir.to_owned(),
        (dir, name) => format!("{}/{name}", dir.trim_end_matches('/')),
    }
}

/// Files in memory: for tests, generators, fuzzing and benches.
#[derive(Clone, Debug)]
pub struct MemTree {
    shown: String,
    prefix: String,
    files: Arc<BTreeMap<String, Vec<u8>>>,
}

impl MemTree {
    /// Makes a tree of files whose paths are relative to its root. Paths with `..` are left out.
    #[must_use]
    pub fn new(root: &str, files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let normal = |path: &Path| -> Option<String> {
            let parts: Option<Vec<String>> = path
                .components()
                .filter(|part| *part != Component::CurDir)
                .map(|part| match part {
                    Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                    Component::Prefix(_)
                    | Component::RootDir
                    | Component::CurDir
                    | Component::ParentDir => None,
                })
                .collect();
            parts
                .map(|parts| parts.join("/"))
                .filter(|path| !path.is_empty())
        };
        let files = files
            .iter()
            .filter_map(|(path, bytes)| Some((normal(path)?, bytes.clone())))
            .collect();
        Self {
            shown: root.to_owned(),
            prefix: String::new(),
            files: Arc::new(files),
        }
    }

    fn in_dir(&self, dir: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let mut prefix = join(&self.prefix, dir);
        if !prefix.is_empty() {
            prefix.push('/');
        }
        self.files
            .range(prefix.clone()..)
            .map_while(move |(path, bytes)| Some((path.strip_prefix(&prefix)?, bytes.as_slice())))
    }
}

impl Tree for MemTree {
    fn root(&self) -> &str {
        &self.shown
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, TreeError> {
        let mut entries: Vec<DirEntry> = Vec::new();
        for (rest, _) in self.in_dir(dir) {
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, EntryKind::Dir),
                None => (rest, EntryKind::File),
            };
            if entries.last().is_none_or(|last| last.name != name) {
                let name = name.to_owned();
                entries.push(DirEntry { name, kind });
            }
        }
        if entries.is_empty() && !dir.is_empty() {
            return Err(TreeError::NotFound);
        }
        // `a-b/x` sorts before `a/x` as a path, but `a` before `a-b` as a name.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        Ok(entries)
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, TreeError> {
        let bytes = self
            .files
            .get(&join(&self.prefix, path))
            .ok_or(TreeError::NotFound)?;
        within(bytes.clone(), limit)
    }

    fn subtree(&self, name: &str) -> Result<Box<dyn Tree>, TreeError> {
        Ok(Box::new(Self {
            shown: join(&self.shown, name),
            prefix: join(&self.prefix, name),
            files: Arc::clone(&self.files),
        }))
    }
}
