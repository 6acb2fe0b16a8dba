//! Facts of the model that its readers rely on.

use netmodel::Model;
use netmodel::model::{Limits, Owner, PeerKind, Zone};

use crate::common::{BASE, base_with, files, load_files, load_with, text};

fn model(archive: &str) -> Model {
    let loaded = load_files(&base_with(archive));
    let text = text(&loaded);
    loaded.model.unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn equal_inventories_give_equal_models_byte_for_byte() {
    let json = |_| serde_json::to_string(&load_files(&files(BASE)).model.unwrap()).unwrap();
    let runs: Vec<String> = (0..4).map(json).collect();
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn segments_and_hosts_are_in_the_documented_order() {
    let model = model("");
    let segments: Vec<String> = model
        .segments
        .iter()
        .map(|s| format!("{:?} {}", s.owner, s.name))
        .collect();
    assert_eq!(
        segments,
        [
            "Platform blackhole",
            "Platform clients",
            "Platform management",
            "Tenant(TenantId(0)) main",
            "Tenant(TenantId(1)) main"
        ]
    );
    let hosts: Vec<&str> = model.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(hosts, ["rt01", "srv01", "web01", "job01"]);
}

#[test]
fn subnets_come_from_the_pool_and_gateways_are_the_first_address() {
    let model = model("");
    let main = model.segment(model.tenants[1].segments[0]).ipv4.unwrap();
    assert_eq!(main.net.to_string(), "10.101.0.0/24");
    assert_eq!(main.gateway.to_string(), "10.101.0.1");
}

#[test]
fn a_scope_exists_with_a_pool_or_with_reservations_only() {
    let model = model("");
    let scope = |name: &str, owner: Owner| {
        let is_it = |s: &&netmodel::model::Segment| s.name.as_str() == name && s.owner == owner;
        model.segments.iter().find(is_it).unwrap().dhcp.clone()
    };
    assert!(scope("clients", Owner::Platform).unwrap().pool.is_some());
    assert!(scope("management", Owner::Platform).is_none());
    assert!(
        scope("main", Owner::Tenant(netmodel::model::TenantId(0)))
            .unwrap()
            .pool
            .is_some()
    );
    assert!(
        scope("main", Owner::Tenant(netmodel::model::TenantId(1)))
            .unwrap()
            .pool
            .is_none()
    );
    assert_eq!(model.reservations.len(), 2);
}

#[test]
fn a_site_without_tenant_keys_is_a_valid_site() {
    let mut files = files(BASE);
    files.retain(|path, _| !path.starts_with("tenants") && !path.ends_with("tenants.yml"));
    files.insert(
        "site/group_vars/all/firewall.yml".into(),
        b"firewall_internet_zones: [clients]\n".to_vec(),
    );
    let loaded = load_files(&files);
    assert_eq!(text(&loaded), "");
    assert!(loaded.model.unwrap().tenants.is_empty());
}

#[test]
fn tenants_of_kind_vpc_may_overlap_and_have_plans_of_their_own() {
    let model = model(
        "-- site/group_vars/all/zz.yml --
tenants:
  alpha: { vlan_id: 100, accepts: [{ from_zone: clients, ports: [tcp/443] }] }
  beta: { vlan_id: 101 }
  gamma: { vlan_id: 110, kind: vpc, subnet: 10.20.10.0/24 }
  omega: { vlan_id: 111, kind: vpc, subnet: 10.20.10.0/24, state: draining }
  zombie: { vlan_id: 100, state: absent }
",
    );
    let plans: Vec<(String, u32)> = model
        .tenants
        .iter()
        .map(|t| (t.name.to_string(), model.segment(t.segments[0]).vpc_id))
        .collect();
    let plan = |name: &str| plans.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(
        (plan("alpha"), plan("beta"), plan("gamma"), plan("omega")),
        (0, 0, 1, 2)
    );
    assert_eq!(plans.len(), 4, "absent tenants are not in the model");
}

#[test]
fn a_limit_that_a_tenant_does_not_have_is_the_default_one() {
    let loaded = load_files(&base_with(
        "-- site/group_vars/all/zz.yml --
tenant_defaults: { services: [logs], internet: nat, limits: { reservations: 0 } }
tenants:
  alpha: { vlan_id: 100, accepts: [{ from_zone: clients, ports: [tcp/443] }], limits: { dns_records: 5 } }
  beta: { vlan_id: 101, limits: { reservations: 1 } }
",
    ));
    let text = text(&loaded);
    assert_eq!(loaded.errors(), 1, "{text}");
    assert!(
        text.contains("1 reservations, but at most 0 are granted"),
        "{text}"
    );
}

#[test]
fn dns_zones_are_signed_where_the_registry_or_the_site_says_so() {
    let files = |alpha: &str, defaults: &str, site: &str| {
        base_with(&format!(
            "-- site/group_vars/all/zz.yml --
{site}
tenant_defaults: {{ services: [logs], internet: nat{defaults} }}
tenants:
  alpha: {{ vlan_id: 100, accepts: [{{ from_zone: clients, ports: [tcp/443] }}]{alpha} }}
  beta: {{ vlan_id: 101 }}
"
        ))
    };
    // (alpha, defaults, the site; alpha, beta, the site)
    let rows = [
        ("", "", "", [false, false, false]),
        (", dnssec: true", "", "", [true, false, false]),
        (
            ", dnssec: false",
            ", dnssec: true",
            "",
            [false, true, false],
        ),
        ("", "", "site_dnssec: true", [false, false, true]),
    ];
    for (alpha, defaults, site, expected) in rows {
        let model = load_files(&files(alpha, defaults, site)).model.unwrap();
        let found = [
            model.tenants[0].dnssec,
            model.tenants[1].dnssec,
            model.site_dnssec,
        ];
        assert_eq!(found, expected, "{alpha} {defaults} {site}");
    }
    let bad = [
        (", dnssec: yes please", "", "", "`dnssec`"),
        ("", "", "site_dnssec: [1]", "`site_dnssec`"),
        (", dnsec: true", "", "", "dnssec"),
    ];
    for (alpha, defaults, site, named) in bad {
        let loaded = load_files(&files(alpha, defaults, site));
        let text = text(&loaded);
        assert!(loaded.errors() == 1 && text.contains(named), "{text}");
    }
}

#[test]
fn shares_are_the_tenants_own_then_the_defaults_then_the_built_in_ones() {
    let registry = "-- site/group_vars/all/zz.yml --
tenant_defaults: { services: [logs], internet: nat, limits: { dhcp_rate: 7, bandwidth: 1gbit, endpoint: { connections: 9, bandwidth: 200mbit } } }
tenants:
  alpha: { vlan_id: 100, accepts: [{ from_zone: clients, ports: [tcp/443] }], limits: { connections: 5000, bandwidth: any, endpoint: { dhcp_rate: 0 } } }
  beta: { vlan_id: 101, limits: { dhcp_rate: 8 } }
";
    let model = load_files(&base_with(registry)).model.unwrap();
    let of = |at: usize| (model.tenants[at].limits, model.tenants[at].endpoint_limits);
    let own = Limits {
        connections: 5000,
        dhcp_rate: 7,
        ..Limits::SEGMENT
    };
    let endpoint = Limits {
        connections: 9,
        bandwidth: "200mbit".parse().unwrap(),
        ..Limits::ENDPOINT
    };
    let without = Limits {
        dhcp_rate: 0,
        ..endpoint
    };
    assert_eq!(of(0), (own, without));
    let own = Limits {
        dhcp_rate: 8,
        bandwidth: "1gbit".parse().unwrap(),
        ..Limits::SEGMENT
    };
    assert_eq!(of(1), (own, endpoint));
    let told = model.tenants[0].told_limits();
    let told: Vec<_> = told
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let expected = [
        "connections=5000",
        "connection_rate=5000/s",
        "neighbour_rate=1000/s",
        "dhcp_rate=7/s",
        "bandwidth=any",
        "endpoint.connections=9",
        "endpoint.connection_rate=1000/s",
        "endpoint.neighbour_rate=200/s",
        "endpoint.dhcp_rate=any",
        "endpoint.bandwidth=200mbit",
    ];
    assert_eq!(told, expected);
}

#[test]
fn promises_that_do_not_fit_into_the_table_are_refused() {
    let registry = "-- site/group_vars/all/zz.yml --
tenant_defaults: { services: [logs], internet: nat, limits: { connections: 500 } }
tenants:
  alpha: { vlan_id: 100, accepts: [{ from_zone: clients, ports: [tcp/443] }] }
  beta: { vlan_id: 101 }
";
    for (connections, errors) in [(2672, 0), (2664, 1)] {
        let options = netmodel::Options {
            connections,
            ..netmodel::Options::default()
        };
        let loaded = load_with(&base_with(registry), &options);
        let text = text(&loaded);
        assert_eq!(loaded.errors(), errors, "{text}");
        assert_eq!(
            text.contains("promise 1000 connections"),
            errors > 0,
            "{text}"
        );
    }
}

#[test]
fn share_that_makes_no_sense_is_refused() {
    for (limits, why) in [
        ("{ connections: 1000001 }", "more than 1000000"),
        ("{ endpoint: { dhcp_rate: -1 } }", "negative"),
        ("{ bandwidth: 5 }", "such as `200mbit`"),
        (
            "{ endpoint: { bandwidth: 5kbit } }",
            "`64kbit` to `100gbit`",
        ),
        ("{ endpoint: { endpoint: {} } }", "no key `endpoint`"),
        ("{ endpoint: 5 }", "a map"),
        ("{ conections: 5 }", "did you mean `connections`?"),
    ] {
        let loaded = load_files(&base_with(&format!(
            "-- site/group_vars/all/zz.yml --
tenants:
  alpha: {{ vlan_id: 100, accepts: [{{ from_zone: clients, ports: [tcp/443] }}] }}
  beta: {{ vlan_id: 101, limits: {limits} }}
"
        )));
        let text = text(&loaded);
        assert!(
            loaded.errors() > 0 && text.contains(why),
            "{limits}: {text}"
        );
    }
}

#[test]
fn terraform_hosts_are_hosts_wrapped_or_not() {
    for outputs in [
        r#"{ "tenant_hosts": { "sensitive": false, "type": "dynamic", "value": { "w1": { "mac": "02:00:5e:00:53:c1", "ip": "10.101.0.20", "cnames": ["worker"] } } } }"#,
        r#"{ "tenant_hosts": { "w1": { "mac": "02:00:5e:00:53:c1", "ip": "10.101.0.20", "segment": "main", "cnames": ["worker"] } } }"#,
    ] {
        let model = model(&format!(
            "-- tenants/beta/group_vars/terraform.yml --\nREMOVED\n-- tenants/beta/group_vars/beta.yml --
tenant_name: beta
tenant_uses: [{{ tenant: alpha, offer: api }}]
tenant_mac_policy: terraform
tenant_terraform: {{ dns: rfc2136, outputs: terraform/outputs.json }}
-- tenants/beta/terraform/outputs.json --
{outputs}
"
        ));
        let host = model
            .hosts
            .iter()
            .find(|host| host.name.as_str() == "w1")
            .unwrap();
        assert_eq!(
            host.interfaces[0].segment,
            Some(model.tenants[1].segments[0])
        );
        assert!(
            model
                .reservations
                .iter()
                .any(|r| r.ipv4.to_string() == "10.101.0.20")
        );
        assert!(
            model
                .records
                .iter()
                .any(|r| r.name == "worker" && r.value == "w1")
        );
    }
}

#[test]
fn terraform_fills_in_what_the_inventory_leaves_open() {
    let model = model(
        "-- tenants/beta/host_vars/job01.yml --
infrastructure: { interfaces: { eth0: { mac: \"UNKNOWN\" } } }
env: { interfaces: { eth0: { ip: 10.101.0.10, dns: { dhcp_reservation: true } } } }
-- tenants/beta/group_vars/beta.yml --
tenant_name: beta
tenant_uses: [{ tenant: alpha, offer: api }]
tenant_terraform: { outputs: terraform/outputs.json }
-- tenants/beta/terraform/outputs.json --
{ \"tenant_hosts\": { \"job01\": { \"mac\": \"02:00:5e:00:53:c1\", \"ip\": \"10.101.0.10\" } } }
",
    );
    let host = model
        .hosts
        .iter()
        .find(|host| host.name.as_str() == "job01")
        .unwrap();
    assert_eq!(
        host.interfaces[0].mac.unwrap().to_string(),
        "02:00:5e:00:53:c1"
    );
    assert_eq!(model.reservations.len(), 2);
}

#[test]
fn flows_and_tests_are_resolved() {
    let model = model(
        "-- site/group_vars/all/zz.yml --
policy_tests:
  - { from: alpha/web01, to: internet, port: tcp/443, expect: allow }
  - { from: beta, to: 10.20.99.20, port: tcp/3100, expect: allow }
  - { from: tenants, to: management, port: icmp, expect: deny }
protected_flows:
  - { from: clients, to: rt01, ports: [tcp/22] }
",
    );
    let kinds: Vec<PeerKind> = model
        .policy_tests
        .iter()
        .flat_map(|test| [test.from.kind, test.to.kind])
        .collect();
    assert!(matches!(kinds[0], PeerKind::Host(_)));
    assert_eq!(kinds[1], PeerKind::Internet);
    assert!(matches!(kinds[2], PeerKind::Tenant(_)));
    assert_eq!(kinds[3], PeerKind::Address("10.20.99.20".parse().unwrap()));
    assert_eq!(kinds[4], PeerKind::Zone(Zone::Tenants));
    assert!(matches!(
        model.protected_flows[0].to.kind,
        PeerKind::Host(_)
    ));
    assert!(!model.policy_tests[2].expect_allow);
}

#[test]
fn the_router_may_have_the_gateways_address_and_is_marked() {
    let model = model("");
    assert!(model.host(model.routers[0].host).is_router);
    assert_eq!(model.routers[0].trunk, "eth0");
    assert!(model.routers[0].native_segment.is_some());
    assert!(model.routers[0].uplinks[0].nat);
}

#[test]
fn thousands_of_tenants_load_in_seconds_not_minutes() {
    let mut files = files(BASE);
    let mut registry = String::from("tenants:\n");
    for tenant in 0..4000_u32 {
        let (name, vlan) = (format!("t{tenant:04}"), 90 + tenant);
        let (a, b) = (100 + tenant / 256, tenant % 256);
        // 99 and 999 are the site's.
        let vlan = match vlan {
            99 => 1,
            999 => 2,
            other => other,
        };
        registry.push_str(&format!(
            "  {name}: {{ vlan_id: {vlan}, subnet: 10.{a}.{b}.0/24 }}\n"
        ));
        files.insert(
            format!("tenants/{name}/hosts.yml").into(),
            format!("all: {{ children: {{ {name}: {{ hosts: {{ a: {{}}, b: {{}} }} }} }} }}\n")
                .into(),
        );
        files.insert(
            format!("tenants/{name}/group_vars/{name}.yml").into(),
            format!("tenant_name: {name}\n").into(),
        );
        for (host, last) in [("a", 10), ("b", 11)] {
            files.insert(
                format!("tenants/{name}/host_vars/{host}.yml").into(),
                format!("infrastructure: {{ interfaces: {{ eth0: {{ mac: \"02:00:00:{:02x}:{:02x}:{last:02x}\" }} }} }}\nenv: {{ interfaces: {{ eth0: {{ ip: 10.{a}.{b}.{last}, dns: {{ host_a_record: true, dhcp_reservation: true }} }} }} }}\n", tenant / 256, tenant % 256).into(),
            );
        }
    }
    files.retain(|path, _| !path.starts_with("tenants/alpha") && !path.starts_with("tenants/beta"));
    files.insert("site/group_vars/all/tenants.yml".into(), registry.into());
    let start = std::time::Instant::now();
    let loaded = load_files(&files);
    let took = start.elapsed();
    assert!(loaded.model.is_some_and(|model| model.hosts.len() == 8002));
    println!("4000 tenants, 8000 hosts: {took:?}");
    // A quadratic check would take minutes; the bound leaves room for slow, shared machines.
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
