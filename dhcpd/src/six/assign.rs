//! What a client gets: RFC 8415 section 18.3.

use std::net::Ipv6Addr;

use netmodel::ids::MacAddr;
use netmodel::leases::{Lease, State};

use super::message::{Ia, Kind, Message};
use super::reply::{Answer, IaAnswer, Status};
use super::scope::Scope6;
use super::table::Table6;
use crate::counters::Reason;
use crate::engine::Change;
use crate::settings::{
    INTERIM_LEASE_TIME, MIN_LEASE_TIME, RESERVED_DECLINE_TIME, SCARCE_LEASE_TIME, Settings,
};
use crate::time::Time;

/// How many addresses are tried for a client.
const TRIES: u64 = 4096;

/// A message and what it is judged by.
pub(super) struct Case<'a> {
    pub(super) settings: &'a Settings,
    pub(super) scope: &'a Scope6,
    pub(super) table: &'a mut Table6,
    pub(super) changes: &'a mut Vec<Change>,
    pub(super) message: &'a Message<'a>,
    pub(super) mac: MacAddr,
    pub(super) now: Time,
}

impl Case<'_> {
    /// Decides.
    pub(super) fn decide(&mut self) -> Result<Answer, Reason> {
        match self.message.kind {
            Kind::Solicit if self.message.rapid_commit => {
                let answer = self.give(true)?;
                Ok(Answer {
                    is_rapid: answer.ias.iter().any(|ia| ia.address.is_some()),
                    is_advertise: !answer.ias.iter().any(|ia| ia.address.is_some()),
                    ..answer
                })
            }
            Kind::Solicit => Ok(Answer {
                is_advertise: true,
                ..self.give(false)?
            }),
            Kind::Request | Kind::Renew | Kind::Rebind => self.give(true),
            Kind::Confirm => self.confirm(),
            Kind::Release => Ok(self.give_back(Self::release)),
            Kind::Decline => Ok(self.give_back(Self::decline)),
            Kind::InformationRequest if self.is_stranger() => Err(Reason::NoReservation),
            Kind::InformationRequest => Ok(Answer::default()),
        }
    }

    /// Would the scope never give this client anything?
    fn is_stranger(&self) -> bool {
        self.scope.is_static_only() && !self.scope.reservations.contains_key(&self.mac)
    }

    /// Gives an address to one identity association: the one that has it, else the first.
    fn give(&mut self, is_bound: bool) -> Result<Answer, Reason> {
        if self.is_stranger() && self.table.bound_to(self.mac).is_none() {
            return Err(Reason::NoReservation);
        }
        let chosen = self.choose();
        let held = self.table.bound_to(self.mac).map(|(_, lease)| lease);
        let known = held.and_then(|lease| identity(&lease.client_id));
        let ias = &self.message.ias;
        let with = ias.iter().position(|ia| Some(ia.id) == known).unwrap_or(0);
        let mut answers = Vec::new();
        for (index, ia) in ias.iter().enumerate() {
            let address = chosen.filter(|_| index == with);
            let given = address.map(|at| (at, self.lease_time(at)));
            if let Some((at, time)) = given
                && is_bound
            {
                self.bind(at, (ia.id, time));
            }
            answers.push(IaAnswer {
                id: ia.id,
                address: given,
                // RFC 8415 section 18.3.4: what the client must not use any longer.
                over: ia
                    .addresses
                    .iter()
                    .copied()
                    .filter(|at| Some(*at) != address)
                    .collect(),
                status: address.is_none().then_some(Status::NoAddrsAvail),
            });
        }
        Ok(Answer {
            ias: answers,
            ..Answer::default()
        })
    }

    /// Chooses an address: the reserved one, the one it has, the one it had, any.
    fn choose(&self) -> Option<Ipv6Addr> {
        let is_free = |at: &Ipv6Addr| !self.table.is_held_from(self.mac, *at);
        let reserved = self.scope.reservations.get(&self.mac).copied();
        if let Some(reserved) = reserved.filter(is_free) {
            return Some(reserved);
        }
        let bound = self.table.bound_to(self.mac).map(|(at, _)| at);
        if let Some(at) = bound.filter(|at| self.scope.is_dynamic(*at)) {
            return Some(at);
        }
        if !self.scope.gives_any() || !self.scope.takes_new || !self.table.has_room() {
            return bound.filter(|at| self.left(*at) >= MIN_LEASE_TIME);
        }
        let can_have = |at: &Ipv6Addr| self.scope.is_dynamic(*at) && is_free(at);
        let had = self.table.of(self.mac).map(|(at, _)| at);
        let made = (0..TRIES).map(|nth| self.scope.address_of(self.mac, nth));
        had.chain(made).find(can_have)
    }

    /// The scope does not give the client's address any more, but nobody else has it either: the client keeps it until the
    /// lease ends. Returns for how many seconds that is.
    fn left(&self, at: Ipv6Addr) -> u32 {
        let own = self.table.bound_to(self.mac).filter(|(own, _)| *own == at);
        let is_kept = self.scope.net.contains(&at) && !self.scope.fixed.contains(&at);
        let until = own.filter(|_| is_kept).map_or(0, |(_, lease)| lease.until);
        let left = until.saturating_sub(self.now.seconds());
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Returns how long the client would have the address from now on, in seconds.
    fn lease_time(&self, at: Ipv6Addr) -> u32 {
        if !self.scope.is_home(self.mac, at) && !self.scope.is_dynamic(at) {
            return self.left(at);
        }
        let longest = self.scope.told.lease_time;
        let reserved = self.scope.reservations.get(&self.mac);
        if reserved.is_some_and(|reserved| *reserved != at) {
            return longest.min(INTERIM_LEASE_TIME);
        }
        let is_bound = self
            .table
            .bound_to(self.mac)
            .is_some_and(|(own, _)| own == at);
        if reserved.is_none() && !is_bound && self.table.is_scarce() {
            return longest.min(SCARCE_LEASE_TIME);
        }
        longest
    }

    /// Binds the address to the client, and ends what else it had.
    fn bind(&mut self, at: Ipv6Addr, (id, time): (u32, u32)) {
        let now = self.now.seconds();
        let held = self
            .table
            .bound_to(self.mac)
            .map(|(own, lease)| (own, lease.since));
        let since = held.filter(|(own, _)| *own == at).map(|(_, since)| since);
        if let Some((own, _)) = held
            && own != at
        {
            self.end(own, State::Released);
        }
        let duid = self.message.client.unwrap_or_default();
        let after = Lease {
            mac: self.mac,
            state: State::Bound,
            since: since.unwrap_or(now),
            until: now + u64::from(time),
            client_id: [&[255], &id.to_be_bytes()[..], duid].concat().into(),
            hostname: Box::default(),
        };
        self.set(at, after);
    }

    fn set(&mut self, at: Ipv6Addr, after: Lease) {
        let before = self.table.set(at, Some(after.clone()));
        self.changes.push(Change {
            vlan: self.scope.vlan,
            address: at.into(),
            before,
            after,
        });
    }

    fn end(&mut self, at: Ipv6Addr, to: State) {
        if let Some(old) = self.table.get(at).cloned() {
            let after = Lease {
                state: to,
                until: old.until.min(self.now.seconds()),
                ..old
            };
            self.set(at, after);
        }
    }

    /// RFC 8415 section 18.3.3: "the server determines whether the addresses in the Confirm message are
    /// appropriate for the link"; without any address there is no answer.
    fn confirm(&self) -> Result<Answer, Reason> {
        if self.is_stranger() {
            return Err(Reason::NoReservation);
        }
        let mut addresses = self
            .message
            .ias
            .iter()
            .flat_map(|ia| &ia.addresses)
            .peekable();
        if addresses.peek().is_none() {
            return Err(Reason::InvalidMessage);
        }
        let is_right = addresses.all(|at| self.scope.net.contains(at));
        let status = if is_right {
            Status::Success
        } else {
            Status::NotOnLink
        };
        Ok(Answer {
            status: Some(status),
            ..Answer::default()
        })
    }

    /// RFC 8415 sections 18.3.7 and 18.3.8: what the client does not hold is named, the rest is done.
    fn give_back(&mut self, one: impl Fn(&mut Self, Ipv6Addr)) -> Answer {
        let message = self.message;
        let mut unknown = Vec::new();
        for Ia { id, addresses } in &message.ias {
            let own = self.table.bound_to(self.mac).map(|(at, _)| at);
            let own = own.filter(|own| addresses.contains(own));
            match own {
                Some(own) => one(self, own),
                None => unknown.push(IaAnswer {
                    id: *id,
                    address: None,
                    over: Vec::new(),
                    status: Some(Status::NoBinding),
                }),
            }
        }
        Answer {
            status: Some(Status::Success),
            ias: unknown,
            is_bare: true,
            ..Answer::default()
        }
    }

    fn release(&mut self, at: Ipv6Addr) {
        self.end(at, State::Released);
    }

    /// Keeps everybody from the address for some time, unless too many are kept already.
    fn decline(&mut self, at: Ipv6Addr) {
        if !self.table.can_decline() {
            self.end(at, State::Released);
            return;
        }
        let longest = u64::from(self.settings.decline_time);
        let is_reserved = self.scope.reservations.get(&self.mac) == Some(&at);
        let time = if is_reserved {
            longest.min(RESERVED_DECLINE_TIME)
        } else {
            longest
        };
        let now = self.now.seconds();
        let after = Lease {
            mac: self.mac,
            state: State::Declined,
            since: now,
            until: now + time,
            client_id: Box::default(),
            hostname: Box::default(),
        };
        self.set(at, after);
    }
}

/// The IAID in a client identifier as RFC 4361 writes it.
fn identity(client_id: &[u8]) -> Option<u32> {
    match client_id {
        [255, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}
