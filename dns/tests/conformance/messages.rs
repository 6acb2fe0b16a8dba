//! Messages as octets: what is refused how, EDNS (RFC 6891), truncation (RFC 2181, 9).

use dns::answer::Transport;
use hickory_proto::op::{Message, ResponseCode};

use super::support::*;

fn many(count: usize) -> dns::world::World {
    let record = |i| format!("  - {{name: many, type: TXT, value: 'record number {i:03}'}}\n");
    world(&two_tenants(&(0..count).map(record).collect::<String>()))
}

const MANY: &str = "many.a.east.lab.example";

fn udp(world: &dns::world::World, message: &[u8]) -> Option<Vec<u8>> {
    send(world, IN_A, Transport::Udp, message)
}

#[test]
fn what_must_not_be_answered_is_not() {
    let world = many(1);
    let good = question(MANY, TXT);
    for length in 0..12 {
        assert_eq!(udp(&world, &good[..length]), None, "{length} octets");
    }
    let mut response = good;
    response[2] |= 0x80;
    assert_eq!(udp(&world, &response), None, "a response");
}

#[test]
fn bad_messages_get_the_code_that_says_so() {
    let world = many(1);
    let good = question(MANY, TXT);
    let change = |at: usize, octet: u8| {
        let mut message = good.clone();
        message[at] = octet;
        message
    };
    let mut tail = good.clone();
    tail.push(0);
    let two_opts = with_edns(with_edns(good.clone(), 1232), 1232);
    let mut new_edns = with_edns(good.clone(), 1232);
    let at = new_edns.len() - 5;
    new_edns[at] = 1;
    let rows: &[(&str, Vec<u8>, u16)] = &[
        ("opcode STATUS", change(2, 2 << 3), 4),
        ("opcode NOTIFY", change(2, 4 << 3), 4),
        ("no question", change(5, 0), 1),
        ("two questions", change(5, 2), 1),
        ("an answer that is not there", change(7, 1), 1),
        ("cut off", good[..good.len() - 1].to_vec(), 1),
        ("a pointer in the question", change(12, 0xc0), 1),
        ("octets behind the end", tail, 1),
        ("two OPT (RFC 6891, 6.1.1)", two_opts, 1),
        ("EDNS version 1 (RFC 6891, 6.1.3)", new_edns, 16),
        ("class CHAOS", change(good.len() - 1, 3), 5),
        ("AXFR", question(MANY, 252), 5),
        ("type OPT", question(MANY, 41), 1),
        ("type TKEY", question(MANY, 249), 4),
    ];
    for (what, message, code) in rows {
        let reply = udp(&world, message).unwrap();
        let parsed = Message::from_vec(&reply).unwrap();
        assert_eq!(u16::from(parsed.metadata.response_code), *code, "{what}");
        assert_eq!(reply[..2], message[..2], "{what}: the id");
        assert!(parsed.answers.is_empty(), "{what}");
    }
}

#[test]
fn an_address_of_no_segment_is_refused() {
    let world = many(1);
    for source in ["192.0.2.1", "10.1.0.128", "127.0.0.1", "::1", "fe80::1"] {
        let reply = send(&world, source, Transport::Udp, &question(MANY, TXT)).unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::Refused,
            "{source}"
        );
    }
    let inside = send(&world, "fd00:1::5", Transport::Udp, &question(MANY, TXT)).unwrap();
    assert_eq!(Message::from_vec(&inside).unwrap().answers.len(), 1);
}

#[test]
fn rfc_2181_section_9_a_long_reply_is_cut_off_whole() {
    let world = many(20);
    let message = question(MANY, TXT);
    let reply = udp(&world, &message).unwrap();
    let parsed = Message::from_vec(&reply).unwrap();
    assert!(parsed.metadata.truncation && parsed.answers.is_empty());
    assert_eq!(reply.len(), message.len(), "no stray octets");
    assert_eq!(reply[6..12], [0; 6], "and no counts");
    let parsed = Message::from_vec(&send(&world, IN_A, Transport::Tcp, &message).unwrap()).unwrap();
    assert!(!parsed.metadata.truncation);
    assert_eq!(parsed.answers.len(), 20);
}

#[test]
fn rfc_6891_section_6_2_3_the_client_says_how_much_it_takes() {
    let world = many(20);
    for (payload, is_whole) in [
        (512, false),
        (0, false),
        (900, true),
        (4096, true),
        (65_535, true),
    ] {
        let reply = udp(&world, &with_edns(question(MANY, TXT), payload)).unwrap();
        let parsed = Message::from_vec(&reply).unwrap();
        assert_eq!(parsed.metadata.truncation, !is_whole, "payload {payload}");
        assert!(parsed.edns.is_some(), "OPT is answered with OPT");
        assert!(reply.len() <= 1232);
    }
    // More than fits any path without fragments is cut off, whatever the client says.
    let reply = udp(&many(60), &with_edns(question(MANY, TXT), 65_535)).unwrap();
    assert!(Message::from_vec(&reply).unwrap().metadata.truncation);
}

#[test]
fn a_reply_is_exactly_as_long_as_its_records() {
    // Each limit around the length of the reply: never one octet over, never cut off without need.
    let world = many(12);
    let whole = send(
        &world,
        IN_A,
        Transport::Tcp,
        &with_edns(question(MANY, TXT), 512),
    )
    .unwrap();
    for payload in 512..1000u16 {
        let reply = udp(&world, &with_edns(question(MANY, TXT), payload)).unwrap();
        let fits = whole.len() <= usize::from(payload);
        assert_eq!(
            reply == whole,
            fits,
            "payload {payload}, {} octets",
            whole.len()
        );
    }
}

#[test]
fn names_are_compressed() {
    let world = many(1);
    let reply = udp(&world, &question("nowhere.a.east.lab.example", A)).unwrap();
    // The zone's name is a pointer into the question, wherever it begins there.
    let text = String::from_utf8_lossy(&reply).into_owned();
    assert_eq!(
        text.matches("lab\u{7}example").count(),
        3,
        "question, and the SOA's two names"
    );
    for name in ["n", "longer-name", "a.b.c.d"] {
        let name = format!("{name}.a.east.lab.example");
        let reply = ask(&world, IN_A, &name, A);
        assert_eq!(reply.authorities[0].name.to_string(), "a.east.lab.example.");
    }
}
