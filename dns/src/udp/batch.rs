//! A batch of requests in with one system call, and a batch of replies out with one.
//!
//! The only unsafe code of the crate (ADR 0010, 13): `nix` sends one control message with all messages of a call,
//! and here each reply has its own, since each leaves from the address that was asked.
//!
//! # Guarantees
//!
//! * **From where it was asked, or not at all.** A request that the kernel does not say all of (who sent it, and to
//!   which of our addresses) is not given to anybody, and so is not answered.
//! * **Nothing is allocated** after [`Batch::new`], but for a reply that is longer than any before it.
//! * What the kernel wrote about the request that had a place before is not taken for the next one's: it says how long
//!   the address and the control message are, each time.

#![expect(
    unsafe_code,
    reason = "a control message for each of many replies: see above"
)]

use std::mem::{offset_of, size_of, zeroed};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::ptr::null_mut;

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, socklen_t};
use nix::errno::Errno;
use tracing::debug;

use crate::message::UDP_MAX;

/// Requests of one batch.
pub(super) const BATCH: usize = 64;
/// Longest request over UDP.
const REQUEST: usize = 4096;
/// Octets of `sockaddr_in` and `sockaddr_in6`.
const NAME4: socklen_t = 16;
const NAME6: socklen_t = 28;
/// Room for one of the two.
const NAME: usize = 28;
/// Octets of `in_pktinfo` and `in6_pktinfo`.
const INFO4: usize = 12;
const INFO6: usize = 20;
/// Octets of a control message with them. The kernel copies what is at most 36 octets long to its stack, and allocates
/// memory for anything longer, so what is sent has no padding at its end.
/// <https://elixir.bootlin.com/linux/v6.12/A/ident/____sys_sendmsg>
const CONTROL4: usize = size_of::<libc::cmsghdr>() + INFO4;
const CONTROL6: usize = size_of::<libc::cmsghdr>() + INFO6;

const _: () = {
    assert!(NAME4 as usize == size_of::<libc::sockaddr_in>());
    assert!(offset_of!(libc::sockaddr_in, sin_addr) == 4);
    assert!(NAME == NAME6 as usize && NAME == size_of::<libc::sockaddr_in6>());
    assert!(offset_of!(libc::sockaddr_in6, sin6_addr) == 8);
    assert!(INFO4 == size_of::<libc::in_pktinfo>());
    assert!(offset_of!(libc::in_pktinfo, ipi_spec_dst) == 4);
    assert!(INFO6 == size_of::<libc::in6_pktinfo>());
    assert!(offset_of!(libc::in6_pktinfo, ipi6_addr) == 0);
    assert!(offset_of!(Control, info) == size_of::<libc::cmsghdr>());
    assert!(size_of::<Control>() >= CONTROL6 && CONTROL6 <= 36);
    assert!(size_of::<Slot>() == 4096 + 2 * 64);
};

/// A control message: `in_pktinfo` or `in6_pktinfo` behind its header.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    info: [u8; INFO6],
}

impl Control {
    fn empty() -> Self {
        Self {
            // SAFETY: all zeroes is a valid cmsghdr.
            header: unsafe { zeroed() },
            info: [0; INFO6],
        }
    }
}

/// The way back to who asked, from the address that was asked.
#[derive(Clone, Copy)]
pub(super) struct Back {
    name: [u8; NAME],
    name_length: socklen_t,
    control: Control,
    control_length: usize,
}

impl Back {
    fn nowhere() -> Self {
        Self {
            name: [0; NAME],
            name_length: 0,
            control: Control::empty(),
            control_length: 0,
        }
    }

    /// Sends one reply.
    pub(super) fn send(self, socket: &UdpSocket, octets: Vec<u8>) {
        let mut departure = Departure {
            octets,
            back: self,
            part: nothing(),
        };
        let mut header = departure.header();
        // SAFETY: the header points into `departure`, which outlives the call and is not touched before it ends.
        unsafe { send_all(socket, std::slice::from_mut(&mut header)) };
    }
}

/// What the kernel writes of one request. Two cache lines more than a page: the beginnings of requests that are whole
/// pages apart would push one another out of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Slot {
    control: Control,
    part: iovec,
    name: [u8; NAME],
    request: [u8; REQUEST],
}

impl Slot {
    /// Returns who asked, and the way back to him; `None` if the kernel did not say one of the two. `said` is what it
    /// said of this slot.
    fn origin(&self, said: &msghdr) -> Option<(IpAddr, Back)> {
        if said.msg_flags & libc::MSG_CTRUNC != 0 {
            return None;
        }
        let header = &self.control.header;
        let [f0, f1, ..] = self.name;
        let kind = (
            c_int::from(u16::from_ne_bytes([f0, f1])),
            (header.cmsg_level, header.cmsg_type),
        );
        // The index of the interface stays 0: routes choose it.
        let mut info = [0; INFO6];
        let (source, name_length, control_length) = match kind {
            (libc::AF_INET, (libc::IPPROTO_IP, libc::IP_PKTINFO)) => {
                let [_, _, _, _, a, b, c, d, ..] = self.name;
                let asked = self.control.info.get(4..8)?;
                info.get_mut(4..8)?.copy_from_slice(asked);
                (IpAddr::from([a, b, c, d]), NAME4, CONTROL4)
            }
            (libc::AF_INET6, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)) => {
                let [_, _, _, _, _, _, _, _, source @ .., _, _, _, _] = self.name;
                let asked = self.control.info.get(..16)?;
                info.get_mut(..16)?.copy_from_slice(asked);
                (IpAddr::from(source), NAME6, CONTROL6)
            }
            _ => return None,
        };
        let is_whole = said.msg_namelen == name_length
            && header.cmsg_len == control_length
            && said.msg_controllen >= control_length;
        if !is_whole {
            return None;
        }
        let control = Control {
            header: *header,
            info,
        };
        let back = Back {
            name: self.name,
            name_length: said.msg_namelen,
            control,
            control_length,
        };
        Some((source, back))
    }
}

/// A reply to be sent.
struct Departure {
    octets: Vec<u8>,
    back: Back,
    part: iovec,
}

impl Departure {
    /// Makes the header for it; good as long as the reply is not touched.
    fn header(&mut self) -> mmsghdr {
        self.part = iovec {
            // The kernel only reads it.
            iov_base: self.octets.as_ptr().cast_mut().cast(),
            iov_len: self.octets.len(),
        };
        let back = &mut self.back;
        let mut header = header(
            (&raw mut back.name).cast(),
            &raw mut self.part,
            (&raw mut back.control).cast(),
        );
        header.msg_hdr.msg_namelen = back.name_length;
        header.msg_hdr.msg_controllen = back.control_length;
        header
    }
}

/// A request of the batch.
pub(super) struct Exchange<'b> {
    /// Its octets.
    pub(super) message: &'b [u8],
    /// Who sent it.
    pub(super) source: IpAddr,
    /// The way back, for a reply that takes longer.
    pub(super) back: &'b Back,
    /// Where the reply is put; [`Batch::keep`] has it sent.
    pub(super) reply: &'b mut Vec<u8>,
}

/// Requests of the last batch, and replies of the next one.
pub(super) struct Batch {
    /// Written by the kernel, to where `incoming` points; only read by us, and never grown, so that it stays there.
    slots: Vec<Slot>,
    incoming: Vec<mmsghdr>,
    /// How many the last call filled.
    received: usize,
    /// How many headers have lengths that the kernel wrote.
    stale: usize,
    departures: Vec<Departure>,
    outgoing: Vec<mmsghdr>,
    /// How many replies wait to be sent.
    waiting: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let empty = Slot {
            control: Control::empty(),
            part: nothing(),
            name: [0; NAME],
            request: [0; REQUEST],
        };
        let mut slots = vec![empty; BATCH];
        let first = slots.as_mut_ptr();
        let incoming = (0..BATCH).map(|place| {
            // SAFETY: there are BATCH slots. No reference to one of them is alive.
            unsafe {
                let slot = first.add(place);
                (*slot).part = iovec {
                    iov_base: (&raw mut (*slot).request).cast(),
                    iov_len: REQUEST,
                };
                header(
                    (&raw mut (*slot).name).cast(),
                    &raw mut (*slot).part,
                    (&raw mut (*slot).control).cast(),
                )
            }
        });
        let incoming = incoming.collect();
        let departure = |_| Departure {
            octets: Vec::with_capacity(UDP_MAX),
            back: Back::nowhere(),
            part: nothing(),
        };
        let unused = header(null_mut(), null_mut(), null_mut());
        Self {
            slots,
            incoming,
            received: 0,
            stale: BATCH,
            departures: (0..BATCH).map(departure).collect(),
            outgoing: vec![unused; BATCH],
            waiting: 0,
        }
    }

    /// Waits for requests, and takes those that are there; returns how many. Replies that were not sent are lost.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> nix::Result<usize> {
        (self.received, self.waiting) = (0, 0);
        for header in self.incoming.iter_mut().take(self.stale) {
            header.msg_hdr.msg_namelen = NAME6;
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        self.stale = BATCH;
        let count = c_uint::try_from(self.incoming.len()).unwrap_or(0);
        // SAFETY: there are `count` headers. Each points to a name, a control message and a part of a slot of its own,
        // as `new` has set it, and has their lengths; the part has those of the slot's request. The slots live as
        // long as `self`, have not moved, and nobody has a reference to them.
        let received = Errno::result(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.incoming.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                null_mut(),
            )
        })?;
        self.received = usize::try_from(received).unwrap_or(0).min(BATCH);
        self.stale = self.received;
        Ok(self.received)
    }

    /// Returns a request of the last batch, and room for its reply; `None` if it cannot be said where it came from or
    /// went to.
    pub(super) fn exchange(&mut self, place: usize) -> Option<Exchange<'_>> {
        let said = self.incoming.get(..self.received)?.get(place)?;
        let slot = self.slots.get(place)?;
        let (source, back) = slot.origin(&said.msg_hdr)?;
        let length = usize::try_from(said.msg_len).ok()?;
        let departure = self.departures.get_mut(self.waiting)?;
        departure.back = back;
        Some(Exchange {
            message: slot.request.get(..length)?,
            source,
            back: &departure.back,
            reply: &mut departure.octets,
        })
    }

    /// Keeps the reply of the last exchange, to be sent with the others.
    pub(super) fn keep(&mut self) {
        self.waiting += 1;
    }

    /// Sends the replies that were kept; returns how many there were.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> usize {
        let count = std::mem::take(&mut self.waiting);
        let departures = self.departures.iter_mut().take(count);
        for (header, departure) in self.outgoing.iter_mut().zip(departures) {
            *header = departure.header();
        }
        if let Some(headers) = self.outgoing.get_mut(..count) {
            // SAFETY: these headers were just made, and point into departures, which are not touched before the call
            // ends.
            unsafe { send_all(socket, headers) };
        }
        count
    }
}

/// Sends what headers point to; what cannot be sent is left out.
///
/// # Safety
///
/// Each header must be one of [`Departure::header`], of a departure that was not touched since.
unsafe fn send_all(socket: &UdpSocket, headers: &mut [mmsghdr]) {
    let mut rest = headers;
    while !rest.is_empty() {
        let count = c_uint::try_from(rest.len()).unwrap_or(0);
        // SAFETY: there are `count` headers. The caller promises that each points to a name, a control message, a part
        // and octets that are there, with their lengths; the kernel only reads them.
        let sent = Errno::result(unsafe {
            libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), count, 0)
        });
        // An error is that of the first reply: it is left out.
        let done = match sent {
            Ok(sent) => usize::try_from(sent).unwrap_or(0).max(1),
            Err(Errno::EINTR) => 0,
            Err(errno) => {
                debug!(%errno, "a reply was not sent");
                1
            }
        };
        rest = rest.get_mut(done..).unwrap_or_default();
    }
}

fn nothing() -> iovec {
    iovec {
        iov_base: null_mut(),
        iov_len: 0,
    }
}

/// Makes a header with one part; the lengths of the name and of the control message are 0.
fn header(name: *mut c_void, part: *mut iovec, control: *mut c_void) -> mmsghdr {
    // SAFETY: all zeroes is a valid mmsghdr.
    let mut header: mmsghdr = unsafe { zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control;
    header
}

#[cfg(test)]
mod tests;
