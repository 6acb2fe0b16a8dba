//! Feature `debug-log`: what the eBPF programs log goes to this process's log, at level `debug`.

use std::time::Duration;

use super::RunError;
use crate::loader::Datapath;

/// How often the programs' ring buffer is emptied.
const PERIOD: Duration = Duration::from_millis(100);

/// Passes on what the programs log, until the runtime ends.
pub(crate) fn follow(datapath: &mut Datapath) -> Result<(), RunError> {
    let mut logger = datapath.debug_log()?;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        loop {
            ticks.tick().await;
            logger.flush();
        }
    });
    Ok(())
}
