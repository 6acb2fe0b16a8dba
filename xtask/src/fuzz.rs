//! `cargo xtask fuzz`: the fuzz targets, each for a given time.
//!
//! Every input in `fuzz/corpus/` is replayed first; a crash leaves its input in `fuzz/artifacts/`
//! and belongs into the corpus, with the fix.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::proc;
use crate::setup::{self, Tier};

/// Where fuzz targets are.
const TARGETS: &str = "fuzz/fuzz_targets";

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The targets to run (default: all).
    targets: Vec<String>,
    /// For how long each one runs, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build, Tier::Fuzz])?;
    let all = targets()?;
    for name in &args.targets {
        ensure!(
            all.contains(name),
            "no fuzz target {name}; there are: {}",
            all.join(", ")
        );
    }
    let chosen = if args.targets.is_empty() {
        &all
    } else {
        &args.targets
    };
    for name in chosen {
        let time = format!("-max_total_time={}", args.seconds);
        // What is found goes into the first folder; what is in the repository is only read.
        let found = proc::target_dir().join("fuzz-corpus").join(name);
        fs::create_dir_all(&found).with_context(|| format!("create {}", found.display()))?;
        let mut cargo = proc::cargo_nightly();
        cargo.args(["fuzz", "run", name]).arg(&found);
        let committed = proc::root().join("fuzz/corpus").join(name);
        if committed.is_dir() {
            cargo.arg(committed);
        }
        cargo.args(["--", &time, "-rss_limit_mb=4096"]);
        proc::run(&mut cargo).with_context(|| format!("fuzz target {name}"))?;
        println!("{name}: nothing found in {} s", args.seconds);
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the fuzz targets, from their files.
fn targets() -> Result<Vec<String>> {
    let dir = proc::root().join(TARGETS);
    let entries = fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "no fuzz target in {TARGETS}");
    Ok(names)
}
