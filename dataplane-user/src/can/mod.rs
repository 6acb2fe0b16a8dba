//! Would this connection be allowed? Questions about names, answered by the compiled tables.
//!
//! A question is about *every* member of its two parties: all addresses of a zone, all segments of a
//! tenant, every port of a service. The answer says whether all, none or some of these connections
//! are allowed, and keeps each case with the rule or the reason that decides it.

mod expect;
mod members;
mod party;
mod services;
mod why;

use std::net::IpAddr;

use dataplane_common::reason::DropReason;
use netmodel::Model;
use netmodel::model::{PolicyTest, PortSpec, ProtectedFlow};
use thiserror::Error;

pub(crate) use self::expect::flow_text;
pub use self::expect::{Expectation, Unmet};
pub use self::members::Member;
pub use self::party::{Party, PartyKind, parse_destination, resolve};
pub(crate) use self::services::every_service;
pub use self::services::{Service, is_everything, joined, service_label};
pub use self::why::{Because, because};
use crate::compile::{Connection, Tables, Verdict};

/// How many cases one answer may hold: what fits in memory and ends while somebody waits.
const MAX_CASES: usize = 500_000;

/// A model and the tables that enforce it.
#[derive(Clone, Copy, Debug)]
pub struct Site<'s> {
    /// The model.
    pub model: &'s Model,
    /// What it compiles to.
    pub tables: &'s Tables,
}

/// Who wants to reach whom, on what.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who opens the connection.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// On which ports; empty means every protocol and port.
    pub ports: Vec<PortSpec>,
}

/// One connection of a question: a source, a destination and a service, each standing for all that
/// the tables treat alike.
#[derive(Clone, Debug)]
pub struct Case {
    /// Source.
    pub from: Member,
    /// Destination.
    pub to: Member,
    /// Service.
    pub service: Service,
    /// What the tables say.
    pub verdict: Verdict,
}

impl Case {
    /// Returns the connection that was judged.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection {
            vlan_id: self.from.vlan_id,
            source: self.from.address,
            destination: self.to.address,
            protocol: self.service.protocol_of(self.to.address),
            port: self.service.port(),
        }
    }
}

/// The answer to a [`Question`]: every case that was asked.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Allowed.
    pub allowed: Vec<Case>,
    /// Denied.
    pub denied: Vec<Case>,
    /// Both ends in one segment: they talk directly, and the router is not asked. Only if the question
    /// is about nothing else.
    pub direct: Vec<Case>,
}

impl Answer {
    /// Can every case happen?
    #[must_use]
    pub fn is_allow(&self) -> bool {
        self.denied.is_empty() && !self.is_deny()
    }

    /// Can no case happen?
    #[must_use]
    pub fn is_deny(&self) -> bool {
        self.allowed.is_empty() && self.direct.is_empty()
    }
}

/// The question cannot be answered.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AskError {
    /// Nothing has this name.
    #[error("nothing is called `{name}`{}", did_you_mean(candidates))]
    Unknown {
        /// As it was said.
        name: String,
        /// Names that are close.
        candidates: Vec<String>,
    },
    /// Several things have this name.
    #[error("`{name}` can be {}", candidates.join(", or "))]
    Ambiguous {
        /// As it was said.
        name: String,
        /// What it can be.
        candidates: Vec<String>,
    },
    /// The port cannot be read.
    #[error("`{text}` is no port: write 443, 53/udp, 8000-8100/tcp or icmp")]
    BadPort {
        /// As it was said.
        text: String,
    },
    /// The party has no address in the site to ask about.
    #[error("`{name}` has no address on any segment")]
    NoAddress {
        /// As it was said.
        name: String,
    },
    /// The router's own connections are not judged.
    #[error("`{name}` is the router: its own connections are not filtered")]
    Router {
        /// As it was said.
        name: String,
    },
    /// The answer would be too long.
    #[error("that is {cases} questions in one: name a port, or a smaller party")]
    TooMany {
        /// Sources × destinations × services.
        cases: usize,
    },
    /// The two have no address family in common.
    #[error("`{from}` and `{to}` have no address family in common")]
    NoFamily {
        /// Source, as it was said.
        from: String,
        /// Destination, as it was said.
        to: String,
    },
}

fn did_you_mean(candidates: &[String]) -> String {
    match candidates {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(", ")),
    }
}

impl Site<'_> {
    /// Answers a question.
    ///
    /// # Errors
    ///
    /// [`AskError`] if a party has no address that the answer could be about.
    pub fn ask(&self, question: &Question) -> Result<Answer, AskError> {
        let sources = self.sources(&question.from)?;
        let destinations = self.destinations(&question.to)?;
        let answer = self.ask_members(&sources, &destinations, &question.ports)?;
        if answer.is_deny() && answer.denied.is_empty() {
            let (from, to) = (question.from.text.clone(), question.to.text.clone());
            return Err(AskError::NoFamily { from, to });
        }
        Ok(answer)
    }

    /// Answers for members that [`Site::sources`] and [`Site::destinations`] found.
    ///
    /// # Errors
    ///
    /// [`AskError::TooMany`] if the answer would be too long.
    pub fn ask_members(
        &self,
        from: &[Member],
        to: &[Member],
        ports: &[PortSpec],
    ) -> Result<Answer, AskError> {
        let services = self.services(ports);
        let pairs = from.len().saturating_mul(to.len());
        let cases = pairs.saturating_mul(services.len());
        if cases > MAX_CASES {
            return Err(AskError::TooMany { cases });
        }
        let mut answer = Answer::default();
        for from in from {
            for to in to
                .iter()
                .filter(|to| to.address.is_ipv4() == from.address.is_ipv4())
            {
                for service in &services {
                    self.ask_case(from, to, service, &mut answer);
                }
            }
        }
        if !answer.allowed.is_empty() || !answer.denied.is_empty() {
            answer.direct.clear();
        }
        Ok(answer)
    }

    /// Answers a policy test's question.
    ///
    /// # Errors
    ///
    /// As [`Site::ask`].
    pub fn ask_test(&self, test: &PolicyTest) -> Result<Answer, AskError> {
        self.ask(&Question {
            from: Party::from(&test.from),
            to: Party::from(&test.to),
            ports: vec![test.port.clone()],
        })
    }

    /// Answers a protected flow's question.
    ///
    /// # Errors
    ///
    /// As [`Site::ask`].
    pub fn ask_flow(&self, flow: &ProtectedFlow) -> Result<Answer, AskError> {
        self.ask(&Question {
            from: Party::from(&flow.from),
            to: Party::from(&flow.to),
            ports: flow.ports.clone(),
        })
    }

    fn ask_case(&self, from: &Member, to: &Member, service: &Service, answer: &mut Answer) {
        let mut case = Case {
            from: from.clone(),
            to: to.clone(),
            service: service.clone(),
            verdict: Verdict::Deny(DropReason::NoPolicy),
        };
        case.verdict = self.tables.judge(&case.connection());
        match case.verdict {
            Verdict::Allow(_) => answer.allowed.push(case),
            Verdict::Deny(DropReason::SameSegment) => answer.direct.push(case),
            Verdict::Deny(_) => answer.denied.push(case),
        }
    }
}

/// Returns `name (address)`, or the address alone.
fn with_address(name: &str, address: IpAddr) -> String {
    let address = address.to_string();
    if name == address {
        address
    } else {
        format!("{name} ({address})")
    }
}
