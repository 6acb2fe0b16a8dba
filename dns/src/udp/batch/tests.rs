//! Batches over sockets of loopback, and what the kernel might say instead.

use std::net::SocketAddr;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, ReceiveTimestamp};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::udp::PATIENCE;

/// What a socket says of each request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    /// Our address.
    PacketInfo,
    /// When it came.
    Time,
    /// Its traffic class.
    TrafficClass,
}

/// A socket that is bound to all addresses of a family.
fn server(is_six: bool, said: &[Said]) -> UdpSocket {
    let (domain, any) = if is_six {
        (Domain::IPV6, "[::]:0")
    } else {
        (Domain::IPV4, "0.0.0.0:0")
    };
    let socket = Socket::new(domain, Type::DGRAM, None).unwrap();
    if is_six {
        socket.set_only_v6(true).unwrap();
    }
    for said in said {
        match (said, is_six) {
            (Said::PacketInfo, false) => setsockopt(&socket, Ipv4PacketInfo, &true).unwrap(),
            (Said::PacketInfo, true) => setsockopt(&socket, Ipv6RecvPacketInfo, &true).unwrap(),
            (Said::Time, _) => setsockopt(&socket, ReceiveTimestamp, &true).unwrap(),
            (Said::TrafficClass, false) => socket.set_recv_tos_v4(true).unwrap(),
            (Said::TrafficClass, true) => socket.set_recv_tclass_v6(true).unwrap(),
        }
    }
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let any: SocketAddr = any.parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.into()
}

/// A client that takes answers from the address that it asks, and from no other.
fn client(server: &UdpSocket, asked: &str) -> UdpSocket {
    let asked: IpAddr = asked.parse().unwrap();
    let own = if asked.is_ipv6() { "::1" } else { "127.0.0.9" };
    let client = UdpSocket::bind((own.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    client.connect((asked, port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn received(client: &UdpSocket) -> Option<Vec<u8>> {
    let mut octets = vec![0; 2 * REQUEST];
    let length = client.recv(&mut octets).ok()?;
    octets.truncate(length);
    Some(octets)
}

/// A request of its own for each number, of its own length.
fn request(number: usize) -> Vec<u8> {
    vec![u8::try_from(number).unwrap(); 40 + number]
}

/// Answers each request of the last batch by itself and `!`.
fn echo(batch: &mut Batch, requests: usize) {
    for place in 0..requests {
        let Some(exchange) = batch.exchange(place) else {
            continue;
        };
        exchange.reply.clear();
        exchange.reply.extend_from_slice(exchange.message);
        exchange.reply.push(b'!');
        batch.keep();
    }
}

fn echoed(number: usize) -> Option<Vec<u8>> {
    let mut octets = request(number);
    octets.push(b'!');
    Some(octets)
}

/// Asks a server at these addresses, all in one batch, with one question each.
fn ask_all(batch: &mut Batch, server: &UdpSocket, asked: &[&str]) -> Vec<UdpSocket> {
    let clients = asked.iter().enumerate().map(|(number, asked)| {
        let client = client(server, asked);
        client.send(&request(number)).unwrap();
        client
    });
    let clients: Vec<UdpSocket> = clients.collect();
    assert_eq!(batch.receive(server), Ok(asked.len()));
    clients
}

const ASKED: [&str; 5] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.1",
    "127.0.0.3",
    "127.0.0.2",
];

#[test]
fn replies_of_one_batch_leave_from_the_addresses_that_were_asked() {
    let four = (false, ASKED.as_slice(), "127.0.0.9");
    let six = (true, ["::1"; BATCH].as_slice(), "::1");
    let mut batch = Batch::new();
    // Twice: what was in the places before must not matter.
    for (is_six, asked, from) in [four, six, four, six] {
        let server = server(is_six, &[Said::PacketInfo]);
        let clients = ask_all(&mut batch, &server, asked);
        let exchange = batch.exchange(1).unwrap();
        assert_eq!(exchange.message, request(1));
        assert_eq!(exchange.source, from.parse::<IpAddr>().unwrap());
        echo(&mut batch, asked.len());
        assert_eq!(batch.send(&server), asked.len());
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(received(client), echoed(number), "{}", asked[number]);
        }
        assert!(batch.exchange(asked.len()).is_none(), "no more came");
    }
}

#[test]
fn a_reply_that_takes_longer_leaves_from_there_too() {
    let server = server(false, &[Said::PacketInfo]);
    let mut batch = Batch::new();
    let clients = ask_all(&mut batch, &server, &ASKED);
    let backs: Vec<Back> = (0..ASKED.len())
        .map(|place| *batch.exchange(place).unwrap().back)
        .collect();
    assert_eq!(batch.send(&server), 0, "none was kept");
    ask_all(&mut batch, &server, &["127.0.0.4"; BATCH]);
    for (number, (back, client)) in backs.iter().zip(&clients).enumerate() {
        back.send(&server, request(number));
        assert_eq!(received(client), Some(request(number)));
    }
}

#[test]
fn a_reply_that_cannot_be_sent_is_left_out_and_the_others_go() {
    let server = server(false, &[Said::PacketInfo]);
    let mut batch = Batch::new();
    let clients = ask_all(&mut batch, &server, &ASKED);
    echo(&mut batch, ASKED.len());
    for departure in batch.departures.iter_mut().step_by(2) {
        // Nobody has port 0.
        departure.back.name[2..4].fill(0);
    }
    assert_eq!(batch.send(&server), ASKED.len());
    for (number, client) in clients.iter().enumerate() {
        let is_sent = number % 2 == 1;
        assert_eq!(received(client), echoed(number).filter(|_| is_sent));
    }
}

#[test]
fn what_is_not_said_to_have_come_to_an_address_of_ours_is_not_answered() {
    use Said::{PacketInfo, Time, TrafficClass};
    let mut batch = Batch::new();
    for (is_six, asked) in [(false, "127.0.0.1"), (true, "::1")] {
        for said in [
            &[PacketInfo][..],
            &[],
            &[TrafficClass],
            // Without room for what stands behind it, or before it.
            &[PacketInfo, TrafficClass],
            &[PacketInfo, Time],
        ] {
            let server = server(is_six, said);
            let clients = ask_all(&mut batch, &server, &[asked; 3]);
            let is_good = said == [PacketInfo];
            echo(&mut batch, clients.len());
            let sent = if is_good { clients.len() } else { 0 };
            assert_eq!(batch.send(&server), sent, "{asked} {said:?}");
            let reply = received(&clients[2]);
            assert_eq!(reply, echoed(2).filter(|_| is_good), "{asked} {said:?}");
        }
    }
}

#[test]
fn nothing_to_receive_is_no_request() {
    let server = server(false, &[Said::PacketInfo]);
    let mut batch = Batch::new();
    ask_all(&mut batch, &server, &ASKED);
    assert_eq!(batch.receive(&server), Err(Errno::EAGAIN));
    assert!(batch.exchange(0).is_none());
}

/// Something that the kernel does not say, or says otherwise.
type Change = fn(&mut Filled);

/// A slot and its header as the kernel leaves them.
struct Filled {
    slot: Slot,
    said: msghdr,
}

impl Filled {
    fn new(is_six: bool) -> Self {
        let empty = header(null_mut(), null_mut(), null_mut());
        let mut slot = Slot {
            control: Control::empty(),
            part: nothing(),
            name: [0; NAME],
            request: [0; REQUEST],
        };
        let mut said = empty.msg_hdr;
        for (at, octet) in (1..).zip(&mut slot.control.info) {
            *octet = at;
        }
        for (at, octet) in (101..).zip(&mut slot.name) {
            *octet = at;
        }
        let control = &mut slot.control.header;
        if is_six {
            slot.name[..2].copy_from_slice(&10_u16.to_ne_bytes());
            (control.cmsg_level, control.cmsg_type, control.cmsg_len) = (41, 50, 36);
            (said.msg_namelen, said.msg_controllen) = (28, 40);
        } else {
            slot.name[..2].copy_from_slice(&2_u16.to_ne_bytes());
            (control.cmsg_level, control.cmsg_type, control.cmsg_len) = (0, 8, 28);
            (said.msg_namelen, said.msg_controllen) = (16, 32);
        }
        Self { slot, said }
    }

    fn origin(&self) -> Option<(IpAddr, Back)> {
        self.slot.origin(&self.said)
    }
}

#[test]
fn the_address_goes_back_alone_and_without_padding() {
    let (source, back) = Filled::new(false).origin().unwrap();
    assert_eq!(source, IpAddr::from([105, 106, 107, 108]));
    assert_eq!((back.name_length, back.control_length), (16, 28));
    let mut info = [0; INFO6];
    info[4..8].copy_from_slice(&[5, 6, 7, 8]);
    assert_eq!(back.control.info, info, "no interface");

    let (source, back) = Filled::new(true).origin().unwrap();
    let octets: [u8; 16] = std::array::from_fn(|at| 109 + u8::try_from(at).unwrap());
    assert_eq!(source, IpAddr::from(octets));
    assert_eq!((back.name_length, back.control_length), (28, 36));
    let info = std::array::from_fn(|at| {
        if at < 16 {
            u8::try_from(at).unwrap() + 1
        } else {
            0
        }
    });
    assert_eq!(back.control.info, info, "no interface");
}

#[test]
fn what_the_kernel_does_not_say_all_of_has_no_way_back() {
    let rows: [(&str, Change); 12] = [
        ("no family", |filled| filled.slot.name[..2].fill(0)),
        ("another family", |filled| {
            let other = filled.slot.name[0] ^ 2 ^ 10;
            filled.slot.name[..2].copy_from_slice(&u16::from(other).to_ne_bytes());
        }),
        ("no name", |filled| filled.said.msg_namelen = 0),
        ("a short name", |filled| filled.said.msg_namelen -= 1),
        ("a long name", |filled| filled.said.msg_namelen += 1),
        ("another level", |filled| {
            filled.slot.control.header.cmsg_level = libc::SOL_SOCKET;
        }),
        ("another type", |filled| {
            filled.slot.control.header.cmsg_type += 1;
        }),
        ("a short message", |filled| {
            filled.slot.control.header.cmsg_len -= 1;
        }),
        ("a long message", |filled| {
            filled.slot.control.header.cmsg_len += 1;
        }),
        ("no message", |filled| filled.said.msg_controllen = 0),
        ("less than a message", |filled| {
            filled.said.msg_controllen = filled.slot.control.header.cmsg_len - 1;
        }),
        ("messages that were cut off", |filled| {
            filled.said.msg_flags = libc::MSG_CTRUNC;
        }),
    ];
    for is_six in [false, true] {
        for (what, change) in rows {
            let mut filled = Filled::new(is_six);
            assert!(filled.origin().is_some());
            change(&mut filled);
            assert!(filled.origin().is_none(), "{what}, IPv6: {is_six}");
        }
    }
}
