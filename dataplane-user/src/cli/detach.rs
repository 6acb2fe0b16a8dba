//! `bulkhead detach`.

use std::io::{IsTerminal, Write, stdin, stdout};

use super::args::{Common, DetachArgs};
use super::place::{named, place};
use super::report::{CliError, NO, Report, YES};
use crate::controller::detach;
use crate::loader::Pins;
use crate::run::{Place, RunError, block_on};

/// Removes the enforcement.
pub(super) fn run(common: &Common, args: &DetachArgs) -> Result<Report, CliError> {
    let place = match &args.place.interface {
        Some(interface) => named(&args.place, interface),
        None => place(common, &args.place)?.0,
    };
    let _lock = place.lock()?;
    let pins = Pins::at(&place.pins);
    let mode = match pins.mode() {
        Some(mode) => mode.to_string(),
        None if pins.has_ports() => "every port of its bridges".to_owned(),
        None => "not attached".to_owned(),
    };
    let removed = format!(
        "the enforcement on {} ({mode}): the attached program, every remembered connection and every counter \
         in {}. Nothing will isolate the tenants there until the next `bulkhead run`; one that runs now puts all of it back \
         within a minute",
        place.interface,
        place.pins.display()
    );
    if !args.yes && pins.is_in_use() && !is_confirmed(&removed)? {
        let refused = Report::text("", NO).with_talk(&format!("This would remove {removed}."));
        return Ok(refused.with_talk("bulkhead: nothing was removed (say --yes to do it)"));
    }
    block_on(detach(&place))?;
    forget_state(&place)?;
    Ok(Report::text("", YES).with_talk(&format!("bulkhead: removed {removed}.")))
}

/// Asks on a terminal; without one, nobody said yes.
fn is_confirmed(removed: &str) -> Result<bool, RunError> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Ok(false);
    }
    let wrap = "ask for confirmation";
    let mut out = stdout().lock();
    write!(out, "This removes {removed}.\nGo on? [y/N] ").map_err(RunError::io(wrap))?;
    out.flush().map_err(RunError::io(wrap))?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(RunError::io(wrap))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn forget_state(place: &Place) -> Result<(), RunError> {
    match std::fs::remove_file(&place.state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RunError::io("remove the state file")(error))
        }
        _ => Ok(()),
    }
}
