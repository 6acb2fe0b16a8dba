//! The servers that are part of this program: it starts itself again for each.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dns::limit::Rates;
use dns::server::{Config, Server};
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

use crate::sites::{Kind, Question, SERVER};

/// bulkhead-dns with one thread for UDP, on all addresses, as on a router.
pub(crate) fn bulkhead(folder: &Path, port: u16) -> Result<()> {
    let config = Config {
        generation: folder.join("generation"),
        keys: folder.join("keys"),
        zone_keys: folder.join("zone-keys"),
        journal: folder.join("journal"),
        listen: vec![(Ipv4Addr::UNSPECIFIED, port).into()],
        workers: 1,
        records_per_tenant: 1000,
        upstreams: Vec::new(),
        // Limits that are looked at and never reached: what they cost is part of the figures.
        rates: Rates {
            client: 1_000_000,
            view: 1_000_000,
            signatures: 1_000_000,
        },
        status: Some(folder.join("status.json")),
        tls: None,
        tls_listen: Vec::new(),
        api_listen: Vec::new(),
        leases: dns::leases::Config::default(),
        reload: Arc::default(),
    };
    let _server = Server::start(&config).context("start bulkhead-dns")?;
    loop {
        std::thread::park();
    }
}

/// hickory-server with its zones in memory, one thread.
pub(crate) fn hickory(folder: &Path, port: u16) -> Result<()> {
    let zones: Vec<(String, Vec<(String, Ipv4Addr)>)> =
        serde_json::from_slice(&std::fs::read(folder.join("zones.json"))?)?;
    let mut catalog = Catalog::new();
    for (origin, names) in zones {
        let origin = Name::from_ascii(format!("{origin}."))?;
        let mut handler: InMemoryZoneHandler =
            InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let mut add = |name: Name, data| handler.upsert_mut(Record::from_rdata(name, 300, data), 1);
        let server = origin.prepend_label("ns")?;
        add(
            origin.clone(),
            RData::SOA(SOA::new(
                server.clone(),
                server.clone(),
                1,
                3600,
                600,
                604_800,
                60,
            )),
        );
        add(origin.clone(), RData::NS(NS(server)));
        for (name, address) in &names {
            add(origin.prepend_label(name.as_str())?, RData::A(A(*address)));
        }
        catalog.upsert(LowerName::new(&origin), vec![Arc::new(handler)]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = tokio::net::UdpSocket::bind((SERVER, port)).await?;
        let mut server = hickory_server::Server::new(catalog);
        server.register_socket(socket);
        server.block_until_done().await.context("hickory-server")
    })
}

/// What sockets cost: every datagram is answered by the same one with the bit "response" and one answer.
pub(crate) fn echo(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((SERVER, port))?;
    let mut octets = [0; 512];
    loop {
        let (length, peer) = socket.recv_from(&mut octets)?;
        mark(&mut octets);
        let _ = socket.send_to(&octets[..length], peer);
    }
}

/// The same in batches: the floor of a server that uses sockets well.
pub(crate) fn echo_batch(port: u16) -> Result<()> {
    use std::io::{IoSlice, IoSliceMut};
    use std::os::fd::AsRawFd as _;
    const BATCH: usize = 64;
    let socket = UdpSocket::bind((SERVER, port))?;
    let mut octets = vec![[0u8; 512]; BATCH];
    let mut incoming = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut outgoing = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = octets
            .iter_mut()
            .map(|octets| [IoSliceMut::new(octets)])
            .collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut incoming,
            slices.iter_mut(),
            flags,
            None,
        )?;
        let seen: Vec<(usize, Option<SockaddrIn>)> = received
            .map(|message| (message.bytes, message.address))
            .collect();
        octets.iter_mut().for_each(mark);
        let slices: Vec<[IoSlice<'_>; 1]> = seen
            .iter()
            .zip(&octets)
            .map(|((length, _), octets)| [IoSlice::new(&octets[..*length])])
            .collect();
        let peers: Vec<Option<SockaddrIn>> = seen.iter().map(|(_, peer)| *peer).collect();
        let none: [ControlMessage<'_>; 0] = [];
        let _ = sendmmsg(
            socket.as_raw_fd(),
            &mut outgoing,
            &slices,
            &peers,
            none,
            MsgFlags::empty(),
        )
        .map(Iterator::count);
    }
}

/// Makes a question look like its answer.
fn mark(octets: &mut [u8; 512]) {
    octets[2] = 0x84;
    octets[7] = 1;
}

/// Waits until a server answers a question as it should: while it loads, some answer that they do not know.
pub(crate) fn wait_until_up(
    (question, kind): (&Question, Kind),
    port: u16,
    limit: Duration,
) -> Result<()> {
    // As a client of the site: nobody else is answered.
    let socket = UdpSocket::bind((question.source, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let end = std::time::Instant::now() + limit;
    let mut reply = [0; 512];
    while std::time::Instant::now() < end {
        let _ = socket.send_to(&question.octets, SocketAddr::from((SERVER, port)));
        if matches!(socket.recv(&mut reply), Ok(length) if kind.is_answered_by(&reply[..length])) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("it gave no right answer within {limit:?}")
}
