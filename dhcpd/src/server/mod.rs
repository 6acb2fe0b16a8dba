//! The daemon: frames in, frames out, one sync of the disk for each batch in between.
//!
//! ```text
//!   trunk ─┐                       ┌─ commit ─ send all
//!          ├ recvmmsg ─ engine ─ store
//!   plain ─┘            (pure)     └─ revert ─ send what promises nothing
//! ```
//!
//! # Guarantees
//!
//! * No answer that promises an address leaves before the lease is on the disk.
//! * A generation that cannot be used changes nothing: the old one is served, and the log says why.
//! * A batch of many clients costs one sync. Frames that come meanwhile wait in the socket. After a batch the next
//!   one waits for 2 ms, unless it was full: a busy server has few wake-ups and syncs, an idle one answers at once.
//! * SIGTERM and SIGINT end it between two batches.

mod follow;
mod socket;
mod status;

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netmodel::ids::VlanId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;
use tracing::{error, info, warn};

use follow::Generation;
pub use follow::GenerationError;
use socket::{BATCH, Socket};
use status::{About, Latency};

use crate::counters::Reason;
use crate::engine::{Inbound, ProbeRequest, Reply, Verdict};
use crate::frame::{self, Frame};
use crate::import;
use crate::scope::Scopes;
use crate::settings::Settings;
use crate::store::{Store, StoreError};
use crate::{Engine, Time};

/// How often leases end, counters are written, and so on, at least.
const TICK: Duration = Duration::from_millis(500);
/// A batch that was not full is followed by another one after this time at the earliest. What an exchange
/// costs a busy server falls by half with it (`cargo xtask bench dhcp`), and no client notices.
const PACE: Duration = Duration::from_millis(2);
/// How often the status is written.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// An interface to serve: `eth0` is a trunk, with the segments' tags; `eth1=100` is in VLAN 100, without tags.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterfaceArg {
    /// The kernel's name.
    pub name: String,
    /// The VLAN of untagged frames; none on a trunk.
    pub vlan: Option<VlanId>,
}

impl FromStr for InterfaceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, vlan) = match text.split_once('=') {
            None => (text, None),
            Some((name, id)) => {
                let id = id.parse().ok().and_then(VlanId::new);
                (name, Some(id.ok_or("behind `=`: a VLAN id, 1 to 4094")?))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            vlan,
        })
    }
}

/// What the server is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interfaces to serve.
    pub interfaces: Vec<InterfaceArg>,
    /// The generation file.
    pub generation: PathBuf,
    /// The folder of the leases.
    pub state: PathBuf,
    /// The status file.
    pub status: PathBuf,
    /// What the inventory does not say.
    pub settings: Settings,
}

/// The server cannot start, or not go on.
#[derive(Debug, Error)]
pub enum ServerError {
    /// No generation at the start: nobody knows whom to serve.
    #[error("cannot start without a generation (remedy: `bulkhead apply`)")]
    Generation(#[source] GenerationError),
    /// No leases.
    #[error("cannot keep leases")]
    Store(#[source] StoreError),
    /// No packet socket.
    #[error("cannot serve {interface} (it must exist, and this takes CAP_NET_RAW)")]
    Interface {
        /// The interface.
        interface: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Port 67 is somebody's.
    #[error("UDP port 67 is taken: another DHCP server runs here (remedy: stop it)")]
    PortTaken,
    /// The kernel refuses to wait or to signal.
    #[error("cannot {op}")]
    Kernel {
        /// What was tried.
        op: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// An interface that is served.
struct Port {
    name: String,
    vlan: Option<VlanId>,
    socket: Socket,
    out: Vec<Vec<u8>>,
}

/// The running server.
struct Server {
    engine: Engine,
    store: Store,
    ports: Vec<Port>,
    /// Answers that wait for the disk, with the index of their port.
    replies: Vec<(usize, Reply)>,
    /// The port on which each VLAN's probes wait.
    parked: Vec<(VlanId, usize)>,
    generation: u32,
    /// When leases ended last.
    expired: Time,
    durable: bool,
    latency: Latency,
    /// Since when the frames of the next batch may have been waiting; none if it waits for the first of them.
    waiting: Option<Instant>,
    status: PathBuf,
    /// Could the status be written last time?
    has_status: bool,
}

/// Serves until a signal ends it.
///
/// # Errors
///
/// [`ServerError`]
pub fn run(options: Options) -> Result<(), ServerError> {
    // Before any thread starts, so that all of them leave signals to the loop.
    let signals = signals().map_err(kernel("wait for signals"))?;
    let generation = follow::read(&options.generation, &options.settings);
    let generation = generation.map_err(ServerError::Generation)?;
    let number = generation.number;
    let (mut server, _port) = Server::start(&options, generation)?;
    let generations = follow::start(options.generation, options.settings, number);
    server.serve(&signals, &generations)
}

/// Takes over the leases of another server, and says what it could not: see [`crate::import`].
///
/// # Errors
///
/// [`ServerError`], also if this server runs.
pub fn import(
    options: &Options,
    read: impl FnOnce(&Scopes, u64) -> import::Outcome,
) -> Result<(), ServerError> {
    let generation = follow::read(&options.generation, &options.settings);
    let scopes = generation.map_err(ServerError::Generation)?.scopes;
    let (leases, refused) = read(&scopes, now().seconds());
    for line in &refused {
        warn!(line = line.line, why = line.why, "not taken over");
    }
    let found = leases.len();
    let written = import::write(&options.state, leases).map_err(ServerError::Store)?;
    info!(found, written, refused = refused.len(), "leases taken over");
    Ok(())
}

fn kernel(op: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::Kernel { op, source }
}

fn signals() -> io::Result<SignalFd> {
    let set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns an error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl Server {
    fn start(
        options: &Options,
        generation: Generation,
    ) -> Result<(Self, Option<std::net::UdpSocket>), ServerError> {
        let port = match socket::take_port() {
            Ok(port) => Some(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ServerError::PortTaken);
            }
            Err(error) => {
                warn!(%error, "UDP port 67 cannot be held: clients that renew may be told that nobody is there");
                None
            }
        };
        let mut engine = Engine::new(options.settings.clone(), generation.scopes);
        let (store, known) = Store::open(&options.state).map_err(ServerError::Store)?;
        engine.restore(known);
        let ports = options.interfaces.iter().map(|interface| {
            let socket =
                Socket::open(&interface.name).map_err(|source| ServerError::Interface {
                    interface: interface.name.clone(),
                    source,
                })?;
            Ok(Port {
                name: interface.name.clone(),
                vlan: interface.vlan,
                socket,
                out: Vec::new(),
            })
        });
        let ports = ports.collect::<Result<_, _>>()?;
        let (leases, scopes) = (engine.lease_count(), engine.segments().count());
        info!(generation = generation.number, scopes, leases, "serving");
        let server = Self {
            engine,
            store,
            ports,
            replies: Vec::new(),
            parked: Vec::new(),
            generation: generation.number,
            expired: Time::default(),
            durable: true,
            latency: Latency::default(),
            waiting: None,
            status: options.status.clone(),
            has_status: true,
        };
        Ok((server, port))
    }

    fn serve(
        &mut self,
        signals: &SignalFd,
        generations: &Receiver<Generation>,
    ) -> Result<(), ServerError> {
        self.write_status();
        let mut status_due = Instant::now() + STATUS_EVERY;
        loop {
            self.wait(signals)?;
            if signals
                .read_signal()
                .map_err(|errno| kernel("read a signal")(errno.into()))?
                .is_some()
            {
                self.write_status();
                info!("ended by a signal");
                return Ok(());
            }
            if let Ok(generation) = generations.try_recv() {
                self.switch(generation);
            }
            self.batch();
            self.sum_up();
            if Instant::now() >= status_due {
                self.write_status();
                status_due = Instant::now() + STATUS_EVERY;
            }
        }
    }

    /// Waits for a frame, a signal, a probe that is due, or the next tick.
    fn wait(&self, signals: &SignalFd) -> Result<(), ServerError> {
        if let Some(since) = self.waiting {
            std::thread::sleep(PACE.saturating_sub(since.elapsed()));
        }
        let due = self
            .engine
            .next_poll()
            .map(|due| Duration::from_millis(due.since(now())));
        let timeout =
            PollTimeout::try_from(due.unwrap_or(TICK).min(TICK)).unwrap_or(PollTimeout::ZERO);
        let ports = self.ports.iter().map(|port| port.socket.as_fd());
        let fds = ports.chain([signals.as_fd()]);
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(kernel("wait for frames")(errno.into())),
        }
    }

    fn switch(&mut self, generation: Generation) {
        let foreign = self.engine.switch(generation.scopes);
        self.generation = generation.number;
        info!(generation = generation.number, "serving another generation");
        for (segment, leases) in foreign {
            warn!(
                segment,
                leases, "leases that the generation has no place for are kept until they end"
            );
        }
    }

    /// Takes what has come in on every port, and answers it.
    fn batch(&mut self) {
        let start = self.waiting.unwrap_or_else(Instant::now);
        let begun = Instant::now();
        let now = now();
        let most = (0..self.ports.len())
            .map(|index| self.receive(index, now))
            .max();
        // A message ends the leases of its own segment; this is for the others.
        if now.since(self.expired) >= u64::try_from(TICK.as_millis()).unwrap_or_default() {
            self.expired = now;
            self.engine.expire(now);
        }
        for reply in self.engine.poll(now) {
            let port = self.parked.iter().find(|(vlan, _)| *vlan == reply.vlan);
            let port = port.map_or(0, |(_, port)| *port);
            self.replies.push((port, reply));
        }
        self.make_durable();
        let answers = self.replies.len() as u64;
        self.send();
        if answers > 0 {
            self.latency.add(start.elapsed().as_micros(), answers);
        }
        // After a full batch there is no pause: more is waiting.
        self.waiting = most.filter(|most| (1..BATCH).contains(most)).map(|_| begun);
    }

    /// Takes what has come in on a port; returns how many frames.
    fn receive(&mut self, index: usize, now: Time) -> usize {
        let Self {
            engine,
            ports,
            replies,
            parked,
            ..
        } = self;
        let Some(port) = ports.get_mut(index) else {
            return 0;
        };
        let count = match port.socket.receive() {
            Ok(count) => count,
            Err(error) => {
                // As when the interface goes down: it is tried again, and the status shows that nothing comes.
                warn!(interface = port.name, %error, "cannot receive");
                return 0;
            }
        };
        let (mac, plain) = (port.socket.mac(), port.vlan);
        for (bytes, hidden) in port.socket.frames() {
            let verdict = judge(engine, (bytes, hidden), plain, now);
            match verdict {
                Some(Verdict::Reply(reply)) => replies.push((index, reply)),
                Some(Verdict::Probe(probe)) => {
                    let tag = plain.is_none().then_some(probe.vlan);
                    port.out.push(frame::probe(probe, mac, tag));
                    note(parked, probe, index);
                }
                Some(Verdict::Silence(_)) | None => {}
            }
        }
        count
    }

    /// Writes the changes of the batch down; if that fails, nothing of it was promised.
    fn make_durable(&mut self) {
        if self.engine.changes().is_empty() {
            return;
        }
        let Self { engine, store, .. } = self;
        match store.append(engine.changes(), || engine.leases()) {
            Ok(()) => {
                if !std::mem::replace(&mut self.durable, true) {
                    info!("leases are written down again");
                }
                self.engine.commit();
            }
            Err(error) => {
                if std::mem::replace(&mut self.durable, false) {
                    error!(error = %chain(&error), "leases cannot be written down: none is given until they can");
                }
                self.engine.revert();
                let engine = &mut self.engine;
                self.replies.retain(|(_, reply)| {
                    if reply.is_binding {
                        engine.count_refused(Some(reply.vlan), Reason::NotDurable);
                    }
                    !reply.is_binding
                });
            }
        }
    }

    fn send(&mut self) {
        for (index, reply) in self.replies.drain(..) {
            if let Some(port) = self.ports.get_mut(index) {
                let tag = port.vlan.is_none().then_some(reply.vlan);
                port.out
                    .extend(frame::reply(&reply, port.socket.mac(), tag));
            }
        }
        for port in &mut self.ports {
            let mut rest = port.out.as_slice();
            while !rest.is_empty() {
                match port.socket.send(rest) {
                    Ok(sent) if sent > 0 => rest = rest.get(sent..).unwrap_or_default(),
                    // The queue is full or the interface is down: clients ask again.
                    Ok(_) | Err(_) => break,
                }
            }
            port.out.clear();
        }
    }

    /// Sums the file up once most of it is about the past.
    fn sum_up(&mut self) {
        if self.store.wants_summary(self.engine.lease_count())
            && let Err(error) = self.store.sum_up(self.engine.leases())
        {
            warn!(error = %chain(&error), "the lease file cannot be summed up: it grows");
        }
    }

    fn write_status(&mut self) {
        let about = About {
            generation: self.generation,
            change: self.store.number(),
            durable: self.durable,
            latency: &self.latency,
        };
        let written = status::write(&self.status, &self.engine, &about);
        let had_status = std::mem::replace(&mut self.has_status, written.is_ok());
        if let Err(error) = written
            && had_status
        {
            warn!(path = %self.status.display(), %error, "the status cannot be written");
        }
    }
}

fn note(parked: &mut Vec<(VlanId, usize)>, probe: ProbeRequest, port: usize) {
    match parked.iter_mut().find(|(vlan, _)| *vlan == probe.vlan) {
        Some((_, known)) => *known = port,
        None => parked.push((probe.vlan, port)),
    }
}

/// Hands a frame to the engine. `plain` is the VLAN of untagged frames, on an interface that is no trunk.
fn judge(
    engine: &mut Engine,
    (bytes, hidden): (&[u8], Option<u16>),
    plain: Option<VlanId>,
    now: Time,
) -> Option<Verdict> {
    let place = |tag: Option<u16>| match (tag.filter(|id| *id != 0), plain) {
        (None, Some(vlan)) => Ok(vlan),
        (Some(id), None) => VlanId::new(id).ok_or(Reason::NoScope),
        (None, None) => Err(Reason::Untagged),
        // A tag on an access port: nobody's VLAN.
        (Some(_), Some(_)) => Err(Reason::NoScope),
    };
    let outcome = match frame::parse(bytes, hidden) {
        Ok(Frame::Message {
            vlan,
            source,
            to,
            payload,
        }) => place(vlan).map(|vlan| {
            Some(engine.receive(
                &Inbound {
                    vlan,
                    source,
                    to,
                    payload,
                },
                now,
            ))
        }),
        Ok(Frame::Taken { vlan, address, mac }) => {
            place(vlan).map(|vlan| engine.heard(vlan, address, mac, now))
        }
        Err((vlan, reason)) => {
            engine.count_refused(place(vlan).ok(), reason);
            return None;
        }
    };
    outcome.unwrap_or_else(|reason| {
        engine.count_refused(None, reason);
        None
    })
}
