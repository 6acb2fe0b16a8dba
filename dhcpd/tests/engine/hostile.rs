//! Clients that lie, flood, or invent themselves.

use std::net::Ipv4Addr;

use dhcpd::counters::{Event, Reason};
use dhcpd::engine::{Inbound, Verdict};
use dhcpd::settings::Settings;
use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode};
use netmodel::ids::MacAddr;

use crate::kit::{Client, LEASE_TIME, Server, at, mac, reserve, scope, scopes, settings, vlan};

fn invented(number: u16) -> MacAddr {
    let [a, b] = number.to_be_bytes();
    MacAddr([2, 0xee, 0, 0, a, b])
}

fn invented_client(number: u16) -> Client {
    let mut client = Client::discover(0);
    client.mac = invented(number);
    client.message.set_chaddr(&client.mac.0);
    client
}

/// Takes every address that it can get.
fn starve(server: &mut Server) {
    for number in 0..1000 {
        let client = invented_client(number);
        let source = client.mac;
        server.hear_on(100, source, &client.clone().option(DhcpOption::RapidCommit));
        server.hear_on(100, source, &client);
    }
    server.engine.commit();
    let (_, usage, _) = server.engine.segments().next().unwrap();
    assert_eq!(
        usage.bound, usage.pool,
        "the attack succeeds against other strangers"
    );
}

#[test]
fn a_client_that_invents_others_cannot_take_the_address_of_a_bound_host() {
    let mut scope = scope(100);
    reserve(&mut scope, mac(1), at(20));
    let mut server = Server::new(scope);
    starve(&mut server);
    assert_eq!(server.bind(1), at(20));
}

#[test]
fn a_client_that_invents_others_cannot_end_the_lease_of_a_client_that_has_one() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    for number in 0..1000 {
        let client = invented_client(number).option(DhcpOption::RapidCommit);
        server.hear_on(100, client.mac, &client);
    }
    server.engine.commit();
    server.wait(u64::from(LEASE_TIME) / 2);
    assert_eq!(
        server.answer(&Client::extending(1, bound)).kind,
        MessageType::Ack
    );
}

#[test]
fn a_client_that_invents_others_does_not_reach_another_segment() {
    let mut server = Server::with(settings(), scopes([scope(100), scope(101)]));
    starve(&mut server);
    let client = Client::discover(1).option(DhcpOption::RapidCommit);
    let Verdict::Reply(reply) = server.hear_on(101, client.mac, &client) else {
        panic!("the other segment has addresses")
    };
    assert_eq!(
        (reply.vlan, reply.from),
        (vlan(101), [10, 101, 0, 1].into())
    );
}

#[test]
fn leases_are_short_while_the_pool_is_scarce_but_not_for_those_who_have_one() {
    let mut server = Server::new(scope(100));
    let first = server.bind(1);
    for number in 2..=8 {
        server.bind(number);
    }
    assert_eq!(server.answer(&Client::discover(9)).lease_time(), Some(600));
    assert_eq!(
        server.answer(&Client::extending(1, first)).lease_time(),
        Some(LEASE_TIME)
    );
}

#[test]
fn strangers_share_a_rate_and_clients_with_a_lease_do_not() {
    let settings = Settings {
        strangers_per_segment: 10,
        ..settings()
    };
    let mut scope = scope(100);
    reserve(&mut scope, mac(2), at(20));
    let mut server = Server::with(settings, scopes([scope]));
    let bound = server.bind(1);
    let verdicts: Vec<_> = (0..100)
        .map(|number| {
            let client = invented_client(number);
            server.hear_on(100, client.mac, &client)
        })
        .collect();
    let refused = |verdict: &&Verdict| **verdict == Verdict::Silence(Reason::RateStrangers);
    assert_eq!(
        verdicts.iter().filter(refused).count(),
        82,
        "a burst of 20, of which two are spent"
    );
    assert_eq!(
        server.answer(&Client::extending(1, bound)).kind,
        MessageType::Ack
    );
    assert_eq!(server.bind(2), at(20));
}

#[test]
fn one_hardware_address_has_a_rate_of_its_own() {
    let settings = Settings {
        messages_per_mac: 1,
        ..settings()
    };
    let mut server = Server::with(settings, scopes([scope(100)]));
    for _ in 0..4 {
        server.answer(&Client::discover(1));
    }
    assert_eq!(server.silence(&Client::discover(1)), Reason::RateMac);
    server.answer(&Client::discover(2));
    server.wait(1);
    server.answer(&Client::discover(1));
}

#[test]
fn offers_that_are_not_taken_hold_a_part_of_the_pool_only() {
    let mut server = Server::new(scope(100));
    for number in 0..1000 {
        let client = invented_client(number);
        assert!(matches!(
            server.hear_on(100, client.mac, &client),
            Verdict::Reply(_)
        ));
    }
    let (_, usage, _) = server.engine.segments().next().unwrap();
    assert_eq!(usage.offered, 4);
    server.bind(1);
}

#[test]
fn the_hardware_address_in_the_message_is_that_of_the_frame() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let forged = [
        Client::discover(1),
        Client::extending(1, bound),
        Client::new(1, MessageType::Release).from(bound),
    ];
    for message in forged {
        let verdict = server.hear_on(100, mac(66), &message);
        assert_eq!(verdict, Verdict::Silence(Reason::MacMismatch));
    }
}

#[test]
fn a_group_or_no_address_is_no_client() {
    let mut server = Server::new(scope(100));
    for octets in [[1, 0, 0x5e, 0, 0, 1], [0xff; 6], [0; 6]] {
        let mut client = Client::discover(1);
        client.mac = MacAddr(octets);
        client.message.set_chaddr(&octets);
        assert_eq!(server.silence(&client), Reason::MacNotUnicast);
    }
}

#[test]
fn a_vlan_without_a_scope_is_silence() {
    let mut server = Server::new(scope(100));
    let verdict = server.hear_on(200, mac(1), &Client::discover(1));
    assert_eq!(verdict, Verdict::Silence(Reason::NoScope));
    assert_eq!(server.engine.elsewhere().silence[&Reason::NoScope], 1);
}

#[test]
fn malformed_messages_are_counted_by_reason() {
    let whole = Client::discover(1);
    let change = |change: &dyn Fn(&mut Message)| {
        let mut client = whole.clone();
        change(&mut client.message);
        client.bytes()
    };
    let option = |code, data: &[u8]| whole.clone().raw_option(code, data).bytes();
    let mut long_hardware_address = whole.bytes();
    long_hardware_address[2] = 255;
    let mut no_cookie = whole.bytes();
    no_cookie[236] = 0;
    let rows = [
        (vec![], Reason::Truncated),
        (whole.bytes()[..239].to_vec(), Reason::Truncated),
        (whole.bytes()[..240].to_vec(), Reason::Bootp),
        (no_cookie, Reason::Bootp),
        (
            change(&|m| {
                m.set_opcode(Opcode::BootReply);
            }),
            Reason::NotRequest,
        ),
        (
            change(&|m| {
                m.set_htype(HType::Unknown(32));
            }),
            Reason::NotEthernet,
        ),
        (long_hardware_address, Reason::NotEthernet),
        (option(50, &[1, 2, 3]), Reason::MalformedOption),
        (option(54, &[1, 2, 3, 4, 5]), Reason::MalformedOption),
        (option(51, &[1]), Reason::MalformedOption),
        (option(57, &[1]), Reason::MalformedOption),
        (option(61, &[1]), Reason::MalformedOption),
        (
            Client::new(1, MessageType::Offer).bytes(),
            Reason::ServerMessage,
        ),
        (
            Client::new(1, MessageType::Unknown(99)).bytes(),
            Reason::UnknownMessageType,
        ),
    ];
    let mut server = Server::new(scope(100));
    for (payload, reason) in rows {
        let inbound = Inbound {
            vlan: vlan(100),
            source: mac(1),
            to: Ipv4Addr::BROADCAST,
            payload: &payload,
        };
        let verdict = server.engine.receive(&inbound, server.now);
        assert_eq!(verdict, Verdict::Silence(reason));
        let (_, _, counters) = server.engine.segments().next().unwrap();
        assert!(counters.silence[&reason] > 0);
    }
}

#[test]
fn a_host_name_is_kept_only_if_it_is_one() {
    for (said, kept) in [
        ("Web-1", "web-1"),
        ("", ""),
        ("a b", ""),
        ("a\nb", ""),
        ("-a", ""),
        ("é", ""),
    ] {
        let mut server = Server::new(scope(100));
        let client = Client::discover(1).option(DhcpOption::RapidCommit);
        server.answer(&client.raw_option(12, said.as_bytes()));
        assert_eq!(
            &*server.engine.changes()[0].after.hostname,
            kept,
            "{said:?}"
        );
    }
}

#[test]
fn who_answers_all_probes_does_not_empty_the_pool() {
    let settings = Settings {
        probe_wait: 200,
        ..settings()
    };
    let mut server = Server::with(settings, scopes([scope(100)]));
    for number in 1..=20 {
        let mut verdict = server.hear(&Client::discover(number));
        while let Verdict::Probe(probe) = verdict {
            match server
                .engine
                .heard(vlan(100), probe.address, mac(66), server.now)
            {
                Some(next) => verdict = next,
                None => break,
            }
        }
    }
    let (_, usage, counters) = server.engine.segments().next().unwrap();
    assert_eq!(usage.declined, 2);
    assert!(counters.events[&Event::QuarantineFull] > 0);
    assert!(matches!(
        server.hear(&Client::discover(30)),
        Verdict::Probe(_)
    ));
}
