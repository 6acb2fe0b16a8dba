//! Do the router and the ports of the hypervisors decide alike? Over all pairs of addresses, out of the tables themselves.
//!
//! # Guarantees
//!
//! * **All pairs.** Nothing is sampled: addresses are joined by what both walls' tables say of them, and every combination
//!   that either of them allows is compared. The cost is that of looking at every entry once.
//! * **All that binds.** Segments, bound hardware addresses, endpoints and prefixes must be the same, entry by entry; classes
//!   and services may be numbered otherwise, as long as the decisions are the same.
//! * **Who decides.** Between two segments both walls do; within a segment the hypervisors alone, since the router never sees
//!   such a frame. Where one wall refuses what the other allows, the one that refuses decides, and that is said.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::net::IpAddr;

use dataplane_common::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, NO_PREFIX_LENGTH, PairKey, PrefixEntry, PrefixKey,
    SegmentEntry, endpoint_flags, segment_flags,
};
use indexmap::IndexMap;
use netmodel::ids::MacAddr;
use serde::Serialize;

use super::Build;
use super::reachability::{self, Effect, ReachabilityChange, Within};
use crate::can::{Service, is_everything};
use crate::compile::{Tables, ip_of};

/// One of the two that a frame passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// The core router.
    Router,
    /// The ports of hypervisors' bridges.
    Hypervisors,
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Router => "the router",
            Self::Hypervisors => "the hypervisors",
        })
    }
}

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

/// Something that the two walls do not agree on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Disagreement {
    /// Connections from one segment into another, or to the router, or out of the site.
    Between {
        /// Which wall refuses them, and so decides.
        decides: Wall,
        /// The connections, as a change from the router to the hypervisors.
        connections: ReachabilityChange,
    },
    /// Connections between hosts of one segment.
    Within {
        /// Name of the segment.
        segment: String,
        /// One of those who would open them.
        from: IpAddr,
        /// One of those to whom.
        to: IpAddr,
        /// Ports; empty: everything.
        services: Vec<String>,
        /// Do the hypervisors' tables allow them? Else the router's copy does.
        is_open: bool,
    },
    /// An entry of a table that must be the same.
    Entry {
        /// The table.
        table: &'static str,
        /// Its key.
        key: String,
        /// What the router has.
        router: String,
        /// What the hypervisors have.
        hypervisors: String,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between {
                decides,
                connections,
            } => {
                let ReachabilityChange {
                    from, to, services, ..
                } = connections;
                let (from, to) = (from.join(", "), to.join(", "));
                let services = ports(services);
                let other = match decides {
                    Wall::Router => Wall::Hypervisors,
                    Wall::Hypervisors => Wall::Router,
                };
                let rule = &connections.rule;
                write!(
                    f,
                    "{from} to {to}, {services}: {decides} refuse{} it, {other} would not ({rule})",
                    if *decides == Wall::Router { "s" } else { "" }
                )
            }
            Self::Within {
                segment,
                from,
                to,
                services,
                is_open,
            } => {
                let services = ports(services);
                let what = match is_open {
                    true => "open at the ports, and should not be",
                    false => "closed at the ports, and should not be",
                };
                write!(f, "{from} to {to} in {segment}, {services}: {what}")
            }
            Self::Entry {
                table,
                key,
                router,
                hypervisors,
            } => write!(
                f,
                "{table} {key}: {router} at the router, {hypervisors} at the hypervisors"
            ),
        }
    }
}

fn ports(services: &[String]) -> String {
    match services {
        [] => "every port".to_owned(),
        services => services.join(", "),
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// Who decides on how many.
    pub pairs: Pairs,
    /// Addresses of the router that only the router knows: it refuses them, so it decides.
    pub router_only: Vec<IpAddr>,
    /// Where they do not agree; empty: they do.
    pub disagreements: Vec<Disagreement>,
}

impl Agreement {
    /// Compares the walls; both builds are of one model.
    #[must_use]
    pub fn of(router: &Build, hypervisors: &Build) -> Self {
        let (mut router, router_only) = (router.clone(), own(&router.tables, &hypervisors.tables));
        router
            .tables
            .endpoints
            .retain(|key, _| !router_only.contains(&ip_of(key.address)));
        let (ours, theirs) = (&router.tables, &hypervisors.tables);
        let mut disagreements = entries(ours, theirs);
        let changes = reachability::changes(Some(&router), hypervisors);
        disagreements.extend(changes.into_iter().map(between));
        let name = |vlan_id: u16| {
            let mut segments = router.model.segments.iter();
            let segment = segments.find(|segment| segment.vlan_id.as_u16() == vlan_id);
            segment.map_or_else(|| format!("VLAN {vlan_id}"), |s| s.name.to_string())
        };
        let inside = reachability::within(ours, theirs).into_iter();
        disagreements.extend(inside.map(|found| within(name(found.vlan_id), found)));
        Self {
            pairs: Pairs::of(ours),
            router_only: router_only.into_iter().collect(),
            disagreements,
        }
    }
}

/// Returns the addresses of the router's interfaces that the inventory does not have: only its kernel tells them.
fn own(router: &Tables, hypervisors: &Tables) -> BTreeSet<IpAddr> {
    let all = router.endpoints.iter();
    let own = all.filter(|(key, entry)| {
        let flags = endpoint_flags::ROUTER | endpoint_flags::DECLARED;
        entry.flags & flags == endpoint_flags::ROUTER && !hypervisors.endpoints.contains_key(*key)
    });
    own.map(|(key, _)| ip_of(key.address)).collect()
}

fn between(connections: ReachabilityChange) -> Disagreement {
    let decides = match connections.effect {
        // Possible at the first, not at the second.
        Effect::Cut | Effect::Moved => Wall::Hypervisors,
        Effect::Opened => Wall::Router,
    };
    Disagreement::Between {
        decides,
        connections,
    }
}

fn within(segment: String, found: Within) -> Disagreement {
    let services = match is_everything(&found.services) {
        true => Vec::new(),
        false => found.services.iter().map(Service::label).collect(),
    };
    Disagreement::Within {
        segment,
        from: found.from,
        to: found.to,
        services,
        is_open: found.is_gain,
    }
}

/// What of an entry must be the same at both walls; the numbers of classes need not be.
fn entries(router: &Tables, hypervisors: &Tables) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let segments = |tables: &Tables| -> IndexMap<u16, SegmentEntry> {
        let all = tables.segments.iter();
        all.map(|(id, entry)| (*id, without_classes(entry)))
            .collect()
    };
    compare(
        ("SEGMENTS", |id: &u16| format!("VLAN {id}")),
        (&segments(router), &segments(hypervisors)),
        (|entry: &SegmentEntry| *entry, segment_words),
        &mut found,
    );
    compare(
        ("ENDPOINTS", |key: &EndpointKey| {
            ip_of(key.address).to_string()
        }),
        (&router.endpoints, &hypervisors.endpoints),
        (
            |e: &EndpointEntry| (e.mac.octets(), e.vlan_id, e.flags),
            endpoint_words,
        ),
        &mut found,
    );
    compare(
        ("BOUND_MACS", |key: &BoundMacKey| {
            format!("{} on VLAN {}", MacAddr(key.mac.octets()), key.vlan_id)
        }),
        (&router.bound_macs, &hypervisors.bound_macs),
        (
            |flags: &u32| *flags,
            |flags: &u32| names(*flags, &BOUND_FLAGS),
        ),
        &mut found,
    );
    compare(
        ("PREFIXES", |key: &PrefixKey| {
            let net = ip_of(key.address);
            let mapped = if net.is_ipv4() { 96 } else { 0 };
            format!("{net}/{}", key.length.saturating_sub(mapped))
        }),
        (&router.prefixes, &hypervisors.prefixes),
        (|e: &PrefixEntry| (e.vlan_id, e.flags), prefix_words),
        &mut found,
    );
    compare_heads(router, hypervisors, &mut found);
    found
}

fn without_classes(entry: &SegmentEntry) -> SegmentEntry {
    SegmentEntry {
        src_class: 0,
        dst_class: 0,
        ..*entry
    }
}

const SEGMENT_FLAGS: [&str; 12] = [
    "present",
    "blackhole",
    "ipv4",
    "ipv6",
    "internet",
    "dhcp",
    "dns",
    "ntp",
    "echo",
    "classes by IPv4 prefix",
    "classes by IPv6 prefix",
    "policy between its hosts",
];
const ENDPOINT_FLAGS: [&str; 3] = ["bound", "router", "declared"];
const BOUND_FLAGS: [&str; 3] = ["ipv4", "ipv6", "endpoint"];
const PREFIX_FLAGS: [&str; 2] = ["segment", "excluded"];

/// Returns the names of bits, the lowest first.
fn names(flags: u32, all: &[&str]) -> String {
    let set = (0..32).filter(|bit| flags & (1 << bit) != 0);
    let named = set.map(|bit| {
        let name = usize::try_from(bit).ok().and_then(|bit| all.get(bit));
        name.map_or_else(|| format!("bit {bit}"), |name| (*name).to_owned())
    });
    named.collect::<Vec<_>>().join("+")
}

fn segment_words(entry: &SegmentEntry) -> String {
    let family = |net, length, gateway| format!("{}/{length} via {}", ip_of(net), ip_of(gateway));
    format!(
        "{} {} {} mtu {} owner {}",
        names(entry.flags, &SEGMENT_FLAGS),
        family(entry.net4, entry.prefix_len4, entry.gateway4),
        family(entry.net6, entry.prefix_len6, entry.gateway6),
        entry.mtu,
        entry.tenant,
    )
}

fn endpoint_words(entry: &EndpointEntry) -> String {
    let mac = MacAddr(entry.mac.octets());
    let flags = names(entry.flags, &ENDPOINT_FLAGS);
    format!("{mac} on VLAN {} ({flags})", entry.vlan_id)
}

fn prefix_words(entry: &PrefixEntry) -> String {
    format!(
        "VLAN {} ({})",
        entry.vlan_id,
        names(entry.flags, &PREFIX_FLAGS)
    )
}

/// What stands in `GENERATION`.
fn compare_heads(router: &Tables, hypervisors: &Tables, found: &mut Vec<Disagreement>) {
    let heads = |tables: &Tables| {
        let lengths = |list: &[u8]| {
            let used: BTreeSet<u8> = list.iter().copied().collect();
            format!("{:?}", used.range(..NO_PREFIX_LENGTH).collect::<Vec<_>>())
        };
        let own = tables.router_link_local;
        [
            own.map_or("unknown".to_owned(), |address| address.to_string()),
            lengths(&tables.prefix_lengths4),
            lengths(&tables.prefix_lengths6),
        ]
    };
    let keys = [
        "link-local address of the router",
        "lengths of IPv4 prefixes",
        "lengths of IPv6 prefixes",
    ];
    let both = heads(router).into_iter().zip(heads(hypervisors));
    for (key, (router, hypervisors)) in keys.into_iter().zip(both) {
        if router != hypervisors {
            found.push(Disagreement::Entry {
                table: "GENERATION",
                key: key.to_owned(),
                router,
                hypervisors,
            });
        }
    }
}

/// Compares a part of each entry, and tells where it differs; in words, if they do.
fn compare<K: Eq + Hash, V: Debug, P: PartialEq>(
    (table, name): (&'static str, impl Fn(&K) -> String),
    (router, hypervisors): (&IndexMap<K, V>, &IndexMap<K, V>),
    (part, words): (impl Fn(&V) -> P, impl Fn(&V) -> String),
    found: &mut Vec<Disagreement>,
) {
    let keys = router.keys();
    let added = hypervisors.keys().filter(|key| !router.contains_key(*key));
    for key in keys.chain(added) {
        let both = [router.get(key), hypervisors.get(key)];
        if both[0].map(&part) == both[1].map(&part) {
            continue;
        }
        let mut told = both.map(|entry| entry.map_or_else(|| "nothing".to_owned(), &words));
        if told[0] == told[1] {
            told = both.map(|entry| format!("{entry:?}"));
        }
        let [router, hypervisors] = told;
        found.push(Disagreement::Entry {
            table,
            key: name(key),
            router,
            hypervisors,
        });
    }
}

/// How many addresses of a class are on which VLAN.
type Counts = HashMap<u32, HashMap<u16, u64>>;

impl Pairs {
    fn of(tables: &Tables) -> Self {
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

#[cfg(test)]
mod tests;
