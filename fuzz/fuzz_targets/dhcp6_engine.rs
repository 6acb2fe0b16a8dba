//! DHCPv6 clients out of arbitrary bytes: sequences of messages to one server, most of them well-formed, some relayed; and
//! frames of any kind.
//!
//! Whatever comes, the server does not panic, gives no address to two clients, gives none that is not the scope's, and
//! promises nothing that it does not want written down.

#![no_main]

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use dhcpd::scope::{Relay, Scopes};
use dhcpd::settings::Settings;
use dhcpd::six::{Engine6, Inbound6, Mode, Reply6, Scope6, Told6};
use dhcpd::{Time, frame};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::State;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A frame as it is.
    Frame {
        bytes: Vec<u8>,
        tag: Option<u16>,
    },
    /// A payload as it is.
    Raw {
        client: u8,
        payload: Vec<u8>,
    },
    /// Client and server identifiers that are right, identity associations, and options as they are.
    Message {
        client: u8,
        kind: u8,
        to_us: bool,
        ias: Vec<(u8, Vec<u8>)>,
        options: Vec<(u8, Vec<u8>)>,
        relays: u8,
    },
    Wait(u16),
    Revert,
}

const DUID: [u8; 6] = [0, 4, 9, 9, 9, 9];
const RELAY: Ipv6Addr = at(2);

const fn at(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number % 16])
}

fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, u16::from(number % 16))
}

/// A net of 16 addresses, so that clients meet.
fn scopes(vlan: VlanId) -> Option<Scopes> {
    let scope = Scope6 {
        vlan,
        name: "main".to_owned(),
        net: "fd00::/124".parse().ok()?,
        gateway: at(1),
        mode: Mode::Managed,
        reservations: [(mac(1), at(5))].into(),
        fixed: [at(0), at(1), at(5)].into(),
        takes_new: true,
        told: Told6 {
            lease_time: 3600,
            dns_servers: vec![at(1)],
            ntp_servers: vec![at(1)],
            domain_search: vec!["lab.example".to_owned()],
            mtu: 1500,
        },
    };
    let relay = Relay {
        vlan,
        serves: vec![vlan],
    };
    Some(Scopes {
        six: [(vlan, Arc::new(scope))].into(),
        relays6: [(RELAY, relay)].into(),
        ..Scopes::default()
    })
}

fn option(out: &mut Vec<u8>, code: u16, data: &[u8]) {
    let data = &data[..data.len().min(2000)];
    out.extend(code.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

fn message(step: &Step) -> Option<(u8, bool, Vec<u8>)> {
    match step {
        Step::Raw { client, payload } => Some((*client, false, payload.clone())),
        Step::Message {
            client,
            kind,
            to_us,
            ias,
            options,
            relays,
        } => {
            let mut bytes = vec![kind % 12, 1, 2, 3];
            option(
                &mut bytes,
                1,
                &[&[0, 3, 0, 1][..], &mac(*client).0].concat(),
            );
            if *to_us {
                option(&mut bytes, 2, &DUID);
            }
            for (id, addresses) in ias {
                let mut ia = vec![0, 0, 0, *id, 0, 0, 0, 0, 0, 0, 0, 0];
                for last in addresses {
                    let address = [&at(u16::from(*last) % 20).octets()[..], &[0; 8]].concat();
                    option(&mut ia, 5, &address);
                }
                option(&mut bytes, 3, &ia);
            }
            for (code, data) in options {
                option(&mut bytes, u16::from(*code), data);
            }
            for hops in 0..relays % 10 {
                let mut around = vec![12, hops];
                around.extend(at(1).octets());
                around.extend(link_local(*client).octets());
                option(&mut around, 18, &[hops]);
                option(&mut around, 9, &bytes);
                bytes = around;
            }
            Some((*client, relays % 10 > 0, bytes))
        }
        Step::Frame { .. } | Step::Wait(_) | Step::Revert => None,
    }
}

/// The options of a part of a message; it must be whole.
fn options(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut list = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        list.push((u16::from_be_bytes([rest[0], rest[1]]), &rest[4..4 + length]));
        rest = &rest[4 + length..];
    }
    list
}

/// The addresses with time left that an answer gives, and until when; none of an ADVERTISE, which promises nothing.
fn given(payload: &[u8]) -> Vec<(Ipv6Addr, u32)> {
    match payload[0] {
        13 => {
            let inner = options(&payload[34..])
                .into_iter()
                .find(|(code, _)| *code == 9);
            given(inner.expect("a message for the client").1)
        }
        7 => {
            let ias = options(&payload[4..])
                .into_iter()
                .filter(|(code, _)| *code == 3);
            let parts = ias.flat_map(|(_, ia)| options(&ia[12..]));
            let all = parts.filter(|(code, _)| *code == 5).map(|(_, data)| {
                let address: [u8; 16] = data[..16].try_into().unwrap();
                (
                    address.into(),
                    u32::from_be_bytes(data[20..24].try_into().unwrap()),
                )
            });
            all.filter(|(_, time)| *time > 0).collect()
        }
        2 => {
            options(&payload[4..]);
            Vec::new()
        }
        kind => panic!("message of type {kind}"),
    }
}

fn check(
    reply: &Reply6,
    engine: &Engine6,
    held: &mut HashMap<Ipv6Addr, (MacAddr, u64)>,
    (client, now): (MacAddr, u64),
) {
    for (address, time) in given(&reply.payload) {
        assert!(
            reply.is_binding,
            "{address} is promised and not written down"
        );
        let is_ours = (2..16).map(at).any(|ours| ours == address);
        assert!(
            is_ours && (address != at(5) || client == mac(1)),
            "{address} for {client}"
        );
        let is_known = engine.changes().iter().any(|change| {
            change.address == address
                && change.after.mac == client
                && change.after.state == State::Bound
        });
        assert!(is_known, "{address} is not among the changes");
        let before = held.insert(address, (client, now + u64::from(time)));
        if let Some((other, until)) = before {
            assert!(
                other == client || until <= now,
                "{address} is {other}'s and {client}'s"
            );
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let vlan = VlanId::new(100).expect("a VLAN id");
    let settings = Settings {
        messages_per_mac: 0,
        strangers_per_segment: 0,
        ..Settings::default()
    };
    let scopes = Arc::new(scopes(vlan).expect("scopes"));
    let mut engine = Engine6::new(settings, DUID.to_vec(), scopes);
    let mut now = Time::from_seconds(1_700_000_000);
    let mut held = HashMap::new();
    for step in &steps {
        match step {
            Step::Frame { bytes, tag } => drop(frame::parse(bytes, *tag)),
            Step::Wait(seconds) => {
                now = now.plus_millis(u64::from(*seconds) * 1000);
                engine.expire(now);
            }
            // What is reverted was promised to nobody: each message is committed at once.
            Step::Revert => engine.revert(),
            Step::Raw { .. } | Step::Message { .. } => {
                let Some((client, is_relayed, payload)) = message(step) else {
                    continue;
                };
                let inbound = Inbound6 {
                    vlan,
                    source: if is_relayed {
                        MacAddr([2, 9, 9, 9, 9, 9])
                    } else {
                        mac(client)
                    },
                    from: if is_relayed {
                        RELAY
                    } else {
                        link_local(client)
                    },
                    to: "ff02::1:2".parse().expect("an address"),
                    payload: &payload,
                };
                if let Ok(reply) = engine.receive(&inbound, now) {
                    // Raw bytes may be a relay's, and so another client's.
                    if matches!(step, Step::Message { .. }) {
                        check(&reply, &engine, &mut held, (mac(client), now.seconds()));
                    }
                }
            }
        }
        // Who gave an address back holds it no longer, whatever it believes.
        held.retain(|address, (mac, _)| {
            engine.leases().any(|(_, at, lease)| {
                at == *address && lease.mac == *mac && lease.state == State::Bound
            })
        });
        engine.commit();
    }
});
