use oracle::fixtures::ROUTER_MAC;
use oracle::frames::{Arp, Ether, TPID, ether};

use crate::support::{API, Host, QUIET_UNKNOWN, SENSOR6, STRANGER, check, ipv4};

fn arp(from: Host, sender: &str, target: &str) -> Arp {
    Arp {
        operation: 1,
        sender_mac: from.mac,
        sender: ipv4(sender),
        target_mac: [0; 6],
        target: ipv4(target),
    }
}

fn frame(from: Host, arp: &Arp) -> Ether {
    Ether {
        destination: [0xff; 6],
        source: from.mac,
        tags: vec![(TPID, from.vlan)],
        ether_type: ether::ARP,
        body: arp.bytes(),
    }
}

fn request(from: Host, sender: &str, target: &str) -> Ether {
    frame(from, &arp(from, sender, target))
}

/// API's request for the gateway, with one thing changed.
fn with(change: impl FnOnce(&mut Ether)) -> Ether {
    let mut ether = request(API, API.ipv4, "10.100.0.1");
    change(&mut ether);
    ether
}

fn reply(from: Host, sender: &str) -> Ether {
    frame(
        from,
        &Arp {
            operation: 2,
            ..arp(from, sender, "10.100.0.1")
        },
    )
}

#[test]
fn a_valid_message_is_answered_or_goes_to_the_kernel() {
    check(vec![
        ("who has the gateway, to broadcast", with(|_| {}), "answered"),
        ("who has the gateway, to the router", with(|e| e.destination = ROUTER_MAC), "answered"),
        ("who has the gateway, to another group", with(|e| e.destination = [1; 6]), "multicast-not-allowed"),
        ("a probe for the gateway", request(API, "0.0.0.0", "10.100.0.1"), "to-kernel"),
        ("who has another host", request(API, API.ipv4, "10.100.0.11"), "to-kernel"),
        ("a reply", reply(API, API.ipv4), "to-kernel"),
        ("an unknown host with a dynamic address", request(STRANGER, STRANGER.ipv4, "10.100.0.1"), "answered"),
        ("an endpoint whose MAC is unknown", request(QUIET_UNKNOWN, QUIET_UNKNOWN.ipv4, "10.104.0.1"), "answered"),
        ("RARP for the gateway", with(|e| { e.ether_type = ether::RARP; e.body[7] = 3 }), "to-kernel"),
        ("a RARP reply", with(|e| { e.ether_type = ether::RARP; e.body[7] = 4 }), "to-kernel"),
        ("padding behind the message", with(|e| e.body.extend([0; 18])), "answered"),
    ]);
}

#[test]
fn a_message_of_another_shape_is_malformed() {
    check(vec![
        ("not Ethernet", with(|e| e.body[1] = 6), "arp-malformed"),
        ("not IPv4", with(|e| e.body[2] = 0x86), "arp-malformed"),
        ("hardware addresses of 8 octets", with(|e| e.body[4] = 8), "arp-malformed"),
        ("protocol addresses of 16 octets", with(|e| e.body[5] = 16), "arp-malformed"),
        ("operation 0", with(|e| e.body[7] = 0), "arp-malformed"),
        ("ARP with a RARP operation", with(|e| e.body[7] = 3), "arp-malformed"),
        ("RARP with an ARP operation", with(|e| e.ether_type = ether::RARP), "arp-malformed"),
        ("operation 256", with(|e| e.body[6] = 1), "arp-malformed"),
        ("one octet short", with(|e| { e.body.pop(); }), "truncated"),
        ("a segment without IPv4", request(SENSOR6, "10.0.0.1", "10.0.0.2"), "arp-malformed"),
    ]);
}

#[test]
fn a_sender_that_is_somebody_else_is_refused() {
    check(vec![
        ("another sender MAC", with(|e| e.body[13] ^= 1), "arp-sender-mismatch"),
        ("the gateway's address", reply(API, "10.100.0.1"), "gateway-claim"),
        (
            "the gateway's address by RARP",
            with(|e| {
                e.ether_type = ether::RARP;
                e.body[7] = 4;
                e.body[17] = 1;
            }),
            "gateway-claim",
        ),
        ("an address of another segment", reply(API, "10.101.0.10"), "arp-sender-mismatch"),
        ("another segment's address by a stranger", reply(STRANGER, "10.101.0.99"), "arp-sender-mismatch"),
        ("the network address", reply(API, "10.100.0.0"), "arp-sender-mismatch"),
        ("the broadcast address", reply(API, "10.100.0.255"), "arp-sender-mismatch"),
        ("another endpoint's address", reply(API, "10.100.0.11"), "arp-sender-mismatch"),
        ("an endpoint's address by a stranger", reply(STRANGER, API.ipv4), "arp-sender-mismatch"),
        ("a bound MAC with a free address", reply(API, "10.100.0.99"), "arp-sender-mismatch"),
    ]);
}
