//! What is served at one moment: a generation, the dynamic records on top of it, and the keys.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::catalog::{self, Secondary};
use crate::cookie::Jar;
use crate::dnssec::key::{self, ZoneKey};
use crate::journal::Store;
use crate::keys::{Holder, Key, Keyring};
use crate::leases;
use crate::metrics::{Counters, Metrics};
use crate::name::Name;
use crate::plan::{Plan, ZoneSpec};
use crate::rdata::rtype;
use crate::view::{ViewId, ViewOwner, ZoneId};
use crate::zone::{Contents, Signing, Zone};

/// A generation with its zones made.
pub struct World {
    /// The generation.
    pub plan: Plan,
    /// Keys for updates.
    pub keys: Keyring,
    zones: Vec<ArcSwap<Zone>>,
    secondaries: Vec<Secondary>,
    forwards: bool,
    jar: Option<Jar>,
    counted: Option<Counted>,
}

/// Where it is counted what is done.
struct Counted {
    metrics: Arc<Metrics>,
    zones: Vec<Arc<Counters>>,
    views: Vec<Arc<Counters>>,
}

impl World {
    /// Makes all zones.
    #[must_use]
    pub fn new(plan: Plan, keys: Keyring, store: &Store) -> Self {
        let zones = plan.zones.iter();
        let zones = zones
            .map(|spec| ArcSwap::from_pointee(make_zone(&plan, spec, store)))
            .collect();
        let secondaries = catalog::secondaries(&plan, &keys);
        Self {
            plan,
            keys,
            zones,
            secondaries,
            forwards: false,
            jar: None,
            counted: None,
        }
    }

    /// Names of others are asked of upstream resolvers, for views that may resolve.
    #[must_use]
    pub fn forwarding(mut self, forwards: bool) -> Self {
        self.forwards = forwards;
        self
    }

    /// Are names of others asked of upstream resolvers?
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.forwards
    }

    /// Cookies (RFC 7873) are given and checked.
    #[must_use]
    pub fn with_cookies(mut self, jar: Jar) -> Self {
        self.jar = Some(jar);
        self
    }

    /// Returns what makes cookies.
    pub(crate) fn jar(&self) -> Option<&Jar> {
        self.jar.as_ref()
    }

    /// What is done is counted.
    #[must_use]
    pub fn counted_by(mut self, metrics: &Arc<Metrics>) -> Self {
        self.counted = Some(Counted {
            metrics: Arc::clone(metrics),
            zones: metrics.zones(self.plan.zones.iter().map(|spec| &spec.origin)),
            views: metrics.views(self.plan.views.iter().map(|view| &view.owner)),
        });
        self
    }

    /// Returns the counters of a zone, if it is counted.
    #[must_use]
    pub fn zone_counters(&self, id: ZoneId) -> Option<&Counters> {
        let counters = self.counted.as_ref()?.zones.get(id.0)?;
        Some(counters)
    }

    /// Returns the counters of a view, if it is counted.
    #[must_use]
    pub fn view_counters(&self, id: ViewId) -> Option<&Counters> {
        let counters = self.counted.as_ref()?.views.get(id.0)?;
        Some(counters)
    }

    /// Returns the counters of a client: of its view, or of addresses of no segment.
    pub(crate) fn client_counters(&self, view: Option<ViewId>) -> Option<&Counters> {
        match view {
            Some(view) => self.view_counters(view),
            None => self
                .counted
                .as_ref()
                .map(|counted| &counted.metrics.elsewhere),
        }
    }

    /// Goes on from the world that was served before: what it was told, and secondaries get what changed alone.
    ///
    /// Two views may have seen different parts of a zone under one serial. A zone has a history only if all
    /// views that see it now saw one and the same before.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.forwards = before.forwards;
        self.jar.clone_from(&before.jar);
        if let Some(counted) = &before.counted {
            self = self.counted_by(&counted.metrics);
        }
        let views = before.plan.views.iter();
        let views: HashMap<&ViewOwner, _> = views.map(|view| (&view.owner, view)).collect();
        let mut origins: HashMap<ZoneId, Option<ZoneId>> = HashMap::new();
        for view in &self.plan.views {
            let old = views.get(&view.owner);
            for (origin, id) in view.origins() {
                let seen = old.and_then(|view| view.zone_at(origin.as_wire()));
                let first = *origins.entry(id).or_insert(seen);
                if first != seen {
                    origins.insert(id, None);
                }
            }
        }
        for (id, old) in origins {
            let (Some(slot), Some(old)) =
                (self.zones.get(id.0), old.and_then(|id| before.zone(id)))
            else {
                continue;
            };
            if let Some(zone) = Arc::into_inner(slot.swap(Arc::clone(&old))) {
                slot.store(Arc::new(zone.after(&old)));
            }
        }
        self
    }

    /// Returns the servers that copy zones.
    #[must_use]
    pub fn secondaries(&self) -> &[Secondary] {
        &self.secondaries
    }

    /// Returns the secondary of a name.
    #[must_use]
    pub fn secondary(&self, name: &str) -> Option<&Secondary> {
        let mut all = self.secondaries.iter();
        all.find(|secondary| *secondary.name == *name)
    }

    /// Returns the key that signs a zone, or why there is none that can be used; `None` if it is not to be signed.
    #[must_use]
    pub fn zone_key(&self, origin: &Name) -> Option<Result<Arc<ZoneKey>, String>> {
        let mut all = self.plan.zones.iter().zip(&self.zones);
        let (_, zone) = all.find(|(spec, _)| spec.origin == *origin)?;
        match zone.load().signing() {
            Signing::Off => None,
            Signing::NoKey(why) => Some(Err(why.clone())),
            Signing::On(signatures) => Some(Ok(Arc::clone(signatures.key()))),
        }
    }

    /// Returns a zone as it is now.
    #[must_use]
    pub fn zone(&self, id: ZoneId) -> Option<Arc<Zone>> {
        self.zones.get(id.0).map(ArcSwap::load_full)
    }

    /// Calls `read` with a zone as it is now, without taking a reference of its own.
    pub(crate) fn with_zone<T>(&self, id: ZoneId, read: impl FnOnce(&Zone) -> T) -> Option<T> {
        let zone = self.zones.get(id.0)?.load();
        Some(read(&zone))
    }

    /// Makes a zone anew, after its dynamic records changed.
    pub fn refresh(&self, id: ZoneId, store: &Store) {
        if let (Some(slot), Some(spec)) = (self.zones.get(id.0), self.plan.zones.get(id.0)) {
            let zone = make_zone(&self.plan, spec, store).after(&slot.load());
            slot.store(Arc::new(zone));
        }
    }

    /// Returns the zone that a tenant may change, by its name.
    #[must_use]
    pub fn own_zone(&self, origin: &Name, tenant: &str) -> Option<(ZoneId, &ZoneSpec)> {
        let mut zones = self.plan.zones.iter().enumerate();
        zones
            .find(|(_, spec)| spec.origin == *origin && spec.tenant.as_deref() == Some(tenant))
            .map(|(index, spec)| (ZoneId(index), spec))
    }

    /// May who sends from an address be told that there is a key? A tenant's key is as much of a secret as the tenant's zone.
    pub(crate) fn may_know(&self, source: IpAddr, key: &Key) -> bool {
        match &key.holder {
            Holder::Secondary(_) => {
                let mut secondaries = self.keys.secondaries().iter();
                secondaries.any(|(_, address, _)| address.ip() == source)
            }
            Holder::Tenant(tenant) => {
                let (view, tenant) = (self.plan.view_of(source), self.plan.tenants.get(tenant));
                let zone = tenant.map(|tenant| tenant.zone.as_wire());
                view.zip(zone)
                    .is_some_and(|(view, zone)| view.zone_at(zone).is_some())
            }
        }
    }
}

/// Makes a zone of its records, and has it signed if it is to be.
fn make_zone(plan: &Plan, spec: &ZoneSpec, store: &Store) -> Zone {
    let mut contents = contents(plan, spec, store);
    let serial = serial(plan, spec, store);
    let make = |contents: &Contents| Zone::new(spec.origin.clone(), &plan.soa, serial, contents);
    if !spec.is_signed {
        return make(&contents);
    }
    let key = store.zone_keys().key(&spec.origin);
    let key = key.map_err(|error| crate::chain(&error));
    if let Ok(key) = &key {
        let contents = contents.to_mut();
        let delegations = contents.iter().filter(|(name, set)| {
            set.rtype == rtype::NS && **name != spec.origin && plan.signed.contains(*name)
        });
        let children: Vec<Name> = delegations.map(|(name, _)| name.clone()).collect();
        for child in children {
            let ds = match store.zone_keys().key(&child) {
                Ok(key) => key.ds(),
                Err(_) => key::ds_of_nobody(),
            };
            contents.add_set(&child, &ds);
        }
        for set in key.apex() {
            contents.add_set(&spec.origin, &set);
        }
    }
    make(&contents).signed_with(key)
}

/// Joins what the generation says with what was changed dynamically. Where both say the same set, the generation
/// wins; the other one is kept, and served again when the generation no longer says it.
fn contents<'s>(plan: &'s Plan, spec: &'s ZoneSpec, store: &Store) -> Cow<'s, Contents> {
    let Some(tenant) = &spec.tenant else {
        return Cow::Borrowed(&spec.contents);
    };
    let mut contents = leases::fixed(plan, spec, store);
    if let Some(dynamic) = store.zone(tenant, &spec.origin) {
        for (name, set) in dynamic.sets() {
            contents.to_mut().add_set(name, set);
        }
    }
    contents
}

/// Returns the serial of a zone with what was changed dynamically so far, whether it was made of that already or not.
#[must_use]
pub fn serial(plan: &Plan, spec: &ZoneSpec, store: &Store) -> u32 {
    let mut serial = plan.number;
    let Some(tenant) = &spec.tenant else {
        return serial;
    };
    if let Some(info) = plan.tenants.get(tenant) {
        serial = serial.wrapping_add(store.leases().serial(tenant, info));
    }
    if let Some(dynamic) = store.zone(tenant, &spec.origin) {
        serial = serial.wrapping_add(dynamic.changes);
    }
    serial
}
