//! `cargo xtask check`: what a change must pass before it is merged. CI runs exactly this.
//!
//! All steps run, also after one that failed; the failures' outputs stand at the end.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::abi;
use crate::proc::{self, Echo};
use crate::setup::{self, Tier};

/// The longest that one step may take; the first run of clippy and of the docs builds everything.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Arguments of `cargo xtask check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what takes seconds: format, spelling, ABI version.
    #[arg(long)]
    quick: bool,
}

/// One check.
struct Step {
    name: &'static str,
    quick: bool,
    run: fn() -> Result<Verdict>,
}

/// What a check found, if it is not an error.
enum Verdict {
    Fine(String),
    /// It could not be done here.
    Skipped(String),
}

/// The checks, the cheap ones first.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        quick: true,
        run: format,
    },
    Step {
        name: "spelling",
        quick: true,
        run: spelling,
    },
    Step {
        name: "abi version",
        quick: true,
        run: || abi::check().map(Verdict::Fine),
    },
    Step {
        name: "lock file",
        quick: false,
        run: lock_file,
    },
    Step {
        name: "clippy (host)",
        quick: false,
        run: clippy_host,
    },
    Step {
        name: "clippy (no features)",
        quick: false,
        run: clippy_no_features,
    },
    Step {
        name: "clippy (bpf)",
        quick: false,
        run: clippy_bpf,
    },
    Step {
        name: "clippy (fuzz)",
        quick: false,
        run: clippy_fuzz,
    },
    Step {
        name: "docs",
        quick: false,
        run: docs,
    },
    Step {
        name: "dependencies",
        quick: false,
        run: dependencies,
    },
    Step {
        name: "advisories",
        quick: false,
        run: advisories,
    },
];

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build, Tier::Check])?;
    let mut failures = Vec::new();
    for step in STEPS.iter().filter(|step| step.quick || !args.quick) {
        let start = Instant::now();
        let result = (step.run)();
        let took = proc::seconds(start.elapsed());
        let (word, note) = match &result {
            Ok(Verdict::Fine(note)) => ("ok", note.as_str()),
            Ok(Verdict::Skipped(reason)) => ("not run", reason.as_str()),
            Err(_) => ("FAILED", "see below"),
        };
        println!("{:<22} {word:<8} {took:>12}  {note}", step.name);
        if let Err(error) = result {
            failures.push((step.name, error));
        }
    }
    for (name, error) in &failures {
        println!("\n== {name}\n{error:#}");
    }
    println!("\n{}", closing(failures.len()));
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The last line.
fn closing(failures: usize) -> String {
    match failures {
        0 => "check: ok".into(),
        1 => "check: 1 step failed".into(),
        many => format!("check: {many} steps failed"),
    }
}

/// Runs a command as a step: fine if it exits with 0, else its output is the error.
fn step(command: &mut Command) -> Result<Verdict> {
    let finished = proc::capture(command, LIMIT, Echo::Keep)?;
    if finished.success() {
        return Ok(Verdict::Fine(String::new()));
    }
    bail!(
        "{}\n`{}`: {}",
        finished.text.trim_end(),
        proc::shown(command),
        finished.ending()
    )
}

/// rustfmt, on the workspace and the fuzz targets.
fn format() -> Result<Verdict> {
    step(proc::cargo().args(["fmt", "--all", "--check"]))?;
    if !has_fuzz() {
        return Ok(Verdict::Fine(String::new()));
    }
    step(proc::cargo().args(["fmt", "--manifest-path", FUZZ, "--check"]))
}

/// typos, with `typos.toml`.
fn spelling() -> Result<Verdict> {
    let mut typos = Command::new(setup::venv_bin().join("typos"));
    step(typos.current_dir(proc::root()))
}

/// Whether Cargo.lock says what the manifests want.
fn lock_file() -> Result<Verdict> {
    step(proc::cargo().args(["metadata", "--locked", "--format-version", "1", "--quiet"]))
}

/// All that is built for the host, tests and benches too.
fn clippy_host() -> Result<Verdict> {
    let mut cargo = proc::cargo();
    cargo.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude",
        "dataplane-ebpf",
        "--all-targets",
    ]);
    step(cargo.args(["--", "-D", "warnings"]))
}

/// The shared crate as the eBPF program sees it: in the workspace, cargo joins the features of
/// all its users, which would hide code that only builds with `user`.
fn clippy_no_features() -> Result<Verdict> {
    let mut cargo = proc::cargo();
    cargo.args([
        "clippy",
        "--quiet",
        "--package",
        "dataplane-common",
        "--no-default-features",
    ]);
    step(cargo.args(["--", "-D", "warnings"]))
}

/// The eBPF program, for its own target.
fn clippy_bpf() -> Result<Verdict> {
    let mut cargo = proc::cargo_nightly();
    cargo.args(["clippy", "--quiet", "--package", "dataplane-ebpf", "--bins"]);
    cargo.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    step(cargo.args(["--", "-D", "warnings"]))
}

/// The manifest of the fuzz targets, which are not in the workspace.
const FUZZ: &str = "fuzz/Cargo.toml";

/// Whether there are fuzz targets.
fn has_fuzz() -> bool {
    proc::root().join(FUZZ).is_file()
}

/// The fuzz targets; libfuzzer itself needs nightly only to be linked.
fn clippy_fuzz() -> Result<Verdict> {
    if !has_fuzz() {
        return Ok(Verdict::Skipped("there are no fuzz targets".into()));
    }
    let mut cargo = proc::cargo_nightly();
    step(cargo.args(["clippy", "--manifest-path", FUZZ, "--", "-D", "warnings"]))
}

/// rustdoc: broken links and missing docs are errors.
fn docs() -> Result<Verdict> {
    let mut cargo = proc::cargo();
    cargo.args([
        "doc",
        "--quiet",
        "--workspace",
        "--exclude",
        "dataplane-ebpf",
        "--no-deps",
    ]);
    cargo.arg("--document-private-items");
    // Private items are in these documents, so links to them work.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    step(cargo.env("RUSTDOCFLAGS", flags))
}

/// Licences, sources and banned crates, as `deny.toml` says.
fn dependencies() -> Result<Verdict> {
    step(proc::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

/// Known defects of dependencies; needs the advisory database, which is on the network.
fn advisories() -> Result<Verdict> {
    let mut cargo = proc::cargo();
    cargo.args(["deny", "check", "advisories"]);
    let finished = proc::capture(&mut cargo, Duration::from_secs(120), Echo::Keep)?;
    if finished.success() {
        return Ok(Verdict::Fine(String::new()));
    }
    if is_offline(&finished.text) || finished.status.is_none() {
        let reason = "the advisory database cannot be fetched: is github.com reachable?";
        return Ok(Verdict::Skipped(reason.into()));
    }
    bail!("{}", finished.text.trim_end())
}

/// Whether cargo-deny says that it could not fetch its database.
fn is_offline(text: &str) -> bool {
    text.contains("failed to fetch advisory database")
        || text.contains("failed to load advisory database")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_configuration_of_every_step_is_there() {
        for path in [
            "deny.toml",
            "typos.toml",
            "rustfmt.toml",
            "clippy.toml",
            "Cargo.lock",
        ] {
            assert!(proc::root().join(path).is_file(), "{path}");
        }
    }

    #[test]
    fn a_failing_command_is_an_error_with_its_output() {
        let mut command = Command::new("sh");
        let result = step(command.args(["-c", "echo what was wrong; exit 1"]));
        let error = result.err().unwrap();
        assert!(error.to_string().contains("what was wrong"));
    }

    #[test]
    fn examples_in_the_readme_are_lines_of_the_sample() {
        let readme = fs::read_to_string(proc::root().join("README.md")).unwrap();
        let examples: Vec<&str> = readme
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(!examples.is_empty());
        for example in examples {
            let (path, lines) = example.split_once('\n').unwrap();
            let path = path.trim_start_matches("# ");
            let file = fs::read_to_string(proc::root().join(path)).unwrap();
            assert!(
                file.contains(lines),
                "{path} does not have these lines:\n{lines}"
            );
        }
    }
}
