use oracle::fixtures::sample_model;
use oracle::frames::{Ether, Ip, Part, echo, flags, fragment_header, protocol, tcp, udp};

use crate::support::{
    API, APP, QUIET_WEB, Router, SENSOR, SENSOR6, STRANGER, check, ip, own_packet, packet,
};

fn syn(to: &str) -> Ip {
    own_packet(API, to, protocol::TCP, tcp(40_000, 443, flags::SYN))
}

fn v4(change: impl FnOnce(&mut Ip)) -> Ether {
    let mut ip = syn("1.1.1.1");
    change(&mut ip);
    packet(API, &ip)
}

fn v6(change: impl FnOnce(&mut Ip)) -> Ether {
    let mut ip = syn("2606:4700::1");
    change(&mut ip);
    packet(API, &ip)
}

fn octet(mut ether: Ether, place: usize, value: u8) -> Ether {
    ether.body[place] = value;
    ether
}

#[test]
fn versions_and_lengths_are_checked() {
    let padded = |mut ether: Ether| {
        ether.body.extend([0; 9]);
        ether
    };
    check(vec![
        ("IPv4", v4(|_| {}), "to-kernel"),
        ("IPv6", v6(|_| {}), "to-kernel"),
        ("IPv4 with padding", padded(v4(|_| {})), "to-kernel"),
        ("IPv6 with padding", padded(v6(|_| {})), "to-kernel"),
        ("version 6 in IPv4", octet(v4(|_| {}), 0, 0x65), "ip-malformed"),
        ("version 4 in IPv6", octet(v6(|_| {}), 0, 0x40), "ip-malformed"),
        ("a header of 16 octets", octet(v4(|_| {}), 0, 0x44), "ip-malformed"),
        ("a header longer than the packet", octet(octet(v4(|_| {}), 0, 0x4f), 3, 40), "ip-malformed"),
        ("a total length below the header", octet(v4(|_| {}), 3, 19), "ip-malformed"),
        ("a total length beyond the frame", octet(v4(|_| {}), 3, 41), "ip-malformed"),
        ("an IPv6 length beyond the frame", octet(v6(|_| {}), 5, 21), "ip-malformed"),
        ("an IPv6 length that hides the header", octet(v6(|_| {}), 5, 19), "truncated"),
        ("a total length that hides the header", octet(v4(|_| {}), 3, 39), "truncated"),
    ]);
}

#[test]
fn a_segment_without_a_family_has_no_sources_of_it() {
    let echo4 = Ip::new(ip("10.20.36.10"), ip("1.1.1.1"), protocol::ICMP, echo(8, 1));
    let echo6 = Ip::new(
        ip("fd00:30::1"),
        ip("2606:4700::1"),
        protocol::ICMPV6,
        echo(128, 1),
    );
    let local = Ip::new(ip("fe80::9"), ip("fe80::1"), protocol::ICMPV6, echo(128, 1));
    let dhcp = Ip::new(
        ip("fe80::9"),
        ip("ff02::1:2"),
        protocol::UDP,
        udp(546, 547, b""),
    );
    check(vec![
        ("IPv4 where there is IPv6 only", packet(SENSOR6, &echo4), "source-not-in-segment"),
        ("IPv6 where there is IPv4 only", packet(SENSOR, &echo6), "source-not-in-segment"),
        ("link-local echo there", packet(SENSOR, &local), "source-not-in-segment"),
        ("DHCPv6 there", packet(SENSOR, &dhcp), "source-not-in-segment"),
    ]);
}

#[test]
fn ipv4_options_are_walked_to_a_bound() {
    let options = |options: &[u8]| v4(|ip| ip.options = options.to_vec());
    check(vec![
        ("router alert", options(&[148, 4, 0, 0]), "to-kernel"),
        ("eight NOPs", options(&[1; 8]), "to-kernel"),
        ("nine NOPs", options(&[1; 9]), "ip-options"),
        ("loose source route", options(&[131, 3, 4]), "ip-options"),
        ("strict source route behind a NOP", options(&[1, 137, 3, 4]), "ip-options"),
        ("source route behind the end of the list", options(&[0, 131, 3, 4]), "to-kernel"),
        ("a length that does not fit", options(&[7, 9, 4, 0]), "ip-options"),
        ("a length of 1", options(&[7, 1, 1, 1]), "ip-options"),
        ("no room for a length", options(&[1, 1, 1, 7]), "ip-options"),
    ]);
}

#[test]
fn ipv6_extension_headers_are_walked_to_a_bound() {
    let hop = (protocol::HOP_BY_HOP, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let dst = (protocol::DESTINATION_OPTIONS, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let other = |kind| (kind, vec![0, 0, 0, 0, 0, 0, 0, 0]);
    let part = |offset, more| {
        (protocol::FRAGMENT, fragment_header(Part { id: 1, offset, more, }))
    };
    let chain = |chain: &[(u8, Vec<u8>)]| v6(|ip| ip.extensions = chain.to_vec());
    check(vec![
        ("hop-by-hop first", chain(std::slice::from_ref(&hop)), "to-kernel"),
        ("hop-by-hop and destination options", chain(&[hop.clone(), dst.clone()]), "to-kernel"),
        ("six headers", chain(&vec![dst.clone(); 6]), "to-kernel"),
        ("seven headers", chain(&vec![dst.clone(); 7]), "ip-options"),
        ("hop-by-hop second", chain(&[dst.clone(), hop.clone()]), "ip-options"),
        ("hop-by-hop twice", chain(&[hop.clone(), hop.clone()]), "ip-options"),
        ("routing header", chain(&[other(43)]), "ip-options"),
        ("AH", chain(&[other(51)]), "ip-options"),
        ("ESP, a transport", chain(&[other(50)]), "to-kernel"),
        ("mobility", chain(&[other(135)]), "ip-options"),
        ("experimental, a transport", chain(&[dst.clone(), other(253)]), "to-kernel"),
        ("an atomic fragment", chain(&[part(0, false)]), "to-kernel"),
        ("two fragment headers", chain(&[part(0, false), part(0, true)]), "ip-options"),
        ("routing behind a fragment header", chain(&[part(0, true), other(43)]), "ip-options"),
        ("options behind a fragment header", chain(&[part(0, true), dst.clone()]), "to-kernel"),
        ("an extension header that does not fit", chain(&[(60, vec![0, 9, 0, 0, 0, 0, 0, 0])]), "truncated"),
    ]);
}

#[test]
fn group_macs_go_with_group_addresses() {
    let to_mac = |mut ether: Ether, mac| {
        ether.destination = mac;
        ether
    };
    let router = v4(|_| {}).destination;
    let group4 = v4(|ip| ip.destination = "224.0.0.5".parse().unwrap());
    let group6 = v6(|ip| ip.destination = "ff02::5".parse().unwrap());
    check(vec![
        ("unicast IPv4 to broadcast", to_mac(v4(|_| {}), [0xff; 6]), "mac-ip-mismatch"),
        ("unicast IPv6 to a group", to_mac(v6(|_| {}), [0x33, 0x33, 0, 0, 0, 1]), "mac-ip-mismatch"),
        ("multicast IPv4 to the router", to_mac(group4, router), "mac-ip-mismatch"),
        ("multicast IPv6 to the router", to_mac(group6, router), "mac-ip-mismatch"),
        (
            "directed broadcast to broadcast",
            to_mac(
                v4(|ip| ip.destination = "10.101.0.255".parse().unwrap()),
                [0xff; 6],
            ),
            "mac-ip-mismatch",
        ),
    ]);
}

#[test]
fn the_transport_header_must_be_in_sight() {
    let first = Some(Part {
        id: 7,
        offset: 0,
        more: true,
    });
    let short = |number: u8, length: usize, part| {
        move |ip: &mut Ip| {
            ip.protocol = number;
            ip.payload = vec![8; length];
            ip.part = part;
        }
    };
    check(vec![
        ("TCP of 19 octets", v4(short(6, 19, None)), "truncated"),
        ("UDP of 7 octets", v6(short(17, 7, None)), "truncated"),
        ("ICMP of 7 octets", v4(short(1, 7, None)), "truncated"),
        ("ICMPv6 of 7 octets", v6(short(58, 7, None)), "truncated"),
        ("SCTP of no octets", v4(short(132, 0, None)), "to-kernel"),
        ("ICMPv6 of 7 octets over IPv4", v4(short(58, 7, None)), "truncated"),
        ("ICMP of 7 octets over IPv6", v6(short(1, 7, None)), "truncated"),
        ("a first fragment with 16 octets of TCP", v4(short(6, 16, first)), "tiny-fragment"),
        ("a first IPv6 fragment with 16 octets of TCP", v6(short(6, 16, first)), "tiny-fragment"),
        ("a first fragment with no UDP header", v6(short(17, 0, first)), "tiny-fragment"),
        ("a first fragment with the whole header", v4(|ip| ip.part = first), "to-kernel"),
        ("a first fragment of SCTP", v6(short(132, 0, first)), "to-kernel"),
    ]);
}

/// First fragment of API's connection to the internet, and later ones.
fn part(to: &str, offset: u16, id: u32) -> Ip {
    let payload = if offset == 0 {
        syn(to).payload
    } else {
        vec![0; 8]
    };
    let mut packet = own_packet(API, to, protocol::TCP, payload);
    packet.payload.resize(24, 0);
    packet.part = Some(Part {
        id,
        offset,
        more: true,
    });
    packet
}

#[test]
fn a_later_fragment_follows_its_judged_first() {
    let model = sample_model();
    for to in ["1.1.1.1", "2606:4700::1"] {
        let mut router = Router::new(&model);
        let send = |offset, id| packet(API, &part(to, offset, id));
        router.expect("no first", &send(3, 7), "fragment-without-first");
        router.expect("the first", &send(0, 7), "to-kernel");
        router.expect("behind the first", &send(3, 7), "to-kernel");
        router.expect("far behind the first", &send(100, 7), "to-kernel");
        router.expect("inside of the first", &send(2, 7), "overlapping-fragment");
        router.expect("another id", &send(3, 8), "fragment-without-first");
        let mut other = send(3, 7);
        other.source = STRANGER.mac;
        router.expect("another MAC", &other, "fragment-without-first");
        router.expect(
            "another destination",
            &packet(
                API,
                &part(
                    if to == "1.1.1.1" {
                        "8.8.8.8"
                    } else {
                        "2606:4700::2"
                    },
                    3,
                    7,
                ),
            ),
            "fragment-without-first",
        );
        let mut udp_part = part(to, 3, 7);
        udp_part.protocol = protocol::UDP;
        router.expect(
            "another protocol",
            &packet(API, &udp_part),
            "fragment-without-first",
        );
        router.now += 29;
        router.expect("after 29 s", &send(3, 7), "to-kernel");
        router.now += 1;
        router.expect("after 30 s", &send(3, 7), "fragment-without-first");
        router.expect("a first again", &send(0, 7), "to-kernel");
        router.flip(&model);
        router.expect("a new generation", &send(3, 7), "fragment-without-first");
    }
}

#[test]
fn a_first_fragment_that_is_dropped_admits_no_later_one() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let part = |offset| {
        let mut packet = own_packet(QUIET_WEB, "1.1.1.1", protocol::UDP, udp(1, 53, &[0; 16]));
        packet.part = Some(Part {
            id: 7,
            offset,
            more: true,
        });
        packet
    };
    router.expect(
        "no internet",
        &packet(QUIET_WEB, &part(0)),
        "internet-denied",
    );
    router.expect(
        "its later one",
        &packet(QUIET_WEB, &part(3)),
        "fragment-without-first",
    );
    let stray = Ip {
        source: ip(APP.ipv4),
        ..part(3)
    };
    router.expect(
        "of another segment",
        &packet(QUIET_WEB, &stray),
        "fragment-without-first",
    );
}
