//! `bulkhead plan`.

use super::args::{Common, Format, PlanArgs};
use super::inventory::desired;
use super::place::{place_for, recall};
use super::plan_file::PlanFile;
use super::report::{CHANGES, CliError, NO, Paint, Report, YES};
use super::run::settings;
use crate::controller::{Controller, Review};
use crate::run::block_on;

/// Shows what an apply would change.
pub(super) fn run(common: &Common, args: &PlanArgs) -> Result<Report, CliError> {
    let recall = recall(&args.place);
    let (desired, options) = match desired(common)? {
        Ok(desired) => desired,
        Err(refusal) => return Ok(refusal),
    };
    let place = place_for(&args.place, &desired.model, &options)?;
    let mut controller = Controller::new(settings(common, place)?);
    controller.remember(recall);
    let desired = match &args.what.tenant {
        Some(tenant) => controller.only_tenant(desired, tenant)?,
        None => desired,
    };
    let prepared = block_on(controller.prepare(desired))?;
    let review = Review::new(&prepared, Some(args.what.allow_destroy));
    if let Some(path) = &args.out {
        PlanFile::new(&review, &args.what).write(path)?;
    }
    let code = match (review.is_refused(), review.is_empty()) {
        (true, _) => NO,
        (false, true) => YES,
        (false, false) => CHANGES,
    };
    let report = match common.format {
        Format::Json => Report::json(&review.to_json(), code),
        Format::Text => Report::text(review.to_text(Paint::for_stdout()), code),
    };
    Ok(report)
}
