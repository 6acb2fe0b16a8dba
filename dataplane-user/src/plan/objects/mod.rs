//! What is added, changed and removed: tenants, segments, hosts, scopes, reservations, records,
//! services and rules.
//!
//! Things are the same if they have the same name and owner. Only what differs is put into words, so
//! one tenant's edit costs one tenant's lines. Where a thing is said in the inventory is no part of it.

mod attributes;
mod entries;
mod joined;
mod rules;

use netmodel::ids::TenantName;
use netmodel::model::Origin;
use serde::Serialize;

pub use self::entries::{MapChange, map_changes};
use super::Build;

/// What happens to an object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is new.
    Add,
    /// Some of its attributes change.
    Change,
    /// What it is known by on the wire changes: as good as destroyed and created.
    Replace,
    /// It is gone.
    Remove,
}

impl Action {
    /// Returns the mark of its line.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Replace => "-/+",
            Self::Remove => "-",
        }
    }
}

/// What an object is. In the order of the plan.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A registry entry.
    Tenant,
    /// A segment.
    Segment,
    /// The DHCP scope of a segment.
    Scope,
    /// A host with its interfaces.
    Host,
    /// An address that DHCP keeps for a hardware address.
    Reservation,
    /// A DNS record.
    Record,
    /// A platform service.
    Service,
    /// A zone policy, a tenant's rule, an offer, a use, an `accepts` entry.
    Rule,
    /// What there is one of in a site.
    Setting,
}

impl ObjectKind {
    /// Returns its word, for one and for several.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Tenant => ("tenant", "tenants"),
            Self::Segment => ("segment", "segments"),
            Self::Scope => ("scope", "scopes"),
            Self::Host => ("host", "hosts"),
            Self::Reservation => ("reservation", "reservations"),
            Self::Record => ("record", "records"),
            Self::Service => ("service", "services"),
            Self::Rule => ("rule", "rules"),
            Self::Setting => ("setting", "settings"),
        }
    }
}

/// One attribute of an object; absent on the side where it is not set.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Attribute {
    /// As the inventory calls it.
    pub name: String,
    /// Before.
    pub old: Option<String>,
    /// After.
    pub new: Option<String>,
}

/// One object that is added, changed or removed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ObjectChange {
    /// What happens to it.
    pub action: Action,
    /// What it is.
    pub kind: ObjectKind,
    /// The tenant that owns it; `None` is the platform.
    pub owner: Option<TenantName>,
    /// What it is called, without its owner.
    pub name: String,
    /// Its attributes; of a changed object, those that change.
    pub attributes: Vec<Attribute>,
    /// Where it is said; was said, if it is removed.
    pub origin: Option<Origin>,
}

impl ObjectChange {
    /// Is there something that will not be there any more?
    #[must_use]
    pub fn destroys(&self) -> bool {
        matches!(self.action, Action::Remove | Action::Replace)
    }

    /// Returns `segment grooveiq/main`, `host core-rt01`.
    #[must_use]
    pub fn label(&self) -> String {
        let kind = self.kind.words().0;
        match &self.owner {
            // The name of a record is whole, and a tenant is its own owner.
            Some(owner) if !matches!(self.kind, ObjectKind::Tenant | ObjectKind::Record) => {
                format!("{kind} {owner}/{}", self.name)
            }
            Some(_) | None => format!("{kind} {}", self.name),
        }
    }
}

/// Returns every object that is added, changed or removed: the platform's, then each tenant's by name.
pub(super) fn changes(old: Option<&Build>, new: &Build) -> Vec<ObjectChange> {
    let old = old.map(|build| &build.model);
    let mut changes = attributes::changes(old, &new.model);
    changes.extend(rules::changes(old, &new.model));
    changes.sort_by(|a, b| {
        let key = |change: &ObjectChange| (change.owner.clone(), change.kind);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    changes
}
