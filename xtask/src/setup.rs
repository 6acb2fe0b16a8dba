//! `cargo xtask setup`: what a fresh Debian 12 machine with rustup lacks, and nothing else.
//!
//! Each step looks first and does nothing when the thing is there, so that it can be run again at
//! any time. The other tasks call [`ensure()`] for the tiers they need.

use std::fs::{self, File};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::proc;
use crate::steps::{self, Step};

pub(crate) use crate::steps::{Tier, venv_bin};

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what these need (default: everything).
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Tier>,
    /// Also let git run the checks in .githooks before each commit.
    #[arg(long)]
    hooks: bool,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let tiers = if args.only.is_empty() {
        Tier::value_variants()
    } else {
        args.only.as_slice()
    };
    install(tiers, Talk::All)?;
    if args.hooks {
        install_hooks()?;
    }
    eprintln!("setup: all is there");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing of these tiers; says nothing if nothing is.
///
/// # Errors
/// A step failed; the message says what to do about it.
pub(crate) fn ensure(tiers: &[Tier]) -> Result<()> {
    install(tiers, Talk::Changes)
}

/// How much is said.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Talk {
    /// One line for every step.
    All,
    /// Only steps that do something.
    Changes,
}

/// Runs the steps of these tiers, one setup of this repository at a time.
fn install(tiers: &[Tier], talk: Talk) -> Result<()> {
    let steps: Vec<Step> = steps::all()
        .into_iter()
        .filter(|step| tiers.contains(&step.tier))
        .collect();
    let _lock = lock()?;
    for (index, step) in steps.iter().enumerate() {
        let place = format!("[{}/{}]", index + 1, steps.len());
        if (step.present)() {
            if talk == Talk::All {
                eprintln!("{place} {}: present", step.name);
            }
            continue;
        }
        eprintln!("{place} {}: installing ({})", step.name, step.why);
        let start = Instant::now();
        (step.install)().with_context(|| format!("setup of {}", step.name))?;
        ensure!(
            (step.present)(),
            "setup of {} ended without an error, and yet it is not there",
            step.name
        );
        let took = proc::seconds(start.elapsed());
        eprintln!("{place} {}: done in {took}", step.name);
    }
    Ok(())
}

/// Waits for another setup of this repository to end.
fn lock() -> Result<File> {
    let dir = proc::root().join("target");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Lets git use the hooks of the repository.
fn install_hooks() -> Result<()> {
    let mut git = Command::new("git");
    git.args(["config", "core.hooksPath", ".githooks"])
        .current_dir(proc::root());
    proc::run(&mut git)?;
    eprintln!("git hooks: .githooks (undo: git config --unset core.hooksPath)");
    Ok(())
}
