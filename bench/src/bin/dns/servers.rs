//! The servers: how each is configured, started, pinned and ended.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use testkit::netns::NetNs;
use testkit::peers::Peer;

use crate::sites::{SERVER, Site, Zone};

/// A server to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// One datagram in, the same out: a system call each.
    Echo,
    /// The same with batches.
    EchoBatch,
    /// bulkhead-dns, asked at one address.
    Bulkhead,
    /// bulkhead-dns, each tenant asks its own gateway.
    BulkheadGateways,
    /// NSD.
    Nsd,
    /// Knot DNS.
    Knot,
    /// BIND.
    Bind,
    /// `PowerDNS` with BIND's zone files.
    Powerdns,
    /// hickory-server with zones in memory.
    Hickory,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::EchoBatch => "echo-batch",
            Self::Bulkhead => "bulkhead",
            Self::BulkheadGateways => "bulkhead-gateways",
            Self::Nsd => "nsd",
            Self::Knot => "knot",
            Self::Bind => "bind",
            Self::Powerdns => "powerdns",
            Self::Hickory => "hickory",
        }
    }

    /// Does it sign the zones that it is given, or know none?
    pub(crate) fn signs(self) -> bool {
        matches!(
            self,
            Self::Echo | Self::EchoBatch | Self::Bulkhead | Self::Knot
        )
    }

    /// Does it know names? The echo answers whatever it is asked.
    pub(crate) fn is_name_server(self) -> bool {
        !matches!(self, Self::Echo | Self::EchoBatch)
    }
}

/// A server that runs, in a session of its own. Dropping it ends it.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    core: usize,
    child: Child,
}

impl Running {
    /// Starts a server on a core.
    pub(crate) fn start(
        kind: Kind,
        ns: &NetNs,
        place: (&Path, u16),
        site: &Site,
        core: usize,
    ) -> Result<Self> {
        let (folder, port) = place;
        fs::create_dir_all(folder)?;
        let mut command = match kind {
            Kind::Echo
            | Kind::EchoBatch
            | Kind::Bulkhead
            | Kind::BulkheadGateways
            | Kind::Hickory => own(ns, kind, folder, port, site)?,
            Kind::Nsd => nsd(ns, folder, port, site)?,
            Kind::Knot => knot(ns, folder, port, site)?,
            Kind::Bind => bind(ns, folder, port, site)?,
            Kind::Powerdns => powerdns(ns, folder, port, site)?,
        };
        let log = fs::File::create(folder.join("log"))?;
        command
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null());
        let cores = only(core)?;
        let settle = move || {
            sched_setaffinity(Pid::from_raw(0), &cores)?;
            nix::unistd::setsid()?;
            crate::go_first();
            Ok(())
        };
        // SAFETY: system calls and nothing else.
        unsafe { command.pre_exec(settle) };
        let child = command
            .spawn()
            .with_context(|| format!("start {}", kind.name()))?;
        Ok(Self {
            kind,
            port,
            core,
            child,
        })
    }

    /// Puts all its threads on its core again: Knot's choose cores for themselves, and so the load's.
    pub(crate) fn pin(&self) -> Result<()> {
        let cores = only(self.core)?;
        for task in self.tasks() {
            let id = task.file_name().and_then(|name| name.to_str());
            let id: i32 = id.context("a thread without a number")?.parse()?;
            match sched_setaffinity(Pid::from_raw(id), &cores) {
                // It has ended.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => bail!("cannot pin {}: {errno}", self.kind.name()),
            }
        }
        self.check_core()
    }

    /// Fails if one of its threads may run on another core.
    pub(crate) fn check_core(&self) -> Result<()> {
        for task in self.tasks() {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            let list = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let list = list.unwrap_or("").trim();
            ensure!(
                list.is_empty() || list == self.core.to_string(),
                "a thread of {} may run on core {list}, and all were put on {}",
                self.kind.name(),
                self.core
            );
        }
        Ok(())
    }

    /// Its threads, as folders below `/proc`.
    fn tasks(&self) -> Vec<PathBuf> {
        let processes = session(self.child.id()).into_iter();
        let folders = processes.flat_map(|process| fs::read_dir(process.join("task")));
        let tasks = folders.flatten().flatten();
        tasks.map(|task| task.path()).collect()
    }

    /// Returns the time that its processes have run so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in self.tasks() {
            // Nanoseconds on a processor, nanoseconds waiting for one, turns.
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next().unwrap_or("0");
            nanoseconds += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()).map(Pid::from_raw) else {
            return;
        };
        let _ = kill(pid, Signal::SIGTERM);
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Its session is our own making: what is left of it goes, too.
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// This core and no other.
fn only(core: usize) -> Result<CpuSet> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(cores)
}

/// The processes of a session.
fn session(leader: u32) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_member = |path: &PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        // Behind the name in brackets: state, parent, group, session.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(3) == Some(&leader.to_string())
    };
    processes
        .map(|entry| entry.path())
        .filter(is_member)
        .collect()
}

/// A server out of this very program.
fn own(ns: &NetNs, kind: Kind, folder: &Path, port: u16, site: &Site) -> Result<Command> {
    let mut command = ns.command(std::env::current_exe()?);
    command.args(["serve", kind.name(), "--port", &port.to_string()]);
    command.arg("--folder").arg(folder);
    match kind {
        Kind::Bulkhead | Kind::BulkheadGateways => {
            let octets = site.published.to_bytes();
            fs::write(folder.join("generation"), octets)?;
        }
        Kind::Hickory => fs::write(folder.join("zones.json"), zones_json(&site.zones))?,
        Kind::Echo | Kind::EchoBatch | Kind::Nsd | Kind::Knot | Kind::Bind | Kind::Powerdns => {}
    }
    Ok(command)
}

fn zones_json(zones: &[Zone]) -> String {
    let list: Vec<_> = zones
        .iter()
        .map(|zone| (&zone.origin, &zone.names))
        .collect();
    serde_json::json!(list).to_string()
}

fn peer(ns: &NetNs, program: &str) -> Result<(Command, Peer)> {
    let peer = Peer::find(program)?;
    let mut command = ns.command(&peer.program);
    command.envs(peer.environment());
    Ok((command, peer))
}

/// Writes a file for each zone; returns the statements about them.
fn zone_files(folder: &Path, zones: &[Zone], statement: impl Fn(&str) -> String) -> Result<String> {
    let mut statements = String::new();
    for zone in zones {
        let mut text = String::from(
            "$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\nns A 10.255.255.1\n",
        );
        for (name, address) in &zone.names {
            writeln!(text, "{name} A {address}")?;
        }
        fs::write(folder.join(format!("{}.zone", zone.origin)), text)?;
        statements += &statement(&zone.origin);
    }
    Ok(statements)
}

fn nsd(ns: &NetNs, folder: &Path, port: u16, site: &Site) -> Result<Command> {
    let at = folder.display();
    let zones = zone_files(folder, &site.zones, |zone| {
        format!("zone:\n  name: {zone}\n  zonefile: {zone}.zone\n")
    })?;
    let conf = format!(
        "server:\n  ip-address: {SERVER}@{port}\n  server-count: 1\n  username: \"\"\n  zonesdir: \"{at}\"\n  \
         database: \"\"\n  pidfile: \"{at}/pid\"\n  xfrdfile: \"{at}/xfrd.state\"\n  zonelistfile: \"{at}/zone.list\"\n  \
         xfrdir: \"{at}\"\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n{zones}"
    );
    fs::write(folder.join("conf"), conf)?;
    let (mut command, _) = peer(ns, "nsd")?;
    command.arg("-d").arg("-c").arg(folder.join("conf"));
    Ok(command)
}

fn knot(ns: &NetNs, folder: &Path, port: u16, site: &Site) -> Result<Command> {
    let at = folder.display();
    let zones = zone_files(folder, &site.zones, |zone| format!("  - domain: {zone}\n"))?;
    // One key, as ours; signed when it is loaded.
    let (policy, signing) = if site.is_signed {
        (
            "policy:\n  - id: one-key\n    single-type-signing: on\n",
            "    dnssec-signing: on\n    dnssec-policy: one-key\n    zonefile-sync: -1\n",
        )
    } else {
        ("", "")
    };
    let conf = format!(
        "server:\n  rundir: \"{at}\"\n  listen: {SERVER}@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\nlog:\n  - target: stderr\n    any: warning\ndatabase:\n  storage: \"{at}\"\n\
         {policy}template:\n  - id: default\n    storage: \"{at}\"\n    file: \"%s.zone\"\n    journal-content: none\n\
         {signing}zone:\n{zones}"
    );
    fs::write(folder.join("conf"), conf)?;
    let (mut command, _) = peer(ns, "knotd")?;
    command.arg("-c").arg(folder.join("conf"));
    Ok(command)
}

fn bind_zones(folder: &Path, site: &Site) -> Result<String> {
    let at = folder.display();
    zone_files(folder, &site.zones, |zone| {
        format!("zone \"{zone}\" {{ type master; file \"{at}/{zone}.zone\"; }};\n")
    })
}

fn bind(ns: &NetNs, folder: &Path, port: u16, site: &Site) -> Result<Command> {
    let at = folder.display();
    let zones = bind_zones(folder, site)?;
    let conf = format!(
        "options {{ directory \"{at}\"; listen-on port {port} {{ {SERVER}; }}; listen-on-v6 {{ none; }}; \
         recursion no; allow-query {{ any; }}; pid-file none; session-keyfile none; empty-zones-enable no; \
         notify no; minimal-responses yes; }};\ncontrols {{ }};\n{zones}"
    );
    fs::write(folder.join("conf"), conf)?;
    let (mut command, _) = peer(ns, "named")?;
    command
        .args(["-g", "-4", "-n", "1", "-c"])
        .arg(folder.join("conf"));
    Ok(command)
}

fn powerdns(ns: &NetNs, folder: &Path, port: u16, site: &Site) -> Result<Command> {
    let at = folder.display();
    fs::write(folder.join("named.conf"), bind_zones(folder, site)?)?;
    let (mut command, peer) = peer(ns, "pdns_server")?;
    let libraries = format!("usr/lib/{}-linux-gnu/pdns", std::env::consts::ARCH);
    let modules = peer.beside(&libraries);
    let conf = format!(
        "launch=bind\nmodule-dir={}\nbind-config={at}/named.conf\nlocal-address={SERVER}\nlocal-port={port}\n\
         receiver-threads=1\ndistributor-threads=1\ndaemon=no\nguardian=no\nsocket-dir={at}\nsecurity-poll-suffix=\n\
         disable-syslog=yes\nlog-dns-queries=no\nloglevel=3\nversion-string=anonymous\n",
        modules.display()
    );
    fs::write(folder.join("pdns.conf"), conf)?;
    command.arg(format!("--config-dir={at}"));
    Ok(command)
}
