//! RFC 2136: what one message of updates does.

use std::str::FromStr as _;
use std::sync::Arc;

use dns::journal::{Change, Store, ZoneChanges};
use dns::keys::Key;
use dns::name::Name;
use dns::update::{Refusal, Target, update};
use dns::world::{World, serial};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData};
use hickory_proto::dnssec::{Algorithm, PublicKeyBuf};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};

use super::support::*;

const ZONE: &str = "a.east.lab.example.";
const RECORDS: &str = "
  - {name: fixed, type: A, value: 10.1.0.10}
  - {name: fixed-alias, type: CNAME, value: fixed}
";

struct Lab {
    world: World,
    store: Store,
    _folder: tempfile::TempDir,
    room: usize,
    is_draining: bool,
    others: Vec<Arc<str>>,
}

/// One record of a message: name, class, TTL, type, data; no data is none.
type Row = (&'static str, DNSClass, u32, &'static str, &'static str);

fn record((name, class, ttl, kind, data): &Row) -> Record {
    let name = match *name {
        "@" => HickoryName::from_ascii(ZONE).unwrap(),
        name if name.ends_with('.') => HickoryName::from_ascii(name).unwrap(),
        name => HickoryName::from_ascii(format!("{name}.{ZONE}")).unwrap(),
    };
    let kind = RecordType::from_str(kind).unwrap();
    let mut record = if data.is_empty() {
        Record::update0(name, *ttl, kind)
    } else if kind == RecordType::DNSKEY {
        // hickory reads no DNSKEY from text.
        let key = PublicKeyBuf::new(data.as_bytes().to_vec(), Algorithm::ECDSAP256SHA256);
        let key = DNSKEY::new(true, true, false, key);
        Record::from_rdata(name, *ttl, RData::DNSSEC(DNSSECRData::DNSKEY(key)))
    } else {
        Record::from_rdata(name, *ttl, RData::try_from_str(kind, data).unwrap())
    };
    record.dns_class = *class;
    record
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            world: world(&two_tenants(RECORDS)),
            store: Store::open(&folder.path().join("journal")).unwrap(),
            _folder: folder,
            room: 100,
            is_draining: false,
            others: Vec::new(),
        }
    }

    fn work(&self, prerequisites: &[Row], updates: &[Row]) -> Result<Change, Refusal> {
        let mut message = Message::new(1, MessageType::Query, OpCode::Update);
        message.answers = prerequisites.iter().map(record).collect();
        message.authorities = updates.iter().map(record).collect();
        self.work_on(&message)
    }

    fn work_on(&self, message: &Message) -> Result<Change, Refusal> {
        // What is tested is what came over the wire.
        let message = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        let origin = Name::absolute(ZONE).unwrap();
        let ring = key_ring(&self.world);
        let key: &Key = ring.key(Name::absolute("a-tf").unwrap().as_wire()).unwrap();
        let (_, spec) = self.world.own_zone(&origin, "a").unwrap();
        let nothing = ZoneChanges::default();
        let target = Target {
            key: &key.name,
            others: &self.others,
            tenant: key.tenant().unwrap(),
            origin: &origin,
            soa: &self
                .world
                .plan
                .soa
                .set(serial(&self.world.plan, spec, &self.store)),
            fixed: &dns::leases::fixed(&self.world.plan, spec, &self.store),
            dynamic: self.store.zone(&"a".into(), &origin).unwrap_or(&nothing),
            room: self.room,
            is_draining: self.is_draining,
        };
        update(target, &message)
    }

    /// Does it; the code and how many sets it changed.
    fn run(&mut self, prerequisites: &[Row], updates: &[Row]) -> (u16, usize) {
        match self.work(prerequisites, updates) {
            Err(refusal) => (refusal.code, 0),
            Ok(change) => {
                let count = change.sets.len();
                if count > 0 {
                    let line = self.store.apply(change);
                    self.store.commit(&[line]).unwrap();
                }
                (0, count)
            }
        }
    }

    fn says(&self, name: &str, kind: u16) -> String {
        let plan = dns::plan::plan(&two_tenants(RECORDS)).unwrap();
        let world = World::new(plan, self.world.keys.clone(), &self.store);
        says(&world, IN_A, &format!("{name}.{ZONE}"), kind)
    }
}

const IN: DNSClass = DNSClass::IN;
const ANY_: DNSClass = DNSClass::ANY;
const NONE: DNSClass = DNSClass::NONE;
const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const REFUSED: u16 = 5;
const YXDOMAIN: u16 = 6;
const YXRRSET: u16 = 7;
const NXRRSET: u16 = 8;
const NOTZONE: u16 = 10;

#[test]
fn section_2_5_records_are_added_and_deleted() {
    let mut lab = Lab::new();
    assert_eq!(
        lab.run(
            &[],
            &[
                ("w", IN, 77, "A", "10.1.0.20"),
                ("w", IN, 77, "A", "10.1.0.21")
            ]
        ),
        (0, 1)
    );
    assert!(
        lab.says("w", A)
            .contains("10.1.0.20; w.a.east.lab.example. A 10.1.0.21")
    );
    assert_eq!(lab.run(&[], &[("w", NONE, 0, "A", "10.1.0.20")]), (0, 1));
    assert!(!lab.says("w", A).contains("10.1.0.20"));
    assert_eq!(
        lab.run(&[], &[("w", IN, 5, "TXT", "t"), ("w", ANY_, 0, "A", "")]),
        (0, 2)
    );
    assert!(
        lab.says("w", A).starts_with("NOERROR aa |  |"),
        "{}",
        lab.says("w", A)
    );
    assert_eq!(lab.run(&[], &[("w", ANY_, 0, "ANY", "")]), (0, 1));
    assert!(lab.says("w", A).starts_with("NXDOMAIN"));
}

#[test]
fn section_1_1_5_the_ttl_is_returned_as_it_was_set_and_the_serial_grows() {
    let mut lab = Lab::new();
    for (ttl, serial) in [(77, 8), (604_801, 9), (0, 10)] {
        assert_eq!(lab.run(&[], &[("w", IN, ttl, "A", "10.1.0.20")]).0, NOERROR);
        let plan = dns::plan::plan(&two_tenants(RECORDS)).unwrap();
        let world = World::new(plan, lab.world.keys.clone(), &lab.store);
        assert_eq!(
            ask(&world, IN_A, &format!("w.{ZONE}"), A).answers[0].ttl,
            ttl
        );
        assert!(says(&world, IN_A, ZONE, SOA).contains(&format!(" {serial} 3600 ")));
    }
}

#[test]
fn an_update_that_changes_nothing_is_none() {
    let mut lab = Lab::new();
    let add: &[Row] = &[("w", IN, 77, "A", "10.1.0.20")];
    assert_eq!(lab.run(&[], add), (0, 1));
    assert_eq!(lab.run(&[], add), (0, 0));
    assert_eq!(lab.run(&[], &[("nothing", ANY_, 0, "A", "")]), (0, 0));
    assert_eq!(lab.run(&[], &[("w", NONE, 0, "A", "10.1.0.99")]), (0, 0));
}

/// The zone's SOA after one update, and before it; names are the same in either case.
const SOA_NOW: &str = "ns.EAST.lab.example. hostmaster.east.lab.example. 8 3600 600 604800 60";
const SOA_BEFORE: &str = "ns.east.lab.example. hostmaster.east.lab.example. 7 3600 600 604800 60";

#[test]
fn section_3_2_prerequisites() {
    let mut lab = Lab::new();
    assert_eq!(
        lab.run(
            &[],
            &[
                ("w", IN, 77, "A", "10.1.0.20"),
                ("w", IN, 77, "A", "10.1.0.21")
            ]
        ),
        (0, 1)
    );
    let rows: &[(&str, &[Row], u16)] = &[
        ("2.4.1 the set exists", &[("w", ANY_, 0, "A", "")], NOERROR),
        (
            "2.4.1 of the inventory",
            &[("fixed", ANY_, 0, "A", "")],
            NOERROR,
        ),
        ("2.4.1 it does not", &[("w", ANY_, 0, "TXT", "")], NXRRSET),
        (
            "2.4.1 SOA exists at the apex",
            &[("@", ANY_, 0, "SOA", "")],
            NOERROR,
        ),
        (
            "2.4.2 with just these data",
            &[
                ("w", IN, 0, "A", "10.1.0.21"),
                ("w", IN, 0, "A", "10.1.0.20"),
            ],
            NOERROR,
        ),
        (
            "2.4.2 with fewer",
            &[("w", IN, 0, "A", "10.1.0.20")],
            NXRRSET,
        ),
        (
            "2.4.2 with others",
            &[
                ("w", IN, 0, "A", "10.1.0.20"),
                ("w", IN, 0, "A", "10.1.0.22"),
            ],
            NXRRSET,
        ),
        (
            "2.4.2 the zone's SOA",
            &[("@", IN, 0, "SOA", SOA_NOW)],
            NOERROR,
        ),
        (
            "2.4.2 an SOA that was the zone's",
            &[("@", IN, 0, "SOA", SOA_BEFORE)],
            NXRRSET,
        ),
        (
            "2.4.2 SOA where there is none",
            &[("w", IN, 0, "SOA", SOA_NOW)],
            NXRRSET,
        ),
        ("2.4.3 SOA exists", &[("@", NONE, 0, "SOA", "")], YXRRSET),
        (
            "2.4.3 the set does not exist",
            &[("w", NONE, 0, "TXT", "")],
            NOERROR,
        ),
        ("2.4.3 it does", &[("w", NONE, 0, "A", "")], YXRRSET),
        (
            "2.4.4 the name is in use",
            &[("w", ANY_, 0, "ANY", "")],
            NOERROR,
        ),
        (
            "2.4.4 it is not",
            &[("nothing", ANY_, 0, "ANY", "")],
            NXDOMAIN,
        ),
        (
            "2.4.5 the name is not in use",
            &[("nothing", NONE, 0, "ANY", "")],
            NOERROR,
        ),
        ("2.4.5 it is", &[("fixed", NONE, 0, "ANY", "")], YXDOMAIN),
        ("3.2 a TTL", &[("w", ANY_, 1, "A", "")], FORMERR),
        (
            "3.2 data with class ANY",
            &[("w", ANY_, 0, "A", "10.1.0.20")],
            FORMERR,
        ),
        (
            "3.2 class IN without data",
            &[("w", IN, 0, "A", "")],
            FORMERR,
        ),
        (
            "3.2 class CHAOS",
            &[("w", DNSClass::CH, 0, "A", "10.1.0.20")],
            FORMERR,
        ),
        (
            "3.2.1 another zone",
            &[("www.b.east.lab.example.", ANY_, 0, "ANY", "")],
            NOTZONE,
        ),
        (
            "all of them must hold",
            &[("w", ANY_, 0, "A", ""), ("w", ANY_, 0, "TXT", "")],
            NXRRSET,
        ),
    ];
    for (what, prerequisites, code) in rows {
        let done = lab.work(prerequisites, &[("v", IN, 1, "A", "10.1.0.30")]);
        assert_eq!(
            done.map_or_else(|refusal| refusal.code, |_| 0),
            *code,
            "{what}"
        );
    }
}

#[test]
fn section_3_4_1_the_prescan_refuses_before_anything_is_changed() {
    let mut lab = Lab::new();
    let good: Row = ("w", IN, 1, "A", "10.1.0.20");
    let rows: &[(&str, Row, u16)] = &[
        (
            "another zone",
            ("www.b.east.lab.example.", IN, 1, "A", "10.1.0.1"),
            NOTZONE,
        ),
        (
            "above the zone",
            ("east.lab.example.", IN, 1, "A", "10.1.0.1"),
            NOTZONE,
        ),
        (
            "class CHAOS",
            ("w", DNSClass::CH, 1, "A", "10.1.0.1"),
            FORMERR,
        ),
        ("add without data", ("w", IN, 1, "A", ""), FORMERR),
        ("delete with a TTL", ("w", ANY_, 1, "A", ""), FORMERR),
        (
            "delete a set with data",
            ("w", ANY_, 0, "A", "10.1.0.1"),
            FORMERR,
        ),
        (
            "delete a record without data",
            ("w", NONE, 0, "A", ""),
            FORMERR,
        ),
        ("class NONE, type ANY", ("w", NONE, 0, "ANY", ""), FORMERR),
        (
            "class NONE with a TTL",
            ("w", NONE, 1, "A", "10.1.0.1"),
            FORMERR,
        ),
        ("delete type AXFR", ("w", ANY_, 0, "AXFR", ""), FORMERR),
        (
            "a TTL of 2^31",
            ("w", IN, 1 << 31, "A", "10.1.0.1"),
            FORMERR,
        ),
        ("the SOA", ("@", IN, 1, "SOA", "a. b. 99 1 1 1 1"), REFUSED),
        ("delete the SOA", ("@", ANY_, 0, "SOA", ""), REFUSED),
        (
            "NS of the zone",
            ("@", IN, 1, "NS", "evil.example."),
            REFUSED,
        ),
        ("delete NS of the zone", ("@", ANY_, 0, "NS", ""), REFUSED),
        (
            "one NS of the zone",
            ("@", NONE, 0, "NS", "ns.east.lab.example."),
            REFUSED,
        ),
        (
            "a type that is not served",
            ("w", IN, 1, "HINFO", "a b"),
            REFUSED,
        ),
        (
            "a wildcard NS",
            ("*.w", IN, 1, "NS", "ns.example."),
            REFUSED,
        ),
        ("an escaped dot", (r"a\.b", IN, 1, "A", "10.1.0.1"), REFUSED),
    ];
    for (what, bad, code) in rows {
        assert_eq!(lab.run(&[], &[good, *bad]), (*code, 0), "{what}");
        assert!(lab.says("w", A).starts_with("NXDOMAIN"), "{what}: atomic");
    }
}

#[test]
fn what_the_inventory_says_is_not_changed_and_the_reply_says_why() {
    let mut lab = Lab::new();
    let rows: &[Row] = &[
        ("fixed", IN, 1, "A", "10.1.0.66"),
        ("fixed", ANY_, 0, "A", ""),
        ("fixed", ANY_, 0, "ANY", ""),
        ("fixed", NONE, 0, "A", "10.1.0.10"),
        ("fixed", IN, 1, "CNAME", "w"),
        ("fixed-alias", IN, 1, "A", "10.1.0.66"),
        ("fixed-alias", IN, 1, "CNAME", "w"),
    ];
    for row in rows {
        let refusal = lab.work(&[], &[*row]).unwrap_err();
        assert_eq!(refusal.code, REFUSED, "{row:?}");
        let (_, why) = refusal.why.unwrap();
        assert!(why.contains("belongs to inventory"), "{why}");
    }
    // Another type at the same name is free, and delete-all then does not touch it.
    assert_eq!(lab.run(&[], &[("fixed", IN, 1, "TXT", "note")]), (0, 1));
    assert_eq!(lab.run(&[], &[("fixed", ANY_, 0, "TXT", "")]), (0, 1));
}

#[test]
fn keys_signatures_and_proofs_are_the_servers_to_add_and_to_delete() {
    let lab = Lab::new();
    let key = "sixty-four octets that are a key of this algorithm, as long as -";
    let mut rows: Vec<Row> = [
        "RRSIG",
        "NSEC",
        "DNSKEY",
        "NSEC3",
        "NSEC3PARAM",
        "CDS",
        "CDNSKEY",
    ]
    .map(|kind| ("@", ANY_, 0, kind, ""))
    .to_vec();
    rows.push(("@", IN, 60, "DNSKEY", key));
    rows.push(("w", NONE, 0, "DNSKEY", key));
    for row in rows {
        let refusal = lab.work(&[], &[("w", IN, 60, "A", "10.1.0.20"), row]);
        let refusal = refusal.expect_err(row.3);
        assert_eq!(refusal.code, REFUSED, "{}", row.3);
        let why = refusal.why.unwrap().1;
        assert!(why.contains("the server's"), "{}: {why}", row.3);
    }
}

#[test]
fn section_3_4_2_2_a_cname_beside_other_data_is_ignored() {
    let mut lab = Lab::new();
    assert_eq!(lab.run(&[], &[("w", IN, 1, "A", "10.1.0.20")]), (0, 1));
    assert_eq!(lab.run(&[], &[("w", IN, 1, "CNAME", "v")]), (0, 0));
    assert_eq!(lab.run(&[], &[("c", IN, 1, "CNAME", "v")]), (0, 1));
    assert_eq!(lab.run(&[], &[("c", IN, 1, "A", "10.1.0.20")]), (0, 0));
    // A second CNAME replaces the first.
    assert_eq!(
        lab.run(&[], &[("c", IN, 1, "CNAME", "w.a.east.lab.example.")]),
        (0, 1)
    );
    assert!(
        lab.says("c", CNAME).contains("CNAME w.a."),
        "{}",
        lab.says("c", CNAME)
    );
    // In one message: first delete, then add.
    assert_eq!(
        lab.run(&[], &[("w", ANY_, 0, "A", ""), ("w", IN, 1, "CNAME", "v")]),
        (0, 2)
    );
}

#[test]
fn section_3_4_2_3_deleting_everything_at_the_apex_leaves_soa_and_ns() {
    let mut lab = Lab::new();
    assert_eq!(
        lab.run(&[], &[("@", IN, 1, "TXT", "t"), ("@", IN, 1, "MX", "10 m")]),
        (0, 2)
    );
    assert_eq!(lab.run(&[], &[("@", ANY_, 0, "ANY", "")]), (0, 2));
    let plan = dns::plan::plan(&two_tenants(RECORDS)).unwrap();
    let world = World::new(plan, lab.world.keys.clone(), &lab.store);
    assert_eq!(ask(&world, IN_A, ZONE, NS).answers.len(), 1);
    assert_eq!(ask(&world, IN_A, ZONE, SOA).answers.len(), 1);
}

#[test]
fn a_tenant_cannot_have_more_records_than_its_quota() {
    let mut lab = Lab::new();
    lab.room = 1;
    let two: &[Row] = &[
        ("w", IN, 1, "A", "10.1.0.20"),
        ("w", IN, 1, "A", "10.1.0.21"),
    ];
    assert_eq!(lab.run(&[], two), (REFUSED, 0));
    assert_eq!(lab.run(&[], &two[..1]), (0, 1));
    lab.room = 0;
    assert_eq!(lab.run(&[], &two[1..]), (REFUSED, 0));
    // What replaces another record needs no room.
    assert_eq!(
        lab.run(
            &[],
            &[("w", ANY_, 0, "A", ""), ("w", IN, 1, "A", "10.1.0.21")]
        ),
        (0, 1)
    );
}

#[test]
fn a_draining_tenant_only_removes_names() {
    let mut lab = Lab::new();
    assert_eq!(lab.run(&[], &[("w", IN, 1, "A", "10.1.0.20")]), (0, 1));
    lab.is_draining = true;
    assert_eq!(
        lab.run(&[], &[("v", IN, 1, "A", "10.1.0.20")]),
        (REFUSED, 0)
    );
    assert_eq!(lab.run(&[], &[("w", ANY_, 0, "A", "")]), (0, 1));
}

#[test]
fn a_set_that_the_inventory_takes_over_is_the_inventorys_until_it_lets_go() {
    let mut lab = Lab::new();
    assert_eq!(lab.run(&[], &[("later", IN, 1, "A", "10.1.0.20")]), (0, 1));
    let serve = |records: &str| {
        let plan = dns::plan::plan(&two_tenants(records)).unwrap();
        let world = World::new(plan, lab.world.keys.clone(), &lab.store);
        says(&world, IN_A, &format!("later.{ZONE}"), A)
    };
    assert!(serve("  - {name: later, type: A, value: 10.1.0.30}").contains("A 10.1.0.30 |"));
    assert!(serve("  - {name: other, type: A, value: 10.1.0.30}").contains("A 10.1.0.20 |"));
}

#[test]
fn every_served_type_can_be_added_and_is_read_back() {
    let mut lab = Lab::new();
    let rows: &[Row] = &[
        ("t1", IN, 5, "AAAA", "fd00:1::5"),
        ("t2", IN, 5, "CAA", "0 issue \"ca.example\""),
        ("t3", IN, 5, "MX", "10 mail.example."),
        ("t4", IN, 5, "SRV", "1 2 3 srv.example."),
        ("t5", IN, 5, "TXT", "\"a b\" \"c\""),
        ("t6", IN, 5, "PTR", "host.example."),
        ("t7", IN, 5, "TLSA", "3 1 1 0aff"),
        ("t8", IN, 5, "SSHFP", "4 2 0aff"),
        ("t9", IN, 5, "HTTPS", "1 . alpn=h2"),
        ("t10", IN, 5, "SVCB", "1 svc.example. port=53"),
        ("*", IN, 5, "A", "10.1.0.40"),
        ("_acme-challenge", IN, 5, "TXT", "token"),
    ];
    assert_eq!(lab.run(&[], rows), (0, rows.len()));
    let plan = dns::plan::plan(&two_tenants(RECORDS)).unwrap();
    let world = World::new(plan, lab.world.keys.clone(), &lab.store);
    for row in rows {
        let sent = record(row);
        let kind = u16::from(sent.record_type());
        let reply = ask(&world, IN_A, &sent.name.to_ascii(), kind);
        assert_eq!(reply.answers, [sent]);
        assert_eq!(reply.answers[0].ttl, 5);
    }
}

#[test]
fn a_set_that_would_not_fit_a_reply_is_refused() {
    let mut lab = Lab::new();
    lab.room = 10_000;
    let zone = HickoryName::from_ascii(ZONE).unwrap();
    let name = zone.prepend_label("big").unwrap();
    let text = |i: usize| vec![format!("{i:0>250}")];
    let record = |i| {
        let data = RData::TXT(hickory_proto::rr::rdata::TXT::new(text(i)));
        Record::from_rdata(name.clone(), 1, data)
    };
    let add = |count: usize| {
        let mut message = Message::new(1, MessageType::Query, OpCode::Update);
        message.authorities = (0..count).map(record).collect();
        lab.work_on(&message).map(|change| change.sets.len())
    };
    assert_eq!(add(100), Ok(1));
    assert_eq!(add(200).unwrap_err().code, REFUSED);
}

#[test]
fn what_another_key_of_the_tenant_added_is_refused_until_that_key_is_gone() {
    let mut lab = Lab::new();
    let add: Row = ("mine", IN, 60, "A", "10.1.0.20");
    assert_eq!(lab.run(&[], &[add]), (0, 1));
    // What was added by `a-tf` is now seen by a key of another name.
    lab.others = vec!["a-tf".into()];
    let rows: &[Row] = &[
        ("mine", IN, 60, "A", "10.1.0.21"),
        ("mine", ANY_, 0, "A", ""),
        ("mine", ANY_, 0, "ANY", ""),
        ("mine", NONE, 0, "A", "10.1.0.20"),
    ];
    for row in rows {
        let refusal = lab.work(&[], &[*row]).unwrap_err();
        assert_eq!(refusal.code, 5, "{row:?}");
        let (_, why) = refusal.why.unwrap();
        assert!(why.contains("belongs to terraform:a-tf"), "{why}");
    }
    assert_eq!(
        lab.run(&[], &[("mine", IN, 60, "TXT", "x")]),
        (0, 1),
        "another type"
    );
    lab.others.clear();
    assert_eq!(lab.run(&[], &[("mine", ANY_, 0, "A", "")]), (0, 1));
}

#[test]
fn a_name_that_a_lease_has_is_refused_as_a_whole() {
    let mut lab = Lab::new();
    let mut table = dns::leases::Table::new(&["a".to_owned()].into());
    table.take(&netmodel::leases::Entry {
        number: 1,
        vlan: netmodel::ids::VlanId::new(100).unwrap(),
        address: [10, 1, 0, 20].into(),
        lease: netmodel::leases::Lease {
            mac: netmodel::ids::MacAddr([2, 0, 0, 0, 0, 1]),
            state: netmodel::leases::State::Bound,
            since: 1,
            until: 2,
            client_id: Box::default(),
            hostname: "pc".into(),
        },
    });
    lab.store.set_leases(table);
    for row in [
        ("pc.dhcp", IN, 60, "A", "10.1.0.9"),
        ("pc.dhcp", IN, 60, "TXT", "x"),
        ("pc.dhcp", ANY_, 0, "ANY", ""),
        ("pc.dhcp", ANY_, 0, "A", ""),
    ] {
        let (_, why) = lab.work(&[], &[row]).unwrap_err().why.unwrap();
        assert!(why.contains("belongs to dhcp"), "{row:?}: {why}");
    }
    // Who was there first keeps it.
    let (name, free) = ("first.dhcp", "free.dhcp");
    assert_eq!(lab.run(&[], &[(name, IN, 60, "A", "10.1.0.9")]), (0, 1));
    assert_eq!(lab.run(&[], &[(free, IN, 60, "A", "10.1.0.9")]), (0, 1));
}

#[test]
fn a_delegation_does_not_hide_what_the_inventory_or_another_key_has_there_or_below() {
    let mut lab = Lab::new();
    let delegate = |name| -> Row { (name, IN, 60, "NS", "ns.example.") };
    assert_eq!(lab.run(&[], &[delegate("fixed")]), (REFUSED, 0));
    assert!(lab.says("fixed", A).contains("A 10.1.0.10"));
    let below: Row = ("host.free", IN, 60, "A", "10.1.0.20");
    assert_eq!(lab.run(&[], &[below]), (0, 1));
    lab.others = vec!["a-tf".into()];
    assert_eq!(lab.run(&[], &[delegate("free")]), (REFUSED, 0));
    lab.others.clear();
    assert_eq!(lab.run(&[], &[delegate("free")]), (0, 1), "its own");
}

#[test]
fn section_3_4_2_2_the_zones_own_name_takes_no_alias_and_other_data_still() {
    let mut lab = Lab::new();
    assert_eq!(
        lab.run(&[], &[("@", IN, 1, "CNAME", "v")]),
        (REFUSED, 0),
        "it would never be served"
    );
    assert_eq!(lab.run(&[], &[("@", IN, 1, "TXT", "t")]), (0, 1));
}

#[test]
fn a_message_with_more_additions_than_the_quota_is_refused_before_it_is_worked_out() {
    let mut lab = Lab::new();
    lab.room = 1;
    let rows: &[Row] = &[
        ("w", IN, 1, "A", "10.1.0.20"),
        ("v", IN, 1, "A", "10.1.0.21"),
        ("v", ANY_, 0, "A", ""),
    ];
    assert_eq!(lab.run(&[], rows), (REFUSED, 0));
    assert_eq!(lab.run(&[], &rows[..1]), (0, 1));
}

#[test]
fn a_zone_has_no_more_data_than_its_records_need() {
    let mut lab = Lab::new();
    lab.room = 10;
    let text = vec![format!("\"{}\"", "x".repeat(250)); 60].join(" ");
    let mut add = |name: &'static str| lab.run(&[], &[(name, IN, 1, "TXT", text.clone().leak())]);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(add(name), (0, 1), "{name}");
    }
    assert_eq!(add("e"), (REFUSED, 0));
}

#[test]
fn names_that_mean_something_in_a_master_file_are_refused() {
    let zone = HickoryName::from_ascii(ZONE).unwrap();
    for label in ["a;b", "a(b", "a)b", "a\"b", "$include"] {
        let name = zone.prepend_label(label.as_bytes()).unwrap();
        let data = RData::try_from_str(RecordType::A, "10.1.0.20").unwrap();
        let mut message = Message::new(1, MessageType::Query, OpCode::Update);
        message.authorities = vec![Record::from_rdata(name, 1, data)];
        let refused = Lab::new().work_on(&message).map(|change| change.sets.len());
        assert_eq!(
            refused.map_err(|refusal| refusal.code),
            Err(REFUSED),
            "{label}"
        );
    }
}

#[test]
fn rfc_4703_section_5_3_what_kea_sends_for_a_client_and_for_its_rival() {
    let mut lab = Lab::new();
    // hickory has no DHCID.
    let dhcid = |octet: u8| {
        let name = HickoryName::from_ascii(format!("pc.{ZONE}")).unwrap();
        let code = RecordType::from(49);
        let rdata = hickory_proto::rr::rdata::NULL::with(vec![0, 1, 1, octet]);
        Record::from_rdata(name, 0, RData::Unknown { code, rdata })
    };
    let message = |prerequisites: Vec<Record>, updates: Vec<Record>| {
        let mut message = Message::new(1, MessageType::Query, OpCode::Update);
        (message.answers, message.authorities) = (prerequisites, updates);
        message
    };
    let mut run = |message: &Message| match lab.work_on(message) {
        Err(refusal) => refusal.code,
        Ok(change) => {
            let line = lab.store.apply(change);
            lab.store.commit(&[line]).unwrap();
            NOERROR
        }
    };
    let row = |row: Row| record(&row);
    let address = |data| row(("pc", IN, 60, "A", data));
    let in_use = || row(("pc", ANY_, 0, "ANY", ""));
    // 5.3.1: if nobody has the name.
    let add = |data, octet| {
        let unused = row(("pc", NONE, 0, "ANY", ""));
        message(vec![unused], vec![address(data), dhcid(octet)])
    };
    assert_eq!(run(&add("10.1.0.20", 1)), NOERROR);
    assert_eq!(run(&add("10.1.0.21", 2)), YXDOMAIN);
    // 5.3.2: if it is the client's own.
    let replace = |octet| {
        let updates = vec![row(("pc", ANY_, 0, "A", "")), address("10.1.0.22")];
        message(vec![in_use(), dhcid(octet)], updates)
    };
    assert_eq!(run(&replace(2)), NXRRSET, "a rival");
    assert_eq!(run(&replace(1)), NOERROR);
    // 5.5: the address goes, then the name if no address is left.
    let leave = |octet| {
        let gone = row(("pc", NONE, 0, "A", "10.1.0.22"));
        message(vec![dhcid(octet)], vec![gone])
    };
    let clear = || {
        let none = ["A", "AAAA"].map(|kind| row(("pc", NONE, 0, kind, "")));
        let all = std::iter::once(dhcid(1)).chain(none).collect();
        message(all, vec![in_use()])
    };
    assert_eq!(run(&clear()), YXRRSET);
    let left = [run(&leave(2)), run(&leave(1)), run(&clear())];
    assert_eq!(left, [NXRRSET, NOERROR, NOERROR]);
    assert!(lab.says("pc", A).starts_with("NXDOMAIN"));
}
