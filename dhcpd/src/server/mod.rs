//! The daemon: frames in, frames out, one sync of the disk for each batch in between.
//!
//! ```text
//!   trunk ─┐                       ┌─ commit ─ send all
//!          ├ recvmmsg ─ engine ─ store
//!   plain ─┘            (pure)     └─ revert ─ send what promises nothing
//! ```
//!
//! # Guarantees
//!
//! * No answer that promises an address leaves before the lease is on the disk.
//! * A generation that cannot be used changes nothing: the old one is served, and the log says why.
//! * A batch of many clients costs one sync. Frames that come meanwhile wait in the socket. After a batch the next
//!   one waits for 2 to 10 ms, unless it was full: a busy server has few wake-ups and syncs, an idle one answers at once.
//! * An interface that is removed and made anew is served again within two seconds.
//! * SIGTERM and SIGINT end it between two batches.

mod duid;
mod engines;
mod follow;
mod port;
mod serve;
mod socket;
mod status;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use netmodel::ids::VlanId;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;
use tracing::{info, warn};

pub use duid::DuidError;
pub use follow::GenerationError;
use serve::Server;

use crate::scope::Scopes;
use crate::settings::Settings;
use crate::store::StoreError;
use crate::{Time, import};

/// An interface to serve: `eth0` is a trunk, with the segments' tags; `eth1=100` is in VLAN 100, without tags.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterfaceArg {
    /// The kernel's name.
    pub name: String,
    /// The VLAN of untagged frames; none on a trunk.
    pub vlan: Option<VlanId>,
}

impl FromStr for InterfaceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, vlan) = match text.split_once('=') {
            None => (text, None),
            Some((name, id)) => {
                let id = id.parse().ok().and_then(VlanId::new);
                (name, Some(id.ok_or("behind `=`: a VLAN id, 1 to 4094")?))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            vlan,
        })
    }
}

/// What the server is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interfaces to serve.
    pub interfaces: Vec<InterfaceArg>,
    /// The generation file.
    pub generation: PathBuf,
    /// The folder of the leases.
    pub state: PathBuf,
    /// The status file.
    pub status: PathBuf,
    /// What the inventory does not say.
    pub settings: Settings,
}

/// The server cannot start, or not go on.
#[derive(Debug, Error)]
pub enum ServerError {
    /// No generation at the start: nobody knows whom to serve.
    #[error("cannot start without a generation (remedy: `bulkhead apply`)")]
    Generation(#[source] GenerationError),
    /// No leases.
    #[error("cannot keep leases")]
    Store(#[source] StoreError),
    /// No DUID.
    #[error("cannot serve DHCPv6")]
    Duid(#[source] DuidError),
    /// No packet socket.
    #[error("cannot serve {interface} (it must exist, and this takes CAP_NET_RAW)")]
    Interface {
        /// The interface.
        interface: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Port 67 or 547 is somebody's.
    #[error("UDP port {port} is taken: another DHCP server runs here (remedy: stop it)")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The kernel refuses to wait or to signal.
    #[error("cannot {op}")]
    Kernel {
        /// What was tried.
        op: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Serves until a signal ends it.
///
/// # Errors
///
/// [`ServerError`]
pub fn run(options: Options) -> Result<(), ServerError> {
    // Before any thread starts, so that all of them leave signals to the loop.
    let signals = signals().map_err(kernel("wait for signals"))?;
    let generation = follow::read(&options.generation, &options.settings);
    let generation = generation.map_err(ServerError::Generation)?;
    let number = generation.number;
    let (mut server, _ports) = Server::start(&options, generation)?;
    let generations = follow::start(options.generation, options.settings, number);
    server.serve(&signals, &generations)
}

/// Takes over the leases of another server, and says what it could not: see [`crate::import`].
///
/// # Errors
///
/// [`ServerError`], also if this server runs.
pub fn import(
    options: &Options,
    read: impl FnOnce(&Scopes, u64) -> import::Outcome,
) -> Result<(), ServerError> {
    let generation = follow::read(&options.generation, &options.settings);
    let scopes = generation.map_err(ServerError::Generation)?.scopes;
    let (leases, refused) = read(&scopes, now().seconds());
    for line in &refused {
        warn!(line = line.line, why = line.why, "not taken over");
    }
    let found = leases.len();
    let written = import::write(&options.state, leases).map_err(ServerError::Store)?;
    info!(found, written, refused = refused.len(), "leases taken over");
    Ok(())
}

fn kernel(op: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::Kernel { op, source }
}

fn signals() -> io::Result<SignalFd> {
    let set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns an error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
