//! Publishes a generation: fills the slot that no packet looks at, then swaps one pointer.
//!
//! The swap is an update of a map-in-map, after which the kernel waits until every program that could have
//! seen the old pointer has ended. So the old slot is free for the next generation.
//! <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/syscall.c#L140-L151>

use std::collections::HashMap as StdHashMap;
use std::hash::Hash;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use aya::maps::{
    Array, ArrayOfMaps, HashMap, InnerMap, Map, MapData, MapError, PerCpuArray, ProgramArray,
};
use aya::{Ebpf, Pod};
use dataplane_common::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, FlowEntry, FlowKey, FragmentEntry, FragmentKey,
    Generation, PairEntry, PairKey, PrefixEntry, PrefixKey, RuleKey, SERVICE_INDEXES, SLOTS,
    SegmentCounters, SegmentEntry, VLAN_IDS,
};

use super::templates::Templates;
use super::{Datapath, LoaderError, batch, take_map};
use crate::compile::{Tables, Trunk};

/// Hash tables are made with room for at least so many entries.
const LEAST_ENTRIES: u32 = 1024;

/// Proof that packets are judged by a generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// Its number.
    pub number: u32,
}

/// A map with one inner map per slot.
type Outer<V> = ArrayOfMaps<MapData, V>;

/// The outer maps, and what this process put into their slots.
pub(super) struct Publisher {
    templates: Arc<Templates>,
    generation: Outer<Array<MapData, Generation>>,
    segments: Outer<Array<MapData, SegmentEntry>>,
    services: Outer<Array<MapData, u32>>,
    endpoints: Outer<HashMap<MapData, EndpointKey, EndpointEntry>>,
    bound_macs: Outer<HashMap<MapData, BoundMacKey, u32>>,
    prefixes: Outer<HashMap<MapData, PrefixKey, PrefixEntry>>,
    pairs: Outer<HashMap<MapData, PairKey, PairEntry>>,
    rules: Outer<HashMap<MapData, RuleKey, u32>>,
    pub(super) counters: PerCpuArray<MapData, SegmentCounters>,
    flows: HashMap<MapData, FlowKey, FlowEntry>,
    fragments: HashMap<MapData, FragmentKey, FragmentEntry>,
    judges: Vec<ProgramArray<MapData>>,
    /// By slot number; `None` where an earlier process filled it or nobody did.
    slots: StdHashMap<u32, Slot>,
    current: Generation,
}

impl Publisher {
    pub(super) fn new(ebpf: &mut Ebpf, templates: Templates) -> Result<Self, LoaderError> {
        let generation: Outer<Array<MapData, Generation>> = outer(ebpf, "GENERATION")?;
        let current = match generation.get(&0, 0) {
            Ok(inner) => inner
                .get(&0, 0)
                .map_err(|s| LoaderError::map("GENERATION", s))?,
            Err(MapError::KeyNotFound) => Generation::default(),
            Err(source) => return Err(LoaderError::map("GENERATION", source)),
        };
        Ok(Self {
            templates: Arc::new(templates),
            generation,
            segments: outer(ebpf, "SEGMENTS")?,
            services: outer(ebpf, "SERVICES")?,
            endpoints: outer(ebpf, "ENDPOINTS")?,
            bound_macs: outer(ebpf, "BOUND_MACS")?,
            prefixes: outer(ebpf, "PREFIXES")?,
            pairs: outer(ebpf, "PAIRS")?,
            rules: outer(ebpf, "RULES")?,
            counters: take_map(ebpf, "COUNTERS")?
                .try_into()
                .map_err(|s| LoaderError::map("COUNTERS", s))?,
            flows: take_map(ebpf, "FLOWS")?
                .try_into()
                .map_err(|s| LoaderError::map("FLOWS", s))?,
            fragments: take_map(ebpf, "FRAGMENTS")?
                .try_into()
                .map_err(|s| LoaderError::map("FRAGMENTS", s))?,
            judges: Vec::new(),
            slots: StdHashMap::new(),
            current,
        })
    }

    /// See [`Datapath::age`].
    pub(super) fn age(&mut self, ticks: Option<u64>) -> Result<(), LoaderError> {
        let earlier = |expires: u64| ticks.map(|ticks| expires.saturating_sub(ticks));
        let flows = |source| LoaderError::map("FLOWS", source);
        for key in keys(&self.flows).map_err(flows)? {
            let mut entry = self.flows.get(&key, 0).map_err(flows)?;
            match earlier(entry.expires) {
                Some(expires) => {
                    entry.expires = expires;
                    self.flows.insert(key, entry, 0).map_err(flows)?;
                }
                None => self.flows.remove(&key).map_err(flows)?,
            }
        }
        let fragments = |source| LoaderError::map("FRAGMENTS", source);
        for key in keys(&self.fragments).map_err(fragments)? {
            let mut entry = self.fragments.get(&key, 0).map_err(fragments)?;
            match earlier(entry.expires) {
                Some(expires) => {
                    entry.expires = expires;
                    self.fragments.insert(key, entry, 0).map_err(fragments)?;
                }
                None => self.fragments.remove(&key).map_err(fragments)?,
            }
        }
        Ok(())
    }

    /// Keeps a program array open, so that the kernel does not empty it.
    pub(super) fn keep(&mut self, judges: ProgramArray<MapData>) {
        self.judges.push(judges);
    }

    fn publish(
        &mut self,
        tables: &Tables,
        trunk: &Trunk,
        ticks_per_second: u32,
    ) -> Result<Published, LoaderError> {
        let index = (self.current.slot + 1) % SLOTS;
        let mut slot = match self.slots.remove(&index) {
            Some(slot) => slot,
            None => Slot::new(&self.templates)?,
        };
        slot.fill(tables)?;
        self.install(index, &mut slot)?;
        self.slots.insert(index, slot);
        let number = self.current.number.wrapping_add(1).max(1);
        let mut next = trunk.generation(tables, number, ticks_per_second);
        next.slot = index;
        self.flip(next)
    }

    /// Puts the slot's maps where the programs find them, unless they are there already.
    fn install(&mut self, index: u32, slot: &mut Slot) -> Result<(), LoaderError> {
        slot.endpoints.install(&mut self.endpoints, index)?;
        slot.bound_macs.install(&mut self.bound_macs, index)?;
        slot.prefixes.install(&mut self.prefixes, index)?;
        slot.pairs.install(&mut self.pairs, index)?;
        slot.rules.install(&mut self.rules, index)?;
        slot.segments.install(&mut self.segments, index)?;
        slot.services.install(&mut self.services, index)
    }

    /// Makes packets be judged by `next`: one pointer swap.
    fn flip(&mut self, next: Generation) -> Result<Published, LoaderError> {
        let wrap = |source| LoaderError::map("GENERATION", source);
        let inner = Map::Array(self.templates.make("GENERATION", 1)?);
        let mut inner = Array::<_, Generation>::try_from(inner).map_err(wrap)?;
        inner.set(0, next, 0).map_err(wrap)?;
        self.generation.set(0, &inner, 0).map_err(wrap)?;
        self.current = next;
        Ok(Published {
            number: next.number,
        })
    }
}

fn keys<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> Result<Vec<K>, MapError> {
    map.keys().collect()
}

fn outer<V>(ebpf: &mut Ebpf, name: &'static str) -> Result<Outer<V>, LoaderError>
where
    Outer<V>: TryFrom<Map, Error = MapError>,
{
    take_map(ebpf, name)?
        .try_into()
        .map_err(|s| LoaderError::map(name, s))
}

/// The tables of one generation in the kernel, and what they hold.
struct Slot {
    segments: ArrayTable<SegmentEntry>,
    services: ArrayTable<u32>,
    endpoints: HashTable<EndpointKey, EndpointEntry>,
    bound_macs: HashTable<BoundMacKey, u32>,
    prefixes: HashTable<PrefixKey, PrefixEntry>,
    pairs: HashTable<PairKey, PairEntry>,
    rules: HashTable<RuleKey, u32>,
}

impl Slot {
    fn new(templates: &Arc<Templates>) -> Result<Self, LoaderError> {
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

    /// Changes what differs from `tables`.
    fn fill(&mut self, tables: &Tables) -> Result<(), LoaderError> {
        let mut segments = vec![SegmentEntry::default(); VLAN_IDS as usize];
        for (&vlan_id, entry) in &tables.segments {
            if let Some(place) = segments.get_mut(usize::from(vlan_id)) {
                *place = *entry;
            }
        }
        self.segments.sync(&segments)?;
        self.services.sync(&tables.services)?;
        self.endpoints.sync(tables.endpoints.iter())?;
        self.bound_macs.sync(tables.bound_macs.iter())?;
        self.prefixes.sync(tables.prefixes.iter())?;
        self.pairs.sync(tables.pairs.iter())?;
        self.rules.sync(tables.rules.iter())
    }
}

/// An array in the kernel, and what it holds.
struct ArrayTable<V: Pod> {
    name: &'static str,
    map: Array<MapData, V>,
    fd: OwnedFd,
    held: Vec<V>,
    installed: bool,
}

impl<V: Pod + Default + PartialEq> ArrayTable<V> {
    fn new(name: &'static str, entries: u32, templates: &Templates) -> Result<Self, LoaderError> {
        let wrap = |source| LoaderError::map(name, source);
        let data = templates.make(name, entries)?;
        let fd = data.fd().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| LoaderError::Batch { map: name, source })?;
        Ok(Self {
            name,
            map: Map::Array(data).try_into().map_err(wrap)?,
            fd,
            held: vec![V::default(); entries as usize],
            installed: false,
        })
    }

    /// Writes what differs, run by run.
    fn sync(&mut self, wanted: &[V]) -> Result<(), LoaderError> {
        let mut index = 0;
        while index < wanted.len() {
            let differs = |&i: &usize| self.held.get(i) != wanted.get(i);
            let end = index + (index..wanted.len()).take_while(differs).count();
            if let (Some(values), Some(held)) =
                (wanted.get(index..end), self.held.get_mut(index..end))
                && !values.is_empty()
            {
                let first = u32::try_from(index).unwrap_or(u32::MAX);
                batch::write_array(&self.fd, first, values).map_err(|source| {
                    LoaderError::Batch {
                        map: self.name,
                        source,
                    }
                })?;
                held.copy_from_slice(values);
            }
            index = end + 1;
        }
        Ok(())
    }

    fn install(
        &mut self,
        outer: &mut Outer<Array<MapData, V>>,
        index: u32,
    ) -> Result<(), LoaderError> {
        install(self.name, &mut self.installed, outer, index, &self.map)
    }
}

/// A hash table in the kernel, and what it holds.
struct HashTable<K: Pod, V: Pod> {
    name: &'static str,
    templates: Arc<Templates>,
    map: HashMap<MapData, K, V>,
    room: u32,
    held: StdHashMap<K, V>,
    installed: bool,
}

impl<K: Pod + Eq + Hash, V: Pod + PartialEq> HashTable<K, V> {
    fn new(name: &'static str, templates: &Arc<Templates>) -> Result<Self, LoaderError> {
        Self::with_room(name, LEAST_ENTRIES, Arc::clone(templates))
    }

    fn with_room(
        name: &'static str,
        room: u32,
        templates: Arc<Templates>,
    ) -> Result<Self, LoaderError> {
        let map = Map::HashMap(templates.make(name, room)?);
        Ok(Self {
            name,
            templates,
            map: map.try_into().map_err(|s| LoaderError::map(name, s))?,
            room,
            held: StdHashMap::new(),
            installed: false,
        })
    }

    fn sync<'a>(
        &mut self,
        wanted: impl ExactSizeIterator<Item = (&'a K, &'a V)> + Clone,
    ) -> Result<(), LoaderError>
    where
        K: 'a,
        V: 'a,
    {
        let entries = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        if entries > self.room {
            let templates = Arc::clone(&self.templates);
            *self = Self::with_room(self.name, entries.next_power_of_two(), templates)?;
        }
        let keep: StdHashMap<&K, &V> = wanted.clone().collect();
        let gone: Vec<K> = self
            .held
            .keys()
            .filter(|key| !keep.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            self.map
                .remove(&key)
                .map_err(|s| LoaderError::map(self.name, s))?;
            self.held.remove(&key);
        }
        for (key, value) in wanted {
            if self.held.get(key) != Some(value) {
                self.map
                    .insert(key, value, 0)
                    .map_err(|s| LoaderError::map(self.name, s))?;
                self.held.insert(*key, *value);
            }
        }
        Ok(())
    }

    fn install(
        &mut self,
        outer: &mut Outer<HashMap<MapData, K, V>>,
        index: u32,
    ) -> Result<(), LoaderError> {
        install(self.name, &mut self.installed, outer, index, &self.map)
    }
}

fn install<V: InnerMap>(
    name: &'static str,
    installed: &mut bool,
    outer: &mut Outer<V>,
    index: u32,
    map: &V,
) -> Result<(), LoaderError> {
    if !*installed {
        outer
            .set(index, map, 0)
            .map_err(|s| LoaderError::map(name, s))?;
        *installed = true;
    }
    Ok(())
}

impl Datapath {
    /// Publishes the tables as the next generation. Packets see all of it or none. If it fails, they are judged by
    /// the old one as before.
    ///
    /// # Errors
    ///
    /// The kernel's refusal to make or fill a map, for example for want of memory.
    pub fn publish(&mut self, tables: &Tables, trunk: &Trunk) -> Result<Published, LoaderError> {
        self.publisher.publish(tables, trunk, ticks_per_second())
    }

    /// Returns the generation that packets are judged by; its number is 0 before the first.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.publisher.current
    }
}

/// Returns the kernel's `HZ`, which `bpf_jiffies64` counts: the coarse clock's resolution is one tick.
fn ticks_per_second() -> u32 {
    let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    match resolution.map(|r| u32::try_from(r.tv_nsec())) {
        Ok(Ok(nanoseconds)) if nanoseconds > 0 => 1_000_000_000 / nanoseconds,
        // No kernel that has eBPF is without this clock; the commonest HZ then.
        _ => 250,
    }
}
