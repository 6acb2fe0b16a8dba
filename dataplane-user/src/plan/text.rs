//! A plan as a person reads it: the network, objects by owner, reachability, what is refused, one line
//! to sum up.

use std::fmt::{self, Display};

use netmodel::ids::TenantName;
use netmodel::model::Origin;
use serde::Serialize;

use super::objects::{Action, Attribute, ObjectChange, ObjectKind};
use super::reachability::{Effect, ReachabilityChange};
use super::{Difference, Refusal};
use crate::cli::Paint;

/// So many lines of reachability are shown; JSON has all.
const REACHABILITY: usize = 40;
/// So many owners are shown when there was nothing before.
const OWNERS: usize = 20;
/// So many places of a rule are shown.
const PLACES: usize = 2;

/// A change of a link, an address or the like, told by whoever makes it.
pub trait NetworkChange: Display + Serialize {
    /// What happens to the thing.
    fn action(&self) -> Action;
}

/// Everything that an apply would do.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p, N> {
    /// Changes of links and addresses.
    pub network: &'p [N],
    /// Changes of what is desired.
    pub difference: &'p Difference,
    /// The generation in force, if there is one.
    pub generation: Option<u32>,
}

/// What a plan comes to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// Objects that are new, replaced ones included.
    pub add: usize,
    /// Objects of which an attribute changes.
    pub change: usize,
    /// Objects that go, replaced ones included: what `--allow-destroy` counts.
    pub destroy: usize,
    /// Rules and settings that are added, changed or removed.
    pub rules: usize,
    /// Changes of links and addresses.
    pub network: usize,
    /// Lines of connections that become possible.
    pub opened: usize,
    /// Lines of connections that are cut.
    pub cut: usize,
    /// Lines of connections whose addresses change.
    pub moved: usize,
}

impl Summary {
    fn of(network: usize, difference: &Difference) -> Self {
        let is_rule = |kind| matches!(kind, ObjectKind::Rule | ObjectKind::Setting);
        let mut summary = Self {
            network,
            ..Self::default()
        };
        for change in &difference.objects {
            if is_rule(change.kind) {
                summary.rules += 1;
                continue;
            }
            match change.action {
                Action::Add => summary.add += 1,
                Action::Change => summary.change += 1,
                Action::Remove => summary.destroy += 1,
                Action::Replace => {
                    summary.add += 1;
                    summary.destroy += 1;
                }
            }
        }
        for change in &difference.reachability {
            match change.effect {
                Effect::Opened => summary.opened += 1,
                Effect::Cut => summary.cut += 1,
                Effect::Moved => summary.moved += 1,
            }
        }
        summary
    }
}

impl Display for Summary {
    /// `Plan: 3 to add, 1 to change, 0 to destroy. 2 connections become possible, 1 is cut.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            add,
            change,
            destroy,
            ..
        } = self;
        write!(
            f,
            "Plan: {add} to add, {change} to change, {destroy} to destroy"
        )?;
        if self.rules > 0 {
            write!(f, ", {}", counted(self.rules, "rule", "rules"))?;
        }
        if self.network > 0 {
            write!(f, ", {} on the network", self.network)?;
        }
        f.write_str(".")?;
        let mut said = Vec::new();
        if self.opened > 0 {
            let verb = if self.opened == 1 {
                "becomes"
            } else {
                "become"
            };
            let opened = counted(self.opened, "connection", "connections");
            said.push(format!("{opened} {verb} possible"));
        }
        for (count, what) in [(self.cut, "cut"), (self.moved, "moved")] {
            let noun = match (said.is_empty(), count) {
                (true, 1) => " connection",
                (true, _) => " connections",
                (false, _) => "",
            };
            let is = if count == 1 { "is" } else { "are" };
            if count > 0 {
                said.push(format!("{count}{noun} {is} {what}"));
            }
        }
        match said.is_empty() {
            true => Ok(()),
            false => write!(f, " {}.", said.join(", ")),
        }
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

impl<N: NetworkChange> Plan<'_, N> {
    /// Is there nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.network.is_empty() && self.difference.is_empty()
    }

    /// Returns what it comes to.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(self.network.len(), self.difference)
    }

    /// Returns the last line: what it comes to, or that there is nothing to do.
    #[must_use]
    pub fn summary_line(&self) -> String {
        match (self.is_empty(), self.generation) {
            (false, _) => self.summary().to_string(),
            (true, Some(number)) => {
                format!("No changes. The kernel is as the inventory says (generation {number}).")
            }
            (true, None) => "No changes: the inventory is empty.".to_owned(),
        }
    }

    /// Returns the whole plan.
    #[must_use]
    pub fn to_text(&self, paint: Paint) -> String {
        let mut text = Text {
            text: String::new(),
            paint,
        };
        text.network(self.network);
        text.objects(self.difference);
        text.maps(self.difference);
        text.reachability(self.difference);
        text.refusals(&self.difference.refusals);
        text.text.push_str(&self.summary_line());
        text.text.push('\n');
        text.text
    }
}

struct Text {
    text: String,
    paint: Paint,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A line with a painted mark.
    fn marked(&mut self, action: Action, line: &str) {
        let mark = action.mark();
        let painted = match action {
            Action::Add => self.paint.good(mark),
            Action::Change => self.paint.middling(mark),
            Action::Remove | Action::Replace => self.paint.bad(mark),
        };
        let pad = " ".repeat(3_usize.saturating_sub(mark.len()));
        self.line(&format!("{pad}{painted} {line}"));
    }

    fn network<N: NetworkChange>(&mut self, changes: &[N]) {
        if changes.is_empty() {
            return;
        }
        self.line("Network");
        for change in changes {
            self.marked(change.action(), &change.to_string());
        }
        self.line("");
    }

    fn objects(&mut self, difference: &Difference) {
        let owners: Vec<&[ObjectChange]> = difference
            .objects
            .chunk_by(|a, b| a.owner == b.owner)
            .collect();
        let shown = if difference.is_first {
            OWNERS
        } else {
            owners.len()
        };
        for objects in owners.iter().take(shown) {
            let owner = objects.first().and_then(|change| change.owner.as_ref());
            self.line(owner.map_or("Platform", TenantName::as_str));
            self.owned(objects, difference.is_first);
            self.line("");
        }
        if owners.len() > shown {
            self.line(&format!("and {} more tenants\n", owners.len() - shown));
        }
    }

    /// What one owner has. Whole tenants that come or go are one line and a count.
    fn owned(&mut self, objects: &[ObjectChange], is_first: bool) {
        let tenant = objects
            .iter()
            .find(|change| change.kind == ObjectKind::Tenant);
        let whole = tenant.filter(|change| change.action != Action::Change);
        let is_folded = is_first || whole.is_some();
        if let Some(tenant) = whole {
            self.object(tenant);
        }
        if !is_folded {
            objects.iter().for_each(|change| self.object(change));
            return;
        }
        let mut counts: Vec<String> = Vec::new();
        for of_kind in objects.chunk_by(|a, b| a.kind == b.kind) {
            let kind = of_kind.first().map(|change| change.kind);
            if let Some(kind) = kind.filter(|kind| *kind != ObjectKind::Tenant) {
                let (one, several) = kind.words();
                counts.push(counted(of_kind.len(), one, several));
            }
        }
        if !counts.is_empty() {
            let action = whole.map_or(Action::Add, |tenant| tenant.action);
            self.marked(action, &counts.join(", "));
        }
    }

    fn object(&mut self, change: &ObjectChange) {
        let kind = change.kind.words().0;
        let said: Vec<String> = match change.action {
            Action::Remove => Vec::new(),
            Action::Add => change.attributes.iter().filter_map(brief).collect(),
            Action::Change | Action::Replace => change.attributes.iter().map(differing).collect(),
        };
        let name = match change.kind {
            // It says itself what it is.
            ObjectKind::Rule => change.name.clone(),
            _ => format!("{kind} {}", change.name),
        };
        self.marked(change.action, &format!("{name:<24}  {}", said.join(", ")));
    }

    fn maps(&mut self, difference: &Difference) {
        if difference.maps.is_empty() || difference.is_first {
            return;
        }
        let maps = difference.maps.iter().map(|change| {
            let counts = [
                ("+", change.added),
                ("~", change.changed),
                ("-", change.removed),
            ];
            let counts = counts.iter().filter(|(_, count)| *count > 0);
            let counts: String = counts
                .map(|(mark, count)| format!(" {mark}{count}"))
                .collect();
            format!("{}{counts}", change.map)
        });
        let maps: Vec<String> = maps.collect();
        self.line(&format!("Map entries: {}\n", maps.join(", ")));
    }

    fn reachability(&mut self, difference: &Difference) {
        if difference.reachability.is_empty() {
            return;
        }
        if difference.is_first {
            self.line("Reachability");
            self.line("  All of it is new: `bulkhead show matrix` has who reaches whom.\n");
            return;
        }
        self.line("Reachability");
        for change in difference.reachability.iter().take(REACHABILITY) {
            let action = match change.effect {
                Effect::Opened => Action::Add,
                Effect::Cut => Action::Remove,
                Effect::Moved => Action::Change,
            };
            self.marked(action, &change.to_string());
            self.line(&format!("      {}", why(change)));
        }
        let count = difference.reachability.len();
        if count > REACHABILITY {
            let more = count - REACHABILITY;
            self.line(&format!("    and {more} more: --format json has all"));
        }
        self.line("");
    }

    fn refusals(&mut self, refusals: &[Refusal]) {
        if refusals.is_empty() {
            return;
        }
        self.line(&self.paint.bad("Refused"));
        for refusal in refusals {
            self.marked_refusal(&refusal.to_string());
            for note in refusal.notes() {
                self.line(&format!("      {note}"));
            }
            self.line(&format!("    -> {}", refusal.remedy()));
        }
        self.line("");
    }

    fn marked_refusal(&mut self, line: &str) {
        let mark = self.paint.bad("!");
        self.line(&format!("  {mark} {line}"));
    }
}

/// `mtu 1500 -> 1400`.
fn differing(attribute: &Attribute) -> String {
    let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let Attribute { name, old, new } = attribute;
    format!("{name} {} -> {}", side(old), side(new))
}

/// What is worth a word of a new object: `vlan_id 100`, but no value that nearly everyone has.
fn brief(attribute: &Attribute) -> Option<String> {
    let value = attribute.new.as_deref()?;
    let usual = [
        ("kind", "vlan"),
        ("state", "present"),
        ("mtu", "1500"),
        ("form", "vm"),
    ];
    match attribute.name.as_str() {
        name if usual.contains(&(name, value)) || name.starts_with("gateway") => None,
        "value" | "description" => Some(value.to_owned()),
        name => Some(format!("{name} {value}")),
    }
}

/// The rule, and where it is said.
fn why(change: &ReachabilityChange) -> String {
    let was = match change.effect {
        Effect::Cut => "was: ",
        Effect::Opened | Effect::Moved => "",
    };
    let places = change.origins.iter().take(PLACES);
    let mut places: Vec<String> = places.map(place).collect();
    if change.origins.len() > PLACES {
        places.push(format!("and {} more", change.origins.len() - PLACES));
    }
    match places.is_empty() {
        true => format!("{was}{}", change.rule),
        false => format!("{was}{}, {}", change.rule, places.join(", ")),
    }
}

fn place(origin: &Origin) -> String {
    format!("{}:{}", origin.file, origin.line)
}
