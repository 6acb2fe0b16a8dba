//! Dynamic update (RFC 2136): one message is one change of one zone, or none.
//!
//! # Guarantees
//!
//! * **Scope.** A key changes its own tenant's zones and nothing else: the forward zone, and the reverse
//!   zones of its segments.
//! * **Owners.** What the platform or the inventory says cannot be changed by an update, nor what another key of
//!   the same tenant added: the whole message is refused, and an extended error says why.
//! * **Atomic.** All checks come before the first change.

use std::collections::BTreeMap;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record};

use crate::dnssec;
use crate::journal::{Change, ZoneChanges};
use crate::message::{Extended, rcode};
use crate::name::{self, Name};
use crate::rdata::{self, SERVED, rtype};
use crate::zone::{Contents, RrOwner, RrSet};

/// Octets of data in one set at most: it must fit one reply.
const SET_OCTETS: usize = 32 * 1024;
/// Octets of data that a zone may have for each of its records: one of these is longer than most keys are.
const RECORD_OCTETS: usize = 512;
/// So many more it may have, however few its records are.
const ANY_OCTETS: usize = 64 * 1024;
/// Longest TTL, in seconds (RFC 2181, 8).
const MAX_TTL: u32 = i32::MAX.unsigned_abs();

/// Why an update is not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The response code.
    pub code: u16,
    /// What a person is told.
    pub why: Option<(Extended, String)>,
}

impl Refusal {
    fn plain(code: u16) -> Self {
        Self { code, why: None }
    }

    fn quota() -> Self {
        Self::prohibited("the tenant has as many dynamic records as it may have")
    }

    fn prohibited(why: impl Into<String>) -> Self {
        Self {
            code: rcode::REFUSED,
            why: Some((Extended::Prohibited, why.into())),
        }
    }
}

/// The zone that an update is about, and what the tenant may do.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The key that signed, or was shown.
    pub key: &'a Arc<str>,
    /// Other keys that the tenant has: what they added is theirs.
    pub others: &'a [Arc<str>],
    /// Whose zone it is, and whose key.
    pub tenant: &'a Arc<str>,
    /// The zone.
    pub origin: &'a Name,
    /// Its SOA as it is now.
    pub soa: &'a RrSet,
    /// What the platform, the inventory and leases say in it.
    pub fixed: &'a Contents,
    /// What updates said before.
    pub dynamic: &'a ZoneChanges,
    /// How many records the tenant may still add.
    pub room: usize,
    /// The tenant takes no new names.
    pub is_draining: bool,
}

/// Works out what an update changes; an empty change is a success.
///
/// # Errors
///
/// [`Refusal`] with the code of RFC 2136, 3.
pub fn update(target: Target<'_>, message: &Message) -> Result<Change, Refusal> {
    let mut draft = Draft {
        target,
        delta: BTreeMap::new(),
    };
    draft.check_prerequisites(&message.answers)?;
    let steps: Vec<Step> = message
        .authorities
        .iter()
        .map(|record| draft.read(record))
        .collect::<Result<_, _>>()?;
    let added = steps.iter().filter(|step| matches!(step, Step::Add(..)));
    if added.count() > target.room + target.dynamic.records() {
        // Whatever else it deletes: to work it out would keep the other tenants waiting.
        return Err(Refusal::quota());
    }
    for step in &steps {
        draft.check_owner(step)?;
    }
    for step in steps {
        draft.apply(step)?;
    }
    draft.check_quota()?;
    draft
        .delta
        .retain(|(name, kind), set| target.dynamic.set(name, *kind) != set.as_ref());
    Ok(Change {
        tenant: Arc::clone(target.tenant),
        zone: target.origin.clone(),
        sets: draft.delta,
    })
}

/// One record of the update section (RFC 2136, 2.5).
enum Step {
    /// 2.5.1
    Add(Name, u16, u32, Box<[u8]>),
    /// 2.5.2
    DeleteSet(Name, u16),
    /// 2.5.3
    DeleteName(Name),
    /// 2.5.4
    Delete(Name, u16, Box<[u8]>),
}

struct Draft<'a> {
    target: Target<'a>,
    delta: BTreeMap<(Name, u16), Option<RrSet>>,
}

impl Draft<'_> {
    /// Returns a set as it is after the steps so far.
    fn set(&self, name: &Name, kind: u16) -> Option<&RrSet> {
        if kind == rtype::SOA {
            return (name == self.target.origin).then_some(self.target.soa);
        }
        let fixed = self
            .target
            .fixed
            .sets(name)
            .iter()
            .find(|set| set.rtype == kind);
        fixed.or_else(|| self.dynamic(name, kind))
    }

    fn dynamic(&self, name: &Name, kind: u16) -> Option<&RrSet> {
        match self.delta.get(&(name.clone(), kind)) {
            Some(changed) => changed.as_ref(),
            None => self.target.dynamic.set(name, kind),
        }
    }

    /// Returns the types of the dynamic sets at a name.
    fn dynamic_kinds(&self, name: &Name) -> Vec<u16> {
        let before = self.target.dynamic.at(name).map(|set| set.rtype);
        let here = (name.clone(), 0)..=(name.clone(), u16::MAX);
        let added = self.delta.range(here).map(|((_, kind), _)| *kind);
        let mut kinds: Vec<u16> = before.chain(added).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.retain(|kind| self.dynamic(name, *kind).is_some());
        kinds
    }

    fn is_in_use(&self, name: &Name) -> bool {
        name == self.target.origin
            || !self.target.fixed.sets(name).is_empty()
            || !self.dynamic_kinds(name).is_empty()
    }

    /// RFC 2136, 3.2.5.
    fn check_prerequisites(&self, records: &[Record]) -> Result<(), Refusal> {
        let mut exact: BTreeMap<(Name, u16), Vec<Box<[u8]>>> = BTreeMap::new();
        for record in records {
            let name = self.name(&record.name)?;
            let kind = u16::from(record.record_type());
            let is_empty = matches!(record.data, RData::Update0(_));
            if record.ttl != 0 {
                return Err(Refusal::plain(rcode::FORMERR));
            }
            let is_set = || self.set(&name, kind).is_some();
            match (record.dns_class, kind, is_empty) {
                (DNSClass::ANY, rtype::ANY, true) if !self.is_in_use(&name) => {
                    return Err(Refusal::plain(rcode::NXDOMAIN));
                }
                (DNSClass::NONE, rtype::ANY, true) if self.is_in_use(&name) => {
                    return Err(Refusal::plain(rcode::YXDOMAIN));
                }
                (DNSClass::ANY | DNSClass::NONE, rtype::ANY, true) => {}
                (DNSClass::ANY, _, true) if !is_set() => {
                    return Err(Refusal::plain(rcode::NXRRSET));
                }
                (DNSClass::NONE, _, true) if is_set() => {
                    return Err(Refusal::plain(rcode::YXRRSET));
                }
                (DNSClass::ANY | DNSClass::NONE, _, true) => {}
                (DNSClass::IN, _, false) if kind != rtype::ANY => {
                    exact
                        .entry((name, kind))
                        .or_default()
                        .push(data_of(record)?);
                }
                _ => return Err(Refusal::plain(rcode::FORMERR)),
            }
        }
        for ((name, kind), mut wanted) in exact {
            wanted.sort_unstable();
            wanted.dedup();
            if self.set(&name, kind).is_none_or(|set| set.rdata != wanted) {
                return Err(Refusal::plain(rcode::NXRRSET));
            }
        }
        Ok(())
    }

    /// RFC 2136, 3.4.1.3: "if the NAME is not in zone, NOTZONE". Names that could not be written down
    /// again are refused.
    fn name(&self, name: &HickoryName) -> Result<Name, Refusal> {
        let name = Name::from_labels(name, &Name::root());
        let name = name.map_err(|_| Refusal::plain(rcode::FORMERR))?;
        if !name.is_within(self.target.origin) {
            return Err(Refusal::plain(rcode::NOTZONE));
        }
        let labels = name::ancestors(name.as_wire()).filter_map(|at| {
            let (length, rest) = at.split_first()?;
            rest.get(..usize::from(*length))
        });
        // Nor what has a meaning in a master file (RFC 1035, 5.1).
        let is_plain = |octet: &u8| octet.is_ascii_graphic() && !b".\\;()\"$".contains(octet);
        for label in labels {
            if !label.iter().all(is_plain) {
                let why = "names have printable characters only, and no escaped ones";
                return Err(Refusal::prohibited(why));
            }
        }
        Ok(name)
    }

    /// RFC 2136, 3.4.1: the prescan of one record.
    fn read(&self, record: &Record) -> Result<Step, Refusal> {
        let name = self.name(&record.name)?;
        let kind = u16::from(record.record_type());
        let is_empty = matches!(record.data, RData::Update0(_));
        let is_meta = matches!(kind, 0 | rtype::OPT | 128..=255);
        let step = match (record.dns_class, is_empty) {
            (DNSClass::IN, false) if !is_meta && record.ttl <= MAX_TTL => {
                Step::Add(name.clone(), kind, record.ttl, data_of(record)?)
            }
            (DNSClass::ANY, true) if kind == rtype::ANY && record.ttl == 0 => {
                Step::DeleteName(name.clone())
            }
            (DNSClass::ANY, true) if !is_meta && record.ttl == 0 => {
                Step::DeleteSet(name.clone(), kind)
            }
            (DNSClass::NONE, false) if !is_meta && record.ttl == 0 => {
                Step::Delete(name.clone(), kind, data_of(record)?)
            }
            _ => return Err(Refusal::plain(rcode::FORMERR)),
        };
        let is_apex = name == *self.target.origin;
        if kind == rtype::SOA || (is_apex && kind == rtype::NS) {
            return Err(Refusal::prohibited(
                "SOA and the zone's own NS are the platform's",
            ));
        }
        if dnssec::is_made(kind) {
            return Err(Refusal::prohibited(
                "keys, signatures and proofs are the server's",
            ));
        }
        if matches!(step, Step::Add(..)) {
            self.check_addable(&name, kind)?;
        }
        Ok(step)
    }

    fn check_addable(&self, name: &Name, kind: u16) -> Result<(), Refusal> {
        if !SERVED.contains(&kind) {
            return Err(Refusal {
                code: rcode::REFUSED,
                why: Some((Extended::NotSupported, format!("type {kind} is not served"))),
            });
        }
        if self.target.is_draining {
            return Err(Refusal::prohibited(
                "the tenant is draining: names can only be removed",
            ));
        }
        if kind == rtype::NS && name.is_wildcard() {
            // RFC 4592, 4.2: what this would mean is not defined.
            return Err(Refusal::prohibited("a wildcard cannot be delegated"));
        }
        if kind == rtype::CNAME && name == self.target.origin {
            // RFC 1034, 3.6.2: it has other data, SOA and NS.
            return Err(Refusal::prohibited("the zone's own name is no alias"));
        }
        Ok(())
    }

    /// Whoever has a set first keeps it; a CNAME has its name alone.
    fn check_owner(&self, step: &Step) -> Result<(), Refusal> {
        let (name, kind) = match step {
            Step::Add(name, kind, ..)
            | Step::DeleteSet(name, kind)
            | Step::Delete(name, kind, _) => (name, Some(*kind)),
            Step::DeleteName(name) => (name, None),
        };
        let is_apex = name == self.target.origin;
        let fixed = self.target.fixed.sets(name).iter();
        // RFC 2136, 3.4.2.3: deleting everything at the apex leaves SOA and NS.
        let mut fixed = fixed.filter(|set| !(is_apex && set.rtype == rtype::NS));
        let clash = fixed.find(|set| match (step, kind) {
            (Step::Add(..), Some(kind)) => {
                // A client's name is its own as a whole (RFC 4703, 5).
                let is_leased = set.owner == RrOwner::Dhcp;
                is_leased || set.rtype == kind || [set.rtype, kind].contains(&rtype::CNAME)
            }
            (_, Some(kind)) => set.rtype == kind,
            (_, None) => true,
        });
        if let Some(set) = clash.or_else(|| self.of_others(name, kind)) {
            let why = format!("{name} belongs to {}: change it there", set.owner);
            return Err(Refusal::prohibited(why));
        }
        if let Step::Add(name, rtype::NS, ..) = step {
            self.check_delegation(name)?;
        }
        Ok(())
    }

    /// What is at a delegated name and below it is the other server's to say: it hides what is here.
    fn check_delegation(&self, cut: &Name) -> Result<(), Refusal> {
        let mut fixed = self.target.fixed.iter();
        let mut dynamic = self.target.dynamic.sets();
        let hidden = fixed
            .find(|(name, _)| name.is_within(cut))
            .or_else(|| dynamic.find(|(name, set)| name.is_within(cut) && self.is_others(set)));
        match hidden {
            None => Ok(()),
            Some((name, set)) => Err(Refusal::prohibited(format!(
                "a delegation of {cut} would hide {name}, which belongs to {}",
                set.owner
            ))),
        }
    }

    /// Returns a set that another key of the tenant added. What a key added that is no more is anybody's.
    fn of_others(&self, name: &Name, kind: Option<u16>) -> Option<&RrSet> {
        let mut sets = self.target.dynamic.at(name);
        sets.find(|set| kind.is_none_or(|kind| set.rtype == kind) && self.is_others(set))
    }

    fn is_others(&self, set: &RrSet) -> bool {
        match &set.owner {
            RrOwner::Key(key) => self.target.others.contains(key),
            RrOwner::Platform | RrOwner::Inventory | RrOwner::Dhcp => true,
        }
    }

    /// RFC 2136, 3.4.2.
    fn apply(&mut self, step: Step) -> Result<(), Refusal> {
        match step {
            Step::Add(name, kind, ttl, data) => return self.add(name, (kind, data), ttl),
            Step::DeleteSet(name, kind) => {
                self.delta.insert((name, kind), None);
            }
            Step::DeleteName(name) => {
                for kind in self.dynamic_kinds(&name) {
                    self.delta.insert((name.clone(), kind), None);
                }
            }
            Step::Delete(name, kind, data) => {
                if let Some(mut set) = self.dynamic(&name, kind).cloned() {
                    set.rdata.retain(|there| *there != data);
                    let left = (!set.rdata.is_empty()).then_some(set);
                    self.delta.insert((name, kind), left);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: Name, (kind, data): (u16, Box<[u8]>), ttl: u32) -> Result<(), Refusal> {
        let others = self.dynamic_kinds(&name);
        let clashes =
            |other: &u16| *other != kind && (*other == rtype::CNAME || kind == rtype::CNAME);
        if others.iter().any(clashes) {
            // RFC 2136, 3.4.2.2: a CNAME beside other data is silently ignored.
            return Ok(());
        }
        let mut set = match self.dynamic(&name, kind) {
            Some(set) if kind != rtype::CNAME => set.clone(),
            _ => RrSet {
                rtype: kind,
                ttl,
                rdata: Vec::new(),
                owner: RrOwner::Platform,
            },
        };
        set.owner = RrOwner::Key(Arc::clone(self.target.key));
        set.ttl = ttl;
        if let Err(place) = set.rdata.binary_search(&data) {
            set.rdata.insert(place, data);
        }
        if set.rdata.iter().map(|data| data.len() + 12).sum::<usize>() > SET_OCTETS {
            let why = format!("{name} has more data of one type than fits a reply");
            return Err(Refusal::prohibited(why));
        }
        self.delta.insert((name, kind), Some(set));
        Ok(())
    }

    fn check_quota(&self) -> Result<(), Refusal> {
        let count = |set: Option<&RrSet>| set.map_or(0, |set| set.rdata.len());
        let mut added = 0;
        let mut removed = 0;
        for ((name, kind), set) in &self.delta {
            added += count(set.as_ref());
            removed += count(self.target.dynamic.set(name, *kind));
        }
        if added > removed && added - removed > self.target.room {
            return Err(Refusal::quota());
        }
        let octets_of = |set: Option<&RrSet>| {
            let data = set.into_iter().flat_map(|set| &set.rdata);
            data.map(|data| data.len()).sum::<usize>()
        };
        let dynamic = self.target.dynamic;
        let before: usize = dynamic.sets().map(|(_, set)| octets_of(Some(set))).sum();
        let changed = self.delta.iter();
        let (added, removed) = changed.fold((0, 0), |(added, removed), ((name, kind), set)| {
            let old = dynamic.set(name, *kind);
            (added + octets_of(set.as_ref()), removed + octets_of(old))
        });
        let most = ANY_OCTETS + RECORD_OCTETS * (self.target.room + dynamic.records());
        if added > removed && before + added - removed > most {
            return Err(Refusal::prohibited(format!(
                "the zone would have more than {most} octets of dynamic data"
            )));
        }
        Ok(())
    }
}

fn data_of(record: &Record) -> Result<Box<[u8]>, Refusal> {
    let data = rdata::encode(&record.data).filter(|data| !data.is_empty());
    data.map(Vec::into_boxed_slice)
        .ok_or(Refusal::plain(rcode::FORMERR))
}
