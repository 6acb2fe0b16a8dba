//! Which connections a change makes possible, and which it cuts, in words.
//!
//! # Guarantees
//!
//! * **Exact.** Both generations' tables are compared, nothing is evaluated a second time: for two
//!   addresses and a port, the packet path decides differently after the change if and only if one of
//!   the lines is about them. Sources that nobody can use (edges of a subnet, the router's own
//!   addresses, a segment of which every frame is dropped) are nobody's connections.
//! * **Linear.** The cost is that of looking at every address once, plus what changes.
//! * **Grouped.** A line names parties, not addresses: a host that the rules do not name is its segment.

mod compare;
mod found;
mod names;
mod pairs;
mod space;
#[cfg(test)]
mod tests;
mod within;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use netmodel::Model;
use netmodel::ids::TenantName;
use netmodel::model::{Origin, TenantId};
use serde::Serialize;

use self::compare::Comparison;
use self::found::{Change, Who};
use self::names::{Named, Names, Role};
use self::space::{Side, Sides};
pub(super) use self::within::{Within, within};
use super::Build;
use crate::can::{Service, is_everything, joined};
use crate::compile::{DestinationKind, Own, Tables, Way};

/// How many names a line has before "and N more".
const LISTED: usize = 4;

/// What happens to connections.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// They are cut, those that run included.
    Cut,
    /// They become possible.
    Opened,
    /// They stay possible between the same parties, at other addresses.
    Moved,
}

/// Connections that become possible, or are cut, together.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ReachabilityChange {
    /// What happens to them.
    pub effect: Effect,
    /// Who opens them.
    pub from: Vec<String>,
    /// To whom.
    pub to: Vec<String>,
    /// On which ports; empty is every protocol and port.
    pub services: Vec<String>,
    /// Set if only one of two possible address families is concerned: 4 or 6.
    pub only_family: Option<u8>,
    /// The rule that allows them; allowed them, if they are cut.
    pub rule: String,
    /// Where that is said.
    pub origins: Vec<Origin>,
    /// Every tenant that takes part.
    pub tenants: BTreeSet<TenantName>,
}

impl fmt::Display for ReachabilityChange {
    /// `iot may no longer open tcp/8883 to grooveiq`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (list(&self.from), list(&self.to));
        let what = match self.services.as_slice() {
            [] => "any connection".to_owned(),
            services => list(services),
        };
        let is_gateway = self.to == [GATEWAY];
        let verb = if is_gateway { "use" } else { "open" };
        let preposition = if is_gateway { "on" } else { "to" };
        match self.effect {
            Effect::Opened => write!(f, "{from} may {verb} {what} {preposition} {to}")?,
            Effect::Cut => write!(f, "{from} may no longer {verb} {what} {preposition} {to}")?,
            Effect::Moved => write!(
                f,
                "{from} keeps {what} {preposition} {to}, at new addresses"
            )?,
        }
        match self.only_family {
            Some(family) => write!(f, " (IPv{family} only)"),
            None => Ok(()),
        }
    }
}

const GATEWAY: &str = "its own gateway";
const ROUTER: &str = "the router";

/// Lists the first few names.
fn list(names: &[String]) -> String {
    match names.get(..LISTED) {
        Some(first) if names.len() > LISTED + 1 => {
            format!("{} and {} more", first.join(", "), names.len() - LISTED)
        }
        _ => names.join(", "),
    }
}

/// Returns what changes between two builds.
pub(super) fn changes(old: Option<&Build>, new: &Build) -> Vec<ReachabilityChange> {
    let empty = Tables::empty();
    let old_tables = old.map_or(&empty, |build| &build.tables);
    let comparison = Comparison::new(old_tables, &new.tables);
    let models = Sides {
        old: old.map(|build| &build.model),
        new: Some(&new.model),
    };
    tell(&comparison, models)
}

/// Puts changes into words; those that read alike are one.
fn tell<'s>(
    comparison: &Comparison<'s>,
    models: Sides<Option<&'s Model>>,
) -> Vec<ReachabilityChange> {
    let changes = comparison.changes();
    let names = Names::new(comparison, models, &changes);
    let teller = Teller {
        comparison,
        names: &names,
    };
    let mut told: BTreeMap<Words, Told> = BTreeMap::new();
    for change in &changes {
        for (words, one) in teller.tell(change) {
            told.entry(words).or_default().add(one);
        }
    }
    into_lines(told)
}

/// What a line says; families and places aside.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Words {
    from: Vec<String>,
    to: Vec<String>,
    services: Vec<String>,
    is_gain: bool,
    rule: String,
}

/// What is known about a line beside its words.
#[derive(Clone, Debug, Default)]
struct Told {
    families: BTreeSet<u8>,
    /// Could it be about both families?
    is_dual: bool,
    origins: Vec<Origin>,
    tenants: BTreeSet<TenantName>,
}

impl Told {
    fn add(&mut self, other: Self) {
        self.families.extend(other.families);
        self.is_dual |= other.is_dual;
        self.tenants.extend(other.tenants);
        for origin in other.origins {
            if !self.origins.contains(&origin) {
                self.origins.push(origin);
            }
        }
    }

    fn into_line(self, words: Words, effect: Effect) -> ReachabilityChange {
        let only = self.families.first().copied();
        ReachabilityChange {
            effect,
            from: words.from,
            to: words.to,
            services: words.services,
            only_family: only.filter(|_| self.is_dual && self.families.len() == 1),
            rule: words.rule,
            origins: self.origins,
            tenants: self.tenants,
        }
    }
}

/// Makes lines; what is cut and opened between the same parties has moved.
fn into_lines(mut told: BTreeMap<Words, Told>) -> Vec<ReachabilityChange> {
    let mut lines = Vec::new();
    while let Some((words, one)) = told.pop_first() {
        let moved = take_twin(&mut told, &words, &one);
        let effect = match (&moved, words.is_gain) {
            (Some(_), _) => Effect::Moved,
            (None, true) => Effect::Opened,
            (None, false) => Effect::Cut,
        };
        let line = moved.unwrap_or(one);
        lines.push(line.into_line(words, effect));
    }
    lines.sort_by(|a, b| (a.effect, &a.from, &a.to).cmp(&(b.effect, &b.from, &b.to)));
    lines
}

/// Takes what is opened between the parties of what is cut, on the same services and families.
fn take_twin(told: &mut BTreeMap<Words, Told>, words: &Words, one: &Told) -> Option<Told> {
    if words.is_gain {
        return None;
    }
    let least = Words {
        is_gain: true,
        rule: String::new(),
        ..words.clone()
    };
    let (twin, _) = told.range(&least..).next().filter(|(twin, other)| {
        let is_alike =
            (&twin.from, &twin.to, &twin.services) == (&words.from, &words.to, &words.services);
        is_alike && other.families == one.families
    })?;
    let twin = twin.clone();
    told.remove(&twin)
}

/// Tells one change after the other.
struct Teller<'t, 's> {
    comparison: &'t Comparison<'s>,
    names: &'t Names<'t, 's>,
}

impl Teller<'_, '_> {
    fn tell(&self, change: &Change) -> Vec<(Words, Told)> {
        let side = if change.is_gain { Side::New } else { Side::Old };
        match &change.who {
            Who::All(from, to) => {
                let to_named = self.names.name(Role::Destination, side, to);
                vec![self.tell_one(change, side, from, to_named)]
            }
            Who::Own(pairs) => {
                let mut by_name: BTreeMap<Vec<String>, (BTreeSet<usize>, Named)> = BTreeMap::new();
                for &(from, to) in pairs {
                    let named = self.name_own(side, to);
                    let name = self.family_and(from, &named.names);
                    let entry = by_name.entry(name).or_insert((BTreeSet::new(), named));
                    entry.0.insert(from);
                }
                let told = by_name.into_values();
                told.map(|(from, to)| self.tell_one(change, side, &from, to))
                    .collect()
            }
        }
    }

    /// Keeps families apart: names are of one family's groups.
    fn family_and(&self, from: usize, names: &[String]) -> Vec<String> {
        let is_ipv4 = self.comparison.space.sources.groups[from].key.is_ipv4;
        [vec![is_ipv4.to_string()], names.to_vec()].concat()
    }

    /// Names an address of the router for the sources that it serves.
    fn name_own(&self, side: Side, to: usize) -> Named {
        let DestinationKind { way, own } = self.comparison.space.destinations.groups[to]
            .key
            .kinds
            .of(side);
        let name = match (own, way) {
            (Some(Own::Gateway(_) | Own::AnyGateway), Way::Never) => GATEWAY,
            (Some(_), _) => ROUTER,
            (None, _) => {
                return self
                    .names
                    .name(Role::Destination, side, &BTreeSet::from([to]));
            }
        };
        Named {
            names: vec![name.to_owned()],
            is_dual: true,
            ..Named::default()
        }
    }

    fn tell_one(
        &self,
        change: &Change,
        side: Side,
        from: &BTreeSet<usize>,
        to: Named,
    ) -> (Words, Told) {
        let sources = &self.comparison.space.sources.groups;
        let is_ipv4 = from.first().is_some_and(|&i| sources[i].key.is_ipv4);
        let from = self.names.name(Role::Source, side, from);
        let tenants: BTreeSet<TenantId> = from.tenants.union(&to.tenants).copied().collect();
        let (rule, origins) = self.rule(side, change.rule, &tenants);
        let is_gateway = to.names == [GATEWAY];
        let words = Words {
            services: self.services(&change.services, is_gateway),
            from: from.names,
            to: to.names,
            is_gain: change.is_gain,
            rule,
        };
        let told = Told {
            families: BTreeSet::from([if is_ipv4 { 4 } else { 6 }]),
            is_dual: from.is_dual && to.is_dual,
            origins,
            tenants: self.names.tenants(side, &tenants).into_iter().collect(),
        };
        (words, told)
    }

    /// Returns the rule in words, and where it is said for these tenants.
    fn rule(&self, side: Side, id: u32, tenants: &BTreeSet<TenantId>) -> (String, Vec<Origin>) {
        let tables = self.comparison.space.tables.of(side);
        let Some(entry) = tables.rule(id) else {
            return ("built in".to_owned(), Vec::new());
        };
        let mut origins = entry.origins.clone();
        origins.extend(
            tenants
                .iter()
                .filter_map(|id| entry.grants.get(id))
                .cloned(),
        );
        (entry.text.clone(), origins)
    }

    fn services(&self, services: &[usize], is_gateway: bool) -> Vec<String> {
        let services = services.iter().map(|&i| &self.comparison.services[i]);
        if is_gateway {
            let names = services.clone().filter_map(Service::gateway_name);
            let names: BTreeSet<&str> = names.collect();
            return names.into_iter().map(str::to_owned).collect();
        }
        let services = joined(services.cloned());
        if is_everything(&services) {
            return Vec::new();
        }
        services.iter().map(Service::label).collect()
    }
}
