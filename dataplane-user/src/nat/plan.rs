//! The difference between what should be and what is.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::TABLE;
use super::desired::Ruleset;
use super::observed::{Found, Observed};
use super::table::SetName;

/// What is done to a thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed in place.
    Update,
    /// It is removed.
    Remove,
}

/// One line of the plan. All changes of a plan happen at once, by [`super::apply`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NatChange {
    /// What is done.
    pub action: Action,
    /// To what, in words.
    pub what: String,
}

impl NatChange {
    fn new(action: Action, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { action, what }
    }
}

impl fmt::Display for NatChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            Action::Create => '+',
            Action::Update => '~',
            Action::Remove => '-',
        };
        write!(f, "{sign} nat {}", self.what)
    }
}

/// Returns what [`super::apply`] would change.
#[must_use]
pub fn plan(ruleset: &Ruleset, observed: &Observed) -> Vec<NatChange> {
    match observed {
        Observed::Absent if ruleset.is_empty() => Vec::new(),
        Observed::Absent => created(ruleset),
        Observed::Present(_) | Observed::Unreadable(_) if ruleset.is_empty() => {
            let what = format!("table {TABLE}: there are no uplinks");
            vec![NatChange::new(Action::Remove, what)]
        }
        Observed::Unreadable(why) => {
            let what = format!("table {TABLE}: {why}");
            vec![NatChange::new(Action::Update, what)]
        }
        Observed::Present(found) => changed(ruleset, found),
    }
}

fn created(ruleset: &Ruleset) -> Vec<NatChange> {
    let translated = ruleset.translated().count();
    let sources = ruleset.internet.sources.len();
    let excluded = ruleset.internet.excluded.len();
    let guards = format!(
        "table {TABLE}: {sources} prefixes may reach the internet, {excluded} are not the internet"
    );
    let uplinks = ruleset.uplinks.iter().map(|uplink| match uplink.nat {
        true => format!(
            "masquerade {translated} prefixes on {} ({})",
            uplink.interface, uplink.name
        ),
        false => format!(
            "route untranslated on {} ({})",
            uplink.interface, uplink.name
        ),
    });
    std::iter::once(guards)
        .chain(uplinks)
        .map(|what| NatChange::new(Action::Create, what))
        .collect()
}

fn changed(ruleset: &Ruleset, found: &Found) -> Vec<NatChange> {
    let wanted = Found::wanted(ruleset);
    let mut changes = Vec::new();
    for set in SetName::ALL {
        let missing = wanted.elements_beyond(found, set);
        changes.extend(missing.map(|e| NatChange::new(Action::Create, in_words(set, e))));
        let extra = found.elements_beyond(&wanted, set);
        changes.extend(extra.map(|e| NatChange::new(Action::Remove, in_words(set, e))));
    }
    changes.extend(changed_frame(&wanted, found));
    changes.extend(changed_rules(&wanted, found));
    changes
}

fn in_words(set: SetName, element: &str) -> String {
    match set {
        SetName::Uplinks => format!("uplink {element}"),
        SetName::NatUplinks => format!("masquerade on {element}"),
        SetName::Internet4 | SetName::Internet6 => format!("{element} may reach the internet"),
        SetName::Translated6 => format!("masquerade {element}"),
        SetName::Site4 | SetName::Site6 => format!("{element} is of the site"),
        SetName::Excluded4 | SetName::Excluded6 => format!("{element} is not the internet"),
    }
}

fn changed_frame(wanted: &Found, found: &Found) -> Vec<NatChange> {
    let (to_be, is) = (wanted.frame(), found.frame());
    let names = |frame: &BTreeSet<(&str, &str, &str)>| -> BTreeSet<String> {
        let names = frame.iter().map(|(kind, name, _)| format!("{kind} {name}"));
        names.collect()
    };
    let (expected, there) = (names(&to_be), names(&is));
    let differing = names(&to_be.symmetric_difference(&is).copied().collect());
    let changes = differing.into_iter().map(|what| {
        let action = action_for(expected.contains(&what), there.contains(&what));
        NatChange::new(action, what)
    });
    changes.collect()
}

fn changed_rules(wanted: &Found, found: &Found) -> Vec<NatChange> {
    let (to_be, is) = (wanted.rules(), found.rules());
    let chains: BTreeSet<_> = to_be.keys().chain(is.keys()).copied().collect();
    let differing = chains.into_iter().filter(|c| to_be.get(c) != is.get(c));
    let changes = differing.map(|chain| {
        let action = action_for(to_be.contains_key(chain), is.contains_key(chain));
        NatChange::new(action, format!("rules of chain {chain}"))
    });
    changes.collect()
}

fn action_for(is_wanted: bool, is_there: bool) -> Action {
    match (is_wanted, is_there) {
        (true, true) => Action::Update,
        (true, false) => Action::Create,
        (false, _) => Action::Remove,
    }
}

#[cfg(test)]
mod tests {
    use nftables::batch::Batch;
    use serde_json::{Value, json};

    use super::*;
    use crate::compile::Internet;
    use crate::nat::desired::Uplink;
    use crate::nat::table::{objects, table};

    fn ruleset() -> Ruleset {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        Ruleset {
            uplinks: vec![
                Uplink {
                    name: "dsl".into(),
                    interface: "eth1".into(),
                    nat: true,
                },
                Uplink {
                    name: "fibre".into(),
                    interface: "eth2".into(),
                    nat: false,
                },
            ],
            internet: Internet {
                sources: nets(&["10.100.0.0/24", "fd00:100::/64"]),
                site: nets(&["10.100.0.0/24", "10.101.0.0/24", "fd00:100::/64"]),
                excluded: nets(&["10.0.0.0/8", "192.0.2.7/32", "fc00::/7"]),
            },
        }
    }

    /// What `nft -j list table` says after the ruleset was applied.
    fn listing(ruleset: &Ruleset) -> Value {
        let mut batch = Batch::new();
        batch.add_obj(table());
        objects(ruleset)
            .into_iter()
            .for_each(|object| batch.add_obj(object));
        let mut listing = serde_json::to_value(batch.to_nftables()).unwrap();
        let objects = listing["nftables"].as_array_mut().unwrap();
        for (handle, object) in objects.iter_mut().enumerate() {
            let object = object.as_object_mut().unwrap().values_mut().next().unwrap();
            object["handle"] = handle.into();
        }
        objects.insert(
            0,
            json!({"metainfo": {"version": "1.0.6", "json_schema_version": 1}}),
        );
        listing
    }

    fn shown(ruleset: &Ruleset, observed: &Observed) -> Vec<String> {
        plan(ruleset, observed)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn table_that_is_not_there_is_planned_by_uplink() {
        let expected = [
            "+ nat table bulkhead: 2 prefixes may reach the internet, 3 are not the internet",
            "+ nat masquerade 2 prefixes on eth1 (dsl)",
            "+ nat route untranslated on eth2 (fibre)",
        ];
        assert_eq!(shown(&ruleset(), &Observed::Absent), expected);
    }

    #[test]
    fn table_as_wanted_is_no_change_whatever_was_counted() {
        let mut listing = listing(&ruleset());
        assert_eq!(
            shown(&ruleset(), &Observed::parse(&listing.to_string())),
            [""; 0]
        );
        for object in listing["nftables"].as_array_mut().unwrap() {
            let statements = object
                .pointer_mut("/rule/expr")
                .and_then(Value::as_array_mut);
            let statements = statements.into_iter().flatten();
            for statement in statements.filter(|s| s.get("counter").is_some()) {
                // More than 32 bits.
                *statement = json!({"counter": {"packets": 7, "bytes": 9_000_000_000_u64}});
            }
        }
        let observed = Observed::parse(&listing.to_string());
        assert_eq!(shown(&ruleset(), &observed), [""; 0]);
        assert_eq!(observed.drops()["site-source"], 14, "two rules");
    }

    #[test]
    fn inventory_that_changed_is_shown_by_prefix() {
        let observed = Observed::parse(&listing(&ruleset()).to_string());
        let mut wanted = ruleset();
        wanted.internet.sources[0] = "10.101.0.0/24".parse().unwrap();
        wanted.uplinks[1].nat = true;
        let expected = [
            "+ nat masquerade on eth2",
            "+ nat 10.101.0.0/24 may reach the internet",
            "- nat 10.100.0.0/24 may reach the internet",
        ];
        assert_eq!(shown(&wanted, &observed), expected);
    }

    #[test]
    fn what_nft_or_the_library_do_not_know_is_not_ours() {
        let mut listing = listing(&ruleset());
        let objects = listing["nftables"].as_array_mut().unwrap();
        objects.push(json!({"rule": {"chain": "forward", "expr": [{"from-the-future": null}]}}));
        objects.push(json!({"secmark": {"name": "mine"}}));
        let observed = Observed::parse(&listing.to_string());
        let expected = ["- nat secmark mine", "~ nat rules of chain forward"];
        assert_eq!(shown(&ruleset(), &observed), expected);
        let broken = Observed::parse("{\"nftables\": [");
        let expected = ["~ nat table bulkhead: nft cannot tell what is in it"];
        assert_eq!(shown(&ruleset(), &broken), expected);
    }

    #[test]
    fn dormant_table_is_a_change() {
        let mut listing = listing(&ruleset());
        let table = &mut listing["nftables"].as_array_mut().unwrap()[1];
        table["table"]["flags"] = "dormant".into();
        let observed = Observed::parse(&listing.to_string());
        assert_eq!(shown(&ruleset(), &observed), ["~ nat table bulkhead"]);
    }

    #[test]
    fn table_goes_with_the_last_uplink() {
        let observed = Observed::parse(&listing(&ruleset()).to_string());
        let expected = ["- nat table bulkhead: there are no uplinks"];
        assert_eq!(shown(&Ruleset::default(), &observed), expected);
        assert_eq!(shown(&Ruleset::default(), &Observed::Absent), [""; 0]);
    }
}
