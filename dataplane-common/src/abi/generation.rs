//! The tables of one generation: compiled once, never changed.

use core::mem::{offset_of, size_of};

use crate::abi::{Address, Limits, Mac, NO_PREFIX, NO_PREFIX_LENGTH, PREFIX_LENGTHS};

/// The generation that packets are judged by. The only element of the inner map of `GENERATION`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Generation {
    /// [`crate::abi::ABI_VERSION`] of the controller that wrote it.
    pub abi_version: u32,
    /// Number of the generation; starts at 1 and grows.
    pub number: u32,
    /// Which slot of the outer maps holds its tables, below [`crate::abi::SLOTS`].
    pub slot: u32,
    /// Ticks of `bpf_jiffies64` per second.
    pub ticks_per_second: u32,
    /// Connections that are remembered for a segment whose [`Limits::connections`] is 0.
    pub share: u32,
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
    assert!(size_of::<Generation>() == 684);
    assert!(offset_of!(Generation, router_mac) == 20);
    assert!(offset_of!(Generation, router_link_local) == 28);
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
    /// What one host of it may open to another stands in `PAIRS`; without this bit, everything. For ports only: the router
    /// lets nothing from a segment into the same one.
    pub const LOCAL_POLICY: u32 = 1 << 11;
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
    /// What its tenant may send over the router, as [`crate::abi::octet_time`]; 0: any bandwidth. All of the tenant's
    /// segments have it together.
    pub octet_time: u32,
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
    /// What all of it together may take.
    pub limits: Limits,
    /// What each of its endpoints may send at its port, as [`Limits::rates`].
    pub port_rates: [u32; 4],
    /// What each of its endpoints may send, and may receive, at its port, as [`crate::abi::octet_time`]; 0: any bandwidth.
    pub port_octet_time: u32,
}

const _: () = {
    assert!(size_of::<SegmentEntry>() == 152);
    assert!(offset_of!(SegmentEntry, net4) == 32);
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
    /// An endpoint of the inventory has the MAC on this VLAN, be its addresses fixed or not: a port may be its.
    pub const ENDPOINT: u32 = 1 << 2;
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
    /// Value of `SERVICES` at [`crate::abi::service_index`].
    pub service_class: u32,
}

const _: () = assert!(size_of::<RuleKey>() == 8);
