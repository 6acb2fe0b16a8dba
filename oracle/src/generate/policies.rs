//! Random policies: zones, internet, services, accepts, rules, offers and uses, with dangling halves.

use std::ops::RangeInclusive;

use netmodel::Model;
use netmodel::model::{
    Accept, HostId, Owner, PortSpec, Protocol, RuleAction, RuleFrom, RuleTo, SegmentId, ServiceId,
    TenantId, TenantOffer, TenantRule, TenantUse, Zone, ZonePolicy,
};

use super::dice::{Dice, Rng};
use super::model::{ids, internet_zone, related_net};
use crate::build;

/// Ports that policies and packets have in common, so that they meet.
pub(crate) const PORTS: [u16; 8] = [22, 53, 80, 443, 3100, 5432, 8883, 9000];

/// Adds everything that section 9 reads.
pub(super) fn add(rng: &mut Rng, model: &mut Model) {
    let platform = ids(model, |owner| owner == Owner::Platform);
    for _ in 0..rng.usize(0..=6) {
        let policy = zone_policy(rng, model, &platform);
        model.policies.extend(policy);
    }
    let count = rng.usize(0..=platform.len());
    model.internet_zones = rng
        .some(&platform, count)
        .into_iter()
        .map(|id| internet_zone(Zone::Segment(id)))
        .collect();
    if rng.percent(75) {
        model.internet_zones.push(internet_zone(Zone::Tenants));
    }
    for _ in 0..rng.usize(0..=2) {
        let net = rng.one_of([
            "8.8.0.0/16",
            "198.51.100.0/24",
            "2001:4860::/32",
            "2a00::/12",
        ]);
        model.internet_excludes.push(build::net(net));
    }
    for index in 0..model.tenants.len() {
        add_grants(rng, model, index, &platform);
        add_rules(rng, model, index, &platform);
        add_offers(rng, model, index);
    }
    for index in 0..model.tenants.len() {
        add_uses(rng, model, index);
    }
}

/// A policy between two zones, plain or with protocol, nets and ports.
pub(super) fn zone_policy(
    rng: &mut Rng,
    model: &Model,
    platform: &[SegmentId],
) -> Option<ZonePolicy> {
    let from = *rng.pick(platform)?;
    let to = match rng.pick(platform) {
        Some(&segment) if segment != from && rng.percent(60) => Zone::Segment(segment),
        _ => Zone::Tenants,
    };
    let mut policy = build::policy(from, to);
    if rng.percent(40) {
        policy.protocol = Some(rng.one_of([Protocol::Tcp, Protocol::Udp, Protocol::Icmp]));
    }
    if rng.percent(20) {
        policy.source_net = Some(related_net(rng, model));
    }
    if rng.percent(20) {
        policy.destination_net = Some(related_net(rng, model));
    }
    if rng.percent(40) && policy.protocol != Some(Protocol::Icmp) {
        policy.destination_ports = (0..rng.usize(1..=3)).map(|_| port_range(rng)).collect();
    }
    Some(policy)
}

/// One port, a range, or (rarely) all ports.
fn port_range(rng: &mut Rng) -> RangeInclusive<u16> {
    let port = rng.one_of(PORTS);
    match rng.u8(0..10) {
        0 => 0..=u16::MAX,
        1..=3 => port.saturating_sub(rng.u16(0..=10))..=port.saturating_add(rng.u16(0..=100)),
        _ => port..=port,
    }
}

/// Between `least` and 3 port specifications.
pub(super) fn ports(rng: &mut Rng, least: usize) -> Vec<PortSpec> {
    (0..rng.usize(least..=3)).map(|_| port_spec(rng)).collect()
}

fn port_spec(rng: &mut Rng) -> PortSpec {
    match rng.one_of([Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Icmp]) {
        Protocol::Icmp => build::icmp(),
        protocol @ (Protocol::Tcp | Protocol::Udp) => PortSpec {
            protocol,
            ports: port_range(rng),
        },
    }
}

/// What the registry gives: internet, services, trusted operators, accepts.
fn add_grants(rng: &mut Rng, model: &mut Model, index: usize, platform: &[SegmentId]) {
    let services: Vec<usize> = (0..model.services.len()).collect();
    let count = rng.usize(0..=services.len());
    let granted = rng.some(&services, count);
    let operators = rng.one_of([0, 0, 1, 2]);
    let operators = rng.some(platform, operators);
    let accepts = rng.usize(0..=3);
    let accepts = rng.some(platform, accepts);
    let tenant = &mut model.tenants[index];
    tenant.internet = rng.percent(70).then(build::origin);
    tenant.services = granted
        .into_iter()
        .map(|id| (ServiceId(id), build::origin()))
        .collect();
    tenant.trusted_operators = operators
        .into_iter()
        .map(|id| (id, build::origin()))
        .collect();
    tenant.accepts = accepts
        .into_iter()
        .map(|from| Accept {
            from,
            ports: ports(rng, 1),
            origin: build::origin(),
        })
        .collect();
}

fn add_rules(rng: &mut Rng, model: &mut Model, index: usize, platform: &[SegmentId]) {
    for _ in 0..rng.usize(0..=5) {
        let rule = tenant_rule(rng, model, index, platform);
        model.tenants[index].rules.extend(rule);
    }
}

/// A rule of the tenant; often about the zone and ports of one of its `accepts`.
pub(super) fn tenant_rule(
    rng: &mut Rng,
    model: &Model,
    index: usize,
    platform: &[SegmentId],
) -> Option<TenantRule> {
    let tenant = &model.tenants[index];
    let to = destination(rng, model, index)?;
    let action = rng.one_of([RuleAction::Allow, RuleAction::Allow, RuleAction::Deny]);
    if let Some(accept) = rng.pick(&tenant.accepts).filter(|_| rng.percent(40)) {
        let ports = accept.ports.clone();
        return Some(build::rule(RuleFrom::Zone(accept.from), to, ports, action));
    }
    let others: Vec<TenantId> = (0..model.tenants.len())
        .filter(|other| *other != index)
        .map(TenantId)
        .collect();
    let from = match rng.u8(0..7) {
        0 => RuleFrom::Zone(*rng.pick(platform)?),
        1 | 2 => RuleFrom::Segment(*rng.pick(&tenant.segments)?),
        3 => RuleFrom::Host(*rng.pick(&own_hosts(model, index))?),
        4 => RuleFrom::Tenant(*rng.pick(&others)?),
        _ => RuleFrom::Cidr(related_net(rng, model)),
    };
    Some(build::rule(from, to, ports(rng, 0), action))
}

fn own_hosts(model: &Model, index: usize) -> Vec<HostId> {
    let owner = Owner::Tenant(TenantId(index));
    (0..model.hosts.len())
        .map(HostId)
        .filter(|id| model.host(*id).owner == owner)
        .collect()
}

/// Something of the tenant's own.
fn destination(rng: &mut Rng, model: &Model, index: usize) -> Option<RuleTo> {
    let hosts = own_hosts(model, index);
    match rng.pick(&hosts) {
        Some(host) if rng.percent(50) => Some(RuleTo::Host(*host)),
        _ => rng
            .pick(&model.tenants[index].segments)
            .map(|id| RuleTo::Segment(*id)),
    }
}

fn add_offers(rng: &mut Rng, model: &mut Model, index: usize) {
    let others: Vec<TenantId> = (0..model.tenants.len())
        .filter(|other| *other != index)
        .map(TenantId)
        .collect();
    for number in 0..rng.usize(0..=3) {
        let Some(to) = destination(rng, model, index) else {
            return;
        };
        let count = rng.usize(0..=others.len());
        let consumers = rng.some(&others, count);
        let ports = ports(rng, 1);
        let name = format!("offer{number}");
        model.tenants[index].offers.push(TenantOffer {
            name,
            to,
            ports,
            consumers,
            origin: build::origin(),
        });
    }
}

/// Uses of offers that may exist, and may name this tenant.
pub(super) fn add_uses(rng: &mut Rng, model: &mut Model, index: usize) {
    for other in 0..model.tenants.len() {
        if other == index {
            continue;
        }
        for number in 0..3 {
            if rng.percent(60) {
                model.tenants[index].uses.push(TenantUse {
                    tenant: TenantId(other),
                    offer: format!("offer{number}"),
                    origin: build::origin(),
                });
            }
        }
    }
}
