//! The verdict of the hold: what may come in over the trunk until the first generation is in.
//!
//! # What it guarantees
//!
//! Everything is dropped but, in a VLAN that the operator has listed:
//!
//! * ARP, and neighbour solicitations and advertisements that stay on their link (RFC 4861 §7.1: hop limit 255);
//! * from a listed source to a listed address of the router: ICMP and ICMPv6 echo, TCP and UDP to a listed port.
//!
//! No fragment passes, no packet with options or extension headers (they could hide the ports), no second tag, nothing untagged.
//! *Fail closed*: [`Needs`] of all zeros let nothing pass, and that is what the kernel's map holds until it is filled.
//!
//! It knows nothing of generations, and shares no map with them: it must load when those do not. It is no policy either: what it
//! lets through goes to the kernel, which is why the destination is checked. (A router forwards what is for others.)

use crate::abi::Address;
use crate::policy::Frame;
use crate::wire::{
    Arp, Be16, Ipv4, Ipv6, Tag, Transport, ether_type, icmp_type, icmpv6_type, protocol,
};

/// VLANs, router addresses, ports and source prefixes that can be listed, of each.
pub const NEEDS: usize = 16;

/// What the operator needs. A place that is not in use is zero.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Needs {
    /// VLAN ids, host byte order.
    pub vlans: [u16; NEEDS],
    /// TCP and UDP ports, host byte order.
    pub ports: [u16; NEEDS],
    /// Addresses of the router.
    pub addresses: [Address; NEEDS],
    /// Where the operator is.
    pub sources: [Source; NEEDS],
}

/// A prefix that the operator's packets come from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Source {
    /// The bits that `mask` has, the others are zero.
    pub network: Address,
    /// The bits that are compared.
    pub mask: Address,
    /// 4 or 6; 0 if this place is not in use. (A mask of zeros is every address of the family.)
    pub family: u32,
}

/// Why a frame is dropped; also its place in the counters, where 0 is what passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum HoldDrop {
    /// The frame has no 802.1Q tag, or VLAN id 0.
    Untagged = 1,
    /// Its VLAN is not listed.
    OtherVlan = 2,
    /// There is a tag behind the tag.
    SecondTag = 3,
    /// It ends too early, or says things of itself that are not so.
    Malformed = 4,
    /// A fragment.
    Fragment = 5,
    /// IP options or extension headers.
    Options = 6,
    /// It is not for an address of the router that is listed.
    OtherAddress = 7,
    /// It is not from a listed source.
    OtherSource = 8,
    /// Its port is not listed.
    OtherPort = 9,
    /// Another protocol.
    OtherProtocol = 10,
}

/// Places in the counters.
pub const HOLD_OUTCOMES: u32 = 11;

impl HoldDrop {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; HOLD_OUTCOMES as usize - 1] = [
        Self::Untagged,
        Self::OtherVlan,
        Self::SecondTag,
        Self::Malformed,
        Self::Fragment,
        Self::Options,
        Self::OtherAddress,
        Self::OtherSource,
        Self::OtherPort,
        Self::OtherProtocol,
    ];

    /// Returns the public name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untagged => "untagged",
            Self::OtherVlan => "other-vlan",
            Self::SecondTag => "second-tag",
            Self::Malformed => "malformed",
            Self::Fragment => "fragment",
            Self::Options => "options",
            Self::OtherAddress => "other-address",
            Self::OtherSource => "other-source",
            Self::OtherPort => "other-port",
            Self::OtherProtocol => "other-protocol",
        }
    }
}

/// Judges a frame that came in over the trunk.
///
/// # Errors
///
/// Why it must be dropped.
#[inline(always)]
pub fn judge<F: Frame>(frame: &F, needs: &Needs) -> Result<(), HoldDrop> {
    let next = frame.read::<Be16>(12).ok_or(HoldDrop::Malformed)?.get();
    // The tag is in the metadata where TC sees it, in the bytes where XDP does. Two calls, so that offsets are constants.
    if let Some((tpid, tci)) = frame.offloaded_tag() {
        if tpid != ether_type::VLAN {
            return Err(HoldDrop::SecondTag);
        }
        return behind_tag::<F, 14>(frame, needs, tci, next);
    }
    if next != ether_type::VLAN {
        return Err(HoldDrop::Untagged);
    }
    let tag = frame.read::<Tag>(14).ok_or(HoldDrop::Malformed)?;
    behind_tag::<F, 18>(frame, needs, tag.tci.get(), tag.ether_type.get())
}

#[inline(always)]
fn behind_tag<F: Frame, const L3: usize>(
    frame: &F,
    needs: &Needs,
    tci: u16,
    next: u16,
) -> Result<(), HoldDrop> {
    let vlan_id = tci & 0xfff;
    if vlan_id == 0 {
        return Err(HoldDrop::Untagged);
    }
    if !needs.has_vlan(vlan_id) {
        return Err(HoldDrop::OtherVlan);
    }
    match next {
        ether_type::ARP => judge_arp(frame, L3),
        ether_type::IPV4 => judge_ipv4::<F, L3>(frame, needs),
        ether_type::IPV6 => judge_ipv6::<F, L3>(frame, needs),
        ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD => Err(HoldDrop::SecondTag),
        _ => Err(HoldDrop::OtherProtocol),
    }
}

#[inline(always)]
fn judge_arp<F: Frame>(frame: &F, l3: usize) -> Result<(), HoldDrop> {
    let arp = frame.read::<Arp>(l3).ok_or(HoldDrop::Malformed)?;
    let is_usual = arp.hardware.get() == 1
        && arp.protocol.get() == ether_type::IPV4
        && arp.hardware_length == 6
        && arp.protocol_length == 4;
    match arp.operation.get() {
        _ if !is_usual => Err(HoldDrop::Malformed),
        1 | 2 => Ok(()),
        _ => Err(HoldDrop::OtherProtocol),
    }
}

#[inline(always)]
fn judge_ipv4<F: Frame, const L3: usize>(frame: &F, needs: &Needs) -> Result<(), HoldDrop> {
    let ip = frame.read::<Ipv4>(L3).ok_or(HoldDrop::Malformed)?;
    if ip.version_ihl >> 4 != 4 {
        return Err(HoldDrop::Malformed);
    }
    if ip.version_ihl & 0xf != 5 {
        return Err(HoldDrop::Options);
    }
    // More fragments, or an offset.
    if ip.fragment.get() & 0x3fff != 0 {
        return Err(HoldDrop::Fragment);
    }
    let source = Address::from_ipv4_word(ip.source);
    let destination = Address::from_ipv4_word(ip.destination);
    needs.check_ends(source, destination)?;
    let l4 = frame.read::<Transport>(L3 + 20);
    let l4 = l4.ok_or(HoldDrop::Malformed)?;
    match (ip.protocol, icmp_kind(l4)) {
        (protocol::TCP | protocol::UDP, _) => needs.check_port(l4.second.get()),
        (protocol::ICMP, icmp_type::ECHO_REQUEST | icmp_type::ECHO_REPLY) => Ok(()),
        _ => Err(HoldDrop::OtherProtocol),
    }
}

#[inline(always)]
fn judge_ipv6<F: Frame, const L3: usize>(frame: &F, needs: &Needs) -> Result<(), HoldDrop> {
    let ip = frame.read::<Ipv6>(L3).ok_or(HoldDrop::Malformed)?;
    // A mapped address is an IPv4 address of ours, and never on a wire (RFC 4291 §2.5.5.2).
    if ip.version.get() >> 28 != 6 || ip.source.is_ipv4() || ip.destination.is_ipv4() {
        return Err(HoldDrop::Malformed);
    }
    match ip.next_header {
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => {}
        protocol::FRAGMENT => return Err(HoldDrop::Fragment),
        protocol::HOP_BY_HOP
        | protocol::ROUTING
        | protocol::DESTINATION_OPTIONS
        | protocol::AH
        | protocol::MOBILITY
        | protocol::HIP
        | protocol::SHIM6 => return Err(HoldDrop::Options),
        _ => return Err(HoldDrop::OtherProtocol),
    }
    let l4 = frame.read::<Transport>(L3 + 40);
    let l4 = l4.ok_or(HoldDrop::Malformed)?;
    let is_icmp = ip.next_header == protocol::ICMPV6;
    if is_icmp && is_neighbour_discovery(l4) {
        return check_neighbour_discovery(&ip, needs);
    }
    needs.check_ends(ip.source, ip.destination)?;
    match icmp_kind(l4) {
        _ if !is_icmp => needs.check_port(l4.second.get()),
        icmpv6_type::ECHO_REQUEST | icmpv6_type::ECHO_REPLY => Ok(()),
        _ => Err(HoldDrop::OtherProtocol),
    }
}

#[inline(always)]
fn is_neighbour_discovery(l4: Transport) -> bool {
    matches!(
        icmp_kind(l4),
        icmpv6_type::NEIGHBOUR_SOLICITATION | icmpv6_type::NEIGHBOUR_ADVERTISEMENT
    )
}

/// It comes from its own link and goes to somebody on it: the kernel forwards none of it.
#[inline(always)]
fn check_neighbour_discovery(ip: &Ipv6, needs: &Needs) -> Result<(), HoldDrop> {
    if ip.hop_limit != 255 {
        return Err(HoldDrop::Malformed);
    }
    let [first, ..] = ip.destination.0;
    let first = u32::from_be(first);
    let is_multicast = first >> 24 == 0xff;
    let is_link_local = first >> 22 == 0xfe80 >> 6;
    if is_multicast || is_link_local {
        return Ok(());
    }
    needs.check_destination(ip.destination)
}

/// Type of an ICMP or ICMPv6 message.
#[inline(always)]
fn icmp_kind(l4: Transport) -> u8 {
    let [kind, _code] = l4.first.get().to_be_bytes();
    kind
}

impl Needs {
    #[inline(always)]
    fn check_ends(&self, source: Address, destination: Address) -> Result<(), HoldDrop> {
        self.check_destination(destination)?;
        if !self.has_source(&source) {
            return Err(HoldDrop::OtherSource);
        }
        Ok(())
    }

    #[inline(always)]
    fn check_destination(&self, destination: Address) -> Result<(), HoldDrop> {
        if same(destination, Address::default()) || !self.has_address(&destination) {
            return Err(HoldDrop::OtherAddress);
        }
        Ok(())
    }

    #[inline(always)]
    fn check_port(&self, port: u16) -> Result<(), HoldDrop> {
        if port == 0 || !self.has_port(port) {
            return Err(HoldDrop::OtherPort);
        }
        Ok(())
    }

    // Inlined, as all of this file is. With these as functions of their own, the verifier of Linux 6.1 cut the branch "it is not
    // ICMPv6" behind the calls out of `tc_hold`, as if nothing went there (Linux follows what is known through calls since 6.4).

    #[inline(always)]
    fn has_vlan(&self, vlan_id: u16) -> bool {
        one_of(&self.vlans, |place| *place == vlan_id)
    }

    #[inline(always)]
    fn has_port(&self, port: u16) -> bool {
        one_of(&self.ports, |place| *place == port)
    }

    #[inline(always)]
    fn has_address(&self, address: &Address) -> bool {
        one_of(&self.addresses, |place| same(*address, *place))
    }

    #[inline(always)]
    fn has_source(&self, address: &Address) -> bool {
        let family = if address.is_ipv4() { 4 } else { 6 };
        one_of(&self.sources, |place| {
            place.family == family && same(address.masked(place.mask), place.network)
        })
    }
}

/// As `any` of an iterator, but a loop that stays a loop: unrolled, it needs more than the 512 octets of stack that a program has,
/// or it is a sum of 16 comparisons, and the verifier follows each of the 2^16 ways to come to it.
#[inline(always)]
fn one_of<T>(places: &[T; NEEDS], is_it: impl Fn(&T) -> bool) -> bool {
    let mut at = 0;
    while let Some(place) = places.get(at) {
        if is_it(place) {
            return true;
        }
        at = core::hint::black_box(at + 1);
    }
    false
}

/// `==` of arrays is a call of `memcmp`, which costs more than these four comparisons.
#[inline(always)]
fn same(a: Address, b: Address) -> bool {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.0, b.0);
    (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) | (a3 ^ b3) == 0
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers only: 2 × 16 × 2, 16 × 16, 16 × 36 octets, no padding.
unsafe impl aya::Pod for Needs {}

const _: () = assert!(core::mem::size_of::<Needs>() == 64 + 256 + 16 * 36);
