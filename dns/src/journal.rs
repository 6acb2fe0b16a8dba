//! Dynamic records, kept in a file that is complete after every update that was answered.
//!
//! # Format
//!
//! One line per change of a zone: sixteen hexadecimal digits of the SHA-256 of what follows, a blank,
//! JSON, a line feed. A set in a line replaces the set of this name and type; without data, it removes
//! it. So reading a line twice does no harm.
//!
//! # Guarantees
//!
//! * **Durable.** [`Store::commit`] returns when the lines are on the disk. What it could not write is
//!   taken back, and nothing more is taken until the daemon was started again: after a failed `fsync`
//!   nobody knows what the disk has.
//! * **A torn end is no loss.** Lines that a crash left incomplete were never answered. A journal with
//!   such lines is kept beside the one that is then written of all good lines.
//! * **One writer.** The file is locked.

mod line;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netmodel::published::{self, PublishedError};
use thiserror::Error;
use tracing::warn;

use crate::dnssec::folder::KeyFolder;
use crate::leases::Table;
use crate::name::Name;
use crate::zone::RrSet;
use line::{Line, LineSet, read_line, sum, write_line};

/// Where the journal is unless told otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/bulkhead/dns/journal";
/// The journal is written anew when it has this many lines more than there are zones.
const SPARE_LINES: usize = 4096;
/// Or when it is twice as long as it was when it was written anew, and so many octets more.
const SPARE_OCTETS: u64 = 16 << 20;

/// The dynamic records of one zone.
#[derive(Clone, Debug, Default)]
pub struct ZoneChanges {
    /// How often the zone was changed: part of its serial.
    pub changes: u32,
    sets: BTreeMap<(Name, u16), RrSet>,
}

impl ZoneChanges {
    /// Goes through all sets, by name.
    pub fn sets(&self) -> impl Iterator<Item = (&Name, &RrSet)> {
        self.sets.iter().map(|((name, _), set)| (name, set))
    }

    /// Returns a set.
    #[must_use]
    pub fn set(&self, name: &Name, kind: u16) -> Option<&RrSet> {
        self.sets.get(&(name.clone(), kind))
    }

    /// Goes through the sets of one name.
    pub fn at<'s>(&'s self, name: &Name) -> impl Iterator<Item = &'s RrSet> + use<'s> {
        let range = (name.clone(), 0)..=(name.clone(), u16::MAX);
        self.sets.range(range).map(|(_, set)| set)
    }

    /// Returns the number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.sets.values().map(|set| set.rdata.len()).sum()
    }
}

/// One update of one zone.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose zone.
    pub tenant: Arc<str>,
    /// Which.
    pub zone: Name,
    /// The sets that are another now; `None`: gone.
    pub sets: BTreeMap<(Name, u16), Option<RrSet>>,
}

/// The journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another process (remedy: is bulkhead-dns running already?)", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It could not be written anew.
    #[error("cannot write the journal anew")]
    Compact(#[source] PublishedError),
    /// A write failed before.
    #[error("a write to {} failed before (remedy: mend the disk, then restart bulkhead-dns)", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
}

/// All dynamic records.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None`: only read.
    file: Option<File>,
    /// Length of what is known to be on the disk.
    length: u64,
    /// Its length when it was last written anew.
    compact_length: u64,
    lines: usize,
    is_broken: bool,
    zones: HashMap<(Arc<str>, Name), ZoneChanges>,
    /// Names of leases; they are in a file of their own.
    leases: Table,
    /// Keys of signed zones, in a folder of their own.
    zone_keys: Arc<KeyFolder>,
}

impl Store {
    /// Opens the journal, or begins one, and reads it.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if it cannot be opened or is another process's.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let wrap = |op| {
            let path = path.to_owned();
            move |source| JournalError::Io { op, path, source }
        };
        let mut file = open_locked(path)?;
        let mut octets = Vec::new();
        file.read_to_end(&mut octets).map_err(wrap("read"))?;
        let mut store = Self::empty(path, Some(file));
        store.length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        let bad = store.replay(&octets);
        if bad > 0 {
            store.set_aside(&octets, bad)?;
            store.compact()?;
        }
        if store.is_long() {
            store.compact()?;
        }
        Ok(store)
    }

    /// Reads a journal that may be another process's; nothing can be written. No file is no records.
    ///
    /// # Errors
    ///
    /// [`JournalError`] if there is one and it cannot be read.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let octets = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|source| JournalError::Io {
                op: "read",
                path: path.to_owned(),
                source,
            })?,
        };
        let mut store = Self::empty(path, None);
        store.replay(&octets);
        Ok(store)
    }

    fn empty(path: &Path, file: Option<File>) -> Self {
        Self {
            path: path.to_owned(),
            file,
            length: 0,
            compact_length: 0,
            lines: 0,
            is_broken: false,
            zones: HashMap::new(),
            leases: Table::default(),
            zone_keys: Arc::default(),
        }
    }

    /// Applies all good lines; returns how many octets are in bad ones.
    fn replay(&mut self, octets: &[u8]) -> usize {
        let mut bad = 0;
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            match read_line(line) {
                Some(line) => self.apply_line(line),
                None => bad += line.len(),
            }
            self.lines += 1;
        }
        bad
    }

    fn apply_line(&mut self, line: Line) {
        let Ok(zone) = Name::absolute(&line.zone) else {
            return;
        };
        let changes = self.zones.entry((line.tenant, zone)).or_default();
        changes.changes = line.changes;
        for set in line.sets {
            let Ok(name) = Name::absolute(&set.name) else {
                continue;
            };
            let key = (name, set.kind);
            match set.read() {
                Some(set) => changes.sets.insert(key, set),
                None => changes.sets.remove(&key),
            };
        }
    }

    /// Keeps a journal with bad lines in it.
    fn set_aside(&self, octets: &[u8], bad: usize) -> Result<(), JournalError> {
        let digest: String = sum(octets).chars().take(8).collect();
        let aside = self.path.with_extension(format!("damaged-{digest}"));
        warn!(
            journal = %self.path.display(),
            kept_in = %aside.display(),
            octets = bad,
            "the journal has lines that are not whole: at its end, updates that were never answered"
        );
        fs::write(&aside, octets).map_err(|source| JournalError::Io {
            op: "write",
            path: aside.clone(),
            source,
        })
    }

    /// Takes other names of leases.
    pub fn set_leases(&mut self, leases: Table) {
        self.leases = leases;
    }

    /// Takes the folder with the keys of signed zones.
    pub fn set_zone_keys(&mut self, keys: Arc<KeyFolder>) {
        self.zone_keys = keys;
    }

    /// Returns the keys of signed zones.
    #[must_use]
    pub fn zone_keys(&self) -> &Arc<KeyFolder> {
        &self.zone_keys
    }

    /// Returns the names of leases.
    #[must_use]
    pub fn leases(&self) -> &Table {
        &self.leases
    }

    /// Returns the dynamic records of a tenant's zone.
    #[must_use]
    pub fn zone(&self, tenant: &Arc<str>, zone: &Name) -> Option<&ZoneChanges> {
        self.zones.get(&(Arc::clone(tenant), zone.clone()))
    }

    /// Returns the number of dynamic records of a tenant, in all zones.
    #[must_use]
    pub fn records_of(&self, tenant: &str) -> usize {
        let own = self.zones.iter().filter(|((of, _), _)| **of == *tenant);
        own.map(|(_, zone)| zone.records()).sum()
    }

    /// Takes a change over in memory; [`Store::commit`] makes it last. Returns its line.
    pub fn apply(&mut self, change: Change) -> String {
        let key = (Arc::clone(&change.tenant), change.zone.clone());
        let zone = self.zones.entry(key).or_default();
        zone.changes = zone.changes.wrapping_add(1);
        let line = Line {
            tenant: change.tenant,
            zone: change.zone.to_string(),
            changes: zone.changes,
            sets: change
                .sets
                .iter()
                .map(|(key, set)| LineSet::new(key, set.as_ref()))
                .collect(),
        };
        for (key, set) in change.sets {
            match set {
                Some(set) => zone.sets.insert(key, set),
                None => zone.sets.remove(&key),
            };
        }
        write_line(&line)
    }

    /// Writes lines to the disk. After an error, memory holds what the disk held before.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; from the first one on, always.
    pub fn commit(&mut self, lines: &[String]) -> Result<(), JournalError> {
        let text = lines.concat();
        let written = match self.file.as_mut().filter(|_| !self.is_broken) {
            None => Err(JournalError::Broken {
                path: self.path.clone(),
            }),
            Some(file) => {
                let written = file.write_all(text.as_bytes());
                let synced = written.and_then(|()| file.sync_data());
                synced.map_err(|source| JournalError::Io {
                    op: "write",
                    path: self.path.clone(),
                    source,
                })
            }
        };
        if let Err(error) = written {
            self.is_broken = true;
            self.take_back();
            return Err(error);
        }
        self.length += u64::try_from(text.len()).unwrap_or(0);
        self.lines += lines.len();
        if self.is_long() {
            // The journal is good as it is: what fails here is tried again at the next update.
            if let Err(error) = self.compact() {
                warn!(journal = %self.path.display(), error = %error, "the journal stays long");
            }
        }
        Ok(())
    }

    /// Reads again what is known to be on the disk.
    fn take_back(&mut self) {
        let mut octets = fs::read(&self.path).unwrap_or_default();
        octets.truncate(usize::try_from(self.length).unwrap_or(usize::MAX));
        self.zones.clear();
        self.lines = 0;
        self.replay(&octets);
        // What was half written must not stand in front of what a later start writes.
        if let Some(file) = &self.file {
            let _ = file.set_len(self.length);
        }
    }

    /// Did a write fail, so that nothing more is taken?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn is_long(&self) -> bool {
        self.lines > SPARE_LINES + self.zones.len()
            || self.length > SPARE_OCTETS + 2 * self.compact_length
    }

    /// Replaces the journal by one with a single line for each zone.
    fn compact(&mut self) -> Result<(), JournalError> {
        let mut text = String::new();
        for ((tenant, zone), changes) in &self.zones {
            let sets = changes.sets.iter();
            text += &write_line(&Line {
                tenant: Arc::clone(tenant),
                zone: zone.to_string(),
                changes: changes.changes,
                sets: sets
                    .map(|(key, set)| LineSet::new(key, Some(set)))
                    .collect(),
            });
        }
        published::write(&self.path, text.as_bytes(), 0o600)
            .inspect_err(|_| self.is_broken |= self.is_replaced())
            .map_err(JournalError::Compact)?;
        let file = open_locked(&self.path).inspect_err(|_| self.is_broken = true)?;
        self.file = Some(file);
        self.length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.compact_length = self.length;
        self.lines = self.zones.len();
        Ok(())
    }

    /// Is the open journal another one than a later start would read?
    fn is_replaced(&self) -> bool {
        let there = fs::metadata(&self.path).map(|metadata| metadata.ino());
        let open = self.file.as_ref().map(|file| file.metadata());
        match (there, open) {
            (Ok(there), Some(Ok(open))) => there != open.ino(),
            _ => true,
        }
    }
}

fn open_locked(path: &Path) -> Result<File, JournalError> {
    let wrap = |op| {
        let path = path.to_owned();
        move |source| JournalError::Io { op, path, source }
    };
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let file = options.open(path).map_err(wrap("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(JournalError::Locked {
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(wrap("lock")(source)),
    }
    // A journal that was just made has a name that must last, too.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    folder
        .and_then(|folder| folder.sync_all())
        .map_err(wrap("sync the folder of"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdata::rtype;
    use crate::zone::RrOwner;

    fn change(label: &str, octet: Option<u8>) -> Change {
        let zone = Name::absolute("a.example").unwrap();
        let name = Name::parse(label, &zone).unwrap();
        let set = octet.map(|octet| RrSet {
            rtype: rtype::A,
            ttl: 77,
            rdata: vec![[192, 0, 2, octet].into()],
            owner: RrOwner::Key("a-tf".into()),
        });
        Change {
            tenant: "a".into(),
            zone,
            sets: BTreeMap::from([((name, rtype::A), set)]),
        }
    }

    fn write(store: &mut Store, changes: Vec<Change>) {
        let lines: Vec<String> = changes
            .into_iter()
            .map(|change| store.apply(change))
            .collect();
        store.commit(&lines).unwrap();
    }

    fn names(store: &Store) -> Vec<String> {
        let zone = Name::absolute("a.example").unwrap();
        let zone = store.zone(&"a".into(), &zone);
        zone.into_iter()
            .flat_map(|zone| zone.sets().map(|(name, _)| name.to_string()))
            .collect()
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut store = Store::open(&path).unwrap();
        write(&mut store, vec![change("x", Some(1)), change("y", Some(2))]);
        write(&mut store, vec![change("x", None)]);
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(names(&store), ["y.a.example."]);
        let zone = Name::absolute("a.example").unwrap();
        let zone = store.zone(&"a".into(), &zone).unwrap();
        assert_eq!((zone.changes, zone.records()), (3, 1));
        let set = zone.sets().next().unwrap().1;
        assert_eq!((set.ttl, &set.owner), (77, &RrOwner::Key("a-tf".into())));
    }

    #[test]
    fn a_journal_cut_off_anywhere_keeps_every_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut store = Store::open(&path).unwrap();
        write(&mut store, vec![change("x", Some(1))]);
        let first = fs::read(&path).unwrap().len();
        write(&mut store, vec![change("y", Some(2))]);
        drop(store);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut store = Store::open(&path).unwrap();
            let expected = usize::from(length >= first);
            assert_eq!(names(&store).len(), expected, "cut at {length}");
            // And what is written after it is not lost behind the torn end.
            write(&mut store, vec![change("z", Some(3))]);
            drop(store);
            assert_eq!(names(&Store::open(&path).unwrap()).len(), expected + 1);
        }
    }

    #[test]
    fn a_changed_octet_costs_one_line_and_the_damaged_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        write(
            &mut Store::open(&path).unwrap(),
            vec![change("x", Some(1)), change("y", Some(2))],
        );
        let mut octets = fs::read(&path).unwrap();
        // A digit of an address becomes another: it could still be read, were it not for the sum.
        let at = octets.windows(8).position(|octets| octets == b"c0000201");
        octets[at.unwrap() + 7] = b'9';
        fs::write(&path, &octets).unwrap();
        assert_eq!(names(&Store::open(&path).unwrap()), ["y.a.example."]);
        let mut files = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        assert!(files.any(|file| fs::read(file).unwrap() == octets));
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let _first = Store::open(&path).unwrap();
        assert!(matches!(
            Store::open(&path),
            Err(JournalError::Locked { .. })
        ));
    }

    #[test]
    fn after_a_failed_write_memory_is_what_the_disk_is_and_nothing_more_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut store = Store::open(&path).unwrap();
        write(&mut store, vec![change("x", Some(1))]);
        store.file = Some(File::open(&path).unwrap()); // not for writing
        let line = store.apply(change("y", Some(2)));
        assert!(store.commit(&[line]).is_err());
        assert_eq!(names(&store), ["x.a.example."]);
        let line = store.apply(change("y", Some(2)));
        assert!(matches!(
            store.commit(&[line]),
            Err(JournalError::Broken { .. })
        ));
        assert_eq!(names(&store), ["x.a.example."]);
    }

    #[test]
    fn a_journal_of_few_and_long_lines_is_written_anew_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut store = Store::open(&path).unwrap();
        for round in 0..50_u8 {
            let long = (0..20_u8).map(|number| {
                let mut change = change("x", Some(number));
                for set in change.sets.values_mut().flatten() {
                    set.rdata = vec![vec![round ^ number; 32 * 1024].into()];
                }
                change
            });
            write(&mut store, long.collect());
        }
        let length = fs::metadata(&path).unwrap().len();
        assert!(length < 2 * SPARE_OCTETS, "{length} octets for one record");
    }

    #[test]
    fn a_long_journal_is_written_anew_and_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut store = Store::open(&path).unwrap();
        let many = (0..=SPARE_LINES + 1).map(|i| change(&format!("n{}", i % 7), Some(1)));
        write(&mut store, many.collect());
        assert_eq!(store.lines, 1);
        write(&mut store, vec![change("last", Some(9))]);
        let before = (names(&store), store.zones.values().next().unwrap().changes);
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(
            (names(&store), store.zones.values().next().unwrap().changes),
            before
        );
        assert_eq!(names(&store).len(), 8);
    }
}
