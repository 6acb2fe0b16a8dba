//! The decision trace: why an entry is in the tables, back to file and line.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use netmodel::Model;
use netmodel::model::{Origin, SegmentId, ServiceId, TenantId};
use serde::Serialize;

use super::index::Exchange;
use super::number;

/// Who decides: evaluation goes from the first to the last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The site's own rules; no tenant can override them.
    Platform,
    /// The tenants' rules, offers and uses.
    Tenant,
    /// What nothing else decided is denied.
    Baseline,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Platform => "platform",
            Self::Tenant => "tenant",
            Self::Baseline => "baseline",
        })
    }
}

/// One rule that allows something. Its index in [`super::Tables::trace`] is its *rule id*.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TraceEntry {
    /// The rule in words.
    pub text: String,
    /// The tier it belongs to.
    pub tier: Tier,
    /// Where it is said; both places if it takes two halves.
    pub origins: Vec<Origin>,
    /// Where each tenant is given its part, for rules that many tenants share.
    pub grants: BTreeMap<TenantId, Origin>,
}

impl TraceEntry {
    pub(super) fn new(text: impl Into<String>, tier: Tier, origins: Vec<Origin>) -> Self {
        Self {
            text: text.into(),
            tier,
            origins,
            grants: BTreeMap::new(),
        }
    }

    /// Returns every place that says it, for a connection that the given tenant takes part in.
    pub fn origins_for(&self, tenant: Option<TenantId>) -> impl Iterator<Item = &Origin> {
        let grant = tenant.and_then(|tenant| self.grants.get(&tenant));
        self.origins.iter().chain(grant)
    }
}

/// What makes the compiler allow something.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Cause {
    /// `firewall_zone_policies`.
    Policy(usize),
    /// `trusted_operators`.
    Operator(SegmentId),
    /// A granted platform service.
    Service(ServiceId),
    /// A tenant rule and the platform's consent to it.
    Request {
        tenant: TenantId,
        rule: usize,
        accept: usize,
    },
    /// An offer and its use.
    Exchange(usize),
    /// A tenant rule between the tenant's own segments.
    OwnRule { tenant: TenantId, rule: usize },
    /// Nothing forbids it between a tenant's own segments.
    SameTenant,
}

/// The trace while it is written: each cause is told once.
pub(super) struct Trace<'m> {
    model: &'m Model,
    exchanges: &'m [Exchange],
    ids: HashMap<Cause, u32>,
    pub(super) entries: Vec<TraceEntry>,
}

impl<'m> Trace<'m> {
    pub(super) fn new(model: &'m Model, exchanges: &'m [Exchange]) -> Self {
        let nothing = TraceEntry::new("no rule", Tier::Baseline, Vec::new());
        Self {
            model,
            exchanges,
            ids: HashMap::new(),
            entries: vec![nothing],
        }
    }

    /// Returns the rule id of the cause.
    pub(super) fn id(&mut self, cause: Cause) -> u32 {
        if let Some(&id) = self.ids.get(&cause) {
            return id;
        }
        let entry = self.tell(cause);
        let id = self.push(entry);
        self.ids.insert(cause, id);
        id
    }

    /// Adds an entry that no cause stands for.
    pub(super) fn push(&mut self, entry: TraceEntry) -> u32 {
        let id = number(self.entries.len());
        self.entries.push(entry);
        id
    }

    fn tell(&self, cause: Cause) -> TraceEntry {
        let model = self.model;
        match cause {
            Cause::Policy(i) => {
                let policy = &model.policies[i];
                let text = format!("zone policy `{}`", policy.name);
                TraceEntry::new(text, Tier::Platform, vec![policy.origin.clone()])
            }
            Cause::Operator(zone) => self.tell_operator(zone),
            Cause::Service(id) => self.tell_service(id),
            Cause::Request {
                tenant,
                rule,
                accept,
            } => {
                let tenant = model.tenant(tenant);
                let (rule, accept) = (&tenant.rules[rule], &tenant.accepts[accept]);
                TraceEntry::new(
                    format!("rule `{}` of tenant {}, accepted", rule.name, tenant.name),
                    Tier::Tenant,
                    vec![rule.origin.clone(), accept.origin.clone()],
                )
            }
            Cause::Exchange(i) => self.tell_exchange(&self.exchanges[i]),
            Cause::OwnRule { tenant, rule } => {
                let tenant = model.tenant(tenant);
                let rule = &tenant.rules[rule];
                let text = format!("rule `{}` of tenant {}", rule.name, tenant.name);
                TraceEntry::new(text, Tier::Tenant, vec![rule.origin.clone()])
            }
            Cause::SameTenant => TraceEntry {
                grants: self.grants(|tenant| Some(model.tenant(tenant).origin.clone())),
                ..TraceEntry::new("segments of one tenant", Tier::Tenant, Vec::new())
            },
        }
    }

    fn tell_operator(&self, zone: SegmentId) -> TraceEntry {
        let text = format!("trusted operator `{}`", self.model.segment(zone).name);
        TraceEntry {
            grants: self.grants(|tenant| {
                let operators = &self.model.tenant(tenant).trusted_operators;
                let found = operators.iter().find(|(id, _)| *id == zone);
                found.map(|(_, origin)| origin.clone())
            }),
            ..TraceEntry::new(text, Tier::Platform, Vec::new())
        }
    }

    fn tell_service(&self, id: ServiceId) -> TraceEntry {
        let service = self.model.service(id);
        let text = format!("platform service `{}`, granted", service.name);
        TraceEntry {
            grants: self.grants(|tenant| {
                let services = &self.model.tenant(tenant).services;
                let found = services.iter().find(|(granted, _)| *granted == id);
                found.map(|(_, origin)| origin.clone())
            }),
            ..TraceEntry::new(text, Tier::Platform, vec![service.origin.clone()])
        }
    }

    fn tell_exchange(&self, exchange: &Exchange) -> TraceEntry {
        let offerer = self.model.tenant(exchange.offerer);
        let consumer = self.model.tenant(exchange.consumer);
        let offer = &offerer.offers[exchange.offer];
        TraceEntry::new(
            format!(
                "offer `{}` of tenant {}, used by {}",
                offer.name, offerer.name, consumer.name
            ),
            Tier::Tenant,
            vec![
                offer.origin.clone(),
                consumer.uses[exchange.uses].origin.clone(),
            ],
        )
    }

    fn grants(&self, of: impl Fn(TenantId) -> Option<Origin>) -> BTreeMap<TenantId, Origin> {
        let tenants = (0..self.model.tenants.len()).map(TenantId);
        tenants
            .filter_map(|tenant| Some((tenant, of(tenant)?)))
            .collect()
    }
}
