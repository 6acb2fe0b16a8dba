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
mod link;
mod offer;
mod probe;
mod segment;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dhcproto::v4::MessageType;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::{Lease, State};

use crate::counters::{Counters, Event, Reason};
use crate::options::Answer;
use crate::request::{Kind, Request};
use crate::scope::{Scope, Scopes};
use crate::settings::Settings;
use crate::table::{Table, Usage};
use crate::time::Time;
use case::Decision;
use probe::Probe;
use segment::{SegmentState, admit, expire, is_home};

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

/// The server.
#[derive(Debug, Default)]
pub struct Engine {
    settings: Settings,
    scopes: Scopes,
    /// The router's addresses on all of them.
    gateways: HashSet<Ipv4Addr>,
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
        self.gateways = scopes.by_vlan.values().map(|scope| scope.gateway).collect();
        self.scopes = scopes;
        for (vlan, scope) in &self.scopes.by_vlan {
            let state = self.segments.entry(*vlan).or_default();
            state.table.fit(scope);
            let bound = state
                .table
                .iter()
                .filter(|(_, lease)| lease.state == State::Bound);
            let count = bound
                .filter(|(at, lease)| !is_home(scope, *at, lease))
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
        expire((vlan, Some(&scope)), state, &mut self.changes, now);
        admit(&self.settings, &scope, state, (&request, now))?;
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
            // A renewal through a router goes back to the router.
            (inbound.source, request.ciaddr, CLIENT_PORT)
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
            let scope = self.scopes.by_vlan.get(vlan).map(AsRef::as_ref);
            if let Some(scope) = scope {
                state.table.end_offers(scope, now);
            }
            expire((*vlan, scope), state, &mut self.changes, now);
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
