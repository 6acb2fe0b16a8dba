//! Inventory to model, at 3, 100 and 4,094 VLANs: one of the site and the rest of a tenant each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use netmodel::tree::MemTree;
use netmodel::{Options, load_trees};

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn add(files: &mut Files, path: &str, text: &str) {
    files.insert(path.into(), text.as_bytes().to_vec());
}

/// Makes the site tree and the tenants' trees.
fn trees(tenants: u16) -> (MemTree, MemTree) {
    let mut site = Files::new();
    let mut trees = Files::new();
    let mut registry = String::from("tenant_defaults: { internet: nat }\ntenants:\n");
    for vlan_id in 2..2 + tenants {
        let name = format!("t{vlan_id:04}");
        let [high, low] = vlan_id.to_be_bytes();
        let net = format!("10.{high}.{low}");
        // Writing to a string cannot fail.
        let _ = writeln!(
            registry,
            "  {name}: {{ vlan_id: {vlan_id}, subnet: {net}.0/24 }}"
        );
        let hosts =
            format!("all: {{ children: {{ {name}: {{ hosts: {{ {name}-web: {{}} }} }} }} }}\n");
        add(&mut trees, &format!("{name}/hosts.yml"), &hosts);
        let own = format!("tenant_name: {name}\n");
        add(
            &mut trees,
            &format!("{name}/group_vars/{name}/network.yml"),
            &own,
        );
        let host = format!(
            "infrastructure: {{ form: vm, interfaces: {{ eth0: {{ mac: \"02:00:00:00:{high:02x}:{low:02x}\" }} }} }}\n\
             env: {{ interfaces: {{ eth0: {{ ip: {net}.10 }} }} }}\n"
        );
        add(
            &mut trees,
            &format!("{name}/host_vars/{name}-web.yml"),
            &host,
        );
    }
    add(&mut site, "group_vars/all/tenants.yml", &registry);
    let main = "site_name: east\nsite_domain: lab.example\n";
    add(&mut site, "group_vars/all/main.yml", main);
    let segments = "site_segments:\n  management: { vlan_id: 1, subnet: 192.168.1.0/24, dhcp_enabled: false }\n";
    add(&mut site, "group_vars/all/segments.yml", segments);
    let router = "router_parent: eth0\nenv: { interfaces: { eth0: { ip: 192.168.1.1, segment: management } } }\n";
    add(&mut site, "host_vars/rt01.yml", router);
    let hosts = "all: { children: { routers: { hosts: { rt01: {} } } } }\n";
    add(&mut site, "hosts.yml", hosts);
    (MemTree::new("site", &site), MemTree::new("tenants", &trees))
}

fn inventory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inventory");
    group.sample_size(10);
    for vlans in [3_u16, 100, 4094] {
        let (site, tenants) = trees(vlans - 1);
        let options = Options::default();
        let loaded = load_trees(&site, Some(&tenants), &options);
        let model = loaded.model.as_ref().map(|model| model.tenants.len());
        assert_eq!(
            model,
            Some(usize::from(vlans - 1)),
            "{:?}",
            loaded.findings.first()
        );
        group.bench_function(BenchmarkId::new("vlans", vlans), |bencher| {
            bencher.iter(|| load_trees(&site, Some(&tenants), &options));
        });
    }
    group.finish();
}

criterion_group!(benches, inventory);
criterion_main!(benches);
