//! `hosts.yml`: groups in groups, hosts in groups, variables of both.

use std::collections::HashSet;
use std::sync::Arc;

use super::{GroupIndex, HostIndex, Inventory, Vars, range};
use crate::finding::{Code, Finding};
use crate::reader::{Content, Reader};
use crate::source::Place;
use crate::yaml::{Entry, Kind, Value};

/// Reads the hosts file. Always has the group `all`.
pub(super) fn read(reader: &mut Reader<'_>) -> Inventory {
    let mut inventory = Inventory::default();
    inventory.ensure_group("all");
    let name = ["hosts.yml", "hosts.yaml"]
        .into_iter()
        .find(|name| reader.exists("", name));
    let Some(name) = name else {
        let file = reader.register("hosts.yml", "".into());
        reader.findings.push(
            Finding::new(Code::Unreadable, "there is no hosts.yml", Place::file(file))
                .note("an inventory without hosts must say so: a missing file may be a mistake")
                .help("write `all: {}` into it if there are no hosts"),
        );
        inventory.is_unreadable = true;
        return inventory;
    };
    let (_, content) = reader.yaml(name);
    let Content::Map(Some(root)) = content else {
        inventory.is_unreadable = !matches!(content, Content::Map(_));
        return inventory;
    };
    let mut builder = Builder {
        inventory: &mut inventory,
        findings: reader.findings,
        max_hosts: reader.bounds.hosts,
        links: HashSet::new(),
        memberships: HashSet::new(),
    };
    for entry in entries(&root) {
        let group = builder.inventory.ensure_group(&entry.key);
        if group != 0 {
            builder.link(0, group, entry.key_place);
        }
        builder.group(group, entry);
    }
    builder.break_cycles();
    builder.measure_depth();
    inventory
}

fn entries(value: &Value) -> &[Entry] {
    match &value.kind {
        Kind::Map(entries) => entries,
        Kind::Scalar(_) | Kind::List(_) | Kind::Opaque(_) => &[],
    }
}

/// Ansible allows more or less everything; what no terminal, path or name survives is refused.
fn is_host_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/')
}

struct Builder<'a> {
    inventory: &'a mut Inventory,
    findings: &'a mut Vec<Finding>,
    max_hosts: usize,
    links: HashSet<(GroupIndex, GroupIndex)>,
    memberships: HashSet<(GroupIndex, HostIndex)>,
}

impl Builder<'_> {
    fn group(&mut self, group: GroupIndex, entry: &Entry) {
        let Some(body) = self.map(&entry.value, "a group") else {
            return;
        };
        for part in entries(&body) {
            match &*part.key {
                "hosts" => self.hosts(group, &part.value),
                "children" => self.children(group, &part.value),
                "vars" => {
                    let vars = self.vars(&part.value, "the variables of a group");
                    self.inventory.groups[group].inline.extend(vars);
                }
                other => {
                    self.findings.push(
                        Finding::new(
                            Code::UnknownKey,
                            format!("a group has no `{other}`"),
                            part.key_place,
                        )
                        .note("a group may have `hosts`, `children` and `vars`")
                        .help(format!(
                            "if `{other}` is a group, write it under `children:`; if it is a \
                             host, under `hosts:`"
                        )),
                    );
                }
            }
        }
    }

    fn children(&mut self, parent: GroupIndex, value: &Arc<Value>) {
        let Some(body) = self.map(value, "`children`") else {
            return;
        };
        for entry in entries(&body) {
            let child = self.inventory.ensure_group(&entry.key);
            self.link(parent, child, entry.key_place);
            self.group(child, entry);
        }
    }

    fn link(&mut self, parent: GroupIndex, child: GroupIndex, place: Place) {
        let groups = &mut self.inventory.groups;
        if self.links.insert((parent, child)) {
            groups[parent].children.push((child, place));
            groups[child].parents.push(parent);
        }
    }

    fn hosts(&mut self, group: GroupIndex, value: &Arc<Value>) {
        let Some(body) = self.map(value, "`hosts`") else {
            return;
        };
        for entry in entries(&body) {
            let room = self.max_hosts.saturating_sub(self.inventory.hosts.len());
            let Some(names) = range::expand(&entry.key, room) else {
                self.findings.push(
                    Finding::new(
                        Code::Bounds,
                        format!("more than {} hosts", self.max_hosts),
                        entry.key_place,
                    )
                    .help("check the range in the host's name"),
                );
                return;
            };
            let vars = self.vars(&entry.value, "the variables of a host");
            if !is_host_name(&entry.key) {
                self.findings.push(
                    Finding::new(
                        Code::InvalidValue,
                        "this cannot be a host's name",
                        entry.key_place,
                    )
                    .note("a tenant's host is named TENANT/HOST elsewhere")
                    .help("use letters, digits, `-` and `.`"),
                );
                continue;
            }
            for name in names {
                let index = self.inventory.ensure_host(&name, entry.key_place);
                let host = &mut self.inventory.hosts[index];
                if self.memberships.insert((group, index)) {
                    host.groups.push(group);
                }
                host.inline
                    .extend(vars.iter().map(|(k, v)| (Arc::clone(k), v.clone())));
            }
        }
    }

    fn vars(&mut self, value: &Arc<Value>, what: &str) -> Vars {
        let body = self.map(value, what);
        let entries = body.as_deref().map_or(&[][..], entries);
        entries
            .iter()
            .map(|entry| (Arc::clone(&entry.key), entry.clone()))
            .collect()
    }

    /// Returns a map; `None` for nothing, and with a finding for anything else.
    fn map(&mut self, value: &Arc<Value>, what: &str) -> Option<Arc<Value>> {
        if matches!(value.kind, Kind::Map(_)) {
            return Some(Arc::clone(value));
        }
        if !value.is_null() {
            self.findings.push(
                Finding::new(
                    Code::WrongType,
                    format!("{what} must be a map, this is {}", value.describe()),
                    value.place,
                )
                .help("write each name as a key: `name: {}`"),
            );
        }
        None
    }

    /// Removes every link that closes a cycle, so that the rest can rely on there being none.
    fn break_cycles(&mut self) {
        let mut state = vec![Visit::New; self.inventory.groups.len()];
        for start in 0..state.len() {
            if state[start] == Visit::New {
                self.visit(start, &mut state);
            }
        }
    }

    fn visit(&mut self, start: GroupIndex, state: &mut [Visit]) {
        // (group, next child): an explicit stack, the depth is the input's choice.
        let mut path = vec![(start, 0)];
        state[start] = Visit::Open;
        while let Some((group, next)) = path.last_mut() {
            let group = *group;
            let Some(&(child, place)) = self.inventory.groups[group].children.get(*next) else {
                state[group] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match state[child] {
                Visit::Done => {}
                Visit::New => {
                    state[child] = Visit::Open;
                    path.push((child, 0));
                }
                Visit::Open => {
                    *next -= 1;
                    self.unlink(group, child, place);
                }
            }
        }
    }

    fn unlink(&mut self, parent: GroupIndex, child: GroupIndex, place: Place) {
        let groups = &mut self.inventory.groups;
        groups[parent].children.retain(|(known, _)| *known != child);
        groups[child].parents.retain(|known| *known != parent);
        let (parent, child) = (&groups[parent].name, &groups[child].name);
        let message = if parent == child {
            format!("the group `{child}` is its own child")
        } else {
            format!("the groups `{child}` and `{parent}` contain each other")
        };
        self.findings.push(
            Finding::new(Code::GroupCycle, message, place)
                .label(format!("`{child}` is already above `{parent}`"))
                .help("remove one of the two from the other's `children`"),
        );
    }

    /// Depth is the longest path from `all`. Kahn's algorithm: a group once all its parents are done.
    fn measure_depth(&mut self) {
        let groups = &mut self.inventory.groups;
        let mut waiting: Vec<usize> = groups.iter().map(|group| group.parents.len()).collect();
        let mut ready: Vec<GroupIndex> = (0..groups.len())
            .filter(|&group| waiting[group] == 0)
            .collect();
        while let Some(group) = ready.pop() {
            for (child, _) in groups[group].children.clone() {
                groups[child].depth = groups[child].depth.max(groups[group].depth + 1);
                waiting[child] -= 1;
                if waiting[child] == 0 {
                    ready.push(child);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Visit {
    New,
    Open,
    Done,
}
