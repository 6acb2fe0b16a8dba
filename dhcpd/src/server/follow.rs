//! Follows the generation file, on a thread of its own: reading a large one stops no packet.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use netmodel::published::{self, PublishedError};
use thiserror::Error;
use tracing::warn;

use crate::scope::Scopes;
use crate::settings::{Settings, SettingsError};

/// How often the file is looked at.
const PAUSE: Duration = Duration::from_millis(250);

/// A generation that can be served.
#[derive(Debug)]
pub(super) struct Generation {
    /// Its number.
    pub(super) number: u32,
    /// What it means for DHCP.
    pub(super) scopes: Scopes,
}

/// A generation cannot be served.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// The file cannot be used.
    #[error("no usable generation")]
    File(#[source] PublishedError),
    /// The settings do not fit it.
    #[error("the settings do not fit generation {number}")]
    Settings {
        /// The generation.
        number: u32,
        /// What does not fit.
        #[source]
        source: SettingsError,
    },
}

/// Reads the file.
pub(super) fn read(
    path: &std::path::Path,
    settings: &Settings,
) -> Result<Generation, GenerationError> {
    let published = published::read(path).map_err(GenerationError::File)?;
    let number = published.number;
    let scopes = Scopes::new(&published.model, settings);
    let scopes = scopes.map_err(|source| GenerationError::Settings { number, source })?;
    Ok(Generation { number, scopes })
}

/// Starts to follow; each new generation that can be served is sent once. What cannot be is said once, and
/// the old one stays.
pub(super) fn start(path: PathBuf, settings: Settings, current: u32) -> Receiver<Generation> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || follow(&path, &settings, (current, sender)));
    receiver
}

fn follow(
    path: &std::path::Path,
    settings: &Settings,
    (mut current, sender): (u32, SyncSender<Generation>),
) {
    let mut said = String::new();
    loop {
        std::thread::sleep(PAUSE);
        if published::head(path).is_ok_and(|head| head.number == current) {
            said.clear();
            continue;
        }
        match read(path, settings) {
            Ok(generation) => {
                current = generation.number;
                if sender.send(generation).is_err() {
                    return;
                }
            }
            Err(error) => {
                let chain = super::chain(&error);
                if chain != said {
                    warn!(error = %chain, "the generation is not taken over: the old one is served");
                    said = chain;
                }
            }
        }
    }
}
