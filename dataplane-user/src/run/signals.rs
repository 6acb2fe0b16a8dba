//! What wakes the daemon: signals, the store, the kernel's network, the inventory, the clock.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::warn;

use futures_util::StreamExt as _;

use super::inventory::Watched;
use super::{Place, RunError};
use crate::network::{self, Network, WatchOptions};

/// What is wanted of the daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// To end.
    End,
    /// To look at everything again.
    Look,
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
    /// Watches for as long as it lives.
    _watcher: RecommendedWatcher,
}

impl Signals {
    pub(super) fn new(place: &Place, inventory: Option<&Watched<'_>>) -> Result<Self, RunError> {
        let catch = |kind| signal(kind).map_err(RunError::io("catch signals"));
        let (tell, changes) = unbounded_channel();
        let folders = inventory.map(|watched| watched.folders.clone());
        Ok(Self {
            hangup: catch(SignalKind::hangup())?,
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            changes,
            network: Network::connect()?.watch(&place.interface, WatchOptions::default())?,
            _watcher: watch(&place.store, folders.unwrap_or_default(), tell)?,
        })
    }

    /// Waits for the next wish, but no longer than `patience`.
    pub(super) async fn next(&mut self, patience: Duration) -> Wish {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::Look,
            Some(wish) = self.changes.recv() => wish,
            Some(_) = self.network.next() => Wish::Look,
            () = tokio::time::sleep(patience) => Wish::Nothing,
        }
    }
}

fn watch(
    store: &Path,
    folders: Vec<PathBuf>,
    tell: UnboundedSender<Wish>,
) -> Result<RecommendedWatcher, RunError> {
    fs::create_dir_all(store).map_err(RunError::io("make the folder of the generations"))?;
    let of_store = store.to_owned();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // The other end is gone when the daemon ends.
        let _ = tell.send(wish(&of_store, event));
    });
    let mut watcher = watcher.map_err(RunError::Watch)?;
    let whole = RecursiveMode::Recursive;
    watcher
        .watch(store, RecursiveMode::NonRecursive)
        .map_err(RunError::Watch)?;
    for folder in folders {
        watcher.watch(&folder, whole).map_err(RunError::Watch)?;
    }
    Ok(watcher)
}

fn wish(store: &Path, event: notify::Result<notify::Event>) -> Wish {
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
    Wish::Inventory
}
