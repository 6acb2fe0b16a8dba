//! Random changes of random inventories: lines are about what changes, and about nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netmodel::Model;
use oracle::generate::{Rng, model, related};

use super::compare::{Comparison, is_own};
use super::found::{Change, Who};
use super::*;
use crate::compile::{RouterFacts, Tables, compile};

const MODELS: u64 = 250;
const QUESTIONS: usize = 1_500;
const PORTS: [u16; 12] = [22, 53, 67, 80, 123, 443, 547, 3100, 5432, 8883, 9000, 0];

fn tables(model: &Model, facts: &RouterFacts) -> Tables {
    compile(model, facts).unwrap()
}

fn facts(rng: &mut Rng, model: &Model) -> RouterFacts {
    let mut facts = RouterFacts::from_model(model);
    if rng.u8(0..3) == 0 {
        let addresses = [
            "203.0.112.1",
            "10.0.0.2",
            "fe80::9",
            "192.0.2.1",
            "10.1.1.1",
        ];
        let address = addresses[rng.usize(..addresses.len())].parse().unwrap();
        facts.addresses.push(address);
    }
    if rng.u8(0..10) == 0 {
        facts.mac = None;
    }
    facts
}

/// An address that has to do with one of the models.
fn address(rng: &mut Rng, models: &[&Model]) -> IpAddr {
    let model = models[rng.usize(..models.len())];
    let interfaces = model.hosts.iter().flat_map(|host| &host.interfaces);
    let known = interfaces.flat_map(|i| [i.ipv4.map(IpAddr::V4), i.ipv6.map(IpAddr::V6)]);
    let services = model.services.iter();
    let services = services.flat_map(|s| [s.ipv4.map(IpAddr::V4), s.ipv6.map(IpAddr::V6)]);
    let known: Vec<IpAddr> = known.chain(services).flatten().collect();
    let segment = &model.segments[rng.usize(..model.segments.len())];
    let v4 = segment
        .ipv4
        .map(|s| (IpNet::V4(s.net), IpAddr::V4(s.gateway)));
    let v6 = segment
        .ipv6
        .map(|s| (IpNet::V6(s.net), IpAddr::V6(s.gateway)));
    let subnet = if rng.bool() { v4.or(v6) } else { v6.or(v4) };
    match (rng.u8(0..10), subnet) {
        (0..=4, _) if !known.is_empty() => known[rng.usize(..known.len())],
        (0..=7, Some((net, _))) => near(rng, net),
        (8, Some((_, gateway))) => gateway,
        _ => elsewhere(rng),
    }
}

fn near(rng: &mut Rng, net: IpNet) -> IpAddr {
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first), u32::from(last));
            let near = first.saturating_add(rng.u32(0..24)).min(last);
            let all = [near, near, last, rng.u32(first..=last)];
            Ipv4Addr::from(all[rng.usize(..4)]).into()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (u128::from(first), u128::from(last));
            let near = (first + u128::from(rng.u8(0..24))).min(last);
            let all = [near, near, last, rng.u128(first..=last)];
            Ipv6Addr::from(all[rng.usize(..4)]).into()
        }
        _ => unreachable!("both ends of a prefix are of one family"),
    }
}

fn elsewhere(rng: &mut Rng) -> IpAddr {
    let all = [
        "8.8.8.8",
        "9.9.9.9",
        "198.51.100.7",
        "203.0.112.1",
        "10.250.1.1",
        "127.0.0.1",
        "8.0.0.1",
        "240.0.0.1",
        "224.0.0.1",
        "2001:4860::1",
        "2606:4700::1",
        "2a00::1",
        "fd99::1",
        "fe80::1",
        "fe80::fe:ff:fe00:1",
        "::1",
        "4000::1",
        "ff02::1",
    ];
    all[rng.usize(..all.len())].parse().unwrap()
}

/// Would a packet from there be answered, or forwarded?
fn reaches(tables: &Tables, from: IpAddr, (to, protocol, port): (IpAddr, u8, u16)) -> bool {
    let can_send = tables.source_kind(from).is_some();
    can_send && tables.evaluate(from, to, protocol, port).is_allow()
}

fn wish(rng: &mut Rng, to: IpAddr) -> (IpAddr, u8, u16) {
    let (protocol, port) = match rng.u8(0..10) {
        0..5 => (6, PORTS[rng.usize(..PORTS.len())]),
        5..8 => (17, PORTS[rng.usize(..PORTS.len())]),
        8 => ([1, 58][rng.usize(..2)], 0),
        _ => ([2, 47, 132][rng.usize(..3)], 0),
    };
    (to, protocol, port)
}

/// Every part of every change is a change, as it says.
fn assert_sound(comparison: &Comparison<'_>, change: &Change, seed: u64) {
    let space = &comparison.space;
    let (sources, destinations) = (&space.sources.groups, &space.destinations.groups);
    let pairs: Vec<(usize, usize)> = match &change.who {
        Who::Own(pairs) => pairs.iter().copied().collect(),
        Who::All(from, to) => from
            .iter()
            .flat_map(|&f| to.iter().map(move |&t| (f, t)))
            .filter(|&(f, t)| !is_own(&sources[f].key, &destinations[t].key))
            .collect(),
    };
    assert!(!pairs.is_empty(), "seed {seed}: {change:?} is about nobody");
    for (from, to) in pairs {
        let (from, to) = (sources[from].address, destinations[to].address);
        assert_eq!(from.is_ipv4(), to.is_ipv4(), "seed {seed}: {change:?}");
        for &service in &change.services {
            let service = &comparison.services[service];
            let wish = (to, service.protocol_of(to), service.port());
            let old = reaches(space.tables.old, from, wish);
            let new = reaches(space.tables.new, from, wish);
            let said = (!change.is_gain, change.is_gain);
            assert_eq!(
                (old, new),
                said,
                "seed {seed}: {from} -> {wish:?}: {change:?}"
            );
            assert!(
                comparison.covers(change, from, wish),
                "seed {seed}: {change:?}"
            );
        }
    }
}

#[test]
fn lines_are_about_exactly_what_the_tables_decide_differently() {
    let (mut changed, mut unchanged, mut lines) = (0, 0, 0);
    for seed in 0..MODELS {
        let mut rng = Rng::with_seed(seed);
        let before = model(&mut rng);
        let after = if seed % 16 == 0 {
            model(&mut rng)
        } else {
            related(&mut rng, &before)
        };
        let facts = [&before, &after].map(|model| facts(&mut rng, model));
        let (old, new) = (tables(&before, &facts[0]), tables(&after, &facts[1]));
        let comparison = Comparison::new(&old, &new);
        let changes = comparison.changes();
        for change in &changes {
            assert_sound(&comparison, change, seed);
        }
        for _ in 0..QUESTIONS {
            let from = address(&mut rng, &[&before, &after]);
            let to = address(&mut rng, &[&before, &after]);
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            let wish = wish(&mut rng, to);
            let verdicts = (reaches(&old, from, wish), reaches(&new, from, wish));
            let about: Vec<_> = changes
                .iter()
                .filter(|change| comparison.covers(change, from, wish))
                .map(|change| change.is_gain)
                .collect();
            let expected = match verdicts {
                (true, false) => vec![false],
                (false, true) => vec![true],
                _ => vec![],
            };
            assert_eq!(
                about, expected,
                "seed {seed}: {from} -> {wish:?}: {verdicts:?}"
            );
            *(if expected.is_empty() {
                &mut unchanged
            } else {
                &mut changed
            }) += 1;
        }
        let models = Sides {
            old: Some(&before),
            new: Some(&after),
        };
        lines += tell(&comparison, models).len();
    }
    eprintln!("{changed} changed, {unchanged} unchanged, {lines} lines");
    assert!(changed > 2_500 && unchanged > 50_000 && lines > 1_000);
}

#[test]
fn equal_tables_have_no_lines() {
    for seed in 0..50 {
        let mut rng = Rng::with_seed(seed);
        let model = model(&mut rng);
        let facts = facts(&mut rng, &model);
        let tables = tables(&model, &facts);
        let changes = Comparison::new(&tables, &tables).changes();
        assert!(changes.is_empty(), "seed {seed}: {changes:?}");
    }
}
