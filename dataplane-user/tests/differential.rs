//! The programs in the kernel against the naive evaluator: 1,000,000 packets in two hooks.
//!
//! `BULKHEAD_CASES` sets another number (per hook), `BULKHEAD_SEED` the first seed. A disagreement prints
//! the seed and the scenario, shrunk. The test `policy_core` of policy-compiler compares the same code
//! outside of the kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataplane_common::abi::{direction, judged_mark};
use dataplane_common::reason::outcome_name;
use dataplane_user::compile::{self, RouterFacts, Tables};
use dataplane_user::loader::{Datapath, Hook, Host, LoadOptions, Plug, PortHook, PortPath, Trunk};
use netmodel::ids::MacAddr;
use oracle::differential::{Backend, Outcome, Plan, Seen, compare};
use oracle::generate::{self, Case, PortCase, PortScenario, PortStep, Scenario, port_scenario};
use oracle::port::Origin;

/// Shortens the kernel's grace periods while the test runs: a flip waits for one.
struct Expedited(Option<String>);

impl Expedited {
    const SWITCH: &str = "/sys/kernel/rcu_expedited";

    fn new() -> Self {
        let before = std::fs::read_to_string(Self::SWITCH).ok();
        // Without the switch the test is slower, that is all.
        drop(std::fs::write(Self::SWITCH, "1"));
        Self(before)
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            drop(std::fs::write(Self::SWITCH, before));
        }
    }
}

/// Tests of the kernel run one after the other: they change how long its grace periods last.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Kernel {
    _expedited: Expedited,
    _alone: MutexGuard<'static, ()>,
    datapath: Datapath,
    compiled: Vec<Tables>,
    trunk: Trunk,
    hook: Hook,
    out: Vec<u8>,
}

impl Kernel {
    fn new(hook: Hook) -> Outcome<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let datapath = Datapath::load(&LoadOptions {
            connections: 16_384,
            hook: Some(hook),
            ..LoadOptions::default()
        })?;
        Ok(Self {
            _alone: alone,
            _expedited: Expedited::new(),
            datapath,
            compiled: Vec::new(),
            trunk: Trunk {
                ifindex: 1,
                mac: [0; 6],
            },
            hook,
            out: vec![0; 16_384],
        })
    }

    /// Which outcome did the program count for the frame?
    fn counted(&self, vlan_id: u16, before: &[u64]) -> Outcome<String> {
        let after = self.datapath.segment_counters(vlan_id)?;
        let mut moved = String::new();
        for (number, (after, before)) in
            (0..).zip(after.packets[direction::FROM_TENANT].iter().zip(before))
        {
            if after != before {
                write!(moved, "{}", outcome_name(number).unwrap_or("unnamed"))?;
            }
        }
        Ok(moved)
    }
}

/// Returns the index of `COUNTERS` that a frame belongs to.
fn counter_index(frame: &[u8]) -> u16 {
    match frame.get(12..18) {
        Some(&[0x81, 0x00, high, low, _, _]) => u16::from_be_bytes([high & 0xf, low]),
        _ => 0,
    }
}

/// Does the kernel take it as a test frame? It wants an Ethernet header, for TC a payload, and behind an
/// EtherType of IP (so of untagged frames only) the whole IP header.
fn takes(hook: Hook, frame: &[u8]) -> bool {
    let least = match (hook, frame.get(12..14)) {
        (Hook::Tc, Some([0x08, 0x00])) => 34,
        (Hook::Tc, Some([0x86, 0xdd])) => 54,
        (Hook::Tc, _) => 15,
        (Hook::Xdp, _) => 14,
    };
    frame.len() >= least
}

impl Backend for Kernel {
    fn start(&mut self, scenario: &Scenario) -> Outcome<()> {
        self.compiled = compile_all(scenario)?;
        self.trunk.mac = scenario.router_mac;
        Ok(self.datapath.age(None)?)
    }

    fn publish(&mut self, model: usize) -> Outcome<()> {
        let number = self.datapath.next_number();
        self.datapath
            .publish(&self.compiled[model], &self.trunk, number)?;
        Ok(())
    }

    fn advance(&mut self, seconds: u64) -> Outcome<()> {
        let ticks = u64::from(self.datapath.generation().ticks_per_second);
        Ok(self.datapath.age(Some(seconds * ticks))?)
    }

    fn judge(&mut self, case: &Case) -> Outcome<Option<Seen>> {
        if !takes(self.hook, &case.bytes) {
            return Ok(None);
        }
        let vlan_id = counter_index(&case.bytes);
        let before = self.datapath.segment_counters(vlan_id)?;
        let before = before.packets[direction::FROM_TENANT];
        let action = self
            .datapath
            .test_run(self.hook, &case.bytes, &mut self.out)?;
        let outcome = self.counted(vlan_id, &before)?;
        let (pass, drop, send) = match self.hook {
            Hook::Xdp => (2, 1, 3),
            Hook::Tc => (u32::MAX, 2, 7),
        };
        let expected = match outcome.as_str() {
            "to-kernel" => pass,
            "forwarded" | "answered" => send,
            _ => drop,
        };
        if action != expected {
            return Err(format!("action {action} for {outcome}").into());
        }
        let frame = &self.out[..case.bytes.len()];
        let hop = (outcome == "forwarded").then(|| {
            let mac = [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]];
            (u16::from_be_bytes([frame[14], frame[15]]), mac)
        });
        Ok(Some(Seen { outcome, hop }))
    }
}

fn compile_all(scenario: &Scenario) -> Outcome<Vec<Tables>> {
    let mut all = Vec::new();
    for model in &scenario.models {
        let facts = RouterFacts {
            mac: Some(MacAddr(scenario.router_mac)),
            addresses: scenario.extra_addresses.clone(),
            ..RouterFacts::from_model(model)
        };
        all.push(compile::compile(model, &facts)?);
    }
    Ok(all)
}

fn agrees(hook: Hook, packets: u64) {
    let mut kernel = Kernel::new(hook).unwrap();
    match compare(&mut kernel, Plan::from_env(packets)).unwrap() {
        Ok(packets) => eprintln!("{packets} packets compared, 0 disagreements"),
        Err(disagreement) => panic!("{disagreement}"),
    }
}

#[test]
fn xdp_program_agrees_with_the_evaluator() {
    agrees(Hook::Xdp, 700_000);
}

#[test]
fn tc_program_agrees_with_the_evaluator() {
    agrees(Hook::Tc, 300_000);
}

/// Bits of the mark that are none of ours, which every frame has.
const OTHERS_MARK: u32 = 0x8000_0001;
/// The interface that test frames are at.
const TEST_INTERFACE: u32 = 1;

struct Ports {
    _expedited: Expedited,
    _alone: MutexGuard<'static, ()>,
    path: PortPath,
    host: Host,
    number: u32,
    trunk: Trunk,
}

impl Ports {
    fn new() -> Outcome<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let path = PortPath::load(&LoadOptions {
            connections: 16_384,
            ..LoadOptions::default()
        })?;
        Ok(Self {
            _alone: alone,
            _expedited: Expedited::new(),
            path,
            host: Host::default(),
            number: 0,
            trunk: Trunk {
                ifindex: 1,
                mac: [0; 6],
            },
        })
    }

    fn publish(&mut self, tables: &Tables) -> Outcome<()> {
        self.number += 1;
        self.path.publish(tables, &self.trunk, self.number)?;
        Ok(())
    }

    /// Runs a scenario; returns how many frames were compared.
    fn run(&mut self, scenario: &PortScenario) -> Outcome<u64> {
        let compiled = compile_all(&scenario.site)?;
        self.trunk.mac = scenario.site.router_mac;
        let plugs = scenario.plugged.ports.iter();
        self.host = Host {
            ports: plugs
                .map(|(&at, &(mac, vlan_id))| {
                    (
                        at,
                        Plug {
                            mac,
                            vlan_id,
                            connections: 0,
                        },
                    )
                })
                .collect(),
            macs: scenario.plugged.host_macs.iter().copied().collect(),
        };
        self.path.age(None)?;
        self.publish(&compiled[0])?;
        let mut compared = 0;
        for (number, step) in scenario.steps.iter().enumerate() {
            match step {
                PortStep::Advance(seconds) => {
                    let ticks = u64::from(self.path.generation().ticks_per_second);
                    self.path.age(Some(seconds * ticks))?;
                }
                PortStep::Flip(model) => self.publish(&compiled[*model])?,
                PortStep::Frame(case) => {
                    let judged = self.judge(case);
                    judged.map_err(|e| format!("step {number}: {e}"))?;
                    compared += 1;
                }
            }
        }
        Ok(compared)
    }

    /// Compares one frame.
    fn judge(&mut self, case: &PortCase) -> Outcome<()> {
        let (hook, port, judged) = match case.hook {
            generate::Hook::FromTenant(port) => (PortHook::FromTenant, port, None),
            generate::Hook::ToTenant(port, judged) => (PortHook::ToTenant, port, judged),
            generate::Hook::FromUplink => (PortHook::FromUplink, 0, None),
            generate::Hook::ToUplink(Origin::Judged(vlan)) => (PortHook::ToUplink, 0, Some(vlan)),
            generate::Hook::ToUplink(_) => (PortHook::ToUplink, 0, None),
        };
        let is_made_here = case.hook == generate::Hook::ToUplink(Origin::MadeHere);
        let came_from = u32::from(!is_made_here);
        let plug = self.host.ports.get(&port).copied();
        self.host.ports.remove(&TEST_INTERFACE);
        self.host
            .ports
            .extend(plug.map(|plug| (TEST_INTERFACE, plug)));
        self.path.set_host(&self.host)?;
        let tagged = matches!(case.bytes.get(12..14), Some([0x81, 0x00]));
        let tag = case.bytes.get(14..16).filter(|_| tagged);
        let vlan = tag.map_or(0, |tci| u16::from_be_bytes([tci[0] & 0xf, tci[1]]));
        let mut places = vec![0, vlan, plug.map_or(0, |plug| plug.vlan_id)];
        places.sort_unstable();
        places.dedup();
        let before = self.counted(hook, &places)?;
        let mark = judged.map_or(OTHERS_MARK, |vlan| judged_mark(OTHERS_MARK, vlan));
        let (action, after) = self.path.test_run(hook, &case.bytes, (came_from, mark))?;
        let moved = self.counted(hook, &places)?;
        let moved: Vec<_> = moved
            .into_iter()
            .filter(|now| !before.contains(now))
            .collect();
        let [(_, outcome, _)] = moved[..] else {
            return Err(format!("counters that moved: {moved:?}").into());
        };
        let outcome = outcome_name(outcome).unwrap_or("unnamed");
        let expected = case
            .expected
            .map_or_else(oracle::Reason::name, |_| "to-kernel");
        let marked = match (hook, case.expected) {
            (PortHook::FromTenant | PortHook::FromUplink, Ok(vlan)) => judged_mark(mark, vlan),
            _ => mark,
        };
        let wanted = if case.expected.is_ok() { u32::MAX } else { 2 };
        if outcome != expected || action != wanted || after != marked {
            return Err(format!(
                "evaluator {expected}, program {outcome}, action {action}, mark {after:x}: {case:x?}"
            )
            .into());
        }
        Ok(())
    }

    /// (VLAN id, outcome, frames) of everything that was counted at these.
    fn counted(&self, hook: PortHook, places: &[u16]) -> Outcome<Vec<(u16, u32, u64)>> {
        let mut all = Vec::new();
        for &vlan in places {
            let counters = self.path.counters(vlan)?;
            let outcomes = (0..).zip(counters.frames[hook.index()]);
            all.extend(outcomes.map(|(outcome, frames)| (vlan, outcome, frames)));
        }
        Ok(all)
    }
}

/// Puts tags of the uplink back into the octets, which changes no verdict, and leaves out what the kernel still cannot be
/// given: frames that are dropped for a tag or their shape, and leave no trace.
fn for_the_kernel(mut scenario: PortScenario) -> PortScenario {
    for step in &mut scenario.steps {
        if let PortStep::Frame(case) = step
            && let generate::Hook::FromUplink | generate::Hook::ToUplink(_) = case.hook
            && let Some((tpid, tci)) = case.offloaded_tag.take()
        {
            let [a, b] = tpid.to_be_bytes();
            let [c, d] = tci.to_be_bytes();
            case.bytes.splice(12..12, [a, b, c, d]);
        }
    }
    let cannot = |case: &PortCase| case.offloaded_tag.is_some() || !takes(Hook::Tc, &case.bytes);
    scenario.steps.retain(|step| match step {
        PortStep::Frame(case) => !cannot(case),
        PortStep::Advance(_) | PortStep::Flip(_) => true,
    });
    scenario
}

#[test]
fn port_programs_agree_with_the_evaluator() {
    let plan = Plan::from_env(20_000);
    let mut ports = Ports::new().unwrap();
    let (mut compared, mut seed) = (0, plan.seed);
    while compared < plan.packets.min(20_000) {
        let scenario = for_the_kernel(port_scenario(seed, 200));
        compared += ports
            .run(&scenario)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        seed += 1;
    }
    eprintln!("{compared} frames compared, 0 disagreements");
}
