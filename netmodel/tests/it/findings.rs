//! Every finding code has a fixture; what is said about it is a snapshot.

use std::path::Path;

use netmodel::Code;

use crate::common::{BASE, base_with, codes, files, load_files, text};

fn fixture(code: Code) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = folder.join(format!("{code}.txt"));
    std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{code} has no fixture"))
}

#[test]
fn the_base_of_all_fixtures_is_clean() {
    let loaded = load_files(&files(BASE));
    assert_eq!(text(&loaded), "");
    assert!(loaded.model.is_some());
}

#[test]
fn every_code_has_a_fixture_that_gives_it() {
    for &code in Code::ALL {
        let loaded = load_files(&base_with(&fixture(code)));
        assert!(
            codes(&loaded).contains(&code.as_str()),
            "{code} is not among\n{}",
            text(&loaded)
        );
        assert_eq!(loaded.model.is_some(), loaded.errors() == 0, "{code}");
    }
}

#[test]
fn every_finding_says_what_to_do() {
    for &code in Code::ALL {
        let loaded = load_files(&base_with(&fixture(code)));
        for finding in &loaded.findings {
            assert!(
                !finding.help.is_empty(),
                "{code}: no help for `{}`",
                finding.message
            );
        }
    }
}

#[test]
fn every_finding_reads_as_in_its_snapshot() {
    for &code in Code::ALL {
        let loaded = load_files(&base_with(&fixture(code)));
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(code.as_str(), text(&loaded)));
    }
}
