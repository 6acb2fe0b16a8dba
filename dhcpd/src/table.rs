//! The addresses of one segment: who has which, which is offered, and which is free.
//!
//! # Guarantees
//!
//! * One record per address: an address cannot be two clients'.
//! * Choosing an address costs the same whether the pool is empty or full.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;

use netmodel::ids::MacAddr;
use netmodel::leases::{Lease, State};

use crate::scope::Scope;
use crate::time::Time;

/// An address that is kept for a client which has not taken it yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Offer {
    mac: MacAddr,
    until: Time,
}

/// The addresses of one segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    leases: BTreeMap<Ipv4Addr, Lease>,
    by_mac: BTreeSet<(MacAddr, Ipv4Addr)>,
    /// Bound and declined addresses by their end.
    running: BTreeSet<(u64, Ipv4Addr)>,
    /// Dynamic addresses that had a client and have none, by their end.
    ended: BTreeSet<(u64, Ipv4Addr)>,
    offers: HashMap<Ipv4Addr, Offer>,
    offered_to: HashMap<MacAddr, Ipv4Addr>,
    /// Offers in the order in which they end; also such as are gone.
    offer_ends: VecDeque<(Time, Ipv4Addr)>,
    pool: Pool,
    declined: usize,
    bound: usize,
}

/// Which addresses of the pool nobody ever had.
#[derive(Clone, Debug, Default)]
struct Pool {
    first: u32,
    size: usize,
    /// A bit per address: set is taken.
    taken: Vec<u64>,
    /// How many of them can be given at all.
    usable: usize,
}

impl Pool {
    fn new(scope: &Scope) -> Self {
        let Some((first, last)) = scope.pool else {
            return Self::default();
        };
        let (first, last) = (u32::from(first), u32::from(last));
        let size = last.checked_sub(first).map_or(0, |more| more as usize + 1);
        let mut pool = Self {
            first,
            size,
            taken: vec![0; size.div_ceil(64)],
            usable: size,
        };
        for address in &scope.fixed {
            if pool.set(*address, true) {
                pool.usable -= 1;
            }
        }
        // Bits behind the end are no addresses.
        if let Some(word) = pool.taken.last_mut()
            && size % 64 != 0
        {
            *word |= u64::MAX << (size % 64);
        }
        pool
    }

    fn index(&self, address: Ipv4Addr) -> Option<usize> {
        let index = u32::from(address).checked_sub(self.first)? as usize;
        (index < self.size).then_some(index)
    }

    /// Returns whether the address is one of the pool's.
    fn set(&mut self, address: Ipv4Addr, is_taken: bool) -> bool {
        let Some(index) = self.index(address) else {
            return false;
        };
        if let Some(word) = self.taken.get_mut(index / 64) {
            let bit = 1 << (index % 64);
            *word = if is_taken { *word | bit } else { *word & !bit };
        }
        true
    }

    /// Returns how many addresses nobody ever had.
    fn free_count(&self) -> usize {
        let words = self.taken.iter();
        words.map(|word| word.count_zeros() as usize).sum()
    }

    /// Returns an address that is not taken; the search starts at a place that `seed` says.
    fn free(&self, seed: usize) -> Option<Ipv4Addr> {
        let words = self.taken.len();
        let start = seed.checked_rem(words)?;
        let order = (start..words).chain(0..start);
        let mut found = order.filter_map(|at| {
            let word = *self.taken.get(at)?;
            (word != u64::MAX).then(|| at * 64 + word.trailing_ones() as usize)
        });
        let index = u32::try_from(found.next()?).ok()?;
        Some(Ipv4Addr::from(self.first + index))
    }
}

impl Table {
    /// Fits the table to a scope, which may have changed; forgets no lease.
    pub(crate) fn fit(&mut self, scope: &Scope) {
        self.pool = Pool::new(scope);
        self.ended.clear();
        for (address, lease) in &self.leases {
            let is_over = !matches!(lease.state, State::Bound | State::Declined);
            if scope.is_dynamic(*address) {
                self.pool.set(*address, true);
                if is_over && !self.offers.contains_key(address) {
                    self.ended.insert((lease.until, *address));
                }
            }
        }
        for address in self.offers.keys() {
            self.pool.set(*address, true);
        }
    }

    /// Makes a table of records that were written down: by address, each once.
    pub(crate) fn load(leases: BTreeMap<Ipv4Addr, Lease>) -> Self {
        let is_running = |lease: &Lease| matches!(lease.state, State::Bound | State::Declined);
        let count = |state| leases.values().filter(|lease| lease.state == state).count();
        let running = leases.iter().filter(|(_, lease)| is_running(lease));
        Self {
            by_mac: leases.iter().map(|(at, lease)| (lease.mac, *at)).collect(),
            running: running.map(|(at, lease)| (lease.until, *at)).collect(),
            declined: count(State::Declined),
            bound: count(State::Bound),
            leases,
            ..Self::default()
        }
    }

    /// Returns the record of an address.
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.get(&address)
    }

    /// Returns the records of a client.
    pub(crate) fn of(&self, mac: MacAddr) -> impl Iterator<Item = (Ipv4Addr, &Lease)> {
        let range = (mac, Ipv4Addr::UNSPECIFIED)..=(mac, Ipv4Addr::BROADCAST);
        let known = self.by_mac.range(range);
        known.filter_map(|(_, address)| Some((*address, self.leases.get(address)?)))
    }

    /// Returns the number of records.
    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Returns all records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Lease)> {
        self.leases.iter().map(|(address, lease)| (*address, lease))
    }

    /// Changes the record of an address; returns what it was.
    pub(crate) fn set(
        &mut self,
        scope: Option<&Scope>,
        at: Ipv4Addr,
        new: Option<Lease>,
    ) -> Option<Lease> {
        let old = self.leases.remove(&at);
        if let Some(old) = &old {
            self.by_mac.remove(&(old.mac, at));
            self.running.remove(&(old.until, at));
            self.ended.remove(&(old.until, at));
            self.declined -= usize::from(old.state == State::Declined);
            self.bound -= usize::from(old.state == State::Bound);
        }
        if let Some(new) = new {
            self.by_mac.insert((new.mac, at));
            self.declined += usize::from(new.state == State::Declined);
            self.bound += usize::from(new.state == State::Bound);
            if matches!(new.state, State::Bound | State::Declined) {
                self.running.insert((new.until, at));
            }
            self.leases.insert(at, new);
        }
        self.index(scope, at);
        old
    }

    /// Files an address under free or ended, if it is one of the pool's.
    fn index(&mut self, scope: Option<&Scope>, at: Ipv4Addr) {
        if !scope.is_some_and(|scope| scope.is_dynamic(at)) {
            return;
        }
        let is_offered = self.offers.contains_key(&at);
        let lease = self.leases.get(&at);
        self.pool.set(at, is_offered || lease.is_some());
        if let Some(lease) = lease
            && !matches!(lease.state, State::Bound | State::Declined)
        {
            if is_offered {
                self.ended.remove(&(lease.until, at));
            } else {
                self.ended.insert((lease.until, at));
            }
        }
    }

    /// Is the address bound to, or kept from, somebody other than this client, or offered to such?
    pub(crate) fn is_held_from(&self, mac: MacAddr, address: Ipv4Addr) -> bool {
        let lease = self.leases.get(&address);
        let is_held = lease.is_some_and(|lease| match lease.state {
            State::Bound => lease.mac != mac,
            State::Declined => true,
            State::Released | State::Expired | State::Revoked => false,
        });
        let offer = self.offers.get(&address);
        is_held || offer.is_some_and(|offer| offer.mac != mac)
    }

    /// Returns the address that is offered to a client.
    pub(crate) fn offer_to(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.offered_to.get(&mac).copied()
    }

    /// Keeps an address for a client, instead of another one that was. If too much of the pool is
    /// offered, the oldest offer is forgotten: offers are no promise.
    pub(crate) fn offer(&mut self, scope: &Scope, (at, mac): (Ipv4Addr, MacAddr), until: Time) {
        self.withdraw(scope, mac);
        while self.offers.len() >= (self.pool.usable / 4).max(4) {
            let Some((until, oldest)) = self.offer_ends.pop_front() else {
                break;
            };
            self.end_offer(scope, oldest, until);
        }
        self.offers.insert(at, Offer { mac, until });
        self.offered_to.insert(mac, at);
        self.offer_ends.push_back((until, at));
        self.index(Some(scope), at);
    }

    /// Forgets what is offered to a client.
    pub(crate) fn withdraw(&mut self, scope: &Scope, mac: MacAddr) {
        if let Some(at) = self.offered_to.remove(&mac) {
            self.offers.remove(&at);
            self.index(Some(scope), at);
        }
    }

    fn end_offer(&mut self, scope: &Scope, at: Ipv4Addr, until: Time) {
        if let Some(offer) = self.offers.get(&at)
            && offer.until == until
        {
            self.offered_to.remove(&offer.mac);
            self.offers.remove(&at);
            self.index(Some(scope), at);
        }
    }

    /// Forgets offers that were not taken in time.
    pub(crate) fn end_offers(&mut self, scope: &Scope, now: Time) {
        while let Some((until, at)) = self.offer_ends.front().copied()
            && until <= now
        {
            self.offer_ends.pop_front();
            self.end_offer(scope, at, until);
        }
    }

    /// Returns a free address for a client: one that nobody ever had, else the one whose lease ended
    /// first.
    pub(crate) fn choose(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        // FNV-1a: a client without a record gets the same address again, mostly.
        let seed = mac.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        });
        let free = self
            .pool
            .free(usize::try_from(seed >> 16).unwrap_or_default());
        free.or_else(|| self.ended.first().map(|(_, address)| *address))
    }

    /// Returns the addresses that are bound or declined and whose time is over, the first first.
    pub(crate) fn due(&self, now: Time) -> Vec<Ipv4Addr> {
        let due = self.running.range(..=(now.seconds(), Ipv4Addr::BROADCAST));
        due.take(DUE_AT_ONCE).map(|(_, address)| *address).collect()
    }

    /// Is less than a quarter of the pool free of leases?
    pub(crate) fn is_scarce(&self) -> bool {
        self.bound * 4 > self.pool.usable * 3
    }

    /// May one more address be put into quarantine?
    pub(crate) fn can_decline(&self) -> bool {
        self.declined < (self.pool.usable / 4).max(1)
    }

    /// Returns how much of the segment is used.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            pool: self.pool.usable,
            free: self.pool.free_count() + self.ended.len(),
            bound: self.bound,
            declined: self.declined,
            offered: self.offers.len(),
        }
    }
}

/// Most leases of one segment that end in one step, so that a step stays short.
const DUE_AT_ONCE: usize = 64;

/// How much of a segment is used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Usage {
    /// Addresses of the pool that can be given at all.
    pub pool: usize,
    /// Those of them that nobody has or is offered.
    pub free: usize,
    /// Bound addresses, reserved ones too.
    pub bound: usize,
    /// Addresses in quarantine.
    pub declined: usize,
    /// Offers that were not taken yet.
    pub offered: usize,
}
