//! The programs in the kernel against the naive evaluator: 1,000,000 packets in two hooks.
//!
//! `BULKHEAD_CASES` sets another number (per hook), `BULKHEAD_SEED` the first seed. A disagreement prints
//! the seed and the scenario, shrunk. The test `policy_core` of policy-compiler compares the same code
//! outside of the kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataplane_common::abi::direction;
use dataplane_common::reason::outcome_name;
use dataplane_user::compile::{self, RouterFacts, Tables};
use dataplane_user::loader::{Datapath, Hook, LoadOptions, Trunk};
use netmodel::ids::MacAddr;
use oracle::differential::{Backend, Outcome, Plan, Seen, compare};
use oracle::generate::{Case, Scenario};

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

    /// Does the kernel take it as a test frame? It wants an Ethernet header, for TC a payload, and behind an
    /// EtherType of IP (so of untagged frames only) the whole IP header.
    fn takes(&self, frame: &[u8]) -> bool {
        let least = match (self.hook, frame.get(12..14)) {
            (Hook::Tc, Some([0x08, 0x00])) => 34,
            (Hook::Tc, Some([0x86, 0xdd])) => 54,
            (Hook::Tc, _) => 15,
            (Hook::Xdp, _) => 14,
        };
        frame.len() >= least
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
        if !self.takes(&case.bytes) {
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
