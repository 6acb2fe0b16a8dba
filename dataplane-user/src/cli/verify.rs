//! `bulkhead verify`.

use std::fmt::Write as _;

use serde_json::json;

use super::args::{Common, Format, VerifyArgs};
use super::place::place_of_enforcement;
use super::report::{CliError, NO, Report, YES};
use super::run::settings;
use crate::controller::{Controller, Verified};
use crate::plan::agreement::Wall;
use crate::run::RunError;

/// Compares the two walls.
pub(super) fn run(common: &Common, args: &VerifyArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let controller = Controller::new(settings(common, place)?);
    let Some(current) = controller.store().current().map_err(RunError::from)? else {
        return Ok(Report::text("", NO)
            .with_talk("bulkhead: nothing was applied yet (remedy: bulkhead apply)"));
    };
    let desired = controller.stored(current)?;
    let inventory = desired.inventory.clone();
    let verified = controller.verify(desired)?;
    // Where nothing is enforced, nothing was proved.
    let code = match (
        verified.enforced,
        verified.agreement.disagreements.is_empty(),
    ) {
        (Some(_), true) => YES,
        (Some(_), false) | (None, _) => NO,
    };
    if common.format == Format::Json {
        let value = json!({
            "format_version": 1,
            "generation": current,
            "inventory": inventory,
            "here": verified.here,
            "enforced": verified.enforced,
            "pairs": verified.agreement.pairs,
            "router_only": verified.agreement.router_only,
            "disagreements": verified.agreement.disagreements,
        });
        return Ok(Report::json(&value, code));
    }
    let report = Report::text(text(current, &inventory, &verified), code);
    Ok(match verified.enforced {
        Some(number) if number == current => report,
        Some(number) => report.with_talk(&format!(
            "bulkhead: the kernel enforces generation {number}, not {current} (`bulkhead drift` tells more)"
        )),
        None => report.with_talk(
            "bulkhead: nothing is enforced here, so nothing was proved (remedy: bulkhead run, or bulkhead apply)",
        ),
    })
}

fn text(current: u32, inventory: &str, verified: &Verified) -> String {
    let agreement = &verified.agreement;
    let source = |wall| match verified.enforced {
        Some(_) if wall == verified.here => "the tables in this kernel",
        _ => "what the generation compiles to",
    };
    let pairs = agreement.pairs;
    let mut text = format!(
        "Generation {current}, inventory {inventory}\n  {:<16} {}\n  {:<16} {}\n\n",
        Wall::Router,
        source(Wall::Router),
        Wall::Hypervisors,
        source(Wall::Hypervisors),
    );
    let [addresses, within, between, open, isolated] = [
        pairs.addresses,
        pairs.within,
        pairs.between,
        pairs.open,
        pairs.isolated_segments,
    ]
    .map(grouped);
    let told = [
        format!("{addresses} addresses make"),
        format!(
            "{within} pairs within a segment: the hypervisors decide, the router never sees them ({isolated} segments have a policy of their own)"
        ),
        format!(
            "{between} pairs between segments: the router decides, and the hypervisor of whoever is behind a port ({open} may open something)"
        ),
    ];
    for line in told {
        text.push_str(&format!("  {line}\n"));
    }
    if !agreement.router_only.is_empty() {
        let all: Vec<String> = agreement
            .router_only
            .iter()
            .map(ToString::to_string)
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  only the router knows, and refuses: {}",
            all.join(", ")
        );
    }
    text.push('\n');
    match agreement.disagreements.len() {
        0 => text.push_str("They agree.\n"),
        count => {
            let _ = writeln!(text, "They do not agree, {count} times:\n");
            for one in &agreement.disagreements {
                let _ = writeln!(text, "  {one}");
            }
        }
    }
    text
}

/// A number as people read it: `4,287,630,336`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let told = [0, 999, 1000, 4_287_630_336].map(grouped);
        assert_eq!(told, ["0", "999", "1,000", "4,287,630,336"]);
    }
}
