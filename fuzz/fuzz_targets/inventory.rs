//! Both trees of an inventory out of arbitrary bytes.
//!
//! The input is an archive: a line `-- path --` starts a file, `site/…` or `tenants/…`. Its files
//! replace those of a small healthy site, so that short inputs get far; an input that begins with
//! `!` stands alone.

#![no_main]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use netmodel::finding::{Audience, Style, to_json, to_text};
use netmodel::show::{What, table};
use netmodel::tree::MemTree;
use netmodel::{Options, load_trees};

/// Files by path.
type Files = BTreeMap<PathBuf, Vec<u8>>;

const BASE: &[u8] = include_bytes!("../../netmodel/tests/fixtures/base.txt");

fn files(archive: &[u8]) -> Files {
    let mut files = Files::new();
    let mut current: Option<PathBuf> = None;
    for line in archive.split_inclusive(|&b| b == b'\n') {
        let header = line
            .strip_prefix(b"-- ")
            .and_then(|rest| rest.strip_suffix(b" --\n"));
        if let Some(path) = header {
            let path = PathBuf::from(OsStr::from_bytes(path));
            files.insert(path.clone(), Vec::new());
            current = Some(path);
        } else if let Some(text) = current.as_ref().and_then(|path| files.get_mut(path)) {
            text.extend_from_slice(line);
        }
    }
    files
}

fn below(files: &Files, folder: &str) -> Files {
    let relative = |path: &Path| path.strip_prefix(folder).ok().map(Path::to_path_buf);
    files
        .iter()
        .filter_map(|(path, text)| Some((relative(path)?, text.clone())))
        .collect()
}

fuzz_target!(|input: &[u8]| {
    let all = match input.strip_prefix(b"!") {
        Some(alone) => files(alone),
        None => {
            let mut all = files(BASE);
            all.extend(files(input));
            all
        }
    };
    let site = MemTree::new("site", &below(&all, "site"));
    let tenants = MemTree::new("tenants", &below(&all, "tenants"));
    let loaded = load_trees(&site, Some(&tenants), &Options::default());
    assert_eq!(loaded.model.is_some(), loaded.errors() == 0);
    for audience in [Audience::Platform, Audience::Tenant("alpha")] {
        let text = to_text(&loaded.findings, &loaded.sources, audience, Style::Plain);
        assert!(
            !text.contains('\u{1b}'),
            "a control character reaches the terminal"
        );
        black_box(to_json(&loaded.findings, &loaded.sources, audience));
    }
    if let Some(model) = &loaded.model {
        for &what in What::ALL {
            black_box(table(what, model).to_text());
        }
    }
});
