//! Worlds out of inventories, and questions to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dns::answer::{Client, Outcome, Transport, answer_into};
use dns::dnssec::folder::KeyFolder;
use dns::journal::Store;
use dns::keys::{Keyring, Secrets};
use dns::message::{self, Query};
use dns::plan::plan;
use dns::world::World;
use hickory_proto::op::Message;
use netmodel::published::Published;
use netmodel::tree::MemTree;
use netmodel::{Options, load, load_trees};

/// The secret of every key in the tests, in base64.
pub(crate) const SECRET: &str = "bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGUgISE=";
/// The time of the tests.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const DS: u16 = 43;
pub(crate) const ANY: u16 = 255;

/// The sample inventory as generation 7.
pub(crate) fn sample() -> Published {
    let tenants = Some(testkit::fixtures::sample_tenants());
    let loaded = load(&Options::new(testkit::fixtures::sample_site(), tenants));
    Published {
        number: 7,
        inventory: "sample".to_owned(),
        model: loaded.model.expect("the sample inventory is good"),
    }
}

/// An inventory of a few lines: the site's `all.yml`, and for each tenant its `all.yml`.
pub(crate) fn small(site: &str, tenants: &[(&str, &str)]) -> Published {
    let file = |path: String, text: &str| (PathBuf::from(path), text.as_bytes().to_vec());
    let site_tree = BTreeMap::from([
        file("hosts.yml".into(), "all: {hosts: {}}"),
        file("group_vars/all.yml".into(), site),
    ]);
    let mut tenant_tree = BTreeMap::new();
    for (name, text) in tenants {
        let hosts = format!("all: {{children: {{{name}: {{hosts: {{}}}}}}}}");
        tenant_tree.extend([
            file(format!("{name}/hosts.yml"), &hosts),
            file(format!("{name}/group_vars/{name}.yml"), text),
        ]);
    }
    let site_tree = MemTree::new("site", &site_tree);
    let tenant_tree = MemTree::new("tenants", &tenant_tree);
    let options = Options::new("site", Some("tenants".into()));
    let loaded = load_trees(&site_tree, Some(&tenant_tree), &options);
    let found: Vec<String> = loaded
        .findings
        .iter()
        .map(|finding| format!("{finding:?}"))
        .collect();
    Published {
        number: 7,
        inventory: "small".to_owned(),
        model: loaded
            .model
            .unwrap_or_else(|| panic!("{}", found.join("\n"))),
    }
}

/// A site with two tenants, `a` and `b`, that share a /24, and these records in the zone of `a`.
pub(crate) fn two_tenants(records: &str) -> Published {
    two_tenants_and("", "", records)
}

/// As [`two_tenants`], with more platform segments (`, name: {…}`) and tenants (`  name: {…}` in a line).
pub(crate) fn two_tenants_and(segments: &str, tenants: &str, records: &str) -> Published {
    let site = format!(
        "\
site_name: east
site_domain: lab.example
site_segments: {{management: {{vlan_id: 99, subnet: 10.0.99.0/24}}{segments}}}
platform_gateway_services: [dhcp, dns]
tenant_pool: {{vlan_ids: 100-110}}
tenant_defaults: {{services: [], internet: none}}
tenants:
  a: {{vlan_id: 100, subnet: 10.1.0.0/26, subnet6: 'fd00:1::/64', trusted_operators: [management], dns_update: {{key: a-tf}}}}
  b: {{vlan_id: 101, subnet: 10.1.0.64/26, dns_update: {{key: b-tf}}}}
{tenants}"
    );
    let a = format!("tenant_name: a\ntenant_dns_records:\n{records}");
    let b = "tenant_name: b\ntenant_dns_records: [{name: only-b, type: A, value: 10.1.0.70}]\n";
    small(&site, &[("a", &a), ("b", b)])
}

pub(crate) const IN_A: &str = "10.1.0.10";
pub(crate) const IN_B: &str = "10.1.0.70";

pub(crate) fn secrets(names: &[&str]) -> Secrets {
    secrets_with(names, "")
}

/// As [`secrets`], and whatever else the file says.
pub(crate) fn secrets_with(names: &[&str], more: &str) -> Secrets {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    let entry = |name: &&str| {
        format!("[keys.{name}]\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n")
    };
    let text = names.iter().map(entry).collect::<String>() + more;
    std::fs::write(&path, text).unwrap();
    private(&path);
    Secrets::read(&path).unwrap()
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn world(published: &Published) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("journal")).unwrap();
    let plan = plan(published).unwrap();
    assert_eq!(plan.rejected, Vec::<String>::new());
    let keys = Keyring::new(&secrets(&["a-tf", "b-tf", "grooveiq-tf"]), &plan.tenants);
    World::new(plan, keys, &store)
}

/// A question's octets.
pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut octets = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets.extend(kind.to_be_bytes());
    octets.extend([0, 1]);
    octets
}

/// Adds an OPT record with this payload size.
pub(crate) fn with_edns(mut octets: Vec<u8>, payload: u16) -> Vec<u8> {
    octets[11] += 1;
    octets.extend([0, 0, 41]);
    octets.extend(payload.to_be_bytes());
    octets.extend([0; 6]);
    octets
}

/// A query that a message with everything in it was read into: IXFR with a serial, flags, EDNS, a cookie, and TSIG.
pub(crate) fn used_query() -> Query {
    let mut octets = question(&"x".repeat(63), 251);
    octets[..4].fill(0x55);
    octets[2] = 0x01;
    (octets[9], octets[11]) = (1, 2);
    let records: [(u16, &[u8]); 3] = [
        (SOA, &[0xee; 22]),
        (41, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        (250, &[]),
    ];
    for (kind, data) in records {
        octets.push(0);
        octets.extend(kind.to_be_bytes());
        octets.extend([0x10, 0, 0, 0, 0xc0, 0]);
        octets.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        octets.extend(data);
    }
    let mut query = Query::default();
    assert_eq!(message::read(&octets, &mut query), message::Read::Query);
    query
}

/// The reply's octets, if there is one.
pub(crate) fn send(
    world: &World,
    source: &str,
    transport: Transport,
    message: &[u8],
) -> Option<Vec<u8>> {
    let client = Client::new(source.parse::<IpAddr>().unwrap(), transport, NOW);
    // What was in the buffer and in the query before must not matter.
    let mut out = vec![0xee; 700];
    match answer_into(world, client, message, &mut used_query(), &mut out) {
        Outcome::Silence => None,
        Outcome::Reply => Some(out),
        Outcome::Transfer(mut transfer) => {
            let messages = std::iter::from_fn(|| transfer.next_message());
            Some(messages.flatten().collect())
        }
        Outcome::Forward(_) => panic!("upstream was to be asked"),
        Outcome::Update(..) => panic!("a query was taken for an update"),
    }
}

/// Asks over TCP.
pub(crate) fn ask(world: &World, source: &str, name: &str, kind: u16) -> Message {
    let octets = send(world, source, Transport::Tcp, &question(name, kind));
    Message::from_vec(&octets.expect("a question is answered")).unwrap()
}

/// A reply in one line per section: `NOERROR aa`, then `name type data` of each record.
pub(crate) fn shown(message: &Message) -> String {
    let line = |records: &[hickory_proto::rr::Record]| {
        let mut lines: Vec<String> = records
            .iter()
            .map(|record| format!("{} {} {}", record.name, record.record_type(), record.data))
            .collect();
        lines.sort();
        lines.join("; ")
    };
    let aa = if message.metadata.authoritative {
        " aa"
    } else {
        ""
    };
    let code = match u16::from(message.metadata.response_code) {
        0 => "NOERROR".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        5 => "REFUSED".to_owned(),
        other => other.to_string(),
    };
    format!(
        "{code}{aa} | {} | {} | {}",
        line(&message.answers),
        line(&message.authorities),
        line(&message.additionals)
    )
}

/// Asks, and shows the reply.
pub(crate) fn says(world: &World, source: &str, name: &str, kind: u16) -> String {
    shown(&ask(world, source, name, kind))
}

/// The key `a-tf` as its owner has it.
pub(crate) fn key_ring(world: &World) -> Arc<Keyring> {
    Arc::new(world.keys.clone())
}

/// The EDNS flag DO.
pub(crate) const DO: u16 = 0x8000;
/// The EDNS flag CO.
pub(crate) const CO: u16 = 0x4000;

/// Adds an OPT record with these flags.
pub(crate) fn with_flags(octets: Vec<u8>, flags: u16) -> Vec<u8> {
    let mut octets = with_edns(octets, 1232);
    let at = octets.len() - 4;
    octets[at..at + 2].copy_from_slice(&flags.to_be_bytes());
    octets
}

/// A world whose signed zones have keys, in a folder that is gone when the keys were read.
pub(crate) fn signed_world(published: &Published) -> World {
    let folder = tempfile::tempdir().unwrap();
    world_with(published, KeyFolder::open(folder.path()))
}

/// A world with these keys of zones.
pub(crate) fn world_with(published: &Published, zone_keys: KeyFolder) -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("journal")).unwrap();
    store.set_zone_keys(Arc::new(zone_keys));
    let plan = plan(published).unwrap();
    let keys = Keyring::new(&secrets(&["a-tf", "b-tf", "grooveiq-tf"]), &plan.tenants);
    World::new(plan, keys, &store)
}

/// Asks over TCP with these EDNS flags.
pub(crate) fn ask_with(
    world: &World,
    source: &str,
    (name, kind): (&str, u16),
    flags: u16,
) -> Message {
    let octets = with_flags(question(name, kind), flags);
    let octets = send(world, source, Transport::Tcp, &octets);
    Message::from_vec(&octets.expect("a question is answered")).unwrap()
}
