//! The one thread that changes zones. It takes what waits, writes it to the journal with one `fsync`,
//! makes the zones anew, and only then answers: who reads after the answer sees the change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use tracing::{debug, error, info};

use crate::answer::{Transport, limit};
use crate::api::patch::Expected;
use crate::journal::{Change, Store, ZoneChanges};
use crate::keys::{ApiKey, Key};
use crate::leases;
use crate::message::{self, Extended, Query, Reply, rcode};
use crate::name::Name;
use crate::plan::ZoneSpec;
use crate::queue::Queue;
use crate::rdata::{self, rtype};
use crate::server::Shared;
use crate::tsig::{self, Checked, Signer};
use crate::update::{self, Refusal, Target};
use crate::view::{ViewOwner, ZoneId};
use crate::world::{self, World};
use crate::zone::RrSet;

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
    pub(crate) work: Work,
    /// Whose queue it waits in. What it may change is judged by its source in the generation that is served then.
    pub(crate) view: ViewOwner,
    /// When it came.
    pub(crate) since: Instant,
}

/// What is to be done, and who is told.
pub(crate) enum Work {
    /// A message of RFC 2136.
    Message {
        request: Box<Request>,
        reply_to: ReplyTo,
    },
    /// A change by the HTTP API.
    Api {
        update: Box<ApiUpdate>,
        reply_to: Box<dyn FnOnce(Result<(), Refusal>) + Send>,
    },
}

/// A message of RFC 2136.
pub(crate) struct Request {
    pub(crate) message: Vec<u8>,
    pub(crate) query: Box<Query>,
    pub(crate) source: IpAddr,
    pub(crate) transport: Transport,
}

/// A change by the HTTP API; its key was good when it came.
pub(crate) struct ApiUpdate {
    pub(crate) key: ApiKey,
    pub(crate) zone: Name,
    pub(crate) message: Message,
    /// What must come out of it.
    pub(crate) expected: Vec<Expected>,
}

/// Hands an update to the thread; it is not answered if too many of its view wait.
pub(crate) fn hand_over(queue: &Jobs, job: Job) {
    let view = job.view.clone();
    if !queue.put(view.clone(), job) {
        debug!(%view, "an update finds its queue full");
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
struct Done {
    result: Result<(), Refusal>,
    /// What is to be written.
    line: Option<String>,
    zone: Option<ZoneId>,
    /// How the reply is signed.
    signer: Option<Signer>,
}

impl Done {
    fn refused(code: u16, why: Option<(Extended, String)>) -> Self {
        Self {
            result: Err(Refusal { code, why }),
            line: None,
            zone: None,
            signer: None,
        }
    }
}

fn work(shared: &Shared, jobs: Vec<Job>) {
    let mut store = shared.store();
    let world = shared.world();
    let mut done: Vec<(Job, Done)> = jobs
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
    let lines: Vec<String> = done
        .iter_mut()
        .filter_map(|(_, done)| done.line.take())
        .collect();
    let mut zones: Vec<ZoneId> = done.iter().filter_map(|(_, done)| done.zone).collect();
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
    for (job, mut done) in done {
        // One that changes nothing may have found what another one of the batch had just done: that is lost.
        if written.is_err() && done.result.is_ok() {
            let why = (Extended::Other, "the journal cannot be written".to_owned());
            done.result = Err(Refusal {
                code: rcode::SERVFAIL,
                why: Some(why),
            });
        }
        shared.metrics().updates.add(job.since.elapsed(), 1);
        count((shared, &world), &job, &done);
        reply(job.work, done);
    }
}

fn count((shared, world): (&Shared, &World), job: &Job, done: &Done) {
    let code = done
        .result
        .as_ref()
        .map_or_else(|refusal| refusal.code, |()| rcode::NOERROR);
    let zone = match &job.work {
        Work::Api { update, .. } => world
            .own_zone(&update.zone, &update.key.tenant)
            .map(|(id, _)| id),
        Work::Message { request, .. } => {
            let view = world.plan.view_of(request.source);
            view.and_then(|view| view.zone_at(request.query.name()))
        }
    };
    let zone = zone.and_then(|zone| world.zone_counters(zone));
    let view = shared.metrics().view(&job.view);
    for counters in zone.into_iter().chain(view.as_deref()) {
        counters.add_update(code);
    }
}

fn reply(work: Work, done: Done) {
    let (request, reply_to) = match work {
        Work::Api { reply_to, .. } => return reply_to(done.result),
        Work::Message { request, reply_to } => (request, reply_to),
    };
    let mut out = Vec::new();
    let reply = Reply {
        message: &request.message,
        query: &request.query,
        limit: limit(&request.query, request.transport),
    };
    match (&done.result, &done.signer) {
        // The signature itself cannot be read: neither can what it is about.
        (Err(refusal), None) if refusal.code == rcode::FORMERR => {
            message::write_header_only(&mut out, &request.message, rcode::FORMERR);
        }
        (Err(refusal), _) => {
            let why = refusal.why.as_ref();
            let why = why.map(|(kind, text)| (*kind, text.as_str()));
            reply.refuse(&mut out, refusal.code, why);
        }
        (Ok(()), _) => reply.refuse(&mut out, rcode::NOERROR, None),
    }
    if let Some(signer) = done.signer {
        signer.sign(&mut out);
    }
    reply_to(out);
}

struct Worker<'a> {
    shared: &'a Shared,
    world: &'a Arc<World>,
    store: &'a mut Store,
}

/// Who changes which zone.
struct Writer<'a> {
    key: &'a Arc<str>,
    tenant: &'a Arc<str>,
    zone: (ZoneId, &'a ZoneSpec),
}

impl Worker<'_> {
    fn check(&mut self, job: &Job) -> Done {
        match &job.work {
            Work::Message { request, .. } => self.check_message(request),
            Work::Api { update, .. } => self.check_api(update),
        }
    }

    fn check_message(&mut self, request: &Request) -> Done {
        if !request.query.is_signed {
            let why = (Extended::Prohibited, "updates must be signed".to_owned());
            return Done::refused(rcode::REFUSED, Some(why));
        }
        let world = Arc::clone(self.world);
        let may_know = |key: &Key| world.may_know(request.source, key);
        let now = self.shared.now();
        let (key, signer) = match tsig::check(&request.message, &world.keys, now, may_know) {
            Checked::Malformed => return Done::refused(rcode::FORMERR, None),
            Checked::Bad(code, signer) => {
                return Done {
                    signer: Some(signer),
                    ..Done::refused(code, None)
                };
            }
            Checked::Good(key, signer) => (key, signer),
        };
        let changed = self.change(request, key);
        let done = self.take_over(changed, &key.name, request.source);
        Done {
            signer: Some(signer),
            ..done
        }
    }

    /// What the API asks for goes the same way; RFC 2136 has nothing ignored that is not said here.
    fn check_api(&mut self, update: &ApiUpdate) -> Done {
        let world = Arc::clone(self.world);
        let Some(zone) = world.own_zone(&update.zone, &update.key.tenant) else {
            return Done::refused(rcode::NOTAUTH, None);
        };
        let writer = Writer {
            key: &update.key.name,
            tenant: &update.key.tenant,
            zone,
        };
        let changed = self.update(&writer, &update.message);
        let changed = changed.and_then(|(id, change)| {
            self.check_expected(&change, &update.expected)?;
            Ok((id, change))
        });
        self.take_over(changed, &update.key.name, IpAddr::from([127, 0, 0, 1]))
    }

    fn check_expected(&self, change: &Change, expected: &[Expected]) -> Result<(), Refusal> {
        let before = self.store.zone(&change.tenant, &change.zone);
        for wanted in expected {
            let changed = change.sets.get(&(wanted.name.clone(), wanted.kind));
            let after = match changed {
                Some(set) => set.as_ref(),
                None => before.and_then(|zone| zone.set(&wanted.name, wanted.kind)),
            };
            let rdata = after.map_or(&[][..], |set| set.rdata.as_slice());
            if rdata != wanted.rdata {
                let why = format!(
                    "RRset {} IN {}: Conflicts with pre-existing RRset",
                    wanted.name,
                    rdata::type_name(wanted.kind)
                );
                return Err(Refusal {
                    code: rcode::REFUSED,
                    why: Some((Extended::Prohibited, why)),
                });
            }
        }
        Ok(())
    }

    /// Takes a change over in memory.
    fn take_over(
        &mut self,
        changed: Result<(ZoneId, Change), Refusal>,
        key: &str,
        source: IpAddr,
    ) -> Done {
        let (zone, change) = match changed {
            Err(refusal) => return Done::refused(refusal.code, refusal.why),
            Ok(changed) => changed,
        };
        let mut done = Done {
            result: Ok(()),
            line: None,
            zone: None,
            signer: None,
        };
        if !change.sets.is_empty() {
            info!(key, zone = %change.zone, sets = change.sets.len(), %source, "update");
            done.line = Some(self.store.apply(change));
            done.zone = Some(zone);
        }
        done
    }

    /// RFC 2136, 3.1: the zone section; then the rest.
    fn change(&self, request: &Request, key: &Key) -> Result<(ZoneId, Change), Refusal> {
        let plain = |code| Refusal { code, why: None };
        let message = Message::from_vec(&request.message).map_err(|_| plain(rcode::FORMERR))?;
        if request.query.kind != rtype::SOA {
            return Err(plain(rcode::FORMERR));
        }
        let view = self.world.plan.view_of(request.source);
        let zone = view.filter(|_| request.query.class == 1);
        let id = zone.and_then(|view| view.zone_at(request.query.name()));
        let id = id.ok_or(plain(rcode::NOTAUTH))?;
        let spec = self.world.plan.zones.get(id.0);
        let spec = spec.ok_or(plain(rcode::NOTAUTH))?;
        let tenant = key
            .tenant()
            .filter(|tenant| spec.tenant.as_ref() == Some(tenant));
        let Some(tenant) = tenant else {
            let why = format!("key {} does not change {}", key.name, spec.origin);
            return Err(Refusal {
                code: rcode::REFUSED,
                why: Some((Extended::Prohibited, why)),
            });
        };
        let writer = Writer {
            key: &key.name,
            tenant,
            zone: (id, spec),
        };
        self.update(&writer, &message)
    }

    /// Returns a zone's SOA, after the updates that were taken over so far.
    fn soa(&self, spec: &ZoneSpec) -> RrSet {
        let plan = &self.world.plan;
        plan.soa.set(world::serial(plan, spec, self.store))
    }

    fn update(&self, writer: &Writer<'_>, message: &Message) -> Result<(ZoneId, Change), Refusal> {
        let (id, spec) = writer.zone;
        let nothing = ZoneChanges::default();
        let info = self.world.plan.tenants.get(writer.tenant);
        let room = self.shared.records_per_tenant();
        let target = Target {
            key: writer.key,
            others: &self.world.keys.others(writer.tenant, writer.key),
            tenant: writer.tenant,
            origin: &spec.origin,
            soa: &self.soa(spec),
            fixed: &leases::fixed(&self.world.plan, spec, self.store),
            dynamic: self
                .store
                .zone(writer.tenant, &spec.origin)
                .unwrap_or(&nothing),
            room: room.saturating_sub(self.store.records_of(writer.tenant)),
            is_draining: info.is_none_or(|info| info.is_draining),
        };
        Ok((id, update::update(target, message)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::support::{IN_A, two_tenants};
    use crate::testing::{IN_Z, Site, three_tenants};

    const ZONE: &str = "a.east.lab.example.";
    const RECORDS: &str = "  - {name: web, type: A, value: 10.1.0.10}\n";

    fn codes(replies: &mpsc::Receiver<Vec<u8>>) -> Vec<u16> {
        let all = replies.try_iter();
        all.map(|reply| message::rcode_of(&reply).into()).collect()
    }

    #[test]
    fn an_update_sent_twice_is_done_once_and_acknowledged_twice() {
        let site = Site::new(&two_tenants(RECORDS));
        let (send, replies) = mpsc::channel();
        let job = || site.update(IN_A.parse().unwrap(), (ZONE, "new"), &send);
        work(&site.shared, vec![job(), job()]);
        assert_eq!(codes(&replies), [rcode::NOERROR, rcode::NOERROR]);
        assert_eq!(site.shared.store().records_of("a"), 1);
    }

    #[test]
    fn an_update_that_waits_over_a_new_generation_is_judged_by_its_source() {
        let site = Site::new(&two_tenants(RECORDS));
        let (send, replies) = mpsc::channel();
        let job = site.update(IN_A.parse().unwrap(), (ZONE, "new"), &send);
        // Views have other numbers from now on.
        site.replace(&three_tenants(RECORDS));
        work(&site.shared, vec![job]);
        assert_eq!(codes(&replies), [rcode::NOERROR]);
        let counted = |source: &str| {
            let world = site.shared.world();
            let view = world.plan.clients.view_of(source.parse().unwrap());
            world.view_counters(view.unwrap()).unwrap().read().updates
        };
        assert_eq!(counted(IN_A), [("noerror", 1)].into());
        assert!(counted(IN_Z).is_empty());
    }

    #[test]
    fn an_update_sent_twice_is_not_acknowledged_once_if_the_journal_cannot_be_written() {
        let site = Site::broken(&two_tenants(RECORDS));
        let (send, replies) = mpsc::channel();
        let job = || site.update(IN_A.parse().unwrap(), (ZONE, "new"), &send);
        work(&site.shared, vec![job(), job()]);
        assert_eq!(codes(&replies), [rcode::SERVFAIL, rcode::SERVFAIL]);
        assert_eq!(site.shared.store().records_of("a"), 0);
    }
}
