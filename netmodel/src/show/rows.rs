//! The rows of each view.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::Cell;
use crate::model::{
    Model, Origin, Owner, PortSpec, Protocol, RuleAction, RuleFrom, RuleTo, SegmentId, Tenant,
    TenantId, TenantKind, TenantRule, TenantState, Zone, ZonePolicy,
};

/// Headers and rows.
type Rows = (Vec<&'static str>, Vec<Vec<Cell>>);

fn text(value: impl Display) -> Cell {
    Cell::Text(value.to_string())
}

fn maybe(value: Option<impl Display>) -> Cell {
    value.map_or(Cell::Empty, text)
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> Cell {
    let items: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if items.is_empty() {
        Cell::Empty
    } else {
        Cell::List(items)
    }
}

fn origin(origin: &Origin) -> Cell {
    Cell::Text(format!("{}:{}:{}", origin.file, origin.line, origin.column))
}

impl Model {
    /// Names an owner: `platform`, or the tenant.
    fn owner_name(&self, owner: Owner) -> String {
        match owner {
            Owner::Platform => "platform".to_owned(),
            Owner::Tenant(id) => self.tenant(id).name.to_string(),
        }
    }

    /// Names a segment: `iot`, or `grooveiq/main` of a tenant.
    fn segment_name(&self, id: SegmentId) -> String {
        let segment = self.segment(id);
        match segment.owner {
            Owner::Platform => segment.name.to_string(),
            Owner::Tenant(tenant) => format!("{}/{}", self.tenant(tenant).name, segment.name),
        }
    }

    fn zone_name(&self, zone: Zone) -> String {
        match zone {
            Zone::Segment(id) => self.segment_name(id),
            Zone::Tenants => "tenants".to_owned(),
        }
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Icmp => "icmp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn range(ports: &RangeInclusive<u16>) -> String {
    if ports.start() == ports.end() {
        ports.start().to_string()
    } else {
        format!("{}-{}", ports.start(), ports.end())
    }
}

fn port(spec: &PortSpec) -> String {
    let name = protocol(spec.protocol);
    if spec.ports == (0..=u16::MAX) {
        name.to_owned()
    } else {
        format!("{name}/{}", range(&spec.ports))
    }
}

pub(super) fn hosts(model: &Model) -> Rows {
    let headers = vec![
        "owner",
        "host",
        "form",
        "interface",
        "segment",
        "mac",
        "ipv4",
        "ipv6",
        "origin",
    ];
    let mut rows = Vec::new();
    for host in &model.hosts {
        let owner = text(model.owner_name(host.owner));
        let first = [owner, text(&host.name), maybe(host.form.as_ref())];
        let mut row = |rest: [Cell; 6]| rows.push(first.iter().cloned().chain(rest).collect());
        if host.interfaces.is_empty() {
            let empty = || Cell::Empty;
            row([
                empty(),
                empty(),
                empty(),
                empty(),
                empty(),
                origin(&host.origin),
            ]);
        }
        for interface in &host.interfaces {
            row([
                text(&interface.name),
                maybe(interface.segment.map(|id| model.segment_name(id))),
                maybe(interface.mac),
                maybe(interface.ipv4),
                maybe(interface.ipv6),
                origin(&interface.origin),
            ]);
        }
    }
    (headers, rows)
}

pub(super) fn segments(model: &Model) -> Rows {
    let headers = vec![
        "segment", "owner", "vlan_id", "vpc_id", "subnet", "gateway", "subnet6", "gateway6",
        "dhcp", "mtu", "origin",
    ];
    let row = |(index, segment): (usize, &crate::model::Segment)| {
        let dhcp = match &segment.dhcp {
            None => Cell::Empty,
            Some(scope) => match scope.pool {
                Some((start, end)) => Cell::Text(format!("{start}-{end}")),
                None => text("static"),
            },
        };
        vec![
            text(model.segment_name(SegmentId(index))),
            text(model.owner_name(segment.owner)),
            Cell::Number(segment.vlan_id.as_u16().into()),
            Cell::Number(segment.vpc_id.into()),
            maybe(segment.ipv4.map(|subnet| subnet.net)),
            maybe(segment.ipv4.map(|subnet| subnet.gateway)),
            maybe(segment.ipv6.map(|subnet| subnet.net)),
            maybe(segment.ipv6.map(|subnet| subnet.gateway)),
            dhcp,
            Cell::Number(segment.mtu.into()),
            origin(&segment.origin),
        ]
    };
    (
        headers,
        model.segments.iter().enumerate().map(row).collect(),
    )
}

pub(super) fn tenants(model: &Model) -> Rows {
    let headers = vec![
        "tenant",
        "kind",
        "state",
        "vlan_ids",
        "internet",
        "services",
        "trusted_operators",
        "hosts",
        "rules",
        "limits",
        "description",
        "origin",
    ];
    let mut hosts = vec![0_u64; model.tenants.len()];
    for host in &model.hosts {
        if let Owner::Tenant(id) = host.owner {
            hosts[id.0] += 1;
        }
    }
    let row = |(tenant, hosts): (&Tenant, u64)| {
        let segments = tenant.segments.iter().map(|&id| model.segment(id));
        vec![
            text(&tenant.name),
            text(match tenant.kind {
                TenantKind::Vlan => "vlan",
                TenantKind::Vpc => "vpc",
            }),
            text(match tenant.state {
                TenantState::Present => "present",
                TenantState::Draining => "draining",
            }),
            list(segments.map(|segment| segment.vlan_id)),
            Cell::Flag(tenant.internet.is_some()),
            list(
                tenant
                    .services
                    .iter()
                    .map(|(id, _)| &model.service(*id).name),
            ),
            list(
                tenant
                    .trusted_operators
                    .iter()
                    .map(|(id, _)| model.segment_name(*id)),
            ),
            Cell::Number(hosts),
            Cell::Number(tenant.rules.len() as u64),
            list(
                tenant
                    .told_limits()
                    .into_iter()
                    .zip(Tenant::built_in_limits())
                    .filter(|(own, built_in)| own != built_in)
                    .map(|(own, _)| own)
                    .map(|(key, value)| format!("{key}={value}")),
            ),
            maybe(tenant.description.as_ref()),
            origin(&tenant.origin),
        ]
    };
    (headers, model.tenants.iter().zip(hosts).map(row).collect())
}

/// Tier, name, from, to, ports, action, where: everything that lets through or stops.
pub(super) fn policies(model: &Model) -> Rows {
    let headers = vec!["tier", "name", "from", "to", "ports", "action", "origin"];
    let mut rows: Vec<Vec<Cell>> = model
        .policies
        .iter()
        .map(|p| zone_policy(model, p))
        .collect();
    for (index, tenant) in model.tenants.iter().enumerate() {
        rows.extend(tenant_policies(model, TenantId(index), tenant));
    }
    (headers, rows)
}

fn zone_policy(model: &Model, policy: &ZonePolicy) -> Vec<Cell> {
    let side = |zone: Zone, net: Option<ipnet::IpNet>| match net {
        Some(net) => Cell::Text(format!("{} {net}", model.zone_name(zone))),
        None => text(model.zone_name(zone)),
    };
    let ports = policy.destination_ports.iter().map(range);
    let ports = match (policy.protocol, policy.destination_ports.is_empty()) {
        (None, true) => Cell::Empty,
        (Some(name), true) => text(protocol(name)),
        (Some(name), false) => list(ports.map(|ports| format!("{}/{ports}", protocol(name)))),
        (None, false) => list(ports.map(|ports| format!("tcp+udp/{ports}"))),
    };
    vec![
        text("platform"),
        text(&policy.name),
        side(policy.from, policy.source_net),
        side(policy.to, policy.destination_net),
        ports,
        text("allow"),
        origin(&policy.origin),
    ]
}

fn tenant_policies(model: &Model, id: TenantId, tenant: &Tenant) -> Vec<Vec<Cell>> {
    let mut rows = platform_rows(model, tenant);
    rows.extend(tenant.rules.iter().map(|rule| rule_row(model, id, rule)));
    for offer in &tenant.offers {
        rows.push(vec![
            text("tenant"),
            text(&offer.name),
            list(offer.consumers.iter().map(|&id| &model.tenant(id).name)),
            text(rule_to(model, offer.to)),
            list(offer.ports.iter().map(port)),
            text("offer"),
            origin(&offer.origin),
        ]);
    }
    for used in &tenant.uses {
        rows.push(vec![
            text("tenant"),
            text(&used.offer),
            text(&tenant.name),
            text(&model.tenant(used.tenant).name),
            Cell::Empty,
            text("use"),
            origin(&used.origin),
        ]);
    }
    rows
}

/// What the registry lets into a tenant.
fn platform_rows(model: &Model, tenant: &Tenant) -> Vec<Vec<Cell>> {
    let operators = tenant.trusted_operators.iter().map(|(zone, place)| {
        vec![
            text("platform"),
            text("trusted operator"),
            text(model.segment_name(*zone)),
            text(&tenant.name),
            Cell::Empty,
            text("allow"),
            origin(place),
        ]
    });
    let accepts = tenant.accepts.iter().map(|accept| {
        vec![
            text("platform"),
            text("accept"),
            text(model.segment_name(accept.from)),
            text(&tenant.name),
            list(accept.ports.iter().map(port)),
            text("accept"),
            origin(&accept.origin),
        ]
    });
    operators.chain(accepts).collect()
}

fn rule_row(model: &Model, id: TenantId, rule: &TenantRule) -> Vec<Cell> {
    vec![
        text("tenant"),
        text(&rule.name),
        text(rule_from(model, id, rule.from)),
        text(rule_to(model, rule.to)),
        list(rule.ports.iter().map(port)),
        text(match rule.action {
            RuleAction::Allow => "allow",
            RuleAction::Deny => "deny",
        }),
        origin(&rule.origin),
    ]
}

fn rule_from(model: &Model, own: TenantId, from: RuleFrom) -> String {
    match from {
        RuleFrom::Zone(id) | RuleFrom::Segment(id) => model.segment_name(id),
        RuleFrom::Host(id) => format!("{}/{}", model.tenant(own).name, model.host(id).name),
        RuleFrom::Tenant(id) => model.tenant(id).name.to_string(),
        RuleFrom::Cidr(net) => net.to_string(),
    }
}

fn rule_to(model: &Model, to: RuleTo) -> String {
    match to {
        RuleTo::Segment(id) => model.segment_name(id),
        RuleTo::Host(id) => {
            let host = model.host(id);
            format!("{}/{}", model.owner_name(host.owner), host.name)
        }
    }
}

pub(super) fn services(model: &Model) -> Rows {
    let headers = vec![
        "service",
        "segment",
        "ipv4",
        "ipv6",
        "ports",
        "granted_to",
        "origin",
    ];
    let mut granted = vec![Vec::new(); model.services.len()];
    for tenant in &model.tenants {
        for (id, _) in &tenant.services {
            granted[id.0].push(tenant.name.to_string());
        }
    }
    let rows = model
        .services
        .iter()
        .zip(granted)
        .map(|(service, tenants)| {
            vec![
                text(&service.name),
                text(model.segment_name(service.segment)),
                maybe(service.ipv4),
                maybe(service.ipv6),
                list(service.ports.iter().map(port)),
                list(tenants),
                origin(&service.origin),
            ]
        });
    (headers, rows.collect())
}

pub(super) fn records(model: &Model) -> Rows {
    let headers = vec!["zone", "name", "type", "value", "ttl", "origin"];
    let rows = model.records.iter().map(|record| {
        vec![
            text(&record.zone),
            text(&record.name),
            text(&record.record_type),
            text(&record.value),
            record
                .ttl
                .map_or(Cell::Empty, |ttl| Cell::Number(ttl.into())),
            origin(&record.origin),
        ]
    });
    (headers, rows.collect())
}

pub(super) fn reservations(model: &Model) -> Rows {
    let headers = vec!["segment", "ipv4", "mac", "owner", "host", "origin"];
    let rows = model.reservations.iter().map(|reservation| {
        let host = model.host(reservation.host);
        vec![
            text(model.segment_name(reservation.segment)),
            text(reservation.ipv4),
            text(reservation.mac),
            text(model.owner_name(host.owner)),
            text(&host.name),
            origin(&reservation.origin),
        ]
    });
    (headers, rows.collect())
}
