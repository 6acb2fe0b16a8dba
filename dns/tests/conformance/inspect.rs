//! What people are shown of what is served.

use std::path::Path;
use std::process::Command;

use dns::inspect::{InspectError, Show, show};
use netmodel::published;

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
    show(&world(&two_tenants(RECORDS)), &what).unwrap_or_else(|error| error.to_string())
}

#[test]
fn a_name_is_explained_to_those_who_see_it_and_to_those_who_do_not() {
    let text = explain("web.a.east.lab.example", None);
    assert_eq!(
        text,
        "to a, management:\n  zone a.east.lab.example. serial 7\n  \
         web.a.east.lab.example. 300 IN A 10.1.0.10  (inventory)\n\
         to b:\n  zone east.lab.example. serial 7\n  NXDOMAIN: there is no such name\n"
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
    let list = show(&world, &Show::List).unwrap();
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
    let keys = show(&world, &Show::Keys).unwrap();
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
