//! Brings the eBPF programs into the kernel, fills their maps, attaches them to the trunk.
//!
//! # Guarantees
//!
//! * **Maps before attach.** [`Datapath::attach`] takes the proof that a generation was published.
//! * **One step.** [`Datapath::publish`] fills the slot that no packet looks at and then swaps one pointer.
//! * **Fail static.** With a pin folder, maps and the link outlive the process; a clsact filter does by itself.
//!   [`Pins::detach`] alone takes enforcement away.
//! * **Adopt without a gap.** [`Datapath::load`] on a pin folder that has maps takes them over (connections and
//!   counters go on), and [`Datapath::attach`] replaces the program in the link in one step; also if the maps were
//!   of another layout, and had to be made anew.

mod attach;
mod batch;
mod connections;
mod error;
mod hold;
mod outer;
mod pins;
mod port_attach;
mod ports;
mod publish;
mod slot;
mod sweep;
mod templates;

use std::path::PathBuf;

use aya::maps::{MapData, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, TestRun as _};
use dataplane_common::abi::{SegmentCounters, VLAN_IDS};

pub(crate) use self::attach::is_our_filter;
pub use self::attach::{Attached, Mode, WantedMode};
pub use self::connections::Sharing;
pub use self::error::LoaderError;
pub use self::hold::{Hold, HoldCounts};
pub use self::pins::{Pins, is_bpf_fs};
pub use self::port_attach::Interface;
pub use self::ports::{Host, Plug, PortHook, PortPath};
pub use self::publish::Published;
use self::publish::Publisher;
pub use self::slot::TableDifference;
pub use self::sweep::Swept;
use self::templates::Templates;
pub use crate::compile::Trunk;

/// Maps that outlive the process.
const PINNED_MAPS: [&str; 16] = [
    "BOUND_MACS",
    "COUNTERS",
    "ENDPOINTS",
    "EVENTS",
    "FLOWS",
    "FRAGMENTS",
    "GENERATION",
    "HOLDERS",
    "PAIRS",
    "PREFIXES",
    "RULES",
    "SEGMENTS",
    "SERVICES",
    "TC_JUDGE",
    "TICKETS",
    "XDP_JUDGE",
];

/// Connections that `FLOWS` holds unless told otherwise: up to 80 MiB, with their tickets.
pub const DEFAULT_CONNECTIONS: u32 = netmodel::CONNECTIONS;

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Folder on a BPF file system for maps and link; `None` keeps everything in this process.
    pub pins: Option<PathBuf>,
    /// Connections that are remembered at once. It counts only when the maps are made, not when they are adopted.
    pub connections: u32,
    /// Load only the programs of this hook; [`Datapath::attach`] loads the others if it comes to them. The verifier needs
    /// most of the time that loading takes. `None`: those of both.
    pub hook: Option<Hook>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            pins: None,
            connections: DEFAULT_CONNECTIONS,
            hook: None,
        }
    }
}

/// The programs in the kernel and their maps.
pub struct Datapath {
    ebpf: Ebpf,
    publisher: Publisher,
    counters: PerCpuArray<MapData, SegmentCounters>,
    pins: Option<Pins>,
    adopted: bool,
}

/// Which hook's programs a frame is run through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// `xdp_from_trunk`.
    Xdp,
    /// `tc_from_trunk`.
    Tc,
}

impl Datapath {
    /// Loads the programs, taking over pinned maps of the same layout if there are any.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, with the end of the verifier's log if it was the verifier.
    pub fn load(options: &LoadOptions) -> Result<Self, LoaderError> {
        let pins = options.pins.as_deref().map(Pins::open).transpose()?;
        let adopted = pins.as_ref().is_some_and(Pins::has_maps);
        let mut loader = EbpfLoader::new();
        for (map, entries) in connections::sizes(options.connections) {
            loader.map_max_entries(map, entries);
        }
        if let Some(pins) = &pins {
            for name in PINNED_MAPS {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead-ebpf"));
        let mut ebpf = loader.load(object).map_err(LoaderError::LoadObject)?;
        let templates = Templates::read(object)?;
        let mut publisher = Publisher::new(&mut ebpf, templates, Sharing::Segments, pins.as_ref())?;
        let hooks = options
            .hook
            .map_or(vec![Hook::Xdp, Hook::Tc], |hook| vec![hook]);
        for hook in hooks {
            load_hook(&mut ebpf, &mut publisher, hook)?;
        }
        let counters = take_map(&mut ebpf, "COUNTERS")?;
        let counters = counters
            .try_into()
            .map_err(|s| LoaderError::map("COUNTERS", s))?;
        Ok(Self {
            ebpf,
            publisher,
            counters,
            pins,
            adopted,
        })
    }

    /// Were pinned maps taken over?
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Returns the program at a hook, for benchmarks that call it their own way.
    ///
    /// # Errors
    ///
    /// The operating system's refusal of another file descriptor.
    pub fn hook_fd(&self, hook: Hook) -> Result<ProgramFd, LoaderError> {
        program_fd(&self.ebpf, hook.program())
    }

    /// Takes what the programs log.
    ///
    /// # Errors
    ///
    /// The programs were built without their feature `debug-log`.
    #[cfg(feature = "debug-log")]
    pub fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, LoaderError> {
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(LoaderError::DebugLog)
    }

    /// Runs one frame through the real program and returns the action (`BPF_PROG_TEST_RUN`). The frame is
    /// replaced by what the program made of it. For [`Hook::Tc`] the tag must not be in the bytes: the kernel has no
    /// way to give a test frame an offloaded tag, so only the fast parts of the policy can be asked.
    ///
    /// # Errors
    ///
    /// The kernel's refusal; a frame below 14 octets is refused with `EINVAL`.
    pub fn test_run(&self, hook: Hook, frame: &[u8], out: &mut [u8]) -> Result<u32, LoaderError> {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ..TestRunOptions::default()
        };
        let name = hook.program();
        let result = match hook {
            Hook::Xdp => {
                let program: &Xdp = program(&self.ebpf, name)?;
                program.test_run(options)
            }
            Hook::Tc => {
                let program: &SchedClassifier = program(&self.ebpf, name)?;
                program.test_run(options)
            }
        };
        let result = result.map_err(|s| LoaderError::program(name, s))?;
        Ok(result.return_value)
    }

    /// Lets the live connections and fragments grow older by so many ticks, or forgets all with `None`. For
    /// tests: the kernel's clock cannot be set.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn age(&mut self, ticks: Option<u64>) -> Result<(), LoaderError> {
        self.publisher.age(ticks)
    }

    /// Returns the frames counted for one VLAN id, all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn segment_counters(&self, vlan_id: u16) -> Result<SegmentCounters, LoaderError> {
        sum(&self.counters, u32::from(vlan_id))
    }

    /// Returns the frames counted for every VLAN id, all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's refusal to read `COUNTERS`.
    pub fn counters(&self) -> Result<Counters, LoaderError> {
        Counters::read(&self.counters)
    }
}

impl Hook {
    /// Returns the name of the program at the hook.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Xdp => "xdp_from_trunk",
            Self::Tc => "tc_from_trunk",
        }
    }

    /// Returns the name of the program behind it.
    fn judge(self) -> &'static str {
        match self {
            Self::Xdp => "xdp_judge",
            Self::Tc => "tc_judge",
        }
    }

    /// Returns the name of the array through which the one calls the other.
    fn judges(self) -> &'static str {
        match self {
            Self::Xdp => "XDP_JUDGE",
            Self::Tc => "TC_JUDGE",
        }
    }

    /// Returns the hook that [`Datapath::attach`] tries first.
    #[must_use]
    pub fn first(pins: &Pins, wanted: WantedMode, rx_vlan_offload: bool) -> Self {
        match (pins.mode(), wanted) {
            (Some(mode), _) | (None, WantedMode::Exactly(mode)) => mode.hook(),
            (None, WantedMode::Auto) if rx_vlan_offload => Self::Tc,
            (None, WantedMode::Auto) => Self::Xdp,
        }
    }
}

/// Frames by VLAN id, direction and outcome.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counters(Vec<SegmentCounters>);

impl Counters {
    /// Reads them out of the kernel.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn read(map: &PerCpuArray<MapData, SegmentCounters>) -> Result<Self, LoaderError> {
        let mut sums = Vec::with_capacity(VLAN_IDS as usize);
        for vlan_id in 0..VLAN_IDS {
            sums.push(sum(map, vlan_id)?);
        }
        Ok(Self(sums))
    }

    /// Returns the frames of one VLAN id (0: without a valid tag), direction and outcome.
    #[must_use]
    pub fn get(&self, vlan_id: u16, direction: usize, outcome: u32) -> u64 {
        self.0
            .get(usize::from(vlan_id))
            .and_then(|segment| segment.packets.get(direction))
            .and_then(|outcomes| outcomes.get(outcome as usize))
            .copied()
            .unwrap_or(0)
    }

    /// Returns every count that is not zero: (VLAN id, direction, outcome, frames).
    pub fn iter(&self) -> impl Iterator<Item = (u16, usize, u32, u64)> {
        (0..).zip(&self.0).flat_map(|(vlan_id, segment)| {
            segment
                .packets
                .iter()
                .enumerate()
                .flat_map(move |(direction, outcomes)| {
                    (0..)
                        .zip(outcomes)
                        .filter(|&(_, &frames)| frames != 0)
                        .map(move |(outcome, &frames)| (vlan_id, direction, outcome, frames))
                })
        })
    }
}

fn sum(
    map: &PerCpuArray<MapData, SegmentCounters>,
    vlan_id: u32,
) -> Result<SegmentCounters, LoaderError> {
    let cpus = map
        .get(&vlan_id, 0)
        .map_err(|s| LoaderError::map("COUNTERS", s))?;
    let mut sum = SegmentCounters::default();
    for cpu in cpus.iter() {
        sum.add(cpu);
    }
    Ok(sum)
}

/// Loads the programs of a hook, unless they are, and puts the one behind the tail call in place.
fn load_hook(ebpf: &mut Ebpf, publisher: &mut Publisher, hook: Hook) -> Result<(), LoaderError> {
    // The array is taken last: what failed half-way is no success when it is tried again for another mode.
    if ebpf.map(hook.judges()).is_none() {
        return Ok(());
    }
    for name in [hook.program(), hook.judge()] {
        let wrap = |source| LoaderError::program(name, source);
        match hook {
            Hook::Xdp => program_mut::<Xdp>(ebpf, name)?.load().map_err(wrap)?,
            Hook::Tc => program_mut::<SchedClassifier>(ebpf, name)?
                .load()
                .map_err(wrap)?,
        }
    }
    let (array, judge) = (hook.judges(), program_fd(ebpf, hook.judge())?);
    let wrap = |source| LoaderError::map(array, source);
    let judges = ebpf.map_mut(array).ok_or(LoaderError::MissingMap(array))?;
    let mut judges = ProgramArray::try_from(judges).map_err(wrap)?;
    judges.set(0, &judge, 0).map_err(wrap)?;
    let judges = ProgramArray::try_from(take_map(ebpf, array)?).map_err(wrap)?;
    // The kernel empties a program array when nobody outside of programs refers to it: without pins, it must stay open.
    publisher.keep(judges);
    Ok(())
}

fn program_fd(ebpf: &Ebpf, name: &'static str) -> Result<ProgramFd, LoaderError> {
    let program = ebpf
        .program(name)
        .ok_or(LoaderError::MissingProgram(name))?;
    let fd = program.fd().map_err(|s| LoaderError::program(name, s))?;
    fd.try_clone().map_err(|source| LoaderError::CloneFd {
        program: name,
        source,
    })
}

fn program<'a, P>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a P, LoaderError>
where
    &'a P: TryFrom<&'a aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf
        .program(name)
        .ok_or(LoaderError::MissingProgram(name))?;
    program
        .try_into()
        .map_err(|s| LoaderError::program(name, s))
}

fn program_mut<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoaderError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or(LoaderError::MissingProgram(name))?;
    program
        .try_into()
        .map_err(|s| LoaderError::program(name, s))
}

fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoaderError> {
    ebpf.take_map(name).ok_or(LoaderError::MissingMap(name))
}
