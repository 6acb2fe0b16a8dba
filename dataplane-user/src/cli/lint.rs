//! `bulkhead lint`: the inventory's findings, then its own expectations of the policy.

use netmodel::finding::{Audience, to_json, to_text};
use netmodel::model::{Origin, Peer, PortSpec};
use netmodel::{Loaded, Model};
use serde_json::{Value, json};

use super::args::{Common, Format, LintArgs};
use super::can::{groups, place, why};
use super::inventory::{load, router_facts, style};
use super::report::{CliError, NO, Paint, Report, YES};
use crate::can::{Answer, AskError, Site, service_label};
use crate::compile::compile;

/// An expectation that the policy does not meet.
struct Failure {
    /// `policy-test`, `protected-flow`, `compile`.
    code: &'static str,
    message: String,
    origin: Option<Origin>,
    notes: Vec<String>,
}

/// Checks everything that can be checked without a router.
pub(super) fn run(common: &Common, args: &LintArgs) -> Result<Report, CliError> {
    let (options, loaded) = load(common)?;
    let failures = match &loaded.model {
        Some(model) if args.as_tenant.is_none() => {
            match compile(model, &router_facts(model, &options)) {
                Ok(tables) => check(&Site {
                    model,
                    tables: &tables,
                }),
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

/// Asks the tables for what `policy_tests` and `protected_flows` expect.
fn check(site: &Site<'_>) -> Vec<Failure> {
    let tests = site.model.policy_tests.iter().filter_map(|test| {
        let flow = flow_text(&test.from, &test.to, std::slice::from_ref(&test.port));
        let (expected, word) = if test.expect_allow {
            (Expected::Allow, "allow")
        } else {
            (Expected::Deny, "deny")
        };
        let (verdict, notes) = unexpected(site, &site.ask_test(test), expected)?;
        Some(Failure {
            code: "policy-test",
            message: format!("{flow} is {verdict}, expected {word}"),
            origin: Some(test.origin.clone()),
            notes,
        })
    });
    let flows = site.model.protected_flows.iter().filter_map(|flow| {
        let (verdict, notes) = unexpected(site, &site.ask_flow(flow), Expected::Allow)?;
        let flow_text = flow_text(&flow.from, &flow.to, &flow.ports);
        Some(Failure {
            code: "protected-flow",
            message: format!("{flow_text} is {verdict}, but protected"),
            origin: Some(flow.origin.clone()),
            notes,
        })
    });
    tests.chain(flows).collect()
}

/// What an inventory expects of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    Allow,
    Deny,
}

/// Returns the verdict and what decides it, unless it is as expected.
fn unexpected(
    site: &Site<'_>,
    answer: &Result<Answer, AskError>,
    expected: Expected,
) -> Option<(&'static str, Vec<String>)> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Some(("unknown", vec![error.to_string()])),
    };
    let mut unexpected = answer.clone();
    let is_met = match expected {
        Expected::Allow => {
            (unexpected.allowed, unexpected.direct) = (Vec::new(), Vec::new());
            answer.is_allow()
        }
        Expected::Deny => {
            unexpected.denied = Vec::new();
            answer.is_deny()
        }
    };
    (!is_met).then(|| (verdict(answer), notes(site, &unexpected)))
}

fn verdict(answer: &Answer) -> &'static str {
    match (answer.is_allow(), answer.is_deny()) {
        (true, _) => "allowed",
        (_, true) => "denied",
        _ => "allowed in part",
    }
}

/// Names the rules and reasons that decide the cases which are not as expected.
fn notes(site: &Site<'_>, unexpected: &Answer) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for group in groups(site, unexpected).iter().take(3) {
        let places: Vec<_> = group.because.origins.iter().map(place).collect();
        let mut note = why(&group.because);
        if !places.is_empty() {
            note.push_str(&format!(" ({})", places.join(", ")));
        }
        notes.push(note);
    }
    notes
}

fn flow_text(from: &Peer, to: &Peer, ports: &[PortSpec]) -> String {
    let ports: Vec<_> = ports.iter().map(service_label).collect();
    format!("{} -> {} {}", from.text, to.text, ports.join(", "))
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
