//! Router advertisements: RFC 4861 section 6.2, RFC 8106.
//!
//! Without them a client has no default route, whatever DHCPv6 tells it. Every segment that is in a scope is advertised to
//! when it comes up, from time to time, and when somebody asks. The end of this daemon is not the router's end: nobody is told
//! that the router is gone, and what was told is good for two and a half hours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use ipnet::Ipv6Net;
use netmodel::ids::{MacAddr, VlanId};

use super::scope::{Mode, Scope6};
use crate::options::search_list;
use crate::scope::Scopes;
use crate::time::Time;

/// `ff02::1`: all nodes of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// `AdvDefaultLifetime`, in seconds: the longest that RFC 4861 section 6.2.1 allows.
const ROUTER_LIFETIME: u16 = 9000;
/// `AdvValidLifetime` and `AdvPreferredLifetime` of the prefix, in seconds.
const PREFIX_LIFETIMES: (u32, u32) = (86_400, 14_400);
/// Between two unsolicited ones, in milliseconds, and how much of it is by chance: RFC 4861 sections 6.2.1 and 6.2.4.
const INTERVAL: (u64, u64) = (450_000, 150_000);
/// Between the first ones (`MAX_INITIAL_RTR_ADVERT_INTERVAL`), in milliseconds.
const FIRST_INTERVAL: u64 = 16_000;
/// How many those are (`MAX_INITIAL_RTR_ADVERTISEMENTS`).
const FIRST: u8 = 3;
/// Between two that go to all (`MIN_DELAY_BETWEEN_RAS`), in milliseconds.
const SHORTEST_INTERVAL: u64 = 3000;

/// A router advertisement that is to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advert {
    /// The VLAN of the frame.
    pub vlan: VlanId,
    /// The frame's destination.
    pub to_mac: MacAddr,
    /// The packet's destination.
    pub to: Ipv6Addr,
    /// Everything of the ICMPv6 message behind the checksum but the router's hardware address, which goes last.
    pub body: Vec<u8>,
}

/// What was sent to a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// To all, by itself or as an answer: when last.
    last: Option<Time>,
    /// When the next one is due.
    due: Time,
    /// How many went out since the segment came up or changed, up to [`FIRST`].
    count: u8,
}

/// Says when which segment is told what.
#[derive(Debug, Default)]
pub struct Advertiser {
    scopes: Arc<Scopes>,
    sent: BTreeMap<VlanId, Sent>,
    due: BTreeSet<(Time, VlanId)>,
    /// Prefixes that segments had in an earlier generation, and when they stop to be taken back.
    over: BTreeMap<VlanId, (Arc<Scope6>, u8)>,
}

impl Advertiser {
    /// Advertises another generation from now on. A segment that is new, or told otherwise, is told soon; one that
    /// is not a scope any more, or has another prefix, is told that the old one is over.
    pub fn switch(&mut self, scopes: Arc<Scopes>, now: Time) {
        let before = std::mem::replace(&mut self.scopes, Arc::clone(&scopes));
        for (vlan, old) in &before.six {
            let is_same = scopes.six.get(vlan).is_some_and(|new| new.net == old.net);
            if !is_same {
                self.over.insert(*vlan, (Arc::clone(old), FIRST));
                self.plan(*vlan, now);
            }
        }
        for (vlan, new) in &scopes.six {
            let is_same = before
                .six
                .get(vlan)
                .is_some_and(|old| body(old) == body(new));
            if !is_same {
                self.plan(*vlan, now);
            }
        }
    }

    /// A series of first ones begins.
    fn plan(&mut self, vlan: VlanId, now: Time) {
        let sent = self.sent.entry(vlan).or_default();
        self.due.remove(&(sent.due, vlan));
        // Thousands of segments that come up at once do not speak at once.
        let wait = u64::from(vlan.as_u16()) % 1000;
        (sent.due, sent.count) = (now.plus_millis(wait), 0);
        self.due.insert((sent.due, vlan));
    }

    /// Returns those that are due.
    pub fn poll(&mut self, now: Time) -> Vec<Advert> {
        let mut adverts = Vec::new();
        while let Some((due, vlan)) = self.due.first().copied()
            && due <= now
        {
            self.due.remove(&(due, vlan));
            adverts.extend(self.over(vlan));
            adverts.extend(self.to_all(vlan));
            let sent = self.sent.entry(vlan).or_default();
            sent.last = Some(now);
            sent.count = sent.count.saturating_add(1).min(FIRST);
            let (interval, chance) = INTERVAL;
            let wait = if sent.count < FIRST {
                FIRST_INTERVAL
            } else {
                // Whoever says the same at the same time says it in step with others: a part is by chance.
                interval + (now.0 ^ u64::from(vlan.as_u16()).wrapping_mul(0x9e37)) % chance
            };
            sent.due = now.plus_millis(wait);
            if self.scopes.six.contains_key(&vlan) || self.over.contains_key(&vlan) {
                self.due.insert((sent.due, vlan));
            }
        }
        adverts
    }

    /// Returns when [`Advertiser::poll`] has something to do.
    #[must_use]
    pub fn next_poll(&self) -> Option<Time> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Answers a solicitation: to the one who asks, at once; to all if he has no address yet, but not more often than
    /// every three seconds.
    pub fn solicited(
        &mut self,
        vlan: VlanId,
        (mac, from): (MacAddr, Ipv6Addr),
        now: Time,
    ) -> Option<Advert> {
        let scope = Arc::clone(self.scopes.six.get(&vlan)?);
        if !from.is_unspecified() {
            return Some(Advert {
                vlan,
                to_mac: mac,
                to: from,
                body: body(&scope),
            });
        }
        let sent = self.sent.entry(vlan).or_default();
        if let Some(last) = sent.last
            && now.since(last) < SHORTEST_INTERVAL
        {
            self.due.remove(&(sent.due, vlan));
            sent.due = sent.due.min(last.plus_millis(SHORTEST_INTERVAL));
            self.due.insert((sent.due, vlan));
            return None;
        }
        sent.last = Some(now);
        self.to_all(vlan)
    }

    fn to_all(&self, vlan: VlanId) -> Option<Advert> {
        let scope = self.scopes.six.get(&vlan)?;
        Some(advert_to_all(vlan, body(scope)))
    }

    /// Says once more that what a segment had is over.
    fn over(&mut self, vlan: VlanId) -> Option<Advert> {
        let (scope, left) = self.over.get_mut(&vlan)?;
        let scope = Arc::clone(scope);
        *left -= 1;
        if *left == 0 {
            self.over.remove(&vlan);
        }
        let is_router = self.scopes.six.contains_key(&vlan);
        Some(advert_to_all(vlan, last_body(&scope, is_router)))
    }
}

fn advert_to_all(vlan: VlanId, body: Vec<u8>) -> Advert {
    Advert {
        vlan,
        to_mac: MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        to: ALL_NODES,
        body,
    }
}

/// RFC 4861 section 4.2, from the hop limit on.
fn body(scope: &Scope6) -> Vec<u8> {
    // M: addresses by DHCPv6; O: everything else by DHCPv6.
    let flags = match scope.mode {
        Mode::Managed | Mode::StaticOnly => 0xc0,
        Mode::Slaac => 0x40,
    };
    let mut body = head(flags, ROUTER_LIFETIME);
    push_prefix(
        &mut body,
        (scope.net, scope.mode == Mode::Slaac),
        PREFIX_LIFETIMES,
    );
    // RFC 4861 section 4.6.4.
    body.extend([5, 1, 0, 0]);
    body.extend(u32::from(scope.told.mtu).to_be_bytes());
    push_dns(&mut body, scope);
    body
}

/// Takes back the prefix of a segment; the router, too, if it has no other.
fn last_body(scope: &Scope6, is_router: bool) -> Vec<u8> {
    let mut body = head(0, if is_router { ROUTER_LIFETIME } else { 0 });
    // RFC 4862 section 5.5.3 e: less than two hours is not believed.
    push_prefix(&mut body, (scope.net, scope.mode == Mode::Slaac), (7200, 0));
    body
}

fn head(flags: u8, lifetime: u16) -> Vec<u8> {
    let mut body = vec![64, flags];
    body.extend(lifetime.to_be_bytes());
    // Reachable time and retransmission timer: as the client has them.
    body.extend([0; 8]);
    body
}

/// RFC 4861 section 4.6.2.
fn push_prefix(
    body: &mut Vec<u8>,
    (net, is_slaac): (Ipv6Net, bool),
    (valid, preferred): (u32, u32),
) {
    let flags = if is_slaac { 0xc0 } else { 0x80 };
    body.extend([3, 4, net.prefix_len(), flags]);
    body.extend(valid.to_be_bytes());
    body.extend(preferred.to_be_bytes());
    body.extend([0; 4]);
    body.extend(net.network().octets());
}

/// RFC 8106 sections 5.1 and 5.2.
fn push_dns(body: &mut Vec<u8>, scope: &Scope6) {
    let lifetime = u32::from(ROUTER_LIFETIME).to_be_bytes();
    let mut push = |kind: u8, data: &[u8]| {
        let units = (8 + data.len()).div_ceil(8);
        // An option is at most 255 times eight octets long; a list that is longer is not told here.
        let Ok(length) = u8::try_from(units) else {
            return;
        };
        body.extend([kind, length, 0, 0]);
        body.extend(lifetime);
        body.extend(data);
        body.extend(std::iter::repeat_n(0, units * 8 - 8 - data.len()));
    };
    let servers: Vec<u8> = scope
        .told
        .dns_servers
        .iter()
        .flat_map(Ipv6Addr::octets)
        .collect();
    if !servers.is_empty() {
        push(25, &servers);
    }
    let domains = search_list(&scope.told.domain_search);
    if !domains.is_empty() {
        push(31, &domains);
    }
}
