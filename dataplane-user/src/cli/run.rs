//! `bulkhead run`.

use netmodel::finding::{Audience, Style, to_text};

use super::args::{Common, ModeArg, RunArgs};
use super::inventory::{load, refusal, router_facts};
use super::place::named;
use super::report::{CliError, Report, YES};
use crate::loader::{Mode, WantedMode};
use crate::run::{Desired, RunError, RunOptions, block_on, run as control};

/// Enforces until a signal ends the process.
pub(super) fn run(common: &Common, args: &RunArgs) -> Result<Report, CliError> {
    let (options, loaded) = load(common)?;
    let Some(model) = loaded.model else {
        return Ok(refusal(common, &loaded));
    };
    let facts = router_facts(&model, &options);
    let interface = args.place.interface.as_ref().unwrap_or(&facts.trunk);
    if interface.is_empty() {
        return Err(CliError::NoInterface);
    }
    let options = RunOptions {
        place: named(&args.place, interface),
        mode: wanted(args.mode),
        connections: args.connections,
    };
    log_to_stderr();
    let desired = Desired { model, facts };
    block_on(control(&options, desired, || reload(common)))?;
    Ok(Report::text("", YES))
}

fn reload(common: &Common) -> Result<Desired, RunError> {
    let loaded = load(common).map_err(|error| RunError::Inventory(error.to_string()));
    let (options, loaded) = loaded?;
    let Some(model) = loaded.model else {
        let (findings, sources) = (&loaded.findings, &loaded.sources);
        let text = to_text(findings, sources, Audience::Platform, Style::Plain);
        return Err(RunError::Inventory(text.trim_end().to_owned()));
    };
    let facts = router_facts(&model, &options);
    Ok(Desired { model, facts })
}

fn wanted(mode: ModeArg) -> WantedMode {
    match mode {
        ModeArg::Auto => WantedMode::Auto,
        ModeArg::XdpNative => WantedMode::Exactly(Mode::XdpNative),
        ModeArg::XdpGeneric => WantedMode::Exactly(Mode::XdpGeneric),
        ModeArg::Tcx => WantedMode::Exactly(Mode::Tcx),
        ModeArg::Clsact => WantedMode::Exactly(Mode::Clsact),
    }
}

/// `RUST_LOG` chooses the level.
fn log_to_stderr() {
    let level = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
