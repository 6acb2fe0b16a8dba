//! Why a case is decided as it is: the rule and its places, or what is missing.

use std::fmt;

use dataplane_common::reason::DropReason;
use netmodel::Model;
use netmodel::model::{
    Origin, Owner, PortSpec, Protocol, RuleAction, RuleFrom, RuleTo, SegmentId, Tenant, TenantId,
    TenantRule,
};

use super::{Case, Site};
use crate::compile::{Connection, Tier, Verdict};
use crate::reasons;

/// Why a case is decided as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Because {
    /// The tier that decides.
    pub tier: Tier,
    /// The drop reason, if it is denied.
    pub reason: Option<DropReason>,
    /// The rule, or what is missing, in words.
    pub text: String,
    /// Where it is said.
    pub origins: Vec<Origin>,
}

impl Because {
    fn deny(tier: Tier, reason: DropReason, text: String, origins: Vec<Origin>) -> Self {
        Self {
            tier,
            reason: Some(reason),
            text,
            origins,
        }
    }
}

impl Because {
    /// Do both ends talk directly, without asking the router?
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.reason == Some(DropReason::SameSegment)
    }
}

impl fmt::Display for Because {
    /// `platform tier: zone policy x`, or `baseline tier, no-policy: nothing allows it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tier, text, .. } = self;
        match self.reason {
            None => write!(f, "{tier} tier: {text}"),
            Some(_) if self.is_direct() => f.write_str(text),
            Some(reason) => write!(f, "{tier} tier, {reason}: {text}"),
        }
    }
}

/// Tells why.
#[must_use]
pub fn because(site: &Site<'_>, case: &Case) -> Because {
    match case.verdict {
        Verdict::Allow(id) => because_allowed(site, case, id),
        Verdict::Deny(reason) => because_denied(site, case, reason),
    }
}

fn because_allowed(site: &Site<'_>, case: &Case, id: u32) -> Because {
    let tenant = tenant_on(site.model, case.from.vlan_id);
    let tenant = tenant.or_else(|| tenant_on(site.model, case.to.vlan_id));
    match site.tables.rule(id) {
        Some(entry) => Because {
            tier: entry.tier,
            reason: None,
            text: entry.text.clone(),
            origins: entry.origins_for(tenant).cloned().collect(),
        },
        None => Because {
            tier: Tier::Platform,
            reason: None,
            text: "built-in rule".to_owned(),
            origins: Vec::new(),
        },
    }
}

fn because_denied(site: &Site<'_>, case: &Case, reason: DropReason) -> Because {
    let model = site.model;
    let wish = Wish {
        model,
        connection: case.connection(),
        to_vlan: case.to.vlan_id,
    };
    let to = tenant_on(model, case.to.vlan_id);
    let from = tenant_on(model, case.from.vlan_id);
    let told = match (reason, from, to) {
        (DropReason::TenantRule | DropReason::NoPolicy, _, Some(to)) => wish.tell_rule(to, reason),
        (DropReason::OtherTenant, Some(from), Some(to)) => wish.tell_offer(from, to),
        (DropReason::PlatformAddress, Some(from), _) => wish.tell_service(from),
        (DropReason::SameSegment, ..) => Some(Because::deny(
            Tier::Platform,
            reason,
            "hosts of one segment talk directly, the router is not asked".to_owned(),
            Vec::new(),
        )),
        _ => None,
    };
    told.unwrap_or_else(|| {
        let is_undecided = [
            DropReason::NoPolicy,
            DropReason::OtherTenant,
            DropReason::InternetDenied,
        ]
        .contains(&reason);
        let tier = if is_undecided {
            Tier::Baseline
        } else {
            Tier::Platform
        };
        let text = reasons::summary(reason).to_owned();
        Because::deny(tier, reason, text, Vec::new())
    })
}

/// A denied connection, to be compared with what the inventory says.
struct Wish<'m> {
    model: &'m Model,
    connection: Connection,
    to_vlan: u16,
}

impl Wish<'_> {
    /// The first rule of the destination's tenant that matches, or the half that is missing.
    fn tell_rule(&self, to: TenantId, reason: DropReason) -> Option<Because> {
        let tenant = self.model.tenant(to);
        let origin = |rule: &TenantRule| vec![rule.origin.clone()];
        match self.first_rule(tenant) {
            Some(rule) if rule.action == RuleAction::Deny => {
                let text = format!("rule `{}` of tenant {} denies it", rule.name, tenant.name);
                Some(Because::deny(Tier::Tenant, reason, text, origin(rule)))
            }
            Some(rule) if reason == DropReason::NoPolicy => {
                let text = format!(
                    "rule `{}` of tenant {} waits for the platform's half (`accepts`)",
                    rule.name, tenant.name
                );
                Some(Because::deny(Tier::Baseline, reason, text, origin(rule)))
            }
            Some(_) | None => {
                let mut accepts = tenant.accepts.iter();
                let accept = accepts.find(|accept| {
                    self.is_from_segment(accept.from) && self.is_on(&accept.ports)
                })?;
                let text = format!("`accepts` waits for a rule of tenant {}", tenant.name);
                let origins = vec![accept.origin.clone()];
                Some(Because::deny(Tier::Baseline, reason, text, origins))
            }
        }
    }

    /// The rule that denies what is offered and used, or the half that is missing.
    fn tell_offer(&self, from: TenantId, to: TenantId) -> Option<Because> {
        let reason = DropReason::OtherTenant;
        let (user, offerer) = (self.model.tenant(from), self.model.tenant(to));
        let mut offers = offerer.offers.iter().filter(|offer| {
            offer.consumers.contains(&from) && self.is_to(offer.to) && self.is_on(&offer.ports)
        });
        let offer = offers.next()?;
        let mut uses = user.uses.iter().filter(|half| half.tenant == to);
        if uses.any(|half| half.offer == offer.name) {
            return self.tell_rule(to, reason);
        }
        let text = format!(
            "offer `{}` waits for its use by tenant {}",
            offer.name, user.name
        );
        Some(Because::deny(
            Tier::Baseline,
            reason,
            text,
            vec![offer.origin.clone()],
        ))
    }

    /// A service that exists, but is not granted.
    fn tell_service(&self, from: TenantId) -> Option<Because> {
        let address = self.connection.destination;
        let tenant = self.model.tenant(from);
        let service = self.model.services.iter().find(|service| {
            let ipv4 = service.ipv4.is_some_and(|own| address == own);
            (ipv4 || service.ipv6.is_some_and(|own| address == own)) && self.is_on(&service.ports)
        })?;
        let text = format!(
            "service `{}` is not granted to tenant {}",
            service.name, tenant.name
        );
        let origins = vec![service.origin.clone(), tenant.origin.clone()];
        Some(Because::deny(
            Tier::Platform,
            DropReason::PlatformAddress,
            text,
            origins,
        ))
    }

    fn first_rule<'t>(&self, tenant: &'t Tenant) -> Option<&'t TenantRule> {
        tenant.rules.iter().find(|rule| {
            let is_on = rule.ports.is_empty() || self.is_on(&rule.ports);
            is_on && self.is_from(rule.from) && self.is_to(rule.to)
        })
    }

    fn is_from(&self, from: RuleFrom) -> bool {
        let source = self.connection.source;
        match from {
            RuleFrom::Zone(id) | RuleFrom::Segment(id) => self.is_from_segment(id),
            RuleFrom::Host(id) => has_address(self.model, id, source),
            RuleFrom::Tenant(id) => tenant_on(self.model, self.connection.vlan_id) == Some(id),
            RuleFrom::Cidr(net) => net.contains(&source),
        }
    }

    fn is_from_segment(&self, id: SegmentId) -> bool {
        self.model.segment(id).vlan_id.as_u16() == self.connection.vlan_id
    }

    fn is_to(&self, to: RuleTo) -> bool {
        match to {
            RuleTo::Host(id) => has_address(self.model, id, self.connection.destination),
            RuleTo::Segment(id) => self.model.segment(id).vlan_id.as_u16() == self.to_vlan,
        }
    }

    fn is_on(&self, ports: &[PortSpec]) -> bool {
        let Connection { protocol, port, .. } = self.connection;
        ports.iter().any(|spec| match spec.protocol {
            Protocol::Icmp => matches!(protocol, 1 | 58),
            Protocol::Tcp => protocol == 6 && spec.ports.contains(&port),
            Protocol::Udp => protocol == 17 && spec.ports.contains(&port),
        })
    }
}

fn has_address(model: &Model, host: netmodel::model::HostId, address: std::net::IpAddr) -> bool {
    model.host(host).interfaces.iter().any(|interface| {
        interface.ipv4.is_some_and(|own| address == own)
            || interface.ipv6.is_some_and(|own| address == own)
    })
}

/// Returns the tenant that owns the segment of a VLAN id.
fn tenant_on(model: &Model, vlan_id: u16) -> Option<TenantId> {
    let segment = model
        .segments
        .iter()
        .find(|segment| segment.vlan_id.as_u16() == vlan_id)?;
    match segment.owner {
        Owner::Platform => None,
        Owner::Tenant(tenant) => Some(tenant),
    }
}
