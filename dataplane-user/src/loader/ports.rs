//! The programs on a hypervisor's ports: what is plugged in, and where they are attached.
//!
//! # Guarantees
//!
//! * **Known before attached, unknown before detached.** A port that is in no table passes nothing, so the order of
//!   [`PortPath::set_host`] and [`PortPath::attach_port`] opens no window.
//! * **Fail static.** With a pin folder, maps and links outlive the process. A port that appears meanwhile has no program,
//!   so what it sends is not marked and reaches no other port and not the uplink.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, TestRunOptions};
use aya::{Ebpf, EbpfLoader, TestRun as _};
use dataplane_common::abi::{
    Generation, Mac, PortCounters, PortEntry, StationEntry, StationKey, VLAN_IDS, hook,
};

use super::connections::{self, Sharing};
use super::publish::Publisher;
use super::templates::Templates;
use super::{LoadOptions, LoaderError, Pins, Published, program, program_mut, take_map};
use crate::compile::{Tables, Trunk};

/// Maps that outlive the process.
const PINNED_MAPS: [&str; 17] = [
    "BOUND_MACS",
    "ENDPOINTS",
    "EVENTS",
    "FLOWS",
    "FRAGMENTS",
    "FROM_ROUTER",
    "GENERATION",
    "HOLDERS",
    "PAIRS",
    "PORTS",
    "PORT_COUNTERS",
    "PREFIXES",
    "RULES",
    "SEGMENTS",
    "SERVICES",
    "STATIONS",
    "TICKETS",
];

/// The program behind `tc_from_uplink`.
const FROM_ROUTER: &str = "tc_from_router";

/// A program of a port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PortHook {
    /// Ingress of an access port.
    FromTenant,
    /// Egress of an access port.
    ToTenant,
    /// Ingress of the uplink.
    FromUplink,
    /// Egress of the uplink.
    ToUplink,
}

impl PortHook {
    /// Every hook, as [`PortCounters::frames`] counts them.
    pub const ALL: [Self; 4] = [
        Self::FromTenant,
        Self::ToTenant,
        Self::FromUplink,
        Self::ToUplink,
    ];

    /// Returns the index of [`PortCounters::frames`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::FromTenant => hook::FROM_TENANT,
            Self::ToTenant => hook::TO_TENANT,
            Self::FromUplink => hook::FROM_UPLINK,
            Self::ToUplink => hook::TO_UPLINK,
        }
    }

    /// Returns the direction of the frames that it sees, from the tenant's side.
    #[must_use]
    pub fn direction(self) -> &'static str {
        match self {
            Self::FromTenant => "from_tenant",
            Self::ToTenant => "to_tenant",
            Self::FromUplink => "from_uplink",
            Self::ToUplink => "to_uplink",
        }
    }

    /// Returns the name of the program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::FromTenant => "tc_from_tenant",
            Self::ToTenant => "tc_to_tenant",
            Self::FromUplink => "tc_from_uplink",
            Self::ToUplink => "tc_to_uplink",
        }
    }
}

/// Who is behind an access port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Plug {
    /// Hardware address of the endpoint.
    pub mac: [u8; 6],
    /// VLAN id of the endpoint's segment, as the inventory says it.
    pub vlan_id: u16,
    /// Connections that the inventory promises it; 0: a share.
    pub connections: u32,
}

/// What is plugged in on a host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Known access ports, by interface index.
    pub ports: BTreeMap<u32, Plug>,
    /// Hardware addresses of the host itself.
    pub macs: BTreeSet<[u8; 6]>,
}

/// The programs of the ports in the kernel and their maps.
pub struct PortPath {
    pub(super) ebpf: Ebpf,
    publisher: Publisher,
    ports: HashMap<MapData, u32, PortEntry>,
    stations: HashMap<MapData, StationKey, StationEntry>,
    counters: PerCpuArray<MapData, PortCounters>,
    pub(super) pins: Option<Pins>,
    /// The kernel empties a program array when nobody outside of programs refers to it.
    _from_router: ProgramArray<MapData>,
}

impl PortPath {
    /// Loads the programs, taking over pinned maps of the same layout if there are any.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, with the end of the verifier's log if it was the verifier.
    pub fn load(options: &LoadOptions) -> Result<Self, LoaderError> {
        let pins = options.pins.as_deref().map(Pins::open).transpose()?;
        let mut loader = EbpfLoader::new();
        for (map, entries) in connections::sizes(options.connections) {
            loader.map_max_entries(map, entries);
        }
        if let Some(pins) = &pins {
            for name in PINNED_MAPS {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead-port"));
        let mut ebpf = loader.load(object).map_err(LoaderError::LoadObject)?;
        let entries = PortHook::ALL.map(PortHook::program);
        for name in entries.into_iter().chain([FROM_ROUTER]) {
            let program: &mut SchedClassifier = program_mut(&mut ebpf, name)?;
            program.load().map_err(|s| LoaderError::program(name, s))?;
        }
        let from_router = install_from_router(&mut ebpf)?;
        let templates = Templates::read(object)?;
        let publisher = Publisher::new(&mut ebpf, templates, Sharing::Ports, pins.as_ref())?;
        Ok(Self {
            publisher,
            ports: take_map(&mut ebpf, "PORTS")?
                .try_into()
                .map_err(|s| LoaderError::map("PORTS", s))?,
            stations: take_map(&mut ebpf, "STATIONS")?
                .try_into()
                .map_err(|s| LoaderError::map("STATIONS", s))?,
            counters: take_map(&mut ebpf, "PORT_COUNTERS")?
                .try_into()
                .map_err(|s| LoaderError::map("PORT_COUNTERS", s))?,
            ebpf,
            pins,
            _from_router: from_router,
        })
    }

    /// Publishes the tables as generation `number`; `trunk` is the router's, of which only the hardware address counts.
    /// Packets see all of it or none.
    ///
    /// # Errors
    ///
    /// The kernel's refusal to make or fill a map, for example for want of memory.
    pub fn publish(
        &mut self,
        tables: &Tables,
        trunk: &Trunk,
        number: u32,
    ) -> Result<Published, LoaderError> {
        self.publisher.publish(tables, trunk, number)
    }

    /// See [`super::Datapath::forget_tables`].
    pub fn forget_tables(&mut self) {
        self.publisher.forget_tables();
    }

    /// Returns the generation that packets are judged by; its number is 0 before the first.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.publisher.current
    }

    /// Returns the proof that some process has published a generation; `None` before the first.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn published(&mut self) -> Result<Option<Published>, LoaderError> {
        let number = self.publisher.enforced()?;
        Ok((number > 0).then_some(Published { number }))
    }

    /// See [`super::Datapath::age`].
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn age(&mut self, ticks: Option<u64>) -> Result<(), LoaderError> {
        self.publisher.age(ticks)
    }

    /// Makes the tables say what is plugged in, by difference. Who is not in `host` any more is unknown before anybody new
    /// is known, so that no hardware address is at two ports.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn set_host(&mut self, host: &Host) -> Result<(), LoaderError> {
        let promised = host.ports.values().map(|plug| plug.connections);
        let quotas = connections::port_quotas(promised.collect(), self.publisher.room());
        let ports: BTreeMap<u32, PortEntry> = host
            .ports
            .iter()
            .zip(quotas)
            .map(|((&ifindex, plug), quota)| (ifindex, plug.entry(quota)))
            .collect();
        let ends = host.ports.iter().map(|(&ifindex, plug)| {
            let at = StationEntry {
                ifindex,
                vlan_id: plug.vlan_id,
                _pad: 0,
            };
            (plug.mac, at)
        });
        let own = host.macs.iter().map(|&mac| (mac, StationEntry::default()));
        let stations: BTreeMap<[u8; 6], StationEntry> = ends.chain(own).collect();
        self.remove_gone(&ports, &stations)?;
        for (ifindex, entry) in ports {
            if !matches!(self.ports.get(&ifindex, 0), Ok(old) if old == entry) {
                let set = self.ports.insert(ifindex, entry, 0);
                set.map_err(|s| LoaderError::map("PORTS", s))?;
            }
        }
        for (mac, entry) in stations {
            let key = station_key(mac);
            if !matches!(self.stations.get(&key, 0), Ok(old) if old == entry) {
                let set = self.stations.insert(key, entry, 0);
                set.map_err(|s| LoaderError::map("STATIONS", s))?;
            }
        }
        Ok(())
    }

    fn remove_gone(
        &mut self,
        ports: &BTreeMap<u32, PortEntry>,
        stations: &BTreeMap<[u8; 6], StationEntry>,
    ) -> Result<(), LoaderError> {
        let wrap = |source| LoaderError::map("PORTS", source);
        let held: Result<Vec<_>, _> = self.ports.iter().collect();
        for (ifindex, entry) in held.map_err(wrap)? {
            // One that only has another quota stays known: it is written over in one step.
            let is_here = |new: &PortEntry| (new.mac, new.vlan_id) == (entry.mac, entry.vlan_id);
            if !ports.get(&ifindex).is_some_and(is_here) {
                self.ports.remove(&ifindex).map_err(wrap)?;
            }
        }
        let wrap = |source| LoaderError::map("STATIONS", source);
        let held: Result<Vec<_>, _> = self.stations.iter().collect();
        for (key, entry) in held.map_err(wrap)? {
            if stations.get(&key.mac.octets()) != Some(&entry) {
                self.stations.remove(&key).map_err(wrap)?;
            }
        }
        Ok(())
    }

    /// Returns the frames counted for one VLAN id (0: of no known segment), all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn counters(&self, vlan_id: u16) -> Result<PortCounters, LoaderError> {
        sum(&self.counters, vlan_id)
    }

    /// Runs one frame with this mark through the real program, as if at the interface with index 1, and as if it had come in by
    /// another one, or by none (0); returns the action and the mark that it has then. The tag, if any, is in the bytes (`BPF_PROG_TEST_RUN` has no other way).
    ///
    /// # Errors
    ///
    /// The kernel's refusal; a frame of 14 octets or less is refused with `EINVAL`.
    pub fn test_run(
        &self,
        hook: PortHook,
        frame: &[u8],
        (came_from, mark): (u32, u32),
    ) -> Result<(u32, u32), LoaderError> {
        /// Where `mark` is in `struct __sk_buff`.
        const MARK: std::ops::Range<usize> = 8..12;
        /// The same of `ingress_ifindex`.
        const CAME_FROM: std::ops::Range<usize> = 36..40;
        let (mut context, mut after) = ([0; 192], [0; 192]);
        context[MARK].copy_from_slice(&mark.to_ne_bytes());
        context[CAME_FROM].copy_from_slice(&came_from.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ctx_out: Some(&mut after),
            ..TestRunOptions::default()
        };
        let name = hook.program();
        let program: &SchedClassifier = program(&self.ebpf, name)?;
        let result = program.test_run(options);
        let result = result.map_err(|s| LoaderError::program(name, s))?;
        let [a, b, c, d] = [after[8], after[9], after[10], after[11]];
        Ok((result.return_value, u32::from_ne_bytes([a, b, c, d])))
    }
}

impl Pins {
    /// Are there maps of the ports of this version's layout?
    #[must_use]
    pub fn has_ports(&self) -> bool {
        self.map("PORTS").exists()
    }

    /// Reads what is plugged in, as the programs look it up; nothing if no programs of ports are there.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn plugged(&self) -> Result<Host, LoaderError> {
        if !self.has_ports() {
            return Ok(Host::default());
        }
        let wrap = |source| LoaderError::map("PORTS", source);
        let map = MapData::from_pin(self.map("PORTS")).map_err(wrap)?;
        let map: HashMap<MapData, u32, PortEntry> = Map::HashMap(map).try_into().map_err(wrap)?;
        let ports = map.iter().map(|entry| {
            let (ifindex, entry) = entry?;
            let plug = Plug {
                mac: entry.mac.octets(),
                vlan_id: entry.vlan_id,
                connections: entry.promised,
            };
            Ok((ifindex, plug))
        });
        let ports: Result<_, MapError> = ports.collect();
        let wrap = |source| LoaderError::map("STATIONS", source);
        let map = MapData::from_pin(self.map("STATIONS")).map_err(wrap)?;
        let map: HashMap<MapData, StationKey, StationEntry> =
            Map::HashMap(map).try_into().map_err(wrap)?;
        let own = map.iter().filter_map(|entry| match entry {
            Ok((key, entry)) => (entry.ifindex == 0).then(|| Ok(key.mac.octets())),
            Err(error) => Some(Err(error)),
        });
        let macs: Result<_, MapError> = own.collect();
        Ok(Host {
            ports: ports.map_err(|s| LoaderError::map("PORTS", s))?,
            macs: macs.map_err(wrap)?,
        })
    }

    /// Reads the frames counted at ports for each VLAN id (0: of no known segment), all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn port_counters(&self) -> Result<Vec<(u16, PortCounters)>, LoaderError> {
        let wrap = |source| LoaderError::map("PORT_COUNTERS", source);
        let map = MapData::from_pin(self.map("PORT_COUNTERS")).map_err(wrap)?;
        let map: PerCpuArray<MapData, PortCounters> =
            Map::PerCpuArray(map).try_into().map_err(wrap)?;
        let vlans = 0..u16::try_from(VLAN_IDS).unwrap_or(u16::MAX);
        vlans.map(|vlan| Ok((vlan, sum(&map, vlan)?))).collect()
    }
}

/// All CPUs together.
fn sum(
    counters: &PerCpuArray<MapData, PortCounters>,
    vlan_id: u16,
) -> Result<PortCounters, LoaderError> {
    let cpus = counters.get(&u32::from(vlan_id), 0);
    let cpus = cpus.map_err(|s| LoaderError::map("PORT_COUNTERS", s))?;
    let mut sum = PortCounters::default();
    for cpu in cpus.iter() {
        sum.add(cpu);
    }
    Ok(sum)
}

/// Puts the program behind the tail call in place.
fn install_from_router(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>, LoaderError> {
    const MAP: &str = "FROM_ROUTER";
    let wrap = |source| LoaderError::map(MAP, source);
    let map = take_map(ebpf, MAP)?;
    let mut map = ProgramArray::try_from(map).map_err(wrap)?;
    let program: &SchedClassifier = program(ebpf, FROM_ROUTER)?;
    let fd = program.fd();
    let fd = fd.map_err(|s| LoaderError::program(FROM_ROUTER, s))?;
    map.set(0, fd, 0).map_err(wrap)?;
    Ok(map)
}

impl Plug {
    fn entry(&self, connections: u32) -> PortEntry {
        PortEntry {
            mac: Mac::from_octets(self.mac),
            vlan_id: self.vlan_id,
            promised: self.connections,
            connections,
        }
    }
}

fn station_key(mac: [u8; 6]) -> StationKey {
    StationKey {
        mac: Mac::from_octets(mac),
        _pad: 0,
    }
}
