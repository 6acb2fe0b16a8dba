//! Neighbour discovery (RFC 4861) and multicast listener discovery (RFC 2710, RFC 3810).

use std::net::Ipv6Addr;

use super::{Frame, protocol};

/// Option type: source link-layer address.
const SOURCE_LINK_LAYER: u8 = 1;
/// Option type: target link-layer address.
const TARGET_LINK_LAYER: u8 = 2;

/// Neighbour discovery: every message gets hop limit 255.
impl Frame {
    /// Router solicitation, without options.
    pub fn router_solicitation(self) -> Self {
        self.hop_limit(255).icmp(133, 0, [0; 4])
    }

    /// Router advertisement of a default route for half an hour, without options.
    pub fn router_advertisement(self) -> Self {
        self.hop_limit(255)
            .icmp(134, 0, [64, 0, 7, 8])
            .payload(&[0; 8])
    }

    /// Neighbour solicitation, without options.
    pub fn neighbour_solicitation(self, target: Ipv6Addr) -> Self {
        self.hop_limit(255)
            .icmp(135, 0, [0; 4])
            .payload(&target.octets())
    }

    /// Neighbour advertisement (solicited, override), without options.
    pub fn neighbour_advertisement(self, target: Ipv6Addr) -> Self {
        self.hop_limit(255)
            .icmp(136, 0, [0x60, 0, 0, 0])
            .payload(&target.octets())
    }

    /// Redirect of `destination` to `target`, without options.
    pub fn nd_redirect(self, target: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let addresses = [target.octets(), destination.octets()].concat();
        self.hop_limit(255).icmp(137, 0, [0; 4]).payload(&addresses)
    }

    /// Adds the option that says the frame's own source MAC: target link-layer address to an
    /// advertisement, source link-layer address to all else.
    pub fn link_layer_option(self, advertisement: bool) -> Self {
        let mac = self.source();
        self.link_layer_option_of(advertisement, mac)
    }

    /// Adds the same option with any MAC.
    pub fn link_layer_option_of(self, advertisement: bool, mac: [u8; 6]) -> Self {
        let kind = if advertisement {
            TARGET_LINK_LAYER
        } else {
            SOURCE_LINK_LAYER
        };
        self.nd_option(kind, 1, &mac)
    }

    /// Adds any option; `units` is the length it claims, in 8 octets.
    pub fn nd_option(self, kind: u8, units: u8, contents: &[u8]) -> Self {
        self.append(&[kind, units]).append(contents)
    }
}

/// Multicast listener discovery: hop limit 1, router alert in a hop-by-hop header.
impl Frame {
    fn mld(self, kind: u8) -> Self {
        self.hop_limit(1).router_alert().icmp(kind, 0, [0; 4])
    }

    /// Adds the hop-by-hop header with a router alert (RFC 2711).
    pub fn router_alert(self) -> Self {
        self.extension(protocol::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
    }

    /// MLD query for all groups: only a router asks.
    pub fn mld_query(self) -> Self {
        self.mld(130).payload(&[0; 16])
    }

    /// MLD version 1 report for a group.
    pub fn mld_report_v1(self, group: Ipv6Addr) -> Self {
        self.mld(131).payload(&group.octets())
    }

    /// MLD version 1 done for a group.
    pub fn mld_done(self, group: Ipv6Addr) -> Self {
        self.mld(132).payload(&group.octets())
    }

    /// MLD version 2 report: joins one group.
    pub fn mld_report_v2(self, group: Ipv6Addr) -> Self {
        let record = [[4, 0, 0, 0].as_slice(), &group.octets()].concat();
        self.hop_limit(1)
            .router_alert()
            .icmp(143, 0, [0, 0, 0, 1])
            .payload(&record)
    }
}
