//! `--tenant NAME`: one tenant's part of a change, and nothing else of it.
//!
//! # Guarantees
//!
//! * What [`merged`] returns is the old model, but for everything that the tenant owns: its registry
//!   entry with all grants, its segments, hosts, rules, offers, uses, records and reservations.
//! * It keeps the orders and ids that [`netmodel::model`] promises: each model was checked on its own,
//!   and what only a mix of the two can break is checked here.

mod clash;
mod error;
mod names;
#[cfg(test)]
mod tests;

use netmodel::Model;
use netmodel::model::{
    Host, Owner, Peer, PeerKind, PlatformService, Reservation, Router, RuleFrom, RuleTo, Segment,
    SegmentId, Tenant, TenantId, TenantKind, TenantRule, Zone, ZonePolicy,
};

pub use self::error::MergeError;
use self::names::Names;

/// Returns the old model with everything of one tenant as the new model has it.
///
/// # Errors
///
/// Every reason why the tenant's part cannot be applied without the rest of the change.
pub fn merged(old: &Model, new: &Model, tenant: &str) -> Result<Model, Vec<MergeError>> {
    let is_known = |model: &Model| model.tenants.iter().any(|t| t.name.as_str() == tenant);
    if !is_known(old) && !is_known(new) {
        return Err(vec![MergeError::NoTenant {
            tenant: tenant.to_owned(),
        }]);
    }
    let mut merge = Merge::new(old, new, tenant);
    merge.check_site();
    let model = merge.model();
    let mut errors = merge.errors;
    errors.extend(clash::check(&model, tenant));
    if errors.is_empty() {
        Ok(model)
    } else {
        Err(errors)
    }
}

/// A merge under way.
struct Merge<'m> {
    old: &'m Model,
    new: &'m Model,
    /// The tenant's name.
    tenant: &'m str,
    /// Every tenant of the result, by name, with the model it comes from.
    tenants: Vec<(&'m Model, TenantId)>,
    /// Where everything is in the result.
    names: Names<'m>,
    errors: Vec<MergeError>,
}

impl<'m> Merge<'m> {
    fn new(old: &'m Model, new: &'m Model, tenant: &'m str) -> Self {
        let of = |model: &'m Model, is_ours: bool| {
            let tenants = model.tenants.iter().enumerate();
            let tenants = tenants.filter(move |(_, t)| (t.name.as_str() == tenant) == is_ours);
            tenants.map(move |(i, _)| (model, TenantId(i)))
        };
        let mut tenants: Vec<_> = of(old, false).chain(of(new, true)).collect();
        tenants.sort_by_key(|(model, id)| &model.tenant(*id).name);
        let mut merge = Self {
            old,
            new,
            tenant,
            names: Names::default(),
            tenants,
            errors: Vec::new(),
        };
        merge.names = Names::new(&merge);
        merge
    }

    /// The tenant's names lie in the site's: the site must be called the same in both.
    fn check_site(&mut self) {
        for (key, old, new) in [
            ("site_name", &self.old.site_name, &self.new.site_name),
            ("site_domain", &self.old.site_domain, &self.new.site_domain),
        ] {
            if old != new {
                self.errors.push(MergeError::SiteRenamed {
                    key,
                    old: old.clone(),
                    new: new.clone(),
                });
            }
        }
    }

    /// Things of one kind in the order of the model: the platform's, then each tenant's.
    fn owned<T>(
        &self,
        all: fn(&'m Model) -> &'m [T],
        owner: fn(&T) -> Owner,
    ) -> Vec<(&'m Model, usize)> {
        let of = |model: &'m Model, wanted: Owner| {
            let items = all(model).iter().enumerate();
            let items = items.filter(move |(_, item)| owner(item) == wanted);
            items.map(move |(i, _)| (model, i))
        };
        let tenants = self.tenants.iter();
        let tenants = tenants.flat_map(|&(model, id)| of(model, Owner::Tenant(id)));
        of(self.old, Owner::Platform).chain(tenants).collect()
    }

    fn model(&mut self) -> Model {
        let old = self.old;
        let segments = self.owned(|model| &model.segments, |segment| segment.owner);
        let hosts = self.owned(|model| &model.hosts, |host| host.owner);
        let mut model = Model {
            segments: segments
                .iter()
                .map(|&(model, i)| self.segment(model, &model.segments[i]))
                .collect(),
            hosts: hosts
                .iter()
                .map(|&(model, i)| self.host(model, &model.hosts[i]))
                .collect(),
            tenants: Vec::new(),
            routers: old.routers.iter().map(|r| self.router(r)).collect(),
            policies: old.policies.iter().map(|p| self.policy(p)).collect(),
            services: old.services.iter().map(|s| self.service(s)).collect(),
            reservations: self.reservations(),
            records: self.records(),
            protected_flows: Vec::new(),
            policy_tests: Vec::new(),
            ..old.clone()
        };
        for entry in &mut model.internet_zones {
            entry.zone = self.zone(old, entry.zone);
        }
        for (source, id) in self.tenants.clone() {
            let tenant = self.tenant(source, id);
            model.tenants.push(tenant);
        }
        self.expectations(&mut model);
        model
    }

    /// Platform segments are the old model's in the result, so an old one is always found.
    fn old_segment(&self, id: SegmentId) -> SegmentId {
        self.names.segment(self.old, id).unwrap_or(id)
    }

    fn owner(&self, model: &Model, owner: Owner) -> Owner {
        match owner {
            Owner::Platform => Owner::Platform,
            Owner::Tenant(id) => Owner::Tenant(self.names.tenant(model, id).unwrap_or(id)),
        }
    }

    fn segment(&self, model: &Model, segment: &Segment) -> Segment {
        let owner = self.owner(model, segment.owner);
        Segment {
            owner,
            vpc_id: self.vpc_id(owner),
            ..segment.clone()
        }
    }

    /// Address plans are numbered in the order of the tenants that have one.
    fn vpc_id(&self, owner: Owner) -> u32 {
        let is_vpc = |(model, id): &(&Model, TenantId)| model.tenant(*id).kind == TenantKind::Vpc;
        match owner {
            Owner::Tenant(TenantId(i)) if is_vpc(&self.tenants[i]) => {
                let before = self.tenants[..=i].iter().filter(|tenant| is_vpc(tenant));
                u32::try_from(before.count()).expect("there are fewer tenants than VLAN ids")
            }
            Owner::Tenant(_) | Owner::Platform => 0,
        }
    }

    fn host(&self, model: &Model, host: &Host) -> Host {
        let mut host = Host {
            owner: self.owner(model, host.owner),
            ..host.clone()
        };
        for interface in &mut host.interfaces {
            let segment = interface.segment;
            interface.segment = segment.and_then(|id| self.names.segment(model, id));
        }
        host
    }

    fn router(&self, router: &Router) -> Router {
        let host = self.names.host(self.old, router.host);
        Router {
            host: host.unwrap_or(router.host),
            native_segment: router.native_segment.map(|id| self.old_segment(id)),
            ..router.clone()
        }
    }

    fn zone(&self, model: &Model, zone: Zone) -> Zone {
        match zone {
            Zone::Segment(id) => Zone::Segment(self.names.segment(model, id).unwrap_or(id)),
            Zone::Tenants => Zone::Tenants,
        }
    }

    fn policy(&self, policy: &ZonePolicy) -> ZonePolicy {
        ZonePolicy {
            from: self.zone(self.old, policy.from),
            to: self.zone(self.old, policy.to),
            ..policy.clone()
        }
    }

    fn service(&self, service: &PlatformService) -> PlatformService {
        PlatformService {
            segment: self.old_segment(service.segment),
            ..service.clone()
        }
    }

    fn is_ours(&self, model: &Model, owner: Owner) -> bool {
        match owner {
            Owner::Platform => false,
            Owner::Tenant(id) => model.tenant(id).name.as_str() == self.tenant,
        }
    }

    fn reservations(&self) -> Vec<Reservation> {
        let of = |model: &'m Model, is_ours: bool| {
            let reservations = model.reservations.iter().filter(move |reservation| {
                self.is_ours(model, model.segment(reservation.segment).owner) == is_ours
            });
            reservations.filter_map(move |reservation| {
                Some(Reservation {
                    segment: self.names.segment(model, reservation.segment)?,
                    host: self.names.host(model, reservation.host)?,
                    ..reservation.clone()
                })
            })
        };
        let mut reservations: Vec<_> = of(self.old, false).chain(of(self.new, true)).collect();
        reservations.sort_by_key(|reservation| (reservation.segment, reservation.ipv4));
        reservations
    }

    fn records(&self) -> Vec<netmodel::model::DnsRecord> {
        let zone = format!(
            "{}.{}.{}",
            self.tenant, self.old.site_name, self.old.site_domain
        );
        let olds = self.old.records.iter().filter(|record| record.zone != zone);
        let news = self.new.records.iter().filter(|record| record.zone == zone);
        let mut records: Vec<_> = olds.chain(news).cloned().collect();
        records.sort();
        records
    }

    /// Converts a tenant. What others say about a tenant that is gone goes with it.
    fn tenant(&mut self, model: &'m Model, id: TenantId) -> Tenant {
        let tenant = model.tenant(id);
        let mut grants = Grants {
            merge: self,
            model,
            tenant,
            missing: Vec::new(),
        };
        let merged = grants.tenant();
        let missing = grants.missing;
        self.errors.extend(missing);
        merged
    }

    /// `protected_flows` and `policy_tests` of the site, which may name the tenant's hosts.
    fn expectations(&mut self, model: &mut Model) {
        for flow in &self.old.protected_flows {
            let mut flow = flow.clone();
            for peer in [&mut flow.from, &mut flow.to] {
                self.peer(peer, "protected flow", &flow.origin);
            }
            model.protected_flows.push(flow);
        }
        for test in &self.old.policy_tests {
            let mut test = test.clone();
            for peer in [&mut test.from, &mut test.to] {
                self.peer(peer, "policy test", &test.origin);
            }
            model.policy_tests.push(test);
        }
    }

    fn peer(&mut self, peer: &mut Peer, what: &'static str, origin: &netmodel::model::Origin) {
        let (names, old) = (&self.names, self.old);
        let found = match peer.kind {
            PeerKind::Host(id) => names.host(old, id).map(PeerKind::Host),
            PeerKind::Tenant(id) => names.tenant(old, id).map(PeerKind::Tenant),
            PeerKind::Zone(zone) => Some(PeerKind::Zone(self.zone(old, zone))),
            kind @ (PeerKind::Address(_) | PeerKind::Internet) => Some(kind),
        };
        match found {
            Some(kind) => peer.kind = kind,
            None => self.errors.push(MergeError::StillNamed {
                name: peer.text.clone(),
                what,
                origin: origin.clone(),
            }),
        }
    }
}

/// What a tenant names that is not its own.
struct Grants<'g, 'm> {
    merge: &'g Merge<'m>,
    model: &'m Model,
    tenant: &'m Tenant,
    missing: Vec<MergeError>,
}

impl Grants<'_, '_> {
    fn tenant(&mut self) -> Tenant {
        let (merge, model, tenant) = (self.merge, self.model, self.tenant);
        let names = &merge.names;
        let mut merged = Tenant {
            services: Vec::new(),
            trusted_operators: Vec::new(),
            accepts: Vec::new(),
            rules: Vec::new(),
            offers: Vec::new(),
            uses: Vec::new(),
            segments: Vec::new(),
            ..tenant.clone()
        };
        let segments = tenant.segments.iter();
        merged.segments = segments
            .filter_map(|&id| names.segment(model, id))
            .collect();
        for (id, origin) in &tenant.services {
            let name = &model.service(*id).name;
            if let Some(id) = self.found(names.service(model, *id), "service", name, origin) {
                merged.services.push((id, origin.clone()));
            }
        }
        for (id, origin) in &tenant.trusted_operators {
            if let Some(id) = self.zone(*id, origin) {
                merged.trusted_operators.push((id, origin.clone()));
            }
        }
        for accept in &tenant.accepts {
            if let Some(from) = self.zone(accept.from, &accept.origin) {
                let accept = accept.clone();
                merged
                    .accepts
                    .push(netmodel::model::Accept { from, ..accept });
            }
        }
        merged
            .rules
            .extend(tenant.rules.iter().filter_map(|rule| self.rule(rule)));
        self.halves(&mut merged);
        merged
    }

    /// Offers and uses.
    fn halves(&mut self, merged: &mut Tenant) {
        for offer in &self.tenant.offers {
            let mut offer = offer.clone();
            let origin = offer.origin.clone();
            let consumers = std::mem::take(&mut offer.consumers);
            for id in consumers {
                offer.consumers.extend(self.other(id, &origin));
            }
            if let Some(to) = self.to(offer.to) {
                offer.to = to;
                merged.offers.push(offer);
            }
        }
        for half in &self.tenant.uses {
            if let Some(tenant) = self.other(half.tenant, &half.origin) {
                let half = half.clone();
                merged
                    .uses
                    .push(netmodel::model::TenantUse { tenant, ..half });
            }
        }
    }

    fn rule(&mut self, rule: &TenantRule) -> Option<TenantRule> {
        let (model, names) = (self.model, &self.merge.names);
        let from = match rule.from {
            RuleFrom::Zone(id) => RuleFrom::Zone(self.zone(id, &rule.origin)?),
            RuleFrom::Segment(id) => RuleFrom::Segment(names.segment(model, id)?),
            RuleFrom::Host(id) => RuleFrom::Host(names.host(model, id)?),
            RuleFrom::Tenant(id) => RuleFrom::Tenant(self.other(id, &rule.origin)?),
            RuleFrom::Cidr(net) => RuleFrom::Cidr(net),
        };
        let to = self.to(rule.to)?;
        Some(TenantRule {
            from,
            to,
            ..rule.clone()
        })
    }

    fn to(&self, to: RuleTo) -> Option<RuleTo> {
        let (model, names) = (self.model, &self.merge.names);
        match to {
            RuleTo::Host(id) => names.host(model, id).map(RuleTo::Host),
            RuleTo::Segment(id) => names.segment(model, id).map(RuleTo::Segment),
        }
    }

    fn zone(&mut self, id: SegmentId, origin: &netmodel::model::Origin) -> Option<SegmentId> {
        let name = self.model.segment(id).name.to_string();
        let found = self.merge.names.segment(self.model, id);
        self.found(found, "zone", &name, origin)
    }

    /// Another tenant. That the merged tenant is gone is nothing missing: it is the change.
    fn other(&mut self, id: TenantId, origin: &netmodel::model::Origin) -> Option<TenantId> {
        let name = self.model.tenant(id).name.to_string();
        let found = self.merge.names.tenant(self.model, id);
        if name == self.merge.tenant {
            return found;
        }
        self.found(found, "tenant", &name, origin)
    }

    fn found<T>(
        &mut self,
        found: Option<T>,
        what: &'static str,
        name: &str,
        origin: &netmodel::model::Origin,
    ) -> Option<T> {
        if found.is_none() {
            self.missing.push(MergeError::NotApplied {
                tenant: self.tenant.name.clone(),
                what,
                name: name.to_owned(),
                origin: origin.clone(),
            });
        }
        found
    }
}
