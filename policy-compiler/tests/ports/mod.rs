//! The policy core at the ports of a hypervisor, against the naive evaluator.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dataplane_common::abi::{
    Address, FlowEntry, FlowKey, FlowSide, FragmentEntry, FragmentKey, Mac, PortEntry,
    StationEntry, StationKey, Ticket, judged_mark,
};
use dataplane_common::host::{HostTables, Slice};
use dataplane_common::policy::{self, Scratch};
use dataplane_common::reason::DropReason;
use netmodel::CONNECTIONS;
use netmodel::ids::MacAddr;
use oracle::generate::{Hook, PortScenario, PortStep, port_scenario};
use oracle::port::Origin;
use policy_compiler::{RouterFacts, Tables, Trunk, compile};

const TICKS: u32 = 250;
const FRAMES: usize = 1000;

/// The tables of every model of a scenario; state moves from one to the next.
struct Host {
    trunk: Trunk,
    compiled: Vec<(Tables, HostTables)>,
    current: usize,
    number: u32,
}

impl Host {
    fn new(scenario: &PortScenario) -> Self {
        let mac = scenario.site.router_mac;
        let trunk = Trunk { ifindex: 1, mac };
        let compiled = scenario.site.models.iter().map(|model| {
            let facts = RouterFacts {
                mac: Some(MacAddr(mac)),
                addresses: scenario.site.extra_addresses.clone(),
                ..RouterFacts::from_model(model)
            };
            let tables = compile(model, &facts).expect("the model compiles");
            let mut host = tables.to_host(trunk.generation(&tables, 1, TICKS, CONNECTIONS));
            plug(scenario, &mut host);
            (tables, host)
        });
        Self {
            trunk,
            compiled: compiled.collect(),
            current: 0,
            number: 1,
        }
    }

    fn tables(&mut self) -> &mut HostTables {
        &mut self.compiled[self.current].1
    }

    fn flip(&mut self, model: usize) {
        self.number += 1;
        let last = self.tables();
        let flows: std::collections::HashMap<FlowKey, FlowEntry> = last.flows.take();
        let fragments: std::collections::HashMap<FragmentKey, FragmentEntry> =
            last.fragments.take();
        let now = last.now.get();
        self.current = model;
        let (tables, next) = &mut self.compiled[model];
        next.generation = Some(
            self.trunk
                .generation(tables, self.number, TICKS, CONNECTIONS),
        );
        next.flows.replace(flows);
        next.fragments.replace(fragments);
        next.now.set(now);
    }
}

fn plug(scenario: &PortScenario, host: &mut HostTables) {
    let station = |mac| StationKey {
        mac: Mac::from_octets(mac),
        _pad: 0,
    };
    for (&ifindex, &(mac, vlan_id)) in &scenario.plugged.ports {
        let entry = PortEntry {
            mac: Mac::from_octets(mac),
            vlan_id,
            promised: 0,
            connections: 1 << 16,
        };
        host.ports.insert(ifindex, entry);
        let entry = StationEntry {
            ifindex,
            vlan_id,
            _pad: 0,
        };
        host.stations.insert(station(mac), entry);
    }
    for &mac in &scenario.plugged.host_macs {
        host.stations.insert(station(mac), StationEntry::default());
    }
}

/// The mark of a frame that was judged as one of a segment, among bits of others.
fn mark(judged: Option<u16>) -> u32 {
    judged.map_or(0x8000_0001, |vlan| judged_mark(0x8000_0001, vlan))
}

fn judge(tables: &HostTables, hook: Hook, frame: Slice<'_>) -> Result<u16, DropReason> {
    let mut scratch = Box::<Scratch>::default();
    match hook {
        Hook::FromTenant(port) => policy::from_tenant(&frame, port, tables, &mut scratch)?,
        Hook::FromUplink if policy::is_of_router(&frame, tables) => {
            policy::from_router(&frame, tables, &mut scratch)?;
        }
        Hook::FromUplink => policy::from_peer(&frame, tables, &mut scratch)?,
        Hook::ToTenant(port, judged) => {
            policy::to_tenant(&frame, (port, mark(judged)), tables, &mut scratch)?;
            return Ok(0);
        }
        Hook::ToUplink(origin) => {
            let at = match origin {
                Origin::Judged(vlan) => (1, mark(Some(vlan))),
                Origin::Unjudged => (1, mark(None)),
                Origin::MadeHere => (0, mark(None)),
            };
            policy::to_uplink(&frame, at, tables, &mut scratch)?;
            return Ok(0);
        }
    }
    Ok(scratch.report.vlan_id)
}

/// Runs a scenario; tells the first disagreement. `seen` counts outcomes.
fn run(scenario: &PortScenario, seen: &mut BTreeMap<String, u64>) -> Option<String> {
    let mut host = Host::new(scenario);
    for (number, step) in scenario.steps.iter().enumerate() {
        match step {
            PortStep::Advance(seconds) => {
                let now = &host.tables().now;
                now.set(now.get() + seconds * u64::from(TICKS));
            }
            PortStep::Flip(model) => host.flip(*model),
            PortStep::Frame(case) => {
                let frame = Slice {
                    bytes: &case.bytes,
                    tag: case.offloaded_tag,
                };
                let judged = judge(host.tables(), case.hook, frame).map_err(DropReason::name);
                let expected = case.expected.map_err(|reason| reason.name());
                if judged != expected {
                    let mut octets = String::new();
                    for octet in &case.bytes {
                        write!(octets, "{octet:02x}").expect("writing to a string");
                    }
                    return Some(format!(
                        "seed {}, step {number}: evaluator {expected:?}, core {judged:?}\n{:?} {:?}\n{octets}",
                        scenario.site.seed, case.hook, case.offloaded_tag
                    ));
                }
                let outcome = expected.map_or_else(str::to_owned, |_| "allowed".into());
                let hook = match case.hook {
                    Hook::FromTenant(_) => "from_tenant",
                    Hook::FromUplink => "from_uplink",
                    Hook::ToTenant(..) => "to_tenant",
                    Hook::ToUplink(_) => "to_uplink",
                };
                *seen.entry(format!("{hook} {outcome}")).or_default() += 1;
            }
        }
    }
    None
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn ports_agree_with_the_evaluator() {
    let first = number("BULKHEAD_SEED").unwrap_or(1);
    let frames = number("BULKHEAD_CASES").unwrap_or(1_000_000) / 2;
    let mut seen = BTreeMap::new();
    for seed in first..=first + frames / FRAMES as u64 {
        if let Some(difference) = run(&port_scenario(seed, FRAMES), &mut seen) {
            panic!("{difference}");
        }
    }
    eprintln!("{frames} frames compared, 0 disagreements: {seen:#?}");
}

#[test]
fn nothing_passes_at_a_port_before_the_first_generation() {
    let hooks = [
        Hook::FromTenant(1),
        Hook::FromUplink,
        Hook::ToTenant(1, Some(100)),
        Hook::ToUplink(Origin::Judged(100)),
    ];
    for hook in hooks {
        let judged = judge(&HostTables::default(), hook, untagged(&[0; 60]));
        assert_eq!(judged, Err(DropReason::NoGeneration));
    }
}

/// Octets with no tag in the metadata.
fn untagged(bytes: &[u8]) -> Slice<'_> {
    Slice { bytes, tag: None }
}

/// Where the errors of these tests come from, and where the packets went that they quote.
const INTERNET: [u8; 4] = [8, 8, 8, 8];

/// An IPv4 header without options.
fn ipv4(protocol: u8, payload: &[u8], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a short packet");
    let mut ip = vec![0x45, 0];
    ip.extend(length.to_be_bytes());
    ip.extend([0, 1, 0, 0, 60, protocol, 0, 0]);
    ip.extend(from.iter().chain(&to));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair[1]);
    let sum: u32 = ip.chunks(2).map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded & 0xffff).expect("16 bits");
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip.extend(payload);
    ip
}

/// An ICMP error of the internet, "fragmentation needed", about `quote`.
fn error(router: [u8; 6], (mac, vlan): ([u8; 6], u16), to: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let mut icmp = vec![3, 4, 0xfc, 0xfb, 0, 0, 0, 0];
    icmp.extend(quote);
    let mut frame = [mac, router].concat();
    frame.extend([0x81, 0]);
    frame.extend(vlan.to_be_bytes());
    frame.extend([8, 0]);
    frame.extend(ipv4(1, &icmp, INTERNET, to));
    frame.resize(frame.len().max(64), 0);
    frame
}

/// The connection that `quote` in [`errors_of_the_internet`] is of, by either order of its sides.
fn connection(to: Address, entry: FlowEntry) -> [(FlowKey, FlowEntry); 2] {
    let plan = FlowKey::plan_and_protocol(0, 17);
    let internet = Address::from_ipv4(INTERNET);
    let ends = [(to, 1000, internet, 53), (internet, 53, to, 1000)];
    ends.map(|(a, port_a, b, port_b)| {
        let key = FlowKey {
            plan,
            a,
            b,
            port_a,
            port_b,
        };
        (key, entry)
    })
}

#[test]
fn error_of_the_internet_is_about_a_live_connection_or_about_none() {
    const NOW: u64 = 1_000_000;
    let mut allowed = 0;
    for seed in 1..=20 {
        let scenario = port_scenario(seed, 1);
        let mut host = Host::new(&scenario);
        let plugs: Vec<_> = scenario.plugged.ports.values().copied().collect();
        let endpoints = host.compiled[0].0.endpoints.clone();
        for (key, entry) in &endpoints {
            let std::net::IpAddr::V4(to) = policy_compiler::ip_of(key.address) else {
                continue;
            };
            let plug = (entry.mac.octets(), entry.vlan_id);
            if !plugs.contains(&plug) {
                continue;
            }
            let quote = ipv4(17, &[3, 232, 0, 53, 0, 8, 0, 0], to.octets(), INTERNET);
            let bytes = |quote| error(scenario.site.router_mac, plug, to.octets(), quote);
            let (about, nothing) = (bytes(&quote), bytes(&[]));
            host.tables().now.set(NOW);
            let mut judged = |bytes: &[u8], flow: Option<(u64, u32)>| {
                let flows = flow.map(|(expires, generation)| {
                    let side = FlowSide {
                        generation,
                        ..FlowSide::default()
                    };
                    let sides = [side; 2];
                    let entry = FlowEntry {
                        expires,
                        sides,
                        ticket: Ticket::default(),
                    };
                    connection(key.address, entry)
                });
                host.tables()
                    .flows
                    .replace(flows.into_iter().flatten().collect());
                judge(host.tables(), Hook::FromUplink, untagged(bytes))
            };
            let live = judged(&about, Some((NOW + 1, 1)));
            if live.is_err() {
                // Nobody may send to this endpoint anyway.
                continue;
            }
            allowed += 1;
            for (bytes, flow) in [
                (&nothing, Some((NOW + 1, 1))),
                (&about, None),
                (&about, Some((NOW, 1))),
                (&about, Some((NOW + 1, 2))),
            ] {
                let unrelated = Err(DropReason::IcmpErrorUnrelated);
                assert_eq!(judged(bytes, flow), unrelated, "seed {seed}: {to} {flow:?}");
            }
        }
    }
    assert!(allowed > 5, "only {allowed} may have connections");
}
