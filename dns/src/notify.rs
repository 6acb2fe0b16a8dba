//! Telling secondaries that a zone changed (RFC 1996).
//!
//! One thread. For each secondary and zone it knows the serial that was last told and whether that was
//! answered; what was not is said again after 1, 2, 4, 8 seconds, and then not until the next change: a
//! secondary looks by itself, too (the SOA's refresh).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name as HickoryName, RecordType};
use tracing::{error, warn};

use crate::catalog::{self, Secondary};
use crate::name::Name;
use crate::secret::Verifier;
use crate::server::Shared;
use crate::world::World;

/// How often changes are looked for: it is a part of how long a secondary lags.
const INTERVAL: Duration = Duration::from_millis(20);
/// Notices that are sent at once.
const BURST: usize = 256;
/// How often one change is told at most.
const TRIES: u32 = 5;

/// What a secondary was told of a zone.
struct Told {
    serial: u32,
    is_answered: bool,
    tries: u32,
    next: Instant,
    id: u16,
    verifier: Option<Verifier>,
}

type Key = (SocketAddr, Name);

struct Notifier {
    v4: UdpSocket,
    /// `None` where the machine has no IPv6.
    v6: Option<UdpSocket>,
    told: HashMap<Key, Told>,
    next_id: u16,
}

/// Runs until the server stops.
pub(crate) fn run(shared: &Shared) {
    let mut notifier = match Notifier::new() {
        Ok(notifier) => notifier,
        Err(reason) => return error!(error = %reason, "no NOTIFY: cannot open its socket"),
    };
    let mut seen = None;
    while !shared.is_stopping() {
        let version = shared.version();
        let world = shared.world();
        if seen != Some(version) {
            seen = Some(version);
            notifier.look(&world);
        }
        for origin in shared.take_notices() {
            notifier.again(&origin);
        }
        notifier.send(&world, shared.now());
        notifier.receive();
        std::thread::sleep(INTERVAL);
    }
}

impl Notifier {
    fn new() -> io::Result<Self> {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        v4.set_nonblocking(true)?;
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
        let v6 = v6.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        Ok(Self {
            v4,
            v6: v6.ok(),
            told: HashMap::new(),
            next_id: 1,
        })
    }

    /// Finds what changed.
    fn look(&mut self, world: &World) {
        let mut before = std::mem::take(&mut self.told);
        for secondary in world.secondaries() {
            for (origin, serial) in zones(world, secondary) {
                let key = (secondary.address, origin);
                let known = before.remove(&key).filter(|told| told.serial == serial);
                self.told
                    .insert(key, known.unwrap_or_else(|| Told::new(serial)));
            }
        }
    }

    /// Tells of a zone again, though it is as it was.
    fn again(&mut self, origin: &Name) {
        let told = self.told.iter_mut().filter(|((_, zone), _)| zone == origin);
        for (_, told) in told {
            *told = Told::new(told.serial);
        }
    }

    fn send(&mut self, world: &World, now: u64) {
        let time = Instant::now();
        let is_due = |told: &Told| !told.is_answered && told.tries < TRIES && told.next <= time;
        let due = self
            .told
            .iter_mut()
            .filter(|(_, told)| is_due(told))
            .take(BURST);
        for ((address, origin), told) in due {
            let secondary = world
                .secondaries()
                .iter()
                .find(|there| there.address == *address);
            let Some(secondary) = secondary else { continue };
            self.next_id = self.next_id.wrapping_add(1);
            told.id = self.next_id;
            told.next = time + Duration::from_secs(1 << told.tries);
            told.tries += 1;
            let Some((octets, verifier)) = notice(world, secondary, origin, told.id, now) else {
                continue;
            };
            told.verifier = Some(verifier);
            let socket = if address.is_ipv4() {
                Some(&self.v4)
            } else {
                self.v6.as_ref()
            };
            // What cannot be sent now is sent again later.
            let _ = socket.map(|socket| socket.send_to(&octets, address));
            if told.tries == TRIES {
                warn!(secondary = &*secondary.name, %address, zone = %origin, "a secondary does not answer NOTIFY");
            }
        }
    }

    fn receive(&mut self) {
        let mut octets = [0; 1500];
        for socket in [Some(&self.v4), self.v6.as_ref()].into_iter().flatten() {
            while let Ok((length, from)) = socket.recv_from(&mut octets) {
                let octets = octets.get(..length).unwrap_or(&[]);
                let Some((id, origin)) = read(octets) else {
                    continue;
                };
                if let Some(told) = self
                    .told
                    .get_mut(&(from, origin))
                    .filter(|told| told.id == id)
                {
                    let verifier = told.verifier.as_ref();
                    told.is_answered |= verifier.is_some_and(|verifier| verifier.verify(octets));
                }
            }
        }
    }
}

impl Told {
    fn new(serial: u32) -> Self {
        Self {
            serial,
            is_answered: false,
            tries: 0,
            next: Instant::now(),
            id: 0,
            verifier: None,
        }
    }
}

/// The zones of a secondary with their serials; its list of zones comes first.
fn zones(world: &World, secondary: &Secondary) -> Vec<(Name, u32)> {
    let list = (
        secondary.catalog.origin().clone(),
        secondary.catalog.serial(),
    );
    let zones = catalog::copied(&world.plan, secondary.view);
    let zones = zones.filter_map(|(origin, id)| Some((origin.clone(), world.zone(id)?.serial())));
    std::iter::once(list).chain(zones).collect()
}

/// Makes the message: the zone's name, signed. The serial is left out: what is not said need not be trusted.
fn notice(
    world: &World,
    secondary: &Secondary,
    origin: &Name,
    id: u16,
    now: u64,
) -> Option<(Vec<u8>, Verifier)> {
    let key = catalog::key_of(&world.keys, secondary)?;
    let zone = HickoryName::from_ascii(origin.to_string()).ok()?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Notify);
    message.metadata.authoritative = true;
    message.add_query(Query::query(zone, RecordType::SOA));
    let verifier = key.secret.sign(&mut message, now).ok()?;
    Some((message.to_vec().ok()?, verifier))
}

/// Reads the id and the zone of an answer to NOTIFY.
fn read(octets: &[u8]) -> Option<(u16, Name)> {
    let message = Message::from_vec(octets).ok()?;
    let is_answer = message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Notify;
    let zone = message.queries.first().filter(|_| is_answer)?.name();
    Some((
        message.metadata.id,
        Name::from_labels(zone, &Name::root()).ok()?,
    ))
}
