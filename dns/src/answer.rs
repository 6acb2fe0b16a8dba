//! A request in, a reply out. Updates are read here, and done elsewhere.

mod chain;

use std::net::IpAddr;

use tracing::warn;

use crate::compose::Body;
use crate::cookie;
use crate::dnssec::{Moment, Unsigned};
use crate::forward::Wanted;
use crate::keys::Key;
use crate::limit::{Limit, Verdict};
use crate::lookup;
use crate::message::{self, Extended, Query, Read, Reply, TCP_MAX, rcode};
use crate::name::{self, Name};
use crate::rdata::rtype;
use crate::transfer::{self, Offer, Transfer};
use crate::tsig::{self, Checked, Signer};
use crate::view::{View, ViewId, ViewOwner};
use crate::world::World;
use crate::zone::{Signing, Zone};
use chain::resolve;

/// The class of the internet.
const IN: u16 = 1;

/// How a request came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// UDP: a long reply is cut off.
    Udp,
    /// TCP.
    Tcp,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing: it is not answered.
    Silence,
    /// The reply is written.
    Reply,
    /// Upstream is to be asked.
    Forward(Box<Wanted>),
    /// The reply is a transfer; only over TCP.
    Transfer(Box<Transfer>),
    /// It is an update by a client of whose view this is.
    Update(Box<Query>, ViewOwner),
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub source: IpAddr,
    /// How its request came.
    pub transport: Transport,
    /// Seconds since 1970.
    pub now: u64,
    /// How much it is answered without a cookie.
    pub limit: Option<Limit<'a>>,
    /// How many signatures are made for its view.
    pub signatures: Option<Limit<'a>>,
    /// Who answers: its place among the threads that count.
    pub thread: usize,
}

impl Client<'_> {
    /// Makes one without a limit.
    #[must_use]
    pub fn new(source: IpAddr, transport: Transport, now: u64) -> Self {
        Self {
            source,
            transport,
            now,
            limit: None,
            signatures: None,
            thread: 0,
        }
    }
}

/// Answers a message. `out` is overwritten.
pub fn answer(world: &World, client: Client<'_>, message: &[u8], out: &mut Vec<u8>) -> Outcome {
    answer_into(world, client, message, &mut Query::default(), out)
}

/// As [`answer`]; `query` is where the question is read, and overwritten like `out`.
pub fn answer_into(
    world: &World,
    client: Client<'_>,
    message: &[u8],
    query: &mut Query,
    out: &mut Vec<u8>,
) -> Outcome {
    let view = || world.plan.clients.view_of(client.source);
    let is_update = match message::read(message, query) {
        Read::Silence => return Outcome::Silence,
        Read::Refuse(code) => {
            message::write_header_only(out, message, code);
            count(world, client, view(), code);
            return Outcome::Reply;
        }
        Read::Query => false,
        Read::Update => true,
    };
    let is_known = accept_cookie(world, client, query);
    let view = view();
    let verdict = match client.limit {
        Some(limit) if !is_known && !is_update => limit.check(view, client.source),
        _ => Verdict::Answer,
    };
    if verdict != Verdict::Answer {
        // Who signs would not believe an unsigned reply, and signing is work.
        let is_answered = verdict == Verdict::Truncate && !query.is_signed;
        if let Some(counters) = world.client_counters(view) {
            counters.add_limited(is_answered);
        }
        if !is_answered {
            return Outcome::Silence;
        }
        reply(message, query, client).truncate(out);
        return Outcome::Reply;
    }
    let is_plain = query.edns.is_none_or(|edns| edns.version == 0);
    if is_update
        && is_plain
        && let Some(view) = view.and_then(|view| world.plan.view(view))
    {
        return Outcome::Update(Box::new(query.clone()), view.owner.clone());
    }
    let (outcome, code) = answer_view(world, (client, view), message, (query, out));
    if let Some(code) = code {
        count(world, client, view, code);
    }
    outcome
}

fn reply<'m>(message: &'m [u8], query: &'m Query, client: Client<'_>) -> Reply<'m> {
    Reply {
        message,
        query,
        limit: limit(query, client.transport),
    }
}

fn count(world: &World, client: Client<'_>, view: Option<ViewId>, code: u16) {
    if let Some(counters) = world.client_counters(view) {
        counters.add(client.thread, code);
    }
}

/// Says in the query which cookie goes back; tells whether the client showed a good one (RFC 7873, 5.2).
fn accept_cookie(world: &World, client: Client<'_>, query: &mut Query) -> bool {
    let (Some(jar), Some(cookie)) = (world.jar(), &query.cookie) else {
        return false;
    };
    let (back, is_good) = jar.answer(cookie, client.source, client.now);
    query.cookie_back = Some(back);
    is_good
}

/// Answers a query, as its view sees it; tells the code of a reply.
fn answer_view(
    world: &World,
    (client, view_id): (Client<'_>, Option<ViewId>),
    message: &[u8],
    (query, out): (&Query, &mut Vec<u8>),
) -> (Outcome, Option<u16>) {
    let reply = reply(message, query, client);
    let mut refuse = |code| {
        reply.refuse(out, code, None);
        (Outcome::Reply, Some(code))
    };
    let Some(view_id) = view_id else {
        return refuse(rcode::REFUSED);
    };
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return refuse(rcode::BADVERS);
    }
    if !query.has_question() {
        return refuse(without_question(query));
    }
    let Some(view) = world.plan.view(view_id) else {
        return (Outcome::Silence, None);
    };
    let at = At {
        world,
        view,
        thread: client.thread,
        moment: Moment {
            now: client.now,
            limit: client.signatures.map(|limit| (limit, view_id)),
        },
    };
    if matches!(query.kind, rtype::AXFR | rtype::IXFR) {
        let outcome = answer_transfer(at, &reply, client, out);
        let is_begun = matches!(outcome, Outcome::Transfer(_));
        let code = if is_begun {
            rcode::NOERROR
        } else {
            message::rcode_of(out).into()
        };
        return (outcome, Some(code));
    }
    if query.is_signed {
        answer_signed(at, &reply, client, out);
        return (Outcome::Reply, Some(message::rcode_of(out).into()));
    }
    let leads_to = match answer_query(at, &reply, out) {
        Answered::Known => return (Outcome::Reply, Some(message::rcode_of(out).into())),
        Answered::Alias(target) => Some(target),
        Answered::Unknown => None,
    };
    let may_ask =
        world.forwards() && view.may_resolve && query.wants_recursion() && query.class == IN;
    let target = || {
        let asked = || Name::from_wire(query.name()).ok();
        leads_to.clone().or_else(asked)
    };
    match may_ask.then(target).flatten() {
        Some(target) if !world.plan.is_local(target.as_wire()) => {
            let begun = leads_to.map(|_| out.clone());
            let wanted = Wanted {
                query: Box::new(query.clone()),
                view: view.owner.clone(),
                target,
                begun,
            };
            (Outcome::Forward(Box::new(wanted)), None)
        }
        _ => (Outcome::Reply, Some(message::rcode_of(out).into())),
    }
}

/// RFC 7873, 5.4: a client that has no cookie of ours gets one, and so does one whose cookie is not good, with
/// BADCOOKIE.
fn without_question(query: &Query) -> u16 {
    match (query.cookie, query.cookie_back) {
        (Some(cookie), Some(back)) => match cookie.server {
            cookie::Server::None => rcode::NOERROR,
            // What is given back is what was shown, or a new one.
            cookie::Server::Like(shown) if back.ends_with(&shown) => rcode::NOERROR,
            cookie::Server::Like(_) | cookie::Server::Foreign => rcode::BADCOOKIE,
        },
        _ => rcode::FORMERR,
    }
}

/// What a query is answered out of.
#[derive(Clone, Copy)]
struct At<'a> {
    world: &'a World,
    view: &'a View,
    thread: usize,
    moment: Moment<'a>,
}

/// What our own zones had to say. A reply is written in any case.
enum Answered {
    /// All there is.
    Known,
    /// An alias that leads to a name that is not ours.
    Alias(Name),
    /// Nothing: the name is in no zone of the view.
    Unknown,
}

pub(crate) fn limit(query: &Query, transport: Transport) -> usize {
    match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => TCP_MAX,
    }
}

/// RFC 8945, 5.3: who signs a request gets a signed reply. The signature shows who asks, and does not
/// widen what its segment may see.
fn answer_signed(at: At<'_>, reply: &Reply<'_>, client: Client<'_>, out: &mut Vec<u8>) {
    let world = at.world;
    let may_know = |key: &Key| world.may_know(client.source, key);
    match tsig::check(reply.message, &world.keys, client.now, may_know) {
        Checked::Malformed => message::write_header_only(out, reply.message, rcode::FORMERR),
        Checked::Bad(code, signer) => refuse_signed(reply, code, &signer, out),
        Checked::Good(_, signer) => {
            let limit = reply.limit.saturating_sub(signer.room());
            answer_query(at, &Reply { limit, ..*reply }, out);
            signer.sign(out);
        }
    }
}

/// Begins a transfer. What is refused is refused alike, whether there is such a zone or not.
fn answer_transfer(
    at: At<'_>,
    reply: &Reply<'_>,
    client: Client<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let (world, view) = (at.world, at.view);
    let query = reply.query;
    if !query.is_signed {
        let why = "zone transfers must be signed";
        reply.refuse(out, rcode::REFUSED, Some((Extended::Prohibited, why)));
        return Outcome::Reply;
    }
    let may_know = |key: &Key| world.may_know(client.source, key);
    let (key, signer) = match tsig::check(reply.message, &world.keys, client.now, may_know) {
        Checked::Malformed => {
            message::write_header_only(out, reply.message, rcode::FORMERR);
            return Outcome::Reply;
        }
        Checked::Bad(code, signer) => {
            refuse_signed(reply, code, &signer, out);
            return Outcome::Reply;
        }
        Checked::Good(key, signer) => (key, signer),
    };
    let zone = match query.class {
        IN => transfer::zone(world, view, (key, client.source), query.name()),
        _ => None,
    };
    match (zone, client.transport, query.kind) {
        (None, ..) => refuse_signed(reply, rcode::REFUSED, &signer, out),
        (Some(Offer::Signed), ..) => {
            let why = "a signed zone is not copied: its signatures are made by this server alone";
            warn!(key = &*key.name, source = %client.source, "a secondary asks for a signed zone: refused");
            reply.refuse(out, rcode::REFUSED, Some((Extended::NotSupported, why)));
            signer.sign(out);
        }
        (Some(Offer::Zone(zone)), Transport::Tcp, _) => {
            let transfer = Transfer::new(zone, query, reply.message, signer);
            return Outcome::Transfer(Box::new(transfer));
        }
        // RFC 1995, 2: what does not fit UDP is the SOA alone; the client comes again over TCP.
        (Some(Offer::Zone(zone)), Transport::Udp, rtype::IXFR) => {
            let limit = reply.limit.saturating_sub(signer.room());
            let answer = lookup::resolve(&zone, zone.origin().as_wire(), rtype::SOA);
            let body = Body::exact(&answer, zone.origin(), zone.origin());
            Reply { limit, ..*reply }.write(out, &body);
            signer.sign(out);
        }
        // RFC 5936, 4.2: it is not defined.
        (Some(Offer::Zone(_)), Transport::Udp, _) => {
            refuse_signed(reply, rcode::FORMERR, &signer, out)
        }
    }
    Outcome::Reply
}

pub(crate) fn refuse_signed(reply: &Reply<'_>, code: u16, signer: &Signer, out: &mut Vec<u8>) {
    reply.refuse(out, code, None);
    signer.sign(out);
}

fn answer_query(at: At<'_>, reply: &Reply<'_>, out: &mut Vec<u8>) -> Answered {
    let At { world, view, .. } = at;
    let query = reply.query;
    let refuse = |out: &mut Vec<u8>, code| {
        reply.refuse(out, code, None);
        Answered::Known
    };
    match query.kind {
        rtype::OPT | rtype::TSIG => return refuse(out, rcode::FORMERR),
        rtype::TKEY | 253 | 254 => return refuse(out, rcode::NOTIMP),
        _ => {}
    }
    let zone = match query.class {
        IN => zone_for(view, query),
        _ => None,
    };
    let written = zone.and_then(|id| world.with_zone(id, |zone| answer_from(at, zone, reply, out)));
    if let Some(counters) = zone.and_then(|id| world.zone_counters(id)) {
        counters.add(at.thread, message::rcode_of(out).into());
    }
    match written {
        Some(Some(target)) => Answered::Alias(target),
        Some(None) => Answered::Known,
        None => {
            reply.refuse(out, rcode::REFUSED, None);
            Answered::Unknown
        }
    }
}

/// Answers out of a zone; tells where the last alias leads to, if that is in no zone of the view.
fn answer_from(at: At<'_>, zone: &Zone, reply: &Reply<'_>, out: &mut Vec<u8>) -> Option<Name> {
    let query = reply.query;
    let question = (query.name(), query.kind);
    let made = match zone.signing() {
        Signing::NoKey(_) => Err(Unsigned::NoKey),
        Signing::On(_) if query.kind == rtype::NXNAME => {
            // RFC 9824, 3.5: it stands in NSEC, and is no type to ask for.
            let why = (Extended::InvalidQueryType, "NXNAME is not to be asked for");
            reply.refuse(out, rcode::FORMERR, Some(why));
            return None;
        }
        Signing::On(signatures) if query.wants_dnssec() => {
            match signatures.body(zone, question, at.moment) {
                Ok(Some(body)) => {
                    reply.write(out, &body.value);
                    return None;
                }
                Ok(None) => resolve(at, zone, query),
                Err(why) => Err(why),
            }
        }
        Signing::Off | Signing::On(_) => match zone.prepared(query.name(), query.kind) {
            Some(body) => {
                reply.write(out, body);
                return None;
            }
            None => resolve(at, zone, query),
        },
    };
    match made {
        Ok((body, leads_to)) => {
            reply.write(out, &body);
            leads_to
        }
        Err(why) => {
            let why = match why {
                Unsigned::NoKey => "the zone's key cannot be used",
                Unsigned::Limit => "too many signatures: ask again in a second",
                Unsigned::Failed => "it cannot be signed",
            };
            reply.refuse(out, rcode::SERVFAIL, Some((Extended::Other, why)));
            None
        }
    }
}

/// The closest zone that the view has. RFC 4035, 3.1.4.1: DS of a zone is the parent's to say.
fn zone_for(view: &View, query: &Query) -> Option<crate::view::ZoneId> {
    let name = query.name();
    if query.kind == rtype::DS && view.zone_at(name).is_some() {
        let above = name::parent(name).and_then(|parent| view.zone_of(parent));
        if above.is_some() {
            return above;
        }
    }
    view.zone_of(name)
}
