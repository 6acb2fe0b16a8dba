//! Offloads of a link, over the ethtool ioctl: the switches that decide whether a program sees what
//! was on the wire.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netns::NetNs;

/// `ETHTOOL_STXCSUM`: sets transmit checksumming.
const SET_TX_CHECKSUM: u32 = 0x17;
/// `ETHTOOL_GFLAGS`: gets the flags below.
const READ_FLAGS: u32 = 0x25;
/// `ETHTOOL_SFLAGS`: sets the flags below.
const SET_FLAGS: u32 = 0x26;
/// `ETHTOOL_SGRO`: sets generic receive offload.
const SET_GRO: u32 = 0x2c;
/// `ETH_FLAG_TXVLAN`: the driver takes the tag beside the bytes.
const FLAG_TX_VLAN: u32 = 1 << 7;
/// `ETH_FLAG_RXVLAN`: the driver takes the tag out of the bytes.
const FLAG_RX_VLAN: u32 = 1 << 8;

/// The kernel's `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl NetNs {
    /// Switches transmit checksum offload (and segmentation with it). Off, packets of real sockets
    /// have right checksums in their bytes.
    ///
    /// # Errors
    ///
    /// If there is no such link, or its driver cannot.
    pub fn set_tx_checksum(&self, name: &str, on: bool) -> Result<()> {
        self.ethtool(name, SET_TX_CHECKSUM, on.into()).map(|_| ())
    }

    /// Switches generic receive offload.
    ///
    /// # Errors
    ///
    /// If there is no such link, or its driver cannot.
    pub fn set_gro(&self, name: &str, on: bool) -> Result<()> {
        self.ethtool(name, SET_GRO, on.into()).map(|_| ())
    }

    /// Returns whether the driver takes VLAN tags out of received frames.
    ///
    /// # Errors
    ///
    /// If there is no such link.
    pub fn rx_vlan_offload(&self, name: &str) -> Result<bool> {
        Ok(self.ethtool(name, READ_FLAGS, 0)? & FLAG_RX_VLAN != 0)
    }

    /// Switches whether the driver takes VLAN tags out of received frames.
    ///
    /// # Errors
    ///
    /// If there is no such link, or its driver cannot.
    pub fn set_rx_vlan_offload(&self, name: &str, on: bool) -> Result<()> {
        self.set_flag(name, FLAG_RX_VLAN, on)
    }

    /// Switches whether the driver wants VLAN tags of sent frames beside the bytes. Off, the kernel
    /// writes them into the bytes before.
    ///
    /// # Errors
    ///
    /// If there is no such link, or its driver cannot.
    pub fn set_tx_vlan_offload(&self, name: &str, on: bool) -> Result<()> {
        self.set_flag(name, FLAG_TX_VLAN, on)
    }

    fn set_flag(&self, name: &str, flag: u32, on: bool) -> Result<()> {
        let flags = self.ethtool(name, READ_FLAGS, 0)? & !flag;
        let flags = flags | if on { flag } else { 0 };
        self.ethtool(name, SET_FLAGS, flags).map(|_| ())
    }

    fn ethtool(&self, name: &str, command: u32, data: u32) -> Result<u32> {
        self.run(|| request(name, Value { command, data }))
            .with_context(|| format!("ethtool command {command:#x} on {name} in {}", self.name()))
    }
}

/// Makes one request in the namespace of this thread.
fn request(name: &str, mut value: Value) -> Result<u32> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    if name.len() >= libc::IFNAMSIZ {
        return Err(anyhow!("{name} is too long for an interface"));
    }
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL takes an ifreq whose data points to an ethtool structure for the command;
    // every command of this module takes a `struct ethtool_value`. Both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    nix::errno::Errno::result(result)?;
    Ok(value.data)
}
