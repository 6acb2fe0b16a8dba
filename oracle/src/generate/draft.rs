//! A frame before it is octets, so that forgeries can change one thing.

use std::net::IpAddr;

use super::cast::Actor;
use crate::fixtures::ROUTER_MAC;
use crate::frames::{Arp, Ether, Ip, TPID, group_mac};

/// What a draft carries.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// ARP or RARP, by EtherType.
    Arp(u16, Arp),
    Ip(Ip),
    /// Anything, by EtherType.
    Raw(u16, Vec<u8>),
}

/// A frame in parts.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) source_mac: [u8; 6],
    pub(crate) destination_mac: [u8; 6],
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) body: Body,
    /// What it is, and what was forged, in words.
    pub(crate) notes: Vec<&'static str>,
}

impl Draft {
    /// A frame of an actor: to the router, or to the group of its destination.
    pub(crate) fn of(actor: &Actor, note: &'static str, body: Body) -> Self {
        let group = match &body {
            Body::Ip(ip) => group_mac(ip.destination),
            Body::Arp(..) => Some([0xff; 6]),
            Body::Raw(..) => None,
        };
        Self {
            source_mac: actor.mac,
            destination_mac: group.unwrap_or(ROUTER_MAC),
            tags: vec![(TPID, actor.vlan)],
            body,
            notes: vec![note],
        }
    }

    pub(crate) fn ip_mut(&mut self) -> Option<&mut Ip> {
        match &mut self.body {
            Body::Ip(ip) => Some(ip),
            Body::Arp(..) | Body::Raw(..) => None,
        }
    }

    /// Changes the destination, and the MAC with it.
    pub(crate) fn redirect(&mut self, destination: IpAddr) {
        if let Some(ip) = self.ip_mut() {
            ip.destination = destination;
            self.destination_mac = group_mac(destination).unwrap_or(ROUTER_MAC);
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (ether_type, body) = match &self.body {
            Body::Arp(ether_type, arp) => (*ether_type, arp.bytes()),
            Body::Ip(ip) => (ip.ether_type(), ip.bytes()),
            Body::Raw(ether_type, bytes) => (*ether_type, bytes.clone()),
        };
        Ether {
            destination: self.destination_mac,
            source: self.source_mac,
            tags: self.tags.clone(),
            ether_type,
            body,
        }
        .bytes()
    }
}
