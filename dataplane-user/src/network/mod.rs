//! The kernel's network: what the inventory wants of it, what it has, the difference, and doing it.
//!
//! # Guarantees
//!
//! * [`desired()`] and [`plan()`] are pure; [`Network::apply`] is the only code that changes links, addresses,
//!   bridge VLANs, sysctls and offloads, and it does one [`Change`].
//! * Only what bulkhead made, or the inventory hands over by name (trunk, bridge, its uplink port), is changed.
//!   What is ours is marked, in the same request that makes it: VLAN devices by their link group [`GROUP`],
//!   addresses by their protocol [`PROTOCOL`] (`docs/adr/0007-…`). A foreign object in the way is a
//!   [`Conflict`], in words.
//! * No window is open: see [`NetworkPlan`] for the order.
//! * [`Network::observe`] asks with three dumps, however many devices there are.

mod apply;
mod change;
mod desired;
mod ethtool;
mod netlink;
mod observed;
mod plan;
mod settings;
pub mod sysctl;
mod watch;

use std::io;
use std::os::linux::fs::MetadataExt as _;

use rtnetlink::Handle;
use thiserror::Error;

pub use self::change::{Action, Change, LinkRef, SysctlChange, VlanRange};
pub use self::desired::{Desired, DesiredBridge, DesiredRouter, Device, desired, device_name};
pub use self::ethtool::rx_vlan_offload;
pub use self::netlink::{Interface, Netlink, NetlinkError};
pub use self::observed::{Address, BridgeVlan, Kind, Link, Observed, Origin, link_local};
pub use self::plan::{Conflict, NetworkPlan, plan};
pub use self::settings::{Manage, NetworkSettings};
pub use self::watch::{Event, TrunkEvent, Watch, WatchOptions};

/// Link group of the VLAN devices that bulkhead made: "bulk" in ASCII. `ip link show group 1651862635` lists them.
pub const GROUP: u32 = u32::from_be_bytes(*b"bulk");

/// Protocol (`IFA_PROTO`, Linux 5.18) of the addresses that bulkhead added: "b" in ASCII. `ip address` shows
/// them with `proto 98`.
pub const PROTOCOL: u8 = b'b';

/// The network cannot be read or changed.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel refused a change.
    #[error("cannot do `{change}`{}", hint(remedy))]
    Apply {
        /// The change, as it is shown in a plan.
        change: String,
        /// What the operator can do; empty if nothing is known to help.
        remedy: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A sysctl cannot be read.
    #[error("cannot read {path}")]
    Sysctl {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The calling thread is in another network namespace than the connection.
    #[error("a bug: this thread is in another network namespace than the netlink socket")]
    OtherNamespace,
}

fn hint(remedy: &str) -> String {
    if remedy.is_empty() {
        String::new()
    } else {
        format!(" (remedy: {remedy})")
    }
}

/// A connection to the kernel's network, in the namespace of the thread that made it; needs a tokio runtime.
///
/// It must be used on threads of that namespace: see [`sysctl`].
pub struct Network {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
    namespace: u64,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Network {
    /// Connects, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// If there can be no socket.
    pub fn connect() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        let namespace = namespace().map_err(NetlinkError::Open)?;
        let task = tokio::spawn(connection);
        Ok(Self {
            handle,
            task,
            namespace,
        })
    }

    /// # Errors
    ///
    /// If this thread is elsewhere.
    fn check_namespace(&self) -> Result<(), NetworkError> {
        match namespace() {
            Ok(found) if found == self.namespace => Ok(()),
            Ok(_) | Err(_) => Err(NetworkError::OtherNamespace),
        }
    }
}

/// Inode of this thread's network namespace.
fn namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.st_ino())
}
