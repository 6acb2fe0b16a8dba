//! Tiers, denies, first match and two-sided grants, resolved for one pair of places.

use std::collections::BTreeMap;

use netmodel::model::{PortSpec, RuleAction, RuleFrom, RuleTo, TenantId, TenantRule};

use super::classes::Place;
use super::index::Index;
use super::services::{Ports, ServiceClasses, policy_ports};
use super::trace::Cause;

/// What sources of one place may open to another.
#[derive(Debug)]
pub(super) enum Decision {
    /// Every protocol and port.
    Any(Cause),
    /// Only these service classes; none at all if empty.
    Classes(BTreeMap<u32, Cause>),
}

impl Decision {
    fn nothing() -> Self {
        Self::Classes(BTreeMap::new())
    }
}

/// Decides pair by pair.
pub(super) struct Decider<'i, 'm> {
    index: &'i Index<'m>,
    services: ServiceClasses,
    /// Ports of each policy, by its index.
    policies: Vec<Ports>,
}

impl<'i, 'm> Decider<'i, 'm> {
    pub(super) fn new(index: &'i Index<'m>) -> Self {
        let model = index.model;
        let policies: Vec<_> = model.policies.iter().map(policy_ports).collect();
        let services =
            ServiceClasses::new(policies.iter().flatten().flatten().chain(port_specs(index)));
        let ports = policies.iter().map(|specs| match specs {
            None => Ports::Any,
            Some(specs) => Ports::Classes(services.classes(specs)),
        });
        Self {
            index,
            policies: ports.collect(),
            services,
        }
    }

    /// Returns the service classes that decisions are about.
    pub(super) fn into_services(self) -> Vec<u32> {
        self.services.table
    }

    /// Decides for two places; on one segment only if its tenant has a policy for that.
    pub(super) fn decide(&self, source: &Place, destination: &Place) -> Decision {
        let from = self.index.tenant_of(source.segment);
        let to = self.index.tenant_of(destination.segment);
        match (from, to) {
            (None, None) => self.by_policy(source, destination),
            (Some(tenant), None) => self.by_service(tenant, destination),
            (None, Some(tenant)) => self.to_tenant(source, tenant, destination),
            (Some(from), Some(to)) if from == to => self.within(to, source, destination),
            (Some(from), Some(to)) => self.between(from, source, to, destination),
        }
    }

    /// Platform tier between segments: the first zone policy that matches.
    fn by_policy(&self, source: &Place, destination: &Place) -> Decision {
        let mut allowed = BTreeMap::new();
        for &i in self.index.policies_from(source.segment) {
            let policy = &self.index.model.policies[i];
            let matches = self.index.is_in_zone(policy.to, destination.segment)
                && policy
                    .source_net
                    .is_none_or(|net| net.contains(&source.net))
                && policy
                    .destination_net
                    .is_none_or(|net| net.contains(&destination.net));
            if !matches {
                continue;
            }
            match &self.policies[i] {
                Ports::Any => return Decision::Any(Cause::Policy(i)),
                Ports::Classes(classes) => {
                    for &class in classes {
                        allowed.entry(class).or_insert(Cause::Policy(i));
                    }
                }
            }
        }
        Decision::Classes(allowed)
    }

    /// Platform tier from a tenant to the platform: granted services at that address.
    fn by_service(&self, tenant: TenantId, destination: &Place) -> Decision {
        if destination.net.prefix_len() != destination.net.max_prefix_len() {
            return Decision::nothing();
        }
        let at_address = self.index.services_at(destination.net.addr());
        let mut allowed = BTreeMap::new();
        for &(id, _) in &self.index.model.tenant(tenant).services {
            if at_address.contains(&id) {
                for class in self.services.classes(&self.index.model.service(id).ports) {
                    allowed.entry(class).or_insert(Cause::Service(id));
                }
            }
        }
        Decision::Classes(allowed)
    }

    /// From the platform to a tenant: the platform tier, then what it left open.
    fn to_tenant(&self, source: &Place, tenant: TenantId, destination: &Place) -> Decision {
        let mut allowed = match self.by_policy(source, destination) {
            Decision::Any(cause) => return Decision::Any(cause),
            Decision::Classes(classes) => classes,
        };
        let operators = &self.index.model.tenant(tenant).trusted_operators;
        if operators.iter().any(|(zone, _)| *zone == source.segment) {
            return Decision::Any(Cause::Operator(source.segment));
        }
        for (class, cause) in self.by_request(source, tenant, destination) {
            allowed.entry(class).or_insert(cause);
        }
        Decision::Classes(allowed)
    }

    /// Tenant tier for requests: an allow counts together with the platform's consent.
    fn by_request(
        &self,
        source: &Place,
        tenant: TenantId,
        destination: &Place,
    ) -> BTreeMap<u32, Cause> {
        let mut accepted = BTreeMap::new();
        for (accept, half) in self.index.model.tenant(tenant).accepts.iter().enumerate() {
            if half.from == source.segment {
                for class in self.services.classes(&half.ports) {
                    accepted.entry(class).or_insert(accept);
                }
            }
        }
        let mut allowed = BTreeMap::new();
        for (rule, said) in self.matching_rules(tenant, source, destination) {
            for class in self.decided_by(said, accepted.keys()) {
                let Some(accept) = accepted.remove(&class) else {
                    continue;
                };
                if said.action == RuleAction::Allow {
                    allowed.insert(
                        class,
                        Cause::Request {
                            tenant,
                            rule,
                            accept,
                        },
                    );
                }
            }
        }
        allowed
    }

    /// Between a tenant's own hosts: its first matching rule decides. Without one it is allowed, but not inside of a segment
    /// whose hosts are isolated.
    fn within(&self, tenant: TenantId, source: &Place, destination: &Place) -> Decision {
        let mut decided: BTreeMap<u32, Option<Cause>> = BTreeMap::new();
        let isolated =
            source.segment == destination.segment && self.index.model.tenant(tenant).isolate_hosts;
        let mut rest = (!isolated).then_some(Cause::SameTenant);
        for (rule, said) in self.matching_rules(tenant, source, destination) {
            let outcome =
                (said.action == RuleAction::Allow).then_some(Cause::OwnRule { tenant, rule });
            match self.services.ports(&said.ports) {
                Ports::Any => {
                    rest = outcome;
                    break;
                }
                Ports::Classes(classes) => {
                    for class in classes {
                        decided.entry(class).or_insert(outcome);
                    }
                }
            }
        }
        if let Some(rest) = rest {
            if decided.values().all(Option::is_some) {
                return Decision::Any(rest);
            }
            for class in 0..self.services.count {
                decided.entry(class).or_insert(Some(rest));
            }
        }
        let allowed = decided.into_iter();
        Decision::Classes(
            allowed
                .filter_map(|(class, cause)| Some((class, cause?)))
                .collect(),
        )
    }

    /// Between two tenants: offered and used, and not denied by the offerer's first matching rule.
    fn between(
        &self,
        from: TenantId,
        source: &Place,
        to: TenantId,
        destination: &Place,
    ) -> Decision {
        let mut offered = BTreeMap::new();
        for (i, exchange) in self.index.exchanges_of(to) {
            let offer = &self.index.model.tenant(to).offers[exchange.offer];
            if exchange.consumer == from && is_to(offer.to, destination) {
                for class in self.services.classes(&offer.ports) {
                    offered.entry(class).or_insert(Cause::Exchange(i));
                }
            }
        }
        let mut allowed = BTreeMap::new();
        for (_, said) in self.matching_rules(to, source, destination) {
            for class in self.decided_by(said, offered.keys()) {
                if let Some(cause) = offered.remove(&class)
                    && said.action == RuleAction::Allow
                {
                    allowed.insert(class, cause);
                }
            }
        }
        allowed.extend(offered);
        Decision::Classes(allowed)
    }

    fn matching_rules(
        &self,
        tenant: TenantId,
        source: &Place,
        destination: &Place,
    ) -> impl Iterator<Item = (usize, &TenantRule)> {
        let rules = self.index.model.tenant(tenant).rules.iter().enumerate();
        rules.filter(move |(_, rule)| {
            is_from(self.index, rule.from, source) && is_to(rule.to, destination)
        })
    }

    /// Returns which of the open classes the rule is about.
    fn decided_by<'c>(&self, rule: &TenantRule, open: impl Iterator<Item = &'c u32>) -> Vec<u32> {
        match self.services.ports(&rule.ports) {
            Ports::Any => open.copied().collect(),
            Ports::Classes(classes) => open
                .filter(|class| classes.contains(class))
                .copied()
                .collect(),
        }
    }
}

/// Returns the ports that services, consents and the tenant rules that can matter speak of.
fn port_specs<'m>(index: &Index<'m>) -> Vec<&'m PortSpec> {
    let model = index.model;
    let mut specs: Vec<_> = model.services.iter().flat_map(|s| &s.ports).collect();
    for id in index
        .tenants()
        .filter(|&id| index.is_distinct_destination(id))
    {
        let tenant = model.tenant(id);
        specs.extend(tenant.accepts.iter().flat_map(|accept| &accept.ports));
        specs.extend(tenant.rules.iter().flat_map(|rule| &rule.ports));
        specs.extend(tenant.offers.iter().flat_map(|offer| &offer.ports));
    }
    specs
}

fn is_from(index: &Index, from: RuleFrom, source: &Place) -> bool {
    match from {
        RuleFrom::Zone(segment) | RuleFrom::Segment(segment) => source.segment == segment,
        RuleFrom::Host(host) => source.host == Some(host),
        RuleFrom::Tenant(tenant) => index.tenant_of(source.segment) == Some(tenant),
        RuleFrom::Cidr(net) => net.contains(&source.net),
    }
}

fn is_to(to: RuleTo, destination: &Place) -> bool {
    match to {
        RuleTo::Host(host) => destination.host == Some(host),
        RuleTo::Segment(segment) => destination.segment == segment,
    }
}
