//! What must be on a machine for each of the tasks: how to see it, how to get it, and why.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::vm::{self, Series};
use crate::{debian, proc};

/// The linker of eBPF programs; 0.11 wants an LLVM of the system, this one uses the nightly's.
const BPF_LINKER: &str = "0.10.3";
/// The program that boots this machine's root filesystem on another kernel.
const VIRTME_NG: &str = "1.42";
/// What changes DNS zones in tests: over the API of PowerDNS, and by signed updates. Package, and version.
const DNS_TOOLS: &[(&str, &str)] = &[
    ("octodns-powerdns", "1.2.0"),
    ("dns-lexicon", "3.25.2"),
    ("octodns-bind", "1.1.0"),
    ("certbot-dns-rfc2136", "5.8.0"),
];
/// The spelling checker.
const TYPOS: &str = "1.52.0";
/// The checker of licences, sources and advisories of dependencies.
const CARGO_DENY: &str = "0.20.2";
/// The maker of the Debian package.
const CARGO_DEB: &str = "3.8.0";
/// The runner of fuzz targets.
const CARGO_FUZZ: &str = "0.13.2";

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
    /// `cargo xtask fuzz`.
    Fuzz,
    /// `cargo xtask deb`.
    Package,
    /// `cargo xtask bench dhcp`: the servers that it compares with.
    Peers,
}

/// One thing that must be there.
pub(crate) struct Step {
    /// What it is for.
    pub(crate) tier: Tier,
    /// What it is.
    pub(crate) name: String,
    /// Why it is needed, and what is unusual about it.
    pub(crate) why: &'static str,
    /// Whether it is there.
    pub(crate) present: fn() -> bool,
    /// Gets it.
    pub(crate) install: fn() -> Result<()>,
}

/// All steps, in the order in which they must run.
pub(crate) fn all() -> Vec<Step> {
    let mut steps = build_steps();
    steps.extend(machine_steps());
    steps.extend(kernel_steps());
    steps.extend(check_steps());
    steps.extend(fuzz_steps());
    steps.push(Step {
        tier: Tier::Package,
        name: "dpkg-shlibdeps".into(),
        why: "finds out which libraries the programs need",
        present: || proc::which("dpkg-shlibdeps").is_some(),
        install: || debian::install(&["dpkg-dev"]),
    });
    steps.push(Step {
        tier: Tier::Package,
        name: format!("cargo-deb {CARGO_DEB}"),
        why: "makes the Debian package; some minutes",
        present: || proc::succeeds(Command::new("cargo-deb").arg("--version")),
        install: || cargo_install("cargo-deb", CARGO_DEB),
    });
    steps.push(Step {
        tier: Tier::Peers,
        name: "Kea, dnsmasq and perfdhcp".into(),
        why: "what `bench dhcp` compares with; unpacked into target/peers, not installed, no service starts",
        present: has_dhcp_servers,
        install: || debian::unpack_all(DHCP_SERVERS, &peers_dir()),
    });
    steps
}

/// The DHCP servers that ours is compared with, and the program that loads all of them.
const DHCP_SERVERS: &[&str] = &["kea-dhcp4-server", "kea-admin", "dnsmasq-base"];

/// Whether each of the programs starts: a library that lacks would stop it.
fn has_dhcp_servers() -> bool {
    let starts = |program: &str, argument: &str| {
        let mut command = Command::new(peers_dir().join("usr/sbin").join(program));
        command.env(
            "LD_LIBRARY_PATH",
            peers_dir().join("usr/lib/x86_64-linux-gnu"),
        );
        proc::succeeds(command.arg(argument))
    };
    starts("kea-dhcp4", "-v") && starts("perfdhcp", "-v") && starts("dnsmasq", "--version")
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
            tier: Tier::Net,
            name: "name servers of others".into(),
            why: "secondaries in tests, and `bench dns`; unpacked into target/peers, not installed",
            present: || {
                NAME_SERVERS
                    .iter()
                    .all(|(path, _)| peers_dir().join(path).is_file())
            },
            install: || {
                let packages: Vec<&str> =
                    NAME_SERVERS.iter().map(|(_, package)| *package).collect();
                debian::unpack_all(&packages, &peers_dir())
            },
        },
        Step {
            tier: Tier::Net,
            name: "octodns, lexicon and certbot".into(),
            why: "tools that change DNS zones over HTTP and by signed updates, for tests; into target/tools",
            present: || {
                let mut tools = DNS_TOOLS.iter();
                tools.all(|(package, version)| has_wheel(&package.replace('-', "_"), version))
            },
            install: install_dns_tools,
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
            install: || cargo_install("cargo-deny", CARGO_DENY),
        },
    ]
}

/// What `cargo xtask fuzz` runs; the compiler is wanted by the lints of the fuzz targets too.
fn fuzz_steps() -> Vec<Step> {
    let compiler = |tier| Step {
        tier,
        name: "C++ compiler".into(),
        why: "libFuzzer is C++",
        present: || proc::which("c++").is_some(),
        install: || debian::install(&["g++"]),
    };
    vec![
        compiler(Tier::Check),
        compiler(Tier::Fuzz),
        Step {
            tier: Tier::Fuzz,
            name: format!("cargo-fuzz {CARGO_FUZZ}"),
            why: "builds and runs fuzz targets; about a minute",
            present: || proc::succeeds(Command::new("cargo-fuzz").arg("--version")),
            install: || cargo_install("cargo-fuzz", CARGO_FUZZ),
        },
    ]
}

/// Builds and installs a program from crates.io.
fn cargo_install(name: &str, version: &str) -> Result<()> {
    let wanted = format!("{name}@{version}");
    let mut cargo = proc::cargo();
    // Built where cargo installs, not into the project's target directory.
    cargo.env_remove("CARGO_TARGET_DIR");
    proc::run(cargo.args(["install", &wanted, "--locked"])).context("is crates.io reachable?")
}

/// A program, and the Debian package that has it.
type Package = (&'static str, &'static str);

/// Packages of tests and demo in namespaces.
const NET_PACKAGES: &[Package] = &[
    // The clients that the DHCP server is tested with; none of them as a service of this machine.
    ("dhclient", "isc-dhcp-client"),
    ("dhcpcd", "dhcpcd-base"),
    ("udhcpc", "udhcpc"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("dig", "bind9-dnsutils"),
    ("kdig", "knot-dnsutils"),
    ("tcpdump", "tcpdump"),
    ("unshare", "util-linux"),
];

/// Name servers and what their tests need, and the Debian packages that have them. `testkit::peers` finds them.
const NAME_SERVERS: &[Package] = &[
    ("usr/sbin/named", "bind9"),
    ("usr/sbin/knotd", "knot"),
    ("usr/sbin/nsd", "nsd"),
    ("usr/sbin/pdns_server", "pdns-server"),
    (
        "usr/lib/x86_64-linux-gnu/pdns/libbindbackend.so",
        "pdns-backend-bind",
    ),
    ("usr/sbin/unbound", "unbound"),
    // Clients whose clock is wrong.
    (
        "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "libfaketime",
    ),
];

/// Where packages are unpacked whose programs must not run as services of this machine.
fn peers_dir() -> PathBuf {
    proc::root().join("target").join("peers")
}

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

/// Installs what changes DNS zones.
fn install_dns_tools() -> Result<()> {
    if !has_venv_module() {
        debian::install(&["python3", "python3-venv"])?;
    }
    let mut tools = DNS_TOOLS.iter();
    tools.try_for_each(|(package, version)| pip_install(package, version))
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
