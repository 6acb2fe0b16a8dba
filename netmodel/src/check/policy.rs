//! Zone policies, internet zones, gateway services, flows and tests: the platform tier.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use super::cx::{Cx, Fields, Text, Unknown};
use super::draft::Draft;
use super::flows;
use super::ports;
use super::words::{did_you_mean, listed};
use crate::ansible::Scope;
use crate::finding::{Code, Finding};
use crate::model::{InternetZone, Protocol, SegmentId, Zone, ZonePolicy};
use crate::yaml::{Entry, Value};

const POLICY_KEYS: &[&str] = &[
    "from_zone",
    "to_zone",
    "action",
    "name",
    "description",
    "protocol",
    "source_net",
    "destination_net",
    "destination_port",
];

/// Reads everything of the platform tier.
pub(crate) fn read(draft: &mut Draft) {
    let scope = draft.site.clone();
    read_gateway_services(draft, &scope);
    read_internet(draft, &scope);
    for value in site_list(draft, &scope, "firewall_zone_policies") {
        if let Some(policy) = read_policy(draft, &scope, &value) {
            draft.policies.push(policy);
            draft.policy_places.push(value.place);
        }
    }
    flows::read(draft, &scope);
}

/// Returns the entries of a list of the site.
pub(crate) fn site_list(draft: &mut Draft, scope: &Scope, key: &str) -> Vec<Arc<Value>> {
    let Some(var) = draft.site_var(key) else {
        return Vec::new();
    };
    let mut cx = draft.cx(scope);
    cx.list(&var.value, &format!("`{key}`")).unwrap_or_default()
}

fn read_gateway_services(draft: &mut Draft, scope: &Scope) {
    for value in site_list(draft, scope, "platform_gateway_services") {
        let words = [("dhcp", 0), ("dns", 1), ("ntp", 2), ("icmp", 3)];
        let word = draft.cx(scope).word(&value, "a gateway service", &words);
        let services = &mut draft.gateway_services;
        match word {
            Some(0) => services.dhcp = true,
            Some(1) => services.dns = true,
            Some(2) => services.ntp = true,
            Some(_) => services.icmp = true,
            None => {}
        }
    }
}

fn read_internet(draft: &mut Draft, scope: &Scope) {
    for value in site_list(draft, scope, "firewall_internet_zones") {
        let Some(text) = draft.cx(scope).text(&value, "a zone") else {
            continue;
        };
        if let Some(zone) = find_zone(draft, &text) {
            let origin = draft.sources.origin(text.place);
            draft.internet_zones.push(InternetZone { zone, origin });
        }
    }
    for value in site_list(draft, scope, "internet_excludes") {
        let net = draft
            .cx(scope)
            .parse::<IpNet>(&value, "an entry", "a prefix such as 10.0.0.0/8");
        draft
            .internet_excludes
            .extend(net.map(|net| net.value.trunc()));
    }
}

/// Looks a zone up: a platform segment or `tenants`.
pub(crate) fn find_zone(draft: &mut Draft, said: &Text) -> Option<Zone> {
    if said.text == "tenants" {
        return Some(Zone::Tenants);
    }
    if let Some(&id) = draft.zones.get(&said.text) {
        return Some(Zone::Segment(id));
    }
    if !draft.unusable.contains(&said.text) {
        let finding = unknown_zone(draft, said);
        draft.findings.push(finding);
    }
    None
}

/// Looks a platform segment up.
pub(crate) fn find_platform_segment(draft: &mut Draft, said: &Text) -> Option<SegmentId> {
    if let Some(&id) = draft.zones.get(&said.text) {
        return Some(id);
    }
    if draft.unusable.contains(&said.text) {
        return None;
    }
    let finding = if said.text == "tenants" {
        Finding::new(
            Code::UnknownZone,
            "a platform zone is wanted here, not `tenants`",
            said.place,
        )
        .note("tenants reach each other by an offer and a use")
        .help("name a segment of the site")
    } else {
        unknown_zone(draft, said)
    };
    draft.findings.push(finding);
    None
}

fn unknown_zone(draft: &Draft, said: &Text) -> Finding {
    let mut names: Vec<&str> = draft.zones.keys().map(String::as_str).collect();
    names.sort_unstable();
    let finding = Finding::new(
        Code::UnknownZone,
        format!("there is no zone `{}`", said.text),
        said.place,
    );
    if draft.tenant_ids.contains_key(&said.text) {
        return finding
            .platform_note(format!(
                "`{}` is a tenant; every tenant is in the zone `tenants`",
                said.text
            ))
            .help("give a tenant something of its own in the registry, under `tenants:`");
    }
    if matches!(said.text.as_str(), "internet" | "wan" | "any") {
        return finding
            .note("the zones are the site's segments, and `tenants`")
            .help("for the internet, list the source zone in `firewall_internet_zones`");
    }
    match did_you_mean(&said.text, names.iter().copied().chain(["tenants"])) {
        Some(similar) => finding.help(format!("did you mean `{similar}`?")),
        None => finding
            .platform_note(format!(
                "the zones are {}",
                listed(names.into_iter().chain(["tenants"]))
            ))
            .help("correct the name, or add the segment"),
    }
}

fn read_policy(draft: &mut Draft, scope: &Scope, value: &Arc<Value>) -> Option<ZonePolicy> {
    let mut cx = draft.cx(scope);
    let fields = cx.fields(value, "a zone policy", POLICY_KEYS, Unknown::Refuse)?;
    cx.check_said(
        &fields,
        &[
            "protocol",
            "source_net",
            "destination_net",
            "destination_port",
        ],
    )?;
    let from = cx.required(&fields, "from_zone")?;
    let to = cx.required(&fields, "to_zone")?;
    let action = cx.required(&fields, "action")?;
    check_action(&mut cx, &action)?;
    let from = cx.text(&from.value, "`from_zone`")?;
    let to = cx.text(&to.value, "`to_zone`")?;
    let name = match fields.get("name") {
        Some(entry) => cx.text(&entry.value, "`name`")?.text,
        None => format!("{} -> {}", from.text, to.text),
    };
    let source_net = read_net(&mut cx, fields.get("source_net"))?;
    let destination_net = read_net(&mut cx, fields.get("destination_net"))?;
    let (protocol, destination_ports) = read_service(&mut cx, &fields)?;
    if from.text == "tenants" {
        refuse_from_tenants(&mut cx, &from);
        return None;
    }
    let (from, to) = (find_zone(draft, &from), find_zone(draft, &to));
    Some(ZonePolicy {
        name,
        from: from?,
        to: to?,
        protocol,
        source_net,
        destination_net,
        destination_ports,
        origin: draft.sources.origin(fields.place),
    })
}

/// Reads `protocol` and `destination_port`.
fn read_service(
    cx: &mut Cx<'_>,
    fields: &Fields,
) -> Option<(Option<Protocol>, Vec<RangeInclusive<u16>>)> {
    let ports = match fields.get("destination_port") {
        Some(entry) => ports::read_destination(cx, &entry.value)?,
        None => Vec::new(),
    };
    let protocol = match fields.get("protocol") {
        Some(entry) => read_protocol(cx, entry)?,
        None => PolicyProtocol::Any,
    };
    match protocol {
        PolicyProtocol::One(Protocol::Icmp) if !ports.is_empty() => {
            let port = fields.get("destination_port");
            let place = port.map_or(fields.place, |entry| entry.value.place);
            cx.report(
                Finding::new(Code::BadPort, "ICMP has no ports", place)
                    .help("remove `destination_port`"),
            );
            None
        }
        PolicyProtocol::One(protocol) => Some((Some(protocol), ports)),
        // Without a protocol, ports mean TCP and UDP; all of them, if none is said.
        PolicyProtocol::TcpUdp if ports.is_empty() => Some((None, vec![0..=u16::MAX])),
        PolicyProtocol::TcpUdp | PolicyProtocol::Any => Some((None, ports)),
    }
}

fn refuse_from_tenants(cx: &mut Cx<'_>, from: &Text) {
    cx.report(
        Finding::new(
            Code::TenantsPolicy,
            "a zone policy cannot let all tenants into a zone",
            from.place,
        )
        .note("tenants may only be granted named services, and reach each other by offer and use")
        .help("describe the service in `platform_services` and grant it under `services`"),
    );
}

fn check_action(cx: &mut Cx<'_>, action: &Entry) -> Option<()> {
    let text = cx.text(&action.value, "`action`")?;
    match text.text.to_ascii_lowercase().as_str() {
        "pass" | "accept" => Some(()),
        "deny" | "drop" | "reject" | "block" => {
            cx.report(
                Finding::new(
                    Code::InvalidValue,
                    format!("there are no `{}` policies", text.text),
                    text.place,
                )
                .note("everything that no policy allows is denied")
                .help("remove this entry, and any policy that allows too much"),
            );
            None
        }
        _ => {
            let message = format!("`{}` is not possible for `action`", text.text);
            cx.invalid(text.place, message, "write `pass` or `accept`");
            None
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum PolicyProtocol {
    Any,
    TcpUdp,
    One(Protocol),
}

fn read_protocol(cx: &mut Cx<'_>, entry: &Entry) -> Option<PolicyProtocol> {
    let words = [
        ("tcp", PolicyProtocol::One(Protocol::Tcp)),
        ("udp", PolicyProtocol::One(Protocol::Udp)),
        ("icmp", PolicyProtocol::One(Protocol::Icmp)),
        ("any", PolicyProtocol::Any),
        ("tcp/udp", PolicyProtocol::TcpUdp),
        ("tcp_udp", PolicyProtocol::TcpUdp),
    ];
    cx.word(&entry.value, "`protocol`", &words)
}

/// Reads a prefix or an address; `Some(None)` is every address.
fn read_net(cx: &mut Cx<'_>, entry: Option<&Entry>) -> Option<Option<IpNet>> {
    let Some(entry) = entry else {
        return Some(None);
    };
    let text = cx.text(&entry.value, "a prefix")?;
    if text.text.eq_ignore_ascii_case("any") {
        return Some(None);
    }
    let net = text.text.parse::<IpNet>().map(|net| net.trunc());
    match net.or_else(|_| text.text.parse::<IpAddr>().map(IpNet::from)) {
        Ok(net) => Some(Some(net)),
        Err(_) => {
            let message = format!("`{}` is not a prefix", text.text);
            cx.invalid(
                text.place,
                message,
                "write an address, a prefix such as 10.20.30.0/24, or `any`",
            );
            None
        }
    }
}
