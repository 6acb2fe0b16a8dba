//! Queries over TCP (RFC 7766) and TLS (RFC 7858): many in one connection, answered in their order.
//!
//! # Limits
//!
//! A connection that says nothing, or takes nothing, for [`IDLE`] is closed. A view may have
//! [`PER_VIEW`] connections at once and all together [`TOTAL`]; one more is closed at once, and so is
//! one from an address of no segment. So a tenant that opens many can only keep out itself. A transfer that is not
//! through after [`TRANSFER`] is ended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, warn};

use crate::answer::{Client, Outcome, Transport, answer};
use crate::forward;
use crate::gate::Gate;
use crate::padding;
use crate::server::{Hands, Shared, TCP_THREAD};
use crate::transfer::Transfer;
use crate::updater::{self, Job, Request, Work};

/// How long nothing may happen (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// How long a whole transfer may take: it holds the zone as it was when it began.
const TRANSFER: Duration = Duration::from_secs(120);
/// Connections of one view at once.
const PER_VIEW: usize = 64;
/// Connections at once.
const TOTAL: usize = 4096;

/// How often the thread looks whether it should end.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// A socket, and what is spoken on it.
pub(crate) struct Listener {
    pub(crate) socket: std::net::TcpListener,
    /// `None`: plain TCP.
    pub(crate) tls: Option<TlsAcceptor>,
}

/// What all connections of a listener share.
#[derive(Clone)]
struct Door {
    shared: Arc<Shared>,
    hands: Hands,
    gate: Gate,
    tls: Option<TlsAcceptor>,
}

/// Serves the listeners until the server stops.
pub(crate) fn run(shared: &Arc<Shared>, listeners: Vec<Listener>, hands: &Hands) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(reason) => return error!(error = %reason, "no TCP: cannot make its runtime"),
    };
    runtime.block_on(async {
        let gate = gate();
        let mut tasks = JoinSet::new();
        for Listener { socket, tls } in listeners {
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    let door = Door {
                        shared: Arc::clone(shared),
                        hands: hands.clone(),
                        gate: gate.clone(),
                        tls,
                    };
                    tasks.spawn(accept(listener, door));
                }
                Err(reason) => error!(error = %reason, "no TCP on a listener"),
            }
        }
        while !shared.is_stopping() {
            tokio::time::sleep(PATIENCE).await;
        }
        tasks.abort_all();
    });
}

/// Makes a gate for connections.
pub(crate) fn gate() -> Gate {
    Gate::new(PER_VIEW, TOTAL)
}

async fn accept(listener: TcpListener, door: Door) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let world = door.shared.world();
                let view = world.plan.view_of(peer.ip());
                let pass = view.and_then(|view| door.gate.enter(Some(view.owner.clone())));
                if let Some(pass) = pass {
                    let door = door.clone();
                    connections.spawn(async move {
                        door.open(stream, peer).await;
                        drop(pass);
                    });
                }
            }
            Err(reason) => {
                // No descriptors left, for example: others will close theirs.
                warn!(error = %reason, "cannot take a connection");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

impl Door {
    async fn open(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let (shared, hands) = (&self.shared, &self.hands);
        match &self.tls {
            None => serve(stream, peer, shared, (hands, false)).await,
            // A client that begins and does not go on has no more time than one that is silent.
            Some(tls) => match timeout(IDLE, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, peer, shared, (hands, true)).await,
                Ok(Err(reason)) => debug!(%peer, error = %reason, "no TLS"),
                Err(_) => debug!(%peer, "no TLS in time"),
            },
        }
    }
}

/// Answers until the client is done, is silent for too long, or sends what is no message.
async fn serve<S>(
    mut stream: S,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    (hands, is_encrypted): (&Hands, bool),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = Vec::new();
    let mut framed = Vec::new();
    while let Ok(Some(())) = timeout(IDLE, read(&mut stream, &mut message)).await {
        let begun = Instant::now();
        let Some(response) = respond(&message, peer.ip(), shared, hands).await else {
            return;
        };
        shared.metrics().tcp.add(begun.elapsed(), 1);
        let is_sent = match response {
            Response::One(mut reply) => {
                if is_encrypted {
                    padding::pad(&message, &mut reply);
                }
                send(&mut stream, &mut framed, &reply).await
            }
            Response::Many(transfer) => {
                let sent = send_all(&mut stream, &mut framed, *transfer);
                timeout(TRANSFER, sent).await.ok().flatten()
            }
        };
        if is_sent.is_none() {
            return;
        }
    }
}

/// What goes back.
enum Response {
    One(Vec<u8>),
    Many(Box<Transfer>),
}

/// Sends a transfer, message by message: a client that takes none for [`IDLE`] is left.
async fn send_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    framed: &mut Vec<u8>,
    mut transfer: Transfer,
) -> Option<()> {
    while let Some(message) = transfer.next_message() {
        send(stream, framed, &message).await?;
        // Other connections have their turn.
        tokio::task::yield_now().await;
    }
    Some(())
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    framed: &mut Vec<u8>,
    reply: &[u8],
) -> Option<()> {
    framed.clear();
    framed.extend(u16::try_from(reply.len()).ok()?.to_be_bytes());
    framed.extend_from_slice(reply);
    // What is encrypted waits in the stream until it is flushed.
    let written = async {
        stream.write_all(framed).await?;
        stream.flush().await
    };
    timeout(IDLE, written).await.ok()?.ok()
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S, message: &mut Vec<u8>) -> Option<()> {
    let length = stream.read_u16().await.ok()?;
    message.resize(usize::from(length), 0);
    stream.read_exact(message).await.ok()?;
    Some(())
}

async fn respond(
    message: &[u8],
    source: IpAddr,
    shared: &Arc<Shared>,
    hands: &Hands,
) -> Option<Response> {
    let client = Client {
        thread: TCP_THREAD,
        signatures: Some(shared.limiter().at(Instant::now())),
        ..Client::new(source, Transport::Tcp, shared.now())
    };
    let mut out = Vec::new();
    match answer(&shared.world(), client, message, &mut out) {
        Outcome::Silence => None,
        Outcome::Reply => Some(Response::One(out)),
        Outcome::Transfer(transfer) => Some(Response::Many(transfer)),
        Outcome::Forward(wanted) => {
            let (send, wait) = oneshot::channel();
            hands.forward(forward::Job {
                request: forward::Request {
                    wanted,
                    message: message.to_vec(),
                    transport: Transport::Tcp,
                },
                reply_to: Box::new(|reply| drop(send.send(reply))),
            });
            wait.await.ok().map(Response::One)
        }
        Outcome::Update(query, view) => {
            let (send, wait) = oneshot::channel();
            let request = Request {
                message: message.to_vec(),
                query,
                source,
                transport: Transport::Tcp,
            };
            let job = Job {
                work: Work::Message {
                    request: Box::new(request),
                    // Nobody waits any more if the connection was closed.
                    reply_to: Box::new(|reply| drop(send.send(reply))),
                },
                view,
                since: Instant::now(),
            };
            updater::hand_over(&hands.updates, job);
            wait.await.ok().map(Response::One)
        }
    }
}
