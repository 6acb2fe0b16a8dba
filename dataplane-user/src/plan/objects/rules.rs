//! Rules of the site and of its tenants, and what there is one of in a site.

use netmodel::Model;
use netmodel::ids::TenantName;
use netmodel::model::{Host, Origin, RuleAction, RuleFrom, RuleTo, Tenant, TenantRule, ZonePolicy};

use super::attributes::{Said, list, owner, ports, segment_name, zone_name};
use super::joined::{Attributes, Item, Telling};
use super::{Action, Attribute, ObjectChange, ObjectKind};
use crate::can::service_label;

/// A rule in words.
struct Rule<'m> {
    attributes: Attributes,
    origin: &'m Origin,
}

type Rules<'m> = Vec<Item<'m, (&'static str, String), Rule<'m>>>;

/// Compares rules, and settings if there were any before.
pub(super) fn changes(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    let told = |rule: &Rule<'_>| rule.attributes.clone();
    let telling = Telling {
        kind: ObjectKind::Rule,
        name: &|(what, name): &(&'static str, String)| format!("{what} `{name}`"),
        is_same: &|a: &Rule<'_>, b| a.attributes == b.attributes,
        attributes: [&told, &told],
        origin: &|rule| Some(rule.origin.clone()),
        replacing: &[],
    };
    let mut changes = telling.compare(old.map_or_else(Vec::new, rules), rules(new));
    changes.extend(old.and_then(|old| site(old, new)));
    changes
}

fn rules(model: &Model) -> Rules<'_> {
    let policies = model.policies.iter().map(|policy| Item {
        owner: None,
        key: ("policy", policy.name.clone()),
        thing: Rule {
            attributes: told_policy(model, policy),
            origin: &policy.origin,
        },
    });
    let mut rules: Rules<'_> = policies.collect();
    for tenant in &model.tenants {
        add_rules(model, tenant, &mut rules);
    }
    rules
}

fn told_policy(model: &Model, policy: &ZonePolicy) -> Attributes {
    let ports = policy.destination_ports.iter();
    let ports = ports.map(|ports| match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    let protocol = policy.protocol.map(|protocol| format!("{protocol:?}"));
    Said::default()
        .with("from", Some(zone_name(model, policy.from)))
        .with("to", Some(zone_name(model, policy.to)))
        .with("protocol", protocol.map(|name| name.to_lowercase()))
        .with("source_net", policy.source_net)
        .with("destination_net", policy.destination_net)
        .with("destination_port", Some(list(ports)))
        .done()
}

fn add_rules<'m>(model: &'m Model, tenant: &'m Tenant, rules: &mut Rules<'m>) {
    let mut add = |what: &'static str, name: String, said: Said, origin: &'m Origin| {
        rules.push(Item {
            owner: Some(&tenant.name),
            key: (what, name),
            thing: Rule {
                attributes: said.done(),
                origin,
            },
        });
    };
    for accept in &tenant.accepts {
        let said = Said::default().with("ports", Some(ports(&accept.ports)));
        add(
            "accepts",
            segment_name(model, accept.from),
            said,
            &accept.origin,
        );
    }
    for rule in &tenant.rules {
        let said = told_rule(model, rule);
        add("rule", rule.name.clone(), said, &rule.origin);
    }
    for offer in &tenant.offers {
        let consumers = offer.consumers.iter().map(|&id| &model.tenant(id).name);
        let said = Said::default()
            .with("to", Some(rule_to(model, offer.to)))
            .with("ports", Some(ports(&offer.ports)))
            .with("consumers", Some(list(consumers)));
        add("offer", offer.name.clone(), said, &offer.origin);
    }
    for half in &tenant.uses {
        let name = format!("{}/{}", model.tenant(half.tenant).name, half.offer);
        add("use", name, Said::default(), &half.origin);
    }
}

fn told_rule(model: &Model, rule: &TenantRule) -> Said {
    Said::default()
        .with("from", Some(rule_from(model, rule.from)))
        .with("to", Some(rule_to(model, rule.to)))
        .with("ports", Some(ports(&rule.ports)))
        .with(
            "action",
            Some(match rule.action {
                RuleAction::Allow => "allow",
                RuleAction::Deny => "deny",
            }),
        )
}

fn rule_from(model: &Model, from: RuleFrom) -> String {
    match from {
        RuleFrom::Zone(id) | RuleFrom::Segment(id) => segment_name(model, id),
        RuleFrom::Host(id) => host_name(model, model.host(id)),
        RuleFrom::Tenant(id) => model.tenant(id).name.to_string(),
        RuleFrom::Cidr(net) => net.to_string(),
    }
}

fn rule_to(model: &Model, to: RuleTo) -> String {
    match to {
        RuleTo::Host(id) => host_name(model, model.host(id)),
        RuleTo::Segment(id) => segment_name(model, id),
    }
}

fn host_name(model: &Model, host: &Host) -> String {
    let tenant: Option<&TenantName> = owner(model, host.owner);
    tenant.map_or_else(
        || host.name.to_string(),
        |tenant| format!("{tenant}/{}", host.name),
    )
}

/// What there is one of: names, the router, the gateway's services, the internet, expectations.
fn site(old: &Model, new: &Model) -> Option<ObjectChange> {
    let pairs = told_site(old).into_iter().zip(told_site(new));
    let changed = pairs.filter(|(old, new)| old != new);
    let said = |value: String| Some(value).filter(|value| !value.is_empty());
    let attributes: Vec<Attribute> = changed
        .map(|((name, old), (_, new))| Attribute {
            name: name.to_owned(),
            old: said(old),
            new: said(new),
        })
        .collect();
    (!attributes.is_empty()).then(|| ObjectChange {
        action: Action::Change,
        kind: ObjectKind::Setting,
        owner: None,
        name: new.site_name.clone(),
        attributes,
        origin: None,
    })
}

fn told_site(model: &Model) -> [(&'static str, String); 10] {
    let zones = model.internet_zones.iter();
    let services = model.gateway_services;
    let services = [
        ("dhcp", services.dhcp),
        ("dns", services.dns),
        ("ntp", services.ntp),
        ("icmp", services.icmp),
    ];
    let services = services.iter().filter(|(_, is_on)| *is_on);
    let routers = model.routers.iter().map(|router| {
        let native = router.native_segment.map(|id| segment_name(model, id));
        let native = native.map_or_else(String::new, |name| format!(", native {name}"));
        format!(
            "{} on {}{native}",
            model.host(router.host).name,
            router.trunk
        )
    });
    let uplinks = model.routers.iter().flat_map(|router| &router.uplinks);
    let uplinks = uplinks.map(|uplink| {
        let mode = if uplink.nat { "nat" } else { "routed" };
        format!("{} {} {mode}", uplink.name, uplink.interface)
    });
    let flows = model.protected_flows.iter();
    let flows = flows.map(|flow| {
        let ports: Vec<_> = flow.ports.iter().map(service_label).collect();
        format!("{} to {} {}", flow.from.text, flow.to.text, ports.join(" "))
    });
    let tests = model.policy_tests.iter().map(|test| {
        let expect = if test.expect_allow { "allow" } else { "deny" };
        let port = service_label(&test.port);
        format!("{expect} {} to {} {port}", test.from.text, test.to.text)
    });
    [
        ("site_name", model.site_name.clone()),
        ("site_domain", model.site_domain.clone()),
        (
            "site_dnssec",
            if model.site_dnssec {
                "true".to_owned()
            } else {
                String::new()
            },
        ),
        ("router", list(routers)),
        ("router_uplinks", list(uplinks)),
        (
            "platform_gateway_services",
            list(services.map(|(name, _)| name)),
        ),
        (
            "firewall_internet_zones",
            list(zones.map(|entry| zone_name(model, entry.zone))),
        ),
        ("internet_excludes", list(model.internet_excludes.iter())),
        ("protected_flows", list(flows)),
        ("policy_tests", list(tests)),
    ]
}
