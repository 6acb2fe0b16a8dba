//! The HTTP API of PowerDNS, as much of it as tools need to change records of a tenant's zones.
//!
//! # Guarantees
//!
//! * **By key.** A key is one tenant's and reaches this tenant's zones, forward and reverse. Any other zone is *not
//!   found*, whether there is such a zone or not, and is looked for in the same way.
//! * **By segment.** A client that is not on the router itself must be in a segment, and reaches only what its
//!   segment sees.
//! * **One way to change.** A request becomes an update as RFC 2136 has it, and goes through the same queue, rules,
//!   quota and journal: 204 means that it is on the disk.
//! * **Closed.** Plain HTTP is served to the router's own addresses of loopback only; TLS everywhere else.
//! * **Bounded.** Connections, heads, bodies, and the time for each.

pub(crate) mod patch;
mod route;
mod shape;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, warn};

use crate::gate::Gate;
use crate::message::rcode;
use crate::server::Shared;
use crate::tcp::{self, PATIENCE};
use crate::updater::{self, ApiUpdate, Job, Jobs, Work};
use crate::view::ViewOwner;
use crate::world::World;
use route::{Action, Place, Reply, Scope};

/// Largest body of a request, in octets.
const BODY: usize = 1 << 20;
/// Largest head of a request, in octets.
const HEAD: usize = 16 << 10;
/// How long a client may take for the head of a request, or say nothing.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a request may take, with its body.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// A socket of the API.
pub(crate) struct Listener {
    pub(crate) socket: std::net::TcpListener,
    /// `None`: plain HTTP, on loopback.
    pub(crate) tls: Option<TlsAcceptor>,
}

/// Serves until the server stops.
pub(crate) fn run(shared: &Arc<Shared>, listeners: Vec<Listener>, updates: &Arc<Jobs>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(reason) => return error!(error = %reason, "no HTTP: cannot make its runtime"),
    };
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for Listener { socket, tls } in listeners {
            let api = Api {
                shared: Arc::clone(shared),
                updates: Arc::clone(updates),
                gate: tcp::gate(),
                tls,
            };
            match TcpListener::from_std(socket) {
                Ok(listener) => drop(tasks.spawn(accept(listener, api))),
                Err(reason) => error!(error = %reason, "no HTTP on a listener"),
            }
        }
        while !shared.is_stopping() {
            tokio::time::sleep(PATIENCE).await;
        }
        tasks.abort_all();
    });
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told {
    /// A reply: its status, and its body.
    Reply(u16, String),
    /// The zone is to be changed.
    Change,
}

/// Answers a request without a connection, and without changing anything: for tests, and for those who look for
/// holes. `None`: it is no request.
#[must_use]
pub fn ask(
    world: &World,
    (key, source): (&[u8], IpAddr),
    (method, uri): (&str, &str),
    body: &[u8],
) -> Option<Told> {
    let (method, uri) = (method.parse().ok()?, uri.parse().ok()?);
    let found = world.keys.api_key(key).zip(Place::of(world, source));
    let told = |reply: Reply| Told::Reply(reply.status.as_u16(), reply.body);
    let Some((key, place)) = found else {
        return Some(told(Reply::unauthorized()));
    };
    let scope = Scope { world, key, place };
    Some(match route::route(scope, &method, &uri, body) {
        Action::Reply(reply) | Action::Notify(_, reply) => told(reply),
        Action::Update(_) => Told::Change,
    })
}

#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
    updates: Arc<Jobs>,
    gate: Gate,
    tls: Option<TlsAcceptor>,
}

async fn accept(listener: TcpListener, api: Api) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(reason) => {
                warn!(error = %reason, "cannot take a connection");
                tokio::time::sleep(PATIENCE).await;
                continue;
            }
        };
        let world = api.shared.world();
        let place = Place::of(&world, peer.ip());
        let Some(pass) = place.and_then(|place| api.gate.enter(place.owner())) else {
            continue;
        };
        let api = api.clone();
        connections.spawn(async move {
            match &api.tls {
                None => api.serve(stream, peer).await,
                Some(tls) => match timeout(HEAD_TIME, tls.accept(stream)).await {
                    Ok(Ok(stream)) => api.serve(stream, peer).await,
                    Ok(Err(reason)) => debug!(%peer, error = %reason, "no TLS"),
                    Err(_) => debug!(%peer, "no TLS in time"),
                },
            }
            drop(pass);
        });
    }
}

impl Api {
    async fn serve<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| async move {
            let answered = timeout(REQUEST_TIME, self.answer(request, peer.ip())).await;
            let reply = answered.unwrap_or_else(|_| {
                Reply::error(StatusCode::REQUEST_TIMEOUT, "The request took too long")
            });
            Ok::<_, Infallible>(response(&reply))
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(reason) = served {
            debug!(%peer, error = %reason, "a connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Reply {
        let world = self.shared.world();
        let secret = request.headers().get("x-api-key");
        let key = secret.and_then(|secret| world.keys.api_key(secret.as_bytes()));
        let (Some(key), Some(place)) = (key, Place::of(&world, source)) else {
            return Reply::unauthorized();
        };
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Reply::error(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "The body has more than 1 MiB",
                );
            }
            Err(_) => return Reply::error(StatusCode::BAD_REQUEST, "The body is not whole"),
        };
        let scope = Scope {
            world: &world,
            key,
            place,
        };
        match route::route(scope, &head.method, &head.uri, &body) {
            Action::Reply(reply) => reply,
            Action::Notify(origin, reply) => {
                self.shared.notify_again(origin);
                reply
            }
            Action::Update(update) => {
                let view = scope.own_view();
                self.update(*update, view).await
            }
        }
    }

    /// Hands an update over, and waits until it is on the disk.
    async fn update(&self, update: ApiUpdate, view: ViewOwner) -> Reply {
        let (send, wait) = oneshot::channel();
        let job = Job {
            work: Work::Api {
                update: Box::new(update),
                // Nobody waits any more if the connection was closed.
                reply_to: Box::new(|result| drop(send.send(result))),
            },
            view,
            since: Instant::now(),
        };
        updater::hand_over(&self.updates, job);
        match wait.await {
            Ok(Ok(())) => Reply::empty(StatusCode::NO_CONTENT),
            Ok(Err(refusal)) => {
                let status = match refusal.code {
                    rcode::NOTAUTH => StatusCode::NOT_FOUND,
                    rcode::SERVFAIL => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                let why = refusal.why.map_or_else(
                    || match refusal.code {
                        rcode::NOTAUTH => "Not Found".to_owned(),
                        rcode::NOTZONE => "A name is not in the zone".to_owned(),
                        code => format!("The update is refused with code {code}"),
                    },
                    |(_, why)| why,
                );
                Reply::error(status, &why)
            }
            // Its queue was full.
            Err(_) => Reply::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many updates of this tenant wait: try again",
            ),
        }
    }
}

fn response(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body.clone().into()));
    *response.status_mut() = reply.status;
    if !reply.body.is_empty() {
        let kind = HeaderValue::from_static(reply.kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
