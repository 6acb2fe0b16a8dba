//! Small inventories out of text: `-- path --` starts a file, as in Go's txtar.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use netmodel::finding::{Audience, Style, to_text};
use netmodel::tree::MemTree;
use netmodel::{Loaded, Options, load_trees};

/// Files by path, `site/…` and `tenants/…`.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A healthy small site with two tenants.
pub(crate) const BASE: &str = include_str!("../fixtures/base.txt");

/// Splits an archive into files.
pub(crate) fn files(archive: &str) -> Files {
    let mut files = Files::new();
    let mut current: Option<PathBuf> = None;
    for line in archive.split_terminator('\n') {
        let header = line
            .strip_prefix("-- ")
            .and_then(|rest| rest.strip_suffix(" --"));
        if let Some(path) = header {
            files.insert(path.into(), Vec::new());
            current = Some(path.into());
        } else if let Some(path) = &current {
            let text = files.get_mut(path).unwrap();
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
    }
    files
}

/// The base with files added or replaced; a file that is `REMOVED` is taken away.
pub(crate) fn base_with(archive: &str) -> Files {
    let mut all = files(BASE);
    for (path, text) in files(archive) {
        if text == b"REMOVED\n" {
            all.remove(&path);
        } else {
            all.insert(path, text);
        }
    }
    all
}

/// The files below a folder, relative to it.
pub(crate) fn below(files: &Files, folder: &str) -> Files {
    let relative = |path: &Path| path.strip_prefix(folder).ok().map(Path::to_path_buf);
    files
        .iter()
        .filter_map(|(path, text)| Some((relative(path)?, text.clone())))
        .collect()
}

/// Loads `site/` and `tenants/`.
pub(crate) fn load_files(files: &Files) -> Loaded {
    load_with(files, &Options::default())
}

/// Loads `site/` and `tenants/` with other options.
pub(crate) fn load_with(files: &Files, options: &Options) -> Loaded {
    let site = MemTree::new("site", &below(files, "site"));
    let tenants = MemTree::new("tenants", &below(files, "tenants"));
    load_trees(&site, Some(&tenants), options)
}

/// Findings as the platform admin sees them.
pub(crate) fn text(loaded: &Loaded) -> String {
    to_text(
        &loaded.findings,
        &loaded.sources,
        Audience::Platform,
        Style::Plain,
    )
}

/// The codes of all findings.
pub(crate) fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded
        .findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect()
}
