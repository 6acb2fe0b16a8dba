//! `cargo xtask deb`: the Debian package, with man pages and completions of the real command line.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::proc;
use crate::setup::{self, Tier};

/// Arguments of `cargo xtask deb`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Another version than the workspace's, for tests of an upgrade.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build, Tier::Package])?;
    let folder = proc::root().join("target/package");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut build = proc::cargo();
    build.args(["build", "--release", "--package", "dataplane-user"]);
    proc::run(build.args(["--bin", "bulkhead", "--example", "documents"]))?;
    let built = target().join("release");
    fs::copy(built.join("bulkhead"), folder.join("bulkhead")).context("copy the binary")?;
    let mut documents = Command::new(built.join("examples/documents"));
    proc::run(documents.arg(folder.join("documents")))?;
    let mut deb = proc::cargo();
    deb.args([
        "deb",
        "--no-build",
        "--package",
        "dataplane-user",
        "--output",
    ]);
    deb.arg(&folder);
    if let Some(version) = &args.version {
        deb.args(["--deb-version", version]);
    }
    proc::run(&mut deb)?;
    Ok(ExitCode::SUCCESS)
}

/// Where cargo builds.
fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    proc::root().join(chosen.unwrap_or_else(|| "target".into()))
}
