//! `bulkhead confirm`.

use serde_json::json;

use super::args::{Common, ConfirmArgs, Format};
use super::place::place_of_enforcement;
use super::report::{CliError, NO, Report, YES};
use super::run::settings;
use crate::controller::{Confirmed, Controller};

/// Lets the generation that waits stay.
pub(super) fn run(common: &Common, args: &ConfirmArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let _lock = place.lock()?;
    let confirmed = Controller::new(settings(common, place)?).confirm()?;
    let (generation, text, code) = match confirmed {
        Confirmed::Generation(number) => (Some(number), format!("generation {number} stays"), YES),
        Confirmed::Nothing => (None, "nothing waits for a confirmation".to_owned(), NO),
        Confirmed::TooLate(number) => (
            None,
            format!("too late: generation {number} is being undone"),
            NO,
        ),
    };
    if common.format == Format::Json {
        let value = json!({ "format_version": 1, "confirmed": generation });
        return Ok(Report::json(&value, code).with_talk(&format!("bulkhead: {text}")));
    }
    Ok(Report::text("", code).with_talk(&format!("bulkhead: {text}")))
}
