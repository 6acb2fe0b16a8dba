//! The daemon: sockets, and the threads behind them.
//!
//! | thread | does |
//! |---|---|
//! | UDP, one per core and listening address | queries in batches; nothing in it waits |
//! | TCP, one | all connections |
//! | forward, one | [`crate::forward`], if there are upstream resolvers |
//! | updates, one | [`crate::updater`] |
//! | notify, one | tells secondaries what changed |
//! | leases, one | follows DHCP leases, if they get names |
//! | http, one | [`crate::api`], if it is served |
//! | status, one | writes what was counted |
//! | follow, one | takes over each new generation, and new keys |

mod config;
mod sockets;

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::cookie::Jar;
use crate::dnssec::folder::KeyFolder;
use crate::follow::{self, Follower};
use crate::forward::{self, Forwarder};
use crate::journal::{JournalError, Store};
use crate::limit::Limiter;
use crate::metrics::Metrics;
use crate::name::Name;
use crate::tls::{Certificates, TlsError};
use crate::updater::{self, Jobs};
use crate::world::World;
use crate::{api, leases, notify, status, tcp, udp};
use config::API;
use sockets::{tcp_listener, udp_socket};

pub use config::Config;

/// The place of the TCP thread among those that count.
pub(crate) const TCP_THREAD: usize = 0;
/// The place of the thread that asks upstream.
pub(crate) const FORWARD_THREAD: usize = 1;
/// How many there are before the UDP threads.
const OTHERS: usize = 2;

/// The daemon cannot start.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The journal.
    #[error("cannot use the journal of updates")]
    Journal(#[source] JournalError),
    /// A socket.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel has no random octets.
    #[error("cannot make a secret for cookies")]
    Secret(#[source] getrandom::Error),
    /// TLS is wanted on an address, and there is no certificate.
    #[error(
        "cannot serve {what} on {address} without TLS \
         (remedy: --tls-certificate and --tls-key{})",
        if *what == API { ", or an address of loopback" } else { "" }
    )]
    NoCertificate {
        /// What was to be served.
        what: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// The certificate.
    #[error("cannot serve TLS")]
    Tls(#[source] TlsError),
    /// A thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Where what takes longer is handed over.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) updates: Arc<Jobs>,
    forwarder: Option<Forwarder>,
}

impl Hands {
    /// Hands over what is to be asked upstream; without upstreams, there is no such thing.
    pub(crate) fn forward(&self, job: forward::Job) {
        if let Some(forwarder) = &self.forwarder {
            forwarder.hand_over(job);
        }
    }
}

/// What all threads share.
pub(crate) struct Shared {
    world: ArcSwap<World>,
    store: Mutex<Store>,
    is_stopping: AtomicBool,
    /// How often anything that is served was changed.
    version: AtomicU64,
    records_per_tenant: usize,
    limiter: Limiter,
    metrics: Arc<Metrics>,
    reload: Arc<AtomicBool>,
    /// Zones that secondaries are to be told of again.
    notices: Mutex<BTreeSet<Name>>,
}

impl Shared {
    /// Waits for the first generation.
    pub(crate) fn new(
        config: &Config,
        store: Store,
        follower: &mut Follower,
    ) -> Result<Self, ServerError> {
        let threads = config.workers * config.listen.len() + OTHERS;
        let metrics = Arc::new(Metrics::new(threads));
        let jar = Jar::random().map_err(ServerError::Secret)?;
        let world = follower.wait_for_first(&store);
        let world = world
            .forwarding(!config.upstreams.is_empty())
            .with_cookies(jar)
            .counted_by(&metrics);
        Ok(Self {
            world: ArcSwap::from_pointee(world),
            store: Mutex::new(store),
            is_stopping: AtomicBool::new(false),
            version: AtomicU64::new(0),
            records_per_tenant: config.records_per_tenant,
            limiter: Limiter::new(config.rates),
            metrics,
            reload: Arc::clone(&config.reload),
            notices: Mutex::default(),
        })
    }

    pub(crate) fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Locks the dynamic records. Whoever holds the lock may change the world.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        // A thread that panicked left either the old or the new set in each place.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn replace_world(&self, make: impl FnOnce(&Store) -> World) {
        let store = self.store();
        let before = self.world();
        let world = make(&store).after(&before);
        self.world.store(Arc::new(world));
        self.limiter.forget_views();
        drop(store);
        self.mark_changed();
    }

    /// Says that something else is served now.
    pub(crate) fn mark_changed(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often anything that is served was changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Was it asked to read everything again? It is asked once.
    pub(crate) fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Has secondaries told of a zone again.
    pub(crate) fn notify_again(&self, origin: Name) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.insert(origin);
    }

    pub(crate) fn take_notices(&self) -> BTreeSet<Name> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *notices)
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn records_per_tenant(&self) -> usize {
        self.records_per_tenant
    }

    /// Seconds since 1970.
    #[expect(clippy::unused_self, reason = "one place to ask for the time")]
    pub(crate) fn now(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

/// A daemon that runs. Dropping it stops it, after what waits was answered.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Waits for the first generation, then listens and serves.
    ///
    /// # Errors
    ///
    /// [`ServerError`] if the journal cannot be used or an address cannot be listened on.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        config.check_tls()?;
        let certificates = config.tls.as_ref().map(Certificates::load);
        let certificates = certificates.transpose().map_err(ServerError::Tls)?;
        let mut store = Store::open(&config.journal).map_err(ServerError::Journal)?;
        let zone_keys = Arc::new(KeyFolder::open(&config.zone_keys));
        store.set_zone_keys(Arc::clone(&zone_keys));
        let has_leases = !config.leases.tenants.is_empty();
        let leased = has_leases.then(|| leases::Follower::new(&config.leases));
        if let Some(leased) = &leased {
            store.set_leases(leased.table());
        }
        let mut follower = Follower::new(&config.generation, &config.keys, zone_keys);
        let shared = Arc::new(Shared::new(config, store, &mut follower)?);
        let mut server = Self {
            shared,
            threads: Vec::new(),
            addresses: Vec::new(),
        };
        let hands = server.spawn_hands(config)?;
        if let Some(leased) = leased {
            leases::warn_of_strangers(&config.leases, &server.shared.world().plan);
            server.spawn("leases", move |shared| leases::run(shared, leased))?;
        }
        let watched = certificates.clone();
        server.spawn("follow", move |shared| {
            follow::run(shared, follower, watched.as_deref());
        })?;
        if let Some(path) = config.status.clone() {
            server.spawn("status", move |shared| status::run(shared, &path))?;
        }
        server.serve_dns(config, certificates.as_ref(), &hands)?;
        server.serve_api(config, certificates.as_ref(), &hands)?;
        Ok(server)
    }

    /// Starts what takes longer than a query may.
    fn spawn_hands(&mut self, config: &Config) -> Result<Hands, ServerError> {
        let updates = Arc::new(Jobs::default());
        let jobs = Arc::clone(&updates);
        self.spawn("updates", move |shared| updater::run(shared, &jobs))?;
        self.spawn("notify", |shared| notify::run(shared))?;
        let mut hands = Hands {
            updates,
            forwarder: None,
        };
        if !config.upstreams.is_empty() {
            let (forwarder, receiver) = Forwarder::new();
            let upstreams = config.upstreams.clone();
            self.spawn("forward", |shared| {
                forward::run(shared, receiver, upstreams)
            })?;
            hands.forwarder = Some(forwarder);
        }
        Ok(hands)
    }

    fn serve_dns(
        &mut self,
        config: &Config,
        certificates: Option<&Arc<Certificates>>,
        hands: &Hands,
    ) -> Result<(), ServerError> {
        let mut listeners = Vec::new();
        for (place, address) in config.listen.iter().enumerate() {
            let first = OTHERS + place * config.workers;
            let socket = self.listen(*address, first..first + config.workers, hands)?;
            listeners.push(tcp::Listener { socket, tls: None });
        }
        if let Some(certificates) = certificates {
            for address in &config.tls_listen {
                listeners.push(tcp::Listener {
                    socket: self.bind(*address)?,
                    tls: Some(certificates.acceptor(b"dot").map_err(ServerError::Tls)?),
                });
            }
        }
        let hands = hands.clone();
        self.spawn("tcp", move |shared| tcp::run(shared, listeners, &hands))
    }

    /// Returns the addresses it listens on, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the number of the generation that it serves.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.world().plan.number
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<(), ServerError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread
            .spawn(move || work(&shared))
            .map_err(ServerError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    fn serve_api(
        &mut self,
        config: &Config,
        certificates: Option<&Arc<Certificates>>,
        hands: &Hands,
    ) -> Result<(), ServerError> {
        let mut listeners = Vec::new();
        for address in &config.api_listen {
            let tls = match certificates {
                Some(certificates) if !address.ip().is_loopback() => Some(
                    certificates
                        .acceptor(b"http/1.1")
                        .map_err(ServerError::Tls)?,
                ),
                _ => None,
            };
            let socket = self.bind(*address)?;
            listeners.push(api::Listener { socket, tls });
        }
        if !listeners.is_empty() {
            let updates = Arc::clone(&hands.updates);
            self.spawn("http", move |shared| api::run(shared, listeners, &updates))?;
        }
        Ok(())
    }

    /// Listens for connections.
    fn bind(&mut self, address: SocketAddr) -> Result<TcpListener, ServerError> {
        let wrap = |source| ServerError::Listen { address, source };
        let listener = tcp_listener(address).map_err(wrap)?;
        self.addresses.push(listener.local_addr().map_err(wrap)?);
        Ok(listener)
    }

    fn listen(
        &mut self,
        address: SocketAddr,
        workers: std::ops::Range<usize>,
        hands: &Hands,
    ) -> Result<TcpListener, ServerError> {
        let wrap = |source| ServerError::Listen { address, source };
        let listener = tcp_listener(address).map_err(wrap)?;
        // Port 0 is for tests: UDP then gets the port that TCP was given.
        let bound = listener.local_addr().map_err(wrap)?;
        for thread in workers {
            let socket = Arc::new(udp_socket(bound).map_err(wrap)?);
            let hands = hands.clone();
            self.spawn("udp", move |shared| {
                udp::run(shared, &socket, &hands, thread);
            })?;
        }
        self.addresses.push(bound);
        Ok(listener)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..).rev() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
