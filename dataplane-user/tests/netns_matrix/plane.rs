//! The real programs on a real veth, and the counters that they move.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData, PerCpuArray};
use dataplane_common::abi::{SegmentCounters, VLAN_IDS};
use dataplane_common::reason::outcome_name;
use dataplane_user::compile::{RouterFacts, compile};
use dataplane_user::loader::{Datapath, LoadOptions, Mode, Trunk, WantedMode};
use netmodel::Model;
use testkit::bpffs::BpfFs;
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::xdp::XdpPass;

use crate::place::ROUTER_MAC;

const TRUNK: &str = "eth0";
/// How long a frame may take to be counted.
const PATIENCE: Duration = Duration::from_secs(10);

/// (VLAN id, direction, outcome) → frames.
pub(crate) type Counts = BTreeMap<(u16, usize, u32), u64>;

/// A router with a trunk, enforced; and the far end of the trunk.
pub(crate) struct Plane {
    // In this order: links go before the namespace that they are in.
    _datapath: Datapath,
    counters: PerCpuArray<MapData, SegmentCounters>,
    _fs: BpfFs,
    _router: NetNs,
    _wakes_far_end: XdpPass,
    _far: NetNs,
    /// The far end of the trunk.
    pub(crate) wire: RawSocket,
    /// What the router's network stack gets. `None` for TC, which packet sockets come before.
    pub(crate) stack: Option<RawSocket>,
}

impl Plane {
    /// Builds it for an inventory.
    pub(crate) fn build(model: &Model, mode: Mode) -> Result<Self> {
        let (router, far) = (NetNs::new("router")?, NetNs::new("far")?);
        router.add_veth(TRUNK, &far, "trunk")?;
        for (ns, link) in [(&router, TRUNK), (&far, "trunk")] {
            // Nothing but the test may speak.
            ns.sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "1")?;
        }
        router.set_mac(TRUNK, ROUTER_MAC)?;
        router.set_rx_vlan_offload(TRUNK, false)?;
        router.set_up(TRUNK)?;
        far.set_up("trunk")?;
        let wakes_far_end = far.attach_xdp_pass("trunk")?;
        let wire = RawSocket::open(&far, "trunk")?;
        let stack = match mode {
            Mode::XdpNative | Mode::XdpGeneric => Some(RawSocket::open(&router, TRUNK)?),
            Mode::Tcx | Mode::Clsact => None,
        };
        let fs = BpfFs::mount()?;
        let pins = fs.path().join("bulkhead");
        let facts = RouterFacts::from_model(model);
        let tables = compile(model, &facts).context("compiling the inventory")?;
        let trunk = Trunk {
            ifindex: router.ifindex(TRUNK)?,
            mac: ROUTER_MAC,
        };
        let datapath = router.run(|| {
            let options = LoadOptions {
                pins: Some(pins.clone()),
                connections: 65_536,
            };
            let mut datapath = Datapath::load(&options)?;
            let published = datapath.publish(&tables, &trunk)?;
            datapath.attach(TRUNK, WantedMode::Exactly(mode), false, published)?;
            anyhow::Ok(datapath)
        });
        let datapath = datapath.with_context(|| format!("attaching as {mode}"))?;
        let counters = Map::PerCpuArray(MapData::from_pin(pins.join("COUNTERS"))?).try_into()?;
        Ok(Self {
            _datapath: datapath,
            counters,
            _fs: fs,
            _router: router,
            _wakes_far_end: wakes_far_end,
            _far: far,
            wire,
            stack,
        })
    }

    /// Returns what some VLAN ids have counted.
    pub(crate) fn counts(&self, vlans: impl IntoIterator<Item = u16>) -> Result<Counts> {
        let mut counts = Counts::new();
        for vlan in vlans {
            for cpu in self.counters.get(&u32::from(vlan), 0)?.iter() {
                for (direction, outcomes) in cpu.packets.iter().enumerate() {
                    for (outcome, frames) in (0..).zip(outcomes).filter(|(_, frames)| **frames > 0)
                    {
                        *counts.entry((vlan, direction, outcome)).or_default() += frames;
                    }
                }
            }
        }
        Ok(counts)
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
