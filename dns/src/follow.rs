//! Taking over each new generation, and new keys, while queries go on.
//!
//! The world is made beside the one that is served and put in its place in one step: a query sees the
//! old one or the new one. What cannot be read leaves the old one in place, and is said once. If it was
//! the reading that failed, and not what was read, it is tried again without a change of the file: a moment
//! without descriptors must not leave old keys in place until somebody notices.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netmodel::published::{self, PublishedError};
use tracing::{error, info, warn};

use crate::dnssec::folder::KeyFolder;
use crate::journal::Store;
use crate::keys::{Keyring, KeysError, Secrets};
use crate::plan::{self, Plan};
use crate::server::Shared;
use crate::tls::Certificates;
use crate::world::World;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// What tells a file from the one that was there before: device, inode, size, time of change.
pub(crate) type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Returns what a file is now.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let of = fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.ctime(), of.ctime_nsec()))
}

/// Watches the generation and the keys.
pub(crate) struct Follower {
    generation: PathBuf,
    keys: PathBuf,
    zone_keys: Arc<KeyFolder>,
    /// What the files were when they were read; `None`: they are to be read again.
    seen: Option<(Stamp, Stamp)>,
    /// The generation that was taken over.
    served: Option<Stamp>,
    secrets: Secrets,
    said: String,
    /// The same of the keys.
    said_of_keys: String,
}

impl Follower {
    pub(crate) fn new(generation: &Path, keys: &Path, zone_keys: Arc<KeyFolder>) -> Self {
        Self {
            generation: generation.to_owned(),
            keys: keys.to_owned(),
            zone_keys,
            seen: None,
            served: None,
            secrets: Secrets::default(),
            said: String::new(),
            said_of_keys: String::new(),
        }
    }

    /// Has everything read again, and what is wrong said again.
    fn forget(&mut self) {
        (self.seen, self.served) = (None, None);
        self.said.clear();
        self.said_of_keys.clear();
    }

    pub(crate) fn wait_for_first(&mut self, store: &Store) -> World {
        loop {
            if let Some((plan, keys)) = self.changed() {
                return World::new(plan, keys, store);
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Returns what is to be served from now on, if that is another.
    fn changed(&mut self) -> Option<(Plan, Keyring)> {
        let now = (stamp(&self.generation), stamp(&self.keys));
        if self.seen == Some(now) {
            return None;
        }
        self.seen = Some(now);
        if !self.read_keys() && self.served == Some(now.0) {
            return None;
        }
        let published = match published::read(&self.generation) {
            Ok(published) => published,
            Err(reason) => {
                if matches!(reason, PublishedError::Io { .. }) {
                    self.seen = None;
                }
                self.complain(&crate::chain(&reason));
                return None;
            }
        };
        let plan = match plan::plan(&published) {
            Ok(plan) => plan,
            Err(reason) => {
                self.complain(&crate::chain(&reason));
                return None;
            }
        };
        let keys = Keyring::new(&self.secrets, &plan.tenants);
        self.read_zone_keys(&plan);
        self.said.clear();
        self.served = Some(now.0);
        info!(
            generation = plan.number,
            zones = plan.zones.len(),
            views = plan.views.len(),
            "serving"
        );
        for record in &plan.rejected {
            warn!(record, "a record of the inventory cannot be served");
        }
        for (secondary, address, _) in keys.secondaries() {
            if plan.clients.view_of(address.ip()).is_none() {
                warn!(secondary = &**secondary, %address, "a secondary is in no segment: it gets no zones");
            }
        }
        for complaint in &keys.complaints {
            warn!(complaint, "a key cannot be used");
        }
        Some((plan, keys))
    }

    /// Reads the keys; those that were good a moment ago stay if it cannot.
    fn read_keys(&mut self) -> bool {
        let reason = match Secrets::read(&self.keys) {
            Ok(secrets) => {
                self.secrets = secrets;
                self.said_of_keys.clear();
                return true;
            }
            Err(reason) => reason,
        };
        if matches!(reason, KeysError::Io { .. }) {
            self.seen = None;
        }
        let text = crate::chain(&reason);
        if self.said_of_keys != text {
            error!(error = %text, "the keys stay as they were");
            self.said_of_keys = text;
        }
        false
    }

    /// Reads the keys of signed zones, and makes those that are not there: here, where nobody waits for it.
    fn read_zone_keys(&self, plan: &Plan) {
        for origin in &plan.signed {
            if let Err(reason) = self.zone_keys.key(origin) {
                error!(zone = %origin, error = %crate::chain(&reason), "a zone cannot be signed: it is not answered for");
            }
        }
    }

    fn complain(&mut self, text: &str) {
        if self.said != text {
            error!(error = text, "the generation cannot be taken over");
            text.clone_into(&mut self.said);
        }
    }
}

/// Runs until the server stops.
pub(crate) fn run(shared: &Shared, mut follower: Follower, certificates: Option<&Certificates>) {
    while !shared.is_stopping() {
        let is_asked = shared.take_reload();
        if is_asked {
            follower.forget();
        }
        if let Some(certificates) = certificates {
            certificates.reload(is_asked);
        }
        if let Some((plan, keys)) = follower.changed() {
            shared.replace_world(|store| World::new(plan, keys, store));
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::support::two_tenants;

    /// A follower of the files `generation` and `keys` in a folder.
    fn follower() -> (Follower, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let zone_keys = Arc::new(KeyFolder::open(&path("zone-keys")));
        let follower = Follower::new(&path("generation"), &path("keys"), zone_keys);
        (follower, folder)
    }

    fn publish(path: &Path) {
        let published = two_tenants("");
        published::write(path, &published.to_bytes(), 0o640).unwrap();
    }

    /// Something that is there and cannot be read, whoever tries.
    fn make_unreadable(path: &Path) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_generation_that_could_not_be_read_is_tried_again_and_a_damaged_one_is_not() {
        let (mut follower, _folder) = follower();
        let path = follower.generation.clone();
        make_unreadable(&path);
        for _ in 0..2 {
            assert!(follower.changed().is_none());
            assert!(follower.seen.is_none(), "it is tried again");
            assert!(!follower.said.is_empty());
        }
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "damaged\n").unwrap();
        assert!(follower.changed().is_none());
        assert!(follower.seen.is_some(), "until it is another");
        publish(&path);
        assert!(follower.changed().is_some());
        assert!(follower.changed().is_none() && follower.said.is_empty());
    }

    #[test]
    fn keys_that_could_not_be_read_are_tried_again_and_keep_no_generation_out() {
        let (mut follower, _folder) = follower();
        publish(&follower.generation);
        make_unreadable(&follower.keys);
        assert!(follower.changed().is_some(), "the first generation");
        for _ in 0..2 {
            assert!(follower.changed().is_none(), "which is not made anew");
            assert!(follower.seen.is_none() && !follower.said_of_keys.is_empty());
        }
        publish(&follower.generation);
        assert!(follower.changed().is_some(), "the next one");
        follower.forget();
        assert!(follower.changed().is_some(), "whoever asks for it");
        fs::remove_dir(&follower.keys).unwrap();
        assert!(follower.changed().is_some(), "no file is no keys");
        assert!(follower.changed().is_none() && follower.said_of_keys.is_empty());
    }
}
