//! `cargo xtask`: everything that is done to this repository, each by one command.
//!
//! It depends on no crate of the project, so that it builds before any of them does. Talk goes to
//! stderr; what a command answers (results, tables, JSON) goes to stdout.
#![expect(
    clippy::print_stdout,
    reason = "a task runner's answer is its standard output"
)]
#![forbid(unsafe_code)]

mod abi;
mod bench;
mod check;
mod deb;
mod debian;
mod demo;
mod fuzz;
mod guards;
mod lacks;
mod libtest;
mod mutants;
mod proc;
mod setup;
mod steps;
mod test;
mod vm;
mod vmtest;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The tasks of bulkhead's repository.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:\n  \
        cargo xtask demo              isolation of the sample site, shown on real packets\n  \
        cargo xtask test              every rung of tests this machine can run\n  \
        cargo xtask test host         only the tests that need no root\n  \
        cargo xtask vm 6.1            a shell on a stock Debian kernel\n  \
        cargo xtask check             what a change must pass before it is merged"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// One task.
#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks, and say what and why.
    Setup(setup::Args),
    /// Format, lints (host and bpf), spelling, dependencies, docs, ABI version.
    Check(check::Args),
    /// Run the rungs of tests that this machine can run; say which it cannot.
    Test(test::Args),
    /// Run a command, or a shell, on a stock Debian kernel in a virtual machine.
    Vm(vm::Args),
    /// Show the isolation matrix of the sample site on real packets.
    Demo(demo::Args),
    /// Run one benchmark: path, policy, compiler, inventory.
    Bench(bench::Args),
    /// Feed the fuzz targets for a while.
    Fuzz(fuzz::Args),
    /// Build the Debian package, into target/package.
    Deb(deb::Args),
    /// Remove each guard of the policy in turn and demand that a test fails.
    Mutants(mutants::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Dispatches to the task's module.
fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup(args) => setup::run(&args),
        Task::Check(args) => check::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Vm(args) => vm::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Deb(args) => deb::run(&args),
        Task::Mutants(args) => mutants::run(&args),
    }
}
