//! Leases on the disk: one file that only grows, in the format of [`netmodel::leases`].
//!
//! # Guarantees
//!
//! * When [`Store::append`] returns, the changes are on the disk: one write and one `fdatasync` for all of
//!   them, however many clients they are of.
//! * When it fails, none of them count: the file is cut back to where it was. If even that fails, the next
//!   attempt writes a whole new file beside it.
//! * [`Store::open`] finds what was acknowledged, wherever the power went away. A line that is damaged
//!   *before* others that were durable is not passed over in silence: that is a broken disk, and an error.
//! * One process writes: the folder is locked.
//!
//! The file is also the journal: whoever follows leases reads it (`docs/dhcp.md`). ADR 0009.

use std::fs::{self, File};
use std::io::{
    self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use netmodel::ids::VlanId;
use netmodel::leases::{self, Entry, Follow, Lease, LeasesError, Step};
use thiserror::Error;

use crate::engine::Change;

/// Name of the file in the state folder.
pub const FILE: &str = "leases";
/// Most lines that are written between two syncs: what a crash can cut off.
pub const LINES_AT_ONCE: usize = 256;
/// A file with fewer lines than this is not summed up.
const SMALL: u64 = 100_000;
/// Who may read leases besides root: the group.
const MODE: u32 = 0o640;

/// A lease that was written down, and where.
pub type Known = (VlanId, Ipv4Addr, Lease);

/// The leases cannot be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk or the folder refuses.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file or its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot start with the leases that are there")]
    Read(#[source] LeasesError),
    /// Another server runs.
    #[error("{} is in use: another bulkhead-dhcpd runs with this state folder", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A line in the middle is damaged: not a write that was cut off.
    #[error(
        "{} is damaged at octet {offset}: change {before} is followed by change {after} \
         (remedy: restore the file from a backup; or move it away, and clients ask again)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the last good line ends.
        offset: u64,
        /// Number of the last change before.
        before: u64,
        /// Number of the first change that can be read after.
        after: u64,
    },
}

/// The file, open for writing.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: File,
    /// Octets that count.
    good: u64,
    /// Number of the last change.
    number: u64,
    /// Lines in the file.
    lines: u64,
    /// Does the file hold more than what counts, or nobody knows what?
    is_doubtful: bool,
    /// Held while this lives.
    _lock: File,
}

impl Store {
    /// Opens the folder, makes it if it is not there, and returns every lease that it knows, the last state
    /// of an address last.
    ///
    /// # Errors
    ///
    /// [`StoreError`]
    pub fn open(folder: &Path) -> Result<(Self, Vec<Known>), StoreError> {
        fs::create_dir_all(folder).map_err(wrap("make", folder))?;
        let lock = lock(&folder.join("lock"))?;
        let path = folder.join(FILE);
        if !path.exists() {
            replace(&path, 0, std::iter::empty())?;
        }
        let mut follow = Follow::open(&path, 0).map_err(StoreError::Read)?;
        let (mut number, mut known) = (0, Vec::new());
        while let Some(step) = follow.next().map_err(StoreError::Read)? {
            if let Step::Entry(entry) = step {
                number = entry.number.max(number);
                known.push((entry.vlan, entry.address, entry.lease));
            }
        }
        let good = follow.good_bytes();
        let number = number.max(follow.position());
        check_rest(&path, good, number)?;
        let file = File::options()
            .append(true)
            .open(&path)
            .map_err(wrap("open", &path))?;
        let mut store = Self {
            path,
            file,
            good,
            number,
            lines: known.len() as u64,
            is_doubtful: false,
            _lock: lock,
        };
        store.cut()?;
        Ok((store, known))
    }

    /// Cuts off what does not count.
    fn cut(&mut self) -> Result<(), StoreError> {
        let wrap = || wrap("cut off the end of", &self.path);
        self.file.set_len(self.good).map_err(wrap())?;
        self.file.sync_data().map_err(wrap())
    }

    /// Writes changes down. `all` is every lease as it will be: used only if the file must be written anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]: none of the changes count.
    pub fn append<'a, I>(
        &mut self,
        changes: &[Change],
        all: impl FnOnce() -> I,
    ) -> Result<(), StoreError>
    where
        I: Iterator<Item = (VlanId, Ipv4Addr, &'a Lease)>,
    {
        if self.is_doubtful {
            return self.rewrite(changes.len() as u64, all());
        }
        for part in changes.chunks(LINES_AT_ONCE) {
            if let Err(error) = self.append_part(part) {
                self.is_doubtful = self.cut().is_err();
                return Err(error);
            }
        }
        Ok(())
    }

    fn append_part(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut text = String::with_capacity(changes.len() * 128);
        for (number, change) in (self.number + 1..).zip(changes) {
            let entry = Entry {
                number,
                vlan: change.vlan,
                address: change.address,
                lease: change.after.clone(),
            };
            leases::push_line(&mut text, &entry);
        }
        let wrap = || wrap("write", &self.path);
        self.file.write_all(text.as_bytes()).map_err(wrap())?;
        // After a sync that failed, nobody knows what is on the disk: the pages count as written.
        if let Err(source) = self.file.sync_data() {
            self.is_doubtful = true;
            return Err(wrap()(source));
        }
        self.good += text.len() as u64;
        self.number += changes.len() as u64;
        self.lines += changes.len() as u64;
        Ok(())
    }

    /// Is most of the file about the past?
    #[must_use]
    pub fn wants_summary(&self, leases: usize) -> bool {
        self.lines > SMALL.max(2 * leases as u64)
    }

    /// Replaces the file by a summary of it, in one step. Readers go on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; the old file is then untouched.
    pub fn sum_up<'a>(
        &mut self,
        all: impl Iterator<Item = (VlanId, Ipv4Addr, &'a Lease)>,
    ) -> Result<(), StoreError> {
        self.rewrite(0, all)
    }

    /// Writes the file anew, as a summary of everything up to the last change and `more` that follow it.
    fn rewrite<'a>(
        &mut self,
        more: u64,
        all: impl Iterator<Item = (VlanId, Ipv4Addr, &'a Lease)>,
    ) -> Result<(), StoreError> {
        // What is summed up has a number: 0 is where a reader starts that has read nothing.
        let number = (self.number + more).max(1);
        let (good, lines) = replace(&self.path, number, all)?;
        let file = File::options().append(true).open(&self.path);
        self.file = file.map_err(wrap("open", &self.path))?;
        (self.good, self.lines, self.number) = (good, lines, number);
        self.is_doubtful = false;
        Ok(())
    }

    /// Returns the number of the last change.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn wrap(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { op, path, source }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = File::create(path).map_err(wrap("make", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.to_owned(),
        }),
        Err(fs::TryLockError::Error(source)) => Err(wrap("lock", path)(source)),
    }
}

/// Writes a whole file, and puts it in place in one step. Returns its octets and lines of leases.
fn replace<'a>(
    path: &Path,
    base: u64,
    all: impl Iterator<Item = (VlanId, Ipv4Addr, &'a Lease)>,
) -> Result<(u64, u64), StoreError> {
    let draft = path.with_extension("new");
    let written = write_summary(&draft, base, all);
    let placed = written.and_then(|sizes| {
        fs::rename(&draft, path)?;
        // The name is durable, too.
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        Ok(sizes)
    });
    if placed.is_err() {
        // A draft that cannot be removed is written over next time.
        let _ = fs::remove_file(&draft);
    }
    placed.map_err(wrap("write a summary to", path))
}

fn write_summary<'a>(
    draft: &Path,
    base: u64,
    all: impl Iterator<Item = (VlanId, Ipv4Addr, &'a Lease)>,
) -> io::Result<(u64, u64)> {
    let mut options = File::options();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(draft)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut text = leases::head_line(base);
    let (mut octets, mut lines) = (0, 0);
    for (vlan, address, lease) in all {
        let entry = Entry {
            number: base,
            vlan,
            address,
            lease: lease.clone(),
        };
        leases::push_line(&mut text, &entry);
        lines += 1;
        if text.len() > 1 << 16 {
            file.write_all(text.as_bytes())?;
            octets += text.len() as u64;
            text.clear();
        }
    }
    file.write_all(text.as_bytes())?;
    octets += text.len() as u64;
    file.into_inner()?.sync_all()?;
    Ok((octets, lines))
}

/// What follows the last good line may be one write that was cut off, and no more.
fn check_rest(path: &Path, good: u64, before: u64) -> Result<(), StoreError> {
    let mut file = BufReader::new(File::open(path).map_err(wrap("read", path))?);
    file.seek(SeekFrom::Start(good))
        .map_err(wrap("read", path))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let part = file
            .by_ref()
            .take(leases::LINE_BYTES)
            .read_until(b'\n', &mut line);
        if part.map_err(wrap("read", path))? == 0 {
            return Ok(());
        }
        let entry = line.strip_suffix(b"\n").and_then(leases::parse_line);
        if let Some(entry) = entry
            && entry.number > before + LINES_AT_ONCE as u64
        {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                offset: good,
                before,
                after: entry.number,
            });
        }
    }
}
