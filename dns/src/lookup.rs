//! What the right answer to a question is, inside of one zone (RFC 1034, 4.3.2; RFC 4592; RFC 2308).
//!
//! This is the plain account: it makes each answer anew. The prepared answers of a zone are made by it.

use std::sync::Arc;

use crate::name::Name;
use crate::rdata::rtype;
use crate::zone::{Found, RrSet, Zone};

/// Response code: there is an answer, or the name is there without such data.
pub const NOERROR: u8 = 0;
/// Response code: there is no such name.
pub const NXDOMAIN: u8 = 3;
/// Longest chain of aliases that is followed.
pub(crate) const MAX_CHAIN: usize = 8;

/// A set in an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Whose it is; `None` is the name that was asked for.
    pub owner: Option<Name>,
    /// The set.
    pub set: Arc<RrSet>,
}

/// An answer, section by section.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// [`NOERROR`] or [`NXDOMAIN`].
    pub rcode: u8,
    /// Is this server the authority for it?
    pub is_authoritative: bool,
    /// Answer section.
    pub answers: Vec<Item>,
    /// Authority section.
    pub authority: Vec<Item>,
    /// Additional section: glue only.
    pub additional: Vec<Item>,
    /// Where the last alias leads to, if that is outside of the zone or below a delegation.
    pub leaves: Option<Name>,
    /// The name of which it is to be proven that it has nothing (more); `None` in it is the name that was asked for.
    pub(crate) denied: Option<Option<Name>>,
}

impl Answer {
    /// The answer that there is nothing.
    pub(crate) fn negative(zone: &Zone, rcode: u8) -> Self {
        let mut answer = Self {
            is_authoritative: true,
            ..Self::default()
        };
        answer.end_with_nothing(zone, rcode);
        answer
    }

    fn end_with_nothing(&mut self, zone: &Zone, rcode: u8) {
        self.rcode = rcode;
        self.authority.push(Item {
            owner: Some(zone.origin().clone()),
            set: Arc::clone(zone.negative_soa()),
        });
    }

    fn refer(&mut self, zone: &Zone, cut: Name, servers: Arc<RrSet>) {
        // A referral is no authoritative answer, the alias that leads to it is one.
        self.is_authoritative = !self.answers.is_empty();
        for target in servers
            .rdata
            .iter()
            .filter_map(|rdata| Name::from_wire(rdata).ok())
        {
            for kind in [rtype::A, rtype::AAAA] {
                if let Some(set) = zone.set(&target, kind) {
                    self.additional.push(Item {
                        owner: Some(target.clone()),
                        set: Arc::clone(set),
                    });
                }
            }
        }
        self.denied = Some(Some(cut.clone()));
        self.authority.push(Item {
            owner: Some(cut),
            set: servers,
        });
    }

    /// Does the answer depend on other zones, or on what lies below a delegation?
    pub(crate) fn is_unfinished(&self) -> bool {
        self.leaves.is_some()
    }
}

/// Answers a question about a name (lower case) at or below the zone's apex.
#[must_use]
pub fn resolve(zone: &Zone, name: &[u8], kind: u16) -> Answer {
    let mut answer = Answer {
        is_authoritative: true,
        ..Answer::default()
    };
    let mut owner: Option<Name> = None;
    for _ in 0..=MAX_CHAIN {
        let wire = owner.as_ref().map_or(name, Name::as_wire);
        match zone.find(wire, kind) {
            Found::Set(set) => {
                answer.answers.push(Item { owner, set });
                return answer;
            }
            Found::Alias(set) => {
                let next = target(&set);
                answer.answers.push(Item { owner, set });
                match next {
                    Some(next) if is_loop(&answer, name, &next) => return answer,
                    Some(next) if next.is_within(zone.origin()) => owner = Some(next),
                    next => {
                        answer.leaves = next;
                        return answer;
                    }
                }
            }
            Found::Referral(cut, servers) => {
                answer.refer(zone, cut, servers);
                answer.leaves = owner;
                return answer;
            }
            Found::NoData => {
                answer.denied = Some(owner);
                answer.end_with_nothing(zone, NOERROR);
                return answer;
            }
            Found::NoName => {
                answer.denied = Some(owner);
                // RFC 6604, 3: the code is that of the last name in the chain.
                answer.end_with_nothing(zone, NXDOMAIN);
                return answer;
            }
        }
    }
    answer
}

/// Was this name in the chain already?
fn is_loop(answer: &Answer, first: &[u8], next: &Name) -> bool {
    next.as_wire() == first
        || answer
            .answers
            .iter()
            .any(|item| item.owner.as_ref() == Some(next))
}

/// Returns where an alias leads to.
pub(crate) fn target(alias: &RrSet) -> Option<Name> {
    Name::from_wire(alias.rdata.first()?).ok()
}
