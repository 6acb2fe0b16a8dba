//! Names of DHCP clients (RFC 4701, RFC 4703).

use std::net::IpAddr;

use dns::journal::Store;
use dns::keys::Keyring;
use dns::leases::{Table, fixed};
use dns::name::Name;
use dns::plan::plan;
use dns::world::World;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::{Entry, Lease, State};

use super::support::*;

const NAME: &str = "laptop.dhcp.a.east.lab.example";
const DHCID: u16 = 49;

/// A lease that is bound: (VLAN, address, last octet of the hardware address, since, host name).
type Row = (u16, &'static str, u8, u64, &'static str);

fn entry(number: u64, (vlan, address, mac, since, hostname): Row) -> Entry {
    Entry {
        number,
        vlan: VlanId::new(vlan).unwrap(),
        address: address.parse::<IpAddr>().unwrap(),
        lease: Lease {
            mac: MacAddr([2, 0, 0, 0, 0, mac]),
            state: State::Bound,
            since,
            until: since + 3600,
            client_id: Box::default(),
            hostname: hostname.into(),
        },
    }
}

fn store(tenants: &[&str], rows: &[Row]) -> Store {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("journal")).unwrap();
    let tenants = tenants.iter().map(ToString::to_string).collect();
    let mut table = Table::new(&tenants);
    for (number, row) in (1..).zip(rows) {
        table.take(&entry(number, *row));
    }
    store.set_leases(table);
    store
}

fn world_of(records: &str, store: &Store) -> World {
    let plan = plan(&two_tenants(records)).unwrap();
    let keys = Keyring::new(&secrets(&["a-tf", "b-tf"]), &plan.tenants);
    World::new(plan, keys, store)
}

/// What a client in the tenant's own segment is told.
fn told(tenants: &[&str], records: &str, rows: &[Row], name: &str, kind: u16) -> String {
    let world = world_of(records, &store(tenants, rows));
    let says = says(&world, IN_A, name, kind);
    says.split(" | ").take(2).collect::<Vec<_>>().join(" | ")
}

const LAPTOP: Row = (100, "10.1.0.20", 1, 1000, "Laptop");
const NOTHING: &str = "  - {name: web, type: A, value: 10.1.0.10}\n";

#[test]
fn a_lease_has_a_name_both_ways_if_its_tenant_wants_that() {
    let a = format!("NOERROR aa | {NAME}. A 10.1.0.20");
    assert_eq!(told(&["a"], NOTHING, &[LAPTOP], NAME, A), a);
    let pointer = "20.0/26.0.1.10.in-addr.arpa";
    // hickory shows the slash of RFC 2317 so.
    let shown = pointer.replace('/', "\\/");
    let ptr = format!("NOERROR aa | {shown}. PTR {NAME}.");
    assert_eq!(told(&["a"], NOTHING, &[LAPTOP], pointer, PTR), ptr);
    let id = told(&["a"], NOTHING, &[LAPTOP], NAME, DHCID);
    assert!(id.starts_with(&format!("NOERROR aa | {NAME}. ")), "{id}");
    for tenants in [&[][..], &["b"]] {
        assert_eq!(told(tenants, NOTHING, &[LAPTOP], NAME, A), "NXDOMAIN aa | ");
        assert_eq!(
            told(tenants, NOTHING, &[LAPTOP], pointer, PTR),
            "NXDOMAIN aa | "
        );
    }
}

#[test]
fn a_lease_has_no_name_in_another_tenants_zone_and_none_is_seen_by_others() {
    let world = world_of(NOTHING, &store(&["a", "b"], &[LAPTOP]));
    assert!(says(&world, IN_B, NAME, A).starts_with("NXDOMAIN"));
    let double = "laptop.dhcp.z.east.lab.example";
    let (hidden, never) = (says(&world, IN_B, NAME, A), says(&world, IN_B, double, A));
    assert_eq!(hidden.replace(NAME, double), never);
    // A line that says another tenant's address on this VLAN, or a VLAN of nobody.
    for row in [
        (100, "10.1.0.70", 1, 1000, "laptop"),
        (109, "10.1.0.20", 1, 1000, "laptop"),
    ] {
        let world = world_of(NOTHING, &store(&["a", "b"], &[row]));
        for (client, zone) in [(IN_A, "a"), (IN_B, "b")] {
            let name = format!("laptop.dhcp.{zone}.east.lab.example");
            assert!(
                says(&world, client, &name, A).starts_with("NXDOMAIN"),
                "{row:?} {name}"
            );
        }
    }
}

#[test]
fn what_the_inventory_has_a_lease_does_not_get() {
    let records = "  - {name: laptop.dhcp, type: TXT, value: mine}\n";
    assert_eq!(told(&["a"], records, &[LAPTOP], NAME, A), "NOERROR aa | ");
    let pointer = "20.0/26.0.1.10.in-addr.arpa";
    assert_eq!(
        told(&["a"], records, &[LAPTOP], pointer, PTR),
        "NXDOMAIN aa | "
    );
}

#[test]
fn rfc_4703_section_5_3_of_two_clients_the_first_has_the_name_and_one_client_has_both_families() {
    let other: Row = (100, "10.1.0.21", 2, 900, "laptop");
    let a = format!("NOERROR aa | {NAME}. A 10.1.0.21");
    assert_eq!(
        told(&["a"], NOTHING, &[LAPTOP, other], NAME, A),
        a,
        "the older one"
    );
    let v6: Row = (100, "fd00:1::20", 1, 1500, "laptop");
    let aaaa = format!("NOERROR aa | {NAME}. AAAA fd00:1::20");
    assert_eq!(told(&["a"], NOTHING, &[LAPTOP, v6], NAME, AAAA), aaaa);
    let strange: Row = (100, "fd00:1::21", 2, 1500, "laptop");
    assert_eq!(
        told(&["a"], NOTHING, &[LAPTOP, strange], NAME, AAAA),
        "NOERROR aa | "
    );
}

#[test]
fn what_a_lease_has_is_fixed_for_updates() {
    let store = store(&["a"], &[LAPTOP]);
    let world = world_of(NOTHING, &store);
    let origin = Name::absolute("a.east.lab.example").unwrap();
    let (_, spec) = world.own_zone(&origin, "a").unwrap();
    let contents = fixed(&world.plan, spec, &store);
    let sets = contents.sets(&Name::absolute(NAME).unwrap());
    assert_eq!(sets.len(), 2, "A and DHCID");
    assert!(sets.iter().all(|set| set.owner.to_string() == "dhcp"));
}
