//! What wakes the daemon: signals, the store, the kernel's network, the inventory, the clock.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

use futures_util::StreamExt as _;

use super::inventory::Watched;
use super::{Place, RunError, with_causes};
use crate::network::{self, Event, Network, TrunkEvent, WatchOptions};

/// What is wanted of the daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// To end.
    End,
    /// To look at everything again.
    Look,
    /// The same, and to read the inventory whether or not it has changed.
    LookAndRead,
    /// To note that the inventory's files are being changed.
    Inventory,
    /// To look at the clock.
    Nothing,
}

/// Everything that wakes the daemon.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    changes: UnboundedReceiver<Wish>,
    network: network::Watch,
    interface: String,
    /// Watches for as long as it lives.
    watcher: RecommendedWatcher,
    folders: Vec<Folder>,
}

/// A folder of the inventory, watched with all that is in it. What has its path may become another one: a checkout that is put in the
/// place of the last one, a symbolic link that points elsewhere.
struct Folder {
    path: PathBuf,
    /// Device, inode and birth of what is watched (inodes are used again); `None`: there was nothing.
    watched: Option<(u64, u64, Option<SystemTime>)>,
}

impl Folder {
    /// Watches what is there now; tells whether that is another one than before.
    fn follow(&mut self, watcher: &mut RecommendedWatcher) -> Result<bool, notify::Error> {
        let found = fs::metadata(&self.path).ok();
        let found = found.map(|folder| (folder.dev(), folder.ino(), folder.created().ok()));
        if found == self.watched {
            return Ok(false);
        }
        if self.watched.take().is_some() {
            // What was removed is not watched any more.
            let _ = watcher.unwatch(&self.path);
        }
        if found.is_some() {
            watcher.watch(&self.path, RecursiveMode::Recursive)?;
        }
        self.watched = found;
        Ok(true)
    }
}

impl Signals {
    pub(super) fn new(place: &Place, inventory: Option<&Watched<'_>>) -> Result<Self, RunError> {
        let catch = |kind| signal(kind).map_err(RunError::io("catch signals"));
        let (tell, changes) = unbounded_channel();
        let paths = inventory.map_or(&[][..], |watched| &watched.folders);
        let paths: Result<Vec<_>, _> = paths.iter().map(std::path::absolute).collect();
        let paths = paths.map_err(RunError::io("find the inventory"))?;
        let mut watcher = watch(&place.store, &paths, tell)?;
        let mut folders = Vec::new();
        for path in paths {
            let mut folder = Folder {
                path,
                watched: None,
            };
            folder.follow(&mut watcher).map_err(RunError::Watch)?;
            folders.push(folder);
        }
        Ok(Self {
            hangup: catch(SignalKind::hangup())?,
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            changes,
            interface: place.interface.clone(),
            network: Network::connect()?.watch(&place.interface, WatchOptions::default())?,
            watcher,
            folders,
        })
    }

    /// Waits for the next wish, but no longer than `patience`.
    pub(super) async fn next(&mut self, patience: Duration) -> Wish {
        let wish = self.wait(patience).await;
        match (self.folders_changed(), wish) {
            (true, Wish::Look) => Wish::LookAndRead,
            (true, Wish::Nothing) => Wish::Inventory,
            (_, wish) => wish,
        }
    }

    /// Follows the inventory's folders, where others have their paths now.
    fn folders_changed(&mut self) -> bool {
        let mut changed = false;
        for folder in &mut self.folders {
            match folder.follow(&mut self.watcher) {
                Ok(is_another) => changed |= is_another,
                Err(error) => warn!("cannot watch {}: {error}", folder.path.display()),
            }
        }
        changed
    }

    async fn wait(&mut self, patience: Duration) -> Wish {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::LookAndRead,
            Some(wish) = self.changes.recv() => wish,
            Some(event) = self.network.next() => {
                if let Event::Trunk(TrunkEvent::Renamed { ifindex, to }) = event {
                    self.keep_name(ifindex, &to).await;
                }
                Wish::Look
            }
            () = tokio::time::sleep(patience) => Wish::Nothing,
        }
    }

    /// A trunk that is renamed has its old name beside the new one: pins and settings go by it.
    async fn keep_name(&self, ifindex: u32, to: &str) {
        let name = &self.interface;
        let added = match Network::connect() {
            Ok(network) => network.add_name(ifindex, name).await,
            Err(error) => Err(error),
        };
        match added {
            Ok(()) => {
                info!("{name} is called {to} now, and {name} as well, by which it is followed")
            }
            Err(error) => warn!(
                "{name} is called {to} now: what is attached to it stays, but it is not followed: {} (remedy: give it its name back)",
                with_causes(&error)
            ),
        }
    }
}

fn watch(
    store: &Path,
    folders: &[PathBuf],
    tell: UnboundedSender<Wish>,
) -> Result<RecommendedWatcher, RunError> {
    fs::create_dir_all(store).map_err(RunError::io("make the folder of the generations"))?;
    let (of_store, of_inventory) = (store.to_owned(), folders.to_vec());
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // The other end is gone when the daemon ends.
        let _ = tell.send(wish(&of_store, &of_inventory, event));
    });
    let mut watcher = watcher.map_err(RunError::Watch)?;
    // A folder that is replaced is told of by what it is in.
    let parents = folders.iter().filter_map(|folder| folder.parent());
    let parents: BTreeSet<_> = parents.chain([store]).collect();
    for folder in parents {
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(RunError::Watch)?;
    }
    Ok(watcher)
}

fn wish(store: &Path, folders: &[PathBuf], event: notify::Result<notify::Event>) -> Wish {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            warn!("events of the file system were lost: {error}");
            return Wish::Inventory;
        }
    };
    let is_written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let was_read = matches!(event.kind, EventKind::Access(_)) && event.kind != is_written;
    if was_read {
        return Wish::Nothing;
    }
    let is_store = |path: &PathBuf| path.starts_with(store);
    if !event.paths.is_empty() && event.paths.iter().all(is_store) {
        // Drafts have a leading dot; the files that count are renamed into place.
        let counts = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.')
        };
        return match event.paths.iter().any(counts) {
            true => Wish::Look,
            false => Wish::Nothing,
        };
    }
    let is_inventory = |path: &PathBuf| folders.iter().any(|folder| path.starts_with(folder));
    match event.paths.is_empty() || event.paths.iter().any(is_inventory) {
        true => Wish::Inventory,
        false => Wish::Nothing,
    }
}
