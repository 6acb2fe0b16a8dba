//! Sections 8 and 9: connections, and who may open one to whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_common::reason::{DropReason, FORWARDED};
use netmodel::model::{Owner, Segment, SegmentId, Zone};
use testkit::frame::{Frame, link_local, protocol, tcp_flag};

use crate::place::{
    Family, Friendly, INTERNET_V4, INTERNET_V6, Net, Place, ROUTER_MAC, Row, plus4, plus6,
};

/// A TCP port that nothing in the inventory names.
const UNGRANTED: u16 = 9;

pub(crate) fn rows(place: &Place<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (family, net) in place.nets() {
        rows.extend(connections(place, &net));
        rows.extend(errors(place, &net));
        rows.extend(gateway_services(place, &net));
        rows.extend(martians(place, &net));
        rows.extend(internet(place, family, &net));
        for other in place
            .model
            .segments
            .iter()
            .filter(|other| other.vlan_id.as_u16() != place.vlan)
        {
            rows.extend(other_segment(place, (family, &net), other));
        }
    }
    rows
}

fn opens(place: &Place<'_>, net: &Net, to: IpAddr) -> Frame {
    place
        .to_router()
        .ip(net.own, to)
        .tcp(40_000, UNGRANTED, tcp_flag::SYN)
}

/// A connection that every segment may open: to the gateway's DNS.
fn dns(place: &Place<'_>, net: &Net, port: u16, flags: u8) -> Frame {
    place.to_gateway(net).tcp(port, 53, flags)
}

fn connections(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{IcmpErrorUnrelated, TcpFlags, TcpNoConnection};
    use tcp_flag::{ACK, FIN, PSH, RST, SYN, SYN_ACK};
    let friendly = |port| Friendly::to_kernel(&dns(place, net, port, SYN));
    let unopened = [
        ("an acknowledgement", ACK, TcpNoConnection),
        ("data", ACK | PSH, TcpNoConnection),
        ("the answer to a SYN", SYN_ACK, TcpNoConnection),
        ("a reset", RST, TcpNoConnection),
        ("an end", FIN | ACK, TcpNoConnection),
        ("no flags", 0, TcpNoConnection),
        ("SYN with FIN", SYN | FIN, TcpFlags),
        ("SYN with RST", SYN | RST, TcpFlags),
        ("every flag", 0x3f, TcpFlags),
    ];
    let mut rows: Vec<_> = (50_000..)
        .zip(unopened)
        .map(|(port, (what, flags, reason))| {
            let forged = (dns(place, net, port, flags), reason);
            place.row(
                8,
                format!("of no connection: {what}"),
                forged,
                friendly(port),
            )
        })
        .collect();
    let opened = [
        ("SYN and ACK", SYN_ACK),
        ("SYN with FIN", SYN | FIN),
        ("SYN with RST", SYN | RST),
    ];
    rows.extend((51_000..).zip(opened).map(|(port, (what, flags))| {
        let forged = (dns(place, net, port, flags), TcpFlags);
        let next = Friendly::to_kernel(&dns(place, net, port, ACK));
        place
            .row(8, format!("from the opener: {what}"), forged, next)
            .before(friendly(port))
    }));
    let reply = (place.to_gateway(net).echo_reply(9, 1), IcmpErrorUnrelated);
    rows.push(place.row(
        8,
        "echo reply of no connection",
        reply,
        place.friendly_echo(net),
    ));
    rows
}

/// Errors that claim to be about a connection which an operator opened to the sender, where there is
/// one; else about a connection of the sender's own.
fn errors(place: &Place<'_>, net: &Net) -> Vec<Row> {
    let unrelated = DropReason::IcmpErrorUnrelated;
    let Some((operator, peer)) = operator(place, net) else {
        let about = place.to_gateway(net).port_unreachable(&[0; 48]);
        return vec![place.row(
            8,
            "error about zeroes",
            (about, unrelated),
            place.friendly_echo(net),
        )];
    };
    let about = |packet: &[u8]| place.to_router().ip(net.own, peer).port_unreachable(packet);
    let opening = operator.to_router().ip(peer, net.own);
    let opened = |port| opening.clone().tcp(port, UNGRANTED, tcp_flag::SYN);
    let quoted = |port| opened(port).build_packet();
    let own = Frame::packet()
        .ip(net.own, peer)
        .tcp(UNGRANTED, 52_000, tcp_flag::SYN_ACK);
    let stranger = Frame::packet()
        .ip(net.free, net.own)
        .tcp(52_000, UNGRANTED, tcp_flag::SYN);
    let udp = opening.clone().udp(52_000, UNGRANTED).build_packet();
    let header = if net.own.is_ipv4() { 20 } else { 40 };
    let to_another = place.to_gateway(net).port_unreachable(&quoted(52_000));
    let control = Friendly {
        frame: about(&quoted(52_000)).build(),
        outcome: FORWARDED,
        to: Some(operator.vlan),
    };
    let scene = Friendly {
        frame: opened(52_000).build(),
        outcome: FORWARDED,
        to: Some(place.vlan),
    };
    [
        ("error about other ports", about(&quoted(52_001))),
        ("error about one's own packet", about(&own.build_packet())),
        (
            "error about another's packet",
            about(&stranger.build_packet()),
        ),
        ("error about another protocol", about(&udp)),
        (
            "error about half a packet",
            about(&quoted(52_000)[..header + 7]),
        ),
        ("error about nothing", about(&[])),
        ("error about zeroes", about(&[0; 48])),
        (
            "error about an operator's packet, to the gateway",
            to_another,
        ),
    ]
    .map(|(what, forged)| {
        let row = place.row(8, what, (forged, unrelated), control.clone());
        row.before(scene.clone())
    })
    .into()
}

/// A bound machine that may open connections to the sender, and its address in the family of `net`.
fn operator<'m>(place: &Place<'m>, net: &Net) -> Option<(Place<'m>, IpAddr)> {
    let Owner::Tenant(tenant) = place.segment().owner else {
        return None;
    };
    if !net.is_bound {
        return None;
    }
    let operators = &place.model.tenant(tenant).trusted_operators;
    operators.iter().find_map(|(zone, _)| {
        let operator = Place::new(place.model, *zone);
        let mut nets = operator.nets();
        let (_, there) =
            nets.find(|(_, there)| there.is_bound && there.own.is_ipv4() == net.own.is_ipv4())?;
        Some((operator.clone(), there.own))
    })
}

fn gateway_services(place: &Place<'_>, net: &Net) -> Vec<Row> {
    if is_declared(place, net.gateway) {
        return Vec::new(); // The router is a host of this segment: everything is allowed.
    }
    let to_gateway = || place.to_gateway(net);
    let mut rows = vec![
        ("gateway: SSH", to_gateway().tcp(40_000, 22, tcp_flag::SYN)),
        ("gateway: web", to_gateway().tcp(40_000, 443, tcp_flag::SYN)),
        (
            "gateway: NTP over TCP",
            to_gateway().tcp(40_000, 123, tcp_flag::SYN),
        ),
        ("gateway: SNMP", to_gateway().udp(40_000, 161)),
        (
            "gateway: GRE",
            to_gateway().protocol(protocol::GRE).payload(&[0; 8]),
        ),
    ];
    if let IpAddr::V6(own) = net.own {
        let router = place.to_router().ipv6(own, link_local(ROUTER_MAC));
        rows.push((
            "gateway's link-local: SSH",
            router.tcp(40_000, 22, tcp_flag::SYN),
        ));
    }
    let control = Friendly::to_kernel(&to_gateway().udp(40_000, 123));
    let row = |(what, forged)| {
        place.row(
            9,
            what,
            (forged, DropReason::GatewayService),
            control.clone(),
        )
    };
    rows.into_iter().map(row).collect()
}

fn martians(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{LinkLocalScope, MartianDestination, SameSegment};
    let v4 = |a: [u8; 4]| IpAddr::V4(a.into());
    let v6 = |a: [u16; 8]| IpAddr::V6(Ipv6Addr::from(a));
    let mut rows = vec![("a neighbour, through the router", net.free, SameSegment)];
    if let Some((_, other)) = net.other {
        rows.push(("a bound neighbour, through the router", other, SameSegment));
    }
    if net.own.is_ipv4() {
        rows.extend([
            ("nobody", v4([0; 4]), MartianDestination),
            ("this network", v4([0, 1, 1, 1]), MartianDestination),
            ("loopback", v4([127, 0, 0, 1]), MartianDestination),
            ("class E", v4([240, 0, 0, 1]), MartianDestination),
        ]);
    } else {
        rows.extend([
            ("nobody", v6([0; 8]), MartianDestination),
            ("loopback", v6([0, 0, 0, 0, 0, 0, 0, 1]), MartianDestination),
            (
                "a mapped address",
                v6([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]),
                MartianDestination,
            ),
            (
                "a compatible address",
                v6([0, 0, 0, 0, 0, 0, 0x0a00, 1]),
                MartianDestination,
            ),
            (
                "a link-local address",
                v6([0xfe80, 0, 0, 0, 0, 0, 0, 0x1234]),
                LinkLocalScope,
            ),
        ]);
    }
    let control = Friendly::to_kernel(&dns(place, net, 53_000, tcp_flag::SYN));
    let row = |(what, to, reason)| {
        place.row(
            9,
            format!("to {what}"),
            (opens(place, net, to), reason),
            control.clone(),
        )
    };
    rows.into_iter().map(row).collect()
}

fn internet(place: &Place<'_>, family: Family, net: &Net) -> Vec<Row> {
    let (internet, excluded): (IpAddr, Vec<IpAddr>) = match family {
        Family::V4 => {
            let excluded = [
                [10, 99, 99, 99],
                [172, 16, 0, 1],
                [192, 168, 1, 1],
                [100, 64, 0, 1],
                [169, 254, 1, 1],
            ];
            (
                INTERNET_V4.into(),
                excluded.map(|a| Ipv4Addr::from(a).into()).into(),
            )
        }
        Family::V6 => {
            let excluded = [
                [0xfd99, 0, 0, 0, 0, 0, 0, 1],
                [0x4000, 0, 0, 0, 0, 0, 0, 1],
                [0xfec0, 0, 0, 0, 0, 0, 0, 1],
            ];
            (
                INTERNET_V6.into(),
                excluded.map(|a: [u16; 8]| Ipv6Addr::from(a).into()).into(),
            )
        }
    };
    let allowed = may_reach_internet(place);
    let control = if allowed {
        Friendly::to_kernel(&opens(place, net, internet))
    } else {
        Friendly::to_kernel(&dns(place, net, 53_001, tcp_flag::SYN))
    };
    let mut rows: Vec<_> = excluded
        .into_iter()
        .map(|to| {
            let forged = (opens(place, net, to), DropReason::NotInternet);
            place.row(
                9,
                format!("to {to}, which is not the internet"),
                forged,
                control.clone(),
            )
        })
        .collect();
    if !allowed {
        let forged = (opens(place, net, internet), DropReason::InternetDenied);
        rows.push(place.row(9, "to the internet", forged, control));
    }
    rows
}

fn may_reach_internet(place: &Place<'_>) -> bool {
    let listed = |wanted| {
        place
            .model
            .internet_zones
            .iter()
            .any(|entry| entry.zone == wanted)
    };
    match place.segment().owner {
        Owner::Platform => listed(Zone::Segment(place.id)),
        Owner::Tenant(tenant) => {
            listed(Zone::Tenants) && place.model.tenant(tenant).internet.is_some()
        }
    }
}

/// Everything of another segment that this one may not reach.
fn other_segment(place: &Place<'_>, from: (Family, &Net), other: &Segment) -> Vec<Row> {
    let (family, net) = from;
    let Some(there) = There::new(place, other, family) else {
        return Vec::new();
    };
    let mut rows = vec![(there.gateway, gateway_reason(place, &there), "gateway")];
    if let Some(reason) = denial(place, other) {
        rows.push((there.nobody, reason, "unknown host"));
        rows.extend(
            there
                .hosts
                .iter()
                .map(|(_, address)| (*address, reason, "host")),
        );
    }
    if let Some(broadcast) = there.broadcast {
        rows.push((
            broadcast,
            DropReason::MartianDestination,
            "broadcast address",
        ));
    }
    rows.push((
        there.network,
        DropReason::MartianDestination,
        "network address",
    ));
    let control = there.control(place, net, other);
    let row = |(to, reason, what)| {
        let what = format!("VLAN {}: {what} {to}", other.vlan_id);
        place.row(9, what, (opens(place, net, to), reason), control.clone())
    };
    rows.into_iter().map(row).collect()
}

/// Addresses of another segment.
struct There {
    gateway: IpAddr,
    network: IpAddr,
    broadcast: Option<IpAddr>,
    nobody: IpAddr,
    /// Hosts whose MAC is known.
    hosts: Vec<([u8; 6], IpAddr)>,
}

impl There {
    fn new(place: &Place<'_>, other: &Segment, family: Family) -> Option<Self> {
        let id = SegmentId(
            place
                .model
                .segments
                .iter()
                .position(|s| s.vlan_id == other.vlan_id)?,
        );
        let hosts = place.model.hosts.iter().filter(|host| !host.is_router);
        let on_it = hosts
            .flat_map(|host| &host.interfaces)
            .filter(|i| i.segment == Some(id));
        let hosts = on_it.filter_map(|interface| {
            let address = match family {
                Family::V4 => interface.ipv4.map(IpAddr::V4),
                Family::V6 => interface.ipv6.map(IpAddr::V6),
            };
            Some((interface.mac?.0, address?))
        });
        let hosts = hosts.collect();
        match family {
            Family::V4 => {
                let subnet = other.ipv4?;
                let network = subnet.net.network();
                Some(Self {
                    gateway: subnet.gateway.into(),
                    network: network.into(),
                    broadcast: Some(subnet.net.broadcast().into()),
                    nobody: plus4(network, 123).into(),
                    hosts,
                })
            }
            Family::V6 => {
                let subnet = other.ipv6?;
                let network = subnet.net.network();
                Some(Self {
                    gateway: subnet.gateway.into(),
                    network: network.into(),
                    broadcast: None,
                    nobody: plus6(network, 0x123).into(),
                    hosts,
                })
            }
        }
    }

    /// The honest twin: a connection that is forwarded there, if anything is.
    fn control(&self, place: &Place<'_>, net: &Net, other: &Segment) -> Friendly {
        match self.hosts.first() {
            Some((_, host)) if denial(place, other).is_none() => Friendly {
                frame: opens(place, net, *host).build(),
                outcome: FORWARDED,
                to: Some(other.vlan_id.as_u16()),
            },
            _ => Friendly::to_kernel(&dns(place, net, 53_002, tcp_flag::SYN)),
        }
    }
}

/// Is this address of the router one of its declared host interfaces?
fn is_declared(place: &Place<'_>, address: IpAddr) -> bool {
    let routers = place.model.hosts.iter().filter(|host| host.is_router);
    routers.flat_map(|host| &host.interfaces).any(|interface| {
        interface.segment.is_some()
            && [
                interface.ipv4.map(IpAddr::V4),
                interface.ipv6.map(IpAddr::V6),
            ]
            .contains(&Some(address))
    })
}

/// Another segment's gateway is the router's, and offers nothing here; declared as a host, it is a
/// host of that segment.
fn gateway_reason(place: &Place<'_>, there: &There) -> DropReason {
    match (is_declared(place, there.gateway), place.is_tenant()) {
        (false, _) => DropReason::RouterAddress,
        (true, true) => DropReason::PlatformAddress,
        (true, false) => DropReason::NoPolicy,
    }
}

/// Why a connection to [`UNGRANTED`] on another segment is denied; `None` if it is allowed.
fn denial(place: &Place<'_>, other: &Segment) -> Option<DropReason> {
    let zone_allows = |to| {
        let mut policies = place.model.policies.iter();
        policies.any(|policy| policy.from == Zone::Segment(place.id) && policy.to == to)
    };
    let other_id = SegmentId(
        place
            .model
            .segments
            .iter()
            .position(|s| s.vlan_id == other.vlan_id)?,
    );
    match (place.segment().owner, other.owner) {
        (Owner::Platform, Owner::Platform) => {
            (!zone_allows(Zone::Segment(other_id))).then_some(DropReason::NoPolicy)
        }
        (Owner::Platform, Owner::Tenant(tenant)) => {
            let operators = &place.model.tenant(tenant).trusted_operators;
            let trusted = operators.iter().any(|(zone, _)| *zone == place.id);
            (!trusted && !zone_allows(Zone::Tenants)).then_some(DropReason::NoPolicy)
        }
        (Owner::Tenant(_), Owner::Platform) => Some(DropReason::PlatformAddress),
        (Owner::Tenant(own), Owner::Tenant(others)) if own == others => {
            // The inventory of these tests denies the port in the one tenant with two segments.
            let denies = place
                .model
                .tenant(own)
                .rules
                .iter()
                .any(|rule| rule.to == netmodel::model::RuleTo::Segment(other_id));
            denies.then_some(DropReason::TenantRule)
        }
        (Owner::Tenant(_), Owner::Tenant(_)) => Some(DropReason::OtherTenant),
    }
}
