//! What the kernel enforces right now: `bulkhead status`.

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::loaded_programs;
use dataplane_common::abi::direction;
use dataplane_common::hold::HoldDrop;
use dataplane_common::reason::outcome_name;
use serde::Serialize;

use super::link::attachment;
use super::{Place, RunError, State};
use crate::controller::{ControlOptions, ports_now};
use crate::loader::{Counters, HoldCounts, LoaderError, Mode, Pins, PortHook};
use crate::network::{Netlink, rx_vlan_offload};
use crate::ports::Unknown;
use crate::store::Store;

/// What can be seen of the enforcement on one trunk.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Frames of the trunk are judged.
    pub enforcing: bool,
    /// Not by a generation, but by the hold: everything is dropped but what the operator needs.
    pub held: bool,
    /// Why not, if not.
    pub problem: Option<String>,
    /// The trunk.
    pub interface: String,
    /// How the programs are attached.
    pub mode: Option<Mode>,
    /// Why in this mode.
    pub why: String,
    /// Does the NIC take VLAN tags out of received frames?
    pub rx_vlan_offload: Option<bool>,
    /// Number of the generation that packets are judged by; 0 if there is none.
    pub generation: u32,
    /// What the operator should know: a change that waits, or why it is not applied.
    pub notice: Option<String>,
    /// The program that is attached.
    pub program: Option<Program>,
    /// Every count that is not zero.
    pub counters: Vec<Count>,
    /// The ports of a hypervisor, the uplink first; `None`: this machine is a router.
    pub ports: Option<Vec<PortStatus>>,
}

/// A port of a hypervisor.
#[derive(Clone, Debug, Serialize)]
pub struct PortStatus {
    /// Its name.
    pub port: String,
    /// `uplink`, `access`, or `unexplained`: neither the uplink nor a machine's.
    pub kind: &'static str,
    /// Are its programs attached?
    pub attached: bool,
    /// The endpoint that is bound to it.
    pub endpoint: Option<String>,
    /// VLAN id of the endpoint's segment.
    pub vlan_id: Option<u16>,
    /// Why no endpoint is.
    pub unknown: Option<Unknown>,
}

/// A program in the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// The kernel's number.
    pub id: u32,
    /// Its name, which the kernel cuts at 15 characters.
    pub name: Option<String>,
}

/// Frames of a VLAN id, direction and outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// VLAN id; 0 for frames without a valid tag.
    pub vlan_id: u16,
    /// `from_tenant` or `to_tenant`; on hypervisors also `from_uplink` or `to_uplink`.
    pub direction: &'static str,
    /// Name of the outcome.
    pub outcome: String,
    /// Frames.
    pub packets: u64,
}

/// Looks at the kernel.
///
/// # Errors
///
/// The kernel's refusal. That nothing is enforced is no error.
pub async fn status(options: &ControlOptions) -> Result<Status, RunError> {
    let place = &options.place;
    let state = State::read(&place.state);
    let mut status = Status {
        enforcing: false,
        held: false,
        problem: None,
        interface: place.interface.clone(),
        mode: None,
        notice: notice(place, state.as_ref()),
        why: state.map_or("unknown (no state file)".into(), |state| state.why),
        rx_vlan_offload: rx_vlan_offload(&place.interface).ok(),
        generation: 0,
        program: None,
        counters: Vec::new(),
        ports: None,
    };
    status.problem = match Pins::at(&place.pins).has_ports() {
        true => fill_ports(&mut status, options).await?,
        false => fill(&mut status, place).await?,
    };
    status.enforcing = status.problem.is_none();
    Ok(status)
}

/// What waits for a confirmation is more urgent than what waits for an apply.
fn notice(place: &Place, state: Option<&State>) -> Option<String> {
    match Store::at(&place.store).pending() {
        Ok(Some(pending)) => Some(format!(
            "generation {} is undone in {} s unless confirmed (bulkhead confirm)",
            pending.generation,
            pending.left().map_or(0, |left| left.as_secs())
        )),
        Ok(None) => state?.notice.clone(),
        Err(error) => Some(super::with_causes(&error)),
    }
}

/// Fills in what is there on a hypervisor; returns what is missing for enforcement.
async fn fill_ports(
    status: &mut Status,
    options: &ControlOptions,
) -> Result<Option<String>, RunError> {
    let pins = Pins::at(&options.place.pins);
    status.generation = pins.generation()?.number;
    status.counters = port_counts(&pins)?;
    let Some(now) = ports_now(options).await? else {
        return Ok(Some(
            "there are maps of a hypervisor's ports, but no generation of one is stored".into(),
        ));
    };
    let row = |port: &str, kind| PortStatus {
        port: port.to_owned(),
        kind,
        attached: !now.bare.contains(port),
        endpoint: None,
        vlan_id: None,
        unknown: None,
    };
    let uplink = now.ports.uplink.iter().map(|(_, name)| row(name, "uplink"));
    let access = now.ports.access.iter().map(|(index, port)| {
        let bound = now.plugged.ports.get(index);
        let who = port.who.as_ref().ok();
        // What is bound counts, not what should be.
        let who = who.filter(|endpoint| bound.is_some_and(|plug| plug.mac == endpoint.mac));
        let kind = if port.is_foreign {
            "unexplained"
        } else {
            "access"
        };
        PortStatus {
            endpoint: who.map(|endpoint| endpoint.name.clone()),
            vlan_id: who.map(|endpoint| endpoint.vlan_id),
            unknown: port.who.as_ref().err().cloned(),
            ..row(&port.name, kind)
        }
    });
    let rows: Vec<PortStatus> = uplink.chain(access).collect();
    let bare: Vec<&str> = rows
        .iter()
        .filter(|row| !row.attached)
        .map(|row| row.port.as_str())
        .collect();
    let problem = match (status.generation, bare.as_slice()) {
        (0, _) => Some("no generation has been published yet".to_owned()),
        (_, []) => None,
        (_, bare) => Some(format!(
            "no programs on {} (remedy: bulkhead run, which attaches them)",
            bare.join(", ")
        )),
    };
    status.ports = Some(rows);
    Ok(problem)
}

fn port_counts(pins: &Pins) -> Result<Vec<Count>, RunError> {
    let mut counts = Vec::new();
    for (vlan_id, counters) in pins.port_counters()? {
        for hook in PortHook::ALL {
            let frames = (0..).zip(&counters.frames[hook.index()]);
            counts.extend(frames.filter(|(_, packets)| **packets > 0).map(
                |(outcome, &packets)| Count {
                    vlan_id,
                    direction: hook.direction(),
                    outcome: named(outcome),
                    packets,
                },
            ));
        }
    }
    Ok(counts)
}

fn named(outcome: u32) -> String {
    outcome_name(outcome).map_or_else(|| format!("outcome-{outcome}"), str::to_owned)
}

/// Fills in what is there; returns what is missing for enforcement.
async fn fill(status: &mut Status, place: &Place) -> Result<Option<String>, RunError> {
    let pins = Pins::at(&place.pins);
    let Some(mode) = pins.mode() else {
        return unattached(status, &pins);
    };
    status.mode = Some(mode);
    let netlink = Netlink::connect()?;
    let interface = netlink.interface(&place.interface).await;
    let ifindex = interface.as_ref().map_or(0, |found| found.ifindex);
    let attachment = attachment(&pins, mode, ifindex, &netlink).await;
    status.program = attachment.program.map(program);
    if attachment.is_hold {
        status.held = true;
        status.why = "the hold".to_owned();
        status.counters = hold_counts(&pins)?;
    } else if let Some(problem) = generation(status, &pins)? {
        return Ok(Some(problem));
    }
    if let Err(error) = interface {
        return Ok(Some(match attachment.ifindex {
            Some(found) if found != 0 => format!(
                "{error}; the programs judge on interface {found}, which nobody looks after (remedy: give it its name back)"
            ),
            _ => error.to_string(),
        }));
    }
    Ok(match attachment.ifindex {
        Some(0) => Some("the programs are no longer attached: their interface is gone".into()),
        Some(found) if found != ifindex => Some(format!(
            "the programs are attached to interface {found}, not to {ifindex} ({})",
            place.interface
        )),
        Some(_) if status.held => Some(
            "held: no generation yet; everything is dropped but what [hold] lists (remedy: bulkhead apply)".into(),
        ),
        Some(_) => None,
        None => Some("the kernel does not tell what the programs are attached to".into()),
    })
}

/// Nothing is pinned to the interface: what else is there?
fn unattached(status: &mut Status, pins: &Pins) -> Result<Option<String>, RunError> {
    if let Some(problem) = generation(status, pins)? {
        return Ok(Some(problem));
    }
    Ok(Some(
        "the maps are there, but no program is attached".into(),
    ))
}

/// Fills in what the maps of the generation say; returns what they lack.
fn generation(status: &mut Status, pins: &Pins) -> Result<Option<String>, RunError> {
    match pins.generation() {
        Ok(generation) => status.generation = generation.number,
        Err(error @ LoaderError::NotRunning { .. }) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error.into()),
    }
    status.counters = counts(pins)?;
    if status.generation == 0 {
        return Ok(Some("no generation has been published yet".into()));
    }
    Ok(None)
}

/// What the hold counted. It does not tell VLANs apart.
fn hold_counts(pins: &Pins) -> Result<Vec<Count>, RunError> {
    let counts = HoldCounts::read(pins)?;
    let dropped = HoldDrop::ALL.map(|reason| (reason.name(), counts.dropped(reason)));
    let all = [("passed", counts.passed())].into_iter().chain(dropped);
    let moved = all.filter(|(_, packets)| *packets > 0);
    let counts = moved.map(|(outcome, packets)| Count {
        vlan_id: 0,
        direction: "from_tenant",
        outcome: outcome.to_owned(),
        packets,
    });
    Ok(counts.collect())
}

fn program(id: u32) -> Program {
    let found = loaded_programs().flatten().find(|info| info.id() == id);
    let name = found.and_then(|info| info.name_as_str().map(str::to_owned));
    Program { id, name }
}

fn counts(pins: &Pins) -> Result<Vec<Count>, RunError> {
    let refused = |source| LoaderError::Map {
        map: "COUNTERS",
        source,
    };
    let map = MapData::from_pin(pins.map("COUNTERS")).map_err(refused)?;
    let map = PerCpuArray::try_from(Map::PerCpuArray(map)).map_err(refused)?;
    let counters = Counters::read(&map)?;
    let counts = counters
        .iter()
        .map(|(vlan_id, side, outcome, packets)| Count {
            vlan_id,
            direction: if side == direction::FROM_TENANT {
                "from_tenant"
            } else {
                "to_tenant"
            },
            outcome: named(outcome),
            packets,
        });
    Ok(counts.collect())
}
