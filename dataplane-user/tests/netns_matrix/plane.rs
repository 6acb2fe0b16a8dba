//! The real programs on a real veth, and the counters that they move.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData, PerCpuArray};
use dataplane_common::abi::{SegmentCounters, VLAN_IDS};
use dataplane_common::reason::outcome_name;
use dataplane_user::compile::{RouterFacts, compile};
use dataplane_user::loader::{Attached, Datapath, LoadOptions, Mode, Pins, Trunk, WantedMode};
use netmodel::Model;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::netns::NetNs;
use testkit::program::place;
use testkit::raw::RawSocket;
use testkit::wait::PATIENCE;
use testkit::xdp::XdpPass;

use crate::place::ROUTER_MAC;

/// The trunk, in the router's namespace.
pub(crate) const TRUNK: &str = "eth0";

/// (VLAN id, direction, outcome) → frames.
pub(crate) type Counts = BTreeMap<(u16, usize, u32), u64>;

/// A router with a trunk, and the far end of the trunk. Nothing but the test speaks.
pub(crate) struct Line {
    // In this order: what holds a link goes before the namespace that the link is in.
    fs: BpfFs,
    state: TempDir,
    _wakes_far_end: XdpPass,
    _far: NetNs,
    pub(crate) router: NetNs,
    /// The far end of the trunk.
    pub(crate) wire: RawSocket,
}

impl Line {
    pub(crate) fn build() -> Result<Self> {
        let (router, far) = (NetNs::new("router")?, NetNs::new("far")?);
        router.add_veth(TRUNK, &far, "trunk")?;
        for (ns, link) in [(&router, TRUNK), (&far, "trunk")] {
            ns.sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "1")?;
        }
        router.set_mac(TRUNK, ROUTER_MAC)?;
        router.set_rx_vlan_offload(TRUNK, false)?;
        router.set_up(TRUNK)?;
        far.set_up("trunk")?;
        Ok(Self {
            fs: BpfFs::mount()?,
            state: tempfile::tempdir()?,
            _wakes_far_end: far.attach_xdp_pass("trunk")?,
            wire: RawSocket::open(&far, "trunk")?,
            _far: far,
            router,
        })
    }

    /// One of bulkhead's commands, for this line.
    pub(crate) fn bulkhead(&self, verb: &str) -> Command {
        let config = self.state.path().join("bulkhead.toml");
        // No VLAN devices: not every kernel that these tests run on has them.
        std::fs::write(&config, "[network]\nmanage = []\n").expect("a file can be written there");
        let command = self.router.command(env!("CARGO_BIN_EXE_bulkhead"));
        let mut command = place(command, &[verb], &self.pins(), self.state.path());
        command.args(["--interface", TRUNK]);
        command
    }

    /// Where maps and link are pinned.
    pub(crate) fn pins(&self) -> PathBuf {
        self.fs.path().join("bulkhead")
    }
}

/// Loads the programs, or adopts what is pinned, and attaches them to the trunk of this namespace.
pub(crate) fn enforce(model: &Model, mode: Mode, pins: PathBuf) -> Result<(Datapath, Attached)> {
    let facts = RouterFacts::from_model(model);
    let tables = compile(model, &facts).context("compiling the inventory")?;
    let trunk = Trunk {
        ifindex: nix::net::if_::if_nametoindex(TRUNK)?,
        mac: ROUTER_MAC,
    };
    let options = LoadOptions {
        pins: Some(pins),
        connections: 65_536,
        hook: Some(mode.hook()),
    };
    let mut datapath = Datapath::load(&options)?;
    let published = datapath.publish(&tables, &trunk, datapath.next_number())?;
    let attached = datapath.attach(TRUNK, WantedMode::Exactly(mode), false, published)?;
    Ok((datapath, attached))
}

/// The real programs on a line, and the counters that they move.
pub(crate) struct Plane {
    _datapath: Datapath,
    counters: PinnedCounters,
    line: Line,
    /// What the router's network stack gets. `None` for TC, which packet sockets come before.
    pub(crate) stack: Option<RawSocket>,
}

type PinnedCounters = PerCpuArray<MapData, SegmentCounters>;

/// Opens the counters that are pinned somewhere.
pub(crate) fn pinned_counters(pins: &Path) -> Result<PinnedCounters> {
    Ok(Map::PerCpuArray(MapData::from_pin(Pins::at(pins).map("COUNTERS"))?).try_into()?)
}

impl Plane {
    /// Builds it for an inventory.
    pub(crate) fn build(model: &Model, mode: Mode) -> Result<Self> {
        let line = Line::build()?;
        let stack = match mode {
            Mode::XdpNative | Mode::XdpGeneric => Some(RawSocket::open(&line.router, TRUNK)?),
            Mode::Tcx | Mode::Clsact => None,
        };
        let enforced = line.router.run(|| enforce(model, mode, line.pins()));
        let (datapath, _) = enforced.with_context(|| format!("attaching as {mode}"))?;
        Ok(Self {
            _datapath: datapath,
            counters: pinned_counters(&line.pins())?,
            line,
            stack,
        })
    }

    /// The far end of the trunk.
    pub(crate) fn wire(&self) -> &RawSocket {
        &self.line.wire
    }

    /// Returns what some VLAN ids have counted.
    pub(crate) fn counts(&self, vlans: impl IntoIterator<Item = u16>) -> Result<Counts> {
        counts(&self.counters, vlans)
    }

    /// Returns what every VLAN id has counted.
    pub(crate) fn all_counts(&self) -> Result<Counts> {
        self.counts((0..VLAN_IDS).map(|vlan| u16::try_from(vlan).expect("below 4096")))
    }

    /// Waits until frames as many as expected were counted beyond `before`, then tells which.
    pub(crate) fn moved(&self, vlans: &[u16], before: &Counts, frames: u64) -> Result<Counts> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.counts(vlans.iter().copied())?;
            let moved = difference(&now, before);
            if moved.values().sum::<u64>() >= frames {
                return Ok(moved);
            }
            if Instant::now() > deadline {
                bail!("only {} after {} s", shown(&moved), PATIENCE.as_secs());
            }
            std::thread::yield_now();
        }
    }
}

/// Returns what some VLAN ids have counted.
pub(crate) fn counts(
    counters: &PinnedCounters,
    vlans: impl IntoIterator<Item = u16>,
) -> Result<Counts> {
    let mut counts = Counts::new();
    for vlan in vlans {
        for cpu in counters.get(&u32::from(vlan), 0)?.iter() {
            for (direction, outcomes) in cpu.packets.iter().enumerate() {
                for (outcome, frames) in (0..).zip(outcomes).filter(|(_, frames)| **frames > 0) {
                    *counts.entry((vlan, direction, outcome)).or_default() += frames;
                }
            }
        }
    }
    Ok(counts)
}

/// Returns what `now` has more than `before`.
pub(crate) fn difference(now: &Counts, before: &Counts) -> Counts {
    let grown = now.iter().filter_map(|(key, count)| {
        let more = count - before.get(key).copied().unwrap_or(0);
        (more > 0).then_some((*key, more))
    });
    grown.collect()
}

/// Returns counts in words.
pub(crate) fn shown(counts: &Counts) -> String {
    let words = counts.iter().map(|((vlan, direction, outcome), frames)| {
        let direction = ["from", "to"].get(*direction).copied().unwrap_or("?");
        let name = outcome_name(*outcome).unwrap_or("unknown");
        format!("{frames} {name} {direction} VLAN {vlan}")
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() {
        "nothing was counted".to_owned()
    } else {
        words.join(", ")
    }
}
