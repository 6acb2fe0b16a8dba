//! `bulkhead dns …` becomes `bulkhead-dns …`. The program here is a script that says what it was told.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// A folder with a copy of `bulkhead`: what stands beside the built one is not the test's.
struct Installed {
    folder: TempDir,
    // While one test writes a program, no other starts one: the child would hold the file open for a moment, and nobody could
    // run it (ETXTBSY).
    _turn: MutexGuard<'static, ()>,
}

impl Installed {
    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn installed() -> Installed {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = TempDir::new().unwrap();
    fs::copy(cargo_bin("bulkhead"), folder.path().join("bulkhead")).unwrap();
    Installed {
        folder,
        _turn: turn,
    }
}

/// Puts a `bulkhead-dns` there that says who it is and what it is told, copies its input, and ends with 3.
fn put_dns(folder: &Path, who: &str) {
    let script = format!("#!/bin/sh\necho {who} \"$@\"\ncat\necho talk >&2\nexit 3\n");
    let path = folder.join("bulkhead-dns");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// Runs `bulkhead` with its own PATH; exit code, output and talk.
fn run(folder: &Path, path: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(folder.join("bulkhead"))
        .env("PATH", path)
        .args(arguments)
        .write_stdin("input\n")
        .output()
        .unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_word_is_passed_on_with_its_streams_and_its_exit_code() {
    let folder = installed();
    put_dns(folder.path(), "beside");
    let rows: [&[&str]; 7] = [
        &["list"],
        &["keys", "--help"],
        &["explain", "a.example", "--from", "10.0.0.1"],
        &["explain", "--from", "10.0.0.1", "a.example"],
        &["export", "a.example"],
        &["import", "a file", "--key", "a-tf"],
        &["test-key", "a-tf", "--server=10.0.0.1:53"],
    ];
    for row in rows {
        let (code, out, talk) = run(folder.path(), "/usr/bin:/bin", &[&["dns"], row].concat());
        let told = row.join(" ");
        assert_eq!(out, format!("beside {told}\ninput\n"), "{talk}");
        assert_eq!((code, talk.as_str()), (3, "talk\n"), "{told}");
    }
}

#[test]
fn the_program_is_found_in_path_if_it_is_not_beside() {
    let (folder, other) = (installed(), TempDir::new().unwrap());
    put_dns(other.path(), "elsewhere");
    let path = format!("{}:/usr/bin:/bin", other.path().display());
    assert_eq!(
        run(folder.path(), &path, &["dns", "list"]).1,
        "elsewhere list\ninput\n"
    );
    put_dns(folder.path(), "beside");
    assert_eq!(
        run(folder.path(), &path, &["dns", "list"]).1,
        "beside list\ninput\n"
    );
}

#[test]
fn the_format_is_handed_on() {
    let folder = installed();
    put_dns(folder.path(), "beside");
    let rows: [(&[&str], &str); 4] = [
        (&["dns", "list"], "beside list"),
        (&["dns", "--format", "text", "list"], "beside list"),
        (
            &["dns", "--format", "json", "list"],
            "beside list --format json",
        ),
        (
            &["--format", "json", "dns", "explain", "a.example"],
            "beside explain --format json a.example",
        ),
    ];
    for (arguments, expected) in rows {
        let (_, out, talk) = run(folder.path(), "/usr/bin:/bin", arguments);
        assert_eq!(out.lines().next(), Some(expected), "{arguments:?}: {talk}");
    }
    // Behind the word it is the other program's to understand, or this one's: the same is handed on.
    let (_, out, _) = run(
        folder.path(),
        "/usr/bin:/bin",
        &["dns", "list", "--format", "json"],
    );
    assert_eq!(out.lines().next(), Some("beside list --format json"));
}

#[test]
fn what_cannot_be_run_is_named_with_what_to_do() {
    let folder = installed();
    let (code, out, talk) = run(folder.path(), "/nowhere", &["dns", "list"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let here = folder.path().display().to_string();
    assert!(talk.contains(&here) && talk.contains("remedy"), "{talk}");
    fs::write(folder.path().join("bulkhead-dns"), "").unwrap();
    let (code, _, talk) = run(folder.path(), "/nowhere", &["dns", "list"]);
    assert_eq!(code, 1);
    assert!(
        talk.contains("cannot run") && talk.contains("ermission denied"),
        "{talk}"
    );
}

#[test]
fn what_it_does_not_know_is_a_usage_error_and_help_has_examples() {
    let folder = installed();
    put_dns(folder.path(), "beside");
    let rows: [(&[&str], &str); 2] = [
        (&["dns"], "Examples:"),
        (&["dns", "lst"], "unrecognized subcommand"),
    ];
    for (arguments, expected) in rows {
        let (code, out, talk) = run(folder.path(), "/bin", arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {talk}");
        assert!(talk.contains(expected), "{arguments:?}: {talk}");
    }
    let (code, help, _) = run(folder.path(), "/bin", &["dns", "--help"]);
    assert_eq!(code, 0);
    for word in [
        "Examples:",
        "list",
        "keys",
        "explain",
        "test-key",
        "export",
        "import",
    ] {
        assert!(help.contains(word), "{help}");
    }
}
