//! Findings as JSON.

use serde_json::{Value, json};

use super::{Audience, Finding, Label, Remark};
use crate::source::Sources;

/// Version of the JSON form of findings. Grows when a reader would have to change.
pub const FORMAT_VERSION: u32 = 1;

/// Returns all findings that the audience may see, as one JSON value.
#[must_use]
pub fn to_json(findings: &[Finding], sources: &Sources, audience: Audience<'_>) -> Value {
    let seen: Vec<Value> = findings
        .iter()
        .filter_map(|finding| finding.seen_by(audience, sources))
        .map(|finding| finding_json(&finding, sources))
        .collect();
    json!({ "format_version": FORMAT_VERSION, "findings": seen })
}

fn finding_json(finding: &Finding, sources: &Sources) -> Value {
    json!({
        "code": finding.code.as_str(),
        "severity": finding.severity(),
        "title": finding.code.title(),
        "message": finding.message,
        "primary": label_json(&finding.primary, sources),
        "secondary": finding.secondary.iter().map(|l| label_json(l, sources)).collect::<Vec<_>>(),
        "notes": texts(&finding.notes),
        "help": texts(&finding.help),
    })
}

fn label_json(label: &Label, sources: &Sources) -> Value {
    let place = label.place;
    json!({
        "file": &*sources.get(place.file).path,
        "line": place.start.line,
        "column": place.start.column,
        "end_line": place.end.line,
        "end_column": place.end.column,
        "text": label.text,
    })
}

fn texts(remarks: &[Remark]) -> Vec<&str> {
    remarks.iter().map(|remark| remark.text.as_str()).collect()
}
