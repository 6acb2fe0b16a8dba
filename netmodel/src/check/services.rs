//! `platform_services`, and what the registry grants of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::cx::{Text, Unknown};
use super::draft::Draft;
use super::policy::find_platform_segment;
use super::ports;
use super::subnets::{why_not_host4, why_not_host6};
use super::words::{did_you_mean, listed};
use crate::ansible::Scope;
use crate::finding::{Code, Finding};
use crate::model::{Accept, Owner, PlatformService, SegmentId, ServiceId};
use crate::source::Place;
use crate::yaml::Entry;

const SERVICE_KEYS: &[&str] = &[
    "segment",
    "host",
    "address",
    "address6",
    "ports",
    "description",
];

/// Reads `platform_services`.
pub(crate) fn read(draft: &mut Draft) {
    let Some(var) = draft.site_var("platform_services") else {
        return;
    };
    let scope = draft.site.clone();
    let entries = draft
        .cx(&scope)
        .named_entries(&var.value, "`platform_services`");
    let mut entries = entries.unwrap_or_default();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    for entry in entries {
        match read_service(draft, &scope, &entry) {
            Some(service) => draft.services.push(service),
            None => {
                draft.unusable.insert(entry.key.to_string());
            }
        }
    }
}

fn read_service(draft: &mut Draft, scope: &Scope, entry: &Entry) -> Option<PlatformService> {
    let what = format!("the service `{}`", entry.key);
    let mut cx = draft.cx(scope);
    let fields = cx.fields(&entry.value, &what, SERVICE_KEYS, Unknown::Refuse)?;
    let segment = cx.required(&fields, "segment")?;
    let segment = cx.text(&segment.value, "`segment`")?;
    let ports = cx.required(&fields, "ports")?;
    let ports = ports::read_some(&mut cx, &ports);
    let host = fields.get("host").and_then(|e| cx.text(&e.value, "`host`"));
    let ipv4 = fields
        .get("address")
        .and_then(|e| cx.parse::<Ipv4Addr>(&e.value, "`address`", "an IPv4 address"));
    let ipv6 = fields
        .get("address6")
        .and_then(|e| cx.parse::<Ipv6Addr>(&e.value, "`address6`", "an IPv6 address"));
    let segment = find_platform_segment(draft, &segment)?;
    let mut service = PlatformService {
        name: entry.key.to_string(),
        segment,
        ipv4: ipv4.map(|at| at.value),
        ipv6: ipv6.map(|at| at.value),
        ports: ports?,
        origin: draft.sources.origin(entry.key_place),
    };
    match &host {
        Some(host) => take_host_addresses(draft, host, &mut service)?,
        None if ipv4.is_none() && ipv6.is_none() => {
            draft.findings.push(
                Finding::new(
                    Code::ServiceAddress,
                    format!("{what} has no address"),
                    entry.key_place,
                )
                .help("add `host: NAME` or `address: …`"),
            );
            return None;
        }
        None => {}
    }
    for place in [ipv4.map(|at| at.place), ipv6.map(|at| at.place)]
        .into_iter()
        .flatten()
    {
        check_in_segment(draft, &service, place)?;
    }
    Some(service)
}

/// The host's addresses on the service's segment, where the service does not say them itself.
fn take_host_addresses(
    draft: &mut Draft,
    host: &Text,
    service: &mut PlatformService,
) -> Option<()> {
    let key = (Owner::Platform, host.text.clone());
    let Some(&id) = draft.host_ids.get(&key) else {
        let finding = unknown_host(draft, host);
        draft.findings.push(finding);
        return None;
    };
    let interfaces = &draft.hosts[id.0].host.interfaces;
    let here = |segment: SegmentId| {
        interfaces
            .iter()
            .filter(move |interface| interface.segment == Some(segment))
    };
    service.ipv4 = service
        .ipv4
        .or(here(service.segment).find_map(|interface| interface.ipv4));
    service.ipv6 = service
        .ipv6
        .or(here(service.segment).find_map(|interface| interface.ipv6));
    if service.ipv4.is_some() || service.ipv6.is_some() {
        return Some(());
    }
    if draft.hosts[id.0].facts.iter().any(|facts| facts.unreadable) {
        return None;
    }
    let name = draft.segment_name(service.segment);
    let place = draft.hosts[id.0].place;
    draft.findings.push(
        Finding::new(
            Code::ServiceAddress,
            format!(
                "the host `{}` has no fixed address in the segment `{name}`",
                host.text
            ),
            host.place,
        )
        .also(place, "the host")
        .help("give the host an address there, or write the service's `address`"),
    );
    None
}

fn unknown_host(draft: &Draft, said: &Text) -> Finding {
    let mut names: Vec<&str> = draft
        .host_ids
        .keys()
        .filter(|(owner, _)| *owner == Owner::Platform)
        .map(|(_, name)| name.as_str())
        .collect();
    names.sort_unstable();
    let finding = Finding::new(
        Code::UnknownHost,
        format!("the site has no host `{}`", said.text),
        said.place,
    );
    match did_you_mean(&said.text, names) {
        Some(similar) => finding.help(format!("did you mean `{similar}`?")),
        None => finding.help("add it to the site's hosts.yml, or write the service's `address`"),
    }
}

fn check_in_segment(draft: &mut Draft, service: &PlatformService, place: Place) -> Option<()> {
    let draft_segment = draft.segment(service.segment);
    let segment = &draft_segment.segment;
    let outside4 = service.ipv4.is_some_and(|a| {
        segment
            .ipv4
            .is_none_or(|s| why_not_host4(s.net, a).is_some())
    });
    let outside6 = service.ipv6.is_some_and(|a| {
        segment
            .ipv6
            .is_none_or(|s| why_not_host6(s.net, a).is_some())
    });
    if !outside4 && !outside6 {
        return Some(());
    }
    let net = if outside4 {
        draft_segment.net4
    } else {
        draft_segment.net6
    };
    let finding = Finding::new(
        Code::ServiceAddress,
        format!(
            "the service `{}` has an address that is not in its segment `{}`",
            service.name, segment.name
        ),
        place,
    )
    .also(net.unwrap_or(draft_segment.key), "the segment's subnet")
    .help("correct the address or the segment");
    draft.findings.push(finding);
    None
}

/// Looks up what the registry grants: services, operators, accepts.
pub(crate) fn resolve_grants(draft: &mut Draft) {
    let scope = draft.site.clone();
    let by_name: std::collections::HashMap<String, ServiceId> = draft
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| (service.name.clone(), ServiceId(index)))
        .collect();
    for index in 0..draft.tenants.len() {
        for said in std::mem::take(&mut draft.tenants[index].services) {
            let Some(&id) = by_name.get(&said.text) else {
                if !draft.unusable.contains(&said.text) {
                    unknown_service(draft, &said);
                }
                continue;
            };
            let origin = draft.sources.origin(said.place);
            let services = &mut draft.tenants[index].tenant.services;
            if services.iter().all(|(known, _)| *known != id) {
                services.push((id, origin));
            }
        }
        for said in std::mem::take(&mut draft.tenants[index].operators) {
            if let Some(id) = find_platform_segment(draft, &said) {
                let origin = draft.sources.origin(said.place);
                let operators = &mut draft.tenants[index].tenant.trusted_operators;
                if operators.iter().all(|(known, _)| *known != id) {
                    operators.push((id, origin));
                }
            }
        }
        let place = draft.tenants[index].internet;
        draft.tenants[index].tenant.internet = place.map(|place| draft.sources.origin(place));
        if let Some(entry) = draft.tenants[index].accepts.take() {
            let (accepts, places) = read_accepts(draft, &scope, &entry);
            draft.tenants[index].tenant.accepts = accepts;
            draft.tenants[index].accept_places = places;
        }
    }
}

fn unknown_service(draft: &mut Draft, said: &Text) {
    let names: Vec<&str> = draft
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let finding = Finding::new(
        Code::UnknownService,
        format!("there is no platform service `{}`", said.text),
        said.place,
    );
    let finding = if matches!(said.text.as_str(), "dhcp" | "dns" | "ntp" | "icmp") {
        finding
            .note("gateway services are offered to every segment and need no grant")
            .help("list it in `platform_gateway_services`, and remove it here")
    } else {
        match did_you_mean(&said.text, names.iter().copied()) {
            Some(similar) => finding.help(format!("did you mean `{similar}`?")),
            None => finding.help(format!("the services are: {}", listed(names))),
        }
    };
    draft.findings.push(finding);
}

fn read_accepts(draft: &mut Draft, scope: &Scope, entry: &Entry) -> (Vec<Accept>, Vec<Place>) {
    let items = draft
        .cx(scope)
        .list(&entry.value, "`accepts`")
        .unwrap_or_default();
    let (mut accepts, mut places) = (Vec::new(), Vec::new());
    for item in items {
        let mut cx = draft.cx(scope);
        let keys = ["from_zone", "ports", "description"];
        let Some(fields) = cx.fields(&item, "an entry of `accepts`", &keys, Unknown::Refuse) else {
            continue;
        };
        let zone = cx.required(&fields, "from_zone");
        let zone = zone.and_then(|entry| cx.text(&entry.value, "`from_zone`"));
        let ports = cx.required(&fields, "ports");
        let ports = ports.and_then(|entry| ports::read_some(&mut cx, &entry));
        let from = zone.and_then(|zone| find_platform_segment(draft, &zone));
        if let (Some(from), Some(ports)) = (from, ports) {
            let origin = draft.sources.origin(fields.place);
            places.push(fields.place);
            accepts.push(Accept {
                from,
                ports,
                origin,
            });
        }
    }
    (accepts, places)
}
