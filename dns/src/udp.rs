//! Queries over UDP: a batch in with one system call, a batch out with one.
//!
//! The socket is bound to no address, since each segment asks its own gateway: a reply leaves from the
//! address that was asked (RFC 5625, 6.1 says what happens otherwise), also beside others that leave from
//! elsewhere.

mod batch;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tracing::error;

use crate::answer::{Client, Outcome, Transport, answer_into};
use crate::forward;
use crate::message::Query;
use crate::server::{Hands, Shared};
use crate::updater::{self, Job, Request, Work};
use batch::{Back, Batch, Exchange};

/// How long a thread waits for a query before it looks whether it should end.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// Serves a socket until the server stops.
pub(crate) fn run(shared: &Shared, socket: &Arc<UdpSocket>, hands: &Hands, thread: usize) {
    let mut batch = Batch::new();
    let mut query = Query::default();
    while !shared.is_stopping() {
        let received = match batch.receive(socket) {
            Ok(received) => received,
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
        for place in 0..received {
            let Some(exchange) = batch.exchange(place) else {
                continue;
            };
            let Exchange {
                message,
                source,
                back,
                reply,
            } = exchange;
            let client = Client {
                limit: Some(limit),
                signatures: Some(limit),
                thread,
                ..Client::new(source, Transport::Udp, now)
            };
            match answer_into(&world, client, message, &mut query, reply) {
                // A transfer is begun over TCP only.
                Outcome::Silence | Outcome::Transfer(_) => {}
                Outcome::Reply => batch.keep(),
                Outcome::Forward(wanted) => hands.forward(forward::Job {
                    request: forward::Request {
                        wanted,
                        message: message.to_vec(),
                        transport: Transport::Udp,
                    },
                    reply_to: reply_later(socket, *back),
                }),
                Outcome::Update(query, view) => {
                    let request = Request {
                        message: message.to_vec(),
                        query,
                        source,
                        transport: Transport::Udp,
                    };
                    let job = Job {
                        work: Work::Message {
                            request: Box::new(request),
                            reply_to: reply_later(socket, *back),
                        },
                        view,
                        since: begun,
                    };
                    updater::hand_over(&hands.updates, job);
                }
            }
        }
        let replies = batch.send(socket);
        shared.metrics().udp.add(begun.elapsed(), replies);
    }
}

fn reply_later(socket: &Arc<UdpSocket>, back: Back) -> updater::ReplyTo {
    let socket = Arc::clone(socket);
    Box::new(move |octets| back.send(&socket, octets))
}
