//! Where the policy looks things up.

use core::ops::DerefMut;

use crate::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, FlowEntry, FlowKey, FlowSide, FragmentEntry,
    FragmentKey, Generation, HolderEntry, PairEntry, PairKey, PrefixEntry, PrefixKey, RuleKey,
    SegmentEntry, Ticket,
};
use crate::policy::connection::Found;
use crate::policy::destination::{Allowed, Request};
use crate::policy::source::Source;
use crate::policy::{Packet, Report};

/// Keys that something is looked up with.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Keys {
    /// Key of `ENDPOINTS`.
    pub endpoint: EndpointKey,
    /// Key of `BOUND_MACS`.
    pub bound_mac: BoundMacKey,
    /// Key of `PREFIXES`.
    pub prefix: PrefixKey,
    /// Key of `PAIRS`.
    pub pair: PairKey,
    /// Key of `RULES`.
    pub rule: RuleKey,
}

/// Working memory for one packet. In the kernel it is not on the stack: that has 512 octets for all, and
/// the verifier follows its contents, so that it would tell apart every way that led to them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Scratch {
    /// What the hook is told.
    pub report: Report,
    /// The packet that is judged.
    pub packet: Packet,
    /// Key of its connection.
    pub flow_key: FlowKey,
    /// Other keys.
    pub keys: Keys,
    /// The connection it opens.
    pub flow: FlowEntry,
    /// Key of the connection that has its ticket.
    pub other_flow: FlowKey,
    /// Interface index of the access port that pays for it; 0: its segment does.
    pub port: u32,
    /// Connections that are remembered for that port.
    pub quota: u32,
    /// Zero: what a new holder has taken.
    pub nothing: HolderEntry,
    /// Its source.
    pub source: Source,
    /// What is known of its connection.
    pub found: Found,
    /// What section 9 is asked.
    pub request: Request,
    /// What it answers.
    pub allowed: Allowed,
    /// The side that the packet goes to.
    pub to: FlowSide,
    /// Key of its first fragment.
    pub fragment_key: FragmentKey,
    /// What its first fragment is judged to be.
    pub fragment: FragmentEntry,
}

/// What a holder has taken: see [`crate::abi::HolderEntry`]. Several processors change it at once.
pub trait Holder {
    /// Returns how many tickets were looked at before, and counts one more.
    fn next_ticket(&mut self) -> u64;
    /// Returns the bucket of a kind.
    fn bucket(&self, kind: usize) -> u64;
    /// Replaces a bucket if it is what it was; returns whether it did.
    fn replace_bucket(&mut self, kind: usize, old: u64, new: u64) -> bool;
    /// Adds to the time until which a line is busy, modulo 2^64; returns what it was.
    fn occupy(&mut self, way: usize, time: u64) -> u64;
    /// Replaces the time until which a line is busy if it is what it was.
    fn replace_busy(&mut self, way: usize, old: u64, new: u64);
}

/// The tables of the current generation, the state that outlives it, and the clock.
///
/// `slot` is [`Generation::slot`] of the generation that the packet is judged by: read once per
/// packet, so that no packet sees two.
pub trait Tables {
    /// Access to an entry of `FLOWS`.
    type Flow<'a>: DerefMut<Target = FlowEntry>
    where
        Self: 'a;
    /// Access to an entry of `HOLDERS`.
    type Holder<'a>: Holder
    where
        Self: 'a;

    /// Returns the current generation.
    fn generation(&self) -> Option<&Generation>;
    /// Returns the segment of a VLAN id (flags 0 where there is none).
    fn segment(&self, slot: u32, vlan_id: u16) -> Option<&SegmentEntry>;
    /// Returns what is known of an address.
    fn endpoint(&self, slot: u32, key: &EndpointKey) -> Option<&EndpointEntry>;
    /// Returns [`crate::abi::bound_mac_flags`] of a hardware address.
    fn bound_mac(&self, slot: u32, key: &BoundMacKey) -> Option<u32>;
    /// Returns what lies behind a prefix.
    fn prefix(&self, slot: u32, key: &PrefixKey) -> Option<&PrefixEntry>;
    /// Returns what one class may open to another.
    fn pair(&self, slot: u32, key: &PairKey) -> Option<&PairEntry>;
    /// Returns the rule that allows a service class.
    fn rule(&self, slot: u32, key: &RuleKey) -> Option<u32>;
    /// Returns the service class of a [`crate::abi::service_index`].
    fn service(&self, slot: u32, index: u32) -> Option<u32>;

    /// Returns a connection, live or not.
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow<'_>>;
    /// Stores a connection; returns whether there was room.
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool;
    /// Forgets a connection.
    fn remove_flow(&self, key: &FlowKey);
    /// Writes whose a ticket is, or was; returns whether it is anybody's.
    fn ticket(&self, ticket: &Ticket, whose: &mut FlowKey) -> bool;
    /// Stores whose a ticket is; returns whether there was room.
    fn insert_ticket(&self, ticket: &Ticket, key: &FlowKey) -> bool;
    /// Returns what a holder has taken; who is not known yet is entered with `nothing`.
    fn holder(&self, number: u32, nothing: &HolderEntry) -> Option<Self::Holder<'_>>;
    /// Returns what a holder has taken who is known.
    fn known_holder(&self, number: u32) -> Option<Self::Holder<'_>>;
    /// Returns what a first fragment was judged to be, live or not.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry>;
    /// Remembers a judged first fragment.
    fn insert_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool;

    /// Returns the time in ticks of [`Generation::ticks_per_second`].
    fn now(&self) -> u64;
    /// Returns the time in nanoseconds of `CLOCK_MONOTONIC`.
    fn nanoseconds(&self) -> u64;
}
