//! The command line on the sample inventory, as a person sees it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use insta::assert_snapshot;
use tempfile::TempDir;
use testkit::fixtures;

/// Runs `bulkhead` in a folder that has a `sample`; returns what it printed and its exit code.
fn bulkhead_in(folder: &Path, args: &[&str]) -> String {
    let output = Command::cargo_bin("bulkhead")
        .unwrap()
        .current_dir(folder)
        .args(args)
        .args(["--site", "sample/site", "--tenants", "sample/tenants"])
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let code = output.status.code().unwrap();
    let mut text = format!("$ bulkhead {}\n{out}", args.join(" "));
    if !err.is_empty() {
        text.push_str(&format!("--- stderr\n{err}"));
    }
    text.push_str(&format!("--- exit {code}\n"));
    text
}

fn bulkhead(args: &[&str]) -> String {
    bulkhead_in(&fixtures::project_root(), args)
}

/// Copies the sample, and adds one file to it.
fn sample_with(file: &str, text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fixtures::copy(&fixtures::sample(), &folder.path().join("sample")).unwrap();
    fs::write(folder.path().join("sample").join(file), text).unwrap();
    folder
}

fn can(source: &str, destination: &str) -> String {
    bulkhead(&["can", source, destination])
}

#[test]
fn lint_of_the_sample_has_no_findings() {
    assert_snapshot!(bulkhead(&["lint", "--strict"]));
}

#[test]
fn matrix_shows_who_reaches_whom() {
    assert_snapshot!(bulkhead(&["show", "matrix"]));
}

#[test]
fn matrix_as_json_lists_what_is_allowed() {
    assert_snapshot!(bulkhead(&["show", "matrix", "--format", "json"]));
}

#[test]
fn show_segments_is_a_table() {
    let text = bulkhead(&["show", "segments"]);
    assert!(text.contains("grooveiq/main"), "{text}");
    assert!(text.ends_with("--- exit 0\n"), "{text}");
}

#[test]
fn host_may_use_a_granted_service() {
    assert_snapshot!(can("grooveiq/grooveiq-api01", "logs:3100"));
}

#[test]
fn ungranted_service_is_named() {
    assert_snapshot!(can("moneyrouter", "metrics"));
}

#[test]
fn request_is_allowed_by_both_halves() {
    assert_snapshot!(can("iot", "grooveiq-mqtt01:8883"));
}

#[test]
fn zone_to_tenant_names_the_exceptions() {
    assert_snapshot!(can("iot", "grooveiq"));
}

#[test]
fn zone_to_all_tenants_is_one_answer() {
    assert_snapshot!(can("management", "tenants:22"));
}

#[test]
fn offer_counts_for_the_tenant_that_uses_it() {
    assert_snapshot!(can("vintronics-web01", "grooveiq-api01:443"));
}

#[test]
fn other_tenant_is_denied() {
    assert_snapshot!(can("moneyrouter", "grooveiq/grooveiq-api01:443"));
}

#[test]
fn internet_is_more_than_its_zone() {
    assert_snapshot!(can("grooveiq", "internet:443"));
}

#[test]
fn gateway_of_another_segment_is_denied() {
    assert_snapshot!(can("grooveiq", "10.101.0.1:53/udp"));
}

#[test]
fn hosts_of_one_segment_talk_directly() {
    assert_snapshot!(can("moneyrouter-app01", "moneyrouter-db01:5432"));
}

#[test]
fn can_as_json_has_every_case() {
    assert_snapshot!(bulkhead(&[
        "can",
        "iot",
        "grooveiq:8883",
        "--format",
        "json"
    ]));
}

#[test]
fn misspelt_name_gets_candidates() {
    assert_snapshot!(can("groveiq", "logs"));
}

#[test]
fn unreadable_port_is_a_usage_error() {
    assert_snapshot!(can("grooveiq", "logs:99999"));
}

#[test]
fn router_is_no_source() {
    assert_snapshot!(can("core-rt01", "hv01:22"));
}

#[test]
fn drop_reason_is_explained() {
    assert_snapshot!(bulkhead(&["explain", "other-tenant"]));
}

#[test]
fn unknown_code_is_a_usage_error() {
    assert_snapshot!(bulkhead(&["explain", "E0000"]));
}

#[test]
fn help_begins_with_examples() {
    assert_snapshot!(bulkhead(&["--help"]));
}

#[test]
fn unknown_command_is_a_usage_error() {
    let text = bulkhead(&["lnit"]);
    assert!(
        text.contains("a similar subcommand exists: 'lint'"),
        "{text}"
    );
    assert!(text.ends_with("--- exit 64\n"), "{text}");
}

#[test]
fn failing_expectation_names_file_verdict_and_rule() {
    let tests = "\
policy_tests:
  - { from: trusted, to: grooveiq, port: tcp/22, expect: deny }
  - { from: guest, to: trusted, port: tcp/22, expect: deny }
  - { from: vintronics, to: grooveiq, port: tcp/443, expect: allow }
protected_flows:
  - { from: management, to: hv01, ports: [tcp/22] }
  - { from: moneyrouter, to: 10.20.25.21, ports: [tcp/9090] }
";
    let folder = sample_with("site/group_vars/all/tests.yml", tests);
    assert_snapshot!(bulkhead_in(folder.path(), &["lint"]));
}

#[test]
fn can_on_a_broken_inventory_shows_the_findings() {
    let folder = sample_with("site/group_vars/all/main.yml", "site_domain: lab.example\n");
    assert_snapshot!(bulkhead_in(folder.path(), &["can", "iot", "logs"]));
}

#[test]
fn ambiguous_name_gets_its_candidates() {
    let host = "env: { interfaces: { eth0: { ip: 10.20.99.77, segment: management } } }\n";
    let folder = sample_with("site/host_vars/guest.yml", host);
    let hosts = folder.path().join("sample/site/hosts.yml");
    let text = fs::read_to_string(&hosts).unwrap();
    fs::write(
        &hosts,
        text.replace("hv01: {}", "hv01: {}\n        guest: {}"),
    )
    .unwrap();
    assert_snapshot!(bulkhead_in(folder.path(), &["can", "guest", "trusted"]));
}

#[test]
fn settings_file_says_where_the_inventory_is() {
    let folder = sample_with("bulkhead.toml", "site = \"site\"\ntenants = \"tenants\"\n");
    let output = Command::cargo_bin("bulkhead")
        .unwrap()
        .args(["can", "grooveiq", "logs", "--config"])
        .arg(folder.path().join("sample/bulkhead.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn wrong_settings_file_is_named_with_the_key() {
    let folder = sample_with("bulkhead.toml", "sight = \"site\"\n");
    let output = Command::cargo_bin("bulkhead")
        .unwrap()
        .current_dir(folder.path())
        .args(["lint", "--config", "sample/bulkhead.toml"])
        .output()
        .unwrap();
    assert_snapshot!(String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn leases_are_those_that_are_held_now_unless_all_are_wanted() {
    use netmodel::leases::{Entry, Lease, State, head_line, push_line};
    let folder = tempfile::tempdir().unwrap();
    let entry = |number: u64, last: u8, state, until| Entry {
        number,
        vlan: netmodel::ids::VlanId::new(100).unwrap(),
        address: [10, 100, 0, last].into(),
        lease: Lease {
            mac: netmodel::ids::MacAddr([2, 0, 0, 0, 0, last]),
            state,
            since: 1_700_000_000,
            until,
            client_id: [].into(),
            hostname: "web".into(),
        },
    };
    let mut text = head_line(0);
    push_line(&mut text, &entry(1, 20, State::Bound, 4_102_444_800));
    push_line(&mut text, &entry(2, 21, State::Bound, 4_102_444_800));
    push_line(&mut text, &entry(3, 21, State::Released, 1_700_000_060));
    push_line(&mut text, &entry(4, 22, State::Bound, 1_700_000_060));
    fs::write(folder.path().join("leases"), text).unwrap();
    let leases = |more: &[&str]| {
        let mut command = Command::cargo_bin("bulkhead").unwrap();
        let command = command
            .current_dir(folder.path())
            .args(["leases", "--file", "leases"]);
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_snapshot!(leases(&[]), @r"
    VLAN  ADDRESS          MAC                STATE     UNTIL                 NAME
     100  10.100.0.20      02:00:00:00:00:14  bound     2100-01-01 00:00:00Z  web
    ");
    assert_snapshot!(leases(&["--all"]), @r"
    VLAN  ADDRESS          MAC                STATE     UNTIL                 NAME
     100  10.100.0.20      02:00:00:00:00:14  bound     2100-01-01 00:00:00Z  web
     100  10.100.0.21      02:00:00:00:00:15  released  2023-11-14 22:14:20Z  web
     100  10.100.0.22      02:00:00:00:00:16  bound     2023-11-14 22:14:20Z  web
    ");
    let json: serde_json::Value = serde_json::from_str(&leases(&["--format", "json"])).unwrap();
    assert_eq!(json["leases"][0]["address"], "10.100.0.20");
    assert_eq!(json["leases"][0]["vlan_id"], 100);
}
