//! Names of others: asked of the upstream resolvers, for segments that may open connections to the internet.
//!
//! # Guarantees
//!
//! * **Never an open resolver.** Only a client of a view with [`View::may_resolve`](crate::view::View) gets here, and
//!   only if it wants recursion. A segment without the internet cannot carry data out in questions.
//! * **Nothing of the site leaves it.** Names of any zone of the site, private reverse names and names that are
//!   nobody's on the internet are not asked of anybody ([`crate::plan::Plan::is_local`]).
//! * **No rebinding.** Addresses of the site, and private ones, are taken out of what comes from upstream ([`rebinding`]).
//! * **Apart.** Each view has its own cache and its own number of open questions: what one asks can be seen by no
//!   other, not by how long an answer takes either, and keeps no other waiting.

mod cache;
mod rebinding;
mod upstream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as HickoryName, RecordType};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{debug, error};

use crate::answer::{Transport, limit};
use crate::cookie;
use crate::gate::{Gate, Pass};
use crate::message::{self, Query, Reply, UDP_MAX, rcode};
use crate::name::Name;
use crate::server::{FORWARD_THREAD, Shared};
use crate::updater::ReplyTo;
use crate::view::ViewOwner;
use crate::world::World;
use cache::{Cache, Found};

/// Questions of one view that may be open at once.
const PER_VIEW: usize = 64;
/// Questions of all views that may be open at once: bounds sockets.
const TOTAL: usize = 2048;
/// How often the thread looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(200);

/// What upstream is to be asked.
#[derive(Debug)]
pub struct Wanted {
    /// The client's question.
    pub query: Box<Query>,
    /// Whose the client's view is: the answer may come in another generation.
    pub view: ViewOwner,
    /// The name to ask for: the question's, or where our own aliases led to.
    pub target: Name,
    /// Our own reply, if it begins with aliases of ours.
    pub begun: Option<Vec<u8>>,
}

/// A question of a client that waits for upstream.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) reply_to: ReplyTo,
}

/// What a client sent, and what is to be asked for it.
pub(crate) struct Request {
    pub(crate) wanted: Box<Wanted>,
    pub(crate) message: Vec<u8>,
    pub(crate) transport: Transport,
}

/// Where questions are handed over.
#[derive(Clone)]
pub(crate) struct Forwarder {
    jobs: UnboundedSender<(Job, Pass)>,
    open: Gate,
}

impl Forwarder {
    /// Makes the two ends.
    pub(crate) fn new() -> (Self, Receiver) {
        let (jobs, receiver) = unbounded_channel();
        let open = Gate::new(PER_VIEW, TOTAL);
        (Self { jobs, open }, Receiver(receiver))
    }

    /// Hands a question over; SERVFAIL at once if the view has too many open.
    pub(crate) fn hand_over(&self, job: Job) {
        match self.open.enter(Some(job.request.wanted.view.clone())) {
            Some(pass) => drop(self.jobs.send((job, pass))),
            None => {
                let octets = failure(&job.request);
                (job.reply_to)(octets);
            }
        }
    }
}

/// Where questions come out.
pub(crate) struct Receiver(UnboundedReceiver<(Job, Pass)>);

/// Runs until the server stops.
pub(crate) fn run(shared: &Arc<Shared>, receiver: Receiver, upstreams: Vec<SocketAddr>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(reason) => return error!(error = %reason, "no forwarding: cannot make its runtime"),
    };
    let resolver = Arc::new(Resolver {
        shared: Arc::clone(shared),
        upstreams,
        caches: Mutex::default(),
    });
    let Receiver(mut jobs) = receiver;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        while !shared.is_stopping() {
            while tasks.try_join_next().is_some() {}
            let Ok(Some((job, pass))) = tokio::time::timeout(PATIENCE, jobs.recv()).await else {
                continue;
            };
            let resolver = Arc::clone(&resolver);
            tasks.spawn(async move {
                let Job { request, reply_to } = job;
                let octets = resolver.reply(&request).await;
                let view = &request.wanted.view;
                if let Some(counters) = resolver.shared.metrics().view(view) {
                    counters.add(FORWARD_THREAD, message::rcode_of(&octets).into());
                }
                reply_to(octets);
                drop(pass);
            });
        }
    });
}

/// Returns what a client is told if upstream answers its question by these octets: for those who look for holes. `None`: that it
/// failed.
#[must_use]
pub fn told(
    world: &World,
    (wanted, message): (Box<Wanted>, &[u8]),
    answer: &[u8],
) -> Option<Vec<u8>> {
    let answer = Message::from_vec(answer).ok()?;
    // An answer to an update, whose records may lack data, is taken for none by `upstream::ask`.
    if answer.metadata.op_code != OpCode::Query {
        return None;
    }
    let found = believed(world, &wanted, answer)?;
    let request = Request {
        wanted,
        message: message.to_vec(),
        transport: Transport::Udp,
    };
    compose(&request, found)
}

/// Takes of an answer what is about the question, and nobody's address inside.
fn believed(world: &World, wanted: &Wanted, answer: Message) -> Option<Found> {
    let name = asked_name(wanted)?;
    Some(Found::read(answer, &name, |address| {
        world.plan.is_own_address(address)
    }))
}

fn asked_name(wanted: &Wanted) -> Option<HickoryName> {
    HickoryName::from_ascii(wanted.target.to_string()).ok()
}

struct Resolver {
    shared: Arc<Shared>,
    upstreams: Vec<SocketAddr>,
    /// By view, as long as one generation is served.
    caches: Mutex<(u32, HashMap<ViewOwner, Cache>)>,
}

impl Resolver {
    async fn reply(&self, request: &Request) -> Vec<u8> {
        let wanted = &request.wanted;
        let found = match self.cached(wanted) {
            Some(found) => found,
            None => match self.ask(wanted).await {
                Some(found) => found,
                None => return failure(request),
            },
        };
        compose(request, found).unwrap_or_else(|| failure(request))
    }

    fn cached(&self, wanted: &Wanted) -> Option<Found> {
        let generation = self.shared.world().plan.number;
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not to be told (the site's own addresses) is another in each generation.
        if caches.0 != generation {
            *caches = (generation, HashMap::new());
        }
        let cache = caches.1.get(&wanted.view)?;
        cache.get(&wanted.target, wanted.query.kind, Instant::now())
    }

    async fn ask(&self, wanted: &Wanted) -> Option<Found> {
        let kind = RecordType::from(wanted.query.kind);
        let message = upstream::ask(&self.upstreams, &asked_name(wanted)?, kind).await?;
        let world = self.shared.world();
        let found = believed(&world, wanted, message)?;
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        if caches.0 == world.plan.number {
            let cache = caches.1.entry(wanted.view.clone()).or_default();
            cache.put(&wanted.target, wanted.query.kind, &found, Instant::now());
        }
        Some(found)
    }
}

/// Puts a reply together: our own aliases, then what upstream says.
fn compose(request: &Request, found: Found) -> Option<Vec<u8>> {
    let wanted = &request.wanted;
    let mut reply = Message::new(wanted.query.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = found.code;
    reply.queries = Message::from_vec(&request.message).ok()?.queries;
    if let Some(begun) = &wanted.begun {
        reply.answers = Message::from_vec(begun).ok()?.answers;
        // RFC 1035, 4.1.1: AA is about the name that was asked for.
        reply.metadata.authoritative = true;
    }
    reply.answers.extend(found.answers);
    reply.authorities = found.authorities;
    if wanted.query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(UDP_MAX).unwrap_or(512));
        if let Some(cookie) = wanted.query.cookie_back {
            let option = EdnsOption::Unknown(cookie::OPTION, cookie.to_vec());
            edns.options_mut().insert(option);
        }
        reply.edns = Some(edns);
    }
    let octets = reply.to_vec().ok()?;
    if octets.len() <= limit(&wanted.query, request.transport) {
        return Some(octets);
    }
    reply.metadata.truncation = true;
    (reply.answers, reply.authorities) = (Vec::new(), Vec::new());
    reply.to_vec().ok()
}

/// The reply that upstream could not be asked.
fn failure(request: &Request) -> Vec<u8> {
    let query = &request.wanted.query;
    debug!(name = %request.wanted.target, "no answer from upstream");
    let mut out = Vec::new();
    let reply = Reply {
        message: &request.message,
        query,
        limit: limit(query, request.transport),
    };
    reply.refuse(&mut out, rcode::SERVFAIL, None);
    out
}

/// Is this how a negative answer is said?
fn is_negative(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use hickory_proto::rr::{RData, Record};

    use super::*;
    use crate::message::Read;
    use crate::support::{IN_A, IN_B, question, two_tenants};
    use crate::testing::{IN_Z, Site, three_tenants};

    const RECORDS: &str = "  - {name: web, type: A, value: 10.1.0.10}\n";
    const TARGET: &str = "www.example.org";

    /// A question of a client, in the generation that is served now.
    fn wanted(site: &Site, source: &str) -> Wanted {
        let mut query = Box::<Query>::default();
        assert_eq!(message::read(&question(TARGET, 1), &mut query), Read::Query);
        let world = site.shared.world();
        let view = world.plan.view_of(source.parse().unwrap());
        Wanted {
            query,
            view: view.unwrap().owner.clone(),
            target: Name::absolute(TARGET).unwrap(),
            begun: None,
        }
    }

    fn answer(question: &[u8]) -> Vec<u8> {
        let mut message = Message::from_vec(question).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = HickoryName::from_ascii(format!("{TARGET}.")).unwrap();
        let data = RData::try_from_str(RecordType::A, "198.18.0.1").unwrap();
        message.answers = vec![Record::from_rdata(name, 60, data)];
        message.to_vec().unwrap()
    }

    #[test]
    fn an_answer_that_comes_in_the_next_generation_is_remembered_for_who_asked_and_nobody_else() {
        let site = Site::new(&two_tenants(RECORDS));
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = Resolver {
            shared: Arc::clone(&site.shared),
            upstreams: vec![upstream.local_addr().unwrap()],
            caches: Mutex::default(),
        };
        let asked = wanted(&site, IN_A);
        assert!(resolver.cached(&asked).is_none());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut octets = [0; 512];
                let (length, from) = upstream.recv_from(&mut octets).unwrap();
                // Views have other numbers from now on, and the cache is the new generation's.
                site.replace(&three_tenants(RECORDS));
                assert!(resolver.cached(&wanted(&site, IN_Z)).is_none());
                upstream.send_to(&answer(&octets[..length]), from).unwrap();
            });
            assert!(runtime.block_on(resolver.ask(&asked)).is_some());
        });
        let is_known = |source| resolver.cached(&wanted(&site, source)).is_some();
        assert_eq!([IN_A, IN_B, IN_Z].map(is_known), [true, false, false]);
    }

    #[test]
    fn a_view_with_too_many_open_questions_is_told_so_at_once_and_keeps_nobody_out() {
        let site = Site::new(&two_tenants(RECORDS));
        // Nobody takes them out: all stay open.
        let (forwarder, _receiver) = Forwarder::new();
        let (send, replies) = std::sync::mpsc::channel();
        let told = |source: &str| {
            let send = send.clone();
            forwarder.hand_over(Job {
                request: Request {
                    wanted: Box::new(wanted(&site, source)),
                    message: question(TARGET, 1),
                    transport: Transport::Udp,
                },
                reply_to: Box::new(move |octets| drop(send.send(octets))),
            });
            replies.try_recv().ok()
        };
        assert!((0..PER_VIEW).all(|_| told(IN_A).is_none()));
        let octets: Vec<u8> = told(IN_A).expect("one more is told at once");
        assert_eq!(u16::from(message::rcode_of(&octets)), rcode::SERVFAIL);
        assert!(told(IN_B).is_none(), "the neighbour has places of its own");
    }
}
