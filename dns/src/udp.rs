//! Queries over UDP: a batch in with one system call, a batch out with one.
//!
//! The socket is bound to no address, since each segment asks its own gateway: a reply leaves from the
//! address that was asked (RFC 5625, 6.1 says what happens otherwise). Replies of a batch that leave
//! from one address go out together.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, sendmsg,
};
use tracing::{debug, error};

use crate::answer::{Client, Outcome, Transport, answer};
use crate::forward;
use crate::server::{Hands, Shared};
use crate::updater::{self, Job, Request, Work};

/// How long a thread waits for a query before it looks whether it should end.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);
/// Queries in one batch.
const BATCH: usize = 64;
/// Longest request over UDP.
const REQUEST: usize = 4096;

/// A request of the batch, and where it came from and went to.
#[derive(Clone, Copy)]
struct Arrival {
    peer: SockaddrStorage,
    peer_ip: IpAddr,
    local: IpAddr,
    length: usize,
}

/// A reply to be sent.
struct Departure {
    peer: SockaddrStorage,
    local: IpAddr,
    octets: Vec<u8>,
}

/// Serves a socket until the server stops.
pub(crate) fn run(shared: &Shared, socket: &Arc<UdpSocket>, hands: &Hands, thread: usize) {
    let mut requests = vec![[0u8; REQUEST]; BATCH];
    let mut departures: Vec<Departure> = Vec::with_capacity(BATCH);
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let space = || cmsg_space!(in6_pktinfo);
    let mut incoming = MultiHeaders::preallocate(BATCH, Some(space()));
    let mut outgoing = MultiHeaders::preallocate(BATCH, Some(space()));
    while !shared.is_stopping() {
        let arrivals = match receive(socket, &mut incoming, &mut requests) {
            Ok(arrivals) => arrivals,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(errno) => {
                error!(%errno, "cannot receive");
                std::thread::sleep(PATIENCE);
                continue;
            }
        };
        let begun = Instant::now();
        let limit = shared.limiter().at(begun);
        let world = shared.world();
        let now = shared.now();
        for (arrival, request) in arrivals.iter().zip(&requests) {
            let Some(message) = request.get(..arrival.length) else {
                continue;
            };
            let client = Client {
                limit: Some(limit),
                signatures: Some(limit),
                thread,
                ..Client::new(arrival.peer_ip, Transport::Udp, now)
            };
            let mut octets = spare.pop().unwrap_or_default();
            match answer(&world, client, message, &mut octets) {
                // A transfer is begun over TCP only.
                Outcome::Silence | Outcome::Transfer(_) => spare.push(octets),
                Outcome::Reply => departures.push(Departure {
                    peer: arrival.peer,
                    local: arrival.local,
                    octets,
                }),
                Outcome::Forward(wanted) => {
                    spare.push(octets);
                    hands.forward(forward::Job {
                        request: forward::Request {
                            wanted,
                            message: message.to_vec(),
                            transport: Transport::Udp,
                        },
                        reply_to: reply_later(socket, *arrival),
                    });
                }
                Outcome::Update(query, view) => {
                    spare.push(octets);
                    let request = Request {
                        message: message.to_vec(),
                        query,
                        source: arrival.peer_ip,
                        transport: Transport::Udp,
                    };
                    let job = Job {
                        work: Work::Message {
                            request: Box::new(request),
                            reply_to: reply_later(socket, *arrival),
                        },
                        view,
                        since: begun,
                    };
                    updater::hand_over(&hands.updates, job);
                }
            }
        }
        departures.sort_by_key(|departure| departure.local);
        for group in departures.chunk_by(|a, b| a.local == b.local) {
            send(socket, &mut outgoing, group);
        }
        shared.metrics().udp.add(begun.elapsed(), departures.len());
        spare.extend(departures.drain(..).map(|departure| departure.octets));
    }
}

fn reply_later(socket: &Arc<UdpSocket>, arrival: Arrival) -> updater::ReplyTo {
    let socket = Arc::clone(socket);
    Box::new(move |octets| {
        with_source(arrival.local, |source| {
            let slices = [IoSlice::new(&octets)];
            let to = Some(&arrival.peer);
            let sent = sendmsg(
                socket.as_raw_fd(),
                &slices,
                &[source],
                MsgFlags::empty(),
                to,
            );
            if let Err(errno) = sent {
                debug!(%errno, "a reply was not sent");
            }
        });
    })
}

fn receive(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    requests: &mut [[u8; REQUEST]],
) -> nix::Result<Vec<Arrival>> {
    let mut slices: Vec<[IoSliceMut<'_>; 1]> = requests
        .iter_mut()
        .map(|request| [IoSliceMut::new(request)])
        .collect();
    let flags = MsgFlags::MSG_WAITFORONE;
    let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
    let arrivals = received.map(|message| {
        let mut local = None;
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
                local = Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
            } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
                local = Some(IpAddr::from(info.ipi6_addr.s6_addr));
            }
        }
        let peer = message.address?;
        Some((peer, ip_of(&peer)?, local?, message.bytes))
    });
    let nowhere = Arrival {
        peer: SockaddrStorage::from(SocketAddr::from(([0, 0, 0, 0], 0))),
        peer_ip: IpAddr::from([0, 0, 0, 0]),
        local: IpAddr::from([0, 0, 0, 0]),
        length: 0,
    };
    // What came from nowhere keeps its place, so that the others keep theirs; it is not answered.
    Ok(arrivals
        .map(|arrival| match arrival {
            Some((peer, peer_ip, local, length)) => Arrival {
                peer,
                peer_ip,
                local,
                length,
            },
            None => nowhere,
        })
        .collect())
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddrV4::from(*v4).ip().to_owned().into()),
        (_, Some(v6)) => Some(SocketAddrV6::from(*v6).ip().to_owned().into()),
        (None, None) => None,
    }
}

/// Sends replies that leave from one address.
fn send(socket: &UdpSocket, headers: &mut MultiHeaders<SockaddrStorage>, group: &[Departure]) {
    let Some(first) = group.first() else {
        return;
    };
    with_source(first.local, |source| {
        let mut rest = group;
        while !rest.is_empty() {
            let slices: Vec<[IoSlice<'_>; 1]> = rest
                .iter()
                .map(|reply| [IoSlice::new(&reply.octets)])
                .collect();
            let peers: Vec<Option<SockaddrStorage>> =
                rest.iter().map(|reply| Some(reply.peer)).collect();
            let flags = MsgFlags::empty();
            let sent = sendmmsg(
                socket.as_raw_fd(),
                headers,
                &slices,
                &peers,
                [source],
                flags,
            )
            .map(Iterator::count);
            // An error is that of the first reply: it is left out.
            let sent = match sent {
                Ok(sent) => sent.max(1),
                Err(Errno::EINTR) => 0,
                Err(errno) => {
                    debug!(%errno, "a reply was not sent");
                    1
                }
            };
            rest = rest.get(sent..).unwrap_or(&[]);
        }
    });
}

/// Calls `send` with the control message that sets a reply's source.
fn with_source(local: IpAddr, send: impl FnOnce(ControlMessage<'_>)) {
    match local {
        IpAddr::V4(local) => send(ControlMessage::Ipv4PacketInfo(&in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(local.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        })),
        IpAddr::V6(local) => send(ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: local.octets(),
            },
            ipi6_ifindex: 0,
        })),
    }
}
