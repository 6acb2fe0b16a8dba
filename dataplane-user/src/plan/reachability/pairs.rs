//! Groups joined by class: what the map `PAIRS` can tell apart.

use std::collections::HashMap;

use dataplane_common::abi::{PairKey, segment_flags};

use super::space::{Side, Sides, Space};
use crate::compile::{Own, Way};

/// What a place is in `PAIRS`, on one side.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Cell {
    /// 0: none.
    pub(super) class: u32,
    /// VLAN id of its segment, if `PAIRS` also judges the hosts of that segment among themselves.
    /// Ports of hypervisors ask for that; the router never sees it.
    local: Option<u16>,
}

impl Cell {
    /// Does only a hypervisor's port ever judge this pair?
    pub(super) fn is_local_with(self, other: Self) -> bool {
        self.local.is_some() && self.local == other.local
    }
}

/// A family and what both sides say, with the groups of which that is so.
pub(super) type Classed = ((bool, Sides<Cell>), Vec<usize>);

/// Groups joined by what pairs of classes can tell apart.
pub(super) struct Pairs {
    pub(super) sources: Vec<Classed>,
    pub(super) destinations: Vec<Classed>,
    /// Indexes of the above, by side and class.
    sources_by: HashMap<(Side, u32), Vec<usize>>,
    destinations_by: HashMap<(Side, u32), Vec<usize>>,
}

impl Pairs {
    pub(super) fn new(space: &Space<'_>) -> Self {
        let cell = |side, vlan_id, class| {
            let segment = space.tables.of(side).segments.get(&vlan_id);
            let is_local = segment.is_some_and(|s| s.flags & segment_flags::LOCAL_POLICY != 0);
            Cell {
                class,
                local: is_local.then_some(vlan_id),
            }
        };
        let sources = space.sources.groups.iter().map(|group| {
            let cell = |side| match group.key.kinds.of(side) {
                Some(kind) => cell(side, kind.vlan_id, kind.class),
                None => Cell::default(),
            };
            let cells = Sides {
                old: cell(Side::Old),
                new: cell(Side::New),
            };
            ((group.key.is_ipv4, cells), None)
        });
        let destinations = space.destinations.groups.iter().map(|group| {
            let cell = |side| match group.key.kinds.of(side).way {
                Way::Class { vlan_id, class } => cell(side, vlan_id, class),
                Way::Never | Way::Internet => Cell::default(),
            };
            let cells = Sides {
                old: cell(Side::Old),
                new: cell(Side::New),
            };
            let kinds = group.key.kinds;
            let is_internet = [kinds.old.way, kinds.new.way].contains(&Way::Internet);
            // What is or was the internet is compared apart; the router's own addresses one by one.
            let own = (kinds.old.own, kinds.new.own);
            ((group.key.is_ipv4, cells), Some((is_internet, own)))
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
        mut call: impl FnMut(usize, usize, Sides<Cell>, Sides<Cell>),
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

fn classed(groups: impl Iterator<Item = ((bool, Sides<Cell>), Apart)>) -> Vec<Classed> {
    let mut numbers: HashMap<((bool, Sides<Cell>), Apart), usize> = HashMap::new();
    let mut classed: Vec<Classed> = Vec::new();
    for (i, (cells, apart)) in groups.enumerate() {
        let is_nothing = cells.1 == Sides::default();
        let is_internet = apart.is_some_and(|(is_internet, _)| is_internet);
        if is_nothing || is_internet {
            continue;
        }
        let number = *numbers.entry((cells, apart)).or_insert_with(|| {
            classed.push((cells, Vec::new()));
            classed.len() - 1
        });
        classed[number].1.push(i);
    }
    classed
}

fn by_side(classed: &[Classed]) -> HashMap<(Side, u32), Vec<usize>> {
    let mut by: HashMap<(Side, u32), Vec<usize>> = HashMap::new();
    for (i, ((_, cells), _)) in classed.iter().enumerate() {
        by.entry((Side::Old, cells.old.class)).or_default().push(i);
        by.entry((Side::New, cells.new.class)).or_default().push(i);
    }
    by
}
