//! What is plugged in where: facts about a hypervisor's ports. They outlive generations, which say what of it may talk.

use core::mem::size_of;

use crate::abi::{Mac, OUTCOMES};

/// Who is behind an access port. Value of `PORTS`; the key is the interface index.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct PortEntry {
    /// Hardware address of its endpoint, as the hypervisor knows it.
    pub mac: Mac,
    /// VLAN id of the endpoint's segment, as the inventory says it. It counts only while the generation that packets
    /// are judged by has the endpoint there (`BOUND_MACS`).
    pub vlan_id: u16,
    /// Connections that the inventory promises it; 0: an equal share of what nobody was promised.
    pub promised: u32,
    /// Connections that are remembered for it.
    pub connections: u32,
}

const _: () = assert!(size_of::<PortEntry>() == 16);

/// Key of `STATIONS`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct StationKey {
    /// Hardware address.
    pub mac: Mac,
    /// Zero.
    pub _pad: u16,
}

const _: () = assert!(size_of::<StationKey>() == 8);

/// A hardware address that is on this host. Value of `STATIONS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct StationEntry {
    /// Interface index of its port; 0 for the host itself.
    pub ifindex: u32,
    /// VLAN id of its segment; 0 for the host itself.
    pub vlan_id: u16,
    /// Zero.
    pub _pad: u16,
}

const _: () = assert!(size_of::<StationEntry>() == 8);

/// The bits of a socket buffer's mark that are ours: the one that says "judged on this host", and the VLAN id of the
/// segment as which it was judged. The others are left as they are.
pub const MARK_MASK: u32 = 0x1fff_0000;

/// Returns the mark of a frame that was judged as one of a segment; `mark` is what it has already.
#[inline(always)]
#[must_use]
pub const fn judged_mark(mark: u32, vlan_id: u16) -> u32 {
    mark & !MARK_MASK | 0x1000_0000 | (vlan_id as u32 & 0xfff) << 16
}

/// Indexes of [`PortCounters::frames`].
pub mod hook {
    /// Frames that a port's endpoint sent.
    pub const FROM_TENANT: usize = 0;
    /// Frames on their way to a port's endpoint.
    pub const TO_TENANT: usize = 1;
    /// Frames that came in over the uplink.
    pub const FROM_UPLINK: usize = 2;
    /// Frames that leave over the uplink.
    pub const TO_UPLINK: usize = 3;
}

/// Frames by hook and outcome. `PORT_COUNTERS`, per CPU, indexed by VLAN id (0: of no known segment).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct PortCounters {
    /// `[hook][outcome]`, frames.
    pub frames: [[u64; OUTCOMES]; 4],
}

const _: () = assert!(size_of::<PortCounters>() == 2048);

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            frames: [[0; OUTCOMES]; 4],
        }
    }
}

impl PortCounters {
    /// Adds another CPU's counts.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.frames.iter_mut().flatten();
        for (sum, count) in pairs.zip(other.frames.iter().flatten()) {
            *sum = sum.wrapping_add(*count);
        }
    }
}
