//! The DHCPv4 server without any input or output: a message and the time come in, an answer goes out.
//!
//! # Guarantees
//!
//! * **The VLAN decides.** A request is answered out of the scope of the VLAN that it came in on, whatever it
//!   says; only a relay that the settings name can ask for another one, out of those that it serves.
//! * **One client, one address.** A client is its hardware address, which the data plane vouches for; a client
//!   identifier is anybody's to choose, and only tells clients of one hardware address apart. An address
//!   is one client's until the lease ends, is given back or is taken back.
//! * **Nothing is promised before it is written.** What [`Engine::changes`] holds must be durable before any
//!   [`Reply`] with [`Reply::is_binding`] is sent; else [`Engine::revert`].
//! * **A reservation wins.** Its address is given to nobody else, and its client gets no other one, except while
//!   an older lease of the address still runs.
//!
//! ADR 0009 says why it is built so; `docs/dhcp.md` names the test of each section of the RFCs.

mod case;
mod extend;
mod offer;
mod probe;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dhcproto::v4::MessageType;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::{Lease, State};

use crate::counters::{Counters, Event, Reason};
use crate::limit::{Limits, Rate};
use crate::options::Answer;
use crate::request::{Kind, Request};
use crate::scope::{Scope, Scopes};
use crate::settings::Settings;
use crate::table::{Table, Usage};
use crate::time::Time;
use case::Decision;
use probe::Probe;

/// UDP port of clients.
const CLIENT_PORT: u16 = 68;
/// UDP port of servers and relays.
pub const SERVER_PORT: u16 = 67;

/// A message as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The VLAN of the frame.
    pub vlan: VlanId,
    /// The frame's source.
    pub source: MacAddr,
    /// The packet's destination.
    pub to: Ipv4Addr,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// What becomes of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is answered.
    Reply(Reply),
    /// An address is to be probed; [`Engine::poll`] gives the answer later.
    Probe(ProbeRequest),
    /// It is not answered.
    Silence(Reason),
}

/// A question to a segment: does anybody have this address (RFC 5227 section 2.1.1)?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbeRequest {
    /// The VLAN.
    pub vlan: VlanId,
    /// The address.
    pub address: Ipv4Addr,
}

/// An answer: a UDP datagram from port 67, and the frame that it goes into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The VLAN of the frame.
    pub vlan: VlanId,
    /// The frame's destination.
    pub to_mac: MacAddr,
    /// The packet's source: the gateway of the segment.
    pub from: Ipv4Addr,
    /// The packet's destination.
    pub to: Ipv4Addr,
    /// UDP destination port.
    pub to_port: u16,
    /// UDP payload.
    pub payload: Vec<u8>,
    /// It promises what [`Engine::changes`] holds.
    pub is_binding: bool,
}

/// A change of the record of an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The VLAN.
    pub vlan: VlanId,
    /// The address, of either family.
    pub address: IpAddr,
    /// What it was.
    pub before: Option<Lease>,
    /// What it is.
    pub after: Lease,
}

/// All that is known of one segment. Outlives its scope: a lease does not end because a file changed.
#[derive(Debug, Default)]
struct SegmentState {
    table: Table,
    limits: Limits,
    counters: Counters,
}

/// The server.
#[derive(Debug, Default)]
pub struct Engine {
    settings: Settings,
    scopes: Scopes,
    segments: BTreeMap<VlanId, SegmentState>,
    probes: BTreeMap<(VlanId, Ipv4Addr), Probe>,
    changes: Vec<Change>,
    /// Messages on VLANs without a scope.
    elsewhere: Counters,
}

impl Engine {
    /// Makes a server without leases.
    #[must_use]
    pub fn new(settings: Settings, scopes: Scopes) -> Self {
        let mut engine = Self {
            settings,
            ..Self::default()
        };
        engine.switch(scopes);
        engine
    }

    /// Serves another generation from now on. No lease is lost: what does not fit it any more is
    /// kept until it ends. Returns how many bound leases do not fit, by the name of their segment.
    pub fn switch(&mut self, scopes: Scopes) -> BTreeMap<String, usize> {
        let mut foreign = BTreeMap::new();
        self.scopes = scopes;
        for (vlan, scope) in &self.scopes.by_vlan {
            let state = self.segments.entry(*vlan).or_default();
            state.table.fit(scope);
            let bound = state
                .table
                .iter()
                .filter(|(_, lease)| lease.state == State::Bound);
            let count = bound
                .filter(|(at, lease)| !is_home(scope, *at, lease.mac))
                .count();
            if count > 0 {
                foreign.insert(scope.name.clone(), count);
            }
        }
        for (vlan, state) in &self.segments {
            let bound = state.table.usage().bound;
            if bound > 0 && !self.scopes.by_vlan.contains_key(vlan) {
                foreign.insert(format!("VLAN {vlan}"), bound);
            }
        }
        self.probes.clear();
        foreign
    }

    /// Takes over leases that were written down before; the last one of an address counts.
    pub fn restore(&mut self, leases: impl IntoIterator<Item = (VlanId, Ipv4Addr, Lease)>) {
        let mut by_vlan: BTreeMap<VlanId, Vec<(Ipv4Addr, Lease)>> = BTreeMap::new();
        for (vlan, address, lease) in leases {
            by_vlan.entry(vlan).or_default().push((address, lease));
        }
        for (vlan, leases) in by_vlan {
            let state = self.segments.entry(vlan).or_default();
            // Out of a list, a tree is made at once: the last of equal keys stays.
            state.table = Table::load(leases.into_iter().collect());
            if let Some(scope) = self.scopes.by_vlan.get(&vlan) {
                state.table.fit(scope);
            }
        }
    }

    /// Judges one message.
    pub fn receive(&mut self, inbound: &Inbound<'_>, now: Time) -> Verdict {
        let (vlan, verdict) = match Request::parse(inbound.payload) {
            Err(reason) => (inbound.vlan, Err(reason)),
            Ok(request) => match self.link(inbound, &request) {
                Err(reason) => (inbound.vlan, Err(reason)),
                Ok(vlan) => (vlan, self.answer(vlan, inbound, request, now)),
            },
        };
        verdict.unwrap_or_else(|reason| {
            self.counters(vlan).add_silence(reason);
            Verdict::Silence(reason)
        })
    }

    /// Counts a frame that never became a message.
    pub fn count_refused(&mut self, vlan: Option<VlanId>, reason: Reason) {
        match vlan {
            Some(vlan) => self.counters(vlan).add_silence(reason),
            None => self.elsewhere.add_silence(reason),
        }
    }

    fn counters(&mut self, vlan: VlanId) -> &mut Counters {
        match self.segments.get_mut(&vlan) {
            Some(state) => &mut state.counters,
            None => &mut self.elsewhere,
        }
    }

    /// Returns the VLAN whose scope answers.
    fn link(&self, inbound: &Inbound<'_>, request: &Request) -> Result<VlanId, Reason> {
        let is_group = request.mac.0.first().is_none_or(|octet| octet & 1 == 1);
        if is_group || request.mac.0 == [0; 6] {
            return Err(Reason::MacNotUnicast);
        }
        if !self.is_for_us(inbound.to, inbound.vlan, request) {
            return Err(Reason::OtherDestination);
        }
        if request.giaddr.is_unspecified() {
            let is_own = request.mac == inbound.source;
            return if is_own {
                Ok(inbound.vlan)
            } else {
                Err(Reason::MacMismatch)
            };
        }
        let relay = self.scopes.relays.get(&request.giaddr);
        let relay = relay
            .filter(|relay| relay.vlan == inbound.vlan)
            .ok_or(Reason::UnknownRelay)?;
        // RFC 3527 section 3: the link of the client, where it is not that of `giaddr`.
        let link = request.link.unwrap_or(request.giaddr);
        let is_on = |vlan: &&VlanId| {
            self.scopes
                .by_vlan
                .get(*vlan)
                .is_some_and(|scope| scope.net.contains(&link))
        };
        relay
            .serves
            .iter()
            .find(is_on)
            .copied()
            .ok_or(Reason::RelayLink)
    }

    /// Is the packet sent to everybody, or to this server? A router also sees what is for servers elsewhere.
    fn is_for_us(&self, to: Ipv4Addr, vlan: VlanId, request: &Request) -> bool {
        let is_at = |scope: &Arc<Scope>| to == scope.gateway;
        if !request.giaddr.is_unspecified() {
            return self.scopes.by_vlan.values().any(is_at);
        }
        let scope = self.scopes.by_vlan.get(&vlan);
        to == Ipv4Addr::BROADCAST
            || scope.is_some_and(|scope| is_at(scope) || to == scope.net.broadcast())
    }

    fn answer(
        &mut self,
        vlan: VlanId,
        inbound: &Inbound<'_>,
        request: Request,
        now: Time,
    ) -> Result<Verdict, Reason> {
        let scope = Arc::clone(self.scopes.by_vlan.get(&vlan).ok_or(Reason::NoScope)?);
        let state = self.segments.entry(vlan).or_default();
        state.table.end_offers(&scope, now);
        expire(&scope, state, &mut self.changes, now);
        admit(&self.settings, &scope, state, (request.mac, now))?;
        state.counters.add(match request.kind {
            Kind::Discover => Event::Discover,
            Kind::Request => Event::Request,
            Kind::Decline => Event::Decline,
            Kind::Release => Event::Release,
            Kind::Inform => Event::Inform,
        });
        self.judge(&scope, inbound, request, now)
    }

    /// Decides on a message that was let in.
    fn judge(
        &mut self,
        scope: &Scope,
        inbound: &Inbound<'_>,
        request: Request,
        now: Time,
    ) -> Result<Verdict, Reason> {
        if request.kind == Kind::Discover && self.is_probing(scope.vlan, request.mac) {
            return Err(Reason::Probing);
        }
        let before = self.changes.len();
        let decision = self.case(scope, &request, now).decide()?;
        let is_binding = self.changes.len() > before;
        Ok(match decision {
            Decision::Answer(answer) => {
                let reply = self.reply((inbound, &request), scope, &answer);
                Verdict::Reply(Reply {
                    is_binding,
                    ..reply
                })
            }
            Decision::Probe(address) => self.park(inbound.source, request, (scope, address), now),
        })
    }

    /// Addresses an answer: RFC 2131 section 4.1.
    fn reply(
        &mut self,
        (inbound, request): (&Inbound<'_>, &Request),
        scope: &Scope,
        answer: &Answer,
    ) -> Reply {
        let event = if answer.no_auto_configure {
            Event::NoAutoConfigure
        } else if answer.kind == MessageType::Ack {
            Event::Ack
        } else if answer.kind == MessageType::Nak {
            Event::Nak
        } else {
            Event::Offer
        };
        self.counters(scope.vlan).add(event);
        let all = (MacAddr([0xff; 6]), Ipv4Addr::BROADCAST, CLIENT_PORT);
        let (to_mac, to, to_port) = if !request.giaddr.is_unspecified() {
            (inbound.source, request.giaddr, SERVER_PORT)
        } else if answer.kind == MessageType::Nak {
            // "In all cases, when 'giaddr' is zero, the server broadcasts any DHCPNAK messages to 0xffffffff."
            all
        } else if !request.ciaddr.is_unspecified() {
            (request.mac, request.ciaddr, CLIENT_PORT)
        } else if request.broadcast || answer.yiaddr.is_unspecified() {
            all
        } else {
            (request.mac, answer.yiaddr, CLIENT_PORT)
        };
        Reply {
            vlan: inbound.vlan,
            to_mac,
            from: scope.gateway,
            to,
            to_port,
            payload: answer.encode(scope, request),
            is_binding: false,
        }
    }

    /// Ends leases whose time is over. To be called from time to time; a message does it for its segment.
    pub fn expire(&mut self, now: Time) {
        for (vlan, state) in &mut self.segments {
            match self.scopes.by_vlan.get(vlan) {
                Some(scope) => {
                    state.table.end_offers(scope, now);
                    expire(scope, state, &mut self.changes, now);
                }
                None => expire_orphans(*vlan, state, &mut self.changes, now),
            }
        }
    }

    /// Returns what changed since the last [`Engine::commit`] or [`Engine::revert`], in order.
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
            let scope = self.scopes.by_vlan.get(&change.vlan);
            if let Some(state) = self.segments.get_mut(&change.vlan)
                && let IpAddr::V4(address) = change.address
            {
                let scope = scope.map(AsRef::as_ref);
                state.table.set(scope, address, change.before);
            }
        }
    }

    /// Returns all records.
    pub fn leases(&self) -> impl Iterator<Item = (VlanId, Ipv4Addr, &Lease)> {
        let segments = self.segments.iter();
        segments.flat_map(|(vlan, state)| state.table.iter().map(|(at, lease)| (*vlan, at, lease)))
    }

    /// Returns the number of records.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.segments.values().map(|state| state.table.len()).sum()
    }

    /// Returns, for each segment with a scope, its name, usage and counters.
    pub fn segments(&self) -> impl Iterator<Item = (&Scope, Usage, &Counters)> {
        self.scopes.by_vlan.iter().filter_map(|(vlan, scope)| {
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

/// Is the address one that the scope could give to this client today?
fn is_home(scope: &Scope, address: Ipv4Addr, mac: MacAddr) -> bool {
    match scope.reserved(mac) {
        Some(reserved) => reserved == address,
        None => scope.is_dynamic(address),
    }
}

/// Limits rates. Strangers share one; whoever has a lease or a reservation is not theirs to crowd out.
fn admit(
    settings: &Settings,
    scope: &Scope,
    state: &mut SegmentState,
    (mac, now): (MacAddr, Time),
) -> Result<(), Reason> {
    let holds = |(_, lease): (_, &Lease)| lease.state == State::Bound;
    let is_known = scope.reserved(mac).is_some() || state.table.of(mac).any(holds);
    let rate = |per_second: u32, burst: u64| Rate {
        per_second: per_second.into(),
        burst: u64::from(per_second) * burst,
    };
    if !is_known
        && !state
            .limits
            .admit_stranger(rate(settings.strangers_per_segment, 2), now)
    {
        return Err(Reason::RateStrangers);
    }
    if !state
        .limits
        .admit_mac(mac, rate(settings.messages_per_mac, 4), now)
    {
        return Err(Reason::RateMac);
    }
    Ok(())
}

fn expire(scope: &Scope, state: &mut SegmentState, changes: &mut Vec<Change>, now: Time) {
    for address in state.table.due(now) {
        end(
            scope.vlan,
            Some(scope),
            state,
            (address, State::Expired, now),
            changes,
        );
    }
}

fn expire_orphans(vlan: VlanId, state: &mut SegmentState, changes: &mut Vec<Change>, now: Time) {
    for address in state.table.due(now) {
        end(vlan, None, state, (address, State::Expired, now), changes);
    }
}

/// Ends the lease of an address.
fn end(
    vlan: VlanId,
    scope: Option<&Scope>,
    state: &mut SegmentState,
    (address, to, now): (Ipv4Addr, State, Time),
    changes: &mut Vec<Change>,
) {
    let Some(old) = state.table.get(address).cloned() else {
        return;
    };
    if old.state == State::Bound {
        match to {
            State::Expired => state.counters.add(Event::Expired),
            State::Revoked => state.counters.add(Event::Revoked),
            State::Bound | State::Declined | State::Released => {}
        }
    }
    let after = Lease {
        state: to,
        until: old.until.min(now.seconds()),
        ..old
    };
    let before = state.table.set(scope, address, Some(after.clone()));
    changes.push(Change {
        vlan,
        address: address.into(),
        before,
        after,
    });
}
