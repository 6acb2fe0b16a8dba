//! An apply that undoes itself unless it is confirmed.
//!
//! The deadline is on the clock that runs on while the machine sleeps and that nobody can set
//! (`CLOCK_BOOTTIME`), and it holds for this boot: after another boot, the time is up.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Version of the file.
const FORMAT_VERSION: u32 = 1;
/// Which boot is this? A new random UUID at each; `Documentation/admin-guide/sysctl/kernel.rst`, "random".
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// `pending.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pending {
    /// Version of the file.
    pub format_version: u32,
    /// The generation that waits.
    pub generation: u32,
    /// The generation to go back to; `None`: there was none, so back to nothing allowed.
    pub previous: Option<u32>,
    /// The boot that the deadline belongs to.
    pub boot_id: String,
    /// When the time is up: milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_ms: u64,
}

impl Pending {
    /// Makes one that is due after a time.
    #[must_use]
    pub fn new(generation: u32, previous: Option<u32>, within: Duration) -> Self {
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Self {
            format_version: FORMAT_VERSION,
            generation,
            previous,
            boot_id: boot_id(),
            deadline_ms: boot_milliseconds().saturating_add(within),
        }
    }

    /// Lets a repair of the generation that waits wait in its place, until the same moment.
    #[must_use]
    pub fn inherited_by(self, generation: u32) -> Self {
        Self { generation, ..self }
    }

    /// Returns how long there is left; `None` if the time is up.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.left_at(&boot_id(), boot_milliseconds())
    }

    fn left_at(&self, boot_id: &str, now_ms: u64) -> Option<Duration> {
        let left = self.deadline_ms.checked_sub(now_ms)?;
        (self.boot_id == boot_id && left > 0).then(|| Duration::from_millis(left))
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let pending: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if pending.format_version == FORMAT_VERSION {
            Ok(pending)
        } else {
            Err(format!("it has format {}", pending.format_version))
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a pending apply can be written as JSON")
    }
}

/// Returns this boot's UUID; nothing if the kernel does not tell, which is no boot's.
fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).map_or(String::new(), |id| id.trim().to_owned())
}

fn boot_milliseconds() -> u64 {
    // Every kernel that has eBPF has this clock.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        Pending {
            format_version: FORMAT_VERSION,
            generation: 8,
            previous: Some(7),
            boot_id: "this".to_owned(),
            deadline_ms: 60_000,
        }
    }

    #[test]
    fn time_is_left_until_the_deadline() {
        let left = |now| pending().left_at("this", now);
        assert_eq!(left(0), Some(Duration::from_secs(60)));
        assert_eq!(left(59_999), Some(Duration::from_millis(1)));
        assert_eq!(left(60_000), None);
        assert_eq!(left(70_000), None);
    }

    #[test]
    fn time_is_up_after_another_boot() {
        assert_eq!(pending().left_at("another", 0), None);
    }

    #[test]
    fn what_was_written_is_read_and_a_half_is_refused() {
        let bytes = pending().to_bytes();
        assert_eq!(Pending::parse(&bytes).unwrap(), pending());
        assert!(Pending::parse(&bytes[..bytes.len() / 2]).is_err());
    }
}
