//! Groups joined by class: what the map `PAIRS` can tell apart.

use std::collections::HashMap;

use dataplane_common::abi::PairKey;

use super::space::{Side, Sides, Space};
use crate::compile::{Own, Way};

/// A family and a class on both sides (0: none), with the groups that have it.
pub(super) type Classed = ((bool, Sides<u32>), Vec<usize>);

/// Groups joined by class: what pairs of classes can tell apart.
pub(super) struct Pairs {
    pub(super) sources: Vec<Classed>,
    pub(super) destinations: Vec<Classed>,
    /// Indexes of the above, by side and class.
    sources_by: HashMap<(Side, u32), Vec<usize>>,
    destinations_by: HashMap<(Side, u32), Vec<usize>>,
}

impl Pairs {
    pub(super) fn new(space: &Space<'_>) -> Self {
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
    pub(super) fn each(
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
