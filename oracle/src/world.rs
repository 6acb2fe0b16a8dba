//! What a verdict depends on: the model, the router, and what was seen before.

use std::net::{IpAddr, Ipv6Addr};

use netmodel::model::{Model, SegmentId};

use crate::connections::Connection;
use crate::fragments::JudgedFirst;

/// One generation of the whole desired state, and the router that enforces it.
#[derive(Clone, Debug)]
pub struct World<'m> {
    /// The inventory.
    pub model: &'m Model,
    /// The router.
    pub router: RouterFacts,
    /// Number of the generation; grows with every change.
    pub generation: u32,
}

/// What the inventory does not say about the router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouterFacts {
    /// The trunk's MAC: the gateway of every segment.
    pub mac: [u8; 6],
    /// The link-local address of every segment's gateway: EUI-64 of `mac`.
    pub link_local: Ipv6Addr,
    /// Addresses of the router on other interfaces.
    pub extra_addresses: Vec<IpAddr>,
    /// `router_native_segment`: where untagged frames would belong.
    pub native_segment: Option<SegmentId>,
}

impl<'m> World<'m> {
    /// Makes a world whose router has this trunk MAC and no address but the inventory's.
    #[must_use]
    pub fn new(model: &'m Model, mac: [u8; 6], generation: u32) -> Self {
        let router = RouterFacts {
            mac,
            link_local: eui64_link_local(mac),
            extra_addresses: Vec::new(),
            native_segment: model
                .routers
                .first()
                .and_then(|router| router.native_segment),
        };
        Self {
            model,
            router,
            generation,
        }
    }
}

/// Returns the link-local address that RFC 4291 appendix A derives from a MAC.
fn eui64_link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// What is live: connections, and first fragments that were judged.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Connections, oldest first.
    pub connections: Vec<Connection>,
    /// First fragments that were allowed, oldest first.
    pub fragments: Vec<JudgedFirst>,
}

impl State {
    /// Removes what has reached its timeout.
    pub(crate) fn forget_expired(&mut self, now: u64) {
        self.connections
            .retain(|connection| now < connection.deadline);
        self.fragments.retain(|first| now < first.deadline);
    }
}
