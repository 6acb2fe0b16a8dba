//! The number of the kernel ABI must change when the ABI does.
//!
//! Pinned maps outlive the daemon; a loader that reads them with other layouts under the same
//! number would be wrong silently.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::proc;

/// The folder whose files are the ABI.
const ABI: &str = "dataplane-common/src/abi/";

/// Compares the ABI with that of the base: where this branch left origin/main, or else the
/// commit before this one. Gives a sentence that says what was found.
///
/// # Errors
/// The ABI changed and its number did not.
pub(crate) fn check() -> Result<String> {
    let new = files_now().with_context(|| format!("read {ABI}"))?;
    let Some(base) = base() else {
        return Ok("nothing to compare with: the first commit".into());
    };
    let short = base.get(..8).unwrap_or(&base);
    let old = files_at(&base)?;
    if old.is_empty() {
        return Ok(format!("new since {short}"));
    }
    match compare(&old, &new)? {
        Change::None => Ok(format!("unchanged since {short}")),
        Change::Numbered => Ok(format!("changed since {short}, with a new number")),
        Change::Forgotten => {
            bail!("{ABI} changed since {short}, and ABI_VERSION did not: raise it by one")
        }
    }
}

/// All files, in the order of their names.
fn files_now() -> Result<String> {
    let folder = fs::read_dir(proc::root().join(ABI))?;
    let mut paths = folder
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let texts = paths.iter().map(|path| Ok(fs::read_to_string(path)?));
    texts.collect()
}

/// All files of a commit, in the order of their names.
fn files_at(commit: &str) -> Result<String> {
    let names = proc::output(&mut git(&["ls-tree", "--name-only", commit, ABI]))?;
    let texts = names
        .lines()
        .map(|name| proc::output(&mut git(&["show", &format!("{commit}:{name}")])));
    texts.collect()
}

/// What happened to the ABI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    /// The code is the same.
    None,
    /// The code changed, and the number with it.
    Numbered,
    /// The code changed under the same number.
    Forgotten,
}

/// The commit to compare with, if there is one.
fn base() -> Option<String> {
    let head = proc::output(&mut git(&["rev-parse", "HEAD"])).ok()?;
    let fork = proc::output(&mut git(&["merge-base", "HEAD", "origin/main"])).ok();
    let base = match fork {
        Some(fork) if fork != head => fork,
        _ => proc::output(&mut git(&["rev-parse", "--verify", "HEAD~1"])).ok()?,
    };
    Some(base.trim().to_owned())
}

/// Git, at the root of the repository.
fn git(args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(proc::root());
    command
}

/// Compares two versions of the files.
fn compare(old: &str, new: &str) -> Result<Change> {
    if code(old) == code(new) {
        return Ok(Change::None);
    }
    let missing = || format!("no ABI_VERSION in {ABI}");
    let number = version(new).with_context(missing)?;
    Ok(if version(old).with_context(missing)? == number {
        Change::Forgotten
    } else {
        Change::Numbered
    })
}

/// The code without comments and blank lines: what the kernel's and the user's side share.
fn code(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The value of `ABI_VERSION`.
fn version(text: &str) -> Option<&str> {
    let line = code(text)
        .into_iter()
        .find(|line| line.contains("const ABI_VERSION"))?;
    let (_, value) = line.split_once('=')?;
    Some(value.trim().trim_end_matches(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/// Number.\npub const ABI_VERSION: u32 = 1;\npub struct Key { a: u32 }\n";

    #[test]
    fn a_changed_layout_under_the_same_number_is_found() {
        let new = BASE.replace("a: u32", "a: u64");
        assert_eq!(compare(BASE, &new).unwrap(), Change::Forgotten);
    }

    #[test]
    fn a_changed_layout_with_a_new_number_is_fine() {
        let new = BASE.replace("a: u32", "a: u64").replace("= 1;", "= 2;");
        assert_eq!(compare(BASE, &new).unwrap(), Change::Numbered);
    }

    #[test]
    fn comments_are_not_the_abi() {
        let new = BASE.replace("Number", "The number");
        assert_eq!(compare(BASE, &new).unwrap(), Change::None);
    }

    #[test]
    fn an_abi_without_a_number_is_an_error() {
        assert!(compare("struct A;", "struct B;").is_err());
    }
}
