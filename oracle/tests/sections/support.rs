//! Who sends what in the rows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netmodel::Model;
use oracle::fixtures::{ROUTER_MAC, sample_model};
use oracle::frames::{Ether, Ip, TPID, group_mac};
use oracle::{Frame, State, Verdict, World, from_trunk};

/// A sender: VLAN id and the last two octets of its MAC.
#[derive(Clone, Copy)]
pub(crate) struct Host {
    pub(crate) vlan: u16,
    pub(crate) mac: [u8; 6],
    pub(crate) ipv4: &'static str,
    pub(crate) ipv6: &'static str,
}

const fn host(vlan: u16, mac: [u8; 2], ipv4: &'static str, ipv6: &'static str) -> Host {
    Host {
        vlan,
        mac: [0x02, 0xdd, 0xee, 0, mac[0], mac[1]],
        ipv4,
        ipv6,
    }
}

pub(crate) const API: Host = host(100, [100, 10], "10.100.0.10", "fd00:100::10");
pub(crate) const MQTT: Host = host(100, [100, 12], "10.100.0.12", "");
pub(crate) const APP: Host = host(102, [102, 11], "10.102.0.11", "");
pub(crate) const QUIET_WEB: Host = host(103, [103, 10], "10.103.0.10", "fd00:103::10");
pub(crate) const QUIET_DB: Host = host(104, [104, 10], "10.104.0.10", "fd00:104::10");
/// Its MAC is `UNKNOWN` in the inventory.
pub(crate) const QUIET_UNKNOWN: Host = host(104, [104, 20], "10.104.0.20", "fd00:104::20");
pub(crate) const WEB: Host = host(101, [101, 10], "10.101.0.10", "fd00:101::10");
pub(crate) const LAPTOP: Host = host(10, [10, 20], "10.20.10.20", "");
pub(crate) const PROVISIONER: Host = host(99, [99, 95], "10.20.99.95", "fd00:99::95");
pub(crate) const SENSOR: Host = host(30, [30, 20], "10.20.30.20", "");
pub(crate) const SENSOR6: Host = host(36, [36, 10], "", "fd00:36::10");
pub(crate) const NAS: Host = host(20, [20, 10], "10.20.20.10", "");
/// Hosts that the inventory does not know.
pub(crate) const STRANGER: Host = host(100, [100, 99], "10.100.0.99", "fd00:100::99");

/// The router's link-local address, for [`ROUTER_MAC`].
pub(crate) const ROUTER_LINK_LOCAL: &str = "fe80::2e0:4cff:fe29:1e50";

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address in a row is valid")
}

pub(crate) fn ipv4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address in a row is valid")
}

pub(crate) fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address in a row is valid")
}

/// A packet of the host, to the router's MAC or the group's.
pub(crate) fn packet(from: Host, packet: &Ip) -> Ether {
    Ether {
        destination: group_mac(packet.destination).unwrap_or(ROUTER_MAC),
        source: from.mac,
        tags: vec![(TPID, from.vlan)],
        ether_type: packet.ether_type(),
        body: packet.bytes(),
    }
}

/// A packet with the host's own address of the destination's family.
pub(crate) fn own_packet(from: Host, to: &str, protocol: u8, payload: Vec<u8>) -> Ip {
    let to = ip(to);
    let source = ip(if to.is_ipv4() { from.ipv4 } else { from.ipv6 });
    Ip::new(source, to, protocol, payload)
}

/// A router with state, for rows that follow one another.
pub(crate) struct Router<'m> {
    pub(crate) world: World<'m>,
    pub(crate) state: State,
    pub(crate) now: u64,
}

impl<'m> Router<'m> {
    pub(crate) fn new(model: &'m Model) -> Self {
        Self {
            world: World::new(model, ROUTER_MAC, 1),
            state: State::default(),
            now: 1000,
        }
    }

    pub(crate) fn send(&mut self, ether: &Ether) -> Verdict {
        let bytes = ether.bytes();
        let frame = Frame {
            bytes: &bytes,
            offloaded_tag: None,
        };
        from_trunk(&self.world, &mut self.state, &frame, self.now)
    }

    /// Sends and compares the name of the verdict.
    #[track_caller]
    pub(crate) fn expect(&mut self, sentence: &str, ether: &Ether, expected: &str) {
        assert_eq!(self.send(ether).name(), expected, "{sentence}");
    }

    /// A new generation with another model.
    pub(crate) fn flip(&mut self, model: &'m Model) {
        self.world = World::new(model, ROUTER_MAC, self.world.generation + 1);
    }
}

/// Each row on a router of its own, with the sample model.
#[track_caller]
pub(crate) fn check(rows: Vec<(&str, Ether, &str)>) {
    let model = sample_model();
    check_with(&model, rows);
}

/// Each row on a router of its own.
#[track_caller]
pub(crate) fn check_with(model: &Model, rows: Vec<(&str, Ether, &str)>) {
    for (sentence, ether, expected) in rows {
        Router::new(model).expect(sentence, &ether, expected);
    }
}
