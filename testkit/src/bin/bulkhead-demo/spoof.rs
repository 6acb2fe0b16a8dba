//! Attempts at being somebody else: raw frames from a tenant's machine, and straight onto the trunk
//! as a broken hypervisor could send them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use testkit::frame::{
    BROADCAST, Frame, ether_type, link_local, multicast_mac_v4, multicast_mac_v6, tcp_flag,
};
use testkit::site::{HostSpec, SiteSpec};

// Nothing here lies to neighbours inside of the VLAN: such frames do not reach the router, and the
// neighbours would believe them. What would teach the switch something wrong starts on the trunk.

/// Where an attempt starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// The machine's own interface, behind its access port.
    Machine,
    /// The trunk itself.
    Trunk,
}

/// One attempt.
pub(crate) struct Spoof {
    pub(crate) what: &'static str,
    pub(crate) start: Start,
    pub(crate) frame: Vec<u8>,
    pub(crate) reason: &'static str,
}

/// What a tenant's machine knows when it starts to lie.
struct Liar {
    mac: [u8; 6],
    vlan: u16,
    router_mac: [u8; 6],
    own: Ipv4Addr,
    gateway: Ipv4Addr,
    /// A machine of another tenant: its address and its VLAN.
    victim: (Ipv4Addr, u16),
}

/// Returns the attempts of a machine, with a machine of another tenant for a victim.
pub(crate) fn spoofs(spec: &SiteSpec, name: &str, victim: &str) -> Result<Vec<Spoof>> {
    let host = |name: &str| {
        let found = spec.hosts.iter().find(|host| host.name == name);
        found.with_context(|| format!("the site has no host {name}"))
    };
    let (host, victim) = (host(name)?, host(victim)?);
    let liar = Liar {
        mac: host.mac,
        vlan: host.vlan,
        router_mac: spec.router_mac,
        own: ipv4_of(host)?,
        gateway: host
            .gateways
            .iter()
            .find_map(ipv4)
            .context("no IPv4 gateway")?,
        victim: (ipv4_of(victim)?, victim.vlan),
    };
    let mut all = liar.addresses();
    all.extend(liar.servers());
    all.extend(liar.tags());
    Ok(all)
}

fn ipv4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn ipv4_of(host: &HostSpec) -> Result<Ipv4Addr> {
    let found = host.addresses.iter().find_map(|(address, _)| ipv4(address));
    found.with_context(|| format!("{} has no IPv4 address", host.name))
}

fn from_machine(what: &'static str, frame: Frame, reason: &'static str) -> Spoof {
    Spoof {
        what,
        start: Start::Machine,
        frame: frame.build(),
        reason,
    }
}

fn from_trunk(what: &'static str, frame: Frame, reason: &'static str) -> Spoof {
    Spoof {
        what,
        start: Start::Trunk,
        frame: frame.build(),
        reason,
    }
}

impl Liar {
    fn to_router(&self) -> Frame {
        Frame::new(self.mac, self.router_mac)
    }

    fn to_all(&self) -> Frame {
        Frame::new(self.mac, BROADCAST)
    }

    fn honest(&self) -> Frame {
        self.to_router()
            .ipv4(self.own, self.gateway)
            .udp(40_000, 53)
            .payload(b"query")
    }

    fn addresses(&self) -> Vec<Spoof> {
        let stranger = [2, 0, 0, 0, 0, 0x66];
        let from = |source| self.to_router().ipv4(source, self.gateway).udp(40_000, 53);
        let answer = self.to_router().ipv4(self.own, self.victim.0);
        vec![
            from_machine(
                "another tenant's address",
                from(self.victim.0),
                "source-not-in-segment",
            ),
            from_machine(
                "an unbound address of the segment",
                from(Ipv4Addr::from(u32::from(self.gateway) + 76)),
                "spoofed-source",
            ),
            from_machine(
                "the own address, another MAC",
                self.honest().source_mac(stranger),
                "spoofed-source",
            ),
            from_machine("the gateway's address", from(self.gateway), "gateway-claim"),
            from_machine(
                "a loopback address",
                from(Ipv4Addr::LOCALHOST),
                "martian-source",
            ),
            from_machine(
                "ARP: I am the gateway",
                self.to_router().arp_reply(self.gateway, self.gateway),
                "gateway-claim",
            ),
            from_machine(
                "ARP: I am somebody else",
                self.to_all()
                    .arp(2, (stranger, self.own), (self.router_mac, self.gateway)),
                "arp-sender-mismatch",
            ),
            from_machine(
                "an answer that nobody asked for",
                answer.tcp(443, 40_000, tcp_flag::SYN_ACK),
                "tcp-no-connection",
            ),
        ]
    }

    fn servers(&self) -> Vec<Spoof> {
        let local = link_local(self.mac);
        let nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to_nodes = self
            .to_router()
            .destination_mac(multicast_mac_v6(nodes))
            .ipv6(local, nodes);
        let mdns = Ipv4Addr::new(224, 0, 0, 251);
        let to_mdns = self.to_router().destination_mac(multicast_mac_v4(mdns));
        let router = link_local(self.router_mac);
        let to_itself = self.to_router().ipv6(local, router);
        vec![
            from_machine(
                "a DHCP server's offer",
                self.to_router().ipv4(self.own, self.gateway).udp(67, 68),
                "dhcp-server",
            ),
            from_machine(
                "a router advertisement",
                to_nodes.router_advertisement().link_layer_option(false),
                "router-advertisement",
            ),
            from_machine(
                "neighbour: I am the router",
                to_itself
                    .neighbour_advertisement(router)
                    .link_layer_option(true),
                "gateway-claim",
            ),
            from_machine(
                "an ICMP redirect",
                self.to_router()
                    .ipv4(self.own, self.gateway)
                    .icmp(5, 1, [10, 0, 0, 1]),
                "icmp-redirect",
            ),
            from_machine(
                "multicast DNS",
                to_mdns.ipv4(self.own, mdns).udp(5353, 5353),
                "multicast-not-allowed",
            ),
            from_machine(
                "link layer discovery",
                self.to_all().ether_type(ether_type::LLDP).payload(&[0; 46]),
                "unknown-ether-type",
            ),
            from_machine(
                "a source route",
                self.honest().ipv4_options(&[131, 7, 4, 10, 0, 0, 1]),
                "ip-options",
            ),
            from_machine(
                "a fragment that hides its ports",
                self.to_router()
                    .ipv4(self.own, self.gateway)
                    .protocol(6)
                    .payload(&[0; 8])
                    .fragment(0, true),
                "tiny-fragment",
            ),
        ]
    }

    fn tags(&self) -> Vec<Spoof> {
        let tagged = || self.honest().vlan(self.vlan);
        vec![
            from_trunk("no tag at all", self.honest(), "untagged"),
            from_trunk(
                "the router's own MAC",
                tagged().source_mac(self.router_mac),
                "router-mac-spoof",
            ),
            from_trunk("a priority tag", self.honest().vlan(0), "priority-tag"),
            from_trunk(
                "the victim's VLAN, own address",
                self.honest().vlan(self.victim.1),
                "source-not-in-segment",
            ),
            from_trunk(
                "the victim's VLAN behind the own",
                tagged().vlan(self.victim.1),
                "double-tag",
            ),
            from_trunk(
                "a provider's tag",
                self.honest().tag(ether_type::SERVICE_VLAN, self.vlan),
                "double-tag",
            ),
            from_trunk("a VLAN of nobody", self.honest().vlan(4000), "unknown-vlan"),
            from_trunk(
                "the blackhole VLAN",
                self.honest().vlan(999),
                "blackhole-segment",
            ),
        ]
    }
}
