//! DHCP clients out of arbitrary bytes: sequences of messages to one server, most of them well-formed.
//!
//! Whatever comes, the server does not panic, gives no address to two clients, gives none that is not the
//! scope's, and promises nothing that it does not want written down.

#![no_main]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcpd::engine::{Inbound, Reply, Verdict};
use dhcpd::scope::{Relay, Scope, Scopes, Told};
use dhcpd::settings::Settings;
use dhcpd::{Engine, Time};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use netmodel::ids::{MacAddr, VlanId};

#[derive(Arbitrary, Debug)]
enum Step {
    /// A payload as it is.
    Raw {
        client: u8,
        payload: Vec<u8>,
    },
    /// A header that is right, and options as they are.
    Message {
        client: u8,
        kind: u8,
        address: Option<u8>,
        options: Vec<(u8, Vec<u8>)>,
        in_ciaddr: bool,
        relayed: bool,
    },
    Heard {
        address: u8,
        client: u8,
    },
    Wait(u16),
    Revert,
}

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number % 16])
}

fn scopes(vlan: VlanId) -> Option<Scopes> {
    let reserved = (mac(1), (at(20), "web".to_owned()));
    let scope = Scope {
        vlan,
        name: "main".to_owned(),
        net: "10.0.0.0/24".parse().ok()?,
        gateway: at(1),
        pool: Some((at(100), at(109))),
        reservations: [reserved].into(),
        client_ids: Default::default(),
        fixed: [at(0), at(1), at(20), at(255)].into(),
        takes_new: true,
        told: Told {
            lease_time: 3600,
            routers: vec![at(1)],
            dns_servers: vec![at(1)],
            ntp_servers: Vec::new(),
            domain: "lab.example".to_owned(),
            domain_search: vec!["lab.example".to_owned()],
            mtu: 1500,
            routes: Vec::new(),
            ipv6_only_wait: Some(1800),
            boot: None,
            vendor: vec![1, 2, 3],
        },
        told_hosts: Default::default(),
    };
    let relay = Relay {
        vlan,
        serves: vec![vlan],
    };
    Some(Scopes {
        by_vlan: [(vlan, Arc::new(scope))].into(),
        relays: [(RELAY, relay)].into(),
        ..Scopes::default()
    })
}

fn message(step: &Step) -> Option<(MacAddr, Vec<u8>)> {
    match step {
        Step::Raw { client, payload } => Some((mac(*client), payload.clone())),
        Step::Message {
            client,
            kind,
            address,
            options,
            in_ciaddr,
            relayed,
        } => {
            let mut bytes = vec![0; 240];
            bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
            bytes[28..34].copy_from_slice(&mac(*client).0);
            bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
            if *relayed {
                bytes[24..28].copy_from_slice(&RELAY.octets());
            }
            bytes.extend([53, 1, kind % 9]);
            match address {
                Some(last) if *in_ciaddr => bytes[12..16].copy_from_slice(&at(*last).octets()),
                Some(last) => bytes.extend([50, 4, 10, 0, 0, *last]),
                None => {}
            }
            for (code, data) in options {
                let data = &data[..data.len().min(255)];
                bytes.extend([*code, data.len() as u8]);
                bytes.extend(data);
            }
            bytes.push(255);
            Some((mac(*client), bytes))
        }
        Step::Heard { .. } | Step::Wait(_) | Step::Revert => None,
    }
}

/// Checks an answer against what was given before.
fn check(reply: &Reply, engine: &Engine, held: &mut HashMap<Ipv4Addr, (MacAddr, u64)>, now: u64) {
    let payload = &reply.payload;
    assert!(payload.len() >= 300 && payload.len() <= 1472);
    let client = MacAddr(payload[28..34].try_into().unwrap());
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&payload[16..20]).unwrap());
    let kind = payload[242];
    if kind == 6 {
        assert!(address.is_unspecified());
        held.retain(|_, (mac, _)| *mac != client);
        return;
    }
    if address.is_unspecified() {
        return;
    }
    let is_ours = (at(100)..=at(109)).contains(&address) || (address == at(20) && client == mac(1));
    assert!(is_ours, "{address} for {client}");
    let other = held
        .get(&address)
        .filter(|(mac, until)| *mac != client && *until > now);
    assert!(other.is_none(), "{address} for {client} and {other:?}");
    if kind == 5 {
        let (_, _, lease) = engine.leases().find(|(_, at, _)| *at == address).unwrap();
        assert_eq!(lease.mac, client);
        held.retain(|at, (mac, _)| *mac != client || *at == address);
        held.insert(address, (client, lease.until));
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let (Some(vlan), settings) = (VlanId::new(100), Settings::default()) else {
        return;
    };
    let Some(scopes) = scopes(vlan) else { return };
    let mut engine = Engine::new(settings, scopes);
    let mut now = Time::from_seconds(1_700_000_000);
    let mut held = HashMap::new();
    for step in steps.iter().take(200) {
        let verdict = match step {
            Step::Wait(seconds) => {
                now = now.plus_millis(u64::from(*seconds) * 1000);
                engine.expire(now);
                None
            }
            Step::Heard { address, client } => engine.heard(vlan, at(*address), mac(*client), now),
            Step::Revert => {
                // What is reverted was promised to nobody: each message is committed at once.
                engine.revert();
                None
            }
            Step::Raw { .. } | Step::Message { .. } => message(step).map(|(source, payload)| {
                engine.receive(
                    &Inbound {
                        vlan,
                        source,
                        to: if payload.get(24..28) == Some(&RELAY.octets()[..]) {
                            at(1)
                        } else {
                            Ipv4Addr::BROADCAST
                        },
                        payload: &payload,
                    },
                    now,
                )
            }),
        };
        let polled = engine.poll(now);
        let direct = match verdict {
            Some(Verdict::Reply(reply)) => Some(reply),
            Some(Verdict::Probe(_) | Verdict::Silence(_)) | None => None,
        };
        for reply in direct.iter().chain(&polled) {
            check(reply, &engine, &mut held, now.seconds());
        }
        // Who gave an address back holds it no longer, whatever it believes.
        held.retain(|address, (mac, _)| {
            engine.leases().any(|(_, at, lease)| {
                at == *address && lease.mac == *mac && lease.state == netmodel::leases::State::Bound
            })
        });
        engine.commit();
    }
});
