//! `bulkhead lint`: the inventory's findings, then its own expectations of the policy.

use netmodel::finding::{Audience, to_json, to_text};
use netmodel::model::Origin;
use netmodel::{Loaded, Model};
use serde_json::{Value, json};

use super::args::{Common, Format, LintArgs};
use super::can::place;
use super::inventory::{load, router_facts, style};
use super::report::{CliError, NO, Paint, Report, YES};
use crate::can::{Site, Unmet};
use crate::compile::compile;

/// An expectation that the policy does not meet, or the compiler's refusal.
struct Failure {
    /// `policy-test`, `protected-flow`, `compile`.
    code: &'static str,
    message: String,
    origin: Option<Origin>,
    notes: Vec<String>,
}

impl From<Unmet> for Failure {
    fn from(unmet: Unmet) -> Self {
        Self {
            code: unmet.code(),
            message: unmet.to_string(),
            origin: Some(unmet.origin),
            notes: unmet.notes,
        }
    }
}

/// Checks everything that can be checked without a router.
pub(super) fn run(common: &Common, args: &LintArgs) -> Result<Report, CliError> {
    let (options, loaded) = load(common)?;
    let failures = match &loaded.model {
        Some(model) if args.as_tenant.is_none() => {
            match compile(model, &router_facts(model, &options)) {
                Ok(tables) => {
                    let site = Site {
                        model,
                        tables: &tables,
                    };
                    site.unmet().into_iter().map(Failure::from).collect()
                }
                Err(error) => vec![Failure {
                    code: "compile",
                    message: error.to_string(),
                    origin: None,
                    notes: Vec::new(),
                }],
            }
        }
        _ => Vec::new(),
    };
    let is_bad = loaded.errors() > 0 || !failures.is_empty();
    let is_refused = is_bad || (args.strict && loaded.warnings() > 0);
    let code = if is_refused { NO } else { YES };
    let audience = args
        .as_tenant
        .as_deref()
        .map_or(Audience::Platform, Audience::Tenant);
    Ok(match common.format {
        Format::Json => Report::json(&json_of(&loaded, &failures, audience), code),
        Format::Text => {
            let report = Report::text(text_of(&loaded, &failures, audience), code);
            report.with_talk(&summary(&loaded, &failures))
        }
    })
}

fn text_of(loaded: &Loaded, failures: &[Failure], audience: Audience<'_>) -> String {
    let paint = Paint::for_stdout();
    let mut text = to_text(&loaded.findings, &loaded.sources, audience, style(paint));
    for failure in failures {
        text.push_str(&paint.bad(&format!("error[{}]", failure.code)));
        text.push_str(&format!(": {}\n", failure.message));
        if let Some(origin) = &failure.origin {
            text.push_str(&format!(" --> {}\n", place(origin)));
        }
        for note in &failure.notes {
            text.push_str(&format!("  = note: {note}\n"));
        }
        text.push('\n');
    }
    text
}

fn json_of(loaded: &Loaded, failures: &[Failure], audience: Audience<'_>) -> Value {
    let mut value = to_json(&loaded.findings, &loaded.sources, audience);
    if let Some(findings) = value.get_mut("findings").and_then(Value::as_array_mut) {
        findings.extend(failures.iter().map(|failure| {
            json!({
                "code": failure.code,
                "severity": "error",
                "title": "the policy is not as expected",
                "message": failure.message,
                "primary": failure.origin,
                "secondary": [],
                "notes": failure.notes,
                "help": [],
            })
        }));
    }
    value
}

/// One line: how many of what.
fn summary(loaded: &Loaded, failures: &[Failure]) -> String {
    let errors = loaded.errors() + failures.len();
    let findings = match (errors, loaded.warnings()) {
        (0, 0) => "no findings".to_owned(),
        (errors, warnings) => {
            format!(
                "{}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            )
        }
    };
    match &loaded.model {
        Some(model) => format!("{findings}: {}", inventory(model)),
        None => findings,
    }
}

fn inventory(model: &Model) -> String {
    let mut text = format!(
        "{}, {}, {}",
        counted(model.segments.len(), "segment"),
        counted(model.tenants.len(), "tenant"),
        counted(model.hosts.len(), "host"),
    );
    let tests = model.policy_tests.len() + model.protected_flows.len();
    if tests > 0 {
        text.push_str(&format!(", {}", counted(tests, "policy test")));
    }
    text
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
