//! `PAIRS` and `RULES`: which classes may reach which, decided pair by pair.

use std::collections::{BTreeMap, BTreeSet};

use dataplane_common::abi::{ALLOW_ANY, PairEntry, PairKey, RuleKey};
use netmodel::model::{SegmentId, Zone, ZonePolicy};

use super::classes::{Classes, Place};
use super::decide::{Decider, Decision};
use super::index::Index;
use super::trace::Trace;
use super::{Tables, number};

/// Fills `PAIRS` and `RULES`; equal rule sets are stored once.
pub(super) fn add(
    index: &Index,
    classes: &Classes,
    decider: &Decider,
    trace: &mut Trace,
    tables: &mut Tables,
) {
    let sources: Vec<&Place> = classes.sources().map(|(_, place)| place).collect();
    let destinations: Vec<&Place> = classes.destinations().map(|(_, place)| place).collect();
    let mut rulesets: BTreeMap<Vec<(u32, u32)>, u32> = BTreeMap::new();
    for (src_class, dst_class) in candidates(index, classes) {
        let source = sources[src_class as usize - 1];
        let destination = destinations[dst_class as usize - 1];
        let entry = match decider.decide(source, destination) {
            Decision::Any(cause) => PairEntry {
                ruleset: ALLOW_ANY,
                rule_id: trace.id(cause),
            },
            Decision::Classes(allowed) if allowed.is_empty() => continue,
            Decision::Classes(allowed) => {
                let allowed = allowed
                    .into_iter()
                    .map(|(class, cause)| (class, trace.id(cause)));
                let next = number(rulesets.len()) + 1;
                let ruleset = *rulesets.entry(allowed.collect()).or_insert(next);
                PairEntry {
                    ruleset,
                    rule_id: 0,
                }
            }
        };
        tables.pairs.insert(
            PairKey {
                src_class,
                dst_class,
            },
            entry,
        );
    }
    let mut rulesets: Vec<_> = rulesets.into_iter().collect();
    rulesets.sort_by_key(|(_, ruleset)| *ruleset);
    for (allowed, ruleset) in rulesets {
        for (service_class, rule_id) in allowed {
            tables.rules.insert(
                RuleKey {
                    ruleset,
                    service_class,
                },
                rule_id,
            );
        }
    }
}

/// Returns the pairs of classes that anything could allow: never every source with every
/// destination.
fn candidates(index: &Index, classes: &Classes) -> BTreeSet<(u32, u32)> {
    let mut sources: BTreeMap<SegmentId, Vec<u32>> = BTreeMap::new();
    for (class, place) in classes.sources() {
        sources.entry(place.segment).or_default().push(class);
    }
    let mut found = BTreeSet::new();
    for (destination, place) in classes.destinations() {
        for segment in source_segments(index, place) {
            let classes = sources.get(&segment).into_iter().flatten();
            found.extend(classes.map(|&source| (source, destination)));
        }
    }
    found.extend(service_candidates(index, classes));
    found
}

/// Returns the segments whose hosts may be allowed to reach the place, services aside.
fn source_segments(index: &Index, destination: &Place) -> BTreeSet<SegmentId> {
    let model = index.model;
    let mut segments: BTreeSet<_> = {
        let to_here = |policy: &&ZonePolicy| index.is_in_zone(policy.to, destination.segment);
        let froms = model
            .policies
            .iter()
            .filter(to_here)
            .map(|policy| policy.from);
        froms
            .filter_map(|zone| match zone {
                Zone::Segment(id) => Some(id),
                Zone::Tenants => None,
            })
            .collect()
    };
    if let Some(id) = index.tenant_of(destination.segment) {
        let tenant = model.tenant(id);
        segments.extend(tenant.trusted_operators.iter().map(|(zone, _)| *zone));
        segments.extend(tenant.accepts.iter().map(|accept| accept.from));
        if index.is_distinct_destination(id) {
            segments.extend(&tenant.segments);
            for (_, exchange) in index.exchanges_of(id) {
                segments.extend(&model.tenant(exchange.consumer).segments);
            }
        }
    }
    let tenant = index.tenant_of(destination.segment);
    if tenant.is_none_or(|tenant| !index.has_local_policy(tenant)) {
        segments.remove(&destination.segment);
    }
    segments
}

/// Returns each tenant class with each address of a service that it is granted.
fn service_candidates(index: &Index, classes: &Classes) -> Vec<(u32, u32)> {
    let mut addresses: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
    for (class, place) in classes.destinations() {
        let is_address = place.net.prefix_len() == place.net.max_prefix_len();
        if is_address && index.tenant_of(place.segment).is_none() {
            for &service in index.services_at(place.net.addr()) {
                addresses.entry(service).or_default().insert(class);
            }
        }
    }
    let mut found = Vec::new();
    for (source, place) in classes.sources() {
        let Some(tenant) = index.tenant_of(place.segment) else {
            continue;
        };
        for (service, _) in &index.model.tenant(tenant).services {
            let classes = addresses.get(service).into_iter().flatten();
            found.extend(classes.map(|&destination| (source, destination)));
        }
    }
    found
}
