//! `cargo xtask bench NAME`: one benchmark, as a table or as JSON.
//!
//! `apply`, `dhcp`, `dns` and `path` are programs of their own (they measure in the kernel, as root) and print both themselves. The
//! others are criterion's; their estimates are read back here and printed in the same form.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::proc;
use crate::setup::{self, Tier};

/// A benchmark.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Name {
    /// Plan and apply of an inventory: ms, and whether they depend on what does not change.
    Apply,
    /// DHCP: what an exchange costs, and how many a second; beside Kea, dnsmasq and a program that only echoes.
    Dhcp,
    /// Name servers of others and ours: queries per second, and processor time per query.
    Dns,
    /// The program in the kernel: ns per packet, as a ratio to the empty program.
    Path,
    /// The pure policy core on the host.
    Policy,
    /// Model to map contents.
    Compiler,
    /// Inventory to model.
    Inventory,
    /// What changes between two models, in memory: without files and kernel.
    Plan,
}

impl Name {
    /// What its program is called.
    fn target(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Dhcp => "dhcp",
            Self::Dns => "dns",
            Self::Path => "path",
            Self::Policy => "policy",
            Self::Compiler => "compiler",
            Self::Inventory => "inventory",
            Self::Plan => "plan",
        }
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// A list of `{bench, case, mode, metric, value, unit, baseline, ratio}`.
    Json,
}

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which one.
    #[arg(value_enum)]
    name: Name,
    /// How results are printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Arguments of the benchmark itself.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build])?;
    if args.name == Name::Dns {
        setup::ensure(&[Tier::Net])?;
    }
    match args.name {
        Name::Apply | Name::Dns | Name::Path => program(args),
        Name::Dhcp => {
            setup::ensure(&[Tier::Peers])?;
            let mut cargo = proc::cargo();
            proc::run(cargo.args(["build", "--release", "--package", "dhcpd"]))?;
            program(args)
        }
        Name::Policy | Name::Compiler | Name::Inventory | Name::Plan => criterion(args),
    }
}

/// A benchmark in the kernel: built by us, run as root.
fn program(args: &Args) -> Result<ExitCode> {
    let name = args.name.target();
    let mut cargo = proc::cargo();
    proc::run(cargo.args(["build", "--release", "--package", "bench", "--bin", name]))?;
    ensure!(
        proc::can_be_root(),
        "bench {name} makes network namespaces: run it as root or install sudo"
    );
    let program = proc::target_dir().join("release").join(name);
    let mut command = proc::as_root(&program, &[]);
    command.current_dir(proc::root());
    command.args([
        "--format",
        if args.format == Format::Json {
            "json"
        } else {
            "text"
        },
    ]);
    command.args(&args.rest);
    let status = command
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A benchmark of criterion.
fn criterion(args: &Args) -> Result<ExitCode> {
    let name = args.name.target();
    let start = SystemTime::now();
    let mut cargo = proc::cargo();
    cargo
        .args(["bench", "--package", "bench", "--bench", name, "--"])
        .args(&args.rest);
    // Criterion's own report is talk: it goes where the talk goes.
    proc::run(cargo.stdout(Stdio::from(std::io::stderr())))?;
    let mut cases = Vec::new();
    collect(&proc::target_dir().join("criterion"), start, &mut cases)?;
    ensure!(!cases.is_empty(), "criterion left no estimates of this run");
    let rows = rows(name, cases);
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Format::Text => print_table(&rows),
    }
    Ok(ExitCode::SUCCESS)
}

/// What criterion measured of one case.
#[derive(Clone, Debug)]
struct Case {
    group: String,
    /// `GROUP/FUNCTION/VALUE`, in the parts that are there.
    id: String,
    /// The value as a number, where it is one: what the case grows with.
    size: u64,
    nanoseconds: f64,
}

/// The estimates below a directory that are newer than `since`.
fn collect(dir: &Path, since: SystemTime, cases: &mut Vec<Case>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            cases.extend(case(&path, since)?);
        } else {
            collect(&path, since, cases)?;
        }
    }
    Ok(())
}

/// The case whose results are in a directory `new`, if it is of this run.
fn case(dir: &Path, since: SystemTime) -> Result<Option<Case>> {
    let estimates = dir.join("estimates.json");
    let is_new = fs::metadata(&estimates)
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| time >= since);
    if !is_new {
        return Ok(None);
    }
    let about = read_json(&dir.join("benchmark.json"))?;
    let estimates = read_json(&estimates)?;
    // What criterion shows as time: the slope, where the sampling allows one.
    let nanoseconds = estimates["slope"]["point_estimate"]
        .as_f64()
        .or_else(|| estimates["mean"]["point_estimate"].as_f64())
        .with_context(|| format!("no estimate in {}", dir.display()))?;
    let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
    Ok(Some(Case {
        group: text("group_id"),
        id: text("full_id"),
        size: text("value_str").parse().unwrap_or(0),
        nanoseconds,
    }))
}

/// A JSON file.
fn read_json(path: &PathBuf) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

/// The rows to print. The baseline of a case is its group's smallest case in the same run:
/// how a time grows can be trusted, the time itself drifts with the machine.
fn rows(bench: &str, mut cases: Vec<Case>) -> Vec<Value> {
    cases.sort_by(|a, b| (&a.group, a.size, &a.id).cmp(&(&b.group, b.size, &b.id)));
    let baselines: Vec<f64> = cases
        .iter()
        .map(|case| {
            let first = cases.iter().find(|other| other.group == case.group);
            first.map_or(case.nanoseconds, |first| first.nanoseconds)
        })
        .collect();
    cases
        .iter()
        .zip(baselines)
        .map(|(case, baseline)| {
            json!({
                "bench": bench, "case": case.id, "mode": "host", "metric": "time",
                "value": case.nanoseconds, "unit": "ns",
                "baseline": baseline, "ratio": case.nanoseconds / baseline,
            })
        })
        .collect()
}

/// Prints the rows for people, with what they were measured on.
fn print_table(rows: &[Value]) {
    println!("{}", machine());
    println!("{:<48} {:>14} {:>8}", "case", "ns", "ratio");
    for row in rows {
        let case = row["case"].as_str().unwrap_or_default();
        let (value, ratio) = (row["value"].as_f64(), row["ratio"].as_f64());
        println!(
            "{case:<48} {:>14.1} {:>8.2}",
            value.unwrap_or_default(),
            ratio.unwrap_or_default()
        );
    }
}

/// Kernel, processor and commit: a number without them says nothing.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"])
        .current_dir(proc::root());
    let commit = proc::output(&mut git).unwrap_or_default();
    format!(
        "Linux {}, {processor}, commit {}",
        kernel.trim(),
        commit.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_compared_with_the_smallest_of_its_group() {
        let case = |group: &str, size: u64, nanoseconds: f64| Case {
            group: group.into(),
            id: format!("{group}/{size}"),
            size,
            nanoseconds,
        };
        let rows = rows(
            "compiler",
            vec![case("a", 100, 30.0), case("a", 3, 10.0), case("b", 9, 5.0)],
        );
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row["case"].clone(), row["ratio"].as_f64()))
            .collect();
        assert_eq!(
            told,
            [
                (json!("a/3"), Some(1.0)),
                (json!("a/100"), Some(3.0)),
                (json!("b/9"), Some(1.0))
            ]
        );
    }
}
