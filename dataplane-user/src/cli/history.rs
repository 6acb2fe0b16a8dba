//! `bulkhead history`.

use serde_json::{Value, json};

use super::args::{Common, Format, HistoryArgs};
use super::place::place_of_enforcement;
use super::report::{CliError, Paint, Report, YES};
use crate::run::RunError;
use crate::store::{Outcome, Record, Store};

/// One generation: its record, or why that cannot be read.
type Row = (u32, Result<Record, String>);

/// Lists the generations, newest first.
pub(super) fn run(common: &Common, args: &HistoryArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let store = Store::at(&place.store);
    if let Some(number) = args.number {
        return plan_of(common, &store, number);
    }
    let current = store.current().map_err(RunError::from)?;
    let numbers = store.numbers().map_err(RunError::from)?;
    let rows = numbers.into_iter().rev().map(|number| {
        let record = store.record(number).map_err(|error| error.to_string());
        (number, record)
    });
    let rows: Vec<Row> = rows.collect();
    Ok(match common.format {
        Format::Json => Report::json(&to_json(current, &rows), YES),
        Format::Text => Report::text(to_text(current, &rows, Paint::for_stdout()), YES),
    })
}

fn plan_of(common: &Common, store: &Store, number: u32) -> Result<Report, CliError> {
    let plan = store.plan_text(number).map_err(RunError::from)?;
    if common.format == Format::Json {
        let record = store.record(number).map_err(RunError::from)?;
        let value = json!({ "format_version": 1, "record": record, "plan": plan });
        return Ok(Report::json(&value, YES));
    }
    Ok(Report::text(plan, YES))
}

fn to_json(current: Option<u32>, rows: &[Row]) -> Value {
    let generations = rows.iter().map(|(number, record)| match record {
        Ok(record) => json!(record),
        Err(problem) => json!({ "number": number, "problem": problem }),
    });
    json!({
        "format_version": 1,
        "current": current,
        "generations": generations.collect::<Vec<_>>(),
    })
}

fn to_text(current: Option<u32>, rows: &[Row], paint: Paint) -> String {
    if rows.is_empty() {
        return "nothing was applied yet: bulkhead apply\n".to_owned();
    }
    let mut text = String::new();
    for (number, record) in rows {
        let mark = if current == Some(*number) { "*" } else { " " };
        let line = match record {
            Ok(record) => line(record, paint),
            Err(problem) => paint.bad(problem),
        };
        text.push_str(&format!("{mark} {number:>5}  {line}\n"));
    }
    text
}

fn line(record: &Record, paint: Paint) -> String {
    let outcome = record.outcome.to_string();
    let outcome = match record.outcome {
        Outcome::Applied => paint.good(&outcome),
        Outcome::Applying | Outcome::Unconfirmed | Outcome::RolledBack { .. } => {
            paint.middling(&outcome)
        }
        Outcome::Failed { .. } => paint.bad(&outcome),
    };
    let counts = record.summary;
    let inventory = record.inventory.get(..12).unwrap_or(&record.inventory);
    format!(
        "{}  {:<12}  {:<24}  {inventory}  +{} ~{} -{}  {outcome}",
        utc(record.at),
        record.who,
        record.cause.to_string(),
        counts.add,
        counts.change,
        counts.destroy,
    )
}

/// Returns a time as `2026-11-21 07:06:10Z`. (Howard Hinnant's `civil_from_days`.)
pub(super) fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let day = day - (153 * shifted + 2) / 5 + 1;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_shown_in_utc() {
        let rows = [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_709_164_799, "2024-02-28 23:59:59Z"),
            (1_795_244_770, "2026-11-21 07:06:10Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ];
        for (seconds, text) in rows {
            assert_eq!(utc(seconds), text);
        }
    }
}
