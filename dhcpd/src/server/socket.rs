//! A packet socket on one interface: frames in and out, many with one call.
//!
//! The only unsafe code of the crate: neither `nix` nor `rustix` has packet addresses or the metadata of
//! a packet (`PACKET_AUXDATA`), which holds the tag that the kernel took out of the bytes.

#![expect(unsafe_code, reason = "packet sockets: see above")]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use netmodel::ids::MacAddr;

use crate::{engine, six};

/// Most frames of a batch: what comes in within 2 ms at 60,000 messages a second.
pub(super) const BATCH: usize = 128;
/// Longer than any frame with a DHCP message over Ethernet without jumbo frames.
const FRAME_BYTES: usize = 2048;
/// Room for what comes in while a batch is written to the disk.
const RECEIVE_BUFFER: libc::c_int = 8 << 20;

/// Room for the control message with the packet's metadata, aligned as the kernel's macros want it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 64]);

/// A socket, and the frames of the last batch.
pub(super) struct Socket {
    fd: OwnedFd,
    index: u32,
    mac: MacAddr,
    frames: Vec<[u8; FRAME_BYTES]>,
    /// Octets of each, and the tag that was hidden.
    sizes: Vec<(usize, Option<u16>)>,
}

impl Socket {
    /// Opens a socket that gets DHCP requests and answers to ARP probes only: the kernel drops all else.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0 receives nothing: no frame gets in before the filter is there.
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel just gave this descriptor to us and to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        attach(fd.as_fd(), &requests_and_probes())?;
        set(&fd, (libc::SOL_PACKET, libc::PACKET_AUXDATA), 1)?;
        set(&fd, (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING), 1)?;
        // More than the limit of the system takes CAP_NET_ADMIN, which this daemon needs for nothing else.
        set(
            &fd,
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
            RECEIVE_BUFFER,
        )
        .or_else(|_| set(&fd, (libc::SOL_SOCKET, libc::SO_RCVBUF), RECEIVE_BUFFER))?;
        let mac = bind(&fd, index)?;
        for group in GROUPS {
            join(&fd, index, group)?;
        }
        Ok(Self {
            fd,
            index,
            mac,
            frames: vec![[0; FRAME_BYTES]; BATCH],
            sizes: Vec::with_capacity(BATCH),
        })
    }

    /// Is the interface of that name still the one that this socket was opened for?
    pub(super) fn is_of(&self, interface: &str) -> bool {
        nix::net::if_::if_nametoindex(interface).is_ok_and(|index| index == self.index)
    }

    /// The interface's hardware address: source of every answer.
    pub(super) fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Receives what is there, at most [`BATCH`] frames; none if nothing is.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        let mut controls = [Control([MaybeUninit::uninit(); 64]); BATCH];
        let mut parts: Vec<_> = self
            .frames
            .iter_mut()
            .map(|frame| libc::iovec {
                iov_base: frame.as_mut_ptr().cast(),
                iov_len: FRAME_BYTES,
            })
            .collect();
        let mut messages: Vec<_> = parts
            .iter_mut()
            .zip(&mut controls)
            .map(|(part, control)| message(part, Some(control)))
            .collect();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or_default();
        // SAFETY: each message points to a frame and a control buffer of its own, which outlive the call.
        let received = checked(unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        });
        let received = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        let received = messages
            .iter()
            .take(usize::try_from(received).unwrap_or_default());
        self.sizes.clear();
        self.sizes.extend(received.map(|message| {
            let length = usize::try_from(message.msg_len).unwrap_or_default();
            (length.min(FRAME_BYTES), hidden_tag(&message.msg_hdr))
        }));
        Ok(self.sizes.len())
    }

    /// Returns the frames of the last batch, each with the tag that is not in its bytes.
    pub(super) fn frames(&self) -> impl Iterator<Item = (&[u8], Option<u16>)> {
        let frames = self.frames.iter().zip(&self.sizes);
        frames.map(|(frame, (length, tag))| (frame.get(..*length).unwrap_or_default(), *tag))
    }

    /// Sends frames; returns how many the interface took.
    pub(super) fn send(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let mut parts: Vec<_> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<_> = parts.iter_mut().map(|part| message(part, None)).collect();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or_default();
        // SAFETY: each message points to a frame, which outlives the call; the kernel only reads it.
        let sent = checked(unsafe {
            libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), count, 0)
        })?;
        Ok(usize::try_from(sent).unwrap_or_default())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes a port, and drops all that comes there: the packet sockets have seen it. Without it the
/// kernel tells a client that renews by unicast that nobody is there (ICMP port unreachable).
pub(super) fn take_port(is_six: bool, port: u16) -> io::Result<UdpSocket> {
    let any = if is_six {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, port))?;
    attach(socket.as_fd(), &[ret(0)])?;
    Ok(socket)
}

/// What clients of IPv6 send to: all routers, all DHCP servers and relay agents, all DHCP servers.
const GROUPS: [[u8; 6]; 3] = [
    [0x33, 0x33, 0, 0, 0, 2],
    [0x33, 0x33, 0, 1, 0, 2],
    [0x33, 0x33, 0, 1, 0, 3],
];

/// Lets the device receive what is sent to a group.
fn join(fd: &OwnedFd, index: u32, [a, b, c, d, e, f]: [u8; 6]) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        mr_type: u16::try_from(libc::PACKET_MR_MULTICAST).unwrap_or_default(),
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::packet_mreq>()).unwrap_or_default();
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
    let value = (&raw const request).cast();
    // SAFETY: the pointer and the length are those of one packet_mreq.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, length) }).map(drop)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn message(part: &mut libc::iovec, control: Option<&mut Control>) -> libc::mmsghdr {
    // SAFETY: all zeroes is a valid mmsghdr.
    let mut message: libc::mmsghdr = unsafe { zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    if let Some(control) = control {
        message.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
        message.msg_hdr.msg_controllen = size_of::<Control>();
    }
    message
}

fn set(fd: &OwnedFd, (level, name): (i32, i32), value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    let value = (&raw const value).cast();
    // SAFETY: each option of this module takes an int; the pointer and the length are those of one.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, length) }).map(drop)
}

/// Binds to all protocols of an interface; returns its hardware address.
fn bind(fd: &OwnedFd, index: u32) -> io::Result<MacAddr> {
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
    // SAFETY: the address and its length are those of one sockaddr_ll.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: as before; the kernel writes at most that length.
    checked(unsafe {
        libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length)
    })?;
    match address.sll_addr {
        [mac @ .., _, _] if address.sll_halen == 6 => Ok(MacAddr(mac)),
        _ => Err(io::Error::other("the interface has no Ethernet address")),
    }
}

/// Returns the tag that the kernel took out of the bytes.
fn hidden_tag(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: recvmmsg filled the message in, and its control buffer lives.
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
    let is_tagged = metadata.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    is_tagged.then_some(metadata.tp_vlan_tci)
}

// Classic BPF: linux/filter.h, linux/bpf_common.h.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF_BEHIND_X: u16 = 0x48;
const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

fn attach(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_ptr().cast_mut(),
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or_default();
    let value = (&raw const program).cast();
    // SAFETY: the pointer and the length are those of one sock_fprog, whose program the kernel copies.
    checked(unsafe {
        let level = libc::SOL_SOCKET;
        libc::setsockopt(fd.as_raw_fd(), level, libc::SO_ATTACH_FILTER, value, length)
    })
    .map(drop)
}

fn load(code: u16, k: u32) -> libc::sock_filter {
    jump(code, k, (0, 0))
}

fn jump(code: u16, k: u32, (jt, jf): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn ret(octets: u32) -> libc::sock_filter {
    load(RETURN, octets)
}

/// Accepts UDP to port 67 over IPv4, whole; ARP replies to a target without an address; UDP to port 547 and router
/// solicitations over IPv6. With a tag in the bytes, or without one.
fn requests_and_probes() -> Vec<libc::sock_filter> {
    let untagged = requests_and_probes_at(14);
    let over = u8::try_from(untagged.len()).unwrap_or_default();
    let mut program = vec![load(LOAD_HALF, 12), jump(JUMP_EQUAL, 0x8100, (over, 0))];
    program.extend(untagged);
    program.push(load(LOAD_HALF, 16));
    program.extend(requests_and_probes_at(18));
    program
}

/// The same with the packet at an offset; its EtherType is in the accumulator.
fn requests_and_probes_at(packet: u32) -> [libc::sock_filter; 23] {
    let (four, six) = (engine::SERVER_PORT, six::SERVER_PORT);
    [
        jump(JUMP_EQUAL, 0x0800, (0, 7)),
        load(LOAD_BYTE, packet + 9),
        jump(JUMP_EQUAL, 17, (0, 19)),
        load(LOAD_HALF, packet + 6),
        jump(JUMP_ANY_BIT, 0x3fff, (17, 0)),
        load(LOAD_X_HEADER_LENGTH, packet),
        load(LOAD_HALF_BEHIND_X, packet + 2),
        jump(JUMP_EQUAL, u32::from(four), (13, 14)),
        jump(JUMP_EQUAL, 0x0806, (0, 4)),
        load(LOAD_HALF, packet + 6),
        jump(JUMP_EQUAL, 2, (0, 11)),
        load(LOAD_WORD, packet + 24),
        jump(JUMP_EQUAL, 0, (8, 9)),
        jump(JUMP_EQUAL, 0x86dd, (0, 8)),
        load(LOAD_BYTE, packet + 6),
        jump(JUMP_EQUAL, 58, (3, 0)),
        jump(JUMP_EQUAL, 17, (0, 5)),
        load(LOAD_HALF, packet + 42),
        jump(JUMP_EQUAL, u32::from(six), (2, 3)),
        load(LOAD_BYTE, packet + 40),
        jump(JUMP_EQUAL, 133, (0, 1)),
        ret(u32::MAX),
        ret(0),
    ]
}
