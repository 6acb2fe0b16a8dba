//! What people are shown of what is served.

use std::path::Path;
use std::process::Command;

use dns::inspect::{Format, InspectError, Show, show};
use netmodel::published;
use serde_json::{Value, json};

use super::support::*;

const RECORDS: &str = "
  - {name: web, type: A, value: 10.1.0.10}
  - {name: txt, type: TXT, value: 'say \"hi\"'}
  - {name: '*.apps', type: CNAME, value: web}
";

fn explain(name: &str, from: Option<&str>) -> String {
    let what = Show::Explain {
        name: name.into(),
        from: from.map(|address| address.parse().unwrap()),
    };
    show(&world(&two_tenants(RECORDS)), &what, Format::Text)
        .unwrap_or_else(|error| error.to_string())
}

#[test]
fn a_name_is_explained_to_those_who_see_it_and_to_those_who_do_not() {
    let text = explain("web.a.east.lab.example", None);
    assert_eq!(
        text,
        "to segment management, tenant a:\n  zone a.east.lab.example. serial 7\n  \
         web.a.east.lab.example. 300 IN A 10.1.0.10  (inventory)\n\
         to tenant b:\n  zone east.lab.example. serial 7\n  NXDOMAIN: there is no such name\n"
    );
    let rows = [
        ("x.apps.a.east.lab.example", IN_A, "by a wildcard"),
        ("apps.a.east.lab.example", IN_A, "only names below it"),
        ("www.example.org", IN_A, "REFUSED"),
        (
            "web.a.east.lab.example",
            "192.0.2.1",
            "192.0.2.1 is in no segment",
        ),
        ("a..b", IN_A, "is no DNS name"),
    ];
    for (name, from, expected) in rows {
        let text = explain(name, Some(from));
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn zones_and_keys_are_listed() {
    let world = world(&two_tenants(RECORDS));
    let list = show(&world, &Show::List, Format::Text).unwrap();
    let row = |zone: &str| {
        list.lines()
            .find(|line| line.starts_with(&format!("{zone} ")))
            .map(|line| {
                line.split_whitespace()
                    .skip(1)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
    };
    assert_eq!(
        row("a.east.lab.example.").unwrap(),
        ["7", "5", "2", "a"],
        "{list}"
    );
    assert_eq!(
        row("b.east.lab.example.").unwrap()[2..],
        ["1", "b"],
        "{list}"
    );
    let keys = show(&world, &Show::Keys, Format::Text).unwrap();
    assert!(
        keys.contains("a-tf") && keys.contains("tenant a: changes"),
        "{keys}"
    );
    assert!(!keys.contains(SECRET), "no secrets");
}

#[test]
fn an_exported_zone_begins_with_its_soa_and_has_every_record() {
    let world = world(&two_tenants(RECORDS));
    let export = |zone: &str, from: Option<&str>| {
        let from = from.map(|address| address.parse().unwrap());
        show(
            &world,
            &Show::Export {
                zone: zone.into(),
                from,
            },
            Format::Text,
        )
    };
    let text = export("a.east.lab.example", None).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("a.east.lab.example. 300 IN SOA ns.east.lab.example."),
        "{text}"
    );
    assert_eq!(
        lines[1..],
        [
            "*.apps.a.east.lab.example. 300 IN CNAME web.a.east.lab.example.",
            "a.east.lab.example. 300 IN NS ns.east.lab.example.",
            "txt.a.east.lab.example. 300 IN TXT \"say \\\"hi\\\"\"",
            "web.a.east.lab.example. 300 IN A 10.1.0.10",
        ]
    );
    let hidden = export("a.east.lab.example", Some(IN_B));
    assert!(
        matches!(hidden, Err(InspectError::Zone(_))),
        "as that client sees it"
    );
}

#[test]
fn the_program_shows_what_updates_added_and_leaves_the_journal_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    published::write(&path("generation"), &two_tenants(RECORDS).to_bytes(), 0o640).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-dns"));
        for file in ["generation", "keys", "journal"] {
            command.arg(format!("--{file}")).arg(path(file));
        }
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run(&["explain", "web.a.east.lab.example"]);
    assert!(code == Some(0) && text.contains("(inventory)"), "{text}");
    assert!(!Path::new(&path("journal")).exists(), "no journal was made");
    let mut store = dns::journal::Store::open(&path("journal")).unwrap();
    let zone = dns::name::Name::absolute("a.east.lab.example").unwrap();
    let set = dns::zone::RrSet {
        rtype: A,
        ttl: 60,
        rdata: vec![[10, 1, 0, 44].into()],
        owner: dns::zone::RrOwner::Key("a-tf".into()),
    };
    let name = dns::name::Name::parse("dyn", &zone).unwrap();
    let line = store.apply(dns::journal::Change {
        tenant: "a".into(),
        zone,
        sets: [((name, A), Some(set))].into(),
    });
    store.commit(&[line]).unwrap();
    // While another process has it, as the daemon does.
    let (code, text) = run(&["explain", "dyn.a.east.lab.example"]);
    assert!(
        code == Some(0) && text.contains("10.1.0.44  (terraform:a-tf)"),
        "{text}"
    );
    std::fs::remove_file(path("generation")).unwrap();
    let (code, text) = run(&["list"]);
    assert!(code == Some(1) && text.contains("bulkhead apply"), "{text}");
}

fn json(world: &dns::world::World, what: &Show) -> Value {
    let text = show(world, what, Format::Json).unwrap();
    assert!(text.ends_with("}\n"), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn everything_that_is_shown_is_json_too() {
    let mut published = two_tenants(RECORDS);
    published.model.tenants[0].dnssec = true;
    let world = signed_world(&published);
    let web = json!({
        "name": "web.a.east.lab.example.", "ttl": 300, "type": "A", "data": "10.1.0.10", "owner": "inventory"
    });
    let name = "web.a.east.lab.example".to_owned();
    assert_eq!(
        json(&world, &Show::Explain { name, from: None }),
        json!({
            "format_version": 1,
            "name": "web.a.east.lab.example.",
            "told": [
                {"views": ["segment management", "tenant a"], "zone": "a.east.lab.example.", "serial": 7, "records": [web], "instead": null},
                {"views": ["tenant b"], "zone": "east.lab.example.", "serial": 7, "records": [],
                 "instead": "NXDOMAIN: there is no such name"},
            ]
        })
    );
    let list = json(&world, &Show::List);
    assert_eq!(list["format_version"], 1);
    let zones = list["zones"].as_array().unwrap();
    let zone = |name: &str| zones.iter().find(|zone| zone["zone"] == name).unwrap();
    assert_eq!(
        zone("a.east.lab.example."),
        // Five, and DNSKEY, CDS and CDNSKEY.
        &json!({"zone": "a.east.lab.example.", "serial": 7, "records": 8, "views": 2, "tenant": "a", "is_signed": true})
    );
    assert_eq!(zone("east.lab.example.")["tenant"], Value::Null);
    let zone = "a.east.lab.example".to_owned();
    let export = json(&world, &Show::Export { zone, from: None });
    assert_eq!(export["zone"], "a.east.lab.example.");
    assert_eq!(export["records"][0]["type"], "SOA");
    let records = export["records"].as_array().unwrap();
    assert!(
        records.contains(&web) && records.len() == 5,
        "without keys: {export}"
    );
}

#[test]
fn keys_are_shown_with_the_ds_of_signed_zones_and_without_secrets() {
    let mut published = two_tenants(RECORDS);
    published.model.tenants[0].dnssec = true;
    let signed = signed_world(&published);
    let mut shown = json(&signed, &Show::Keys);
    let zones = shown["signed_zones"].take();
    let zones: std::collections::BTreeMap<&str, &str> = zones
        .as_array()
        .unwrap()
        .iter()
        .map(|zone| (zone["zone"].as_str().unwrap(), zone["ds"].as_str().unwrap()))
        .collect();
    let names: Vec<&str> = zones.keys().copied().collect();
    let v6 = "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.";
    assert_eq!(
        names,
        [v6, "0/26.0.1.10.in-addr.arpa.", "a.east.lab.example."]
    );
    let ds = zones["a.east.lab.example."].to_owned();
    assert!(ds.contains(" 13 2 "), "{ds}");
    assert_eq!(
        shown,
        json!({
            "format_version": 1,
            "keys": [
                {"name": "a-tf", "kind": "tsig", "tenant": "a"},
                {"name": "b-tf", "kind": "tsig", "tenant": "b"},
            ],
            "signed_zones": null,
            "refused": [],
        })
    );
    let text = show(&signed, &Show::Keys, Format::Text).unwrap();
    assert!(
        text.contains(&format!("\na.east.lab.example. IN DS {ds}\n")),
        "{text}"
    );
    assert!(!text.contains(SECRET));
    // Nothing was made yet, and looking makes nothing.
    let text = show(&world(&published), &Show::Keys, Format::Text).unwrap();
    assert!(
        text.contains("a.east.lab.example. has no key that can be used"),
        "{text}"
    );
}
