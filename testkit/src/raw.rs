//! Raw frames in and out of one interface.
//!
//! # Guarantees
//!
//! * A received frame has its VLAN tag in the bytes, also when the kernel moved it to the metadata
//!   of the packet (veth and most drivers do, before any socket sees it).
//! * Frames that the namespace itself sends out of the interface are not received.
//! * Nothing sleeps: a wait ends when the frame is there, or at its deadline.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::frame::ether_type;
use crate::netns::NetNs;

/// Larger than any frame of a veth whose peer has a native XDP program, and than a page.
const LARGEST_FRAME: usize = 10_000;
/// Enough for a burst of thousands of small frames.
const RECEIVE_BUFFER: libc::c_int = 16 << 20;
/// Where a tag is in a frame: behind the two hardware addresses.
const TAG_AT: usize = 12;

/// An `AF_PACKET` socket bound to one interface. It stays in its namespace wherever it is used.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
}

impl RawSocket {
    /// Opens a socket on an interface that is set up, as its peer is; waits until it can send.
    ///
    /// # Errors
    ///
    /// If there is no such interface in the namespace, or it does not come up.
    pub fn open(ns: &NetNs, name: &str) -> Result<Self> {
        ns.wait_until_up(name)?;
        let index = ns.ifindex(name)?;
        ns.run(|| open(index))
            .with_context(|| format!("opening a raw socket on {name} in {}", ns.name()))
    }

    /// Sends one frame as it stands.
    ///
    /// # Errors
    ///
    /// If the frame is larger than the MTU allows, or the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of one slice.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        Errno::result(sent)?;
        Ok(())
    }

    /// Returns the next frame that is already there.
    ///
    /// # Errors
    ///
    /// If the interface went down or away.
    pub fn try_receive(&self) -> io::Result<Option<Vec<u8>>> {
        match receive(self.fd.as_fd()) {
            Err(Errno::EAGAIN) => Ok(None),
            other => Ok(other.map(Some)?),
        }
    }

    /// Returns the next frame, or `None` at the deadline.
    ///
    /// # Errors
    ///
    /// If the interface went down or away.
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.try_receive()? {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout =
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the next frame for which `wanted` answers with something, and what it answered;
    /// drops all others. `None` at the deadline.
    ///
    /// # Errors
    ///
    /// If the interface went down or away.
    pub fn receive_where<T>(
        &self,
        deadline: Instant,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        while let Some(frame) = self.receive(deadline)? {
            if let Some(found) = wanted(&frame) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Drops everything that is already there.
    ///
    /// # Errors
    ///
    /// If the interface went down or away.
    pub fn drain(&self) -> io::Result<()> {
        while self.try_receive()?.is_some() {}
        Ok(())
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens and binds in the namespace of this thread.
fn open(index: u32) -> Result<RawSocket> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 receives nothing: no frame of another interface gets in before the bind.
    // SAFETY: no pointers; the result is checked before it is used.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel just gave this descriptor to us and to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(
        &fd,
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
        RECEIVE_BUFFER,
    )?;
    set_option(&fd, (libc::SOL_PACKET, libc::PACKET_AUXDATA), 1)?;
    set_option(&fd, (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING), 1)?;
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(index)?;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the address and its length are those of one sockaddr_ll.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(bound)?;
    Ok(RawSocket { fd })
}

fn set_option(fd: &OwnedFd, (level, name): (i32, i32), value: libc::c_int) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>())?;
    let value = (&raw const value).cast();
    // SAFETY: each option of this module takes an int; the pointer and the length are those of one.
    let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, length) };
    Errno::result(set)?;
    Ok(())
}

/// Room for the control message with the packet's metadata, aligned as the kernel's macros want it.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 128]);

fn receive(fd: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    let mut frame = vec![0; LARGEST_FRAME];
    let mut control = Control([MaybeUninit::uninit(); 128]);
    let mut data = libc::iovec {
        iov_base: frame.as_mut_ptr().cast(),
        iov_len: frame.len(),
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: every pointer in the message is to a live local, with its length.
    let length = Errno::result(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) })?;
    frame.truncate(length.unsigned_abs());
    if let Some(tag) = hidden_tag(&message)
        && frame.len() >= TAG_AT
    {
        frame.splice(TAG_AT..TAG_AT, tag);
    }
    Ok(frame)
}

/// Returns the tag that the kernel took out of the bytes.
fn hidden_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: recvmsg filled the message in, and its control buffer lives.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // SAFETY: a message of this type carries a tpacket_auxdata; no other option of the socket makes
    // control messages, so it is the first.
    let metadata: libc::tpacket_auxdata = unsafe {
        libc::CMSG_DATA(header)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    if metadata.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let has_tpid = metadata.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if has_tpid {
        metadata.tp_vlan_tpid
    } else {
        ether_type::VLAN
    };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), metadata.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}
