//! Whatever clients send, in whatever order: no address is two clients', and what is acknowledged is written.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use dhcpd::engine::Verdict;
use dhcproto::v4::{DhcpOption, MessageType};
use netmodel::ids::MacAddr;
use netmodel::leases::State;
use proptest::prelude::*;

use crate::kit::{Answer, Client, Server, at, mac, reserve, scope, scopes};

#[derive(Clone, Debug)]
enum Step {
    Discover { client: u8, wish: u8, rapid: bool },
    Selecting { client: u8, address: u8 },
    InitReboot { client: u8, address: u8 },
    Extending { client: u8, address: u8 },
    Release { client: u8, address: u8 },
    Decline { client: u8, address: u8 },
    Wait(u16),
    Switch(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 1..8_u8;
    let address = prop_oneof![Just(20_u8), Just(21), 99..111_u8];
    let both = (client, address);
    prop_oneof![
        3 => (both.clone(), any::<bool>()).prop_map(|((client, wish), rapid)| Step::Discover { client, wish, rapid }),
        4 => both.clone().prop_map(|(client, address)| Step::Selecting { client, address }),
        1 => both.clone().prop_map(|(client, address)| Step::InitReboot { client, address }),
        3 => both.clone().prop_map(|(client, address)| Step::Extending { client, address }),
        1 => both.clone().prop_map(|(client, address)| Step::Release { client, address }),
        1 => both.prop_map(|(client, address)| Step::Decline { client, address }),
        2 => (1..4000_u16).prop_map(Step::Wait),
        1 => (0..4_u8).prop_map(Step::Switch),

    ]
}

fn message(step: &Step) -> Option<Client> {
    let requested = |address| DhcpOption::RequestedIpAddress(at(address));
    Some(match *step {
        Step::Discover {
            client,
            wish,
            rapid,
        } => {
            let discover = Client::discover(client).option(requested(wish));
            if rapid {
                discover.option(DhcpOption::RapidCommit)
            } else {
                discover
            }
        }
        Step::Selecting { client, address } => Client::selecting(client, at(address)),
        Step::InitReboot { client, address } => Client::init_reboot(client, at(address)),
        Step::Extending { client, address } => Client::extending(client, at(address)),
        Step::Release { client, address } => {
            Client::new(client, MessageType::Release).from(at(address))
        }
        Step::Decline { client, address } => {
            Client::new(client, MessageType::Decline).option(requested(address))
        }
        Step::Wait(_) | Step::Switch(_) => return None,
    })
}

/// Generations that differ in pool and reservations.
fn generation(number: u8) -> dhcpd::scope::Scope {
    let mut scope = scope(100);
    match number {
        1 => reserve(&mut scope, mac(1), at(20)),
        2 => reserve(&mut scope, mac(2), at(105)),
        3 => scope.pool = Some((at(104), at(110))),
        _ => {}
    }
    scope
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_address_is_held_twice(steps in prop::collection::vec(step(), 1..120)) {
        let mut server = Server::new(generation(0));
        // What clients believe: who holds which address until when.
        let mut held: HashMap<Ipv4Addr, (MacAddr, u64)> = HashMap::new();
        for step in steps {
            match step {
                Step::Wait(seconds) => server.wait(seconds.into()),
                Step::Switch(number) => {
                    server.engine.switch(scopes([generation(number)]));
                }
                Step::Discover { .. } | Step::Selecting { .. } | Step::InitReboot { .. }
                | Step::Extending { .. } | Step::Release { .. } | Step::Decline { .. } => {}
            }
            let Some(client) = message(&step) else { continue };
            let verdict = server.hear(&client);
            let now = server.now.seconds();
            if let Verdict::Reply(reply) = &verdict {
                let is_binding = reply.is_binding;
                let answer = Answer::of(verdict.clone());
                let address = answer.message.yiaddr();
                let others = held.get(&address).filter(|(mac, end)| *mac != client.mac && *end > now);
                if answer.kind == MessageType::Nak {
                    held.retain(|_, (mac, _)| *mac != client.mac);
                } else {
                    prop_assert_eq!(others, None, "{} for {} as well", address, client.mac);
                }
                if answer.kind == MessageType::Ack {
                    let until = now + u64::from(answer.lease_time().unwrap());
                    held.insert(address, (client.mac, until));
                    let mut leases = server.engine.leases();
                    let found = leases.find(|(_, at, _)| *at == address).unwrap().2;
                    prop_assert_eq!((found.mac, found.state, found.until), (client.mac, State::Bound, until));
                    let is_changed = server.engine.changes().iter().any(|change| change.address == address);
                    prop_assert!(is_binding || !is_changed);
                    // A client that is given an address leaves all others.
                    held.retain(|at, (mac, _)| *mac != client.mac || *at == address);
                }
            }
            if let Step::Release { address, .. } | Step::Decline { address, .. } = step
                && held.get(&at(address)).is_some_and(|(mac, _)| *mac == client.mac)
            {
                held.remove(&at(address));
            }
            let (_, usage, _) = server.engine.segments().next().unwrap();
            let bound = server.engine.leases().filter(|(_, _, lease)| lease.state == State::Bound).count();
            prop_assert_eq!(usage.bound, bound);
            let own = server.engine.leases().filter(|(_, _, lease)| lease.state == State::Bound && lease.mac == client.mac);
            prop_assert!(own.count() <= 1, "one client, one address");
            server.engine.commit();
        }
    }

    #[test]
    fn a_revert_restores_every_record(
        first in prop::collection::vec(step(), 1..40),
        second in prop::collection::vec(step(), 1..40),
    ) {
        let mut server = Server::new(generation(1));
        let play = |server: &mut Server, steps: &[Step]| {
            for step in steps {
                match message(step) {
                    Some(client) => { server.hear(&client); }
                    None => if let Step::Wait(seconds) = step { server.wait((*seconds).into()) },
                }
            }
        };
        play(&mut server, &first);
        server.engine.commit();
        let snapshot = |server: &Server| -> HashMap<_, _> {
            server.engine.leases().map(|(_, at, lease)| (at, lease.clone())).collect()
        };
        let before = snapshot(&server);
        play(&mut server, &second);
        server.engine.revert();
        prop_assert_eq!(before, snapshot(&server));
    }
}
