//! What the inventory expects of its own policy: `policy_tests` and `protected_flows`.

use std::fmt;

use netmodel::model::{Origin, Peer, PortSpec};

use super::{Answer, AskError, Because, Site, because, service_label};

/// So many rules or reasons are told.
const TOLD: usize = 3;

/// Where an expectation comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expectation {
    /// `policy_tests`, with `expect: allow`.
    TestAllow,
    /// `policy_tests`, with `expect: deny`.
    TestDeny,
    /// `protected_flows`.
    Protected,
}

/// An expectation that the policy does not meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unmet {
    /// What is expected.
    pub expectation: Expectation,
    /// The flow, as it is said: `guest -> grooveiq tcp/443`.
    pub flow: String,
    /// What would happen: `allowed`, `denied`, `allowed in part`, `unknown`.
    pub verdict: &'static str,
    /// Where the expectation is said.
    pub origin: Origin,
    /// The rules or reasons that decide otherwise, with their places.
    pub notes: Vec<String>,
}

impl Unmet {
    /// Returns `policy-test` or `protected-flow`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.expectation {
            Expectation::TestAllow | Expectation::TestDeny => "policy-test",
            Expectation::Protected => "protected-flow",
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, verdict, .. } = self;
        match self.expectation {
            Expectation::TestAllow => write!(f, "{flow} is {verdict}, expected allow"),
            Expectation::TestDeny => write!(f, "{flow} is {verdict}, expected deny"),
            Expectation::Protected => write!(f, "{flow} is {verdict}, but protected"),
        }
    }
}

impl Site<'_> {
    /// Returns which of `policy_tests` and `protected_flows` the tables do not meet, in file order.
    #[must_use]
    pub fn unmet(&self) -> Vec<Unmet> {
        let tests = self.model.policy_tests.iter().filter_map(|test| {
            let flow = flow_text(&test.from, &test.to, std::slice::from_ref(&test.port));
            let expectation = match test.expect_allow {
                true => Expectation::TestAllow,
                false => Expectation::TestDeny,
            };
            self.judge(expectation, flow, &test.origin, &self.ask_test(test))
        });
        let flows = self.model.protected_flows.iter().filter_map(|flow| {
            let text = flow_text(&flow.from, &flow.to, &flow.ports);
            let answer = self.ask_flow(flow);
            self.judge(Expectation::Protected, text, &flow.origin, &answer)
        });
        tests.chain(flows).collect()
    }

    /// Compares an answer with what is expected of it.
    pub(crate) fn judge(
        &self,
        expectation: Expectation,
        flow: String,
        origin: &Origin,
        answer: &Result<Answer, AskError>,
    ) -> Option<Unmet> {
        let (verdict, notes) = match answer {
            Ok(answer) => {
                let unexpected = unexpected(expectation, answer)?;
                (verdict(answer), self.notes(&unexpected))
            }
            Err(error) => ("unknown", vec![error.to_string()]),
        };
        Some(Unmet {
            expectation,
            flow,
            verdict,
            origin: origin.clone(),
            notes,
        })
    }

    /// Names the rules and reasons that decide.
    fn notes(&self, unexpected: &Answer) -> Vec<String> {
        let cases = unexpected.allowed.iter().chain(&unexpected.direct);
        let mut told: Vec<Because> = Vec::new();
        for case in cases.chain(&unexpected.denied) {
            let because = because(self, case);
            if told.len() < TOLD && !told.contains(&because) {
                told.push(because);
            }
        }
        told.iter().map(note).collect()
    }
}

fn note(because: &Because) -> String {
    let places = because.origins.iter();
    let places: Vec<_> = places
        .map(|origin| format!("{}:{}:{}", origin.file, origin.line, origin.column))
        .collect();
    match places.is_empty() {
        true => because.to_string(),
        false => format!("{because} ({})", places.join(", ")),
    }
}

/// Returns the cases that are not as expected; `None` if all are.
fn unexpected(expectation: Expectation, answer: &Answer) -> Option<Answer> {
    let mut unexpected = answer.clone();
    let is_met = match expectation {
        Expectation::TestAllow | Expectation::Protected => {
            (unexpected.allowed, unexpected.direct) = (Vec::new(), Vec::new());
            answer.is_allow()
        }
        Expectation::TestDeny => {
            unexpected.denied = Vec::new();
            answer.is_deny()
        }
    };
    (!is_met).then_some(unexpected)
}

fn verdict(answer: &Answer) -> &'static str {
    match (answer.is_allow(), answer.is_deny()) {
        (true, _) => "allowed",
        (_, true) => "denied",
        _ => "allowed in part",
    }
}

/// Returns `guest -> grooveiq tcp/443`.
pub(crate) fn flow_text(from: &Peer, to: &Peer, ports: &[PortSpec]) -> String {
    let ports: Vec<_> = ports.iter().map(service_label).collect();
    format!("{} -> {} {}", from.text, to.text, ports.join(", "))
}
