//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long nothing that a test waits for takes, on the slowest machine: an emulated one whose host builds something beside it.
/// The verifier alone takes several seconds there. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until `condition` holds, and returns what it gave. `what` is for the message.
///
/// # Errors
///
/// If it does not hold within [`PATIENCE`].
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> Result<T> {
    wait_at_most(PATIENCE, what, condition)
}

/// The same, for as long as `patience`.
///
/// # Errors
///
/// If it does not hold within that time.
pub fn wait_at_most<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
