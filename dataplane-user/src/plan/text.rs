//! A plan as a person reads it: the network, objects by owner, reachability, what is refused, one line
//! to sum up.

use std::fmt::{self, Display};

use netmodel::ids::TenantName;
use netmodel::model::{Origin, Tenant};
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
        let is_whole = difference.is_first || difference.is_last;
        let shown = if is_whole { OWNERS } else { owners.len() };
        for objects in owners.iter().take(shown) {
            let owner = objects.first().and_then(|change| change.owner.as_ref());
            self.line(owner.map_or("Platform", TenantName::as_str));
            self.owned(objects, is_whole);
            self.line("");
        }
        if owners.len() > shown {
            self.line(&format!("and {} more tenants", owners.len() - shown));
            self.line("");
        }
    }

    /// What one owner has. Whole tenants that come or go are one line and a count.
    fn owned(&mut self, objects: &[ObjectChange], is_whole: bool) {
        let tenant = objects
            .iter()
            .find(|change| change.kind == ObjectKind::Tenant);
        let whole = tenant.filter(|change| matches!(change.action, Action::Add | Action::Remove));
        if !is_whole && whole.is_none() {
            objects.iter().for_each(|change| self.object(change));
            return;
        }
        if let Some(tenant) = whole {
            let said = whole_tenant(objects, tenant);
            self.titled(tenant.action, &format!("tenant {}", tenant.name), &said);
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
            let action = objects.iter().map(|change| change.action);
            let action = action.filter(|action| *action != Action::Change).min();
            self.marked(action.unwrap_or(Action::Change), &counts.join(", "));
        }
    }

    fn object(&mut self, change: &ObjectChange) {
        if change.kind == ObjectKind::Setting {
            for attribute in &change.attributes {
                self.titled(change.action, &attribute.name, &difference_of(attribute));
            }
            return;
        }
        let said = match change.action {
            Action::Remove => String::new(),
            Action::Add => told_briefly(change),
            Action::Change | Action::Replace => {
                let told = change.attributes.iter();
                let told = told.map(|a| format!("{} {}", a.name, difference_of(a)));
                told.collect::<Vec<_>>().join("; ")
            }
        };
        let title = match change.kind {
            // It says itself what it is.
            ObjectKind::Rule => change.name.clone(),
            ObjectKind::Tenant
            | ObjectKind::Segment
            | ObjectKind::Scope
            | ObjectKind::Host
            | ObjectKind::Reservation
            | ObjectKind::Record
            | ObjectKind::Service
            | ObjectKind::Setting => format!("{} {}", change.kind.words().0, change.name),
        };
        self.titled(change.action, &title, &said);
    }

    /// A title, and what there is to say of it in a column of its own.
    fn titled(&mut self, action: Action, title: &str, said: &str) {
        self.marked(action, &format!("{title:<24}  {said}"));
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
        self.line(&format!("Map entries: {}", maps.join(", ")));
        self.line("");
    }

    fn reachability(&mut self, difference: &Difference) {
        let mut objects = difference.objects.iter();
        let has_new_host =
            objects.any(|change| change.kind == ObjectKind::Host && change.action == Action::Add);
        let summary = match difference.reachability.is_empty() {
            false if difference.is_first => {
                "All of it is new: `bulkhead show matrix` has who reaches whom."
            }
            false if difference.is_last => "Nobody reaches anything any more.",
            false => "",
            true if has_new_host => "New hosts are reachable as their segments are.",
            true => return,
        };
        self.line("Reachability");
        if !summary.is_empty() {
            self.line(&format!("    {summary}"));
            self.line("");
            return;
        }
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

/// What is special about a tenant that comes: where it is, and what it is for.
fn whole_tenant(objects: &[ObjectChange], tenant: &ObjectChange) -> String {
    if tenant.action == Action::Remove {
        return String::new();
    }
    let mut said = Vec::new();
    for segment in objects.iter().filter(|c| c.kind == ObjectKind::Segment) {
        let vlan_id = value(segment, "vlan_id").map(|id| format!("VLAN {id}"));
        let subnet = value(segment, "subnet").or(value(segment, "subnet6"));
        said.extend(vlan_id.into_iter().chain(subnet.map(str::to_owned)));
    }
    said.extend(value(tenant, "description").map(str::to_owned));
    said.join(", ")
}

fn value<'c>(change: &'c ObjectChange, name: &str) -> Option<&'c str> {
    let mut attributes = change.attributes.iter();
    attributes
        .find(|attribute| attribute.name == name)?
        .new
        .as_deref()
}

/// `1500 -> 1400`; of lists, what is in only one of them.
fn difference_of(attribute: &Attribute) -> String {
    let items = |value: &Option<String>| -> Vec<String> {
        let items = value.iter().flat_map(|value| value.split(", "));
        items.map(str::to_owned).collect()
    };
    let (old, new) = (items(&attribute.old), items(&attribute.new));
    if let ([old], [new]) = (old.as_slice(), new.as_slice()) {
        return format!("{old} -> {new}");
    }
    let added = new.iter().filter(|item| !old.contains(item));
    let removed = old.iter().filter(|item| !new.contains(item));
    let added = added.map(|item| format!("+ {item}"));
    let told: Vec<String> = added
        .chain(removed.map(|item| format!("- {item}")))
        .collect();
    match told.is_empty() {
        true => "in another order".to_owned(),
        false => told.join(", "),
    }
}

/// What is worth a word of a new object.
fn told_briefly(change: &ObjectChange) -> String {
    let attributes = change.attributes.iter();
    let said: Vec<String> = match change.kind {
        ObjectKind::Host => return told_host(change),
        ObjectKind::Reservation | ObjectKind::Record => {
            attributes.filter_map(|a| a.new.clone()).collect()
        }
        ObjectKind::Tenant
        | ObjectKind::Segment
        | ObjectKind::Scope
        | ObjectKind::Service
        | ObjectKind::Rule
        | ObjectKind::Setting => attributes.filter_map(unusual).collect(),
    };
    said.join(", ")
}

/// `eth0 main 02:00:5e:00:53:01 192.0.2.10`.
fn told_host(change: &ObjectChange) -> String {
    let mut interfaces: Vec<(&str, Vec<&str>)> = Vec::new();
    let owner = change.owner.as_ref().map(|owner| format!("{owner}/"));
    for attribute in &change.attributes {
        let (Some((interface, _)), Some(value)) =
            (attribute.name.split_once(' '), attribute.new.as_deref())
        else {
            continue;
        };
        let value = owner
            .as_deref()
            .and_then(|owner| value.strip_prefix(owner))
            .unwrap_or(value);
        match interfaces.last_mut() {
            Some((last, values)) if *last == interface => values.push(value),
            _ => interfaces.push((interface, vec![value])),
        }
    }
    let interfaces = interfaces.into_iter();
    let interfaces = interfaces.map(|(name, values)| format!("{name} {}", values.join(" ")));
    interfaces.collect::<Vec<_>>().join("; ")
}

/// `vlan_id 100`, but no value that nearly everyone has.
fn unusual(attribute: &Attribute) -> Option<String> {
    let value = attribute.new.as_deref()?;
    let is_usual = (attribute.name.as_str(), value) == ("mtu", "1500");
    let is_gateway = attribute.name.starts_with("gateway");
    let is_built_in = attribute.name.strip_prefix("limits.").is_some_and(|limit| {
        let mut built_in = Tenant::built_in_limits().into_iter();
        built_in.any(|(name, built_in)| name == limit && built_in == value)
    });
    (!is_usual && !is_gateway && !is_built_in).then(|| format!("{} {value}", attribute.name))
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
