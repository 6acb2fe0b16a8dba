//! Sections 1 and 2: the link layer, ARP and RARP.

use std::net::{IpAddr, Ipv4Addr};

use dataplane_common::reason::DropReason;
use testkit::frame::{BROADCAST, Frame, ether_type};

use crate::place::{Family, Friendly, NOBODY_MAC, Net, Place, ROUTER_MAC, Row, UNKNOWN_MAC};

/// VLAN ids that carry no segment in any inventory of these tests.
const UNKNOWN_VLANS: [u16; 3] = [2, 4094, 4095];

pub(crate) fn rows(place: &Place<'_>) -> Vec<Row> {
    if place.is_blackhole() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (_, net) in place.nets() {
        rows.extend(tags(place, &net));
        rows.extend(macs(place, &net));
    }
    rows.extend(ether_types(place));
    match place.v4 {
        Some(net) => rows.extend(arp(place, &net)),
        None => {
            let forged = place
                .to_all()
                .arp_request(Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST);
            let forged = (forged, DropReason::ArpMalformed);
            rows.push(place.row(
                2,
                "ARP where there is no IPv4",
                forged,
                place.any_friendly(),
            ));
        }
    }
    rows
}

/// Frames of every kind into a VLAN where nothing passes. The control is another segment's.
pub(crate) fn blackhole_rows(place: &Place<'_>, elsewhere: &Place<'_>) -> Vec<Row> {
    let (_, net) = elsewhere.nets().next().expect("a segment with a subnet");
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let all = || Frame::new(UNKNOWN_MAC, BROADCAST).vlan(place.vlan);
    let frames = [
        (
            "IP into a blackhole",
            elsewhere.echo(&net).untagged().vlan(place.vlan),
        ),
        ("ARP into a blackhole", all().arp_request(address, address)),
        ("DHCP into a blackhole", all().dhcp_discover()),
        (
            "LLDP into a blackhole",
            all().ether_type(ether_type::LLDP).payload(&[0; 46]),
        ),
    ];
    let row = |(what, forged)| {
        place.row(
            1,
            what,
            (forged, DropReason::BlackholeSegment),
            elsewhere.friendly_echo(&net),
        )
    };
    frames.map(row).into()
}

fn tags(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{DoubleTag, PriorityTag, UnknownVlan, Untagged};
    let vlan = place.vlan;
    let bare = || place.echo(net).untagged();
    let tagged = || place.echo(net);
    let row = |what: &str, forged: Frame, reason| {
        place.row(1, what, (forged, reason), place.friendly_echo(net))
    };
    // Priority bits beside a right VLAN id are fine.
    let with_priority = Friendly::answered(&bare().tag(ether_type::VLAN, 0xe000 | vlan));
    let mut rows = vec![
        row("no tag", bare(), Untagged).counted_on(0),
        row(
            "service tag alone",
            bare().tag(ether_type::SERVICE_VLAN, vlan),
            DoubleTag,
        )
        .counted_on(0),
        row(
            "old service tag alone",
            bare().tag(ether_type::OLD_QINQ, vlan),
            DoubleTag,
        )
        .counted_on(0),
        row(
            "service tag outside",
            bare().tag(ether_type::SERVICE_VLAN, vlan).vlan(vlan),
            DoubleTag,
        )
        .counted_on(0),
        row("priority tag", bare().vlan(0), PriorityTag).counted_on(0),
        Row {
            control: with_priority,
            ..row(
                "priority tag with priority",
                bare().tag(ether_type::VLAN, 0xe000),
                PriorityTag,
            )
        }
        .counted_on(0),
        row("same tag twice", tagged().vlan(vlan), DoubleTag),
        row(
            "another VLAN behind the own",
            tagged().vlan(vlan ^ 1),
            DoubleTag,
        ),
        row("priority tag behind the own", tagged().vlan(0), DoubleTag),
        row(
            "service tag behind the own",
            tagged().tag(ether_type::SERVICE_VLAN, vlan),
            DoubleTag,
        ),
        row(
            "old service tag behind",
            tagged().tag(ether_type::OLD_QINQ, vlan),
            DoubleTag,
        ),
    ];
    for unknown in UNKNOWN_VLANS {
        let what = format!("VLAN {unknown}");
        rows.push(row(&what, bare().vlan(unknown), UnknownVlan).counted_on(unknown));
        let what = format!("VLAN {unknown} with the own behind");
        rows.push(row(&what, bare().vlan(unknown).vlan(vlan), UnknownVlan).counted_on(unknown));
    }
    rows
}

fn macs(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{BadSourceMac, NotForRouter, RouterMacSpoof, Truncated};
    let echo = || place.echo(net);
    let header = if net.own.is_ipv4() { 20 } else { 40 };
    let rows = [
        (
            "source MAC multicast",
            echo().source_mac([1, 0, 0x5e, 0, 0, 1]),
            BadSourceMac,
        ),
        (
            "source MAC broadcast",
            echo().source_mac(BROADCAST),
            BadSourceMac,
        ),
        ("source MAC zero", echo().source_mac([0; 6]), BadSourceMac),
        (
            "source MAC the router's",
            echo().source_mac(ROUTER_MAC),
            RouterMacSpoof,
        ),
        (
            "unicast to another machine",
            echo().destination_mac(NOBODY_MAC),
            NotForRouter,
        ),
        (
            "unicast to oneself",
            echo().destination_mac(place.mac),
            NotForRouter,
        ),
        ("IP header cut off", echo().cut(18 + header - 1), Truncated),
        ("IP header cut to two octets", echo().cut(20), Truncated),
    ];
    let row =
        |(what, forged, reason)| place.row(1, what, (forged, reason), place.friendly_echo(net));
    rows.map(row).into()
}

fn ether_types(place: &Place<'_>) -> Vec<Row> {
    let types = [
        ("LLDP", ether_type::LLDP),
        ("PPPoE discovery", 0x8863),
        ("MPLS", 0x8847),
        ("EAPOL", 0x888e),
        ("an experiment", 0x88b5),
        ("802.3 with LLC, as spanning tree has", 0x0026),
        ("a loopback test", 0x9000),
    ];
    let row = |(what, number)| {
        let forged = place.to_all().ether_type(number).payload(&[0x42; 46]);
        let forged = (forged, DropReason::UnknownEtherType);
        place.row(
            1,
            format!("EtherType of {what}"),
            forged,
            place.any_friendly(),
        )
    };
    types.map(row).into()
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("{address} is not IPv4"),
    }
}

fn arp(place: &Place<'_>, net: &Net) -> Vec<Row> {
    let mut rows = arp_shapes(place, net);
    rows.extend(arp_claims(place, net));
    if net.is_bound {
        rows.extend(arp_bindings(place, net));
    }
    rows
}

/// Who has the gateway? Answered.
fn request(place: &Place<'_>, net: &Net) -> Frame {
    place.to_all().arp_request(v4(net.own), v4(net.gateway))
}

fn arp_shapes(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{ArpMalformed, Truncated};
    let (own, gateway) = (v4(net.own), v4(net.gateway));
    let request = || request(place, net);
    let operation = |number| {
        place
            .to_all()
            .arp(number, (place.mac, own), ([0; 6], gateway))
    };
    let rarp = || {
        place
            .to_all()
            .arp(3, (place.mac, own), (place.mac, own))
            .rarp(3)
    };
    let answered = Friendly::answered(&request());
    let rows = [
        (
            "ARP cut off",
            request().cut(18 + 27),
            Truncated,
            answered.clone(),
        ),
        (
            "ARP for another hardware",
            request().arp_format(6, 0x800, [6, 4]),
            ArpMalformed,
            answered.clone(),
        ),
        (
            "ARP for another protocol",
            request().arp_format(1, 0x86dd, [6, 4]),
            ArpMalformed,
            answered.clone(),
        ),
        (
            "ARP with long hardware addresses",
            request().arp_format(1, 0x800, [8, 4]),
            ArpMalformed,
            answered.clone(),
        ),
        (
            "ARP with long protocol addresses",
            request().arp_format(1, 0x800, [6, 16]),
            ArpMalformed,
            answered.clone(),
        ),
        (
            "ARP operation 0",
            operation(0),
            ArpMalformed,
            answered.clone(),
        ),
        (
            "ARP with a RARP operation",
            operation(3),
            ArpMalformed,
            answered,
        ),
        (
            "RARP with an ARP operation",
            rarp().rarp(1),
            ArpMalformed,
            Friendly::to_kernel(&rarp()),
        ),
        (
            "RARP operation 5",
            rarp().rarp(5),
            ArpMalformed,
            Friendly::to_kernel(&rarp().rarp(4)),
        ),
    ];
    let row = |(what, forged, reason, control)| place.row(2, what, (forged, reason), control);
    rows.map(row).into()
}

fn arp_claims(place: &Place<'_>, net: &Net) -> Vec<Row> {
    use DropReason::{ArpSenderMismatch, GatewayClaim};
    let (own, gateway) = (v4(net.own), v4(net.gateway));
    let mac = place.mac;
    let says = |sender: Ipv4Addr| place.to_all().arp_request(sender, gateway);
    let replies = |sender: Ipv4Addr| place.to_router().arp_reply(sender, gateway);
    let rarp = |sender| place.to_all().arp(4, (mac, sender), (mac, own)).rarp(4);
    let other_mac = |operation| {
        place
            .to_all()
            .arp(operation, (NOBODY_MAC, own), ([0; 6], gateway))
    };
    let elsewhere = v4(place.elsewhere(Family::V4));
    let broadcast = v4(net.broadcast.expect("IPv4 has one"));
    let reply = Friendly::to_kernel(&replies(own));
    let probe = Friendly::to_kernel(&says(Ipv4Addr::UNSPECIFIED));
    let announcement = Friendly::to_kernel(&place.to_all().gratuitous_arp(own));
    let honest_rarp = Friendly::to_kernel(&rarp(own));
    let asked = Friendly::answered(&request(place, net));
    let rows = [
        (
            "ARP request in another's name",
            other_mac(1),
            ArpSenderMismatch,
            asked.clone(),
        ),
        (
            "ARP reply in another's name",
            other_mac(2),
            ArpSenderMismatch,
            reply.clone(),
        ),
        (
            "RARP in another's name",
            other_mac(3).rarp(3),
            ArpSenderMismatch,
            honest_rarp.clone(),
        ),
        (
            "ARP reply as the gateway",
            replies(gateway),
            GatewayClaim,
            reply,
        ),
        (
            "gratuitous ARP as the gateway",
            place.to_all().gratuitous_arp(gateway),
            GatewayClaim,
            announcement,
        ),
        (
            "ARP request as the gateway",
            says(gateway),
            GatewayClaim,
            probe,
        ),
        (
            "RARP reply as the gateway",
            rarp(gateway),
            GatewayClaim,
            honest_rarp.clone(),
        ),
        (
            "ARP from another segment's address",
            says(elsewhere),
            ArpSenderMismatch,
            asked.clone(),
        ),
        (
            "ARP from the network address",
            says(v4(net.network)),
            ArpSenderMismatch,
            asked.clone(),
        ),
        (
            "ARP from the broadcast address",
            says(broadcast),
            ArpSenderMismatch,
            asked,
        ),
        (
            "RARP from another segment's address",
            rarp(elsewhere),
            ArpSenderMismatch,
            honest_rarp,
        ),
    ];
    let row = |(what, forged, reason, control)| place.row(2, what, (forged, reason), control);
    rows.map(row).into()
}

/// The sender is bound: its MAC has its address, its address has its MAC.
fn arp_bindings(place: &Place<'_>, net: &Net) -> Vec<Row> {
    let (own, gateway, free) = (v4(net.own), v4(net.gateway), v4(net.free));
    let asked = || Friendly::answered(&request(place, net));
    let stranger = || place.to_all().source_mac(UNKNOWN_MAC);
    let mut rows = vec![
        (
            "ARP: a bound address, another MAC",
            stranger().arp_request(own, gateway),
        ),
        (
            "ARP: a bound MAC, another address",
            place.to_all().arp_request(free, gateway),
        ),
        ("RARP: a bound MAC, another address", {
            place
                .to_all()
                .arp(3, (place.mac, free), (place.mac, free))
                .rarp(3)
        }),
    ];
    if let Some((_, others)) = net.other {
        rows.push((
            "ARP: another's bound address",
            place.to_all().arp_request(v4(others), gateway),
        ));
    }
    let mismatch = DropReason::ArpSenderMismatch;
    rows.into_iter()
        .map(|(what, forged)| place.row(2, what, (forged, mismatch), asked()))
        .collect()
}
