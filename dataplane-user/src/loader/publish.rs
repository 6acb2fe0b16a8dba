//! Publishes a generation: fills the slot that no packet looks at, then swaps one pointer.
//!
//! The swap is an update of a map-in-map, after which the kernel waits until every program that could have
//! seen the old pointer has ended. So the old slot is free for the next generation.
//! <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/syscall.c#L140-L151>

use std::collections::HashMap as StdHashMap;
use std::sync::Arc;

use aya::maps::{HashMap, MapData, MapError, ProgramArray};
use aya::{Ebpf, Pod};
use dataplane_common::abi::{
    FlowEntry, FlowKey, FragmentEntry, FragmentKey, Generation, SLOTS, Ticket,
};

use super::connections::{self, Sharing};
use super::outer::Outer;
use super::slot::{Outers, Slot};
use super::templates::Templates;
use super::{Datapath, LoaderError, Pins, batch, take_map};
use crate::compile::{Tables, Trunk};

/// Proof that packets are judged by a generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// Its number.
    pub number: u32,
}

/// The map of the pointer to the current generation.
pub(super) const GENERATION: &str = "GENERATION";

/// The outer maps, and what this process put into their slots.
pub(super) struct Publisher {
    templates: Arc<Templates>,
    /// The pointer to the current generation.
    generation: Outer,
    outers: Outers,
    /// Who shares `FLOWS`, and how many connections fit in.
    sharing: Sharing,
    connections: u32,
    flows: HashMap<MapData, FlowKey, FlowEntry>,
    tickets: HashMap<MapData, Ticket, FlowKey>,
    fragments: HashMap<MapData, FragmentKey, FragmentEntry>,
    judges: Vec<ProgramArray<MapData>>,
    /// By slot number; `None` where an earlier process filled it or nobody did.
    slots: StdHashMap<u32, Slot>,
    pub(super) current: Generation,
}

impl Publisher {
    pub(super) fn new(
        ebpf: &mut Ebpf,
        templates: Templates,
        sharing: Sharing,
        pins: Option<&Pins>,
    ) -> Result<Self, LoaderError> {
        let generation = Outer::take(ebpf, GENERATION, pins)?;
        let current = read_generation(&generation)?;
        let flows = take_map(ebpf, "FLOWS")?;
        Ok(Self {
            sharing,
            connections: connections::room(&flows)?,
            templates: Arc::new(templates),
            generation,
            outers: Outers::take(ebpf, pins)?,
            flows: flows.try_into().map_err(|s| LoaderError::map("FLOWS", s))?,
            tickets: take_map(ebpf, "TICKETS")?
                .try_into()
                .map_err(|s| LoaderError::map("TICKETS", s))?,
            fragments: take_map(ebpf, "FRAGMENTS")?
                .try_into()
                .map_err(|s| LoaderError::map("FRAGMENTS", s))?,
            judges: Vec::new(),
            slots: StdHashMap::new(),
            current,
        })
    }

    /// Returns how many connections of access ports there can be.
    pub(super) fn room(&self) -> u32 {
        self.connections - self.sharing.segments(self.connections)
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
        if ticks.is_none() {
            let tickets = |source| LoaderError::map("TICKETS", source);
            for ticket in keys(&self.tickets).map_err(tickets)? {
                self.tickets.remove(&ticket).map_err(tickets)?;
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

    /// See [`Datapath::publish`].
    pub(super) fn publish(
        &mut self,
        tables: &Tables,
        trunk: &Trunk,
        number: u32,
    ) -> Result<Published, LoaderError> {
        self.refresh()?;
        let index = (self.current.slot + 1) % SLOTS;
        let mut slot = match self.slots.remove(&index) {
            Some(slot) => slot,
            None => match Slot::open(&self.outers, index) {
                Ok(Some(slot)) => slot,
                // No packet looks there: what cannot be read is replaced.
                Ok(None) | Err(_) => Slot::new(&self.templates)?,
            },
        };
        slot.fill(tables, &self.templates)?;
        slot.install(&mut self.outers, index)?;
        self.slots.insert(index, slot);
        let room = self.sharing.segments(self.connections);
        let mut next = trunk.generation(tables, number, ticks_per_second(), room);
        next.slot = index;
        let published = self.flip(next)?;
        // It is published, whatever becomes of what follows. The next one makes tables itself if it finds none; a pin that cannot
        // be removed keeps memory, and the next one tries again.
        let _ = self.prepare_next(tables);
        let _ = self.generation.prune();
        let _ = self.outers.prune();
        Ok(published)
    }

    /// After the first generation: fills the tables of the next one as well, so that it costs what differs, and not all of it.
    /// Not without a pin folder: what ends with this process is a test.
    fn prepare_next(&mut self, tables: &Tables) -> Result<(), LoaderError> {
        let index = (self.current.slot + 1) % SLOTS;
        if !self.generation.is_pinned()
            || self.slots.contains_key(&index)
            || self.outers.has(index)?
        {
            return Ok(());
        }
        let mut slot = Slot::new(&self.templates)?;
        slot.fill(tables, &self.templates)?;
        slot.install(&mut self.outers, index)?;
        self.slots.insert(index, slot);
        Ok(())
    }

    /// See [`Datapath::forget_tables`].
    pub(super) fn forget_tables(&mut self) {
        self.slots.clear();
    }

    /// Returns the number of the generation that packets are judged by, whoever published it.
    pub(super) fn enforced(&mut self) -> Result<u32, LoaderError> {
        self.refresh()?;
        Ok(self.current.number)
    }

    /// If another process has flipped since, what this one knows of the slots is out of date.
    fn refresh(&mut self) -> Result<(), LoaderError> {
        let enforced = read_generation(&self.generation)?;
        if enforced != self.current {
            self.slots.clear();
            self.current = enforced;
        }
        Ok(())
    }

    /// Makes packets be judged by `next`: one pointer swap.
    fn flip(&mut self, next: Generation) -> Result<Published, LoaderError> {
        let inner = self.templates.make(GENERATION, 1)?;
        let written = batch::write(&inner, &[0_u32], &[next]);
        written.map_err(|source| LoaderError::Batch {
            map: GENERATION,
            source,
        })?;
        self.generation.set(0, &inner)?;
        self.current = next;
        Ok(Published {
            number: next.number,
        })
    }
}

fn keys<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> Result<Vec<K>, MapError> {
    map.keys().collect()
}

/// Reads the generation that packets are judged by; its number is 0 before the first.
pub(super) fn read_generation(outer: &Outer) -> Result<Generation, LoaderError> {
    let inner = match outer.get(0) {
        Err(LoaderError::Map {
            source: MapError::KeyNotFound,
            ..
        }) => return Ok(Generation::default()),
        inner => inner?,
    };
    let read = batch::read::<u32, Generation>(&inner);
    let read = read.map_err(|source| LoaderError::Batch {
        map: GENERATION,
        source,
    })?;
    let element = read.first().map(|(_, generation)| *generation);
    element.ok_or_else(|| LoaderError::map(GENERATION, MapError::KeyNotFound))
}

impl Datapath {
    /// Publishes the tables as generation `number`. Packets see all of it or none. If it fails, they are judged by
    /// the old one as before.
    ///
    /// # Errors
    ///
    /// The kernel's refusal to make or fill a map, for example for want of memory.
    pub fn publish(
        &mut self,
        tables: &Tables,
        trunk: &Trunk,
        number: u32,
    ) -> Result<Published, LoaderError> {
        self.publisher.publish(tables, trunk, number)
    }

    /// Reads tables out of the kernel before they are filled the next time, and does not go by what this process has written:
    /// somebody else has changed them.
    pub fn forget_tables(&mut self) {
        self.publisher.forget_tables();
    }

    /// Returns the number after that of the generation that packets are judged by.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        self.generation().number.wrapping_add(1).max(1)
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
