//! A client's message, parsed, and the relays that it came through: RFC 8415 sections 8, 9 and 16.
//!
//! Of the crate `dhcproto` only the tests make use here: its relay messages cannot hold a client's message.

use std::net::Ipv6Addr;

use netmodel::ids::MacAddr;

use crate::counters::{Event, Reason};

/// Most relays on the way: `HOP_COUNT_LIMIT` of RFC 8415.
const MOST_RELAYS: usize = 8;
/// Most identity associations of a message.
const MOST_IAS: usize = 16;
/// Longest DUID, its type included: RFC 8415 section 11.1.
const DUID_BYTES: usize = 130;

/// Numbers of options (IANA "Dynamic Host Configuration Protocol for IPv6").
pub(super) mod code {
    pub(crate) const CLIENT: u16 = 1;
    pub(crate) const SERVER: u16 = 2;
    pub(crate) const IA_NA: u16 = 3;
    pub(crate) const IA_TA: u16 = 4;
    pub(crate) const ADDRESS: u16 = 5;
    pub(crate) const WANTED: u16 = 6;
    pub(crate) const PREFERENCE: u16 = 7;
    pub(crate) const RELAYED: u16 = 9;
    pub(crate) const STATUS: u16 = 13;
    pub(crate) const RAPID_COMMIT: u16 = 14;
    pub(crate) const INTERFACE_ID: u16 = 18;
    pub(crate) const DNS_SERVERS: u16 = 23;
    pub(crate) const DOMAIN_SEARCH: u16 = 24;
    pub(crate) const IA_PD: u16 = 25;
    pub(crate) const REFRESH_TIME: u16 = 32;
    pub(crate) const NTP: u16 = 56;
    pub(crate) const LINK_LAYER: u16 = 79;
}

/// What the client wants: RFC 8415 section 7.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Which servers are there?
    Solicit,
    /// An address that was advertised.
    Request,
    /// Are my addresses still right here?
    Confirm,
    /// More time, of the server that gave the address.
    Renew,
    /// More time, of any server.
    Rebind,
    /// The addresses are not needed any longer.
    Release,
    /// Somebody else has the addresses.
    Decline,
    /// Everything but an address.
    InformationRequest,
}

impl Kind {
    /// What it is counted as.
    pub(super) fn event(self) -> Event {
        match self {
            Self::Solicit => Event::Solicit,
            Self::Request => Event::Request6,
            Self::Confirm => Event::Confirm,
            Self::Renew => Event::Renew,
            Self::Rebind => Event::Rebind,
            Self::Release => Event::Release6,
            Self::Decline => Event::Decline6,
            Self::InformationRequest => Event::InformationRequest,
        }
    }
}

/// An identity association for addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ia {
    pub(super) id: u32,
    pub(super) addresses: Vec<Ipv6Addr>,
}

/// A client's message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) xid: [u8; 3],
    /// The client's DUID.
    pub(super) client: Option<&'a [u8]>,
    /// The DUID of the server that is meant.
    pub(super) server: Option<&'a [u8]>,
    pub(super) ias: Vec<Ia>,
    /// Other identity associations, for temporary addresses or prefixes: option and id.
    pub(super) others: Vec<(u16, u32)>,
    /// Option request.
    pub(super) wanted: Vec<u16>,
    pub(super) rapid_commit: bool,
}

/// A relay on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Relay<'a> {
    pub(super) hops: u8,
    pub(super) link: Ipv6Addr,
    pub(super) peer: Ipv6Addr,
    /// To be echoed.
    pub(super) interface_id: Option<&'a [u8]>,
    /// The hardware address of whom it got the message from (RFC 6939).
    pub(super) mac: Option<MacAddr>,
}

/// A client's message, and the relays that it came through, the closest to this server first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Relayed<'a> {
    pub(super) relays: Vec<Relay<'a>>,
    pub(super) message: Message<'a>,
}

/// The options of a message, one after the other; `None` for one that is cut off.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let option = rest.split_first_chunk::<4>().and_then(|(head, rest)| {
            let [c0, c1, l0, l1] = *head;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let (data, rest) = rest.split_at_checked(length)?;
            self.0 = rest;
            Some((u16::from_be_bytes([c0, c1]), data))
        });
        Some(option)
    }
}

/// Parses the payload of a UDP datagram to port 547.
pub(super) fn parse(payload: &[u8]) -> Result<Relayed<'_>, Reason> {
    let (mut relays, mut rest) = (Vec::new(), payload);
    while let [RELAY_FORWARD, ..] = rest {
        if relays.len() == MOST_RELAYS {
            return Err(Reason::TooManyRelays);
        }
        let (relay, inner) = relay(rest)?;
        relays.push(relay);
        rest = inner;
    }
    Ok(Relayed {
        relays,
        message: message(rest)?,
    })
}

/// Message type of relays: RFC 8415 section 7.3.
const RELAY_FORWARD: u8 = 12;

fn relay(message: &[u8]) -> Result<(Relay<'_>, &[u8]), Reason> {
    let (head, options) = message.split_first_chunk::<34>().ok_or(Reason::Truncated)?;
    let address = |from: usize| {
        let octets = head
            .get(from..from + 16)
            .and_then(|part| part.try_into().ok());
        octets.map_or(Ipv6Addr::UNSPECIFIED, |octets: [u8; 16]| octets.into())
    };
    let mut relay = Relay {
        hops: head.get(1).copied().unwrap_or_default(),
        link: address(2),
        peer: address(18),
        interface_id: None,
        mac: None,
    };
    let mut inner = None;
    for option in Options(options) {
        match option.ok_or(Reason::MalformedOption)? {
            (code::RELAYED, data) => inner = Some(data),
            (code::INTERFACE_ID, data) => relay.interface_id = Some(data),
            // Hardware type 1 is Ethernet.
            (code::LINK_LAYER, [0, 1, mac @ ..]) => {
                relay.mac = mac.try_into().ok().map(MacAddr);
            }
            _ => {}
        }
    }
    Ok((relay, inner.ok_or(Reason::InvalidMessage)?))
}

fn message(octets: &[u8]) -> Result<Message<'_>, Reason> {
    let (head, options) = octets.split_first_chunk::<4>().ok_or(Reason::Truncated)?;
    let [kind, xid @ ..] = *head;
    let mut message = Message {
        kind: message_kind(kind)?,
        xid,
        client: None,
        server: None,
        ias: Vec::new(),
        others: Vec::new(),
        wanted: Vec::new(),
        rapid_commit: false,
    };
    for option in Options(options) {
        let (code, data) = option.ok_or(Reason::MalformedOption)?;
        message.read(code, data)?;
    }
    Ok(message)
}

fn message_kind(kind: u8) -> Result<Kind, Reason> {
    match kind {
        1 => Ok(Kind::Solicit),
        3 => Ok(Kind::Request),
        4 => Ok(Kind::Confirm),
        5 => Ok(Kind::Renew),
        6 => Ok(Kind::Rebind),
        8 => Ok(Kind::Release),
        9 => Ok(Kind::Decline),
        11 => Ok(Kind::InformationRequest),
        2 | 7 | 10 | 13 => Err(Reason::ServerMessage),
        _ => Err(Reason::UnknownMessageType),
    }
}

impl<'a> Message<'a> {
    fn read(&mut self, code: u16, data: &'a [u8]) -> Result<(), Reason> {
        match code {
            code::CLIENT => self.client = Some(duid(data)?),
            code::SERVER => self.server = Some(duid(data)?),
            code::IA_NA => self.ias.push(ia(data)?),
            code::IA_TA | code::IA_PD => {
                let id = data.first_chunk().ok_or(Reason::MalformedOption)?;
                self.others.push((code, u32::from_be_bytes(*id)));
            }
            code::WANTED => {
                let (pairs, rest) = data.as_chunks();
                if !rest.is_empty() {
                    return Err(Reason::MalformedOption);
                }
                self.wanted = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            }
            code::RAPID_COMMIT => self.rapid_commit = true,
            _ => {}
        }
        if self.ias.len() + self.others.len() > MOST_IAS {
            return Err(Reason::MalformedOption);
        }
        Ok(())
    }

    /// Has it what it must have, and nothing that it must not (RFC 8415 section 16)?
    pub(super) fn check(&self, own: &[u8], is_unicast: bool) -> Result<(), Reason> {
        let (client, server) = (self.client.is_some(), self.server.is_some());
        let (is_right, may_be_unicast) = match self.kind {
            Kind::Solicit | Kind::Confirm | Kind::Rebind => (client && !server, false),
            Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => (client && server, true),
            Kind::InformationRequest => (self.ias.is_empty() && self.others.is_empty(), false),
        };
        if !is_right {
            return Err(Reason::InvalidMessage);
        }
        if self.server.is_some_and(|server| server != own) {
            return Err(Reason::OtherServer);
        }
        if is_unicast && !may_be_unicast {
            return Err(Reason::OtherDestination);
        }
        Ok(())
    }
}

fn duid(data: &[u8]) -> Result<&[u8], Reason> {
    if (3..=DUID_BYTES).contains(&data.len()) {
        Ok(data)
    } else {
        Err(Reason::MalformedOption)
    }
}

fn ia(data: &[u8]) -> Result<Ia, Reason> {
    let (head, options) = data
        .split_first_chunk::<12>()
        .ok_or(Reason::MalformedOption)?;
    let [a, b, c, d, ..] = *head;
    let mut addresses = Vec::new();
    for option in Options(options) {
        let (code, data) = option.ok_or(Reason::MalformedOption)?;
        if code == code::ADDRESS {
            let (address, _) = data
                .split_first_chunk::<16>()
                .ok_or(Reason::MalformedOption)?;
            addresses.push(Ipv6Addr::from(*address));
        }
    }
    if addresses.len() > MOST_IAS {
        return Err(Reason::MalformedOption);
    }
    Ok(Ia {
        id: u32::from_be_bytes([a, b, c, d]),
        addresses,
    })
}
