//! Ansible's semantics: precedence, files, groups, templates.

use netmodel::Model;
use netmodel::model::{Interface, Owner};

use crate::common::{base_with, codes, load_files, text};

/// Loads the base with files replaced; there must be no error.
fn model(archive: &str) -> Model {
    let loaded = load_files(&base_with(archive));
    let text = text(&loaded);
    loaded.model.unwrap_or_else(|| panic!("{text}"))
}

fn interface<'a>(model: &'a Model, host: &str) -> &'a Interface {
    let is_it = |candidate: &&netmodel::model::Host| {
        candidate.name.as_str() == host && candidate.owner == Owner::Platform
    };
    &model.hosts.iter().find(is_it).unwrap().interfaces[0]
}

#[test]
fn precedence_is_inventory_all_parent_child_host() {
    // Each level sets what all levels below it set too.
    let sources = [
        (
            "10.20.99.31",
            "-- site/hosts.yml --\nall:\n  vars: { a: 10.20.99.31 }\n  children:\n    routers: { hosts: { rt01: {} } }\n    servers: { vars: { a: 10.20.99.31 }, children: { inner: { hosts: { srv01: { a: 10.20.99.31 } } } } }\n",
        ),
        (
            "10.20.99.32",
            "-- site/group_vars/all/a.yml --\na: 10.20.99.32\n",
        ),
        (
            "10.20.99.33",
            "-- site/group_vars/servers.yml --\na: 10.20.99.33\n",
        ),
        (
            "10.20.99.34",
            "-- site/group_vars/inner.yml --\na: 10.20.99.34\n",
        ),
        (
            "10.20.99.35",
            "-- site/host_vars/srv01/a.yml --\na: 10.20.99.35\n",
        ),
    ];
    let mut archive = String::from(
        "-- site/host_vars/srv01.yml --\nREMOVED\n-- site/host_vars/srv01/env.yml --\nenv: { interfaces: { eth0: { ip: \"{{ a }}\", segment: management } } }\n",
    );
    for (expected, file) in sources {
        archive.push_str(file);
        let model = model(&archive);
        let address = interface(&model, "srv01").ipv4.unwrap().to_string();
        assert_eq!(address, expected, "after {file}");
    }
}

#[test]
fn of_two_groups_of_one_depth_the_later_name_wins() {
    let model = model(
        "-- site/hosts.yml --
all:
  children:
    routers: { hosts: { rt01: {} } }
    zebra: { hosts: { srv01: {} } }
    antelope: { hosts: { srv01: {} } }
-- site/group_vars/antelope.yml --
a: 10.20.99.41
-- site/group_vars/zebra.yml --
a: 10.20.99.42
-- site/host_vars/srv01.yml --
env: { interfaces: { eth0: { ip: \"{{ a }}\", segment: management } } }
",
    );
    assert_eq!(
        interface(&model, "srv01").ipv4.unwrap().to_string(),
        "10.20.99.42"
    );
}

#[test]
fn maps_replace_and_never_merge() {
    let loaded = load_files(&base_with(
        "-- site/group_vars/routers/segments.yml --
site_segments:
  blackhole: { vlan_id: 999 }
-- site/group_vars/routers/main.yml --
router_parent: eth0
router_native_segment: blackhole
-- site/group_vars/routers.yml --
REMOVED
",
    ));
    // `clients` and `management` of group_vars/all are gone.
    assert!(codes(&loaded).contains(&"E0401"), "{}", text(&loaded));
}

#[test]
fn a_folder_is_read_recursively_in_name_order() {
    let model = model(
        "-- site/host_vars/srv01.yml --
REMOVED
-- site/host_vars/srv01/10-first.yml --
a: 10.20.99.51
-- site/host_vars/srv01/20/deeper.yaml --
a: 10.20.99.52
-- site/host_vars/srv01/15-env.json --
{ \"env\": { \"interfaces\": { \"eth0\": { \"ip\": \"{{ a }}\", \"segment\": \"management\" } } } }
-- site/host_vars/srv01/99-not-read.txt --
a: 10.20.99.99
-- site/host_vars/srv01/.hidden.yml --
a: 10.20.99.99
",
    );
    assert_eq!(
        interface(&model, "srv01").ipv4.unwrap().to_string(),
        "10.20.99.52"
    );
}

#[test]
fn encrypted_files_and_values_hurt_only_where_they_are_needed() {
    let vault = "$ANSIBLE_VAULT;1.1;AES256\n6132643764\n";
    let loaded = load_files(&base_with(&format!(
        "-- site/group_vars/all/vault.yml --\n{vault}-- site/host_vars/srv01.yml --
password: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  6132643764
dsn: \"postgres://{{{{ password }}}}@db\"
broken: \"{{{{ lookup('pipe', 'id') }}}}\"
env: {{ interfaces: {{ eth0: {{ ip: 10.20.99.20, segment: management, dns: {{ host_a_record: true, cnames: [logs] }} }} }} }}
"
    )));
    assert_eq!(text(&loaded), "");
}

#[test]
fn templates_see_the_variables_of_their_host_and_of_others() {
    let model = model(
        "-- site/group_vars/all/a.yml --
net: 10.20.99
plan: { srv: { last: 61 } }
numbers: [60, 61]
-- site/host_vars/rt01.yml --
infrastructure: { interfaces: { eth0: { mac: \"02:00:5e:00:53:01\" } } }
base: \"{{ net }}\"
env: { interfaces: { eth0: { ip: 10.20.99.1, segment: management } } }
-- site/host_vars/srv01.yml --
env:
  interfaces:
    eth0:
      ip: >-
        {{ hostvars['rt01'].base }}.{{
           plan.srv.last | default(7) | int }}
      segment: \"{{ ('routers' in group_names) | ternary('clients', 'management') }}\"
      dns: { cnames: \"{{ [inventory_hostname ~ '-alias'] }}\", host_a_record: \"{{ true }}\" }
",
    );
    let interface = interface(&model, "srv01");
    assert_eq!(interface.ipv4.unwrap().to_string(), "10.20.99.61");
    assert!(
        model
            .records
            .iter()
            .any(|record| record.name == "srv01-alias")
    );
}

/// What is said about single hosts is dropped once the hosts are read, unless a template of the tree may ask for it.
#[test]
fn templates_of_a_tenant_see_its_hosts() {
    let model = model(
        "-- tenants/beta/host_vars/job01.yml --
motto: fish
env: { interfaces: { eth0: { ip: 10.101.0.10 } } }
-- tenants/beta/group_vars/beta.yml --
tenant_name: beta
tenant_uses: [{ tenant: alpha, offer: api }]
tenant_dns_records:
  - { name: note, type: TXT, value: \"{{ hostvars['job01'].motto }}\" }
",
    );
    let note = model.records.iter().find(|record| record.name == "note");
    assert!(format!("{note:?}").contains("fish"), "{note:?}");
}

#[test]
fn templates_that_refer_to_themselves_end() {
    let loaded = load_files(&base_with(
        "-- site/group_vars/all/main.yml --
site_name: \"{{ a }}\"
a: \"{{ b }}\"
b: \"{{ a }}\"
site_domain: lab.example
",
    ));
    assert_eq!(codes(&loaded), ["E0110"]);
    assert!(
        text(&loaded).contains("or to themselves"),
        "{}",
        text(&loaded)
    );
}

#[test]
fn anchors_aliases_and_merge_keys_are_honoured() {
    let model = model(
        "-- site/group_vars/all/segments.yml --
defaults: &defaults { mtu: 9000, dhcp_enabled: false }
site_segments:
  blackhole: { vlan_id: 999 }
  clients: { <<: *defaults, vlan_id: 10, subnet: 10.20.10.0/24, mtu: 1400 }
  management: { <<: [*defaults], vlan_id: 99, subnet: 10.20.99.0/24 }
",
    );
    let mtu: Vec<(&str, u16)> = model
        .segments
        .iter()
        .map(|s| (s.name.as_str(), s.mtu))
        .collect();
    assert_eq!(
        mtu[..3],
        [("blackhole", 1500), ("clients", 1400), ("management", 9000)]
    );
    assert!(model.segments[1].dhcp.is_none());
}

#[test]
fn host_ranges_make_many_hosts() {
    let model = model(
        "-- site/hosts.yml --
all:
  children:
    routers: { hosts: { rt01: {} } }
    servers: { hosts: { srv01: {}, \"node[01:12]\": {} } }
",
    );
    assert_eq!(
        model
            .hosts
            .iter()
            .filter(|h| h.name.as_str().starts_with("node"))
            .count(),
        12
    );
}

#[test]
fn built_in_and_own_aliases_name_the_same_keys() {
    let archive = "-- site/group_vars/all/main.yml --
deevnet_substrate: east
our_domain: lab.example
-- site/group_vars/all/segments.yml --
deevnet_vlans:
  blackhole: { vlan_id: 999 }
  clients: { vlan_id: 10, subnet: 10.20.10.0/24, dhcp_enabled: false }
  management: { vlan_id: 99, subnet: 10.20.99.0/24, dhcp_enabled: false }
";
    let mut options = netmodel::Options::default();
    options
        .aliases
        .insert("our_domain".to_owned(), "site_domain".to_owned());
    let loaded = crate::common::load_with(&base_with(archive), &options);
    assert_eq!(text(&loaded), "");
    let model = loaded.model.unwrap();
    assert_eq!(
        (model.site_name.as_str(), model.site_domain.as_str()),
        ("east", "lab.example")
    );
}

#[test]
fn filters_of_network_inventories_are_known() {
    let rows = [
        (
            "{{ '10.20.99.0/24' | ansible.utils.ipaddr(5) | ipaddr('address') }}",
            "10.20.99.5",
        ),
        (
            "{{ '10.20.99.0/24' | ipaddr(-2) | ipaddr('address') }}",
            "10.20.99.254",
        ),
        (
            "{{ '10.20.99.7/24' | ansible.netcommon.ipaddr('address') }}",
            "10.20.99.7",
        ),
        (
            "{{ ({'a': '10.20.99.8'} | combine({'a': '10.20.99.9'})).a }}",
            "10.20.99.9",
        ),
        (
            "{{ ({'x': '10.20.99.8'} | dict2items)[0].value }}",
            "10.20.99.8",
        ),
        (
            "{{ (undefined_one | default('10.20.99.11')) }}",
            "10.20.99.11",
        ),
    ];
    for (template, expected) in rows {
        let model = model(&format!(
            "-- site/host_vars/srv01.yml --\nenv: {{ interfaces: {{ eth0: {{ ip: \"{template}\", segment: management }} }} }}\n"
        ));
        let address = interface(&model, "srv01").ipv4.unwrap().to_string();
        assert_eq!(address, expected, "{template}");
    }
}

#[test]
fn a_variable_env_of_somebody_else_is_ignored() {
    let loaded = load_files(&base_with(
        "-- site/group_vars/routers/env.yml --
env: production
router_parent: eth0
-- site/group_vars/routers.yml --
REMOVED
-- site/host_vars/rt01.yml --
REMOVED
",
    ));
    assert_eq!(codes(&loaded), ["W0202"], "{}", text(&loaded));
}

#[test]
fn document_markers_comments_and_windows_line_ends_change_nothing() {
    let loaded = load_files(&base_with(
        "-- site/group_vars/all/main.yml --
---
# vim: ft=yaml.ansible
site_name: east\r
site_domain: lab.example   # ours\r
...
-- site/group_vars/all/empty.yml --
---
-- site/group_vars/all/comment.yml --
# nothing yet
",
    ));
    assert_eq!(text(&loaded), "");
    assert_eq!(loaded.model.unwrap().site_name, "east");
}
