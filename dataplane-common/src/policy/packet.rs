//! Section 3 of `docs/isolation.md`: the shape of an IP packet, as far as its fixed headers tell.

use crate::abi::Address;
use crate::policy::{Context, Frame, Tables, source, zero};
use crate::reason::DropReason;
use crate::wire::{Be16, Ipv4, Ipv6, Transport, icmp_type, icmpv6_type, protocol};

/// Bits of [`Packet::shape`].
pub(super) mod shape {
    /// First of several fragments.
    pub(in crate::policy) const FIRST_FRAGMENT: u8 = 1;
    /// Not the first fragment.
    pub(in crate::policy) const LATER_FRAGMENT: u8 = 1 << 1;
    /// Has IPv4 options or IPv6 extension headers.
    pub(in crate::policy) const OPTIONS: u8 = 1 << 2;
    /// Destination is multicast or broadcast.
    pub(in crate::policy) const TO_GROUP: u8 = 1 << 3;
    /// All headers have been read: [`crate::policy::options::complete`] has nothing to do.
    pub(in crate::policy) const COMPLETE: u8 = 1 << 4;
    /// Has an IPv6 fragment header, if only an atomic one (RFC 6946).
    pub(in crate::policy) const FRAGMENT_HEADER: u8 = 1 << 5;
}

/// An IP packet whose headers have been read: one type for both families.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port; ICMP echo: the identifier in a request, 0 in a reply; otherwise 0.
    pub source_port: u16,
    /// Destination port; ICMP echo: 0 in a request, the identifier in a reply; otherwise 0.
    pub destination_port: u16,
    /// Protocol behind all headers of IP.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Where a walk over options or extension headers has come to: offset from the Ethernet header.
    pub(super) cursor: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Type of ICMP or ICMPv6.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// [`shape`].
    pub(super) shape: u8,
    /// Neighbour discovery: an option with a link-layer address was seen.
    pub(super) has_link_layer: bool,
    /// Neighbour discovery: one of them is not the frame's source MAC.
    pub(super) link_layer_differs: bool,
    /// IPv4?
    pub ipv4: bool,
    /// Octets of TCP's header with its options; of other protocols, 8.
    pub(super) transport_length: u8,
    /// Octets of IP header and payload.
    pub length: u16,
    /// Offset of the IP header from the Ethernet header.
    pub l3: u16,
    /// Offset of the transport header.
    pub l4: u16,
    /// Fragments: offset of the payload in the packet, octets.
    pub fragment_offset: u16,
    /// Fragments: length of the fragment's payload, octets.
    pub fragment_length: u16,
    /// Fragments: identification.
    pub fragment_id: u32,
}

impl Packet {
    /// Is it one of several fragments?
    #[inline(always)]
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.shape & (shape::FIRST_FRAGMENT | shape::LATER_FRAGMENT) != 0
    }

    #[inline(always)]
    pub(super) fn is_first_fragment(&self) -> bool {
        self.shape & shape::FIRST_FRAGMENT != 0
    }

    /// Has it a fragment header, if only an atomic one (RFC 6946)? RFC 6980 forbids both in neighbour
    /// discovery.
    #[inline(always)]
    pub(super) fn has_fragment_header(&self) -> bool {
        self.is_fragment() || self.shape & shape::FRAGMENT_HEADER != 0
    }

    #[inline(always)]
    pub(super) fn has_options(&self) -> bool {
        self.shape & shape::OPTIONS != 0
    }

    /// Is it ICMPv6 of section 6 (neighbour discovery, MLD)?
    #[inline(always)]
    pub(super) fn is_neighbour_discovery(&self) -> bool {
        !self.ipv4
            && self.protocol == protocol::ICMPV6
            && self.shape & shape::LATER_FRAGMENT == 0
            && matches!(
                self.icmp_type,
                icmpv6_type::MLD_QUERY..=icmpv6_type::REDIRECT | icmpv6_type::MLD_REPORT_V2
            )
    }

    /// Is it ICMP of its own family?
    #[inline(always)]
    pub(super) fn is_icmp(&self) -> bool {
        self.protocol
            == if self.ipv4 {
                protocol::ICMP
            } else {
                protocol::ICMPV6
            }
    }

    /// Is it an echo request?
    #[inline(always)]
    pub(super) fn is_echo_request(&self) -> bool {
        self.is_icmp()
            && self.icmp_type
                == if self.ipv4 {
                    icmp_type::ECHO_REQUEST
                } else {
                    icmpv6_type::ECHO_REQUEST
                }
    }
}

#[inline(always)]
pub(super) fn parse_ipv4<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    l3: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    // guard: ipv4-cut-short
    let ip = frame.read::<Ipv4>(l3).ok_or(DropReason::Truncated)?;
    let header = usize::from(ip.version_ihl & 0xf) * 4;
    let length = usize::from(ip.total_length.get());
    // guard: ipv4-malformed
    if ip.version_ihl >> 4 != 4 || header < 20 || length < header || l3 + length > frame.length() {
        return Err(DropReason::IpMalformed);
    }
    let fragment = ip.fragment.get();
    *packet = Packet {
        source: Address::from_ipv4_word(ip.source),
        destination: Address::from_ipv4_word(ip.destination),
        protocol: ip.protocol,
        ttl: ip.ttl,
        ipv4: true,
        length: ip.total_length.get(),
        fragment_offset: (fragment & 0x1fff) << 3,
        fragment_length: ip.total_length.get() - u16::from(ip.version_ihl & 0xf) * 4,
        ..blank(l3, l3 + header)
    };
    if header > 20 {
        packet.shape |= shape::OPTIONS;
    }
    if fragment & 0x3fff != 0 {
        packet.fragment_id = u32::from(ip.id.get());
        packet.shape |= fragment_shape(packet.fragment_offset);
    }
    if packet.shape == 0 {
        check_group(context, packet)?;
        read_transport(frame, packet, l3 + 20, length - 20)?;
        packet.shape |= shape::COMPLETE;
    }
    Ok(())
}

#[inline(always)]
pub(super) fn parse_ipv6<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    l3: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    // guard: ipv6-cut-short
    let ip = frame.read::<Ipv6>(l3).ok_or(DropReason::Truncated)?;
    let length = usize::from(ip.payload_length.get()) + 40;
    // guard: ipv6-malformed
    // exempt part: `length > 0xffff`: no frame is that long
    if ip.version.get() >> 28 != 6 || l3 + length > frame.length() || length > 0xffff {
        return Err(DropReason::IpMalformed);
    }
    *packet = Packet {
        source: ip.source,
        destination: ip.destination,
        protocol: ip.next_header,
        ttl: ip.hop_limit,
        ipv4: false,
        length: ip.payload_length.get().saturating_add(40),
        ..blank(l3, l3 + 40)
    };
    if !is_extension(ip.next_header) {
        check_group(context, packet)?;
        read_transport(frame, packet, l3 + 40, length - 40)?;
        packet.shape |= shape::COMPLETE;
    }
    Ok(())
}

#[inline(always)]
fn blank(l3: usize, l4: usize) -> Packet {
    let (half, byte) = (zero(), zero());
    Packet {
        l3: offset16(l3),
        l4: offset16(l4),
        source_port: half,
        destination_port: half,
        cursor: half,
        fragment_offset: half,
        fragment_length: half,
        fragment_id: zero(),
        tcp_flags: byte,
        icmp_type: byte,
        icmp_code: byte,
        shape: byte,
        transport_length: 8,
        ..Packet::default()
    }
}

/// Narrows an offset or length inside of a frame; IP's own length fields keep it below 2^16.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "masked; a checked conversion costs a branch"
)]
pub(super) fn offset16(offset: usize) -> u16 {
    (offset & 0xffff) as u16
}

#[inline(always)]
pub(super) fn fragment_shape(offset: u16) -> u8 {
    if offset == 0 {
        shape::FIRST_FRAGMENT
    } else {
        shape::LATER_FRAGMENT
    }
}

/// Section 3, fifth row: group MAC and group address go together.
#[inline(always)]
pub(super) fn check_group<T: Tables>(
    context: &Context<'_, T>,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let to_group = source::is_multicast(packet.destination, packet.ipv4);
    // guard: mac-ip-mismatch
    if to_group != context.to_group_mac {
        return Err(DropReason::MacIpMismatch);
    }
    if to_group {
        packet.shape |= shape::TO_GROUP;
    }
    Ok(())
}

/// The reason for a packet that ends inside of its headers.
#[inline(always)]
pub(super) fn cut_short(packet: &Packet) -> DropReason {
    // guard: cut-short-reason
    // exempt: it only names the reason; extension-cut, extension-length and transport-header drop
    if packet.is_first_fragment() {
        DropReason::TinyFragment
    } else {
        DropReason::Truncated
    }
}

/// Is it a header that stands between IPv6 and the transport?
#[inline(always)]
pub(super) fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

/// Reads ports, flags and types at `l4`. `payload`: octets behind the headers of IP.
#[inline(always)]
pub(super) fn read_transport<F: Frame>(
    frame: &F,
    packet: &mut Packet,
    l4: usize,
    payload: usize,
) -> Result<(), DropReason> {
    if packet.shape & shape::LATER_FRAGMENT != 0 {
        return Ok(());
    }
    let needed = match packet.protocol {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
        _ => return Ok(()),
    };
    // guard: transport-header
    if payload < needed {
        return Err(cut_short(packet));
    }
    // guard: transport-read
    // exempt: transport-header holds it against the packet's length, which the frame has
    let transport = frame.read::<Transport>(l4).ok_or(DropReason::Truncated)?;
    match packet.protocol {
        protocol::TCP => {
            packet.source_port = transport.first.get();
            packet.destination_port = transport.second.get();
            // guard: tcp-flags-read
            // exempt: as transport-read
            let word = frame.read::<Be16>(l4 + 12).ok_or(DropReason::Truncated)?;
            (packet.transport_length, packet.tcp_flags) = length_and_flags(word);
        }
        protocol::UDP => {
            packet.source_port = transport.first.get();
            packet.destination_port = transport.second.get();
        }
        _ => read_icmp(packet, &transport),
    }
    Ok(())
}

/// Splits the word of TCP's header that holds its length in words (4 bits) and the flags (8); the length in octets.
#[inline(always)]
pub(super) fn length_and_flags(word: Be16) -> (u8, u8) {
    let [offset, flags] = word.get().to_be_bytes();
    ((offset >> 2) & 0x3c, flags)
}

#[inline(always)]
fn read_icmp(packet: &mut Packet, transport: &Transport) {
    let [kind, code] = transport.first.get().to_be_bytes();
    packet.icmp_type = kind;
    packet.icmp_code = code;
    if packet.is_echo_request() {
        packet.source_port = transport.third.get();
    } else if is_echo(packet) {
        packet.destination_port = transport.third.get();
    }
}

/// Is it an ICMP echo message of the packet's own family?
#[inline(always)]
pub(super) fn is_echo(packet: &Packet) -> bool {
    if packet.ipv4 {
        packet.protocol == protocol::ICMP
            && matches!(
                packet.icmp_type,
                icmp_type::ECHO_REQUEST | icmp_type::ECHO_REPLY
            )
    } else {
        packet.protocol == protocol::ICMPV6
            && matches!(
                packet.icmp_type,
                icmpv6_type::ECHO_REQUEST | icmpv6_type::ECHO_REPLY
            )
    }
}
