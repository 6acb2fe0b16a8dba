//! `bulkhead run`.

use std::num::NonZeroU32;
use std::time::Duration;

use netmodel::finding::{Audience, Style, to_text};

use super::args::{Common, Format, HowArgs, ModeArg, RunArgs};
use super::inventory::{chosen_host, load, options};
use super::place::place_of_enforcement;
use super::report::{CliError, Report, YES};
use crate::config::Config;
use crate::controller::{ControlOptions, Desired};
use crate::loader::{DEFAULT_CONNECTIONS, Mode, WantedMode};
use crate::run::inventory::{Reading, WatchSettings, Watched};
use crate::run::{DaemonOptions, Place, block_on, run as keep};
use crate::store::KEPT;

/// Enforces until a signal ends the process.
pub(super) fn run(common: &Common, args: &RunArgs) -> Result<Report, CliError> {
    let place = place_of_enforcement(common, &args.place)?;
    let control = control_options(common, place, &args.how)?;
    log_to_stderr(tracing::Level::INFO, common.format);
    let inventory = match args.watch {
        true => Some(watched(common)?),
        false => None,
    };
    block_on(keep(DaemonOptions { control, inventory }))?;
    Ok(Report::text("", YES))
}

/// Returns how to enforce, as asked.
pub(super) fn control_options(
    common: &Common,
    place: Place,
    how: &HowArgs,
) -> Result<ControlOptions, CliError> {
    let settings = settings(common, place)?;
    Ok(ControlOptions {
        mode: wanted(how.mode),
        connections: how.connections.unwrap_or(settings.connections),
        ..settings
    })
}

/// Returns how to enforce, as the settings say.
pub(super) fn settings(common: &Common, place: Place) -> Result<ControlOptions, CliError> {
    let config = Config::load(common.config.as_deref())?;
    Ok(ControlOptions {
        connections: config
            .connections
            .map_or(DEFAULT_CONNECTIONS, NonZeroU32::get),
        kept: config.history.unwrap_or(KEPT),
        network: config.network,
        // A hypervisor's ports without programs carry nothing to those that have some; there is nothing to hold.
        hold: config
            .hold
            .filter(|_| config.hypervisor.is_none())
            .map(|hold| hold.needs()),
        ports: config.ports,
        router: config.router,
        ..ControlOptions::new(place)
    })
}

fn watched(common: &Common) -> Result<Watched<'_>, CliError> {
    let config = Config::load(common.config.as_deref())?;
    let options = options(common)?;
    let folders = std::iter::once(options.site).chain(options.tenants);
    let settings = WatchSettings {
        quiet: Duration::from_millis(config.watch.quiet_milliseconds),
        apply: config.watch.apply,
        allow_destroy: config.watch.allow_destroy,
    };
    let watched = Watched::new(folders.collect(), settings, || read(common));
    Ok(watched)
}

/// Reads the inventory once.
fn read(common: &Common) -> Reading {
    let (options, loaded) = match load(common) {
        Ok(loaded) => loaded,
        Err(error) => {
            let error = error.to_string();
            return Reading {
                digest: error.clone(),
                desired: Err(error),
            };
        }
    };
    let digest = loaded.sources.digest();
    let desired = match loaded.model {
        Some(model) => Ok(Desired {
            host: chosen_host(&model, &options),
            inventory: digest.clone(),
            model,
        }),
        None => {
            let (findings, sources) = (&loaded.findings, &loaded.sources);
            let text = to_text(findings, sources, Audience::Platform, Style::Plain);
            Err(format!("the inventory has errors:\n{}", text.trim_end()))
        }
    };
    Reading { digest, desired }
}

pub(super) fn wanted(mode: ModeArg) -> WantedMode {
    match mode {
        ModeArg::Auto => WantedMode::Auto,
        ModeArg::XdpNative => WantedMode::Exactly(Mode::XdpNative),
        ModeArg::XdpGeneric => WantedMode::Exactly(Mode::XdpGeneric),
        ModeArg::Tcx => WantedMode::Exactly(Mode::Tcx),
        ModeArg::Clsact => WantedMode::Exactly(Mode::Clsact),
    }
}

/// `RUST_LOG` chooses another level than the usual one. For people on a terminal, for the journal otherwise: that has the time itself. As JSON,
/// a line is an object with `timestamp`, `level`, `message` and the fields of what is told.
pub(super) fn log_to_stderr(usual: tracing::Level, format: Format) {
    let level = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(usual.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    if format == Format::Json {
        log.with_ansi(false).json().flatten_event(true).init();
    } else if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}
