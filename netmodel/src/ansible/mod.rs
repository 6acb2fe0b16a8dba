//! An Ansible inventory: hosts, groups and the variables that hold for each of them.
//!
//! Precedence, lowest first: variables in `hosts.yml` (groups', then the host's), `group_vars/all`,
//! the other groups' from parent to child (by depth, then by name), `host_vars`. A variable of a
//! higher place replaces one of a lower place; maps are never merged.

mod filters;
mod hosts;
pub(crate) mod jinja;
mod range;
mod scope;
mod vars;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::reader::Reader;
use crate::source::{FileId, Place};
use crate::yaml::Entry;

pub(crate) use scope::{Scope, Target};

/// Index into [`Inventory::hosts`].
pub(crate) type HostIndex = usize;
/// Index into [`Inventory::groups`]; 0 is `all`.
pub(crate) type GroupIndex = usize;

/// Variables by name.
pub(crate) type Vars = BTreeMap<Arc<str>, Entry>;

/// Variables out of `group_vars/X` or `host_vars/X`.
#[derive(Debug, Default)]
pub(crate) struct FileVars {
    /// Those that can be read.
    pub(crate) vars: Vars,
    /// Files that are encrypted whole.
    pub(crate) encrypted: Vec<FileId>,
}

/// A group of hosts.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Groups that contain it.
    pub(crate) parents: Vec<GroupIndex>,
    /// Groups in it, with the place where that is said.
    pub(crate) children: Vec<(GroupIndex, Place)>,
    /// Longest path from `all`.
    pub(crate) depth: usize,
    /// `vars` in `hosts.yml`.
    pub(crate) inline: Vars,
    /// `group_vars`.
    pub(crate) files: FileVars,
}

/// A host.
#[derive(Debug)]
pub(crate) struct InventoryHost {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Where it is listed first.
    pub(crate) place: Place,
    /// Groups that list it.
    pub(crate) groups: Vec<GroupIndex>,
    /// Variables in `hosts.yml`.
    pub(crate) inline: Vars,
    /// `host_vars`.
    pub(crate) files: FileVars,
    /// All groups it is in, lowest precedence first; filled when the groups are complete.
    pub(crate) ancestry: Vec<GroupIndex>,
}

/// A whole inventory.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// All groups.
    pub(crate) groups: Vec<Group>,
    /// All hosts, in file order.
    pub(crate) hosts: Vec<InventoryHost>,
    /// The hosts file could not be read: which names are unknown is not known either.
    is_unreadable: bool,
    group_by_name: HashMap<Arc<str>, GroupIndex>,
    host_by_name: HashMap<Arc<str>, HostIndex>,
}

impl Inventory {
    /// Reads `hosts.yml`, `group_vars` and `host_vars`.
    pub(crate) fn load(reader: &mut Reader<'_>) -> Self {
        let mut inventory = hosts::read(reader);
        vars::read(&mut inventory, reader);
        inventory.arrange();
        inventory
    }

    /// Drops what is said about single hosts.
    pub(crate) fn forget_host_vars(&mut self) {
        for host in &mut self.hosts {
            (host.inline, host.files) = Default::default();
        }
    }

    /// Returns a group by name.
    pub(crate) fn group(&self, name: &str) -> Option<GroupIndex> {
        self.group_by_name.get(name).copied()
    }

    /// Returns a host by name.
    pub(crate) fn host(&self, name: &str) -> Option<HostIndex> {
        self.host_by_name.get(name).copied()
    }

    /// Returns a group by name, making it if it is new.
    fn ensure_group(&mut self, name: &str) -> GroupIndex {
        if let Some(index) = self.group(name) {
            return index;
        }
        let name: Arc<str> = name.into();
        let index = self.groups.len();
        self.group_by_name.insert(Arc::clone(&name), index);
        self.groups.push(Group {
            name,
            parents: Vec::new(),
            children: Vec::new(),
            depth: 0,
            inline: Vars::new(),
            files: FileVars::default(),
        });
        index
    }

    /// Returns a host by name, making it if it is new.
    fn ensure_host(&mut self, name: &str, place: Place) -> HostIndex {
        if let Some(index) = self.host(name) {
            return index;
        }
        let name: Arc<str> = name.into();
        let index = self.hosts.len();
        self.host_by_name.insert(Arc::clone(&name), index);
        self.hosts.push(InventoryHost {
            name,
            place,
            groups: Vec::new(),
            inline: Vars::new(),
            files: FileVars::default(),
            ancestry: Vec::new(),
        });
        index
    }

    /// Orders each host's groups by precedence.
    fn arrange(&mut self) {
        for index in 0..self.hosts.len() {
            let direct = self.hosts[index].groups.clone();
            self.hosts[index].ancestry = self.ancestry(&direct);
        }
    }

    /// Returns `all`, the groups given and all that contain them, lowest precedence first.
    pub(crate) fn ancestry(&self, direct: &[GroupIndex]) -> Vec<GroupIndex> {
        let mut found = HashSet::from([0]);
        let mut open = direct.to_vec();
        while let Some(group) = open.pop() {
            if found.insert(group) {
                open.extend(&self.groups[group].parents);
            }
        }
        let mut found: Vec<GroupIndex> = found.into_iter().collect();
        found.sort_by(|&a, &b| {
            let key = |index: GroupIndex| {
                let group = &self.groups[index];
                (index != 0, group.depth, &group.name)
            };
            key(a).cmp(&key(b))
        });
        found
    }
}
