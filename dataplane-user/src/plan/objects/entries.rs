//! Counts of map entries that a change writes.

use std::collections::BTreeMap;
use std::hash::Hash;

use indexmap::IndexMap;
use serde::Serialize;

use crate::compile::Tables;

/// How many entries of a map are added, changed and removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct MapChange {
    /// The map.
    pub map: &'static str,
    /// New keys.
    pub added: usize,
    /// Keys with another value. Classes are numbered anew when rules change, so these can be many.
    pub changed: usize,
    /// Keys that are gone.
    pub removed: usize,
}

/// Returns the maps of which an entry is added, changed or removed.
#[must_use]
pub fn map_changes(old: &Tables, new: &Tables) -> Vec<MapChange> {
    let services = old.services.iter().zip(&new.services);
    let changes = [
        of_trees("segments", &old.segments, &new.segments),
        of_maps("endpoints", &old.endpoints, &new.endpoints),
        of_maps("bound_macs", &old.bound_macs, &new.bound_macs),
        of_maps("prefixes", &old.prefixes, &new.prefixes),
        of_maps("pairs", &old.pairs, &new.pairs),
        of_maps("rules", &old.rules, &new.rules),
        MapChange {
            map: "services",
            added: new.services.len().saturating_sub(old.services.len()),
            changed: services.filter(|(old, new)| old != new).count(),
            removed: old.services.len().saturating_sub(new.services.len()),
        },
    ];
    let is_change = |change: &MapChange| change.added + change.changed + change.removed > 0;
    changes.into_iter().filter(is_change).collect()
}

/// Where both list the same keys in the same order, nothing is looked up.
fn of_maps<K: Eq + Hash, V: PartialEq>(
    map: &'static str,
    old: &IndexMap<K, V>,
    new: &IndexMap<K, V>,
) -> MapChange {
    let (mut kept, mut changed, mut next) = (0, 0, 0);
    for (key, before) in old {
        let here = new.get_index(next).filter(|(k, _)| *k == key);
        let found = match here {
            Some((_, after)) => Some((next, after)),
            None => new.get_full(key).map(|(i, _, after)| (i, after)),
        };
        if let Some((i, after)) = found {
            next = i + 1;
            kept += 1;
            changed += usize::from(before != after);
        }
    }
    MapChange {
        map,
        added: new.len() - kept,
        changed,
        removed: old.len() - kept,
    }
}

fn of_trees<K: Ord, V: PartialEq>(
    map: &'static str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> MapChange {
    let kept = old
        .iter()
        .filter_map(|(key, before)| Some((before, new.get(key)?)));
    let (count, changed) = kept.fold((0, 0), |(count, changed), (before, after)| {
        (count + 1, changed + usize::from(before != after))
    });
    MapChange {
        map,
        added: new.len() - count,
        changed,
        removed: old.len() - count,
    }
}
