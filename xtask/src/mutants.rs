//! `cargo xtask mutants`: every guard of the policy is worth a test.
//!
//! In a copy of the tree, each guard (see [`crate::guards`]) is disabled in turn and the policy core
//! is compared with the reference evaluator. A guard whose loss the test does not see, or that
//! cannot be disabled, fails the run; so does a drop reason that is given outside of every guard.
//! The test must pass on the copy before anything is disabled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guards::{self, Guard};
use crate::libtest;
use crate::proc::{self, Echo, Finished};

/// Where guards are: this path with `.rs`, or all of this directory.
const POLICY: &str = "dataplane-common/src/policy";
/// The test that holds the guards, as arguments of `cargo test`. It needs neither the kernel nor the
/// eBPF build: the policy core runs on the host.
const TEST: [&str; 4] = ["--package", "policy-compiler", "--test", "policy_core"];

/// Arguments of `cargo xtask mutants`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only guards whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Run these tests: arguments of `cargo test` (default: the policy core against the reference
    /// evaluator).
    #[arg(last = true)]
    tests: Vec<String>,
    /// Also disable each part of a condition `a || b` alone.
    #[arg(long)]
    parts: bool,
    /// So many packets are compared before a guard counts as not held.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// The longest that building and testing one mutant may take, in seconds.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// Only list the guards.
    #[arg(long)]
    list: bool,
}

/// What became of a mutant.
enum Fate {
    /// These tests failed; what the differential test saw.
    Killed(Vec<String>, Option<String>),
    /// The tests did not end.
    KilledByTime,
    /// All tests passed.
    Survived,
    /// It could not be made; why.
    Broken(String),
}

impl Fate {
    fn is_held(&self) -> bool {
        matches!(self, Self::Killed(..) | Self::KilledByTime)
    }
}

/// A guard and the file it is in, relative to the root.
struct Place {
    file: PathBuf,
    guard: Guard,
}

impl Place {
    /// Its file's name and line.
    fn at(&self) -> String {
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        format!("{file}:{}", self.guard.line)
    }
}

/// A guard, or a part of it, disabled: the texts of its file to try.
struct Mutant<'p> {
    place: &'p Place,
    /// The part; empty for the whole guard.
    part: String,
    /// Why nobody can see it, if the source says so.
    exempt: Option<String>,
    candidates: Vec<String>,
}

/// How many mutants had which fate.
#[derive(Default)]
struct Tally {
    held: usize,
    exempt: usize,
    not_held: usize,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let places = find(&proc::root(), args)?;
    if args.list {
        for place in &places {
            let exempt = place.guard.exempt.as_ref();
            let exempt = exempt.map(|why| format!("exempt: {why}"));
            let name = &place.guard.name;
            println!(
                "{name:<28} {:<20} {}",
                place.at(),
                exempt.unwrap_or_default()
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let start = Instant::now();
    let tree = copy_tree()?;
    // The copy is what is mutated; somebody may be editing the original.
    let places = find(&tree, args)?;
    let bench = Bench::new(tree, args);
    eprintln!(
        "mutants: {} guards; first the tests as they are",
        places.len()
    );
    bench.check_unchanged()?;
    eprintln!("   passed ({})", proc::seconds(start.elapsed()));
    let tally = judge_all(&bench, &places, args.parts)?;
    println!(
        "{} guards: {} mutants killed, {} exempt, {} not held by a test ({})",
        places.len(),
        tally.held,
        tally.exempt,
        tally.not_held,
        proc::seconds(start.elapsed())
    );
    Ok(if tally.not_held == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Judges every mutant and prints the table.
fn judge_all(bench: &Bench, places: &[Place], parts: bool) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut mutants = Vec::new();
    for place in places {
        for mutant in bench.mutants(place, parts)? {
            let Some(why) = &mutant.exempt else {
                mutants.push(mutant);
                continue;
            };
            tally.exempt += 1;
            println!("{}", row(place, &format!("exempt: {why}"), &mutant.part));
        }
    }
    for (number, mutant) in (1..).zip(&mutants) {
        let start = Instant::now();
        let fate = bench.judge(mutant)?;
        if fate.is_held() {
            tally.held += 1;
        } else {
            tally.not_held += 1;
        }
        println!("{}", row(mutant.place, &told(&fate), &mutant.part));
        let took = proc::seconds(start.elapsed());
        eprintln!("   {number} of {} ({took})", mutants.len());
    }
    Ok(tally)
}

/// All guards below a root that the filter lets through.
///
/// # Errors
/// A file cannot be read, there is no guard at all, two have the same name, or a drop reason is given
/// outside of every guard.
fn find(root: &Path, args: &Args) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut unguarded = Vec::new();
    for file in policy_files(root)? {
        let path = root.join(&file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for line in guards::unguarded(&text) {
            unguarded.push(format!("{}:{line}", file.display()));
        }
        places.extend(guards::find(&text).into_iter().map(|guard| Place {
            file: file.clone(),
            guard,
        }));
    }
    ensure!(
        !places.is_empty(),
        "no guard in {POLICY}: lines `// guard: NAME` mark them"
    );
    ensure!(
        unguarded.is_empty(),
        "drop reasons outside of every guard, which no mutant disables: {}",
        unguarded.join(", ")
    );
    let mut names = BTreeSet::new();
    for place in &places {
        let name = &place.guard.name;
        ensure!(names.insert(name.clone()), "two guards are called {name}");
    }
    let filter = args.filter.as_deref().unwrap_or_default();
    places.retain(|place| place.guard.name.contains(filter));
    Ok(places)
}

/// The files of the policy, relative to the root.
fn policy_files(root: &Path) -> Result<Vec<PathBuf>> {
    let single = PathBuf::from(format!("{POLICY}.rs"));
    let mut files = Vec::new();
    if root.join(&single).is_file() {
        files.push(single);
    }
    let dir = root.join(POLICY);
    if dir.is_dir() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let name = entry
                .with_context(|| format!("read {}", dir.display()))?
                .file_name();
            if Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "rs")
            {
                files.push(Path::new(POLICY).join(name));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies what git knows, or would add, to `target/mutants/tree`. Times are kept, so that what
/// did not change is not built again.
fn copy_tree() -> Result<PathBuf> {
    let tree = proc::root().join("target").join("mutants").join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
    }
    fs::create_dir_all(&tree).with_context(|| format!("create {}", tree.display()))?;
    let mut command = Command::new("bash");
    command.current_dir(proc::root());
    command.arg("-c").arg(
        "set -o pipefail\n\
         git ls-files -z --cached --others --exclude-standard --deduplicate |\n\
         while IFS= read -r -d '' file; do [ ! -f \"$file\" ] || printf '%s\\0' \"$file\"; done |\n\
         xargs -0 cp --parents --preserve=timestamps,mode --target-directory \"$0\"",
    );
    proc::run(command.arg(&tree)).context("copy the tree")?;
    // But what a mutant of an earlier run was built from is: that build is newer than these files.
    for file in policy_files(&tree)? {
        let path = tree.join(file);
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(tree)
}

/// The copy of the tree and how its tests are run.
struct Bench {
    tree: PathBuf,
    tests: Vec<String>,
    cases: u64,
    limit: Duration,
}

impl Bench {
    /// Chooses the tests.
    fn new(tree: PathBuf, args: &Args) -> Self {
        let tests = match args.tests.as_slice() {
            [] => TEST.map(str::to_owned).to_vec(),
            some => some.to_vec(),
        };
        Self {
            tree,
            tests,
            cases: args.cases,
            limit: Duration::from_secs(args.limit),
        }
    }

    /// Builds and runs the tests on the tree as it is.
    fn cargo(&self, limit: Duration) -> Result<Finished> {
        let mut command = proc::cargo();
        command
            .arg("test")
            .args(&self.tests)
            .current_dir(&self.tree);
        command
            // Other crates are built already; those of the copy have names of their own there.
            .env("CARGO_TARGET_DIR", proc::target_dir())
            .env("BULKHEAD_CASES", self.cases.to_string())
            .env("BULKHEAD_SEED", "1")
            .env("BULKHEAD_SHRINK", "no");
        proc::capture(&mut command, limit, Echo::Keep)
    }

    /// The tests must pass before anything is disabled.
    fn check_unchanged(&self) -> Result<()> {
        // The first build is a cold one.
        let finished = self.cargo(self.limit + Duration::from_secs(1200))?;
        ensure!(
            finished.success(),
            "the tests fail without any mutant ({}):\n{}",
            finished.ending(),
            finished.text.trim_end()
        );
        Ok(())
    }

    /// The mutants of a guard.
    ///
    /// # Errors
    /// The file cannot be read, or an exempt part is none of the guard's.
    fn mutants<'p>(&self, place: &'p Place, parts: bool) -> Result<Vec<Mutant<'p>>> {
        let text = self.read(place)?;
        let guard = &place.guard;
        let mut mutants = vec![Mutant {
            place,
            part: String::new(),
            exempt: guard.exempt.clone(),
            candidates: guards::disabled(&text, guard),
        }];
        let split = guards::parts_disabled(&text, guard);
        for (part, _) in &guard.exempt_parts {
            let known = split.iter().any(|(name, _)| name == part);
            ensure!(known, "{}: the guard has no part `{part}`", place.at());
        }
        if parts && guard.exempt.is_none() {
            mutants.extend(split.into_iter().map(|(part, candidates)| Mutant {
                place,
                exempt: why_exempt(guard, &part),
                part,
                candidates,
            }));
        }
        Ok(mutants)
    }

    /// The text of a guard's file.
    fn read(&self, place: &Place) -> Result<String> {
        let path = self.tree.join(&place.file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Tries the candidates until one can be built, and runs the tests on it.
    fn judge(&self, mutant: &Mutant<'_>) -> Result<Fate> {
        let original = self.read(mutant.place)?;
        let path = self.tree.join(&mutant.place.file);
        let write = |text: &str| {
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        let mut fate = Fate::Broken("this shape of code cannot be disabled".into());
        for candidate in &mutant.candidates {
            write(candidate)?;
            fate = fate_of(&self.cargo(self.limit)?);
            if !matches!(fate, Fate::Broken(_)) {
                break;
            }
        }
        write(&original)?;
        Ok(fate)
    }
}

/// What the source says on why the loss of a part cannot be seen.
fn why_exempt(guard: &Guard, part: &str) -> Option<String> {
    let mut parts = guard.exempt_parts.iter();
    parts
        .find(|(name, _)| name == part)
        .map(|(_, why)| why.clone())
}

/// What the tests said of a mutant.
fn fate_of(tests: &Finished) -> Fate {
    if tests.status.is_none() {
        return Fate::KilledByTime;
    }
    if tests.success() {
        return Fate::Survived;
    }
    let mut lines = tests.text.lines();
    if tests.text.contains("error: could not compile") {
        let error = lines.find(|line| line.starts_with("error"));
        return Fate::Broken(format!("does not build: {}", error.unwrap_or_default()));
    }
    let seen = lines.find(|line| line.starts_with("seed "));
    Fate::Killed(libtest::failed_tests(&tests.text), seen.map(str::to_owned))
}

/// A fate in words.
fn told(fate: &Fate) -> String {
    match fate {
        Fate::Killed(tests, seen) => {
            let by = match tests.as_slice() {
                [] => "killed: the test program died".into(),
                [only] => format!("killed by {only}"),
                [first, others @ ..] => format!("killed by {first} and {} more", others.len()),
            };
            seen.as_ref()
                .map_or(by.clone(), |seen| format!("{by}: {seen}"))
        }
        Fate::KilledByTime => "killed: the tests did not end".into(),
        Fate::Survived => "SURVIVED: no test fails without it".into(),
        Fate::Broken(why) => format!("NOT TRIED: {why}"),
    }
}

/// A line of the table.
fn row(place: &Place, told: &str, part: &str) -> String {
    let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
    let part = if part.is_empty() {
        part
    } else {
        format!(" [{part}]")
    };
    format!("{:<28} {:<20} {told}{part}", place.guard.name, place.at())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A finished test run with this exit status and output.
    fn finished(script: &str) -> Finished {
        let mut command = Command::new("sh");
        proc::capture(
            command.args(["-c", script]),
            Duration::from_millis(500),
            Echo::Keep,
        )
        .unwrap()
    }

    #[test]
    fn only_a_failing_test_run_kills() {
        assert!(matches!(fate_of(&finished("exit 0")), Fate::Survived));
        assert!(matches!(fate_of(&finished("sleep 60")), Fate::KilledByTime));
        let output = "echo 'test a::b ... FAILED'; echo 'seed 1: differs'; exit 101";
        let Fate::Killed(tests, seen) = fate_of(&finished(output)) else {
            panic!("a failing run is a killed mutant");
        };
        assert_eq!(tests, ["a::b"]);
        assert_eq!(seen.as_deref(), Some("seed 1: differs"));
        let unbuilt = finished("echo 'error: could not compile `a`'; exit 101");
        assert!(matches!(fate_of(&unbuilt), Fate::Broken(_)));
    }
}
