//! `cargo xtask test`: the rungs of tests, cheapest first.
//!
//! # What it promises
//! * A rung that this machine cannot run is named, with the reason. Under `CI=true` that is a
//!   failure for the rungs host, kernel and netns.
//! * Every program has a time limit; one that dies or tells no result is a failure.
//! * The last line is `N passed, N failed`; the exit status says the same.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum as _;

use crate::lacks::{self, Lack};
use crate::libtest::{self, Program, Rung, Tally, TestTarget};
use crate::proc::{self, Echo};
use crate::setup::{self, Tier};
use crate::vm::Series;
use crate::vmtest;

/// The longest that building and running all host tests may take: a few minutes, but for a busy machine without a cache.
const HOST_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The longest that one test program may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The rungs to run (default: all).
    #[arg(value_enum)]
    rungs: Vec<Rung>,
    /// The kernels of the virtual machines (default: all).
    #[arg(long = "kernel", value_enum)]
    kernels: Vec<Series>,
    /// Only test programs whose name contains this.
    #[arg(long)]
    name: Option<String>,
    /// In virtual machines, run every program on every kernel: two hours, instead of twenty minutes.
    #[arg(long)]
    full: bool,
    /// Show all output, not only that of failures.
    #[arg(long, short)]
    verbose: bool,
}

impl Args {
    /// Whether output is shown while it comes.
    pub(crate) fn echo(&self) -> Echo {
        if self.verbose { Echo::Show } else { Echo::Keep }
    }

    /// Whether a rung was asked for.
    fn wants(&self, rung: Rung) -> bool {
        self.rungs.is_empty() || self.rungs.contains(&rung)
    }

    /// Whether a test program is to be run on any rung.
    fn wants_target(&self, target: &TestTarget) -> bool {
        let mut rungs = Rung::value_variants().iter();
        rungs.any(|rung| self.wants(*rung) && target.runs_on(*rung))
            && self.wants_name(&target.name)
    }

    /// Whether test programs run on every kernel: they were asked for by name, or all of them.
    pub(crate) fn everywhere(&self) -> bool {
        self.full || self.name.is_some()
    }

    /// Whether a test program was asked for.
    fn wants_name(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|part| name.contains(part))
    }

    /// The kernels of the virtual machines.
    pub(crate) fn kernels(&self) -> &[Series] {
        if self.kernels.is_empty() {
            &Series::ALL
        } else {
            &self.kernels
        }
    }
}

/// One line of the summary.
pub(crate) struct Row {
    label: String,
    outcome: Outcome,
}

/// Whether a rung ran.
enum Outcome {
    /// It did; what it left out, and why.
    Ran {
        tally: Tally,
        elapsed: Duration,
        left_out: Vec<String>,
    },
    /// It could not; that may be a failure.
    Skipped { reason: String, allowed: bool },
}

impl Row {
    /// A rung that ran.
    pub(crate) fn ran(label: impl Into<String>, tally: Tally, elapsed: Duration) -> Self {
        Self {
            label: label.into(),
            outcome: Outcome::Ran {
                tally,
                elapsed,
                left_out: Vec::new(),
            },
        }
    }

    /// The same on a kernel that lacks something: tests of it did not run.
    pub(crate) fn lacking(mut self, lacks: &[Lack]) -> Self {
        let lines = lacks
            .iter()
            .map(|Lack { word, why, .. }| format!("tests named *{word}*: {why}"));
        if let Outcome::Ran { left_out, .. } = &mut self.outcome {
            left_out.extend(lines);
        }
        self
    }

    /// The same without these programs: they only run if they are asked for.
    pub(crate) fn without(mut self, programs: &[&str], remedy: &str) -> Self {
        if let Outcome::Ran { left_out, .. } = &mut self.outcome
            && !programs.is_empty()
        {
            left_out.push(format!("{} ({remedy})", programs.join(", ")));
        }
        self
    }

    /// A rung that this machine may lack.
    pub(crate) fn skipped(label: impl Into<String>, reason: String) -> Self {
        Self {
            label: label.into(),
            outcome: Outcome::Skipped {
                reason,
                allowed: true,
            },
        }
    }

    /// A rung that every machine of CI must have.
    fn skipped_unless_ci(label: impl Into<String>, reason: String) -> Self {
        Self {
            label: label.into(),
            outcome: Outcome::Skipped {
                reason,
                allowed: !in_ci(),
            },
        }
    }
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build])?;
    let targets: Vec<TestTarget> = libtest::discover()?
        .into_iter()
        .filter(|target| args.wants_target(target))
        .collect();
    let mut rows = Vec::new();
    if args.wants(Rung::Host) {
        rows.push(host(args, &targets)?);
    }
    if args.rungs != [Rung::Host] {
        rows.extend(privileged(args, &targets)?);
    }
    Ok(summary(&rows))
}

/// Rung 1: all unit tests, documentation examples and plain integration tests.
fn host(args: &Args, targets: &[TestTarget]) -> Result<Row> {
    eprintln!("== host: pure code");
    let start = Instant::now();
    let mut tally = Tally::default();
    for mut command in host_commands(args, targets) {
        eprintln!("   {}", proc::shown(&command));
        let finished = proc::capture(&mut command, HOST_LIMIT, args.echo())?;
        let part = Tally::of(&finished.text, finished.success());
        report("", part, &finished, args.echo());
        tally.add(part);
    }
    Ok(Row::ran(Rung::Host.name(), tally, start.elapsed()))
}

/// The invocations of cargo that are rung 1.
fn host_commands(args: &Args, targets: &[TestTarget]) -> Vec<Command> {
    let mut tests = workspace(&["test"]);
    tests.arg("--no-fail-fast");
    if args.name.is_none() {
        tests.args(["--lib", "--bins"]);
    }
    let mut plain = targets
        .iter()
        .filter(|target| target.rung == Rung::Host)
        .peekable();
    if args.name.is_some() && plain.peek().is_none() {
        return Vec::new();
    }
    for target in plain {
        tests.args(["--test", &target.name]);
    }
    let mut commands = vec![tests];
    if args.name.is_none() {
        let mut docs = workspace(&["test"]);
        docs.arg("--doc");
        commands.push(docs);
    }
    commands
}

/// The profile of all rungs: one build of everything, as optimised as what is installed, that checks its arithmetic.
pub(crate) const PROFILE: &str = "checked";

/// All crates that can be built for the host, as arguments of cargo.
pub(crate) const ALL_CRATES: [&str; 3] = ["--workspace", "--exclude", "dataplane-ebpf"];

/// Cargo on all crates that can be built for the host.
fn workspace(args: &[&str]) -> Command {
    let mut command = proc::cargo();
    command.args(args).args(["--profile", PROFILE]);
    command.args(ALL_CRATES);
    command
}

/// Rungs 2 to 4: builds their programs once, and runs each where it belongs.
fn privileged(args: &Args, targets: &[TestTarget]) -> Result<Vec<Row>> {
    let wanted: Vec<TestTarget> = targets
        .iter()
        .filter(|target| target.rung != Rung::Host)
        .cloned()
        .collect();
    let mut rows = Vec::new();
    let start = Instant::now();
    let programs = build(&wanted).unwrap_or_else(|error| {
        eprintln!("   {error:#}");
        let tally = Tally {
            failed: 1,
            ..Tally::default()
        };
        rows.push(Row::ran("build", tally, start.elapsed()));
        Vec::new()
    });
    for rung in [Rung::Kernel, Rung::Netns] {
        if args.wants(rung) {
            rows.push(on_this_kernel(rung, args, &programs)?);
        }
    }
    if args.wants(Rung::Vm) {
        rows.extend(vmtest::run(args, &programs)?);
    }
    Ok(rows)
}

/// Builds test programs.
fn build(wanted: &[TestTarget]) -> Result<Vec<Program>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    eprintln!("== building the programs of the other rungs");
    // All crates, as for rung 1: with others, dependencies get other features, and are built again.
    let mut command = workspace(&["test", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    let names: BTreeSet<&String> = wanted.iter().map(|target| &target.name).collect();
    for name in names {
        command.args(["--test", name]);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start `{}`", proc::shown(&command)))?;
    ensure!(
        output.status.success(),
        "`{}` ended with {}",
        proc::shown(&command),
        output.status
    );
    libtest::programs(&String::from_utf8_lossy(&output.stdout), wanted)
}

/// Rungs 2 and 3: programs that need root, on the kernel of this machine.
fn on_this_kernel(rung: Rung, args: &Args, programs: &[Program]) -> Result<Row> {
    eprintln!("== {}: on this kernel", rung.name());
    if let Err(error) = setup::ensure(&[Tier::Net]).and_then(|()| check_namespaces()) {
        return Ok(Row::skipped_unless_ci(rung.name(), format!("{error:#}")));
    }
    let mut programs = programs
        .iter()
        .filter(|program| program.target.rung == rung)
        .peekable();
    if programs.peek().is_none() {
        let reason = "no test program was built for it".into();
        return Ok(Row::skipped_unless_ci(rung.name(), reason));
    }
    let start = Instant::now();
    let mut tally = Tally::default();
    let lacks = lacks::of(&release());
    for program in programs {
        let dir = program.target.dir.display().to_string();
        let mut env = vec![
            ("BULKHEAD_RUNG", rung.name()),
            // As cargo sets it; ours is that of xtask.
            ("CARGO_MANIFEST_DIR", dir.as_str()),
            ("RUST_BACKTRACE", "1"),
        ];
        let threads = program.target.threads();
        env.extend(
            threads
                .as_ref()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let mut command = proc::as_root(&program.path, &env);
        command.args(lacks::skips(&lacks));
        command.current_dir(&program.target.dir);
        let finished = proc::capture(&mut command, PROGRAM_LIMIT, args.echo())?;
        let part = Tally::of(&finished.text, finished.success());
        report(&program.target.name, part, &finished, args.echo());
        tally.add(part);
    }
    Ok(Row::ran(rung.name(), tally, start.elapsed()).lacking(&lacks))
}

/// The release of this machine's kernel; nothing if it does not say.
fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Whether tests can be root and make network namespaces here.
fn check_namespaces() -> Result<()> {
    ensure!(
        proc::can_be_root(),
        "needs root: eBPF and network namespaces (run it as root, or install sudo)"
    );
    let unshare = proc::which("unshare").context("unshare is not there")?;
    let mut probe = proc::as_root(unshare, &[]);
    probe.args(["--net", "true"]);
    ensure!(
        proc::succeeds(&mut probe),
        "no network namespaces here (`unshare --net true` fails): a container without CAP_SYS_ADMIN?"
    );
    Ok(())
}

/// Says what a program did; shows its output if it failed and was not shown before.
fn report(name: &str, tally: Tally, finished: &proc::Finished, echo: Echo) {
    let colon = if name.is_empty() { "" } else { ": " };
    let took = proc::seconds(finished.elapsed);
    eprintln!("   {name}{colon}{} ({took})", told(tally));
    if tally.failed > 0 {
        if echo == Echo::Keep {
            eprintln!("{}", finished.text);
        }
        for test in libtest::failed_tests(&finished.text) {
            eprintln!("   failed: {test}");
        }
        if !finished.success() {
            eprintln!("   {name}{colon}{}", finished.ending());
        }
    }
}

/// A tally in words.
pub(crate) fn told(tally: Tally) -> String {
    let mut text = format!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.ignored > 0 {
        text += &format!(", {} ignored", tally.ignored);
    }
    if tally.skipped > 0 {
        text += &format!(", {} skipped", tally.skipped);
    }
    text
}

/// Whether skipping is a failure.
fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Prints the table and the closing line; the exit status of the task.
fn summary(rows: &[Row]) -> ExitCode {
    let mut sum = Tally::default();
    println!(
        "\n{:<10} {:>8} {:>8} {:>8} {:>8}  time",
        "rung", "passed", "failed", "ignored", "skipped"
    );
    for row in rows {
        match &row.outcome {
            Outcome::Ran {
                tally,
                elapsed,
                left_out,
            } => {
                sum.add(*tally);
                let Tally {
                    passed,
                    failed,
                    ignored,
                    skipped,
                } = tally;
                let took = proc::seconds(*elapsed);
                println!(
                    "{:<10} {passed:>8} {failed:>8} {ignored:>8} {skipped:>8}  {took}",
                    row.label
                );
                for line in left_out {
                    println!("{:<10} skipped: {line}", "");
                }
            }
            Outcome::Skipped { reason, allowed } => {
                sum.failed += u64::from(!allowed);
                let word = if *allowed {
                    "not run"
                } else {
                    "not run, which is a failure here"
                };
                println!("{:<10} {word}: {reason}", row.label);
            }
        }
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_is_a_failure_only_where_it_is_not_allowed() {
        for (allowed, failed) in [(true, 0), (false, 1)] {
            let reason = "no root".into();
            let row = Row {
                label: "netns".into(),
                outcome: Outcome::Skipped { reason, allowed },
            };
            let code = summary(&[row]);
            assert_eq!(code == ExitCode::SUCCESS, failed == 0);
        }
    }
}
