//! Random inventories, of which one tenant is edited.

use std::collections::BTreeMap;
use std::path::PathBuf;

use netmodel::tree::MemTree;
use netmodel::{Model, Options, load_trees};
use oracle::generate::Rng;
use serde_json::to_value;

use super::{MergeError, merged};
use crate::compile::{RouterFacts, compile};

const CASES: u64 = 150;
const NAMES: [&str; 6] = ["ash", "birch", "cedar", "elm", "fir", "oak"];
const ZONES: [&str; 3] = ["iot", "management", "trusted"];
const SERVICES: [&str; 3] = ["artifacts", "logs", "metrics"];
const PORTS: [&str; 4] = ["tcp/443", "udp/53", "tcp/5000-5100", "icmp"];

/// An inventory as text: a line of the registry and a folder for each tenant.
#[derive(Clone)]
struct Inventory {
    zones: Vec<&'static str>,
    services: Vec<&'static str>,
    tenants: BTreeMap<&'static str, Tenant>,
    site_domain: &'static str,
    expectations: String,
}

#[derive(Clone)]
struct Tenant {
    registry: String,
    files: Vec<(String, String)>,
}

impl Inventory {
    fn random(rng: &mut Rng) -> Self {
        let mut inventory = Self {
            zones: ZONES.to_vec(),
            services: SERVICES.to_vec(),
            tenants: BTreeMap::new(),
            site_domain: "lab.example",
            expectations: String::new(),
        };
        let names: Vec<_> = NAMES.into_iter().filter(|_| rng.u8(0..4) > 0).collect();
        for &name in &names {
            inventory.tenants.insert(name, tenant(rng, name, &names));
        }
        inventory
    }

    /// Edits one tenant: another one of that name, none, or one where there was none.
    fn edited(&self, rng: &mut Rng, name: &'static str) -> Self {
        let mut edited = self.clone();
        let names: Vec<_> = self.tenants.keys().copied().collect();
        edited.tenants.remove(name);
        if rng.u8(0..5) > 0 {
            edited.tenants.insert(name, tenant(rng, name, &names));
        }
        edited
    }

    fn model(&self) -> Model {
        let (mut site, mut tenants) = (BTreeMap::new(), BTreeMap::new());
        let mut add = |path: &str, text: String| {
            site.insert(PathBuf::from(path), text.into_bytes());
        };
        let mut registry = "tenants:\n".to_owned();
        for name in NAMES {
            // A line each, so that the others stay where they are.
            registry.push_str(&match self.tenants.get(name) {
                Some(tenant) => format!("  {name}: {}\n", tenant.registry),
                None => "  # nobody\n".to_owned(),
            });
        }
        add("group_vars/all/tenants.yml", registry);
        add("group_vars/all/site.yml", self.site());
        add("group_vars/all/tests.yml", self.expectations.clone());
        let router = "router_parent: eth0\nenv: { interfaces: { eth0: { ip: 10.20.1.1, segment: trusted } } }\n";
        add("host_vars/rt01.yml", router.to_owned());
        add(
            "hosts.yml",
            "all: { children: { routers: { hosts: { rt01: {} } } } }\n".to_owned(),
        );
        for (name, tenant) in &self.tenants {
            for (path, text) in &tenant.files {
                let path = PathBuf::from(format!("{name}/{path}"));
                tenants.insert(path, text.clone().into_bytes());
            }
        }
        let (site, tenants) = (
            MemTree::new("site", &site),
            MemTree::new("tenants", &tenants),
        );
        let loaded = load_trees(&site, Some(&tenants), &Options::default());
        loaded
            .model
            .unwrap_or_else(|| panic!("{:?}", loaded.findings))
    }

    fn site(&self) -> String {
        let mut text = format!("site_name: east\nsite_domain: {}\n", self.site_domain);
        text.push_str("site_segments:\n");
        for zone in &self.zones {
            let id = 1 + ZONES.iter().position(|other| other == zone).unwrap_or(9);
            let id = if *zone == "trusted" { 1 } else { id + 10 };
            text.push_str(&format!(
                "  {zone}: {{ vlan_id: {id}, subnet: 10.20.{id}.0/24 }}\n"
            ));
        }
        text.push_str("firewall_internet_zones: [tenants]\nplatform_services:\n");
        for (service, number) in self.services.iter().zip(50..) {
            text.push_str(&format!(
                "  {service}: {{ segment: trusted, address: 10.20.1.{number}, ports: [tcp/{number}] }}\n"
            ));
        }
        text
    }
}

fn some<'t>(rng: &mut Rng, all: &[&'t str]) -> Vec<&'t str> {
    all.iter().copied().filter(|_| rng.bool()).collect()
}

fn tenant(rng: &mut Rng, name: &'static str, names: &[&'static str]) -> Tenant {
    let number = 1 + NAMES.iter().position(|other| *other == name).unwrap_or(0);
    let (vlan_id, net) = (100 + number, format!("10.{}.0", 100 + number));
    let internet = ["nat", "none"][rng.usize(..2)];
    let accepts = some(rng, &ZONES)
        .into_iter()
        .map(|zone| format!("{{ from_zone: {zone}, ports: [tcp/443] }}"));
    let accepts = accepts.collect::<Vec<_>>().join(", ");
    let registry = format!(
        "{{ vlan_id: {vlan_id}, subnet: {net}.0/24, internet: {internet}, services: [{}], \
         trusted_operators: [{}], accepts: [{accepts}] }}",
        some(rng, &SERVICES).join(", "),
        some(rng, &ZONES).join(", "),
    );
    let hosts: Vec<String> = (1..5).map(|i| format!("{name}-h{i}")).collect();
    let hosts: Vec<String> = hosts.into_iter().filter(|_| rng.u8(0..3) > 0).collect();
    let listed: String = hosts.iter().map(|host| format!("{host}: {{}}, ")).collect();
    let mut files = vec![
        (
            "hosts.yml".to_owned(),
            format!("all: {{ children: {{ {name}: {{ hosts: {{ {listed} }} }} }} }}\n"),
        ),
        (
            format!("group_vars/{name}/network.yml"),
            format!("tenant_name: {name}\n{}", rules(rng, name, &hosts, names)),
        ),
    ];
    for (host, i) in hosts.iter().zip(1..) {
        let ip = 10 + i + rng.u8(0..2) * 100;
        files.push((
            format!("host_vars/{host}.yml"),
            format!(
                "infrastructure: {{ form: vm, interfaces: {{ eth0: {{ mac: \"02:00:00:00:{number:02}:{i:02}\" }} }} }}\n\
                 env: {{ interfaces: {{ eth0: {{ ip: {net}.{ip}, segment: main, dns: {{ host_a_record: true, dhcp_reservation: true, cnames: [] }} }} }} }}\n"
            ),
        ));
    }
    Tenant { registry, files }
}

/// Rules, offers and uses. Uses name everybody who could be there; who is not, is a warning.
fn rules(rng: &mut Rng, name: &str, hosts: &[String], names: &[&'static str]) -> String {
    let mut text = "tenant_segments: { main: { dhcp_range_start: ".to_owned();
    let number = 101 + NAMES.iter().position(|other| *other == name).unwrap_or(0);
    text.push_str(&format!(
        "10.{number}.0.200, dhcp_range_end: 10.{number}.0.220 }} }}\n"
    ));
    let Some(to) = hosts.first() else {
        return text;
    };
    let others: Vec<_> = names
        .iter()
        .copied()
        .filter(|other| *other != name)
        .collect();
    text.push_str("tenant_firewall_rules:\n");
    for (i, zone) in some(rng, &ZONES).into_iter().enumerate() {
        let port = PORTS[rng.usize(..PORTS.len())];
        text.push_str(&format!(
            "  - {{ name: r{i}, from: {{ zone: {zone} }}, to: {{ host: {to}, ports: [{port}] }}, action: allow }}\n"
        ));
    }
    for (i, host) in hosts.iter().enumerate() {
        text.push_str(&format!(
            "  - {{ name: h{i}, from: {{ host: {host} }}, to: {{ segment: main, ports: [tcp/1] }}, action: deny }}\n"
        ));
    }
    for other in some(rng, &others) {
        text.push_str(&format!(
            "  - {{ name: t-{other}, from: {{ tenant: {other} }}, to: {{ host: {to}, ports: [udp/53] }}, action: deny }}\n"
        ));
    }
    let consumers = some(rng, &others).join(", ");
    text.push_str(&format!(
        "tenant_offers: [{{ name: api, to: {{ host: {to}, ports: [tcp/443] }}, consumers: [{consumers}] }}]\n"
    ));
    let uses = some(rng, &others);
    let uses: Vec<_> = uses
        .iter()
        .map(|o| format!("{{ tenant: {o}, offer: api }}"))
        .collect();
    text.push_str(&format!("tenant_uses: [{}]\n", uses.join(", ")));
    text
}

fn assert_equal(merged: &Model, expected: &Model, case: u64) {
    let (merged, expected) = (to_value(merged).unwrap(), to_value(expected).unwrap());
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&merged[key], value, "case {case}: {key}");
    }
}

fn pick(rng: &mut Rng, inventory: &Inventory) -> Option<&'static str> {
    let names: Vec<_> = inventory.tenants.keys().copied().collect();
    (!names.is_empty()).then(|| names[rng.usize(..names.len())])
}

/// Does anybody else's tree name the tenant? A name that is nobody's is an error there.
fn is_named(inventory: &Inventory, name: &str) -> bool {
    let others = inventory
        .tenants
        .iter()
        .filter(|(other, _)| **other != name);
    let mut files = others.flat_map(|(_, tenant)| &tenant.files);
    files.any(|(_, text)| text.contains(name))
}

#[test]
fn edits_of_one_tenant_merge_into_the_new_model() {
    let mut merges = 0;
    for case in 0..CASES {
        let mut rng = Rng::with_seed(case);
        let old = Inventory::random(&mut rng);
        let name = NAMES[rng.usize(..NAMES.len())];
        let new = old.edited(&mut rng, name);
        let is_there = [&old, &new].map(|inventory| inventory.tenants.contains_key(name));
        if is_there == [false, false] || (!is_there[1] && is_named(&old, name)) {
            continue;
        }
        let (old, new) = (old.model(), new.model());
        let merged = merged(&old, &new, name).unwrap_or_else(|e| panic!("case {case}: {e:?}"));
        assert_equal(&merged, &new, case);
        merges += 1;
    }
    assert!(merges > CASES / 2, "{merges}");
}

#[test]
fn unchanged_tenant_merges_into_the_old_model() {
    for case in 0..CASES {
        let mut rng = Rng::with_seed(case);
        let before = Inventory::random(&mut rng);
        let Some(name) = pick(&mut rng, &before) else {
            continue;
        };
        let mut after = before.clone();
        for other in NAMES.into_iter().filter(|other| *other != name) {
            let edited = after.edited(&mut rng, other);
            // Its own grants must go on naming who is there.
            if edited.tenants.contains_key(other) {
                after = edited;
            }
        }
        let (old, new) = (before.model(), after.model());
        let merged = merged(&old, &new, name).unwrap_or_else(|e| panic!("case {case}: {e:?}"));
        assert_equal(&merged, &old, case);
    }
}

/// Everything changes; of what merges, every order is kept and the compiler does not mind.
#[test]
fn merged_model_keeps_the_orders_and_compiles() {
    let (mut merges, mut refusals) = (0, 0);
    for case in 0..CASES {
        let mut rng = Rng::with_seed(case);
        let (old, mut new) = (Inventory::random(&mut rng), Inventory::random(&mut rng));
        let name = NAMES[rng.usize(..NAMES.len())];
        if rng.bool() {
            new.services.push("extra");
        }
        let (old, new) = (old.model(), new.model());
        let model = match merged(&old, &new, name) {
            Ok(model) => model,
            Err(errors) => {
                assert!(!errors.is_empty());
                refusals += 1;
                continue;
            }
        };
        merges += 1;
        assert_ordered(&model);
        compile(&model, &RouterFacts::from_model(&model)).unwrap();
    }
    assert!(merges > 30 && refusals > 5, "{merges} {refusals}");
}

fn assert_ordered(model: &Model) {
    assert!(model.tenants.is_sorted_by_key(|tenant| &tenant.name));
    assert!(
        model
            .hosts
            .is_sorted_by_key(|host| (host.owner, &host.name))
    );
    let is_main = |name: &str| name != "main";
    assert!(model.segments.is_sorted_by_key(|segment| {
        let name = segment.name.as_str();
        (segment.owner, is_main(name), &segment.name)
    }));
    assert!(model.services.is_sorted_by_key(|service| &service.name));
    assert!(model.records.is_sorted());
    let key = |r: &netmodel::model::Reservation| (r.segment, r.ipv4);
    assert!(model.reservations.is_sorted_by_key(key));
    for (i, tenant) in model.tenants.iter().enumerate() {
        for &id in &tenant.segments {
            let owner = netmodel::model::Owner::Tenant(netmodel::model::TenantId(i));
            assert_eq!(model.segment(id).owner, owner);
        }
    }
    for reservation in &model.reservations {
        let (host, segment) = (
            model.host(reservation.host),
            model.segment(reservation.segment),
        );
        assert_eq!(host.owner, segment.owner);
    }
}

/// Two tenants with the same everything, but for what the test changes.
fn base() -> Inventory {
    let mut rng = Rng::with_seed(1);
    let mut inventory = Inventory {
        zones: ZONES.to_vec(),
        services: SERVICES.to_vec(),
        tenants: BTreeMap::new(),
        site_domain: "lab.example",
        expectations: String::new(),
    };
    for (name, net) in [("ash", 101), ("birch", 102)] {
        inventory
            .tenants
            .insert(name, plain(&mut rng, name, 100 + net, net));
    }
    inventory
}

/// A tenant of one host, with what it is known by.
fn plain(_: &mut Rng, name: &str, vlan_id: u16, net: u16) -> Tenant {
    let text = format!(
        "infrastructure: {{ form: vm, interfaces: {{ eth0: {{ mac: \"02:00:00:00:00:{}\" }} }} }}\n\
         env: {{ interfaces: {{ eth0: {{ ip: 10.{net}.0.9, segment: main }} }} }}\n",
        net - 90
    );
    Tenant {
        registry: format!("{{ vlan_id: {vlan_id}, subnet: 10.{net}.0.0/24 }}"),
        files: vec![
            (
                "hosts.yml".to_owned(),
                format!("all: {{ children: {{ {name}: {{ hosts: {{ {name}-h: {{}} }} }} }} }}\n"),
            ),
            (
                format!("group_vars/{name}/n.yml"),
                format!("tenant_name: {name}\n"),
            ),
            (format!("host_vars/{name}-h.yml"), text),
        ],
    }
}

fn errors(old: &Inventory, new: &Inventory, name: &str) -> Vec<String> {
    match merged(&old.model(), &new.model(), name) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(MergeError::to_string).collect(),
    }
}

#[test]
fn what_a_tenant_takes_over_from_another_is_refused() {
    let old = base();
    let mut new = base();
    let mut rng = Rng::with_seed(1);
    // They change places.
    new.tenants.insert("ash", plain(&mut rng, "ash", 202, 102));
    new.tenants
        .insert("birch", plain(&mut rng, "birch", 201, 101));
    let told = errors(&old, &new, "ash");
    let later = "apply without --tenant, or that first";
    assert_eq!(
        told,
        [
            format!("VLAN 202 of `ash/main` is still `birch/main`'s: {later}"),
            format!(
                "subnet 10.102.0.0/24 of `ash/main` overlaps 10.102.0.0/24 of `birch/main`, which is still in force: {later}"
            ),
            format!("address 10.102.0.9 of `ash/ash-h` is still `birch/birch-h`'s: {later}"),
            format!(
                "hardware address 02:00:00:00:00:12 of `ash/ash-h` is still `birch/birch-h`'s: {later}"
            ),
        ]
    );
}

#[test]
fn grant_of_what_is_not_applied_yet_is_refused() {
    let old = base();
    let mut new = base();
    new.services.push("queue");
    new.zones.push("guest");
    new.tenants
        .insert("oak", plain(&mut Rng::with_seed(1), "oak", 300, 120));
    let ash = new.tenants.get_mut("ash").unwrap();
    ash.registry =
        "{ vlan_id: 201, subnet: 10.101.0.0/24, services: [queue], trusted_operators: [guest] }"
            .to_owned();
    ash.files[1]
        .1
        .push_str("tenant_uses: [{ tenant: oak, offer: api }]\n");
    let told = errors(&old, &new, "ash").join("\n");
    for needed in ["service `queue`", "zone `guest`", "tenant `oak`"] {
        let text = format!("tenant `ash` needs the {needed}");
        assert!(told.contains(&text), "{text}: {told}");
    }
    assert!(
        told.starts_with("site/group_vars/all/tenants.yml:2: "),
        "{told}"
    );
}

#[test]
fn host_that_the_site_expects_something_of_cannot_go() {
    let mut old = base();
    old.expectations =
        "policy_tests: [{ from: iot, to: ash/ash-h, port: tcp/1, expect: deny }]\n".to_owned();
    let mut new = base();
    new.tenants.remove("ash");
    let told = errors(&old, &new, "ash").join("\n");
    assert!(
        told.contains("policy test in force names `ash/ash-h`"),
        "{told}"
    );
}

#[test]
fn site_that_is_renamed_is_refused() {
    let mut new = base();
    new.site_domain = "other.example";
    let told = errors(&base(), &new, "ash");
    assert_eq!(
        told,
        ["`site_domain` changes from `lab.example` to `other.example`: apply without --tenant"]
    );
}

#[test]
fn unknown_tenant_is_refused() {
    let told = errors(&base(), &base(), "yew");
    assert_eq!(
        told,
        ["there is no tenant `yew`, neither in force nor in the inventory"]
    );
}
