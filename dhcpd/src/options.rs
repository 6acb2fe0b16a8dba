//! Messages to clients: fields, and options in the order and only as asked.
//!
//! The options that say what the message is come first, then those of the parameter request list in its order as
//! long as they fit, then what the server must echo: client identifier (RFC 6842) and, last, relay agent
//! information (RFC 3046). RFC 2132 section 3.3: "If both the subnet mask and the router option are
//! specified in a DHCP reply, the subnet mask option MUST be first."

use std::collections::HashMap;
use std::net::Ipv4Addr;

use dhcproto::Encoder;
use dhcproto::v4::{
    AutoConfig, DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use ipnet::Ipv4Net;

use crate::code;
use crate::request::Request;
use crate::scope::{Scope, Told};

/// What a client is told that does not say what it wants (RFC 2131 section 4.3.1 leaves it to us).
const DEFAULT_LIST: &[u8] = &[
    code::SUBNET_MASK,
    code::ROUTER,
    code::DNS_SERVERS,
    code::DOMAIN_NAME,
    code::MTU,
    code::BROADCAST_ADDRESS,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
];
/// Largest message that every client takes, in octets of the IP packet: RFC 2131 section 2.
const SMALLEST_MAXIMUM: u16 = 576;
/// IPv4 and UDP headers.
const HEADERS: usize = 28;
/// A BOOTP message: some relays and clients drop what is shorter (RFC 1542 section 2.1).
const SHORTEST: usize = 300;

/// A message to a client.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What it is.
    pub(crate) kind: MessageType,
    /// The client's address, or 0.0.0.0.
    pub(crate) yiaddr: Ipv4Addr,
    /// How long it may use the address, in seconds; none if that is not what was asked.
    pub(crate) lease_time: Option<u32>,
    /// Rapid commit: the client asked for it, and the lease is bound.
    pub(crate) is_rapid: bool,
    /// Tells the client not to give itself an address.
    pub(crate) no_auto_configure: bool,
}

impl Answer {
    /// A message without an address or a lease.
    pub(crate) fn bare(kind: MessageType) -> Self {
        Self {
            kind,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            lease_time: None,
            is_rapid: false,
            no_auto_configure: false,
        }
    }

    /// Returns the octets of the message.
    pub(crate) fn encode(&self, scope: &Scope, request: &Request) -> Vec<u8> {
        let mut bytes = encoded(&self.fields(scope, request));
        let mut first = vec![
            DhcpOption::MessageType(self.kind),
            DhcpOption::ServerIdentifier(scope.gateway),
        ];
        first.extend(self.lease_time.map(DhcpOption::AddressLeaseTime));
        first.extend(self.is_rapid.then_some(DhcpOption::RapidCommit));
        let no_auto = DhcpOption::DisableSLAAC(AutoConfig::DoNotAutoConfigure);
        first.extend(self.no_auto_configure.then_some(no_auto));
        for option in &first {
            bytes.extend(encoded(option));
        }
        let mut last = Vec::new();
        if !request.client_id.is_empty() {
            last.extend(encoded(&DhcpOption::ClientIdentifier(
                request.client_id.to_vec(),
            )));
        }
        if !request.relay_info.is_empty() {
            last.extend(encoded(&unknown(
                code::RELAY_INFO,
                request.relay_info.clone(),
            )));
        }
        if self.kind != MessageType::Nak {
            let asked = request.max_size.unwrap_or_default().max(SMALLEST_MAXIMUM);
            let mtu = scope.told_to(request.mac).mtu;
            let room = usize::from(asked.min(mtu.max(SMALLEST_MAXIMUM))) - HEADERS;
            let room = room.saturating_sub(last.len() + 1);
            self.push_wanted(&mut bytes, room, (scope, request));
        }
        bytes.extend(last);
        bytes.push(OptionCode::End.into());
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }

    fn fields(&self, scope: &Scope, request: &Request) -> Message {
        let mut message = Message::default();
        let is_nak = self.kind == MessageType::Nak;
        // RFC 2131 section 4.3.2: through a relay, the NAK asks the relay to broadcast it.
        let broadcast = request.broadcast || (is_nak && !request.giaddr.is_unspecified());
        let flags = if broadcast {
            Flags::default().set_broadcast()
        } else {
            Flags::default()
        };
        message
            .set_opcode(Opcode::BootReply)
            .set_xid(request.xid)
            .set_flags(flags)
            .set_yiaddr(self.yiaddr)
            .set_giaddr(request.giaddr)
            .set_chaddr(&request.mac.0);
        if is_nak {
            return message;
        }
        if self.kind == MessageType::Ack {
            message.set_ciaddr(request.ciaddr);
        }
        let told = scope.told_to(request.mac);
        if let Some(boot) = &told.boot {
            message.set_siaddr(boot.next_server);
            // What does not fit into the field is in option 67, for clients that ask for it.
            if let Some(file) = boot_file(told, request).filter(|file| file.len() < 128) {
                message.set_fname(file.as_bytes());
            }
        }
        message
    }

    /// Appends what the client asked for, as far as it fits.
    fn push_wanted(&self, bytes: &mut Vec<u8>, room: usize, (scope, request): (&Scope, &Request)) {
        let mut wanted = request
            .wanted
            .clone()
            .unwrap_or_else(|| DEFAULT_LIST.to_vec());
        let mask = wanted
            .iter()
            .position(|wanted| *wanted == code::SUBNET_MASK);
        let router = wanted.iter().position(|wanted| *wanted == code::ROUTER);
        if let (Some(mask), Some(router)) = (mask, router)
            && router < mask
        {
            wanted.remove(mask);
            wanted.insert(router, code::SUBNET_MASK);
        }
        let mut done = [false; 256];
        for wanted in wanted {
            if let Some(is_done) = done.get_mut(usize::from(wanted))
                && !std::mem::replace(is_done, true)
                && let Some(option) = self.option(wanted, scope, request)
            {
                let octets = encoded(&option);
                if bytes.len() + octets.len() <= room {
                    bytes.extend(octets);
                }
            }
        }
    }

    /// Returns the option that the scope has under a code.
    fn option(&self, wanted: u8, scope: &Scope, request: &Request) -> Option<DhcpOption> {
        let told = scope.told_to(request.mac);
        let some = |list: &Vec<Ipv4Addr>| (!list.is_empty()).then(|| list.clone());
        let part = |eighths: u64| {
            let time = u64::from(self.lease_time?) * eighths / 8;
            u32::try_from(time).ok()
        };
        match wanted {
            code::SUBNET_MASK => Some(DhcpOption::SubnetMask(scope.net.netmask())),
            code::ROUTER => some(&told.routers).map(DhcpOption::Router),
            code::DNS_SERVERS => some(&told.dns_servers).map(DhcpOption::DomainNameServer),
            code::HOST_NAME => {
                let (_, name) = scope.reservations.get(&request.mac)?;
                Some(DhcpOption::Hostname(name.clone()))
            }
            code::DOMAIN_NAME => Some(DhcpOption::DomainName(told.domain.clone())),
            code::MTU => Some(DhcpOption::InterfaceMtu(told.mtu)),
            code::BROADCAST_ADDRESS => Some(DhcpOption::BroadcastAddr(scope.net.broadcast())),
            code::NTP_SERVERS => some(&told.ntp_servers).map(DhcpOption::NtpServers),
            code::VENDOR if !told.vendor.is_empty() => {
                Some(DhcpOption::VendorExtensions(told.vendor.clone()))
            }
            code::RENEWAL_TIME => part(4).map(DhcpOption::Renewal),
            code::REBINDING_TIME => part(7).map(DhcpOption::Rebinding),
            code::TFTP_SERVER => {
                let server = told.boot.as_ref()?.next_server.to_string();
                Some(DhcpOption::TFTPServerName(server.into_bytes()))
            }
            code::BOOT_FILE => Some(DhcpOption::BootfileName(
                boot_file(told, request)?.as_bytes().to_vec(),
            )),
            code::IPV6_ONLY_PREFERRED => {
                Some(unknown(wanted, told.ipv6_only_wait?.to_be_bytes().to_vec()))
            }
            code::DOMAIN_SEARCH if !told.domain_search.is_empty() => {
                Some(unknown(wanted, compressed_search_list(&told.domain_search)))
            }
            code::CLASSLESS_ROUTES if !told.routes.is_empty() => Some(routes(told)),
            _ => None,
        }
    }
}

/// RFC 3442: "If the DHCP server returns both a Classless Static Routes option and a Router
/// option, the DHCP client MUST ignore the Router option." So the default route is in it, too.
fn routes(told: &Told) -> DhcpOption {
    let routes = told.routes.iter().map(|route| (route.to, route.via));
    let router = told.routers.first();
    let default = router.map(|router| (Ipv4Net::default(), *router));
    DhcpOption::ClasslessStaticRoute(routes.chain(default).collect())
}

fn unknown(code: u8, data: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), data))
}

fn boot_file<'a>(told: &'a Told, request: &Request) -> Option<&'a str> {
    let boot = told.boot.as_ref()?;
    if request.is_ipxe && boot.ipxe.is_some() {
        return boot.ipxe.as_deref();
    }
    let number = request.architecture.map(|number| number.to_string());
    let by_number = number.and_then(|number| boot.architectures.get(&number));
    by_number.or(boot.file.as_ref()).map(String::as_str)
}

/// RFC 3397: names as in DNS; an end that was there before is a pointer to it (RFC 1035 section 4.1.4).
fn compressed_search_list(domains: &[String]) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut known: HashMap<&str, u16> = HashMap::new();
    for domain in domains {
        let mut rest = domain.trim_matches('.');
        while !rest.is_empty() {
            if let Some(at) = known.get(rest) {
                octets.extend((0xc000 | at).to_be_bytes());
                break;
            }
            // A pointer has 14 bits.
            if let Some(at) = u16::try_from(octets.len()).ok().filter(|at| *at < 0x4000) {
                known.insert(rest, at);
            }
            let (label, more) = rest.split_once('.').unwrap_or((rest, ""));
            push_label(&mut octets, label);
            rest = more;
        }
        if rest.is_empty() {
            octets.push(0);
        }
    }
    octets
}

fn push_label(octets: &mut Vec<u8>, label: &str) {
    let label = label.as_bytes();
    let label = label.get(..label.len().min(63)).unwrap_or_default();
    octets.extend(u8::try_from(label.len()));
    octets.extend(label);
}

/// RFC 8106 section 5.2, RFC 8415 section 10: names as in DNS, without compression.
pub(crate) fn search_list(domains: &[String]) -> Vec<u8> {
    let mut octets = Vec::new();
    for domain in domains {
        for label in domain.split('.').filter(|label| !label.is_empty()) {
            push_label(&mut octets, label);
        }
        octets.push(0);
    }
    octets
}

/// Writing into memory does not fail, and no part of a message is too long for its place.
fn encoded(part: &impl dhcproto::Encodable) -> Vec<u8> {
    let mut octets = Vec::new();
    let done = part.encode(&mut Encoder::new(&mut octets));
    debug_assert!(done.is_ok(), "a message can be encoded");
    octets
}
