//! The load: prepared questions in batches, and as many in flight as a socket's buffer holds.
//!
//! It must cost less than the server: all system calls take [`BATCH`] messages, and every header is made once.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::SockaddrIn;

use crate::sites::{Kind, Question};

/// Messages of one system call.
const BATCH: usize = 64;
/// Questions without an answer at once: fewer than a socket with the kernel's usual buffer holds.
const WINDOW: usize = 192;
/// When nothing comes for this long, what is missing is lost.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often a question is asked before anything is measured, if no answer comes.
const TRIES: usize = 3;
/// Longest reply that is looked at.
const REPLY: usize = 512;

/// Control message that says from where a datagram is sent (`IP_PKTINFO`).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Source([u8; Self::LENGTH]);

impl Source {
    const LENGTH: usize = 32;
}

/// Questions, ready to be sent in any order of batches.
pub(crate) struct Load {
    socket: UdpSocket,
    headers: Vec<libc::mmsghdr>,
    replies: Replies,
    kind: Kind,
    // What the headers point to; none of it is changed or moved once they are made.
    _octets: Vec<Box<[u8]>>,
    _iovs: Vec<libc::iovec>,
    _sources: Vec<Source>,
    _to: Vec<SockaddrIn>,
}

/// What was seen in some time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) wrong: u64,
}

impl Load {
    /// Makes it ready; call in the namespace. `to_gateways`: each asks its own gateway.
    pub(crate) fn new(
        questions: &[Question],
        kind: Kind,
        to: (Option<Ipv4Addr>, u16),
    ) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("open the client's socket")?;
        socket.set_nonblocking(true)?;
        let mut octets: Vec<Box<[u8]>> = questions
            .iter()
            .map(|question| question.octets.clone().into())
            .collect();
        let mut iovs: Vec<libc::iovec> = octets
            .iter_mut()
            .map(|octets| libc::iovec {
                iov_base: octets.as_mut_ptr().cast(),
                iov_len: octets.len(),
            })
            .collect();
        let (address, port) = to;
        let mut to: Vec<SockaddrIn> = questions
            .iter()
            .map(|question| SocketAddrV4::new(address.unwrap_or(question.gateway), port).into())
            .collect();
        let mut sources: Vec<Source> = questions
            .iter()
            .map(|question| source(question.source))
            .collect();
        let headers = iovs
            .iter_mut()
            .zip(&mut sources)
            .zip(&mut to)
            .map(|((iov, source), to)| header(iov, Some((source, to))))
            .collect();
        Ok(Self {
            socket,
            headers,
            replies: Replies::new(),
            kind,
            _octets: octets,
            _iovs: iovs,
            _sources: sources,
            _to: to,
        })
    }

    /// Asks for some time, in the order of the list, again from its start at its end.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Seen> {
        let mut seen = Seen::default();
        let (mut next, mut in_flight) = (0, 0);
        let start = Instant::now();
        let mut last = start;
        while start.elapsed() < time {
            while in_flight + BATCH <= WINDOW {
                let end = (next + BATCH).min(self.headers.len());
                let sent = send(&self.socket, &mut self.headers[next..end])?;
                if sent == 0 {
                    break;
                }
                in_flight += sent;
                next = if next + sent == self.headers.len() {
                    0
                } else {
                    next + sent
                };
            }
            let got = self.replies.receive(&self.socket, self.kind, &mut seen)?;
            in_flight = in_flight.saturating_sub(got);
            if got > 0 {
                last = Instant::now();
            } else if last.elapsed() > PATIENCE {
                seen.lost += u64::try_from(in_flight)?;
                in_flight = 0;
                last = Instant::now();
            }
        }
        self.settle(in_flight, &mut seen)?;
        Ok(seen)
    }

    /// Takes the replies that are still to come.
    fn settle(&mut self, mut in_flight: usize, seen: &mut Seen) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while in_flight > 0 && Instant::now() < end {
            in_flight =
                in_flight.saturating_sub(self.replies.receive(&self.socket, self.kind, seen)?);
        }
        seen.lost += u64::try_from(in_flight)?;
        Ok(())
    }

    /// Asks each question and demands the right answer to each.
    pub(crate) fn check(&mut self, server: &str) -> Result<()> {
        for batch in self.headers.chunks_mut(BATCH) {
            let asked = u64::try_from(batch.len())?;
            let mut seen = Seen::default();
            // A datagram may be lost: then all of them are sent again.
            for _ in 0..TRIES {
                seen = Seen::default();
                let sent = send(&self.socket, batch)?;
                ensure!(sent == batch.len(), "the questions do not fit the socket");
                let end = Instant::now() + 20 * PATIENCE;
                while seen.answered < asked && Instant::now() < end {
                    self.replies.receive(&self.socket, self.kind, &mut seen)?;
                }
                if seen.answered >= asked || seen.wrong > 0 {
                    break;
                }
            }
            ensure!(
                seen.wrong == 0 && seen.answered >= asked,
                "{server} does not answer as it should: of {asked} questions {} were answered, {} wrongly",
                seen.answered,
                seen.wrong
            );
        }
        Ok(())
    }
}

/// Room for the replies of one system call.
struct Replies {
    headers: Vec<libc::mmsghdr>,
    octets: Vec<[u8; REPLY]>,
    _iovs: Vec<libc::iovec>,
}

impl Replies {
    fn new() -> Self {
        let mut octets: Vec<[u8; REPLY]> = vec![[0; REPLY]; BATCH];
        let mut iovs: Vec<libc::iovec> = octets
            .iter_mut()
            .map(|octets| libc::iovec {
                iov_base: octets.as_mut_ptr().cast(),
                iov_len: REPLY,
            })
            .collect();
        let headers = iovs.iter_mut().map(|iov| header(iov, None)).collect();
        Self {
            headers,
            octets,
            _iovs: iovs,
        }
    }

    /// Takes what has come; returns how many.
    fn receive(&mut self, socket: &UdpSocket, kind: Kind, seen: &mut Seen) -> Result<usize> {
        let count = u32::try_from(self.headers.len())?;
        // SAFETY: each header points to one iovec of our own, which points to REPLY octets of our own.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let got = or_none(got).context("receive replies")?;
        for (header, octets) in self.headers.iter().zip(&self.octets).take(got) {
            let length = usize::try_from(header.msg_len)?.min(REPLY);
            seen.answered += 1;
            seen.wrong += u64::from(!kind.is_answered_by(&octets[..length]));
        }
        Ok(got)
    }
}

fn source(address: Ipv4Addr) -> Source {
    let mut octets = [0; Source::LENGTH];
    // cmsghdr: length 28, level IPPROTO_IP, type IP_PKTINFO; in_pktinfo: interface, source, destination.
    octets[..8].copy_from_slice(&28_u64.to_ne_bytes());
    octets[8..12].copy_from_slice(&libc::IPPROTO_IP.to_ne_bytes());
    octets[12..16].copy_from_slice(&libc::IP_PKTINFO.to_ne_bytes());
    octets[20..24].copy_from_slice(&address.octets());
    Source(octets)
}

fn header(
    iov: &mut libc::iovec,
    outgoing: Option<(&mut Source, &mut SockaddrIn)>,
) -> libc::mmsghdr {
    // SAFETY: a message header of zeroes is one without addresses, buffers and flags.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = iov;
    header.msg_hdr.msg_iovlen = 1;
    if let Some((source, to)) = outgoing {
        header.msg_hdr.msg_control = source.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = Source::LENGTH;
        header.msg_hdr.msg_name = std::ptr::from_mut(to).cast();
        header.msg_hdr.msg_namelen = 16;
    }
    header
}

/// Sends a batch; returns how many went out.
fn send(socket: &UdpSocket, batch: &mut [libc::mmsghdr]) -> Result<usize> {
    let count = u32::try_from(batch.len())?;
    // SAFETY: each header points to octets, an address and a control message that `Load` holds.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            batch.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
        )
    };
    or_none(sent).context("send questions")
}

/// The number of messages; none, if the call would have to wait.
fn or_none(result: libc::c_int) -> io::Result<usize> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(count);
    }
    let error = io::Error::last_os_error();
    // Refused: a server that was not there yet; what is lost is counted.
    let waits = [
        io::ErrorKind::WouldBlock,
        io::ErrorKind::Interrupted,
        io::ErrorKind::ConnectionRefused,
    ];
    match waits.contains(&error.kind()) {
        true => Ok(0),
        false => Err(error),
    }
}
