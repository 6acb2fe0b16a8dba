//! `bulkhead show WHAT`.

use netmodel::show::{What, table};

use super::args::{Common, Format, ShowArgs, View};
use super::inventory::compiled;
use super::report::{CliError, Report, YES};
use super::{inventory, matrix};

/// Prints a view of the checked model.
pub(super) fn run(common: &Common, args: &ShowArgs) -> Result<Report, CliError> {
    let what = match args.what {
        View::Matrix => return matrix::run(common),
        View::Hosts => What::Hosts,
        View::Policies => What::Policies,
        View::Records => What::Records,
        View::Reservations => What::Reservations,
        View::Segments => What::Segments,
        View::Services => What::Services,
        View::Tenants => What::Tenants,
    };
    let inventory::Inventory { model, .. } = match compiled(common)? {
        Ok(inventory) => inventory,
        Err(refusal) => return Ok(refusal),
    };
    let table = table(what, &model);
    Ok(match common.format {
        Format::Text => Report::text(table.to_text(), YES),
        Format::Json => Report::json(&table.to_json(), YES),
    })
}
