//! The generators: what they reach, that a seed decides everything, and what models guarantee.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netmodel::Model;
use netmodel::model::Owner;
use oracle::generate::{
    self, Case, Hook, PortStep, Rng, Scenario, Step, port_scenario, scenario, shrink,
};
use oracle::{Reason, State, Verdict, from_trunk};

const PACKETS: usize = 100;

/// Name of the verdict and, where it is one, the IP version of the frame.
type Outcome = (&'static str, Option<u8>);

fn outcomes(seeds: std::ops::Range<u64>) -> BTreeMap<Outcome, usize> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        let scenario = scenario(seed, PACKETS);
        let packets = scenario.steps.iter().filter_map(|step| match step {
            Step::Packet(case) => Some(case),
            Step::Advance(_) | Step::Flip(_) => None,
        });
        for (case, verdict) in packets.zip(scenario.verdicts()) {
            let version = match case.bytes.get(16..18) {
                Some([0x08, 0x00]) => Some(4),
                Some([0x86, 0xdd]) => Some(6),
                _ => None,
            };
            *seen.entry((verdict.name(), version)).or_default() += 1;
        }
    }
    seen
}

/// Outcomes that have nothing to do with IPv4, or with IPv6.
fn is_impossible(name: &str, version: u8) -> bool {
    let ipv4_only = [];
    let ipv6_only = [
        "nd-malformed",
        "nd-mismatch",
        "router-advertisement",
        "link-local-scope",
    ];
    (version == 4 && ipv6_only.contains(&name)) || (version == 6 && ipv4_only.contains(&name))
}

#[test]
fn every_outcome_is_reached_in_every_family() {
    let seen = outcomes(0..2000);
    let of_link_or_arp = [
        "untagged",
        "double-tag",
        "unknown-ether-type",
        "arp-malformed",
        "arp-sender-mismatch",
    ];
    let verdicts = ["to-kernel", "forwarded", "answered"];
    let mut missing = BTreeSet::new();
    let of_trunk = Reason::ALL.iter();
    let of_trunk = of_trunk.filter(|reason| !Reason::OF_PORTS.contains(reason));
    for name in of_trunk.map(|reason| reason.name()).chain(verdicts) {
        if of_link_or_arp.contains(&name) {
            let any = [None, Some(4), Some(6)]
                .iter()
                .any(|v| seen.contains_key(&(name, *v)));
            if !any {
                missing.insert((name, None));
            }
            continue;
        }
        for version in [4, 6] {
            if !is_impossible(name, version) && !seen.contains_key(&(name, Some(version))) {
                missing.insert((name, Some(version)));
            }
        }
    }
    let table: Vec<String> = seen
        .iter()
        .map(|((name, version), count)| format!("{name} {version:?} {count}"))
        .collect();
    assert!(
        missing.is_empty(),
        "not reached: {missing:?}\nreached:\n{}",
        table.join("\n")
    );
}

/// Follow-ups that were made out of what was sent before, and what came of them.
#[test]
fn every_kind_of_state_is_exercised_in_every_family() {
    let mut seen: BTreeMap<(&str, u8), usize> = BTreeMap::new();
    for seed in 0..3000 {
        let scenario = scenario(seed, PACKETS);
        let packets = scenario.steps.iter().filter_map(|step| match step {
            Step::Packet(case) => Some(case),
            Step::Advance(_) | Step::Flip(_) => None,
        });
        for (case, verdict) in packets.zip(scenario.verdicts()) {
            let version = match case.bytes.get(16..18) {
                Some([0x08, 0x00]) => 4,
                Some([0x86, 0xdd]) => 6,
                _ => continue,
            };
            for kind in kinds_of_state(case, verdict) {
                *seen.entry((kind, version)).or_default() += 1;
            }
        }
    }
    for kind in STATE_KINDS {
        for version in [4, 6] {
            let count = seen.get(&(kind, version)).copied().unwrap_or_default();
            assert!(
                count >= 20,
                "{kind} over IPv{version}: {count} times; {seen:?}"
            );
        }
    }
}

const STATE_KINDS: [&str; 6] = [
    "allowed icmp error",
    "allowed later fragment",
    "allowed reply",
    "allowed data of the opener",
    "allowed close",
    "revoked connection",
];

fn kinds_of_state(case: &Case, verdict: Verdict) -> Vec<&'static str> {
    let what = case.notes.first().copied().unwrap_or_default();
    let by_policy = matches!(
        verdict,
        Verdict::Drop(
            Reason::NoPolicy
                | Reason::TenantRule
                | Reason::OtherTenant
                | Reason::InternetDenied
                | Reason::PlatformAddress
                | Reason::GatewayService
        )
    );
    let is_tcp = case.bytes.get(27) == Some(&6) || case.bytes.get(24) == Some(&6);
    // None of these can open a connection: what policy drops was one.
    let is_inner = ["answer", "acknowledgement", "data", "close"]
        .iter()
        .any(|w| what.starts_with(w));
    let kinds = [
        (
            what == "icmp error" && verdict.is_allow(),
            "allowed icmp error",
        ),
        (
            what == "later fragment" && verdict.is_allow(),
            "allowed later fragment",
        ),
        (what == "answer" && verdict.is_allow(), "allowed reply"),
        (
            what == "data from the opener" && verdict.is_allow(),
            "allowed data of the opener",
        ),
        (
            what.starts_with("close") && verdict.is_allow(),
            "allowed close",
        ),
        (
            is_tcp && is_inner && by_policy && case.notes.len() == 1,
            "revoked connection",
        ),
    ];
    kinds
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, kind)| kind)
        .collect()
}

#[test]
fn about_a_third_of_the_packets_is_allowed() {
    let seen = outcomes(5000..5400);
    let total: usize = seen.values().sum();
    let allowed: usize = seen
        .iter()
        .filter(|((name, _), _)| ["to-kernel", "forwarded", "answered"].contains(name))
        .map(|(_, count)| count)
        .sum();
    let share = allowed * 100 / total;
    assert!(
        (20..=60).contains(&share),
        "{share} % of {total} packets are allowed"
    );
}

#[test]
fn the_same_seed_makes_the_same_scenario() {
    for seed in [0, 1, 42] {
        assert_eq!(
            scenario(seed, PACKETS).to_string(),
            scenario(seed, PACKETS).to_string()
        );
    }
    assert_ne!(
        scenario(1, PACKETS).to_string(),
        scenario(2, PACKETS).to_string()
    );
}

#[test]
fn models_keep_the_guarantees_of_the_model() {
    for seed in 0..2000 {
        let mut rng = Rng::with_seed(seed);
        let first = generate::model(&mut rng);
        let second = generate::related(&mut rng, &first);
        for model in [first, second] {
            if let Err(broken) = check_guarantees(&model) {
                panic!("seed {seed}: {broken}");
            }
        }
    }
}

fn check_guarantees(model: &Model) -> Result<(), String> {
    check_segments(model)?;
    check_hosts(model)?;
    check_ids(model)
}

fn check_segments(model: &Model) -> Result<(), String> {
    for (index, a) in model.segments.iter().enumerate() {
        for b in &model.segments[index + 1..] {
            let overlap4 = a
                .ipv4
                .zip(b.ipv4)
                .is_some_and(|(x, y)| x.net.contains(&y.net) || y.net.contains(&x.net));
            let overlap6 = a
                .ipv6
                .zip(b.ipv6)
                .is_some_and(|(x, y)| x.net.contains(&y.net) || y.net.contains(&x.net));
            if overlap4 || overlap6 || a.vlan_id == b.vlan_id {
                return Err(format!("segments {a:?} and {b:?} collide"));
            }
        }
        let gateway4_fits = a.ipv4.is_none_or(|s| s.net.contains(&s.gateway));
        let gateway6_fits = a.ipv6.is_none_or(|s| s.net.contains(&s.gateway));
        if !gateway4_fits || !gateway6_fits {
            return Err(format!("the gateway of {a:?} is outside"));
        }
    }
    let owners: Vec<Owner> = model.segments.iter().map(|segment| segment.owner).collect();
    if owners.is_sorted() {
        Ok(())
    } else {
        Err(format!("order of segments: {owners:?}"))
    }
}

fn check_hosts(model: &Model) -> Result<(), String> {
    let mut macs = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for host in &model.hosts {
        for interface in &host.interfaces {
            if interface.mac.is_some_and(|mac| !macs.insert(mac)) {
                return Err(format!("MAC of {interface:?} twice"));
            }
            let own = [
                interface.ipv4.map(IpAddr::V4),
                interface.ipv6.map(IpAddr::V6),
            ];
            for address in own.into_iter().flatten() {
                if !addresses.insert(address) {
                    return Err(format!("address {address} twice"));
                }
            }
            let Some(segment) = interface.segment.map(|id| model.segment(id)) else {
                continue;
            };
            if !host.is_router && segment.owner != host.owner {
                return Err(format!("{host:?} is on another's segment"));
            }
            check_address(host.is_router, interface, segment)?;
        }
    }
    Ok(())
}

/// Inside of the subnet; not network, broadcast or (but for the router) gateway.
fn check_address(
    is_router: bool,
    interface: &netmodel::model::Interface,
    segment: &netmodel::model::Segment,
) -> Result<(), String> {
    let fits4 = interface.ipv4.is_none_or(|a| {
        segment.ipv4.is_some_and(|s| {
            let edge = s.net.prefix_len() <= 30 && (a == s.net.network() || a == s.net.broadcast());
            s.net.contains(&a) && !edge && (is_router || a != s.gateway)
        })
    });
    let fits6 = interface.ipv6.is_none_or(|a| {
        segment.ipv6.is_some_and(|s| {
            let edge = s.net.prefix_len() <= 126 && a == s.net.network();
            s.net.contains(&a) && !edge && (is_router || a != s.gateway)
        })
    });
    if fits4 && fits6 {
        Ok(())
    } else {
        Err(format!("{interface:?} does not fit {segment:?}"))
    }
}

fn check_ids(model: &Model) -> Result<(), String> {
    for router in &model.routers {
        if !model.host(router.host).is_router {
            return Err(format!("{router:?} names another host"));
        }
    }
    for service in &model.services {
        let segment = model.segment(service.segment);
        let fits4 = service
            .ipv4
            .is_none_or(|a| segment.ipv4.is_some_and(|s| s.net.contains(&a)));
        let fits6 = service
            .ipv6
            .is_none_or(|a| segment.ipv6.is_some_and(|s| s.net.contains(&a)));
        let has_address = service.ipv4.is_some() || service.ipv6.is_some();
        if segment.owner != Owner::Platform || !fits4 || !fits6 || !has_address {
            return Err(format!("{service:?} does not fit {segment:?}"));
        }
    }
    Ok(())
}

/// What the evaluator says of a frame whose tag the NIC hides must be what it says of the frame.
#[test]
fn a_hidden_tag_changes_no_verdict() {
    for seed in 0..300 {
        let scenario = scenario(seed, PACKETS);
        let mut hidden = scenario.clone();
        for step in &mut hidden.steps {
            if let Step::Packet(case) = step
                && case.bytes.len() >= 18
            {
                *case = case.with_offloaded_tag();
            }
        }
        assert_eq!(scenario.verdicts(), hidden.verdicts(), "seed {seed}");
    }
}

#[test]
fn the_evaluator_never_panics_on_any_truncation() {
    for seed in 0..20 {
        let scenario = scenario(seed, PACKETS);
        let world = scenario.world(0, 1);
        for step in &scenario.steps {
            let Step::Packet(case) = step else { continue };
            for length in 0..case.bytes.len().min(200) {
                let mut state = State::default();
                let mut short = case.clone();
                short.bytes.truncate(length);
                let verdict = from_trunk(&world, &mut state, &short.frame(), 0);
                if length < 18 {
                    assert!(
                        matches!(verdict, Verdict::Drop(_)),
                        "{length} octets are let through"
                    );
                }
            }
        }
    }
}

#[test]
fn shrinking_keeps_only_the_steps_that_matter() {
    let counts_forwarded = |scenario: &Scenario| {
        scenario
            .verdicts()
            .iter()
            .filter(|v| matches!(v, Verdict::Forwarded { .. }))
            .count()
    };
    let big = (0..100)
        .map(|seed| scenario(seed, PACKETS))
        .find(|scenario| counts_forwarded(scenario) >= 3)
        .expect("one of a hundred scenarios forwards something");
    let small = shrink(&big, |candidate| counts_forwarded(candidate) >= 1);
    assert!(small.steps.len() <= 2, "left over:\n{small}");
    assert!(counts_forwarded(&small) >= 1);
}

/// Prints the speed: `cargo test --release -p oracle -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement, not a check"]
fn speed() {
    let start = std::time::Instant::now();
    let mut packets = 0;
    for seed in 0..2000 {
        packets += scenario(seed, PACKETS).verdicts().len();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{packets} cases in {seconds:.2} s: {:.0} per second",
        packets as f64 / seconds
    );
}

/// Every outcome of every hook of a hypervisor, among many frames.
#[test]
fn every_outcome_of_ports_is_reached() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        for step in port_scenario(seed, PACKETS).steps {
            if let PortStep::Frame(case) = step {
                let hook = match case.hook {
                    Hook::FromTenant(_) => "from_tenant",
                    Hook::FromUplink => "from_uplink",
                    Hook::ToTenant(..) => "to_tenant",
                    Hook::ToUplink(_) => "to_uplink",
                };
                seen.insert((hook, case.expected.map_or_else(Reason::name, |_| "allowed")));
            }
        }
    }
    let own = [
        (
            "from_tenant",
            &[
                "unknown-port",
                "tagged-frame",
                "spoofed-mac",
                "host-address",
            ][..],
        ),
        (
            "from_tenant",
            &[
                "host-isolation",
                "mac-ip-mismatch",
                "platform-address",
                "allowed",
            ],
        ),
        (
            "from_uplink",
            &[
                "local-mac-claim",
                "not-for-port",
                "other-segment",
                "no-policy",
            ],
        ),
        (
            "from_uplink",
            &[
                "host-isolation",
                "mac-ip-mismatch",
                "unknown-vlan",
                "allowed",
            ],
        ),
        (
            "to_tenant",
            &[
                "unknown-port",
                "not-judged",
                "other-segment",
                "not-for-port",
            ],
        ),
        ("to_tenant", &["tagged-frame", "allowed"]),
        (
            "to_uplink",
            &["not-judged", "other-segment", "unknown-vlan", "allowed"],
        ),
    ];
    for (hook, outcomes) in own {
        for outcome in outcomes {
            assert!(
                seen.contains(&(hook, *outcome)),
                "{hook} never said {outcome}: {seen:?}"
            );
        }
    }
}
