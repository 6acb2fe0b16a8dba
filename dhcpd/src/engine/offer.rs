//! DHCPDISCOVER, and the DHCPREQUEST that takes an offer: RFC 2131 sections 4.3.1 and 4.3.2.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;
use netmodel::leases::State;

use super::case::{Case, Decision};
use crate::counters::Reason;
use crate::options::Answer;

impl Case<'_> {
    pub(super) fn discover(&mut self) -> Result<Decision, Reason> {
        let at = match self.choose() {
            Ok(at) => at,
            // RFC 2563 section 2.2: a server that has no address for the client tells it not to make one up.
            Err(_) if self.request.auto_configure => {
                return Ok(Decision::Answer(Answer {
                    no_auto_configure: true,
                    ..Answer::bare(MessageType::Offer)
                }));
            }
            Err(reason) => return Err(reason),
        };
        let is_new = self.state.table.get(at).is_none();
        let is_local = self.request.giaddr.is_unspecified();
        let is_offered = self.state.table.offer_to(self.request.mac) == Some(at);
        if is_new
            && is_local
            && !is_offered
            && self.settings.probe_wait > 0
            && self.scope.is_dynamic(at)
        {
            return Ok(Decision::Probe(at));
        }
        Ok(Decision::Answer(self.offer(at)))
    }

    /// Offers the address, or binds it if the client asked for that (RFC 4039).
    pub(super) fn offer(&mut self, at: Ipv4Addr) -> Answer {
        if self.request.rapid_commit {
            let time = self.bind(at);
            return Answer {
                is_rapid: true,
                ..given(MessageType::Ack, at, time)
            };
        }
        self.keep(at, 0);
        given(MessageType::Offer, at, self.lease_time(at))
    }

    /// Keeps the address for the client until it may have taken it; `millis` is what is to happen before.
    pub(super) fn keep(&mut self, at: Ipv4Addr, millis: u32) {
        let wait = u64::from(self.settings.offer_time) * 1000 + u64::from(millis);
        let until = self.now.plus_millis(wait);
        self.state
            .table
            .offer(self.scope, (at, self.request.mac), until);
    }

    /// Chooses an address for the client, in the order of RFC 2131 section 4.3.1: what it has, what it had,
    /// what it asks for, any; but a reservation before all.
    fn choose(&self) -> Result<Ipv4Addr, Reason> {
        if let Some(reserved) = self.reservation() {
            return Ok(reserved);
        }
        let can_have = |at: &Ipv4Addr| self.check(*at).is_ok();
        let bound = self.own().filter(|(_, lease)| lease.state == State::Bound);
        let mut records = bound.chain(self.own()).map(|(at, _)| at);
        if let Some(at) = records.find(can_have) {
            return Ok(at);
        }
        if self.scope.pool.is_none() {
            return Err(Reason::NoReservation);
        }
        if !self.scope.takes_new {
            return Err(Reason::Draining);
        }
        if self.is_at_cap() {
            return Err(Reason::TooManyLeases);
        }
        let offered = self.state.table.offer_to(self.request.mac);
        let mut wishes = offered.into_iter().chain(self.request.requested);
        let free = || self.state.table.choose(self.request.mac);
        wishes
            .find(can_have)
            .or_else(free)
            .ok_or(Reason::PoolExhausted)
    }

    pub(super) fn selecting(&mut self, server: Ipv4Addr, at: Ipv4Addr) -> Result<Decision, Reason> {
        if server != self.scope.gateway {
            // The client took another's offer: "servers not selected … use the message as notification".
            self.state.table.withdraw(self.scope, self.request.mac);
            return Err(Reason::OtherServer);
        }
        if self.check(at).is_ok() {
            return Ok(self.acknowledge(at));
        }
        if self.is_stranger() {
            return Err(Reason::NoReservation);
        }
        Ok(self.refuse(at))
    }

    /// Would the scope never give this client anything?
    pub(super) fn is_stranger(&self) -> bool {
        self.scope.pool.is_none() && self.reserved().is_none() && self.own().next().is_none()
    }

    /// DHCPACK: the address is the client's.
    pub(super) fn acknowledge(&mut self, at: Ipv4Addr) -> Decision {
        let time = self.bind(at);
        Decision::Answer(given(MessageType::Ack, at, time))
    }

    /// DHCPNAK: the client must not use the address; if it has a lease of it, that ends.
    pub(super) fn refuse(&mut self, at: Ipv4Addr) -> Decision {
        if self
            .own_at(at)
            .is_some_and(|lease| lease.state == State::Bound)
        {
            self.end(at, State::Revoked);
        }
        Decision::Answer(Answer::bare(MessageType::Nak))
    }
}

/// An answer with an address.
pub(super) fn given(kind: MessageType, at: Ipv4Addr, seconds: u32) -> Answer {
    Answer {
        yiaddr: at,
        lease_time: Some(seconds),
        ..Answer::bare(kind)
    }
}
