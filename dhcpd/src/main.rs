//! `bulkhead-dhcpd`: flags, log, exit code. Everything else is the library's.

use std::process::ExitCode;

use clap::Parser as _;
use dhcpd::args::{Args, Format};
use dhcpd::server::{self, Options, chain};
use dhcpd::{import, settings};
use tracing::error;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { 64 } else { 0 });
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.format {
        Format::Text => log.with_target(false).init(),
        Format::Json => log.json().init(),
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %chain(&*error), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let settings = settings::read(args.config.as_deref())?;
    let options = Options {
        interfaces: args.interface,
        generation: args.generation,
        state: args.state,
        status: args.status,
        settings,
    };
    if let Some(path) = args.import_kea {
        let text = std::fs::read_to_string(path)?;
        server::import(&options, |scopes, now| import::kea(&text, scopes, now))?;
    } else if let Some(path) = args.import_dnsmasq {
        let text = std::fs::read_to_string(path)?;
        server::import(&options, |scopes, now| import::dnsmasq(&text, scopes, now))?;
    } else {
        server::run(options)?;
    }
    Ok(())
}
