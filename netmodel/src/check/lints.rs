//! Checks that look at everything together: what is allowed, but can hardly be meant.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::draft::Draft;
use super::words::did_you_mean;
use crate::ansible::{Scope, Vars};
use crate::finding::{Code, Finding};
use crate::model::{Hypervisor, Owner, PortSpec, Protocol, Router, SegmentId, Zone, ZonePolicy};
use crate::source::Place;

/// Variables of the site as a whole.
const SITE_KEYS: &[&str] = &[
    "site_domain",
    "site_dnssec",
    "site_name",
    "site_segments",
    "firewall_zone_policies",
    "firewall_internet_zones",
    "platform_gateway_services",
    "platform_services",
    "tenant_pool",
    "tenant_defaults",
    "tenants",
    "protected_flows",
    "policy_tests",
    "internet_excludes",
];

/// Variables of a router.
const ROUTER_KEYS: &[&str] = &["router_parent", "router_native_segment", "router_uplinks"];

/// Variables of a tenant.
const TENANT_KEYS: &[&str] = &[
    "tenant_name",
    "tenant_segments",
    "tenant_firewall_rules",
    "tenant_offers",
    "tenant_uses",
    "tenant_isolate_hosts",
    "tenant_dns_records",
    "tenant_mac_policy",
    "tenant_terraform",
];

/// Warns of what is allowed, but can hardly be meant.
pub(crate) fn check(draft: &mut Draft) {
    check_named_router(draft);
    check_named_hypervisor(draft);
    check_router(draft);
    check_misplaced(draft);
    check_spelling(draft);
    check_policies(draft);
    check_internet(draft);
}

fn check_named_router(draft: &mut Draft) {
    let Some(name) = draft.named_router.clone() else {
        return;
    };
    let is_it = |router: &Router| draft.hosts[router.host.0].host.name.as_str() == name;
    if !draft.routers.iter().any(is_it) {
        let place = Place::file(draft.sources.first());
        draft.findings.push(
            Finding::new(
                Code::UnknownHost,
                format!("the site has no router `{name}`"),
                place,
            )
            .note("a host is a router if `router_parent`, its trunk interface, is set for it")
            .help("correct `router` in bulkhead.toml"),
        );
    }
}

fn check_named_hypervisor(draft: &mut Draft) {
    let Some(name) = draft.named_hypervisor.clone() else {
        return;
    };
    let is_it = |found: &Hypervisor| draft.hosts[found.host.0].host.name.as_str() == name;
    if !draft.hypervisors.iter().any(is_it) {
        let place = Place::file(draft.sources.first());
        draft.findings.push(
            Finding::new(
                Code::UnknownHost,
                format!("the site has no hypervisor `{name}`"),
                place,
            )
            .note("a host is a hypervisor if `hypervisor_bridge`, the bridge of its machines, is set for it")
            .help("correct `hypervisor` in bulkhead.toml"),
        );
    }
}

fn check_router(draft: &mut Draft) {
    if draft.segments.is_empty() {
        return;
    }
    if draft.routers.is_empty() {
        let first = draft.site.inventory().hosts.first().map(|host| host.place);
        let place = first.unwrap_or_else(|| Place::file(draft.sources.first()));
        let place = Place::file(place.file);
        draft.findings.push(
            Finding::new(Code::NoRouter, "no host is the site's router", place)
                .note("a host is a router if `router_parent`, its trunk interface, is set for it")
                .help("set `router_parent` in the group_vars of the routers"),
        );
    }
    for router in &draft.routers {
        let host = &draft.hosts[router.host.0];
        let reachable = |interface: &crate::model::Interface| {
            interface.segment.is_some() && (interface.ipv4.is_some() || interface.ipv6.is_some())
        };
        if !host.host.interfaces.iter().any(reachable) {
            let name = &host.host.name;
            draft.findings.push(
                Finding::new(
                    Code::RouterNotInSegment,
                    format!("the router `{name}` has no address in any segment"),
                    host.place,
                )
                .note("every address of the router that the inventory does not declare is denied")
                .help(format!(
                    "declare its management address under `env.interfaces` in host_vars/{name}.yml"
                )),
            );
        }
    }
}

/// Site variables in a group or host that the router is not, so that nobody reads them.
fn check_misplaced(draft: &mut Draft) {
    let site = draft.site.clone();
    let inventory = site.inventory();
    let (groups, host) = site.members();
    for (index, group) in inventory.groups.iter().enumerate() {
        if !groups.contains(&index) {
            let whose = format!("the group `{}`", group.name);
            misplaced(draft, [&group.inline, &group.files.vars], &whose);
        }
    }
    for (index, other) in inventory.hosts.iter().enumerate() {
        if host != Some(index) {
            let whose = format!("the host `{}`", other.name);
            misplaced(draft, [&other.inline, &other.files.vars], &whose);
        }
    }
}

fn misplaced(draft: &mut Draft, vars: [&Vars; 2], whose: &str) {
    let aliases: Vec<String> = draft.aliases.keys().cloned().collect();
    let names = SITE_KEYS
        .iter()
        .copied()
        .chain(aliases.iter().map(String::as_str));
    for name in names {
        for entry in vars.iter().filter_map(|vars| vars.get(name)) {
            draft.findings.push(
                Finding::new(
                    Code::MisplacedKey,
                    format!("`{name}` of {whose} is not read"),
                    entry.key_place,
                )
                .note("variables of the site are read as the router sees them")
                .help("move it to group_vars/all, or to a group that the router is in"),
            );
        }
    }
}

/// Variables that look like one of bulkhead's, which itself is not there.
fn check_spelling(draft: &mut Draft) {
    let site = draft.site.clone();
    let known: Vec<&str> = SITE_KEYS.iter().chain(ROUTER_KEYS).copied().collect();
    misspelt(draft, &site, &known);
    for index in 0..draft.tenants.len() {
        if let Some(scope) = draft.tenants[index].scope.clone() {
            misspelt(draft, &scope, TENANT_KEYS);
        }
    }
}

fn misspelt(draft: &mut Draft, scope: &Scope, known: &[&str]) {
    for (name, place) in scope.names() {
        if known.contains(&&*name) || draft.aliases.contains_key(&*name) {
            continue;
        }
        let missing = known.iter().copied().filter(|key| scope.get(key).is_none());
        let near = missing.filter(|key| {
            key.len().abs_diff(name.len()) <= 2 && strsim::damerau_levenshtein(key, &name) <= 2
        });
        if let Some(similar) = did_you_mean(&name, near) {
            draft.findings.push(
                Finding::new(
                    Code::ProbableTypo,
                    format!("the variable `{name}` has no meaning to bulkhead"),
                    place,
                )
                .help(format!("did you mean `{similar}`?")),
            );
        }
    }
}

/// What makes two policies the same.
type PolicyKey = (
    Zone,
    Zone,
    Option<Protocol>,
    Option<IpNet>,
    Option<IpNet>,
    String,
);

fn check_policies(draft: &mut Draft) {
    let mut seen: HashMap<PolicyKey, usize> = HashMap::new();
    let mut whole: HashMap<(Zone, Zone), usize> = HashMap::new();
    let mut found = Vec::new();
    for (index, policy) in draft.policies.iter().enumerate() {
        let ports = format!("{:?}", policy.destination_ports);
        let zones = (policy.from, policy.to);
        let key = (
            zones.0,
            zones.1,
            policy.protocol,
            policy.source_net,
            policy.destination_net,
            ports,
        );
        let earlier = seen.get(&key).or_else(|| whole.get(&zones)).copied();
        let why = why_never(draft, policy);
        if why.is_some() || earlier.is_some() {
            found.push((index, why, earlier));
            continue;
        }
        seen.insert(key, index);
        let is_whole = policy.protocol.is_none()
            && policy.source_net.is_none()
            && policy.destination_net.is_none()
            && policy.destination_ports.is_empty();
        if is_whole {
            whole.insert(zones, index);
        }
    }
    for (index, why, earlier) in found {
        let finding = never_matches(draft, index, why, earlier);
        draft.findings.push(finding);
    }
}

fn never_matches(
    draft: &Draft,
    index: usize,
    why: Option<String>,
    earlier: Option<usize>,
) -> Finding {
    let name = &draft.policies[index].name;
    let place = draft.policy_places[index];
    let finding = Finding::new(
        Code::PolicyNeverMatches,
        format!("the policy `{name}` can never match"),
        place,
    );
    match (why, earlier) {
        (Some(why), _) => finding.label(why).help("correct it, or remove it"),
        (None, Some(earlier)) => finding
            .label("an earlier policy allows all of it")
            .also(draft.policy_places[earlier], "this one")
            .help("remove one of the two"),
        (None, None) => finding,
    }
}

fn why_never(draft: &Draft, policy: &ZonePolicy) -> Option<String> {
    if policy.from == policy.to {
        return Some("hosts of one segment talk directly, not through the router".to_owned());
    }
    let sides = [
        (policy.from, policy.source_net, "source_net"),
        (policy.to, policy.destination_net, "destination_net"),
    ];
    for (zone, net, key) in sides {
        let Zone::Segment(id) = zone else {
            continue;
        };
        let found = draft.segment(id);
        let segment = &found.segment;
        if found.net4.is_none() && found.net6.is_none() {
            return Some(format!(
                "`{}` has no subnet: nothing is routed there",
                segment.name
            ));
        }
        let is_read = segment.ipv4.is_some() || segment.ipv6.is_some();
        if is_read && net.is_some_and(|net| !touches(draft, id, net)) {
            return Some(format!("`{key}` is outside of `{}`", segment.name));
        }
    }
    match (policy.source_net, policy.destination_net) {
        (Some(IpNet::V4(_)), Some(IpNet::V6(_))) | (Some(IpNet::V6(_)), Some(IpNet::V4(_))) => {
            Some("source and destination are of different address families".to_owned())
        }
        _ => None,
    }
}

/// Do a prefix and a segment's subnets have an address in common?
fn touches(draft: &Draft, id: SegmentId, net: IpNet) -> bool {
    let segment = &draft.segment(id).segment;
    let overlap = |subnet: IpNet| subnet.contains(&net) || net.contains(&subnet);
    segment.ipv4.is_some_and(|s| overlap(s.net.into()))
        || segment.ipv6.is_some_and(|s| overlap(s.net.into()))
}

fn check_internet(draft: &mut Draft) {
    let has_zone = draft
        .internet_zones
        .iter()
        .any(|zone| zone.zone == Zone::Tenants);
    if has_zone {
        return;
    }
    let granted = draft.tenants.iter().find_map(|tenant| tenant.internet);
    let Some(place) = granted else {
        return;
    };
    draft.findings.push(
        Finding::new(
            Code::InternetNotEffective,
            "tenants are granted the internet, but none of them can reach it",
            place,
        )
        .note("`tenants` is not in `firewall_internet_zones`")
        .help("add `tenants` to `firewall_internet_zones`, or grant `internet: none`"),
    );
}

/// Is every port of one list in the other list?
pub(super) fn covers(outer: &[PortSpec], inner: &PortSpec) -> bool {
    let within = |outer: &RangeInclusive<u16>| {
        outer.start() <= inner.ports.start() && inner.ports.end() <= outer.end()
    };
    outer
        .iter()
        .any(|spec| spec.protocol == inner.protocol && within(&spec.ports))
}

/// Names of all zones of platform segments, for the halves' messages.
pub(super) fn zone_name(draft: &Draft, id: SegmentId) -> String {
    match draft.segment(id).segment.owner {
        Owner::Platform => draft.segment_name(id),
        Owner::Tenant(_) => "tenants".to_owned(),
    }
}
