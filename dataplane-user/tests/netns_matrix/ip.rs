//! Sections 3 to 5 and 7: the shape of IP, sources, multicast, servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_common::reason::DropReason;
use testkit::frame::{
    BROADCAST, Frame, link_local, multicast_mac_v4, multicast_mac_v6, protocol, tcp_flag,
};

use crate::place::{
    Family, Friendly, INTERNET_V4, INTERNET_V6, Net, Place, ROUTER_MAC, Row, UNKNOWN_MAC,
};

pub(crate) fn rows(place: &Place<'_>) -> Vec<Row> {
    if place.is_blackhole() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (family, net) in place.nets() {
        rows.extend(shapes(place, &net));
        rows.extend(fragments(place, &net));
        rows.extend(sources(place, family, &net));
        rows.extend(servers(place, &net));
        match family {
            Family::V4 => rows.extend([shapes_v4(place, &net), groups_v4(place, &net)].concat()),
            Family::V6 => rows.extend([shapes_v6(place, &net), groups_v6(place, &net)].concat()),
        }
    }
    rows.extend(missing_family(place));
    rows
}

/// A packet of a family that the segment has no subnet of.
fn missing_family(place: &Place<'_>) -> Vec<Row> {
    let row = |frame: Frame| {
        let forged = (frame.udp(40_000, 53), DropReason::SourceNotInSegment);
        place.row(
            3,
            "a family that the segment has not",
            forged,
            place.any_friendly(),
        )
    };
    let mut rows = Vec::new();
    if place.v4.is_none() {
        rows.push(row(place
            .to_router()
            .ipv4(Ipv4Addr::new(10, 0, 0, 66), INTERNET_V4)));
    }
    if place.v6.is_none() {
        let source = Ipv6Addr::new(0xfd00, 0x66, 0, 0, 0, 0, 0, 0x66);
        rows.push(row(place.to_router().ipv6(source, INTERNET_V6)));
    }
    rows
}

fn shapes(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{IpMalformed, MacIpMismatch, TinyFragment, Truncated};
    let to_gateway = || place.to_gateway(net);
    let icmp = if net.own.is_ipv4() {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    let cut = |number, octets: usize| to_gateway().protocol(number).payload(&vec![0; octets]);
    let first = |number, octets| cut(number, octets).fragment(0, true);
    let rows = [
        ("another version", place.echo(net).version(5), IpMalformed),
        (
            "longer than the frame",
            place.echo(net).total_length(2000),
            IpMalformed,
        ),
        (
            "one octet longer than the frame",
            place.echo(net).cut(place.echo(net).build().len() - 1),
            IpMalformed,
        ),
        (
            "broadcast frame, unicast packet",
            place.echo(net).destination_mac(BROADCAST),
            MacIpMismatch,
        ),
        (
            "multicast frame, unicast packet",
            place.echo(net).destination_mac([1, 0, 0x5e, 0, 0, 5]),
            MacIpMismatch,
        ),
        ("TCP header cut off", cut(protocol::TCP, 19), Truncated),
        ("UDP header cut off", cut(protocol::UDP, 7), Truncated),
        ("ICMP header cut off", cut(icmp, 7), Truncated),
        ("no transport at all", cut(protocol::TCP, 0), Truncated),
        (
            "first fragment with the ports only",
            first(protocol::TCP, 8),
            TinyFragment,
        ),
        (
            "first fragment without the flags' end",
            first(protocol::TCP, 16),
            TinyFragment,
        ),
        (
            "first fragment without UDP",
            first(protocol::UDP, 0),
            TinyFragment,
        ),
        ("first fragment without ICMP", first(icmp, 0), TinyFragment),
    ];
    let row =
        |(what, forged, reason)| place.row(3, what, (forged, reason), place.friendly_echo(net));
    rows.map(row).into()
}

fn shapes_v4(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{IpMalformed, IpOptions, MacIpMismatch};
    let echo = || place.echo(net);
    let options = |options: &[u8]| echo().ipv4_options(options);
    let IpAddr::V4(own) = net.own else {
        return Vec::new();
    };
    let group = place.to_router().ipv4(own, Ipv4Addr::BROADCAST).udp(68, 67);
    // With options the answer is the kernel's.
    let with_options = || Friendly::to_kernel(&options(&[1; 8]));
    let rows = [
        ("header of four words", echo().header_words(4), IpMalformed),
        (
            "header longer than the packet",
            echo().header_words(15),
            IpMalformed,
        ),
        (
            "total length shorter than the header",
            echo().total_length(19),
            IpMalformed,
        ),
        (
            "loose source route",
            options(&[131, 7, 4, 10, 0, 0, 1]),
            IpOptions,
        ),
        (
            "strict source route behind others",
            options(&[1, 1, 137, 7, 4, 10, 0, 0, 1]),
            IpOptions,
        ),
        ("nine options", options(&[1; 9]), IpOptions),
        (
            "option longer than the header",
            options(&[7, 40, 4, 0]),
            IpOptions,
        ),
        ("option of length one", options(&[7, 1, 4, 0]), IpOptions),
        (
            "option without its length",
            options(&[1, 1, 1, 7]),
            IpOptions,
        ),
        ("unicast frame, broadcast packet", group, MacIpMismatch),
    ];
    rows.map(|(what, forged, reason)| place.row(3, what, (forged, reason), with_options()))
        .into()
}

fn shapes_v6(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{IpOptions, MacIpMismatch};
    let echo = || place.echo(net);
    let options = |count| {
        (0..count).fold(echo(), |frame, _| {
            frame.extension(protocol::DESTINATION_OPTIONS, &[])
        })
    };
    let hop_by_hop_second = options(1).extension(protocol::HOP_BY_HOP, &[]);
    let IpAddr::V6(own) = net.own else {
        return Vec::new();
    };
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let group = place.to_router().ipv6(own, all_nodes).udp(5353, 5353);
    let rows = [
        ("seven extension headers", options(7), IpOptions),
        ("hop-by-hop not first", hop_by_hop_second, IpOptions),
        (
            "routing header",
            echo().extension(protocol::ROUTING, &[0; 6]),
            IpOptions,
        ),
        (
            "routing header behind options",
            options(1).extension(protocol::ROUTING, &[4, 0]),
            IpOptions,
        ),
        (
            "authentication header",
            echo().extension(protocol::AH, &[0; 14]),
            IpOptions,
        ),
        ("mobility header", echo().extension(135, &[0; 6]), IpOptions),
        (
            "host identity header",
            echo().extension(139, &[0; 6]),
            IpOptions,
        ),
        ("shim6 header", echo().extension(140, &[0; 6]), IpOptions),
        ("unicast frame, multicast packet", group, MacIpMismatch),
    ];
    let control = || Friendly::to_kernel(&options(6));
    rows.map(|(what, forged, reason)| place.row(3, what, (forged, reason), control()))
        .into()
}

fn fragments(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{FragmentWithoutFirst, OverlappingFragment};
    let number = |id: u32| place.to_gateway(net).identification(0x5000 + id);
    let first = |id| {
        number(id)
            .udp(40_000, 53)
            .payload(&[0; 16])
            .fragment(0, true)
    };
    let later = |id, offset| {
        number(id)
            .protocol(protocol::UDP)
            .payload(&[0; 8])
            .fragment(offset, false)
    };
    let begun = |id| Friendly::to_kernel(&first(id));
    let honest = |id| Friendly::to_kernel(&later(id, 24));
    let stranger = later(3, 24).source_mac(UNKNOWN_MAC);
    let tcp = later(4, 24).protocol(protocol::TCP);
    let overlapping = |what, id, offset| {
        place
            .row(
                3,
                what,
                (later(id, offset), OverlappingFragment),
                honest(id),
            )
            .before(begun(id))
    };
    let mut rows = vec![
        overlapping("later fragment over the header", 0, 8),
        overlapping("later fragment over the first's end", 1, 16),
        place
            .row(
                3,
                "later fragment of nothing",
                (later(9, 24), FragmentWithoutFirst),
                honest(2),
            )
            .before(begun(2)),
        place
            .row(
                3,
                "later fragment of another protocol",
                (tcp, FragmentWithoutFirst),
                honest(4),
            )
            .before(begun(4)),
    ];
    if net.is_bound {
        let forged = (stranger, FragmentWithoutFirst);
        let row = place.row(3, "later fragment from another MAC", forged, honest(3));
        rows.push(row.before(begun(3)));
    }
    rows
}

fn sources(place: &Place<'_>, family: Family, net: &Net) -> Vec<Row> {
    use DropReason::{GatewayClaim, SourceNotInSegment, SpoofedSource};
    let from = |source: IpAddr| place.to_router().ip(source, net.gateway).echo_request(7, 1);
    let stranger = || place.echo(net).source_mac(UNKNOWN_MAC);
    let internet: IpAddr = if net.own.is_ipv4() {
        INTERNET_V4.into()
    } else {
        INTERNET_V6.into()
    };
    let mut rows = vec![
        ("source: the gateway", from(net.gateway), GatewayClaim),
        (
            "source: another segment",
            from(place.elsewhere(family)),
            SourceNotInSegment,
        ),
        ("source: the internet", from(internet), SourceNotInSegment),
        (
            "source: the network address",
            from(net.network),
            SourceNotInSegment,
        ),
    ];
    if let Some(broadcast) = net.broadcast {
        rows.push((
            "source: the broadcast address",
            from(broadcast),
            SourceNotInSegment,
        ));
    }
    if net.is_bound {
        rows.push((
            "source: a bound address, another MAC",
            stranger(),
            SpoofedSource,
        ));
        rows.push((
            "source: a bound MAC, another address",
            from(net.free),
            SpoofedSource,
        ));
    }
    if let Some((_, others)) = net.other {
        rows.push((
            "source: another's bound address",
            from(others),
            SpoofedSource,
        ));
    }
    match family {
        Family::V4 => rows.extend(sources_v4(place, net)),
        Family::V6 => rows.extend(sources_v6(place, net)),
    }
    let row =
        |(what, forged, reason)| place.row(4, what, (forged, reason), place.friendly_echo(net));
    rows.into_iter().map(row).collect()
}

fn sources_v4(place: &Place<'_>, net: &Net) -> Vec<(&'static str, Frame, DropReason)> {
    use DropReason::{MartianSource, SourceNotInSegment};
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let to_gateway = || place.to_router().ip(nobody, net.gateway);
    let to_all = || {
        place
            .to_all()
            .ipv4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)
    };
    let mut rows = vec![
        (
            "source 0.0.0.0: echo",
            to_gateway().echo_request(7, 1),
            SourceNotInSegment,
        ),
        (
            "source 0.0.0.0: DHCP to the gateway",
            to_gateway().udp(68, 67),
            SourceNotInSegment,
        ),
        (
            "source 0.0.0.0: DNS",
            to_gateway().udp(40_000, 53),
            SourceNotInSegment,
        ),
        (
            "source 0.0.0.0: not from the client's port",
            to_all().udp(1068, 67),
            SourceNotInSegment,
        ),
        (
            "source 0.0.0.0: a fragment of DHCP",
            { to_all().udp(68, 67).payload(&[0; 16]).fragment(0, true) },
            SourceNotInSegment,
        ),
    ];
    for (what, source) in [
        ("source: this network", [0, 1, 2, 3]),
        ("source: loopback", [127, 0, 0, 1]),
        ("source: multicast", [224, 0, 0, 1]),
        ("source: class E", [240, 0, 0, 1]),
        ("source: limited broadcast", [255; 4]),
    ] {
        let forged = place
            .to_router()
            .ip(Ipv4Addr::from(source).into(), net.gateway);
        rows.push((what, forged.echo_request(7, 1), MartianSource));
    }
    rows
}

fn sources_v6(place: &Place<'_>, net: &Net) -> Vec<(&'static str, Frame, DropReason)> {
    use DropReason::{GatewayClaim, LinkLocalScope, MartianSource, SourceNotInSegment};
    let IpAddr::V6(gateway) = net.gateway else {
        return Vec::new();
    };
    let from = |source, to| place.to_router().ipv6(source, to).echo_request(7, 1);
    let local = place.link_local();
    let router = link_local(ROUTER_MAC);
    let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let compatible = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0x0a00, 5);
    vec![
        (
            "source ::",
            from(Ipv6Addr::UNSPECIFIED, gateway),
            SourceNotInSegment,
        ),
        (
            "source: loopback",
            from(Ipv6Addr::LOCALHOST, gateway),
            MartianSource,
        ),
        ("source: multicast", from(group, gateway), MartianSource),
        (
            "source: a mapped address",
            from(mapped, gateway),
            MartianSource,
        ),
        (
            "source: a compatible address",
            from(compatible, gateway),
            MartianSource,
        ),
        (
            "source: the router's link-local",
            from(router, router),
            GatewayClaim,
        ),
        (
            "link-local source to the gateway",
            from(local, gateway),
            LinkLocalScope,
        ),
        (
            "link-local source to the internet",
            from(local, INTERNET_V6),
            LinkLocalScope,
        ),
    ]
}

fn groups_v4(place: &Place<'_>, net: &Net) -> Vec<Row> {
    let IpAddr::V4(own) = net.own else {
        return Vec::new();
    };
    let to = |group: [u8; 4]| {
        let group = Ipv4Addr::from(group);
        place
            .to_router()
            .destination_mac(multicast_mac_v4(group))
            .ipv4(own, group)
    };
    let to_all = || place.to_all().ipv4(own, Ipv4Addr::BROADCAST);
    let rows = [
        ("multicast DNS", to([224, 0, 0, 251]).udp(5353, 5353)),
        (
            "service discovery",
            to([239, 255, 255, 250]).udp(40_000, 1900),
        ),
        (
            "IGMP",
            to([224, 0, 0, 22])
                .protocol(2)
                .payload(&[0x22, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("OSPF", to([224, 0, 0, 5]).protocol(89).payload(&[0; 24])),
        ("broadcast to another port", to_all().udp(40_000, 9)),
        (
            "broadcast to DHCP's port from another",
            to_all().udp(40_000, 67),
        ),
        ("broadcast of TCP", to_all().tcp(68, 67, tcp_flag::SYN)),
    ];
    let control = Friendly::to_kernel(&place.to_all().dhcp_discover());
    let forbidden = DropReason::MulticastNotAllowed;
    rows.map(|(what, forged)| place.row(5, what, (forged, forbidden), control.clone()))
        .into()
}

fn groups_v6(place: &Place<'_>, net: &Net) -> Vec<Row> {
    let IpAddr::V6(own) = net.own else {
        return Vec::new();
    };
    let to = |source: Ipv6Addr, group: [u16; 8]| {
        let group = Ipv6Addr::from(group);
        place
            .to_router()
            .destination_mac(multicast_mac_v6(group))
            .ipv6(source, group)
    };
    let relays = [0xff02, 0, 0, 0, 0, 0, 1, 2];
    let rows = [
        (
            "multicast DNS",
            to(own, [0xff02, 0, 0, 0, 0, 0, 0, 0xfb]).udp(5353, 5353),
        ),
        (
            "echo to all nodes",
            to(own, [0xff02, 0, 0, 0, 0, 0, 0, 1]).echo_request(7, 1),
        ),
        (
            "DHCPv6 from a global address",
            to(own, relays).udp(546, 547),
        ),
        (
            "DHCPv6 to the site's servers",
            to(own, [0xff05, 0, 0, 0, 0, 0, 1, 3]).udp(546, 547),
        ),
        (
            "DHCPv6 from another port",
            to(place.link_local(), relays).udp(40_000, 547),
        ),
        (
            "site-wide multicast",
            to(own, [0xff05, 0, 0, 0, 0, 0, 0, 2]).udp(40_000, 9),
        ),
    ];
    let control = Friendly::to_kernel(&to(place.link_local(), relays).udp(546, 547));
    let forbidden = DropReason::MulticastNotAllowed;
    rows.map(|(what, forged)| place.row(5, what, (forged, forbidden), control.clone()))
        .into()
}

fn servers(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{DhcpServer, IcmpRedirect, IcmpType};
    let to_gateway = || place.to_gateway(net);
    let is_v4 = net.own.is_ipv4();
    let (client, server) = if is_v4 { (68, 67) } else { (546, 547) };
    let types: &[u8] = if is_v4 {
        &[1, 2, 4, 6, 9, 10, 13, 14, 15, 17, 18, 30, 40, 42, 43, 255]
    } else {
        &[
            0, 5, 100, 127, 138, 139, 140, 141, 144, 151, 155, 160, 200, 255,
        ]
    };
    let mut rows = vec![
        (
            "DHCP to a client's port".to_owned(),
            to_gateway().udp(40_000, client),
            DhcpServer,
        ),
        (
            "DHCP from a server's port".to_owned(),
            to_gateway().udp(server, 53),
            DhcpServer,
        ),
        (
            "DHCP as a server".to_owned(),
            to_gateway().udp(server, client),
            DhcpServer,
        ),
    ];
    if is_v4 {
        let redirect = to_gateway().icmp(5, 1, [10, 0, 0, 66]).payload(&[0; 28]);
        rows.push(("redirect".to_owned(), redirect, IcmpRedirect));
    }
    for kind in types {
        let forged = to_gateway().icmp(*kind, 0, [0; 4]).payload(&[0; 20]);
        rows.push((format!("ICMP type {kind}"), forged, IcmpType));
    }
    let control = Friendly::to_kernel(&to_gateway().udp(40_000, 53).payload(b"query"));
    let row = |(what, forged, reason)| place.row(7, what, (forged, reason), control.clone());
    rows.into_iter().map(row).collect()
}
