//! The signatures of one zone, and the answers made of them.
//!
//! A place is made for each set, each name's NSEC and each prepared answer when the zone is made; what goes into it is made when
//! it is first asked for. What a wildcard answers for, and what is not there, is signed each time: clients make up those names.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::error;

use super::denial;
use super::key::ZoneKey;
use super::slot::{Made, Moment, Slot};
use crate::compose::Body;
use crate::lookup::{self, Answer, Item};
use crate::name::Name;
use crate::rdata::rtype;
use crate::zone::{RrOwner, RrSet, Zone};

/// Why there is no signed answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unsigned {
    /// The zone has no key that can be used.
    NoKey,
    /// The view's clients had all the signatures that they get in a second.
    Limit,
    /// It could not be signed.
    Failed,
}

/// A set with its RRSIG.
type Signed = [Arc<RrSet>; 2];

/// The places of one name.
#[derive(Debug)]
struct Node {
    /// RRSIGs, by the type that they sign.
    signatures: Vec<(u16, Slot<Arc<RrSet>>)>,
    nsec: Slot<Signed>,
    answers: Vec<(u16, Slot<Body>)>,
    /// The answer to any other type; `None`: it depends on other zones.
    otherwise: Option<Slot<Body>>,
}

impl Node {
    /// Returns the place of an answer.
    fn answer(&self, kind: u16) -> Option<&Slot<Body>> {
        // NSEC and RRSIG are at every name, and in no set.
        if matches!(kind, rtype::NSEC | rtype::RRSIG) {
            return None;
        }
        let mut answers = self.answers.iter();
        let found = match kind {
            rtype::ANY => answers.next(),
            _ => answers.find(|(there, _)| *there == kind),
        };
        found.map(|(_, slot)| slot).or(self.otherwise.as_ref())
    }
}

/// What a zone says of a name, for which places are made.
pub(crate) struct Kinds {
    pub(crate) sets: Vec<u16>,
    /// Types whose answer is prepared.
    pub(crate) answers: Vec<u16>,
    /// Is the answer to any other type prepared?
    pub(crate) is_whole: bool,
}

/// The signatures of a zone.
#[derive(Debug)]
pub(crate) struct Signatures {
    key: Arc<ZoneKey>,
    nodes: HashMap<Name, Node>,
    negative_soa: Slot<Arc<RrSet>>,
}

impl Signatures {
    /// Makes the places.
    pub(crate) fn new(key: Arc<ZoneKey>, names: impl Iterator<Item = (Name, Kinds)>) -> Self {
        fn slots<T>(kinds: Vec<u16>) -> Vec<(u16, Slot<T>)> {
            let slots = kinds.into_iter().map(|kind| (kind, Slot::default()));
            slots.collect()
        }
        let node = |kinds: Kinds| Node {
            signatures: slots(kinds.sets),
            nsec: Slot::default(),
            answers: slots(kinds.answers),
            otherwise: kinds.is_whole.then(Slot::default),
        };
        Self {
            key,
            nodes: names.map(|(name, kinds)| (name, node(kinds))).collect(),
            negative_soa: Slot::default(),
        }
    }

    /// Goes on from the zone that was there before: what is as it was is not signed again.
    pub(crate) fn take_over(&self, zone: &Zone, (old, before): (&Self, &Zone)) {
        if !Arc::ptr_eq(&self.key, &old.key) {
            return;
        }
        for (name, node) in &self.nodes {
            let Some(was) = old.nodes.get(name) else {
                continue;
            };
            for (kind, slot) in &node.signatures {
                let mut there = was.signatures.iter();
                let there = there.find(|(there, _)| there == kind);
                if let Some((_, there)) = there
                    && zone.set(name, *kind) == before.set(name, *kind)
                {
                    slot.take_over(there);
                }
            }
            if zone.kinds_at(name.as_wire()) == before.kinds_at(name.as_wire()) {
                node.nsec.take_over(&was.nsec);
            }
        }
    }

    pub(crate) fn key(&self) -> &Arc<ZoneKey> {
        &self.key
    }

    /// Returns the signed answer about a name of the zone (lower case), if there is a place for it.
    pub(crate) fn body(
        &self,
        zone: &Zone,
        (name, kind): (&[u8], u16),
        moment: Moment<'_>,
    ) -> Result<Option<Arc<Made<Body>>>, Unsigned> {
        let slot = self.nodes.get(name).and_then(|node| node.answer(kind));
        let Some(slot) = slot else {
            return Ok(None);
        };
        let make = || {
            let answer = self.answer(zone, (name, kind), moment)?;
            let owner = Name::from_wire(name).map_err(|_| Unsigned::Failed)?;
            Ok(Made {
                value: Body::exact(&answer.value, zone.origin(), &owner).signed(),
                since: answer.since,
            })
        };
        slot.get_or_make(moment.now, make).map(Some)
    }

    /// Makes the signed answer to a question (RFC 4035, 3.1).
    pub(crate) fn answer(
        &self,
        zone: &Zone,
        (name, kind): (&[u8], u16),
        moment: Moment<'_>,
    ) -> Result<Made<Answer>, Unsigned> {
        let mut signer = Signer {
            signatures: self,
            zone,
            asked: Name::from_wire(name).map_err(|_| Unsigned::Failed)?,
            moment,
            since: moment.now,
        };
        let value = if matches!(kind, rtype::NSEC | rtype::RRSIG) && !zone.is_below_cut(name) {
            signer.said_of(kind)?
        } else {
            signer.signed(lookup::resolve(zone, name, kind))?
        };
        Ok(Made {
            value,
            since: signer.since,
        })
    }
}

/// One answer in the making.
struct Signer<'a> {
    signatures: &'a Signatures,
    zone: &'a Zone,
    asked: Name,
    moment: Moment<'a>,
    /// When the oldest signature so far was made.
    since: u64,
}

impl Signer<'_> {
    fn signed(&mut self, mut answer: Answer) -> Result<Answer, Unsigned> {
        self.sign_all(&mut answer.answers)?;
        self.sign_all(&mut answer.authority)?;
        self.sign_all(&mut answer.additional)?;
        if let Some(owner) = answer.denied.take() {
            let name = owner.as_ref().unwrap_or(&self.asked).clone();
            let denial = match self.zone.set(&name, rtype::DS).cloned() {
                // RFC 4035, 3.1.4: a referral has the DS, or the NSEC that there is none.
                Some(ds) if self.zone.is_cut(name.as_wire()) => {
                    let signature = self.signature(&name, &ds)?;
                    std::iter::once(ds).chain(signature).collect()
                }
                _ => self.nsec(&name)?.to_vec(),
            };
            let items = denial.into_iter().map(|set| Item {
                owner: owner.clone(),
                set,
            });
            answer.authority.extend(items);
        }
        Ok(answer)
    }

    /// Puts a signature behind each set that the zone is the authority for.
    fn sign_all(&mut self, items: &mut Vec<Item>) -> Result<(), Unsigned> {
        for item in std::mem::take(items) {
            let owner = item.owner.clone();
            let name = owner.as_ref().unwrap_or(&self.asked).clone();
            let signature = self.signature(&name, &item.set)?;
            items.push(item);
            items.extend(signature.map(|set| Item { owner, set }));
        }
        Ok(())
    }

    /// Returns the RRSIG of a set; `None`: what is at or below a delegation is not the zone's to sign (RFC 4035, 2.2).
    fn signature(
        &mut self,
        owner: &Name,
        set: &Arc<RrSet>,
    ) -> Result<Option<Arc<RrSet>>, Unsigned> {
        let (zone, all) = (self.zone, self.signatures);
        let is_cut = zone.is_cut(owner.as_wire());
        if zone.is_below_cut(owner.as_wire()) || (is_cut && set.rtype != rtype::DS) {
            return Ok(None);
        }
        let slot = if Arc::ptr_eq(set, zone.negative_soa()) {
            Some(&all.negative_soa)
        } else {
            let node = all.nodes.get(owner);
            let mut slots = node.into_iter().flat_map(|node| &node.signatures);
            slots
                .find(|(kind, _)| *kind == set.rtype)
                .map(|(_, slot)| slot)
        };
        let made = match slot {
            Some(slot) => slot.get_or_make(self.moment.now, || self.sign(owner, set))?,
            // A wildcard's: the set is signed as the name's own (RFC 9824, 3.3).
            None => Arc::new(self.sign(owner, set)?),
        };
        self.since = self.since.min(made.since);
        Ok(Some(Arc::clone(&made.value)))
    }

    fn sign(&self, owner: &Name, set: &RrSet) -> Result<Made<Arc<RrSet>>, Unsigned> {
        if !self.moment.may_sign() {
            return Err(Unsigned::Limit);
        }
        let (key, validity) = (&self.signatures.key, self.moment.validity());
        let data = key.sign(owner, set, validity).map_err(|reason| {
            error!(zone = %key.origin(), error = %reason, "cannot sign");
            Unsigned::Failed
        })?;
        let set = RrSet {
            rtype: rtype::RRSIG,
            ttl: set.ttl,
            rdata: vec![data],
            owner: RrOwner::Platform,
        };
        Ok(Made {
            value: Arc::new(set),
            since: self.moment.now,
        })
    }

    /// Returns the NSEC of a name and its RRSIG.
    fn nsec(&mut self, name: &Name) -> Result<Signed, Unsigned> {
        let make = || {
            let kinds = self.zone.kinds_at(name.as_wire());
            let nsec =
                denial::nsec(name, self.zone.origin(), kinds.as_deref()).ok_or(Unsigned::Failed)?;
            let signature = self.sign(name, &nsec)?;
            Ok(Made {
                value: [Arc::new(nsec), signature.value],
                since: signature.since,
            })
        };
        let made = match self.signatures.nodes.get(name) {
            Some(node) => node.nsec.get_or_make(self.moment.now, make)?,
            None => Arc::new(make()?),
        };
        self.since = self.since.min(made.since);
        Ok(made.value.clone())
    }

    /// Answers a question for NSEC or RRSIG itself: every name has an NSEC, and of its signatures one is enough (RFC 8482, 7).
    fn said_of(&mut self, kind: u16) -> Result<Answer, Unsigned> {
        let name = self.asked.clone();
        let [nsec, signature] = self.nsec(&name)?;
        let is_there = self.zone.kinds_at(name.as_wire()).is_some();
        let sets = match kind {
            rtype::NSEC => vec![nsec, signature],
            _ => vec![signature],
        };
        let answers = sets.into_iter().map(|set| Item { owner: None, set });
        Ok(Answer {
            rcode: if is_there {
                lookup::NOERROR
            } else {
                lookup::NXDOMAIN
            },
            is_authoritative: true,
            answers: answers.collect(),
            ..Answer::default()
        })
    }
}
