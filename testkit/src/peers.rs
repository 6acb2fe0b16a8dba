//! Name servers of others, as secondaries in tests and to compare with in benchmarks.
//!
//! `cargo xtask setup --only net` unpacks Debian's packages below `target/peers`; nothing is installed and no
//! service is started. What is installed on the machine is found too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// A program of another name server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Where it is.
    pub program: PathBuf,
    /// Where its libraries are, if not with those of the machine.
    pub libraries: Option<PathBuf>,
}

impl Peer {
    /// Finds a program: `named`, `nsd`, `knotd`, `pdns_server`, `unbound`.
    ///
    /// # Errors
    ///
    /// It is neither unpacked nor installed; the message says what to do.
    pub fn find(program: &str) -> Result<Self> {
        let unpacked = unpacked();
        let libraries = unpacked
            .join("usr/lib")
            .join(format!("{}-linux-gnu", std::env::consts::ARCH));
        let inside = |folder: &str| unpacked.join(folder).join(program);
        let found = ["usr/sbin", "usr/bin"]
            .map(inside)
            .into_iter()
            .find(|path| path.is_file());
        if let Some(program) = found {
            return Ok(Self {
                program,
                libraries: Some(libraries),
            });
        }
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let installed = std::env::split_paths(&folders)
            .chain(["/usr/sbin".into()])
            .map(|folder| folder.join(program))
            .find(|path| path.is_file());
        match installed {
            Some(program) => Ok(Self {
                program,
                libraries: None,
            }),
            None => bail!("{program} is not there (remedy: cargo xtask setup --only net)"),
        }
    }

    /// Returns the environment that the program needs.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let libraries = self.libraries.clone().map(PathBuf::into_os_string);
        libraries.into_iter().map(|path| ("LD_LIBRARY_PATH", path))
    }

    /// Returns a folder or file that belongs to the program, `usr/lib/…`, wherever it was put.
    #[must_use]
    pub fn beside(&self, path: &str) -> PathBuf {
        match self.libraries {
            Some(_) => unpacked().join(path),
            None => Path::new("/").join(path),
        }
    }
}

/// Finds the library that shifts the clock of a program that it is loaded into by `LD_PRELOAD`; `FAKETIME` says how far.
///
/// # Errors
///
/// It is neither unpacked nor installed; the message says what to do.
pub fn faketime() -> Result<PathBuf> {
    let path = format!(
        "usr/lib/{}-linux-gnu/faketime/libfaketime.so.1",
        std::env::consts::ARCH
    );
    let places = [unpacked(), "/".into()];
    let mut found = places.map(|place| place.join(&path)).into_iter();
    match found.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("libfaketime is not there (remedy: cargo xtask setup --only net)"),
    }
}

/// Finds a program of the project's Python environment: `octodns-sync`, `lexicon`, `python`.
///
/// # Errors
///
/// It is not there; the message says what to do.
pub fn python(program: &str) -> Result<PathBuf> {
    let path = target().join("tools/venv/bin").join(program);
    if !path.is_file() {
        bail!("{program} is not there (remedy: cargo xtask setup --only net)");
    }
    Ok(path)
}

fn target() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).join("target")
}

/// Returns the folder that `cargo xtask setup` unpacks them into; not moved by `CARGO_TARGET_DIR`.
#[must_use]
pub fn unpacked() -> PathBuf {
    target().join("peers")
}
