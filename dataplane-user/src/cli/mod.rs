//! The command line: arguments in, text or JSON out, an exit code.
//!
//! Commands are functions from arguments to a [`Report`]; only [`run()`] prints. Data goes to standard
//! output, talk to standard error. Exit codes: 0 yes, 1 no or failed, 2 changes pending, 64 usage.

mod args;
mod can;
mod detach;
mod doctor;
mod explain;
mod inventory;
mod lint;
mod matrix;
mod observe;
mod place;
mod report;
mod run;
mod show;
mod status;

use std::process::ExitCode;

use clap::Parser;

pub use self::args::{Cli, Command};
pub use self::report::{CliError, Report};

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::print_usage(&error),
    };
    let done = match &cli.command {
        Command::Can(args) => can::run(&cli.common, args),
        Command::Detach(args) => detach::run(&cli.common, args),
        Command::Doctor(args) => doctor::run(&cli.common, args),
        Command::Explain(args) => explain::run(&cli.common, args),
        Command::Lint(args) => lint::run(&cli.common, args),
        Command::Observe(args) => observe::run(&cli.common, args),
        Command::Run(args) => run::run(&cli.common, args),
        Command::Show(args) => show::run(&cli.common, args),
        Command::Status(args) => status::run(&cli.common, args),
    };
    done.unwrap_or_else(|error| Report::of_error(&error))
        .print()
}
