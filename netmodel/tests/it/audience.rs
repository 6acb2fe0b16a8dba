//! What a tenant may see of the findings.

use netmodel::Loaded;
use netmodel::finding::{Audience, Style, to_json, to_text};

use crate::common::{base_with, load_files};

fn seen_by(loaded: &Loaded, tenant: &str) -> String {
    to_text(
        &loaded.findings,
        &loaded.sources,
        Audience::Tenant(tenant),
        Style::Plain,
    )
}

/// Two tenants with one hardware address.
fn clash() -> Loaded {
    load_files(&base_with(include_str!("../fixtures/E0306.txt")))
}

#[test]
fn a_clash_between_two_tenants_never_names_the_other() {
    let loaded = clash();
    insta::assert_snapshot!("clash_as_beta_sees_it", seen_by(&loaded, "beta"));
    insta::assert_snapshot!("clash_as_alpha_sees_it", seen_by(&loaded, "alpha"));
    for (tenant, other) in [("beta", "alpha"), ("alpha", "beta")] {
        let text = seen_by(&loaded, tenant);
        assert!(!text.contains(other), "{text}");
        assert!(text.contains(tenant), "the own place is named");
    }
}

#[test]
fn json_for_a_tenant_hides_what_the_text_hides() {
    let loaded = clash();
    let json = to_json(&loaded.findings, &loaded.sources, Audience::Tenant("beta"));
    assert!(!json.to_string().contains("alpha"), "{json}");
    assert_eq!(json["findings"].as_array().unwrap().len(), 1);
}

#[test]
fn a_tenant_sees_nothing_of_the_site_or_of_other_tenants() {
    for fixture in [
        include_str!("../fixtures/E0202.txt"),
        include_str!("../fixtures/E0205.txt"),
        include_str!("../fixtures/E0503.txt"),
        include_str!("../fixtures/W0402.txt"),
    ] {
        let loaded = load_files(&base_with(fixture));
        for (tenant, other) in [("alpha", "beta"), ("beta", "alpha")] {
            let text = seen_by(&loaded, tenant);
            assert!(!text.contains("site/"), "{text}");
            assert!(!text.contains(other), "{text}");
        }
    }
}

#[test]
fn a_suggestion_never_names_another_tenant() {
    let loaded = load_files(&base_with(include_str!("../fixtures/E0405.txt")));
    let text = seen_by(&loaded, "beta");
    assert!(text.contains("there is no tenant `alhpa`"), "{text}");
    assert!(!text.contains("alpha"), "{text}");
}

#[test]
fn control_characters_in_a_file_never_reach_the_terminal() {
    let loaded = load_files(&base_with(
        "-- site/group_vars/all/main.yml --\nsite_name: \"\\e[31mred\"\nsite_domain: lab.example # \u{1b}[31m\n",
    ));
    let text = crate::common::text(&loaded);
    assert!(loaded.errors() > 0);
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

/// Found by fuzzing (corpus file `crash-control-character-in-a-path`).
#[test]
fn control_characters_in_a_files_name_never_reach_the_terminal() {
    let corpus = "../fuzz/corpus/inventory/crash-control-character-in-a-path";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(corpus);
    let loaded = load_files(&base_with(&std::fs::read_to_string(path).unwrap()));
    let text = crate::common::text(&loaded);
    assert!(text.contains("firewal"), "the file is named: {text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}
