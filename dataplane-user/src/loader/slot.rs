//! The tables of one generation in the kernel, and what they hold.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use aya::maps::{MapData, MapError};
use aya::{Ebpf, Pod};
use dataplane_common::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, Generation, Mac, NO_PREFIX_LENGTH, PREFIX_LENGTHS,
    PairEntry, PairKey, PrefixEntry, PrefixKey, PrefixLength, RuleKey, SERVICE_INDEXES,
    SegmentEntry, VLAN_IDS,
};
use indexmap::IndexMap;
use serde::Serialize;

use super::outer::Outer;
use super::templates::Templates;
use super::{LoaderError, Pins, batch};
use crate::compile::{Tables, ip_of};

/// Hash tables are made with room for at least so many entries.
const LEAST_ENTRIES: u32 = 1024;

/// The outer maps of the tables.
pub(super) struct Outers {
    segments: Outer,
    services: Outer,
    endpoints: Outer,
    bound_macs: Outer,
    prefixes: Outer,
    pairs: Outer,
    rules: Outer,
}

impl Outers {
    /// Takes them out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf, pins: Option<&Pins>) -> Result<Self, LoaderError> {
        Self::make(|name| Outer::take(ebpf, name, pins))
    }

    /// Opens those that are pinned.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoaderError> {
        Self::make(|name| Outer::open(name, pins))
    }

    /// Are there tables in a slot, whole or not?
    pub(super) fn has(&self, index: u32) -> Result<bool, LoaderError> {
        Ok(self.endpoints.id(index)?.is_some())
    }

    /// Removes the pins of tables that are in no slot any more.
    pub(super) fn prune(&self) -> Result<(), LoaderError> {
        let Self {
            segments,
            services,
            endpoints,
            bound_macs,
            prefixes,
            pairs,
            rules,
        } = self;
        let all = [
            segments, services, endpoints, bound_macs, prefixes, pairs, rules,
        ];
        all.into_iter().try_for_each(Outer::prune)
    }

    fn make(
        mut open: impl FnMut(&'static str) -> Result<Outer, LoaderError>,
    ) -> Result<Self, LoaderError> {
        Ok(Self {
            segments: open("SEGMENTS")?,
            services: open("SERVICES")?,
            endpoints: open("ENDPOINTS")?,
            bound_macs: open("BOUND_MACS")?,
            prefixes: open("PREFIXES")?,
            pairs: open("PAIRS")?,
            rules: open("RULES")?,
        })
    }
}

/// How one table in the kernel differs from what it should hold.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TableDifference {
    /// The map.
    pub map: &'static str,
    /// Entries that it lacks.
    pub missing: usize,
    /// Entries that it should not have.
    pub surplus: usize,
    /// Entries with another value.
    pub changed: usize,
}

/// The tables of one generation.
pub(super) struct Slot {
    segments: ArrayTable<SegmentEntry>,
    services: ArrayTable<u32>,
    endpoints: HashTable<EndpointKey, EndpointEntry>,
    bound_macs: HashTable<BoundMacKey, u32>,
    prefixes: HashTable<PrefixKey, PrefixEntry>,
    pairs: HashTable<PairKey, PairEntry>,
    rules: HashTable<RuleKey, u32>,
}

impl Slot {
    /// Makes empty tables, which no packet sees yet.
    pub(super) fn new(templates: &Arc<Templates>) -> Result<Self, LoaderError> {
        Ok(Self {
            segments: ArrayTable::new("SEGMENTS", VLAN_IDS, templates)?,
            services: ArrayTable::new("SERVICES", SERVICE_INDEXES, templates)?,
            endpoints: HashTable::new("ENDPOINTS", templates)?,
            bound_macs: HashTable::new("BOUND_MACS", templates)?,
            prefixes: HashTable::new("PREFIXES", templates)?,
            pairs: HashTable::new("PAIRS", templates)?,
            rules: HashTable::new("RULES", templates)?,
        })
    }

    /// Reads the tables that are in a slot; `None` if there are none.
    pub(super) fn open(outers: &Outers, index: u32) -> Result<Option<Self>, LoaderError> {
        let open = || -> Result<Self, LoaderError> {
            Ok(Self {
                segments: ArrayTable::open("SEGMENTS", VLAN_IDS, &outers.segments, index)?,
                services: ArrayTable::open("SERVICES", SERVICE_INDEXES, &outers.services, index)?,
                endpoints: HashTable::open("ENDPOINTS", &outers.endpoints, index)?,
                bound_macs: HashTable::open("BOUND_MACS", &outers.bound_macs, index)?,
                prefixes: HashTable::open("PREFIXES", &outers.prefixes, index)?,
                pairs: HashTable::open("PAIRS", &outers.pairs, index)?,
                rules: HashTable::open("RULES", &outers.rules, index)?,
            })
        };
        match open() {
            Ok(slot) => Ok(Some(slot)),
            Err(LoaderError::Map {
                source: MapError::KeyNotFound,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads what a slot says of segments, by VLAN id.
    pub(super) fn segments(outers: &Outers, index: u32) -> Result<Vec<SegmentEntry>, LoaderError> {
        let table = ArrayTable::open("SEGMENTS", VLAN_IDS, &outers.segments, index)?;
        Ok(table.held)
    }

    /// Changes what differs from `tables`.
    pub(super) fn fill(
        &mut self,
        tables: &Tables,
        templates: &Arc<Templates>,
    ) -> Result<(), LoaderError> {
        self.segments.sync(&segments(tables))?;
        self.services.sync(&tables.services)?;
        self.endpoints.sync(tables.endpoints.iter(), templates)?;
        self.bound_macs.sync(tables.bound_macs.iter(), templates)?;
        self.prefixes.sync(tables.prefixes.iter(), templates)?;
        self.pairs.sync(tables.pairs.iter(), templates)?;
        self.rules.sync(tables.rules.iter(), templates)
    }

    /// Puts the tables where the programs find them, unless they are there already.
    pub(super) fn install(&mut self, outers: &mut Outers, index: u32) -> Result<(), LoaderError> {
        self.endpoints.install(&mut outers.endpoints, index)?;
        self.bound_macs.install(&mut outers.bound_macs, index)?;
        self.prefixes.install(&mut outers.prefixes, index)?;
        self.pairs.install(&mut outers.pairs, index)?;
        self.rules.install(&mut outers.rules, index)?;
        self.segments.install(&mut outers.segments, index)?;
        self.services.install(&mut outers.services, index)
    }

    /// Returns what the kernel holds, as a compiler would have made it; but not why.
    pub(super) fn tables(&self, generation: &Generation) -> Tables {
        let segments = (0..).zip(&self.segments.held);
        let segments = segments.filter(|(_, entry)| **entry != SegmentEntry::default());
        let is_known = generation.router_mac != Mac::default();
        let link_local = ip_of(generation.router_link_local);
        Tables {
            segments: segments.map(|(id, entry)| (id, *entry)).collect(),
            endpoints: self.endpoints.entries(),
            bound_macs: self.bound_macs.entries(),
            prefixes: self.prefixes.entries(),
            prefix_lengths4: lengths(&generation.prefixes4, 96),
            prefix_lengths6: lengths(&generation.prefixes6, 0),
            pairs: self.pairs.entries(),
            rules: self.rules.entries(),
            services: self.services.held.clone(),
            router_link_local: match link_local {
                IpAddr::V6(address) if is_known => Some(address),
                IpAddr::V6(_) | IpAddr::V4(_) => None,
            },
            ..Tables::empty()
        }
    }

    /// Tells where the tables are not what they should be.
    pub(super) fn differences(&self, tables: &Tables) -> Vec<TableDifference> {
        let all = [
            self.segments.difference(&segments(tables)),
            self.services.difference(&tables.services),
            self.endpoints.difference(tables.endpoints.iter()),
            self.bound_macs.difference(tables.bound_macs.iter()),
            self.prefixes.difference(tables.prefixes.iter()),
            self.pairs.difference(tables.pairs.iter()),
            self.rules.difference(tables.rules.iter()),
        ];
        let differs = |d: &TableDifference| d.missing + d.surplus + d.changed > 0;
        all.into_iter().filter(differs).collect()
    }
}

/// Tells what `tables` has, as missing.
pub(super) fn missing(tables: &Tables) -> Vec<TableDifference> {
    let lengths = [
        ("SEGMENTS", tables.segments.len()),
        ("ENDPOINTS", tables.endpoints.len()),
        ("BOUND_MACS", tables.bound_macs.len()),
        ("PREFIXES", tables.prefixes.len()),
        ("PAIRS", tables.pairs.len()),
        ("RULES", tables.rules.len()),
    ];
    let missing = lengths.into_iter().map(|(map, missing)| TableDifference {
        map,
        missing,
        surplus: 0,
        changed: 0,
    });
    missing.filter(|table| table.missing > 0).collect()
}

/// The reverse of [`PrefixLength::list`].
fn lengths(list: &[PrefixLength; PREFIX_LENGTHS], mapped: u32) -> [u8; PREFIX_LENGTHS] {
    list.map(|entry| {
        let length = entry.length.checked_sub(mapped);
        let length = length.and_then(|length| u8::try_from(length).ok());
        length.unwrap_or(NO_PREFIX_LENGTH)
    })
}

fn segments(tables: &Tables) -> Vec<SegmentEntry> {
    let mut segments = vec![SegmentEntry::default(); VLAN_IDS as usize];
    for (&vlan_id, entry) in &tables.segments {
        if let Some(place) = segments.get_mut(usize::from(vlan_id)) {
            *place = *entry;
        }
    }
    segments
}

fn batch_error(map: &'static str) -> impl FnOnce(io::Error) -> LoaderError {
    move |source| LoaderError::Batch { map, source }
}

/// An array in the kernel, and what it holds.
struct ArrayTable<V: Pod> {
    name: &'static str,
    map: MapData,
    held: Vec<V>,
    installed: bool,
}

impl<V: Pod + Default + PartialEq> ArrayTable<V> {
    fn new(name: &'static str, entries: u32, templates: &Templates) -> Result<Self, LoaderError> {
        Ok(Self {
            name,
            map: templates.make(name, entries)?,
            held: vec![V::default(); entries as usize],
            installed: false,
        })
    }

    fn open(
        name: &'static str,
        entries: u32,
        outer: &Outer,
        index: u32,
    ) -> Result<Self, LoaderError> {
        let map = outer.get(index)?;
        let read = batch::read::<u32, V>(&map).map_err(batch_error(name))?;
        let mut held = vec![V::default(); entries as usize];
        for (index, value) in read {
            if let Some(place) = held.get_mut(index as usize) {
                *place = value;
            }
        }
        Ok(Self {
            name,
            map,
            held,
            installed: true,
        })
    }

    /// Writes what differs.
    fn sync(&mut self, wanted: &[V]) -> Result<(), LoaderError> {
        let differing = (0..).zip(wanted).zip(&self.held);
        let differing = differing.filter(|((_, wanted), held)| wanted != held);
        let (keys, values): (Vec<u32>, Vec<V>) = differing
            .map(|((index, wanted), _): ((u32, &V), _)| (index, *wanted))
            .unzip();
        batch::write(&self.map, &keys, &values).map_err(batch_error(self.name))?;
        self.held.clone_from_slice(wanted);
        Ok(())
    }

    fn difference(&self, wanted: &[V]) -> TableDifference {
        let differing = wanted.iter().zip(&self.held).filter(|(a, b)| a != b);
        TableDifference {
            map: self.name,
            missing: 0,
            surplus: 0,
            changed: differing.count(),
        }
    }

    fn install(&mut self, outer: &mut Outer, index: u32) -> Result<(), LoaderError> {
        install(&mut self.installed, outer, index, &self.map)
    }
}

/// A hash table in the kernel, and what it holds.
struct HashTable<K: Pod, V: Pod> {
    name: &'static str,
    map: MapData,
    room: u32,
    held: HashMap<K, V>,
    installed: bool,
}

impl<K: Pod + Default + Eq + Hash, V: Pod + Default + PartialEq> HashTable<K, V> {
    fn new(name: &'static str, templates: &Templates) -> Result<Self, LoaderError> {
        Self::with_room(name, LEAST_ENTRIES, templates)
    }

    fn with_room(
        name: &'static str,
        room: u32,
        templates: &Templates,
    ) -> Result<Self, LoaderError> {
        Ok(Self {
            name,
            map: templates.make(name, room)?,
            room,
            held: HashMap::new(),
            installed: false,
        })
    }

    fn open(name: &'static str, outer: &Outer, index: u32) -> Result<Self, LoaderError> {
        let map = outer.get(index)?;
        let info = map.info().map_err(|s| LoaderError::map(name, s))?;
        let room = info.max_entries();
        let held = batch::read::<K, V>(&map).map_err(batch_error(name))?;
        Ok(Self {
            name,
            map,
            room,
            held: held.into_iter().collect(),
            installed: true,
        })
    }

    fn sync<'a>(
        &mut self,
        wanted: impl ExactSizeIterator<Item = (&'a K, &'a V)> + Clone,
        templates: &Templates,
    ) -> Result<(), LoaderError>
    where
        K: 'a,
        V: 'a,
    {
        let entries = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        if entries > self.room {
            *self = Self::with_room(self.name, entries.next_power_of_two(), templates)?;
        }
        let gone = self.surplus(wanted.clone());
        batch::delete::<K, V>(&self.map, &gone).map_err(batch_error(self.name))?;
        for key in &gone {
            self.held.remove(key);
        }
        let differs = |(key, value): &(&K, &V)| self.held.get(key) != Some(value);
        let (keys, values): (Vec<K>, Vec<V>) =
            wanted.filter(differs).map(|(k, v)| (*k, *v)).unzip();
        batch::write(&self.map, &keys, &values).map_err(batch_error(self.name))?;
        self.held.extend(keys.into_iter().zip(values));
        Ok(())
    }

    fn entries(&self) -> IndexMap<K, V> {
        self.held
            .iter()
            .map(|(key, value)| (*key, *value))
            .collect()
    }

    /// Returns the keys that are held and not wanted.
    fn surplus<'a>(&self, wanted: impl ExactSizeIterator<Item = (&'a K, &'a V)>) -> Vec<K>
    where
        K: 'a,
        V: 'a,
    {
        let mut held = 0;
        let keys: Vec<&K> = wanted.map(|(key, _)| key).collect();
        for key in &keys {
            held += usize::from(self.held.contains_key(key));
        }
        if held == self.held.len() {
            return Vec::new();
        }
        let keep: std::collections::HashSet<&K> = keys.into_iter().collect();
        let surplus = self.held.keys().filter(|key| !keep.contains(key));
        surplus.copied().collect()
    }

    fn difference<'a>(
        &self,
        wanted: impl ExactSizeIterator<Item = (&'a K, &'a V)> + Clone,
    ) -> TableDifference
    where
        K: 'a,
        V: 'a,
    {
        let (mut missing, mut changed) = (0, 0);
        for (key, value) in wanted.clone() {
            match self.held.get(key) {
                None => missing += 1,
                Some(held) if held != value => changed += 1,
                Some(_) => {}
            }
        }
        TableDifference {
            map: self.name,
            missing,
            surplus: self.surplus(wanted).len(),
            changed,
        }
    }

    fn install(&mut self, outer: &mut Outer, index: u32) -> Result<(), LoaderError> {
        install(&mut self.installed, outer, index, &self.map)
    }
}

fn install(
    installed: &mut bool,
    outer: &mut Outer,
    index: u32,
    map: &MapData,
) -> Result<(), LoaderError> {
    if !*installed {
        outer.set(index, map)?;
        *installed = true;
    }
    Ok(())
}
