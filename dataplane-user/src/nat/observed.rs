//! The table as the kernel has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use nftables::expr::{Expression, NamedExpression};
use nftables::schema::{NfListObject, Rule};
use nftables::stmt::{Counter, Statement};
use serde_json::Value;

use super::desired::Ruleset;
use super::table::{SetName, objects, table};

/// What there is of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observed {
    /// No table.
    Absent,
    /// `nft` cannot tell what is in the table; it did not come from us.
    Unreadable(String),
    /// The table.
    Present(Found),
}

/// What is in the table. Without what the kernel adds: handles and counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Elements of each set, as text.
    sets: BTreeMap<String, BTreeSet<String>>,
    /// Everything else, in the kernel's order: sets without elements, chains, rules, and what is not ours.
    objects: Vec<Object>,
    /// What the guards dropped.
    pub(super) drops: Drops,
}

/// Packets dropped since the table was last replaced, by the guard's name.
pub type Drops = BTreeMap<String, u64>;

/// A part of the table.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Object {
    /// `set`, `chain`, `rule` or what else `nft` calls it.
    kind: String,
    /// Its name; of a rule, its chain's.
    name: String,
    /// What it is, in a form that can be compared.
    form: String,
}

impl Object {
    fn is_rule(&self) -> bool {
        self.kind == "rule"
    }
}

impl Observed {
    /// Reads what `nft -j list table` says.
    pub(super) fn parse(listing: &str) -> Self {
        let Ok(Value::Object(top)) = serde_json::from_str(listing) else {
            return Self::Unreadable("nft cannot tell what is in it".to_owned());
        };
        let mut found = Found::default();
        for object in top
            .get("nftables")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            found.add(object);
        }
        Self::Present(found)
    }

    /// Returns what the guards of the table dropped.
    #[must_use]
    pub fn drops(&self) -> Drops {
        match self {
            Self::Present(found) => found.drops.clone(),
            Self::Absent | Self::Unreadable(_) => Drops::new(),
        }
    }
}

impl Found {
    /// Returns what would be found after the table was made.
    pub(super) fn wanted(ruleset: &Ruleset) -> Self {
        let mut found = Self::default();
        for object in std::iter::once(table()).chain(objects(ruleset)) {
            found.add_known(object);
        }
        found
    }

    /// Returns everything but rules and elements: what cannot be changed in place.
    pub(super) fn frame(&self) -> BTreeSet<(&str, &str, &str)> {
        let lasting = self.objects.iter().filter(|object| !object.is_rule());
        lasting
            .map(|o| (o.kind.as_str(), o.name.as_str(), o.form.as_str()))
            .collect()
    }

    /// Returns the rules of each chain, in order.
    pub(super) fn rules(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut rules: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for rule in self.objects.iter().filter(|object| object.is_rule()) {
            let chain = rules.entry(rule.name.as_str()).or_default();
            chain.push(rule.form.as_str());
        }
        rules
    }

    /// Returns the elements of a set: those of `self` that `other` has not.
    pub(super) fn elements_beyond<'s>(
        &'s self,
        other: &'s Self,
        set: SetName,
    ) -> impl Iterator<Item = &'s str> {
        let theirs = other.sets.get(set.name());
        let ours = self.sets.get(set.name()).into_iter().flatten();
        ours.filter(move |element| theirs.is_none_or(|theirs| !theirs.contains(*element)))
            .map(String::as_str)
    }

    fn add(&mut self, object: &Value) {
        // What the library does not know is none of ours; it does not know the flags of tables (dormant).
        let has_flags = object["table"]["flags"] != Value::Null;
        match serde_json::from_value::<NfListObject>(object.clone()) {
            Ok(NfListObject::MetainfoObject(_)) => {}
            Ok(known) if !has_flags => self.add_known(known),
            Ok(_) | Err(_) => {
                let content = object.as_object().and_then(|object| object.iter().next());
                let (kind, content) = content.unzip();
                let name = content.and_then(|c| c["name"].as_str().or(c["chain"].as_str()));
                self.objects.push(Object {
                    kind: kind.cloned().unwrap_or_default(),
                    name: name.unwrap_or("?").to_owned(),
                    form: object.to_string(),
                });
            }
        }
    }

    fn add_known(&mut self, mut object: NfListObject) {
        let (kind, name) = self.take_out(&mut object);
        // The library's form, not nft's: versions of nft write the same thing in several ways.
        let form = serde_json::to_string(&object).unwrap_or_else(|error| error.to_string());
        self.objects.push(Object {
            kind: kind.to_owned(),
            name,
            form,
        });
    }

    /// Takes out of an object what is no part of its form. Returns its kind and name.
    fn take_out(&mut self, object: &mut NfListObject) -> (&'static str, String) {
        if let NfListObject::Table(table) = object {
            table.handle = None;
            return ("table", table.name.to_string());
        }
        if let NfListObject::Set(set) = object {
            set.handle = None;
            let elements = set.elem.take().unwrap_or_default();
            let elements = elements.iter().map(text_of).collect();
            self.sets.insert(set.name.to_string(), elements);
            return ("set", set.name.to_string());
        }
        if let NfListObject::Chain(chain) = object {
            chain.handle = None;
            return ("chain", chain.name.to_string());
        }
        if let NfListObject::Rule(rule) = object {
            self.take_counts(rule);
            return ("rule", rule.chain.to_string());
        }
        ("object", "of another kind".to_owned())
    }

    fn take_counts(&mut self, rule: &mut Rule) {
        (rule.handle, rule.index) = (None, None);
        let mut packets = None;
        for statement in rule.expr.to_mut() {
            if let Statement::Counter(Counter::Anonymous(counter)) = statement {
                packets = counter.take().and_then(|counter| counter.packets);
            }
        }
        if let (Some(comment), Some(packets)) = (&rule.comment, packets) {
            let count = self.drops.entry(comment.to_string()).or_default();
            *count += u64::try_from(packets).unwrap_or(u64::MAX);
        }
    }
}

/// Returns an element of a set as [`super::table::SetName::elements`] writes it.
fn text_of(element: &Expression) -> String {
    if let Expression::String(text) = element {
        // nft writes a prefix of full length as an address.
        let address = text.parse::<IpAddr>();
        return address.map_or(text.to_string(), |a| IpNet::from(a).to_string());
    }
    if let Expression::Named(NamedExpression::Prefix(prefix)) = element
        && let Expression::String(address) = prefix.addr.as_ref()
    {
        return format!("{address}/{}", prefix.len);
    }
    serde_json::to_string(element).unwrap_or_else(|error| error.to_string())
}
