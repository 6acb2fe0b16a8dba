//! `group_vars` and `host_vars`: which files, in which order.

use std::sync::Arc;

use super::{FileVars, Inventory};
use crate::finding::{Code, Finding};
use crate::reader::{Content, Reader, unreadable};
use crate::source::Place;
use crate::tree::{DirEntry, EntryKind, TreeError, join};
use crate::yaml::Kind;

/// Extensions that Ansible reads, in its order of preference.
const EXTENSIONS: [&str; 4] = ["", ".yml", ".yaml", ".json"];

/// Folders in folders, at most.
const MAX_FOLDERS: usize = 8;

/// Reads the variables of all groups and hosts.
pub(super) fn read(inventory: &mut Inventory, reader: &mut Reader<'_>) {
    for owner in owners("group_vars", reader) {
        let vars = owner.read(reader);
        match inventory.group(&owner.name) {
            Some(group) => inventory.groups[group].files = vars,
            // The tenant's own group needs no hosts to have variables.
            None if reader.is_own_group(&owner.name) => {
                let group = inventory.ensure_group(&owner.name);
                inventory.groups[0]
                    .children
                    .push((group, owner.place(reader)));
                inventory.groups[group].parents.push(0);
                inventory.groups[group].depth = 1;
                inventory.groups[group].files = vars;
            }
            None if inventory.is_unreadable => {}
            None => owner.unused("group", reader),
        }
    }
    for owner in owners("host_vars", reader) {
        match inventory.host(&owner.name) {
            Some(host) => inventory.hosts[host].files = owner.read(reader),
            None if inventory.is_unreadable => {}
            None => owner.unused("host", reader),
        }
    }
}

impl Reader<'_> {
    fn is_own_group(&self, name: &str) -> bool {
        matches!(&self.realm, crate::source::Realm::Tenant(tenant) if **tenant == *name)
    }
}

/// What `group_vars` or `host_vars` has for one name.
struct Owner {
    name: String,
    /// Path of the file or folder that is read.
    path: String,
    kind: EntryKind,
}

/// Lists what a variables folder has, one entry per group or host, and warns of hidden files.
fn owners(folder: &str, reader: &mut Reader<'_>) -> Vec<Owner> {
    let entries = match reader.tree.list(folder) {
        Ok(entries) => entries,
        Err(TreeError::NotFound) => return Vec::new(),
        Err(error) => {
            let file = reader.register(folder, "".into());
            reader.findings.push(unreadable(&error, Place::file(file)));
            return Vec::new();
        }
    };
    let mut owners: Vec<Owner> = Vec::new();
    let mut ranked: Vec<(&str, usize, &DirEntry)> = entries
        .iter()
        .filter(|entry| !is_ignored(&entry.name))
        .filter_map(|entry| rank(entry).map(|(name, rank)| (name, rank, entry)))
        .collect();
    ranked.sort_by_key(|(name, rank, _)| (*name, *rank));
    for (name, _, entry) in ranked {
        let path = join(folder, &entry.name);
        match owners.last() {
            Some(first) if first.name == name => warn_hidden(first, &path, reader),
            Some(_) | None => owners.push(Owner {
                name: name.to_owned(),
                path,
                kind: entry.kind,
            }),
        }
    }
    owners
}

/// The group or host that an entry is for, and how it ranks: a folder before every file.
fn rank(entry: &DirEntry) -> Option<(&str, usize)> {
    if entry.kind == EntryKind::Dir {
        return Some((&entry.name, 0));
    }
    let found = EXTENSIONS
        .iter()
        .enumerate()
        .skip(1)
        .find_map(|(rank, extension)| {
            entry
                .name
                .strip_suffix(extension)
                .map(|name| (name, rank + 1))
        });
    match found {
        Some(found) => Some(found),
        None => (!entry.name.contains('.')).then_some((&*entry.name, 1)),
    }
}

fn warn_hidden(first: &Owner, hidden: &str, reader: &mut Reader<'_>) {
    let file = reader.register(hidden, "".into());
    let what = match first.kind {
        EntryKind::Dir => "folder",
        EntryKind::File => "file",
    };
    let name = reader.tree.root();
    let shown = join(name, &first.path);
    reader.findings.push(
        Finding::new(
            Code::HiddenByDirectory,
            format!("this file is hidden by the {what} `{shown}` and is not read"),
            Place::file(file),
        )
        .help(match first.kind {
            EntryKind::Dir => "move it into the folder, or remove it",
            EntryKind::File => "keep one of the two",
        }),
    );
}

/// Editors' leftovers, as Ansible ignores them.
fn is_ignored(name: &str) -> bool {
    name.starts_with('.')
        || name.ends_with('~')
        || name.ends_with(".bak")
        || name.ends_with(".orig")
}

impl Owner {
    fn place(&self, reader: &mut Reader<'_>) -> Place {
        Place::file(reader.register(&self.path, "".into()))
    }

    fn read(&self, reader: &mut Reader<'_>) -> FileVars {
        let mut vars = FileVars::default();
        match self.kind {
            EntryKind::File => read_file(&self.path, &mut vars, reader),
            EntryKind::Dir => read_folder(&self.path, 0, &mut vars, reader),
        }
        vars
    }

    fn unused(&self, what: &str, reader: &mut Reader<'_>) {
        let place = self.place(reader);
        reader.findings.push(
            Finding::new(
                Code::UnusedVars,
                format!(
                    "no {what} is called `{}`: its variables are not read",
                    self.name
                ),
                place,
            )
            .help(format!(
                "add the {what} to hosts.yml, or remove the variables"
            )),
        );
    }
}

/// Loads a folder's files, recursively, in name order; a later file's variable replaces an earlier's.
fn read_folder(path: &str, depth: usize, vars: &mut FileVars, reader: &mut Reader<'_>) {
    let entries = match reader.tree.list(path) {
        Ok(entries) if depth < MAX_FOLDERS => entries,
        Ok(_) => {
            let file = reader.register(path, "".into());
            reader.findings.push(
                Finding::new(
                    Code::Bounds,
                    format!("folders are nested deeper than {MAX_FOLDERS} levels"),
                    Place::file(file),
                )
                .help("move the files up"),
            );
            return;
        }
        Err(error) => {
            let file = reader.register(path, "".into());
            reader.findings.push(unreadable(&error, Place::file(file)));
            return;
        }
    };
    for entry in entries.iter().filter(|entry| !is_ignored(&entry.name)) {
        let path = join(path, &entry.name);
        match entry.kind {
            EntryKind::Dir => read_folder(&path, depth + 1, vars, reader),
            EntryKind::File if has_known_extension(&entry.name) => read_file(&path, vars, reader),
            EntryKind::File => {}
        }
    }
}

fn has_known_extension(name: &str) -> bool {
    !name.contains('.')
        || EXTENSIONS
            .iter()
            .skip(1)
            .any(|extension| name.ends_with(extension))
}

fn read_file(path: &str, vars: &mut FileVars, reader: &mut Reader<'_>) {
    let (file, content) = reader.yaml(path);
    match content {
        Content::Encrypted => vars.encrypted.push(file),
        Content::Map(None) | Content::Useless => {}
        Content::Map(Some(root)) => {
            if let Kind::Map(entries) = &root.kind {
                let entries = entries.iter().map(|e| (Arc::clone(&e.key), e.clone()));
                vars.vars.extend(entries);
            }
        }
    }
}
