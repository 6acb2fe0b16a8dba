//! A tap, as a virtual machine monitor has it: frames with a `virtio_net_hdr`, so that segmentation and checksums can be left
//! to the other side.
//!
//! <https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html>, section 5.1.6

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::NetNs;

/// Where taps are made.
const DEVICE: &str = "/dev/net/tun";
/// Octets of `struct virtio_net_hdr`.
const HEADER: usize = 10;
/// The largest packet, with its Ethernet header.
const LARGEST: usize = 65_536 + 14;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;

/// The kind of a packet that is to be cut up: `VIRTIO_NET_HDR_GSO_…`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gso {
    /// It is whole.
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

impl Gso {
    fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Tcp4 => 1,
            Self::Tcp6 => 4,
        }
    }
}

/// What the sender left to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Left {
    /// The transport checksum is to be filled in: where the transport header begins, and where in it the checksum is.
    pub checksum: Option<(u16, u16)>,
    /// To be cut up into segments with so much payload each.
    pub gso: (Gso, u16),
}

impl Left {
    /// The frame is as it is to be on a wire.
    pub const NOTHING: Self = Self {
        checksum: None,
        gso: (Gso::None, 0),
    };
}

/// The end of a tap that a machine has.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    _rest: [u8; 22],
}

mod ioctl {
    nix::ioctl_write_int!(
        /// `TUNSETIFF`.
        set_interface,
        b'T',
        202
    );
    nix::ioctl_write_int!(
        /// `TUNSETOFFLOAD`.
        set_offload,
        b'T',
        208
    );
}

impl Tap {
    /// Makes a tap `name` in a namespace. `offloads`: does its machine take packets that are not cut up, or lack checksums?
    ///
    /// # Errors
    ///
    /// If the kernel has no taps, or the name is taken.
    pub fn open(ns: &NetNs, name: &str, offloads: bool) -> Result<Self> {
        ensure!(name.len() < libc::IFNAMSIZ, "{name} is too long");
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            flags: libc::c_short::try_from(flags)?,
            _rest: [0; 22],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        if !Path::new(DEVICE).exists() {
            // A stock kernel has it in a module. If that fails, so does what follows.
            let _ = Command::new("modprobe").arg("tun").status();
        }
        // The interface is made in the namespace in which the file was opened.
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options.custom_flags(libc::O_NONBLOCK).open(DEVICE)
        };
        let file = ns.run(open).with_context(|| format!("opening {DEVICE}"))?;
        let flags = if offloads {
            libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6
        } else {
            0
        };
        // SAFETY: the first takes a pointer to a `struct ifreq`, which `request` is laid out as; the second a number.
        unsafe {
            ioctl::set_interface(
                file.as_raw_fd(),
                (&raw const request).addr() as libc::c_ulong,
            )?;
            ioctl::set_offload(file.as_raw_fd(), libc::c_ulong::from(flags))?;
        }
        Ok(Self { file })
    }

    /// Sends a frame, and says what is left to others.
    ///
    /// # Errors
    ///
    /// If the interface is down, or the kernel refuses the header.
    pub fn send(&self, frame: &[u8], left: Left) -> io::Result<()> {
        let (start, offset) = left.checksum.unwrap_or((0, 0));
        let flags = u8::from(left.checksum.is_some()) * NEEDS_CHECKSUM;
        let (kind, size) = left.gso;
        let mut packet = vec![flags, kind.number()];
        // Ethernet, IP and TCP are not longer: a hint for the kernel, which refuses one beyond the frame's end.
        let headers = if kind == Gso::None { 0 } else { 74 };
        for number in [headers, size, start, offset] {
            packet.extend(number.to_le_bytes());
        }
        packet.extend(frame);
        (&self.file).write_all(&packet)
    }

    /// Returns the next frame, and what was left to this end; `None` at the deadline.
    ///
    /// # Errors
    ///
    /// If the interface went away.
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<(Vec<u8>, Left)>> {
        let mut packet = vec![0; HEADER + LARGEST];
        loop {
            match (&self.file).read(&mut packet) {
                Ok(octets) => {
                    packet.truncate(octets);
                    return Ok(parse(&packet));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut wait = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut wait, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn parse(packet: &[u8]) -> Option<(Vec<u8>, Left)> {
    let number = |at: usize| Some(u16::from_le_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let gso = match packet.get(1)? & 0x7f {
        0 => Gso::None,
        1 => Gso::Tcp4,
        4 => Gso::Tcp6,
        _ => return None,
    };
    let needs_checksum = packet.first()? & NEEDS_CHECKSUM != 0;
    let left = Left {
        checksum: needs_checksum.then_some((number(6)?, number(8)?)),
        gso: (gso, number(4)?),
    };
    Some((packet.get(HEADER..)?.to_vec(), left))
}
