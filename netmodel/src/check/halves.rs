//! Grants that need two halves: requests and accepts, offers and uses.

use std::collections::HashSet;

use super::draft::Draft;
use super::lints::{covers, zone_name};
use crate::finding::{Code, Finding};
use crate::model::{RuleAction, RuleFrom, SegmentId, TenantId, TenantRule, Zone};
use crate::source::Place;

/// Warns of halves that wait for the other one.
pub(crate) fn check(draft: &mut Draft) {
    let mut found = Vec::new();
    for index in 0..draft.tenants.len() {
        let id = TenantId(index);
        check_requests(draft, id, &mut found);
        check_accepts(draft, id, &mut found);
        check_offers(draft, id, &mut found);
        check_uses(draft, id, &mut found);
    }
    draft.findings.append(&mut found);
}

/// Requests of a zone without the platform's `accepts`; requests of a tenant without an offer.
fn check_requests(draft: &Draft, id: TenantId, found: &mut Vec<Finding>) {
    let tenant = &draft.tenants[id.0];
    let rules = tenant.tenant.rules.iter().zip(&tenant.rule_places);
    for (rule, &place) in rules.filter(|(rule, _)| rule.action == RuleAction::Allow) {
        match rule.from {
            RuleFrom::Zone(zone) if !is_let_in(draft, id, rule, zone) => {
                let zone = zone_name(draft, zone);
                found.push(waiting_rule(draft, id, &rule.name, place, &zone));
            }
            RuleFrom::Tenant(other) => {
                let mut offers = tenant.tenant.offers.iter();
                if !offers.any(|offer| offer.consumers.contains(&other)) {
                    let name = draft.tenant_name(other);
                    found.push(rule_without_offer(&rule.name, place, &name));
                }
            }
            RuleFrom::Zone(_) | RuleFrom::Segment(_) | RuleFrom::Host(_) | RuleFrom::Cidr(_) => {}
        }
    }
}

/// Does the platform let the zone in, by this request's ports or altogether?
fn is_let_in(draft: &Draft, id: TenantId, rule: &TenantRule, zone: SegmentId) -> bool {
    let tenant = &draft.tenants[id.0].tenant;
    let trusted = tenant.trusted_operators.iter().any(|(id, _)| *id == zone);
    let by_policy = draft
        .policies
        .iter()
        .any(|policy| policy.from == Zone::Segment(zone) && policy.to == Zone::Tenants);
    let accepted = |port| {
        let mut from_zone = tenant.accepts.iter().filter(|accept| accept.from == zone);
        from_zone.any(|accept| covers(&accept.ports, port))
    };
    let whole = !rule.ports.is_empty() && rule.ports.iter().all(accepted);
    trusted || by_policy || whole
}

fn rule_without_offer(rule: &str, place: Place, other: &str) -> Finding {
    Finding::new(
        Code::RuleWaits,
        format!("the rule `{rule}` has no effect yet"),
        place,
    )
    .label(format!("nothing is offered to `{other}`"))
    .note("a rule alone lets no other tenant in: it takes an offer and a use")
    .help("add an entry to `tenant_offers` with this tenant as consumer")
}

fn waiting_rule(draft: &Draft, id: TenantId, rule: &str, place: Place, zone: &str) -> Finding {
    Finding::new(
        Code::RuleWaits,
        format!("the rule `{rule}` waits for the platform's half"),
        place,
    )
    .label("this is a request")
    .also(draft.tenants[id.0].key, format!("no `accepts` from `{zone}` has these ports"))
    .note("who reaches a tenant from outside is decided by both: the tenant asks, the platform accepts")
    .platform_help(format!(
        "to accept it, add `{{ from_zone: {zone}, ports: […] }}` to `accepts` of the tenant"
    ))
    .help("ask the platform admin, naming rule, zone and ports")
}

fn check_accepts(draft: &Draft, id: TenantId, found: &mut Vec<Finding>) {
    let tenant = &draft.tenants[id.0];
    // Without the tenant's tree nothing is known about what it asks for.
    if tenant.scope.is_none() {
        return;
    }
    for (accept, &place) in tenant.tenant.accepts.iter().zip(&tenant.accept_places) {
        let asked = tenant.tenant.rules.iter().any(|rule| {
            rule.from == RuleFrom::Zone(accept.from) && rule.action == RuleAction::Allow
        });
        if !asked {
            let zone = zone_name(draft, accept.from);
            found.push(
                Finding::new(
                    Code::RuleWaits,
                    format!(
                        "`{}` has no rule that asks for `{zone}`",
                        draft.tenant_name(id)
                    ),
                    place,
                )
                .label("the platform's half alone lets nothing through")
                .help("have the tenant add a rule, or remove the entry"),
            );
        }
    }
}

fn check_offers(draft: &Draft, id: TenantId, found: &mut Vec<Finding>) {
    let tenant = &draft.tenants[id.0];
    for (offer, &place) in tenant.tenant.offers.iter().zip(&tenant.offer_places) {
        let users: HashSet<TenantId> = offer
            .consumers
            .iter()
            .copied()
            .filter(|consumer| {
                let uses = &draft.tenants[consumer.0].tenant.uses;
                uses.iter()
                    .any(|used| used.tenant == id && used.offer == offer.name)
            })
            .collect();
        for &consumer in offer
            .consumers
            .iter()
            .filter(|consumer| !users.contains(consumer))
        {
            let name = draft.tenant_name(consumer);
            found.push(
                Finding::new(
                    Code::OfferWaits,
                    format!("the offer `{}` waits for `{name}` to use it", offer.name),
                    place,
                )
                .note("an offer is effective once the consumer names it in `tenant_uses`")
                .help(format!(
                    "`{name}` adds it to its own tree; nothing to do here"
                )),
            );
        }
    }
}

fn check_uses(draft: &Draft, id: TenantId, found: &mut Vec<Finding>) {
    let tenant = &draft.tenants[id.0];
    for (used, &place) in tenant.tenant.uses.iter().zip(&tenant.use_places) {
        let offers = &draft.tenants[used.tenant.0].tenant.offers;
        let offered = offers
            .iter()
            .any(|offer| offer.name == used.offer && offer.consumers.contains(&id));
        if !offered {
            let name = draft.tenant_name(used.tenant);
            found.push(
                Finding::new(
                    Code::OfferWaits,
                    format!("`{name}` offers no `{}` to this tenant", used.offer),
                    place,
                )
                .note("a use is effective once the other tenant offers it to this one by that name")
                .help("ask the other tenant, or correct the offer's name"),
            );
        }
    }
}
