//! `bulkhead run`: makes the kernel enforce the inventory, and keeps it at that.

use std::path::Path;

use netmodel::Model;
use netmodel::ids::MacAddr;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::link::attachment;
use super::{Place, RunError, State};
use crate::compile::{RouterFacts, Tables, compile};
use crate::loader::{Attached, Datapath, LoadOptions, Mode, Pins, Trunk, WantedMode, is_bpf_fs};
use crate::network::{Netlink, rx_vlan_offload};

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where.
    pub place: Place,
    /// How to attach.
    pub mode: WantedMode,
    /// Connections that are remembered at once.
    pub connections: u32,
}

/// A checked inventory, and what it says of this router.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The model.
    pub model: Model,
    /// The router; what the kernel says of it is added.
    pub facts: RouterFacts,
}

/// Enforces, then waits: SIGHUP loads the inventory again, SIGTERM and SIGINT end the process, not the
/// enforcement.
///
/// # Errors
///
/// What hinders enforcement. Errors of a reload are logged, and the old generation stays.
pub async fn run(
    options: &RunOptions,
    desired: Desired,
    reload: impl Fn() -> Result<Desired, RunError>,
) -> Result<(), RunError> {
    let _lock = options.place.lock()?;
    let mut signals = Signals::new()?;
    let mut controller = Controller::start(options, desired).await?;
    while let Event::Reload = signals.next().await {
        match reload() {
            Ok(desired) => controller.reload(desired).await,
            Err(error) => log_kept(&error, controller.number()),
        }
    }
    info!(
        "ending; enforcement of generation {} on {} stays (bulkhead detach would remove it)",
        controller.number(),
        options.place.interface
    );
    Ok(())
}

struct Controller<'o> {
    options: &'o RunOptions,
    datapath: Datapath,
    why: String,
}

impl<'o> Controller<'o> {
    /// Load, publish, attach: in this order, no packet meets a program without tables.
    async fn start(options: &'o RunOptions, desired: Desired) -> Result<Self, RunError> {
        let place = &options.place;
        let (trunk, tables, netlink) = observe(place, &desired).await?;
        let rx_vlan = rx_vlan_offload(&place.interface)?;
        check_bpf_fs(&place.pins)?;
        drop_stale_link(place, &trunk, &netlink).await?;
        let mut datapath = Datapath::load(&LoadOptions {
            pins: Some(place.pins.clone()),
            connections: options.connections,
        })?;
        let published = datapath.publish(&tables, &trunk)?;
        let attached = datapath.attach(&place.interface, options.mode, rx_vlan, published)?;
        warn_of(options, &attached, rx_vlan);
        #[cfg(feature = "debug-log")]
        super::debug_log::follow(&mut datapath)?;
        let controller = Self {
            options,
            datapath,
            why: why(place, &attached),
        };
        controller.write_state(&tables);
        controller.tell(&desired.model, attached.mode);
        Ok(controller)
    }

    fn number(&self) -> u32 {
        self.datapath.generation().number
    }

    async fn reload(&mut self, desired: Desired) {
        match self.publish(&desired).await {
            Ok(number) => info!(
                "generation {number}: {} segments, {} tenants",
                desired.model.segments.len(),
                desired.model.tenants.len()
            ),
            Err(error) => log_kept(&error, self.number()),
        }
    }

    async fn publish(&mut self, desired: &Desired) -> Result<u32, RunError> {
        let (trunk, tables, _) = observe(&self.options.place, desired).await?;
        let published = self.datapath.publish(&tables, &trunk)?;
        self.write_state(&tables);
        Ok(published.number)
    }

    /// Enforcement does not need the file, so that it cannot be written is only logged.
    fn write_state(&self, tables: &Tables) {
        let place = &self.options.place;
        let state = State::new(&place.interface, &self.why, self.number(), tables);
        if let Err(error) = state.write(&place.state) {
            warn!("cannot write {}: {error}", place.state.display());
        }
    }

    fn tell(&self, model: &Model, mode: Mode) {
        let interface = &self.options.place.interface;
        info!("enforcing on {interface} as {mode}: {}", self.why);
        info!(
            "generation {}: {} segments, {} tenants",
            self.number(),
            model.segments.len(),
            model.tenants.len()
        );
        if self.datapath.is_adopted() {
            info!("adopted the maps of an earlier run: its connections and counters go on");
        } else {
            let room = self.options.connections;
            info!("no earlier run to adopt; room for {room} connections");
        }
    }
}

/// Reads the trunk and the addresses out of the kernel, and compiles for them.
async fn observe(place: &Place, desired: &Desired) -> Result<(Trunk, Tables, Netlink), RunError> {
    let netlink = Netlink::connect()?;
    let interface = netlink.interface(&place.interface).await?;
    let facts = RouterFacts {
        trunk: place.interface.clone(),
        mac: Some(MacAddr(interface.mac)),
        addresses: netlink.addresses().await?,
        ..desired.facts.clone()
    };
    let tables = compile(&desired.model, &facts)?;
    let trunk = Trunk {
        ifindex: interface.ifindex,
        mac: interface.mac,
    };
    Ok((trunk, tables, netlink))
}

/// The folder need not exist yet; what it will be in must be a BPF file system.
fn check_bpf_fs(pins: &Path) -> Result<(), RunError> {
    let existing = pins.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("."));
    if is_bpf_fs(existing) {
        return Ok(());
    }
    let is_usual = pins.starts_with(super::PINS);
    Err(RunError::NoBpfFs {
        path: pins.to_owned(),
        mount: if is_usual {
            Path::new("/sys/fs/bpf")
        } else {
            existing
        }
        .to_owned(),
    })
}

/// A link whose interface is gone enforces nothing and cannot be adopted; one on another interface is not ours.
async fn drop_stale_link(place: &Place, trunk: &Trunk, netlink: &Netlink) -> Result<(), RunError> {
    let pins = Pins::at(&place.pins);
    let Some(mode) = pins.mode() else {
        return Ok(());
    };
    match attachment(&pins, mode, trunk.ifindex, netlink)
        .await
        .ifindex
    {
        Some(0) => {
            warn!("the interface that {mode} was attached to is gone: attaching anew");
            std::fs::remove_file(pins.link(mode)).map_err(RunError::io("remove the dead link"))
        }
        Some(found) if found != trunk.ifindex => Err(RunError::OtherInterface {
            path: place.pins.clone(),
            found,
            wanted: trunk.ifindex,
            interface: place.interface.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn warn_of(options: &RunOptions, attached: &Attached, rx_vlan: bool) {
    if let WantedMode::Exactly(wanted) = options.mode
        && wanted != attached.mode
    {
        warn!(
            "the attachment of the earlier run is {}, and stays so: `bulkhead detach` before {wanted}",
            attached.mode
        );
    }
    if attached.mode == Mode::XdpNative && rx_vlan {
        warn!(
            "the NIC takes VLAN tags out of frames (rxvlan), so every frame looks untagged and is dropped \
             (remedy: ethtool -K {} rxvlan off)",
            options.place.interface
        );
    }
}

/// Keeps the reason of the run that chose the mode.
fn why(place: &Place, attached: &Attached) -> String {
    const ADOPTED: &str = "; adopted from an earlier run";
    match State::read(&place.state) {
        Some(state) if attached.replaced && state.interface == place.interface => {
            let first = state.why.strip_suffix(ADOPTED).unwrap_or(&state.why);
            format!("{first}{ADOPTED}")
        }
        _ => attached.why.clone(),
    }
}

fn log_kept(error: &RunError, number: u32) {
    let error = super::with_causes(error);
    error!("not reloaded, generation {number} stays: {error}");
}

enum Event {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        let catch = |kind| signal(kind).map_err(RunError::io("catch signals"));
        Ok(Self {
            hangup: catch(SignalKind::hangup())?,
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.hangup.recv() => Event::Reload,
            _ = self.interrupt.recv() => Event::End,
            _ = self.terminate.recv() => Event::End,
        }
    }
}
