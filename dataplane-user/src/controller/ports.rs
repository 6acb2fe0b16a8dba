//! A hypervisor: the ports of its bridges instead of a trunk.
//!
//! ```text
//!  links, alias, Proxmox VE ─► Ports ─┬─ plan: what has no programs, what is bound otherwise
//!                                     └─ flip: maps ─ generation ─ who is plugged in ─ programs
//! ```
//!
//! A port that comes is followed without a look at anything else ([`Controller::follow_ports`]): what is bound to it is
//! part of the generation that is current already.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use netmodel::model::{HostId, Hypervisor};
use netmodel::{Model, model::Router};
use tracing::{info, warn};

use super::apply::check_bpf_fs;
use super::{Controller, Desired, Enforcement, EnforcementChange, Observed, Prepared, stored};
use crate::compile::{RouterFacts, Trunk};
use crate::loader::{Host, Interface, LoadOptions, Pins, PortHook, PortPath, Published};
use crate::network::{self, Netlink, Network};
use crate::ports::{Endpoints, Names, Ports};
use crate::run::{Place, RunError, is_port_attached, with_causes};

/// Programs of an access port.
const ACCESS: [PortHook; 2] = [PortHook::FromTenant, PortHook::ToTenant];
/// Programs of the uplink.
const UPLINK: [PortHook; 2] = [PortHook::FromUplink, PortHook::ToUplink];

/// What is needed to follow ports, of the generation that is current.
pub(super) struct Following {
    number: u32,
    endpoints: Endpoints,
    names: Names,
}

/// Returns the hypervisor that this machine is.
pub(super) fn hypervisor(model: &Model, host: Option<HostId>) -> Option<&Hypervisor> {
    let host = host?;
    // A router that has a bridge, too, is a router.
    if model.routers.iter().any(|router| router.host == host) {
        return None;
    }
    let mut hypervisors = model.hypervisors.iter();
    hypervisors.find(|hypervisor| hypervisor.host == host)
}

/// Returns the router whose trunk the site has: this machine, else the one that is named, else the first.
pub(super) fn router<'m>(
    model: &'m Model,
    host: Option<HostId>,
    named: Option<&str>,
) -> Option<&'m Router> {
    let mut routers = model.routers.iter();
    let this = routers.find(|router| Some(router.host) == host);
    let is_named = |router: &&Router| Some(model.host(router.host).name.as_str()) == named;
    let named = || model.routers.iter().find(is_named);
    this.or_else(named).or(model.routers.first())
}

impl Controller {
    /// Looks at the kernel of a hypervisor. Nothing is changed.
    pub(super) async fn observe_hypervisor(
        &self,
        desired: &Desired,
        hypervisor: &Hypervisor,
    ) -> Result<Observed, RunError> {
        let place = &self.options.place;
        let facts = self.router_facts(&desired.model)?;
        let netlink = Netlink::connect()?;
        let bridge = netlink.interface(&place.interface).await?;
        let network = Network::connect()?.observe(&place.interface).await?;
        let pins = Pins::at(&place.pins);
        let plugged = pins.plugged()?;
        let names = names(place, hypervisor);
        let endpoints = Endpoints::of(&desired.model);
        let ports = self.find_ports(&network, &names, &endpoints, &plugged);
        let trunk = Trunk {
            ifindex: bridge.ifindex,
            mac: facts.mac.map(|mac| mac.0).unwrap_or_default(),
        };
        let lacks = lacks(&ports, &plugged, (&pins, &network), &netlink).await;
        Ok(Observed {
            enforcement: Enforcement::of_ports(place, &trunk, lacks)?,
            trunk,
            rx_vlan: false,
            router: facts,
            network,
            nat: None,
            ports: Some(ports),
        })
    }

    /// Returns what the inventory says of the router, which must be enough to know it.
    pub(super) fn router_facts(&self, model: &Model) -> Result<RouterFacts, RunError> {
        let Some(router) = router(model, None, self.options.router.as_deref()) else {
            return Ok(RouterFacts::default());
        };
        let host = model.host(router.host);
        let trunk = host.interfaces.iter().find(|i| i.name == router.trunk);
        let Some(mac) = trunk.and_then(|interface| interface.mac) else {
            return Err(RunError::NoRouterMac {
                router: host.name.to_string(),
                trunk: router.trunk.clone(),
            });
        };
        Ok(RouterFacts {
            host: Some(router.host),
            trunk: router.trunk.clone(),
            mac: Some(mac),
            addresses: Vec::new(),
        })
    }

    fn find_ports(
        &self,
        network: &network::Observed,
        names: &Names,
        endpoints: &Endpoints,
        plugged: &Host,
    ) -> Ports {
        let before: BTreeMap<u32, [u8; 6]> = plugged
            .ports
            .iter()
            .map(|(&index, plug)| (index, plug.mac))
            .collect();
        Ports::find(network, names, endpoints, &self.options.ports, &before)
    }

    /// Load, fill, flip, say who is plugged in, attach: in this order, no frame meets a program without tables.
    pub(super) fn flip_ports(
        &mut self,
        prepared: &Prepared,
        ports: &Ports,
        number: u32,
    ) -> Result<(), RunError> {
        check_bpf_fs(&self.options.place)?;
        let path = self.loaded_ports()?;
        let published = path.publish(&prepared.new.tables, &prepared.observed.trunk, number)?;
        self.plug(ports, published)?;
        self.follow(&prepared.new.model, prepared.host, number);
        Ok(())
    }

    /// Remembers what is needed to follow ports that come and go.
    fn follow(&mut self, model: &Model, host: Option<HostId>, number: u32) {
        self.following = hypervisor(model, host).map(|hypervisor| Following {
            number,
            endpoints: Endpoints::of(model),
            names: names(&self.options.place, hypervisor),
        });
    }

    fn loaded_ports(&mut self) -> Result<&mut PortPath, RunError> {
        let path = match self.ports.take() {
            Some(path) => path,
            None => PortPath::load(&LoadOptions {
                pins: Some(self.options.place.pins.clone()),
                connections: self.options.connections,
                hook: None,
            })?,
        };
        Ok(self.ports.insert(path))
    }

    /// Binds the ports, and attaches their programs. A port that has gone meanwhile needs none.
    fn plug(&mut self, ports: &Ports, published: Published) -> Result<(), RunError> {
        let mode = self.options.mode;
        let path = self.loaded_ports()?;
        path.set_host(&ports.host())?;
        let mut attached = None;
        let uplink = ports.uplink.iter().map(|(index, name)| (index, name, true));
        let access = ports.access.iter();
        let access = access.map(|(index, port)| (index, &port.name, false));
        for (&index, name, is_uplink) in uplink.chain(access) {
            let interface = Interface { name, index };
            let result = match is_uplink {
                true => path.attach_uplink(interface, mode, published),
                false => path.attach_port(interface, mode, published),
            };
            match result.map_err(RunError::from) {
                Ok(mode) => attached = Some(mode),
                Err(error) if error.is_missing_link() && !is_uplink => {
                    info!("{name} has gone: {}", with_causes(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Pins::at(&self.options.place.pins).remove_other_layouts()?;
        self.why = match attached {
            Some(mode) => format!("{mode} on {} ports", ports.access.len()),
            None => "no port is there".to_owned(),
        };
        Ok(())
    }

    /// Binds and attaches what was plugged in since the last look, by the generation that is current. Nothing to do where
    /// nothing is enforced yet.
    ///
    /// # Errors
    ///
    /// If the store or the kernel refuses; what is attached stays.
    pub(super) async fn follow_ports(&mut self) -> Result<(), RunError> {
        let Some(number) = self.following.as_ref().map(|following| following.number) else {
            return Ok(());
        };
        match self.store.current()? {
            Some(current) if current != number => {
                let desired = stored(&self.store, current)?;
                self.follow(&desired.model, desired.host, current);
            }
            Some(_) | None => {}
        }
        let Some(following) = &self.following else {
            return Ok(());
        };
        let place = &self.options.place;
        let network = Network::connect()?.observe(&place.interface).await?;
        let pins = Pins::at(&place.pins);
        let plugged = pins.plugged()?;
        let ports = self.find_ports(&network, &following.names, &following.endpoints, &plugged);
        let lacks = lacks(&ports, &plugged, (&pins, &network), &Netlink::connect()?).await;
        if lacks.is_empty() {
            return Ok(());
        }
        // Only a published generation may judge.
        let Some(published) = self.loaded_ports()?.published()? else {
            return Ok(());
        };
        tell(&lacks, &ports);
        self.plug(&ports, published)?;
        release_strays(&self.options.place, &network, &ports).await
    }
}

/// Takes the programs off what is no port any more, and yet there: it would pass nothing.
pub(super) async fn release_strays(
    place: &Place,
    network: &network::Observed,
    ports: &Ports,
) -> Result<(), RunError> {
    let pins = Pins::at(&place.pins);
    for index in strays(&pins, network, ports, &Netlink::connect()?).await {
        let link = network.links.get(&index);
        info!(
            "{} is no port any more",
            link.map_or("what is gone", |link| &link.name)
        );
        if !pins.forget_port(index)?
            && let Some(link) = link
        {
            pins.detach_port_filters(&link.name)?;
        }
    }
    Ok(())
}

/// Indexes of what has programs of a port and is none.
async fn strays(
    pins: &Pins,
    network: &network::Observed,
    ports: &Ports,
    netlink: &Netlink,
) -> BTreeSet<u32> {
    let linked = pins.linked_ports();
    if !linked.is_empty() {
        return linked
            .into_iter()
            .filter(|&index| !ports.has(index))
            .collect();
    }
    let mut strays = BTreeSet::new();
    for &index in network.links.keys().filter(|&&index| !ports.has(index)) {
        if netlink.has_port_filters(index).await.unwrap_or(false) {
            strays.insert(index);
        }
    }
    strays
}

/// Removes every program and map of a place, whatever they are attached to.
///
/// # Errors
///
/// What the kernel refused.
pub async fn detach(place: &Place) -> Result<(), RunError> {
    let pins = Pins::at(&place.pins);
    if pins.has_ports() {
        let network = Network::connect()?.observe(&place.interface).await?;
        release_strays(place, &network, &Ports::default()).await?;
    }
    Ok(pins.detach(&place.interface)?)
}

/// Returns the ports of the hypervisor that a place is on, as its current generation knows them, and those without
/// programs; `None` if the generation is not one of a hypervisor.
///
/// # Errors
///
/// If the store or the kernel cannot be read.
pub async fn ports_now(options: &super::ControlOptions) -> Result<Option<PortsNow>, RunError> {
    let controller = Controller::new(options.clone());
    let Some(current) = controller.store.current()? else {
        return Ok(None);
    };
    let desired = stored(&controller.store, current)?;
    let Some(hypervisor) = hypervisor(&desired.model, desired.host) else {
        return Ok(None);
    };
    let place = &options.place;
    let network = Network::connect()?.observe(&place.interface).await?;
    let pins = Pins::at(&place.pins);
    let plugged = pins.plugged()?;
    let names = names(place, hypervisor);
    let endpoints = Endpoints::of(&desired.model);
    let ports = controller.find_ports(&network, &names, &endpoints, &plugged);
    let lacks = lacks(&ports, &plugged, (&pins, &network), &Netlink::connect()?).await;
    let bare = lacks.iter().filter_map(|change| {
        let EnforcementChange::AttachPort { port, .. } = change else {
            return None;
        };
        Some(port.clone())
    });
    Ok(Some(PortsNow {
        bare: bare.collect(),
        plugged,
        ports,
    }))
}

/// The ports of a hypervisor at this moment.
#[derive(Clone, Debug)]
pub struct PortsNow {
    /// What should be.
    pub ports: Ports,
    /// What the programs know.
    pub plugged: Host,
    /// Names of ports that have no programs.
    pub bare: HashSet<String>,
}

fn names(place: &Place, hypervisor: &Hypervisor) -> Names {
    Names {
        bridge: place.interface.clone(),
        uplink: hypervisor.uplink_port.clone(),
    }
}

/// Tells what has to be done at the ports.
async fn lacks(
    ports: &Ports,
    plugged: &Host,
    (pins, network): (&Pins, &network::Observed),
    netlink: &Netlink,
) -> Vec<EnforcementChange> {
    let mut lacks = Vec::new();
    if let Some((index, name)) = &ports.uplink
        && !is_port_attached(pins, *index, UPLINK, netlink).await
    {
        lacks.push(EnforcementChange::AttachPort {
            port: name.clone(),
            who: "the uplink".to_owned(),
        });
    }
    let wanted = ports.host();
    for (index, port) in &ports.access {
        let who = match &port.who {
            Ok(endpoint) => endpoint.name.clone(),
            Err(why) => format!("unknown: {why}"),
        };
        let port = port.name.clone();
        if !is_port_attached(pins, *index, ACCESS, netlink).await {
            lacks.push(EnforcementChange::AttachPort { port, who });
        } else if wanted.ports.get(index) != plugged.ports.get(index) {
            lacks.push(EnforcementChange::Plug { port, who });
        }
    }
    let mut gone = strays(pins, network, ports, netlink).await;
    gone.extend(plugged.ports.keys().filter(|index| !ports.has(**index)));
    if !gone.is_empty() {
        let ports = gone.len();
        lacks.push(EnforcementChange::Unplug { ports });
    }
    // Where programs are attached, everything is said to them anyway.
    let says_all =
        |change: &EnforcementChange| matches!(change, EnforcementChange::AttachPort { .. });
    if wanted.macs != plugged.macs && !lacks.iter().any(says_all) {
        lacks.push(EnforcementChange::OwnAddresses);
    }
    lacks
}

fn tell(lacks: &[EnforcementChange], ports: &Ports) {
    for change in lacks {
        info!("{}", change.to_string().trim_start_matches(['+', '~', ' ']));
    }
    for port in ports.access.values().filter(|port| port.is_foreign) {
        if let Err(why) = &port.who {
            warn!(
                "{} is a port that the inventory does not explain: {why}",
                port.name
            );
        }
    }
}
