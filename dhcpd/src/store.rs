//! Leases on the disk: one file that only grows, in the format of [`netmodel::leases`].
//!
//! # Guarantees
//!
//! * When [`Store::append`] returns, the changes are on the disk: one write and one `fdatasync` for all of
//!   them, however many clients they are of.
//! * When it fails, none of them count. Room is reserved first, so that on a full disk no reader ever sees a line
//!   that does not count; after any other failure the next attempt writes a whole new file in its place.
//! * [`Store::open`] finds what was acknowledged, wherever the power went away. A line that is damaged
//!   *before* others that were durable is not passed over in silence: that is a broken disk, and an error.
//! * One process writes: the folder is locked.
//!
//! The file is also the journal: whoever follows leases reads it (`docs/dhcp.md`). ADR 0009.

use std::fs::{self, File};
use std::io::{
    self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use netmodel::ids::VlanId;
use netmodel::leases::{self, Entry, FILE, Follow, Lease, LeasesError, Step};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use thiserror::Error;

use crate::engine::Change;

/// Most lines that are written between two syncs: what a crash can cut off.
pub const LINES_AT_ONCE: u64 = 256;
/// A file with fewer lines than this is not summed up.
const SMALL: u64 = 100_000;
/// How much room is reserved at once, in octets.
const RESERVE: u64 = 16 << 10;
/// Who may read leases besides root: the group.
const MODE: u32 = 0o640;

/// A lease that was written down, and where.
pub type Known = (VlanId, IpAddr, Lease);

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
    /// Octets up to which there is room on the disk.
    reserved: u64,
    /// Did a write fail half-way? Nobody knows what the file holds.
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
            reserved: 0,
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
    pub fn append<'a, 'c, I>(
        &mut self,
        changes: impl IntoIterator<Item = &'c Change>,
        all: impl FnOnce() -> I,
    ) -> Result<(), StoreError>
    where
        I: Iterator<Item = (VlanId, IpAddr, &'a Lease)>,
    {
        let (text, count) = self.lines_of(changes);
        if self.is_doubtful {
            return self.rewrite(count, all());
        }
        self.reserve(text.iter().map(|part| part.len() as u64).sum())?;
        let written = text.iter().try_for_each(|part| {
            self.file.write_all(part.as_bytes())?;
            // After a sync that failed, nobody knows what is on the disk: the pages count as written.
            self.file.sync_data()
        });
        // Readers may have seen numbers that do not count: they are not used again.
        self.number += count;
        if let Err(source) = written {
            self.is_doubtful = true;
            return Err(wrap("write", &self.path)(source));
        }
        self.good += text.iter().map(|part| part.len() as u64).sum::<u64>();
        self.lines += count;
        Ok(())
    }

    /// Returns the lines of changes, in parts that are synced one by one, and how many they are.
    fn lines_of<'c>(&self, changes: impl IntoIterator<Item = &'c Change>) -> (Vec<String>, u64) {
        let (mut parts, mut count) = (Vec::new(), 0_u64);
        for change in changes {
            if count.is_multiple_of(LINES_AT_ONCE) {
                parts.push(String::new());
            }
            count += 1;
            let entry = Entry {
                number: self.number + count,
                vlan: change.vlan,
                address: change.address,
                lease: change.after.clone(),
            };
            if let Some(text) = parts.last_mut() {
                leases::push_line(text, &entry);
            }
        }
        (parts, count)
    }

    /// Makes sure that there is room, without making the file longer.
    fn reserve(&mut self, octets: u64) -> Result<(), StoreError> {
        let end = self.good + octets;
        if end <= self.reserved {
            return Ok(());
        }
        let mut reserve = |more: u64| {
            let (from, length) = (i64::try_from(self.good), i64::try_from(octets + more));
            let (Ok(from), Ok(length)) = (from, length) else {
                return Err(Errno::EFBIG);
            };
            fallocate(
                &self.file,
                FallocateFlags::FALLOC_FL_KEEP_SIZE,
                from,
                length,
            )?;
            self.reserved = end + more;
            Ok(())
        };
        match reserve(RESERVE).or_else(|_| reserve(0)) {
            // A filesystem that cannot: then a write fails instead.
            Err(Errno::EOPNOTSUPP) | Ok(()) => Ok(()),
            Err(errno) => Err(wrap("find room for", &self.path)(errno.into())),
        }
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
        all: impl Iterator<Item = (VlanId, IpAddr, &'a Lease)>,
    ) -> Result<(), StoreError> {
        self.rewrite(0, all)
    }

    /// Writes the file anew, as a summary of everything up to the last change and `more` that follow it.
    fn rewrite<'a>(
        &mut self,
        more: u64,
        all: impl Iterator<Item = (VlanId, IpAddr, &'a Lease)>,
    ) -> Result<(), StoreError> {
        // What is summed up has a number: 0 is where a reader starts that has read nothing.
        let number = (self.number + more).max(1);
        let (good, lines) = replace(&self.path, number, all)?;
        let file = File::options().append(true).open(&self.path);
        self.file = file.map_err(wrap("open", &self.path))?;
        (self.good, self.lines, self.number) = (good, lines, number);
        self.reserved = good;
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
    all: impl Iterator<Item = (VlanId, IpAddr, &'a Lease)>,
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
    all: impl Iterator<Item = (VlanId, IpAddr, &'a Lease)>,
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
            && entry.number > before + LINES_AT_ONCE
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

#[cfg(test)]
mod tests {
    use netmodel::ids::MacAddr;
    use netmodel::leases::State;

    use super::*;

    #[test]
    fn after_a_write_that_failed_half_way_readers_start_over_with_what_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        let change = |last| Change {
            vlan: VlanId::new(100).unwrap(),
            address: [10, 0, 0, last].into(),
            before: None,
            after: Lease {
                mac: MacAddr([2, 0, 0, 0, 0, last]),
                state: State::Bound,
                since: 1,
                until: 2,
                client_id: Box::default(),
                hostname: Box::default(),
            },
        };
        store.append(&[change(1)], std::iter::empty).unwrap();
        let mut reader = Follow::open(store.path(), 0).unwrap();
        // What a disk that fails leaves: a line that was written, and not synced.
        store.append(&[change(2)], std::iter::empty).unwrap();
        store.good -= 1;
        store.is_doubtful = true;
        while reader.next().unwrap().is_some() {}
        let all = [change(1), change(3)];
        let leases = || all.iter().map(|c| (c.vlan, c.address, &c.after));
        store.append(&all[1..], leases).unwrap();
        let mut seen = Vec::new();
        while let Some(step) = reader.next().unwrap() {
            match step {
                Step::Restart => seen.clear(),
                Step::Entry(entry) => seen.push(entry.lease.mac.0[5]),
            }
        }
        assert_eq!(seen, [1, 3]);
        store.append(&[change(4)], std::iter::empty).unwrap();
        assert!(
            matches!(reader.next().unwrap(), Some(Step::Entry(e)) if e.address == change(4).address)
        );
    }

    #[test]
    fn a_write_that_fails_is_an_error_and_the_next_one_makes_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        store.file = File::open(store.path()).unwrap();
        store.reserved = u64::MAX;
        let change = Change {
            vlan: VlanId::new(100).unwrap(),
            address: [10, 0, 0, 1].into(),
            before: None,
            after: Lease {
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                state: State::Bound,
                since: 1,
                until: 2,
                client_id: Box::default(),
                hostname: Box::default(),
            },
        };
        let all = || [(change.vlan, change.address, &change.after)].into_iter();
        assert!(store.append(std::slice::from_ref(&change), all).is_err());
        store.append(std::slice::from_ref(&change), all).unwrap();
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().1.len(), 1);
    }
}
