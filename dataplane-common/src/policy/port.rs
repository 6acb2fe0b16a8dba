//! Section 10 of `docs/isolation.md`: the ports of a hypervisor's bridge.
//!
//! # What it guarantees
//!
//! * **The bridge is not believed.** A frame is judged once, where it comes in ([`from_tenant`], [`from_peer`], [`from_router`]), and
//!   marked with the segment as which it was judged. Where it goes out ([`to_tenant`], [`to_uplink`]) the mark is compared
//!   with the port's segment, or with the tag. So it does not matter which VLAN a port was given, or whether there is one
//!   bridge per VLAN or one for all.
//! * **No window.** A frame without a mark passed no program: it goes nowhere. So a port is harmless before its programs are
//!   attached, and when they are gone.
//! * **One policy.** What leaves the segment is judged by sections 1 to 9, by the code that the router runs; what comes back
//!   from the router is judged again, from the segment of its source.

use crate::abi::{
    Address, BoundMacKey, EndpointKey, Generation, MARK_MASK, Mac, PortEntry, SegmentEntry,
    StationEntry, StationKey, endpoint_flags, judged_mark, prefix_flags, segment_flags, way,
};
use crate::policy::packet::shape;
use crate::policy::source::{self, Binding, Source};
use crate::policy::tables::{Keys, Scratch};
use crate::policy::{
    Context, Frame, Packet, Report, Tables, connection, destination, fragment, ip, limit, link,
    options, packet, related,
};
use crate::reason::DropReason;
use crate::wire::{Be16, dhcp_port, ether_type, protocol};

/// What is plugged in where.
pub trait Ports {
    /// Returns who is behind a port.
    fn port(&self, ifindex: u32) -> Option<PortEntry>;
    /// Returns where a hardware address is, if it is on this host.
    fn station(&self, key: &StationKey) -> Option<StationEntry>;
}

/// The MACs of a frame that stays in its segment, or comes from its router.
struct Macs {
    source: Mac,
    destination: Mac,
}

/// A frame that came in over the uplink, and that passed the link layer.
struct UplinkFrame<'a> {
    generation: &'a Generation,
    segment: &'a SegmentEntry,
    /// Behind the tag.
    ether_type: u16,
    macs: Macs,
}

/// Decides on a frame that the endpoint behind an access port sent. If it is allowed, the hook marks it with
/// [`Report::vlan_id`].
///
/// # Errors
///
/// The reason to drop it: the first check of section 10 that failed.
#[inline(always)]
pub fn from_tenant<F: Frame, T: Tables + Ports>(
    frame: &F,
    ifindex: u32,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.report = Report::blank();
    // guard: port-no-generation
    // off: let Some(generation) = tables.generation() else { return Ok(()) };
    let generation = tables.generation().ok_or(DropReason::NoGeneration)?;
    scratch.report.generation = generation.number;
    let (port, segment) = known_port(tables, generation, ifindex, &mut scratch.keys)?;
    scratch.report.vlan_id = port.vlan_id;
    scratch.report.l3 = 14;
    (scratch.port, scratch.quota) = (ifindex, port.connections);
    let ether_type = check_untagged(frame)?;
    let (source, destination) = link::read_macs(frame)?;
    link::check_source_mac(source, generation)?;
    // guard: spoofed-mac
    if source != port.mac {
        return Err(DropReason::SpoofedMac);
    }
    // guard: host-address
    if is_host(tables, destination) {
        return Err(DropReason::HostAddress);
    }
    let macs = Macs {
        source,
        destination,
    };
    let local = differs(destination, generation.router_mac);
    let context = context(tables, generation, segment, (port.vlan_id, local), &macs);
    judge(frame, &context, ether_type, &macs, scratch)
}

/// Decides on a frame on its way to the endpoint behind an access port. `mark` is the socket buffer's.
///
/// # Errors
///
/// The reason to drop it. Returns the VLAN id of the port's segment beside it, for the counters; 0 if that is not known.
#[inline(always)]
pub fn to_tenant<F: Frame, T: Tables + Ports>(
    frame: &F,
    (ifindex, mark): (u32, u32),
    tables: &T,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.report = Report::blank();
    // guard: egress-no-generation
    // off: let Some(generation) = tables.generation() else { return Ok(()) };
    let generation = tables.generation().ok_or(DropReason::NoGeneration)?;
    let (port, segment) = known_port(tables, generation, ifindex, &mut scratch.keys)?;
    scratch.report.vlan_id = port.vlan_id;
    check_mark(mark, port.vlan_id)?;
    let ether_type = check_untagged(frame)?;
    let (source, destination) = link::read_macs(frame)?;
    // guard: not-for-port
    if !destination.is_multicast() && destination != port.mac {
        return Err(DropReason::NotForPort);
    }
    let time = (frame.octets(), segment.port_octet_time);
    if is_free(time, destination, ether_type) {
        return Ok(());
    }
    pay_as_sender(tables, source, time, scratch)?;
    // Only what waits in its own queue may wait: others would stand behind it in the uplink's.
    scratch.report.departs = pay(tables, (ifindex, way::RECEIVED), time, scratch)?;
    Ok(())
}

/// Is it a frame of the router, by its source MAC? Then [`from_router`] decides on it, else [`from_peer`]: in the kernel they
/// are two programs.
#[inline(always)]
pub fn is_of_router<F: Frame, T: Tables>(frame: &F, tables: &T) -> bool {
    let router = tables.generation().map(|generation| generation.router_mac);
    router.is_some() && frame.read::<Mac>(6) == router
}

/// Decides on a frame that came in over the host's uplink, from another end of its segment. If it is allowed, the hook
/// marks it.
///
/// # Errors
///
/// The reason to drop it.
#[inline(always)]
pub fn from_peer<F: Frame, T: Tables + Ports>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let Some(link) = check_uplink(frame, tables, scratch)? else {
        return Ok(());
    };
    let frame = &frame.again();
    // guard: peer-router-mac
    // exempt: is_of_router chooses the program
    if link.macs.source == link.generation.router_mac {
        return Err(DropReason::RouterMacSpoof);
    }
    let at = (scratch.report.vlan_id, true);
    let context = context(tables, link.generation, link.segment, at, &link.macs);
    judge(frame, &context, link.ether_type, &link.macs, scratch)
}

/// Decides on a frame that came in over the host's uplink, from the router. If it is allowed, the hook marks it.
///
/// # Errors
///
/// The reason to drop it.
#[inline(always)]
pub fn from_router<F: Frame, T: Tables + Ports>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let Some(link) = check_uplink(frame, tables, scratch)? else {
        return Ok(());
    };
    let frame = &frame.again();
    // guard: router-peer-mac
    // exempt: is_of_router chooses the program
    if link.macs.source != link.generation.router_mac {
        return Err(DropReason::RouterMacSpoof);
    }
    let at = (scratch.report.vlan_id, false);
    let mut context = context(tables, link.generation, link.segment, at, &link.macs);
    context.routed = true;
    from_the_router(frame, &context, link.ether_type, &link.macs, scratch)
}

/// The link layer of a frame that came in over the uplink; `None` if it is for the host itself.
#[inline(always)]
fn check_uplink<'a, F: Frame, T: Tables + Ports>(
    frame: &F,
    tables: &'a T,
    scratch: &mut Scratch,
) -> Result<Option<UplinkFrame<'a>>, DropReason> {
    scratch.report = Report::blank();
    // guard: uplink-no-generation
    let generation = tables.generation().ok_or(DropReason::NoGeneration)?;
    scratch.report.generation = generation.number;
    scratch.port = 0;
    let outer = link::outer_tag(frame)?;
    let segment = link::check_tag(&outer, tables, generation, &mut scratch.report)?;
    let vlan_id = outer.vlan_id;
    let (source, destination) = link::read_macs(frame)?;
    // guard: uplink-bad-source-mac
    if source.is_multicast() || source.is_zero() {
        return Err(DropReason::BadSourceMac);
    }
    // guard: local-mac-claim
    if station(tables, source).is_some() {
        return Err(DropReason::LocalMacClaim);
    }
    if !destination.is_multicast() {
        // guard: not-on-this-host
        // off: let at = station(tables, destination).unwrap_or_default();
        let at = station(tables, destination).ok_or(DropReason::NotForPort)?;
        if at.ifindex == 0 {
            return Ok(None);
        }
        // guard: station-segment
        if at.vlan_id != vlan_id {
            return Err(DropReason::OtherSegment);
        }
    }
    Ok(Some(UplinkFrame {
        generation,
        segment,
        ether_type: outer.ether_type,
        macs: Macs {
            source,
            destination,
        },
    }))
}

/// Decides on a frame that is about to leave over the host's uplink. `mark` is the socket buffer's; `came_from` is the interface by
/// which it came to this host, 0 if it was made here.
///
/// # Errors
///
/// The reason to drop it.
#[inline(always)]
pub fn to_uplink<F: Frame, T: Tables + Ports>(
    frame: &F,
    (came_from, mark): (u32, u32),
    tables: &T,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    scratch.report = Report::blank();
    // guard: leaving-no-generation
    // off: let Some(generation) = tables.generation() else { return Ok(()) };
    let generation = tables.generation().ok_or(DropReason::NoGeneration)?;
    let outer = link::outer_tag(frame)?;
    let segment = link::check_tag(&outer, tables, generation, &mut scratch.report)?;
    let (source, destination) = link::read_macs(frame)?;
    // Anybody can write the host's MAC into a frame, and a port without programs marks none.
    // guard: made-here
    // off: let is_made_here = true;
    let is_made_here = came_from == 0;
    if mark & MARK_MASK == 0 && is_made_here && is_host(tables, source) {
        return Ok(());
    }
    check_mark(mark, outer.vlan_id)?;
    let time = (frame.octets(), segment.port_octet_time);
    if is_free(time, destination, outer.ether_type) {
        return Ok(());
    }
    pay_as_sender(tables, source, time, scratch)
}

/// Is a frame not counted against a bandwidth? There may be none; and what goes to a group, or is ARP, has a rate of its own: a
/// bridge makes a copy of it for each port, and its sender would pay for each.
#[inline(always)]
fn is_free((_, octet_time): (usize, u32), destination: Mac, ether_type: u16) -> bool {
    octet_time == 0 || destination.is_multicast() || ether_type == ether_type::ARP
}

/// [`pay`] of the port whose endpoint sent a frame, where the frame leaves. What came in over the uplink was sent elsewhere.
#[inline(always)]
fn pay_as_sender<T: Tables + Ports>(
    tables: &T,
    source: Mac,
    time: (usize, u32),
    scratch: &Scratch,
) -> Result<(), DropReason> {
    match station(tables, source) {
        Some(at) if at.ifindex != 0 => {
            pay(tables, (at.ifindex, way::SENT), time, scratch)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Takes the bandwidth of a port. Returns when the frame's turn is, in nanoseconds.
#[inline(always)]
fn pay<T: Tables>(
    tables: &T,
    port: (u32, usize),
    time: (usize, u32),
    scratch: &Scratch,
) -> Result<u64, DropReason> {
    let turn = limit::at_port(tables, port, time, scratch);
    // guard: port-bandwidth
    if turn == 0 {
        return Err(DropReason::OverBandwidth);
    }
    Ok(turn)
}

/// Returns who is behind a port, and its segment, if the generation knows the endpoint there.
#[inline(always)]
fn known_port<'a, T: Tables + Ports>(
    tables: &'a T,
    generation: &Generation,
    ifindex: u32,
    keys: &mut Keys,
) -> Result<(PortEntry, &'a SegmentEntry), DropReason> {
    // guard: unknown-port
    // exempt: the entry of nobody has no endpoint either
    let port = tables.port(ifindex).ok_or(DropReason::UnknownPort)?;
    keys.bound_mac = BoundMacKey {
        vlan_id: port.vlan_id,
        mac: port.mac,
    };
    // guard: port-of-generation
    let _endpoint = tables
        .bound_mac(generation.slot, &keys.bound_mac)
        .ok_or(DropReason::UnknownPort)?;
    // guard: port-segment-entry
    // exempt: the array has an entry for every VLAN id
    let segment = tables
        .segment(generation.slot, port.vlan_id)
        .ok_or(DropReason::UnknownVlan)?;
    // guard: port-segment
    // exempt: an endpoint of the generation is on one of its segments
    if segment.flags & segment_flags::PRESENT == 0 {
        return Err(DropReason::UnknownVlan);
    }
    // guard: port-blackhole
    if segment.flags & segment_flags::BLACKHOLE != 0 {
        return Err(DropReason::BlackholeSegment);
    }
    Ok((port, segment))
}

/// An access port carries no tags, neither in the bytes nor in the metadata. Returns the EtherType.
#[inline(always)]
fn check_untagged<F: Frame>(frame: &F) -> Result<u16, DropReason> {
    // guard: port-ether-type-read
    // exempt: no hook is given less than an Ethernet header
    let ether_type = frame.read::<Be16>(12).ok_or(DropReason::Truncated)?.get();
    // guard: tagged-frame
    if link::is_tag(ether_type) || frame.offloaded_tag().is_some() {
        return Err(DropReason::TaggedFrame);
    }
    Ok(ether_type)
}

/// Was the frame judged on this host, as one of this segment?
#[inline(always)]
fn check_mark(mark: u32, vlan_id: u16) -> Result<(), DropReason> {
    // guard: not-judged
    if mark & MARK_MASK == 0 {
        return Err(DropReason::NotJudged);
    }
    // guard: other-segment
    if mark & MARK_MASK != judged_mark(0, vlan_id) {
        return Err(DropReason::OtherSegment);
    }
    Ok(())
}

#[inline(always)]
fn station<T: Ports>(tables: &T, mac: Mac) -> Option<StationEntry> {
    tables.station(&StationKey { mac, _pad: 0 })
}

/// Is it a hardware address of the host itself?
#[inline(always)]
fn is_host<T: Ports>(tables: &T, mac: Mac) -> bool {
    station(tables, mac).is_some_and(|station| station.ifindex == 0)
}

/// `a != b`, without a branch: the verifier would go through all that follows for either answer.
#[inline(always)]
fn differs(a: Mac, b: Mac) -> bool {
    let [a, b] = [a.0, b.0];
    let difference = u32::from(a[0] ^ b[0]) | u32::from(a[1] ^ b[1]) | u32::from(a[2] ^ b[2]);
    let sign = core::hint::black_box(difference.wrapping_neg()) >> 31;
    sign & 1 != 0
}

#[inline(always)]
fn context<'a, T: Tables>(
    tables: &'a T,
    generation: &'a Generation,
    segment: &'a SegmentEntry,
    (vlan_id, local): (u16, bool),
    macs: &Macs,
) -> Context<'a, T> {
    Context {
        tables,
        generation,
        segment,
        vlan_id,
        source_mac: macs.source,
        to_group_mac: macs.destination.is_multicast(),
        local,
        at_port: true,
        routed: false,
    }
}

/// Sections 2 to 9, and who may receive it.
#[inline(always)]
fn judge<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    ether_type: u16,
    macs: &Macs,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    link::check_arp_group(ether_type, macs.destination)?;
    if matches!(ether_type, ether_type::ARP | ether_type::RARP) {
        return super::arp::check(frame, context, ether_type, scratch);
    }
    read_packet(frame, context, ether_type, scratch)?;
    if context.local && !context.to_group_mac {
        check_receiver(
            context,
            macs.destination,
            &scratch.packet,
            &mut scratch.keys,
        )?;
    }
    ip::judge(frame, context, scratch)
}

/// Section 3, but for later fragments.
#[inline(always)]
fn read_packet<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    ether_type: u16,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let l3 = super::forgotten(&scratch.report.l3);
    match ether_type {
        ether_type::IPV4 => packet::parse_ipv4(frame, context, l3, &mut scratch.packet)?,
        ether_type::IPV6 => packet::parse_ipv6(frame, context, l3, &mut scratch.packet)?,
        // guard: port-ether-type
        _ => return Err(DropReason::UnknownEtherType),
    }
    if scratch.packet.shape & shape::COMPLETE == 0 {
        options::complete(frame, context, &mut scratch.packet)?;
        scratch.packet.shape |= shape::COMPLETE;
    }
    Ok(())
}

/// A packet that stays in the segment goes to an address of the segment, and to whom that address belongs: else a MAC
/// could be reached under another's address.
#[inline(always)]
fn check_receiver<T: Tables>(
    context: &Context<'_, T>,
    mac: Mac,
    packet: &Packet,
    keys: &mut Keys,
) -> Result<(), DropReason> {
    let (to, ipv4) = (packet.destination, packet.ipv4);
    // guard: receiver-gateway
    if destination::is_own_gateway(context, to, ipv4) {
        return Err(DropReason::MacIpMismatch);
    }
    if !ipv4 && source::is_link_local(to) {
        return Ok(());
    }
    // guard: receiver-segment
    if !source::is_in(context.segment, to, ipv4) {
        return Err(DropReason::MacIpMismatch);
    }
    // guard: receiver-binding
    if let Binding::Contradicts = source::binding(context, mac, to, ipv4, keys) {
        return Err(DropReason::MacIpMismatch);
    }
    // guard: receiver-router
    if router_flags(context, to, keys) != 0 {
        return Err(DropReason::MacIpMismatch);
    }
    Ok(())
}

/// Returns the flags of an address of the router; 0 if it is none.
#[inline(always)]
fn router_flags<T: Tables>(context: &Context<'_, T>, address: Address, keys: &mut Keys) -> u32 {
    keys.endpoint = EndpointKey {
        vpc_id: context.segment.vpc_id,
        address,
    };
    let slot = context.generation.slot;
    match context.tables.endpoint(slot, &keys.endpoint) {
        Some(endpoint) => endpoint.flags & endpoint_flags::ROUTER,
        None => 0,
    }
}

/// Decides on a frame that the router sent into the segment of `to`.
#[inline(always)]
fn from_the_router<F: Frame, T: Tables>(
    frame: &F,
    to: &Context<'_, T>,
    ether_type: u16,
    macs: &Macs,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    if matches!(ether_type, ether_type::ARP | ether_type::RARP) {
        return Ok(());
    }
    read_packet(frame, to, ether_type, scratch)?;
    if scratch.packet.is_neighbour_discovery() {
        return Ok(());
    }
    if to.to_group_mac {
        return check_router_group(&scratch.packet);
    }
    check_receiver(to, macs.destination, &scratch.packet, &mut scratch.keys)?;
    from_beyond(frame, to, scratch)
}

/// Of what the router sends to a group, beside neighbour discovery and MLD: DHCP's answers to who has no address yet.
#[inline(always)]
fn check_router_group(packet: &Packet) -> Result<(), DropReason> {
    // guard: router-group
    if !(packet.ipv4
        && packet.protocol == protocol::UDP
        && !packet.is_fragment()
        && packet.source_port == dhcp_port::SERVER4
        && packet.destination_port == dhcp_port::CLIENT4)
    {
        return Err(DropReason::MulticastNotAllowed);
    }
    Ok(())
}

/// Decides on a unicast packet out of the router: its own, one of another segment, or one of the internet.
#[inline(always)]
fn from_beyond<F: Frame, T: Tables>(
    frame: &F,
    to: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let (from, ipv4) = (scratch.packet.source, scratch.packet.ipv4);
    // Before anything is looked up: an IPv4-mapped source must not be taken for the IPv4 address.
    // guard: beyond-martian
    if source::is_martian(from, ipv4) || source::is_multicast(from, ipv4) {
        return Err(DropReason::MartianSource);
    }
    if destination::is_own_gateway(to, from, ipv4) || router_flags(to, from, &mut scratch.keys) != 0
    {
        return Ok(());
    }
    // guard: beyond-link-local
    if !ipv4 && source::is_link_local(from) {
        return Err(DropReason::LinkLocalScope);
    }
    let vlan_id = vlan_of(to, from, ipv4, &mut scratch.keys);
    let mut context = Context { vlan_id, ..*to };
    if vlan_id == 0 {
        context.vlan_id = to.vlan_id;
        return from_internet(frame, &context, scratch);
    }
    // guard: beyond-segment-entry
    // exempt: the array has an entry for every VLAN id
    context.segment = to
        .tables
        .segment(to.generation.slot, vlan_id)
        .ok_or(DropReason::UnknownVlan)?;
    // guard: beyond-blackhole
    if context.segment.flags & segment_flags::BLACKHOLE != 0 {
        return Err(DropReason::BlackholeSegment);
    }
    from_segment(frame, &context, scratch)
}

/// Returns the VLAN id of the segment that an address lies in; 0 if none.
#[inline(always)]
fn vlan_of<T: Tables>(
    context: &Context<'_, T>,
    address: Address,
    ipv4: bool,
    keys: &mut Keys,
) -> u16 {
    let plan = context.segment.vpc_id;
    match source::longest_prefix(context, plan, address, ipv4, &mut keys.prefix) {
        Some(prefix) if prefix.flags & prefix_flags::SEGMENT != 0 => prefix.vlan_id,
        _ => 0,
    }
}

/// A packet that the router took out of another segment: sections 7 to 9 from there.
#[inline(always)]
fn from_segment<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    let (from, ipv4) = (scratch.packet.source, scratch.packet.ipv4);
    // guard: beyond-source
    if source::is_network_or_broadcast(context.segment, from, ipv4) {
        return Err(DropReason::SourceNotInSegment);
    }
    if scratch.packet.shape & shape::LATER_FRAGMENT != 0 {
        return fragment::follow(context, scratch);
    }
    ip::check_servers(&scratch.packet)?;
    scratch.source = Source {
        class: class_of(context, from, ipv4, &mut scratch.keys),
        bound: false,
    };
    if related::is_icmp_error(&scratch.packet) {
        related::check_icmp_error(frame, context, scratch)?;
    } else {
        connection::judge(context, scratch)?;
    }
    remember(context, scratch)
}

/// Returns the source class of an address of the context's segment.
#[inline(always)]
fn class_of<T: Tables>(
    context: &Context<'_, T>,
    address: Address,
    ipv4: bool,
    keys: &mut Keys,
) -> u32 {
    keys.endpoint = EndpointKey {
        vpc_id: context.segment.vpc_id,
        address,
    };
    let slot = context.generation.slot;
    match context.tables.endpoint(slot, &keys.endpoint) {
        Some(endpoint) => endpoint.src_class,
        None => source::class_of_free(context, context.segment, address, ipv4, keys),
    }
}

/// A packet that is not of the site: it opens nothing.
#[inline(always)]
fn from_internet<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    if scratch.packet.shape & shape::LATER_FRAGMENT != 0 {
        return fragment::follow(context, scratch);
    }
    ip::check_servers(&scratch.packet)?;
    if related::is_icmp_error(&scratch.packet) {
        related::check_icmp_error_from_internet(frame, context, scratch)?;
    } else {
        connection::judge_answer(context, scratch)?;
    }
    remember(context, scratch)
}

#[inline(always)]
fn remember<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) -> Result<(), DropReason> {
    if scratch.packet.is_first_fragment() {
        fragment::remember(context, scratch)?;
    }
    Ok(())
}
