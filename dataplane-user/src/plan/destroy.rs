//! What a plan destroys, and how much of it is allowed.
//!
//! `--allow-destroy N` counts tenants, segments, hosts, scopes, reservations, DNS records and platform
//! services that exist now and will not afterwards. A segment whose VLAN id or subnet changes counts:
//! to those who are on it, it is gone. Rules do not count: without them less is allowed, and what that
//! cuts is told by `reachability`.
//!
//! A desired state without any segment, tenant or policy where there were some is more likely an
//! inventory that was not read than a wish. It needs the exact count, rules included.

use std::collections::BTreeMap;

use netmodel::Model;
use serde::Serialize;

use super::objects::{Action, ObjectChange, ObjectKind};
use super::{Build, Refusal};

/// So many destroyed objects are named.
pub(super) const NAMED: usize = 10;

/// What is destroyed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Destroyed {
    /// How many of each kind, rules included.
    pub kinds: BTreeMap<ObjectKind, usize>,
    /// What `--allow-destroy` counts: everything but rules.
    pub count: usize,
    /// The first few, in the order of the plan: `segment grooveiq/main`. A tenant that goes stands for
    /// all that it has.
    pub names: Vec<String>,
    /// How many are not named.
    pub unnamed: usize,
}

impl Destroyed {
    /// Counts what the changes destroy.
    #[must_use]
    pub fn of(objects: &[ObjectChange]) -> Self {
        let mut destroyed = Self::default();
        for owned in objects.chunk_by(|a, b| a.owner == b.owner) {
            let gone: Vec<_> = owned.iter().filter(|change| change.destroys()).collect();
            for change in &gone {
                *destroyed.kinds.entry(change.kind).or_default() += 1;
            }
            let counted: Vec<_> = gone.into_iter().filter(|c| counts(c.kind)).collect();
            destroyed.count += counted.len();
            destroyed.name(&counted);
        }
        destroyed
    }

    fn name(&mut self, counted: &[&ObjectChange]) {
        let tenant = counted
            .first()
            .filter(|change| change.kind == ObjectKind::Tenant && change.action == Action::Remove);
        let names: Vec<(String, usize)> = match (tenant, counted.len()) {
            (Some(tenant), count) if count > 1 => {
                let label = format!("{} and the {} objects it has", tenant.label(), count - 1);
                vec![(label, count)]
            }
            _ => counted.iter().map(|change| (change.label(), 1)).collect(),
        };
        for (name, count) in names {
            if self.names.len() < NAMED {
                self.names.push(name);
            } else {
                self.unnamed += count;
            }
        }
    }

    /// Returns how many objects are destroyed, rules included: what an empty desired state needs.
    #[must_use]
    pub fn with_rules(&self) -> usize {
        self.kinds.values().sum()
    }
}

fn counts(kind: ObjectKind) -> bool {
    !matches!(kind, ObjectKind::Rule | ObjectKind::Setting)
}

/// Refuses what destroys more than is allowed.
pub(super) fn check(
    old: Option<&Build>,
    new: &Build,
    destroyed: &Destroyed,
    allowed: usize,
) -> Option<Refusal> {
    let empty = old.map_or_else(Vec::new, |old| emptied(&old.model, &new.model));
    let needed = destroyed.with_rules();
    if !empty.is_empty() {
        return (allowed != needed).then_some(Refusal::Empty { empty, needed });
    }
    (destroyed.count > allowed).then(|| Refusal::Destroys {
        count: destroyed.count,
        allowed,
        names: destroyed.names.clone(),
        unnamed: destroyed.unnamed,
    })
}

/// Returns what there is nothing of any more.
fn emptied(old: &Model, new: &Model) -> Vec<&'static str> {
    let policies = |model: &Model| {
        let tenants = model.tenants.iter();
        let operators = tenants.map(|tenant| tenant.trusted_operators.len() + tenant.accepts.len());
        model.policies.len() + model.internet_zones.len() + operators.sum::<usize>()
    };
    let counts = [
        ("segments", old.segments.len(), new.segments.len()),
        ("tenants", old.tenants.len(), new.tenants.len()),
        ("policies", policies(old), policies(new)),
    ];
    let emptied = counts
        .into_iter()
        .filter(|&(_, old, new)| old > 0 && new == 0);
    emptied.map(|(what, ..)| what).collect()
}
