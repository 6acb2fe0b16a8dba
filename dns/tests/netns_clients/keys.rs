//! `bulkhead-dns test-key` and `import`.

use testkit::wait::wait_for;

use crate::lab::{GATEWAY_A, Lab, ZONE, run, text};
use crate::support::SECRET;

/// What a command says on the router, with the keys of this file.
fn ask(lab: &Lab, keys: &str, what: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = lab.router.command(env!("CARGO_BIN_EXE_bulkhead-dns"));
    for (option, file) in [
        ("generation", "generation"),
        ("keys", keys),
        ("journal", "journal"),
    ] {
        command.arg(format!("--{option}")).arg(lab.path(file));
    }
    let output = run(command.arg(what).args(arguments), "");
    (output.status.success(), text(&output))
}

fn write_keys(lab: &Lab, file: &str, keys: &[(&str, &str)]) {
    let keys: String = keys
        .iter()
        .map(|(name, secret)| {
            format!("[keys.{name}]\nalgorithm = \"hmac-sha256\"\nsecret = \"{secret}\"\n")
        })
        .collect();
    write_file(lab, file, &keys);
}

fn write_file(lab: &Lab, file: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(lab.path(file), text).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(lab.path(file), mode).unwrap();
}

#[test]
fn a_key_is_tried_as_terraform_would_use_it_and_changes_nothing() {
    const OTHER: &str = "YW5vdGhlciBzZWNyZXQgb2YgMzIgb2N0ZXRzICEhISE=";
    let lab = Lab::new();
    write_keys(&lab, "keys", &[("a-tf", SECRET)]);
    lab.start();
    write_keys(&lab, "others", &[("a-tf", OTHER), ("b-tf", SECRET)]);
    let serial = || {
        let at = format!("@{GATEWAY_A}");
        lab.dig(&lab.a, &[&at, "+short", "a.east.lab.example", "SOA"])
    };
    let before = serial();

    let (works, said) = ask(&lab, "keys", "test-key", &["a-tf"]);
    assert!(
        works && said.contains("a-tf works at 10.1.0.1:53") && said.contains("(serial 1)"),
        "{said}"
    );
    let rows: [(&str, &[&str], &str); 4] = [
        ("others", &["a-tf"], "BADSIG: it has another secret"),
        ("others", &["b-tf"], "BADKEY: it has no such key"),
        ("keys", &["nobody"], "no tenant's key is called `nobody`"),
        (
            "keys",
            &["a-tf", "--server", "10.1.0.1:5"],
            "does not answer",
        ),
    ];
    for (keys, arguments, expected) in rows {
        let (works, said) = ask(&lab, keys, "test-key", arguments);
        assert!(!works && said.contains(expected), "{arguments:?}: {said}");
    }
    // The gateway of a's segment, asked from b's.
    let from_b = ["a-tf", "--server", "10.1.0.65:53"];
    let (works, said) = ask(&lab, "keys", "test-key", &from_b);
    assert!(!works, "{said}");
    assert_eq!(serial(), before);
}

#[test]
fn sha1_signs_only_where_the_file_of_keys_allows_it() {
    let lab = Lab::new();
    let key = format!("[keys.a-tf]\nalgorithm = \"hmac-sha1\"\nsecret = \"{SECRET}\"\n");
    write_file(&lab, "keys", &key);
    lab.start();
    let script = |label: &str| {
        format!(
            "server {GATEWAY_A}\nzone {ZONE}.\nupdate add {label}.{ZONE}. 60 A 10.1.0.20\nsend\n"
        )
    };
    let with = |algorithm: &str| format!("{algorithm}:a-tf:{SECRET}");
    let update = |program: &str, algorithm: &str| {
        lab.update_with(program, &lab.a, &with(algorithm), &script(program))
    };
    let signed = |more: &[&str]| {
        let at = format!("@{GATEWAY_A}");
        let key = with("hmac-sha1");
        lab.dig(
            &lab.a,
            &[&[at.as_str(), "-y", &key, "+norecurse"], more].concat(),
        )
    };
    for program in ["nsupdate", "knsupdate"] {
        let (is_good, said) = update(program, "hmac-sha1");
        assert!(!is_good && said.contains("BADKEY"), "{program}: {said}");
    }
    assert!(signed(&[ZONE, "SOA"]).contains("BADKEY"));
    let (_, listed) = ask(&lab, "keys", "keys", &[]);
    assert!(listed.contains("hmac_sha1 = true"), "{listed}");
    assert!(lab.log().contains("hmac_sha1 = true"), "{}", lab.log());

    write_file(&lab, "keys", &format!("hmac_sha1 = true\n{key}"));
    wait_for("the keys to be read again", || {
        signed(&[ZONE, "SOA"]).contains("NOERROR").then_some(())
    })
    .unwrap();
    for program in ["nsupdate", "knsupdate"] {
        let (is_good, said) = update(program, "hmac-sha1");
        assert!(is_good, "{program}: {said}\n{}", lab.log());
        // dig says if it could not verify: an answer, and a transfer of many signed messages.
        let name = format!("{program}.{ZONE}");
        for more in [&[name.as_str(), "A"][..], &["+onesoa", ZONE, "AXFR"]] {
            let said = signed(more);
            assert!(
                said.contains("10.1.0.20") && said.contains("hmac-sha1"),
                "{said}"
            );
            assert!(!said.contains("ould") && !said.contains("ailed"), "{said}");
        }
    }
    // The key's own algorithm and no other; and only with its secret.
    let (is_good, said) = update("nsupdate", "hmac-sha256");
    assert!(!is_good && said.contains("BADKEY"), "{said}");
    let other = "hmac-sha1:a-tf:YW5vdGhlciBzZWNyZXQgb2YgMzIgb2N0ZXRzICEhISE=";
    let (is_good, said) = lab.update_with("nsupdate", &lab.a, other, &script("other"));
    assert!(!is_good && said.contains("BADSIG"), "{said}");
    let (works, said) = ask(&lab, "keys", "test-key", &["a-tf"]);
    assert!(works, "{said}");
}

#[test]
fn a_master_file_is_imported_whole_or_not_at_all() {
    let lab = Lab::started();
    let import = |text: &str| {
        let file = lab.path("zone");
        std::fs::write(&file, text).unwrap();
        ask(
            &lab,
            "keys",
            "import",
            &[file.to_str().unwrap(), "--key", "a-tf"],
        )
    };
    let dig = |name: &str, kind: &str| {
        let at = format!("@{GATEWAY_A}");
        lab.dig(
            &lab.a,
            &[&at, "+short", &format!("{name}.a.east.lab.example"), kind],
        )
    };
    let many: String = (0..60)
        .map(|n| format!("many{n} TXT \"a rather long text, number {n}\"\n"))
        .collect();
    let (works, said) = import(&format!(
        "@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns.elsewhere.example.\nimported A 10.1.0.44\n\
         mail MX 10 imported\n{many}"
    ));
    assert!(works, "{said}");
    assert!(
        said.contains("62 records of ") && said.contains("left out: 2 of SOA"),
        "{said}"
    );
    assert_eq!(dig("imported", "A").trim(), "10.1.0.44");
    assert_eq!(dig("mail", "MX").trim(), "10 imported.a.east.lab.example.");
    assert!(dig("many59", "TXT").contains("number 59"));
    let (_, whose) = ask(&lab, "keys", "explain", &["imported.a.east.lab.example"]);
    assert!(whose.contains("terraform:a-tf"), "{whose}");

    let rows = [
        (
            "lonely A 10.1.0.45\nweb A 10.1.0.46\n",
            "(web.a.east.lab.example",
        ),
        (
            "lonely A 10.1.0.45\nx.b.east.lab.example. A 10.1.0.46\n",
            "is not in a.east.lab.example",
        ),
        (
            "lonely A 10.1.0.45\n$INCLUDE /etc/passwd\n",
            ":2: `$INCLUDE` is not read",
        ),
        ("lonely A 10.1.0\n", "is no master file"),
        (
            "@ SOA ns hostmaster 1 2 3 4 5\n",
            "has no records to import",
        ),
    ];
    for (text, expected) in rows {
        let (works, said) = import(text);
        assert!(!works && said.contains(expected), "{text}: {said}");
        assert_eq!(dig("lonely", "A").trim(), "", "{text}");
    }
}
