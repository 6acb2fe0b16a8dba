//! Real servers on every machine, and real clients that ask them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use testkit::netns::NetNs;

/// TCP ports that every machine answers on.
pub(crate) const TCP_PORTS: &[u16] = &[22, 53, 80, 443, 3100, 5432, 8883, 9090];
/// UDP ports that every machine answers on.
pub(crate) const UDP_PORTS: &[u16] = &[53, 123];
/// What a client says, and what the server adds to it.
const QUESTION: &[u8] = b"anybody there?";
const ANSWER: &[u8] = b"yes";
/// How long a client waits between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Starts the servers of a machine. They end with the process.
pub(crate) fn serve(ns: &NetNs) -> Result<()> {
    // Real echo sockets without privileges of their own.
    ns.sysctl("net.ipv4.ping_group_range", "0 2147483647")?;
    for port in TCP_PORTS {
        let listener = ns
            .run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)))
            .with_context(|| format!("listening on TCP {port} in {}", ns.name()))?;
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| {
                // One thread per client: a conversation must not keep others waiting.
                drop(std::thread::spawn(move || answer_stream(stream)));
            })
        });
    }
    for port in UDP_PORTS {
        let socket = ns
            .run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, *port)))
            .with_context(|| format!("listening on UDP {port} in {}", ns.name()))?;
        std::thread::spawn(move || answer_datagrams(&socket));
    }
    Ok(())
}

/// Answers until the client goes away, which is its own business.
fn answer_stream(mut stream: TcpStream) {
    let mut question = [0; QUESTION.len()];
    while stream.read_exact(&mut question).is_ok() && stream.write_all(ANSWER).is_ok() {}
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 128];
    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
        // An answer that cannot be sent is one that the client misses.
        drop(socket.send_to(ANSWER, from));
    }
}

/// What a client tries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Probe {
    Tcp(u16),
    Udp(u16),
    Echo,
}

/// A client's try that is under way.
pub(crate) enum Attempt {
    Stream(socket2::Socket),
    Datagram(UdpSocket),
}

impl Attempt {
    /// Starts to ask.
    pub(crate) fn start(ns: &NetNs, to: IpAddr, probe: Probe) -> Result<Self> {
        ns.run(|| match probe {
            Probe::Tcp(port) => connect(SocketAddr::new(to, port)),
            Probe::Udp(port) => {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                ask(UdpSocket::bind(any)?, SocketAddr::new(to, port), QUESTION)
            }
            Probe::Echo => ask(echo_socket(to)?, SocketAddr::new(to, 0), &echo_request(to)),
        })
        .with_context(|| format!("asking {to} from {}", ns.name()))
    }

    /// Looks whether the answer is there; waits for it a little.
    pub(crate) fn is_answered(&mut self) -> Result<bool> {
        std::thread::park_timeout(LOOK);
        match self {
            Self::Stream(socket) => finish(socket),
            Self::Datagram(socket) => match socket.recv(&mut [0; 128]) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                // "Port unreachable" is an answer as well: the question arrived.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
                Err(error) => Err(error.into()),
            },
        }
    }
}

fn connect(to: SocketAddr) -> Result<Attempt> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(to),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Attempt::Stream(socket))
}

/// Once connected, asks and reads the whole answer.
fn finish(socket: &socket2::Socket) -> Result<bool> {
    if let Some(error) = socket.take_error()? {
        // A reset is an answer as well: the question arrived.
        return if error.kind() == ErrorKind::ConnectionRefused {
            Ok(true)
        } else {
            Err(error.into())
        };
    }
    if socket.peer_addr().is_err() {
        return Ok(false);
    }
    let mut stream: TcpStream = socket.try_clone()?.into();
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    ask_stream(&mut stream)?;
    Ok(true)
}

fn ask(socket: UdpSocket, to: SocketAddr, question: &[u8]) -> Result<Attempt> {
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    socket.send(question)?;
    Ok(Attempt::Datagram(socket))
}

/// A socket of the kernel's own echo client.
fn echo_socket(to: IpAddr) -> Result<UdpSocket> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    Ok(socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?.into())
}

/// The kernel fills in checksum and identifier.
fn echo_request(to: IpAddr) -> [u8; 16] {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut request = [0x62; 16];
    request[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 1]);
    request
}

/// Asks on one connection again and again.
pub(crate) fn converse(ns: &NetNs, to: SocketAddr, times: usize) -> Result<()> {
    let mut stream = ns.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    for _ in 0..times {
        ask_stream(&mut stream)?;
    }
    Ok(())
}

fn ask_stream(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; ANSWER.len()];
    stream.write_all(QUESTION)?;
    stream
        .read_exact(&mut answer)
        .context("reading the answer on an open connection")?;
    ensure!(answer == ANSWER, "another answer than the server's");
    Ok(())
}
