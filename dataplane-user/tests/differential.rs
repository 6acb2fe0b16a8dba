//! The programs in the kernel, and the same policy core on the host, against the naive evaluator.
//!
//! `BULKHEAD_CASES` sets the number of packets (default: 1,000,000 for the kernel, in two hooks, and
//! as many for the host), `BULKHEAD_SEED` the first
//! seed. A disagreement prints the seed and the scenario, shrunk.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataplane_common::abi::direction;
use dataplane_common::host::{Buffer, HostTables};
use dataplane_common::policy::{Report, Verdict as Core};
use dataplane_common::reason::outcome_name;
use dataplane_common::rewrite;
use dataplane_user::compile::{self, RouterFacts, Tables};
use dataplane_user::loader::{Datapath, Hook, LoadOptions, Trunk};
use netmodel::ids::MacAddr;
use oracle::generate::{Case, Scenario, Step, scenario};
use oracle::{Reason, Verdict};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PACKETS_PER_SCENARIO: usize = 1000;
const TICKS: u32 = 250;

/// What an implementation did with a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    outcome: String,
    hop: Option<(u16, [u8; 6])>,
    frame: Vec<u8>,
}

trait Backend {
    fn reset(&mut self) -> Outcome<()>;
    fn publish(&mut self, tables: &Tables, trunk: &Trunk) -> Outcome<()>;
    fn advance(&mut self, seconds: u64) -> Outcome<()>;
    /// `None` if this backend cannot be given the frame.
    fn judge(&mut self, case: &Case) -> Outcome<Option<Seen>>;
}

#[derive(Default)]
struct Host {
    tables: HostTables,
    number: u32,
}

impl Backend for Host {
    fn reset(&mut self) -> Outcome<()> {
        *self = Self::default();
        Ok(())
    }

    fn publish(&mut self, tables: &Tables, trunk: &Trunk) -> Outcome<()> {
        self.number += 1;
        let next = tables.to_host(trunk.generation(tables, self.number, TICKS));
        next.flows.swap(&self.tables.flows);
        next.fragments.swap(&self.tables.fragments);
        next.now.swap(&self.tables.now);
        self.tables = next;
        Ok(())
    }

    fn advance(&mut self, seconds: u64) -> Outcome<()> {
        let now = self.tables.now.get() + seconds * u64::from(TICKS);
        self.tables.now.set(now);
        Ok(())
    }

    fn judge(&mut self, case: &Case) -> Outcome<Option<Seen>> {
        let mut frame = case.bytes.clone();
        let mut buffer = Buffer {
            bytes: &mut frame,
            tag: case.offloaded_tag,
        };
        let mut report = Report::default();
        let judged = self.tables.judge(&buffer, &mut report);
        let generation = self.tables.generation.ok_or("no generation")?;
        let (mac, l3) = (generation.router_mac, usize::from(report.l3));
        let outcome = match (judged, report.verdict) {
            (Err(reason), _) => reason.name(),
            (Ok(()), Core::ToKernel) => "to-kernel",
            (Ok(()), Core::Forward) => {
                rewrite::forward(&mut buffer, &report.hop, l3).ok_or("cannot forward")?;
                "forwarded"
            }
            (Ok(()), answer) => {
                rewrite::answer(&mut buffer, answer, mac, l3).ok_or("cannot answer")?;
                "answered"
            }
        };
        let hop = (outcome == "forwarded").then(|| (report.hop.vlan_id, report.hop.mac.octets()));
        Ok(Some(Seen {
            outcome: outcome.into(),
            hop,
            frame,
        }))
    }
}

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
    fn reset(&mut self) -> Outcome<()> {
        Ok(self.datapath.age(None)?)
    }

    fn publish(&mut self, tables: &Tables, trunk: &Trunk) -> Outcome<()> {
        self.datapath.publish(tables, trunk)?;
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
        let frame = self.out[..case.bytes.len()].to_vec();
        let hop = (outcome == "forwarded").then(|| {
            let mac = [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]];
            (u16::from_be_bytes([frame[14], frame[15]]), mac)
        });
        Ok(Some(Seen {
            outcome,
            hop,
            frame,
        }))
    }
}

fn trunk(scenario: &Scenario) -> Trunk {
    Trunk {
        ifindex: 1,
        mac: scenario.router_mac,
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

/// Runs a scenario; returns the first disagreement in words, and the packets compared.
fn run(scenario: &Scenario, backend: &mut dyn Backend) -> Outcome<(Option<String>, u64)> {
    let tables = compile_all(scenario)?;
    let trunk = trunk(scenario);
    let mut verdicts = scenario.verdicts().into_iter();
    let mut compared = 0;
    backend.reset()?;
    backend.publish(&tables[0], &trunk)?;
    for (number, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Advance(seconds) => backend.advance(*seconds)?,
            Step::Flip(model) => backend.publish(&tables[*model], &trunk)?,
            Step::Packet(case) => {
                let expected = verdicts.next().ok_or("a verdict per packet")?;
                let Some(seen) = backend.judge(case)? else {
                    continue;
                };
                compared += 1;
                if let Some(difference) = differs(&expected, &seen) {
                    return Ok((Some(format!("step {number}: {difference}")), compared));
                }
            }
        }
    }
    Ok((None, compared))
}

fn differs(expected: &Verdict, seen: &Seen) -> Option<String> {
    let (name, hop) = match expected {
        Verdict::Answered => ("answered", None),
        Verdict::Drop(reason) => (reason.name(), None),
        Verdict::Forwarded { vlan, dst_mac } => ("forwarded", Some((*vlan, *dst_mac))),
        Verdict::ToKernel => ("to-kernel", None),
    };
    (seen.outcome != name || seen.hop != hop).then(|| {
        format!(
            "evaluator {name} {hop:?}, program {} {:?}",
            seen.outcome, seen.hop
        )
    })
}

fn number(name: &str, default: u64) -> u64 {
    let number = std::env::var(name).ok().and_then(|text| text.parse().ok());
    number.unwrap_or(default)
}

fn compare(backend: &mut dyn Backend, cases: u64) {
    let mut seed = number("BULKHEAD_SEED", 1);
    let mut compared = 0;
    while compared < cases {
        let scenario = scenario(seed, PACKETS_PER_SCENARIO);
        let (difference, packets) = run(&scenario, backend).expect("the scenario runs");
        compared += packets;
        if let Some(difference) = difference {
            let smallest = oracle::generate::shrink(&scenario, |candidate| {
                matches!(run(candidate, backend), Ok((Some(_), _)))
            });
            let (shrunk, _) = run(&smallest, backend).expect("the scenario runs");
            panic!("seed {seed}: {difference}\nshrunk: {shrunk:?}\n{smallest}");
        }
        seed += 1;
    }
    eprintln!("{compared} packets compared, 0 disagreements");
}

#[test]
fn policy_core_agrees_with_the_evaluator() {
    compare(&mut Host::default(), number("BULKHEAD_CASES", 1_000_000));
}

#[test]
fn xdp_program_agrees_with_the_evaluator() {
    compare(
        &mut Kernel::new(Hook::Xdp).unwrap(),
        number("BULKHEAD_CASES", 700_000),
    );
}

#[test]
fn tc_program_agrees_with_the_evaluator() {
    compare(
        &mut Kernel::new(Hook::Tc).unwrap(),
        number("BULKHEAD_CASES", 300_000),
    );
}

#[test]
fn every_reason_has_the_same_name_on_both_sides() {
    for reason in Reason::ALL {
        let name = reason.name();
        assert!((0..64).any(|n| outcome_name(n) == Some(name)), "{name}");
    }
}
