//! `docs/isolation.md` section 9: who may open a connection to whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netmodel::model::{
    Owner, PortSpec, Protocol, RuleAction, RuleFrom, RuleTo, SegmentId, ServiceId, Tenant,
    TenantId, TenantRule, Zone, ZonePolicy,
};

use crate::ip::{ICMP, ICMPV6, TCP, UDP};
use crate::wire::is_link_local;
use crate::{Reason, World, site};

/// Who opens a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source {
    /// The segment it comes from.
    pub segment: SegmentId,
    /// Its address.
    pub address: IpAddr,
}

/// Which of the three tiers decided (SPEC: platform, then tenant, then baseline deny).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Tier {
    /// Nothing allowed it.
    Baseline,
    /// Cannot be overridden.
    Platform,
    /// What tenants said.
    Tenant,
}

/// What decided.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Why {
    /// Allowed: a rule of the tenant (index in its rules) and an `accepts` entry (index).
    AcceptedRule {
        /// Index in the tenant's rules.
        rule: usize,
        /// Index in the tenant's `accepts`.
        accept: usize,
    },
    /// Denied: a tenant's rule (index in its rules).
    DeniedByRule {
        /// Index in the tenant's rules.
        rule: usize,
        /// The drop reason.
        reason: Reason,
    },
    /// Denied: nothing allows it, or the platform never does.
    Denied(Reason),
    /// Allowed: a gateway service.
    GatewayService,
    /// Allowed: the internet.
    Internet,
    /// Allowed: offered (index in the offering tenant's offers) and used.
    Offer(usize),
    /// Allowed: the router is a host of the segment.
    RouterIsHost,
    /// Allowed: the first matching rule of the tenant says so (index in its rules).
    Rule(usize),
    /// Allowed: two hosts of one segment, and no rule matches.
    SameSegment,
    /// Allowed: two segments of one tenant, and no rule matches.
    SameTenant,
    /// Allowed: a platform service granted to the tenant.
    Service(ServiceId),
    /// Allowed: the zone is a trusted operator of the tenant.
    TrustedOperator,
    /// Allowed: a zone policy (index in the model's).
    ZonePolicy(usize),
}

/// The answer of [`may_connect`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Decision {
    /// May the connection be opened?
    pub allow: bool,
    /// The tier that decided.
    pub tier: Tier,
    /// What decided.
    pub why: Why,
}

impl Decision {
    fn allow(tier: Tier, why: Why) -> Self {
        Self {
            allow: true,
            tier,
            why,
        }
    }

    fn deny(tier: Tier, reason: Reason) -> Self {
        Self {
            allow: false,
            tier,
            why: Why::Denied(reason),
        }
    }

    fn deny_by_rule(rule: usize, reason: Reason) -> Self {
        Self {
            allow: false,
            tier: Tier::Tenant,
            why: Why::DeniedByRule { rule, reason },
        }
    }

    /// Returns the drop reason; `None` if the connection may be opened.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self.why {
            Why::Denied(reason) | Why::DeniedByRule { reason, .. } => Some(reason),
            Why::AcceptedRule { .. }
            | Why::GatewayService
            | Why::Internet
            | Why::Offer(_)
            | Why::RouterIsHost
            | Why::Rule(_)
            | Why::SameSegment
            | Why::SameTenant
            | Why::Service(_)
            | Why::TrustedOperator
            | Why::ZonePolicy(_) => None,
        }
    }
}

/// A connection somebody wants to open.
#[derive(Clone, Copy)]
struct Wish<'w> {
    world: &'w World<'w>,
    source: Source,
    destination: IpAddr,
    protocol: u8,
    port: u16,
}

/// May `source` open a connection to `destination`?
///
/// `protocol` is IP's number, `port` the destination port (of TCP and UDP; ignored for others). ICMP
/// and ICMPv6 mean an echo request.
#[must_use]
pub fn may_connect(
    world: &World<'_>,
    source: Source,
    destination: IpAddr,
    protocol: u8,
    port: u16,
) -> Decision {
    let wish = Wish {
        world,
        source,
        destination,
        protocol,
        port,
    };
    to_special_address(wish)
        .or_else(|| to_site_segment(wish))
        .unwrap_or_else(|| to_internet(wish))
}

/// Section 10: may one host of a segment open a connection to another?
#[must_use]
pub(crate) fn may_connect_within(
    world: &World<'_>,
    source: Source,
    destination: IpAddr,
    protocol: u8,
    port: u16,
) -> Decision {
    let wish = Wish {
        world,
        source,
        destination,
        protocol,
        port,
    };
    let segment = world.model.segment(source.segment);
    if is_martian(destination) || site::is_network_or_broadcast(segment, destination) {
        return Decision::deny(Tier::Platform, Reason::MartianDestination);
    }
    let Owner::Tenant(id) = segment.owner else {
        return Decision::allow(Tier::Platform, Why::SameSegment);
    };
    let tenant = world.model.tenant(id);
    if is_link_local(destination) && (tenant.isolate_hosts || has_rule_within(tenant, id)) {
        return Decision::deny(Tier::Baseline, Reason::HostIsolation);
    }
    match first_matching_rule(wish, tenant) {
        Some((rule, RuleAction::Deny)) => Decision::deny_by_rule(rule, Reason::HostIsolation),
        Some((rule, RuleAction::Allow)) => Decision::allow(Tier::Tenant, Why::Rule(rule)),
        None if tenant.isolate_hosts => Decision::deny(Tier::Baseline, Reason::HostIsolation),
        None => Decision::allow(Tier::Tenant, Why::SameSegment),
    }
}

/// Has the tenant a rule whose sources can be its own?
fn has_rule_within(tenant: &Tenant, id: TenantId) -> bool {
    tenant.rules.iter().any(|rule| match rule.from {
        RuleFrom::Zone(_) => false,
        RuleFrom::Tenant(from) => from == id,
        RuleFrom::Segment(_) | RuleFrom::Host(_) | RuleFrom::Cidr(_) => true,
    })
}

/// The rows from `martian-destination` down to the second `martian-destination`.
fn to_special_address(wish: Wish<'_>) -> Option<Decision> {
    let (world, d) = (wish.world, wish.destination);
    let model = world.model;
    let own = model.segment(wish.source.segment);
    let denied = |reason| Some(Decision::deny(Tier::Platform, reason));
    if is_martian(d) {
        return denied(Reason::MartianDestination);
    }
    if site::is_own_gateway(&world.router, own, d) {
        return Some(to_own_gateway(wish));
    }
    if is_link_local(d) {
        return denied(Reason::LinkLocalScope);
    }
    if site::is_router_address(world, d) {
        match site::declared_router_segment(model, d) {
            None => return denied(Reason::RouterAddress),
            Some(on) if on == wish.source.segment => {
                return Some(Decision::allow(Tier::Platform, Why::RouterIsHost));
            }
            Some(_) => {}
        }
    }
    if site::holds(own, d) {
        return denied(Reason::SameSegment);
    }
    if model
        .segments
        .iter()
        .any(|segment| site::is_network_or_broadcast(segment, d))
    {
        return denied(Reason::MartianDestination);
    }
    None
}

/// Unspecified, loopback, 0/8, 240/4; `::`, `::1`, the rest of `::/8`.
fn is_martian(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(d) => matches!(d.octets()[0], 0 | 127 | 240..),
        IpAddr::V6(d) => d.octets()[0] == 0,
    }
}

/// Row "the own gateway address".
fn to_own_gateway(wish: Wish<'_>) -> Decision {
    let model = wish.world.model;
    let offered = model.gateway_services;
    let (dhcp, icmp) = match wish.destination {
        IpAddr::V4(_) => (67, ICMP),
        IpAddr::V6(_) => (547, ICMPV6),
    };
    let is_offered = match (wish.protocol, wish.port) {
        (UDP, port) if port == dhcp => offered.dhcp,
        (UDP | TCP, 53) => offered.dns,
        (UDP, 123) => offered.ntp,
        (protocol, _) if protocol == icmp => offered.icmp,
        _ => false,
    };
    if is_offered {
        return Decision::allow(Tier::Platform, Why::GatewayService);
    }
    if is_router_host_of(wish) {
        return Decision::allow(Tier::Platform, Why::RouterIsHost);
    }
    Decision::deny(Tier::Platform, Reason::GatewayService)
}

/// Does the inventory declare the destination as an interface of the router on the own segment?
fn is_router_host_of(wish: Wish<'_>) -> bool {
    site::interfaces(wish.world.model).any(|(host, interface)| {
        host.is_router
            && interface.segment == Some(wish.source.segment)
            && site::has_address(interface, wish.destination)
    })
}

/// The rows whose destination is in a segment of the site.
fn to_site_segment(wish: Wish<'_>) -> Option<Decision> {
    let model = wish.world.model;
    let to = site::segment_of_address(model, wish.destination)?;
    let from_owner = model.segment(wish.source.segment).owner;
    let to_owner = model.segment(to).owner;
    Some(match (from_owner, to_owner) {
        (Owner::Tenant(tenant), Owner::Platform) => to_service(wish, model.tenant(tenant)),
        (Owner::Platform, Owner::Platform) => to_zone(wish, Zone::Segment(to)),
        (Owner::Platform, Owner::Tenant(tenant)) => to_tenant(wish, model.tenant(tenant)),
        (Owner::Tenant(from), Owner::Tenant(tenant)) if from == tenant => {
            to_same_tenant(wish, model.tenant(tenant))
        }
        (Owner::Tenant(from), Owner::Tenant(tenant)) => to_other_tenant(wish, from, tenant),
    })
}

/// Row "in a platform segment D, S a tenant's".
fn to_service(wish: Wish<'_>, tenant: &Tenant) -> Decision {
    let granted = tenant.services.iter().map(|(id, _)| *id).find(|id| {
        let service = wish.world.model.service(*id);
        let has_address = match wish.destination {
            IpAddr::V4(d) => service.ipv4 == Some(d),
            IpAddr::V6(d) => service.ipv6 == Some(d),
        };
        has_address && any_port_matches(&service.ports, wish)
    });
    match granted {
        Some(id) => Decision::allow(Tier::Platform, Why::Service(id)),
        None => Decision::deny(Tier::Platform, Reason::PlatformAddress),
    }
}

/// Row "in a platform segment D, S a platform segment".
fn to_zone(wish: Wish<'_>, zone: Zone) -> Decision {
    match matching_policy(wish, zone) {
        Some(index) => Decision::allow(Tier::Platform, Why::ZonePolicy(index)),
        None => Decision::deny(Tier::Baseline, Reason::NoPolicy),
    }
}

/// Row "in a tenant's segment D, S a platform segment".
fn to_tenant(wish: Wish<'_>, tenant: &Tenant) -> Decision {
    if let Some(index) = matching_policy(wish, Zone::Tenants) {
        return Decision::allow(Tier::Platform, Why::ZonePolicy(index));
    }
    if tenant
        .trusted_operators
        .iter()
        .any(|(zone, _)| *zone == wish.source.segment)
    {
        return Decision::allow(Tier::Platform, Why::TrustedOperator);
    }
    let Some((rule, action)) = first_matching_rule(wish, tenant) else {
        return Decision::deny(Tier::Baseline, Reason::NoPolicy);
    };
    if action == RuleAction::Deny {
        return Decision::deny_by_rule(rule, Reason::NoPolicy);
    }
    let accept = tenant.accepts.iter().position(|accept| {
        accept.from == wish.source.segment && any_port_matches(&accept.ports, wish)
    });
    match accept {
        Some(accept) => Decision::allow(Tier::Tenant, Why::AcceptedRule { rule, accept }),
        None => Decision::deny(Tier::Baseline, Reason::NoPolicy),
    }
}

/// Row "in another segment of the same tenant".
fn to_same_tenant(wish: Wish<'_>, tenant: &Tenant) -> Decision {
    match first_matching_rule(wish, tenant) {
        Some((rule, RuleAction::Deny)) => Decision::deny_by_rule(rule, Reason::TenantRule),
        Some((rule, RuleAction::Allow)) => Decision::allow(Tier::Tenant, Why::Rule(rule)),
        None => Decision::allow(Tier::Tenant, Why::SameTenant),
    }
}

/// Row "in another tenant's segment".
fn to_other_tenant(wish: Wish<'_>, from: TenantId, to: TenantId) -> Decision {
    let model = wish.world.model;
    let offering = model.tenant(to);
    let used = |name: &str| {
        model
            .tenant(from)
            .uses
            .iter()
            .any(|half| half.tenant == to && half.offer == name)
    };
    let offer = offering.offers.iter().position(|offer| {
        offer.consumers.contains(&from)
            && used(&offer.name)
            && destination_matches(wish, offer.to)
            && any_port_matches(&offer.ports, wish)
    });
    let Some(offer) = offer else {
        return Decision::deny(Tier::Baseline, Reason::OtherTenant);
    };
    match first_matching_rule(wish, offering) {
        Some((rule, RuleAction::Deny)) => Decision::deny_by_rule(rule, Reason::OtherTenant),
        Some((_, RuleAction::Allow)) | None => Decision::allow(Tier::Tenant, Why::Offer(offer)),
    }
}

/// Row "not an address of the site: internet".
fn to_internet(wish: Wish<'_>) -> Decision {
    let model = wish.world.model;
    if is_excluded(wish) {
        return Decision::deny(Tier::Platform, Reason::NotInternet);
    }
    let (zone, granted) = match model.segment(wish.source.segment).owner {
        Owner::Platform => (Zone::Segment(wish.source.segment), true),
        Owner::Tenant(tenant) => (Zone::Tenants, model.tenant(tenant).internet.is_some()),
    };
    if granted && model.internet_zones.iter().any(|entry| entry.zone == zone) {
        return Decision::allow(Tier::Platform, Why::Internet);
    }
    Decision::deny(Tier::Baseline, Reason::InternetDenied)
}

/// "Internet" never includes the excluded prefixes, nor any address of the site: a fixed address of
/// a host that is on no segment is one.
fn is_excluded(wish: Wish<'_>) -> bool {
    let model = wish.world.model;
    let d = wish.destination;
    is_never_internet(d)
        || model.internet_excludes.iter().any(|net| net.contains(&d))
        || site::interfaces(model).any(|(_, interface)| site::has_address(interface, d))
}

fn is_never_internet(destination: IpAddr) -> bool {
    let nets_v4 = [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(224, 0, 0, 0), 4),
    ];
    let global_v6 = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    match destination {
        IpAddr::V4(d) => nets_v4
            .iter()
            .any(|(net, length)| Ipv4Net::new_assert(*net, *length).contains(&d)),
        IpAddr::V6(d) => !global_v6.contains(&d),
    }
}

/// The first rule of the tenant that matches source, destination and port.
fn first_matching_rule(wish: Wish<'_>, tenant: &Tenant) -> Option<(usize, RuleAction)> {
    tenant
        .rules
        .iter()
        .enumerate()
        .find(|(_, rule)| rule_matches(wish, rule))
        .map(|(index, rule)| (index, rule.action))
}

fn rule_matches(wish: Wish<'_>, rule: &TenantRule) -> bool {
    let ports_match = rule.ports.is_empty() || any_port_matches(&rule.ports, wish);
    source_matches(wish, rule.from) && destination_matches(wish, rule.to) && ports_match
}

fn source_matches(wish: Wish<'_>, from: RuleFrom) -> bool {
    let model = wish.world.model;
    let Source { segment, address } = wish.source;
    match from {
        RuleFrom::Zone(zone) => zone == segment,
        RuleFrom::Segment(own) => own == segment,
        RuleFrom::Host(host) => model
            .host(host)
            .interfaces
            .iter()
            .any(|i| site::has_address(i, address)),
        RuleFrom::Tenant(tenant) => model.segment(segment).owner == Owner::Tenant(tenant),
        RuleFrom::Cidr(net) => net.contains(&address),
    }
}

fn destination_matches(wish: Wish<'_>, to: RuleTo) -> bool {
    let model = wish.world.model;
    let d = wish.destination;
    match to {
        RuleTo::Host(host) => model
            .host(host)
            .interfaces
            .iter()
            .any(|i| site::has_address(i, d)),
        RuleTo::Segment(segment) => site::holds(model.segment(segment), d),
    }
}

/// The first zone policy from the source's segment to `to` that matches.
fn matching_policy(wish: Wish<'_>, to: Zone) -> Option<usize> {
    wish.world
        .model
        .policies
        .iter()
        .position(|policy| policy_matches(wish, to, policy))
}

fn policy_matches(wish: Wish<'_>, to: Zone, policy: &ZonePolicy) -> bool {
    policy.from == Zone::Segment(wish.source.segment)
        && policy.to == to
        && net_matches(policy.source_net, wish.source.address)
        && net_matches(policy.destination_net, wish.destination)
        && policy_port_matches(wish, policy)
}

fn net_matches(net: Option<IpNet>, address: IpAddr) -> bool {
    net.is_none_or(|net| net.contains(&address))
}

/// Without ports, the protocol (if said) decides; ports are of TCP or UDP.
fn policy_port_matches(wish: Wish<'_>, policy: &ZonePolicy) -> bool {
    let protocol_matches = policy
        .protocol
        .is_none_or(|protocol| is_protocol(wish, protocol));
    if policy.destination_ports.is_empty() {
        return protocol_matches;
    }
    protocol_matches
        && matches!(wish.protocol, TCP | UDP)
        && policy
            .destination_ports
            .iter()
            .any(|range| range.contains(&wish.port))
}

fn any_port_matches(ports: &[PortSpec], wish: Wish<'_>) -> bool {
    ports.iter().any(|spec| {
        is_protocol(wish, spec.protocol)
            && (spec.protocol == Protocol::Icmp || spec.ports.contains(&wish.port))
    })
}

/// `icmp` is the ICMP of the packet's family.
fn is_protocol(wish: Wish<'_>, protocol: Protocol) -> bool {
    let number = match (protocol, wish.destination) {
        (Protocol::Tcp, _) => TCP,
        (Protocol::Udp, _) => UDP,
        (Protocol::Icmp, IpAddr::V4(_)) => ICMP,
        (Protocol::Icmp, IpAddr::V6(_)) => ICMPV6,
    };
    wish.protocol == number
}
