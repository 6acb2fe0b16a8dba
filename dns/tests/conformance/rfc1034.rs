//! RFC 1034: names, aliases, referrals; with RFC 2308 (negative answers) and RFC 6604 (codes of chains).

use super::support::*;

const SOA_OF_A: &str = "SOA ns.east.lab.example. hostmaster.east.lab.example. 7 3600 600 604800 60";

fn records() -> dns::world::World {
    world(&two_tenants(
        "
  - {name: '@', type: A, value: 10.1.0.10}
  - {name: '@', type: MX, value: 10 mail}
  - {name: web, type: A, value: 10.1.0.10}
  - {name: web, type: A, value: 10.1.0.11}
  - {name: web, type: AAAA, value: 'fd00:1::10'}
  - {name: alias, type: CNAME, value: web}
  - {name: alias2, type: CNAME, value: alias}
  - {name: dangling, type: CNAME, value: nowhere}
  - {name: loop1, type: CNAME, value: loop2}
  - {name: loop2, type: CNAME, value: loop1}
  - {name: out, type: CNAME, value: www.example.org.}
  - {name: a.very.deep.name, type: A, value: 10.1.0.12}
  - {name: _sip._tcp, type: SRV, value: 0 5 5060 web}
  - {name: txt, type: TXT, value: 'hello world'}
  - {name: '@', type: CAA, value: '0 issue \"ca.example\"'}
",
    ))
}

#[test]
fn section_4_3_2_step_3a_the_whole_set_is_the_answer() {
    let world = records();
    assert_eq!(
        says(&world, IN_A, "web.a.east.lab.example", A),
        "NOERROR aa | web.a.east.lab.example. A 10.1.0.10; web.a.east.lab.example. A 10.1.0.11 |  | "
    );
    assert_eq!(
        says(&world, IN_A, "_sip._tcp.a.east.lab.example", 33),
        "NOERROR aa | _sip._tcp.a.east.lab.example. SRV 0 5 5060 web.a.east.lab.example. |  | "
    );
    assert_eq!(
        says(&world, IN_A, "a.east.lab.example", 15),
        "NOERROR aa | a.east.lab.example. MX 10 mail.a.east.lab.example. |  | "
    );
    assert_eq!(
        says(&world, IN_A, "a.east.lab.example", SOA),
        format!("NOERROR aa | a.east.lab.example. {SOA_OF_A} |  | ")
    );
    assert_eq!(
        says(&world, IN_A, "a.east.lab.example", NS),
        "NOERROR aa | a.east.lab.example. NS ns.east.lab.example. |  | "
    );
}

#[test]
fn section_4_3_2_step_3a_an_alias_is_followed_to_its_end() {
    let world = records();
    assert_eq!(
        says(&world, IN_A, "alias2.a.east.lab.example", AAAA),
        "NOERROR aa | alias.a.east.lab.example. CNAME web.a.east.lab.example.; \
         alias2.a.east.lab.example. CNAME alias.a.east.lab.example.; \
         web.a.east.lab.example. AAAA fd00:1::10 |  | "
    );
    assert_eq!(
        says(&world, IN_A, "alias.a.east.lab.example", CNAME),
        "NOERROR aa | alias.a.east.lab.example. CNAME web.a.east.lab.example. |  | "
    );
    assert_eq!(
        says(&world, IN_A, "alias.a.east.lab.example", TXT),
        format!(
            "NOERROR aa | alias.a.east.lab.example. CNAME web.a.east.lab.example. | \
             a.east.lab.example. {SOA_OF_A} | "
        )
    );
    // Where it leads to is another's to say.
    assert_eq!(
        says(&world, IN_A, "out.a.east.lab.example", A),
        "NOERROR aa | out.a.east.lab.example. CNAME www.example.org. |  | "
    );
}

#[test]
fn section_4_3_2_aliases_in_a_circle_end() {
    let reply = ask(&records(), IN_A, "loop1.a.east.lab.example", A);
    assert_eq!(reply.answers.len(), 2, "{}", shown(&reply));
}

#[test]
fn rfc_6604_section_3_the_code_is_that_of_the_last_name() {
    assert_eq!(
        says(&records(), IN_A, "dangling.a.east.lab.example", A),
        format!(
            "NXDOMAIN aa | dangling.a.east.lab.example. CNAME nowhere.a.east.lab.example. | \
             a.east.lab.example. {SOA_OF_A} | "
        )
    );
}

#[test]
fn rfc_2308_section_2_negative_answers_have_the_soa() {
    let world = records();
    for (name, code) in [
        ("web", "NOERROR"),
        ("very.deep.name", "NOERROR"),
        ("name", "NOERROR"),
        ("x.web", "NXDOMAIN"),
        ("nowhere", "NXDOMAIN"),
        ("b.very.deep.name", "NXDOMAIN"),
    ] {
        let name = format!("{name}.a.east.lab.example");
        assert_eq!(
            says(&world, IN_A, &name, TXT),
            format!("{code} aa |  | a.east.lab.example. {SOA_OF_A} | ")
        );
    }
    let reply = ask(&world, IN_A, "nowhere.a.east.lab.example", TXT);
    assert_eq!(reply.authorities[0].ttl, 60, "RFC 2308, 5: the minimum");
}

#[test]
fn section_4_2_1_below_a_delegation_is_a_referral_with_glue() {
    use dns::lookup::resolve;
    use dns::name::Name;
    use dns::zone::{Contents, RrOwner, Soa, Zone};
    let origin = Name::absolute("z.example").unwrap();
    let name = |text| Name::parse(text, &origin).unwrap();
    let mut contents = Contents::default();
    for (owner, kind, value) in [
        ("@", "NS", "ns.other.example."),
        ("sub", "NS", "ns.sub"),
        ("sub", "NS", "ns.other.example."),
        ("ns.sub", "A", "192.0.2.53"),
        ("hidden.sub", "A", "192.0.2.99"),
        ("to-sub", "CNAME", "hidden.sub"),
    ] {
        let data = dns::rdata::parse(kind, value, &origin).unwrap();
        contents.add(name(owner), data, 300, RrOwner::Inventory);
    }
    let soa = Soa {
        mname: name("ns"),
        rname: name("hostmaster"),
    };
    let zone = Zone::new(origin.clone(), &soa, 1, &contents);
    for (owner, kind) in [
        ("sub", A),
        ("sub", NS),
        ("x.sub", A),
        ("hidden.sub", A),
        ("ns.sub", A),
        ("x.sub", DS),
    ] {
        let answer = resolve(&zone, name(owner).as_wire(), kind);
        assert!(zone.prepared(name(owner).as_wire(), kind).is_none());
        assert!(
            !answer.is_authoritative,
            "{owner}: a referral is not ours to say"
        );
        assert!(answer.answers.is_empty(), "{owner}");
        assert_eq!(answer.authority[0].owner, Some(name("sub")));
        assert_eq!(answer.additional[0].owner, Some(name("ns.sub")), "glue");
        assert_eq!(answer.additional.len(), 1);
    }
    // RFC 4035, 3.1.4.1: DS at the cut is the parent's.
    let ds = resolve(&zone, name("sub").as_wire(), DS);
    assert!(ds.is_authoritative && ds.authority[0].set.rtype == SOA);
    let alias = resolve(&zone, name("to-sub").as_wire(), A);
    assert!(
        alias.is_authoritative && alias.answers.len() == 1 && alias.authority[0].set.rtype == NS
    );
}

#[test]
fn rfc_8482_section_4_1_any_is_one_set() {
    let reply = ask(&records(), IN_A, "web.a.east.lab.example", ANY);
    let kinds: std::collections::BTreeSet<_> = reply
        .answers
        .iter()
        .map(hickory_proto::rr::Record::record_type)
        .collect();
    assert_eq!(kinds.len(), 1, "{}", shown(&reply));
}

#[test]
fn rfc_4343_upper_case_asks_for_the_same_name_and_comes_back_as_it_was() {
    let world = records();
    let message = question("WeB.a.EAST.lab.example", A);
    let reply = send(&world, IN_A, dns::answer::Transport::Udp, &message).unwrap();
    assert_eq!(reply[12..message.len()], message[12..]);
    assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 2);
}

use hickory_proto::op::Message;

#[test]
fn section_3_6_every_type_of_the_inventory_is_served_as_it_was_said() {
    let digest = "ab".repeat(32);
    let records = format!(
        "
  - {{name: web, type: A, value: 10.1.0.10}}
  - {{name: '@', type: MX, value: 10 web}}
  - {{name: '@', type: TXT, value: 'v=spf1 -all'}}
  - {{name: _sip._tcp, type: SRV, value: 0 5 5060 web}}
  - {{name: '@', type: CAA, value: '0 issue \"ca.example\"'}}
  - {{name: k8s, type: NS, value: web}}
  - {{name: old, type: PTR, value: web}}
  - {{name: web, type: HTTPS, value: '1 . alpn=h2,h3 port=8443 ipv4hint=10.1.0.10'}}
  - {{name: _dns, type: SVCB, value: 1 web port=53}}
  - {{name: _443._tcp.web, type: TLSA, value: 3 1 1 {digest}}}
  - {{name: web, type: SSHFP, value: 4 2 {digest}}}
  - {{name: '*.apps', type: CNAME, value: web}}
"
    );
    let world = world(&two_tenants(&records));
    let zone = "a.east.lab.example";
    let rows = [
        ("", 15, "10 web.a.east.lab.example."),
        ("", 16, "v=spf1 -all"),
        ("_sip._tcp.", 33, "0 5 5060 web.a.east.lab.example."),
        ("", 257, "0 issue \"ca.example\""),
        ("old.", 12, "web.a.east.lab.example."),
        ("web.", 65, "1 . alpn=h2,h3 port=8443 ipv4hint=10.1.0.10"),
        ("_dns.", 64, "1 web.a.east.lab.example. port=53"),
        ("_443._tcp.web.", 52, &format!("3 1 1 {digest}")),
        ("web.", 44, &format!("4 2 {digest}")),
        ("x.y.apps.", 5, "web.a.east.lab.example."),
    ];
    for (name, kind, expected) in rows {
        let reply = ask(&world, IN_A, &format!("{name}{zone}"), kind);
        let found: Vec<String> = reply
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        let same = |text: &str| {
            text.to_lowercase()
                .replace([',', '"'], " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found.len(), 1, "{name} {kind}: {}", shown(&reply));
        assert_eq!(same(&found[0]), same(expected), "{name} {kind}");
    }
    let referral = ask(&world, IN_A, &format!("x.k8s.{zone}"), A);
    assert_eq!(
        (referral.answers.len(), referral.authorities.len()),
        (0, 1),
        "a delegation"
    );
}
