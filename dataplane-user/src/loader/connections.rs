//! How many connections whoever shares `FLOWS` may have in it (ADR 0014).

use aya::maps::{Map, MapData};

use super::{LoaderError, Pins};

const FLOWS: &str = "FLOWS";

/// A port without a promise gets a share as if there were at least so many, so that the first of many does not lose most of
/// what it had when the others come.
const LEAST_PORTS: usize = 32;

/// Who shares the connections that fit into `FLOWS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// The segments: on a router.
    Segments,
    /// On a hypervisor: its access ports, and the segments for what comes in over the uplink. Each get the half.
    Ports,
}

impl Sharing {
    /// Returns how many connections are for segments, out of `all`.
    #[must_use]
    pub fn segments(self, all: u32) -> u32 {
        match self {
            Self::Segments => all,
            Self::Ports => all / 2,
        }
    }
}

/// Returns the connections of each port by what it was promised (0: nothing), so that all together are at most `room`.
pub(super) fn port_quotas(promised: Vec<u32>, room: u32) -> Vec<u32> {
    let (room, others) = (
        u64::from(room),
        promised.iter().filter(|&&own| own == 0).count(),
    );
    let promises: u64 = promised.iter().map(|&own| u64::from(own)).sum();
    // Where promises would leave nothing to the others, they get what they would have had without promises.
    let least = room / promised.len().max(LEAST_PORTS).next_power_of_two() as u64;
    let others_room = room.saturating_sub(promises).max(least * others as u64);
    let divisor = others.max(LEAST_PORTS).next_power_of_two() as u64;
    let share = others_room / divisor;
    let kept = room.saturating_sub(share * others as u64);
    let quota = |own: u32| match own {
        0 => share,
        own if promises <= kept => u64::from(own),
        own => u64::from(own) * kept / promises,
    };
    let quotas = promised.into_iter().map(quota);
    let quotas = quotas.map(|quota| u32::try_from(quota.max(1)).unwrap_or(u32::MAX));
    quotas.collect()
}

/// The maps that grow with the connections, and their sizes: of tickets there are twice as many, since those beyond a quota that was
/// made smaller stay until they are swept.
pub(super) fn sizes(connections: u32) -> [(&'static str, u32); 2] {
    [
        (FLOWS, connections),
        ("TICKETS", connections.saturating_mul(2)),
    ]
}

/// Returns how many connections fit in.
pub(super) fn room(flows: &Map) -> Result<u32, LoaderError> {
    if let Map::HashMap(map) = flows {
        entries(map)
    } else {
        Err(LoaderError::MissingMap(FLOWS))
    }
}

pub(super) fn entries(map: &MapData) -> Result<u32, LoaderError> {
    let info = map
        .info()
        .map_err(|source| LoaderError::map(FLOWS, source))?;
    Ok(info.max_entries())
}

impl Pins {
    /// Returns how many connections fit into the pinned maps; `None` if there are none.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn connections(&self) -> Result<Option<u32>, LoaderError> {
        if !self.has_maps() {
            return Ok(None);
        }
        let map = MapData::from_pin(self.map(FLOWS));
        entries(&map.map_err(|source| LoaderError::map(FLOWS, source))?).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_never_get_more_than_there_is() {
        for (promised, room) in [
            (vec![], 1000),
            (vec![0], 1000),
            (vec![0; 500], 1000),
            (vec![400, 0, 0], 1000),
            (vec![4000, 0, 100], 1000),
            (vec![u32::MAX; 8192], 131_072),
        ] {
            let quotas = port_quotas(promised.clone(), room);
            let sum: u64 = quotas.iter().map(|&quota| u64::from(quota)).sum();
            assert!(sum <= u64::from(room), "{promised:?}: {sum}");
            assert!(quotas.iter().all(|&quota| quota > 0), "{promised:?}");
            assert_eq!(quotas.len(), promised.len());
        }
    }

    #[test]
    fn promise_that_fits_is_kept_and_others_share_the_rest() {
        assert_eq!(port_quotas(vec![400, 0, 0], 1000)[0], 400);
        assert_eq!(port_quotas(vec![0, 0], 131_072), [4096, 4096]);
        let many = port_quotas(vec![0; 33], 131_072);
        assert!(many.iter().all(|&quota| quota == 2048));
    }
}
