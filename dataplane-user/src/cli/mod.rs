//! The command line: arguments in, text or JSON out, an exit code.
//!
//! Commands are functions from arguments to a [`Report`]; only [`run()`] prints. Data goes to standard
//! output, talk to standard error. Exit codes: 0 yes, 1 no or failed, 2 changes pending, 64 usage.

mod apply;
mod args;
mod can;
mod confirm;
mod detach;
mod dns;
mod doctor;
mod drift;
mod explain;
mod history;
mod hold;
mod inventory;
mod leases;
mod lint;
mod matrix;
mod observe;
mod place;
mod plan;
mod plan_file;
mod report;
mod run;
mod show;
mod status;
mod verify;
mod wait;

use std::process::ExitCode;

use clap::Parser;

pub use self::args::{Cli, Command};
pub use self::report::{CliError, Paint, Report};

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::print_usage(&error),
    };
    let done = match &cli.command {
        Command::Apply(args) => apply::run(&cli.common, args),
        Command::Can(args) => can::run(&cli.common, args),
        Command::Confirm(args) => confirm::run(&cli.common, args),
        Command::Detach(args) => detach::run(&cli.common, args),
        Command::Dns(args) => dns::run(&cli.common, args),
        Command::Doctor(args) => doctor::run(&cli.common, args),
        Command::Drift(args) => drift::run(&cli.common, args),
        Command::Explain(args) => explain::run(&cli.common, args),
        Command::History(args) => history::run(&cli.common, args),
        Command::Hold(args) => hold::run(&cli.common, args),
        Command::Leases(args) => leases::run(&cli.common, args),
        Command::Lint(args) => lint::run(&cli.common, args),
        Command::Observe(args) => observe::run(&cli.common, args),
        Command::Plan(args) => plan::run(&cli.common, args),
        Command::Rollback(args) => apply::rollback(&cli.common, args),
        Command::Run(args) => run::run(&cli.common, args),
        Command::Show(args) => show::run(&cli.common, args),
        Command::Status(args) => status::run(&cli.common, args),
        Command::Verify(args) => verify::run(&cli.common, args),
    };
    done.unwrap_or_else(|error| Report::of_error(&error))
        .print()
}
