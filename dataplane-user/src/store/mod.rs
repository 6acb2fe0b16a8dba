//! The generations on disk: what was applied, by whom, and what to go back to.
//!
//! ```text
//! /var/lib/bulkhead/generations/7/generation    the model (netmodel::published)
//!                                 record.json   who, when, why, what came of it
//!                                 plan.txt      the plan as it was shown
//!                  /current                     number of the generation to enforce
//!                  /pending.json                an apply that waits for its confirmation
//! ```
//!
//! # Guarantees
//!
//! * A generation's folder is complete and on the disk before `current` names it; its model never changes.
//! * Whatever is lost or damaged here, the packet path does not notice: it needs none of it (ADR 0006).
//! * A number is never given twice, also not after a generation was pruned.
//!
//! One process at a time writes: it holds the lock of [`crate::run::Place::lock`].

mod error;
mod pending;
mod record;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use netmodel::published::{self, Published};

pub use self::error::StoreError;
pub use self::pending::Pending;
pub use self::record::{Cause, Outcome, Record, Summary, who};

/// Where the store is unless told otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/bulkhead";
/// Generations that are kept, the current one included.
pub const KEPT: usize = 50;

/// Files of the store are root's alone: the model tells who may reach whom.
const FILE_MODE: u32 = 0o600;
const GENERATION: &str = "generation";
const RECORD: &str = "record.json";
const PLAN: &str = "plan.txt";
const CURRENT: &str = "current";
const PENDING: &str = "pending.json";

/// The generations on disk.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Names the folder without touching it.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the number of the generation to enforce; `None` if nothing was ever applied.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file is there and cannot be used.
    pub fn current(&self) -> Result<Option<u32>, StoreError> {
        let path = self.folder.join(CURRENT);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let number = std::str::from_utf8(&text).ok();
        let number = number.and_then(|text| text.trim().parse().ok());
        number.map(Some).ok_or(StoreError::Damaged {
            path,
            what: "it is not the number of a generation".to_owned(),
        })
    }

    /// Makes a generation the one to enforce.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGeneration`] if it is not here; else what the file system refused.
    pub fn set_current(&self, number: u32) -> Result<(), StoreError> {
        if !self.generation_path(number).exists() {
            return Err(self.no_generation(number));
        }
        self.write(&self.folder.join(CURRENT), format!("{number}\n").as_bytes())
    }

    /// Lets no generation be the one to enforce: the first one failed.
    ///
    /// # Errors
    ///
    /// What the file system refused.
    pub fn clear_current(&self) -> Result<(), StoreError> {
        remove(&self.folder.join(CURRENT))
    }

    /// Returns the numbers of all generations that are kept, in order.
    ///
    /// # Errors
    ///
    /// If the folder is there and cannot be listed.
    pub fn numbers(&self) -> Result<Vec<u32>, StoreError> {
        let folder = self.folder.join("generations");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::io("list", &folder)(source)),
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut numbers: Vec<u32> = names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns the number after every one that was given; `enforced` is the one in the kernel, which may
    /// know more than a store that was lost.
    ///
    /// # Errors
    ///
    /// As [`Store::numbers`].
    pub fn next_number(&self, enforced: u32) -> Result<u32, StoreError> {
        let stored = self.numbers()?.last().copied().unwrap_or(0);
        // A damaged `current` must not hinder the apply that mends it.
        let current = self.current().ok().flatten().unwrap_or(0);
        Ok(stored.max(current).max(enforced).saturating_add(1))
    }

    /// Writes a generation's folder. `published` has the record's number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the number was given before; else what the file system refused.
    pub fn add(&self, published: &[u8], record: &Record, plan: &str) -> Result<(), StoreError> {
        let folder = self.generation_folder(record.number);
        if folder.exists() {
            return Err(StoreError::Exists {
                number: record.number,
            });
        }
        let parent = self.folder.join("generations");
        let draft = parent.join(format!(".{}.draft", record.number));
        remove_folder(&draft)?;
        make_folder(&draft)?;
        self.write(&draft.join(GENERATION), published)?;
        self.write(&draft.join(RECORD), &record.to_bytes())?;
        self.write(&draft.join(PLAN), plan.as_bytes())?;
        fs::rename(&draft, &folder).map_err(StoreError::io("make", &folder))?;
        sync_folder(&parent)
    }

    /// Reads a generation's model.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGeneration`] if it is not here, [`StoreError::Published`] if it is damaged.
    pub fn generation(&self, number: u32) -> Result<Published, StoreError> {
        published::read(&self.generation_path(number)).map_err(|error| {
            if error.is_absent() {
                self.no_generation(number)
            } else {
                StoreError::Published(error)
            }
        })
    }

    /// Returns the path of a generation's model.
    #[must_use]
    pub fn generation_path(&self, number: u32) -> PathBuf {
        self.generation_folder(number).join(GENERATION)
    }

    /// Reads a generation's record.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGeneration`] if it is not here, [`StoreError::Damaged`] if it cannot be read.
    pub fn record(&self, number: u32) -> Result<Record, StoreError> {
        let path = self.generation_folder(number).join(RECORD);
        let text = read(&path)?.ok_or_else(|| self.no_generation(number))?;
        Record::parse(&text).map_err(|what| StoreError::Damaged { path, what })
    }

    /// Reads the plan that led to a generation.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGeneration`] if it is not here.
    pub fn plan_text(&self, number: u32) -> Result<String, StoreError> {
        let text = read(&self.generation_folder(number).join(PLAN))?;
        let text = text.ok_or_else(|| self.no_generation(number))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Notes what came of a generation.
    ///
    /// # Errors
    ///
    /// As [`Store::record`], or what the file system refused.
    pub fn set_outcome(&self, number: u32, outcome: Outcome) -> Result<(), StoreError> {
        let mut record = self.record(number)?;
        record.outcome = outcome;
        let path = self.generation_folder(number).join(RECORD);
        self.write(&path, &record.to_bytes())
    }

    /// Returns the apply that waits for its confirmation.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the file is there and cannot be used.
    pub fn pending(&self) -> Result<Option<Pending>, StoreError> {
        let path = self.folder.join(PENDING);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let pending = Pending::parse(&text);
        pending
            .map(Some)
            .map_err(|what| StoreError::Damaged { path, what })
    }

    /// Returns the generations that wait with a pending apply: its own, and those that it is a repair of, the newest first. They have
    /// one fate.
    #[must_use]
    pub fn waiting(&self, pending: &Pending) -> Vec<u32> {
        let mut all = vec![pending.generation];
        let mut at = pending.generation;
        while let Ok(record) = self.record(at)
            && record.cause == Cause::Repair
            && let Some(repaired) = record.previous
            && repaired < at
            && let Ok(before) = self.record(repaired)
            && before.outcome == Outcome::Unconfirmed
        {
            all.push(repaired);
            at = repaired;
        }
        all
    }

    /// Notes that an apply waits for its confirmation.
    ///
    /// # Errors
    ///
    /// What the file system refused.
    pub fn set_pending(&self, pending: &Pending) -> Result<(), StoreError> {
        make_folder(&self.folder)?;
        self.write(&self.folder.join(PENDING), &pending.to_bytes())
    }

    /// Notes that nothing waits.
    ///
    /// # Errors
    ///
    /// What the file system refused.
    pub fn clear_pending(&self) -> Result<(), StoreError> {
        remove(&self.folder.join(PENDING))
    }

    /// Removes what failed, whatever its number, and of the others those beyond `kept`: repairs first, since they have the model of
    /// the one before them, then the oldest. It removes none of `needed`, nor the newest: that one's number would be given again.
    ///
    /// # Errors
    ///
    /// What the file system refused.
    pub fn prune(&self, kept: usize, needed: &[u32]) -> Result<(), StoreError> {
        let numbers = self.numbers()?;
        let Some((_, older)) = numbers.split_last() else {
            return Ok(());
        };
        let mut left = numbers.len();
        let (mut repairs, mut others) = (Vec::new(), Vec::new());
        for &number in older.iter().filter(|number| !needed.contains(number)) {
            // One that cannot be read goes when its time has come.
            let record = self.record(number).ok();
            let (cause, outcome) = record.map(|record| (record.cause, record.outcome)).unzip();
            if matches!(outcome, Some(Outcome::Failed { .. })) {
                remove_folder(&self.generation_folder(number))?;
                left -= 1;
            } else if cause == Some(Cause::Repair) && outcome != Some(Outcome::Unconfirmed) {
                repairs.push(number);
            } else {
                others.push(number);
            }
        }
        let surplus = left.saturating_sub(kept);
        for number in repairs.into_iter().chain(others).take(surplus) {
            remove_folder(&self.generation_folder(number))?;
        }
        Ok(())
    }

    fn generation_folder(&self, number: u32) -> PathBuf {
        self.folder.join("generations").join(number.to_string())
    }

    fn no_generation(&self, number: u32) -> StoreError {
        StoreError::NoGeneration {
            number,
            folder: self.folder.clone(),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        published::write(path, bytes, FILE_MODE).map_err(StoreError::Published)
    }
}

/// Returns a file's octets, `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("read", path)(source)),
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::io("remove", path)(source)),
    }
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(StoreError::io("make", path))
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let synced = fs::File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(StoreError::io("sync", path))
}
