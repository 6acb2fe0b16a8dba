//! A plan for programs.

use serde_json::{Value, json};

use super::text::{NetworkChange, Plan};

impl<N: NetworkChange> Plan<'_, N> {
    /// Returns the whole plan.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let difference = self.difference;
        let network = self.network.iter().map(|change| {
            json!({
                "action": change.action(),
                "text": change.to_string(),
                "change": change,
            })
        });
        let reachability = difference.reachability.iter().map(|change| {
            json!({
                "text": change.to_string(),
                "change": change,
            })
        });
        let refusals = difference.refusals.iter().map(|refusal| refusal.to_json());
        json!({
            "format_version": 1,
            "generation": self.generation,
            "is_empty": self.is_empty(),
            "network": network.collect::<Vec<_>>(),
            "objects": difference.objects,
            "maps": difference.maps,
            "reachability": reachability.collect::<Vec<_>>(),
            "destroyed": difference.destroyed,
            "refusals": refusals.collect::<Vec<_>>(),
            "summary": self.summary(),
            "summary_text": self.summary_line(),
        })
    }
}
