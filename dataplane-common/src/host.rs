//! The policy core outside of the kernel: frames in slices, tables in hash maps.
//!
//! Unit tests, fuzzers and benchmarks judge frames with it, by the same code as the eBPF programs.

use core::cell::{Cell, RefCell, RefMut};
use core::mem::size_of;
use core::ptr;
use std::boxed::Box;
use std::collections::HashMap;
use std::vec::Vec;

use crate::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, FlowEntry, FlowKey, FragmentEntry, FragmentKey,
    Generation, HolderEntry, PairEntry, PairKey, PortEntry, PrefixEntry, PrefixKey, RuleKey,
    SERVICE_INDEXES, SegmentEntry, StationEntry, StationKey, Ticket, VLAN_IDS,
};
use crate::policy::tables::{Holder, Scratch};
use crate::policy::{self, Frame, MAX_OFFSET, Ports, Report, Tables};
use crate::reason::DropReason;
use crate::rewrite::FrameMut;
use crate::wire::{Be16, Wire};

/// A frame in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// Outer tag (TPID, TCI) if it is not in the bytes.
    pub tag: Option<(u16, u16)>,
}

impl Frame for Slice<'_> {
    fn read<W: Wire>(&self, offset: usize) -> Option<W> {
        if offset > MAX_OFFSET {
            return None;
        }
        let bytes = self
            .bytes
            .get(offset..offset.checked_add(size_of::<W>())?)?;
        // SAFETY: the slice is as long as `W`, of which every bit pattern is valid.
        Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
    }

    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn again(&self) -> impl Frame {
        *self
    }

    fn offloaded_tag(&self) -> Option<(u16, u16)> {
        self.tag
    }

    fn wire_length(&self, length: u16, _headers: u16) -> u16 {
        length
    }
}

/// The tables of one generation and the state, in hash maps.
#[derive(Debug)]
pub struct HostTables {
    /// The current generation; `None` until one is published.
    pub generation: Option<Generation>,
    /// By VLAN id.
    pub segments: Vec<SegmentEntry>,
    /// See [`Tables::endpoint`].
    pub endpoints: HashMap<EndpointKey, EndpointEntry>,
    /// See [`Tables::bound_mac`].
    pub bound_macs: HashMap<BoundMacKey, u32>,
    /// See [`Tables::prefix`].
    pub prefixes: HashMap<PrefixKey, PrefixEntry>,
    /// See [`Tables::pair`].
    pub pairs: HashMap<PairKey, PairEntry>,
    /// See [`Tables::rule`].
    pub rules: HashMap<RuleKey, u32>,
    /// By service index.
    pub services: Vec<u32>,
    /// Connections.
    pub flows: RefCell<HashMap<FlowKey, FlowEntry>>,
    /// Whose the tickets are, or were.
    pub tickets: RefCell<HashMap<Ticket, FlowKey>>,
    /// What the holders have taken.
    pub holders: RefCell<HashMap<u32, HolderEntry>>,
    /// First fragments.
    pub fragments: RefCell<HashMap<FragmentKey, FragmentEntry>>,
    /// The time, in ticks.
    pub now: Cell<u64>,
    /// The time, in nanoseconds. It goes apart from `now`.
    pub nanoseconds: Cell<u64>,
    /// A hypervisor's ports, by interface index.
    pub ports: HashMap<u32, PortEntry>,
    /// The hardware addresses on the host.
    pub stations: HashMap<StationKey, StationEntry>,
}

impl Default for HostTables {
    fn default() -> Self {
        Self {
            generation: None,
            segments: std::vec![SegmentEntry::default(); VLAN_IDS as usize],
            endpoints: HashMap::new(),
            bound_macs: HashMap::new(),
            prefixes: HashMap::new(),
            pairs: HashMap::new(),
            rules: HashMap::new(),
            services: std::vec![0; SERVICE_INDEXES as usize],
            flows: RefCell::default(),
            tickets: RefCell::default(),
            holders: RefCell::default(),
            fragments: RefCell::default(),
            now: Cell::new(1),
            nanoseconds: Cell::new(1),
            ports: HashMap::new(),
            stations: HashMap::new(),
        }
    }
}

impl Tables for HostTables {
    type Flow<'a> = RefMut<'a, FlowEntry>;
    type Holder<'a> = RefMut<'a, HolderEntry>;
    fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    fn segment(&self, _slot: u32, vlan_id: u16) -> Option<&SegmentEntry> {
        self.segments.get(usize::from(vlan_id))
    }

    fn endpoint(&self, _slot: u32, key: &EndpointKey) -> Option<&EndpointEntry> {
        self.endpoints.get(key)
    }

    fn bound_mac(&self, _slot: u32, key: &BoundMacKey) -> Option<u32> {
        self.bound_macs.get(key).copied()
    }

    fn prefix(&self, _slot: u32, key: &PrefixKey) -> Option<&PrefixEntry> {
        self.prefixes.get(key)
    }

    fn pair(&self, _slot: u32, key: &PairKey) -> Option<&PairEntry> {
        self.pairs.get(key)
    }

    fn rule(&self, _slot: u32, key: &RuleKey) -> Option<u32> {
        self.rules.get(key).copied()
    }

    fn service(&self, _slot: u32, index: u32) -> Option<u32> {
        self.services.get(index as usize).copied()
    }

    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>> {
        RefMut::filter_map(self.flows.borrow_mut(), |flows| flows.get_mut(key)).ok()
    }

    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        self.flows.borrow_mut().insert(*key, *entry);
        true
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn ticket(&self, ticket: &Ticket, whose: &mut FlowKey) -> bool {
        let tickets = self.tickets.borrow();
        let key = tickets.get(ticket);
        key.map(|key| *whose = *key).is_some()
    }

    fn insert_ticket(&self, ticket: &Ticket, key: &FlowKey) -> bool {
        self.tickets.borrow_mut().insert(*ticket, *key);
        true
    }

    fn holder(&self, number: u32, nothing: &HolderEntry) -> Option<Self::Holder<'_>> {
        let holders = self.holders.borrow_mut();
        Some(RefMut::map(holders, |holders| {
            holders.entry(number).or_insert(*nothing)
        }))
    }

    fn known_holder(&self, number: u32) -> Option<Self::Holder<'_>> {
        RefMut::filter_map(self.holders.borrow_mut(), |holders| {
            holders.get_mut(&number)
        })
        .ok()
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry> {
        self.fragments.borrow().get(key).copied()
    }

    fn insert_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool {
        self.fragments.borrow_mut().insert(*key, *entry);
        true
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn nanoseconds(&self) -> u64 {
        self.nanoseconds.get()
    }
}

impl Holder for RefMut<'_, HolderEntry> {
    fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets - 1
    }

    fn bucket(&self, kind: usize) -> u64 {
        self.buckets.get(kind).copied().unwrap_or_default()
    }

    fn replace_bucket(&mut self, kind: usize, old: u64, new: u64) -> bool {
        let bucket = self.buckets.get_mut(kind).filter(|bucket| **bucket == old);
        bucket.map(|bucket| *bucket = new).is_some()
    }

    fn occupy(&mut self, way: usize, time: u64) -> u64 {
        let Some(until) = self.busy_until.get_mut(way) else {
            return 0;
        };
        let before = *until;
        *until = before.wrapping_add(time);
        before
    }

    fn replace_busy(&mut self, way: usize, old: u64, new: u64) {
        let busy = self.busy_until.get_mut(way).filter(|busy| **busy == old);
        if let Some(busy) = busy {
            *busy = new;
        }
    }
}

impl Ports for HostTables {
    fn port(&self, ifindex: u32) -> Option<PortEntry> {
        self.ports.get(&ifindex).copied()
    }

    fn station(&self, key: &StationKey) -> Option<StationEntry> {
        self.stations.get(key).copied()
    }
}

/// A frame in a slice that can be changed.
#[derive(Debug)]
pub struct Buffer<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a mut [u8],
    /// Outer tag (TPID, TCI) if it is not in the bytes.
    pub tag: Option<(u16, u16)>,
}

impl Buffer<'_> {
    fn slice(&self) -> Slice<'_> {
        Slice {
            bytes: self.bytes,
            tag: self.tag,
        }
    }
}

impl Frame for Buffer<'_> {
    fn read<W: Wire>(&self, offset: usize) -> Option<W> {
        self.slice().read(offset)
    }

    fn length(&self) -> usize {
        self.slice().length()
    }

    fn again(&self) -> impl Frame {
        self.slice()
    }

    fn offloaded_tag(&self) -> Option<(u16, u16)> {
        self.tag
    }

    fn wire_length(&self, length: u16, headers: u16) -> u16 {
        self.slice().wire_length(length, headers)
    }
}

impl FrameMut for Buffer<'_> {
    fn write<W: Wire>(&mut self, offset: usize, value: W) -> Option<()> {
        let end = offset.checked_add(size_of::<W>())?;
        let bytes = self.bytes.get_mut(offset..end)?;
        // SAFETY: the slice is as long as `W`, which has no padding.
        unsafe { ptr::write_unaligned(bytes.as_mut_ptr().cast(), value) };
        Some(())
    }

    fn set_vlan(&mut self, vlan_id: u16) -> Option<()> {
        match &mut self.tag {
            Some((_, tci)) => *tci = vlan_id,
            None => self.write(14, Be16::new(vlan_id))?,
        }
        Some(())
    }
}

impl HostTables {
    /// Judges a frame as the programs do: the fast path first, then everything.
    ///
    /// # Errors
    ///
    /// The reason to drop it.
    pub fn judge(&self, frame: &impl Frame, report: &mut Report) -> Result<(), DropReason> {
        if let Some(known) = policy::established(frame, self) {
            *report = known;
            return Ok(());
        }
        let mut scratch = Box::<Scratch>::default();
        let judged = policy::from_trunk(frame, self, &mut scratch);
        *report = scratch.report;
        judged
    }
}
