//! A DNS zone in memory: its records, and the answers prepared out of them.
//!
//! A [`Zone`] is immutable. What [`Zone::prepared`] gives are octets to copy behind a question; it is
//! made by [`crate::lookup::resolve`], so that there is one account of what the right answer is.

mod contents;

use std::collections::HashMap;
use std::sync::Arc;

use crate::compose::Body;
use crate::dnssec::key::ZoneKey;
use crate::dnssec::{Kinds, Signatures};
use crate::history::{History, Records};
use crate::lookup::{self, Answer};
use crate::name::{self, Name};
use crate::rdata::rtype;

pub use contents::{Contents, DEFAULT_TTL, NEGATIVE_TTL, RrOwner, RrSet, Soa};

/// How a zone is signed.
#[derive(Debug)]
pub(crate) enum Signing {
    /// It is not.
    Off,
    /// It is to be signed, and there is no key that can be used, for this reason: it is not answered for.
    NoKey(String),
    /// By what is in here.
    On(Box<Signatures>),
}

/// A DNS zone, ready to answer.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    serial: u32,
    nodes: HashMap<Name, Node>,
    /// Does it delegate anything (RFC 1034, 4.2.1)?
    has_cuts: bool,
    has_wildcards: bool,
    soa: Arc<RrSet>,
    /// The SOA as it stands in negative answers.
    negative_soa: Arc<RrSet>,
    history: History,
    nodata: Body,
    nxdomain: Body,
    signing: Signing,
}

/// A name of the zone; without sets, an empty non-terminal.
#[derive(Debug, Default)]
struct Node {
    sets: Vec<Arc<RrSet>>,
    /// By type.
    answers: Vec<(u16, Body)>,
    otherwise: Otherwise,
}

/// What a node answers when asked for another type.
#[derive(Debug, Default)]
enum Otherwise {
    /// There is no such data.
    #[default]
    NoData,
    /// The alias, and what there is to say of its target.
    Alias(Body),
    /// It depends: [`lookup::resolve`] knows.
    Resolve,
}

impl Zone {
    /// Makes a zone. Records outside of it are left out; SOA and its serial are added.
    #[must_use]
    pub fn new(origin: Name, soa: &Soa, serial: u32, contents: &Contents) -> Self {
        let soa = Arc::new(soa.set(serial));
        let mut nodes: HashMap<Name, Node> = HashMap::new();
        let apex = nodes.entry(origin.clone()).or_default();
        apex.sets.push(Arc::clone(&soa));
        for (name, set) in contents.iter() {
            if name.is_within(&origin) && set.rtype != rtype::SOA {
                add_empty_non_terminals(&mut nodes, name, &origin);
                let node = nodes.entry(name.clone()).or_default();
                node.sets.push(Arc::new(set.clone()));
            }
        }
        let has_cuts = nodes
            .iter()
            .any(|(name, node)| *name != origin && node.set(rtype::NS).is_some());
        let has_wildcards = nodes.keys().any(Name::is_wildcard);
        let mut zone = Self {
            nodata: Body::default(),
            nxdomain: Body::default(),
            signing: Signing::Off,
            negative_soa: Arc::new(RrSet {
                ttl: NEGATIVE_TTL,
                ..RrSet::clone(&soa)
            }),
            soa,
            history: History::default(),
            origin,
            serial,
            nodes,
            has_cuts,
            has_wildcards,
        };
        zone.prepare();
        zone
    }

    /// Has it signed with a key, whose DNSKEY is among its records. If there is none, it is not answered for; then this is why.
    #[must_use]
    pub fn signed_with(mut self, key: Result<Arc<ZoneKey>, String>) -> Self {
        let places = self.nodes.iter().map(|(name, node)| {
            let kinds = Kinds {
                sets: node.sets.iter().map(|set| set.rtype).collect(),
                answers: node.answers.iter().map(|(kind, _)| *kind).collect(),
                is_whole: !matches!(node.otherwise, Otherwise::Resolve),
            };
            (name.clone(), kinds)
        });
        self.signing = match key {
            Ok(key) => Signing::On(Box::new(Signatures::new(key, places))),
            Err(why) => Signing::NoKey(why),
        };
        self
    }

    /// Returns how it is signed.
    pub(crate) fn signing(&self) -> &Signing {
        &self.signing
    }

    /// Is it a delegation?
    pub(crate) fn is_cut(&self, name: &[u8]) -> bool {
        self.has_cuts && self.cut_above(name).is_some_and(|(cut, _)| cut == name)
    }

    /// Is it below a delegation, and so another server's?
    pub(crate) fn is_below_cut(&self, name: &[u8]) -> bool {
        self.has_cuts && self.cut_above(name).is_some_and(|(cut, _)| cut != name)
    }

    /// Returns the types that are at a name, or that a wildcard has for it; `None`: there is no such name. At a delegation only what the
    /// zone is asked for is there (RFC 4035, 2.3).
    pub(crate) fn kinds_at(&self, name: &[u8]) -> Option<Vec<u16>> {
        let node = match self.nodes.get(name) {
            Some(node) => node,
            None => self.wildcard_for(name)?,
        };
        let is_cut = self.is_cut(name);
        let kinds = node.sets.iter().map(|set| set.rtype);
        let is_said = |kind: &u16| !is_cut || matches!(*kind, rtype::NS | rtype::DS);
        Some(kinds.filter(is_said).collect())
    }

    /// Goes on from the zone that was there before: what changed can be transferred alone, and what did not is not
    /// signed again.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if let (Signing::On(own), Signing::On(old)) = (&self.signing, &before.signing) {
            own.take_over(&self, (old, before));
        }
        self.history = History::after(before, &self);
        self
    }

    fn prepare(&mut self) {
        let negative = |rcode| Body::shifting(&Answer::negative(self, rcode), &self.origin);
        (self.nodata, self.nxdomain) = (negative(lookup::NOERROR), negative(lookup::NXDOMAIN));
        let names: Vec<Name> = self.nodes.keys().cloned().collect();
        for name in names {
            let (answers, otherwise) = self.answers_of(&name);
            if let Some(node) = self.nodes.get_mut(&name) {
                (node.answers, node.otherwise) = (answers, otherwise);
            }
        }
    }

    /// Prepares all answers about one name.
    fn answers_of(&self, name: &Name) -> (Vec<(u16, Body)>, Otherwise) {
        let is_below_cut = self.has_cuts && self.cut_above(name.as_wire()).is_some();
        if is_below_cut {
            return (Vec::new(), Otherwise::Resolve);
        }
        let Some(node) = self.nodes.get(name) else {
            return (Vec::new(), Otherwise::NoData);
        };
        let answer = |kind| lookup::resolve(self, name.as_wire(), kind);
        let body = |answer: &Answer| Body::exact(answer, &self.origin, name);
        let kinds = node.sets.iter().map(|set| set.rtype);
        let mut answers: Vec<(u16, Body)> = kinds.map(|kind| (kind, body(&answer(kind)))).collect();
        let Some(alias) = node.set(rtype::CNAME) else {
            return (answers, Otherwise::NoData);
        };
        // TYPE0 is nowhere: the answer is the alias, and that its target has no such data.
        let nowhere = answer(0);
        if nowhere.is_unfinished() {
            return (answers, Otherwise::Resolve);
        }
        for kind in self.kinds_behind(alias) {
            answers.push((kind, body(&answer(kind))));
        }
        (answers, Otherwise::Alias(body(&nowhere)))
    }

    /// Returns the types that an alias leads to inside of the zone.
    fn kinds_behind(&self, alias: &RrSet) -> Vec<u16> {
        let mut target = lookup::target(alias);
        for _ in 0..lookup::MAX_CHAIN {
            let Some(node) = target.as_ref().and_then(|name| self.node_or_wildcard(name)) else {
                break;
            };
            match node.set(rtype::CNAME) {
                Some(next) => target = lookup::target(next),
                None => return node.sets.iter().map(|set| set.rtype).collect(),
            }
        }
        Vec::new()
    }

    fn node_or_wildcard(&self, name: &Name) -> Option<&Node> {
        match self.nodes.get(name) {
            Some(node) => Some(node),
            None => self.wildcard_for(name.as_wire()),
        }
    }

    /// Returns the wildcard that answers for a name that does not exist (RFC 4592, 3.3.1): the one
    /// below its closest encloser.
    fn wildcard_for(&self, name: &[u8]) -> Option<&Node> {
        if !self.has_wildcards {
            return None;
        }
        let encloser = name::ancestors(name)
            .skip(1)
            .find(|ancestor| self.nodes.contains_key(*ancestor))?;
        let source = [b"\x01*", encloser].concat();
        self.nodes.get(source.as_slice())
    }

    /// Returns the topmost delegation at or above a name, below the apex.
    fn cut_above<'n>(&self, name: &'n [u8]) -> Option<(&'n [u8], &Arc<RrSet>)> {
        let origin = self.origin.as_wire();
        name::ancestors(name)
            .take_while(|ancestor| *ancestor != origin)
            .filter_map(|ancestor| Some((ancestor, self.nodes.get(ancestor)?.set(rtype::NS)?)))
            .last()
    }

    /// Returns its name.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Returns the serial of its SOA.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Returns its SOA.
    #[must_use]
    pub fn soa(&self) -> &Arc<RrSet> {
        &self.soa
    }

    /// Returns how it came about.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns the number of its records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().map(|(_, set)| set.rdata.len()).sum()
    }

    /// Has it no records? Never: there is its SOA.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Goes through all sets, in no order, to be kept.
    pub fn records(&self) -> impl Iterator<Item = Records> {
        let all = self.nodes.iter();
        all.flat_map(|(name, node)| {
            let sets = node.sets.iter();
            sets.map(move |set| (name.clone(), Arc::clone(set)))
        })
    }

    /// Goes through all names and sets, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &RrSet)> {
        let all = self.nodes.iter();
        all.flat_map(|(name, node)| node.sets.iter().map(move |set| (name, set.as_ref())))
    }

    /// Returns the prepared answer to a question about a name of the zone (lower case); `None` if
    /// [`lookup::resolve`] has to make it.
    #[must_use]
    pub fn prepared(&self, name: &[u8], kind: u16) -> Option<&Body> {
        let Some(node) = self.nodes.get(name) else {
            let is_plain = !self.has_wildcards && !self.has_cuts;
            return is_plain.then_some(&self.nxdomain);
        };
        if kind == rtype::ANY {
            return match (node.answers.first(), &node.otherwise) {
                (Some((_, body)), _) => Some(body),
                (None, Otherwise::Resolve) => None,
                (None, _) => Some(&self.nodata),
            };
        }
        if let Some((_, body)) = node.answers.iter().find(|(there, _)| *there == kind) {
            return Some(body);
        }
        match &node.otherwise {
            Otherwise::NoData => Some(&self.nodata),
            Otherwise::Alias(body) => Some(body),
            Otherwise::Resolve => None,
        }
    }

    /// Looks for a name and a type, without following an alias.
    pub(crate) fn find(&self, name: &[u8], kind: u16) -> Found {
        if self.has_cuts
            && let Some((cut, set)) = self.cut_above(name)
            && !(kind == rtype::DS && cut == name)
        {
            let name = Name::from_wire(cut).unwrap_or_else(|_| self.origin.clone());
            return Found::Referral(name, Arc::clone(set));
        }
        let node = match self.nodes.get(name) {
            Some(node) => node,
            None => match self.wildcard_for(name) {
                Some(node) => node,
                None => return Found::NoName,
            },
        };
        // RFC 8482, 4.1: to ANY, one set is an answer.
        let exact = match kind {
            rtype::ANY => node.sets.first(),
            _ => node.set(kind),
        };
        match (exact, node.set(rtype::CNAME)) {
            (Some(set), _) => Found::Set(Arc::clone(set)),
            (None, Some(alias)) => Found::Alias(Arc::clone(alias)),
            (None, None) => Found::NoData,
        }
    }

    /// Returns the set of one type at a name that exists.
    pub(crate) fn set(&self, name: &Name, kind: u16) -> Option<&Arc<RrSet>> {
        self.nodes.get(name)?.set(kind)
    }

    pub(crate) fn negative_soa(&self) -> &Arc<RrSet> {
        &self.negative_soa
    }
}

/// What is at a name.
pub(crate) enum Found {
    /// The set that was asked for.
    Set(Arc<RrSet>),
    /// A CNAME.
    Alias(Arc<RrSet>),
    /// The name belongs to another server: the cut, and its NS.
    Referral(Name, Arc<RrSet>),
    /// The name is there, the type is not.
    NoData,
    /// There is no such name.
    NoName,
}

impl Node {
    fn set(&self, kind: u16) -> Option<&Arc<RrSet>> {
        self.sets.iter().find(|set| set.rtype == kind)
    }
}

/// RFC 4592, 2.2.2: a name exists if there is anything below it.
fn add_empty_non_terminals(nodes: &mut HashMap<Name, Node>, name: &Name, origin: &Name) {
    for ancestor in name::ancestors(name.as_wire()).skip(1) {
        if ancestor == origin.as_wire() || nodes.contains_key(ancestor) {
            break;
        }
        if let Ok(ancestor) = Name::from_wire(ancestor) {
            nodes.entry(ancestor).or_default();
        }
    }
}
