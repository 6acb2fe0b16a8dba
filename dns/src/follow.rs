//! Taking over each new generation, and new keys, while queries go on.
//!
//! The world is made beside the one that is served and put in its place in one step: a query sees the
//! old one or the new one. What cannot be read leaves the old one in place, and is said once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netmodel::published;
use tracing::{error, info, warn};

use crate::dnssec::folder::KeyFolder;
use crate::journal::Store;
use crate::keys::{Keyring, Secrets};
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
    seen: Option<(Stamp, Stamp)>,
    secrets: Secrets,
    said: String,
}

impl Follower {
    pub(crate) fn new(generation: &Path, keys: &Path, zone_keys: Arc<KeyFolder>) -> Self {
        Self {
            generation: generation.to_owned(),
            keys: keys.to_owned(),
            zone_keys,
            seen: None,
            secrets: Secrets::default(),
            said: String::new(),
        }
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
        let published = match published::read(&self.generation) {
            Ok(published) => published,
            Err(reason) => {
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
        match Secrets::read(&self.keys) {
            Ok(secrets) => self.secrets = secrets,
            // The keys that were good a moment ago stay.
            Err(reason) => error!(error = %crate::chain(&reason), "the keys stay as they were"),
        }
        let keys = Keyring::new(&self.secrets, &plan.tenants);
        self.read_zone_keys(&plan);
        self.said.clear();
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
            follower.seen = None;
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
