//! RFC 8945: TSIG.

use dns::answer::Transport;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::{Name, TSigner};

use super::support::*;

pub(crate) fn signer(key: &str, secret: &str) -> TSigner {
    signer_with(key, secret, TsigAlgorithm::HmacSha256)
}

fn signer_with(key: &str, secret: &str, algorithm: TsigAlgorithm) -> TSigner {
    // The secrets of the tests are text in base64, and any text is as good.
    let secret = if secret == SECRET {
        b"not a secret, only an example !!".to_vec()
    } else {
        secret.as_bytes().to_vec()
    };
    TSigner::new(secret, algorithm, Name::from_ascii(key).unwrap(), 300).unwrap()
}

/// Signs a message.
pub(crate) fn signed(message: &[u8], key: &str, secret: &str, now: u64) -> Vec<u8> {
    let mut message = Message::from_vec(message).unwrap();
    message.finalize(&signer(key, secret), now).unwrap();
    message.to_vec().unwrap()
}

fn a_world() -> dns::world::World {
    world(&two_tenants("  - {name: web, type: A, value: 10.1.0.10}"))
}

fn reply_to(message: &[u8]) -> (Vec<u8>, Message) {
    let reply = send(&a_world(), IN_A, Transport::Udp, message).unwrap();
    let parsed = Message::from_vec(&reply).unwrap();
    (reply, parsed)
}

#[test]
fn section_5_3_a_signed_question_gets_a_signed_answer() {
    let mut query = Message::from_vec(&question("web.a.east.lab.example", A)).unwrap();
    let mut verifier = query
        .finalize(&signer("a-tf", SECRET), NOW)
        .unwrap()
        .unwrap();
    let (reply, parsed) = reply_to(&query.to_vec().unwrap());
    assert_eq!(parsed.answers.len(), 1);
    assert!(parsed.metadata.authoritative);
    verifier.verify(&reply).unwrap();
    // The signature is of this reply and of no other.
    let mut other = reply;
    let last_of_question = question("web.a.east.lab.example", A).len() - 1;
    other[last_of_question + 16] ^= 1;
    let mut query = Message::from_vec(&question("web.a.east.lab.example", A)).unwrap();
    let mut verifier = query
        .finalize(&signer("a-tf", SECRET), NOW)
        .unwrap()
        .unwrap();
    assert!(verifier.verify(&other).is_err());
}

fn error_of(message: &Message) -> Option<TsigError> {
    message.signature().and_then(|record| record.data.error)
}

#[test]
fn section_5_2_1_an_unknown_key_is_badkey_and_so_is_that_of_a_tenant_that_is_not_seen() {
    let plain = question("web.a.east.lab.example", A);
    let other = "another secret, of the right length";
    for (key, secret, expected) in [
        ("nobody", SECRET, TsigError::BadKey),
        ("b-tf.", other, TsigError::BadKey),
        ("a-tf.", other, TsigError::BadSig),
    ] {
        let (_, parsed) = reply_to(&signed(&plain, key, secret, NOW));
        assert_eq!(parsed.metadata.response_code, ResponseCode::NotAuth);
        assert_eq!(error_of(&parsed), Some(expected), "{key}");
        assert!(parsed.signature().unwrap().data.mac.is_empty());
        assert!(parsed.answers.is_empty());
    }
}

#[test]
fn section_5_2_1_another_algorithm_is_badkey() {
    let mut query = Message::from_vec(&question("web.a.east.lab.example", A)).unwrap();
    let signer = signer_with("a-tf", SECRET, TsigAlgorithm::HmacSha512);
    query.finalize(&signer, NOW).unwrap();
    let (_, parsed) = reply_to(&query.to_vec().unwrap());
    assert_eq!(error_of(&parsed), Some(TsigError::BadKey));
}

#[test]
fn section_5_2_2_a_changed_question_is_badsig() {
    let mut message = signed(&question("web.a.east.lab.example", A), "a-tf", SECRET, NOW);
    message[13] ^= 1;
    let (_, parsed) = reply_to(&message);
    assert_eq!(parsed.metadata.response_code, ResponseCode::NotAuth);
    assert_eq!(error_of(&parsed), Some(TsigError::BadSig));
}

#[test]
fn section_5_2_3_an_old_or_future_signature_is_badtime_signed_and_tells_our_time() {
    for time in [NOW - 301, NOW + 301, 0] {
        let message = signed(&question("web.a.east.lab.example", A), "a-tf", SECRET, time);
        let (_, parsed) = reply_to(&message);
        let tsig = &parsed.signature().unwrap().data;
        assert_eq!(tsig.error, Some(TsigError::BadTime));
        assert_eq!((tsig.time, tsig.mac.len()), (time, 32));
        assert_eq!(tsig.other, NOW.to_be_bytes()[2..]);
    }
    for time in [NOW - 300, NOW + 300] {
        let message = signed(&question("web.a.east.lab.example", A), "a-tf", SECRET, time);
        assert_eq!(error_of(&reply_to(&message).1), None);
    }
}

#[test]
fn section_5_2_2_1_a_mac_of_another_length_is_badtrunc_or_a_format_error() {
    let with = |key: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = Message::from_vec(&question("web.a.east.lab.example", A)).unwrap();
        message.finalize(&signer(key, SECRET), NOW).unwrap();
        let mut tsig = message.take_signature().unwrap();
        change(&mut tsig.data.mac);
        message.set_signature(tsig);
        let (_, parsed) = reply_to(&message.to_vec().unwrap());
        assert!(parsed.answers.is_empty());
        parsed
    };
    let parsed = with("a-tf", &|mac| mac.truncate(16));
    assert_eq!(parsed.metadata.response_code, ResponseCode::NotAuth);
    assert_eq!(error_of(&parsed), Some(TsigError::BadTrunc));
    assert_eq!(parsed.signature().unwrap().data.mac.len(), 32);
    let parsed = with("a-tf", &|mac| {
        mac.truncate(16);
        mac[15] ^= 1;
    });
    assert_eq!(error_of(&parsed), Some(TsigError::BadSig));
    for length in [0, 9, 15, 33] {
        let parsed = with("a-tf", &|mac| mac.resize(length, 0));
        assert_eq!(
            parsed.metadata.response_code,
            ResponseCode::FormErr,
            "{length}"
        );
    }
    // Lengths tell nothing of who is not seen.
    for length in [9, 16, 33] {
        let parsed = with("b-tf", &|mac| mac.resize(length, 0));
        assert_eq!(error_of(&parsed), Some(TsigError::BadKey), "{length}");
    }
}

#[test]
fn section_5_1_a_record_behind_the_signature_is_a_format_error() {
    let message = signed(&question("web.a.east.lab.example", A), "a-tf", SECRET, NOW);
    let (_, parsed) = reply_to(&with_edns(message, 1232));
    assert_eq!(parsed.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn rfc_8945_section_5_3_the_signature_has_room_in_the_reply() {
    let record = |i| format!("  - {{name: many, type: TXT, value: 'record number {i:03}'}}\n");
    for count in 1..20 {
        let world = world(&two_tenants(&(0..count).map(record).collect::<String>()));
        let message = signed(
            &question("many.a.east.lab.example", TXT),
            "a-tf",
            SECRET,
            NOW,
        );
        let reply = send(&world, IN_A, Transport::Udp, &message).unwrap();
        assert!(
            reply.len() <= 512,
            "{count} records: {} octets",
            reply.len()
        );
        let parsed = Message::from_vec(&reply).unwrap();
        let records = usize::try_from(count).unwrap();
        assert!(parsed.metadata.truncation || parsed.answers.len() == records);
        assert!(parsed.signature().is_some());
    }
}

#[test]
fn what_terraform_asks_is_answered_signed_without_rd_over_tcp_and_up_to_the_soa() {
    let record =
        |i: usize| format!("  - {{name: many, type: TXT, value: 'record number {i:03}'}}\n");
    let many: String = (0..80).map(record).collect();
    let alias = "  - {name: www, type: CNAME, value: many}\n";
    let world = world(&two_tenants(&format!("{many}{alias}")));
    let ask = |name: &str, kind, payload: Option<u16>, transport| {
        let mut octets = question(name, kind);
        octets[2] = 0;
        let octets = match payload {
            Some(payload) => with_edns(octets, payload),
            None => octets,
        };
        let octets = signed(&octets, "a-tf", SECRET, NOW);
        let reply = send(&world, IN_A, transport, &octets).unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert!(
            reply.signature().is_some() && error_of(&reply).is_none(),
            "{name}"
        );
        assert!(
            reply.metadata.authoritative && !reply.metadata.recursion_desired,
            "{name}"
        );
        reply
    };
    let name = "many.a.east.lab.example";
    let is_cut = |payload| ask(name, TXT, payload, Transport::Udp).metadata.truncation;
    assert!(is_cut(None) && is_cut(Some(4096)));
    let whole = ask(name, TXT, Some(4096), Transport::Tcp);
    assert_eq!(whole.answers.len(), 80);
    // An import goes up until there is an SOA in the answer section.
    let has_soa = |name: &str| {
        let reply = ask(name, SOA, None, Transport::Udp);
        let mut answers = reply.answers.iter();
        answers.any(|record| u16::from(record.record_type()) == SOA)
    };
    let walk = [
        "x.www.a.east.lab.example",
        "www.a.east.lab.example",
        "a.east.lab.example",
    ];
    assert_eq!(walk.map(has_soa), [false, false, true]);
}
