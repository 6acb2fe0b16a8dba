//! Who pays for what all share, and how much of it he may have (ADR 0014).

use core::mem::size_of;

/// Of a holder's number: the rest is the interface index of an access port, and not the VLAN id of a segment.
pub const PORT_HOLDER: u32 = 1 << 31;
/// Of a holder's number: the rest is [`crate::abi::SegmentEntry::tenant`]. Bandwidth at the router is all of a tenant's segments' together.
pub const TENANT_HOLDER: u32 = 1 << 30;

/// Indexes of [`Limits::rates`] and [`HolderEntry::buckets`].
pub mod limit_kind {
    /// Connections that are opened.
    pub const CONNECTION: usize = 0;
    /// ARP, RARP, neighbour discovery and MLD, and echo that the program answers.
    pub const NEIGHBOUR: usize = 1;
    /// DHCP to all, or to a server's port.
    pub const DHCP: usize = 2;
    /// First fragments.
    pub const FRAGMENT: usize = 3;
}

/// What one holder may take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Limits {
    /// Connections that are remembered for it; 0: an equal share of what nobody was promised
    /// ([`crate::abi::Generation::share`]).
    pub connections: u32,
    /// By [`limit_kind`], a second; 0: any number.
    pub rates: [u32; 4],
}

const _: () = assert!(size_of::<Limits>() == 20);

/// Indexes of [`HolderEntry::busy_until`].
pub mod way {
    /// What the holder sends.
    pub const SENT: usize = 0;
    /// What it receives.
    pub const RECEIVED: usize = 1;
}

/// Returns the time that an octet takes at a bandwidth of `kbit` thousand bits a second, in 1/1024 ns, at least one of these; 0
/// if there is no limit.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is compared before")]
pub const fn octet_time(kbit: u32) -> u32 {
    if kbit == 0 {
        return 0;
    }
    let time = 8 * 1024 * 1_000_000 / kbit as u64;
    if time == 0 {
        1
    } else if time > u32::MAX as u64 {
        u32::MAX
    } else {
        time as u32
    }
}

/// A place for one connection of a holder. Key of `TICKETS`, whose value is the key of the connection that has it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct Ticket {
    /// The VLAN id of a segment, or [`PORT_HOLDER`] and the interface index of an access port; 0: nobody.
    pub holder: u32,
    /// Below the holder's quota.
    pub index: u32,
}

const _: () = assert!(size_of::<Ticket>() == 8);

/// What a holder has taken. Value of `HOLDERS`; the key is [`Ticket::holder`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct HolderEntry {
    /// How many tickets were looked at: the next one's index, but for the quota.
    pub tickets: u64,
    /// By [`limit_kind`]: the tick of the last packet that was let through (low half), and the credit that it left, in
    /// packets times ticks per second (high half).
    pub buckets: [u64; 4],
    /// By [`way`]: when all that was let through so far would have passed a line of the holder's bandwidth; nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub busy_until: [u64; 2],
}

const _: () = assert!(size_of::<HolderEntry>() == 56);
