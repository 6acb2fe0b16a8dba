//! The one thread that changes zones. It takes what waits, writes it to the journal with one `fsync`,
//! makes the zones anew, and only then answers: who reads after the answer sees the change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use tracing::{debug, error, info};

use crate::answer::{Transport, limit};
use crate::journal::{Change, Store, ZoneChanges};
use crate::keys::Key;
use crate::message::{self, Extended, Query, Reply, rcode};
use crate::name::Name;
use crate::queue::Queue;
use crate::rdata::rtype;
use crate::server::Shared;
use crate::tsig::{self, Checked, Signer};
use crate::update::{self, Refusal, Target};
use crate::view::{ViewId, ZoneId};
use crate::world::World;

/// Updates that share one `fsync` at most.
const BATCH: usize = 64;
/// How long the thread waits for an update before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(200);

/// Updates that wait.
pub(crate) type Jobs = Queue<Job>;

/// Where a reply goes.
pub(crate) type ReplyTo = Box<dyn FnOnce(Vec<u8>) + Send>;

/// An update that was read, but not checked.
pub(crate) struct Job {
    pub(crate) message: Vec<u8>,
    pub(crate) query: Box<Query>,
    pub(crate) view: ViewId,
    pub(crate) source: IpAddr,
    pub(crate) transport: Transport,
    /// When it came.
    pub(crate) since: Instant,
    pub(crate) reply_to: ReplyTo,
}

/// Hands an update to the thread; it is not answered if too many of its view wait.
pub(crate) fn hand_over(queue: &Jobs, job: Job) {
    let view = job.view;
    if !queue.put(view, job) {
        debug!(view = view.0, "an update finds its queue full");
    }
}

/// Runs until nobody can send any more and all is done.
pub(crate) fn run(shared: &Shared, queue: &Arc<Jobs>) {
    loop {
        // Others that have it send; asked before, so that nothing is sent behind the last look.
        let is_last = Arc::strong_count(queue) == 1;
        let jobs = queue.take(BATCH, PATIENCE);
        if !jobs.is_empty() {
            work(shared, jobs);
        } else if is_last && shared.is_stopping() {
            return;
        }
    }
}

/// What became of a job before the journal was written.
enum Done {
    /// Nothing is to be written.
    Refused(Refusal, Option<Signer>),
    /// The message itself is not good.
    Malformed,
    /// This line is to be written.
    Changed(String, ZoneId, Signer),
    /// It was good, and changes nothing.
    Unchanged(Signer),
}

fn work(shared: &Shared, jobs: Vec<Job>) {
    let mut store = shared.store();
    let world = shared.world();
    let done: Vec<(Job, Done)> = jobs
        .into_iter()
        .map(|job| {
            let done = Worker {
                shared,
                world: &world,
                store: &mut store,
            }
            .check(&job);
            (job, done)
        })
        .collect();
    let mut lines = Vec::new();
    let mut zones = Vec::new();
    for (_, done) in &done {
        if let Done::Changed(line, zone, _) = done {
            lines.push(line.clone());
            zones.push(*zone);
        }
    }
    let written = if lines.is_empty() {
        Ok(())
    } else {
        store.commit(&lines)
    };
    if let Err(reason) = &written {
        error!(error = %crate::chain(reason), "updates could not be made durable: refused");
    } else {
        zones.sort_unstable();
        zones.dedup();
        let is_changed = !zones.is_empty();
        for zone in zones {
            world.refresh(zone, &store);
        }
        if is_changed {
            shared.mark_changed();
        }
    }
    drop(store);
    for (job, done) in done {
        let octets = reply(&job, done, written.is_ok());
        shared.metrics().updates.add(job.since.elapsed(), 1);
        count(&world, &job, message::rcode_of(&octets).into());
        (job.reply_to)(octets);
    }
}

fn count(world: &World, job: &Job, code: u16) {
    let view = world.plan.views.get(job.view.0);
    let zone = view.and_then(|view| view.zone_at(job.query.name()));
    let zone = zone.and_then(|zone| world.zone_counters(zone));
    for counters in zone.into_iter().chain(world.view_counters(job.view)) {
        counters.add_update(code);
    }
}

fn reply(job: &Job, done: Done, is_written: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let reply = Reply {
        message: &job.message,
        query: &job.query,
        limit: limit(&job.query, job.transport),
    };
    let (code, why, signer) = match done {
        Done::Malformed => {
            message::write_header_only(&mut out, &job.message, rcode::FORMERR);
            return out;
        }
        Done::Refused(refusal, signer) => (refusal.code, refusal.why, signer),
        Done::Changed(_, _, signer) if !is_written => {
            let why = (Extended::Other, "the journal cannot be written".to_owned());
            (rcode::SERVFAIL, Some(why), Some(signer))
        }
        Done::Changed(_, _, signer) | Done::Unchanged(signer) => {
            (rcode::NOERROR, None, Some(signer))
        }
    };
    let why = why.as_ref().map(|(kind, text)| (*kind, text.as_str()));
    reply.refuse(&mut out, code, why);
    if let Some(signer) = signer {
        signer.sign(&mut out);
    }
    out
}

struct Worker<'a> {
    shared: &'a Shared,
    world: &'a Arc<World>,
    store: &'a mut Store,
}

impl Worker<'_> {
    fn check(&mut self, job: &Job) -> Done {
        if !job.query.is_signed {
            let why = (Extended::Prohibited, "updates must be signed".to_owned());
            let refusal = Refusal {
                code: rcode::REFUSED,
                why: Some(why),
            };
            return Done::Refused(refusal, None);
        }
        let world = Arc::clone(self.world);
        match tsig::check(&job.message, &world.keys, self.shared.now()) {
            Checked::Malformed => Done::Malformed,
            Checked::Bad(code, signer) => Done::Refused(Refusal { code, why: None }, Some(signer)),
            Checked::Good(key, signer) => match self.change(job, key) {
                Err(refusal) => Done::Refused(refusal, Some(signer)),
                Ok((_, change)) if change.sets.is_empty() => Done::Unchanged(signer),
                Ok((zone, change)) => {
                    info!(
                        key = &*key.name, zone = %change.zone, sets = change.sets.len(),
                        source = %job.source, "update"
                    );
                    Done::Changed(self.store.apply(change), zone, signer)
                }
            },
        }
    }

    /// RFC 2136, 3.1: the zone section; then the rest.
    fn change(&self, job: &Job, key: &Key) -> Result<(ZoneId, Change), Refusal> {
        let plain = |code| Refusal { code, why: None };
        let message = Message::from_vec(&job.message).map_err(|_| plain(rcode::FORMERR))?;
        if job.query.kind != rtype::SOA {
            return Err(plain(rcode::FORMERR));
        }
        let view = self.world.plan.views.get(job.view.0);
        let zone = view.filter(|_| job.query.class == 1);
        let zone = zone.and_then(|view| view.zone_at(job.query.name()));
        let (Some(id), Ok(origin)) = (zone, Name::from_wire(job.query.name())) else {
            return Err(plain(rcode::NOTAUTH));
        };
        let spec = self
            .world
            .plan
            .zones
            .get(id.0)
            .ok_or(plain(rcode::NOTAUTH))?;
        let tenant = key
            .tenant()
            .filter(|tenant| spec.tenant.as_ref() == Some(tenant));
        let Some(tenant_name) = tenant else {
            let why = format!("key {} does not change {origin}", key.name);
            return Err(Refusal {
                code: rcode::REFUSED,
                why: Some((Extended::Prohibited, why)),
            });
        };
        let nothing = ZoneChanges::default();
        let tenant = self.world.plan.tenants.get(tenant_name);
        let target = Target {
            key,
            tenant: tenant_name,
            origin: &origin,
            fixed: &spec.contents,
            dynamic: self.store.zone(tenant_name, &origin).unwrap_or(&nothing),
            room: self
                .shared
                .records_per_tenant()
                .saturating_sub(self.store.records_of(tenant_name)),
            is_draining: tenant.is_none_or(|tenant| tenant.is_draining),
        };
        Ok((id, update::update(target, &message)?))
    }
}
