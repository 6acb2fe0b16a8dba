//! The running system: the controller, what it leaves behind, and what can be read back of it.

mod daemon;
#[cfg(feature = "debug-log")]
pub(crate) mod debug_log;
pub mod events;
pub mod frame;
pub mod inventory;
mod link;
mod signals;
mod state;
pub mod status;

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netmodel::published::{self, PublishedError};
use thiserror::Error;
use tracing::warn;

pub use self::daemon::{DaemonOptions, run};
pub(crate) use self::link::{attachment, is_port_attached};
pub use self::state::{Rule, State, default_path};
use crate::compile::CompileError;
use crate::loader::LoaderError;
use crate::nat::NatError;
use crate::network::{NetlinkError, NetworkError};
use crate::plan::tenant::MergeError;
use crate::store::{self, StoreError};

/// How long another process may take for its change: a large site's first apply takes seconds, and so does the kernel's verifier on a slow
/// processor, each time that `bulkhead run` has to load programs.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// After so long, whoever waits is told.
const LOCK_SURPRISE: Duration = Duration::from_secs(2);

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
    /// The folder of the generations.
    pub store: PathBuf,
    /// The file that DHCP and DNS read.
    pub published: PathBuf,
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
            store: store::DEFAULT_PATH.into(),
            published: published::DEFAULT_PATH.into(),
        }
    }
}

impl Place {
    /// Takes the right to change the enforcement; it ends with the process, however that ends.
    ///
    /// # Errors
    ///
    /// [`RunError::Busy`] if another process has it and keeps it for longer than [`LOCK_PATIENCE`].
    pub fn lock(&self) -> Result<File, RunError> {
        let begin = Instant::now();
        let mut is_told = false;
        loop {
            match self.lock_file("lock") {
                Err(RunError::Busy { .. }) if begin.elapsed() < LOCK_PATIENCE => {
                    if !is_told && begin.elapsed() > LOCK_SURPRISE {
                        warn!(
                            "waiting for another bulkhead that works on {}",
                            self.interface
                        );
                        is_told = true;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return result,
            }
        }
    }

    /// Takes the right to be the daemon.
    ///
    /// # Errors
    ///
    /// [`RunError::Busy`] if another process is it.
    pub(crate) fn lock_as_daemon(&self) -> Result<File, RunError> {
        self.lock_file("daemon")
    }

    fn lock_file(&self, extension: &str) -> Result<File, RunError> {
        let wrap = "make the lock file";
        let path = self.state.with_extension(extension);
        state::make_folder(&path).map_err(RunError::io(wrap))?;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
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
        "another bulkhead works on {interface} (it holds {}); wait for it, or end it",
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
    /// A hypervisor knows the router by its hardware address.
    #[error(
        "the inventory does not say the hardware address of {trunk}, the trunk of {router}, by which a hypervisor knows the router \
         (remedy: infrastructure.interfaces.{trunk}.mac of {router})"
    )]
    NoRouterMac {
        /// The router.
        router: String,
        /// Its trunk.
        trunk: String,
    },
    /// The generations on disk refuse.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The generation cannot be published.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// The kernel refused something about links, addresses or sysctls.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The kernel refused something about the uplinks' table.
    #[error(transparent)]
    Nat(#[from] NatError),
    /// The inventory of one tenant does not fit to what is applied.
    #[error("--tenant {tenant}: {}", joined(why))]
    Tenant {
        /// The tenant.
        tenant: String,
        /// Every reason.
        why: Vec<MergeError>,
    },
    /// The inventory promises more than the maps hold, which keep their size.
    #[error(
        "`limits.connections` of the tenants promise {promised} connections, but of the {room} that the maps hold at most {} can be promised \
         (remedy: promise less, or raise `connections` in bulkhead.toml and then `bulkhead detach` and `bulkhead apply`)",
        netmodel::promisable(*room)
    )]
    Promises {
        /// Connections that segments are promised.
        promised: u64,
        /// Connections that are remembered.
        room: u32,
    },
    /// Only a part cannot be the first.
    #[error(
        "nothing was applied yet, so there is nothing that --tenant could change (remedy: bulkhead apply)"
    )]
    NothingApplied,
    /// There is nothing to go back to.
    #[error("there is no generation before the current one (`bulkhead history` lists them)")]
    NoPrevious,
    /// What is enforced could not be brought back.
    #[error(
        "there is nothing to go back to: something is enforced, and {} does not say what, so this generation could not be undone \
         (remedy: bulkhead apply without --confirm-within; it mends the store)",
        store.display()
    )]
    NothingToGoBackTo {
        /// The folder of the generations.
        store: PathBuf,
    },
    /// Files cannot be watched.
    #[error("cannot watch files (many folders? remedy: sysctl fs.inotify.max_user_watches)")]
    Watch(#[source] notify::Error),
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
    /// Is it that an interface is not there, or went away meanwhile? (A link of eBPF whose interface went is "severed": `ENOLINK`.)
    #[must_use]
    pub fn is_missing_link(&self) -> bool {
        const GONE: [i32; 2] = [libc::ENODEV, libc::ENOLINK];
        let mut cause: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = cause {
            let is_missing = match error.downcast_ref::<rtnetlink::Error>() {
                Some(rtnetlink::Error::NetlinkError(message)) => {
                    message.raw_code() == -libc::ENODEV
                }
                _ => false,
            };
            let errno = error.downcast_ref::<std::io::Error>();
            let errno = errno.and_then(std::io::Error::raw_os_error);
            let is_named = matches!(
                error.downcast_ref::<NetlinkError>(),
                Some(NetlinkError::NoInterface(_))
            );
            if is_missing || is_named || errno.is_some_and(|errno| GONE.contains(&errno)) {
                return true;
            }
            cause = error.source();
        }
        // A transparent variant hides the error that it holds from the chain.
        matches!(self, Self::Netlink(NetlinkError::NoInterface(_)))
    }

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
pub fn block_on<T, E: From<RunError>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::io("start the event loop"))?
        .block_on(work)
}

fn joined(errors: &[MergeError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ")
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
