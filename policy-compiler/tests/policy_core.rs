//! The policy core, by the compiled tables in memory, against the naive evaluator.
//!
//! It is the code that the programs in the kernel are made of (`dataplane-user` compares those). See
//! [`oracle::differential::Plan::from_env`] for how many packets, and from which seed.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod fairness;
mod models;
mod ports;

use dataplane_common::host::{Buffer, HostTables, Slice};
use dataplane_common::policy::{Report, Verdict};
use dataplane_common::reason::{DropReason, outcome_name};
use dataplane_common::rewrite;
use netmodel::CONNECTIONS;
use netmodel::ids::MacAddr;
use oracle::Reason;
use oracle::differential::{Backend, Outcome, Plan, Seen, compare};
use oracle::generate::{Case, Scenario};
use policy_compiler::{RouterFacts, Tables, Trunk, compile};

const TICKS: u32 = 250;

/// The policy core on the host.
#[derive(Default)]
struct Host {
    trunk: Option<Trunk>,
    /// By number of the scenario's model: the tables as they are compiled, and in memory.
    compiled: Vec<(Tables, HostTables)>,
    /// The model in force: its tables have the state.
    current: usize,
    number: u32,
}

impl Host {
    fn tables(&self) -> &HostTables {
        &self.compiled[self.current].1
    }
}

impl Backend for Host {
    fn start(&mut self, scenario: &Scenario) -> Outcome<()> {
        let trunk = Trunk {
            ifindex: 1,
            mac: scenario.router_mac,
        };
        *self = Self::default();
        self.trunk = Some(trunk);
        for model in &scenario.models {
            let facts = RouterFacts {
                mac: Some(MacAddr(scenario.router_mac)),
                addresses: scenario.extra_addresses.clone(),
                ..RouterFacts::from_model(model)
            };
            let tables = compile(model, &facts)?;
            let host = tables.to_host(trunk.generation(&tables, 0, TICKS, CONNECTIONS));
            self.compiled.push((tables, host));
        }
        Ok(())
    }

    fn publish(&mut self, model: usize) -> Outcome<()> {
        self.number += 1;
        let last = &mut self.compiled[self.current].1;
        let (flows, fragments) = (last.flows.take(), last.fragments.take());
        let now = last.now.get();
        self.current = model;
        let (tables, next) = &mut self.compiled[model];
        let trunk = self.trunk.ok_or("no trunk")?;
        next.generation = Some(trunk.generation(tables, self.number, TICKS, CONNECTIONS));
        next.flows.replace(flows);
        next.fragments.replace(fragments);
        next.now.set(now);
        Ok(())
    }

    fn advance(&mut self, seconds: u64) -> Outcome<()> {
        let now = self.tables().now.get() + seconds * u64::from(TICKS);
        self.tables().now.set(now);
        Ok(())
    }

    fn judge(&mut self, case: &Case) -> Outcome<Option<Seen>> {
        let mut frame = case.bytes.clone();
        let mut buffer = Buffer {
            bytes: &mut frame,
            tag: case.offloaded_tag,
        };
        let mut report = Report::default();
        let judged = self.tables().judge(&buffer, &mut report);
        let generation = self.tables().generation.ok_or("no generation")?;
        let (mac, l3) = (generation.router_mac, usize::from(report.l3));
        let outcome = match (judged, report.verdict) {
            (Err(reason), _) => reason.name(),
            (Ok(()), Verdict::ToKernel) => "to-kernel",
            (Ok(()), Verdict::Forward) => {
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
        }))
    }
}

fn agrees(plan: Plan) {
    match compare(&mut Host::default(), plan).expect("the scenarios run") {
        Ok(packets) => eprintln!("{packets} packets compared, 0 disagreements"),
        Err(disagreement) => panic!("{disagreement}"),
    }
}

#[test]
fn policy_core_agrees_with_the_evaluator() {
    agrees(Plan::from_env(1_000_000));
}

#[test]
fn policy_core_agrees_when_the_tag_is_in_the_metadata() {
    let plan = Plan::from_env(100_000);
    agrees(Plan {
        packets: plan.packets.min(100_000),
        offloads_tags: true,
        ..plan
    });
}

#[test]
fn nothing_passes_before_the_first_generation() {
    let frame = Slice {
        bytes: &[0; 60],
        tag: Some((0x8100, 1)),
    };
    let judged = HostTables::default().judge(&frame, &mut Report::default());
    assert_eq!(judged, Err(DropReason::NoGeneration));
}

#[test]
fn every_reason_has_the_same_name_on_both_sides() {
    for reason in Reason::ALL {
        let name = reason.name();
        assert!((0..64).any(|n| outcome_name(n) == Some(name)), "{name}");
    }
}
