//! The inventory's folders, watched: when are they worth reading?
//!
//! A tree that is being written (a `git pull`, an rsync, an editor) must never be applied half. So it is read only when nothing
//! has touched it for a while and Git is not at work in it, and taken only when a second reading, a while later, finds the same.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::controller::Desired;

/// What could not be dealt with is tried again so much later.
const AGAIN: Duration = Duration::from_secs(5);
/// A change that cannot be read for so long is told of.
const PATIENCE: Duration = Duration::from_secs(60);

/// What reading the inventory gave.
#[derive(Clone, Debug)]
pub struct Reading {
    /// [`netmodel::Sources::digest`].
    pub digest: String,
    /// The desired state, or what is wrong with it.
    pub desired: Result<Desired, String>,
}

/// What may be done with a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WatchSettings {
    /// How long nothing may touch the files before they are read.
    pub quiet: Duration,
    /// Apply it, or only show the plan?
    pub apply: bool,
    /// How many objects it may destroy.
    pub allow_destroy: usize,
}

/// The inventory, watched.
pub struct Watched<'a> {
    /// Its folders.
    pub folders: Vec<PathBuf>,
    /// What may be done.
    pub settings: WatchSettings,
    read: Box<dyn Fn() -> Reading + 'a>,
    /// [`PATIENCE`].
    patience: Duration,
    /// When to read next.
    at: Option<Instant>,
    /// Since when there is something to read.
    since: Option<Instant>,
    /// Digest of the last reading, until something touches the files again.
    seen: Option<String>,
    /// Digest of the last reading that was taken.
    taken: Option<String>,
}

impl<'a> Watched<'a> {
    /// Watches folders; `read` reads them.
    pub fn new(
        folders: Vec<PathBuf>,
        settings: WatchSettings,
        read: impl Fn() -> Reading + 'a,
    ) -> Self {
        Self {
            folders,
            settings,
            read: Box::new(read),
            patience: PATIENCE,
            at: None,
            since: None,
            seen: None,
            taken: None,
        }
    }

    /// Reads at the next opportunity, whether or not something has changed.
    pub(super) fn now(&mut self) {
        self.taken = None;
        self.touched();
    }

    /// What was taken could not be dealt with: it is read again after a while.
    pub(super) fn again(&mut self) {
        self.taken = None;
        self.seen = None;
        self.at = Some(Instant::now() + self.settings.quiet.max(AGAIN));
    }

    /// Something has changed.
    pub(super) fn touched(&mut self) {
        self.at = Some(Instant::now() + self.settings.quiet);
        self.seen = None;
        self.wait();
    }

    /// From now on there is something to read, if there was nothing yet.
    fn wait(&mut self) {
        self.since = Some(self.since.unwrap_or_else(Instant::now));
    }

    /// Returns what has kept a change from being read for long.
    pub(super) fn hindrance(&self) -> Option<String> {
        // As it should be, it takes twice as long as it must be quiet.
        let long = self.settings.quiet.saturating_mul(3).max(self.patience);
        if self.since?.elapsed() < long {
            return None;
        }
        let what = if self.is_git_at_work() {
            "Git is at work in the inventory (remedy: if it is not, remove .git/index.lock)"
        } else {
            "something touches the inventory's files all the time"
        };
        Some(what.to_owned())
    }

    /// Returns how long there is nothing to read; `None`: until something changes.
    pub(super) fn left(&self) -> Option<Duration> {
        let at = self.at?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Returns what is worth a plan.
    pub(super) fn due(&mut self) -> Option<Reading> {
        if self.left()? > Duration::ZERO {
            return None;
        }
        self.at = Some(Instant::now() + self.settings.quiet);
        self.wait();
        if self.is_git_at_work() {
            self.seen = None;
            return None;
        }
        let reading = (self.read)();
        if self.seen.as_ref() != Some(&reading.digest) {
            self.seen = Some(reading.digest);
            return None;
        }
        (self.at, self.since) = (None, None);
        if self.taken.as_ref() == Some(&reading.digest) {
            return None;
        }
        self.taken = Some(reading.digest.clone());
        Some(reading)
    }

    /// Git holds this file while it changes a working tree.
    fn is_git_at_work(&self) -> bool {
        let mut parents = self.folders.iter().flat_map(|folder| folder.ancestors());
        parents.any(|folder| folder.join(".git/index.lock").exists())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const NOW: WatchSettings = WatchSettings {
        quiet: Duration::ZERO,
        apply: false,
        allow_destroy: 0,
    };

    fn reading(digest: u32) -> Reading {
        Reading {
            digest: digest.to_string(),
            desired: Err("not of interest".to_owned()),
        }
    }

    #[test]
    fn what_still_changes_between_two_readings_is_not_taken() {
        let version = Cell::new(0);
        let next = || {
            version.set(version.get() + 1);
            reading(version.get())
        };
        let mut watched = Watched::new(Vec::new(), NOW, next);
        watched.touched();
        for _ in 0..10 {
            assert!(watched.due().is_none());
        }
    }

    #[test]
    fn what_two_readings_find_is_taken_once() {
        let version = Cell::new(1);
        let mut watched = Watched::new(Vec::new(), NOW, || reading(version.get()));
        watched.touched();
        assert!(watched.due().is_none());
        assert_eq!(watched.due().unwrap().digest, "1");
        assert!(watched.due().is_none());
        // Touched, but not changed.
        watched.touched();
        assert!(watched.due().is_none());
        assert!(watched.due().is_none());
        version.set(2);
        watched.touched();
        assert!(watched.due().is_none());
        assert_eq!(watched.due().unwrap().digest, "2");
    }

    #[test]
    fn a_touch_between_two_readings_starts_anew() {
        let mut watched = Watched::new(Vec::new(), NOW, || reading(1));
        watched.touched();
        assert!(watched.due().is_none());
        watched.touched();
        assert!(watched.due().is_none());
        assert!(watched.due().is_some());
    }

    #[test]
    fn nothing_is_read_while_git_writes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("site");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::create_dir_all(folder.path().join(".git")).unwrap();
        let lock = folder.path().join(".git/index.lock");
        std::fs::write(&lock, "").unwrap();
        let mut watched = Watched::new(vec![tree], NOW, || reading(1));
        watched.touched();
        for _ in 0..3 {
            assert!(watched.due().is_none());
        }
        std::fs::remove_file(&lock).unwrap();
        assert!(watched.due().is_none());
        assert!(watched.due().is_some());
    }

    #[test]
    fn what_keeps_a_change_from_being_read_for_long_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(".git")).unwrap();
        let lock = folder.path().join(".git/index.lock");
        let tree = vec![folder.path().to_owned()];
        let mut watched = Watched::new(tree, NOW, || reading(1));
        watched.patience = Duration::ZERO;
        assert_eq!(watched.hindrance(), None, "nothing has changed");
        watched.touched();
        assert!(watched.hindrance().unwrap().contains("touches"));
        std::fs::write(&lock, "").unwrap();
        assert!(watched.due().is_none());
        assert!(watched.hindrance().unwrap().contains("index.lock"));
        std::fs::remove_file(&lock).unwrap();
        assert!(watched.due().is_none());
        assert!(watched.due().is_some());
        assert_eq!(watched.hindrance(), None, "it was read");
        // What could not be dealt with is read again, and Git came between.
        watched.again();
        watched.at = Some(Instant::now());
        std::fs::write(&lock, "").unwrap();
        assert!(watched.due().is_none());
        assert!(watched.hindrance().unwrap().contains("index.lock"));
        // It is not long yet.
        watched.patience = PATIENCE;
        assert_eq!(watched.hindrance(), None);
        watched.patience = Duration::ZERO;
        watched.settings.quiet = Duration::from_secs(3600);
        assert_eq!(watched.hindrance(), None);
    }

    #[test]
    fn it_waits_until_nothing_has_touched_it_for_a_while() {
        let patient = WatchSettings {
            quiet: Duration::from_secs(3600),
            ..NOW
        };
        let mut watched = Watched::new(Vec::new(), patient, || panic!("it was read"));
        assert!(watched.left().is_none());
        watched.touched();
        assert!(watched.due().is_none());
        assert!(watched.left().unwrap() > Duration::from_secs(3000));
    }
}
