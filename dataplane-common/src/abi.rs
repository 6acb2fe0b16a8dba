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
//!  FLOWS, FRAGMENTS, COUNTERS, EVENTS outlive generations
//! ```

use core::mem::{offset_of, size_of};

/// Version of every layout in this module.
pub const ABI_VERSION: u32 = 1;

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

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`: four words in wire order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// Third word of an IPv4-mapped address, as it stands in memory.
    pub const V4_MAPPED: u32 = 0xffff_u32.to_be();

    /// Makes the IPv4-mapped address of a wire-order word.
    #[inline(always)]
    #[must_use]
    pub const fn from_ipv4_word(word: u32) -> Self {
        Self([0, 0, Self::V4_MAPPED, word])
    }

    /// Makes the IPv4-mapped address of four octets.
    #[must_use]
    pub const fn from_ipv4(octets: [u8; 4]) -> Self {
        Self::from_ipv4_word(u32::from_ne_bytes(octets))
    }

    /// Makes an IPv6 address of sixteen octets.
    #[must_use]
    pub const fn from_ipv6(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// Returns the sixteen octets in wire order.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (
            a.to_ne_bytes(),
            b.to_ne_bytes(),
            c.to_ne_bytes(),
            d.to_ne_bytes(),
        );
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1],
            d[2], d[3],
        ]
    }

    /// Becomes a copy of another address: see [`copy_words`].
    #[inline(always)]
    pub fn copy_from(&mut self, other: &Self) {
        // SAFETY: it is four words.
        unsafe { copy_words(self, other) };
    }

    /// Makes the mask of a prefix length, 0–128 (IPv4-mapped: 96–128).
    #[must_use]
    pub fn mask(length: u32) -> Self {
        let bits = if length == 0 {
            0
        } else {
            u128::MAX.checked_shl(128 - length).unwrap_or(0)
        };
        Self::from_ipv6(bits.to_be_bytes())
    }

    /// Clears the bits that a mask does not have.
    #[inline(always)]
    #[must_use]
    pub const fn masked(self, mask: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, mask.0);
        Self([a & e, b & f, c & g, d & h])
    }

    /// Is it an IPv4-mapped address?
    #[inline(always)]
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::V4_MAPPED
    }
}

/// An IEEE 802 hardware address: three words in wire order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct Mac(pub [u16; 3]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xffff; 3]);

    /// Makes an address of six octets.
    #[must_use]
    pub const fn from_octets(o: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([o[0], o[1]]),
            u16::from_ne_bytes([o[2], o[3]]),
            u16::from_ne_bytes([o[4], o[5]]),
        ])
    }

    /// Returns the six octets in wire order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        let [a, b, c] = self.0;
        let (a, b, c) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }

    /// Is the group bit set (multicast or broadcast)?
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0].to_ne_bytes()[0] & 1 != 0
    }

    /// Are all octets zero?
    #[inline(always)]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0
    }
}

/// The generation that packets are judged by. The only element of the inner map of `GENERATION`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Generation {
    /// [`ABI_VERSION`] of the controller that wrote it.
    pub abi_version: u32,
    /// Number of the generation; starts at 1 and grows.
    pub number: u32,
    /// Which slot of the outer maps holds its tables, below [`SLOTS`].
    pub slot: u32,
    /// Ticks of `bpf_jiffies64` per second.
    pub ticks_per_second: u32,
    /// Hardware address of the trunk, which is the gateway's on every segment.
    pub router_mac: Mac,
    /// Zero.
    pub _pad: u16,
    /// Link-local IPv6 address of the router on every segment (EUI-64 of `router_mac`).
    pub router_link_local: Address,
    /// Lengths in `PREFIXES` for IPv4, longest first.
    pub prefixes4: [PrefixLength; PREFIX_LENGTHS],
    /// Lengths in `PREFIXES` for IPv6, longest first.
    pub prefixes6: [PrefixLength; PREFIX_LENGTHS],
}

/// A prefix length in use, and its mask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct PrefixLength {
    /// [`PrefixKey::length`], or [`NO_PREFIX`] behind the last one.
    pub length: u32,
    /// Mask of that length.
    pub mask: Address,
}

impl Default for PrefixLength {
    fn default() -> Self {
        Self {
            length: NO_PREFIX,
            mask: Address::default(),
        }
    }
}

impl PrefixLength {
    /// Makes the list of [`Generation`] out of IPv4 (`mapped` 96) or IPv6 (`mapped` 0) prefix lengths,
    /// which end with [`NO_PREFIX_LENGTH`].
    #[must_use]
    pub fn list(lengths: [u8; PREFIX_LENGTHS], mapped: u32) -> [Self; PREFIX_LENGTHS] {
        lengths.map(|length| {
            if length == NO_PREFIX_LENGTH {
                return Self::default();
            }
            let length = u32::from(length) + mapped;
            Self {
                length,
                mask: Address::mask(length),
            }
        })
    }
}

const _: () = {
    assert!(size_of::<PrefixLength>() == 20);
    assert!(size_of::<Generation>() == 680);
    assert!(offset_of!(Generation, router_mac) == 16);
    assert!(offset_of!(Generation, router_link_local) == 24);
};

/// Bits of [`SegmentEntry::flags`].
pub mod segment_flags {
    /// The VLAN id carries a segment.
    pub const PRESENT: u32 = 1;
    /// Has no subnet, or is the native segment: every frame is dropped.
    pub const BLACKHOLE: u32 = 1 << 1;
    /// Has an IPv4 subnet.
    pub const IPV4: u32 = 1 << 2;
    /// Has an IPv6 subnet.
    pub const IPV6: u32 = 1 << 3;
    /// May open connections to the internet.
    pub const INTERNET: u32 = 1 << 4;
    /// The gateway offers DHCP.
    pub const DHCP: u32 = 1 << 5;
    /// The gateway offers DNS.
    pub const DNS: u32 = 1 << 6;
    /// The gateway offers NTP.
    pub const NTP: u32 = 1 << 7;
    /// The gateway answers echo requests.
    pub const ECHO: u32 = 1 << 8;
    /// IPv4 sources without an endpoint take their class from `PREFIXES`.
    pub const CLASS_BY_PREFIX4: u32 = 1 << 9;
    /// IPv6 sources without an endpoint take their class from `PREFIXES`.
    pub const CLASS_BY_PREFIX6: u32 = 1 << 10;
}

/// One segment. `SEGMENTS`, indexed by VLAN id; zeroed where there is none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct SegmentEntry {
    /// [`segment_flags`].
    pub flags: u32,
    /// Address plan of its subnets.
    pub vpc_id: u32,
    /// 0 for the platform, otherwise 1 + index of the tenant in the model.
    pub tenant: u32,
    /// Source class of addresses without an entry of their own.
    pub src_class: u32,
    /// Destination class of addresses without an entry of their own.
    pub dst_class: u32,
    /// Largest IP packet, octets.
    pub mtu: u16,
    /// IPv4 prefix length, 0–32.
    pub prefix_len4: u8,
    /// IPv6 prefix length, 0–128.
    pub prefix_len6: u8,
    /// Mask of the IPv4 subnet, in wire order.
    pub mask4: u32,
    /// IPv4 network address, as [`Address`].
    pub net4: Address,
    /// IPv4 gateway, as [`Address`].
    pub gateway4: Address,
    /// Mask of the IPv6 subnet.
    pub mask6: Address,
    /// IPv6 network address.
    pub net6: Address,
    /// IPv6 gateway.
    pub gateway6: Address,
}

const _: () = {
    assert!(size_of::<SegmentEntry>() == 108);
    assert!(offset_of!(SegmentEntry, net4) == 28);
};

/// Key of `ENDPOINTS`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct EndpointKey {
    /// Address plan.
    pub vpc_id: u32,
    /// The address.
    pub address: Address,
}

const _: () = assert!(size_of::<EndpointKey>() == 20);

/// Bits of [`EndpointEntry::flags`].
pub mod endpoint_flags {
    /// `mac` is known: sources must use it, and the program can forward to it.
    pub const MAC_KNOWN: u32 = 1;
    /// An address of the router itself (any gateway address, any address of its interfaces).
    pub const ROUTER: u32 = 1 << 1;
    /// With [`ROUTER`]: the inventory declares it as a host interface of the router on `vlan_id`, so
    /// it is judged as a host of that segment.
    pub const DECLARED: u32 = 1 << 2;
}

/// One address that the inventory knows. Value of `ENDPOINTS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct EndpointEntry {
    /// Its hardware address; zero without [`endpoint_flags::MAC_KNOWN`].
    pub mac: Mac,
    /// VLAN id of its segment; 0 for a router address that is on no segment.
    pub vlan_id: u16,
    /// [`endpoint_flags`].
    pub flags: u32,
    /// Source class.
    pub src_class: u32,
    /// Destination class.
    pub dst_class: u32,
}

const _: () = assert!(size_of::<EndpointEntry>() == 20);

/// Key of `BOUND_MACS`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct BoundMacKey {
    /// VLAN id.
    pub vlan_id: u16,
    /// Hardware address.
    pub mac: Mac,
}

const _: () = assert!(size_of::<BoundMacKey>() == 8);

/// Values of `BOUND_MACS`.
pub mod bound_mac_flags {
    /// The MAC has a fixed IPv4 address on this VLAN, so it may use no other.
    pub const IPV4: u32 = 1;
    /// The MAC has a fixed IPv6 address on this VLAN, so it may use no other but link-local ones.
    pub const IPV6: u32 = 1 << 1;
}

/// Key of `PREFIXES`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct PrefixKey {
    /// Address plan.
    pub vpc_id: u32,
    /// 96 + length for IPv4, length for IPv6.
    pub length: u32,
    /// Network address; for IPv4, mapped.
    pub address: Address,
}

const _: () = assert!(size_of::<PrefixKey>() == 24);

/// Bits of [`PrefixEntry::flags`].
pub mod prefix_flags {
    /// The prefix is a segment's subnet or lies inside of one.
    pub const SEGMENT: u32 = 1;
    /// The prefix is not part of the internet (`internet_excludes`).
    pub const EXCLUDED: u32 = 1 << 1;
}

/// What lies behind a prefix. Value of `PREFIXES`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct PrefixEntry {
    /// [`prefix_flags`].
    pub flags: u32,
    /// VLAN id of the segment; 0 if excluded.
    pub vlan_id: u16,
    /// Zero.
    pub _pad: u16,
    /// Source class of addresses without an endpoint.
    pub src_class: u32,
    /// Destination class of addresses without an endpoint.
    pub dst_class: u32,
}

const _: () = assert!(size_of::<PrefixEntry>() == 16);

/// Key of `PAIRS`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct PairKey {
    /// Class of the source address.
    pub src_class: u32,
    /// Class of the destination address.
    pub dst_class: u32,
}

const _: () = assert!(size_of::<PairKey>() == 8);

/// [`PairEntry::ruleset`]: every protocol and port is allowed.
pub const ALLOW_ANY: u32 = 0;

/// What sources of one class may open to destinations of another. No entry: nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct PairEntry {
    /// [`ALLOW_ANY`], or the first half of a [`RuleKey`].
    pub ruleset: u32,
    /// The deciding rule if `ruleset` is [`ALLOW_ANY`], otherwise 0.
    pub rule_id: u32,
}

const _: () = assert!(size_of::<PairEntry>() == 8);

/// Key of `RULES`; the value is the id of the deciding rule. No entry: not allowed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct RuleKey {
    /// [`PairEntry::ruleset`].
    pub ruleset: u32,
    /// Value of `SERVICES` at [`service_index`].
    pub service_class: u32,
}

const _: () = assert!(size_of::<RuleKey>() == 8);

/// Key of `FLOWS`: one connection, whichever side a packet comes from.
///
/// The sides are ordered by (address, port) as words in memory, `a` ≤ `b`, so that both directions
/// meet the same entry with one lookup.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct FlowKey {
    /// Address plan.
    pub vpc_id: u32,
    /// IP protocol number.
    pub protocol: u32,
    /// Lesser side's address.
    pub a: Address,
    /// Greater side's address.
    pub b: Address,
    /// Lesser side's port, host byte order; the identifier for ICMP echo; 0 for other protocols.
    pub port_a: u16,
    /// Greater side's port.
    pub port_b: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 44);

/// Bits of [`FlowSide::flags`].
pub mod side_flags {
    /// The side is an endpoint with a known MAC: packets towards it are forwarded by the program.
    pub const FORWARD: u16 = 1;
    /// The side is the router itself or the internet: its packets do not come in over the trunk.
    pub const SILENT: u16 = 1 << 1;
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
    pub flags: u16,
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

/// Copies four words. For an assignment between two places of one map value, the compiler calls `memmove`, since
/// they might overlap; this is four loads and stores.
///
/// # Safety
///
/// `W` is four words of 32 bits, aligned to one.
#[inline(always)]
unsafe fn copy_words<W>(to: &mut W, from: &W) {
    let from = core::ptr::from_ref(from).cast::<u32>();
    let to = core::ptr::from_mut(to).cast::<u32>();
    for word in 0..4 {
        // SAFETY: the caller's promise.
        unsafe { to.add(word).write(from.add(word).read_volatile()) };
    }
}

/// States of a connection; values of [`FlowEntry::state`].
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
    /// The deciding rule; an index into the generation's decision trace.
    pub rule_id: u32,
    /// Index of the side that opened it.
    pub opener: u8,
    /// [`flow_state`].
    pub state: u8,
    /// Zero.
    pub _pad: u16,
}

const _: () = assert!(size_of::<FlowEntry>() == 48);

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

/// Number of outcomes that are counted: see [`crate::reason`].
pub const OUTCOMES: usize = 64;

/// Indexes of [`SegmentCounters::packets`], seen from the segment's side.
pub mod direction {
    /// Frames that the segment sent.
    pub const FROM_TENANT: usize = 0;
    /// Frames meant for the segment.
    pub const TO_TENANT: usize = 1;
}

/// Frames by direction and outcome. `COUNTERS`, per CPU, indexed by VLAN id (0: no valid tag).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct SegmentCounters {
    /// `[direction][outcome]`, frames.
    pub packets: [[u64; OUTCOMES]; 2],
}

const _: () = assert!(size_of::<SegmentCounters>() == 1024);

impl Default for SegmentCounters {
    fn default() -> Self {
        Self {
            packets: [[0; OUTCOMES]; 2],
        }
    }
}

impl SegmentCounters {
    /// Adds another CPU's counts.
    pub fn add(&mut self, other: &Self) {
        let pairs = self
            .packets
            .iter_mut()
            .flatten()
            .zip(other.packets.iter().flatten());
        for (sum, count) in pairs {
            *sum = sum.wrapping_add(*count);
        }
    }
}

/// How many octets of a frame an [`Event`] carries.
pub const EVENT_BYTES: usize = 64;

/// One verdict worth telling. Record of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Outcome number: see [`crate::reason`].
    pub outcome: u32,
    /// Deciding rule, 0 if none.
    pub rule_id: u32,
    /// Generation that judged.
    pub generation: u32,
    /// Length of the frame on the wire, octets, with the tag where it was in the bytes.
    pub length: u32,
    /// VLAN id of the source segment; 0 if there was no valid tag.
    pub vlan_id: u16,
    /// Valid octets of `bytes`.
    pub captured: u16,
    /// Zero.
    pub _pad: u32,
    /// The frame's first octets (the tag is not among them if the NIC or the kernel took it out).
    pub bytes: [u8; EVENT_BYTES],
}

const _: () = assert!(size_of::<Event>() == 96);

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
        Mac,
        PairEntry,
        PairKey,
        PrefixEntry,
        PrefixKey,
        PrefixLength,
        RuleKey,
        SegmentCounters,
        SegmentEntry
    );
}
