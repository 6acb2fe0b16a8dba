use oracle::Verdict;
use oracle::fixtures::{sample_model, segments};
use oracle::frames::{Ether, Ip, Part, echo, flags, protocol, tcp};

use crate::support::{
    API, Host, LAPTOP, MQTT, NAS, QUIET_WEB, ROUTER_LINK_LOCAL, Router, WEB, check, own_packet,
    packet,
};

fn syn(from: Host, to: &str) -> Ip {
    own_packet(from, to, protocol::TCP, tcp(40_000, 443, flags::SYN))
}

fn with(from: Host, to: &str, change: impl FnOnce(&mut Ip)) -> Ether {
    let mut ip = syn(from, to);
    change(&mut ip);
    packet(from, &ip)
}

#[test]
fn a_packet_for_a_known_endpoint_gets_its_tag_and_mac() {
    let model = sample_model();
    let verdict = Router::new(&model).send(&packet(WEB, &syn(WEB, API.ipv4)));
    assert_eq!(
        verdict,
        Verdict::Forwarded {
            vlan: 100,
            dst_mac: API.mac
        }
    );
    let verdict = Router::new(&model).send(&packet(WEB, &syn(WEB, API.ipv6)));
    assert_eq!(
        verdict,
        Verdict::Forwarded {
            vlan: 100,
            dst_mac: API.mac
        }
    );
}

#[test]
fn the_kernel_takes_what_the_program_cannot_forward() {
    let nas_to = |length: usize| with(NAS, "10.20.31.50", |ip| ip.payload.resize(length, 0));
    check(vec![
        ("a known endpoint", packet(LAPTOP, &syn(LAPTOP, MQTT.ipv4)), "forwarded"),
        ("the internet", packet(LAPTOP, &syn(LAPTOP, "1.1.1.1")), "to-kernel"),
        ("a host without endpoint", packet(LAPTOP, &syn(LAPTOP, "10.100.0.77")), "to-kernel"),
        ("an endpoint whose MAC is unknown", packet(LAPTOP, &syn(LAPTOP, "10.104.0.20")), "to-kernel"),
        ("the router itself", packet(LAPTOP, &syn(LAPTOP, "10.20.99.1")), "to-kernel"),
        ("TTL 2", with(LAPTOP, MQTT.ipv4, |ip| ip.ttl = 2), "forwarded"),
        ("TTL 1", with(LAPTOP, MQTT.ipv4, |ip| ip.ttl = 1), "to-kernel"),
        ("TTL 0", with(LAPTOP, MQTT.ipv4, |ip| ip.ttl = 0), "to-kernel"),
        ("as long as the MTU", with(LAPTOP, MQTT.ipv4, |ip| ip.payload.resize(1480, 0)), "forwarded"),
        ("longer than the MTU", with(LAPTOP, MQTT.ipv4, |ip| ip.payload.resize(1481, 0)), "to-kernel"),
        ("to a segment of MTU 1300 without endpoint", nas_to(1280), "to-kernel"),
    ]);
}

#[test]
fn the_mtu_is_the_destination_segment_s() {
    let mut model = sample_model();
    model.segments[segments::GROOVEIQ.0].mtu = 1300;
    for (length, expected) in [(1280, "forwarded"), (1281, "to-kernel")] {
        let ether = with(LAPTOP, MQTT.ipv4, |ip| ip.payload.resize(length, 0));
        Router::new(&model).expect("IPv4", &ether, expected);
        let ether = with(WEB, API.ipv6, |ip| ip.payload.resize(length - 20, 0));
        Router::new(&model).expect("IPv6", &ether, expected);
    }
}

#[test]
fn the_program_answers_plain_echo_requests_to_the_gateway() {
    let ping = |to, change: fn(&mut Ip)| {
        let (number, kind) = if to == "10.100.0.1" {
            (protocol::ICMP, 8)
        } else {
            (protocol::ICMPV6, 128)
        };
        let mut ip = own_packet(API, to, number, echo(kind, 1));
        change(&mut ip);
        packet(API, &ip)
    };
    let first = |ip: &mut Ip| {
        ip.part = Some(Part {
            id: 1,
            offset: 0,
            more: true,
        })
    };
    check(vec![
        ("IPv4", ping("10.100.0.1", |_| {}), "answered"),
        ("IPv6", ping("fd00:100::1", |_| {}), "answered"),
        ("the router's link-local", ping(ROUTER_LINK_LOCAL, |_| {}), "answered"),
        ("TTL 1", ping("10.100.0.1", |ip| ip.ttl = 1), "answered"),
        ("with options", ping("10.100.0.1", |ip| ip.options = vec![1; 4]), "to-kernel"),
        (
            "with extension headers",
            ping("fd00:100::1", |ip| {
                ip.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
            }),
            "to-kernel",
        ),
        ("a first fragment", ping("10.100.0.1", first), "to-kernel"),
        ("a first IPv6 fragment", ping("fd00:100::1", first), "to-kernel"),
        ("a DNS query", packet(API, &own_packet(API, "10.100.0.1", protocol::UDP, oracle::frames::udp(1, 53, b""))), "to-kernel"),
    ]);
}

#[test]
fn a_later_fragment_is_forwarded_like_its_first() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let part = |offset| {
        with(QUIET_WEB, "10.104.0.10", |ip| {
            ip.payload.resize(24, 0);
            ip.part = Some(Part {
                id: 1,
                offset,
                more: offset == 0,
            });
        })
    };
    router.expect("the first", &part(0), "forwarded");
    router.expect("the last", &part(3), "forwarded");
}
