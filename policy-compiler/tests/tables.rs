//! The compiler's tables on small sites: what is allowed, why, and how much memory it takes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod models;

use dataplane_common::abi::{PREFIX_LENGTHS, endpoint_flags, segment_flags};
use dataplane_common::reason::DropReason;
use models::*;
use netmodel::Model;
use netmodel::model::*;
use policy_compiler::{CompileError, RouterFacts, Tables, Tier, TraceEntry, Verdict};
use policy_compiler::{Connection, compile};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn tables(model: &Model) -> Tables {
    compile(model, &RouterFacts::default()).unwrap()
}

fn tcp(tables: &Tables, source: &str, destination: &str, port: u16) -> Verdict {
    tables.evaluate(ip(source), ip(destination), TCP, port)
}

fn why(tables: &Tables, verdict: Verdict) -> &TraceEntry {
    match verdict {
        Verdict::Allow(id) => tables.rule(id).unwrap(),
        Verdict::Deny(reason) => panic!("denied: {reason}"),
    }
}

/// Two platform segments and two tenants, the first with two segments.
struct Site {
    model: Model,
    office: SegmentId,
    servers: SegmentId,
    a: TenantId,
    a_main: SegmentId,
    a_db: SegmentId,
    b: TenantId,
    b_main: SegmentId,
}

fn site() -> Site {
    let mut model = empty();
    let platform = Owner::Platform;
    let office = add_segment(
        &mut model,
        platform,
        "office",
        10,
        &["10.0.10.0/24", "fd00:10::/64"],
    );
    let servers = add_segment(&mut model, platform, "servers", 20, &["10.0.20.0/24"]);
    let a = add_tenant(&mut model, "a");
    let a_main = add_segment(&mut model, Owner::Tenant(a), "main", 100, &["10.1.0.0/24"]);
    let a_db = add_segment(&mut model, Owner::Tenant(a), "db", 101, &["10.1.1.0/24"]);
    let b = add_tenant(&mut model, "b");
    let b_main = add_segment(&mut model, Owner::Tenant(b), "main", 102, &["10.2.0.0/24"]);
    Site {
        model,
        office,
        servers,
        a,
        a_main,
        a_db,
        b,
        b_main,
    }
}

#[test]
fn nothing_said_means_nothing_allowed_between_segments() {
    let tables = tables(&site().model);
    let (office, server, b) = ("10.0.10.9", "10.0.20.9", "10.2.0.9");
    let deny = Verdict::Deny;
    assert_eq!(tcp(&tables, office, server, 80), deny(DropReason::NoPolicy));
    assert_eq!(tcp(&tables, office, b, 80), deny(DropReason::NoPolicy));
    assert_eq!(
        tcp(&tables, b, server, 80),
        deny(DropReason::PlatformAddress)
    );
    assert_eq!(
        tcp(&tables, b, "10.1.0.9", 80),
        deny(DropReason::OtherTenant)
    );
    assert_eq!(
        tcp(&tables, office, "10.0.10.8", 80),
        deny(DropReason::SameSegment)
    );
    assert_eq!(
        tcp(&tables, office, "10.0.20.1", 80),
        deny(DropReason::RouterAddress)
    );
    assert_eq!(
        tcp(&tables, office, "10.0.20.255", 80),
        deny(DropReason::MartianDestination)
    );
    assert_eq!(
        tcp(&tables, office, "10.9.9.9", 80),
        deny(DropReason::NotInternet)
    );
    assert_eq!(
        tcp(&tables, office, "192.0.2.1", 80),
        deny(DropReason::InternetDenied)
    );
    assert_eq!(
        tcp(&tables, "192.0.2.1", office, 80),
        deny(DropReason::SourceNotInSegment)
    );
}

#[test]
fn zone_policy_allows_its_ports_one_way_and_is_traced() {
    let mut site = site();
    let mut web = policy(site.office, Zone::Segment(site.servers));
    web.destination_ports = vec![80..=89];
    site.model.policies.push(web);
    let tables = tables(&site.model);

    let allowed = tcp(&tables, "10.0.10.9", "10.0.20.9", 80);
    let entry = why(&tables, allowed);
    assert_eq!(
        (entry.tier, &entry.origins),
        (Tier::Platform, &vec![origin(500)])
    );
    assert!(
        tables
            .evaluate(ip("10.0.10.9"), ip("10.0.20.9"), UDP, 89)
            .is_allow()
    );
    assert!(!tcp(&tables, "10.0.10.9", "10.0.20.9", 90).is_allow());
    assert!(
        !tables
            .evaluate(ip("10.0.10.9"), ip("10.0.20.9"), ICMP, 0)
            .is_allow()
    );
    assert!(!tcp(&tables, "10.0.20.9", "10.0.10.9", 80).is_allow());
}

#[test]
fn icmp_policy_with_ports_matches_nothing() {
    let mut site = site();
    let mut odd = policy(site.office, Zone::Segment(site.servers));
    odd.protocol = Some(Protocol::Icmp);
    odd.destination_ports = vec![0..=65535];
    site.model.policies.push(odd);
    let tables = tables(&site.model);
    assert!(
        !tables
            .evaluate(ip("10.0.10.9"), ip("10.0.20.9"), ICMP, 0)
            .is_allow()
    );
    assert!(!tcp(&tables, "10.0.10.9", "10.0.20.9", 80).is_allow());
}

#[test]
fn source_and_destination_nets_split_a_segment() {
    let mut site = site();
    let mut narrow = policy(site.office, Zone::Segment(site.servers));
    narrow.source_net = Some(net("10.0.10.64/26"));
    narrow.destination_net = Some(net("10.0.20.5/32"));
    site.model.policies.push(narrow);
    let tables = tables(&site.model);
    assert!(tcp(&tables, "10.0.10.64", "10.0.20.5", 80).is_allow());
    assert!(!tcp(&tables, "10.0.10.63", "10.0.20.5", 80).is_allow());
    assert!(!tcp(&tables, "10.0.10.64", "10.0.20.6", 80).is_allow());
    let flags = tables.segments[&10].flags;
    assert_ne!(flags & segment_flags::CLASS_BY_PREFIX4, 0);
    assert_eq!(flags & segment_flags::CLASS_BY_PREFIX6, 0);
}

#[test]
fn net_of_one_family_says_nothing_about_the_other() {
    let mut site = site();
    let mut ipv4_only = policy(site.office, Zone::Tenants);
    ipv4_only.source_net = Some(net("10.0.0.0/8"));
    site.model.policies.push(ipv4_only);
    site.model.segments[site.b_main.0].ipv6 = Some(Subnet6 {
        net: "fd00:2::/64".parse().unwrap(),
        gateway: "fd00:2::1".parse().unwrap(),
    });
    let tables = tables(&site.model);
    assert!(tcp(&tables, "10.0.10.9", "10.2.0.9", 80).is_allow());
    assert!(!tcp(&tables, "fd00:10::9", "fd00:2::9", 80).is_allow());
}

#[test]
fn request_needs_both_halves_with_the_same_port() {
    let mut site = site();
    let zone = RuleFrom::Zone(site.office);
    let to = RuleTo::Segment(site.b_main);
    let tenant = &mut site.model.tenants[site.b.0];
    tenant
        .rules
        .push(rule(zone, to, &["tcp/80", "tcp/443"], RuleAction::Allow));
    let one_half = tables(&site.model);
    assert!(!tcp(&one_half, "10.0.10.9", "10.2.0.9", 80).is_allow());

    let accept = Accept {
        from: site.office,
        ports: ports(&["tcp/80", "tcp/22"]),
        origin: origin(9),
    };
    site.model.tenants[site.b.0].accepts.push(accept);
    let both = tables(&site.model);
    let allowed = tcp(&both, "10.0.10.9", "10.2.0.9", 80);
    let entry = why(&both, allowed);
    assert_eq!(
        (entry.tier, &entry.origins),
        (Tier::Tenant, &vec![origin(400), origin(9)])
    );
    for port in [22, 443] {
        assert!(
            !tcp(&both, "10.0.10.9", "10.2.0.9", port).is_allow(),
            "{port}"
        );
    }
}

#[test]
fn first_matching_tenant_rule_decides() {
    let mut site = site();
    let to = RuleTo::Segment(site.a_db);
    let host = add_host(&mut site.model, site.a_main, "app", None, "10.1.0.10");
    let rules = &mut site.model.tenants[site.a.0].rules;
    rules.push(rule(
        RuleFrom::Host(host),
        to,
        &["tcp/22"],
        RuleAction::Allow,
    ));
    rules.push(rule(
        RuleFrom::Segment(site.a_main),
        to,
        &["tcp/22"],
        RuleAction::Deny,
    ));
    let tables = tables(&site.model);
    assert!(tcp(&tables, "10.1.0.10", "10.1.1.9", 22).is_allow());
    let denied = tcp(&tables, "10.1.0.11", "10.1.1.9", 22);
    assert_eq!(denied, Verdict::Deny(DropReason::TenantRule));
    assert!(tcp(&tables, "10.1.0.11", "10.1.1.9", 23).is_allow());
    assert!(tcp(&tables, "10.1.1.9", "10.1.0.11", 22).is_allow());
}

#[test]
fn tenant_cannot_deny_what_the_platform_allows() {
    let mut site = site();
    let b_main = site.b_main;
    let tenant = &mut site.model.tenants[site.b.0];
    tenant.trusted_operators.push((site.office, origin(7)));
    let deny = rule(
        RuleFrom::Zone(site.office),
        RuleTo::Segment(b_main),
        &[],
        RuleAction::Deny,
    );
    tenant.rules.push(deny);
    let tables = tables(&site.model);
    let allowed = tcp(&tables, "10.0.10.9", "10.2.0.9", 80);
    let entry = why(&tables, allowed);
    let origins: Vec<_> = entry.origins_for(Some(site.b)).collect();
    assert_eq!(origins, [&origin(7)]);
}

#[test]
fn offer_takes_effect_only_with_its_use() {
    let mut site = site();
    site.model.tenants[site.a.0].offers.push(TenantOffer {
        name: "api".into(),
        to: RuleTo::Segment(site.a_main),
        ports: ports(&["tcp/443"]),
        consumers: vec![site.b],
        origin: origin(5),
    });
    assert!(!tcp(&tables(&site.model), "10.2.0.9", "10.1.0.9", 443).is_allow());
    let uses = TenantUse {
        tenant: site.a,
        offer: "api".into(),
        origin: origin(6),
    };
    site.model.tenants[site.b.0].uses.push(uses);
    let tables = tables(&site.model);
    let allowed = tcp(&tables, "10.2.0.9", "10.1.0.9", 443);
    assert_eq!(why(&tables, allowed).origins, [origin(5), origin(6)]);
    assert!(!tcp(&tables, "10.2.0.9", "10.1.1.9", 443).is_allow());
    assert!(!tcp(&tables, "10.1.0.9", "10.2.0.9", 443).is_allow());
}

#[test]
fn granted_service_is_one_address_and_its_ports() {
    let mut site = site();
    let address = "10.0.20.20".parse().unwrap();
    let logs = add_service(
        &mut site.model,
        site.servers,
        "logs",
        address,
        &["tcp/3100"],
    );
    site.model.tenants[site.b.0]
        .services
        .push((logs, origin(8)));
    let tables = tables(&site.model);
    assert!(tcp(&tables, "10.2.0.9", "10.0.20.20", 3100).is_allow());
    assert!(!tcp(&tables, "10.2.0.9", "10.0.20.20", 3101).is_allow());
    assert!(!tcp(&tables, "10.2.0.9", "10.0.20.21", 3100).is_allow());
    assert!(!tcp(&tables, "10.1.0.9", "10.0.20.20", 3100).is_allow());
}

#[test]
fn gateway_serves_only_its_own_segment() {
    let tables = tables(&site().model);
    let dns = |to: &str| tables.evaluate(ip("10.2.0.9"), ip(to), UDP, 53);
    assert!(dns("10.2.0.1").is_allow());
    assert_eq!(dns("10.1.0.1"), Verdict::Deny(DropReason::RouterAddress));
    let ntp = tables.evaluate(ip("10.2.0.9"), ip("10.2.0.1"), UDP, 123);
    assert_eq!(ntp, Verdict::Deny(DropReason::GatewayService));
    assert!(
        tables
            .evaluate(ip("10.2.0.9"), ip("10.2.0.1"), ICMP, 0)
            .is_allow()
    );
}

#[test]
fn exclude_inside_of_a_segment_does_not_hide_the_segment() {
    let mut site = site();
    site.model
        .policies
        .push(policy(site.office, Zone::Segment(site.servers)));
    site.model.internet_excludes = vec![net("10.0.20.0/25"), net("203.0.113.0/24")];
    site.model.internet_zones.push(InternetZone {
        zone: Zone::Segment(site.office),
        origin: origin(1),
    });
    let tables = tables(&site.model);
    assert!(tcp(&tables, "10.0.10.9", "10.0.20.9", 80).is_allow());
    let excluded = tcp(&tables, "10.0.10.9", "203.0.113.9", 80);
    assert_eq!(excluded, Verdict::Deny(DropReason::NotInternet));
    assert!(tcp(&tables, "10.0.10.9", "192.0.2.9", 80).is_allow());
}

#[test]
fn router_address_from_the_kernel_is_denied() {
    let mut site = site();
    site.model.internet_zones.push(InternetZone {
        zone: Zone::Segment(site.office),
        origin: origin(1),
    });
    let router = RouterFacts {
        addresses: vec![ip("192.0.2.2")],
        ..RouterFacts::default()
    };
    let tables = compile(&site.model, &router).unwrap();
    let denied = tcp(&tables, "10.0.10.9", "192.0.2.2", 22);
    assert_eq!(denied, Verdict::Deny(DropReason::RouterAddress));
    assert!(tcp(&tables, "10.0.10.9", "192.0.2.3", 22).is_allow());
}

#[test]
fn declared_router_interface_is_a_host_of_its_segment() {
    let mut site = site();
    let router = add_host(
        &mut site.model,
        site.office,
        "rt",
        Some([2; 6]),
        "10.0.10.1",
    );
    site.model.hosts[router.0].is_router = true;
    site.model
        .policies
        .push(policy(site.servers, Zone::Segment(site.office)));
    let tables = tables(&site.model);
    assert!(tcp(&tables, "10.0.10.9", "10.0.10.1", 22).is_allow());
    assert!(tcp(&tables, "10.0.20.9", "10.0.10.1", 22).is_allow());
    let declared = endpoint_flags::ROUTER | endpoint_flags::DECLARED;
    let entries = tables
        .endpoints
        .values()
        .filter(|e| e.flags & declared == declared);
    assert_eq!(entries.count(), 1);
}

#[test]
fn unknown_vlan_of_a_source_is_denied() {
    let tables = tables(&site().model);
    let connection = Connection {
        vlan_id: 77,
        source: ip("10.0.10.9"),
        destination: ip("10.0.20.9"),
        protocol: TCP,
        port: 80,
    };
    assert_eq!(
        tables.judge(&connection),
        Verdict::Deny(DropReason::UnknownVlan)
    );
}

#[test]
fn vpc_tenant_is_refused_with_its_place() {
    let mut site = site();
    site.model.tenants[0].kind = TenantKind::Vpc;
    let error = compile(&site.model, &RouterFacts::default()).unwrap_err();
    let text = "test.yml:800: tenant `a` is of `kind: vpc`, which is not enforced yet; \
                use `kind: vlan`";
    assert_eq!(error.to_string(), text);
}

#[test]
fn too_many_prefix_lengths_are_refused() {
    let mut site = site();
    let lengths = 8..=u8::try_from(8 + PREFIX_LENGTHS).unwrap();
    let excludes = lengths.map(|length| net(&format!("11.0.0.0/{length}")));
    site.model.internet_excludes = excludes.collect();
    let error = compile(&site.model, &RouterFacts::default()).unwrap_err();
    assert!(
        matches!(error, CompileError::TooManyPrefixLengths { family: 4, .. }),
        "{error}"
    );
}

#[test]
fn identical_tenants_share_their_classes() {
    let few = tables(&many_tenants(10, usize::MAX));
    let many = tables(&many_tenants(1000, usize::MAX));
    // Tenant 0 takes requests from `iot` in both, the others are alike.
    assert_eq!(few.pairs.len(), many.pairs.len());
    assert_eq!(few.rules, many.rules);
    assert!(many.pairs.len() <= 6, "{}", many.pairs.len());
}

#[test]
fn equal_models_give_equal_tables() {
    let model = many_tenants(50, 3);
    let (one, other) = (tables(&model), tables(&model));
    assert_eq!(one, other);
    assert!(one.pairs.keys().eq(other.pairs.keys()));
    assert!(one.endpoints.keys().eq(other.endpoints.keys()));
}
