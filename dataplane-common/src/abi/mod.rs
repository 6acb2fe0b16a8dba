//! What the eBPF programs and the controller share through maps: the *kernel ABI*.
//!
//! Integers and fixed arrays only, `repr(C)`, padding written out, sizes asserted. Numbers are in
//! host byte order; addresses are in wire order (an [`Address`] or [`Mac`] is a run of words copied
//! from the frame as they stand, never swapped).
//!
//! Any change of a layout, of a number or of a map's type needs a new [`ABI_VERSION`]: the loader
//! refuses to adopt pinned maps of another version.
//!
//! ```text
//!  GENERATION[0] ─► { Generation }      the flip: one pointer swap, so no packet sees half of one
//!      slot ─┬─► SEGMENTS[slot]   ─► [vlan id]                    SegmentEntry
//!            ├─► ENDPOINTS[slot]  ─► {vpc, address}               EndpointEntry
//!            ├─► BOUND_MACS[slot] ─► {vlan id, mac}               flags
//!            ├─► PREFIXES[slot]   ─► {vpc, length, address}       PrefixEntry
//!            ├─► PAIRS[slot]      ─► {source class, dest. class}  PairEntry
//!            ├─► RULES[slot]      ─► {ruleset, service class}     rule id
//!            └─► SERVICES[slot]   ─► [service index]              service class
//!  FLOWS, TICKETS, HOLDERS, FRAGMENTS, COUNTERS, EVENTS outlive generations; on a hypervisor also PORTS, STATIONS,
//!  PORT_COUNTERS
//! ```

mod address;
mod connection;
mod fairness;
mod generation;
mod observed;
mod port;

pub use self::address::{Address, Mac};
pub use self::connection::{
    FlowEntry, FlowKey, FlowSide, FragmentEntry, FragmentKey, LINK_PLANS, flow_state, side_flags,
};
pub use self::fairness::{
    HolderEntry, Limits, PORT_HOLDER, TENANT_HOLDER, Ticket, limit_kind, octet_time, way,
};
pub use self::generation::{
    ALLOW_ANY, BoundMacKey, EndpointEntry, EndpointKey, Generation, PairEntry, PairKey,
    PrefixEntry, PrefixKey, PrefixLength, RuleKey, SegmentEntry, bound_mac_flags, endpoint_flags,
    prefix_flags, segment_flags,
};
pub use self::observed::{EVENT_BYTES, Event, OUTCOMES, SegmentCounters, direction};
pub use self::port::{
    MARK_MASK, PortCounters, PortEntry, StationEntry, StationKey, hook, judged_mark,
};

/// Version of every layout in this module.
pub const ABI_VERSION: u32 = 5;

/// Number of generations whose tables can be in the kernel at once: the one that packets are judged by,
/// and the next one while it is filled. The flip (an update of the map-in-map `GENERATION`) waits until
/// every program that could have read the old [`Generation`] has ended, so the old slot is free after it.
/// <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/syscall.c#L140-L151>
pub const SLOTS: u32 = 2;

/// Entries of `SEGMENTS`, indexed by VLAN id.
pub const VLAN_IDS: u32 = 4096;

/// Entries of `SERVICES`: TCP ports, UDP ports, then IP protocol numbers. See [`service_index`].
pub const SERVICE_INDEXES: u32 = 2 * 65_536 + 256;

/// Slots for prefix lengths per family in [`Generation`].
pub const PREFIX_LENGTHS: usize = 16;

/// Fills up a list of prefix lengths.
pub const NO_PREFIX_LENGTH: u8 = 0xff;

/// Ends the list of prefixes in [`Generation`].
pub const NO_PREFIX: u32 = u32::MAX;

/// Returns the index into `SERVICES` of a destination port (TCP, UDP) or of the protocol itself.
#[inline(always)]
#[must_use]
pub const fn service_index(protocol: u8, destination_port: u16) -> u32 {
    match protocol {
        6 => destination_port as u32,
        17 => 65_536 + destination_port as u32,
        other => 2 * 65_536 + other as u32,
    }
}

/// `Pod`: any bytes are a valid value, and there is no padding to leak.
#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($name:ident),*) => {
            $(
                // SAFETY: `repr(C)`, `Copy`, integers only, no implicit padding (the sizes are
                // asserted above, and every gap is a named field).
                unsafe impl aya::Pod for super::$name {}
            )*
        };
    }
    pod!(
        Address,
        BoundMacKey,
        EndpointEntry,
        EndpointKey,
        FlowEntry,
        FlowKey,
        FragmentEntry,
        FragmentKey,
        Generation,
        HolderEntry,
        Limits,
        Mac,
        PairEntry,
        PairKey,
        PortCounters,
        PortEntry,
        PrefixEntry,
        PrefixKey,
        PrefixLength,
        RuleKey,
        SegmentCounters,
        SegmentEntry,
        StationEntry,
        StationKey,
        Ticket
    );
}
