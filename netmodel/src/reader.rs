//! Reads files of a tree into values, within bounds.

use std::sync::Arc;

use crate::Bounds;
use crate::finding::{Code, Finding};
use crate::source::{FileId, Place, Realm, Shelf, Source};
use crate::tree::{Tree, TreeError, join};
use crate::yaml::{self, Kind, Value, YamlBounds};

/// What is in an inventory file.
pub(crate) enum Content {
    /// A map, or nothing at all.
    Map(Option<Arc<Value>>),
    /// The whole file is encrypted.
    Encrypted,
    /// Nothing of use; a finding says why.
    Useless,
}

/// Reads the files of one tree.
pub(crate) struct Reader<'a> {
    /// The tree.
    pub(crate) tree: &'a dyn Tree,
    /// Whose tree it is.
    pub(crate) realm: Realm,
    /// What it may cost.
    pub(crate) bounds: Bounds,
    /// Where the files are kept.
    pub(crate) sources: &'a mut Shelf,
    /// Where findings go.
    pub(crate) findings: &'a mut Vec<Finding>,
    /// Files read so far.
    pub(crate) files: usize,
    /// Their octets.
    pub(crate) bytes: u64,
}

impl Reader<'_> {
    /// Is there a file of this name in the folder?
    pub(crate) fn exists(&self, dir: &str, name: &str) -> bool {
        self.tree
            .list(dir)
            .is_ok_and(|entries| entries.iter().any(|entry| entry.name == name))
    }

    /// Reads a file of YAML whose top level must be a map.
    pub(crate) fn yaml(&mut self, path: &str) -> (FileId, Content) {
        let (file, text) = self.text(path);
        let Some(text) = text else {
            return (file, Content::Useless);
        };
        if text.trim_start().starts_with("$ANSIBLE_VAULT") {
            return (file, Content::Encrypted);
        }
        let before = self.findings.len();
        let bounds = YamlBounds {
            depth: self.bounds.depth,
            nodes: self.bounds.nodes,
        };
        let root = yaml::compose(&text, file, bounds, self.findings);
        let content = match root {
            None if self.findings.len() > before => Content::Useless,
            None => Content::Map(None),
            Some(value) if value.is_null() => Content::Map(None),
            Some(value) if matches!(value.kind, Kind::Map(_)) => Content::Map(Some(value)),
            Some(value) => {
                self.findings.push(
                    Finding::new(
                        Code::YamlShape,
                        format!(
                            "the file must be a map of variables, this is {}",
                            value.describe()
                        ),
                        value.place,
                    )
                    .help("write `name: value` at the top level"),
                );
                Content::Useless
            }
        };
        (file, content)
    }

    /// Reads a file as text; `None` with a finding if that does not work.
    pub(crate) fn text(&mut self, path: &str) -> (FileId, Option<Arc<str>>) {
        self.files += 1;
        if self.files > self.bounds.files {
            let file = self.register(path, "".into());
            if self.files == self.bounds.files + 1 {
                self.findings.push(
                    Finding::new(
                        Code::Bounds,
                        format!("more than {} files in the tree", self.bounds.files),
                        Place::file(file),
                    )
                    .label("this file and all behind it are not read")
                    .help("merge the files of a folder into fewer"),
                );
            }
            return (file, None);
        }
        match self.tree.read(path, self.bounds.file_bytes) {
            Ok(bytes) if self.bytes + bytes.len() as u64 > self.bounds.total_bytes => {
                let file = self.register(path, "".into());
                let total = self.bounds.total_bytes;
                self.findings.push(
                    Finding::new(
                        Code::Bounds,
                        format!("the files of the tree are larger than {total} octets together"),
                        Place::file(file),
                    )
                    .label("this file is not read")
                    .help("an inventory is text written by people; remove what does not belong"),
                );
                (file, None)
            }
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                self.decode(path, bytes)
            }
            Err(error) => {
                let file = self.register(path, "".into());
                self.findings.push(unreadable(&error, Place::file(file)));
                (file, None)
            }
        }
    }

    fn decode(&mut self, path: &str, bytes: Vec<u8>) -> (FileId, Option<Arc<str>>) {
        match String::from_utf8(bytes) {
            Ok(text) => {
                // A byte order mark is no part of the text, and would shift the first line.
                let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(&text).into();
                (self.register(path, Arc::clone(&text)), Some(text))
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let file = self.register(path, "".into());
                self.findings.push(
                    Finding::new(
                        Code::Unreadable,
                        "the file is not UTF-8 text",
                        Place::file(file),
                    )
                    .label(format!("octet {at} is not UTF-8"))
                    .help("save it as UTF-8"),
                );
                (file, None)
            }
        }
    }

    /// Makes a file known under its shown path.
    pub(crate) fn register(&mut self, path: &str, text: Arc<str>) -> FileId {
        self.sources.add(Source {
            path: join(self.tree.root(), path).into(),
            text,
            realm: self.realm.clone(),
        })
    }
}

/// The finding for a path that could not be read.
pub(crate) fn unreadable(error: &TreeError, place: Place) -> Finding {
    match error {
        TreeError::Escapes => Finding::new(
            Code::PathEscape,
            "this path leads out of the tenant's folder",
            place,
        )
        .note("a symbolic link in a tenant's tree may only point into the same tree")
        .help("replace the link by the file"),
        TreeError::TooLarge(limit) => Finding::new(
            Code::Bounds,
            format!("the file is larger than {limit} octets"),
            place,
        )
        .help("an inventory file is text written by people; split it"),
        TreeError::NotFound | TreeError::NotAFile | TreeError::Os(_) => Finding::new(
            Code::Unreadable,
            format!("cannot read the file: {error}"),
            place,
        )
        .help("make it a readable file, or remove it"),
    }
}
