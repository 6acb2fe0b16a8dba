//! The loop: a batch in, one sync, a batch out.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use netmodel::ids::VlanId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use tracing::{error, info, warn};

use super::engines::{Engines, Outbound};
use super::follow::Generation;
use super::port::Port;
use super::socket::{self, BATCH};
use super::status::{self, About, Latencies};
use super::{Options, ServerError, chain, duid, kernel, now};
use crate::Time;
use crate::store::Store;
use crate::{engine, six};

/// How often leases end, counters are written, and so on, at least.
const TICK: Duration = Duration::from_millis(500);
/// A batch that was not full is followed by another one after this time at the earliest, and after the longer one at the
/// latest. What an exchange costs a busy server falls by half with it (`cargo xtask bench dhcp`), and no client notices.
const PACE: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(10)];
/// How many frames are waited for in between: each sync of the disk costs as much as some dozens of messages.
const WANTED: u32 = 24;

/// How often the status is written, and interfaces are looked for.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// The running server.
pub(super) struct Server {
    engines: Engines,
    store: Store,
    ports: Vec<Port>,
    /// Answers that wait for the disk, with the index of their port.
    replies: Vec<(usize, Outbound)>,
    /// The port on which each VLAN's probes wait.
    parked: Vec<(VlanId, usize)>,
    generation: u32,
    /// When leases ended last.
    expired: Time,
    durable: bool,
    latencies: Latencies,
    /// Since when the frames of the next batch may have been waiting, and for how long it waits for more; none if it waits
    /// for the first of them.
    waiting: Option<(Instant, Duration)>,
    /// When the last batch was taken.
    taken: Instant,
    status: PathBuf,
    /// Could the status be written last time?
    has_status: bool,
}

/// Holds the ports of both families. One that cannot be held is said.
fn take_ports() -> Result<Vec<UdpSocket>, ServerError> {
    let mut sockets = Vec::new();
    for (is_six, port) in [(false, engine::SERVER_PORT), (true, six::SERVER_PORT)] {
        match socket::take_port(is_six, port) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ServerError::PortTaken { port });
            }
            Err(error) => {
                warn!(port, %error, "a UDP port cannot be held: clients that renew may be told that nobody is there");
            }
        }
    }
    Ok(sockets)
}

impl Server {
    pub(super) fn start(
        options: &Options,
        generation: Generation,
    ) -> Result<(Self, Vec<UdpSocket>), ServerError> {
        let sockets = take_ports()?;
        let (store, known) = Store::open(&options.state).map_err(ServerError::Store)?;
        let duid = duid::read_or_make(&options.state).map_err(ServerError::Duid)?;
        let scopes = (generation.scopes, now());
        let mut engines = Engines::new(&options.settings, duid, scopes);
        engines.restore(known);
        let ports = options.interfaces.iter().map(Port::open);
        let ports = ports.collect::<Result<_, _>>()?;
        let (leases, scopes) = (engines.lease_count(), engines.four.segments().count());
        let scopes6 = engines.six.segments().count();
        info!(
            generation = generation.number,
            scopes, scopes6, leases, "serving"
        );
        let server = Self {
            engines,
            store,
            ports,
            replies: Vec::new(),
            parked: Vec::new(),
            generation: generation.number,
            expired: Time::default(),
            durable: true,
            latencies: Latencies::default(),
            waiting: None,
            taken: Instant::now(),
            status: options.status.clone(),
            has_status: true,
        };
        Ok((server, sockets))
    }

    pub(super) fn serve(
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
            if Instant::now() >= status_due {
                // Counts the leases of every segment: not for each batch.
                self.sum_up();
                self.write_status();
                self.ports.iter_mut().for_each(Port::follow);
                status_due = Instant::now() + STATUS_EVERY;
            }
        }
    }

    /// Waits for a frame, a signal, a probe that is due, or the next tick.
    fn wait(&self, signals: &SignalFd) -> Result<(), ServerError> {
        if let Some((since, pace)) = self.waiting {
            std::thread::sleep(pace.saturating_sub(since.elapsed()));
        }
        let due = self
            .engines
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
        let foreign = self.engines.switch(generation.scopes, now());
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
        let begun = Instant::now();
        let start = self.waiting.map_or(begun, |(since, _)| since);
        let before = std::mem::replace(&mut self.taken, begun);
        let now = now();
        let most = (0..self.ports.len())
            .map(|index| self.receive(index, now))
            .max();
        // A message ends the leases of its own segment; this is for the others.
        if now.since(self.expired) >= u64::try_from(TICK.as_millis()).unwrap_or_default() {
            self.expired = now;
            self.engines.expire(now);
        }
        for waited in self.engines.poll(now) {
            self.place(waited);
        }
        self.make_durable();
        self.send();
        let took = start.elapsed().as_micros();
        for (_, answer) in self.replies.drain(..) {
            if answer.is_answer() {
                self.latencies.add(answer.vlan(), took);
            }
        }
        // After a full batch there is no pause: more is waiting.
        let most = most.filter(|most| (1..BATCH).contains(most));
        self.waiting = most.map(|most| (begun, pace(most, begun - before)));
    }

    /// Says where something goes that is no answer to a frame of this batch: an advertisement to every interface
    /// that the segment is on, an offer to the one that its client was on.
    fn place(&mut self, waited: Outbound) {
        let vlan = waited.vlan();
        if matches!(waited, Outbound::Advert(_)) {
            for (index, port) in self.ports.iter().enumerate() {
                if port.vlan.is_none_or(|plain| plain == vlan) {
                    self.replies.push((index, waited.clone()));
                }
            }
        } else {
            let port = self.parked.iter().find(|(parked, _)| *parked == vlan);
            let port = port.map_or(0, |(_, port)| *port);
            self.replies.push((port, waited));
        }
    }

    /// Takes what has come in on a port; returns how many frames.
    fn receive(&mut self, index: usize, now: Time) -> usize {
        let Self {
            engines,
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
        for frame in port.socket.frames() {
            let Some(answer) = engines.judge(frame, port.vlan, now) else {
                continue;
            };
            if let Outbound::Probe(probe) = &answer {
                note(parked, (probe.vlan, index));
            }
            replies.push((index, answer));
        }
        count
    }

    /// Writes the changes of the batch down; if that fails, nothing of it was promised.
    fn make_durable(&mut self) {
        if self.engines.changes().next().is_none() {
            return;
        }
        let Self { engines, store, .. } = self;
        match store.append(engines.changes(), || engines.leases()) {
            Ok(()) => {
                if !std::mem::replace(&mut self.durable, true) {
                    info!("leases are written down again");
                }
                self.engines.commit();
            }
            Err(error) => {
                if std::mem::replace(&mut self.durable, false) {
                    error!(error = %chain(&error), "leases cannot be written down: none is given until they can");
                }
                self.engines.revert();
                let engines = &mut self.engines;
                self.replies.retain(|(_, answer)| {
                    if answer.is_binding() {
                        engines.count_not_durable(answer);
                    }
                    !answer.is_binding()
                });
            }
        }
    }

    fn send(&mut self) {
        for (index, answer) in &self.replies {
            if let Some(port) = self.ports.get_mut(*index) {
                let tag = port.vlan.is_none().then_some(answer.vlan());
                port.out.extend(answer.frame(port.socket.mac(), tag));
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
        if self.store.wants_summary(self.engines.lease_count())
            && let Err(error) = self.store.sum_up(self.engines.leases())
        {
            warn!(error = %chain(&error), "the lease file cannot be summed up: it grows");
        }
    }

    fn write_status(&mut self) {
        let about = About {
            generation: self.generation,
            change: self.store.number(),
            durable: self.durable,
            latencies: &self.latencies,
        };
        let written = status::write(&self.status, &self.engines, &about);
        let had_status = std::mem::replace(&mut self.has_status, written.is_ok());
        if let Err(error) = written
            && had_status
        {
            warn!(path = %self.status.display(), %error, "the status cannot be written");
        }
    }
}

/// How long to wait after a batch of so many frames, which came in so much time.
fn pace(frames: usize, time: Duration) -> Duration {
    let [least, most] = PACE;
    match u32::try_from(frames) {
        // A single client is not made to wait for others.
        Ok(0 | 1) | Err(_) => least,
        Ok(frames) => (time.min(most) * WANTED / frames).clamp(least, most),
    }
}

fn note(parked: &mut Vec<(VlanId, usize)>, (vlan, port): (VlanId, usize)) {
    match parked.iter_mut().find(|(known, _)| *known == vlan) {
        Some((_, known)) => *known = port,
        None => parked.push((vlan, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_waits_for_some_dozens_of_messages_and_a_single_client_for_nobody() {
        let millis = Duration::from_millis;
        // Frames, within so many ms, and the pause.
        let rows = [
            (1, 1, 2),
            (1, 5000, 2),
            (2, 2, 10),
            (10, 10, 10),
            (12, 3, 6),
            (60, 10, 4),
            (100, 2, 2),
        ];
        for (frames, time, pause) in rows {
            assert_eq!(pace(frames, millis(time)), millis(pause), "{frames}/{time}");
        }
    }
}
