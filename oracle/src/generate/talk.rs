//! Conversations: openings near the rules, and what follows.

use std::net::IpAddr;

use super::cast::{self, Actor, Cast};
use super::dice::{Dice, Rng, one_of};
use super::draft::{Body, Draft};
use super::policies::PORTS;
use crate::World;
use crate::frames::{self, Ip, Part, flags, protocol};
use crate::policy::{Source, may_connect};

/// A conversation that somebody tried to open.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    opener: Actor,
    /// `None`: the router, or somebody in the internet.
    responder: Option<Actor>,
    opener_address: IpAddr,
    responder_address: IpAddr,
    protocol: u8,
    opener_port: u16,
    responder_port: u16,
    /// How many of the usual packets were sent.
    stage: usize,
    /// The first fragment that was sent last.
    pending: Option<Pending>,
}

/// A first fragment, so that later ones can follow.
#[derive(Clone, Debug)]
struct Pending {
    from_opener: bool,
    id: u32,
    /// Where it ends, in units of 8 octets.
    end: u16,
}

impl Talk {
    fn is_ipv4(&self) -> bool {
        self.opener_address.is_ipv4()
    }

    fn is_icmp(&self) -> bool {
        self.protocol == icmp_of(self.is_ipv4())
    }

    /// Source, destination, source port, destination port.
    fn direction(&self, from_opener: bool) -> (IpAddr, IpAddr, u16, u16) {
        let (a, b) = (self.opener_address, self.responder_address);
        let (p, q) = (self.opener_port, self.responder_port);
        if from_opener {
            (a, b, p, q)
        } else {
            (b, a, q, p)
        }
    }

    fn packet(&self, from_opener: bool, payload: Vec<u8>) -> Ip {
        let (source, destination, ..) = self.direction(from_opener);
        Ip::new(source, destination, self.protocol, payload)
    }

    /// A usual payload: TCP with flags, UDP, an echo, or four octets of anything.
    fn payload(&self, from_opener: bool, tcp_flags: u8) -> Vec<u8> {
        let (_, _, source, destination) = self.direction(from_opener);
        match self.protocol {
            protocol::TCP => frames::tcp(source, destination, tcp_flags),
            protocol::UDP => frames::udp(source, destination, b"data"),
            _ if self.is_icmp() => {
                frames::echo(echo_type(self.is_ipv4(), from_opener), self.opener_port)
            }
            _ => b"data".to_vec(),
        }
    }
}

fn icmp_of(is_ipv4: bool) -> u8 {
    if is_ipv4 {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    }
}

fn echo_type(is_ipv4: bool, is_request: bool) -> u8 {
    match (is_ipv4, is_request) {
        (true, true) => 8,
        (true, false) => 0,
        (false, true) => 128,
        (false, false) => 129,
    }
}

/// A new conversation of a random actor; of some candidates, one that is allowed is preferred.
pub(crate) fn open(rng: &mut Rng, world: &World<'_>, cast: &Cast) -> Option<(Talk, Draft)> {
    let (wants_allowed, wants_host) = (rng.percent(75), rng.percent(50));
    let mut talk = candidate(rng, world, cast)?;
    for _ in 0..8 {
        let is_host = talk.responder.is_some_and(|actor| actor.is_known);
        if (is_host || !wants_host) && (is_allowed(world, &talk) || !wants_allowed) {
            break;
        }
        talk = candidate(rng, world, cast)?;
    }
    let mut packet = talk.packet(true, talk.payload(true, flags::SYN));
    cut(rng, &mut talk, &mut packet, true);
    let draft = Draft::of(&talk.opener, "opening", Body::Ip(packet));
    Some((talk, draft))
}

fn is_allowed(world: &World<'_>, talk: &Talk) -> bool {
    let source = Source {
        segment: talk.opener.segment,
        address: talk.opener_address,
    };
    let (to, port) = (talk.responder_address, talk.responder_port);
    may_connect(world, source, to, talk.protocol, port).allow
}

fn candidate(rng: &mut Rng, world: &World<'_>, cast: &Cast) -> Option<Talk> {
    let opener = cast.pick(rng)?;
    let (opener_address, is_ipv4) = match (opener.ipv4, opener.ipv6) {
        (Some(a), None) => (IpAddr::V4(a), true),
        (Some(a), Some(_)) if rng.bool() => (IpAddr::V4(a), true),
        (_, Some(a)) => (IpAddr::V6(a), false),
        (None, None) => (IpAddr::V6(opener.link_local()), false),
    };
    let responder_address = cast::destination(rng, world, cast, &opener, is_ipv4);
    let is_gateway = cast::gateway(world.model, opener.segment, is_ipv4) == Some(responder_address);
    let (protocol, port) = service(rng, is_ipv4, is_gateway);
    let opener_port = one_of!(rng, [40_000, 40_001, 40_002, rng.u16(1024..), 53, 443]);
    Some(Talk {
        opener,
        responder: cast.owner(responder_address),
        opener_address,
        responder_address,
        protocol,
        opener_port,
        responder_port: if protocol == icmp_of(is_ipv4) {
            opener_port
        } else {
            port
        },
        stage: 0,
        pending: None,
    })
}

/// Protocol and port near the rules.
fn service(rng: &mut Rng, is_ipv4: bool, is_gateway: bool) -> (u8, u16) {
    let dhcp = if is_ipv4 { 67 } else { 547 };
    if is_gateway && rng.percent(70) {
        return rng.one_of([
            (protocol::UDP, dhcp),
            (protocol::UDP, 53),
            (protocol::TCP, 53),
            (protocol::UDP, 123),
            (icmp_of(is_ipv4), 0),
            (icmp_of(is_ipv4), 0),
        ]);
    }
    let other = rng.one_of([protocol::SCTP, 47, 59, icmp_of(!is_ipv4)]);
    let number = match rng.u8(0..20) {
        0..=8 => protocol::TCP,
        9..=13 => protocol::UDP,
        14..=17 => icmp_of(is_ipv4),
        _ => other,
    };
    let near = rng.one_of(PORTS);
    let port = one_of!(
        rng,
        [
            near,
            near,
            near,
            near.wrapping_add(1),
            near - 1,
            rng.u16(..),
        ]
    );
    (number, port)
}

/// Sometimes only the first fragment is sent.
fn cut(rng: &mut Rng, talk: &mut Talk, packet: &mut Ip, from_opener: bool) {
    if !rng.percent(12) {
        return;
    }
    let id = rng.u32(..);
    let id = if packet.source.is_ipv4() {
        id & 0xffff
    } else {
        id
    };
    let length = rng.one_of([24, 24, 32, 64, 8, 16]);
    packet.payload.resize(length, 0xda);
    packet.part = Some(Part {
        id,
        offset: 0,
        more: true,
    });
    let end = u16::try_from(length / 8).unwrap_or(u16::MAX);
    talk.pending = Some(Pending {
        from_opener,
        id,
        end,
    });
}

/// The next packet of a conversation: usually the expected one.
pub(crate) fn follow(rng: &mut Rng, talk: &mut Talk, cast: &Cast) -> Draft {
    if talk.pending.is_some() && rng.percent(60) {
        return later_fragment(rng, talk);
    }
    if rng.percent(14) {
        return icmp_error(rng, talk, cast);
    }
    if talk.is_ipv4() && rng.percent(2) {
        return mapped(rng, talk);
    }
    let (from_opener, tcp_flags, note) = if rng.percent(75) {
        usual(talk)
    } else {
        unusual(rng)
    };
    talk.stage += 1;
    let mut payload = talk.payload(from_opener, tcp_flags);
    if talk.is_icmp() && rng.percent(10) {
        payload[0] = echo_type(talk.is_ipv4(), !from_opener);
    }
    let mut packet = talk.packet(from_opener, payload);
    cut(rng, talk, &mut packet, from_opener);
    from_side(talk, from_opener, note, packet)
}

/// A frame of one side; what the router or the internet would send does not come from the trunk, so
/// the opener pretends.
fn from_side(talk: &Talk, from_opener: bool, note: &'static str, packet: Ip) -> Draft {
    let actor = if from_opener {
        talk.opener
    } else {
        talk.responder.unwrap_or(talk.opener)
    };
    Draft::of(&actor, note, Body::Ip(packet))
}

/// Open, answer, acknowledge, data both ways, close.
fn usual(talk: &Talk) -> (bool, u8, &'static str) {
    use flags::{ACK, FIN, SYN};
    let script = [
        (false, SYN | ACK, "answer"),
        (true, ACK, "acknowledgement"),
        (true, ACK, "data from the opener"),
        (false, ACK, "data from the responder"),
        (true, ACK, "data from the opener"),
        (false, ACK, "data from the responder"),
        (true, FIN | ACK, "close by the opener"),
        (false, FIN | ACK, "close by the responder"),
        (true, SYN, "opening again"),
    ];
    let (from_opener, tcp_flags, note) = script[talk.stage % script.len()];
    (from_opener || talk.responder.is_none(), tcp_flags, note)
}

fn unusual(rng: &mut Rng) -> (bool, u8, &'static str) {
    use flags::{ACK, FIN, RST, SYN};
    let tcp_flags = one_of!(
        rng,
        [
            SYN,
            SYN | ACK,
            ACK,
            RST,
            RST | ACK,
            FIN | ACK,
            SYN | FIN,
            SYN | RST,
            0,
            rng.u8(..),
        ]
    );
    (rng.bool(), tcp_flags, "out of order")
}

/// A packet of an IPv4 conversation as IPv6 between IPv4-mapped addresses: it belongs to none.
fn mapped(rng: &mut Rng, talk: &Talk) -> Draft {
    let from_opener = rng.bool();
    let mut packet = talk.packet(from_opener, talk.payload(from_opener, flags::ACK));
    for address in [&mut packet.source, &mut packet.destination] {
        if let IpAddr::V4(ipv4) = *address {
            *address = IpAddr::V6(ipv4.to_ipv6_mapped());
        }
    }
    from_side(talk, from_opener, "IPv4 in IPv6 addresses", packet)
}

fn later_fragment(rng: &mut Rng, talk: &mut Talk) -> Draft {
    let (from_opener, id, end) = talk
        .pending
        .as_ref()
        .map_or((true, 0, 3), |p| (p.from_opener, p.id, p.end));
    let offset = rng.one_of([end, end, end, end + 2, end.saturating_sub(1).max(1), 1]);
    let more = rng.bool();
    if !more {
        talk.pending = talk.pending.take().filter(|_| rng.bool());
    }
    let mut packet = talk.packet(from_opener, vec![0xda; 16]);
    packet.part = Some(Part { id, offset, more });
    from_side(talk, from_opener, "later fragment", packet)
}

/// An ICMP error about a packet of the conversation, sent by the other side; or nearly so.
fn icmp_error(rng: &mut Rng, talk: &Talk, cast: &Cast) -> Draft {
    let about_opener = rng.percent(60) && talk.responder.is_some();
    let mut quoted = talk.packet(about_opener, talk.payload(about_opener, flags::ACK));
    let mut outer = (quoted.destination, quoted.source);
    let mut version = 0;
    match rng.u8(0..14) {
        0 => quoted.payload[1] ^= 1,
        1 => quoted.protocol ^= 1,
        2 => outer.0 = cast.address(rng, talk.is_ipv4()).unwrap_or(outer.0),
        3 => outer.1 = cast.address(rng, talk.is_ipv4()).unwrap_or(outer.1),
        4 => quoted.options = vec![1, 1, 1, 1],
        5 => {
            quoted.part = Some(Part {
                id: 1,
                offset: 1,
                more: false,
            })
        }
        6 if talk.is_icmp() => quoted.payload[0] = rng.one_of([5, 13, 17, 133, 139]),
        7 => version = rng.one_of([0x10, 0x20, 0xf0]),
        _ => {}
    }
    let mut quote = quoted.bytes();
    quote[0] ^= version;
    let header_length = if talk.is_ipv4() { 20 } else { 40 };
    quote.truncate(header_length + rng.one_of([8, 8, 8, 40, 7, 4]));
    let (kind, code) = if talk.is_ipv4() {
        rng.one_of([(3, 1), (3, 3), (3, 4), (11, 0), (12, 0)])
    } else {
        rng.one_of([(1, 0), (2, 0), (3, 0), (4, 1), (1, 4)])
    };
    let payload = frames::icmp(kind, code, [0; 4], &quote);
    let packet = Ip::new(outer.0, outer.1, icmp_of(talk.is_ipv4()), payload);
    from_side(talk, !about_opener, "icmp error", packet)
}
