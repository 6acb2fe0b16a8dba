//! `bulkhead drift`.

use serde_json::json;

use super::args::{Common, DriftArgs, Format};
use super::place::place_of_enforcement;
use super::report::{CHANGES, CliError, NO, Report, YES};
use super::run::settings;
use crate::controller::Controller;
use crate::run::block_on;

/// Compares the kernel with the applied generation.
pub(super) fn run(common: &Common, args: &DriftArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let controller = Controller::new(settings(common, place)?);
    let drift = block_on(controller.drift())?;
    let code = match (drift.current, drift.lines.is_empty()) {
        (None, _) => NO,
        (Some(_), true) => YES,
        (Some(_), false) => CHANGES,
    };
    if common.format == Format::Json {
        let value = json!({
            "format_version": 1,
            "generation": drift.current,
            "drift": drift.lines,
        });
        return Ok(Report::json(&value, code));
    }
    let text = match drift.current {
        None => return Ok(Report::text("", NO).with_talk("bulkhead: nothing was applied yet")),
        Some(number) if drift.lines.is_empty() => {
            format!("No drift: the kernel is as generation {number} says.\n")
        }
        Some(number) => {
            let mut text =
                format!("The kernel is not what generation {number} says. To repair:\n\n");
            for line in &drift.lines {
                text.push_str(&format!("  {line}\n"));
            }
            text.push_str("\n`bulkhead run` does that by itself; `bulkhead apply` does it now.\n");
            text
        }
    };
    Ok(Report::text(text, code))
}
