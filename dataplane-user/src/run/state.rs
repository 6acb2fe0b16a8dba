//! What the controller leaves for `status` and `observe`: why this mode, and what the rule ids mean.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compile::Tables;

/// Version of the file.
const FORMAT_VERSION: u32 = 1;
/// [`State::why`] before the first generation.
const NOTHING_YET: &str = "nothing was enforced yet";

/// The file. Nothing is enforced by it; without it, `status` and `observe` know less.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct State {
    /// Version of the file.
    pub format_version: u32,
    /// The trunk.
    pub interface: String,
    /// Why this mode.
    pub why: String,
    /// The generation that `rules` are of.
    pub generation: u32,
    /// Process of the controller that wrote it.
    pub pid: u32,
    /// By rule id.
    pub rules: Vec<Rule>,
    /// What the operator should know: a change that waits, or why it is not applied.
    #[serde(default)]
    pub notice: Option<String>,
}

/// A rule in words.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rule {
    /// What it says.
    pub text: String,
    /// `file:line` of every place that says it.
    pub places: Vec<String>,
}

impl State {
    /// Makes the state of a generation.
    #[must_use]
    pub fn new(interface: &str, why: &str, generation: u32, tables: &Tables) -> Self {
        let rules = tables.trace.iter().map(|entry| Rule {
            text: entry.text.clone(),
            places: entry
                .origins
                .iter()
                .map(|origin| format!("{}:{}", origin.file, origin.line))
                .collect(),
        });
        Self {
            format_version: FORMAT_VERSION,
            interface: interface.to_owned(),
            why: why.to_owned(),
            generation,
            pid: std::process::id(),
            rules: rules.collect(),
            notice: None,
        }
    }

    /// Reads it; `None` if there is none that this version understands.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let state: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (state.format_version == FORMAT_VERSION).then_some(state)
    }

    /// Writes it, in one step.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        make_folder(path)?;
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&draft)?
            .write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&draft, path)
    }

    /// Changes the notice of the file, which is made if nothing was enforced yet.
    ///
    /// # Errors
    ///
    /// As [`State::write`].
    pub fn set_notice(path: &Path, interface: &str, notice: Option<String>) -> io::Result<()> {
        match Self::read(path) {
            Some(state) if state.notice == notice => Ok(()),
            Some(state) => Self { notice, ..state }.write(path),
            None if notice.is_none() => Ok(()),
            None => Self {
                notice,
                ..Self::new(interface, NOTHING_YET, 0, &Tables::empty())
            }
            .write(path),
        }
    }

    /// Returns the rule that decided in a generation, if it is known.
    #[must_use]
    pub fn rule(&self, generation: u32, id: u32) -> Option<&Rule> {
        let id = usize::try_from(id).ok()?;
        (self.generation == generation)
            .then(|| self.rules.get(id))
            .flatten()
    }
}

/// Makes the folder of a file, readable by root only.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Returns where the file is for a pin folder, unless told otherwise.
#[must_use]
pub fn default_path(pins: &Path) -> PathBuf {
    let pins = pins.to_string_lossy();
    let name = pins.strip_prefix(super::PINS).unwrap_or(&pins);
    let name = name.trim_matches('/').replace('/', "-");
    Path::new("/run/bulkhead").join(format!("{name}.json"))
}
