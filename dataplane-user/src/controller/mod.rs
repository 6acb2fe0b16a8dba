//! Changes what is enforced: from a checked inventory to the kernel, as one generation (ADR 0006).
//!
//! ```text
//!  inventory ─► Desired ─┐
//!                        ├─ prepare ─► Prepared (what would change) ─► apply ─► generation N
//!  kernel ────► Observed ┘                                              │
//!                                                     store ─ links ─ maps ─ flip ─ publish
//! ```
//!
//! # Guarantees
//!
//! * **One writer.** Whatever changes something holds the lock of [`Place::lock`].
//! * **Whole or not at all.** What fails before the flip leaves the old generation enforced and current. If the process dies
//!   meanwhile, [`Controller::converge`] goes on with the generation that `current` names.
//! * **Nothing by surprise.** [`Controller::apply`] does what [`Controller::prepare`] has found, and nothing else.

mod apply;
mod build;
mod enforcement;
mod hold;
mod observe;
mod ports;
mod review;
mod rollback;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::panic::resume_unwind;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dataplane_common::hold::Needs;
use netmodel::Model;
use netmodel::model::HostId;
use netmodel::published::{self, Body, Published};

pub use self::apply::Applied;
pub use self::build::Recall;
use self::build::{AppliedBefore, Facts, Packed, applied, stored};
pub use self::enforcement::{Enforcement, EnforcementChange};
pub use self::hold::{Held, hold};
pub use self::observe::Observed;
use self::ports::{Following, hypervisor};
pub use self::ports::{PortsNow, detach, ports_now};
pub use self::review::Review;
pub use self::rollback::{Confirmed, Converged, Drift, Undone};
pub use self::verify::Verified;
use crate::compile::Tables;
use crate::loader::{Datapath, Pins, PortPath, TableDifference, WantedMode};
use crate::nat::{self, NatChange};
use crate::network::{self, NetworkPlan, NetworkSettings};
use crate::plan::{self, Build};
use crate::ports::{PortSettings, Ports};
use crate::run::{Place, RunError};
use crate::store::{Cause, KEPT, Store};

/// Where and how.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Where.
    pub place: Place,
    /// How to attach.
    pub mode: WantedMode,
    /// Connections that are remembered at once.
    pub connections: u32,
    /// Generations that are kept.
    pub kept: usize,
    /// What of the kernel's network is managed.
    pub network: NetworkSettings,
    /// What may pass while no generation is enforced; `None`: then everything does.
    pub hold: Option<Needs>,
    /// Whose machine is behind a port, on a hypervisor.
    pub ports: PortSettings,
    /// The router of the site, where this machine is not it; `None`: the first.
    pub router: Option<String>,
}

impl ControlOptions {
    /// Makes options with all else by default.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            mode: WantedMode::Auto,
            connections: crate::loader::DEFAULT_CONNECTIONS,
            kept: KEPT,
            network: NetworkSettings::default(),
            hold: None,
            ports: PortSettings::default(),
            router: None,
        }
    }
}

/// What should be: a checked inventory, and which of its hosts this machine is.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The model.
    pub model: Model,
    /// This machine, a router or a hypervisor; `None` is the model's first router.
    pub host: Option<HostId>,
    /// [`netmodel::Sources::digest`] of the inventory.
    pub inventory: String,
}

impl Desired {
    /// Returns what a stored generation says.
    #[must_use]
    pub fn of_generation(published: Published, host: Option<&str>) -> Self {
        let mut hosts = published.model.hosts.iter();
        let host = host.and_then(|name| hosts.position(|host| host.name.as_str() == name));
        Self {
            host: host.map(HostId),
            inventory: published.inventory,
            model: published.model,
        }
    }
}

/// What would change.
#[derive(Debug)]
pub struct Prepared {
    /// Number of the generation that it starts from.
    pub base: Option<u32>,
    /// What is enforced now, as it should be; `None` if nothing was applied yet.
    pub old: Option<Build>,
    /// What of the store is damaged; an apply mends it.
    pub unreadable: Option<String>,
    /// VLAN ids of segments that the kernel enforces and that will not be; empty if `old` is known.
    pub forgotten: Vec<u16>,
    /// What will be.
    pub new: Build,
    /// This machine.
    pub host: Option<HostId>,
    /// Digest of the inventory.
    pub inventory: String,
    /// The model as it is stored and published.
    pub(crate) body: Body,
    /// What the kernel has.
    pub observed: Observed,
    /// How the maps differ from `new`.
    pub tables: Vec<TableDifference>,
    /// What changes in the programs and maps.
    pub enforcement: Vec<EnforcementChange>,
    /// What changes in links, addresses and sysctls.
    pub network: NetworkPlan,
    /// The uplinks' table as it should be.
    pub ruleset: nat::Ruleset,
    /// What changes in it.
    pub nat: Vec<NatChange>,
}

impl Prepared {
    /// Is the kernel what the new generation says?
    #[must_use]
    pub fn is_as_it_should_be(&self) -> bool {
        self.enforcement.is_empty() && self.network.is_empty() && self.nat.is_empty()
    }
}

/// Changes the enforcement on one trunk, or on the ports of one hypervisor.
pub struct Controller {
    options: ControlOptions,
    store: Store,
    /// Loaded when it is needed first.
    datapath: Option<Datapath>,
    /// The same on a hypervisor.
    ports: Option<PortPath>,
    following: Option<Following>,
    /// Of use to the next [`Controller::prepare`].
    recall: Mutex<Option<Recall>>,
    /// Tells it from every other one, of other processes too.
    name: String,
    why: String,
}

impl Controller {
    /// Makes one; nothing is touched yet.
    #[must_use]
    pub fn new(options: ControlOptions) -> Self {
        Self {
            store: Store::at(&options.place.store),
            options,
            datapath: None,
            ports: None,
            following: None,
            recall: Mutex::new(None),
            name: unique_name(),
            why: String::new(),
        }
    }

    /// Lets the next [`Controller::prepare`] have what was read already.
    pub fn remember(&mut self, recall: Recall) {
        self.recall = Mutex::new(Some(recall));
    }

    /// Returns the generations on disk.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns where this one works.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.options.place
    }

    /// Returns what may pass while no generation is enforced.
    #[must_use]
    pub fn hold_needs(&self) -> Option<&Needs> {
        self.options.hold.as_ref()
    }

    /// Takes the right to change the enforcement, as [`Place::lock`] does. Whoever had it before may have died while it filled tables: if
    /// it was another one, what this one knows of them counts no more.
    ///
    /// # Errors
    ///
    /// As [`Place::lock`].
    pub fn lock(&mut self) -> Result<File, RunError> {
        let lock = self.options.place.lock()?;
        let was_mine =
            leave_name(&lock, &self.name).map_err(RunError::io("write the lock file"))?;
        if !was_mine {
            self.forget_tables();
        }
        Ok(lock)
    }

    fn forget_tables(&mut self) {
        if let Some(datapath) = &mut self.datapath {
            datapath.forget_tables();
        }
        if let Some(ports) = &mut self.ports {
            ports.forget_tables();
        }
    }

    /// Returns how to attach.
    #[must_use]
    pub fn mode(&self) -> WantedMode {
        self.options.mode
    }

    /// Lets what the programs log be read.
    ///
    /// # Errors
    ///
    /// If the programs were built without their feature `debug-log`.
    #[cfg(feature = "debug-log")]
    pub(crate) fn follow_debug_log(&mut self) -> Result<(), RunError> {
        match &mut self.datapath {
            Some(datapath) => crate::run::debug_log::follow(datapath),
            None => Ok(()),
        }
    }

    /// Finds out what would change.
    ///
    /// # Errors
    ///
    /// If the store or the kernel cannot be read, or the model cannot be enforced.
    pub async fn prepare(&self, desired: Desired) -> Result<Prepared, RunError> {
        let observed = self.observe(&desired).await?;
        let enforced = observed.enforcement.generation;
        let router = Facts {
            observed: &observed.router,
            named: self.options.router.as_deref(),
        };
        let recall = self.recall.lock();
        let recall = recall.unwrap_or_else(PoisonError::into_inner).take();
        // Both are as large as the inventory, and neither needs the other.
        let (applied, new) = thread::scope(|scope| {
            let applied = scope.spawn(|| applied(&self.store, recall, enforced, router));
            let new = Packed::build(desired.model, desired.host, router);
            (
                applied.join().unwrap_or_else(|panic| resume_unwind(panic)),
                new,
            )
        });
        let new = new?;
        self.check_promises(&new.build)?;
        let applied = applied?;
        let is_forgotten = applied.build.is_none();
        let mut prepared =
            self.prepared(observed, applied, (new, desired.inventory), desired.host)?;
        if is_forgotten {
            prepared.forgotten = self.forgotten(&prepared.new.tables)?;
        }
        Ok(prepared)
    }

    /// Finds segments that the kernel enforces and that will not be. What else would go, the kernel cannot say.
    fn forgotten(&self, new: &Tables) -> Result<Vec<u16>, RunError> {
        let enforced = Pins::at(&self.options.place.pins).tables()?;
        let vlans = enforced.map_or_else(Vec::new, |(_, tables)| {
            tables.segments.keys().copied().collect()
        });
        let is_gone = |vlan: &u16| !new.segments.contains_key(vlan);
        Ok(vlans.into_iter().filter(is_gone).collect())
    }

    /// Refuses what lint cannot see: maps that are there keep their size, whatever the settings say.
    fn check_promises(&self, new: &Build) -> Result<(), RunError> {
        let pins = Pins::at(&self.options.place.pins);
        let room = pins.connections()?.unwrap_or(self.options.connections);
        let segments = new.tables.segments.values();
        let promised = segments
            .map(|segment| u64::from(segment.limits.connections))
            .sum();
        if promised > u64::from(netmodel::promisable(room)) {
            return Err(RunError::Promises { promised, room });
        }
        Ok(())
    }

    /// Finds out how the kernel differs from the generation that is current.
    async fn prepare_current(&self, current: u32) -> Result<Prepared, RunError> {
        let desired = stored(&self.store, current)?;
        let observed = self.observe(&desired).await?;
        let router = Facts {
            observed: &observed.router,
            named: self.options.router.as_deref(),
        };
        let new = Packed::build(desired.model, desired.host, router)?;
        let applied = AppliedBefore {
            base: Some(current),
            ..AppliedBefore::default()
        };
        self.prepared(observed, applied, (new, desired.inventory), desired.host)
    }

    fn prepared(
        &self,
        observed: Observed,
        applied: AppliedBefore,
        (Packed { body, build: new }, inventory): (Packed, String),
        host: Option<HostId>,
    ) -> Result<Prepared, RunError> {
        let host = hypervisor(&new.model, host).map_or(new.facts.host, |found| Some(found.host));
        let pins = Pins::at(&self.options.place.pins);
        let tables = pins.differences(&new.tables, &observed.trunk)?;
        let (network, ruleset, nat) = self.kernel_plan(&new, host, &observed);
        let base = applied.base;
        Ok(Prepared {
            base,
            old: applied.build,
            unreadable: applied.problem,
            forgotten: Vec::new(),
            inventory,
            body,
            enforcement: observed.enforcement.changes(&self.options, base, &tables),
            new,
            host,
            observed,
            tables,
            network,
            ruleset,
            nat,
        })
    }

    /// Returns the generation that says something else than the current one and was current before it. What nobody confirmed is none.
    ///
    /// # Errors
    ///
    /// [`RunError::NoPrevious`] if there is none.
    pub fn previous(&self) -> Result<u32, RunError> {
        let mut at = self.store.current()?.ok_or(RunError::NoPrevious)?;
        loop {
            let record = self.store.record(at)?;
            at = match record.cause {
                // They say what that one said.
                Cause::Repair => record.previous.ok_or(RunError::NoPrevious)?,
                Cause::Rollback {
                    to,
                    unconfirmed: true,
                } => to,
                Cause::Rollback { .. } | Cause::Apply | Cause::Watch => {
                    return record.previous.ok_or(RunError::NoPrevious);
                }
            };
        }
    }

    /// Plans what is beside the programs and maps.
    fn kernel_plan(
        &self,
        new: &Build,
        host: Option<HostId>,
        observed: &Observed,
    ) -> (NetworkPlan, nat::Ruleset, Vec<NatChange>) {
        let Some(host) = host else {
            return (NetworkPlan::default(), nat::Ruleset::default(), Vec::new());
        };
        let interface = Some(self.options.place.interface.as_str());
        let mut desired = network::desired(&new.model, host, interface, &self.options.network);
        if let (Some(bridge), Some(ports)) = (&mut desired.bridge, &observed.ports) {
            bridge.access = ports.vlans();
        }
        let mut network = network::plan(&desired, &observed.network);
        let ports = observed.ports.as_ref();
        network
            .conflicts
            .extend(ports.map_or(Vec::new(), Ports::conflicts));
        let ruleset = nat::desired(&new.model, host);
        let found = observed.nat.as_ref();
        let nat = found.map_or(Vec::new(), |found| nat::plan(&ruleset, found));
        (network, ruleset, nat)
    }

    /// Takes what one tenant owns out of `desired`, and all else out of the current generation.
    ///
    /// # Errors
    ///
    /// If nothing was applied yet, or the two halves do not fit.
    pub fn only_tenant(&self, desired: Desired, tenant: &str) -> Result<Desired, RunError> {
        let current = self.store.current()?.ok_or(RunError::NothingApplied)?;
        let applied = stored(&self.store, current)?;
        let merged = plan::tenant::merged(&applied.model, &desired.model, tenant);
        let model = merged.map_err(|why| RunError::Tenant {
            tenant: tenant.to_owned(),
            why,
        })?;
        let name = desired.host.map(|id| desired.model.host(id).name.clone());
        let host = model
            .hosts
            .iter()
            .position(|host| Some(&host.name) == name.as_ref());
        // It is neither the one inventory nor the other: hosts with one digest have one policy.
        let parts = [&applied.inventory, tenant, &desired.inventory];
        let inventory = published::digest(parts.join(" ").as_bytes());
        Ok(Desired {
            host: host.map(HostId),
            model,
            inventory,
        })
    }

    /// Returns what a generation in the store says.
    ///
    /// # Errors
    ///
    /// If it is not there or damaged.
    pub fn stored(&self, number: u32) -> Result<Desired, RunError> {
        stored(&self.store, number)
    }
}

/// Writes a name into the lock file; tells whether it was there already.
fn leave_name(mut lock: &File, name: &str) -> io::Result<bool> {
    let mut last = String::new();
    // Whatever somebody wrote into it is not this name.
    let was_mine = lock.read_to_string(&mut last).is_ok() && last == name;
    if !was_mine {
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        lock.write_all(name.as_bytes())?;
    }
    Ok(was_mine)
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let began = SystemTime::now().duration_since(UNIX_EPOCH);
    let began = began.unwrap_or_default().as_nanos();
    format!("{} {began} {count}\n", process::id())
}

/// How an apply is done.
#[derive(Clone, Debug)]
pub struct How {
    /// Why there is a new generation.
    pub cause: crate::store::Cause,
    /// Undo it unless it is confirmed within this time.
    pub confirm_within: Option<Duration>,
    /// The plan as it was shown.
    pub plan: String,
    /// What the plan counted.
    pub summary: crate::store::Summary,
}
