//! Messages of the link: ARP, RARP, DHCP, neighbour discovery, MLD.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cast::{self, Actor, Cast};
use super::dice::{Dice, Rng};
use super::draft::{Body, Draft};
use crate::World;
use crate::fixtures::ROUTER_MAC;
use crate::frames::{self, Arp, Ip, ether, protocol};

/// An ARP or RARP message: usually what the actor may say.
pub(crate) fn arp(rng: &mut Rng, world: &World<'_>, cast: &Cast, actor: &Actor) -> Draft {
    let own = actor.ipv4.unwrap_or(Ipv4Addr::new(10, 0, 0, 9));
    let gateway = ipv4(cast::gateway(world.model, actor.segment, true)).unwrap_or(own);
    let other = ipv4(cast.address(rng, true)).unwrap_or(own);
    let edge = ipv4(Some(cast::special(rng, world, true))).unwrap_or(own);
    let zero = Ipv4Addr::UNSPECIFIED;
    let is_rarp = rng.percent(10);
    let arp = Arp {
        operation: if is_rarp {
            rng.u16(3..=4)
        } else {
            rng.u16(1..=2)
        },
        sender_mac: actor.mac,
        sender: rng.one_of([own, own, own, own, zero, gateway, other, edge]),
        target_mac: [0; 6],
        target: rng.one_of([gateway, gateway, gateway, other, own]),
    };
    let ether_type = if is_rarp { ether::RARP } else { ether::ARP };
    let mut draft = Draft::of(actor, "arp", Body::Arp(ether_type, arp));
    if rng.percent(40) {
        draft.destination_mac = ROUTER_MAC;
    }
    draft
}

fn ipv4(address: Option<IpAddr>) -> Option<Ipv4Addr> {
    match address? {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    }
}

fn ipv6(address: Option<IpAddr>) -> Option<Ipv6Addr> {
    match address? {
        IpAddr::V4(_) => None,
        IpAddr::V6(a) => Some(a),
    }
}

/// DHCP of a client; sometimes of a server.
pub(crate) fn dhcp(rng: &mut Rng, world: &World<'_>, actor: &Actor) -> Draft {
    let is_ipv4 = rng.bool();
    let (client, server) = if is_ipv4 { (68, 67) } else { (546, 547) };
    let (from, to) = match rng.u8(0..10) {
        0 => (server, client),
        1 => (server, server),
        2 => (client, client),
        _ => (client, server),
    };
    let gateway = cast::gateway(world.model, actor.segment, is_ipv4);
    let (source, group) = if is_ipv4 {
        let own = actor
            .ipv4
            .filter(|_| rng.percent(25))
            .unwrap_or(Ipv4Addr::UNSPECIFIED);
        (IpAddr::V4(own), IpAddr::V4(Ipv4Addr::BROADCAST))
    } else {
        let own = actor
            .ipv6
            .filter(|_| rng.percent(15))
            .unwrap_or(actor.link_local());
        (IpAddr::V6(own), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 1, 2]))
    };
    let to_gateway = gateway.filter(|_| rng.percent(20));
    let payload = frames::udp(from, to, b"dhcp");
    let ip = Ip::new(source, to_gateway.unwrap_or(group), protocol::UDP, payload);
    Draft::of(actor, "dhcp", Body::Ip(ip))
}

/// Neighbour discovery or MLD: usually what the actor may say.
pub(crate) fn neighbour(rng: &mut Rng, world: &World<'_>, cast: &Cast, actor: &Actor) -> Draft {
    let own = actor.ipv6.unwrap_or(actor.link_local());
    let gateway = ipv6(cast::gateway(world.model, actor.segment, false));
    let gateway = gateway.unwrap_or(world.router.link_local);
    let router = world.router.link_local;
    let other = ipv6(cast.address(rng, false)).unwrap_or(own);
    let edge = ipv6(Some(cast::special(rng, world, false))).unwrap_or(own);
    let link_local = actor.link_local();
    let kind = rng.one_of([133, 135, 135, 135, 136, 136, 143, 131, 132, 130, 134, 137]);
    let target = if kind == 135 {
        rng.one_of([
            gateway, router, gateway, other, other, own, link_local, edge,
        ])
    } else {
        rng.one_of([
            own, own, own, link_local, link_local, gateway, router, other, edge,
        ])
    };
    let is_dad = kind == 135 && rng.percent(25);
    let (source, target) = match (is_dad, kind) {
        (true, _) => (
            Ipv6Addr::UNSPECIFIED,
            rng.one_of([own, own, link_local, target]),
        ),
        (false, 131 | 132 | 143) => (
            rng.one_of([link_local, link_local, Ipv6Addr::UNSPECIFIED, own]),
            target,
        ),
        (false, _) => (rng.one_of([own, link_local]), target),
    };
    let payload = neighbour_payload(rng, kind, target, actor, is_dad);
    let destination = neighbour_destination(rng, kind, target, [gateway, router, other]);
    let mut ip = Ip::new(source.into(), destination.into(), protocol::ICMPV6, payload);
    ip.ttl = if (133..=137).contains(&kind) { 255 } else { 1 };
    if matches!(kind, 131 | 132 | 143) && rng.percent(70) {
        ip.extensions = vec![(protocol::HOP_BY_HOP, vec![0, 0, 5, 2, 0, 0, 1, 0])];
    }
    Draft::of(actor, "neighbour discovery", Body::Ip(ip))
}

fn neighbour_payload(
    rng: &mut Rng,
    kind: u8,
    target: Ipv6Addr,
    actor: &Actor,
    is_dad: bool,
) -> Vec<u8> {
    let option = if kind == 136 { 2 } else { 1 };
    let good = frames::link_layer_option(option, actor.mac);
    let none = Vec::new();
    let options = match rng.u8(0..20) {
        0 => frames::link_layer_option(option, [2, 9, 9, 9, 9, 9]),
        1 => good.repeat(rng.usize(2..=5)),
        2 => vec![option, 0, 1, 2, 3, 4, 5, 6],
        3 => vec![option, 2, 1, 2, 3, 4, 5, 6],
        4 => vec![14, 1, 1, 2, 3, 4, 5, 6],
        5 => [vec![14, 1, 1, 2, 3, 4, 5, 6], good].concat(),
        6 => vec![option],
        // The right address, in an option of 16 octets.
        7 => [&[option, 2], &actor.mac[..], &[0; 8]].concat(),
        8..=12 => none,
        _ if is_dad => none,
        _ => good,
    };
    match kind {
        133 => frames::icmp(kind, 0, [0; 4], &options),
        134 => frames::icmp(kind, 0, [64, 0, 7, 8], &[vec![0; 8], options].concat()),
        135 | 136 => frames::neighbour(kind, target, &options),
        137 => frames::neighbour(kind, target, &[vec![0; 16], options].concat()),
        _ => frames::neighbour(kind, target, &[]),
    }
}

fn neighbour_destination(
    rng: &mut Rng,
    kind: u8,
    target: Ipv6Addr,
    [gateway, router, other]: [Ipv6Addr; 3],
) -> Ipv6Addr {
    let group = |last| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, last);
    let [.., x, y] = target.segments();
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (x & 0xff), y);
    let site = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2);
    let usual = match kind {
        133 => rng.one_of([group(2), group(2), router]),
        135 => rng.one_of([solicited, solicited, target]),
        136 => rng.one_of([group(1), gateway, router]),
        143 => group(0x16),
        _ => rng.one_of([group(1), group(2), target]),
    };
    let odd = rng.one_of([group(1), gateway, router, other, site]);
    if rng.percent(88) { usual } else { odd }
}
