//! The same zone served by hickory-server and by us, every name and type: the same answers, or a
//! difference that is argued here.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dns::compose::Body;
use dns::lookup::resolve;
use dns::name::Name;
use dns::rdata;
use dns::zone::{Contents, RrOwner, Soa, Zone};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, Name as HickoryName, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use proptest::prelude::*;

use super::support::question;

const ORIGIN: &str = "z.example.";

fn origin() -> Name {
    Name::absolute(ORIGIN).unwrap()
}

fn soa() -> Soa {
    Soa {
        mname: Name::parse("ns", &origin()).unwrap(),
        rname: Name::parse("hostmaster", &origin()).unwrap(),
    }
}

fn zone(records: &[(String, &'static str, String)]) -> Zone {
    let mut contents = Contents::default();
    for (name, kind, value) in records {
        let name = Name::parse(name, &origin()).unwrap();
        let data = rdata::parse(kind, value, &origin()).unwrap();
        // A CNAME has its name alone: what clashes is left out, as the inventory's check and updates do.
        let mut one = Contents::default();
        one.add(name.clone(), data.clone(), 300, RrOwner::Inventory);
        let is_more = contents
            .sets(&name)
            .iter()
            .any(|set| set.rtype == data.0 && data.0 != 5);
        if is_more {
            contents.add(name, data, 300, RrOwner::Inventory);
        } else {
            for (name, set) in one.iter() {
                contents.add_set(name, set);
            }
        }
    }
    Zone::new(origin(), &soa(), 1, &contents)
}

/// Our reply: prepared, or made for this question.
fn ours(zone: &Zone, name: &str, kind: u16) -> Message {
    let lower = Name::absolute(name).unwrap();
    match zone.prepared(lower.as_wire(), kind) {
        Some(body) => reply(body, name, kind),
        None => made(zone, name, kind),
    }
}

fn made(zone: &Zone, name: &str, kind: u16) -> Message {
    let lower = Name::absolute(name).unwrap();
    let answer = resolve(zone, lower.as_wire(), kind);
    reply(&Body::exact(&answer, zone.origin(), &lower), name, kind)
}

fn reply(body: &Body, name: &str, kind: u16) -> Message {
    let mut octets = question(name, kind);
    octets[2] = 0x80 | (u8::from(body.is_authoritative) << 2);
    octets[3] = body.rcode;
    for (index, count) in body.counts.iter().enumerate() {
        octets[6 + 2 * index..8 + 2 * index].copy_from_slice(&count.to_be_bytes());
    }
    let length = Name::absolute(name).unwrap().as_wire().len();
    body.append_to(&mut octets, length);
    Message::from_vec(&octets).unwrap()
}

fn sorted(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|record| {
            let (name, kind) = (record.name.to_lowercase(), record.record_type());
            format!("{name} {} {kind} {}", record.ttl, record.data)
        })
        .collect();
    lines.sort();
    lines
}

/// hickory-server on a loopback port, for as long as this lives.
struct Oracle {
    client: UdpSocket,
    _runtime: tokio::runtime::Runtime,
}

impl Oracle {
    fn new(zone: &Zone) -> Self {
        let name = HickoryName::from_ascii(ORIGIN).unwrap();
        let mut handler: InMemoryZoneHandler =
            InMemoryZoneHandler::empty(name.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        for (owner, set) in zone.iter() {
            for data in &set.rdata {
                let owner = HickoryName::from_ascii(owner.to_string()).unwrap();
                handler.upsert_mut(Record::from_rdata(owner, set.ttl, read(set.rtype, data)), 1);
            }
        }
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&name), vec![Arc::new(handler)]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = runtime.block_on(async {
            let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .unwrap();
            let address = socket.local_addr().unwrap();
            let mut server = Server::new(catalog);
            server.register_socket(socket);
            tokio::spawn(async move { server.block_until_done().await });
            address
        });
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(address).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self {
            client,
            _runtime: runtime,
        }
    }

    fn ask(&self, name: &str, kind: u16) -> Message {
        self.client.send(&question(name, kind)).unwrap();
        let mut reply = [0; 4096];
        let length = self.client.recv(&mut reply).unwrap();
        Message::from_vec(&reply[..length]).unwrap()
    }
}

fn read(kind: u16, data: &[u8]) -> RData {
    use hickory_proto::serialize::binary::{BinDecoder, Restrict};
    let length = Restrict::new(u16::try_from(data.len()).unwrap());
    RData::read(&mut BinDecoder::new(data), RecordType::from(kind), length).unwrap()
}

#[test]
fn names_and_types_are_answered_as_hickory_answers_them() {
    let rows = [
        ("@", "A", "192.0.2.1"),
        ("@", "MX", "10 mail"),
        ("@", "NS", "ns"),
        ("ns", "A", "192.0.2.53"),
        ("mail", "A", "192.0.2.25"),
        ("mail", "AAAA", "2001:db8::25"),
        ("web", "A", "192.0.2.2"),
        ("web", "A", "192.0.2.3"),
        ("web", "TXT", "hello"),
        ("www", "CNAME", "web"),
        ("www2", "CNAME", "www"),
        ("out", "CNAME", "www.example.org."),
        ("_sip._tcp", "SRV", "0 5 5060 web"),
        ("a.b.c", "A", "192.0.2.4"),
        ("*.wild", "A", "192.0.2.5"),
        ("@", "CAA", "0 issue \"ca.example\""),
        ("dangling", "CNAME", "nowhere"),
        ("sub", "NS", "ns.sub"),
        ("ns.sub", "A", "192.0.2.99"),
    ];
    let rows = rows.map(|(name, kind, value)| (name.to_owned(), kind, value.to_owned()));
    let zone = zone(&rows);
    let oracle = Oracle::new(&zone);
    let names = [
        "",
        "ns",
        "mail",
        "web",
        "www",
        "www2",
        "out",
        "_sip._tcp",
        "_tcp",
        "a.b.c",
        "b.c",
        "c",
        "x.c",
        "nowhere",
        "x.web",
        "q.wild",
        "wild",
        "dangling",
        "sub",
        "x.sub",
        "ns.sub",
    ];
    let mut compared = 0;
    let mut argued = 0;
    for name in names {
        let name = format!("{name}.{ORIGIN}");
        let name = name.trim_start_matches('.');
        for kind in [1u16, 2, 5, 6, 15, 16, 28, 33, 43, 257] {
            let (our, their) = (ours(&zone, name, kind), oracle.ask(name, kind));
            let differs = compare(&our, &their);
            match (differs, argument(name, kind, &our)) {
                (None, _) => compared += 1,
                (Some(_), Some(_)) => argued += 1,
                (Some(what), None) => {
                    panic!("{name} {kind}, {what}\nours: {our}\ntheirs: {their}")
                }
            }
        }
    }
    assert!(
        compared >= 149 && argued <= 61,
        "{compared} compared, {argued} argued"
    );
}

/// What differs between two replies.
fn compare(our: &Message, their: &Message) -> Option<&'static str> {
    let soas = |message: &Message| {
        let all = message.authorities.iter();
        all.filter(|record| record.record_type() == RecordType::SOA)
            .count()
    };
    if our.metadata.response_code != their.metadata.response_code {
        Some("the code")
    } else if our.metadata.authoritative != their.metadata.authoritative {
        Some("AA")
    } else if sorted(&our.answers) != sorted(&their.answers) {
        Some("the answers")
    } else if soas(our) != soas(their) {
        Some("the SOA")
    } else {
        None
    }
}

/// Where we differ on purpose from hickory-server 0.26.3.
fn argument(name: &str, kind: u16, our: &Message) -> Option<&'static str> {
    if name.starts_with("dangling") && our.metadata.response_code == ResponseCode::NXDomain {
        return Some("RFC 6604, 3: the code is that of the last name; hickory says NOERROR");
    }
    if name.ends_with("sub.z.example.") {
        return Some(
            "RFC 1034, 4.2.1: a referral has no AA, and has its glue; hickory does otherwise",
        );
    }
    if name == "q.wild.z.example." && kind != 1 {
        return Some(
            "RFC 4592, 2.2.1: a missing type at a wildcard is no data; hickory says NXDOMAIN",
        );
    }
    if (name.starts_with("www") || name.starts_with("out")) && !matches!(kind, 1 | 5 | 16) {
        return Some(
            "RFC 2308, 2.2: no data at the end of a chain has the SOA; hickory leaves it out",
        );
    }
    None
}

fn label() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("*")]
}

fn relative() -> impl Strategy<Value = String> {
    prop::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."))
}

fn any_record() -> impl Strategy<Value = (String, &'static str, String)> {
    let value = prop_oneof![
        3 => Just(("A", "192.0.2.1".to_owned())),
        1 => Just(("TXT", "text".to_owned())),
        2 => relative().prop_map(|target| ("CNAME", target)),
        1 => relative().prop_map(|target| ("MX", format!("10 {target}"))),
        1 => relative().prop_map(|target| ("NS", target)),
        1 => Just(("CNAME", "elsewhere.example.".to_owned())),
    ];
    (relative(), value).prop_map(|(name, (kind, value))| (name, kind, value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_prepared_answer_is_the_one_that_would_be_made(
        records in prop::collection::vec(any_record(), 0..12)
    ) {
        let zone = zone(&records);
        let labels = ["a", "b", "*", "x"];
        let mut names: Vec<String> = labels.iter().map(ToString::to_string).collect();
        for _ in 0..2 {
            let longer = names.iter().flat_map(|n| labels.iter().map(move |l| format!("{l}.{n}")));
            names = longer.chain(names.iter().cloned()).collect();
        }
        names.push(String::new());
        for name in names {
            let name = format!("{name}.{ORIGIN}");
            let name = name.trim_start_matches('.');
            for kind in [1u16, 2, 5, 6, 15, 16, 43, 99, 255] {
                let (prepared, made) = (ours(&zone, name, kind), made(&zone, name, kind));
                prop_assert_eq!(format!("{prepared}"), format!("{made}"));
            }
        }
    }
}
