//! All addresses, cut into groups that both generations treat alike.
//!
//! Two addresses of one group are judged alike before the change, and alike after it. The number of
//! groups grows with the segments and with what the rules name, not with the hosts.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::compile::{DestinationKind, SourceKind, Tables, ip_of};

/// Where the internet begins and ends, beside what the tables say: cuts of the address space.
const FIXED: [&str; 12] = [
    "0.0.0.0/0",
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
    "::/0",
    "2000::/3",
    "fe80::/10",
];

/// Something about the state before a change, and about the state after it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Sides<T> {
    pub(super) old: T,
    pub(super) new: T,
}

impl<T: Copy> Sides<T> {
    pub(super) fn of(self, side: Side) -> T {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }
}

/// Before or after the change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Side {
    Old,
    New,
}

/// What a group of sources has in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct SourceKey {
    pub(super) is_ipv4: bool,
    pub(super) kinds: Sides<Option<SourceKind>>,
}

/// What a group of destinations has in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct DestinationKey {
    pub(super) is_ipv4: bool,
    pub(super) kinds: Sides<DestinationKind>,
}

/// A group: its key, one of its addresses, and how many places are in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<K> {
    pub(super) key: K,
    /// Stands for all of them.
    pub(super) address: IpAddr,
    pub(super) places: usize,
}

/// Groups in order of their first use.
#[derive(Debug)]
pub(super) struct Groups<K> {
    pub(super) groups: Vec<Group<K>>,
    numbers: HashMap<K, usize>,
    last: Option<(K, usize)>,
}

impl<K: Copy + Eq + std::hash::Hash> Groups<K> {
    fn new() -> Self {
        Self {
            groups: Vec::new(),
            numbers: HashMap::new(),
            last: None,
        }
    }

    fn add(&mut self, key: K, address: IpAddr) -> usize {
        let number = match self.last {
            Some((last, number)) if last == key => number,
            _ => *self.numbers.entry(key).or_insert_with(|| {
                self.groups.push(Group {
                    key,
                    address,
                    places: 0,
                });
                self.groups.len() - 1
            }),
        };
        self.last = Some((key, number));
        self.groups[number].places += 1;
        number
    }

    #[cfg(test)]
    pub(super) fn number(&self, key: &K) -> Option<usize> {
        self.numbers.get(key).copied()
    }
}

/// A place: one address that is known, or all the others of a prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The address, or one that stands for the others of `net`.
    pub(super) address: IpAddr,
    /// The prefix, if it is not about one address.
    pub(super) net: Option<IpNet>,
    /// Group of sources; `None` if nobody can send from there.
    pub(super) source: Option<usize>,
    /// Group of destinations.
    pub(super) destination: usize,
}

/// The address space, cut.
#[derive(Debug)]
pub(super) struct Space<'s> {
    pub(super) tables: Sides<&'s Tables>,
    pub(super) sources: Groups<SourceKey>,
    pub(super) destinations: Groups<DestinationKey>,
    pub(super) places: Vec<Place>,
    fixed: Vec<IpNet>,
}

impl<'s> Space<'s> {
    pub(super) fn new(old: &'s Tables, new: &'s Tables) -> Self {
        let fixed = FIXED.iter().filter_map(|text| text.parse().ok());
        let mut space = Self {
            tables: Sides { old, new },
            sources: Groups::new(),
            destinations: Groups::new(),
            places: Vec::with_capacity(new.endpoints.len() + 4 * new.segments.len()),
            fixed: fixed.collect(),
        };
        space.add_nets();
        space.add_endpoints();
        space.add_other_addresses();
        space
    }

    /// Returns the key of a source, whether or not it is part of a group.
    pub(super) fn source_key(&self, address: IpAddr) -> SourceKey {
        SourceKey {
            is_ipv4: address.is_ipv4(),
            kinds: Sides {
                old: self.tables.old.source_kind(address),
                new: self.tables.new.source_kind(address),
            },
        }
    }

    /// Returns the key of a destination.
    pub(super) fn destination_key(&self, address: IpAddr) -> DestinationKey {
        DestinationKey {
            is_ipv4: address.is_ipv4(),
            kinds: Sides {
                old: self.tables.old.destination_kind(address),
                new: self.tables.new.destination_kind(address),
            },
        }
    }

    fn add(&mut self, address: IpAddr, net: Option<IpNet>) {
        let (source, destination) = (self.source_key(address), self.destination_key(address));
        self.add_keys(address, net, source, destination);
    }

    fn add_keys(
        &mut self,
        address: IpAddr,
        net: Option<IpNet>,
        source: SourceKey,
        destination: DestinationKey,
    ) {
        let can_send = source.kinds != Sides::default();
        let source = can_send.then(|| self.sources.add(source, address));
        let destination = self.destinations.add(destination, address);
        self.places.push(Place {
            address,
            net,
            source,
            destination,
        });
    }

    /// One address of each prefix, for all of it that is no longer prefix and no known address.
    fn add_nets(&mut self) {
        let mut nets: BTreeSet<IpNet> = self.fixed.iter().copied().collect();
        nets.extend(self.tables.old.nets());
        nets.extend(self.tables.new.nets());
        for net in nets {
            if let Some(address) = self.free_address(net) {
                self.add(address, Some(net));
            }
        }
    }

    /// Finds the last address of a prefix that is in no longer one and not known by itself.
    fn free_address(&self, net: IpNet) -> Option<IpAddr> {
        let mut address = net.broadcast();
        loop {
            let around = self.longest(address);
            let is_inside = around == net;
            if is_inside && !self.is_known(address) {
                return Some(address);
            }
            let from = if is_inside { address } else { around.network() };
            if from == net.network() {
                return None;
            }
            address = before(from)?;
        }
    }

    /// Returns the longest prefix of either side that holds an address.
    fn longest(&self, address: IpAddr) -> IpNet {
        let fixed = self.fixed.iter().copied();
        let fixed = fixed.filter(|net| net.contains(&address));
        let old = self.tables.old.longest_match(address).map(|(net, _)| net);
        let new = self.tables.new.longest_match(address).map(|(net, _)| net);
        let all = fixed.chain(old).chain(new);
        all.max_by_key(IpNet::prefix_len)
            .unwrap_or_else(|| IpNet::from(address))
    }

    /// Is it an endpoint or an edge of a segment on either side?
    fn is_known(&self, address: IpAddr) -> bool {
        [self.tables.old, self.tables.new]
            .into_iter()
            .any(|tables| {
                tables.endpoint_at(address).is_some()
                    || tables.router_link_local.map(IpAddr::V6) == Some(address)
                    || is_edge(tables, address)
            })
    }

    /// All endpoints. Where both sides list them in the same order, nothing is looked up.
    fn add_endpoints(&mut self) {
        let Sides { old, new } = self.tables;
        let mut seen = vec![false; new.endpoints.len()];
        let mut next = 0;
        for (key, before) in &old.endpoints {
            let here = new.endpoints.get_index(next).filter(|(k, _)| *k == key);
            let found = match here {
                Some((_, after)) => Some((next, after)),
                None => new.endpoints.get_full(key).map(|(i, _, after)| (i, after)),
            };
            let address = ip_of(key.address);
            let (mut source, mut destination) = (
                Sides {
                    old: old.source_kind_of(before),
                    new: None,
                },
                Sides {
                    old: old.destination_kind_of(address, before),
                    new: DestinationKind::NEVER,
                },
            );
            if let Some((i, after)) = found {
                (seen[i], next) = (true, i + 1);
                source.new = new.source_kind_of(after);
                destination.new = new.destination_kind_of(address, after);
            } else {
                source.new = new.source_kind(address);
                destination.new = new.destination_kind(address);
            }
            let is_ipv4 = address.is_ipv4();
            let source = SourceKey {
                is_ipv4,
                kinds: source,
            };
            let destination = DestinationKey {
                is_ipv4,
                kinds: destination,
            };
            self.add_keys(address, None, source, destination);
        }
        let added = new.endpoints.keys().zip(seen).filter(|(_, seen)| !seen);
        let added: Vec<IpAddr> = added.map(|(key, _)| ip_of(key.address)).collect();
        for address in added {
            self.add(address, None);
        }
    }

    /// Network and broadcast addresses, and the router's link-local ones.
    fn add_other_addresses(&mut self) {
        let Sides { old, new } = self.tables;
        let link_locals = old.router_link_local.into_iter();
        let link_locals = link_locals.chain(new.router_link_local).map(IpAddr::V6);
        let mut addresses: BTreeSet<IpAddr> = link_locals.collect();
        addresses.extend(old.edges().chain(new.edges()));
        for address in addresses {
            let is_endpoint = |tables: &Tables| tables.endpoint_at(address).is_some();
            if !is_endpoint(old) && !is_endpoint(new) {
                self.add(address, None);
            }
        }
    }
}

/// Is it the network or broadcast address of its segment?
fn is_edge(tables: &Tables, address: IpAddr) -> bool {
    let segment = tables
        .vlan_of(address)
        .and_then(|id| tables.segments.get(&id));
    segment.is_some_and(|segment| crate::compile::is_edge(segment, address))
}

/// Returns the address before another one.
fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => u32::from(a)
            .checked_sub(1)
            .map(|a| Ipv4Addr::from(a).into()),
        IpAddr::V6(a) => u128::from(a)
            .checked_sub(1)
            .map(|a| Ipv6Addr::from(a).into()),
    }
}
