//! How many pairs of addresses there are, and who decides on them.

use std::collections::HashMap;

use dataplane_common::abi::{PairKey, endpoint_flags, segment_flags};
use serde::Serialize;

use crate::compile::Tables;

/// Ordered pairs of addresses of one family, by who decides on them. The router's own addresses are not among them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Pairs {
    /// Addresses.
    pub addresses: u64,
    /// On one segment: the hypervisors decide.
    pub within: u64,
    /// Segments that have a policy between their own hosts.
    pub isolated_segments: u64,
    /// On different segments: both decide.
    pub between: u64,
    /// Those of them where something may be opened, by the router's tables.
    pub open: u64,
}

/// How many addresses of a class are on which VLAN.
type Counts = HashMap<u32, HashMap<u16, u64>>;

impl Pairs {
    pub(super) fn of(tables: &Tables) -> Self {
        let segments = tables.segments.values();
        let local = segments.filter(|s| s.flags & segment_flags::LOCAL_POLICY != 0);
        let mut pairs = Self {
            isolated_segments: number(local.count()),
            ..Self::default()
        };
        for is_ipv4 in [true, false] {
            pairs.add_family(tables, is_ipv4);
        }
        pairs
    }

    fn add_family(&mut self, tables: &Tables, is_ipv4: bool) {
        let (mut sources, mut destinations) = (Counts::new(), Counts::new());
        let mut by_vlan: HashMap<u16, u64> = HashMap::new();
        for (key, entry) in &tables.endpoints {
            let is_router = entry.flags & endpoint_flags::ROUTER != 0;
            if is_router || key.address.is_ipv4() != is_ipv4 {
                continue;
            }
            let vlan_id = entry.vlan_id;
            *by_vlan.entry(vlan_id).or_default() += 1;
            for (counts, class) in [
                (&mut sources, entry.src_class),
                (&mut destinations, entry.dst_class),
            ] {
                *counts.entry(class).or_default().entry(vlan_id).or_default() += 1;
            }
        }
        let all: u64 = by_vlan.values().sum();
        let within: u64 = by_vlan.values().map(|n| n * n.saturating_sub(1)).sum();
        self.addresses += all;
        self.within += within;
        self.between += all * all.saturating_sub(1) - within;
        let open = tables.pairs.keys();
        self.open += open
            .map(|key| on_different_segments(key, &sources, &destinations))
            .sum::<u64>();
    }
}

/// How many pairs of addresses on different segments a pair of classes stands for.
fn on_different_segments(key: &PairKey, sources: &Counts, destinations: &Counts) -> u64 {
    let (Some(from), Some(to)) = (
        sources.get(&key.src_class),
        destinations.get(&key.dst_class),
    ) else {
        return 0;
    };
    let (all_from, all_to): (u64, u64) = (from.values().sum(), to.values().sum());
    let same = from.iter();
    let same = same.map(|(vlan_id, count)| count * to.get(vlan_id).copied().unwrap_or(0));
    all_from * all_to - same.sum::<u64>()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
