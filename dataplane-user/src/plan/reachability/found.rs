//! Changes of equal kind, put together.

use std::collections::{BTreeMap, BTreeSet};

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

/// Is it a gain, by which rule, on which services?
type Kind = (bool, u32, Vec<usize>);

/// Changes while they are found, those of one kind together.
#[derive(Default)]
pub(super) struct Found {
    /// By kind and destinations: the sources.
    all: BTreeMap<Kind, BTreeMap<Vec<usize>, BTreeSet<usize>>>,
    own: BTreeMap<Kind, BTreeSet<(usize, usize)>>,
}

impl Found {
    pub(super) fn add_all(
        &mut self,
        (gain, rule): (bool, u32),
        services: Vec<usize>,
        from: &[usize],
        to: &[usize],
    ) {
        let kind = self.all.entry((gain, rule, services)).or_default();
        kind.entry(to.to_vec()).or_default().extend(from);
    }

    pub(super) fn add_own(
        &mut self,
        (gain, rule): (bool, u32),
        services: Vec<usize>,
        pair: (usize, usize),
    ) {
        self.own
            .entry((gain, rule, services))
            .or_default()
            .insert(pair);
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
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
