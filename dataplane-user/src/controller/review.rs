//! What was prepared, as an operator sees it: what changes, what becomes reachable, what is refused.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{EnforcementChange, Prepared};
use crate::cli::Paint;
use crate::nat::{self, NatChange};
use crate::network;
use crate::plan::objects::Action;
use crate::plan::{Difference, NetworkChange, Plan, Refusal};
use crate::store;

/// A change of something in the kernel.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub(super) enum KernelChange {
    /// In the programs or maps.
    Enforcement(EnforcementChange),
    /// In links, addresses, sysctls.
    Network(network::Change),
    /// In the uplinks' table.
    Nat(NatChange),
}

impl fmt::Display for KernelChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            Self::Enforcement(change) => change.to_string(),
            Self::Network(change) => change.to_string(),
            Self::Nat(change) => change.to_string(),
        };
        // The mark is told by the action.
        f.write_str(line.trim_start_matches(['+', '~', '-', ' ']))
    }
}

impl NetworkChange for KernelChange {
    fn action(&self) -> Action {
        match self {
            Self::Enforcement(
                EnforcementChange::Attach { .. } | EnforcementChange::AttachPort { .. },
            ) => Action::Add,
            Self::Enforcement(_) => Action::Change,
            Self::Network(change) => match change.action() {
                network::Action::Create => Action::Add,
                network::Action::Change => Action::Change,
                network::Action::Remove => Action::Remove,
            },
            Self::Nat(change) => match change.action {
                nat::Action::Create => Action::Add,
                nat::Action::Update => Action::Change,
                nat::Action::Remove => Action::Remove,
            },
        }
    }
}

/// A change, reviewed.
pub struct Review<'p> {
    prepared: &'p Prepared,
    difference: Difference,
    kernel: Vec<KernelChange>,
    /// What is in the way counts.
    is_checked: bool,
}

impl<'p> Review<'p> {
    /// Looks at what was prepared. `allow_destroy`: how many objects may be destroyed; `None`: any number, and what is in the way does
    /// not hinder either (it goes back to what was). No plan cuts a protected flow.
    #[must_use]
    pub fn new(prepared: &'p Prepared, allow_destroy: Option<usize>) -> Self {
        let most = allow_destroy.unwrap_or(usize::MAX);
        let mut difference = Difference::new(prepared.old.as_ref(), &prepared.new, most);
        if prepared.forgotten.len() > most {
            difference.refusals.push(Refusal::Forgotten {
                vlans: prepared.forgotten.clone(),
                allowed: most,
            });
        }
        Self {
            kernel: prepared.kernel_changes(&difference),
            is_checked: allow_destroy.is_some(),
            prepared,
            difference,
        }
    }

    /// Returns what was prepared.
    #[must_use]
    pub fn prepared(&self) -> &'p Prepared {
        self.prepared
    }

    /// Is there nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_mended = self.prepared.unreadable.is_none();
        self.difference.is_empty() && self.kernel.is_empty() && is_mended
    }

    /// Must it not be applied?
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let conflicts = &self.prepared.network.conflicts;
        !self.difference.refusals.is_empty() || (self.is_checked && !conflicts.is_empty())
    }

    /// Returns why it must not be applied, in one line.
    #[must_use]
    pub fn refusals(&self) -> String {
        let refusals = self.difference.refusals.iter().map(ToString::to_string);
        let conflicts = self.prepared.network.conflicts.iter();
        let all = refusals.chain(conflicts.map(ToString::to_string));
        all.collect::<Vec<_>>().join("; ")
    }

    /// Returns what the record of a generation says of it.
    #[must_use]
    pub fn summary(&self) -> store::Summary {
        let summary = self.plan().summary();
        store::Summary {
            add: summary.add,
            change: summary.change + summary.rules + summary.network,
            destroy: summary.destroy,
        }
    }

    /// Returns one line that sums it up.
    #[must_use]
    pub fn summary_line(&self) -> String {
        self.plan().summary_line()
    }

    /// Returns what tells this plan from every other one.
    ///
    /// # Panics
    ///
    /// Never: a plan is made of text, numbers and lists.
    #[must_use]
    pub fn digest(&self) -> String {
        let prepared = self.prepared;
        let router = format!("{:?}", prepared.observed.router);
        let desired = (&prepared.base, &prepared.inventory);
        let parts = (desired, router, &prepared.tables, self.to_json());
        let text = serde_json::to_vec(&parts).expect("a plan can be written as JSON");
        netmodel::published::digest(&text)
    }

    /// Returns it for people.
    #[must_use]
    pub fn to_text(&self, paint: Paint) -> String {
        let mut text = String::new();
        if let Some(problem) = &self.prepared.unreadable {
            text.push_str(&format!(
                "note: {problem}\n  so what goes cannot be told from what was never there\n"
            ));
        }
        for (word, list) in self.in_the_way() {
            for conflict in list {
                text.push_str(&format!(
                    "{word}: {}\n  help: {}\n",
                    conflict.what, conflict.remedy
                ));
            }
        }
        let is_refused = !self.difference.refusals.is_empty();
        let is_all = self.difference.is_empty() && self.kernel.is_empty() && !is_refused;
        let plan = if is_all && self.prepared.unreadable.is_some() {
            "Nothing changes in the kernel; an apply mends the store.\n".to_owned()
        } else if is_all && !self.prepared.network.conflicts.is_empty() {
            "Nothing else is to be done.\n".to_owned()
        } else {
            self.plan().to_text(paint)
        };
        if text.is_empty() {
            return plan;
        }
        format!("{text}\n{plan}")
    }

    /// Returns what of the network is not ours and hinders the plan, and what does not hinder it.
    fn in_the_way(&self) -> [(&'static str, &'p [network::Conflict]); 2] {
        let network = &self.prepared.network;
        [("refused", &network.conflicts), ("note", &network.foreign)]
    }

    /// Returns it for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = self.plan().to_json();
        value["conflicts"] = json!(self.prepared.network.conflicts);
        value["unreadable"] = json!(self.prepared.unreadable);
        value["foreign"] = json!(self.prepared.network.foreign);
        value
    }

    fn plan(&self) -> Plan<'_, KernelChange> {
        Plan {
            network: &self.kernel,
            difference: &self.difference,
            generation: self.prepared.base,
        }
    }
}

impl Prepared {
    /// Returns what changes in the kernel for other reasons than that something else is desired.
    fn kernel_changes(&self, difference: &Difference) -> Vec<KernelChange> {
        let is_desired = !difference.maps.is_empty();
        let changes = self.enforcement.iter().filter(|change| {
            // What the difference says already is not said again, table by table.
            !(is_desired && matches!(change, EnforcementChange::Table(_)))
        });
        let enforcement = changes.cloned().map(KernelChange::Enforcement);
        let network = self.network.changes().iter().cloned();
        let nat = self.nat.iter().cloned().map(KernelChange::Nat);
        enforcement
            .chain(network.map(KernelChange::Network))
            .chain(nat)
            .collect()
    }
}
