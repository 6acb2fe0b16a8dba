//! Stock Debian kernels in a virtual machine: `cargo xtask vm 6.1 -- COMMAND`.
//!
//! The machine sees this machine's root filesystem read-only, with what it writes kept in memory
//! (virtme-ng), and has no network card. Kernels are unpacked below `target/vm/`; nothing of the
//! machine itself is changed. By default the processor is emulated: a hypervisor that runs inside
//! of another one often claims to have KVM and then cannot run a stock kernel.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fs, io, thread};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::proc::{self, Echo, Finished};
use crate::{debian, setup};

/// A series of kernels that bulkhead supports.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Series {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// The long-term kernel of Debian 13, which Debian 12 carries too.
    #[value(name = "6.12")]
    V6_12,
}

impl Series {
    /// All of them, oldest first.
    pub(crate) const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// A regular expression for the names of its packages.
    ///
    /// Not the cloud flavour: it lacks 9p, by which the machine sees its root filesystem.
    fn packages(self) -> &'static str {
        match self {
            Self::V6_1 => r"^linux-image-6\.1\.0-[0-9]+-amd64$",
            Self::V6_12 => r"^linux-image-6\.12\.[0-9]+\+deb[0-9]+-amd64$",
        }
    }

    /// Where its newest kernel is unpacked.
    fn dir(self) -> PathBuf {
        vm_dir().join(self.to_string())
    }
}

impl Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

/// Arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel to boot.
    #[arg(value_enum, default_value = "6.12")]
    kernel: Series,
    /// Let the processor run the machine (KVM) instead of emulating it.
    #[arg(long)]
    kvm: bool,
    /// The command to run; a shell if there is none.
    #[arg(last = true)]
    command: Vec<String>,
}

/// A kernel that is ready to boot.
pub(crate) struct Kernel {
    /// Its release, as `uname -r` tells it.
    pub(crate) release: String,
    /// The bootable image.
    image: PathBuf,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[setup::Tier::Vm])?;
    let kernel = find_kernel(args.kernel)?;
    eprintln!("Linux {} in a virtual machine", kernel.release);
    let script = match args.command.as_slice() {
        [] => None,
        command => Some(write_script("command", &quoted(command))?),
    };
    let accelerate = if args.kvm {
        Accelerate::Kvm
    } else {
        Accelerate::No
    };
    let mut command = boot(&kernel, script.as_deref(), accelerate);
    let status = match script {
        Some(_) => stream(command.stdin(Stdio::null()))?,
        None => command.status().context("start the virtual machine")?,
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Runs a shell script in a machine; ends the machine after `limit`.
///
/// # Errors
/// The script cannot be written or the machine not started. A script that fails is no error here.
pub(crate) fn run_script(
    kernel: &Kernel,
    name: &str,
    script: &str,
    limit: Duration,
    echo: Echo,
) -> Result<Finished> {
    proc::capture(&mut script_command(kernel, name, script)?, limit, echo)
        .context("run the virtual machine")
}

/// The command that runs a shell script in a machine, with our own streams.
///
/// # Errors
/// The script cannot be written.
pub(crate) fn script_command(kernel: &Kernel, name: &str, script: &str) -> Result<Command> {
    let path = write_script(name, script)?;
    let mut command = boot(kernel, Some(&path), Accelerate::No);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs a machine's command and passes on what it writes.
///
/// Through pipes: qemu opens our streams anew, by name, and would overwrite one that is a file.
///
/// # Errors
/// The machine cannot be started or waited for.
pub(crate) fn stream(command: &mut Command) -> Result<ExitStatus> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the virtual machine")?;
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || {
        stderr.map_or(Ok(0), |mut from| io::copy(&mut from, &mut io::stderr()))
    });
    if let Some(mut from) = child.stdout.take() {
        io::copy(&mut from, &mut io::stdout()).context("write to stdout")?;
    }
    // What could not be written to stderr has no other place to go.
    drop(errors.join());
    child.wait().context("wait for the virtual machine")
}

/// Whether the processor itself runs the machine's instructions.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Accelerate {
    /// KVM.
    Kvm,
    /// Emulation: slower, works everywhere.
    No,
}

/// The command that boots a machine, with a script or a shell.
fn boot(kernel: &Kernel, script: Option<&Path>, accelerate: Accelerate) -> Command {
    let bin = setup::venv_bin();
    let mut command = Command::new(bin.join("vng"));
    command
        .current_dir(proc::root())
        .env("PATH", path_with(&bin));
    command.arg("--busybox").arg(busybox());
    command.arg("--run").arg(&kernel.image);
    command.args(["--user", "root", "--memory", "2G"]);
    if accelerate == Accelerate::No {
        // One processor: when the kernel patches its own code (a first TC program is attached) while another emulated
        // processor runs it, that one meets the breakpoint too late and the kernel ends ("Oops: int3").
        command.args(["--disable-kvm", "--cpus", "1"]);
    } else {
        command.args(["--cpus", "2"]);
    }
    if let Some(script) = script {
        command.arg("--").arg(format!("sh {}", script.display()));
    }
    command
}

/// `PATH` with a directory in front; vng starts its own helpers by name.
fn path_with(dir: &Path) -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(dir.to_path_buf())
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(dirs).unwrap_or(path)
}

/// Writes a script for a machine; the kernel's command line would be too short for it.
fn write_script(name: &str, body: &str) -> Result<PathBuf> {
    let dir = vm_dir().join("scripts");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join(format!("{name}-{}.sh", std::process::id()));
    let root = quote(&proc::root().display().to_string());
    let text = format!(
        "export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         export BULKHEAD_VM=1\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         cd {root}\n\
         {body}\n"
    );
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Words for a POSIX shell.
pub(crate) fn quoted(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// One word for a POSIX shell.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Where kernels and the machines' scripts are.
fn vm_dir() -> PathBuf {
    proc::root().join("target").join("vm")
}

/// The static busybox that starts a machine whose kernel needs modules to see its root.
fn busybox() -> PathBuf {
    vm_dir().join("busybox").join("bin").join("busybox")
}

/// Whether busybox is there.
pub(crate) fn has_busybox() -> bool {
    busybox().is_file()
}

/// Unpacks busybox. Not installed: it would replace the machine's own busybox.
pub(crate) fn fetch_busybox() -> Result<()> {
    debian::unpack("busybox-static", &vm_dir().join("busybox"))
}

/// The unpacked kernel of a series.
///
/// # Errors
/// It is not there; the message names the command that fetches it.
pub(crate) fn find_kernel(series: Series) -> Result<Kernel> {
    let boot = series.dir().join("boot");
    let release = fs::read_dir(&boot)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
    let Some(release) = release else {
        bail!("no kernel {series} below target/vm; run: cargo xtask setup --only vm");
    };
    let modules = series
        .dir()
        .join("lib/modules")
        .join(&release)
        .join("modules.dep");
    if !modules.is_file() {
        bail!(
            "the kernel {release} below target/vm is incomplete; remove {} and run: cargo xtask setup --only vm",
            series.dir().display()
        );
    }
    Ok(Kernel {
        image: boot.join(format!("vmlinuz-{release}")),
        release,
    })
}

/// Downloads and unpacks the newest kernel of a series.
///
/// # Errors
/// Debian does not offer it, or it cannot be downloaded, unpacked or indexed.
pub(crate) fn fetch_kernel(series: Series) -> Result<()> {
    let package = debian::newest(series.packages())?;
    eprintln!("      {package}");
    let dir = series.dir();
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    debian::unpack(&package, &dir)?;
    let release = package.trim_start_matches("linux-image-");
    let depmod = proc::which("depmod").context("depmod is not there; it is in Debian's kmod")?;
    proc::run(Command::new(depmod).arg("--basedir").arg(&dir).arg(release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(
            quoted(&["echo".into(), "a b".into(), "it's".into()]),
            r"'echo' 'a b' 'it'\''s'"
        );
    }
}
