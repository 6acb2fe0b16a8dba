//! `cargo xtask deb`: the Debian package, with man pages and completions of the real command line.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::proc;
use crate::setup::{self, Tier};
use crate::test;

/// Arguments of `cargo xtask deb`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Another version than the workspace's, for tests of an upgrade.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// Programs of the package, each with the crate that has it.
const PROGRAMS: [(&str, &str); 3] = [
    ("bulkhead", "dataplane-user"),
    ("bulkhead-dhcpd", "dhcpd"),
    ("bulkhead-dns", "dns"),
];

/// Programs that write man pages and completions, of the same crates.
const DOCUMENTS: [&str; 3] = ["documents", "dhcpd-documents", "dns-documents"];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    build("release")?;
    let package = pack(args.version.as_deref())?;
    eprintln!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything that is packed.
///
/// # Errors
/// Something of it cannot be built.
pub(crate) fn build(profile: &str) -> Result<()> {
    setup::ensure(&[Tier::Build, Tier::Package])?;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut build = proc::cargo();
    build.args(["build", "--profile", profile]);
    build.args(PROGRAMS.iter().flat_map(|(program, _)| ["--bin", program]));
    build.args(DOCUMENTS.iter().flat_map(|example| ["--example", example]));
    if profile == test::PROFILE {
        // As the tests were built: another choice of crates gives dependencies other features, and builds them again.
        build.args(test::ALL_CRATES);
    } else {
        build.args(
            PROGRAMS
                .iter()
                .flat_map(|(_, package)| ["--package", package]),
        );
    }
    proc::run(&mut build)?;
    let built = proc::target_dir().join(profile);
    for (program, _) in PROGRAMS {
        let packed = folder.join(program);
        fs::copy(built.join(program), &packed).with_context(|| format!("copy {program}"))?;
        // Line tables are for whoever builds: they are most of the file.
        proc::run(Command::new("strip").arg(packed))?;
    }
    for example in DOCUMENTS {
        let mut documents = Command::new(built.join("examples").join(example));
        proc::run(documents.arg(folder.join("documents")))?;
    }
    Ok(())
}

/// Packs what was built, and gives back the package.
///
/// # Errors
/// A file is missing, or cannot be written.
pub(crate) fn pack(version: Option<&str>) -> Result<PathBuf> {
    let mut deb = proc::cargo();
    deb.args(["deb", "--no-build", "--package", "dataplane-user"]);
    deb.arg("--output").arg(folder());
    if let Some(version) = version {
        deb.args(["--deb-version", version]);
    }
    // It prints the package's path.
    let said = proc::output(&mut deb)?;
    let path = said
        .lines()
        .last()
        .context("cargo deb does not say where the package is")?;
    Ok(PathBuf::from(path))
}

/// Where the package is made.
fn folder() -> PathBuf {
    proc::root().join("target/package")
}
