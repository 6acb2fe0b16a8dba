//! Plans of the sample site, as a person reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use netmodel::tree::MemTree;
use netmodel::{Options, load_trees};
use serde::Serialize;

use super::objects::{Action, ObjectKind};
use super::text::{NetworkChange, Plan};
use super::{Build, Difference, Refusal};
use crate::cli::Paint;
use crate::compile::RouterFacts;

/// The sample's files, to be edited.
#[derive(Clone)]
pub(super) struct Sample(BTreeMap<PathBuf, Vec<u8>>);

impl Sample {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
        let mut files = BTreeMap::new();
        read(&root, &root, &mut files);
        Self(files)
    }

    fn with(mut self, file: &str, text: &str) -> Self {
        self.0.insert(file.into(), text.as_bytes().to_vec());
        self
    }

    fn without(mut self, folder: &str) -> Self {
        self.0.retain(|path, _| !path.starts_with(folder));
        self
    }

    fn edited(mut self, file: &str, from: &str, to: &str) -> Self {
        let bytes = self.0.get_mut(Path::new(file)).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        *bytes = text.replace(from, to).into_bytes();
        self
    }

    pub(super) fn build(&self) -> Build {
        let [site, tenants] = ["site", "tenants"].map(|tree| {
            let files = self.0.iter().filter_map(|(path, text)| {
                let path = path.strip_prefix(tree).ok()?;
                Some((path.to_owned(), text.clone()))
            });
            MemTree::new(tree, &files.collect())
        });
        let loaded = load_trees(&site, Some(&tenants), &Options::default());
        let model = loaded
            .model
            .unwrap_or_else(|| panic!("{:?}", loaded.findings));
        let facts = RouterFacts::from_model(&model);
        Build::new(model, facts).unwrap()
    }
}

fn read(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// Stands for the network's own changes.
#[derive(Serialize)]
struct Link(Action, &'static str);

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

impl NetworkChange for Link {
    fn action(&self) -> Action {
        self.0
    }
}

fn difference(old: &Sample, new: &Sample) -> Difference {
    Difference::new(Some(&old.build()), &new.build(), 0)
}

fn text(old: &Sample, new: &Sample, network: &[Link]) -> String {
    let difference = difference(old, new);
    plan(&difference, network).to_text(Paint::PLAIN)
}

fn plan<'p>(difference: &'p Difference, network: &'p [Link]) -> Plan<'p, Link> {
    Plan {
        network,
        difference,
        generation: Some(7),
    }
}

const TENANTS: &str = "site/group_vars/all/tenants.yml";
const FIREWALL: &str = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
const TESTS: &str = "site/group_vars/all/tests.yml";

const NEW_HOST: &str = r#"infrastructure: { form: vm, interfaces: { eth0: { mac: "02:dd:ee:64:00:09" } } }
env:
  interfaces:
    eth0:
      ip: 10.100.0.19
      segment: main
      dns: { host_a_record: true, dhcp_reservation: true, cnames: [] }
"#;

fn with_new_host() -> Sample {
    Sample::new()
        .edited(
            "tenants/grooveiq/hosts.yml",
            "grooveiq_api: { hosts: {",
            "grooveiq_api: { hosts: { grooveiq-api02: {},",
        )
        .with("tenants/grooveiq/host_vars/grooveiq-api02.yml", NEW_HOST)
}

fn without_moneyrouter() -> Sample {
    Sample::new().without("tenants/moneyrouter").edited(
        TENANTS,
        "  moneyrouter:\n",
        "  moneyrouter:\n    state: absent\n",
    )
}

/// A half-empty inventory is an error by itself; this one says that it is empty.
fn without_anything() -> Sample {
    let main = "site_name: east\nsite_domain: lab.example\nsite_segments: {}\n";
    Sample(BTreeMap::new())
        .with("site/group_vars/all/main.yml", main)
        .with("site/hosts.yml", "all: {}\n")
}

#[test]
fn first_apply_is_a_summary() {
    let build = Sample::new().build();
    let network = [
        Link(Action::Add, "link vlan10 on eth1"),
        Link(Action::Add, "address 10.20.10.1/24 on vlan10"),
    ];
    let difference = Difference::new(None, &build, 0);
    let plan = Plan {
        network: &network,
        difference: &difference,
        generation: None,
    };
    insta::assert_snapshot!(plan.to_text(Paint::PLAIN));
}

#[test]
fn new_host_is_a_few_lines() {
    insta::assert_snapshot!(text(&Sample::new(), &with_new_host(), &[]));
}

#[test]
fn new_host_as_json() {
    let difference = difference(&Sample::new(), &with_new_host());
    insta::assert_snapshot!(format!("{:#}", plan(&difference, &[]).to_json()));
}

#[test]
fn withdrawn_offer_cuts_its_user() {
    let firewall = Sample::new().0[Path::new(FIREWALL)].clone();
    let firewall = String::from_utf8(firewall).unwrap();
    let kept = firewall.split("tenant_offers").next().unwrap();
    let new = Sample::new().with(FIREWALL, kept);
    insta::assert_snapshot!(text(&Sample::new(), &new, &[]));
}

#[test]
fn other_vlan_id_replaces_the_segment() {
    let new = Sample::new().edited(TENANTS, "vlan_id: 101", "vlan_id: 105");
    let network = [
        Link(Action::Add, "link vlan105 on eth1"),
        Link(Action::Remove, "link vlan101 on eth1"),
    ];
    insta::assert_snapshot!(text(&Sample::new(), &new, &network));
}

#[test]
fn other_subnet_moves_what_is_reachable() {
    let new = Sample::new().edited(TENANTS, "fd00:101::/64", "fd00:1010::/64");
    insta::assert_snapshot!(text(&Sample::new(), &new, &[]));
}

#[test]
fn removed_tenant_is_refused() {
    insta::assert_snapshot!(text(&Sample::new(), &without_moneyrouter(), &[]));
}

#[test]
fn empty_desired_state_is_refused() {
    insta::assert_snapshot!(text(&Sample::new(), &without_anything(), &[]));
}

#[test]
fn removed_protected_flow_is_refused() {
    let flows =
        "protected_flows:\n  - { from: iot, to: grooveiq/grooveiq-mqtt01, ports: [tcp/8883] }\n";
    let old = Sample::new().with(TESTS, flows);
    let accepts = "    accepts: [{ from_zone: iot, ports: [tcp/8883] }]";
    let new = Sample::new().edited(TENANTS, accepts, "    #");
    insta::assert_snapshot!(text(&old, &new, &[]));

    // With the entry still in place, the remedy is another one.
    let new = new.with(TESTS, flows);
    let refusals = difference(&old, &new).refusals;
    assert!(
        matches!(
            refusals.as_slice(),
            [Refusal::ProtectedFlow {
                is_listed: true,
                ..
            }]
        ),
        "{refusals:?}"
    );

    // Taking it off the list alone is fine.
    let refusals = difference(&old, &Sample::new()).refusals;
    assert!(refusals.is_empty(), "{refusals:?}");
}

#[test]
fn protected_flow_to_a_host_that_goes_is_refused() {
    let flows =
        "protected_flows: [{ from: trusted, to: moneyrouter/moneyrouter-db01, ports: [tcp/22] }]\n";
    let old = Sample::new().with(TESTS, flows).build();
    let new = without_moneyrouter().build();
    let refusals = Difference::new(Some(&old), &new, 1000).refusals;
    let [Refusal::ProtectedFlow { unmet, .. }] = refusals.as_slice() else {
        panic!("{refusals:?}");
    };
    assert_eq!(unmet.verdict, "gone");
}

#[test]
fn protected_flow_is_cut_if_one_of_its_ends_moves() {
    let flows = "protected_flows:
  - { from: management, to: core-rt01, ports: [tcp/22] }
  - { from: trusted, to: grooveiq, ports: [tcp/22] }
";
    let old = Sample::new().with(TESTS, flows);
    let segments = "site/group_vars/all/segments.yml";
    let rows = [
        (
            "site/host_vars/core-rt01.yml",
            ("ip: 10.20.99.1\n", "ip: 10.20.99.2\n"),
            "`core-rt01` was 10.20.99.1 in VLAN 99",
        ),
        (
            segments,
            ("vlan_id: 99,", "vlan_id: 98,"),
            "`management` was 10.20.99.0/24 in VLAN 99, behind 10.20.99.1",
        ),
        (
            segments,
            ("gateway: 10.20.10.1,", "gateway: 10.20.10.2,"),
            "`trusted` was 10.20.10.0/24 in VLAN 10, behind 10.20.10.1",
        ),
        (
            TENANTS,
            ("subnet6: fd00:100::/64", "subnet6: fd00:1000::/64"),
            "`grooveiq` was fd00:100::/64 in VLAN 100, behind fd00:100::1",
        ),
    ];
    for (file, (from, to), note) in rows {
        let new = Sample::new().with(TESTS, flows).edited(file, from, to);
        let refusals = Difference::new(Some(&old.build()), &new.build(), 1000).refusals;
        let [Refusal::ProtectedFlow { unmet, .. }] = refusals.as_slice() else {
            panic!("{note}: {refusals:?}");
        };
        assert!(unmet.notes.iter().any(|found| found == note), "{unmet:?}");
    }
    // Anything else of the two may change.
    let file = "site/host_vars/core-rt01.yml";
    let new = Sample::new()
        .with(TESTS, flows)
        .edited(file, "purpose: mgmt", "purpose: other");
    assert_eq!(difference(&old, &new).refusals, []);
}

#[test]
fn failing_policy_test_is_refused() {
    let tests = "policy_tests:\n  - { from: vintronics, to: grooveiq/grooveiq-api01, port: tcp/443, expect: deny }\n";
    let new = Sample::new().with(TESTS, tests);
    insta::assert_snapshot!(text(&Sample::new(), &new, &[]));
}

#[test]
fn nothing_changes_if_nothing_was_edited() {
    insta::assert_snapshot!(text(&Sample::new(), &Sample::new(), &[]));
    // Where it is said is not what is said.
    let comment = Sample::new().edited(TENANTS, "tenant_pool:", "# a comment\n\ntenant_pool:");
    assert!(difference(&Sample::new(), &comment).is_empty());
}

#[test]
fn what_may_be_destroyed_is_counted() {
    let (old, new) = (Sample::new().build(), without_moneyrouter().build());
    let destroyed = Difference::new(Some(&old), &new, 0).destroyed;
    assert_eq!(destroyed.kinds.get(&ObjectKind::Host), Some(&2));
    let refusals = |allowed| Difference::new(Some(&old), &new, allowed).refusals;
    assert_eq!(refusals(destroyed.count - 1).len(), 1);
    assert_eq!(refusals(destroyed.count), []);
    assert_eq!(refusals(destroyed.count + 1), []);
}

#[test]
fn reservation_for_another_hardware_address_is_a_change() {
    let old = Sample::new().build();
    let mut model = old.model.clone();
    model.reservations[0].mac = "02:00:00:00:00:99".parse().unwrap();
    let new = Build::new(model, old.facts.clone()).unwrap();
    let difference = Difference::new(Some(&old), &new, 0);
    let mut objects = difference.objects.iter();
    assert!(objects.any(|it| it.kind == ObjectKind::Reservation && it.action == Action::Change));
}

#[test]
fn empty_desired_state_needs_the_exact_count() {
    let (old, new) = (Sample::new().build(), without_anything().build());
    let difference = Difference::new(Some(&old), &new, 0);
    let needed = difference.destroyed.with_rules();
    let refusals = |allowed| Difference::new(Some(&old), &new, allowed).refusals;
    assert_eq!(refusals(100_000).len(), 1);
    assert_eq!(refusals(needed - 1).len(), 1);
    assert_eq!(refusals(needed), []);
}

#[test]
fn losing_every_policy_needs_the_exact_count() {
    let old = Sample::new().build();
    let mut model = old.model.clone();
    model.policies.clear();
    model.internet_zones.clear();
    for tenant in &mut model.tenants {
        tenant.trusted_operators.clear();
        tenant.accepts.clear();
    }
    let new = Build::new(model, old.facts.clone()).unwrap();
    let difference = Difference::new(Some(&old), &new, 0);
    assert!(
        matches!(difference.refusals.as_slice(), [Refusal::Empty { empty, .. }] if empty == &["policies"]),
        "{:?}",
        difference.refusals
    );
}
