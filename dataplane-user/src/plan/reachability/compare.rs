//! What the packet path decides differently: group by group, never address by address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use dataplane_common::abi::{ALLOW_ANY, PairEntry, PairKey, RuleKey, segment_flags, service_index};

use super::space::{DestinationKey, Side, Sides, SourceKey, Space};
use crate::can::{Service, every_service};
use crate::compile::{Connection, Own, Tables, Verdict, Way};

const GATEWAY_FLAGS: u32 =
    segment_flags::DHCP | segment_flags::DNS | segment_flags::NTP | segment_flags::ECHO;

/// An interface of the router that is declared as a host answers whatever it likes.
const EVERYTHING: u32 = u32::MAX;

/// Connections that become possible, or are cut, for one reason.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Do they become possible?
    pub(super) is_gain: bool,
    /// The rule that allows them, on the side that does.
    pub(super) rule: u32,
    /// Indexes of [`Comparison::services`], in order.
    pub(super) services: Vec<usize>,
    pub(super) who: Who,
}

/// Which groups a change is about.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// Every source with every destination, but for what the router answers itself.
    All(BTreeSet<usize>, BTreeSet<usize>),
    /// These sources with the router's own addresses on their segment.
    Own(BTreeSet<(usize, usize)>),
}

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
        let mut compare = |before: Option<&PairEntry>, after: Option<&PairEntry>, (s, d)| {
            let rulesets = (before.map(|e| e.ruleset), after.map(|e| e.ruleset));
            let differs = seen.entry(rulesets).or_insert_with(|| {
                self.allowed(Side::Old, before) != self.allowed(Side::New, after)
            });
            if !*differs {
                return;
            }
            for (what, services) in self.changed_services(before, after) {
                self.add_product(found, what, services, &pairs, (s, d));
            }
        };
        for (key, before) in &old.pairs {
            pairs.each(Side::Old, key, |s, d, source, destination| {
                let after = pair(new, source.new, destination.new);
                compare(Some(before), after, (s, d));
            });
        }
        for (key, after) in &new.pairs {
            pairs.each(Side::New, key, |s, d, source, destination| {
                if pair(old, source.old, destination.old).is_none() {
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

    /// Adds sources × destinations, without those that the router answers itself.
    fn add_product(
        &self,
        found: &mut Found,
        what: (bool, u32),
        services: Vec<usize>,
        pairs: &Pairs,
        (s, d): (usize, usize),
    ) {
        let (sources, destinations) = (&pairs.sources[s].1, &pairs.destinations[d].1);
        let all_own = sources.iter().all(|&from| {
            let mut to = destinations.iter();
            to.all(|&to| is_own(&self.source(from), &self.destination(to)))
        });
        if !all_own {
            found.add_all(what, services, sources, destinations);
        }
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

fn pair(tables: &Tables, src_class: u32, dst_class: u32) -> Option<&PairEntry> {
    tables.pairs.get(&PairKey {
        src_class,
        dst_class,
    })
}

/// A family and a class on both sides (0: none), with the groups that have it.
type Classed = ((bool, Sides<u32>), Vec<usize>);

/// Groups joined by class: what pairs of classes can tell apart.
struct Pairs {
    sources: Vec<Classed>,
    destinations: Vec<Classed>,
    /// Indexes of the above, by side and class.
    sources_by: HashMap<(Side, u32), Vec<usize>>,
    destinations_by: HashMap<(Side, u32), Vec<usize>>,
}

impl Pairs {
    fn new(space: &Space<'_>) -> Self {
        let sources = space.sources.groups.iter().map(|group| {
            let class = |side| group.key.kinds.of(side).map_or(0, |kind| kind.class);
            let classes = Sides {
                old: class(Side::Old),
                new: class(Side::New),
            };
            ((group.key.is_ipv4, classes), None)
        });
        let destinations = space.destinations.groups.iter().map(|group| {
            let class = |side| match group.key.kinds.of(side).way {
                Way::Class { class, .. } => class,
                Way::Never | Way::Internet => 0,
            };
            let classes = Sides {
                old: class(Side::Old),
                new: class(Side::New),
            };
            let kinds = group.key.kinds;
            let is_internet = [kinds.old.way, kinds.new.way].contains(&Way::Internet);
            // What is or was the internet is compared apart; the router's own addresses one by one.
            let own = (kinds.old.own, kinds.new.own);
            ((group.key.is_ipv4, classes), Some((is_internet, own)))
        });
        let (sources, destinations) = (classed(sources), classed(destinations));
        Self {
            sources_by: by_side(&sources),
            destinations_by: by_side(&destinations),
            sources,
            destinations,
        }
    }

    /// Calls with every joined source and destination that have these classes on one side.
    fn each(
        &self,
        side: Side,
        key: &PairKey,
        mut call: impl FnMut(usize, usize, Sides<u32>, Sides<u32>),
    ) {
        let sources = self.sources_by.get(&(side, key.src_class));
        let destinations = self.destinations_by.get(&(side, key.dst_class));
        for &s in sources.into_iter().flatten() {
            let (is_ipv4, source) = self.sources[s].0;
            for &d in destinations.into_iter().flatten() {
                let (family, destination) = self.destinations[d].0;
                if family == is_ipv4 {
                    call(s, d, source, destination);
                }
            }
        }
    }
}

/// What sets destinations of equal class apart: being internet, and being the router itself.
type Apart = Option<(bool, (Option<Own>, Option<Own>))>;

fn classed(groups: impl Iterator<Item = ((bool, Sides<u32>), Apart)>) -> Vec<Classed> {
    let mut numbers: HashMap<((bool, Sides<u32>), Apart), usize> = HashMap::new();
    let mut classed: Vec<Classed> = Vec::new();
    for (i, (classes, apart)) in groups.enumerate() {
        let is_nothing = classes.1 == Sides::default();
        let is_internet = apart.is_some_and(|(is_internet, _)| is_internet);
        if is_nothing || is_internet {
            continue;
        }
        let number = *numbers.entry((classes, apart)).or_insert_with(|| {
            classed.push((classes, Vec::new()));
            classed.len() - 1
        });
        classed[number].1.push(i);
    }
    classed
}

fn by_side(classed: &[Classed]) -> HashMap<(Side, u32), Vec<usize>> {
    let mut by: HashMap<(Side, u32), Vec<usize>> = HashMap::new();
    for (i, ((_, classes), _)) in classed.iter().enumerate() {
        by.entry((Side::Old, classes.old)).or_default().push(i);
        by.entry((Side::New, classes.new)).or_default().push(i);
    }
    by
}

/// Changes while they are found, those of one kind together.
#[derive(Default)]
struct Found {
    /// By kind and destinations: the sources.
    all: BTreeMap<(bool, u32, Vec<usize>), BTreeMap<Vec<usize>, BTreeSet<usize>>>,
    own: BTreeMap<(bool, u32, Vec<usize>), BTreeSet<(usize, usize)>>,
}

impl Found {
    fn add_all(
        &mut self,
        (gain, rule): (bool, u32),
        services: Vec<usize>,
        from: &[usize],
        to: &[usize],
    ) {
        let kind = self.all.entry((gain, rule, services)).or_default();
        kind.entry(to.to_vec()).or_default().extend(from);
    }

    fn add_own(&mut self, (gain, rule): (bool, u32), services: Vec<usize>, pair: (usize, usize)) {
        self.own
            .entry((gain, rule, services))
            .or_default()
            .insert(pair);
    }

    fn into_changes(self) -> Vec<Change> {
        let mut changes = Vec::new();
        for ((is_gain, rule, services), by_destination) in self.all {
            let mut by_source: BTreeMap<BTreeSet<usize>, BTreeSet<usize>> = BTreeMap::new();
            for (to, from) in by_destination {
                by_source.entry(from).or_default().extend(to);
            }
            changes.extend(by_source.into_iter().map(|(from, to)| Change {
                is_gain,
                rule,
                services: services.clone(),
                who: Who::All(from, to),
            }));
        }
        changes.extend(
            self.own
                .into_iter()
                .map(|((is_gain, rule, services), pairs)| Change {
                    is_gain,
                    rule,
                    services,
                    who: Who::Own(pairs),
                }),
        );
        changes
    }
}
