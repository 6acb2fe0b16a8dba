//! RFC 5936, 1995, 9432: transfers, whole and by steps, and the list of zones.

use dns::answer::{Client, Outcome, Transport, answer};
use dns::journal::{Change, Store};
use dns::keys::Keyring;
use dns::name::Name;
use dns::plan::plan;
use dns::world::World;
use dns::zone::{RrOwner, RrSet};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::signed_bitmessage_to_buf;
use hickory_proto::rr::{RData, Record, RecordType};
use netmodel::published::Published;

use super::rfc8945::{signed, signer};
use super::support::*;

const ZONE: &str = "a.east.lab.example";
const RECORDS: &str =
    "\n  - {name: web, type: A, value: 10.1.0.10}\n  - {name: www, type: CNAME, value: web}";
const AXFR: u16 = 252;
const IXFR: u16 = 251;
/// A secondary in the segment `management`, which sees the zones of `a` and not those of `b`.
const SECONDARY: &str = "10.0.99.53";
const SECONDARIES: &str = "[secondaries.ns2]\naddress = \"10.0.99.53\"\nkey = \"ns2\"\n\
                           [secondaries.ns3]\naddress = \"10.0.98.53\"\nkey = \"ns3\"\n";
const CATALOG: &str = "catalog.bulkhead.invalid";

struct Lab {
    world: World,
    store: Store,
    _folder: tempfile::TempDir,
}

fn world_of(published: &Published, store: &Store) -> World {
    let plan = plan(published).unwrap();
    let secrets = secrets_with(&["a-tf", "b-tf", "ns2", "ns3"], SECONDARIES);
    let keys = Keyring::new(&secrets, &plan.tenants);
    World::new(plan, keys, store)
}

impl Lab {
    fn new() -> Self {
        Self::of(&two_tenants(RECORDS))
    }

    /// The zones of `a` are signed.
    fn signed() -> Self {
        let mut published = two_tenants(RECORDS);
        published.model.tenants[0].dnssec = true;
        Self::of(&published)
    }

    fn of(published: &Published) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("journal")).unwrap();
        let keys = dns::dnssec::folder::KeyFolder::open(&folder.path().join("zone-keys"));
        store.set_zone_keys(keys.into());
        Self {
            world: world_of(published, &store),
            store,
            _folder: folder,
        }
    }

    /// Sets the addresses of a name in the zone, as an update does.
    fn update(&mut self, label: &str, octets: &[u8]) {
        let zone = Name::absolute(ZONE).unwrap();
        let name = Name::parse(label, &zone).unwrap();
        let set = RrSet {
            rtype: A,
            ttl: 60,
            rdata: octets
                .iter()
                .map(|octet| [10, 1, 0, *octet].into())
                .collect(),
            owner: RrOwner::Key("a-tf".into()),
        };
        let set = (!octets.is_empty()).then_some(set);
        let line = self.store.apply(Change {
            tenant: "a".into(),
            zone: zone.clone(),
            sets: [((name, A), set)].into(),
        });
        self.store.commit(&[line]).unwrap();
        let (id, _) = self.world.own_zone(&zone, "a").unwrap();
        self.world.refresh(id, &self.store);
    }

    /// Transfers; every message of the reply must be signed by the key.
    fn transfer(
        &self,
        source: &str,
        key: &str,
        message: &[u8],
    ) -> Result<Vec<Message>, ResponseCode> {
        let request = signed(message, key, SECRET, NOW);
        let (_, record) = signed_bitmessage_to_buf(&request, None, true).unwrap();
        let client = Client::new(source.parse().unwrap(), Transport::Tcp, NOW);
        let mut out = Vec::new();
        let mut transfer = match answer(&self.world, client, &request, &mut out) {
            Outcome::Transfer(transfer) => transfer,
            Outcome::Reply => return Err(Message::from_vec(&out).unwrap().metadata.response_code),
            other @ (Outcome::Forward(_) | Outcome::Silence | Outcome::Update(..)) => {
                panic!("{other:?}")
            }
        };
        let mut mac = record.data.mac;
        let mut messages = Vec::new();
        while let Some(octets) = transfer.next_message() {
            let verified =
                signer(key, SECRET).verify_message_byte(&octets, Some(&mac), messages.is_empty());
            mac = verified
                .expect("each message is signed, and by what came before")
                .0;
            messages.push(Message::from_vec(&octets).unwrap());
        }
        Ok(messages)
    }

    fn records(&self, source: &str, key: &str, message: &[u8]) -> Vec<Record> {
        let messages = self.transfer(source, key, message).unwrap();
        messages
            .into_iter()
            .flat_map(|message| message.answers)
            .collect()
    }
}

fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        if let RData::SOA(soa) = &record.data {
            return format!("SOA {}", soa.serial);
        }
        format!("{} {} {}", record.name, record.record_type(), record.data)
    };
    records.iter().map(line).collect()
}

/// A question of IXFR from a client that has a serial.
fn since(name: &str, serial: u32) -> Vec<u8> {
    let mut octets = question(name, IXFR);
    octets[9] = 1;
    octets.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
    for number in [serial, 0, 0, 0, 0] {
        octets.extend(number.to_be_bytes());
    }
    octets
}

#[test]
fn rfc_5936_section_2_2_a_whole_zone_is_between_two_soas() {
    let lab = Lab::new();
    for (source, key) in [(IN_A, "a-tf"), (SECONDARY, "ns2")] {
        let records = lab.records(source, key, &question(ZONE, AXFR));
        let mut lines = lines(&records);
        assert_eq!(lines.first().map(String::as_str), Some("SOA 7"), "{source}");
        assert_eq!(lines.last().map(String::as_str), Some("SOA 7"), "{source}");
        lines.sort();
        assert_eq!(
            lines,
            [
                "SOA 7",
                "SOA 7",
                "a.east.lab.example. NS ns.east.lab.example.",
                "web.a.east.lab.example. A 10.1.0.10",
                "www.a.east.lab.example. CNAME web.a.east.lab.example.",
            ]
        );
    }
}

#[test]
fn rfc_5936_section_2_2_a_zone_longer_than_a_message_is_several_signed_ones() {
    let mut lab = Lab::new();
    let long = "x".repeat(60);
    for label in 0..1200 {
        let name = format!("{long}.{long}.{label}");
        let zone = Name::absolute(ZONE).unwrap();
        let set = RrSet {
            rtype: A,
            ttl: 60,
            rdata: vec![[10, 1, 0, 1].into()],
            owner: RrOwner::Key("a-tf".into()),
        };
        lab.store.apply(Change {
            tenant: "a".into(),
            zone: zone.clone(),
            sets: [((Name::parse(&name, &zone).unwrap(), A), Some(set))].into(),
        });
    }
    lab.update("last", &[9]);
    let messages = lab.transfer(IN_A, "a-tf", &question(ZONE, AXFR)).unwrap();
    let octets: usize = messages
        .iter()
        .map(|message| message.to_vec().unwrap().len())
        .sum();
    assert!(
        octets > 65_536 && messages.len() > 4,
        "{octets} in {}",
        messages.len()
    );
    let count: usize = messages.iter().map(|message| message.answers.len()).sum();
    assert_eq!(count, 1200 + 1 + 3 + 2);
    assert!(
        messages
            .iter()
            .all(|message| message.metadata.id == 0x1234 && message.metadata.authoritative)
    );
}

#[test]
fn rfc_1995_section_4_what_changed_is_told_step_by_step() {
    let mut lab = Lab::new();
    lab.update("new", &[20, 21]);
    lab.update("new", &[21, 22]);
    lab.update("new", &[]);
    let lines = lines(&lab.records(SECONDARY, "ns2", &since(ZONE, 8)));
    assert_eq!(
        lines,
        [
            "SOA 10",
            "SOA 8",
            "new.a.east.lab.example. A 10.1.0.20",
            "SOA 9",
            "new.a.east.lab.example. A 10.1.0.22",
            "SOA 9",
            "new.a.east.lab.example. A 10.1.0.21",
            "new.a.east.lab.example. A 10.1.0.22",
            "SOA 10",
            "SOA 10",
        ]
    );
}

#[test]
fn rfc_1995_section_2_who_has_the_newest_serial_gets_only_the_soa() {
    let mut lab = Lab::new();
    lab.update("new", &[20]);
    for serial in [8, 9] {
        let records = lab.records(SECONDARY, "ns2", &since(ZONE, serial));
        assert_eq!(lines(&records), ["SOA 8"], "from {serial}");
    }
}

#[test]
fn rfc_1995_section_4_who_asks_for_more_than_is_known_gets_the_whole_zone() {
    let mut lab = Lab::new();
    lab.update("new", &[20]);
    let lines = lines(&lab.records(SECONDARY, "ns2", &since(ZONE, 3)));
    assert_eq!(lines.iter().filter(|line| *line == "SOA 8").count(), 2);
    assert_eq!(lines.len(), 6);
}

#[test]
fn rfc_1995_section_2_over_udp_the_soa_says_that_there_is_more() {
    let mut lab = Lab::new();
    lab.update("new", &[20]);
    let ask = |kind: &[u8]| {
        let request = signed(kind, "ns2", SECRET, NOW);
        let reply = send(&lab.world, SECONDARY, Transport::Udp, &request).unwrap();
        Message::from_vec(&reply).unwrap()
    };
    let reply = ask(&since(ZONE, 7));
    assert_eq!(lines(&reply.answers), ["SOA 8"]);
    let reply = ask(&question(ZONE, AXFR));
    assert_eq!(
        (reply.metadata.response_code, reply.answers.len()),
        (ResponseCode::FormErr, 0)
    );
}

#[test]
fn a_new_generation_goes_on_from_what_its_own_view_saw_before() {
    let lab = Lab::new();
    let mut published = two_tenants(&format!(
        "{RECORDS}\n  - {{name: more, type: A, value: 10.1.0.11}}"
    ));
    published.number = 8;
    let world = world_of(&published, &lab.store).after(&lab.world);
    let lab = Lab { world, ..lab };
    let records = lab.records(SECONDARY, "ns2", &since(ZONE, 7));
    assert_eq!(
        lines(&records),
        [
            "SOA 8",
            "SOA 7",
            "SOA 8",
            "more.a.east.lab.example. A 10.1.0.11",
            "SOA 8"
        ]
    );
    // The site's zone as the secondary sees it, not as a tenant does.
    let records = lab.records(SECONDARY, "ns2", &since("east.lab.example", 7));
    assert_eq!(lines(&records), ["SOA 8", "SOA 7", "SOA 8", "SOA 8"]);
}

#[test]
fn a_segment_with_the_name_of_a_tenant_goes_on_from_what_it_saw_itself() {
    // It does not see the tenants that `management` sees: its part of the site's zone is its own.
    let segment = ", a: {vlan_id: 98, subnet: 10.0.98.0/24}";
    let mut published = two_tenants_and(segment, "", RECORDS);
    let lab = Lab::of(&published);
    published.number = 8;
    let world = world_of(&published, &lab.store).after(&lab.world);
    let lab = Lab { world, ..lab };
    let records = lab.records("10.0.98.53", "ns3", &since("east.lab.example", 7));
    assert_eq!(lines(&records), ["SOA 8", "SOA 7", "SOA 8", "SOA 8"]);
}

#[test]
fn a_transfer_that_is_not_allowed_is_refused_as_if_there_were_no_such_zone() {
    let lab = Lab::new();
    let rows = [
        (
            "a tenant's key, the site's zone",
            IN_A,
            "a-tf",
            "east.lab.example",
        ),
        (
            "a tenant's key, the neighbour's zone",
            IN_A,
            "a-tf",
            "b.east.lab.example",
        ),
        ("the neighbour's key", IN_B, "b-tf", ZONE),
        ("the neighbour's key in our segment", IN_A, "b-tf", ZONE),
        ("the own key in the neighbour's segment", IN_B, "a-tf", ZONE),
        (
            "a secondary's key from elsewhere",
            "10.0.99.54",
            "ns2",
            ZONE,
        ),
        ("a secondary's key in a tenant's segment", IN_A, "ns2", ZONE),
        (
            "what a secondary's segment does not see",
            SECONDARY,
            "ns2",
            "b.east.lab.example",
        ),
        ("the list of zones, by a tenant", IN_A, "a-tf", CATALOG),
        ("no apex", SECONDARY, "ns2", "web.a.east.lab.example"),
        ("nowhere", SECONDARY, "ns2", "nowhere.example"),
    ];
    for (what, source, key, zone) in rows {
        for kind in [AXFR, IXFR] {
            let refused = lab.transfer(source, key, &question(zone, kind));
            assert_eq!(refused.err(), Some(ResponseCode::Refused), "{what}");
        }
    }
    for zone in [ZONE, "b.east.lab.example", "nowhere.example"] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let reply = send(&lab.world, IN_A, transport, &question(zone, AXFR)).unwrap();
            let reply = Message::from_vec(&reply).unwrap();
            assert_eq!(
                (reply.metadata.response_code, reply.answers.len()),
                (ResponseCode::Refused, 0)
            );
        }
    }
}

#[test]
fn rfc_9432_section_4_the_list_names_the_zones_that_the_secondary_sees() {
    let lab = Lab::new();
    let records = lab.records(SECONDARY, "ns2", &question(CATALOG, AXFR));
    let lines = lines(&records);
    assert!(
        lines.contains(&format!("{CATALOG}. NS invalid.")),
        "{lines:?}"
    );
    assert!(
        lines.contains(&format!("version.{CATALOG}. TXT 2")),
        "{lines:?}"
    );
    let members: Vec<&Record> = records
        .iter()
        .filter(|record| record.record_type() == RecordType::PTR)
        .collect();
    let mut names: Vec<String> = members
        .iter()
        .map(|record| record.data.to_string().replace("\\/", "/"))
        .collect();
    names.sort();
    let view = lab
        .world
        .plan
        .views
        .iter()
        .find(|view| view.owner.name() == "management")
        .unwrap();
    let mut seen: Vec<String> = view.origins().map(|(name, _)| name.to_string()).collect();
    seen.sort();
    assert_eq!(names, seen);
    assert!(
        names.contains(&format!("{ZONE}.")) && !names.contains(&"b.east.lab.example.".to_owned())
    );
    for member in members {
        let labels: Vec<String> = member
            .name
            .to_string()
            .split('.')
            .map(str::to_owned)
            .collect();
        assert_eq!(
            labels[1..3],
            ["zones", "catalog"],
            "one label below `zones`"
        );
    }
    // It is for transfers: nobody sees it by asking.
    assert_eq!(
        says(&lab.world, SECONDARY, CATALOG, SOA),
        "REFUSED |  |  | "
    );
}

#[test]
fn rfc_1996_a_notice_to_us_is_not_for_us() {
    let lab = Lab::new();
    let mut notice = question(ZONE, SOA);
    notice[2] = 4 << 3;
    let reply = send(&lab.world, IN_A, Transport::Udp, &notice).unwrap();
    assert_eq!(reply[3] & 0xf, 4);
}

#[test]
fn a_signed_zone_is_no_secondarys_and_the_reply_says_why() {
    let lab = Lab::signed();
    let name = format!("{ZONE}.");
    for kind in [AXFR, IXFR] {
        let mut message = with_edns(question(ZONE, kind), 1232);
        if kind == IXFR {
            message = with_edns(since(ZONE, 1), 1232);
        }
        let request = signed(&message, "ns2", SECRET, NOW);
        let client = Client::new(SECONDARY.parse().unwrap(), Transport::Tcp, NOW);
        let mut out = Vec::new();
        let outcome = answer(&lab.world, client, &request, &mut out);
        assert!(matches!(outcome, Outcome::Reply), "{outcome:?}");
        let reply = Message::from_vec(&out).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.contains("a signed zone is not copied"), "{text}");
    }
    // The list of zones does not have it, and it is not told of; the others are as they were.
    let list = lab.records(SECONDARY, "ns2", &question(CATALOG, AXFR));
    let members: Vec<String> = list
        .iter()
        .filter(|record| record.record_type() == RecordType::PTR)
        .map(|record| record.data.to_string())
        .collect();
    assert!(!members.contains(&name), "{members:?}");
    assert!(members.contains(&"east.lab.example.".to_owned()));
    let site = lab.records(SECONDARY, "ns2", &question("east.lab.example", AXFR));
    assert!(site.len() > 3);
}

#[test]
fn a_tenants_key_reads_of_a_signed_zone_what_it_may_change() {
    let mut lab = Lab::signed();
    let whole = |lab: &Lab| lines(&lab.records(IN_A, "a-tf", &question(ZONE, AXFR)));
    let plain = lines(&Lab::new().records(IN_A, "a-tf", &question(ZONE, AXFR)));
    assert_eq!(sorted(whole(&lab)), sorted(plain));
    lab.update("new", &[44]);
    let steps = lines(&lab.records(IN_A, "a-tf", &since(ZONE, 7)));
    assert!(steps.len() == 5, "{steps:?}");
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}
