//! The policy core at the ports of a hypervisor, against the naive evaluator.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dataplane_common::abi::{
    FlowEntry, FlowKey, FragmentEntry, FragmentKey, Mac, PortEntry, StationEntry, StationKey,
    judged_mark,
};
use dataplane_common::host::{HostTables, Slice};
use dataplane_common::policy::{self, Report, Scratch};
use dataplane_common::reason::DropReason;
use netmodel::ids::MacAddr;
use oracle::generate::{Hook, PortCase, PortScenario, PortStep, port_scenario};
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
            let mut host = tables.to_host(trunk.generation(&tables, 1, TICKS));
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
        next.generation = Some(self.trunk.generation(tables, self.number, TICKS));
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

fn judge(tables: &HostTables, case: &PortCase) -> Result<u16, DropReason> {
    let frame = Slice {
        bytes: &case.bytes,
        tag: case.offloaded_tag,
    };
    let mut scratch = Box::<Scratch>::default();
    match case.hook {
        Hook::FromTenant(port) => policy::from_tenant(&frame, port, tables, &mut scratch)?,
        Hook::FromUplink if policy::is_of_router(&frame, tables) => {
            policy::from_router(&frame, tables, &mut scratch)?;
        }
        Hook::FromUplink => policy::from_peer(&frame, tables, &mut scratch)?,
        Hook::ToTenant(port, judged) => {
            policy::to_tenant(&frame, (port, mark(judged)), tables, &mut scratch)?;
            return Ok(0);
        }
        Hook::ToUplink(judged) => {
            policy::to_uplink(&frame, mark(judged), tables, &mut Report::default())?;
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
                let judged = judge(host.tables(), case).map_err(DropReason::name);
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
