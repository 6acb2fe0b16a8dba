//! Debian packages: installed on the machine, or only unpacked below `target/`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::proc::{self, Echo};

/// The longest that fetching and installing packages may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Whether this machine has Debian's package tools.
pub(crate) fn is_debian() -> bool {
    proc::which("apt-get").is_some() && proc::which("dpkg").is_some()
}

/// Installs packages, as root.
///
/// # Errors
/// This is not Debian, there is neither root nor sudo, or apt-get fails; each says what to do.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    ensure!(
        is_debian(),
        "this is not a Debian machine: install by your package manager what Debian calls: {list}"
    );
    ensure!(
        proc::can_be_root(),
        "only root can install packages; run: apt-get install {list}"
    );
    update()?;
    let mut command = proc::as_root("apt-get", &[("DEBIAN_FRONTEND", "noninteractive")]);
    command.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
    proc::run(command.args(packages))
        .with_context(|| format!("install Debian packages; by hand: apt-get install {list}"))
}

/// Fetches the lists of packages, as root.
fn update() -> Result<()> {
    let mut command = proc::as_root("apt-get", &[]);
    quietly(command.arg("update"))
        .context("fetch Debian's package lists; is deb.debian.org reachable from here?")
}

/// Runs a package tool; its many lines are shown only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let finished = proc::capture(command, LIMIT, Echo::Keep)?;
    ensure!(
        finished.success(),
        "`{}`: {}\n{}",
        proc::shown(command),
        finished.ending(),
        proc::tail(&finished.text, 15)
    );
    Ok(())
}

/// The newest package whose name matches the regular expression `pattern`.
///
/// # Errors
/// No package matches, also not after fetching the lists.
pub(crate) fn newest(pattern: &str) -> Result<String> {
    ensure!(
        is_debian(),
        "apt-get is not there: this is not a Debian machine"
    );
    if let Some(name) = newest_of(&search(pattern)?) {
        return Ok(name);
    }
    if proc::can_be_root() {
        update()?;
    }
    match newest_of(&search(pattern)?) {
        Some(name) => Ok(name),
        None => bail!(
            "no Debian package matches {pattern}; are the release's main and security archives in /etc/apt/sources.list.d?"
        ),
    }
}

/// The names of the packages that match.
fn search(pattern: &str) -> Result<String> {
    let mut command = Command::new("apt-cache");
    proc::output(command.args(["search", "--names-only", pattern]))
}

/// The name with the highest version numbers in it, out of `apt-cache search`'s answer.
fn newest_of(answer: &str) -> Option<String> {
    answer
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
}

/// The numbers in a package's name, in order: what its versions are compared by.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Downloads a package and unpacks it into `into`; the machine itself is not changed.
///
/// # Errors
/// The download or the unpacking fails.
pub(crate) fn unpack(package: &str, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
    let mut download = Command::new("apt-get");
    download
        .args(["download", "--quiet", package])
        .current_dir(into);
    if proc::is_root() {
        // Otherwise apt warns that its own user cannot write into this directory.
        download.args(["-o", "APT::Sandbox::User=root"]);
    }
    proc::output(&mut download)
        .with_context(|| format!("download the Debian package {package}"))?;
    let archive = fs::read_dir(into)
        .with_context(|| format!("read {}", into.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} left no file"))?;
    proc::run(Command::new("dpkg").arg("-x").arg(&archive).arg(into))?;
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))
}

/// Downloads packages, and what they need that is not installed, and unpacks them into `into`. Nothing is
/// installed, no script of a package runs, and no service is started.
///
/// # Errors
/// A package is not known, or its download or unpacking fails.
pub(crate) fn unpack_all(packages: &[&str], into: &Path) -> Result<()> {
    ensure!(
        is_debian(),
        "this is not a Debian machine: what Debian calls {} must be on the PATH",
        packages.join(" ")
    );
    if proc::can_be_root() {
        update()?;
    }
    let mut simulated = Command::new("apt-get");
    simulated.args(["install", "--simulate", "--no-install-recommends"]);
    let answer = proc::output(simulated.args(packages))?;
    let mut wanted = to_install(&answer);
    // What is installed already is unpacked as well: its copy is the one that is found.
    wanted.extend(
        packages
            .iter()
            .filter(|package| !answer.contains(&format!("Inst {package} "))),
    );
    for package in wanted {
        unpack(package, into)?;
    }
    Ok(())
}

/// The packages that `apt-get install --simulate` would install.
fn to_install(answer: &str) -> Vec<&str> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_found_by_number_not_by_letter() {
        let answer = "linux-image-6.12.9+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
                      linux-image-6.12.117+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n\
                      linux-image-6.12.86+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)\n";
        assert_eq!(
            newest_of(answer).as_deref(),
            Some("linux-image-6.12.117+deb12-amd64")
        );
    }

    #[test]
    fn what_would_be_installed_is_read_out_of_a_simulation() {
        let answer = "Reading state information...\n\
                      Inst liburcu8 (0.13.2-1 Debian:12.15/oldstable [amd64])\n\
                      Inst knot (3.2.6-1 Debian:12.15/oldstable [amd64])\n\
                      Conf knot (3.2.6-1 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(to_install(answer), ["liburcu8", "knot"]);
    }

    #[test]
    fn no_answer_is_no_package() {
        assert_eq!(newest_of(""), None);
    }
}
