//! Sections 3, 5 and 7 of `docs/isolation.md`: the shape of an IP packet, group destinations, and what
//! only servers send.

use crate::abi::{Address, FlowSide, segment_flags, side_flags};
use crate::policy::tables::Scratch;
use crate::policy::{
    Context, Frame, Hop, Tables, Verdict, connection, destination, fragment, nd, opaque, source,
    zero,
};
use crate::reason::DropReason;
use crate::wire::{
    FragmentHeader, Ipv4, Ipv6, Transport, dhcp_port, icmp_type, icmpv6_type, protocol,
};

/// Most IPv6 extension headers that are walked.
const MAX_EXTENSION_HEADERS: u32 = 6;
/// Most IPv4 options that are walked.
const MAX_OPTIONS: u32 = 8;

/// Bits of [`Packet::shape`].
mod shape {
    /// First of several fragments.
    pub(super) const FIRST_FRAGMENT: u8 = 1;
    /// Not the first fragment.
    pub(super) const LATER_FRAGMENT: u8 = 1 << 1;
    /// Has IPv4 options or IPv6 extension headers.
    pub(super) const OPTIONS: u8 = 1 << 2;
    /// Destination is multicast or broadcast.
    pub(super) const TO_GROUP: u8 = 1 << 3;
    /// All headers have been read: [`super::complete`] has nothing to do.
    pub(super) const COMPLETE: u8 = 1 << 4;
    /// Has an IPv6 fragment header, if only an atomic one (RFC 6946).
    pub(super) const FRAGMENT_HEADER: u8 = 1 << 5;
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
    shape: u8,
    /// Neighbour discovery: an option with a link-layer address was seen.
    pub(super) has_link_layer: bool,
    /// Neighbour discovery: one of them is not the frame's source MAC.
    pub(super) link_layer_differs: bool,
    /// IPv4?
    pub ipv4: bool,
    _pad: u8,
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

/// Reads what is behind options, extension headers and fragment headers.
#[inline(never)]
fn complete<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    if packet.ipv4 {
        if packet.has_options() {
            check_options(frame, packet)?;
        }
    } else {
        walk_extensions(frame, packet)?;
    }
    check_group(context, packet)?;
    let l4 = opaque(packet.l4);
    let end = usize::from(packet.l3) + usize::from(packet.length);
    read_transport(frame, packet, l4, end.saturating_sub(l4))
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
        ..Packet::default()
    }
}

/// Narrows an offset or length inside of a frame; IP's own length fields keep it below 2^16.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "masked; a checked conversion costs a branch"
)]
fn offset16(offset: usize) -> u16 {
    (offset & 0xffff) as u16
}

#[inline(always)]
fn fragment_shape(offset: u16) -> u8 {
    if offset == 0 {
        shape::FIRST_FRAGMENT
    } else {
        shape::LATER_FRAGMENT
    }
}

/// Section 3, fifth row: group MAC and group address go together.
#[inline(always)]
fn check_group<T: Tables>(context: &Context<'_, T>, packet: &mut Packet) -> Result<(), DropReason> {
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

/// Walks IPv4 options, RFC 791 §3.1, for a source route.
#[inline(always)]
fn check_options<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), DropReason> {
    packet.cursor = packet.l3 + 20;
    let mut count = 0;
    while count < MAX_OPTIONS && packet.cursor < packet.l4 {
        let length = check_option(frame, packet)?;
        if length == 0 {
            return Ok(());
        }
        packet.cursor += length;
        count += 1;
    }
    // guard: option-count
    if packet.cursor < packet.l4 && check_option(frame, packet)? != 0 {
        return Err(DropReason::IpOptions);
    }
    Ok(())
}

/// Checks the option at the cursor; returns its length, 0 at the end of the list.
#[inline(always)]
fn check_option<F: Frame>(frame: &F, packet: &Packet) -> Result<u16, DropReason> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    let at = opaque(packet.cursor);
    // guard: option-read
    // exempt: it lies in the header, which ipv4-malformed holds against the frame's length
    let kind = frame.read::<u8>(at).ok_or(DropReason::Truncated)?;
    if kind == END {
        return Ok(0);
    }
    if kind == NO_OPERATION {
        return Ok(1);
    }
    // guard: source-route
    if kind == LOOSE_SOURCE_ROUTE || kind == STRICT_SOURCE_ROUTE {
        return Err(DropReason::IpOptions);
    }
    let left = packet.l4 - packet.cursor;
    // guard: option-cut
    if left < 2 {
        return Err(DropReason::IpOptions);
    }
    // guard: option-length-read
    // exempt: as option-read
    let length = u16::from(frame.read::<u8>(at + 1).ok_or(DropReason::Truncated)?);
    // guard: option-length
    if length < 2 || length > left {
        return Err(DropReason::IpOptions);
    }
    Ok(length)
}

/// Is it a header that stands between IPv6 and the transport?
#[inline(always)]
fn is_extension(next_header: u8) -> bool {
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

/// Walks IPv6 extension headers, RFC 8200 §4, until the transport or a later fragment's payload.
#[inline(always)]
fn walk_extensions<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), DropReason> {
    packet.shape |= shape::OPTIONS;
    let mut count = 0;
    while count < MAX_EXTENSION_HEADERS {
        if !is_extension(packet.protocol) {
            return Ok(());
        }
        // guard: hop-by-hop-not-first
        if packet.protocol == protocol::HOP_BY_HOP && count != 0 {
            return Err(DropReason::IpOptions);
        }
        walk_extension(frame, packet)?;
        if packet.shape & shape::LATER_FRAGMENT != 0 {
            return Ok(());
        }
        count += 1;
    }
    // guard: extension-count
    if is_extension(packet.protocol) {
        return Err(DropReason::IpOptions);
    }
    Ok(())
}

/// Steps over the extension header at `l4`.
#[inline(always)]
fn walk_extension<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), DropReason> {
    let end = usize::from(packet.l3) + usize::from(packet.length);
    let at = opaque(packet.l4);
    let kind = packet.protocol;
    // guard: extension-header
    if kind != protocol::FRAGMENT
        && kind != protocol::HOP_BY_HOP
        && kind != protocol::DESTINATION_OPTIONS
    {
        return Err(DropReason::IpOptions);
    }
    // guard: second-fragment-header
    if kind == protocol::FRAGMENT && packet.shape & shape::FRAGMENT_HEADER != 0 {
        return Err(DropReason::IpOptions);
    }
    // guard: extension-cut
    if at + 8 > end {
        return Err(cut_short(packet));
    }
    // guard: extension-read
    // exempt: extension-cut holds it against the packet's length, ipv6-malformed that against the frame's
    let header = frame
        .read::<FragmentHeader>(at)
        .ok_or(DropReason::Truncated)?;
    packet.protocol = header.next_header;
    if kind == protocol::FRAGMENT {
        packet.l4 = offset16(at + 8);
        read_fragment_header(packet, &header, end);
        return Ok(());
    }
    // The second octet is the length in every header but the fragment header.
    let next = at + (usize::from(header.reserved) + 1) * 8;
    // guard: extension-length
    if next > end {
        return Err(cut_short(packet));
    }
    packet.l4 = offset16(next);
    Ok(())
}

/// The reason for a packet that ends inside of its headers.
#[inline(always)]
fn cut_short(packet: &Packet) -> DropReason {
    // guard: cut-short-reason
    // exempt: it only names the reason; extension-cut, extension-length and transport-header drop
    if packet.is_first_fragment() {
        DropReason::TinyFragment
    } else {
        DropReason::Truncated
    }
}

#[inline(always)]
fn read_fragment_header(packet: &mut Packet, header: &FragmentHeader, end: usize) {
    let offset_more = header.offset_more.get();
    packet.shape |= shape::FRAGMENT_HEADER;
    if offset_more & !6 != 0 {
        packet.fragment_id = header.id.get();
        packet.fragment_offset = offset_more & 0xfff8;
        packet.fragment_length = offset16(end.saturating_sub(usize::from(packet.l4)));
        packet.shape |= fragment_shape(packet.fragment_offset);
    }
}

/// Reads ports, flags and types at `l4`. `payload`: octets behind the headers of IP.
#[inline(always)]
fn read_transport<F: Frame>(
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
            packet.tcp_flags = frame.read::<u8>(l4 + 13).ok_or(DropReason::Truncated)?;
        }
        protocol::UDP => {
            packet.source_port = transport.first.get();
            packet.destination_port = transport.second.get();
        }
        _ => read_icmp(packet, &transport),
    }
    Ok(())
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
fn is_echo(packet: &Packet) -> bool {
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

/// Judges a packet: sections 3 (what is left of it) to 9.
#[inline(always)]
pub(super) fn judge<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    if scratch.packet.shape & shape::COMPLETE == 0 {
        complete(frame, context, &mut scratch.packet)?;
    }
    if scratch.packet.shape & shape::LATER_FRAGMENT != 0 {
        fragment::follow(context, scratch)?;
        choose_verdict(frame, context, scratch);
        return Ok(());
    }
    source::check(context, scratch)?;
    if scratch.packet.is_neighbour_discovery() {
        return nd::check(frame, context, scratch);
    }
    if scratch.packet.shape & shape::TO_GROUP != 0 {
        return check_group_destination(context, &scratch.packet);
    }
    check_servers(&scratch.packet)?;
    if connection::is_icmp_error(&scratch.packet) {
        connection::check_icmp_error(frame, context, scratch)?;
    } else {
        connection::judge(context, scratch)?;
    }
    if scratch.packet.is_first_fragment() {
        fragment::remember(context, scratch);
    }
    choose_verdict(frame, context, scratch);
    Ok(())
}

/// Section 5: of all group destinations, DHCP alone is left here.
#[inline(always)]
fn check_group_destination<T: Tables>(
    context: &Context<'_, T>,
    packet: &Packet,
) -> Result<(), DropReason> {
    let offered = context.segment.flags & segment_flags::DHCP != 0;
    let plain_udp = packet.protocol == protocol::UDP && !packet.is_fragment();
    let dhcp = if packet.ipv4 {
        packet.destination == Address::from_ipv4([255; 4])
            && packet.source_port == dhcp_port::CLIENT4
            && packet.destination_port == dhcp_port::SERVER4
    } else {
        // ff02::1:2, "All_DHCP_Relay_Agents_and_Servers" (RFC 8415 §7.1).
        packet.destination == Address([0xff02_0000_u32.to_be(), 0, 0, 0x0001_0002_u32.to_be()])
            && packet.source_port == dhcp_port::CLIENT6
            && packet.destination_port == dhcp_port::SERVER6
            && source::is_link_local(packet.source)
    };
    // guard: multicast-not-allowed
    if !(offered && plain_udp && dhcp) {
        return Err(DropReason::MulticastNotAllowed);
    }
    Ok(())
}

/// Section 7: what only the router may send.
#[inline(always)]
fn check_servers(packet: &Packet) -> Result<(), DropReason> {
    // guard: dhcp-server
    if packet.protocol == protocol::UDP
        && is_dhcp_server(packet.ipv4, packet.source_port, packet.destination_port)
    {
        return Err(DropReason::DhcpServer);
    }
    if packet.protocol != protocol::ICMP && packet.protocol != protocol::ICMPV6 {
        return Ok(());
    }
    // guard: icmp-redirect
    if packet.ipv4 && packet.is_icmp() && packet.icmp_type == icmp_type::REDIRECT {
        return Err(DropReason::IcmpRedirect);
    }
    // guard: icmp-type
    if !is_echo(packet) && !connection::is_icmp_error(packet) {
        return Err(DropReason::IcmpType);
    }
    Ok(())
}

/// Are these UDP ports of what a DHCP server sends?
#[inline(always)]
fn is_dhcp_server(ipv4: bool, source_port: u16, destination_port: u16) -> bool {
    if ipv4 {
        destination_port == dhcp_port::CLIENT4 || source_port == dhcp_port::SERVER4
    } else {
        destination_port == dhcp_port::CLIENT6 || source_port == dhcp_port::SERVER6
    }
}

/// What decides whether the program can forward a packet.
pub(super) struct Outgoing {
    /// TTL or hop limit.
    pub(super) ttl: u8,
    pub(super) ipv4: bool,
    /// Octets of IP header and payload.
    pub(super) length: u16,
    /// Octets of IP and transport header.
    pub(super) headers: u16,
}

/// Returns how the program forwards a packet to a side of a connection; `None` if the kernel must.
#[inline(always)]
pub(super) fn hop<F: Frame>(
    frame: &F,
    packet: &Outgoing,
    vlan_id: u16,
    to: &FlowSide,
) -> Option<Hop> {
    let known = to.flags & side_flags::FORWARD != 0 && to.vlan_id != vlan_id;
    if !known || packet.ttl <= 1 || frame.wire_length(packet.length, packet.headers) > to.mtu {
        return None;
    }
    Some(Hop {
        mac: to.mac,
        vlan_id: to.vlan_id,
        ipv4: packet.ipv4,
    })
}

/// Chooses what happens to an allowed packet, which goes to [`Scratch::to`].
#[inline(always)]
fn choose_verdict<F: Frame, T: Tables>(frame: &F, context: &Context<'_, T>, scratch: &mut Scratch) {
    let (packet, to) = (&scratch.packet, &scratch.to);
    let transport = if packet.protocol == protocol::TCP {
        20
    } else {
        8
    };
    let outgoing = Outgoing {
        ttl: packet.ttl,
        ipv4: packet.ipv4,
        length: packet.length,
        headers: packet.l4 - packet.l3 + transport,
    };
    if let Some(hop) = hop(frame, &outgoing, context.vlan_id, to) {
        scratch.report.hop = hop;
        scratch.report.verdict = Verdict::Forward;
        return;
    }
    if to.flags & side_flags::SILENT != 0
        && packet.is_echo_request()
        && !packet.is_fragment()
        && !packet.has_options()
        && destination::is_own_gateway(context, packet.destination, packet.ipv4)
    {
        scratch.report.verdict = if packet.ipv4 {
            Verdict::AnswerEcho4
        } else {
            Verdict::AnswerEcho6
        };
    }
}
