//! Scenarios for the ports of a hypervisor: frames for the trunk, sent from where their endpoints are plugged in.
//!
//! A frame of the generator of [`super`] becomes one that a port's endpoint sends, or that comes in over the uplink: from the
//! router, or from another end of the segment. Some are turned towards a neighbour, some are answers to what was allowed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netmodel::Model;
use netmodel::model::Interface;

use super::dice::{Dice, Rng};
use super::{History, Scenario, frame, scenario};
use crate::port::{Origin, Plugged, from_tenant, from_uplink, to_tenant, to_uplink};
use crate::{Frame, Reason, State, World, site};

/// A MAC of the hypervisor itself.
const HOST_MAC: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];
/// No port has this interface index.
const NO_PORT: u32 = 999;
/// So many allowed frames are remembered, to be answered.
const MEMORY: usize = 24;

/// Where a frame is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// On its way in from the endpoint behind a port: its interface index.
    FromTenant(u32),
    /// Out to a port; with the VLAN id as which it was judged on this host.
    ToTenant(u32, Option<u16>),
    /// In from the uplink.
    FromUplink,
    /// Out to the uplink; with where it comes from.
    ToUplink(Origin),
}

/// A frame at a port, and what the evaluator says to it: the VLAN id as which it is judged, or the drop reason.
#[derive(Clone, Debug)]
pub struct PortCase {
    /// The octets.
    pub bytes: Vec<u8>,
    /// A tag in the metadata: (TPID, TCI).
    pub offloaded_tag: Option<(u16, u16)>,
    /// Where it is judged.
    pub hook: Hook,
    /// The verdict.
    pub expected: Result<u16, Reason>,
}

/// One step.
#[derive(Clone, Debug)]
pub enum PortStep {
    /// Time goes on, in seconds.
    Advance(u64),
    /// A new generation: this one of the scenario's models.
    Flip(usize),
    /// A frame.
    Frame(PortCase),
}

/// A hypervisor, its inventories, and what happens to it.
#[derive(Clone, Debug)]
pub struct PortScenario {
    /// Models, router and seed; its steps are not for ports.
    pub site: Scenario,
    /// Who is plugged in.
    pub plugged: Plugged,
    /// What happens, in order.
    pub steps: Vec<PortStep>,
}

/// Makes a scenario with so many frames.
#[must_use]
pub fn port_scenario(seed: u64, frames: usize) -> PortScenario {
    let mut site = scenario(seed, 0);
    let mut rng = Rng::with_seed(!seed);
    for tenant in site.models.iter_mut().flat_map(|model| &mut model.tenants) {
        tenant.isolate_hosts = rng.percent(40);
    }
    let plugged = plug(&mut rng, &site.models);
    let mut scenario = PortScenario {
        site,
        plugged,
        steps: Vec::new(),
    };
    scenario.steps = steps(&mut rng, &scenario, frames);
    scenario
}

/// Two of three endpoints are on the host; one port in twelve has an endpoint that is elsewhere.
fn plug(rng: &mut Rng, models: &[Model]) -> Plugged {
    let mut found = BTreeMap::new();
    for (model, interface) in endpoints(models) {
        if let (Some(mac), Some(segment)) = (interface.mac, interface.segment) {
            let vlan = model.segment(segment).vlan_id.as_u16();
            found.entry(mac.0).or_insert(vlan);
        }
    }
    let mut ports = BTreeMap::new();
    for (index, (mac, vlan)) in (10..).zip(found) {
        if rng.percent(66) {
            let moved = rng.percent(8);
            ports.insert(index, (mac, if moved { vlan ^ 1 } else { vlan }));
        }
    }
    Plugged {
        ports,
        host_macs: vec![HOST_MAC],
    }
}

/// Every interface that is not the router's.
fn endpoints(models: &[Model]) -> impl Iterator<Item = (&Model, &Interface)> {
    models.iter().flat_map(|model| {
        site::interfaces(model)
            .filter(|(host, _)| !host.is_router)
            .map(move |(_, interface)| (model, interface))
    })
}

fn steps(rng: &mut Rng, scenario: &PortScenario, frames: usize) -> Vec<PortStep> {
    let mut world = scenario.site.world(0, 1);
    let mut history = History::random(rng);
    let mut maker = Maker {
        plugged: &scenario.plugged,
        state: State::default(),
        allowed: Vec::new(),
        now: 0,
    };
    let mut steps = Vec::new();
    for _ in 0..frames {
        if rng.percent(4) {
            let seconds = rng.one_of([1, 2, 9, 11, 29, 31, 59, 61, 179, 181, 599, 601, 7_441]);
            maker.now += seconds;
            steps.push(PortStep::Advance(seconds));
        }
        if rng.percent(3) {
            let model = rng.usize(..scenario.site.models.len());
            world = scenario.site.world(model, world.generation + 1);
            steps.push(PortStep::Flip(model));
        }
        steps.push(PortStep::Frame(maker.next(rng, &world, &mut history)));
    }
    steps
}

struct Maker<'p> {
    plugged: &'p Plugged,
    state: State,
    /// Allowed unicast frames, as they left their sender, with the VLAN id.
    allowed: Vec<(Vec<u8>, u16)>,
    now: u64,
}

impl Maker<'_> {
    fn next(&mut self, rng: &mut Rng, world: &World<'_>, history: &mut History) -> PortCase {
        let (mut bytes, hook) = if !self.allowed.is_empty() && rng.percent(35) {
            self.answer(rng, world)
        } else {
            self.opening(rng, world, history)
        };
        let mut offloaded_tag = None;
        let is_tagged = bytes.get(12..14) == Some(&[0x81, 0]);
        if is_tagged && bytes.len() >= 18 && rng.percent(50) {
            offloaded_tag = Some((0x8100, u16::from_be_bytes([bytes[14], bytes[15]])));
            bytes.drain(12..16);
        }
        let sent = Frame {
            bytes: &bytes,
            offloaded_tag,
        };
        let expected = self.judge(world, &sent, hook);
        if let (Ok(vlan), Hook::FromTenant(_) | Hook::FromUplink) = (expected, hook) {
            self.remember(&bytes, offloaded_tag, vlan);
        }
        PortCase {
            bytes,
            offloaded_tag,
            hook,
            expected,
        }
    }

    fn judge(&mut self, world: &World<'_>, frame: &Frame<'_>, hook: Hook) -> Result<u16, Reason> {
        let at = (world, self.plugged);
        match hook {
            Hook::FromTenant(port) => from_tenant(at, &mut self.state, frame, port, self.now),
            Hook::FromUplink => from_uplink(at, &mut self.state, frame, self.now),
            Hook::ToTenant(port, judged) => to_tenant(at, frame, port, judged).map(|()| 0),
            Hook::ToUplink(origin) => to_uplink(at, frame, origin).map(|()| 0),
        }
    }

    fn remember(&mut self, bytes: &[u8], offloaded_tag: Option<(u16, u16)>, vlan: u16) {
        let mut untagged = bytes.to_vec();
        if offloaded_tag.is_none() && bytes.get(12..14) == Some(&[0x81, 0]) {
            untagged.drain(12..16);
        }
        if untagged[0] & 1 == 0 {
            self.allowed.push((untagged, vlan));
        }
        if self.allowed.len() > MEMORY {
            self.allowed.remove(0);
        }
    }

    /// A frame of the other side of something that was allowed, or the same again.
    fn answer(&mut self, rng: &mut Rng, world: &World<'_>) -> (Vec<u8>, Hook) {
        let index = rng.usize(..self.allowed.len());
        let (mut bytes, vlan) = self.allowed[index].clone();
        if rng.percent(30) {
            turn_flags(rng, &mut bytes);
            return self.place(rng, bytes, vlan);
        }
        let (to, from) = (mac_at(&bytes, 0), mac_at(&bytes, 6));
        bytes[..6].copy_from_slice(&from);
        bytes[6..12].copy_from_slice(&to);
        reverse(rng, &mut bytes);
        // What went through the router comes back into the segment of the one that it is for.
        let home = self.port_of(from).map(|(_, vlan)| vlan);
        if from == world.router.mac {
            return self.place(rng, bytes, vlan);
        }
        self.place(rng, bytes, home.unwrap_or(vlan))
    }

    fn opening(
        &mut self,
        rng: &mut Rng,
        world: &World<'_>,
        history: &mut History,
    ) -> (Vec<u8>, Hook) {
        let mut bytes = frame(rng, world, history).bytes;
        if bytes.len() < 18 || bytes[12..14] != [0x81, 0] {
            // Damaged: for the uplink, or as it is from a port.
            bytes.resize(bytes.len().max(14), 0);
            return if rng.percent(50) {
                (bytes, Hook::FromUplink)
            } else {
                let port = self.any_port(rng);
                (bytes, Hook::FromTenant(port))
            };
        }
        let vlan = u16::from_be_bytes([bytes[14], bytes[15]]) & 0xfff;
        match rng.u8(0..100) {
            0..=29 => {
                bytes.drain(12..16);
                self.place(rng, bytes, vlan)
            }
            30..=54 => {
                bytes.drain(12..16);
                aim_at_neighbour(rng, world, vlan, &mut bytes);
                self.place(rng, bytes, vlan)
            }
            55..=86 => {
                bytes.drain(12..16);
                let vlan = self.route(rng, world, vlan, &mut bytes);
                (tagged(&bytes, vlan), Hook::FromUplink)
            }
            87..=89 => {
                let port = self.any_port(rng);
                (bytes, Hook::FromTenant(port))
            }
            90..=95 => {
                if rng.percent(80) {
                    bytes.drain(12..16);
                }
                let port = self.any_port(rng);
                let home = self.plugged.ports.get(&port).map_or(1, |(_, vlan)| *vlan);
                if let (Some((mac, _)), true) = (self.plugged.ports.get(&port), rng.percent(80)) {
                    bytes[..6].copy_from_slice(mac);
                }
                let judged = rng.one_of([Some(home), Some(home), Some(home), Some(vlan), None]);
                (bytes, Hook::ToTenant(port, judged))
            }
            _ => {
                if rng.percent(20) {
                    bytes[6..12].copy_from_slice(&HOST_MAC);
                }
                let origin = rng.one_of([
                    Origin::Judged(vlan),
                    Origin::Judged(vlan),
                    Origin::Judged(vlan ^ 1),
                    Origin::Unjudged,
                    Origin::MadeHere,
                ]);
                (bytes, Hook::ToUplink(origin))
            }
        }
    }

    /// Sends an untagged frame from where its source MAC is: its port, or the uplink with the tag.
    fn place(&self, rng: &mut Rng, bytes: Vec<u8>, vlan: u16) -> (Vec<u8>, Hook) {
        let sender = self.port_of(mac_at(&bytes, 6));
        match sender {
            Some((port, _)) if rng.percent(94) => (bytes, Hook::FromTenant(port)),
            None if rng.percent(94) => (tagged(&bytes, vlan), Hook::FromUplink),
            _ => {
                let port = self.any_port(rng);
                (bytes, Hook::FromTenant(port))
            }
        }
    }

    fn port_of(&self, mac: [u8; 6]) -> Option<(u32, u16)> {
        let mut ports = self.plugged.ports.iter();
        ports.find_map(|(port, (at, vlan))| (*at == mac).then_some((*port, *vlan)))
    }

    fn any_port(&self, rng: &mut Rng) -> u32 {
        let ports: Vec<u32> = self.plugged.ports.keys().copied().collect();
        if ports.is_empty() || rng.percent(8) {
            return NO_PORT;
        }
        ports[rng.usize(..ports.len())]
    }

    /// Makes it a frame that the router sends on to where it goes; returns the VLAN id there.
    fn route(&self, rng: &mut Rng, world: &World<'_>, vlan: u16, bytes: &mut [u8]) -> u16 {
        bytes[6..12].copy_from_slice(&world.router.mac);
        let home = destination_of(bytes).and_then(|to| site::endpoint(world.model, to));
        let home = home.and_then(|(_, interface)| interface.mac.zip(interface.segment));
        if let Some((mac, segment)) = home {
            bytes[..6].copy_from_slice(&mac.0);
            return world.model.segment(segment).vlan_id.as_u16();
        }
        let ports: Vec<_> = self.plugged.ports.values().copied().collect();
        if ports.is_empty() || bytes[0] & 1 == 1 || rng.percent(10) {
            return vlan;
        }
        let (mac, home) = ports[rng.usize(..ports.len())];
        bytes[..6].copy_from_slice(&mac);
        if rng.percent(80)
            && let Some(address) = address_of(world.model, mac, is_ipv4(bytes))
        {
            set_destination(bytes, address);
        }
        home
    }
}

/// Sends a frame to another end of its segment, or to one that the inventory does not have.
fn aim_at_neighbour(rng: &mut Rng, world: &World<'_>, vlan: u16, bytes: &mut [u8]) {
    let Some(segment) = site::segment_of_vlan(world.model, vlan) else {
        return;
    };
    let neighbours: Vec<_> = site::interfaces(world.model)
        .filter(|(_, interface)| interface.segment == Some(segment))
        .filter_map(|(_, interface)| interface.mac)
        .collect();
    let sender = mac_at(bytes, 6);
    let others: Vec<_> = neighbours.iter().filter(|mac| mac.0 != sender).collect();
    let Some(mac) = (!others.is_empty()).then(|| others[rng.usize(..others.len())].0) else {
        return;
    };
    if bytes[0] & 1 == 0 || rng.percent(20) {
        bytes[..6].copy_from_slice(&mac);
    }
    if rng.percent(3) {
        bytes[..6].copy_from_slice(&HOST_MAC);
    }
    let address = address_of(world.model, mac, is_ipv4(bytes));
    if let (Some(address), true) = (address, rng.percent(85)) {
        set_destination(bytes, address);
    } else if rng.percent(50)
        && let Some(IpAddr::V6(_)) = destination_of(bytes)
    {
        set_destination(bytes, IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 7]));
    }
}

fn address_of(model: &Model, mac: [u8; 6], ipv4: bool) -> Option<IpAddr> {
    let mut found = site::interfaces(model);
    let (_, interface) = found.find(|(_, i)| i.mac.is_some_and(|m| m.0 == mac))?;
    if ipv4 {
        interface.ipv4.map(IpAddr::V4)
    } else {
        interface.ipv6.map(IpAddr::V6)
    }
}

fn mac_at(bytes: &[u8], at: usize) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    mac
}

fn tagged(bytes: &[u8], vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    let mut frame = bytes[..12].to_vec();
    frame.extend([0x81, 0, high, low]);
    frame.extend(&bytes[12..]);
    frame
}

fn is_ipv4(bytes: &[u8]) -> bool {
    bytes.get(12..14) == Some(&[8, 0])
}

fn destination_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.get(12..14)? {
        [8, 0] => Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(30..34)?).ok()?)),
        [0x86, 0xdd] => Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(38..54)?).ok()?)),
        _ => None,
    }
}

fn set_destination(bytes: &mut [u8], address: IpAddr) {
    let (at, ether_type, octets): (usize, [u8; 2], Vec<u8>) = match address {
        IpAddr::V4(a) => (30, [8, 0], a.octets().to_vec()),
        IpAddr::V6(a) => (38, [0x86, 0xdd], a.octets().to_vec()),
    };
    if bytes.get(12..14) == Some(&ether_type[..])
        && let Some(place) = bytes.get_mut(at..at + octets.len())
    {
        place.copy_from_slice(&octets);
    }
}

/// Where the transport header of a plain packet is, and its protocol.
fn transport(bytes: &[u8]) -> Option<(usize, u8)> {
    match (bytes.get(12..14)?, bytes.get(14)?) {
        ([8, 0], 0x45) => Some((34, *bytes.get(23)?)),
        ([0x86, 0xdd], _) => Some((54, *bytes.get(20)?)),
        _ => None,
    }
}

/// Swaps addresses and ports; makes requests answers.
fn reverse(rng: &mut Rng, bytes: &mut [u8]) {
    let Some((l4, protocol)) = transport(bytes).filter(|(l4, _)| bytes.len() >= l4 + 20) else {
        return;
    };
    let (at, length) = if is_ipv4(bytes) { (26, 4) } else { (22, 16) };
    for i in at..at + length {
        bytes.swap(i, i + length);
    }
    match protocol {
        6 | 17 => {
            bytes.swap(l4, l4 + 2);
            bytes.swap(l4 + 1, l4 + 3);
        }
        1 | 58 => {
            bytes[l4] = match bytes[l4] {
                8 => 0,
                0 => 8,
                128 => 129,
                129 => 128,
                other => other,
            }
        }
        _ => {}
    }
    if protocol == 6 {
        bytes[l4 + 13] = if bytes[l4 + 13] & 0x12 == 2 && rng.percent(80) {
            0x12
        } else {
            rng.one_of([0x10, 0x10, 0x11, 0x14, 0x04, 0x12])
        };
    }
}

/// Another segment of the same sender.
fn turn_flags(rng: &mut Rng, bytes: &mut [u8]) {
    if let Some((l4, 6)) = transport(bytes)
        && let Some(flags) = bytes.get_mut(l4 + 13)
    {
        *flags = rng.one_of([0x10, 0x18, 0x10, 0x11, 0x02, 0x04]);
    }
}
