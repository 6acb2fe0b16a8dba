//! The differential test: an implementation of the packet path against the evaluator.
//!
//! A [`Backend`] is the implementation; [`compare`] sends it generated scenarios. A disagreement
//! comes with the seed and the scenario, shrunk.

use std::error::Error;
use std::fmt;

use crate::Verdict;
use crate::generate::{Case, Scenario, Step, scenario, shrink};

/// What a step of a test gives, or why it could not be done.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

const PACKETS_PER_SCENARIO: usize = 1000;

/// What an implementation did with a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The name of the verdict or of the drop reason.
    pub outcome: String,
    /// VLAN id and MAC that a forwarded frame was sent to.
    pub hop: Option<(u16, [u8; 6])>,
}

/// An implementation of the packet path, with its tables and its state.
pub trait Backend {
    /// Forgets everything and gets ready for another scenario.
    ///
    /// # Errors
    /// The inventories cannot be compiled, or the state cannot be cleared.
    fn start(&mut self, scenario: &Scenario) -> Outcome<()>;

    /// Enforces one of the scenario's inventories as the next generation.
    ///
    /// # Errors
    /// The implementation refuses it.
    fn publish(&mut self, model: usize) -> Outcome<()>;

    /// Lets time go on.
    ///
    /// # Errors
    /// The implementation cannot do so.
    fn advance(&mut self, seconds: u64) -> Outcome<()>;

    /// Judges a frame; `None` if this implementation cannot be given it.
    ///
    /// # Errors
    /// The implementation fails, or contradicts itself.
    fn judge(&mut self, case: &Case) -> Outcome<Option<Seen>>;
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seed of the first scenario; each later one has the next.
    pub seed: u64,
    /// At least so many packets are compared.
    pub packets: u64,
    /// Is the outer tag in the frame's metadata, as a NIC with VLAN offload gives it?
    pub offloads_tags: bool,
    /// Is a scenario with a disagreement made small? That takes seconds.
    pub shrinks: bool,
}

impl Plan {
    /// Reads `BULKHEAD_SEED`, `BULKHEAD_CASES` and `BULKHEAD_SHRINK` (`no` to see a disagreement at
    /// once) from the environment; so many packets unless told otherwise.
    #[must_use]
    pub fn from_env(packets: u64) -> Self {
        Self {
            seed: number("BULKHEAD_SEED").unwrap_or(1),
            packets: number("BULKHEAD_CASES").unwrap_or(packets),
            offloads_tags: false,
            shrinks: std::env::var("BULKHEAD_SHRINK").as_deref() != Ok("no"),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A scenario that the two judge differently.
pub struct Disagreement {
    scenario: Scenario,
    difference: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {}\n{}",
            self.scenario.seed, self.difference, self.scenario
        )
    }
}

/// Compares an implementation with the evaluator; returns the first disagreement, or how many
/// packets were compared.
///
/// # Errors
/// The implementation fails on a scenario.
pub fn compare(backend: &mut dyn Backend, plan: Plan) -> Outcome<Result<u64, Disagreement>> {
    let mut seed = plan.seed;
    let mut compared = 0;
    while compared < plan.packets {
        let mut scenario = scenario(seed, PACKETS_PER_SCENARIO);
        if plan.offloads_tags {
            offload_tags(&mut scenario);
        }
        let (difference, packets) = run(&scenario, backend)?;
        compared += packets;
        if let Some(difference) = difference {
            return Ok(Err(disagreement(scenario, difference, backend, plan)?));
        }
        seed += 1;
    }
    Ok(Ok(compared))
}

fn offload_tags(scenario: &mut Scenario) {
    for step in &mut scenario.steps {
        if let Step::Packet(case) = step {
            *case = case.with_offloaded_tag();
        }
    }
}

fn disagreement(
    scenario: Scenario,
    difference: String,
    backend: &mut dyn Backend,
    plan: Plan,
) -> Outcome<Disagreement> {
    if !plan.shrinks {
        return Ok(Disagreement {
            scenario,
            difference,
        });
    }
    let scenario = shrink(&scenario, |candidate| {
        matches!(run(candidate, backend), Ok((Some(_), _)))
    });
    let (shrunk, _) = run(&scenario, backend)?;
    Ok(Disagreement {
        scenario,
        difference: format!("{difference}\nshrunk: {}", shrunk.unwrap_or_default()),
    })
}

/// Runs a scenario; returns the first disagreement in words, and the packets compared.
fn run(scenario: &Scenario, backend: &mut dyn Backend) -> Outcome<(Option<String>, u64)> {
    let mut verdicts = scenario.verdicts().into_iter();
    let mut compared = 0;
    backend.start(scenario)?;
    backend.publish(0)?;
    for (number, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Advance(seconds) => backend.advance(*seconds)?,
            Step::Flip(model) => backend.publish(*model)?,
            Step::Packet(case) => {
                let expected = verdicts.next().ok_or("a verdict per packet")?;
                let Some(seen) = backend.judge(case)? else {
                    continue;
                };
                compared += 1;
                if let Some(difference) = differs(expected, &seen) {
                    return Ok((Some(format!("step {number}: {difference}")), compared));
                }
            }
        }
    }
    Ok((None, compared))
}

fn differs(expected: Verdict, seen: &Seen) -> Option<String> {
    let hop = match expected {
        Verdict::Forwarded { vlan, dst_mac } => Some((vlan, dst_mac)),
        Verdict::Answered | Verdict::Drop(_) | Verdict::ToKernel => None,
    };
    let name = expected.name();
    (seen.outcome != name || seen.hop != hop).then(|| {
        format!(
            "evaluator {name} {hop:?}, program {} {:?}",
            seen.outcome, seen.hop
        )
    })
}
