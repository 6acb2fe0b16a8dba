//! Verdicts as they are made: the ring buffer that the programs write.

use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use dataplane_common::abi::EVENT_BYTES;
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;

use super::{Place, RunError};
use crate::loader::{LoaderError, Pins};

/// A verdict that the programs told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Outcome number.
    pub outcome: u32,
    /// Deciding rule, 0 if none.
    pub rule_id: u32,
    /// Generation that judged.
    pub generation: u32,
    /// Octets on the wire.
    pub length: u32,
    /// VLAN id of the source segment; 0 without a valid tag.
    pub vlan_id: u16,
    /// First octets of the frame.
    pub bytes: Vec<u8>,
}

impl Told {
    /// Reads a record: a `dataplane_common::abi::Event`. `None` if it is too short for one.
    #[must_use]
    pub fn parse(record: &[u8]) -> Option<Self> {
        let captured = u16::from_ne_bytes(octets(record, 26)?);
        let bytes = record.get(32..32 + EVENT_BYTES)?;
        let captured = usize::from(captured).min(EVENT_BYTES);
        Some(Self {
            time: u64::from_ne_bytes(octets(record, 0)?),
            outcome: u32::from_ne_bytes(octets(record, 8)?),
            rule_id: u32::from_ne_bytes(octets(record, 12)?),
            generation: u32::from_ne_bytes(octets(record, 16)?),
            length: u32::from_ne_bytes(octets(record, 20)?),
            vlan_id: u16::from_ne_bytes(octets(record, 24)?),
            bytes: bytes.get(..captured)?.to_vec(),
        })
    }
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Hands every verdict made from now on to `tell` until it returns `false`. Only one reader gets each verdict;
/// those from the time before, which nobody read, are thrown away.
///
/// # Errors
///
/// If nothing is pinned, or the kernel refuses to hand over the ring buffer.
pub async fn observe(
    place: &Place,
    mut tell: impl FnMut(Told) -> Result<bool, RunError>,
) -> Result<(), RunError> {
    let pins = Pins::at(&place.pins);
    pins.generation()?;
    let start = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let start = start.unwrap_or_default().as_nanos();
    let refused = |source| LoaderError::Map {
        map: "EVENTS",
        source,
    };
    let map = MapData::from_pin(pins.map("EVENTS")).map_err(refused)?;
    let ring = RingBuf::try_from(Map::RingBuf(map)).map_err(refused)?;
    // SAFETY: the ring buffer owns its map's descriptor, which is the same until the ring buffer is dropped.
    let ring = unsafe { AsyncFd::register(ring) };
    let mut ring = ring.map_err(|error| RunError::io("wait for events")(error.into()))?;
    loop {
        let mut guard = ring
            .readable_mut()
            .await
            .map_err(RunError::io("wait for events"))?;
        while let Some(record) = guard.get_inner_mut().next() {
            if let Some(told) = Told::parse(&record)
                && u128::from(told.time) >= start
                && !tell(told)?
            {
                return Ok(());
            }
        }
        guard.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use dataplane_common::abi::Event;

    use super::*;

    #[test]
    fn offsets_are_those_of_the_abi() {
        use std::mem::offset_of;
        let offsets = [
            offset_of!(Event, time),
            offset_of!(Event, outcome),
            offset_of!(Event, rule_id),
            offset_of!(Event, generation),
            offset_of!(Event, length),
            offset_of!(Event, vlan_id),
            offset_of!(Event, captured),
            offset_of!(Event, bytes),
        ];
        assert_eq!(offsets, [0, 8, 12, 16, 20, 24, 26, 32]);
    }

    #[test]
    fn record_with_a_captured_length_beyond_its_end_is_cut() {
        let mut record = vec![0; size_of::<Event>()];
        record[26..28].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(Told::parse(&record).unwrap().bytes.len(), EVENT_BYTES);
    }

    #[test]
    fn short_record_is_none() {
        let record = vec![0; size_of::<Event>() - 1];
        assert_eq!(Told::parse(&record), None);
    }
}
