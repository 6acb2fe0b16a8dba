//! What a machine behind a hypervisor's port must not send, each with the reason for which it is dropped right there.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{BROADCAST, Frame, link_local, tcp_flag};

const SYN: u8 = tcp_flag::SYN;

/// A forgery: what it is, the frame, and why it is dropped.
pub type Forgery = (&'static str, Frame, &'static str);

/// A machine's address on every layer.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Hardware address.
    pub mac: [u8; 6],
    /// VLAN id of its segment.
    pub vlan: u16,
    /// Its address.
    pub ipv4: Ipv4Addr,
    /// Its address.
    pub ipv6: Ipv6Addr,
}

/// What else is there.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Hardware address of the router.
    pub router_mac: [u8; 6],
    /// Hardware address of the hypervisor itself.
    pub host_mac: [u8; 6],
    /// The gateway of the sender's segment.
    pub gateway4: Ipv4Addr,
    /// The gateway of the sender's segment.
    pub gateway6: Ipv6Addr,
}

/// Returns what `from` must not send, `peer` being a machine of another tenant, `friend` one of its own segment.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn forgeries(
    around: &Surroundings,
    from: Endpoint,
    friend: Endpoint,
    peer: Endpoint,
) -> Vec<Forgery> {
    let router = around.router_mac;
    let to_friend = || Frame::new(from.mac, friend.mac);
    let to_peer = || Frame::new(from.mac, peer.mac);
    let to_router = || Frame::new(from.mac, router);
    let to_all = || Frame::new(from.mac, BROADCAST);
    let ipv4 = |frame: Frame| frame.ipv4(from.ipv4, friend.ipv4).udp(4000, 4001);
    let mut rows = vec![
        ("own tag", ipv4(to_friend().vlan(from.vlan)), "tagged-frame"),
        (
            "tag of the other",
            ipv4(to_peer().vlan(peer.vlan)),
            "tagged-frame",
        ),
        ("priority tag", ipv4(to_friend().vlan(0)), "tagged-frame"),
        (
            "service tag",
            ipv4(to_friend().tag(0x88a8, peer.vlan)),
            "tagged-frame",
        ),
        (
            "two tags",
            ipv4(to_friend().vlan(from.vlan).vlan(peer.vlan)),
            "tagged-frame",
        ),
        (
            "MAC of the other",
            ipv4(to_friend().source_mac(peer.mac)),
            "spoofed-mac",
        ),
        (
            "MAC of the friend",
            ipv4(to_peer().source_mac(friend.mac)),
            "spoofed-mac",
        ),
        (
            "MAC of the router",
            ipv4(to_friend().source_mac(router)),
            "router-mac-spoof",
        ),
        (
            "group as source",
            ipv4(to_friend().source_mac([3, 0, 0, 0, 0, 1])),
            "bad-source-mac",
        ),
        (
            "STP",
            to_friend()
                .destination_mac([1, 0x80, 0xc2, 0, 0, 0])
                .ether_type(0x0026),
            "unknown-ether-type",
        ),
        (
            "LLDP",
            to_friend().ether_type(0x88cc).payload(&[0; 46]),
            "unknown-ether-type",
        ),
        (
            "ARP as the gateway",
            to_all().gratuitous_arp(around.gateway4),
            "gateway-claim",
        ),
        (
            "ARP as the friend",
            to_all().gratuitous_arp(friend.ipv4),
            "arp-sender-mismatch",
        ),
        (
            "ARP as the other",
            to_all().arp_reply(peer.ipv4, from.ipv4),
            "arp-sender-mismatch",
        ),
        (
            "RARP as the friend",
            to_all().arp_request(friend.ipv4, friend.ipv4).rarp(3),
            "arp-sender-mismatch",
        ),
        (
            "to the hypervisor",
            ipv4(to_friend().destination_mac(around.host_mac)),
            "host-address",
        ),
        (
            "the friend's IP under the other's MAC",
            ipv4(to_friend())
                .source_mac(from.mac)
                .destination_mac(peer.mac),
            "mac-ip-mismatch",
        ),
        (
            "the other's IPv4, directly",
            to_peer().ipv4(from.ipv4, peer.ipv4).udp(1, 2),
            "mac-ip-mismatch",
        ),
        (
            "the other's IPv6, directly",
            to_peer().ipv6(from.ipv6, peer.ipv6).udp(1, 2),
            "mac-ip-mismatch",
        ),
        (
            "the other by the router",
            to_router().ipv4(from.ipv4, peer.ipv4).tcp(1, 2, SYN),
            "other-tenant",
        ),
        (
            "the other by the router, IPv6",
            to_router().ipv6(from.ipv6, peer.ipv6).tcp(1, 2, SYN),
            "other-tenant",
        ),
        (
            "source of the friend",
            to_router().ipv4(friend.ipv4, around.gateway4).udp(1, 53),
            "spoofed-source",
        ),
        (
            "source of the friend, IPv6",
            to_router().ipv6(friend.ipv6, around.gateway6).udp(1, 53),
            "spoofed-source",
        ),
        (
            "source of the other",
            to_friend().ipv4(peer.ipv4, friend.ipv4).udp(1, 2),
            "source-not-in-segment",
        ),
        (
            "source of the other, IPv6",
            to_friend().ipv6(peer.ipv6, friend.ipv6).udp(1, 2),
            "source-not-in-segment",
        ),
        (
            "DHCP server",
            to_friend().ipv4(from.ipv4, friend.ipv4).udp(67, 68),
            "dhcp-server",
        ),
        (
            "multicast",
            to_all().ipv4(from.ipv4, [255; 4].into()).udp(1, 2),
            "multicast-not-allowed",
        ),
    ];
    let local = link_local(from.mac);
    let nd = |frame: Frame| frame.ipv6(local, link_local(friend.mac)).hop_limit(255);
    rows.extend([
        (
            "RA",
            nd(to_friend()).router_advertisement(),
            "router-advertisement",
        ),
        (
            "redirect",
            nd(to_friend()).nd_redirect(friend.ipv6, peer.ipv6),
            "icmp-redirect",
        ),
        (
            "NA for the friend",
            nd(to_friend()).neighbour_advertisement(friend.ipv6),
            "nd-mismatch",
        ),
        (
            "NA for the gateway",
            nd(to_friend()).neighbour_advertisement(around.gateway6),
            "gateway-claim",
        ),
    ]);
    rows
}
