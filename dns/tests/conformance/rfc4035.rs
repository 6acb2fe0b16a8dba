//! RFC 4035 (with 3225, 4034, 7344, 8482): what a signed zone answers to who wants signatures, and to who does not.

use dns::answer::Transport;
use dns::dnssec::folder::KeyFolder;
use dns::journal::{Change, Store};
use dns::name::Name;
use dns::world::World;
use dns::zone::{RrOwner, RrSet};
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use netmodel::published::Published;

use super::dnssec::{denials, dnskey, nsec, rrsig, verify};
use super::support::*;

const RECORDS: &str = "
  - {name: web, type: A, value: 10.1.0.10}
  - {name: web, type: A, value: 10.1.0.9}
  - {name: txt, type: TXT, value: b}
  - {name: txt, type: TXT, value: aa}
  - {name: www, type: CNAME, value: web}
  - {name: mail, type: MX, value: 10 web}
  - {name: lost, type: CNAME, value: nowhere}
  - {name: away, type: CNAME, value: only-b.b.east.lab.example.}
  - {name: x.ent, type: A, value: 10.1.0.11}
  - {name: '*.wild', type: A, value: 10.1.0.12}
  - {name: sub, type: NS, value: ns.sub}
  - {name: ns.sub, type: A, value: 10.1.0.13}
  - {name: sub, type: A, value: 10.1.0.14}
";
const ZONE: &str = "a.east.lab.example";
const IN_MANAGEMENT: &str = "10.0.99.5";

fn published(signed: &[&str], site: bool) -> Published {
    let mut published = two_tenants(RECORDS);
    published.model.site_dnssec = site;
    for tenant in &mut published.model.tenants {
        tenant.dnssec = signed.contains(&tenant.name.as_str());
    }
    published
}

fn all_signed() -> World {
    signed_world(&published(&["a", "b"], true))
}

fn name(label: &str) -> String {
    format!("{label}.{ZONE}")
}

#[test]
fn section_3_1_without_do_a_signed_zone_answers_as_one_that_is_not() {
    let (signed, plain) = (all_signed(), world(&published(&[], false)));
    let labels = [
        "web", "txt", "www", "mail", "lost", "nowhere", "ent", "q.wild", "sub", "x.sub", "away",
    ];
    let names = labels.map(name);
    for name in names
        .iter()
        .map(String::as_str)
        .chain([ZONE, "east.lab.example"])
    {
        for kind in [A, NS, CNAME, SOA, TXT, AAAA, 15, 46, 47, 255, 65_280] {
            for (source, edns) in [(IN_A, false), (IN_A, true), (IN_MANAGEMENT, true)] {
                let ask = |world: &World| {
                    let question = question(name, kind);
                    let question = if edns {
                        with_edns(question, 1232)
                    } else {
                        question
                    };
                    send(world, source, Transport::Udp, &question)
                };
                assert_eq!(ask(&signed), ask(&plain), "{name} {kind} {source}");
            }
        }
    }
}

#[test]
fn a_zone_that_is_not_signed_answers_to_do_as_it_did_before() {
    let plain = signed_world(&published(&["b"], false));
    for label in ["web", "nowhere", "q.wild", "x.sub", "lost", "ent"] {
        for kind in [A, TXT, DS, 48, 46, 47, 128] {
            let octets = question(&name(label), kind);
            let with = send(
                &plain,
                IN_A,
                Transport::Udp,
                &with_flags(octets.clone(), DO),
            );
            let without = send(&plain, IN_A, Transport::Udp, &with_flags(octets, 0));
            assert_eq!(with, without, "{label} {kind}");
        }
    }
}

#[test]
fn section_3_1_1_every_set_has_its_signature() {
    let world = all_signed();
    // Types, and what must be in the answer section.
    let rows: &[(&str, u16, &[&str])] = &[
        ("web", A, &["A", "A", "RRSIG"]),
        ("txt", TXT, &["TXT", "TXT", "RRSIG"]),
        ("mail", 15, &["MX", "RRSIG"]),
        ("www", A, &["CNAME", "RRSIG", "A", "A", "RRSIG"]),
        ("www", CNAME, &["CNAME", "RRSIG"]),
        ("lost", A, &["CNAME", "RRSIG"]),
        ("q.wild", A, &["A", "RRSIG"]),
        ("", SOA, &["SOA", "RRSIG"]),
        ("", NS, &["NS", "RRSIG"]),
        ("", 48, &["DNSKEY", "RRSIG"]),
        ("", 59, &["CDS", "RRSIG"]),
        ("", 60, &["CDNSKEY", "RRSIG"]),
        ("", DS, &["DS", "RRSIG"]),
        ("web", ANY, &["A", "A", "RRSIG"]),
        ("web", 46, &["RRSIG"]),
        ("web", 47, &["NSEC", "RRSIG"]),
        ("www", 47, &["NSEC", "RRSIG"]),
        ("sub", 47, &["NSEC", "RRSIG"]),
    ];
    for (label, kind, expected) in rows {
        let name = name(label);
        let name = name.trim_start_matches('.');
        // The second time it is kept.
        for _ in 0..2 {
            let reply = ask_with(&world, IN_A, (name, *kind), DO);
            let found: Vec<String> = reply
                .answers
                .iter()
                .map(|record| record.record_type().to_string())
                .collect();
            assert_eq!(found, *expected, "{name} {kind}");
            assert!(reply.metadata.authoritative, "{name} {kind}");
            if *kind != 46 {
                assert_eq!(verify(&world, IN_A, &reply), Vec::<String>::new(), "{name}");
            }
        }
    }
}

#[test]
fn section_3_1_4_a_referral_has_the_ds_or_the_proof_that_there_is_none() {
    // The site's zone, asked below the delegation of a tenant's zone that this view does not have, would be one;
    // here a tenant's own delegation, which is never signed.
    let world = all_signed();
    for label in ["sub", "x.sub"] {
        let reply = ask_with(&world, IN_A, (&name(label), A), DO);
        assert!(!reply.metadata.authoritative && reply.answers.is_empty());
        assert_eq!(denials(&reply), ["sub.a.east.lab.example.: NS RRSIG NSEC"]);
        let unsigned = verify(&world, IN_A, &reply);
        assert_eq!(
            unsigned,
            ["sub.a.east.lab.example. NS", "ns.sub.a.east.lab.example. A"]
        );
    }
    // RFC 4035, 3.1.4.1: DS is the parent's to say; here, that there is none.
    let reply = ask_with(&world, IN_A, (&name("sub"), DS), DO);
    assert!(reply.metadata.authoritative);
    assert_eq!(denials(&reply), ["sub.a.east.lab.example.: NS RRSIG NSEC"]);
}

#[test]
fn section_3_1_4_1_the_site_has_the_ds_of_tenants_that_are_signed_and_of_no_others() {
    let world = signed_world(&published(&["a"], true));
    let ds = |zone: &str| {
        let reply = ask_with(&world, IN_MANAGEMENT, (zone, DS), DO);
        assert_eq!(verify(&world, IN_MANAGEMENT, &reply), Vec::<String>::new());
        let found = reply.answers.iter().find_map(|record| {
            let RData::DNSSEC(DNSSECRData::DS(ds)) = &record.data else {
                return None;
            };
            Some(ds.clone())
        });
        (found, denials(&reply))
    };
    let (found, denied) = ds(ZONE);
    let key = dnskey(&world, IN_A, ZONE);
    let zone = hickory_proto::rr::Name::from_ascii(format!("{ZONE}.")).unwrap();
    assert!(found.unwrap().covers(&zone, &key).unwrap());
    assert_eq!(denied, Vec::<String>::new());
    // `b` is not seen from here: it does not exist.
    let (found, denied) = ds("b.east.lab.example");
    assert!(found.is_none());
    assert_eq!(denied, ["b.east.lab.example.: RRSIG NSEC 128"]);
    let from_b = ask_with(&world, IN_B, ("b.east.lab.example", DS), DO);
    assert_eq!(denials(&from_b), ["b.east.lab.example.: NS RRSIG NSEC"]);
    // The keys of the chain are told apart.
    let site = dnskey(&world, IN_A, "east.lab.example");
    assert_ne!(site.public_key(), key.public_key());
}

#[test]
fn section_3_1_6_do_and_cd_go_back_and_ad_is_never_said() {
    let world = all_signed();
    let ask = |flags: u16, cd: bool| {
        let mut octets = with_flags(question(&name("web"), A), flags);
        // AD and, maybe, CD.
        octets[3] = if cd { 0x30 } else { 0x20 };
        let reply = send(&world, IN_A, Transport::Udp, &octets).unwrap();
        let at = reply.len() - 4;
        (reply[3], u16::from_be_bytes([reply[at], reply[at + 1]]))
    };
    assert_eq!(ask(DO, false), (0, DO));
    assert_eq!(ask(DO, true), (0x10, DO));
    assert_eq!(
        ask(DO | CO | 1, true),
        (0x10, DO | CO),
        "no flag that is unknown"
    );
    assert_eq!(ask(0, true), (0, 0), "without DO, as ever");
}

#[test]
fn section_3_1_an_alias_is_followed_from_a_signed_zone_into_one_that_is_not_and_back() {
    let mut published = published(&["a"], true);
    // Both tenants are seen from the management.
    let operators = published.model.tenants[0].trusted_operators.clone();
    published.model.tenants[1].trusted_operators = operators;
    let mut back = published.model.records[0].clone();
    back.zone = "b.east.lab.example".into();
    back.name = "back".into();
    back.record_type = "CNAME".into();
    back.value = "web.a.east.lab.example.".into();
    published.model.records.push(back);
    let world = signed_world(&published);
    let reply = ask_with(&world, IN_MANAGEMENT, (&name("away"), A), DO);
    assert_eq!(reply.answers.len(), 3, "{}", shown(&reply));
    assert_eq!(
        verify(&world, IN_MANAGEMENT, &reply),
        ["only-b.b.east.lab.example. A"]
    );
    let reply = ask_with(&world, IN_MANAGEMENT, ("back.b.east.lab.example", A), DO);
    assert_eq!(
        verify(&world, IN_MANAGEMENT, &reply),
        ["back.b.east.lab.example. CNAME"]
    );
    assert_eq!(reply.answers.len(), 4);
    // From the tenant's own view, what it must not see is not there: the site says so.
    let reply = ask_with(&world, IN_A, (&name("away"), A), DO);
    assert_eq!(verify(&world, IN_A, &reply), Vec::<String>::new());
    assert_eq!(
        denials(&reply),
        ["only-b.b.east.lab.example.: RRSIG NSEC 128"]
    );
}

#[test]
fn reverse_zones_follow_their_owners_switch() {
    let world = signed_world(&published(&["a"], false));
    let of_a = "0/26.0.1.10.in-addr.arpa";
    let reply = ask_with(&world, IN_A, (&format!("10.{of_a}"), PTR), DO);
    assert_eq!(verify(&world, IN_A, &reply), Vec::<String>::new());
    assert_eq!(dnskey(&world, IN_A, of_a).flags(), 257);
    let of_b = ask_with(&world, IN_B, ("1.64/26.0.1.10.in-addr.arpa", PTR), DO);
    assert!(
        of_b.authorities
            .iter()
            .all(|record| rrsig(record).is_none())
    );
    let site = ask_with(&world, IN_A, ("nowhere.east.lab.example", A), DO);
    assert!(site.authorities.iter().all(|record| nsec(record).is_none()));
    assert_eq!(site.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn rfc_4034_section_6_3_sets_are_signed_in_canonical_order() {
    // `b` is shorter than `aa` and comes first: the length is the first octet.
    let world = all_signed();
    let reply = ask_with(&world, IN_A, (&name("txt"), TXT), DO);
    assert_eq!(verify(&world, IN_A, &reply), Vec::<String>::new());
}

#[test]
fn a_zone_whose_key_cannot_be_used_is_not_answered_for_and_others_are() {
    // There is no folder for keys.
    let world = world(&published(&["a"], true));
    for flags in [0, DO] {
        for (who, zone) in [
            (IN_A, ZONE),
            (IN_A, "east.lab.example"),
            (IN_B, "east.lab.example"),
        ] {
            let reply = ask_with(&world, who, (zone, SOA), flags);
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
            assert!(reply.answers.is_empty());
        }
        let other = ask_with(&world, IN_B, ("only-b.b.east.lab.example", A), flags);
        assert_eq!(other.answers.len(), 1);
    }
    let octets = with_flags(question(ZONE, SOA), DO);
    let reply = send(&world, IN_A, Transport::Udp, &octets).unwrap();
    let text = String::from_utf8_lossy(&reply).into_owned();
    assert!(text.contains("the zone's key cannot be used"), "{text}");
}

#[test]
fn an_alias_into_a_zone_whose_key_cannot_be_used_leads_to_no_answer() {
    let mut published = published(&["b"], false);
    let operators = published.model.tenants[0].trusted_operators.clone();
    published.model.tenants[1].trusted_operators = operators;
    let world = world(&published);
    for flags in [0, DO] {
        let reply = ask_with(&world, IN_MANAGEMENT, (&name("away"), A), flags);
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!(reply.answers.is_empty(), "{}", shown(&reply));
        let other = ask_with(&world, IN_MANAGEMENT, (&name("web"), A), flags);
        assert_eq!(other.answers.len(), 2);
    }
}

#[test]
fn a_signed_zone_without_a_key_has_a_ds_that_no_key_has() {
    let folder = tempfile::tempdir().unwrap();
    let published = published(&["a"], true);
    let keys = || KeyFolder::open(folder.path());
    let zone = Name::absolute(ZONE).unwrap();
    let tag = keys().key(&zone).unwrap().tag();
    let ds = || {
        let world = world_with(&published, keys());
        let reply = ask_with(&world, IN_MANAGEMENT, (ZONE, DS), DO);
        assert_eq!(verify(&world, IN_MANAGEMENT, &reply), Vec::<String>::new());
        reply.answers[0].data.to_string()
    };
    assert!(ds().starts_with(&format!("{tag} 13 2 ")));
    std::fs::write(folder.path().join(format!("{ZONE}.pk8")), "").unwrap();
    assert_eq!(ds(), format!("0 13 2 {}", "00".repeat(32)));
}

#[test]
fn what_an_update_does_not_change_is_not_signed_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("journal")).unwrap();
    store.set_zone_keys(KeyFolder::open(folder.path()).into());
    let plan = dns::plan::plan(&published(&["a"], false)).unwrap();
    let world = World::new(plan, dns::keys::Keyring::default(), &store);
    let signatures = |label: &str, kind: u16| {
        let reply = ask_with(
            &world,
            IN_A,
            (name(label).trim_start_matches('.'), kind),
            DO,
        );
        assert_eq!(verify(&world, IN_A, &reply), Vec::<String>::new());
        let all = reply.answers.iter().chain(&reply.authorities);
        all.filter_map(rrsig)
            .map(|signature| signature.sig().to_vec())
            .collect::<Vec<_>>()
    };
    let rows = [("web", A), ("web", TXT), ("", 48), ("x.ent", A)];
    let before = rows.map(|(label, kind)| signatures(label, kind));
    // An address at a name that had none, and one beside those of another name.
    let zone = Name::absolute(ZONE).unwrap();
    let key = |label: &str, kind: u16| (Name::parse(label, &zone).unwrap(), kind);
    let set = |rtype: u16, data: &[u8]| RrSet {
        rtype,
        ttl: 60,
        rdata: vec![data.into()],
        owner: RrOwner::Key("a-tf".into()),
    };
    let sets = [
        (key("new", A), Some(set(A, &[10, 1, 0, 20]))),
        (key("x.ent", TXT), Some(set(TXT, b"\x01x"))),
    ];
    store.apply(Change {
        tenant: "a".into(),
        zone: zone.clone(),
        sets: sets.into(),
    });
    let (id, _) = world.own_zone(&zone, "a").unwrap();
    world.refresh(id, &store);
    let after = rows.map(|(label, kind)| signatures(label, kind));
    assert_eq!(after[0], before[0]);
    // The NSEC is as it was, the SOA is another.
    assert_eq!(
        after[1]
            .iter()
            .filter(|sig| before[1].contains(sig))
            .count(),
        1
    );
    assert_eq!((&after[2], &after[3]), (&before[2], &before[3]));
    let denied = ask_with(&world, IN_A, (&name("x.ent"), AAAA), DO);
    assert_eq!(
        denials(&denied),
        ["x.ent.a.east.lab.example.: A TXT RRSIG NSEC"]
    );
    assert_eq!(verify(&world, IN_A, &denied), Vec::<String>::new());
}

#[test]
fn payload_below_512_octets_counts_as_512() {
    let world = all_signed();
    let mut octets = with_flags(question(&name("nowhere"), A), DO);
    let at = octets.len() - 8;
    octets[at..at + 2].copy_from_slice(&100u16.to_be_bytes());
    // 512 octets are the least that a client takes.
    let reply = Message::from_vec(&send(&world, IN_A, Transport::Udp, &octets).unwrap()).unwrap();
    assert!(!reply.metadata.truncation);
    assert_eq!(verify(&world, IN_A, &reply), Vec::<String>::new());
}
