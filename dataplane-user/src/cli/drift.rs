//! `bulkhead drift`.

use serde_json::json;

use super::args::{Common, DriftArgs, Format};
use super::place::place_of_enforcement;
use super::report::{CHANGES, CliError, NO, Report, YES};
use super::run::settings;
use crate::controller::{Controller, Drift};
use crate::run::block_on;

/// Compares the kernel with the applied generation.
pub(super) fn run(common: &Common, args: &DriftArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let controller = Controller::new(settings(common, place)?);
    let drift = block_on(controller.drift())?;
    let code = match (drift.current, drift.is_empty()) {
        (None, _) => NO,
        (Some(_), true) => YES,
        (Some(_), false) => CHANGES,
    };
    if common.format == Format::Json {
        let value = json!({
            "format_version": 1,
            "generation": drift.current,
            "drift": drift.lines,
            "conflicts": drift.conflicts,
        });
        return Ok(Report::json(&value, code));
    }
    let text = match drift.current {
        None => return Ok(Report::text("", NO).with_talk("bulkhead: nothing was applied yet")),
        Some(number) if drift.is_empty() => {
            format!("No drift: the kernel is as generation {number} says.\n")
        }
        Some(number) => differences(number, &drift),
    };
    Ok(Report::text(text, code))
}

/// Says what differs from a generation, and what mends it.
fn differences(number: u32, drift: &Drift) -> String {
    let mut text = format!("The kernel is not what generation {number} says.\n");
    if !drift.lines.is_empty() {
        text.push_str("\nTo repair:\n");
        for line in &drift.lines {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str("`bulkhead run` does that by itself; `bulkhead apply` does it now.\n");
    }
    if !drift.conflicts.is_empty() {
        text.push_str("\nIn the way, and not bulkhead's to remove:\n");
        for conflict in &drift.conflicts {
            text.push_str(&format!(
                "  {}\n    help: {}\n",
                conflict.what, conflict.remedy
            ));
        }
    }
    text
}
