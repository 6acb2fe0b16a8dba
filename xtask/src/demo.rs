//! `cargo xtask demo`: the sample site, on this kernel or, where it lacks VLAN devices, on a stock
//! one in a virtual machine.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::proc;
use crate::setup::{self, Tier};
use crate::vm::{self, Series};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run in namespaces of this kernel, whatever it has.
    #[arg(long, conflicts_with = "vm")]
    namespaces: bool,
    /// Run in a virtual machine, whatever this kernel has.
    #[arg(long)]
    vm: bool,
    /// Arguments of the demo itself.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Where the demo runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Here,
    VirtualMachine,
}

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Tier::Build, Tier::Net])?;
    let place = place(args);
    if place == Place::VirtualMachine {
        setup::ensure(&[Tier::Vm])?;
    }
    build()?;
    let status = match place {
        Place::Here => {
            let mut command = here(args)?;
            let shown = proc::shown(&command);
            command
                .status()
                .with_context(|| format!("start `{shown}`"))?
        }
        Place::VirtualMachine => vm::stream(&mut in_virtual_machine(args)?)?,
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Chooses the place and says why.
fn place(args: &Args) -> Place {
    let (place, why) = if args.namespaces {
        (Place::Here, "as asked")
    } else if args.vm {
        (Place::VirtualMachine, "as asked")
    } else if !proc::can_be_root() {
        (
            Place::VirtualMachine,
            "root is needed here, and there is no sudo",
        )
    } else if has_vlan_devices() {
        (Place::Here, "this kernel has 802.1Q VLAN devices")
    } else {
        (
            Place::Here,
            "it has no 802.1Q VLAN devices, so a program of the demo stands in for them (--vm for real ones)",
        )
    };
    match place {
        Place::Here => eprintln!("demo: in network namespaces of this kernel: {why}"),
        Place::VirtualMachine => {
            eprintln!(
                "demo: in a virtual machine with Linux {}: {why}",
                Series::V6_12
            );
        }
    }
    place
}

/// Whether this kernel can make VLAN devices; tried in a namespace that ends with the trial.
fn has_vlan_devices() -> bool {
    let Some(unshare) = proc::which("unshare") else {
        return false;
    };
    let mut probe = proc::as_root(unshare, &[]);
    probe.args(["--net", "sh", "-ec"]);
    probe.arg(
        "PATH=$PATH:/usr/sbin:/sbin\n\
         ip link add bh0 type veth peer name bh1\n\
         ip link add link bh0 name bh0.100 type vlan id 100",
    );
    proc::succeeds(&mut probe)
}

/// Builds bulkhead and the demo.
fn build() -> Result<()> {
    let mut cargo = proc::cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "dataplane-user",
        "--bin",
        "bulkhead",
    ]);
    cargo.args(["--package", "testkit", "--bin", "bulkhead-demo"]);
    proc::run(&mut cargo).context("build the demo")
}

/// A built program.
fn built(name: &str) -> Result<PathBuf> {
    let path = proc::target_dir().join("release").join(name);
    ensure!(path.is_file(), "{} was not built", path.display());
    Ok(path)
}

/// The demo's arguments.
fn demo_args(args: &Args) -> Result<Vec<String>> {
    let bulkhead = built("bulkhead")?.display().to_string();
    let sample = proc::root().join("sample").display().to_string();
    let mut all = vec!["--bulkhead".into(), bulkhead, "--sample".into(), sample];
    all.extend(args.rest.iter().cloned());
    Ok(all)
}

/// The demo on this kernel.
fn here(args: &Args) -> Result<Command> {
    let mut command = proc::as_root(built("bulkhead-demo")?, &[]);
    command.args(demo_args(args)?).current_dir(proc::root());
    Ok(command)
}

/// The demo in a virtual machine.
fn in_virtual_machine(args: &Args) -> Result<Command> {
    let mut words = vec![built("bulkhead-demo")?.display().to_string()];
    words.extend(demo_args(args)?);
    // The machine's streams are no terminals, even when ours are.
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        words.push("--colour".into());
    }
    vm::script_command(
        &vm::find_kernel(Series::V6_12)?,
        "demo",
        &vm::quoted(&words),
    )
}
