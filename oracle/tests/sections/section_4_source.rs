use oracle::frames::{Ether, Ip, Part, echo, flags, protocol, tcp, udp};

use crate::support::{
    API, Host, MQTT, NAS, PROVISIONER, QUIET_DB, QUIET_UNKNOWN, ROUTER_LINK_LOCAL, SENSOR,
    STRANGER, check, ip, packet,
};

/// A SYN to the internet with this source.
fn from(host: Host, source: &str) -> Ether {
    let source = ip(source);
    let to = ip(if source.is_ipv4() {
        "1.1.1.1"
    } else {
        "2606:4700::1"
    });
    let payload = tcp(40_000, 443, flags::SYN);
    packet(host, &Ip::new(source, to, protocol::TCP, payload))
}

#[test]
fn ipv4_sources_are_of_the_segment_and_the_binding() {
    let unmapped = Host {
        mac: [2, 7, 7, 7, 7, 7],
        ..QUIET_UNKNOWN
    };
    let cam = Host {
        mac: [0x02, 0xdd, 0xee, 0, 30, 30],
        ..SENSOR
    };
    check(vec![
        ("the bound address", from(API, API.ipv4), "to-kernel"),
        ("0/8", from(API, "0.1.2.3"), "martian-source"),
        ("loopback", from(API, "127.0.0.1"), "martian-source"),
        ("multicast", from(API, "224.0.0.1"), "martian-source"),
        ("class E", from(API, "240.0.0.1"), "martian-source"),
        ("broadcast", from(API, "255.255.255.255"), "martian-source"),
        ("the gateway", from(API, "10.100.0.1"), "gateway-claim"),
        ("another segment's address", from(API, "10.101.0.10"), "source-not-in-segment"),
        ("another segment's gateway", from(API, "10.101.0.1"), "source-not-in-segment"),
        ("an address of the internet", from(API, "8.8.8.8"), "source-not-in-segment"),
        ("the network address", from(API, "10.100.0.0"), "source-not-in-segment"),
        ("the broadcast address", from(API, "10.100.0.255"), "source-not-in-segment"),
        ("another endpoint's address", from(API, "10.100.0.11"), "spoofed-source"),
        ("an endpoint's address by a stranger", from(STRANGER, API.ipv4), "spoofed-source"),
        ("a free address by a bound MAC", from(API, "10.100.0.99"), "spoofed-source"),
        ("a free address by a stranger", from(STRANGER, STRANGER.ipv4), "to-kernel"),
        ("an endpoint whose MAC is unknown", from(unmapped, QUIET_UNKNOWN.ipv4), "internet-denied"),
        ("its address by a bound MAC", from(QUIET_DB, QUIET_UNKNOWN.ipv4), "spoofed-source"),
        ("a MAC without fixed address", from(cam, "10.20.30.77"), "to-kernel"),
        ("a bound MAC on another VLAN is a stranger", from(Host { vlan: 101, ..API }, "10.101.0.77"), "to-kernel"),
        ("a platform host", from(NAS, NAS.ipv4), "internet-denied"),
    ]);
}

#[test]
fn a_point_to_point_subnet_has_no_network_and_broadcast_address() {
    let peer = Host {
        vlan: 50,
        mac: [2, 5, 5, 5, 5, 5],
        ipv4: "10.20.250.1",
        ipv6: "",
    };
    check(vec![
        ("the other end", from(peer, "10.20.250.1"), "internet-denied"),
        ("the router's end", from(peer, "10.20.250.0"), "gateway-claim"),
    ]);
}

#[test]
fn the_unspecified_ipv4_source_is_for_dhcp_clients_only() {
    let discover = |change: fn(&mut Ip)| {
        let payload = udp(68, 67, b"discover");
        let mut ip = Ip::new(ip("0.0.0.0"), ip("255.255.255.255"), protocol::UDP, payload);
        change(&mut ip);
        packet(API, &ip)
    };
    let part = Part {
        id: 1,
        offset: 0,
        more: true,
    };
    check(vec![
        ("a DHCP discover", discover(|_| {}), "to-kernel"),
        ("from another port", discover(|p| p.payload[1] = 69), "source-not-in-segment"),
        ("to another port", discover(|p| p.payload[3] = 53), "source-not-in-segment"),
        ("to the gateway", discover(|p| p.destination = ip("10.100.0.1")), "source-not-in-segment"),
        ("in TCP", discover(|p| { p.protocol = protocol::TCP; p.payload = tcp(68, 67, flags::SYN) }), "source-not-in-segment"),
        (
            "fragmented",
            {
                let payload = udp(68, 67, b"discover");
                let mut ip = Ip::new(ip("0.0.0.0"), ip("255.255.255.255"), protocol::UDP, payload);
                ip.part = Some(part);
                packet(API, &ip)
            },
            "source-not-in-segment",
        ),
    ]);
}

#[test]
fn ipv6_sources_are_of_the_segment_and_the_binding() {
    check(vec![
        ("the bound address", from(API, API.ipv6), "to-kernel"),
        ("unspecified", from(API, "::"), "source-not-in-segment"),
        ("loopback", from(API, "::1"), "martian-source"),
        ("multicast", from(API, "ff02::1"), "martian-source"),
        ("IPv4-mapped", from(API, "::ffff:10.100.0.10"), "martian-source"),
        ("the rest of ::/8", from(API, "::10.100.0.10"), "martian-source"),
        ("NAT64", from(API, "64:ff9b::1"), "martian-source"),
        ("the gateway", from(API, "fd00:100::1"), "gateway-claim"),
        ("the router's link-local", from(API, ROUTER_LINK_LOCAL), "gateway-claim"),
        ("another segment's address", from(API, "fd00:101::10"), "source-not-in-segment"),
        ("an address of the internet", from(API, "2606:4700::1"), "source-not-in-segment"),
        ("the subnet-router anycast address", from(API, "fd00:100::"), "source-not-in-segment"),
        ("the last address is a host's", from(STRANGER, "fd00:100::ffff:ffff:ffff:ffff"), "to-kernel"),
        ("an endpoint's address by a stranger", from(STRANGER, API.ipv6), "spoofed-source"),
        ("a free address by a bound MAC", from(API, "fd00:100::99"), "spoofed-source"),
        ("a free address by a stranger", from(STRANGER, STRANGER.ipv6), "to-kernel"),
        ("a MAC that is bound in IPv4 only", from(MQTT, "fd00:100::77"), "to-kernel"),
        ("a platform host", from(PROVISIONER, PROVISIONER.ipv6), "to-kernel"),
    ]);
}

#[test]
fn link_local_sources_stay_on_the_link() {
    let to = |to| Ip::new(ip("fe80::9"), ip(to), protocol::ICMPV6, echo(128, 1));
    let mut report = to("ff05::2");
    report.payload[0] = 143;
    report.payload[1] = 0;
    check(vec![
        ("to the router's link-local", packet(API, &to(ROUTER_LINK_LOCAL)), "answered"),
        ("to another link-local", packet(API, &to("fe80::1")), "link-local-scope"),
        ("to the internet", packet(API, &to("2606:4700::1")), "link-local-scope"),
        ("to the gateway's other address", packet(API, &to("fd00:100::1")), "link-local-scope"),
        ("to a multicast beyond the link", packet(API, &report), "nd-malformed"),
        ("the end of fe80::/10 is link-local", from(API, "febf::1"), "link-local-scope"),
        ("fec0::/10 is not", from(API, "fec0::1"), "source-not-in-segment"),
    ]);
}
