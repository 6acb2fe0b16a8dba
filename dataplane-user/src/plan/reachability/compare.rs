//! What the packet path decides differently: group by group, never address by address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use dataplane_common::abi::{ALLOW_ANY, PairEntry, PairKey, RuleKey, segment_flags, service_index};

#[cfg(test)]
use super::found::Who;
use super::found::{Change, Found};
use super::pairs::{Cell, Pairs};
use super::space::{DestinationKey, Side, Sides, SourceKey, Space};
use crate::can::{Service, every_service};
use crate::compile::{Connection, Own, Tables, Verdict, Way};

const GATEWAY_FLAGS: u32 =
    segment_flags::DHCP | segment_flags::DNS | segment_flags::NTP | segment_flags::ECHO;

/// An interface of the router that is declared as a host answers whatever it likes.
const EVERYTHING: u32 = u32::MAX;

/// Services of one verdict, by whether they are gained and the rule that decides.
type Changed = BTreeMap<(bool, u32), Vec<usize>>;

/// The comparison of two generations.
pub(super) struct Comparison<'s> {
    pub(super) space: Space<'s>,
    pub(super) services: Vec<Service>,
    /// What a rule set allows, by side.
    rulesets: [HashMap<u32, Rc<Vec<usize>>>; 2],
}

impl<'s> Comparison<'s> {
    pub(super) fn new(old: &'s Tables, new: &'s Tables) -> Self {
        let services = every_service(&[old, new]);
        let by_class = [old, new].map(|tables| by_class(tables, &services));
        let rulesets = [(old, &by_class[0]), (new, &by_class[1])]
            .map(|(tables, classes)| rulesets(tables, classes, services.len()));
        Self {
            space: Space::new(old, new),
            services,
            rulesets,
        }
    }

    /// Returns everything that changes.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut found = Found::default();
        self.compare_classes(&mut found);
        self.compare_internet(&mut found);
        self.compare_own(&mut found);
        found.into_changes()
    }

    /// Is this connection part of the change?
    #[cfg(test)]
    pub(super) fn covers(&self, change: &Change, source: IpAddr, wish: (IpAddr, u8, u16)) -> bool {
        let (destination, protocol, port) = wish;
        let mut services = change.services.iter().map(|&i| &self.services[i]);
        if !services.any(|service| service.covers(destination, protocol, port)) {
            return false;
        }
        let (source, destination) = (
            self.space.source_key(source),
            self.space.destination_key(destination),
        );
        let (Some(from), Some(to)) = (
            self.space.sources.number(&source),
            self.space.destinations.number(&destination),
        ) else {
            return false;
        };
        match &change.who {
            Who::All(sources, destinations) => {
                sources.contains(&from)
                    && destinations.contains(&to)
                    && source.is_ipv4 == destination.is_ipv4
                    && !is_own(&source, &destination)
            }
            Who::Own(pairs) => pairs.contains(&(from, to)),
        }
    }

    /// Returns the services that only one of two entries allows, by whether it is the new one.
    pub(super) fn services_of(
        &self,
        before: Option<PairEntry>,
        after: Option<PairEntry>,
    ) -> BTreeMap<bool, Vec<Service>> {
        let mut by_side: BTreeMap<bool, Vec<Service>> = BTreeMap::new();
        for ((is_gain, _), services) in self.changed_services(before.as_ref(), after.as_ref()) {
            let services = services.iter().map(|&i| self.services[i].clone());
            by_side.entry(is_gain).or_default().extend(services);
        }
        by_side
    }

    fn tables(&self, side: Side) -> &'s Tables {
        self.space.tables.of(side)
    }

    fn source(&self, number: usize) -> SourceKey {
        self.space.sources.groups[number].key
    }

    fn destination(&self, number: usize) -> DestinationKey {
        self.space.destinations.groups[number].key
    }

    /// Everything that source and destination classes decide.
    fn compare_classes(&self, found: &mut Found) {
        let pairs = Pairs::new(&self.space);
        let (old, new) = (self.tables(Side::Old), self.tables(Side::New));
        let mut seen: HashMap<(Option<u32>, Option<u32>), bool> = HashMap::new();
        let mut compare =
            |before: Option<&PairEntry>, after: Option<&PairEntry>, (s, d): (usize, usize)| {
                let rulesets = (before.map(|e| e.ruleset), after.map(|e| e.ruleset));
                let differs = seen.entry(rulesets).or_insert_with(|| {
                    self.allowed(Side::Old, before) != self.allowed(Side::New, after)
                });
                if !*differs {
                    return;
                }
                let (sources, destinations) = (&pairs.sources[s].1, &pairs.destinations[d].1);
                if self.are_all_own(sources, destinations) {
                    return;
                }
                for (what, services) in self.changed_services(before, after) {
                    found.add_all(what, services, sources, destinations);
                }
            };
        for (key, before) in &old.pairs {
            pairs.each(Side::Old, key, |s, d, source, destination| {
                if !source.old.is_local_with(destination.old) {
                    let after = pair(new, source.new, destination.new);
                    compare(Some(before), after, (s, d));
                }
            });
        }
        for (key, after) in &new.pairs {
            pairs.each(Side::New, key, |s, d, source, destination| {
                let is_compared = pair(old, source.old, destination.old).is_some();
                if !is_compared && !source.new.is_local_with(destination.new) {
                    compare(None, Some(after), (s, d));
                }
            });
        }
    }

    fn allowed(&self, side: Side, entry: Option<&PairEntry>) -> Option<&Rc<Vec<usize>>> {
        self.rulesets[side as usize].get(&entry?.ruleset)
    }

    fn changed_services(&self, before: Option<&PairEntry>, after: Option<&PairEntry>) -> Changed {
        let nothing = Rc::new(Vec::new());
        let olds = self.allowed(Side::Old, before).unwrap_or(&nothing);
        let news = self.allowed(Side::New, after).unwrap_or(&nothing);
        let mut changed = Changed::new();
        for (from, to, side, entry) in [
            (olds, news, Side::Old, before),
            (news, olds, Side::New, after),
        ] {
            let Some(entry) = entry else { continue };
            for &service in from.iter().filter(|s| to.binary_search(s).is_err()) {
                let rule = self.rule(side, entry, service);
                let what = (side == Side::New, rule);
                changed.entry(what).or_default().push(service);
            }
        }
        changed
    }

    fn rule(&self, side: Side, entry: &PairEntry, service: usize) -> u32 {
        if entry.ruleset == ALLOW_ANY {
            return entry.rule_id;
        }
        let tables = self.tables(side);
        let key = RuleKey {
            ruleset: entry.ruleset,
            service_class: class_of(tables, &self.services[service]),
        };
        tables.rules.get(&key).copied().unwrap_or(0)
    }

    /// Does the router answer each of the sources itself?
    fn are_all_own(&self, sources: &[usize], destinations: &[usize]) -> bool {
        sources.iter().all(|&from| {
            let mut to = destinations.iter();
            to.all(|&to| is_own(&self.source(from), &self.destination(to)))
        })
    }

    /// Everything that is or was a part of the internet.
    fn compare_internet(&self, found: &mut Found) {
        let is_internet = |way| way == Way::Internet;
        for (to, group) in self.space.destinations.groups.iter().enumerate() {
            let kinds = group.key.kinds;
            if !is_internet(kinds.old.way) && !is_internet(kinds.new.way) {
                continue;
            }
            for (from, source) in self.space.sources.groups.iter().enumerate() {
                let is_alike = source.key.is_ipv4 != group.key.is_ipv4
                    || is_own(&source.key, &group.key)
                    || self.same_by_flag(&source.key, &group.key);
                if is_alike {
                    continue;
                }
                for (what, services) in self.ask(from, to, 0..self.services.len()) {
                    found.add_all(what, services, &[from], &[to]);
                }
            }
        }
    }

    /// Do both sides decide alike, as far as that can be told from flags?
    fn same_by_flag(&self, source: &SourceKey, destination: &DestinationKey) -> bool {
        let says = |side| match destination.kinds.of(side).way {
            Way::Never => Some(false),
            Way::Internet => Some(self.flags(side, source) & segment_flags::INTERNET != 0),
            Way::Class { .. } => source.kinds.of(side).is_none().then_some(false),
        };
        let (old, new) = (says(Side::Old), says(Side::New));
        old.is_some() && old == new
    }

    /// Returns the flags of a source's segment; 0 if nobody can send from there.
    fn flags(&self, side: Side, source: &SourceKey) -> u32 {
        let segments = &self.tables(side).segments;
        let segment = source.kinds.of(side).and_then(|k| segments.get(&k.vlan_id));
        segment.map_or(0, |segment| segment.flags)
    }

    /// What the router answers itself: the gateway of each segment, and its interfaces.
    fn compare_own(&self, found: &mut Found) {
        let mut on_vlan: HashMap<(Side, u16), Vec<usize>> = HashMap::new();
        for (from, group) in self.space.sources.groups.iter().enumerate() {
            for side in [Side::Old, Side::New] {
                if let Some(kind) = group.key.kinds.of(side) {
                    on_vlan.entry((side, kind.vlan_id)).or_default().push(from);
                }
            }
        }
        for (to, group) in self.space.destinations.groups.iter().enumerate() {
            let mut sources = BTreeSet::new();
            for side in [Side::Old, Side::New] {
                match group.key.kinds.of(side).own {
                    None => {}
                    Some(Own::AnyGateway) => sources.extend(0..self.space.sources.groups.len()),
                    Some(Own::Gateway(vlan_id) | Own::RouterHost(vlan_id)) => {
                        sources.extend(on_vlan.get(&(side, vlan_id)).into_iter().flatten());
                    }
                }
            }
            for from in sources {
                self.compare_own_pair(from, to, found);
            }
        }
    }

    fn compare_own_pair(&self, from: usize, to: usize, found: &mut Found) {
        let (source, destination) = (self.source(from), self.destination(to));
        if source.is_ipv4 != destination.is_ipv4 {
            return;
        }
        let answers = [Side::Old, Side::New].map(|side| self.answer(side, &source, &destination));
        let services: Vec<usize> = match answers {
            [Some(old), Some(new)] if old == new => return,
            [Some(old), Some(new)] if old != EVERYTHING && new != EVERYTHING => {
                let services = self.services.iter().enumerate();
                let gateway = services.filter(|(_, service)| service.gateway_name().is_some());
                gateway.map(|(i, _)| i).collect()
            }
            _ => (0..self.services.len()).collect(),
        };
        let mut changed = self.ask(from, to, services);
        if answers.contains(&Some(EVERYTHING)) {
            changed = together(changed);
        }
        for (what, services) in changed {
            found.add_own(what, services, (from, to));
        }
    }

    /// Returns which gateway services the destination answers; `None` if it is no gateway.
    fn answer(&self, side: Side, source: &SourceKey, to: &DestinationKey) -> Option<u32> {
        let destination = to.kinds.of(side);
        let Some(kind) = source.kinds.of(side) else {
            return Some(0);
        };
        match (destination.is_own_of(kind), destination.way) {
            (true, Way::Never) => Some(self.flags(side, source) & GATEWAY_FLAGS),
            (true, Way::Class { .. } | Way::Internet) => Some(EVERYTHING),
            (false, Way::Never) => Some(0),
            (false, Way::Class { .. } | Way::Internet) => None,
        }
    }

    /// Asks both sides' tables about two groups, service by service.
    fn ask(&self, from: usize, to: usize, services: impl IntoIterator<Item = usize>) -> Changed {
        let mut changed = Changed::new();
        for service in services {
            let rules = Sides {
                old: self.judge(Side::Old, from, to, service),
                new: self.judge(Side::New, from, to, service),
            };
            match (rules.old, rules.new) {
                (Some(rule), None) => changed.entry((false, rule)).or_default().push(service),
                (None, Some(rule)) => changed.entry((true, rule)).or_default().push(service),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        changed
    }

    fn judge(&self, side: Side, from: usize, to: usize, service: usize) -> Option<u32> {
        let destination = self.space.destinations.groups[to].address;
        let source = &self.space.sources.groups[from];
        let service = &self.services[service];
        let verdict = self.tables(side).judge(&Connection {
            vlan_id: source.key.kinds.of(side)?.vlan_id,
            source: source.address,
            destination,
            protocol: service.protocol_of(destination),
            port: service.port(),
        });
        match verdict {
            Verdict::Allow(rule) => Some(rule),
            Verdict::Deny(_) => None,
        }
    }
}

/// A router that is a host of the segment has its gateway services beside: one rule is told for all.
fn together(changed: Changed) -> Changed {
    let mut joined = Changed::new();
    for is_gain in [false, true] {
        let parts = changed.iter().filter(|((gain, _), _)| *gain == is_gain);
        let Some(((_, rule), _)) = parts.clone().max_by_key(|(_, services)| services.len()) else {
            continue;
        };
        let services: BTreeSet<usize> = parts.flat_map(|(_, services)| services).copied().collect();
        joined.insert((is_gain, *rule), services.into_iter().collect());
    }
    joined
}

/// Does the router answer this source itself, on either side?
pub(super) fn is_own(source: &SourceKey, destination: &DestinationKey) -> bool {
    let is_own = |side| {
        let kind = source.kinds.of(side);
        kind.is_some_and(|kind| destination.kinds.of(side).is_own_of(kind))
    };
    is_own(Side::Old) || is_own(Side::New)
}

fn class_of(tables: &Tables, service: &Service) -> u32 {
    // ICMP has the class of IPv4's in both families.
    let protocol = service.protocol_of(IpAddr::from([0, 0, 0, 0]));
    let index = service_index(protocol, service.port()) as usize;
    tables.services.get(index).copied().unwrap_or(0)
}

fn by_class(tables: &Tables, services: &[Service]) -> HashMap<u32, Vec<usize>> {
    let mut classes: HashMap<u32, Vec<usize>> = HashMap::new();
    for (i, service) in services.iter().enumerate() {
        classes
            .entry(class_of(tables, service))
            .or_default()
            .push(i);
    }
    classes
}

/// Returns which services each rule set allows, in order.
fn rulesets(
    tables: &Tables,
    classes: &HashMap<u32, Vec<usize>>,
    count: usize,
) -> HashMap<u32, Rc<Vec<usize>>> {
    let mut sets: HashMap<u32, Vec<usize>> = HashMap::new();
    for key in tables.rules.keys() {
        let services = classes.get(&key.service_class).into_iter().flatten();
        sets.entry(key.ruleset).or_default().extend(services);
    }
    sets.insert(ALLOW_ANY, (0..count).collect());
    let sorted = sets.into_iter().map(|(ruleset, mut services)| {
        services.sort_unstable();
        (ruleset, Rc::new(services))
    });
    sorted.collect()
}

/// What the router finds of a pair in `PAIRS`.
fn pair(tables: &Tables, source: Cell, destination: Cell) -> Option<&PairEntry> {
    if source.is_local_with(destination) {
        return None;
    }
    tables.pairs.get(&PairKey {
        src_class: source.class,
        dst_class: destination.class,
    })
}
