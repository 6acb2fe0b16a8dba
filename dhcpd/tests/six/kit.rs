//! Scopes, clients and what is asserted of answers.

use std::net::Ipv6Addr;
use std::sync::Arc;

use dhcpd::Time;
use dhcpd::counters::Reason;
use dhcpd::scope::{Relay, Scopes};
use dhcpd::settings::Settings;
use dhcpd::six::{Engine6, Inbound6, Mode, Reply6, Scope6, Told6};
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, ORO, OptionCode, Status,
};
use dhcproto::{Decodable, Decoder, Encodable};
use netmodel::ids::{MacAddr, VlanId};

pub(crate) const VLAN: u16 = 100;
pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const LEASE_TIME: u32 = 3600;
pub(crate) const DUID: [u8; 18] = [0, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
pub(crate) const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
pub(crate) const RELAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0, 2);

pub(crate) fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

pub(crate) fn mac(number: u16) -> MacAddr {
    let [a, b] = number.to_be_bytes();
    MacAddr([2, 0, 0, 0, a, b])
}

/// fd00:ID::LAST, with the id in hexadecimal digits that read as decimal ones.
pub(crate) fn at(id: u16, last: u16) -> Ipv6Addr {
    let id = u16::from_str_radix(&id.to_string(), 16).unwrap();
    Ipv6Addr::new(0xfd00, id, 0, 0, 0, 0, 0, last)
}

pub(crate) fn link_local(mac: MacAddr) -> Ipv6Addr {
    testkit::frame::link_local(mac.0)
}

/// fd00:ID::/64.
pub(crate) fn scope(id: u16) -> Scope6 {
    Scope6 {
        vlan: vlan(id),
        name: format!("vlan{id}"),
        net: format!("{}/64", at(id, 0)).parse().unwrap(),
        gateway: at(id, 1),
        mode: Mode::Managed,
        reservations: Default::default(),
        fixed: [at(id, 0), at(id, 1)].into(),
        takes_new: true,
        told: Told6 {
            lease_time: LEASE_TIME,
            dns_servers: vec![at(id, 1)],
            ntp_servers: vec![at(id, 1)],
            domain_search: vec![
                "alpha.east.lab.example".to_owned(),
                "lab.example".to_owned(),
            ],
            mtu: 1500,
        },
    }
}

pub(crate) fn reserve(scope: &mut Scope6, mac: MacAddr, at: Ipv6Addr) {
    scope.reservations.insert(mac, at);
    scope.fixed.insert(at);
}

pub(crate) fn scopes(list: impl IntoIterator<Item = Scope6>) -> Scopes {
    let relay = Relay {
        vlan: vlan(VLAN),
        serves: vec![vlan(200)],
    };
    Scopes {
        six: list
            .into_iter()
            .map(|scope| (scope.vlan, Arc::new(scope)))
            .collect(),
        relays6: [(RELAY, relay)].into(),
        ..Scopes::default()
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        messages_per_mac: 0,
        strangers_per_segment: 0,
        ..Settings::default()
    }
}

/// A client's message.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) mac: MacAddr,
    pub(crate) duid: Vec<u8>,
    pub(crate) message: Message,
}

impl Client {
    /// With its DUID and nothing else.
    pub(crate) fn bare(number: u16, kind: MessageType) -> Self {
        let mac = mac(number);
        let duid = [&[0, 3, 0, 1], &mac.0[..]].concat();
        let mut message = Message::new_with_id(kind, [1, 2, 3]);
        message
            .opts_mut()
            .insert(DhcpOption::ClientId(duid.clone()));
        Self { mac, duid, message }
    }

    /// Also with the server's DUID where that must be, and one identity association.
    pub(crate) fn new(number: u16, kind: MessageType) -> Self {
        let needs_server = matches!(
            kind,
            MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline
        );
        let mut client = Self::bare(number, kind).with(ia(7, &[]));
        if needs_server {
            client = client.with(DhcpOption::ServerId(DUID.to_vec()));
        }
        client
    }

    pub(crate) fn with(mut self, option: DhcpOption) -> Self {
        self.message.opts_mut().insert(option);
        self
    }

    /// Its identity association names addresses.
    pub(crate) fn naming(mut self, addresses: &[Ipv6Addr]) -> Self {
        self.message.opts_mut().remove(OptionCode::IANA);
        self.with(ia(7, addresses))
    }

    pub(crate) fn wanting(self, codes: &[u16]) -> Self {
        let opts = codes.iter().map(|code| OptionCode::from(*code)).collect();
        self.with(DhcpOption::ORO(ORO { opts }))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.message.to_vec().unwrap()
    }
}

pub(crate) fn ia(id: u32, addresses: &[Ipv6Addr]) -> DhcpOption {
    let mut opts = DhcpOptions::new();
    for addr in addresses {
        opts.insert(DhcpOption::IAAddr(IAAddr {
            addr: *addr,
            preferred_life: 0,
            valid_life: 0,
            opts: DhcpOptions::new(),
        }));
    }
    DhcpOption::IANA(IANA {
        id,
        t1: 0,
        t2: 0,
        opts,
    })
}

/// An answer, read by `dhcproto`.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply6,
    pub(crate) message: Message,
}

/// An identity association in an answer: its addresses with their lifetimes, and its status.
pub(crate) type Told = (Vec<(Ipv6Addr, u32)>, Option<Status>);

impl Answer {
    pub(crate) fn of(reply: Reply6) -> Self {
        let message = Message::decode(&mut Decoder::new(&reply.payload)).unwrap();
        Self { reply, message }
    }

    pub(crate) fn kind(&self) -> MessageType {
        self.message.msg_type()
    }

    pub(crate) fn ias(&self) -> Vec<(IANA, Told)> {
        let ias = self
            .message
            .opts()
            .get_all(OptionCode::IANA)
            .unwrap_or_default();
        let ias = ias.iter().filter_map(|option| {
            let DhcpOption::IANA(ia) = option else {
                return None;
            };
            Some((ia.clone(), told(ia)))
        });
        ias.collect()
    }

    /// The only address with time left, if there is one.
    pub(crate) fn address(&self) -> Option<Ipv6Addr> {
        let all: Vec<_> = self
            .ias()
            .into_iter()
            .flat_map(|(_, (list, _))| list)
            .collect();
        let mut valid = all.iter().filter(|(_, time)| *time > 0);
        let first = valid.next().map(|(at, _)| *at);
        assert_eq!(valid.next(), None, "one address");
        first
    }

    pub(crate) fn status(&self) -> Option<Status> {
        status(self.message.opts())
    }

    pub(crate) fn option(&self, code: u16) -> Option<DhcpOption> {
        self.message.opts().get(OptionCode::from(code)).cloned()
    }
}

fn told(ia: &IANA) -> Told {
    let list = ia.opts.get_all(OptionCode::IAAddr).unwrap_or_default();
    let list = list.iter().filter_map(|option| {
        let DhcpOption::IAAddr(at) = option else {
            return None;
        };
        Some((at.addr, at.valid_life))
    });
    (list.collect(), status(&ia.opts))
}

fn status(options: &DhcpOptions) -> Option<Status> {
    let DhcpOption::StatusCode(code) = options.get(OptionCode::StatusCode)? else {
        return None;
    };
    Some(code.status)
}

/// A server and a clock.
pub(crate) struct Server {
    pub(crate) engine: Engine6,
    pub(crate) now: Time,
}

impl Server {
    pub(crate) fn new(scope: Scope6) -> Self {
        Self::with(settings(), scopes([scope]))
    }

    pub(crate) fn with(settings: Settings, scopes: Scopes) -> Self {
        Self {
            engine: Engine6::new(settings, DUID.to_vec(), Arc::new(scopes)),
            now: Time::from_seconds(START),
        }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus_millis(seconds * 1000);
    }

    pub(crate) fn hear(&mut self, client: &Client) -> Result<Reply6, Reason> {
        self.hear_to(SERVERS, client)
    }

    pub(crate) fn hear_to(&mut self, to: Ipv6Addr, client: &Client) -> Result<Reply6, Reason> {
        let payload = client.bytes();
        let inbound = Inbound6 {
            vlan: vlan(VLAN),
            source: client.mac,
            from: link_local(client.mac),
            to,
            payload: &payload,
        };
        self.engine.receive(&inbound, self.now)
    }

    pub(crate) fn answer(&mut self, client: &Client) -> Answer {
        Answer::of(self.hear(client).unwrap())
    }

    pub(crate) fn silence(&mut self, client: &Client) -> Reason {
        self.hear(client).unwrap_err()
    }

    /// Binds an address.
    pub(crate) fn bind(&mut self, number: u16) -> Ipv6Addr {
        let answer = self.answer(&Client::new(number, MessageType::Request));
        self.engine.commit();
        answer.address().unwrap()
    }
}
