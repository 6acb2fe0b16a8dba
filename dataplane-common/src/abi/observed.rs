//! What the programs tell: counters and events.

use core::mem::size_of;

/// Number of outcomes that are counted: see [`crate::reason`].
pub const OUTCOMES: usize = 64;

/// Indexes of [`SegmentCounters::packets`], seen from the segment's side.
pub mod direction {
    /// Frames that the segment sent.
    pub const FROM_TENANT: usize = 0;
    /// Frames meant for the segment.
    pub const TO_TENANT: usize = 1;
}

/// Frames by direction and outcome. `COUNTERS`, per CPU, indexed by VLAN id (0: no valid tag).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct SegmentCounters {
    /// `[direction][outcome]`, frames.
    pub packets: [[u64; OUTCOMES]; 2],
}

const _: () = assert!(size_of::<SegmentCounters>() == 1024);

impl Default for SegmentCounters {
    fn default() -> Self {
        Self {
            packets: [[0; OUTCOMES]; 2],
        }
    }
}

impl SegmentCounters {
    /// Adds another CPU's counts.
    pub fn add(&mut self, other: &Self) {
        let pairs = self
            .packets
            .iter_mut()
            .flatten()
            .zip(other.packets.iter().flatten());
        for (sum, count) in pairs {
            *sum = sum.wrapping_add(*count);
        }
    }
}

/// How many octets of a frame an [`Event`] carries.
pub const EVENT_BYTES: usize = 64;

/// One verdict worth telling. Record of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Outcome number: see [`crate::reason`].
    pub outcome: u32,
    /// Deciding rule, 0 if none.
    pub rule_id: u32,
    /// Generation that judged.
    pub generation: u32,
    /// Length of the frame on the wire, octets, with the tag where it was in the bytes.
    pub length: u32,
    /// VLAN id of the source segment; 0 if there was no valid tag.
    pub vlan_id: u16,
    /// Valid octets of `bytes`.
    pub captured: u16,
    /// Zero.
    pub _pad: u32,
    /// The frame's first octets (the tag is not among them if the NIC or the kernel took it out).
    pub bytes: [u8; EVENT_BYTES],
}

const _: () = assert!(size_of::<Event>() == 96);
