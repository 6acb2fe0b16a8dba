//! Test programs: which there are, on which rung they run, what their output says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum as _;
use serde_json::Value;

use crate::proc;
use crate::vm::Series;

/// Where a question about the data plane is answered; the cheapest place first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Rung {
    /// Pure code: no root, no kernel.
    Host,
    /// One packet at a time through the program in the kernel.
    Kernel,
    /// Real frames between network namespaces.
    Netns,
    /// Stock Debian kernels in virtual machines.
    Vm,
}

impl Rung {
    /// The rung of an integration test, by its file's name.
    fn of(name: &str) -> Self {
        if name.starts_with("kernel") || name.starts_with("differential") {
            Self::Kernel
        } else if name.starts_with("netns") {
            Self::Netns
        } else if name.starts_with("vm") {
            Self::Vm
        } else {
            Self::Host
        }
    }

    /// Its name: argument, summary, and `BULKHEAD_RUNG` of the tests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Vm => "vm",
        }
    }
}

/// An integration test: `PACKAGE/tests/NAME.rs`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TestTarget {
    /// The package it belongs to.
    pub(crate) package: String,
    /// The package's directory; tests run there.
    pub(crate) dir: PathBuf,
    /// Its name.
    pub(crate) name: String,
    /// The rung it runs on.
    pub(crate) rung: Rung,
    /// It also runs on rung 4, in this way.
    pub(crate) vm: Option<VmRun>,
    /// How many of its tests run at once, on any rung; libtest's own choice, if it does not say.
    pub(crate) threads: Option<u64>,
}

/// How a test runs on rung 4, where emulation makes it slow: `NAME = { env = {…}, only = […], kernels = […] }`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct VmRun {
    /// Variables of its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Only tests with one of these in their name; all, if there is none.
    pub(crate) only: Vec<String>,
    /// The kernels on which it runs even if nobody asks for it; all, if it does not say.
    pub(crate) kernels: Option<Vec<Series>>,
}

impl TestTarget {
    /// The variable that tells libtest how many tests run at once.
    pub(crate) fn threads(&self) -> Option<(&'static str, String)> {
        let threads = self.threads?;
        Some(("RUST_TEST_THREADS", threads.to_string()))
    }

    /// Whether it runs on a rung.
    pub(crate) fn runs_on(&self, rung: Rung) -> bool {
        self.rung == rung || rung == Rung::Vm && self.vm.is_some()
    }

    /// Whether it runs on this kernel even if nobody asks for it.
    pub(crate) fn is_due(&self, series: Series) -> bool {
        let kernels = self.vm.as_ref().and_then(|run| run.kernels.as_ref());
        kernels.is_none_or(|kernels| kernels.contains(&series))
    }
}

/// All integration tests of the workspace, found by cargo; new ones need no registration.
///
/// # Errors
/// Cargo cannot read the workspace.
pub(crate) fn discover() -> Result<Vec<TestTarget>> {
    let mut cargo = proc::cargo();
    let text = proc::output(cargo.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("parse cargo's metadata")?;
    targets(&metadata)
}

/// The integration tests in `cargo metadata`'s answer.
///
/// A package says in `package.metadata.vm-tests` which of its tests also run on rung 4, and on which kernels, and in `package.metadata.test-threads`
/// which of them mostly wait.
///
/// # Errors
/// A package names a test there that it does not have, or a kernel that is not supported.
fn targets(metadata: &Value) -> Result<Vec<TestTarget>> {
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        let dir = PathBuf::from(text(&package["manifest_path"]));
        let mut vm_tests = vm_tests(&package["metadata"]["vm-tests"])?;
        for target in list(&package["targets"]) {
            if list(&target["kind"]).iter().any(|kind| kind == "test") {
                let name = text(&target["name"]);
                found.push(TestTarget {
                    package: text(&package["name"]).into(),
                    dir: dir.parent().unwrap_or(&dir).to_path_buf(),
                    name: name.into(),
                    rung: Rung::of(name),
                    vm: vm_tests.remove(name),
                    threads: package["metadata"]["test-threads"][name].as_u64(),
                });
            }
        }
        if let Some(name) = vm_tests.keys().next() {
            bail!("{}: vm-tests names {name}, which is no test", dir.display());
        }
    }
    Ok(found)
}

/// Tests that also run on rung 4, and how.
///
/// # Errors
/// A kernel is named that is not supported.
fn vm_tests(table: &Value) -> Result<BTreeMap<String, VmRun>> {
    let tests = table.as_object().into_iter().flatten();
    tests
        .map(|(name, how)| {
            let env = how["env"].as_object().into_iter().flatten();
            let env = env.map(|(key, value)| (key.clone(), text(value).to_owned()));
            let only = list(&how["only"]).iter().map(|word| text(word).to_owned());
            let kernels = how["kernels"].as_array().map(|kernels| {
                kernels
                    .iter()
                    .map(|kernel| {
                        Series::from_str(text(kernel), false).map_err(|error| {
                            anyhow!("vm-tests of {name}: kernel {kernel}: {error}")
                        })
                    })
                    .collect()
            });
            let run = VmRun {
                env: env.collect(),
                only: only.collect(),
                kernels: kernels.transpose()?,
            };
            Ok((name.clone(), run))
        })
        .collect()
}

/// A built test program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The test it was built from.
    pub(crate) target: TestTarget,
    /// The executable.
    pub(crate) path: PathBuf,
}

/// The programs that `cargo test --no-run --message-format=json` says it built.
///
/// # Errors
/// One that was wanted is not among them: it would not be run, and nobody would see.
pub(crate) fn programs(messages: &str, wanted: &[TestTarget]) -> Result<Vec<Program>> {
    let artifacts: Vec<Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    wanted
        .iter()
        .map(|target| {
            let path = artifacts
                .iter()
                .find(|artifact| is_test(artifact, target))
                .and_then(|artifact| artifact["executable"].as_str())
                .with_context(|| format!("cargo did not build the test {}", target.name))?;
            Ok(Program {
                target: target.clone(),
                path: PathBuf::from(path),
            })
        })
        .collect()
}

/// Whether a message of cargo is about the program of this test.
fn is_test(artifact: &Value, target: &TestTarget) -> bool {
    let manifest = target.dir.join("Cargo.toml");
    artifact["reason"] == "compiler-artifact"
        && artifact["target"]["name"] == target.name.as_str()
        && artifact["manifest_path"] == manifest.display().to_string()
        && artifact["executable"].is_string()
}

/// A JSON list's elements; none for anything else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A JSON string; empty for anything else.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were not run because their source says so.
    pub(crate) ignored: u64,
    /// Tests that were not run because the kernel lacks what they are about.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Adds another tally to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped += other.skipped;
    }

    /// What test programs wrote, summed up, with their exit status as the judge.
    ///
    /// A program that failed without telling a failed test (it did not build, was killed, or ran
    /// out of time) counts as one failed test. So does one that did not tell a result at all.
    pub(crate) fn of(output: &str, success: bool) -> Self {
        let mut tally = Self::default();
        let mut results = 0;
        for line in output.lines() {
            if let Some(rest) = line.trim_start().strip_prefix("test result: ") {
                results += 1;
                tally.passed += count(rest, " passed");
                tally.failed += count(rest, " failed");
                tally.ignored += count(rest, " ignored");
                tally.skipped += count(rest, " filtered out");
            }
        }
        if (!success || results == 0) && tally.failed == 0 {
            tally.failed = 1;
        }
        tally
    }
}

/// The number before a word, as in `3 passed;`.
fn count(line: &str, word: &str) -> u64 {
    line.split(word)
        .next()
        .and_then(|before| before.split_whitespace().last())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The names of the tests that failed, as libtest lists them.
pub(crate) fn failed_tests(output: &str) -> Vec<String> {
    output
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("test ")?
                .strip_suffix(" ... FAILED")
        })
        .map(|name| name.split(" - ").next().unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PASSED: &str = "running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
        test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
    const FAILED: &str = "test a ... FAILED\ntest b ... ok\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn results_of_several_programs_are_summed() {
        let tally = Tally::of(&format!("{PASSED}{FAILED}"), false);
        assert_eq!((tally.passed, tally.failed, tally.ignored), (3, 1, 1));
    }

    #[test]
    fn a_program_that_fails_without_a_failed_test_counts_as_one_failure() {
        assert_eq!(Tally::of("error: could not compile", false).failed, 1);
        assert_eq!(Tally::of(PASSED, false).failed, 1);
    }

    #[test]
    fn a_program_that_says_nothing_has_not_passed() {
        let tally = Tally::of("", true);
        assert_eq!((tally.passed, tally.failed), (0, 1));
    }

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(failed_tests(FAILED), ["a"]);
        assert!(failed_tests(PASSED).is_empty());
    }

    #[test]
    fn tests_that_were_left_out_are_counted() {
        let text = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out;";
        assert_eq!(Tally::of(text, true).skipped, 3);
    }

    #[test]
    fn a_package_says_which_tests_also_run_in_virtual_machines_and_how_many_at_once() {
        let metadata = |name: &str, kernel: &str| {
            json!({"packages": [{
                "name": "p", "manifest_path": "/r/p/Cargo.toml",
                "metadata": {
                    "vm-tests": {name: {"env": {"CASES": "3"}, "only": ["fast"], "kernels": [kernel]}},
                    "test-threads": {name: 16},
                },
                "targets": [{"kind": ["test"], "name": "netns_x"}, {"kind": ["test"], "name": "a"}],
            }]})
        };
        let found = targets(&metadata("netns_x", "6.1")).unwrap();
        assert!(found[0].runs_on(Rung::Netns) && found[0].runs_on(Rung::Vm));
        assert!(!found[0].runs_on(Rung::Kernel) && !found[1].runs_on(Rung::Vm));
        let run = found[0].vm.as_ref().unwrap();
        assert_eq!(run.env.get("CASES").map(String::as_str), Some("3"));
        assert_eq!(run.only, ["fast"]);
        let threads = ("RUST_TEST_THREADS", "16".to_owned());
        assert_eq!(found[0].threads(), Some(threads));
        assert_eq!(found[1].threads(), None);
        assert!(found[0].is_due(Series::V6_1) && !found[0].is_due(Series::V6_12));
        assert!(found[1].is_due(Series::V6_1) && found[1].is_due(Series::V6_12));
        assert!(targets(&metadata("nothing", "6.1")).is_err());
        assert!(targets(&metadata("netns_x", "5.10")).is_err());
    }

    #[test]
    fn the_file_name_chooses_the_rung() {
        for (name, rung) in [
            ("kernel_matrix", Rung::Kernel),
            ("differential", Rung::Kernel),
            ("netns_forward", Rung::Netns),
            ("vm_vlan", Rung::Vm),
            ("lint", Rung::Host),
        ] {
            assert_eq!(Rung::of(name), rung, "{name}");
        }
    }

    #[test]
    fn tests_are_found_in_the_metadata_and_their_programs_in_the_messages() {
        let metadata = json!({"packages": [{
            "name": "p", "manifest_path": "/r/p/Cargo.toml",
            "targets": [{"kind": ["lib"], "name": "p"}, {"kind": ["test"], "name": "netns_x"}],
        }]});
        let found = targets(&metadata).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rung, Rung::Netns);
        let message = json!({
            "reason": "compiler-artifact", "manifest_path": "/r/p/Cargo.toml",
            "target": {"name": "netns_x"}, "executable": "/t/netns_x-1",
        });
        let programs = programs(&format!("{message}\nnoise\n"), &found).unwrap();
        assert_eq!(programs.len(), 1);
        assert_eq!(programs[0].path, PathBuf::from("/t/netns_x-1"));
        assert!(super::programs("noise", &found).is_err());
    }
}
