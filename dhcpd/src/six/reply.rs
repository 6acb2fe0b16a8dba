//! Messages to clients, and around them those to relays: RFC 8415 sections 8, 9 and 21.

use std::net::Ipv6Addr;

use super::message::{Kind, Relay, Relayed, code};
use super::scope::Scope6;
use crate::options::search_list;

/// Message types of servers: RFC 8415 section 7.3.
const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;
const RELAY_REPLY: u8 = 13;
/// How long clients without an address may use what they were told, in seconds: the default of RFC 8415.
const REFRESH_TIME: u32 = 86_400;

/// A status code: RFC 8415 section 21.13.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Success,
    NoAddrsAvail,
    NoBinding,
    NotOnLink,
    UseMulticast,
    NoPrefixAvail,
}

impl Status {
    fn number(self) -> u16 {
        match self {
            Self::Success => 0,
            Self::NoAddrsAvail => 2,
            Self::NoBinding => 3,
            Self::NotOnLink => 4,
            Self::UseMulticast => 5,
            Self::NoPrefixAvail => 6,
        }
    }
}

/// What one identity association is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct IaAnswer {
    pub(super) id: u32,
    /// Its address, and for how many seconds.
    pub(super) address: Option<(Ipv6Addr, u32)>,
    /// Addresses that it must not use any longer.
    pub(super) over: Vec<Ipv6Addr>,
    pub(super) status: Option<Status>,
}

/// A message to a client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Answer {
    /// ADVERTISE; else REPLY.
    pub(super) is_advertise: bool,
    /// Rapid commit: the client asked for it, and the lease is bound.
    pub(super) is_rapid: bool,
    /// Status and identity associations only.
    pub(super) is_bare: bool,
    pub(super) status: Option<Status>,
    pub(super) ias: Vec<IaAnswer>,
}

impl Answer {
    /// To a client that sent to this server alone, without having been allowed to.
    pub(super) fn use_multicast() -> Self {
        Self {
            is_bare: true,
            status: Some(Status::UseMulticast),
            ..Self::default()
        }
    }

    /// Returns the octets of the message, with those of the relays around it.
    pub(super) fn encode(&self, scope: &Scope6, duid: &[u8], relayed: &Relayed<'_>) -> Vec<u8> {
        let message = &relayed.message;
        let kind = if self.is_advertise { ADVERTISE } else { REPLY };
        let mut out = Writer(vec![kind]);
        out.bytes(&message.xid);
        out.option(code::SERVER, |out| out.bytes(duid));
        if let Some(client) = message.client {
            out.option(code::CLIENT, |out| out.bytes(client));
        }
        if let Some(status) = self.status {
            out.status(status);
        }
        for ia in &self.ias {
            out.ia(ia);
        }
        if !self.is_bare {
            self.encode_rest(&mut out, scope, relayed);
        }
        let inner = relayed.relays.iter().rev().fold(out.0, around);
        debug_assert!(inner.len() < 1 << 16, "an answer fits into a datagram");
        inner
    }

    fn encode_rest(&self, out: &mut Writer, scope: &Scope6, relayed: &Relayed<'_>) {
        let message = &relayed.message;
        for (option, id) in &message.others {
            let (status, rest) = match *option {
                code::IA_PD => (Status::NoPrefixAvail, &[0; 8][..]),
                _ => (Status::NoAddrsAvail, &[][..]),
            };
            out.option(*option, |out| {
                out.bytes(&id.to_be_bytes());
                out.bytes(rest);
                out.status(status);
            });
        }
        if self.is_advertise {
            // Nobody else serves this segment: the client need not wait for others.
            out.option(code::PREFERENCE, |out| out.bytes(&[255]));
        }
        if self.is_rapid {
            out.option(code::RAPID_COMMIT, |_| ());
        }
        let mut done = Vec::new();
        for wanted in &message.wanted {
            if !done.contains(wanted) {
                done.push(*wanted);
                out.wanted(*wanted, scope, message.kind);
            }
        }
    }
}

/// Puts a message to a relay around another one: RFC 8415 section 19.3.
fn around(inner: Vec<u8>, relay: &Relay<'_>) -> Vec<u8> {
    let mut out = Writer(vec![RELAY_REPLY, relay.hops]);
    out.bytes(&relay.link.octets());
    out.bytes(&relay.peer.octets());
    if let Some(id) = relay.interface_id {
        out.option(code::INTERFACE_ID, |out| out.bytes(id));
    }
    out.option(code::RELAYED, |out| out.bytes(&inner));
    out.0
}

/// Writes options.
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn option(&mut self, code: u16, fill: impl FnOnce(&mut Self)) {
        self.bytes(&code.to_be_bytes());
        let at = self.0.len();
        self.bytes(&[0, 0]);
        fill(self);
        // What comes in fits into a frame, and so does what goes out: it never is that long.
        let length = u16::try_from(self.0.len() - at - 2).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(at..at + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn status(&mut self, status: Status) {
        self.option(code::STATUS, |out| {
            out.bytes(&status.number().to_be_bytes())
        });
    }

    fn ia(&mut self, ia: &IaAnswer) {
        // RFC 8415 section 21.4: T1 and T2, 0.5 and 0.8 times the preferred lifetime.
        let time = ia.address.map_or(0, |(_, time)| u64::from(time));
        let part = |tenths: u64| u32::try_from(time * tenths / 10).unwrap_or(u32::MAX);
        self.option(code::IA_NA, |out| {
            out.bytes(&ia.id.to_be_bytes());
            out.bytes(&part(5).to_be_bytes());
            out.bytes(&part(8).to_be_bytes());
            if let Some((at, time)) = ia.address {
                out.address(at, time);
            }
            for at in &ia.over {
                out.address(*at, 0);
            }
            if let Some(status) = ia.status {
                out.status(status);
            }
        });
    }

    fn address(&mut self, at: Ipv6Addr, time: u32) {
        self.option(code::ADDRESS, |out| {
            out.bytes(&at.octets());
            out.bytes(&time.to_be_bytes());
            out.bytes(&time.to_be_bytes());
        });
    }

    /// Writes the option that the scope has under a code.
    fn wanted(&mut self, wanted: u16, scope: &Scope6, kind: Kind) {
        let told = &scope.told;
        match wanted {
            code::DNS_SERVERS if !told.dns_servers.is_empty() => self.option(wanted, |out| {
                for server in &told.dns_servers {
                    out.bytes(&server.octets());
                }
            }),
            code::DOMAIN_SEARCH if !told.domain_search.is_empty() => {
                self.option(wanted, |out| out.bytes(&search_list(&told.domain_search)));
            }
            // RFC 5908: suboption 1 is a server's address.
            code::NTP if !told.ntp_servers.is_empty() => self.option(wanted, |out| {
                for server in &told.ntp_servers {
                    out.option(1, |out| out.bytes(&server.octets()));
                }
            }),
            code::REFRESH_TIME if kind == Kind::InformationRequest => {
                self.option(wanted, |out| out.bytes(&REFRESH_TIME.to_be_bytes()));
            }
            _ => {}
        }
    }
}
