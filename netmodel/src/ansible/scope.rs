//! Which variables hold for a host, a group, or the whole inventory.

use std::sync::Arc;

use super::jinja::{Engine, TemplateError};
use super::{FileVars, GroupIndex, HostIndex, Inventory, Vars};
use crate::source::{FileId, Place};
use crate::yaml::{Entry, Value};

/// For whom variables are looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// For every host alike.
    All,
    /// For the hosts of a group.
    Group(GroupIndex),
    /// For a host.
    Host(HostIndex),
}

/// The variables that hold for a target.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    inventory: Arc<Inventory>,
    engine: Arc<Engine>,
    target: Target,
    /// Groups whose variables hold, lowest precedence first.
    groups: Arc<[GroupIndex]>,
}

impl Scope {
    /// Makes the scope of a target.
    pub(crate) fn new(inventory: Arc<Inventory>, engine: Arc<Engine>, target: Target) -> Self {
        let groups = match target {
            Target::All => Arc::from([0]),
            Target::Group(group) => inventory.ancestry(&[group]).into(),
            Target::Host(host) => inventory.hosts[host].ancestry.as_slice().into(),
        };
        Self {
            inventory,
            engine,
            target,
            groups,
        }
    }

    /// Returns the same inventory for another target.
    pub(crate) fn of(&self, target: Target) -> Self {
        Self::new(
            Arc::clone(&self.inventory),
            Arc::clone(&self.engine),
            target,
        )
    }

    /// Returns the inventory.
    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Returns the target.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// Returns the variable of the highest precedence.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.layers().find_map(|vars| vars.get(name))
    }

    /// Returns the names of all variables of this scope, each with a place, in name order.
    pub(crate) fn names(&self) -> Vec<(Arc<str>, Place)> {
        let all = self.layers().flat_map(|vars| vars.iter());
        let mut names: Vec<_> = all.map(|(n, e)| (Arc::clone(n), e.key_place)).collect();
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        names
    }

    /// Returns the groups and the host whose variables hold.
    pub(crate) fn members(&self) -> (&[GroupIndex], Option<HostIndex>) {
        (&self.groups, self.host())
    }

    /// Returns the files that are encrypted whole and could hold a variable of this scope.
    pub(crate) fn encrypted(&self) -> Vec<FileId> {
        self.file_vars()
            .flat_map(|files| files.encrypted.iter().copied())
            .collect()
    }

    /// Evaluates the Jinja in a value, if there is any.
    pub(crate) fn evaluate(&self, value: &Arc<Value>) -> Result<Arc<Value>, TemplateError> {
        self.engine.evaluate(value, self)
    }

    /// Variables, highest precedence first.
    fn layers(&self) -> impl Iterator<Item = &Vars> {
        let host = self.host().map(|host| &self.inventory.hosts[host]);
        let groups = || self.groups.iter().rev().map(|&g| &self.inventory.groups[g]);
        self.file_vars()
            .map(|files| &files.vars)
            .chain(host.map(|host| &host.inline))
            .chain(groups().map(|group| &group.inline))
    }

    fn file_vars(&self) -> impl Iterator<Item = &FileVars> {
        let host = self.host().map(|host| &self.inventory.hosts[host].files);
        let groups = self.groups.iter().rev();
        host.into_iter()
            .chain(groups.map(|&group| &self.inventory.groups[group].files))
    }

    fn host(&self) -> Option<HostIndex> {
        match self.target {
            Target::Host(host) => Some(host),
            Target::All | Target::Group(_) => None,
        }
    }
}
