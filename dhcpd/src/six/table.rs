//! The IPv6 addresses of one segment: who has which.
//!
//! One record per address, and at most [`MOST`] of them: clients can be made up, memory cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use netmodel::ids::MacAddr;
use netmodel::leases::{Lease, State};

use crate::table::Usage;
use crate::time::Time;

/// Most records of one segment.
pub(super) const MOST: usize = 65_536;
/// Most leases of one segment that end in one step, so that a step stays short.
const DUE_AT_ONCE: usize = 64;

/// The addresses of one segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Table6 {
    leases: BTreeMap<Ipv6Addr, Lease>,
    by_mac: BTreeSet<(MacAddr, Ipv6Addr)>,
    /// Bound and declined addresses by their end.
    running: BTreeSet<(u64, Ipv6Addr)>,
    /// The others by theirs.
    ended: BTreeSet<(u64, Ipv6Addr)>,
    bound: usize,
    declined: usize,
}

fn is_running(lease: &Lease) -> bool {
    matches!(lease.state, State::Bound | State::Declined)
}

impl Table6 {
    /// Changes the record of an address; returns what it was. If there are too many, the one that
    /// ended first is forgotten.
    pub(super) fn set(&mut self, at: Ipv6Addr, new: Option<Lease>) -> Option<Lease> {
        let old = self.leases.remove(&at);
        if let Some(old) = &old {
            self.by_mac.remove(&(old.mac, at));
            self.running.remove(&(old.until, at));
            self.ended.remove(&(old.until, at));
            self.bound -= usize::from(old.state == State::Bound);
            self.declined -= usize::from(old.state == State::Declined);
        }
        if let Some(new) = new {
            self.by_mac.insert((new.mac, at));
            self.bound += usize::from(new.state == State::Bound);
            self.declined += usize::from(new.state == State::Declined);
            let list = if is_running(&new) {
                &mut self.running
            } else {
                &mut self.ended
            };
            list.insert((new.until, at));
            self.leases.insert(at, new);
        }
        if self.leases.len() > MOST
            && let Some((_, oldest)) = self.ended.first().copied()
        {
            self.set(oldest, None);
        }
        old
    }

    /// Returns the record of an address.
    pub(super) fn get(&self, at: Ipv6Addr) -> Option<&Lease> {
        self.leases.get(&at)
    }

    /// Returns the records of a client.
    pub(super) fn of(&self, mac: MacAddr) -> impl Iterator<Item = (Ipv6Addr, &Lease)> {
        let last = Ipv6Addr::from(u128::MAX);
        let known = self
            .by_mac
            .range((mac, Ipv6Addr::UNSPECIFIED)..=(mac, last));
        known.filter_map(|(_, at)| Some((*at, self.leases.get(at)?)))
    }

    /// Returns the address that a client holds.
    pub(super) fn bound_to(&self, mac: MacAddr) -> Option<(Ipv6Addr, &Lease)> {
        self.of(mac).find(|(_, lease)| lease.state == State::Bound)
    }

    /// Is the address bound to, or kept from, somebody other than this client?
    pub(super) fn is_held_from(&self, mac: MacAddr, at: Ipv6Addr) -> bool {
        self.leases.get(&at).is_some_and(|lease| match lease.state {
            State::Bound => lease.mac != mac,
            State::Declined => true,
            State::Released | State::Expired | State::Revoked => false,
        })
    }

    /// Is there room for one more client?
    pub(super) fn has_room(&self) -> bool {
        self.running.len() < MOST
    }

    /// Is less than a quarter of the room free?
    pub(super) fn is_scarce(&self) -> bool {
        self.running.len() > MOST / 4 * 3
    }

    /// May one more address be put into quarantine?
    pub(super) fn can_decline(&self) -> bool {
        self.declined < MOST / 64
    }

    /// Returns the addresses whose time is over, the first first.
    pub(super) fn due(&self, now: Time) -> Vec<Ipv6Addr> {
        let last = Ipv6Addr::from(u128::MAX);
        let due = self.running.range(..=(now.seconds(), last));
        due.take(DUE_AT_ONCE).map(|(_, at)| *at).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, &Lease)> {
        self.leases.iter().map(|(at, lease)| (*at, lease))
    }

    /// Returns how much of the segment is used.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            pool: MOST,
            free: MOST.saturating_sub(self.running.len()),
            bound: self.bound,
            declined: self.declined,
            offered: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(mac: u32, state: State, until: u64) -> Lease {
        let [a, b, c, d] = mac.to_be_bytes();
        Lease {
            mac: MacAddr([2, 0, a, b, c, d]),
            state,
            since: 0,
            until,
            client_id: Box::default(),
            hostname: Box::default(),
        }
    }

    #[test]
    fn clients_that_come_and_go_do_not_fill_the_memory() {
        let mut table = Table6::default();
        let most = u32::try_from(MOST).unwrap();
        for number in 0..most + 10 {
            let at = Ipv6Addr::from(u128::from(number));
            table.set(at, Some(lease(number, State::Expired, number.into())));
        }
        assert_eq!((table.len(), table.by_mac.len()), (MOST, MOST));
        assert_eq!(
            table.get(Ipv6Addr::from(9)),
            None,
            "the oldest are forgotten"
        );
        assert!(table.has_room());
    }

    #[test]
    fn who_holds_an_address_is_never_forgotten() {
        let mut table = Table6::default();
        let most = u32::try_from(MOST).unwrap();
        for number in 0..most {
            let at = Ipv6Addr::from(u128::from(number));
            table.set(at, Some(lease(number, State::Bound, 9)));
        }
        assert!(!table.has_room());
        assert_eq!((table.len(), table.usage().bound), (MOST, MOST));
    }
}
