//! What bulkhead says about itself: `bulkhead status --format json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Outcomes of frames that were let through.
const ALLOWED: [&str; 3] = ["to-kernel", "forwarded", "answered"];

/// Frames that came from each VLAN, by outcome.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counters(BTreeMap<(u16, String), u64>);

impl Counters {
    /// Frames counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().filter_map(|(key, count)| {
            let old = before.0.get(key).copied().unwrap_or(0);
            (*count > old).then(|| (key.clone(), count - old))
        });
        Self(grown.collect())
    }

    /// Frames let through.
    pub(crate) fn allowed(&self) -> u64 {
        self.0
            .iter()
            .filter(|((_, outcome), _)| ALLOWED.contains(&outcome.as_str()))
            .map(|(_, n)| n)
            .sum()
    }

    /// Frames dropped: VLAN, reason, number.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (u16, &str, u64)> {
        let drops = self
            .0
            .iter()
            .filter(|((_, outcome), _)| !ALLOWED.contains(&outcome.as_str()));
        drops.map(|((vlan, reason), count)| (*vlan, reason.as_str(), *count))
    }
}

impl Counters {
    /// Reads them out of the status.
    pub(crate) fn parse(status: &Value) -> Result<Self> {
        let rows = status.get("counters").and_then(Value::as_array);
        let mut counters = Self::default();
        for row in rows.context("bulkhead status has no counters")? {
            if row.get("direction").and_then(Value::as_str) != Some("from_tenant") {
                continue;
            }
            let number = |key| row.get(key).and_then(Value::as_u64);
            let vlan = number("vlan_id").and_then(|vlan| u16::try_from(vlan).ok());
            let outcome = row.get("outcome").and_then(Value::as_str);
            let (Some(vlan), Some(outcome), Some(packets)) = (vlan, outcome, number("packets"))
            else {
                bail!("bulkhead status has a counter that is none: {row}")
            };
            counters.0.insert((vlan, outcome.to_owned()), packets);
        }
        Ok(counters)
    }
}
