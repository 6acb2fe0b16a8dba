//! What hosts of one segment may open to one another, where `PAIRS` says so: ports of hypervisors ask for that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane_common::abi::{Address, PairEntry, PairKey, prefix_flags, segment_flags};

use super::compare::Comparison;
use super::space::{Side, Sides};
use crate::can::{Service, joined};
use crate::compile::{Tables, ip_of};

/// A difference between two hosts of one segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::plan) struct Within {
    pub(in crate::plan) vlan_id: u16,
    /// One of the addresses that it is about; so is `to`.
    pub(in crate::plan) from: IpAddr,
    pub(in crate::plan) to: IpAddr,
    /// May it be opened on the new side only? Else on the old one only.
    pub(in crate::plan) is_gain: bool,
    pub(in crate::plan) services: Vec<Service>,
}

/// Classes of an address, and the address: those of one segment and family that both sides treat alike are one.
type Classes = BTreeMap<(bool, u32, u32), IpAddr>;

/// The hosts of a segment, as sources and as destinations.
#[derive(Default)]
struct Hosts {
    sources: Classes,
    destinations: Classes,
}

impl Hosts {
    /// Adds an address with its source and destination class on both sides; 0: it has none.
    fn add(&mut self, address: IpAddr, classes: Sides<(u32, u32)>) {
        let is_ipv4 = address.is_ipv4();
        let Sides { old, new } = classes;
        let source = self.sources.entry((is_ipv4, old.0, new.0));
        source.or_insert(address);
        let destination = self.destinations.entry((is_ipv4, old.1, new.1));
        destination.or_insert(address);
    }
}

/// Returns where two sides differ.
pub(in crate::plan) fn within(old: &Tables, new: &Tables) -> Vec<Within> {
    let by_segment = hosts(Sides { old, new });
    if by_segment.is_empty() {
        return Vec::new();
    }
    let comparison = Comparison::new(old, new);
    let mut found = Vec::new();
    for (vlan_id, hosts) in by_segment {
        for (&(is_ipv4, src_old, src_new), &from) in &hosts.sources {
            for (&(family, dst_old, dst_new), &to) in &hosts.destinations {
                if family != is_ipv4 {
                    continue;
                }
                let before = pair(old, src_old, dst_old);
                let after = pair(new, src_new, dst_new);
                let differing = comparison.services_of(before, after).into_iter();
                found.extend(differing.map(|(is_gain, services)| Within {
                    vlan_id,
                    from,
                    to,
                    is_gain,
                    services: joined(services),
                }));
            }
        }
    }
    found
}

fn pair(tables: &Tables, src_class: u32, dst_class: u32) -> Option<PairEntry> {
    let key = PairKey {
        src_class,
        dst_class,
    };
    tables.pairs.get(&key).copied()
}

/// Returns the hosts of every segment that has a policy of its own, on either side.
fn hosts(tables: Sides<&Tables>) -> BTreeMap<u16, Hosts> {
    let mut by_segment: BTreeMap<u16, Hosts> = BTreeMap::new();
    for side in [Side::Old, Side::New] {
        let segments = tables.of(side).segments.iter();
        let local = segments.filter(|(_, s)| s.flags & segment_flags::LOCAL_POLICY != 0);
        by_segment.extend(local.map(|(id, _)| (*id, Hosts::default())));
    }
    if !by_segment.is_empty() {
        for side in [Side::Old, Side::New] {
            add_endpoints(&mut by_segment, tables, side);
            add_others(&mut by_segment, tables, side);
        }
    }
    by_segment
}

fn add_endpoints(by_segment: &mut BTreeMap<u16, Hosts>, tables: Sides<&Tables>, side: Side) {
    for (key, entry) in &tables.of(side).endpoints {
        if let Some(hosts) = by_segment.get_mut(&entry.vlan_id) {
            let address = ip_of(key.address);
            let classes =
                |tables: &Tables| (tables.src_class_of(address), tables.dst_class_of(address));
            hosts.add(address, both(tables, classes));
        }
    }
}

/// Adds what stands for the addresses that are no endpoint: each prefix, and the segment itself.
fn add_others(by_segment: &mut BTreeMap<u16, Hosts>, tables: Sides<&Tables>, side: Side) {
    for (key, entry) in &tables.of(side).prefixes {
        let is_segment = entry.flags & prefix_flags::SEGMENT != 0;
        if let (true, Some(hosts)) = (is_segment, by_segment.get_mut(&entry.vlan_id)) {
            let classes = |tables: &Tables| {
                let entry = tables.prefixes.get(key);
                entry.map_or((0, 0), |entry| (entry.src_class, entry.dst_class))
            };
            hosts.add(ip_of(key.address), both(tables, classes));
        }
    }
    for (id, segment) in &tables.of(side).segments {
        let Some(hosts) = by_segment.get_mut(id) else {
            continue;
        };
        let classes = |tables: &Tables| {
            let segment = tables.segments.get(id);
            segment.map_or((0, 0), |segment| (segment.src_class, segment.dst_class))
        };
        for net in [segment.net4, segment.net6] {
            if net != Address::default() {
                hosts.add(ip_of(net), both(tables, classes));
            }
        }
    }
}

fn both(tables: Sides<&Tables>, classes: impl Fn(&Tables) -> (u32, u32)) -> Sides<(u32, u32)> {
    Sides {
        old: classes(tables.old),
        new: classes(tables.new),
    }
}
