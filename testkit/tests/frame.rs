//! The builder against an independent parser (`etherparse`), and the parser against the builder.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use testkit::frame::role::{GATEWAY_V4, GATEWAY_V6, INTERNET_V4, ROUTER_MAC, TENANT_A, TENANT_B};
use testkit::frame::{
    Frame, ParsedFrame, fragments, link_local, protocol, solicited_node, tcp_flag,
};

fn frame() -> Frame {
    Frame::new(TENANT_A.mac, ROUTER_MAC)
}

/// Checks with etherparse that lengths, checksums and the transport are as a stack would make them.
fn assert_well_formed(description: &str, bytes: &[u8]) {
    let sliced =
        SlicedPacket::from_ethernet(bytes).unwrap_or_else(|error| panic!("{description}: {error}"));
    let (source, destination) = match sliced.net.as_ref().expect(description) {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
            )
        }
        NetSlice::Arp(_) => panic!("{description}: not IP"),
    };
    let transport = sliced.transport.expect(description);
    assert!(
        checksum_is_right(&transport, source, destination),
        "{description}: checksum"
    );
    assert!(
        ParsedFrame::parse(bytes).expect(description).checksums_ok,
        "{description}: parser"
    );
}

fn checksum_is_right(transport: &TransportSlice<'_>, source: IpAddr, to: IpAddr) -> bool {
    match (transport, source, to) {
        (TransportSlice::Tcp(tcp), IpAddr::V4(a), IpAddr::V4(b)) => {
            tcp.calc_checksum_ipv4(a.octets(), b.octets()) == Ok(tcp.checksum())
        }
        (TransportSlice::Tcp(tcp), IpAddr::V6(a), IpAddr::V6(b)) => {
            tcp.calc_checksum_ipv6(a.octets(), b.octets()) == Ok(tcp.checksum())
        }
        (TransportSlice::Udp(udp), IpAddr::V4(a), IpAddr::V4(b)) => {
            let header = udp.to_header();
            let right = header.calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload());
            right == Ok(udp.checksum())
        }
        (TransportSlice::Udp(udp), IpAddr::V6(a), IpAddr::V6(b)) => {
            let header = udp.to_header();
            let right = header.calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload());
            right == Ok(udp.checksum())
        }
        (TransportSlice::Icmpv4(icmp), IpAddr::V4(_), _) => {
            let right = icmp.icmp_type().calc_checksum(icmp.payload());
            right == icmp.checksum()
        }
        (TransportSlice::Icmpv6(icmp), IpAddr::V6(a), IpAddr::V6(b)) => {
            icmp.is_checksum_valid(a.octets(), b.octets())
        }
        _ => false,
    }
}

#[test]
fn every_honest_packet_is_well_formed() {
    let v4 = || frame().vlan(100).ipv4(TENANT_A.ipv4, INTERNET_V4);
    let v6 = || frame().vlan(100).ipv6(TENANT_A.ipv6, GATEWAY_V6);
    let local = link_local(TENANT_A.mac);
    let group = solicited_node(TENANT_A.ipv6);
    let quoted = v4().udp(1, 53).build_packet();
    let rows = [
        (
            "tcp v4",
            v4().tcp(40_000, 443, tcp_flag::SYN).sequence(7, 8),
        ),
        (
            "tcp v6, odd payload",
            v6().tcp(40_000, 443, tcp_flag::SYN_ACK).payload(b"odd"),
        ),
        ("udp v4", v4().udp(40_000, 53).payload(b"question")),
        ("udp v6", v6().udp(40_000, 53).payload(b"question")),
        ("echo v4", v4().echo_request(7, 1).payload(&[1; 56])),
        ("echo v6", v6().echo_request(7, 1).payload(&[1; 56])),
        ("icmp error", v4().port_unreachable(&quoted)),
        ("icmpv6 error", v6().packet_too_big(1280, &quoted)),
        ("options", v4().ipv4_options(&[1, 1, 1]).udp(1, 2)),
        (
            "extension",
            v6().extension(protocol::DESTINATION_OPTIONS, &[]).udp(1, 2),
        ),
        ("two tags", v4().vlan(7).udp(1, 2)),
        ("dhcp", frame().vlan(100).dhcp_discover()),
        (
            "rs",
            frame()
                .ipv6(local, group)
                .router_solicitation()
                .link_layer_option(false),
        ),
        ("ra", frame().ipv6(local, group).router_advertisement()),
        (
            "ns",
            frame()
                .ipv6(local, group)
                .neighbour_solicitation(GATEWAY_V6),
        ),
        (
            "na",
            v6().neighbour_advertisement(TENANT_A.ipv6)
                .link_layer_option(true),
        ),
        ("redirect", v6().nd_redirect(TENANT_B.ipv6, GATEWAY_V6)),
        ("mld v1", frame().ipv6(local, group).mld_report_v1(group)),
        ("mld v2", frame().ipv6(local, group).mld_report_v2(group)),
    ];
    for (description, row) in rows {
        assert_well_formed(description, &row.build());
    }
}

#[test]
fn overrides_reach_the_wire() {
    let base = || {
        frame()
            .ipv4(TENANT_A.ipv4, INTERNET_V4)
            .udp(1, 2)
            .payload(&[9; 8])
    };
    assert_eq!(base().version(5).build()[14] >> 4, 5);
    assert_eq!(base().header_words(4).build()[14] & 0xf, 4);
    assert_eq!(
        base().total_length(999).build()[16..18],
        999u16.to_be_bytes()
    );
    assert_eq!(base().fragment(16, true).build()[20..22], [0x20, 2]);
    assert_eq!(
        base().network_checksum(0xdead).build()[24..26],
        [0xde, 0xad]
    );
    assert_eq!(base().protocol(99).build()[23], 99);
    assert_eq!(base().udp_length(3).build()[38..40], [0, 3]);
    assert_eq!(
        base().transport_checksum(0xbeef).build()[40..42],
        [0xbe, 0xef]
    );
    assert_eq!(base().ether_type(0x1234).build()[12..14], [0x12, 0x34]);
    assert_eq!(base().cut(20).build().len(), 20);
    assert_eq!(base().pad(5).build().len(), 14 + 20 + 8 + 8 + 5);
    let wrong = base().network_checksum(1).build();
    assert!(!ParsedFrame::parse(&wrong).unwrap().checksums_ok);
}

#[test]
fn arp_is_what_rfc_826_says() {
    let bytes = frame().arp_request(TENANT_A.ipv4, GATEWAY_V4).build();
    let arp = ParsedFrame::parse(&bytes).unwrap().arp.unwrap();
    assert_eq!(arp.operation, 1);
    assert_eq!(arp.sender, (TENANT_A.mac, TENANT_A.ipv4));
    assert_eq!(arp.target, ([0; 6], GATEWAY_V4));
    let rarp = frame()
        .arp_request(TENANT_A.ipv4, GATEWAY_V4)
        .rarp(3)
        .build();
    assert_eq!(rarp[12..14], [0x80, 0x35]);
    let odd = frame()
        .arp_request(TENANT_A.ipv4, GATEWAY_V4)
        .arp_format(6, 0x800, [6, 4])
        .build();
    assert_eq!(ParsedFrame::parse(&odd).unwrap().arp, None);
}

#[test]
fn fragments_put_together_are_the_packet() {
    let payload: Vec<u8> = (0..=255).cycle().take(3000).collect();
    for whole in [
        frame()
            .vlan(100)
            .ipv4(TENANT_A.ipv4, INTERNET_V4)
            .udp(1, 2)
            .payload(&payload)
            .build(),
        frame()
            .vlan(100)
            .ipv6(TENANT_A.ipv6, GATEWAY_V6)
            .udp(1, 2)
            .payload(&payload)
            .build(),
    ] {
        let pieces = fragments(&whole, 1000);
        assert_eq!(pieces.len(), 4);
        let mut data = Vec::new();
        for piece in &pieces {
            let parsed = ParsedFrame::parse(piece).unwrap();
            assert!(parsed.checksums_ok);
            let ip = parsed.ip.unwrap();
            let (offset, more) = ip.fragment.unwrap();
            assert_eq!(usize::from(offset), data.len());
            assert_eq!(more, data.len() + 1000 < 3008);
            let header = if ip.source.is_ipv4() { 20 } else { 48 };
            assert_eq!(parsed.packet_at + ip.packet_length, piece.len());
            data.extend_from_slice(&piece[parsed.packet_at + header..]);
        }
        assert_eq!(data[8..], payload);
    }
}

#[test]
fn parser_refuses_what_is_too_short_and_never_panics() {
    let whole = frame()
        .vlan(100)
        .ipv6(TENANT_A.ipv6, GATEWAY_V6)
        .extension(protocol::HOP_BY_HOP, &[])
        .tcp(1, 2, tcp_flag::SYN)
        .build();
    for length in 0..whole.len() {
        let parsed = ParsedFrame::parse(&whole[..length]);
        assert_eq!(parsed.is_some(), length >= 18, "{length} octets");
        assert!(parsed.is_none_or(|parsed| parsed.transport().is_none()));
    }
    let any = Ipv4Addr::UNSPECIFIED;
    let lies = frame()
        .ipv4(any, any)
        .header_words(15)
        .total_length(10)
        .udp(1, 2)
        .build();
    assert_eq!(ParsedFrame::parse(&lies).unwrap().ip, None);
}
