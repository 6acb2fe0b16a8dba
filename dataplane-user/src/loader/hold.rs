//! The hold: programs that drop everything on the trunk but what the operator needs, until the first generation is in.
//!
//! # Guarantees
//!
//! * **Alone.** Its object, maps and verdict share nothing with a generation, so that it loads when those do not.
//! * **Filled before attached.** And until then, its map lets nothing pass.
//! * **One attachment.** It is pinned as a generation's is, so either replaces the other in one step.

use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{ProgramInfo, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use dataplane_common::hold::{HOLD_OUTCOMES, HoldDrop, Needs};

use super::attach::Programs;
use super::{Attached, LoaderError, Pins, WantedMode, program_mut, take_map};

const XDP: &str = "xdp_hold";
const TC: &str = "tc_hold";
const NEEDS: &str = "HOLD_NEEDS";
const COUNTERS: &str = "HOLD_COUNTERS";

/// The programs of the hold in the kernel.
pub struct Hold {
    ebpf: Ebpf,
    pins: Pins,
}

impl Hold {
    /// Loads the programs and tells them what may pass. Nothing is attached yet. `folder` is the pin folder.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn load(folder: &std::path::Path, needs: &Needs) -> Result<Self, LoaderError> {
        let pins = Pins::open_hold(folder)?;
        let mut loader = EbpfLoader::new();
        for name in [NEEDS, COUNTERS] {
            loader.map_pin_path(name, pins.hold_map(name));
        }
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead-hold"));
        let mut ebpf = loader.load(object).map_err(LoaderError::LoadObject)?;
        let xdp: &mut Xdp = program_mut(&mut ebpf, XDP)?;
        xdp.load().map_err(|s| LoaderError::program(XDP, s))?;
        let tc: &mut SchedClassifier = program_mut(&mut ebpf, TC)?;
        tc.load().map_err(|s| LoaderError::program(TC, s))?;
        pin_programs(&mut ebpf, &pins)?;
        let map = take_map(&mut ebpf, NEEDS)?;
        let mut map = Array::<_, Needs>::try_from(map).map_err(|s| LoaderError::map(NEEDS, s))?;
        map.set(0, needs, 0)
            .map_err(|s| LoaderError::map(NEEDS, s))?;
        Ok(Self { ebpf, pins })
    }

    /// Attaches it to the trunk, or puts it into the attachment that is pinned, in one step.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn attach(
        &mut self,
        interface: &str,
        wanted: WantedMode,
        rx_vlan_offload: bool,
    ) -> Result<Attached, LoaderError> {
        let mut programs = Programs {
            ebpf: &mut self.ebpf,
            xdp: XDP,
            tc: TC,
            load: &mut |_, _| Ok(()),
            pins: Some(&self.pins),
        };
        programs.attach(interface, wanted, rx_vlan_offload)
    }
}

/// Whether an attached program is the hold is told by its number: names need CAP_SYS_ADMIN.
fn pin_programs(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), LoaderError> {
    for name in [XDP, TC] {
        let path = pins.hold_map(name);
        let program = ebpf.program_mut(name);
        let program = program.ok_or(LoaderError::MissingProgram(name))?;
        program
            .pin(&path)
            .map_err(|source| LoaderError::Pin { path, source })?;
    }
    Ok(())
}

impl Pins {
    /// Is the program with this number one of the hold's?
    #[must_use]
    pub fn is_hold(&self, program: u32) -> bool {
        [XDP, TC].into_iter().any(|name| {
            ProgramInfo::from_pin(self.hold_map(name)).is_ok_and(|info| info.id() == program)
        })
    }
}

/// Frames that met the hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldCounts([u64; HOLD_OUTCOMES as usize]);

impl HoldCounts {
    /// Reads what is pinned, all CPUs together.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn read(pins: &Pins) -> Result<Self, LoaderError> {
        let wrap = |source| LoaderError::map(COUNTERS, source);
        let map = MapData::from_pin(pins.hold_map(COUNTERS)).map_err(wrap)?;
        let map = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(map)).map_err(wrap)?;
        let mut sums = [0; HOLD_OUTCOMES as usize];
        for (outcome, sum) in (0..).zip(&mut sums) {
            *sum = map.get(&outcome, 0).map_err(wrap)?.iter().sum();
        }
        Ok(Self(sums))
    }

    /// Returns how many passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.0.first().copied().unwrap_or(0)
    }

    /// Returns how many were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: HoldDrop) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
}
