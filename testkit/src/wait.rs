//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long nothing that a test waits for takes, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, and returns what it gave. `what` is for the message.
///
/// # Errors
///
/// If it does not hold within [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
