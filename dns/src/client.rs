//! Signed requests to a running server, as a tenant's tools make them: for `test-key` and `import`.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{Name, RecordType};
use thiserror::Error;

use crate::keys::Key;
use crate::message::UDP_PLAIN;
use crate::world::World;

/// How long a reply may take; over UDP, each message is sent twice.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request was not granted, or could not be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no such key.
    #[error("no tenant's key is called `{0}` (remedy: `bulkhead dns keys`)")]
    Unknown(String),
    /// The tenant has no gateway.
    #[error("the tenant `{0}` has no gateway to ask at (remedy: --server ADDRESS)")]
    NoGateway(String),
    /// The message is longer than DNS can carry.
    #[error("more than fits into one message of 64 KiB (remedy: split it)")]
    TooLong,
    /// The message cannot be made.
    #[error("cannot sign a message")]
    Sign(#[source] ProtoError),
    /// The socket.
    #[error("cannot ask {server}")]
    Socket {
        /// Who was to be asked.
        server: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "{server} does not answer (remedy: `systemctl status bulkhead-dns`, and ask from an address that a segment of the tenant has)"
    )]
    Silence {
        /// Who was asked.
        server: SocketAddr,
    },
    /// What came back is no message.
    #[error("{server} answers what is no DNS message")]
    Garbage {
        /// Who was asked.
        server: SocketAddr,
        /// What is wrong with it.
        #[source]
        source: ProtoError,
    },
    /// The server says no.
    #[error("{server} refuses the {what}: {code}{}{}", why(*.tsig, *.skew), told(extended.as_deref()))]
    Refused {
        /// Who was asked.
        server: SocketAddr,
        /// What was asked.
        what: &'static str,
        /// The reply's code.
        code: ResponseCode,
        /// What it says of the signature.
        tsig: Option<TsigError>,
        /// What else it says (RFC 8914).
        extended: Option<String>,
        /// Its clock less ours, in seconds.
        skew: i64,
    },
    /// The reply is not the server's.
    #[error(
        "the signature of the reply to the {what} is not good: {server} has another secret, or it is not who answered"
    )]
    Forged {
        /// Who was asked.
        server: SocketAddr,
        /// What was asked.
        what: &'static str,
    },
}

fn why(tsig: Option<TsigError>, skew: i64) -> String {
    match tsig {
        Some(TsigError::BadKey) => {
            ", BADKEY: it has no such key (remedy: `systemctl reload bulkhead-dns`)".into()
        }
        Some(TsigError::BadSig) => {
            ", BADSIG: it has another secret (remedy: `systemctl reload bulkhead-dns`)".into()
        }
        Some(TsigError::BadTime) => {
            format!(", BADTIME: its clock differs by {skew} s (remedy: a time server for both)")
        }
        Some(other) => format!(", {other:?}"),
        None => String::new(),
    }
}

fn told(extended: Option<&str>) -> String {
    extended.map_or_else(String::new, |text| format!(" ({})", text.escape_debug()))
}

/// A tenant's key, and where its server is asked.
pub(crate) struct Client<'w> {
    /// The key.
    pub(crate) key: &'w Key,
    /// The tenant's zone.
    pub(crate) zone: Name,
    /// The server.
    pub(crate) server: SocketAddr,
}

impl<'w> Client<'w> {
    /// Finds a tenant's key. Without a server, it is port 53 of the tenant's first gateway.
    pub(crate) fn new(
        world: &'w World,
        name: &str,
        server: Option<SocketAddr>,
    ) -> Result<Self, ClientError> {
        let unknown = || ClientError::Unknown(name.to_owned());
        let key = world.keys.iter().find(|key| &*key.name == name);
        let key = key.ok_or_else(unknown)?;
        let tenant = key.tenant().ok_or_else(unknown)?;
        let info = world.plan.tenants.get(tenant).ok_or_else(unknown)?;
        // The server is there, and the router's own address in the segment is who asks.
        let gateway = info.gateways.first().map(|&gateway| (gateway, 53).into());
        let server = server.or(gateway);
        Ok(Self {
            key,
            zone: Name::from_ascii(info.zone.to_string()).map_err(ClientError::Sign)?,
            server: server.ok_or_else(|| ClientError::NoGateway(tenant.to_string()))?,
        })
    }

    /// A question for the zone's SOA.
    pub(crate) fn question(&self) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        message.add_query(Query::query(self.zone.clone(), RecordType::SOA));
        // Without EDNS, the server could not say why it refuses.
        message.edns = Some(Edns::new());
        message
    }

    /// An update of the zone that changes nothing yet (RFC 2136 allows one without records).
    pub(crate) fn update(&self) -> Message {
        let mut message = self.question();
        message.metadata.op_code = OpCode::Update;
        message
    }

    /// Sends a message, signed, over TCP if it is too long for UDP; returns the reply if it is content and its signature good.
    pub(crate) fn exchange(
        &self,
        message: &Message,
        what: &'static str,
    ) -> Result<Answered, ClientError> {
        let (server, now) = (self.server, now());
        let mut message = message.clone();
        let verifier = self.key.secret.sign(&mut message, now);
        let verifier = verifier.map_err(ClientError::Sign)?;
        let octets = message.to_vec().map_err(ClientError::Sign)?;
        let octets = if octets.len() <= UDP_PLAIN {
            ask(server, &octets)?
        } else {
            ask_stream(server, &octets)?
        };
        let reply = Message::from_vec(&octets).map_err(|source| ClientError::Garbage {
            server,
            source: source.into(),
        })?;
        let tsig = reply.signature().map(|record| &record.data);
        let skew = tsig.map_or(0, |tsig| {
            // At BADTIME the time is ours, and the server's is in the other data (RFC 8945, 5.2.3).
            let theirs = match tsig.error {
                Some(TsigError::BadTime) => tsig
                    .other
                    .iter()
                    .fold(0, |sum, octet| (sum << 8) | u64::from(*octet)),
                _ => tsig.time,
            };
            theirs.cast_signed().wrapping_sub(now.cast_signed())
        });
        if reply.metadata.response_code != ResponseCode::NoError {
            return Err(ClientError::Refused {
                server,
                what,
                code: reply.metadata.response_code,
                tsig: tsig.and_then(|tsig| tsig.error),
                extended: extended(&reply),
                skew,
            });
        }
        if verifier.verify(&octets) {
            Ok(Answered { reply, skew })
        } else {
            Err(ClientError::Forged { server, what })
        }
    }
}

/// A reply whose signature is good.
pub(crate) struct Answered {
    pub(crate) reply: Message,
    /// The server's clock less ours, in seconds.
    pub(crate) skew: i64,
}

/// The text of an extended error.
fn extended(reply: &Message) -> Option<String> {
    let options = reply.edns.as_ref()?.options();
    let EdnsOption::Unknown(_, data) = options.get(EdnsCode::Unknown(15))? else {
        return None;
    };
    Some(String::from_utf8_lossy(data.get(2..)?).into_owned())
}

/// Sends a message until there is a reply with its id.
fn ask(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, ClientError> {
    let wrap = |source| ClientError::Socket { server, source };
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).map_err(wrap)?;
    socket.connect(server).map_err(wrap)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(wrap)?;
    let mut reply = vec![0; 4096];
    for _ in 0..2 {
        socket.send(message).map_err(wrap)?;
        match socket.recv(&mut reply) {
            Ok(length) if reply.get(..2) == message.get(..2) => {
                reply.truncate(length);
                return Ok(reply);
            }
            Ok(_) => {}
            Err(error) if is_silence(&error) => {}
            Err(error) => return Err(wrap(error)),
        }
    }
    Err(ClientError::Silence { server })
}

/// Sends a message over TCP; returns the reply.
fn ask_stream(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, ClientError> {
    let wrap = |source: io::Error| {
        if is_silence(&source) {
            ClientError::Silence { server }
        } else {
            ClientError::Socket { server, source }
        }
    };
    let length = u16::try_from(message.len()).map_err(|_| ClientError::TooLong)?;
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(wrap)?;
    stream.set_read_timeout(Some(5 * PATIENCE)).map_err(wrap)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).map_err(wrap)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(wrap)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).map_err(wrap)?;
    Ok(reply)
}

/// Is it as good as no answer?
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused
    )
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
