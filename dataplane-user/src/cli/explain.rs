//! `bulkhead explain CODE`.

use serde_json::json;

use super::args::{Common, ExplainArgs, Format};
use super::report::{CliError, Report, YES};
use crate::reasons;

/// Prints the long text of a finding or a drop reason.
pub(super) fn run(common: &Common, args: &ExplainArgs) -> Result<Report, CliError> {
    let code = args.code.trim();
    let text = netmodel::explain(code).or_else(|| reasons::explain(&code.to_ascii_lowercase()));
    let text = text.ok_or_else(|| CliError::NoSuchCode(code.to_owned()))?;
    Ok(match common.format {
        Format::Text => Report::text(format!("{text}\n"), YES),
        Format::Json => Report::json(
            &json!({ "format_version": 1, "code": code, "text": text }),
            YES,
        ),
    })
}
