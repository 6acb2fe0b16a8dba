//! Offloads of a NIC, over the ethtool ioctl.
//!
//! The `ethtool` crate speaks the newer netlink family, but can only read features there (0.3.0 has no
//! `ETHTOOL_MSG_FEATURES_SET`), and brings a second `netlink-proto`. The ioctl reads and sets this one flag.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetlinkError;

/// `ETHTOOL_GFLAGS`, `include/uapi/linux/ethtool.h`.
const READ_FLAGS: u32 = 0x25;
/// `ETHTOOL_SFLAGS`.
const SET_FLAGS: u32 = 0x26;
/// `ETH_FLAG_RXVLAN`.
const FLAG_RX_VLAN: u32 = 1 << 8;

/// The kernel's `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Does the NIC take VLAN tags out of received frames?
///
/// # Errors
///
/// If the interface is not there, or its driver does not say.
pub fn rx_vlan_offload(interface: &str) -> Result<bool, NetlinkError> {
    let flags = request(interface, READ_FLAGS, 0).map_err(|source| NetlinkError::Offloads {
        interface: interface.to_owned(),
        source,
    })?;
    Ok(flags & FLAG_RX_VLAN != 0)
}

/// Switches whether the NIC takes VLAN tags out of received frames.
///
/// # Errors
///
/// If the interface is not there, or its driver cannot.
pub(super) fn set_rx_vlan_offload(interface: &str, on: bool) -> io::Result<()> {
    let others = request(interface, READ_FLAGS, 0)? & !FLAG_RX_VLAN;
    let wanted = others | if on { FLAG_RX_VLAN } else { 0 };
    request(interface, SET_FLAGS, wanted)?;
    // A driver may take the request and keep the flag.
    if request(interface, READ_FLAGS, 0)? & FLAG_RX_VLAN == wanted & FLAG_RX_VLAN {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

fn request(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
    let socket = socket(family, SockType::Datagram, flags, None)?;
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut value = EthtoolValue { command, data };
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL takes an ifreq whose data points to an ethtool structure for the command, for
    // these two a `struct ethtool_value`. Both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    nix::errno::Errno::result(result)?;
    Ok(value.data)
}
