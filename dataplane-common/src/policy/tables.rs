//! Where the policy looks things up.

use core::ops::DerefMut;

use crate::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, FlowEntry, FlowKey, FlowSide, FragmentEntry,
    FragmentKey, Generation, PairEntry, PairKey, PrefixEntry, PrefixKey, RuleKey, SegmentEntry,
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

/// The tables of the current generation, the state that outlives it, and the clock.
///
/// `slot` is [`Generation::slot`] of the generation that the packet is judged by: read once per
/// packet, so that no packet sees two.
pub trait Tables {
    /// Access to an entry of `FLOWS`.
    type Flow<'a>: DerefMut<Target = FlowEntry>
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
    /// Stores a connection if the key has none, live or not; returns whether it did. It may push out another.
    fn add_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool;
    /// Stores a connection; it may push out the one that was used least recently.
    fn insert_flow(&self, key: &FlowKey, entry: &FlowEntry) -> bool;
    /// Forgets a connection.
    fn remove_flow(&self, key: &FlowKey);
    /// Returns what a first fragment was judged to be, live or not.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry>;
    /// Remembers a judged first fragment.
    fn insert_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) -> bool;

    /// Returns the time in ticks of [`Generation::ticks_per_second`].
    fn now(&self) -> u64;
}
