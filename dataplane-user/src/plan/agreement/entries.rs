//! Entries that must be the same at both walls, one by one.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use dataplane_common::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, NO_PREFIX_LENGTH, PrefixEntry, PrefixKey, SegmentEntry,
};
use indexmap::IndexMap;
use netmodel::ids::MacAddr;

use super::Disagreement;
use crate::compile::{Tables, ip_of};

/// What of an entry must be the same at both walls; the numbers of classes need not be.
pub(super) fn entries(router: &Tables, hypervisors: &Tables) -> Vec<Disagreement> {
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

pub(super) fn without_classes(entry: &SegmentEntry) -> SegmentEntry {
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
        "{} {} {} mtu {} owner {} connections {} rates {:?}, {:?} at ports; an octet takes {} and {} at ports",
        names(entry.flags, &SEGMENT_FLAGS),
        family(entry.net4, entry.prefix_len4, entry.gateway4),
        family(entry.net6, entry.prefix_len6, entry.gateway6),
        entry.mtu,
        entry.tenant,
        entry.limits.connections,
        entry.limits.rates,
        entry.port_rates,
        entry.octet_time,
        entry.port_octet_time,
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
