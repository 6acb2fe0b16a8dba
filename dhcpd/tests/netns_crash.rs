//! `kill -9` at random moments under load, also while the disk is full. Needs root.
//!
//! `BULKHEAD_ROUNDS=500` for the long run; each test says its seed, and `BULKHEAD_SEED` repeats it.

#[cfg(test)]
mod daemon;

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use daemon::{Answer, GUEST, Lab, Talk, discover, rapid, release, renew, request};
use dhcproto::v4::MessageType;
use netmodel::leases::State;

/// More clients than the pool of 201 addresses has room for.
const CLIENTS: u16 = 230;

fn mac(number: u16) -> [u8; 6] {
    let [a, b] = number.to_be_bytes();
    [2, 0, 0, 9, a, b]
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A daemon that is killed again and again, and what its clients believe.
struct Crash {
    lab: Lab,
    random: fastrand::Rng,
    /// Who was told that it has which address, and did not give it back.
    held: BTreeMap<Ipv4Addr, [u8; 6]>,
    /// The offer that each client takes in this round: it does not want two addresses at once.
    taken: HashMap<[u8; 6], Ipv4Addr>,
    acknowledged: usize,
}

impl Crash {
    fn new(talk: &Talk) -> Self {
        let seed = number("BULKHEAD_SEED", fastrand::u64(..));
        eprintln!("BULKHEAD_SEED={seed}");
        Self {
            lab: Lab::new(talk),
            random: fastrand::Rng::with_seed(seed),
            held: BTreeMap::new(),
            taken: HashMap::new(),
            acknowledged: 0,
        }
    }

    /// Believes an answer.
    fn hear(&mut self, answer: &Answer) {
        if answer.kind != MessageType::Ack {
            return;
        }
        let before = self.held.insert(answer.address, answer.client);
        let is_free = before.is_none_or(|before| before == answer.client);
        assert!(is_free, "{} is held twice", answer.address);
        self.acknowledged += 1;
    }

    fn hear_all(&mut self) {
        for answer in self.lab.all_answers() {
            self.hear(&answer);
            let is_first = |taken: &mut HashMap<_, _>| {
                *taken.entry(answer.client).or_insert(answer.address) == answer.address
            };
            if answer.kind == MessageType::Offer && is_first(&mut self.taken) {
                let message = request(answer.client, answer.address, answer.server);
                self.lab.send(GUEST, answer.client, &message);
            }
        }
    }

    /// Some clients give their addresses back. Nothing of theirs is on its way.
    fn release_some(&mut self) {
        let held: Vec<_> = self.held.iter().map(|(at, mac)| (*at, *mac)).collect();
        for (at, mac) in held {
            if self.random.u8(..10) == 0 {
                self.lab.send(GUEST, mac, &release(mac, at));
                self.held.remove(&at);
            }
        }
    }

    /// One message of a random client: a new lease, in the one way or the other, or more time.
    fn ask(&mut self) {
        let number = self.random.u16(..CLIENTS);
        let client = mac(number);
        let own = self.held.iter().find(|(_, mac)| **mac == client);
        let message = match own {
            Some((at, _)) if self.random.bool() => renew(client, *at),
            _ if number.is_multiple_of(2) => discover(client),
            _ => rapid(client),
        };
        self.lab.send(GUEST, client, &message);
    }

    /// Load for a random time, in which `meanwhile` happens, and then the end.
    fn round(&mut self, meanwhile: impl FnOnce(&Lab)) {
        self.taken.clear();
        self.release_some();
        let end = Instant::now() + Duration::from_micros(self.random.u64(2_000..60_000));
        let middle = self.random.u32(..40);
        let mut meanwhile = Some(meanwhile);
        for step in 0.. {
            if Instant::now() >= end {
                break;
            }
            if step >= middle
                && let Some(meanwhile) = meanwhile.take()
            {
                meanwhile(&self.lab);
            }
            self.ask();
            self.hear_all();
        }
        self.lab.kill();
        // What was sent before the end counts.
        for answer in self.lab.all_answers() {
            self.hear(&answer);
        }
    }

    /// What clients were told must be in the file, and nobody has two addresses.
    fn check(&self, round: u64) {
        let leases = self.lab.leases();
        for (address, client) in &self.held {
            let lease = &leases[address];
            let is_kept = (lease.mac.0, lease.state) == (*client, State::Bound);
            assert!(is_kept, "{address} in round {round}: {lease:?}");
        }
        let mut holders: HashMap<_, Vec<_>> = HashMap::new();
        for (address, lease) in &leases {
            if lease.state == State::Bound {
                holders.entry(lease.mac).or_default().push(*address);
            }
        }
        holders.retain(|_, addresses| addresses.len() > 1);
        assert!(holders.is_empty(), "round {round}: {holders:?}");
    }
}

#[test]
fn no_acknowledged_lease_is_lost_when_the_daemon_is_killed_at_any_moment() {
    let mut crash = Crash::new(&Talk::default());
    let rounds = number("BULKHEAD_ROUNDS", 20);
    for round in 0..rounds {
        crash.round(|_| {});
        crash.lab.start();
        crash.check(round);
    }
    let told = crash.acknowledged;
    eprintln!("{rounds} rounds, {told} acknowledgements");
    assert!(told as u64 > rounds * 2, "{told}: the test saw too little");
}

#[test]
fn no_acknowledged_lease_is_lost_when_it_is_killed_while_the_disk_is_full() {
    let talk = Talk {
        disk: Some("256k"),
        ..Talk::default()
    };
    let mut crash = Crash::new(&talk);
    let filler = crash.lab.state().join("filler");
    let rounds = number("BULKHEAD_ROUNDS", 20);
    for round in 0..rounds {
        crash.round(|_| {
            // As much as there is room for.
            let _ = fs::write(&filler, vec![0; 256 << 10]);
        });
        fs::remove_file(&filler).unwrap_or_default();
        crash.lab.start();
        crash.check(round);
    }
    let told = crash.acknowledged;
    eprintln!("{rounds} rounds, {told} acknowledgements");
    assert!(told as u64 > rounds, "{told}: the test saw too little");
}
