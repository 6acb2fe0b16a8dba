//! State that outlives generations: connections and first fragments.

use core::mem::{align_of, offset_of, size_of};

use crate::abi::address::copy_words;
use crate::abi::{Address, Mac, Ticket};

/// Key of `FLOWS`: one connection, whichever side a packet comes from.
///
/// The sides are ordered by (address, port) as words in memory, `a` ≤ `b`, so that both directions
/// meet the same entry with one lookup.
///
/// Sizes matter: behind the 48 octets that the kernel keeps in front, the key and what a known packet needs of a
/// [`FlowEntry`] are 40 octets each, which are two cache lines. What stands behind them is for who opens a connection.
/// <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/hashtab.c#L112-L136>
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct FlowKey {
    /// Address plan (24 bits) and IP protocol number (8 bits): see [`FlowKey::plan_and_protocol`].
    pub plan: u32,
    /// Lesser side's address.
    pub a: Address,
    /// Greater side's address.
    pub b: Address,
    /// Lesser side's port, host byte order; the identifier for ICMP echo; 0 for other protocols.
    pub port_a: u16,
    /// Greater side's port.
    pub port_b: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

/// Address plans from here on are of one link each, for its link-local addresses: this number plus the VLAN id.
pub const LINK_PLANS: u32 = 1 << 23;

impl FlowKey {
    /// Becomes a copy of another key, word by word: see [`copy_words`].
    #[inline(always)]
    pub fn copy_from(&mut self, other: &Self) {
        self.plan = other.plan;
        self.a.copy_from(&other.a);
        self.b.copy_from(&other.b);
        (self.port_a, self.port_b) = (other.port_a, other.port_b);
    }

    /// Returns [`FlowKey::plan`]; address plans are below [`LINK_PLANS`] or of a link.
    #[inline(always)]
    #[must_use]
    pub const fn plan_and_protocol(vpc_id: u32, protocol: u8) -> u32 {
        vpc_id << 8 | protocol as u32
    }
}

/// Bits of [`FlowSide::flags`].
pub mod side_flags {
    /// The side is an endpoint with a known MAC: packets towards it are forwarded by the program.
    pub const FORWARD: u8 = 1;
    /// The side is the router itself or the internet: its packets do not come in over the trunk.
    pub const SILENT: u8 = 1 << 1;
    /// The side opened the connection.
    pub const OPENER: u8 = 1 << 2;
}

/// One side of a connection: where its packets must come from and where packets to it go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct FlowSide {
    /// Hardware address.
    pub mac: Mac,
    /// VLAN id of its segment; 0 for the internet.
    pub vlan_id: u16,
    /// Generation under which packets *from* this side were last judged; 0 for never.
    pub generation: u32,
    /// MTU of its segment, octets.
    pub mtu: u16,
    /// [`side_flags`].
    pub flags: u8,
    /// Side `a`: [`flow_state`] of the connection. Elsewhere 0.
    pub state: u8,
}

const _: () = assert!(size_of::<FlowSide>() == 16 && align_of::<FlowSide>() == 4);

impl FlowSide {
    /// Becomes a copy of another side: see [`copy_words`].
    #[inline(always)]
    pub fn copy_from(&mut self, other: &Self) {
        // SAFETY: four words, without padding (asserted above).
        unsafe { copy_words(self, other) };
    }
}

/// States of a connection; values of [`FlowSide::state`] of side `a`.
pub mod flow_state {
    /// TCP: opener's SYN seen.
    pub const OPENING: u8 = 1;
    /// TCP: both directions seen.
    pub const ESTABLISHED: u8 = 2;
    /// TCP: a FIN seen.
    pub const CLOSING: u8 = 3;
    /// TCP: an RST seen.
    pub const RESET: u8 = 4;
    /// UDP: only the opener seen.
    pub const UNREPLIED: u8 = 5;
    /// ICMP echo.
    pub const ECHO: u8 = 6;
    /// Any other protocol.
    pub const OTHER: u8 = 7;
    /// UDP: the other side has sent.
    pub const REPLIED: u8 = 8;
}

/// One connection. Value of `FLOWS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct FlowEntry {
    /// Tick (`bpf_jiffies64`) at which it stops being live.
    pub expires: u64,
    /// Side `a`, then side `b`.
    pub sides: [FlowSide; 2],
    /// The place that it takes of its opener's. It is last, in a cache line of its own.
    pub ticket: Ticket,
}

const _: () = {
    assert!(size_of::<FlowEntry>() == 48);
    assert!(offset_of!(FlowEntry, ticket) == 40);
};

/// Key of `FRAGMENTS`: one fragmented packet on its way.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct FragmentKey {
    /// Address plan.
    pub vpc_id: u32,
    /// IP protocol number (IPv6: of the fragment header's next header).
    pub protocol: u32,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification, host byte order.
    pub id: u32,
}

const _: () = assert!(size_of::<FragmentKey>() == 44);

/// What the first fragment was judged to be. Value of `FRAGMENTS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct FragmentEntry {
    /// Tick at which it stops being live.
    pub expires: u64,
    /// Where the first fragment came from; `generation` is the one that judged it.
    pub source: FlowSide,
    /// Where it went.
    pub destination: FlowSide,
    /// First octet behind the first fragment's payload, counted from the payload's start.
    pub first_end: u32,
    /// Zero.
    pub _pad: u32,
}

const _: () = assert!(size_of::<FragmentEntry>() == 48);
