//! Scopes, clients and what is asserted of answers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcpd::counters::Reason;
use dhcpd::engine::{Inbound, Reply, Verdict};
use dhcpd::scope::{Scope, Scopes, Told};
use dhcpd::settings::Settings;
use dhcpd::{Engine, Time};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder, Encodable};
use netmodel::ids::{MacAddr, VlanId};

pub(crate) const VLAN: u16 = 100;
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 100, 0, 1);
pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const LEASE_TIME: u32 = 3600;

pub(crate) fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

pub(crate) fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

/// 10.100.0.N
pub(crate) fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 100, 0, last)
}

/// 10.VLAN.0.0/24 with the pool .100 to .109.
pub(crate) fn scope(id: u16) -> Scope {
    let second = u8::try_from(id).unwrap();
    let address = |last| Ipv4Addr::new(10, second, 0, last);
    Scope {
        vlan: vlan(id),
        name: format!("vlan{id}"),
        net: format!("10.{id}.0.0/24").parse().unwrap(),
        gateway: address(1),
        pool: Some((address(100), address(109))),
        reservations: Default::default(),
        client_ids: Default::default(),
        fixed: [address(0), address(1), address(255)].into(),
        takes_new: true,
        told: Told {
            lease_time: LEASE_TIME,
            routers: vec![address(1)],
            dns_servers: vec![address(1)],
            ntp_servers: vec![address(1)],
            domain: "alpha.east.lab.example".to_owned(),
            domain_search: vec![
                "alpha.east.lab.example".to_owned(),
                "lab.example".to_owned(),
            ],
            mtu: 1500,
            routes: Vec::new(),
            ipv6_only_wait: None,
            boot: None,
            vendor: Vec::new(),
        },
        told_hosts: Default::default(),
    }
}

pub(crate) fn reserve(scope: &mut Scope, mac: MacAddr, address: Ipv4Addr) {
    scope.reservations.insert(mac, (address, "web".to_owned()));
    scope.fixed.insert(address);
}

pub(crate) fn scopes(list: impl IntoIterator<Item = Scope>) -> Scopes {
    Scopes {
        by_vlan: list
            .into_iter()
            .map(|scope| (scope.vlan, Arc::new(scope)))
            .collect(),
        ..Scopes::default()
    }
}

/// No probes and no limits of rate, but where a test is about them.
pub(crate) fn settings() -> Settings {
    Settings {
        probe_wait: 0,
        messages_per_mac: 0,
        strangers_per_segment: 0,
        ..Settings::default()
    }
}

/// A server and a clock.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) now: Time,
}

impl Server {
    pub(crate) fn new(scope: Scope) -> Self {
        Self::with(settings(), scopes([scope]))
    }

    pub(crate) fn with(settings: Settings, scopes: Scopes) -> Self {
        Self {
            engine: Engine::new(settings, scopes),
            now: Time::from_seconds(START),
        }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus_millis(seconds * 1000);
    }

    pub(crate) fn hear(&mut self, client: &Client) -> Verdict {
        self.hear_on(VLAN, client.mac, client)
    }

    /// To everybody; a relay sends to the gateway of its own segment.
    pub(crate) fn hear_on(&mut self, on: u16, source: MacAddr, client: &Client) -> Verdict {
        let is_relayed = !client.message.giaddr().is_unspecified();
        let second = u8::try_from(on).unwrap();
        let gateway = Ipv4Addr::new(10, second, 0, 1);
        let to = if is_relayed {
            gateway
        } else {
            Ipv4Addr::BROADCAST
        };
        self.hear_to((on, to), source, client)
    }

    pub(crate) fn hear_to(
        &mut self,
        (on, to): (u16, Ipv4Addr),
        source: MacAddr,
        client: &Client,
    ) -> Verdict {
        let payload = client.bytes();
        let inbound = Inbound {
            vlan: vlan(on),
            source,
            to,
            payload: &payload,
        };
        self.engine.receive(&inbound, self.now)
    }

    pub(crate) fn answer(&mut self, client: &Client) -> Answer {
        Answer::of(self.hear(client))
    }

    pub(crate) fn silence(&mut self, client: &Client) -> Reason {
        match self.hear(client) {
            Verdict::Silence(reason) => reason,
            other @ (Verdict::Reply(_) | Verdict::Probe(_)) => {
                panic!("silence expected, got {other:?}")
            }
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    pub(crate) fn bind(&mut self, number: u8) -> Ipv4Addr {
        let offer = self.answer(&Client::discover(number));
        assert_eq!(offer.kind, MessageType::Offer);
        let ack = self.answer(&Client::selecting(number, offer.message.yiaddr()));
        assert_eq!(ack.kind, MessageType::Ack);
        assert_eq!(ack.message.yiaddr(), offer.message.yiaddr());
        assert!(ack.reply.is_binding, "an acknowledgement is durable first");
        self.engine.commit();
        ack.message.yiaddr()
    }
}

/// An answer, decoded.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) message: Message,
    pub(crate) kind: MessageType,
}

impl Answer {
    pub(crate) fn of(verdict: Verdict) -> Self {
        let Verdict::Reply(reply) = verdict else {
            panic!("an answer expected, got {verdict:?}")
        };
        let message = Message::decode(&mut Decoder::new(&reply.payload)).unwrap();
        let kind = message.opts().msg_type().unwrap();
        Self {
            reply,
            message,
            kind,
        }
    }

    pub(crate) fn option(&self, code: u8) -> Option<&DhcpOption> {
        self.message.opts().get(OptionCode::from(code))
    }

    pub(crate) fn lease_time(&self) -> Option<u32> {
        match self.option(51) {
            Some(DhcpOption::AddressLeaseTime(time)) => Some(*time),
            _ => None,
        }
    }

    /// Codes of the options, in the order of the message.
    pub(crate) fn codes(&self) -> Vec<u8> {
        let mut codes = Vec::new();
        let mut rest = &self.reply.payload[240..];
        while let [code, length, ..] = rest {
            if *code == 255 {
                break;
            }
            codes.push(*code);
            rest = &rest[2 + usize::from(*length)..];
        }
        codes
    }
}

/// A message of a client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) mac: MacAddr,
    pub(crate) message: Message,
    /// Options as they are on the wire, behind all others.
    pub(crate) tail: Vec<u8>,
}

impl Client {
    pub(crate) fn new(number: u8, kind: MessageType) -> Self {
        let mut message = Message::default();
        let mac = mac(number);
        message
            .set_xid(0x1234_5600 + u32::from(number))
            .set_chaddr(&mac.0);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        Self {
            mac,
            message,
            tail: Vec::new(),
        }
    }

    pub(crate) fn discover(number: u8) -> Self {
        Self::new(number, MessageType::Discover)
    }

    pub(crate) fn selecting(number: u8, address: Ipv4Addr) -> Self {
        let server = DhcpOption::ServerIdentifier(GATEWAY);
        Self::init_reboot(number, address).option(server)
    }

    pub(crate) fn init_reboot(number: u8, address: Ipv4Addr) -> Self {
        Self::new(number, MessageType::Request).option(DhcpOption::RequestedIpAddress(address))
    }

    pub(crate) fn extending(number: u8, address: Ipv4Addr) -> Self {
        Self::new(number, MessageType::Request).from(address)
    }

    pub(crate) fn option(mut self, option: DhcpOption) -> Self {
        self.message.opts_mut().insert(option);
        self
    }

    pub(crate) fn raw_option(self, code: u8, data: &[u8]) -> Self {
        let option = UnknownOption::new(OptionCode::Unknown(code), data.to_vec());
        self.option(DhcpOption::Unknown(option))
    }

    /// Relay agent information; dhcproto would write unknown suboptions twice.
    pub(crate) fn relay_info(mut self, data: &[u8]) -> Self {
        self.tail = [&[82, u8::try_from(data.len()).unwrap()], data].concat();
        self
    }

    pub(crate) fn wants(self, codes: &[u8]) -> Self {
        let codes = codes.iter().map(|code| OptionCode::from(*code)).collect();
        self.option(DhcpOption::ParameterRequestList(codes))
    }

    pub(crate) fn from(mut self, address: Ipv4Addr) -> Self {
        self.message.set_ciaddr(address);
        self
    }

    pub(crate) fn broadcast(mut self) -> Self {
        self.message.set_flags(Flags::default().set_broadcast());
        self
    }

    pub(crate) fn id(self, octets: &[u8]) -> Self {
        self.option(DhcpOption::ClientIdentifier(octets.to_vec()))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.message
            .encode(&mut dhcproto::Encoder::new(&mut bytes))
            .unwrap();
        bytes.truncate(bytes.len() - 1);
        bytes.extend(&self.tail);
        bytes.push(255);
        bytes
    }
}

pub(crate) fn static_only(scope: Scope) -> Scope {
    Scope {
        pool: None,
        ..scope
    }
}
