//! `cargo xtask setup`: what a fresh Debian 12 machine with rustup lacks, and nothing else.
//!
//! Each step looks first and does nothing when the thing is there, so that it can be run again at
//! any time. The other tasks call [`ensure`] for the tiers they need.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::vm::{self, Series};
use crate::{debian, proc};

/// The linker of eBPF programs; 0.11 wants an LLVM of the system, this one uses the nightly's.
const BPF_LINKER: &str = "0.10.3";
/// The program that boots this machine's root filesystem on another kernel.
const VIRTME_NG: &str = "1.42";
/// The spelling checker.
const TYPOS: &str = "1.52.0";
/// The checker of licences, sources and advisories of dependencies.
const CARGO_DENY: &str = "0.20.2";

/// What a group of steps is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Tier {
    /// Building: the eBPF toolchain.
    Build,
    /// Tests and demo in network namespaces.
    Net,
    /// Virtual machines with stock Debian kernels.
    Vm,
    /// `cargo xtask check`.
    Check,
}

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what these need (default: everything).
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Tier>,
    /// Also let git run the checks in .githooks before each commit.
    #[arg(long)]
    hooks: bool,
}

/// One thing that must be there.
struct Step {
    tier: Tier,
    name: String,
    why: &'static str,
    present: fn() -> bool,
    install: fn() -> Result<()>,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let all = [Tier::Build, Tier::Net, Tier::Vm, Tier::Check];
    let tiers = if args.only.is_empty() {
        &all
    } else {
        args.only.as_slice()
    };
    install(tiers, Talk::All)?;
    if args.hooks {
        install_hooks()?;
    }
    eprintln!("setup: all is there");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing of these tiers; says nothing if nothing is.
///
/// # Errors
/// A step failed; the message says what to do about it.
pub(crate) fn ensure(tiers: &[Tier]) -> Result<()> {
    install(tiers, Talk::Changes)
}

/// How much is said.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Talk {
    /// One line for every step.
    All,
    /// Only steps that do something.
    Changes,
}

/// Runs the steps of these tiers, one setup of this repository at a time.
fn install(tiers: &[Tier], talk: Talk) -> Result<()> {
    let steps: Vec<Step> = steps()
        .into_iter()
        .filter(|step| tiers.contains(&step.tier))
        .collect();
    let _lock = lock()?;
    for (index, step) in steps.iter().enumerate() {
        let place = format!("[{}/{}]", index + 1, steps.len());
        if (step.present)() {
            if talk == Talk::All {
                eprintln!("{place} {}: present", step.name);
            }
            continue;
        }
        eprintln!("{place} {}: installing ({})", step.name, step.why);
        let start = Instant::now();
        (step.install)().with_context(|| format!("setup of {}", step.name))?;
        ensure!(
            (step.present)(),
            "setup of {} ended without an error, and yet it is not there",
            step.name
        );
        let took = proc::seconds(start.elapsed());
        eprintln!("{place} {}: done in {took}", step.name);
    }
    Ok(())
}

/// Waits for another setup of this repository to end.
fn lock() -> Result<File> {
    let dir = proc::root().join("target");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// All steps, in the order in which they must run.
fn steps() -> Vec<Step> {
    let mut steps = build_steps();
    steps.extend(machine_steps());
    steps.extend(kernel_steps());
    steps.extend(check_steps());
    steps
}

/// The eBPF toolchain.
fn build_steps() -> Vec<Step> {
    vec![
        Step {
            tier: Tier::Build,
            name: "Rust nightly".into(),
            why: "eBPF is a target that only nightly can build core for",
            present: has_nightly,
            install: || rustup(&["toolchain", "install", "nightly", "--profile", "minimal"]),
        },
        Step {
            tier: Tier::Build,
            name: "rust-src of nightly".into(),
            why: "core is built from source for eBPF",
            present: || has_component("rust-src"),
            install: || rustup(&["component", "add", "rust-src", "--toolchain", "nightly"]),
        },
        Step {
            tier: Tier::Build,
            name: format!("bpf-linker {BPF_LINKER}"),
            why: "links the eBPF program; about a minute",
            present: has_bpf_linker,
            install: install_bpf_linker,
        },
    ]
}

/// Debian's packages, and what boots virtual machines.
fn machine_steps() -> Vec<Step> {
    vec![
        Step {
            tier: Tier::Net,
            name: "network tools".into(),
            why: "namespaces, interfaces and captures of tests and demo",
            present: || missing(NET_PACKAGES).is_empty(),
            install: || debian::install(&missing(NET_PACKAGES)),
        },
        Step {
            tier: Tier::Vm,
            name: "qemu and its helpers".into(),
            why: "runs the virtual machines",
            present: || missing(VM_PACKAGES).is_empty() && has_venv_module(),
            install: install_vm_packages,
        },
        Step {
            tier: Tier::Vm,
            name: format!("virtme-ng {VIRTME_NG}"),
            why: "boots this root filesystem on another kernel; into target/tools",
            present: || has_wheel("virtme_ng", VIRTME_NG),
            install: || pip_install("virtme-ng", VIRTME_NG),
        },
        Step {
            tier: Tier::Vm,
            name: "static busybox".into(),
            why: "first program of a virtual machine; unpacked into target/vm, not installed",
            present: vm::has_busybox,
            install: vm::fetch_busybox,
        },
    ]
}

/// The kernels of the virtual machines.
fn kernel_steps() -> Vec<Step> {
    vec![
        Step {
            tier: Tier::Vm,
            name: "Debian kernel 6.1".into(),
            why: "unpacked into target/vm, not installed; 70 MB",
            present: || vm::find_kernel(Series::V6_1).is_ok(),
            install: || vm::fetch_kernel(Series::V6_1),
        },
        Step {
            tier: Tier::Vm,
            name: "Debian kernel 6.12".into(),
            why: "unpacked into target/vm, not installed; 110 MB",
            present: || vm::find_kernel(Series::V6_12).is_ok(),
            install: || vm::fetch_kernel(Series::V6_12),
        },
    ]
}

/// What `cargo xtask check` runs.
fn check_steps() -> Vec<Step> {
    vec![
        Step {
            tier: Tier::Check,
            name: "rustfmt and clippy".into(),
            why: "format and lints",
            present: || proc::which("cargo-fmt").is_some() && has_component("clippy"),
            install: install_lints,
        },
        Step {
            tier: Tier::Check,
            name: format!("typos {TYPOS}"),
            why: "spelling; into target/tools",
            present: || has_wheel("typos", TYPOS),
            install: || pip_install("typos", TYPOS),
        },
        Step {
            tier: Tier::Check,
            name: format!("cargo-deny {CARGO_DENY}"),
            why: "licences and sources of dependencies; some minutes",
            present: || proc::succeeds(Command::new("cargo-deny").arg("--version")),
            install: || {
                let version = format!("cargo-deny@{CARGO_DENY}");
                proc::run(proc::cargo().args(["install", &version, "--locked"]))
            },
        },
    ]
}

/// A program, and the Debian package that has it.
type Package = (&'static str, &'static str);

/// Packages of tests and demo in namespaces.
const NET_PACKAGES: &[Package] = &[
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("unshare", "util-linux"),
];

/// Packages of the virtual machines.
const VM_PACKAGES: &[Package] = &[
    // By `file`, virtme-ng finds out a kernel's version.
    ("file", "file"),
    ("modprobe", "kmod"),
    ("python3", "python3"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("udevadm", "udev"),
    ("zstd", "zstd"),
];

/// The packages whose programs are not there.
fn missing(packages: &[Package]) -> Vec<&'static str> {
    packages
        .iter()
        .filter(|(program, _)| proc::which(program).is_none())
        .map(|(_, package)| *package)
        .collect()
}

/// Installs the packages of the virtual machines.
fn install_vm_packages() -> Result<()> {
    let mut packages = missing(VM_PACKAGES);
    if !has_venv_module() {
        packages.push("python3-venv");
    }
    debian::install(&packages)
}

/// Whether Python can make virtual environments; Debian has that in a package of its own.
fn has_venv_module() -> bool {
    proc::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
}

/// Runs rustup.
fn rustup(args: &[&str]) -> Result<()> {
    proc::run(Command::new("rustup").args(args)).with_context(|| {
        format!("is rustup installed (https://rustup.rs) and static.rust-lang.org reachable? by hand: rustup {}", args.join(" "))
    })
}

/// Whether a toolchain called nightly is there.
fn has_nightly() -> bool {
    proc::succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))
}

/// Whether the nightly toolchain has a component.
fn has_component(name: &str) -> bool {
    let mut command = Command::new("rustup");
    command.args(["component", "list", "--installed", "--toolchain", "nightly"]);
    proc::output(&mut command).is_ok_and(|list| list.lines().any(|line| line.starts_with(name)))
}

/// Whether the bpf-linker we want is there.
fn has_bpf_linker() -> bool {
    proc::output(Command::new("bpf-linker").arg("--version"))
        .is_ok_and(|version| version.split_whitespace().any(|word| word == BPF_LINKER))
}

/// Builds bpf-linker, with the toolchain whose LLVM it is to use.
fn install_bpf_linker() -> Result<()> {
    let version = format!("bpf-linker@{BPF_LINKER}");
    let mut cargo = proc::cargo_nightly();
    // Built where cargo installs, not into the project's target directory.
    cargo.env_remove("CARGO_TARGET_DIR");
    proc::run(cargo.args(["install", &version, "--locked", "--force"])).context(
        "is crates.io reachable, and a C compiler installed (apt-get install gcc)? this version \
             wants the LLVM 22 that the nightly of 2026-05-20 ships",
    )
}

/// Adds rustfmt to the default toolchain, and clippy to both.
fn install_lints() -> Result<()> {
    rustup(&["component", "add", "rustfmt", "clippy"])?;
    rustup(&["component", "add", "clippy", "--toolchain", "nightly"])
}

/// The Python environment of the project.
fn venv() -> PathBuf {
    proc::tools_dir().join("venv")
}

/// Where its programs are.
pub(crate) fn venv_bin() -> PathBuf {
    venv().join("bin")
}

/// Whether the environment has this version of a package.
fn has_wheel(module: &str, version: &str) -> bool {
    let name = format!("{module}-{version}.dist-info");
    fs::read_dir(venv().join("lib"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .any(|python| python.path().join("site-packages").join(&name).is_dir())
}

/// Installs a Python package into the environment, which it makes if need be.
fn pip_install(package: &str, version: &str) -> Result<()> {
    if !venv_bin().join("pip").is_file() {
        proc::run(Command::new("python3").args(["-m", "venv"]).arg(venv()))
            .context("make a Python environment; by hand: apt-get install python3-venv")?;
    }
    let wanted = format!("{package}=={version}");
    let mut pip = Command::new(venv_bin().join("pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", &wanted]);
    proc::run(&mut pip).context("is pypi.org reachable?")
}

/// Lets git use the hooks of the repository.
fn install_hooks() -> Result<()> {
    let mut git = Command::new("git");
    git.args(["config", "core.hooksPath", ".githooks"])
        .current_dir(proc::root());
    proc::run(&mut git)?;
    eprintln!("git hooks: .githooks (undo: git config --unset core.hooksPath)");
    Ok(())
}
