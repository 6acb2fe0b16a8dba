//! A hypervisor with machines of three tenants, and the far end of its uplink.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataplane_common::abi::VLAN_IDS;
use dataplane_common::reason::outcome_name;
use dataplane_user::compile::{RouterFacts, compile};
use dataplane_user::loader::{
    Host, Interface, LoadOptions, Plug, PortHook, PortPath, Published, Trunk, WantedMode,
};
use netmodel::Model;
use netmodel::ids::MacAddr;
use netmodel::model::Subnet6;
use testkit::fixtures;
use testkit::forgery::{Endpoint, Surroundings};
use testkit::frame::Frame;
use testkit::kernel_vlan::BridgeVlan;
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::tap::Tap;
use testkit::wait::{PATIENCE, wait_for};

const BRIDGE: &str = "vmbr0";
const UPLINK: &str = "nic0";
const STRANGER: &str = "tap99";
/// So long nothing may arrive where nothing should; the counters have moved by then.
const SILENCE: Duration = Duration::from_millis(20);

/// Frames by (VLAN id, index of the hook, outcome).
pub(crate) type Counts = BTreeMap<(u16, usize, &'static str), u64>;

/// How the bridge is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wiring {
    /// A plain bridge.
    OneBridge,
    /// Filters VLANs; each port is in its machine's.
    VlanAware,
    /// Filters VLANs; each port is in that of the first machine.
    AllInOneVlan,
}

/// A machine of the sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) at: usize,
    pub(crate) name: &'static str,
    pub(crate) mac: [u8; 6],
    pub(crate) vlan: u16,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
}

impl Machine {
    pub(crate) fn endpoint(self) -> Endpoint {
        let Self {
            mac,
            vlan,
            ipv4,
            ipv6,
            ..
        } = self;
        Endpoint {
            mac,
            vlan,
            ipv4,
            ipv6,
        }
    }
}

/// Two of the first tenant, one of the second, two of the third, whose hosts are isolated.
const MACHINES: [&str; 5] = [
    "grooveiq-api01",
    "grooveiq-db01",
    "vintronics-web01",
    "moneyrouter-app01",
    "moneyrouter-db01",
];

/// The sample, with IPv6 for each of the machines.
pub(crate) fn model() -> Model {
    let options = netmodel::Options::new(fixtures::sample_site(), Some(fixtures::sample_tenants()));
    let mut model = netmodel::load(&options)
        .model
        .expect("the sample has no errors");
    for segment in &mut model.segments {
        let vlan = segment.vlan_id.as_u16();
        if (100..=102).contains(&vlan) {
            segment.ipv6 = Some(Subnet6 {
                net: format!("fd00:{vlan}::/64").parse().expect("a subnet"),
                gateway: format!("fd00:{vlan}::1").parse().expect("an address"),
            });
        }
    }
    let segments = model.segments.clone();
    for host in &mut model.hosts {
        let is_machine = MACHINES.contains(&host.name.as_str());
        for interface in host.interfaces.iter_mut().filter(|_| is_machine) {
            let subnet = interface.segment.and_then(|id| segments[id.0].ipv6);
            let last = interface.ipv4.map(|ipv4| u128::from(ipv4.octets()[3]));
            if let (Some(subnet), Some(last)) = (subnet, last) {
                interface.ipv6 = Some((u128::from(subnet.net.network()) + last).into());
            }
        }
    }
    model
}

fn machine(model: &Model, at: usize) -> Machine {
    let name = MACHINES[at];
    let host = model.hosts.iter().find(|host| host.name.as_str() == name);
    let interface = &host.expect("a host of the sample").interfaces[0];
    let segment = model.segment(interface.segment.expect("it is on a segment"));
    Machine {
        at,
        name,
        mac: interface.mac.expect("it has a MAC").0,
        vlan: segment.vlan_id.as_u16(),
        ipv4: interface.ipv4.expect("it has an IPv4 address"),
        ipv6: interface.ipv6.expect("it has an IPv6 address"),
    }
}

/// The host, its machines, and the trunk.
pub(crate) struct Lab {
    path: PortPath,
    plugged: Host,
    published: Published,
    mode: WantedMode,
    hypervisor: NetNs,
    far: NetNs,
    sockets: Vec<RawSocket>,
    trunk: RawSocket,
    machines: Vec<Machine>,
    model: Model,
    host_mac: [u8; 6],
}

impl Lab {
    pub(crate) fn build(wiring: Wiring, model: &Model, mode: WantedMode) -> Result<Self> {
        let (hypervisor, far) = (NetNs::new("hypervisor")?, NetNs::new("machines")?);
        hypervisor.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        far.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        match wiring {
            Wiring::OneBridge => hypervisor.add_bridge(BRIDGE)?,
            Wiring::VlanAware | Wiring::AllInOneVlan => hypervisor.add_vlan_bridge(BRIDGE)?,
        }
        hypervisor.set_mac(BRIDGE, [2, 0xaa, 0, 0, 0, 1])?;
        hypervisor.set_up(BRIDGE)?;
        let machines: Vec<Machine> = (0..MACHINES.len()).map(|at| machine(model, at)).collect();
        let mut plugged = Host::default();
        for machine in &machines {
            let index = plug(&hypervisor, &far, &tap(machine.at))?;
            let vlan_id = machine.vlan;
            plugged.ports.insert(
                index,
                Plug {
                    mac: machine.mac,
                    vlan_id,
                    connections: 0,
                },
            );
        }
        plug(&hypervisor, &far, UPLINK)?;
        set_vlans(&hypervisor, wiring, &machines)?;
        let host_mac = hypervisor.mac(BRIDGE)?;
        plugged.macs.insert(host_mac);
        let mut path = hypervisor.run(|| PortPath::load(&LoadOptions::default()))?;
        let published = publish(&mut path, model, 1)?;
        path.set_host(&plugged)?;
        let sockets = machines
            .iter()
            .map(|m| RawSocket::open(&far, &end(&tap(m.at))));
        let mut lab = Self {
            sockets: sockets.collect::<Result<_>>()?,
            trunk: RawSocket::open(&far, &end(UPLINK))?,
            path,
            plugged,
            published,
            mode,
            hypervisor,
            far,
            machines,
            model: model.clone(),
            host_mac,
        };
        for at in 0..MACHINES.len() {
            lab.attach(&tap(at), false)?;
        }
        lab.attach(UPLINK, true)?;
        Ok(lab)
    }

    fn attach(&mut self, name: &str, is_uplink: bool) -> Result<()> {
        let index = self.hypervisor.ifindex(name)?;
        let interface = Interface { name, index };
        let (path, mode, published) = (&mut self.path, self.mode, self.published);
        self.hypervisor.run(|| {
            if is_uplink {
                path.attach_uplink(interface, mode, published)
            } else {
                path.attach_port(interface, mode, published)
            }
        })?;
        Ok(())
    }

    pub(crate) fn publish(&mut self, model: &Model) -> Result<()> {
        let number = self.path.generation().number + 1;
        self.published = publish(&mut self.path, model, number)?;
        Ok(())
    }

    /// A port without programs, for a machine that nobody knows.
    pub(crate) fn add_stranger(&self) -> Result<RawSocket> {
        plug(&self.hypervisor, &self.far, STRANGER)?;
        RawSocket::open(&self.far, &end(STRANGER))
    }

    pub(crate) fn attach_stranger(&mut self) -> Result<()> {
        self.attach(STRANGER, false)
    }

    pub(crate) fn know_stranger_as(&mut self, machine: Machine) -> Result<()> {
        self.know_as(STRANGER, machine)
    }

    /// Says whose a port is; it is nobody's where it was.
    fn know_as(&mut self, port: &str, machine: Machine) -> Result<()> {
        let (mac, vlan_id) = (machine.mac, machine.vlan);
        self.plugged.ports.retain(|_, plug| plug.mac != mac);
        let index = self.hypervisor.ifindex(port)?;
        let plug = Plug {
            mac,
            vlan_id,
            connections: 0,
        };
        self.plugged.ports.insert(index, plug);
        Ok(self.path.set_host(&self.plugged)?)
    }

    /// Moves a machine to a tap of its own. `offloads`: does it take packets that are not cut up, or lack checksums?
    pub(crate) fn move_to_tap(
        &mut self,
        machine: Machine,
        mtu: u32,
        offloads: bool,
    ) -> Result<Tap> {
        let name = format!("real{}", machine.at);
        let tap = Tap::open(&self.hypervisor, &name, offloads)?;
        self.hypervisor.set_mtu(&name, mtu)?;
        self.hypervisor.set_controller(&name, BRIDGE)?;
        self.hypervisor.set_up(&name)?;
        self.attach(&name, false)?;
        self.know_as(&name, machine)?;
        Ok(tap)
    }

    pub(crate) fn machine(&self, at: usize) -> Machine {
        self.machines[at]
    }

    pub(crate) fn router_mac(&self) -> [u8; 6] {
        ROUTER_MAC
    }

    /// What a machine has around it.
    pub(crate) fn around(&self, machine: Machine) -> Surroundings {
        let mut segments = self.model.segments.iter();
        let segment = segments.find(|s| s.vlan_id.as_u16() == machine.vlan);
        let segment = segment.unwrap();
        Surroundings {
            router_mac: ROUTER_MAC,
            host_mac: self.host_mac,
            gateway4: segment.ipv4.unwrap().gateway,
            gateway6: segment.ipv6.unwrap().gateway,
        }
    }

    pub(crate) fn send(&self, from: Machine, frame: &Frame) {
        self.send_bytes(from, &frame.build());
    }

    pub(crate) fn send_bytes(&self, from: Machine, bytes: &[u8]) {
        self.sockets[from.at].send(bytes).unwrap();
    }

    pub(crate) fn trunk_send(&self, bytes: &[u8]) {
        self.trunk.send(bytes).unwrap();
    }

    /// What the hypervisor itself sends.
    pub(crate) fn bridge_send(&self, bytes: &[u8]) {
        let socket = RawSocket::open(&self.hypervisor, BRIDGE).unwrap();
        socket.send(bytes).unwrap();
    }

    /// Does the machine get this very frame?
    pub(crate) fn received(&self, machine: Machine, bytes: &[u8]) -> bool {
        let same = |frame: &[u8]| frame.starts_with(bytes).then_some(());
        let found = self.sockets[machine.at].receive_where(Instant::now() + PATIENCE, same);
        found.unwrap().is_some()
    }

    /// Does it leave over the uplink with this tag?
    pub(crate) fn trunk_received(&self, vlan: u16, untagged: &[u8]) -> bool {
        let [high, low] = vlan.to_be_bytes();
        let mut tagged = untagged[..12].to_vec();
        tagged.extend([0x81, 0, high, low]);
        tagged.extend(&untagged[12..]);
        let same = |frame: &[u8]| frame.starts_with(&tagged).then_some(());
        let found = self.trunk.receive_where(Instant::now() + PATIENCE, same);
        found.unwrap().is_some()
    }

    /// Forgets what has arrived so far.
    pub(crate) fn settle(&self) {
        for socket in self.sockets.iter().chain([&self.trunk]) {
            socket.drain().unwrap();
        }
    }

    pub(crate) fn nobody_received(&self, what: &str) {
        std::thread::park_timeout(SILENCE);
        for (socket, machine) in self.sockets.iter().zip(&self.machines) {
            let got = socket.try_receive().unwrap();
            let of_other = got.filter(|frame| frame.get(6..12) != Some(&machine.mac[..]));
            assert!(
                of_other.is_none(),
                "{what}: {} got {of_other:x?}",
                machine.name
            );
        }
        let got = self.trunk.try_receive().unwrap();
        assert!(got.is_none(), "{what}: left over the uplink: {got:x?}");
    }

    pub(crate) fn counts(&self) -> Counts {
        let vlans = [0, 10, 100, 101, 102, 3999];
        let mut counts = Counts::new();
        for vlan in vlans.into_iter().filter(|&vlan| u32::from(vlan) < VLAN_IDS) {
            let counters = self.path.counters(vlan).unwrap();
            for hook in PortHook::ALL {
                for (outcome, &frames) in (0..).zip(&counters.frames[hook.index()]) {
                    if frames > 0 {
                        let name = outcome_name(outcome).unwrap_or("unnamed");
                        counts.insert((vlan, hook.index(), name), frames);
                    }
                }
            }
        }
        counts
    }

    /// Waits until these counters have moved, and holds that no other did.
    pub(crate) fn expect(
        &self,
        what: &str,
        before: &Counts,
        moved: &[(u16, PortHook, &'static str, u64)],
    ) {
        let mut wanted = before.clone();
        for &(vlan, hook, outcome, frames) in moved {
            *wanted.entry((vlan, hook.index(), outcome)).or_default() += frames;
        }
        let reached = wait_for("the counters", || (self.counts() != *before).then_some(()));
        assert!(reached.is_ok(), "{what}: no counter moved");
        let after = self.counts();
        let differs = |(key, frames): &(_, u64)| wanted.get(key) != Some(frames);
        let other: Vec<_> = after.clone().into_iter().filter(differs).collect();
        assert_eq!(after, wanted, "{what}: {other:?}");
    }

    pub(crate) fn expect_at_least(
        &self,
        before: &Counts,
        (vlan, hook, outcome, frames): (u16, PortHook, &'static str, u64),
    ) {
        let key = (vlan, hook.index(), outcome);
        let old = before.get(&key).copied().unwrap_or(0);
        let moved = wait_for("a counter", || {
            let now = self.counts().get(&key).copied().unwrap_or(0);
            (now >= old + frames).then_some(())
        });
        moved
            .with_context(|| format!("{hook:?} {outcome} in VLAN {vlan}"))
            .unwrap();
    }
}

/// The router's trunk has this MAC.
const ROUTER_MAC: [u8; 6] = [0, 0xe0, 0x4c, 0x29, 0x1e, 0x50];

fn publish(path: &mut PortPath, model: &Model, number: u32) -> Result<Published> {
    let facts = RouterFacts {
        mac: Some(MacAddr(ROUTER_MAC)),
        ..RouterFacts::from_model(model)
    };
    let trunk = Trunk {
        ifindex: 1,
        mac: ROUTER_MAC,
    };
    Ok(path.publish(&compile(model, &facts)?, &trunk, number)?)
}

fn tap(at: usize) -> String {
    format!("tap{at}")
}

fn end(port: &str) -> String {
    format!("far-{port}")
}

/// Makes a port of the bridge and what is behind it; returns the port's index.
fn plug(hypervisor: &NetNs, far: &NetNs, name: &str) -> Result<u32> {
    hypervisor.add_veth(name, far, &end(name))?;
    hypervisor.set_controller(name, BRIDGE)?;
    hypervisor.set_up(name)?;
    far.set_up(&end(name))?;
    hypervisor.ifindex(name)
}

fn set_vlans(hypervisor: &NetNs, wiring: Wiring, machines: &[Machine]) -> Result<()> {
    if wiring == Wiring::OneBridge {
        return Ok(());
    }
    for machine in machines {
        let vlan = match wiring {
            Wiring::AllInOneVlan => machines[0].vlan,
            Wiring::OneBridge | Wiring::VlanAware => machine.vlan,
        };
        hypervisor.add_bridge_vlan(&tap(machine.at), vlan, BridgeVlan::Untagged)?;
    }
    for vlan in [100, 101, 102] {
        hypervisor.add_bridge_vlan(UPLINK, vlan, BridgeVlan::Tagged)?;
    }
    Ok(())
}
