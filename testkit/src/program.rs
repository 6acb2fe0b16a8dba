//! How a test runs the program `bulkhead`: with files of its own, never those of this machine.

use std::path::Path;
use std::process::{Command, Stdio};

/// Adds `words` to a command that is `bulkhead`, and where everything is: its maps in `pins`, all else in `folder`, where
/// `bulkhead.toml` is the test's to write.
#[must_use]
pub fn place(mut command: Command, words: &[&str], pins: &Path, folder: &Path) -> Command {
    command.args(words).arg("--pins").arg(pins);
    for (option, name) in [
        ("--config", "bulkhead.toml"),
        ("--state", "state.json"),
        ("--store", "store"),
        ("--publish", "published"),
    ] {
        command.arg(option).arg(folder.join(name));
    }
    command.stdin(Stdio::null());
    command
}
