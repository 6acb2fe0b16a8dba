//! DHCPv6 and router advertisements without any input or output.
//!
//! The guarantees are those of [`crate::engine`], with these differences:
//!
//! * **One client, one address** here too: a client is its hardware address, which the data plane vouches for. Its DUID and IAID
//!   are kept and echoed, as RFC 4361 writes them, and a client that changes its DUID keeps its address.
//! * An address that nobody has reserved is made of the hardware address: the same client gets the same one without any memory,
//!   so that an ADVERTISE keeps nothing for anybody.
//! * Nobody is probed: clients do that themselves (RFC 4862 section 5.4) and decline.
//! * A relay agent must say the client's hardware address (RFC 6939), or the client's addresses must tell it.
//!
//! * [`Engine6`]: DHCPv6 (RFC 8415).
//! * [`Advertiser`]: router advertisements (RFC 4861, 8106).

mod advert;
mod assign;
mod message;
mod reply;
mod scope;
mod table;

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::{Lease, State};

use crate::counters::{Counters, Event, Reason};
use crate::engine::Change;
use crate::limit::Limits;
use crate::scope::Scopes;
use crate::settings::Settings;
use crate::table::Usage;
use crate::time::Time;
pub use advert::{Advert, Advertiser};
use assign::Case;
use message::{Message, Relay, Relayed};
pub use scope::{Mode, Scope6, Told6};
use table::Table6;

/// UDP port of clients.
pub const CLIENT_PORT: u16 = 546;
/// UDP port of servers and relays.
pub const SERVER_PORT: u16 = 547;
/// `All_DHCP_Relay_Agents_and_Servers`.
const ALL_AGENTS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// `All_DHCP_Servers`.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// A message as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Inbound6<'a> {
    /// The VLAN of the frame.
    pub vlan: VlanId,
    /// The frame's source.
    pub source: MacAddr,
    /// The packet's source.
    pub from: Ipv6Addr,
    /// The packet's destination.
    pub to: Ipv6Addr,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// An answer: a UDP datagram from port 547, and the frame that it goes into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply6 {
    /// The VLAN of the frame.
    pub vlan: VlanId,
    /// The frame's destination.
    pub to_mac: MacAddr,
    /// The packet's source, unless the destination is link-local: then the router's own link-local address.
    pub from: Ipv6Addr,
    /// The packet's destination.
    pub to: Ipv6Addr,
    /// UDP destination port.
    pub to_port: u16,
    /// UDP payload.
    pub payload: Vec<u8>,
    /// It promises what [`Engine6::changes`] holds.
    pub is_binding: bool,
}

/// All that is known of one segment.
#[derive(Debug, Default)]
struct SegmentState {
    table: Table6,
    limits: Limits,
    counters: Counters,
}

/// The DHCPv6 server.
#[derive(Debug, Default)]
pub struct Engine6 {
    settings: Settings,
    /// This server's DUID.
    duid: Vec<u8>,
    scopes: Arc<Scopes>,
    /// The router's addresses on all of them.
    gateways: HashSet<Ipv6Addr>,
    segments: BTreeMap<VlanId, SegmentState>,
    changes: Vec<Change>,
    elsewhere: Counters,
}

impl Engine6 {
    /// Makes a server without leases. `duid` is its own, the same after each start.
    #[must_use]
    pub fn new(settings: Settings, duid: Vec<u8>, scopes: Arc<Scopes>) -> Self {
        let mut engine = Self {
            settings,
            duid,
            ..Self::default()
        };
        engine.switch(scopes);
        engine
    }

    /// Serves another generation from now on. No lease is lost: what does not fit it any more is kept until it
    /// ends. Returns how many bound leases do not fit, by the name of their segment.
    pub fn switch(&mut self, scopes: Arc<Scopes>) -> BTreeMap<String, usize> {
        for vlan in scopes.six.keys() {
            self.segments.entry(*vlan).or_default();
        }
        self.gateways = scopes.six.values().map(|scope| scope.gateway).collect();
        self.scopes = scopes;
        let foreign = self.segments.iter().map(|(vlan, state)| {
            let scope = self.scopes.six.get(vlan);
            let name = scope.map_or_else(|| format!("VLAN {vlan}"), |scope| scope.name.clone());
            let is_home = |at, lease: &Lease| scope.is_some_and(|s| s.is_home(lease.mac, at));
            let bound = state.table.iter();
            let bound = bound.filter(|(_, lease)| lease.state == State::Bound);
            (
                name,
                bound.filter(|(at, lease)| !is_home(*at, lease)).count(),
            )
        });
        foreign.filter(|(_, count)| *count > 0).collect()
    }

    /// Takes over leases that were written down before; the last one of an address counts.
    pub fn restore(&mut self, leases: impl IntoIterator<Item = (VlanId, Ipv6Addr, Lease)>) {
        for (vlan, address, lease) in leases {
            let state = self.segments.entry(vlan).or_default();
            state.table.set(address, Some(lease));
        }
    }

    /// Judges one message.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer; it is counted.
    pub fn receive(&mut self, inbound: &Inbound6<'_>, now: Time) -> Result<Reply6, Reason> {
        let (vlan, outcome) = match message::parse(inbound.payload) {
            Err(reason) => (inbound.vlan, Err(reason)),
            Ok(relayed) => match self.link(inbound, &relayed) {
                Err(reason) => (inbound.vlan, Err(reason)),
                Ok(link) => (link.0, self.answer(inbound, &relayed, link, now)),
            },
        };
        outcome.inspect_err(|reason| self.counters(vlan).add_silence(*reason))
    }

    fn counters(&mut self, vlan: VlanId) -> &mut Counters {
        match self.segments.get_mut(&vlan) {
            Some(state) => &mut state.counters,
            None => &mut self.elsewhere,
        }
    }

    /// Counts an event of a segment.
    pub fn count(&mut self, vlan: VlanId, event: Event) {
        self.counters(vlan).add(event);
    }

    /// Returns the VLAN whose scope answers, and the client's hardware address.
    fn link(
        &self,
        inbound: &Inbound6<'_>,
        relayed: &Relayed<'_>,
    ) -> Result<(VlanId, MacAddr), Reason> {
        let is_group = |mac: MacAddr| mac.0.first().is_none_or(|octet| octet & 1 == 1);
        let Some(relay) = relayed.relays.last() else {
            if !inbound.from.is_unicast_link_local() {
                return Err(Reason::OffLink);
            }
            return if is_group(inbound.source) {
                Err(Reason::MacNotUnicast)
            } else {
                Ok((inbound.vlan, inbound.source))
            };
        };
        let is_group_of_servers = [ALL_AGENTS_AND_SERVERS, ALL_SERVERS].contains(&inbound.to);
        if !is_group_of_servers && !self.gateways.contains(&inbound.to) {
            return Err(Reason::OtherDestination);
        }
        let known = self.scopes.relays6.get(&inbound.from);
        let known = known
            .filter(|known| known.vlan == inbound.vlan)
            .ok_or(Reason::UnknownRelay)?;
        // RFC 8415 section 13.1: the link-address of the relay closest to the client that has one.
        let mut links = relayed.relays.iter().rev().map(|relay| relay.link);
        let link = links.find(|link| !link.is_unspecified());
        let link = link.ok_or(Reason::RelayLink)?;
        let is_on = |vlan: &&VlanId| {
            let scope = self.scopes.six.get(*vlan);
            scope.is_some_and(|scope| scope.net.contains(&link))
        };
        let vlan = known.serves.iter().find(is_on).ok_or(Reason::RelayLink)?;
        let mac = client_mac(relay, &relayed.message).ok_or(Reason::NotEthernet)?;
        if is_group(mac) {
            return Err(Reason::MacNotUnicast);
        }
        Ok((*vlan, mac))
    }

    fn answer(
        &mut self,
        inbound: &Inbound6<'_>,
        relayed: &Relayed<'_>,
        (vlan, mac): (VlanId, MacAddr),
        now: Time,
    ) -> Result<Reply6, Reason> {
        let scopes = Arc::clone(&self.scopes);
        let scope = scopes.six.get(&vlan).ok_or(Reason::NoScope)?;
        let state = self.segments.entry(vlan).or_default();
        expire(vlan, state, &mut self.changes, now);
        let is_known = scope.reservations.contains_key(&mac) || state.table.bound_to(mac).is_some();
        state.limits.admit(&self.settings, (mac, is_known), now)?;
        let message = &relayed.message;
        state.counters.add(message.kind.event());
        let is_unicast = relayed.relays.is_empty() && !inbound.to.is_multicast();
        message.check(&self.duid, is_unicast)?;
        let before = self.changes.len();
        let mut case = Case {
            settings: &self.settings,
            scope,
            table: &mut state.table,
            changes: &mut self.changes,
            message,
            mac,
            now,
        };
        let answer = if is_unicast {
            reply::Answer::use_multicast()
        } else {
            case.decide()?
        };
        let is_advertise = answer.is_advertise;
        let payload = answer.encode(scope, &self.duid, relayed);
        let event = if is_advertise {
            Event::Advertise
        } else {
            Event::Reply
        };
        state.counters.add(event);
        Ok(Reply6 {
            vlan: inbound.vlan,
            to_mac: inbound.source,
            from: self.own_address(inbound, scope),
            to: inbound.from,
            to_port: if relayed.relays.is_empty() {
                CLIENT_PORT
            } else {
                SERVER_PORT
            },
            payload,
            is_binding: self.changes.len() > before,
        })
    }

    /// The router's address on the segment that the message came in on.
    fn own_address(&self, inbound: &Inbound6<'_>, scope: &Scope6) -> Ipv6Addr {
        let own = self.scopes.six.get(&inbound.vlan);
        own.map_or(scope.gateway, |own| own.gateway)
    }

    /// Ends leases whose time is over. To be called from time to time; a message does it for its segment.
    pub fn expire(&mut self, now: Time) {
        for (vlan, state) in &mut self.segments {
            expire(*vlan, state, &mut self.changes, now);
        }
    }

    /// Returns what changed since the last [`Engine6::commit`] or [`Engine6::revert`], in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Says that the changes are durable.
    pub fn commit(&mut self) {
        self.changes.clear();
    }

    /// Undoes the changes: they could not be made durable. Binding replies must not be sent.
    pub fn revert(&mut self) {
        for change in self.changes.drain(..).rev() {
            if let Some(state) = self.segments.get_mut(&change.vlan)
                && let std::net::IpAddr::V6(address) = change.address
            {
                state.table.set(address, change.before);
            }
        }
    }

    /// Counts an answer that was not sent, since its lease could not be written down.
    pub fn count_refused(&mut self, vlan: VlanId, reason: Reason) {
        self.counters(vlan).add_silence(reason);
    }

    /// Returns all records.
    pub fn leases(&self) -> impl Iterator<Item = (VlanId, Ipv6Addr, &Lease)> {
        let segments = self.segments.iter();
        segments.flat_map(|(vlan, state)| state.table.iter().map(|(at, lease)| (*vlan, at, lease)))
    }

    /// Returns the number of records.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.segments.values().map(|state| state.table.len()).sum()
    }

    /// Returns, for each segment with a scope, its name, usage and counters.
    pub fn segments(&self) -> impl Iterator<Item = (&Scope6, Usage, &Counters)> {
        self.scopes.six.iter().filter_map(|(vlan, scope)| {
            let state = self.segments.get(vlan)?;
            Some((scope.as_ref(), state.table.usage(), &state.counters))
        })
    }

    /// Returns the counters of everything that belongs to no scope.
    #[must_use]
    pub fn elsewhere(&self) -> &Counters {
        &self.elsewhere
    }
}

/// The hardware address of a relayed client: said by the relay (RFC 6939), else out of its link-local
/// address (RFC 4291, appendix A), else out of its DUID (RFC 8415 sections 11.2 and 11.4).
fn client_mac(relay: &Relay<'_>, message: &Message<'_>) -> Option<MacAddr> {
    if relay.mac.is_some() {
        return relay.mac;
    }
    if relay.peer.is_unicast_link_local()
        && let [.., a, b, c, 0xff, 0xfe, d, e, f] = relay.peer.octets()
    {
        return Some(MacAddr([a ^ 2, b, c, d, e, f]));
    }
    match *message.client? {
        [0, 1, 0, 1, _, _, _, _, a, b, c, d, e, f] | [0, 3, 0, 1, a, b, c, d, e, f] => {
            Some(MacAddr([a, b, c, d, e, f]))
        }
        _ => None,
    }
}

fn expire(vlan: VlanId, state: &mut SegmentState, changes: &mut Vec<Change>, now: Time) {
    for address in state.table.due(now) {
        let Some(old) = state.table.get(address).cloned() else {
            continue;
        };
        if old.state == State::Bound {
            state.counters.add(Event::Expired);
        }
        let after = Lease {
            state: State::Expired,
            until: old.until.min(now.seconds()),
            ..old
        };
        let before = state.table.set(address, Some(after.clone()));
        changes.push(Change {
            vlan,
            address: address.into(),
            before,
            after,
        });
    }
}
