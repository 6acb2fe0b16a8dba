//! One message of one client, and what the server knows at that moment.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;
use netmodel::leases::{Lease, State};

use super::Change;
use super::segment::{SegmentState, end};
use crate::counters::{Event, Reason};
use crate::options::Answer;
use crate::request::{ClientState, Kind, Request};
use crate::scope::Scope;
use crate::settings::{
    INTERIM_LEASE_TIME, MIN_LEASE_TIME, RESERVED_DECLINE_TIME, SCARCE_LEASE_TIME, Settings,
};
use crate::time::Time;

/// What is done about a message.
#[derive(Debug)]
pub(super) enum Decision {
    /// It is answered.
    Answer(Answer),
    /// The address is probed first.
    Probe(Ipv4Addr),
}

/// Why a client cannot have an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denied {
    /// It is not in the subnet.
    WrongNet,
    /// The client has a reservation of another address, which is free.
    Moved,
    /// It is reserved for, bound to or offered to somebody else, or in quarantine.
    Held,
    /// It was the client's, and the scope does not have it any more: until the lease ends.
    Foreign,
    /// The scope does not give it, or not to new clients.
    NotGiven,
}

/// A message and what it is judged by.
pub(super) struct Case<'a> {
    pub(super) settings: &'a Settings,
    pub(super) scope: &'a Scope,
    pub(super) state: &'a mut SegmentState,
    pub(super) changes: &'a mut Vec<Change>,
    pub(super) request: &'a Request,
    pub(super) now: Time,
}

impl Case<'_> {
    /// Decides.
    pub(super) fn decide(&mut self) -> Result<Decision, Reason> {
        match self.request.kind {
            Kind::Discover => self.discover(),
            Kind::Request => match self.request.state()? {
                ClientState::Selecting(server, at) => self.selecting(server, at),
                ClientState::InitReboot(at) => self.init_reboot(at),
                ClientState::Extending(at) => self.extending(at),
            },
            Kind::Decline => self.decline(),
            Kind::Release => self.release(),
            Kind::Inform => self.inform(),
        }
    }

    /// Returns the client's records: those of its hardware address, and if that may have several
    /// leases, of its client identifier.
    pub(super) fn own(&self) -> impl Iterator<Item = (Ipv4Addr, &Lease)> {
        let any_id = self.settings.leases_per_mac == 1;
        let records = self.state.table.of(self.request.mac);
        records.filter(move |(_, lease)| {
            lease.state != State::Declined && (any_id || lease.client_id == self.request.client_id)
        })
    }

    /// Returns the client's record of an address.
    pub(super) fn own_at(&self, at: Ipv4Addr) -> Option<&Lease> {
        self.own()
            .find(|(address, _)| *address == at)
            .map(|(_, lease)| lease)
    }

    /// Returns the client's reserved address.
    pub(super) fn reserved(&self) -> Option<Ipv4Addr> {
        let request = self.request;
        self.scope.reserved(request.mac, &request.client_id)
    }

    /// Returns the client's reserved address, if nobody else holds it still.
    pub(super) fn reservation(&self) -> Option<Ipv4Addr> {
        let reserved = self.reserved();
        reserved.filter(|at| !self.state.table.is_held_from(self.request.mac, *at))
    }

    /// May the client have the address?
    pub(super) fn check(&self, at: Ipv4Addr) -> Result<(), Denied> {
        if !self.scope.net.contains(&at) {
            return Err(Denied::WrongNet);
        }
        if let Some(reserved) = self.reservation() {
            return if at == reserved {
                Ok(())
            } else {
                Err(Denied::Moved)
            };
        }
        let is_bound = self
            .own_at(at)
            .is_some_and(|lease| lease.state == State::Bound);
        let is_anyones = self
            .state
            .table
            .get(at)
            .is_some_and(|lease| lease.state == State::Bound);
        if self.state.table.is_held_from(self.request.mac, at) || (is_anyones && !is_bound) {
            return Err(Denied::Held);
        }
        if !self.scope.is_dynamic(at) {
            let is_reserved = self.scope.is_reserved(at);
            return Err(match (is_reserved, is_bound) {
                (true, _) => Denied::Held,
                (false, true) => Denied::Foreign,
                (false, false) => Denied::NotGiven,
            });
        }
        if !is_bound && (!self.scope.takes_new || self.is_at_cap()) {
            return Err(Denied::NotGiven);
        }
        Ok(())
    }

    /// Does the hardware address hold as many leases as it may, for other client identifiers?
    pub(super) fn is_at_cap(&self) -> bool {
        let most = self.settings.leases_per_mac as usize;
        let others = self.state.table.of(self.request.mac).filter(|(_, lease)| {
            lease.state == State::Bound && lease.client_id != self.request.client_id
        });
        most > 1 && others.count() >= most
    }

    /// Returns how long the client would have the address from now on, in seconds.
    pub(super) fn lease_time(&self, at: Ipv4Addr) -> u32 {
        let longest = self.scope.told_to(self.request.mac).lease_time;
        let asked = self
            .request
            .lease_time
            .unwrap_or(longest)
            .max(MIN_LEASE_TIME);
        let time = longest.min(asked);
        let reserved = self.reserved();
        if reserved.is_some_and(|reserved| reserved != at) {
            return time.min(INTERIM_LEASE_TIME);
        }
        let is_bound = self
            .own_at(at)
            .is_some_and(|lease| lease.state == State::Bound);
        if reserved.is_none() && !is_bound && self.state.table.is_scarce() {
            return time.min(SCARCE_LEASE_TIME);
        }
        time
    }

    /// Binds the address to the client, and ends what else it had. Returns the seconds.
    pub(super) fn bind(&mut self, at: Ipv4Addr) -> u32 {
        let time = self.lease_time(at);
        let held = self
            .own()
            .filter(|(address, lease)| *address != at && lease.state == State::Bound);
        let held: Vec<_> = held.map(|(address, _)| address).collect();
        for address in held {
            self.end(address, State::Released);
        }
        let now = self.now.seconds();
        let known = self.own_at(at).filter(|lease| lease.state == State::Bound);
        let after = Lease {
            mac: self.request.mac,
            state: State::Bound,
            since: known.map_or(now, |lease| lease.since),
            until: now + u64::from(time),
            client_id: self.request.client_id.clone(),
            hostname: self.request.hostname.clone(),
        };
        self.state.table.withdraw(self.scope, self.request.mac);
        self.set(at, after);
        time
    }

    /// Ends the lease of an address.
    pub(super) fn end(&mut self, at: Ipv4Addr, to: State) {
        let vlan = self.scope.vlan;
        end(
            vlan,
            Some(self.scope),
            self.state,
            (at, to, self.now),
            self.changes,
        );
    }

    /// Changes the record of an address.
    fn set(&mut self, address: Ipv4Addr, after: Lease) {
        let before = self
            .state
            .table
            .set(Some(self.scope), address, Some(after.clone()));
        self.changes.push(Change {
            vlan: self.scope.vlan,
            address: address.into(),
            before,
            after,
        });
    }

    /// RFC 2131 section 4.3.3: "the server MUST mark the network address as not available".
    fn decline(&mut self) -> Result<Decision, Reason> {
        let at = self.request.requested.ok_or(Reason::NotInTable4)?;
        let is_bound = self
            .own_at(at)
            .is_some_and(|lease| lease.state == State::Bound);
        let is_offered = self.state.table.offer_to(self.request.mac) == Some(at);
        if !is_bound && !is_offered {
            return Err(Reason::NotHolder);
        }
        self.state.table.withdraw(self.scope, self.request.mac);
        if !self.quarantine(at) && is_bound {
            self.end(at, State::Released);
        }
        Err(Reason::Declined)
    }

    /// Keeps everybody from an address for some time, unless too much of the pool is kept already.
    pub(super) fn quarantine(&mut self, at: Ipv4Addr) -> bool {
        if !self.state.table.can_decline() {
            self.state.counters.add(Event::QuarantineFull);
            return false;
        }
        let longest = u64::from(self.settings.decline_time);
        let is_reserved = self.reserved() == Some(at);
        let time = if is_reserved {
            longest.min(RESERVED_DECLINE_TIME)
        } else {
            longest
        };
        let now = self.now.seconds();
        let after = Lease {
            mac: self.request.mac,
            state: State::Declined,
            since: now,
            until: now + time,
            client_id: self.request.client_id.clone(),
            hostname: Box::default(),
        };
        self.set(at, after);
        true
    }

    /// RFC 2131 section 4.3.4; only the holder can.
    fn release(&mut self) -> Result<Decision, Reason> {
        let at = self.request.ciaddr;
        if self
            .own_at(at)
            .is_none_or(|lease| lease.state != State::Bound)
        {
            return Err(Reason::NotHolder);
        }
        self.end(at, State::Released);
        Err(Reason::Released)
    }

    /// RFC 2131 section 4.3.5: "The server MUST NOT send a lease expiration time to the client and
    /// SHOULD NOT fill in 'yiaddr'."
    fn inform(&mut self) -> Result<Decision, Reason> {
        if !self.scope.net.contains(&self.request.ciaddr) {
            return Err(Reason::NotInTable4);
        }
        let is_stranger = self.scope.pool.is_none() && self.reserved().is_none();
        if is_stranger {
            return Err(Reason::NoReservation);
        }
        Ok(Decision::Answer(Answer::bare(MessageType::Ack)))
    }
}
