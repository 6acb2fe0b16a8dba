//! The running system: the controller, what it leaves behind, and what can be read back of it.

mod controller;
#[cfg(feature = "debug-log")]
mod debug_log;
pub mod events;
pub mod frame;
mod link;
mod state;
pub mod status;

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::controller::{Desired, RunOptions, run};
pub(crate) use self::link::attachment;
pub use self::state::{Rule, State, default_path};
use crate::compile::CompileError;
use crate::loader::LoaderError;
use crate::network::NetlinkError;

/// Folder of the pin folders.
pub const PINS: &str = "/sys/fs/bpf/bulkhead";

/// Where one trunk's enforcement is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The trunk.
    pub interface: String,
    /// The pin folder.
    pub pins: PathBuf,
    /// The state file.
    pub state: PathBuf,
}

impl Place {
    /// Makes a place, with the usual folder and file where none is named.
    #[must_use]
    pub fn new(interface: &str, pins: Option<&Path>, state: Option<&Path>) -> Self {
        let pins = pins.map_or_else(|| Path::new(PINS).join(interface), Path::to_path_buf);
        let state = state.map_or_else(|| default_path(&pins), Path::to_path_buf);
        Self {
            interface: interface.to_owned(),
            pins,
            state,
        }
    }
}

impl Place {
    /// Takes the right to change the enforcement; it ends with the process, however that ends.
    ///
    /// # Errors
    ///
    /// [`RunError::Busy`] if another process has it.
    pub fn lock(&self) -> Result<File, RunError> {
        let wrap = "make the lock file";
        let path = self.state.with_extension("lock");
        state::make_folder(&path).map_err(RunError::io(wrap))?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(RunError::io(wrap))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(RunError::Busy {
                interface: self.interface.clone(),
                lock: path,
            }),
            Err(TryLockError::Error(source)) => Err(RunError::io("take the lock")(source)),
        }
    }
}

/// The controller cannot do its work, or the system cannot be looked at.
#[derive(Debug, Error)]
pub enum RunError {
    /// The kernel refused something about eBPF.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The kernel refused something about the network.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The model cannot be enforced.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The inventory has errors; the text lists them.
    #[error("the inventory has errors:\n{0}")]
    Inventory(String),
    /// Another process changes the enforcement.
    #[error(
        "a `bulkhead run` works on {interface} already (it holds {}); end it first",
        lock.display()
    )]
    Busy {
        /// The trunk.
        interface: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The pin folder is not on a BPF file system.
    #[error(
        "{} is not on a BPF file system (remedy: mount -t bpf bpf {})",
        path.display(), mount.display()
    )]
    NoBpfFs {
        /// The folder.
        path: PathBuf,
        /// Where to mount.
        mount: PathBuf,
    },
    /// What is pinned belongs to another interface.
    #[error(
        "what is pinned in {} is attached to interface {found}, not to {wanted} ({interface}); \
         choose another folder with --pins, or `bulkhead detach` the other first",
        path.display()
    )]
    OtherInterface {
        /// The pin folder.
        path: PathBuf,
        /// Index that it is attached to.
        found: u32,
        /// Index of the trunk.
        wanted: u32,
        /// The trunk.
        interface: String,
    },
    /// Something of this process failed.
    #[error("cannot {op}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl RunError {
    /// Wraps an error of the operating system.
    pub fn io(op: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { op, source }
    }
}

/// Runs async work on this thread.
///
/// # Errors
///
/// What the work returns, or that there can be no runtime.
pub fn block_on<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::io("start the event loop"))?
        .block_on(work)
}

/// Returns an error and all that caused it, in one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(error.to_string().trim_end());
        cause = error.source();
    }
    text
}
