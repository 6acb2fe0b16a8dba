//! A client's message, parsed: everything that a decision needs, and nothing that is not well-formed.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{HType, Opcode};
use netmodel::ids::MacAddr;
use netmodel::leases::is_hostname;

use crate::code;
use crate::counters::Reason;

/// What the client wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An offer.
    Discover,
    /// An address, in one of four states: see [`Request::state`].
    Request,
    /// Somebody else has the address.
    Decline,
    /// It does not need the address any longer.
    Release,
    /// Everything but an address.
    Inform,
}

/// The state of a client that sends DHCPREQUEST: RFC 2131, table 4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientState {
    /// It takes an offer of this server.
    Selecting(Ipv4Addr, Ipv4Addr),
    /// It asks whether an address that it remembers is still right.
    InitReboot(Ipv4Addr),
    /// It wants to keep its address: RENEWING if it asks one server, REBINDING if it asks all.
    Extending(Ipv4Addr),
}

/// A parsed message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// What the client wants.
    pub kind: Kind,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Relays that it passed.
    pub hops: u8,
    /// The client cannot receive unicast yet.
    pub broadcast: bool,
    /// The client's address, or 0.0.0.0.
    pub ciaddr: Ipv4Addr,
    /// The relay's address, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub mac: MacAddr,
    /// Requested address (option 50).
    pub requested: Option<Ipv4Addr>,
    /// Server identifier (option 54).
    pub server: Option<Ipv4Addr>,
    /// Requested lease time (option 51), in seconds.
    pub lease_time: Option<u32>,
    /// Client identifier (option 61); empty is none.
    pub client_id: Box<[u8]>,
    /// Parameter request list (option 55).
    pub wanted: Option<Vec<u8>>,
    /// Largest message that the client takes (option 57), in octets of the IP packet.
    pub max_size: Option<u16>,
    /// Rapid commit (option 80).
    pub rapid_commit: bool,
    /// Auto-configure (option 116): the client would give itself an address.
    pub auto_configure: bool,
    /// Host name (option 12), if it is one; else empty.
    pub hostname: Box<str>,
    /// Client system architecture (option 93).
    pub architecture: Option<u16>,
    /// User class (option 77) of iPXE.
    pub is_ipxe: bool,
    /// Relay agent information (option 82), as it came; empty is none.
    pub relay_info: Vec<u8>,
    /// Link selection (RFC 3527) in it.
    pub link: Option<Ipv4Addr>,
}

impl Request {
    /// Parses the payload of a UDP datagram to port 67.
    ///
    /// # Errors
    ///
    /// The reason why it is no message of a client.
    pub fn parse(payload: &[u8]) -> Result<Self, Reason> {
        let message = Message::new(payload).map_err(|_| Reason::Truncated)?;
        if message.opcode() != Opcode::BootRequest {
            return Err(Reason::NotRequest);
        }
        // Before `chaddr()`, which takes the length on trust.
        if message.htype() != HType::Eth || message.hlen() != 6 {
            return Err(Reason::NotEthernet);
        }
        let mac: [u8; 6] = message
            .chaddr()
            .try_into()
            .map_err(|_| Reason::NotEthernet)?;
        if payload.get(236..240) != Some(&[99, 130, 83, 99]) {
            return Err(Reason::Bootp);
        }
        let mut request = Self {
            kind: Kind::Inform,
            xid: message.xid(),
            secs: message.secs(),
            hops: message.hops(),
            broadcast: message.flags().broadcast(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            mac: MacAddr(mac),
            requested: None,
            server: None,
            lease_time: None,
            client_id: Box::default(),
            wanted: None,
            max_size: None,
            rapid_commit: false,
            auto_configure: false,
            hostname: Box::default(),
            architecture: None,
            is_ipxe: false,
            relay_info: Vec::new(),
            link: None,
        };
        let mut kind = None;
        let overload = request.read(message.opts(), &mut kind)?;
        // RFC 2132 section 9.3: 1 is the field `file`, 2 is `sname`, 3 is both.
        for (bit, area) in [(1, payload.get(108..236)), (2, payload.get(44..108))] {
            if overload & bit != 0 {
                let area = DhcpOptionIterator::new(area.unwrap_or_default());
                request.read(area, &mut kind)?;
            }
        }
        request.kind = kind.ok_or(Reason::Bootp)?;
        Ok(request)
    }

    /// Reads options; returns the option overload.
    fn read(
        &mut self,
        options: DhcpOptionIterator<'_>,
        kind: &mut Option<Kind>,
    ) -> Result<u8, Reason> {
        let mut overload = 0;
        for option in options {
            let data = option.data();
            match u8::from(option.code()) {
                code::MESSAGE_TYPE => *kind = Some(message_type(data)?),
                code::OVERLOAD => overload = u8::from_be_bytes(exact(data)?),
                code::REQUESTED_ADDRESS => self.requested = Some(address(data)?),
                code::SERVER => self.server = Some(address(data)?),
                code::LEASE_TIME => {
                    self.lease_time = Some(u32::from_be_bytes(exact(data)?));
                }
                code::CLIENT_ID => {
                    // RFC 2132 section 9.14: "Its minimum length is 2."
                    if !(2..=255).contains(&data.len()) {
                        return Err(Reason::MalformedOption);
                    }
                    self.client_id = data.into();
                }
                code::WANTED => self.wanted = Some(data.to_vec()),
                code::MAX_SIZE => {
                    self.max_size = Some(u16::from_be_bytes(exact(data)?));
                }
                code::RAPID_COMMIT => self.rapid_commit = true,
                code::AUTO_CONFIGURE => self.auto_configure = data == [1],
                code::HOST_NAME => self.hostname = hostname(data),
                code::ARCHITECTURE => {
                    self.architecture = data.first_chunk().map(|pair| u16::from_be_bytes(*pair));
                }
                code::USER_CLASS => self.is_ipxe = data.ends_with(b"iPXE"),
                code::RELAY_INFO => {
                    self.relay_info = data.to_vec();
                    self.link = link_selection(data);
                }
                _ => {}
            }
        }
        Ok(overload)
    }

    /// Returns the state of the client that sent this DHCPREQUEST.
    ///
    /// # Errors
    ///
    /// [`Reason::NotInTable4`] if it is none of those in RFC 2131, table 4.
    pub fn state(&self) -> Result<ClientState, Reason> {
        let has_address = !self.ciaddr.is_unspecified();
        match (self.server, self.requested, has_address) {
            (Some(server), Some(requested), false) => Ok(ClientState::Selecting(server, requested)),
            (None, Some(requested), false) => Ok(ClientState::InitReboot(requested)),
            (None, None, true) => Ok(ClientState::Extending(self.ciaddr)),
            (Some(_), _, _) | (None, Some(_), true) | (None, None, false) => {
                Err(Reason::NotInTable4)
            }
        }
    }
}

fn message_type(data: &[u8]) -> Result<Kind, Reason> {
    let [code] = exact(data)?;
    // RFC 2132 section 9.6.
    match code {
        1 => Ok(Kind::Discover),
        3 => Ok(Kind::Request),
        4 => Ok(Kind::Decline),
        7 => Ok(Kind::Release),
        8 => Ok(Kind::Inform),
        2 | 5 | 6 => Err(Reason::ServerMessage),
        _ => Err(Reason::UnknownMessageType),
    }
}

fn exact<const N: usize>(data: &[u8]) -> Result<[u8; N], Reason> {
    data.try_into().map_err(|_| Reason::MalformedOption)
}

fn address(data: &[u8]) -> Result<Ipv4Addr, Reason> {
    Ok(Ipv4Addr::from(exact::<4>(data)?))
}

fn hostname(data: &[u8]) -> Box<str> {
    let name = data.strip_suffix(&[0]).unwrap_or(data);
    match std::str::from_utf8(name) {
        Ok(name) if is_hostname(name) => name.to_ascii_lowercase().into(),
        _ => Box::default(),
    }
}

/// Finds suboption 5 (RFC 3527) in option 82.
fn link_selection(mut data: &[u8]) -> Option<Ipv4Addr> {
    while let [code, length, rest @ ..] = data {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *code == 5 {
            return <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        }
        data = rest;
    }
    None
}
