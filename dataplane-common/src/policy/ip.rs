//! An IP packet's way through sections 3 to 9 of `docs/isolation.md`, and sections 5 and 7: group destinations, and
//! what only servers send.

use crate::abi::{Address, limit_kind, segment_flags};
use crate::policy::packet::{is_echo, shape};
use crate::policy::tables::Scratch;
use crate::policy::{
    Context, Frame, Packet, Tables, connection, fragment, limit, nd, next_hop, options, related,
    source,
};
use crate::reason::DropReason;
use crate::wire::{dhcp_port, icmp_type, protocol};

/// Judges a packet: sections 3 (what is left of it) to 9.
#[inline(always)]
pub(super) fn judge<F: Frame, T: Tables>(
    frame: &F,
    context: &Context<'_, T>,
    scratch: &mut Scratch,
) -> Result<(), DropReason> {
    if scratch.packet.shape & shape::COMPLETE == 0 {
        options::complete(frame, context, &mut scratch.packet)?;
    }
    if scratch.packet.shape & shape::LATER_FRAGMENT != 0 {
        fragment::follow(context, scratch)?;
        return next_hop::choose_verdict(frame, context, scratch);
    }
    source::check(context, scratch)?;
    if scratch.packet.is_neighbour_discovery() {
        nd::check(frame, context, scratch)?;
        // guard: nd-rate
        limit::check(context, limit_kind::NEIGHBOUR, scratch)?;
        return Ok(());
    }
    if scratch.packet.shape & shape::TO_GROUP != 0 {
        check_group_destination(context, &scratch.packet)?;
        // guard: dhcp-rate
        limit::check(context, limit_kind::DHCP, scratch)?;
        return Ok(());
    }
    check_servers(&scratch.packet)?;
    if related::is_icmp_error(&scratch.packet) {
        related::check_icmp_error(frame, context, scratch)?;
    } else {
        connection::judge(context, scratch)?;
        if is_to_dhcp_server(&scratch.packet) {
            // guard: dhcp-unicast-rate
            limit::check(context, limit_kind::DHCP, scratch)?;
        }
    }
    if scratch.packet.is_first_fragment() {
        fragment::remember(context, scratch)?;
    }
    next_hop::choose_verdict(frame, context, scratch)
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
pub(super) fn check_servers(packet: &Packet) -> Result<(), DropReason> {
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
    if !is_echo(packet) && !related::is_icmp_error(packet) {
        return Err(DropReason::IcmpType);
    }
    Ok(())
}

/// Does a packet ask a DHCP server, as a client does that renews its lease? The fast path leaves these alone.
#[inline(always)]
fn is_to_dhcp_server(packet: &Packet) -> bool {
    packet.protocol == protocol::UDP && packet.destination_port == dhcp_server_port(packet.ipv4)
}

/// Returns the port of a DHCP server. Nobody but the router sends from it ([`check_servers`]), so that no answer goes to it.
#[inline(always)]
pub(super) fn dhcp_server_port(ipv4: bool) -> u16 {
    if ipv4 {
        dhcp_port::SERVER4
    } else {
        dhcp_port::SERVER6
    }
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
