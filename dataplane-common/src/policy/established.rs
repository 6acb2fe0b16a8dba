//! The fast path: packets of connections that need no second judgement.
//!
//! It knows the plainest packets alone: TCP without SYN and UDP, without options, extension headers or
//! fragments, addressed to the router's MAC. What the connection vouches for is not checked again: packets with
//! this source, VLAN id and source MAC were judged under the current generation, so the segment exists, the source
//! may be used, and the destination is no group. So were packets with these ports: they are no DHCP server's.

use crate::abi::{Address, FlowKey, Mac};
use crate::policy::connection::{self, End};
use crate::policy::ip::dhcp_server_port;
use crate::policy::next_hop::{self, Outgoing};
use crate::policy::packet::length_and_flags;
use crate::policy::{Frame, Report, Tables, Verdict, limit, link};
use crate::wire::{Be16, Ipv4, Ipv6, Transport, ether_type, protocol, tcp_flags};

/// What the fast path reads of a packet.
struct Plain {
    from: End,
    to: End,
    protocol: u8,
    /// 0 for UDP.
    tcp_flags: u8,
    outgoing: Outgoing,
}

/// Decides on a packet of a connection that needs no second judgement, at the cost of one hash lookup.
///
/// `None` says nothing: [`super::from_trunk`] decides. Whatever this function allows, that one would allow, too.
#[inline(always)]
pub fn established<F: Frame, T: Tables>(frame: &F, tables: &T) -> Option<Report> {
    let generation = tables.generation()?;
    // guard: established-for-router
    if frame.read::<Mac>(0)? != generation.router_mac {
        return None;
    }
    let outer = link::outer_tag(frame).ok()?;
    let packet = match outer.ether_type {
        ether_type::IPV4 => read_ipv4(frame, outer.l3)?,
        ether_type::IPV6 => read_ipv6(frame, outer.l3)?,
        _ => return None,
    };
    let segment = tables.segment(generation.slot, outer.vlan_id)?;
    let mut key = FlowKey::default();
    let from_a = connection::write_key(
        &mut key,
        segment.vpc_id,
        packet.protocol,
        (&packet.from.address, packet.from.port),
        (&packet.to.address, packet.to.port),
    );
    let mut flow = tables.flow(&key)?;
    let now = tables.now();
    let (from, to) = connection::sides(&mut flow, from_a);
    let to = *to;
    // guard: established
    // off: let judged = true;
    let judged = from.generation == generation.number
        && from.vlan_id == outer.vlan_id
        && from.mac == frame.read::<Mac>(6)?;
    // guard: established-live
    if !judged || flow.expires <= now {
        return None;
    }
    // guard: established-bandwidth
    if segment.octet_time != 0 && !limit::has_bandwidth(tables, segment, frame.octets()) {
        return None;
    }
    connection::advance(
        &mut flow,
        (packet.protocol, packet.tcp_flags),
        from_a,
        now,
        generation.ticks_per_second,
    );
    let hop = next_hop::hop(frame, &packet.outgoing, outer.vlan_id, &to);
    Some(Report {
        vlan_id: outer.vlan_id,
        to_vlan_id: to.vlan_id,
        generation: generation.number,
        rule_id: 0,
        verdict: hop.map_or(Verdict::ToKernel, |_| Verdict::Forward),
        hop: hop.unwrap_or_default(),
        opened: false,
        l3: outer.l3,
        departs: 0,
    })
}

#[inline(always)]
fn read_ipv4<F: Frame>(frame: &F, l3: u16) -> Option<Plain> {
    let at = usize::from(l3);
    let ip = frame.read::<Ipv4>(at)?;
    let length = ip.total_length.get();
    // guard: established-ipv4
    if ip.version_ihl != 0x45
        || ip.fragment.get() & 0x3fff != 0
        || at + usize::from(length) > frame.length()
    {
        return None;
    }
    let ends = (
        Address::from_ipv4_word(ip.source),
        Address::from_ipv4_word(ip.destination),
    );
    let outgoing = Outgoing {
        ttl: ip.ttl,
        ipv4: true,
        length,
        headers: 20,
    };
    read_transport(frame, at + 20, ip.protocol, ends, outgoing)
}

#[inline(always)]
fn read_ipv6<F: Frame>(frame: &F, l3: u16) -> Option<Plain> {
    let at = usize::from(l3);
    let ip = frame.read::<Ipv6>(at)?;
    let payload = ip.payload_length.get();
    // An IPv6 packet between IPv4-mapped addresses must not meet an IPv4 connection.
    // guard: established-ipv6
    if ip.version.get() >> 28 != 6
        || at + 40 + usize::from(payload) > frame.length()
        || ip.source.0[0] == 0
    {
        return None;
    }
    let outgoing = Outgoing {
        ttl: ip.hop_limit,
        ipv4: false,
        length: payload.checked_add(40)?,
        headers: 40,
    };
    let ends = (ip.source, ip.destination);
    read_transport(frame, at + 40, ip.next_header, ends, outgoing)
}

#[inline(always)]
fn read_transport<F: Frame>(
    frame: &F,
    l4: usize,
    protocol: u8,
    (from, to): (Address, Address),
    mut outgoing: Outgoing,
) -> Option<Plain> {
    let needed = match protocol {
        protocol::TCP => 20,
        protocol::UDP => 8,
        _ => return None,
    };
    // guard: established-transport
    if outgoing.length < outgoing.headers + needed {
        return None;
    }
    let ports = frame.read::<Transport>(l4)?;
    let (from_port, to_port) = (ports.first.get(), ports.second.get());
    // Each packet to a DHCP server counts (section 11).
    // guard: established-dhcp
    if protocol == protocol::UDP && to_port == dhcp_server_port(outgoing.ipv4) {
        return None;
    }
    let (mut header, mut flags) = (8, 0);
    if protocol == protocol::TCP {
        (header, flags) = length_and_flags(frame.read::<Be16>(l4 + 12)?);
        // guard: established-syn
        if flags & tcp_flags::SYN != 0 {
            return None;
        }
    }
    outgoing.headers += u16::from(header);
    Some(Plain {
        from: End {
            address: from,
            port: from_port,
        },
        to: End {
            address: to,
            port: to_port,
        },
        protocol,
        tcp_flags: flags,
        outgoing,
    })
}
