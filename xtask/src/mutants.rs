//! `cargo xtask mutants`: every guard of the policy is worth a test.
//!
//! In a copy of the tree, each guard (see [`crate::guards`]) is disabled in turn and the tests
//! that need no kernel are run. A guard whose loss no test sees, or that cannot be disabled, fails
//! the run. The tests must pass on the copy before anything is disabled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guards::{self, Guard};
use crate::libtest;
use crate::proc::{self, Echo, Finished};

/// Where guards are: this path with `.rs`, or all of this directory.
const POLICY: &str = "dataplane-common/src/policy";
/// The tests that hold the guards, as arguments of `cargo test`, the quick ones first. None of
/// them needs the kernel: in the differential test, the policy core runs on the host.
const TESTS: [&[&str]; 2] = [
    &["--package", "dataplane-common", "--lib", "--tests"],
    &[
        "--package",
        "dataplane-user",
        "--test",
        "differential",
        "policy_core",
    ],
];

/// Arguments of `cargo xtask mutants`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only guards whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Run only these tests: arguments of `cargo test` (default: those of dataplane-common, and
    /// the policy core against the reference evaluator).
    #[arg(last = true)]
    tests: Vec<String>,
    /// Also disable each part of a condition `a || b` alone.
    #[arg(long)]
    parts: bool,
    /// The longest that building or testing one mutant may take, in seconds.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// Only list the guards.
    #[arg(long)]
    list: bool,
}

/// What became of a mutant.
enum Fate {
    /// These tests failed.
    Killed(Vec<String>),
    /// The tests did not end.
    KilledByTime,
    /// All tests passed.
    Survived,
    /// It could not be made; why.
    Broken(String),
}

/// A guard and the file it is in, relative to the root.
struct Place {
    file: PathBuf,
    guard: Guard,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let places = find(&proc::root(), args)?;
    if args.list {
        for place in &places {
            println!(
                "{:<28} {}:{}",
                place.guard.name,
                place.file.display(),
                place.guard.line
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let tree = copy_tree()?;
    // The copy is what is mutated; somebody may be editing the original.
    let places = find(&tree, args)?;
    let bench = Bench::new(tree, args);
    eprintln!(
        "mutants: {} guards; first the tests as they are",
        places.len()
    );
    bench.check_unchanged()?;
    let mut bad = 0;
    for place in &places {
        for (part, candidates) in bench.candidates(place, args.parts)? {
            let fate = bench.judge(place, &candidates)?;
            bad += usize::from(!matches!(fate, Fate::Killed(_) | Fate::KilledByTime));
            println!("{}", row(place, &part, &fate));
        }
    }
    println!("{} guards, {bad} not held by a test", places.len());
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All guards below a root that the filter lets through.
///
/// # Errors
/// A file cannot be read, there is no guard at all, or two have the same name.
fn find(root: &Path, args: &Args) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for file in policy_files(root)? {
        let path = root.join(&file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        places.extend(guards::find(&text).into_iter().map(|guard| Place {
            file: file.clone(),
            guard,
        }));
    }
    ensure!(
        !places.is_empty(),
        "no guard in {POLICY}: lines `// guard: NAME` mark them"
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
    Ok(tree)
}

/// The copy of the tree and how its tests are run.
struct Bench {
    tree: PathBuf,
    tests: Vec<Vec<String>>,
    limit: Duration,
}

impl Bench {
    /// Chooses the tests.
    fn new(tree: PathBuf, args: &Args) -> Self {
        let words = |list: &&[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let tests = match args.tests.as_slice() {
            [] => TESTS.iter().map(words).collect(),
            some => vec![some.to_vec()],
        };
        let limit = Duration::from_secs(args.limit);
        Self { tree, tests, limit }
    }

    /// Runs one list of tests on a mutant, or only builds it.
    fn cargo(&self, test: &[String], extra: &[&str]) -> Result<Finished> {
        let mut command = self.command(test, extra);
        // No test here loads the eBPF program, and building it would take most of the time: the
        // one that the run without mutants built stays where it is.
        command.env("AYA_BUILD_SKIP", "1");
        proc::capture(&mut command, self.limit, Echo::Keep)
    }

    /// Cargo on one list of tests in the copy.
    fn command(&self, test: &[String], extra: &[&str]) -> Command {
        let mut command = proc::cargo();
        command.arg("test").args(extra).args(test);
        command.current_dir(&self.tree);
        command.env("CARGO_TARGET_DIR", self.tree.with_file_name("build"));
        command
    }

    /// The tests must pass before anything is disabled.
    fn check_unchanged(&self) -> Result<()> {
        // The first build is a cold one.
        let limit = self.limit + Duration::from_secs(1200);
        for test in &self.tests {
            let finished = proc::capture(&mut self.command(test, &[]), limit, Echo::Keep)?;
            if !finished.success() {
                bail!(
                    "the tests fail without any mutant ({}):\n{}",
                    finished.ending(),
                    finished.text.trim_end()
                );
            }
        }
        Ok(())
    }

    /// The mutants of a guard: what is disabled, and the texts to try for it.
    fn candidates(&self, place: &Place, parts: bool) -> Result<Vec<(String, Vec<String>)>> {
        let text = self.read(place)?;
        let mut all = vec![(String::new(), guards::disabled(&text, &place.guard))];
        if parts {
            all.extend(guards::parts_disabled(&text, &place.guard));
        }
        Ok(all)
    }

    /// The text of a guard's file.
    fn read(&self, place: &Place) -> Result<String> {
        let path = self.tree.join(&place.file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Tries the candidates until one can be built, and runs the tests on it.
    fn judge(&self, place: &Place, candidates: &[String]) -> Result<Fate> {
        let original = self.read(place)?;
        let path = self.tree.join(&place.file);
        let write = |text: &str| {
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        let mut fate = Fate::Broken("this shape of code cannot be disabled".into());
        for candidate in candidates {
            write(candidate)?;
            fate = self.try_tests()?;
            if !matches!(fate, Fate::Broken(_)) {
                break;
            }
        }
        write(&original)?;
        Ok(fate)
    }

    /// Builds and runs the tests on the tree as it is, up to the first that fails.
    fn try_tests(&self) -> Result<Fate> {
        for test in &self.tests {
            let built = self.cargo(test, &["--no-run"])?;
            if !built.success() {
                let error = built.text.lines().find(|line| line.starts_with("error"));
                let error = error.map_or_else(|| built.ending(), str::to_owned);
                return Ok(Fate::Broken(format!("does not build: {error}")));
            }
            let fate = fate_of(&self.cargo(test, &[])?);
            if !matches!(fate, Fate::Survived) {
                return Ok(fate);
            }
        }
        Ok(Fate::Survived)
    }
}

/// What the tests said of a mutant.
fn fate_of(tests: &Finished) -> Fate {
    if tests.status.is_none() {
        return Fate::KilledByTime;
    }
    if tests.success() {
        return Fate::Survived;
    }
    Fate::Killed(libtest::failed_tests(&tests.text))
}

/// A line of the table.
fn row(place: &Place, part: &str, fate: &Fate) -> String {
    let told = match fate {
        Fate::Killed(tests) => match tests.as_slice() {
            [] => "killed: the test program died".into(),
            [only] => format!("killed by {only}"),
            [first, others @ ..] => format!("killed by {first} and {} more", others.len()),
        },
        Fate::KilledByTime => "killed: the tests did not end".into(),
        Fate::Survived => "SURVIVED: no test fails without it".into(),
        Fate::Broken(why) => format!("NOT TRIED: {why}"),
    };
    let file = place.file.file_name().unwrap_or_default().to_string_lossy();
    let at = format!("{file}:{}", place.guard.line);
    let part = if part.is_empty() {
        String::new()
    } else {
        format!(" [{part}]")
    };
    format!("{:<28} {at:<20} {told}{part}", place.guard.name)
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
        let Fate::Killed(tests) = fate_of(&finished("echo 'test a::b ... FAILED'; exit 101"))
        else {
            panic!("a failing run is a killed mutant");
        };
        assert_eq!(tests, ["a::b"]);
    }
}
