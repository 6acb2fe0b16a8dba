use netmodel::Model;
use netmodel::model::{SegmentId, ServiceId};
use oracle::fixtures::{ROUTER_MAC, sample_model, segments as s, tenants as t};
use oracle::frames::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};
use oracle::{Source, Tier, Why, World, may_connect};

use crate::support::{ROUTER_LINK_LOCAL, ip};

/// Segment, source, destination, protocol, port, expected reason (`allow` if none).
type Row = (SegmentId, &'static str, &'static str, u8, u16, &'static str);

#[track_caller]
fn check_with(model: &Model, rows: &[Row]) {
    let mut world = World::new(model, ROUTER_MAC, 1);
    world.router.extra_addresses = vec![ip("192.0.2.1"), ip("10.20.25.7"), ip("2001:db8::1")];
    for row in rows {
        let (segment, source, destination, protocol, port, expected) = *row;
        let source = Source {
            segment,
            address: ip(source),
        };
        let decision = may_connect(&world, source, ip(destination), protocol, port);
        let seen = decision.reason().map_or("allow", oracle::Reason::name);
        assert_eq!(seen, expected, "{row:?} {decision:?}");
        assert_eq!(decision.allow, expected == "allow", "{row:?}");
    }
}

#[track_caller]
fn check(rows: &[Row]) {
    check_with(&sample_model(), rows);
}

const API: &str = "10.100.0.10";
const API6: &str = "fd00:100::10";

#[test]
fn nobody_talks_to_martians() {
    check(&[
        (s::GROOVEIQ, API, "0.0.0.0", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API, "0.1.2.3", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API, "127.0.0.1", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API, "240.0.0.1", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API6, "::", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API6, "::1", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API6, "::ffff:1.1.1.1", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API, "10.101.0.0", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API, "10.101.0.255", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API6, "fd00:101::", TCP, 443, "martian-destination"),
        (s::TRUSTED, "10.20.10.20", "10.20.25.255", TCP, 443, "martian-destination"),
    ]);
}

#[test]
fn the_gateway_offers_its_services_only() {
    check(&[
        (s::GROOVEIQ, API, "10.100.0.1", UDP, 67, "allow"),
        (s::GROOVEIQ, API, "10.100.0.1", UDP, 53, "allow"),
        (s::GROOVEIQ, API, "10.100.0.1", TCP, 53, "allow"),
        (s::GROOVEIQ, API, "10.100.0.1", UDP, 123, "allow"),
        (s::GROOVEIQ, API, "10.100.0.1", ICMP, 0, "allow"),
        (s::GROOVEIQ, API, "10.100.0.1", TCP, 22, "gateway-service"),
        (s::GROOVEIQ, API, "10.100.0.1", TCP, 123, "gateway-service"),
        (s::GROOVEIQ, API, "10.100.0.1", UDP, 547, "gateway-service"),
        (s::GROOVEIQ, API, "10.100.0.1", ICMPV6, 0, "gateway-service"),
        (s::GROOVEIQ, API, "10.100.0.1", SCTP, 53, "gateway-service"),
        (s::GROOVEIQ, API6, "fd00:100::1", UDP, 547, "allow"),
        (s::GROOVEIQ, API6, "fd00:100::1", UDP, 53, "allow"),
        (s::GROOVEIQ, API6, "fd00:100::1", ICMPV6, 0, "allow"),
        (s::GROOVEIQ, API6, "fd00:100::1", UDP, 67, "gateway-service"),
        (s::GROOVEIQ, API6, ROUTER_LINK_LOCAL, ICMPV6, 0, "allow"),
        (s::GROOVEIQ, API6, ROUTER_LINK_LOCAL, TCP, 22, "gateway-service"),
        (s::GROOVEIQ, API6, "fe80::1", ICMPV6, 0, "link-local-scope"),
    ]);
}

#[test]
fn the_gateway_offers_nothing_that_is_switched_off() {
    let mut model = sample_model();
    model.gateway_services = netmodel::model::GatewayServices::default();
    check_with(
        &model,
        &[
            (s::GROOVEIQ, API, "10.100.0.1", UDP, 67, "gateway-service"),
            (s::GROOVEIQ, API, "10.100.0.1", UDP, 53, "gateway-service"),
            (s::GROOVEIQ, API, "10.100.0.1", TCP, 53, "gateway-service"),
            (s::GROOVEIQ, API, "10.100.0.1", UDP, 123, "gateway-service"),
            (s::GROOVEIQ, API, "10.100.0.1", ICMP, 0, "gateway-service"),
            (s::GROOVEIQ, API6, "fd00:100::1", UDP, 547, "gateway-service"),
        ],
    );
}

#[test]
fn the_router_is_a_host_where_the_inventory_says_so() {
    check(&[
        (s::MANAGEMENT, "10.20.99.21", "10.20.99.1", TCP, 22, "allow"),
        (s::MANAGEMENT, "fd00:99::95", "fd00:99::1", TCP, 22, "gateway-service"),
        (s::TRUSTED, "10.20.10.20", "10.20.99.1", TCP, 22, "allow"),
        (s::IOT, "10.20.30.20", "10.20.99.1", TCP, 22, "no-policy"),
        (s::GROOVEIQ, API, "10.20.99.1", TCP, 22, "platform-address"),
    ]);
}

#[test]
fn other_addresses_of_the_router_are_closed() {
    check(&[
        (s::GROOVEIQ, API, "10.101.0.1", UDP, 53, "router-address"),
        (s::GROOVEIQ, API, "10.20.25.1", UDP, 53, "router-address"),
        (s::GROOVEIQ, API6, "fd00:101::1", ICMPV6, 0, "router-address"),
        (s::TRUSTED, "10.20.10.20", "10.20.25.1", TCP, 22, "router-address"),
        (s::TRUSTED, "10.20.10.20", "10.20.25.7", TCP, 22, "router-address"),
        (s::GROOVEIQ, API, "192.0.2.1", TCP, 22, "router-address"),
        (s::GROOVEIQ, API6, "2001:db8::1", TCP, 22, "router-address"),
        // The WAN address: the inventory has it, on no segment.
        (s::GROOVEIQ, API, "203.0.113.2", TCP, 22, "router-address"),
        (s::TRUSTED, "10.20.10.20", "10.20.250.0", ICMP, 0, "router-address"),
    ]);
}

#[test]
fn hosts_of_one_segment_talk_directly() {
    check(&[
        (s::GROOVEIQ, API, "10.100.0.11", TCP, 443, "same-segment"),
        (s::GROOVEIQ, API, "10.100.0.255", TCP, 443, "same-segment"),
        (s::GROOVEIQ, API6, "fd00:100::99", TCP, 443, "same-segment"),
        (s::TRUSTED, "10.20.10.20", "10.20.10.21", TCP, 443, "same-segment"),
    ]);
}

#[test]
fn tenants_reach_granted_services_and_no_other_platform_address() {
    check(&[
        (s::GROOVEIQ, API, "10.20.25.20", TCP, 3100, "allow"),
        (s::GROOVEIQ, API6, "fd00:25::20", TCP, 3100, "allow"),
        (s::GROOVEIQ, API, "10.20.99.95", TCP, 80, "allow"),
        (s::GROOVEIQ, API, "10.20.25.21", TCP, 9090, "allow"),
        (s::GROOVEIQ, API, "10.20.25.20", UDP, 3100, "platform-address"),
        (s::GROOVEIQ, API, "10.20.25.20", TCP, 3101, "platform-address"),
        (s::GROOVEIQ, API, "10.20.25.22", TCP, 3100, "platform-address"),
        (s::GROOVEIQ, API, "10.20.25.20", ICMP, 0, "platform-address"),
        (s::GROOVEIQ, API6, "fd00:25::21", TCP, 9090, "platform-address"),
        (s::GROOVEIQ, API, "10.20.99.21", TCP, 22, "platform-address"),
        (s::MONEYROUTER, "10.102.0.11", "10.20.25.21", TCP, 9090, "platform-address"),
        (s::QUIET, "10.103.0.10", "10.20.25.20", TCP, 3100, "platform-address"),
    ]);
}

#[test]
fn platform_zones_need_a_policy() {
    check(&[
        (s::TRUSTED, "10.20.10.20", "10.20.25.20", TCP, 22, "allow"),
        (s::TRUSTED, "10.20.10.20", "10.20.25.20", SCTP, 0, "allow"),
        (s::PLATFORM, "10.20.25.20", "10.20.10.20", TCP, 22, "no-policy"),
        (s::IOT, "10.20.30.20", "10.20.35.10", UDP, 1, "allow"),
        (s::IOT, "10.20.30.20", "10.20.25.20", TCP, 22, "no-policy"),
        // guest -> iot_backend: TCP, lower half, one host, 443 and 8000-8010.
        (s::GUEST, "10.20.40.60", "10.20.35.10", TCP, 443, "allow"),
        (s::GUEST, "10.20.40.60", "10.20.35.10", TCP, 8010, "allow"),
        (s::GUEST, "10.20.40.60", "10.20.35.10", TCP, 8011, "no-policy"),
        (s::GUEST, "10.20.40.60", "10.20.35.10", UDP, 443, "no-policy"),
        (s::GUEST, "10.20.40.60", "10.20.35.11", TCP, 443, "no-policy"),
        (s::GUEST, "10.20.40.160", "10.20.35.10", TCP, 443, "no-policy"),
        // iot_vendor -> storage: port 2049 without protocol.
        (s::IOT_VENDOR, "10.20.31.9", "10.20.20.10", TCP, 2049, "allow"),
        (s::IOT_VENDOR, "10.20.31.9", "10.20.20.10", UDP, 2049, "allow"),
        (s::IOT_VENDOR, "10.20.31.9", "10.20.20.10", SCTP, 2049, "no-policy"),
        (s::IOT_VENDOR, "10.20.31.9", "10.20.20.10", ICMP, 0, "no-policy"),
        // management -> sensors6: icmp.
        (s::MANAGEMENT, "fd00:99::95", "fd00:36::10", ICMPV6, 0, "allow"),
        (s::MANAGEMENT, "fd00:99::95", "fd00:36::10", ICMP, 0, "no-policy"),
        (s::MANAGEMENT, "fd00:99::95", "fd00:36::10", TCP, 22, "no-policy"),
    ]);
}

#[test]
fn platform_zones_reach_tenants_by_policy_operator_or_both_halves() {
    check(&[
        (s::MANAGEMENT, "10.20.99.21", API, TCP, 22, "allow"),
        (s::TRUSTED, "10.20.10.20", "10.104.0.10", TCP, 22, "allow"),
        // storage is a trusted operator of quiet only.
        (s::STORAGE, "10.20.20.10", "10.103.0.10", TCP, 22, "allow"),
        (s::STORAGE, "10.20.20.10", API, TCP, 22, "no-policy"),
        // Both halves.
        (s::IOT, "10.20.30.20", "10.100.0.12", TCP, 8883, "allow"),
        (s::IOT, "10.20.30.20", "10.100.0.12", TCP, 8884, "no-policy"),
        (s::IOT, "10.20.30.20", "10.100.0.12", UDP, 8883, "no-policy"),
        (s::IOT, "10.20.30.20", "10.100.0.11", TCP, 8883, "no-policy"),
        // The rule without its `accepts`, and the other way round.
        (s::IOT_VENDOR, "10.20.31.9", "10.100.0.12", TCP, 8883, "no-policy"),
        (s::GUEST, "10.20.40.60", API, TCP, 443, "no-policy"),
        // The first matching rule decides: quiet denies iot its database host.
        (s::IOT, "10.20.30.20", "10.104.0.20", TCP, 80, "allow"),
        (s::IOT, "10.20.30.20", "10.104.0.10", TCP, 80, "no-policy"),
        (s::IOT, "10.20.30.20", "10.104.0.20", TCP, 81, "no-policy"),
    ]);
}

#[test]
fn a_tenant_may_deny_between_its_own_segments() {
    check(&[
        (s::QUIET, "10.103.0.10", "10.104.0.10", TCP, 443, "allow"),
        (s::QUIET_DB, "10.104.0.10", "10.103.0.10", TCP, 22, "allow"),
        (s::QUIET, "10.103.0.10", "10.104.0.10", TCP, 22, "allow"),
        (s::QUIET, "fd00:103::10", "fd00:104::10", TCP, 22, "allow"),
        (s::QUIET, "10.103.0.11", "10.104.0.10", TCP, 22, "tenant-rule"),
        (s::QUIET, "fd00:103::11", "fd00:104::10", TCP, 22, "tenant-rule"),
        (s::QUIET, "10.103.0.10", "10.104.0.10", ICMP, 0, "tenant-rule"),
        (s::QUIET, "fd00:103::10", "fd00:104::10", ICMPV6, 0, "tenant-rule"),
    ]);
}

#[test]
fn tenants_meet_where_one_offers_and_the_other_uses() {
    check(&[
        (s::VINTRONICS, "10.101.0.10", API, TCP, 443, "allow"),
        (s::VINTRONICS, "fd00:101::10", API6, TCP, 443, "allow"),
        (s::VINTRONICS, "10.101.0.10", API, TCP, 80, "other-tenant"),
        (s::VINTRONICS, "10.101.0.10", "10.100.0.11", TCP, 443, "other-tenant"),
        (s::GROOVEIQ, API, "10.101.0.10", TCP, 443, "other-tenant"),
        // Offered to quiet, not used; used by moneyrouter, not offered to it.
        (s::QUIET, "10.103.0.10", API, TCP, 443, "other-tenant"),
        (s::MONEYROUTER, "10.102.0.11", API, TCP, 443, "other-tenant"),
        // quiet uses vintronics' segment, whose rule denies ICMP to one host.
        (s::QUIET, "10.103.0.10", "10.101.0.10", UDP, 5050, "allow"),
        (s::QUIET_DB, "10.104.0.10", "10.101.0.99", ICMP, 0, "allow"),
        (s::QUIET, "10.103.0.10", "10.101.0.10", ICMP, 0, "other-tenant"),
        (s::QUIET, "10.103.0.10", "10.101.0.10", UDP, 5101, "other-tenant"),
    ]);
}

#[test]
fn the_internet_is_what_is_left() {
    check(&[
        (s::GROOVEIQ, API, "1.1.1.1", TCP, 443, "allow"),
        (s::GROOVEIQ, API, "1.1.1.1", SCTP, 0, "allow"),
        (s::GROOVEIQ, API6, "2606:4700::1", UDP, 443, "allow"),
        (s::TRUSTED, "10.20.10.20", "8.8.8.8", ICMP, 0, "allow"),
        (s::QUIET, "10.103.0.10", "1.1.1.1", TCP, 443, "internet-denied"),
        (s::STORAGE, "10.20.20.10", "1.1.1.1", TCP, 443, "internet-denied"),
        (s::GROOVEIQ, API, "10.200.0.1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API, "100.64.0.1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API, "169.254.169.254", TCP, 80, "not-internet"),
        (s::GROOVEIQ, API, "172.31.0.1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API, "192.168.1.1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API, "198.51.100.1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API, "172.32.0.1", TCP, 443, "allow"),
        (s::GROOVEIQ, API6, "fd99::1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API6, "64:ff9b::1", TCP, 443, "martian-destination"),
        (s::GROOVEIQ, API6, "4000::1", TCP, 443, "not-internet"),
        (s::GROOVEIQ, API6, "2001:db8:66::1", TCP, 443, "not-internet"),
        (s::QUIET, "10.103.0.10", "10.200.0.1", TCP, 443, "not-internet"),
    ]);
}

#[test]
fn without_the_zone_tenants_no_tenant_has_internet() {
    let mut model = sample_model();
    model.internet_zones.pop();
    check_with(
        &model,
        &[
            (s::GROOVEIQ, API, "1.1.1.1", TCP, 443, "internet-denied"),
            (s::TRUSTED, "10.20.10.20", "1.1.1.1", TCP, 443, "allow"),
        ],
    );
}

#[test]
fn an_address_of_a_host_outside_of_all_segments_is_not_internet() {
    let mut model = sample_model();
    let stray = &mut model.hosts[3].interfaces[0];
    stray.segment = None;
    stray.ipv4 = Some("203.0.113.77".parse().unwrap());
    check_with(
        &model,
        &[
            (s::GROOVEIQ, API, "203.0.113.77", TCP, 443, "not-internet"),
            (s::GROOVEIQ, API, "203.0.113.78", TCP, 443, "allow"),
        ],
    );
}

#[test]
fn the_decision_names_tier_and_cause() {
    let model = sample_model();
    let world = World::new(&model, ROUTER_MAC, 1);
    let ask = |segment, source, destination, port| {
        let source = Source {
            segment,
            address: ip(source),
        };
        let decision = may_connect(&world, source, ip(destination), TCP, port);
        (decision.tier, decision.why)
    };
    let from_iot = |to, port| ask(s::IOT, "10.20.30.20", to, port);
    assert_eq!(
        from_iot("10.100.0.12", 8883),
        (Tier::Tenant, Why::AcceptedRule { rule: 0, accept: 0 })
    );
    let denied = Why::DeniedByRule {
        rule: 2,
        reason: oracle::Reason::NoPolicy,
    };
    assert_eq!(from_iot("10.104.0.10", 80), (Tier::Tenant, denied));
    assert_eq!(
        ask(s::STORAGE, "10.20.20.10", "10.103.0.10", 22),
        (Tier::Platform, Why::TrustedOperator)
    );
    assert_eq!(
        ask(s::TRUSTED, "10.20.10.20", "10.103.0.10", 22),
        (Tier::Platform, Why::ZonePolicy(1))
    );
    assert_eq!(
        ask(s::VINTRONICS, "10.101.0.10", API, 443),
        (Tier::Tenant, Why::Offer(0))
    );
    assert_eq!(
        ask(s::GROOVEIQ, API, "10.20.25.20", 3100),
        (Tier::Platform, Why::Service(ServiceId(1)))
    );
    assert_eq!(model.tenant(t::GROOVEIQ).name.as_str(), "grooveiq");
}
