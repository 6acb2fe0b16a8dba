//! `bulkhead apply` and `bulkhead rollback`: show the plan, ask, do it, and wait for the confirmation.

use std::io::{IsTerminal, Write as _, stderr, stdin, stdout};
use std::time::Duration;

use serde_json::json;

use super::args::{ApplyArgs, Common, Format, RollbackArgs};
use super::inventory::desired;
use super::place::{place_for, place_of_enforcement, recall};
use super::plan_file::PlanFile;
use super::report::{CliError, NO, Paint, Report, YES};
use super::run::{control_options, log_to_stderr};
use super::wait::{Ending, Stop, wait};
use crate::controller::{Controller, Desired, How, Prepared, Review};
use crate::run::{RunError, block_on, with_causes};
use crate::store::Cause;

/// What is asked for.
struct Request<'a> {
    common: &'a Common,
    target: Target,
    /// What the plan may destroy; `None`: all.
    allow_destroy: Option<usize>,
    /// The plan that must still hold.
    file: Option<PlanFile>,
    confirm_within: Option<Duration>,
    is_agreed: bool,
}

/// What the kernel is to become.
enum Target {
    /// What the inventory says, or of that only what it says of a tenant.
    Inventory(Box<Desired>, Option<String>),
    /// What a generation says; `None`: the one before.
    Stored(Option<u32>),
}

impl Target {
    /// Returns what is wanted, and why. Whoever asks has the lock: both may depend on what is current.
    fn wanted(&self, controller: &Controller) -> Result<(Desired, Cause), RunError> {
        match self {
            Self::Inventory(desired, None) => Ok((Desired::clone(desired), Cause::Apply)),
            Self::Inventory(desired, Some(tenant)) => {
                let desired = controller.only_tenant(Desired::clone(desired), tenant)?;
                Ok((desired, Cause::Apply))
            }
            Self::Stored(to) => {
                let to = to.map_or_else(|| controller.previous(), Ok)?;
                let cause = Cause::Rollback {
                    to,
                    unconfirmed: false,
                };
                Ok((controller.stored(to)?, cause))
            }
        }
    }
}

/// Makes the kernel what the inventory says.
pub(super) fn run(common: &Common, args: &ApplyArgs) -> Result<Report, CliError> {
    let file = args.plan.as_deref().map(PlanFile::read).transpose()?;
    let what = file.as_ref().map_or(args.what.clone(), PlanFile::what);
    let recall = recall(&args.place);
    let (desired, options) = match desired(common)? {
        Ok(desired) => desired,
        Err(refusal) => return Ok(refusal),
    };
    let place = place_for(&args.place, &desired.model, &options)?;
    let mut controller = Controller::new(control_options(common, place, &args.how)?);
    controller.remember(recall);
    let request = Request {
        common,
        target: Target::Inventory(Box::new(desired), what.tenant.clone()),
        allow_destroy: Some(what.allow_destroy),
        confirm_within: args.confirm_within,
        is_agreed: args.yes || file.is_some(),
        file,
    };
    block_on_change(&mut controller, request)
}

/// Goes back to an earlier generation.
pub(super) fn rollback(common: &Common, args: &RollbackArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let mut controller = Controller::new(control_options(common, place, &args.how)?);
    let request = Request {
        common,
        target: Target::Stored(args.to),
        allow_destroy: None,
        file: None,
        confirm_within: args.confirm_within,
        is_agreed: args.yes,
    };
    block_on_change(&mut controller, request)
}

fn block_on_change(controller: &mut Controller, request: Request) -> Result<Report, CliError> {
    // What it does, it says itself.
    log_to_stderr(tracing::Level::WARN, Format::Text);
    block_on(change(controller, request))
}

async fn change(controller: &mut Controller, request: Request<'_>) -> Result<Report, CliError> {
    let format = request.common.format;
    let mut lock = controller.lock()?;
    check_nothing_waits(controller, &request).await?;
    let (desired, mut cause) = request.target.wanted(controller)?;
    let mut prepared = controller.prepare(desired).await?;
    let review = Review::new(&prepared, request.allow_destroy);
    if let Some(file) = &request.file {
        file.check(&review)?;
    }
    let paint = Paint::for_stdout();
    if review.is_refused() || review.is_empty() {
        if !review.is_refused() {
            controller.finish_telling(&prepared)?;
        }
        let code = if review.is_refused() { NO } else { YES };
        return Ok(match format {
            Format::Json => Report::json(&review.to_json(), code),
            Format::Text => Report::text(review.to_text(paint), code),
        });
    }
    if format == Format::Text {
        let _ = stdout().lock().write_all(review.to_text(paint).as_bytes());
    }
    if !request.is_agreed {
        // While somebody thinks, `bulkhead run` goes on.
        drop(lock);
        if !is_agreed()? {
            return Ok(Report::text("", NO).with_talk("bulkhead: nothing was changed"));
        }
        lock = controller.lock()?;
        check_nothing_waits(controller, &request).await?;
        let digest = review.digest();
        let desired;
        (desired, cause) = request.target.wanted(controller)?;
        prepared = controller.prepare(desired).await?;
        if Review::new(&prepared, request.allow_destroy).digest() != digest {
            return Err(CliError::PlanIsStale);
        }
    }
    // Before the change, which may cut the operator's connection.
    let stop = Stop::new()?;
    let applied = do_it(controller, &prepared, (&request, cause)).await?;
    drop(lock);
    finish(controller, &request, applied, stop).await
}

/// What waits for its confirmation is not built upon. A rollback is a way to say no to it.
async fn check_nothing_waits(
    controller: &mut Controller,
    request: &Request<'_>,
) -> Result<(), CliError> {
    let undone = match controller.undo_unconfirmed(false).await {
        Err(error @ RunError::Store(_)) if request.confirm_within.is_none() => {
            say(&format!(
                "warning: what nobody confirmed cannot be undone, so it stays: {}",
                with_causes(&error)
            ));
            controller.keep_unconfirmed()?;
            None
        }
        undone => undone?,
    };
    if let Some(undone) = undone {
        let generation = undone.generation;
        say(&format!(
            "generation {generation} was not confirmed in time: it was undone"
        ));
    }
    let is_no = matches!(request.target, Target::Stored(_)) && request.confirm_within.is_none();
    match controller.store().pending().map_err(RunError::from)? {
        Some(pending) if !is_no => Err(CliError::Waits {
            generation: pending.generation,
            seconds: pending.left().map_or(0, |left| left.as_secs()),
        }),
        _ => Ok(()),
    }
}

async fn do_it(
    controller: &mut Controller,
    prepared: &Prepared,
    (request, cause): (&Request<'_>, Cause),
) -> Result<u32, CliError> {
    let review = Review::new(prepared, request.allow_destroy);
    let how = How {
        cause,
        confirm_within: request.confirm_within,
        plan: review.to_text(Paint::PLAIN),
        summary: review.summary(),
    };
    let applied = match controller.apply(prepared, how).await {
        Ok(applied) => applied,
        Err(error) => {
            // What failed behind the flip is enforced, and not current.
            if let Err(other) = controller.converge(false).await {
                say(&format!(
                    "warning: the kernel may enforce what failed (remedy: bulkhead run, or apply again): {}",
                    with_causes(&other)
                ));
            }
            return Err(error.into());
        }
    };
    if request.confirm_within.is_none() {
        controller.abandon(applied.number)?;
    }
    for warning in &applied.warnings {
        say(&format!("warning: {warning}"));
    }
    Ok(applied.number)
}

async fn finish(
    controller: &mut Controller,
    request: &Request<'_>,
    number: u32,
    stop: Stop,
) -> Result<Report, CliError> {
    let ending = match request.confirm_within {
        None => Ending::Stays,
        Some(within) => {
            say(&format!(
                "generation {number} is enforced; it is undone in {} s unless confirmed: `bulkhead confirm`, best from a new \
                 connection",
                within.as_secs()
            ));
            if controller.place().lock_as_daemon().is_ok() {
                say(
                    "warning: `bulkhead run` does not run here: if this process is killed, nobody undoes it",
                );
            }
            wait(controller, number, stop).await?
        }
    };
    let (code, text) = match &ending {
        Ending::Stays => (YES, format!("generation {number} is enforced")),
        Ending::Undone { to: Some(to), by } => (
            NO,
            format!("generation {number} was undone: {to} is enforced again, as generation {by}"),
        ),
        Ending::Undone { to: None, .. } => (
            NO,
            format!(
                "generation {number} was undone: no generation is enforced; if [hold] is set, only what it lists passes"
            ),
        ),
    };
    let report = match request.common.format {
        Format::Text => Report::text("", code),
        Format::Json => Report::json(
            &json!({ "format_version": 1, "generation": number, "stays": code == YES }),
            code,
        ),
    };
    Ok(report.with_talk(&format!("bulkhead: {text}")))
}

/// Asks on a terminal; without one, nobody said yes.
fn is_agreed() -> Result<bool, CliError> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        say("nobody can be asked here (say --yes to do it)");
        return Ok(false);
    }
    let wrap = "ask";
    let mut out = stdout().lock();
    write!(out, "\nApply this plan? Only `yes` does it: ").map_err(RunError::io(wrap))?;
    out.flush().map_err(RunError::io(wrap))?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(RunError::io(wrap))?;
    Ok(answer.trim() == "yes")
}

/// Says a line at once. A terminal that has gone away is no error.
fn say(line: &str) {
    let _ = writeln!(stderr().lock(), "bulkhead: {line}");
}
