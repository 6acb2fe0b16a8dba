//! What was prepared, as an operator sees it: what changes, what becomes reachable, what is refused.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{EnforcementChange, Prepared};
use crate::cli::Paint;
use crate::plan::objects::Action;
use crate::plan::{Difference, NetworkChange, Plan, Summary};
use crate::store;

/// A change of something in the kernel.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub enum KernelChange {
    /// In the programs or maps.
    Enforcement(EnforcementChange),
}

impl fmt::Display for KernelChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforcement(change) => change.fmt(f),
        }
    }
}

impl NetworkChange for KernelChange {
    fn action(&self) -> Action {
        match self {
            Self::Enforcement(EnforcementChange::Attach { .. }) => Action::Add,
            Self::Enforcement(_) => Action::Change,
        }
    }
}

/// A change, reviewed.
pub struct Review<'p> {
    prepared: &'p Prepared,
    difference: Difference,
    kernel: Vec<KernelChange>,
    /// Refusals count.
    is_checked: bool,
}

impl<'p> Review<'p> {
    /// Looks at what was prepared. `allow_destroy`: how many objects may be destroyed; `None`: whatever the change is, it is
    /// not refused (it goes back to what was).
    #[must_use]
    pub fn new(prepared: &'p Prepared, allow_destroy: Option<usize>) -> Self {
        let most = allow_destroy.unwrap_or(usize::MAX);
        let difference = Difference::new(prepared.old.as_ref(), &prepared.new, most);
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
        self.difference.is_empty() && self.kernel.is_empty()
    }

    /// Must it not be applied?
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_checked && !self.difference.refusals.is_empty()
    }

    /// Returns why it must not be applied, in one line.
    #[must_use]
    pub fn refusals(&self) -> String {
        let refusals = self.difference.refusals.iter().map(ToString::to_string);
        refusals.collect::<Vec<_>>().join("; ")
    }

    /// Returns what the record of a generation says of it.
    #[must_use]
    pub fn summary(&self) -> store::Summary {
        let summary = Summary::of(&self.plan());
        store::Summary {
            add: summary.add,
            change: summary.change,
            destroy: summary.destroy,
        }
    }

    /// Returns one line that sums it up.
    #[must_use]
    pub fn summary_line(&self) -> String {
        Summary::of(&self.plan()).to_string()
    }

    /// Returns what tells this plan from every other one.
    ///
    /// # Panics
    ///
    /// Never: a plan is made of text, numbers and lists.
    #[must_use]
    pub fn digest(&self) -> String {
        let prepared = self.prepared;
        let parts = (&prepared.base, &prepared.inventory, self.to_json());
        let text = serde_json::to_vec(&parts).expect("a plan can be written as JSON");
        netmodel::published::digest(&text)
    }

    /// Returns it for people.
    #[must_use]
    pub fn to_text(&self, paint: Paint) -> String {
        self.plan().to_text(paint)
    }

    /// Returns it for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.plan().to_json()
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
        changes.cloned().map(KernelChange::Enforcement).collect()
    }
}
