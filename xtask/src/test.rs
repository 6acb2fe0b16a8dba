//! `cargo xtask test`: the rungs of tests, cheapest first.
//!
//! # What it promises
//! * A rung that this machine cannot run is named, with the reason. Under `CI=true` that is a
//!   failure for the rungs host, kernel and netns.
//! * Every program has a time limit; one that dies or tells no result is a failure.
//! * The last line is `N passed, N failed`; the exit status says the same.

use std::env;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::libtest::{self, Program, Rung, Tally, TestTarget};
use crate::proc::{self, Echo};
use crate::setup::{self, Tier};
use crate::vm::{self, Kernel, Series};

/// The longest that building and running all host tests may take.
const HOST_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The longest that one test program may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The longest that one virtual machine may take, with all of its tests.
const VM_LIMIT: Duration = Duration::from_secs(8 * 60);

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
    /// Show all output, not only that of failures.
    #[arg(long, short)]
    verbose: bool,
}

impl Args {
    /// Whether output is shown while it comes.
    fn echo(&self) -> Echo {
        if self.verbose { Echo::Show } else { Echo::Keep }
    }

    /// Whether a rung was asked for.
    fn wants(&self, rung: Rung) -> bool {
        self.rungs.is_empty() || self.rungs.contains(&rung)
    }

    /// Whether a test program was asked for.
    fn wants_name(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|part| name.contains(part))
    }

    /// The kernels of the virtual machines.
    fn kernels(&self) -> &[Series] {
        if self.kernels.is_empty() {
            &Series::ALL
        } else {
            &self.kernels
        }
    }
}

/// What became of one line of the summary.
struct Row {
    label: String,
    outcome: Outcome,
}

/// Whether it ran.
enum Outcome {
    Ran {
        tally: Tally,
        elapsed: Duration,
    },
    /// It could not; under `CI=true` that may be a failure.
    Skipped {
        reason: String,
        allowed: bool,
    },
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build])?;
    let targets: Vec<TestTarget> = libtest::discover()?
        .into_iter()
        .filter(|target| args.wants(target.rung) && args.wants_name(&target.name))
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
    Ok(Row {
        label: Rung::Host.name().into(),
        outcome: Outcome::Ran {
            tally,
            elapsed: start.elapsed(),
        },
    })
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

/// Cargo on all crates that can be built for the host.
fn workspace(args: &[&str]) -> Command {
    let mut command = proc::cargo();
    command.args(args);
    command.args(["--workspace", "--exclude", "dataplane-ebpf"]);
    command
}

/// Rungs 2 to 4: builds their programs once, optimised, and runs each where it belongs.
fn privileged(args: &Args, targets: &[TestTarget]) -> Result<Vec<Row>> {
    let wanted: Vec<TestTarget> = targets
        .iter()
        .filter(|target| target.rung != Rung::Host)
        .cloned()
        .collect();
    let mut rows = Vec::new();
    let programs = match build(&wanted)? {
        Ok(programs) => programs,
        Err(row) => {
            rows.push(row);
            Vec::new()
        }
    };
    for rung in [Rung::Kernel, Rung::Netns] {
        if args.wants(rung) {
            rows.push(on_this_kernel(rung, args, &programs)?);
        }
    }
    if args.wants(Rung::Vm) {
        rows.extend(virtual_machines(args, &programs)?);
    }
    Ok(rows)
}

/// Builds test programs, optimised; a row of the summary if that fails.
fn build(wanted: &[TestTarget]) -> Result<Result<Vec<Program>, Row>> {
    if wanted.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    eprintln!("== building the programs of the other rungs");
    let mut command = proc::cargo();
    command.args([
        "test",
        "--release",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let mut packages: Vec<&str> = wanted
        .iter()
        .map(|target| target.package.as_str())
        .collect();
    packages.dedup();
    for package in packages {
        command.args(["--package", package]);
    }
    for target in wanted {
        command.args(["--test", &target.name]);
    }
    let start = Instant::now();
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("start `{}`", proc::shown(&command)))?;
    if output.status.success() {
        let messages = String::from_utf8_lossy(&output.stdout);
        return Ok(Ok(libtest::programs(&messages, wanted)));
    }
    let tally = Tally {
        failed: 1,
        ..Tally::default()
    };
    Ok(Err(Row {
        label: "build".into(),
        outcome: Outcome::Ran {
            tally,
            elapsed: start.elapsed(),
        },
    }))
}

/// Rungs 2 and 3: programs that need root, on the kernel of this machine.
fn on_this_kernel(rung: Rung, args: &Args, programs: &[Program]) -> Result<Row> {
    eprintln!("== {}: on this kernel", rung.name());
    let label = rung.name().to_owned();
    if let Err(error) = setup::ensure(&[Tier::Net]).and_then(|()| check_namespaces()) {
        let reason = format!("{error:#}");
        return Ok(Row {
            label,
            outcome: Outcome::Skipped {
                reason,
                allowed: !in_ci(),
            },
        });
    }
    let start = Instant::now();
    let mut tally = Tally::default();
    for program in programs
        .iter()
        .filter(|program| program.target.rung == rung)
    {
        let env = [("BULKHEAD_RUNG", rung.name()), ("RUST_BACKTRACE", "1")];
        let mut command = proc::as_root(&program.path, &env);
        command.current_dir(&program.target.dir);
        command.env("CARGO_MANIFEST_DIR", &program.target.dir);
        let finished = proc::capture(&mut command, PROGRAM_LIMIT, args.echo())?;
        let part = Tally::of(&finished.text, finished.success());
        report(&program.target.name, part, &finished, args.echo());
        tally.add(part);
    }
    Ok(Row {
        label,
        outcome: Outcome::Ran {
            tally,
            elapsed: start.elapsed(),
        },
    })
}

/// Whether tests can be root and make network namespaces here.
fn check_namespaces() -> Result<()> {
    anyhow::ensure!(
        proc::can_be_root(),
        "needs root: eBPF and network namespaces (run it as root, or install sudo)"
    );
    let unshare = proc::which("unshare").context("unshare is not there")?;
    let mut probe = proc::as_root(unshare, &[]);
    probe.args(["--net", "true"]);
    anyhow::ensure!(
        proc::succeeds(&mut probe),
        "no network namespaces here (`unshare --net true` fails): a container without CAP_SYS_ADMIN?"
    );
    Ok(())
}

/// Rung 4: a row for each kernel.
fn virtual_machines(args: &Args, programs: &[Program]) -> Result<Vec<Row>> {
    let ready = setup::ensure(&[Tier::Vm]);
    let mut rows = Vec::new();
    for &series in args.kernels() {
        let label = format!("vm {series}");
        eprintln!("== {label}: stock Debian kernel, processor emulated");
        let kernel = match &ready {
            Err(error) => Err(format!("{error:#}")),
            Ok(()) => vm::find_kernel(series).map_err(|error| format!("{error:#}")),
        };
        rows.push(match kernel {
            Ok(kernel) => virtual_machine(label, &kernel, args, programs)?,
            Err(reason) => Row {
                label,
                outcome: Outcome::Skipped {
                    reason,
                    allowed: true,
                },
            },
        });
    }
    Ok(rows)
}

/// Boots one kernel and runs all programs of rung 4 on it.
fn virtual_machine(
    label: String,
    kernel: &Kernel,
    args: &Args,
    programs: &[Program],
) -> Result<Row> {
    let programs: Vec<&Program> = programs
        .iter()
        .filter(|program| program.target.rung == Rung::Vm)
        .collect();
    let script = vm_script(&kernel.release, &programs);
    let finished = vm::run_script(kernel, "test", &script, VM_LIMIT, args.echo())?;
    let mut tally = Tally::default();
    for (name, part) in vm_results(&finished.text, &programs) {
        let success = part.is_some_and(|(_, code)| code == 0);
        let text = part.map_or("it did not run to its end", |(text, _)| text);
        let result = Tally::of(text, success);
        tally.add(result);
        eprintln!("   {name}: {}", told(result));
        if result.failed > 0 && args.echo() == Echo::Keep {
            eprintln!("{text}");
        }
    }
    if !finished.success() {
        eprintln!("   the virtual machine: {}", finished.ending());
        if finished.text.is_empty() || finished.status.is_none() {
            eprintln!("{}", proc::tail(&finished.text, 20));
        }
    }
    Ok(Row {
        label,
        outcome: Outcome::Ran {
            tally,
            elapsed: finished.elapsed,
        },
    })
}

/// Marks the begin and the end of a program's output in that of a virtual machine.
const MARK: &str = "@@bulkhead";

/// The check that a virtual machine is worth anything: the kernel asked for, with VLAN devices.
const VLAN_CHECK: &str = "vlan-devices";

/// What runs inside of the virtual machine.
fn vm_script(release: &str, programs: &[&Program]) -> String {
    let check = format!(
        "sh -ec 'test \"$(uname -r)\" = {release}\n\
         ip link add bh0 type veth peer name bh1\n\
         ip link add link bh0 name bh0.100 type vlan id 100\n\
         ip -details link show bh0.100 | grep -q \"vlan protocol 802.1Q id 100\"\n\
         ip link delete bh0\n\
         echo \"test result: ok. 1 passed; 0 failed; 0 ignored\"'"
    );
    let mut script = String::from("export BULKHEAD_RUNG=vm RUST_BACKTRACE=1\n");
    let mut add = |name: &str, command: &str| {
        script += &format!(
            "echo; echo '{MARK} begin {name}'\n{command} 2>&1\ncode=$?\n\
             echo; echo \"{MARK} end {name} $code\"\n"
        );
    };
    add(VLAN_CHECK, &check);
    for program in programs {
        let dir = vm::quote(&program.target.dir.display().to_string());
        let path = vm::quote(&program.path.display().to_string());
        let command = format!("( cd {dir} && CARGO_MANIFEST_DIR={dir} timeout -k 5 300 {path} )");
        add(&program.target.name, &command);
    }
    script
}

/// What a program wrote, and its exit status.
type VmResult<'a> = Option<(&'a str, i32)>;

/// What each program wrote; `None` for one that did not end.
fn vm_results<'a>(output: &'a str, programs: &[&'a Program]) -> Vec<(&'a str, VmResult<'a>)> {
    std::iter::once(VLAN_CHECK)
        .chain(programs.iter().map(|program| program.target.name.as_str()))
        .map(|name| (name, vm_result(output, name)))
        .collect()
}

/// What one program wrote between its marks.
fn vm_result<'a>(output: &'a str, name: &str) -> VmResult<'a> {
    let (_, rest) = output.split_once(&format!("{MARK} begin {name}"))?;
    let (text, rest) = rest.split_once(&format!("{MARK} end {name} "))?;
    let code = rest.split_whitespace().next()?.parse().ok()?;
    Some((text, code))
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
fn told(tally: Tally) -> String {
    let mut text = format!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.ignored > 0 {
        text += &format!(", {} ignored", tally.ignored);
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
        "\n{:<10} {:>8} {:>8} {:>8}  time",
        "rung", "passed", "failed", "ignored"
    );
    for row in rows {
        match &row.outcome {
            Outcome::Ran { tally, elapsed } => {
                sum.add(*tally);
                let Tally {
                    passed,
                    failed,
                    ignored,
                } = tally;
                let took = proc::seconds(*elapsed);
                println!(
                    "{:<10} {passed:>8} {failed:>8} {ignored:>8}  {took}",
                    row.label
                );
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
    fn output_of_a_virtual_machine_is_told_apart_by_its_marks() {
        let output = "noise\n@@bulkhead begin vlan-devices\nhello\n\n@@bulkhead end vlan-devices 0\n\
                      @@bulkhead begin vm_x\nhalf";
        assert_eq!(vm_result(output, "vlan-devices"), Some(("\nhello\n\n", 0)));
        assert_eq!(vm_result(output, "vm_x"), None);
        assert_eq!(vm_result(output, "vm_y"), None);
    }

    #[test]
    fn a_failing_program_keeps_its_exit_status() {
        let output = "@@bulkhead begin a\n@@bulkhead end a 101\n";
        assert_eq!(vm_result(output, "a"), Some(("\n", 101)));
    }

    #[test]
    fn skipping_is_a_failure_only_where_it_is_not_allowed() {
        for (allowed, failed) in [(true, 0), (false, 1)] {
            let outcome = Outcome::Skipped {
                reason: "no root".into(),
                allowed,
            };
            let row = Row {
                label: "netns".into(),
                outcome,
            };
            let code = summary(&[row]);
            assert_eq!(code == ExitCode::SUCCESS, failed == 0);
        }
    }
}
