//! Faults in compiled tables: whatever changes a decision, or an entry that binds, is found.

use std::net::IpAddr;

use dataplane_common::abi::{
    ALLOW_ANY, Address, EndpointEntry, Mac, NO_PREFIX_LENGTH, PairEntry, PairKey, RuleKey,
    SegmentEntry, bound_mac_flags, segment_flags, service_index,
};
use indexmap::IndexMap;
use netmodel::Model;
use oracle::generate::{Rng, model};
use testkit::{fixtures, lab};

use super::entries::without_classes;
use super::*;
use crate::compile::RouterFacts;

/// Protocols and ports that are asked for.
const SERVICES: [(u8, u16); 10] = [
    (1, 0),
    (58, 0),
    (6, 22),
    (6, 443),
    (6, 5432),
    (6, 9000),
    (17, 53),
    (17, 67),
    (17, 123),
    (47, 0),
];

fn build(model: Model) -> Build {
    let facts = RouterFacts::from_model(&model);
    Build::new(model, facts).unwrap()
}

fn builds() -> Vec<Build> {
    let mut builds = vec![build(lab::load(&fixtures::sample()).unwrap())];
    builds.extend((0..4).map(|seed| build(model(&mut Rng::with_seed(seed)))));
    builds
}

/// Addresses that questions are asked about: the known ones, free ones beside, and some of the internet.
fn addresses(tables: &Tables) -> Vec<IpAddr> {
    let known = tables.endpoints.keys().map(|key| ip_of(key.address));
    let mut all: Vec<IpAddr> = known.collect();
    for segment in tables.segments.values() {
        if let IpAddr::V4(net) = ip_of(segment.net4) {
            all.push(std::net::Ipv4Addr::from(u32::from(net) | 77).into());
        }
        if let IpAddr::V6(net) = ip_of(segment.net6) {
            all.push(std::net::Ipv6Addr::from(u128::from(net) | 77).into());
        }
    }
    all.extend(["8.8.8.8", "2606:4700::1"].map(|text| text.parse::<IpAddr>().unwrap()));
    all.sort_unstable();
    all.dedup();
    all
}

/// What a port asks for between two hosts of a segment that has a policy of its own.
fn is_open_within(
    tables: &Tables,
    (from, to): (IpAddr, IpAddr),
    (protocol, port): (u8, u16),
) -> bool {
    let key = PairKey {
        src_class: tables.src_class_of(from),
        dst_class: tables.dst_class_of(to),
    };
    tables.pairs.get(&key).is_some_and(|pair| {
        let index = service_index(protocol, port) as usize;
        let key = RuleKey {
            ruleset: pair.ruleset,
            service_class: tables.services[index],
        };
        pair.ruleset == ALLOW_ANY || tables.rules.contains_key(&key)
    })
}

fn local_segment(tables: &Tables, address: IpAddr) -> Option<u16> {
    let vlan_id = tables.vlan_of(address)?;
    let flags = tables.segments.get(&vlan_id)?.flags;
    (flags & segment_flags::LOCAL_POLICY != 0).then_some(vlan_id)
}

/// Every decision, one after the other.
fn decisions(tables: &Tables, addresses: &[IpAddr], port: u16) -> Vec<bool> {
    let mut all = Vec::new();
    for &from in addresses {
        let can_send = tables.source_kind(from).is_some();
        for &to in addresses {
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            let local = local_segment(tables, from);
            let is_within = local.is_some() && local == local_segment(tables, to);
            for (protocol, port) in SERVICES.into_iter().chain([(6, port), (17, port)]) {
                all.push(match is_within {
                    true => is_open_within(tables, (from, to), (protocol, port)),
                    false => can_send && tables.evaluate(from, to, protocol, port).is_allow(),
                });
            }
        }
    }
    all
}

fn any<'t, K: Clone, V>(rng: &mut Rng, map: &'t mut IndexMap<K, V>) -> Option<(K, &'t mut V)> {
    let index = rng.usize(..map.len().max(1));
    map.get_index_mut(index)
        .map(|(key, value)| (key.clone(), value))
}

/// A class that is in use.
fn class(rng: &mut Rng, tables: &Tables) -> u32 {
    let all: Vec<u32> = tables
        .pairs
        .keys()
        .flat_map(|key| [key.src_class, key.dst_class])
        .collect();
    all.get(rng.usize(..all.len().max(1))).copied().unwrap_or(1)
}

/// Makes one entry wrong. Returns what was done, and a port that it is about.
fn seed_fault(rng: &mut Rng, tables: &mut Tables) -> Option<(String, u16)> {
    let kind = rng.u8(0..22);
    let mut port = 1;
    let (class_a, class_b) = (class(rng, tables), class(rng, tables));
    let ruleset = tables
        .rules
        .keys()
        .map(|key| key.ruleset)
        .max()
        .unwrap_or(0);
    match kind {
        0 => drop(
            tables
                .pairs
                .swap_remove_index(rng.usize(..tables.pairs.len().max(1)))?,
        ),
        1 => {
            let key = PairKey {
                src_class: class_a,
                dst_class: class_b,
            };
            tables.pairs.insert(
                key,
                PairEntry {
                    ruleset: ALLOW_ANY,
                    rule_id: 1,
                },
            );
        }
        2 => any(rng, &mut tables.pairs)?.1.ruleset = ruleset.saturating_sub(1),
        3 => drop(
            tables
                .rules
                .swap_remove_index(rng.usize(..tables.rules.len().max(1)))?,
        ),
        4 => {
            let service_class = *tables.services.iter().max()?;
            tables.rules.insert(
                RuleKey {
                    ruleset,
                    service_class,
                },
                1,
            );
        }
        5 => {
            port = [22, 443, 5432, 9999][rng.usize(..4)];
            let index = service_index(6, port) as usize;
            tables.services[index] = (tables.services[index] + 1) % 4;
        }
        6 => any(rng, &mut tables.endpoints)?.1.src_class = class_a,
        7 => any(rng, &mut tables.endpoints)?.1.dst_class = class_b,
        8 => any(rng, &mut tables.endpoints)?.1.vlan_id ^= 1,
        9 => any(rng, &mut tables.endpoints)?.1.mac = Mac::from_octets([2, 9, 9, 9, 9, rng.u8(..)]),
        10 => drop(
            tables
                .endpoints
                .swap_remove_index(rng.usize(..tables.endpoints.len().max(1)))?,
        ),
        11 => any(rng, &mut tables.endpoints)?.1.flags ^= 1 << rng.u8(0..3),
        12..15 => segment(rng, tables)?.flags ^= 1 << rng.u8(1..12),
        15 => segment(rng, tables)?.gateway4 = Address::from_ipv4([10, 0, 0, 9]),
        16 => segment(rng, tables)?.src_class = class_a,
        17 => segment(rng, tables)?.dst_class = class_b,
        18 => *any(rng, &mut tables.bound_macs)?.1 ^= bound_mac_flags::IPV4,
        19 => drop(
            tables
                .bound_macs
                .swap_remove_index(rng.usize(..tables.bound_macs.len().max(1)))?,
        ),
        20 => any(rng, &mut tables.prefixes)?.1.flags ^= 3,
        _ => tables.prefix_lengths4[0] = NO_PREFIX_LENGTH,
    }
    Some((format!("fault {kind} about port {port}"), port))
}

fn segment<'t>(rng: &mut Rng, tables: &'t mut Tables) -> Option<&'t mut SegmentEntry> {
    let index = rng.usize(..tables.segments.len().max(1));
    tables.segments.values_mut().nth(index)
}

/// The entries that must be the same, without classes.
#[derive(Eq, PartialEq)]
struct Binding {
    segments: Vec<SegmentEntry>,
    endpoints: Vec<EndpointEntry>,
    prefixes: Vec<u32>,
    bound_macs: Vec<u32>,
    lengths: [u8; 16],
}

fn binding(tables: &Tables) -> Binding {
    let endpoints = tables.endpoints.values().map(|entry| EndpointEntry {
        src_class: 0,
        dst_class: 0,
        ..*entry
    });
    Binding {
        segments: tables.segments.values().map(without_classes).collect(),
        endpoints: endpoints.collect(),
        prefixes: tables.prefixes.values().map(|entry| entry.flags).collect(),
        bound_macs: tables.bound_macs.values().copied().collect(),
        lengths: tables.prefix_lengths4,
    }
}

fn kind(disagreement: &Disagreement) -> &'static str {
    match disagreement {
        Disagreement::Between { .. } => "between",
        Disagreement::Within { .. } => "within",
        Disagreement::Entry { .. } => "entry",
    }
}

#[test]
fn both_walls_of_one_model_agree() {
    for build in builds() {
        let agreement = Agreement::of(&build, &build);
        assert_eq!(agreement.disagreements, [], "{}", build.model.site_name);
        assert!(agreement.router_only.is_empty());
    }
}

#[test]
fn pairs_are_counted_as_if_one_by_one() {
    for build in builds() {
        let tables = &build.tables;
        let is_host = |entry: &EndpointEntry| entry.flags & endpoint_flags::ROUTER == 0;
        let hosts = tables.endpoints.iter().filter(|(_, entry)| is_host(entry));
        let hosts: Vec<_> = hosts.collect();
        let (mut within, mut between, mut open) = (0, 0, 0);
        for (from, source) in &hosts {
            for (to, destination) in &hosts {
                if from == to || from.address.is_ipv4() != to.address.is_ipv4() {
                    continue;
                }
                if source.vlan_id == destination.vlan_id {
                    within += 1;
                    continue;
                }
                between += 1;
                open += u64::from(tables.pairs.contains_key(&PairKey {
                    src_class: source.src_class,
                    dst_class: destination.dst_class,
                }));
            }
        }
        let pairs = Pairs::of(tables);
        assert_eq!(
            (pairs.within, pairs.between, pairs.open),
            (within, between, open)
        );
        assert!(pairs.between > 0);
    }
}

#[test]
fn each_of_a_hundred_seeded_faults_is_found_at_either_wall() {
    let builds = builds();
    let asked: Vec<_> = builds
        .iter()
        .map(|build| addresses(&build.tables))
        .collect();
    for wall in [Wall::Router, Wall::Hypervisors] {
        let mut rng = Rng::with_seed(7);
        let (mut found, mut only) = (0, BTreeSet::new());
        for number in 0.. {
            let (good, addresses) = (&builds[number % 5], &asked[number % 5]);
            let mut bad = good.clone();
            let Some((what, port)) = seed_fault(&mut rng, &mut bad.tables) else {
                continue;
            };
            let is_fault = binding(&good.tables) != binding(&bad.tables)
                || decisions(&good.tables, addresses, port)
                    != decisions(&bad.tables, addresses, port);
            if !is_fault {
                continue;
            }
            let agreement = match wall {
                Wall::Router => Agreement::of(&bad, good),
                Wall::Hypervisors => Agreement::of(good, &bad),
            };
            let says = !agreement.disagreements.is_empty() || !agreement.router_only.is_empty();
            assert!(
                says,
                "{what} of {wall} in model {} was not found",
                number % 5
            );
            let mut kinds = agreement.disagreements.iter().map(kind);
            only.extend(
                kinds
                    .next()
                    .filter(|first| kinds.all(|kind| kind == *first)),
            );
            found += 1;
            if found == 100 {
                break;
            }
        }
        // Each part of the comparison was needed: some faults are found by it alone.
        assert_eq!(
            only,
            BTreeSet::from(["between", "entry", "within"]),
            "{wall}"
        );
    }
}
