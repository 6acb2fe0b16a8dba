use oracle::frames::{Ether, Ip, Part, echo, icmp, link_layer_option, neighbour, protocol};

use crate::support::{
    API, Host, QUIET_UNKNOWN, ROUTER_LINK_LOCAL, SENSOR, STRANGER, check, ip, ipv6, packet,
};

const GATEWAY: &str = "fd00:100::1";
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

fn message(source: &str, to: &str, payload: Vec<u8>) -> Ip {
    let mut ip = Ip::new(ip(source), ip(to), protocol::ICMPV6, payload);
    ip.ttl = 255;
    ip
}

fn solicit(from: Host, source: &str, target: &str) -> Ether {
    let payload = neighbour(135, ipv6(target), &link_layer_option(SOURCE, from.mac));
    packet(from, &message(source, "ff02::1:ff00:1", payload))
}

fn detect(from: Host, target: &str) -> Ether {
    let payload = neighbour(135, ipv6(target), &[]);
    packet(from, &message("::", "ff02::1:ff00:1", payload))
}

fn advertise(from: Host, target: &str) -> Ether {
    let payload = neighbour(136, ipv6(target), &link_layer_option(TARGET, from.mac));
    packet(from, &message(from.ipv6, "ff02::1", payload))
}

/// API's solicitation for the gateway, with one thing changed.
fn with(change: impl FnOnce(&mut Ip)) -> Ether {
    let payload = neighbour(135, ipv6(GATEWAY), &link_layer_option(SOURCE, API.mac));
    let mut ip = message(API.ipv6, "ff02::1:ff00:1", payload);
    change(&mut ip);
    packet(API, &ip)
}

fn with_options(options: &[u8]) -> Ether {
    with(|ip| ip.payload = neighbour(135, ipv6(GATEWAY), options))
}

#[test]
fn the_shape_of_every_message_is_checked() {
    let good = link_layer_option(SOURCE, API.mac);
    let other = [14, 1, 0, 0, 0, 0, 0, 0];
    let long = [vec![SOURCE, 2], API.mac.to_vec(), vec![0; 8]].concat();
    check(vec![
        ("a solicitation for the gateway", with(|_| {}), "answered"),
        ("without option", with_options(&[]), "answered"),
        ("four options", with_options(&[good.clone(), other.repeat(3)].concat()), "to-kernel"),
        ("a second option for the router", with_options(&good.repeat(2)), "to-kernel"),
        ("extension headers", with(|p| p.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])]), "to-kernel"),
        ("hop limit 254", with(|p| p.ttl = 254), "nd-malformed"),
        ("code 1", with(|p| p.payload[1] = 1), "nd-malformed"),
        ("an atomic fragment", with(|p| { p.part = Some(Part { id: 1, offset: 0, more: false, }) }), "nd-malformed"),
        ("a first fragment", with(|p| { p.part = Some(Part { id: 1, offset: 0, more: true, }) }), "nd-malformed"),
        ("five options", with_options(&other.repeat(5)), "nd-malformed"),
        ("an option of length 0", with_options(&[SOURCE, 0, 0, 0, 0, 0, 0, 0]), "nd-malformed"),
        ("an option that does not fit", with_options(&[SOURCE, 2, 0, 0, 0, 0, 0, 0]), "nd-malformed"),
        ("an option of one octet", with_options(&[SOURCE]), "nd-malformed"),
        ("a link-layer address of 14 octets", with_options(&long), "nd-malformed"),
        ("half a target", with(|p| p.payload.truncate(16)), "nd-malformed"),
        ("to another host's address", with(|p| p.destination = ip("fd00:101::10")), "nd-malformed"),
        ("to a site multicast", with(|p| p.destination = ip("ff05::1")), "nd-malformed"),
    ]);
}

#[test]
fn a_solicitation_says_the_truth() {
    let wrong = link_layer_option(SOURCE, STRANGER.mac);
    let both = [link_layer_option(SOURCE, API.mac), wrong.clone()].concat();
    check(vec![
        ("for the gateway from link-local", solicit(API, "fe80::9", GATEWAY), "answered"),
        ("for the router's link-local", solicit(API, API.ipv6, ROUTER_LINK_LOCAL), "answered"),
        ("to the gateway itself", with(|p| p.destination = ip(GATEWAY)), "answered"),
        ("for another host", solicit(API, API.ipv6, "fd00:100::99"), "to-kernel"),
        ("for another host, to the router", with(|p| { p.payload[23] = 9; p.destination = ip(GATEWAY) }), "to-kernel"),
        ("another's MAC in the option", with_options(&wrong), "nd-mismatch"),
        ("another's MAC in the second option", with_options(&both), "nd-mismatch"),
        ("another's MAC in a target option", with_options(&link_layer_option(TARGET, STRANGER.mac)), "nd-mismatch"),
        ("a spoofed source", solicit(STRANGER, API.ipv6, GATEWAY), "spoofed-source"),
    ]);
}

#[test]
fn duplicate_address_detection_claims_only_what_is_free() {
    let with_option = |mac| {
        let payload = neighbour(135, ipv6(API.ipv6), &link_layer_option(SOURCE, mac));
        packet(API, &message("::", "ff02::1:ff00:10", payload))
    };
    check(vec![
        ("the own address", detect(API, API.ipv6), "to-kernel"),
        ("a link-local address", detect(API, "fe80::9"), "to-kernel"),
        ("a free address by a stranger", detect(STRANGER, "fd00:100::77"), "to-kernel"),
        ("the address of an endpoint without MAC", detect(QUIET_UNKNOWN, QUIET_UNKNOWN.ipv6), "to-kernel"),
        ("the gateway", detect(API, GATEWAY), "gateway-claim"),
        ("the router's link-local", detect(API, ROUTER_LINK_LOCAL), "gateway-claim"),
        ("a free address by a bound MAC", detect(API, "fd00:100::77"), "nd-mismatch"),
        ("an endpoint's address by a stranger", detect(STRANGER, API.ipv6), "nd-mismatch"),
        ("an address of another segment", detect(STRANGER, "fd00:101::77"), "nd-mismatch"),
        ("the subnet-router anycast address", detect(STRANGER, "fd00:100::"), "nd-mismatch"),
        ("with a link-layer option", with_option(API.mac), "nd-malformed"),
        ("with another's link-layer option", with_option(STRANGER.mac), "nd-malformed"),
    ]);
}

#[test]
fn an_advertisement_claims_only_the_own_address() {
    let wrong = neighbour(
        136,
        ipv6(API.ipv6),
        &link_layer_option(TARGET, STRANGER.mac),
    );
    let wrong = packet(API, &message(API.ipv6, "ff02::1", wrong));
    let to_router = neighbour(136, ipv6(API.ipv6), &[]);
    let to_router = packet(API, &message(API.ipv6, GATEWAY, to_router));
    check(vec![
        ("the own address", advertise(API, API.ipv6), "to-kernel"),
        ("the own address, to the gateway", to_router, "to-kernel"),
        ("a link-local address", advertise(API, "fe80::9"), "to-kernel"),
        ("the gateway", advertise(API, GATEWAY), "gateway-claim"),
        ("the router's link-local", advertise(API, ROUTER_LINK_LOCAL), "gateway-claim"),
        ("another endpoint's address", advertise(STRANGER, API.ipv6), "nd-mismatch"),
        ("a free address by a bound MAC", advertise(API, "fd00:100::77"), "nd-mismatch"),
        ("an address of another segment", advertise(API, "fd00:101::10"), "nd-mismatch"),
        ("another's MAC in the option", wrong, "nd-mismatch"),
    ]);
}

#[test]
fn only_the_router_acts_as_a_router() {
    let solicit = |to, mac| {
        let payload = icmp(133, 0, [0; 4], &link_layer_option(SOURCE, mac));
        packet(API, &message("fe80::9", to, payload))
    };
    let fragmented = |kind| {
        let mut ip = message("fe80::9", "ff02::1", icmp(kind, 0, [0; 4], &[0; 40]));
        ip.part = Some(Part { id: 1, offset: 0, more: true });
        packet(API, &ip)
    };
    let routers = |kind, hop_limit| {
        let mut ip = message("fe80::9", "ff02::1", icmp(kind, 0, [0; 4], &[0; 40]));
        ip.ttl = hop_limit;
        packet(API, &ip)
    };
    check(vec![
        ("a solicitation", solicit("ff02::2", API.mac), "to-kernel"),
        ("a solicitation to the router", solicit(ROUTER_LINK_LOCAL, API.mac), "to-kernel"),
        ("a solicitation to all nodes", solicit("ff02::1", API.mac), "to-kernel"),
        ("with another's MAC", solicit("ff02::2", STRANGER.mac), "nd-mismatch"),
        ("an advertisement", routers(134, 255), "router-advertisement"),
        ("an advertisement from afar", routers(134, 64), "router-advertisement"),
        ("an advertisement in fragments", fragmented(134), "router-advertisement"),
        ("a redirect in fragments", fragmented(137), "icmp-redirect"),
        ("a redirect", routers(137, 255), "icmp-redirect"),
        ("an MLD query", routers(130, 1), "router-advertisement"),
    ]);
}

#[test]
fn mld_reports_are_link_local() {
    let report = |kind, source: &str, to: &str| {
        let mut ip = Ip::new(
            ip(source),
            ip(to),
            protocol::ICMPV6,
            icmp(kind, 0, [0; 4], &[0; 16]),
        );
        ip.ttl = 1;
        ip.extensions = vec![(protocol::HOP_BY_HOP, vec![0, 0, 5, 2, 0, 0, 1, 0])];
        packet(API, &ip)
    };
    check(vec![
        ("version 2", report(143, "fe80::9", "ff02::16"), "to-kernel"),
        ("version 1", report(131, "fe80::9", "ff02::1:3"), "to-kernel"),
        ("done", report(132, "fe80::9", "ff02::2"), "to-kernel"),
        ("without address", report(143, "::", "ff02::16"), "to-kernel"),
        ("from a global address", report(143, API.ipv6, "ff02::16"), "nd-malformed"),
        ("to the router", report(143, "fe80::9", ROUTER_LINK_LOCAL), "nd-malformed"),
        ("a type between them", report(138, "fe80::9", "ff02::16"), "multicast-not-allowed"),
    ]);
}

#[test]
fn a_segment_without_ipv6_still_has_link_local_neighbours() {
    let from = Host {
        ipv6: "fe80::9",
        ..SENSOR
    };
    let ping = Ip::new(
        ip("fe80::9"),
        ip(ROUTER_LINK_LOCAL),
        protocol::ICMPV6,
        echo(128, 1),
    );
    check(vec![
        ("a solicitation for the router", solicit(from, "fe80::9", ROUTER_LINK_LOCAL), "answered"),
        ("a solicitation for a link-local", solicit(from, "fe80::9", "fe80::5"), "to-kernel"),
        ("a solicitation for a global address", solicit(from, "fe80::9", GATEWAY), "nd-mismatch"),
        ("detection of a link-local", detect(from, "fe80::9"), "to-kernel"),
        ("detection of a global address", detect(from, "fd00:100::77"), "nd-mismatch"),
        ("an advertisement of a link-local", advertise(from, "fe80::9"), "to-kernel"),
        ("an advertisement of a global address", advertise(from, "fd00:100::77"), "nd-mismatch"),
        ("a ping to the router", packet(from, &ping), "source-not-in-segment"),
    ]);
}
