//! Running other programs: every error names the command, and nothing runs without an end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's target directory: where the built programs are.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where the project keeps tools and kernels of its own; not moved by `CARGO_TARGET_DIR`.
pub(crate) fn tools_dir() -> PathBuf {
    root().join("target").join("tools")
}

/// `cargo`, the one that runs this program, at the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `cargo` of the nightly toolchain, at the root of the repository.
///
/// Goes through rustup's proxy: the cargo that runs this program is a fixed toolchain's, which
/// does not understand `+nightly`, and it marks its children with variables that would win.
pub(crate) fn cargo_nightly() -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").current_dir(root());
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // The owner of /proc/self is the effective user of this process.
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether commands can be run as root: we are, or sudo is there.
pub(crate) fn can_be_root() -> bool {
    is_root() || which("sudo").is_some()
}

/// A command that runs as root, with these variables in its environment.
pub(crate) fn as_root(program: impl AsRef<Path>, env: &[(&str, &str)]) -> Command {
    let program = program.as_ref();
    if is_root() {
        let mut command = Command::new(program);
        command.envs(env.iter().copied());
        return command;
    }
    let mut command = Command::new("sudo");
    command.arg("env");
    command.args(env.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(program);
    command
}

/// Where `program` is, in `PATH` or the directories of system programs that a plain user's lacks.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command with our own streams.
///
/// # Errors
/// The command cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and gives back what it wrote to stdout.
///
/// # Errors
/// As [`run`]; the message ends with the last lines the command wrote to stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{}`", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` ended with {}: {}",
            shown(command),
            output.status,
            tail(&stderr, 5)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command runs and exits with 0; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let start = all.len().saturating_sub(lines);
    all.get(start..).unwrap_or_default().join("\n")
}

/// What happens to a captured program's lines while it runs.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Echo {
    /// They are shown on stderr at once.
    Show,
    /// They are only kept.
    Keep,
}

/// A captured program that has ended.
pub(crate) struct Finished {
    /// How it ended; `None` if it had to be ended because of the time limit.
    pub(crate) status: Option<ExitStatus>,
    /// What it wrote to stdout and stderr, in the order of arrival.
    pub(crate) text: String,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

impl Finished {
    /// Whether it exited with 0 within its time.
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, in words.
    pub(crate) fn ending(&self) -> String {
        match self.status {
            Some(status) => status.to_string(),
            None => format!("time limit reached after {}", seconds(self.elapsed)),
        }
    }
}

/// Runs a command, keeps its output, and ends it and its children after `limit`.
///
/// # Errors
/// The command cannot be started or waited for.
pub(crate) fn capture(command: &mut Command, limit: Duration, echo: Echo) -> Result<Finished> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{}`", shown(command)))?;
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, sender);
    }
    let (text, in_time) = collect(&lines, start + limit, echo);
    if !in_time {
        end_tree(&child);
    }
    let status = child
        .wait()
        .with_context(|| format!("wait for `{}`", shown(command)))?;
    Ok(Finished {
        status: in_time.then_some(status),
        text,
        elapsed: start.elapsed(),
    })
}

/// Sends each line of a stream; ends with the stream.
fn forward(stream: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
            line.clear();
        }
    });
}

/// Gathers lines until both streams have ended or the deadline is over; tells which.
fn collect(lines: &Receiver<String>, deadline: Instant, echo: Echo) -> (String, bool) {
    let mut text = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                if echo == Echo::Show {
                    eprint!("{line}");
                }
                text.push_str(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return (text, true),
            Err(RecvTimeoutError::Timeout) => return (text, false),
        }
    }
}

/// Ends a child and all that it started, by process id.
///
/// A process group of its own would do the same, but then Ctrl-C would not reach the children.
fn end_tree(child: &Child) {
    let mut tree = vec![child.id()];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        tree.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok()),
        );
        next += 1;
    }
    // The shell's own kill: the program is in a package that small machines lack.
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -KILL \"$@\"", "sh"]);
    succeeds(kill.args(tree.iter().map(u32::to_string)));
}

/// A duration as people read it: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{whole} s"),
        _ => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ends_keeps_its_output_and_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let finished = capture(&mut command, Duration::from_secs(20), Echo::Keep).unwrap();
        assert!(finished.text.contains("one") && finished.text.contains("two"));
        assert_eq!(finished.status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 600 & sleep 600"]);
        let start = Instant::now();
        let finished = capture(&mut command, Duration::from_millis(300), Echo::Keep).unwrap();
        assert!(finished.status.is_none());
        assert_eq!(finished.text, "started\n");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn an_unknown_command_is_named_in_the_error() {
        let error = run(&mut Command::new("no-such-program-xyz")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-xyz"));
    }

    #[test]
    fn durations_read_like_a_person_says_them() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(59)), "59 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }

    #[test]
    fn tail_keeps_only_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
