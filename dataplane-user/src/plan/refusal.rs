//! Why a plan may not be applied, and what to do about it.

use std::fmt;

use serde_json::{Value, json};

use super::destroy::NAMED;
use crate::can::Unmet;

/// Why a plan may not be applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// More goes than was allowed.
    Destroys {
        /// How many objects go.
        count: usize,
        /// How many may.
        allowed: usize,
        /// The first few, see [`super::Destroyed::names`].
        names: Vec<String>,
        /// How many are not named.
        unnamed: usize,
    },
    /// The kernel enforces segments that are not meant any more, and the store that knows more of them is lost.
    Forgotten {
        /// Their VLAN ids.
        vlans: Vec<u16>,
        /// How many may go.
        allowed: usize,
    },
    /// There is nothing left of what every site has.
    Empty {
        /// `segments`, `tenants`, `policies`.
        empty: Vec<&'static str>,
        /// The count that confirms it.
        needed: usize,
    },
    /// A flow that no plan may remove.
    ProtectedFlow {
        /// The flow, and what decides otherwise.
        unmet: Unmet,
        /// Does the new inventory still protect it?
        is_listed: bool,
    },
    /// An expectation of the new inventory is not met.
    PolicyTest(Unmet),
}

impl Refusal {
    /// Returns its name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Destroys { .. } => "destroys",
            Self::Forgotten { .. } => "forgotten",
            Self::Empty { .. } => "empty",
            Self::ProtectedFlow { .. } => "protected-flow",
            Self::PolicyTest(_) => "policy-test",
        }
    }

    /// Returns what else is to be known: names, places, rules.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Destroys { names, unnamed, .. } => {
                let more = (*unnamed > 0).then(|| format!("and {unnamed} more"));
                names.iter().cloned().chain(more).collect()
            }
            Self::Forgotten { vlans, .. } => {
                let named = vlans.iter().take(NAMED).map(|vlan| format!("VLAN {vlan}"));
                let more = vlans.len().saturating_sub(NAMED);
                let more = (more > 0).then(|| format!("and {more} more"));
                named.chain(more).collect()
            }
            Self::Empty { .. } => Vec::new(),
            Self::ProtectedFlow { unmet, .. } | Self::PolicyTest(unmet) => {
                let mut notes = vec![format!("{}:{}", unmet.origin.file, unmet.origin.line)];
                notes.extend(unmet.notes.iter().cloned());
                notes
            }
        }
    }

    /// Returns what to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Destroys { count, .. } => {
                format!("if they are meant to go: --allow-destroy {count}")
            }
            Self::Forgotten { vlans, .. } => format!(
                "restore the store from the backup; or if they are meant to go: --allow-destroy {}",
                vlans.len()
            ),
            Self::Empty { needed, .. } => format!(
                "check that the inventory was read whole; if this is meant: --allow-destroy {needed}"
            ),
            Self::ProtectedFlow {
                is_listed: true, ..
            } => "restore what allowed it; or remove the entry from `protected_flows` in a plan of its own first"
                .to_owned(),
            Self::ProtectedFlow {
                is_listed: false, ..
            } => "apply the shorter `protected_flows` in a plan of its own, then this".to_owned(),
            Self::PolicyTest(_) => "correct the policy or the test".to_owned(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "code": self.code(),
            "message": self.to_string(),
            "notes": self.notes(),
            "remedy": self.remedy(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destroys {
                count: 1,
                allowed: 0,
                ..
            } => f.write_str("1 object would be destroyed"),
            Self::Destroys {
                count, allowed: 0, ..
            } => write!(f, "{count} objects would be destroyed"),
            Self::Destroys { count, allowed, .. } => {
                write!(f, "{count} objects would be destroyed, {allowed} may be")
            }
            Self::Forgotten { vlans, allowed } => {
                let count = vlans.len();
                write!(
                    f,
                    "{count} segments that the kernel enforces would go, {allowed} may"
                )?;
                f.write_str("; what else would, only the lost store knew")
            }
            Self::Empty { empty, .. } => {
                write!(f, "there would be no {} left", empty.join(", no "))
            }
            Self::ProtectedFlow { unmet, .. } => {
                write!(
                    f,
                    "protected flow {} would be {}",
                    unmet.flow, unmet.verdict
                )
            }
            Self::PolicyTest(unmet) => write!(f, "policy test: {unmet}"),
        }
    }
}
