//! The maps of the trunk's programs alone.

use aya_ebpf::btf_maps::{PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use dataplane_common::abi::{SegmentCounters, VLAN_IDS};

/// The program behind `xdp_from_trunk`, which judges what the fast path does not know.
#[btf_map]
pub(crate) static XDP_JUDGE: ProgramArray<1> = ProgramArray::new();
/// The program behind `tc_from_trunk`. (One array cannot hold programs of two types.)
#[btf_map]
pub(crate) static TC_JUDGE: ProgramArray<1> = ProgramArray::new();

/// Frames by segment, direction and outcome.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<SegmentCounters, { VLAN_IDS as usize }> =
    PerCpuArray::new();
