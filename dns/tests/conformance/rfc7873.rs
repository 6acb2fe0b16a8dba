//! DNS cookies (RFC 7873, RFC 9018), and response-rate limiting, which they lift.

use std::net::IpAddr;
use std::time::Instant;

use dns::answer::{Client, Outcome, Transport, answer};
use dns::cookie::Jar;
use dns::limit::{Limiter, Rates};
use dns::world::World;
use hickory_proto::op::Message;

use super::support::*;

const WEB: &str = "web.a.east.lab.example";
const MINE: [u8; 8] = *b"mycookie";

fn site() -> World {
    world(&two_tenants("  - {name: web, type: A, value: 10.1.0.10}\n"))
        .with_cookies(Jar::new([3; 16]))
}

/// A question with an OPT record that has a COOKIE option of these octets.
fn with_cookie(mut octets: Vec<u8>, cookie: &[u8]) -> Vec<u8> {
    let length = u16::try_from(cookie.len()).unwrap();
    octets[11] += 1;
    octets.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    octets.extend((length + 4).to_be_bytes());
    octets.extend([0, 10]);
    octets.extend(length.to_be_bytes());
    octets.extend(cookie);
    octets
}

/// A header with nothing behind it but the cookie.
fn without_question(cookie: &[u8]) -> Vec<u8> {
    let mut header = question("", A)[..12].to_vec();
    header[5] = 0;
    with_cookie(header, cookie)
}

fn send_to(world: &World, transport: Transport, message: &[u8]) -> (Message, Option<Vec<u8>>) {
    let reply = send(world, IN_A, transport, message).unwrap();
    let parsed = Message::from_vec(&reply).unwrap();
    let options = parsed.edns.as_ref().map(|edns| edns.options().clone());
    let cookie = options.and_then(|options| {
        let option = options.get(10.into())?.clone();
        Vec::<u8>::try_from(&option).ok()
    });
    (parsed, cookie)
}

fn code(message: &Message) -> u16 {
    message.metadata.response_code.into()
}

fn given(world: &World) -> Vec<u8> {
    let (_, cookie) = send_to(world, Transport::Udp, &with_cookie(question(WEB, A), &MINE));
    cookie.unwrap()
}

#[test]
fn section_5_2_3_a_client_cookie_gets_a_server_cookie_beside_the_answer() {
    let world = site();
    for transport in [Transport::Udp, Transport::Tcp] {
        for (name, expected) in [(WEB, 0), ("nope.a.east.lab.example", 3), ("example.org", 5)] {
            let message = with_cookie(question(name, A), &MINE);
            let (reply, cookie) = send_to(&world, transport, &message);
            assert_eq!(code(&reply), expected, "{name}");
            let cookie = cookie.unwrap();
            assert_eq!((cookie.len(), &cookie[..8]), (24, &MINE[..]));
        }
    }
}

#[test]
fn section_5_2_5_the_server_cookie_is_given_back_as_long_as_it_is_young() {
    let world = site();
    let both = given(&world);
    let (reply, again) = send_to(
        &world,
        Transport::Udp,
        &with_cookie(question(WEB, A), &both),
    );
    assert_eq!((code(&reply), again), (0, Some(both)));
}

#[test]
fn section_5_2_4_one_that_is_not_ours_is_answered_with_a_new_one() {
    let world = site();
    for server in [8, 12, 16, 32] {
        let shown = [MINE.as_slice(), &vec![9; server]].concat();
        let (reply, cookie) = send_to(
            &world,
            Transport::Udp,
            &with_cookie(question(WEB, A), &shown),
        );
        assert_eq!((code(&reply), reply.answers.len()), (0, 1), "{server}");
        assert_eq!(cookie, Some(given(&world)));
    }
}

#[test]
fn section_5_2_2_a_cookie_of_another_length_is_a_format_error() {
    let world = site();
    for length in [0, 7, 9, 15, 41] {
        let message = with_cookie(question(WEB, A), &vec![1; length]);
        let reply = send(&world, IN_A, Transport::Udp, &message).unwrap();
        assert_eq!(reply[3] & 0xf, 1, "{length}");
    }
}

#[test]
fn section_5_4_without_a_question_there_is_only_the_cookie() {
    let world = site();
    let (reply, cookie) = send_to(&world, Transport::Udp, &without_question(&MINE));
    assert_eq!((code(&reply), reply.queries.len()), (0, 0));
    let both = cookie.unwrap();
    let (reply, again) = send_to(&world, Transport::Udp, &without_question(&both));
    assert_eq!((code(&reply), again), (0, Some(both)));
    let shown = [MINE, [9; 8], [9; 8]].concat();
    let (reply, _) = send_to(&world, Transport::Udp, &without_question(&shown));
    assert_eq!(code(&reply), 23, "BADCOOKIE");
    // Without a cookie, it is no query.
    let mut header = question("", A)[..12].to_vec();
    header[5] = 0;
    let reply = send(&world, IN_A, Transport::Udp, &with_edns(header, 1232)).unwrap();
    assert_eq!(reply[3] & 0xf, 1);
}

#[test]
fn a_reply_with_a_cookie_keeps_to_the_limit() {
    let records: String = (0..40)
        .map(|i| format!("  - {{name: web, type: TXT, value: 'record number {i:03}'}}\n"))
        .collect();
    let world = world(&two_tenants(&records)).with_cookies(Jar::new([3; 16]));
    for count in 0..200 {
        let name = format!("{}.a.east.lab.example", "x".repeat(1 + count % 60));
        let message = with_cookie(question(if count < 60 { &name } else { WEB }, TXT), &MINE);
        let reply = send(&world, IN_A, Transport::Udp, &message).unwrap();
        assert!(reply.len() <= 1232);
        assert!(Message::from_vec(&reply).is_ok());
    }
}

/// Sends at one moment to a site that answers two in a second; the replies.
fn limited(world: &World, limiter: &Limiter, source: &str, message: &[u8]) -> Option<Vec<u8>> {
    let client = Client {
        limit: Some(limiter.at(Instant::now())),
        ..Client::new(source.parse::<IpAddr>().unwrap(), Transport::Udp, NOW)
    };
    let mut out = Vec::new();
    match answer(world, client, message, &mut out) {
        Outcome::Reply => Some(out),
        Outcome::Silence => None,
        other @ (Outcome::Forward(_) | Outcome::Transfer(_) | Outcome::Update(..)) => {
            panic!("{other:?}")
        }
    }
}

fn two_a_second() -> Limiter {
    Limiter::new(Rates {
        client: 2,
        view: 0,
        signatures: 0,
    })
}

#[test]
fn over_the_rate_a_reply_says_tcp_and_a_good_cookie_lifts_the_limit() {
    let world = site();
    let limiter = two_a_second();
    let plain = question(WEB, A);
    let shapes: Vec<Option<(bool, usize)>> = (0..6)
        .map(|_| {
            let reply = limited(&world, &limiter, IN_A, &plain)?;
            let reply = Message::from_vec(&reply).unwrap();
            Some((reply.metadata.truncation, reply.answers.len()))
        })
        .collect();
    let (whole, cut) = (Some((false, 1)), Some((true, 0)));
    assert_eq!(shapes, [whole, whole, cut, None, cut, None]);
    // A cookie that is not good lifts nothing, but it is told a good one.
    let stale = with_cookie(question(WEB, A), &[MINE, [9; 8], [9; 8]].concat());
    let replies: Vec<Vec<u8>> = (0..2)
        .filter_map(|_| limited(&world, &limiter, IN_A, &stale))
        .collect();
    let reply = Message::from_vec(&replies[0]).unwrap();
    assert!(reply.metadata.truncation && reply.edns.is_some());
    assert!(replies[0].len() <= stale.len(), "a forger gains nothing");
    let good = with_cookie(question(WEB, A), &given(&world));
    for _ in 0..10 {
        let reply = limited(&world, &limiter, IN_A, &good).unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 1);
    }
    assert!(
        limited(&world, &limiter, IN_B, &plain).is_some(),
        "a neighbour"
    );
}

#[test]
fn over_the_rate_who_signs_is_not_answered_by_what_it_would_not_believe() {
    let world = site();
    let limiter = two_a_second();
    let signed = super::rfc8945::signed(&question(WEB, A), "a-tf", SECRET, NOW);
    let answered = (0..6).filter(|_| limited(&world, &limiter, IN_A, &signed).is_some());
    assert_eq!(answered.count(), 2);
}

#[test]
fn addresses_of_no_segment_are_limited_together_with_each_other_only() {
    let world = site();
    let limiter = Limiter::new(Rates {
        client: 0,
        view: 2,
        signatures: 0,
    });
    let plain = question(WEB, A);
    let of = |number: u8| limited(&world, &limiter, &format!("192.0.2.{number}"), &plain);
    let whole = (0..6).filter_map(of).filter(|reply| reply[2] & 0x02 == 0);
    assert_eq!(whole.count(), 2);
    assert!(limited(&world, &limiter, IN_A, &plain).is_some());
}

#[test]
fn a_new_generation_goes_on_with_cookies_counters_and_what_it_was_told() {
    let metrics = std::sync::Arc::new(dns::metrics::Metrics::new(1));
    let before = site().forwarding(true).counted_by(&metrics);
    let both = given(&before);
    let mut published = two_tenants("  - {name: web, type: A, value: 10.1.0.10}\n");
    published.number = 8;
    let after = world(&published).after(&before);
    let (_, again) = send_to(
        &after,
        Transport::Udp,
        &with_cookie(question(WEB, A), &both),
    );
    assert_eq!(again, Some(both));
    assert!(after.forwards());
    let view = after.plan.clients.view_of(IN_A.parse().unwrap()).unwrap();
    let counted = after.view_counters(view).unwrap().read();
    assert_eq!(
        counted.queries.get("noerror"),
        Some(&2),
        "one of each generation"
    );
    let zone = after.plan.views.iter().find_map(|view| {
        view.zone_at(
            dns::name::Name::absolute("a.east.lab.example")
                .unwrap()
                .as_wire(),
        )
    });
    let counted = after.zone_counters(zone.unwrap()).unwrap().read();
    assert_eq!(counted.queries.get("noerror"), Some(&2));
}
