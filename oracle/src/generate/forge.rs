//! Forgeries: one thing about a frame is changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cast::{self, Actor, Cast};
use super::dice::{Dice, Rng, one_of};
use super::draft::{Body, Draft};
use super::model::new_mac;
use crate::World;
use crate::fixtures::ROUTER_MAC;
use crate::frames::{Arp, Ip, Part, TPID, fragment_header, group_mac, protocol};

/// Changes one thing of the frame.
pub(crate) fn forge(rng: &mut Rng, world: &World<'_>, cast: &Cast, draft: &mut Draft) {
    let note = match (&mut draft.body, rng.u8(0..10)) {
        (_, 0 | 1) => tags(rng, world, draft),
        (_, 2) => source_mac(rng, cast, draft),
        (_, 3) => destination_mac(rng, draft),
        (Body::Arp(ether_type, arp), _) => forge_arp(rng, ether_type, arp),
        (Body::Ip(ip), 4) => source_address(rng, world, cast, ip),
        (Body::Ip(ip), 5) => part(rng, ip),
        (Body::Ip(ip), 6) => header(rng, ip),
        (Body::Ip(ip), 7) => payload(rng, ip),
        (Body::Ip(ip), _) if ip.destination.is_ipv6() => extensions(rng, ip),
        (Body::Ip(ip), _) => options(rng, ip),
        (Body::Raw(ether_type, _), _) => {
            *ether_type = rng.u16(..);
            "any ether type"
        }
    };
    draft.notes.push(note);
    if rng.percent(4) {
        let is_ipv4 = draft.ip_mut().is_some_and(|ip| ip.source.is_ipv4());
        let destination = cast::special(rng, world, is_ipv4);
        draft.redirect(destination);
        draft.notes.push("to a special address");
    }
}

fn tags(rng: &mut Rng, world: &World<'_>, draft: &mut Draft) -> &'static str {
    let segments = &world.model.segments;
    let inner = draft.tags.first().copied().unwrap_or((TPID, 1));
    let (tags, note) = match rng.u8(0..11) {
        0 => (vec![], "untagged"),
        1 => (vec![(TPID, rng.u16(0..8) << 13)], "priority tag"),
        2 => (vec![(TPID, rng.u16(1..=4095))], "any VLAN"),
        3 => (vec![(TPID, 4095)], "VLAN 4095"),
        4 => (vec![(0x88a8, inner.1)], "802.1ad tag"),
        5 => (vec![(0x9100, inner.1)], "0x9100 tag"),
        6 => (vec![inner, (TPID, rng.u16(..))], "VLAN in VLAN"),
        7 => (
            vec![inner, (rng.one_of([0x88a8, 0x9100]), 5)],
            "QinQ in VLAN",
        ),
        8 => (vec![(0x88a8, 7), inner], "QinQ"),
        9 => (
            vec![(TPID, inner.1 | (rng.u16(0..16) << 12))],
            "priority bits",
        ),
        _ => {
            let other = segments
                .get(rng.usize(..segments.len()))
                .map(|s| s.vlan_id.as_u16());
            (vec![(TPID, other.unwrap_or(1))], "another segment's VLAN")
        }
    };
    draft.tags = tags;
    note
}

fn source_mac(rng: &mut Rng, cast: &Cast, draft: &mut Draft) -> &'static str {
    let (mac, note) = match rng.u8(0..6) {
        0 => ([0; 6], "zero source MAC"),
        1 => ([0xff; 6], "broadcast source MAC"),
        2 => ([0x33, 0x33, 0, 0, 0, 1], "multicast source MAC"),
        3 => (ROUTER_MAC, "the router's source MAC"),
        4 => (new_mac(rng), "another source MAC"),
        _ => (
            cast.pick(rng).map_or([2; 6], |a| a.mac),
            "another's source MAC",
        ),
    };
    draft.source_mac = mac;
    note
}

fn destination_mac(rng: &mut Rng, draft: &mut Draft) -> &'static str {
    let (mac, note) = match rng.u8(0..4) {
        0 => ([0xff; 6], "to broadcast"),
        1 => ([0x33, 0x33, 0, 0, 0, 1], "to a multicast MAC"),
        2 => (ROUTER_MAC, "to the router's MAC"),
        _ => (new_mac(rng), "to another MAC"),
    };
    draft.destination_mac = mac;
    note
}

fn forge_arp(rng: &mut Rng, ether_type: &mut u16, arp: &mut Arp) -> &'static str {
    match rng.u8(0..4) {
        0 => {
            arp.sender_mac = new_mac(rng);
            "another sender MAC"
        }
        1 => {
            arp.operation = rng.one_of([0, 1, 2, 3, 4, 5, 0x0100]);
            "any operation"
        }
        2 => {
            *ether_type ^= 0x0806 ^ 0x8035;
            "ARP as RARP"
        }
        _ => {
            arp.sender = Ipv4Addr::from(u32::from(arp.sender) ^ (1 << rng.u32(0..32)));
            "sender off by a bit"
        }
    }
}

fn source_address(rng: &mut Rng, world: &World<'_>, cast: &Cast, ip: &mut Ip) -> &'static str {
    let is_ipv4 = ip.source.is_ipv4();
    let segments = world.model.segments.len();
    let (source, note) = match rng.u8(0..8) {
        0 | 1 => (cast.address(rng, is_ipv4), "another's source"),
        2 => (Some(cast::special(rng, world, is_ipv4)), "a special source"),
        3 => {
            let id = netmodel::model::SegmentId(rng.usize(..segments));
            (
                cast::gateway(world.model, id, is_ipv4),
                "a gateway's source",
            )
        }
        4 => (martian(rng, is_ipv4), "a martian source"),
        5 => (
            Some(link_local(rng, world)).filter(|_| !is_ipv4),
            "a link-local source",
        ),
        _ => (Some(neighbour_of(rng, ip.source)), "source off by a bit"),
    };
    ip.source = source.unwrap_or(ip.source);
    note
}

fn martian(rng: &mut Rng, is_ipv4: bool) -> Option<IpAddr> {
    if is_ipv4 {
        let [a, b] = [rng.one_of([0, 127, 224, 239, 240, 255]), rng.u8(..)];
        return Some(IpAddr::from([a, b, 0, 1]));
    }
    Some(IpAddr::from(rng.one_of([
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0xff02, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0xffff, 0x0a00, 1],
        [0x64, 0xff9b, 0, 0, 0, 0, 0x0a00, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ])))
}

fn link_local(rng: &mut Rng, world: &World<'_>) -> IpAddr {
    let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, rng.u16(..));
    IpAddr::V6(rng.one_of([world.router.link_local, other]))
}

/// The address with one of its last 16 bits changed.
fn neighbour_of(rng: &mut Rng, address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) ^ (1 << rng.u32(0..16))).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) ^ (1 << rng.u32(0..16))).into(),
    }
}

fn part(rng: &mut Rng, ip: &mut Ip) -> &'static str {
    let id = rng.u32(0..4);
    let (part, note) = match rng.u8(0..4) {
        0 => (
            Part {
                id,
                offset: 0,
                more: true,
            },
            "first fragment",
        ),
        1 => (
            Part {
                id,
                offset: rng.u16(1..=4),
                more: rng.bool(),
            },
            "later fragment of nothing",
        ),
        2 => (
            Part {
                id,
                offset: 0x1fff,
                more: false,
            },
            "last possible fragment",
        ),
        _ => (
            Part {
                id,
                offset: 0,
                more: false,
            },
            "atomic fragment",
        ),
    };
    ip.part = Some(part);
    note
}

fn header(rng: &mut Rng, ip: &mut Ip) -> &'static str {
    match rng.u8(0..4) {
        0 => {
            ip.protocol = rng.u8(..);
            "any protocol"
        }
        1 => {
            ip.protocol = if ip.protocol == protocol::TCP {
                protocol::UDP
            } else {
                protocol::TCP
            };
            "another protocol"
        }
        _ => {
            ip.ttl = rng.one_of([0, 1, 1, 2, 64, 254, 255]);
            "another TTL"
        }
    }
}

fn payload(rng: &mut Rng, ip: &mut Ip) -> &'static str {
    let is_icmp = matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6);
    match (rng.u8(0..5), ip.payload.len()) {
        (0, length) => {
            ip.payload.truncate(rng.usize(0..=length));
            "transport cut short"
        }
        (1, _) => {
            ip.payload
                .resize(rng.one_of([90, 600, 1281, 1301, 1481]), 0);
            "large"
        }
        (2, length) if is_icmp && length > 1 => {
            ip.payload[1] = rng.u8(..);
            "any ICMP code"
        }
        (_, length) if is_icmp && length > 0 => {
            let near = rng.one_of([0, 3, 4, 5, 8, 9, 11, 13, 17, 100]);
            ip.payload[0] = one_of!(rng, [near, near, rng.u8(..), rng.u8(128..150)]);
            "any ICMP type"
        }
        (_, length) if length >= 4 => {
            let port: u16 = rng.one_of([67, 68, 546, 547, 53, 123]);
            let place = rng.one_of([0, 2]);
            ip.payload[place..place + 2].copy_from_slice(&port.to_be_bytes());
            "a server's or client's port"
        }
        _ => "nothing",
    }
}

fn options(rng: &mut Rng, ip: &mut Ip) -> &'static str {
    let (options, note) = match rng.u8(0..10) {
        0 => (vec![1; rng.usize(1..=8)], "up to 8 NOPs"),
        1 => (vec![1; rng.usize(9..=40)], "more than 8 NOPs"),
        2 => (vec![131, 7, 4, 10, 0, 0, 1], "loose source route"),
        3 => (vec![1, 137, 7, 4, 10, 0, 0, 1], "strict source route"),
        4 => (
            vec![7, rng.u8(..), 4, 0, 0, 0, 0],
            "record route of any length",
        ),
        5 => (vec![148, 4, 0, 0], "router alert"),
        6 => (vec![0, 131, 3, 4], "source route behind the end"),
        7 => (vec![1, 1, 1, 68], "an option without length"),
        8 => (vec![68, 0, 1, 1], "an option of length 0"),
        _ => ([[68, 4, 5, 0]; 9].concat(), "nine options"),
    };
    ip.options = options;
    note
}

fn extensions(rng: &mut Rng, ip: &mut Ip) -> &'static str {
    let options = |kind| (kind, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let hop = options(protocol::HOP_BY_HOP);
    let dst = options(protocol::DESTINATION_OPTIONS);
    let part = |rng: &mut Rng, more| {
        let offset = rng.one_of([0, 0, 0, 1, 3]);
        (
            protocol::FRAGMENT,
            fragment_header(Part {
                id: rng.u32(0..4),
                offset,
                more,
            }),
        )
    };
    let (chain, note) = match rng.u8(0..14) {
        0 => (vec![hop], "hop-by-hop"),
        1 => (vec![hop, dst], "hop-by-hop and destination options"),
        2 => (vec![dst, hop], "hop-by-hop not first"),
        3 => (vec![hop.clone(), hop], "two hop-by-hop"),
        4 => (vec![dst; rng.usize(1..=6)], "up to 6 extension headers"),
        5 => (vec![dst; rng.usize(7..=9)], "more than 6 extension headers"),
        6 => (vec![(43, vec![0, 0, 4, 0, 0, 0, 0, 0])], "routing header"),
        7 => (vec![(51, vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])], "AH"),
        8 => (
            vec![(rng.one_of([50, 135, 139, 140, 253, 254]), vec![0; 8])],
            "another extension",
        ),
        9 => (
            vec![(60, vec![0, rng.one_of([1, 2, 9, 255]), 1, 4, 0, 0, 0, 0])],
            "long options",
        ),
        10 => (
            vec![part(rng, true), dst],
            "options behind a fragment header",
        ),
        11 => (
            vec![part(rng, false), part(rng, true)],
            "two fragment headers",
        ),
        12 => (
            vec![part(rng, false), (43, vec![0; 8])],
            "routing behind a fragment header",
        ),
        _ => (vec![(60, vec![0])], "an extension header of one octet"),
    };
    ip.extensions = chain;
    note
}

/// Changes octets of the finished frame; `None` if nothing is to be changed.
pub(crate) fn damage(rng: &mut Rng, draft: &Draft, bytes: &mut Vec<u8>) -> &'static str {
    let header = 14 + 4 * draft.tags.len();
    match rng.u8(0..8) {
        0 | 1 => {
            bytes.truncate(rng.usize(0..=bytes.len()));
            "truncated"
        }
        2 => {
            bytes.truncate(header + rng.usize(0..=bytes.len().saturating_sub(header)));
            "truncated in the payload"
        }
        3 => {
            bytes.resize(bytes.len() + rng.usize(1..=30), 0);
            "padded"
        }
        4 => {
            set(
                bytes,
                header,
                rng.one_of([0x40, 0x44, 0x45, 0x46, 0x4f, 0x55, 0x60, 0x65]),
            );
            "version and header length"
        }
        5 => {
            let place = header + if draft_is_ipv4(draft) { 2 } else { 4 };
            let length = one_of!(rng, [0, 19, 20, 21, 28, 40, 41, 1500, rng.u16(..)]);
            let [high, low] = length.to_be_bytes();
            set(bytes, place, high);
            set(bytes, place + 1, low);
            "another total length"
        }
        6 => {
            let place = rng.usize(..bytes.len().max(1));
            let bit = 1 << rng.u8(0..8);
            if let Some(octet) = bytes.get_mut(place) {
                *octet ^= bit;
            }
            "a bit flipped"
        }
        _ => {
            let place = header + rng.usize(0..8);
            set(bytes, place, rng.u8(..));
            "an octet of the header"
        }
    }
}

fn draft_is_ipv4(draft: &Draft) -> bool {
    matches!(&draft.body, Body::Ip(ip) if ip.destination.is_ipv4())
}

fn set(bytes: &mut [u8], place: usize, value: u8) {
    if let Some(octet) = bytes.get_mut(place) {
        *octet = value;
    }
}

/// Octets without any sense, or an EtherType that nobody wants.
pub(crate) fn noise(rng: &mut Rng, actor: &Actor) -> Draft {
    let mut bytes = vec![0; rng.usize(0..=200)];
    rng.fill(&mut bytes);
    let ether_type = rng.one_of([
        0x0800, 0x86dd, 0x0806, 0x8035, 0x88cc, 0x8863, 0x8864, 0x0026, 0x88e5,
    ]);
    let mut draft = Draft::of(actor, "noise", Body::Raw(ether_type, bytes));
    if rng.percent(30) {
        draft.destination_mac = group_mac(IpAddr::V4(Ipv4Addr::BROADCAST)).unwrap_or(ROUTER_MAC);
    }
    draft
}
