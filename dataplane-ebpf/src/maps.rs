//! The maps that every object with the policy has, and the policy's view of them.
//!
//! Types and their meaning are in `dataplane_common::abi`. Tables of a generation are maps in maps: the
//! outer one has a slot per generation. Their inner sizes here are templates; the controller sizes the
//! real ones.

use core::ptr::NonNull;

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use dataplane_common::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, Event, FlowEntry, FlowKey, FragmentEntry, FragmentKey,
    Generation, HolderEntry, PairEntry, PairKey, PrefixEntry, PrefixKey, RuleKey, SERVICE_INDEXES,
    SLOTS, SegmentEntry, Ticket, VLAN_IDS,
};
use dataplane_common::policy::tables::Holder;
use dataplane_common::policy::{Scratch, Tables};

use crate::atomic;

const SLOT_COUNT: usize = SLOTS as usize;
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;
const TEMPLATE: usize = 1024;

type Hash<K, V> = HashMap<K, V, TEMPLATE, ON_DEMAND>;

#[btf_map]
static GENERATION: ArrayOfMaps<Array<Generation, 1>, 1> = ArrayOfMaps::new();
#[btf_map]
static SEGMENTS: ArrayOfMaps<Array<SegmentEntry, { VLAN_IDS as usize }>, SLOT_COUNT> =
    ArrayOfMaps::new();
#[btf_map]
static ENDPOINTS: ArrayOfMaps<Hash<EndpointKey, EndpointEntry>, SLOT_COUNT> = ArrayOfMaps::new();
#[btf_map]
static BOUND_MACS: ArrayOfMaps<Hash<BoundMacKey, u32>, SLOT_COUNT> = ArrayOfMaps::new();
#[btf_map]
static PREFIXES: ArrayOfMaps<Hash<PrefixKey, PrefixEntry>, SLOT_COUNT> = ArrayOfMaps::new();
#[btf_map]
static PAIRS: ArrayOfMaps<Hash<PairKey, PairEntry>, SLOT_COUNT> = ArrayOfMaps::new();
#[btf_map]
static RULES: ArrayOfMaps<Hash<RuleKey, u32>, SLOT_COUNT> = ArrayOfMaps::new();
#[btf_map]
static SERVICES: ArrayOfMaps<Array<u32, { SERVICE_INDEXES as usize }>, SLOT_COUNT> =
    ArrayOfMaps::new();

/// Connections. The loader sets the real size. Not LRU: what goes is its holder's (ADR 0014).
#[btf_map]
static FLOWS: HashMap<FlowKey, FlowEntry, 262_144, ON_DEMAND> = HashMap::new();
/// Which connection has which place of its holder's. The loader makes it twice as large as `FLOWS`.
#[btf_map]
static TICKETS: HashMap<Ticket, FlowKey, 524_288, ON_DEMAND> = HashMap::new();
/// What holders have taken. More than there can be segments, ports and tenants at once: who is not there any more goes first.
#[btf_map]
static HOLDERS: LruHashMap<u32, HolderEntry, 32_768> = LruHashMap::new();
/// Judged first fragments.
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentEntry, 16_384> = LruHashMap::new();

/// Drops and new connections, a bounded number per tick and CPU.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { 1 << 20 }> = RingBuf::new();
/// How many events this CPU may still emit in this tick.
#[btf_map]
pub(crate) static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Working memory of the program that runs on this CPU.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Bounds events, so that a flood of drops cannot become a flood of events.
#[repr(C)]
pub(crate) struct EventBudget {
    /// The tick that `left` is of.
    pub(crate) tick: u64,
    /// Events left in it.
    pub(crate) left: u64,
}

/// Returns the working memory. It may be asked for once per packet.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    let place = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's own place. One program at a time runs on a CPU in this hook's context, and it
    // asks once per packet, so this is the only reference. Any bytes that a packet left there are valid.
    Some(unsafe { &mut *place })
}

/// The kernel's tables.
pub(crate) struct KernelTables;

impl Tables for KernelTables {
    type Flow<'a> = &'a mut FlowEntry;
    type Holder<'a> = KernelHolder;
    #[inline(always)]
    fn generation(&self) -> Option<&Generation> {
        GENERATION.get_value(0, &0)
    }

    #[inline(always)]
    fn segment(&self, slot: u32, vlan_id: u16) -> Option<&SegmentEntry> {
        SEGMENTS.get_value(slot, &u32::from(vlan_id))
    }

    #[inline(always)]
    fn endpoint(&self, slot: u32, key: &EndpointKey) -> Option<&EndpointEntry> {
        // SAFETY: the controller fills a slot before the flip and changes it only after the next one,
        // when no program can hold a reference any more. The same holds for the tables below.
        unsafe { ENDPOINTS.get(slot)?.get(key) }
    }

    #[inline(always)]
    fn bound_mac(&self, slot: u32, key: &BoundMacKey) -> Option<u32> {
        // SAFETY: see `endpoint`.
        unsafe { BOUND_MACS.get(slot)?.get(key).copied() }
    }

    #[inline(always)]
    fn prefix(&self, slot: u32, key: &PrefixKey) -> Option<&PrefixEntry> {
        // SAFETY: see `endpoint`.
        unsafe { PREFIXES.get(slot)?.get(key) }
    }

    #[inline(always)]
    fn pair(&self, slot: u32, key: &PairKey) -> Option<&PairEntry> {
        // SAFETY: see `endpoint`.
        unsafe { PAIRS.get(slot)?.get(key) }
    }

    #[inline(always)]
    fn rule(&self, slot: u32, key: &RuleKey) -> Option<u32> {
        // SAFETY: see `endpoint`.
        unsafe { RULES.get(slot)?.get(key).copied() }
    }

    #[inline(always)]
    fn service(&self, slot: u32, index: u32) -> Option<u32> {
        SERVICES.get_value(slot, &index).copied()
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>> {
        let entry = FLOWS.get_ptr_mut(key)?;
        // SAFETY: the kernel keeps the memory until the program ends, and every field is a plain integer. Another CPU
        // may change the entry meanwhile, or even give its memory to another connection (the kernel reuses what is
        // removed at once): a mixture counts for this packet, or until a side of the connection is judged again.
        Some(unsafe { &mut *entry })
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool {
        FLOWS.insert(key, entry, 0).is_ok()
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        // It fails if another CPU was faster: just as well.
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn ticket(&self, ticket: &Ticket, whose: &mut FlowKey) -> bool {
        // SAFETY: as for `flow`; the key is copied.
        match unsafe { TICKETS.get(ticket) } {
            Some(key) => {
                whose.copy_from(key);
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn insert_ticket(&self, ticket: &Ticket, key: &FlowKey) -> bool {
        TICKETS.insert(ticket, key, 0).is_ok()
    }

    #[inline(always)]
    fn holder(&self, number: u32, nothing: &HolderEntry) -> Option<KernelHolder> {
        let entry = match HOLDERS.get_ptr_mut(number) {
            Some(entry) => entry,
            None => {
                // Another CPU may be faster: then that entry counts.
                let _ = HOLDERS.insert(number, nothing, u64::from(BPF_NOEXIST));
                HOLDERS.get_ptr_mut(number)?
            }
        };
        NonNull::new(entry).map(KernelHolder)
    }

    #[inline(always)]
    fn known_holder(&self, number: u32) -> Option<KernelHolder> {
        NonNull::new(HOLDERS.get_ptr_mut(number)?).map(KernelHolder)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry> {
        // SAFETY: as for `flow`; the entry is copied.
        unsafe { FRAGMENTS.get(key).copied() }
    }

    #[inline(always)]
    fn insert_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool {
        FRAGMENTS.insert(key, entry, 0).is_ok()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and returns a number.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        // SAFETY: as for `now`.
        unsafe { bpf_ktime_get_ns() }
    }
}

/// An entry of `HOLDERS`.
pub(crate) struct KernelHolder(NonNull<HolderEntry>);

impl Holder for KernelHolder {
    #[inline(always)]
    fn next_ticket(&mut self) -> u64 {
        // SAFETY: the kernel keeps the memory until the program ends. Whatever it belongs to by then, it is numbers.
        unsafe { atomic::fetch_add(&raw mut (*self.0.as_ptr()).tickets, 1) }
    }

    #[inline(always)]
    fn bucket(&self, kind: usize) -> u64 {
        match self.place(kind) {
            // SAFETY: as for `next_ticket`. Volatile, since other CPUs write it.
            Some(bucket) => unsafe { bucket.read_volatile() },
            None => 0,
        }
    }

    #[inline(always)]
    fn replace_bucket(&mut self, kind: usize, old: u64, new: u64) -> bool {
        match self.place(kind) {
            // SAFETY: as for `next_ticket`.
            Some(bucket) => unsafe { atomic::compare_exchange(bucket, old, new) == old },
            None => false,
        }
    }

    #[inline(always)]
    fn occupy(&mut self, way: usize, time: u64) -> u64 {
        // SAFETY: as for `next_ticket`.
        unsafe { atomic::fetch_add(self.line(way), time) }
    }

    #[inline(always)]
    fn replace_busy(&mut self, way: usize, old: u64, new: u64) {
        // SAFETY: as for `next_ticket`.
        unsafe { atomic::compare_exchange(self.line(way), old, new) };
    }
}

impl KernelHolder {
    #[inline(always)]
    fn place(&self, kind: usize) -> Option<*mut u64> {
        // SAFETY: as for `next_ticket`; the place of the array, not its contents.
        let buckets = unsafe { &raw mut (*self.0.as_ptr()).buckets };
        // SAFETY: below the array's length.
        (kind < 4).then(|| unsafe { buckets.cast::<u64>().add(kind) })
    }

    #[inline(always)]
    fn line(&self, way: usize) -> *mut u64 {
        // SAFETY: as for `place`; there are two, and the remainder is below that.
        unsafe {
            let lines = &raw mut (*self.0.as_ptr()).busy_until;
            lines.cast::<u64>().add(way % 2)
        }
    }
}
