//! RFC 9824: compact denial of existence.

use std::sync::Arc;
use std::time::Instant;

use dns::answer::{Client, Outcome, Transport, answer};
use dns::limit::{Limiter, Rates};
use dns::world::World;
use hickory_proto::op::{Message, ResponseCode};

use super::dnssec::{denials, nsec, rrsig, verify};
use super::support::*;

const ZONE: &str = "a.east.lab.example";

fn signed() -> World {
    let records = "
  - {name: web, type: A, value: 10.1.0.10}
  - {name: www, type: CNAME, value: web}
  - {name: lost, type: CNAME, value: nowhere}
  - {name: x.ent, type: A, value: 10.1.0.11}
  - {name: '*.wild', type: A, value: 10.1.0.12}
  - {name: '*.wild', type: TXT, value: text}
";
    let mut published = two_tenants(records);
    published.model.tenants[0].dnssec = true;
    signed_world(&published)
}

fn name(label: &str) -> String {
    format!("{label}.{ZONE}").trim_start_matches('.').to_owned()
}

/// Asks with DO; all signatures must be good.
fn denied(world: &World, label: &str, kind: u16) -> (Message, Vec<String>) {
    let reply = ask_with(world, IN_A, (&name(label), kind), DO);
    assert_eq!(verify(world, IN_A, &reply), Vec::<String>::new(), "{label}");
    let denials = denials(&reply);
    (reply, denials)
}

/// The one NSEC covers its own name and the next one, and nothing that could be another's.
fn is_minimal(reply: &Message) -> bool {
    let mut all = reply
        .authorities
        .iter()
        .filter_map(|record| Some((record, nsec(record)?)));
    let (record, nsec) = all.next().unwrap();
    let next = nsec.next_domain_name().to_string();
    next == format!("\\000.{}", record.name) && all.next().is_none()
}

#[test]
fn section_3_1_a_name_that_is_not_there_has_the_mark_nxname() {
    let world = signed();
    for label in ["nowhere", "x.web", "y.ent", "deep.down", "nowhere"] {
        let (reply, denials) = denied(&world, label, A);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty() && reply.metadata.authoritative);
        assert_eq!(denials, [format!("{}.: RRSIG NSEC 128", name(label))]);
        assert!(is_minimal(&reply));
        // SOA, NSEC, and their signatures.
        assert_eq!(reply.authorities.len(), 4);
    }
}

#[test]
fn section_3_2_a_type_that_is_not_there_is_denied_with_those_that_are() {
    let world = signed();
    let apex = format!("{ZONE}.: NS SOA RRSIG NSEC DNSKEY CDS CDNSKEY");
    let rows = [
        ("web", AAAA, "web.a.east.lab.example.: A RRSIG NSEC"),
        ("www", 15, "web.a.east.lab.example.: A RRSIG NSEC"),
        ("", TXT, apex.as_str()),
    ];
    for (label, kind, expected) in rows {
        let (reply, denials) = denied(&world, label, kind);
        assert_eq!(denials, [expected], "{label}");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(is_minimal(&reply));
    }
}

#[test]
fn section_3_3_what_a_wildcard_says_is_signed_as_the_names_own() {
    let world = signed();
    let (reply, denials) = denied(&world, "q.wild", A);
    let signature = reply.answers.iter().find_map(rrsig).unwrap();
    // q.wild.a.east.lab.example has six labels: nothing says that there is a wildcard.
    assert_eq!(signature.input().num_labels, 6);
    assert_eq!(denials, Vec::<String>::new());
    let (_, denials) = denied(&world, "q.wild", AAAA);
    assert_eq!(denials, ["q.wild.a.east.lab.example.: A TXT RRSIG NSEC"]);
}

#[test]
fn section_3_4_an_empty_non_terminal_is_there_without_anything() {
    let (_, denials) = denied(&signed(), "ent", A);
    assert_eq!(denials, ["ent.a.east.lab.example.: RRSIG NSEC"]);
}

#[test]
fn section_3_5_nxname_is_not_to_be_asked_for() {
    let world = signed();
    for label in ["web", "nowhere"] {
        for flags in [0, DO] {
            let octets = with_flags(question(&name(label), 128), flags);
            let reply = send(&world, IN_A, Transport::Udp, &octets).unwrap();
            assert_eq!(reply[3], 1, "FORMERR");
            let invalid_query_type = [0, 15, 0];
            assert!(reply.windows(3).any(|part| part == invalid_query_type));
            assert!(reply.windows(2).any(|part| part == [0, 30]), "{reply:?}");
        }
    }
}

#[test]
fn section_5_1_who_knows_compact_answers_gets_the_code_too() {
    let world = signed();
    let code = |label: &str, flags: u16| {
        let reply = ask_with(&world, IN_A, (&name(label), A), flags);
        reply.metadata.response_code
    };
    let (no_error, no_name) = (ResponseCode::NoError, ResponseCode::NXDomain);
    // With DO alone, with DO and CO, with neither, with CO alone.
    for (label, expected) in [
        ("nowhere", [no_error, no_name, no_name, no_name]),
        ("lost", [no_error, no_name, no_name, no_name]),
        ("ent", [no_error; 4]),
        ("web", [no_error; 4]),
    ] {
        let found = [DO, DO | CO, 0, CO].map(|flags| code(label, flags));
        assert_eq!(found, expected, "{label}");
    }
}

#[test]
fn a_chain_that_ends_nowhere_is_denied_at_its_end() {
    let (reply, denials) = denied(&signed(), "lost", A);
    assert_eq!(reply.answers.len(), 2);
    assert_eq!(denials, ["nowhere.a.east.lab.example.: RRSIG NSEC 128"]);
}

#[test]
fn questions_for_nsec_and_rrsig_of_what_is_not_there_are_answered_with_them() {
    let world = signed();
    let (reply, denials) = denied(&world, "nowhere", 47);
    assert_eq!(denials, ["nowhere.a.east.lab.example.: RRSIG NSEC 128"]);
    assert_eq!(reply.answers.len(), 2);
    let reply = ask_with(&world, IN_A, (&name("nowhere"), 46), DO);
    assert_eq!(reply.answers.iter().filter_map(rrsig).count(), 1);
}

/// Asks with DO at a moment; tells the code, and whether there is a signature.
fn at(world: &World, label: &str, client: Client<'_>) -> (u8, bool) {
    let octets = with_flags(question(&name(label), A), DO);
    let mut out = Vec::new();
    let outcome = answer(world, client, &octets, &mut out);
    assert!(matches!(outcome, Outcome::Reply));
    let reply = Message::from_vec(&out).unwrap();
    let mut all = reply.answers.iter().chain(&reply.authorities);
    (out[3] & 0xf, all.any(|record| rrsig(record).is_some()))
}

#[test]
fn section_6_random_names_cost_a_views_share_of_signatures_and_what_is_kept_is_answered_still() {
    let world = signed();
    let limiter = Limiter::new(Rates {
        client: 0,
        view: 0,
        signatures: 20,
    });
    let source = IN_A.parse().unwrap();
    let moment = Instant::now();
    let ask = |label: &str| {
        let client = Client {
            signatures: Some(limiter.at(moment)),
            ..Client::new(source, Transport::Tcp, NOW)
        };
        at(&world, label, client)
    };
    assert_eq!(ask("web"), (0, true));
    let codes: Vec<u8> = (0..100).map(|i| ask(&format!("n{i}")).0).collect();
    // One for web, one for the SOA, the others for names.
    assert_eq!(
        codes.iter().filter(|code| **code == 0).count(),
        18,
        "{codes:?}"
    );
    assert!(codes[18..].iter().all(|code| *code == 2), "SERVFAIL");
    assert_eq!(ask("web"), (0, true), "it is kept");
    assert_eq!(ask("ent"), (2, false));
    let later = Client::new(source, Transport::Tcp, NOW);
    assert_eq!(at(&world, "ent", later), (0, true), "without a limit");
}

#[test]
fn signatures_are_made_anew_before_they_end_and_kept_until_then() {
    let world = Arc::new(signed());
    let source = IN_A.parse().unwrap();
    let expires = |now: u64| {
        let octets = with_flags(question(&name("web"), A), DO);
        let mut out = Vec::new();
        answer(
            &world,
            Client::new(source, Transport::Tcp, now),
            &octets,
            &mut out,
        );
        let reply = Message::from_vec(&out).unwrap();
        let signature = reply.answers.iter().find_map(rrsig).unwrap();
        u64::from(signature.input().sig_expiration.get())
    };
    let day = 86_400;
    let first = expires(NOW);
    assert_eq!(first, NOW + 14 * day);
    assert_eq!(expires(NOW + 6 * day), first);
    for days in 7..60 {
        let now = NOW + days * day;
        let end = expires(now);
        assert!(end >= now + 7 * day, "day {days}");
    }
    assert_eq!(expires(NOW), NOW + 14 * day, "a clock that was set back");
}
