//! The policy core, by the compiled tables in memory, against the naive evaluator.
//!
//! It is the code that the programs in the kernel are made of (`dataplane-user` compares those). See
//! [`oracle::differential::Plan::from_env`] for how many packets, and from which seed.

use std::mem;

use dataplane_common::host::{Buffer, HostTables};
use dataplane_common::policy::{Report, Verdict};
use dataplane_common::reason::outcome_name;
use dataplane_common::rewrite;
use netmodel::ids::MacAddr;
use oracle::Reason;
use oracle::differential::{Backend, Outcome, Plan, Seen, compare};
use oracle::generate::{Case, Scenario};
use policy_compiler::{RouterFacts, Tables, Trunk, compile};

const TICKS: u32 = 250;

/// The policy core on the host.
#[derive(Default)]
struct Host {
    compiled: Vec<Tables>,
    router_mac: [u8; 6],
    tables: HostTables,
    number: u32,
}

impl Backend for Host {
    fn start(&mut self, scenario: &Scenario) -> Outcome<()> {
        *self = Self::default();
        self.router_mac = scenario.router_mac;
        for model in &scenario.models {
            let facts = RouterFacts {
                mac: Some(MacAddr(scenario.router_mac)),
                addresses: scenario.extra_addresses.clone(),
                ..RouterFacts::from_model(model)
            };
            self.compiled.push(compile(model, &facts)?);
        }
        Ok(())
    }

    fn publish(&mut self, model: usize) -> Outcome<()> {
        self.number += 1;
        let trunk = Trunk {
            ifindex: 1,
            mac: self.router_mac,
        };
        let tables = &self.compiled[model];
        let next = tables.to_host(trunk.generation(tables, self.number, TICKS));
        let last = mem::replace(&mut self.tables, next);
        self.tables.flows = last.flows;
        self.tables.fragments = last.fragments;
        self.tables.now = last.now;
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

#[test]
fn policy_core_agrees_with_the_evaluator() {
    let plan = Plan::from_env(1_000_000);
    match compare(&mut Host::default(), plan).unwrap() {
        Ok(packets) => eprintln!("{packets} packets compared, 0 disagreements"),
        Err(disagreement) => panic!("{disagreement}"),
    }
}

#[test]
fn every_reason_has_the_same_name_on_both_sides() {
    for reason in Reason::ALL {
        let name = reason.name();
        assert!((0..64).any(|n| outcome_name(n) == Some(name)), "{name}");
    }
}
