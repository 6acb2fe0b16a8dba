//! `path`: nanoseconds per packet of the programs, by `BPF_PROG_TEST_RUN`, as root.
//!
//! * ratio: to an empty program behind the same prologue ([`bench::raw`]) in the same round.
//! * U: the marginal cost of one hot hash lookup in the same rounds; "net U" is (ns − empty) / U.
//!
//! The thread is pinned to one CPU and its CPU time is what is measured. Each case runs in every round, in random
//! order; a figure is the median of the within-round values. An A/A pair (the empty program twice) voids the
//! site's figures if it is off by more than 5 %: they are taken again, three times at most, with the object loaded
//! anew. "Established": only the opener's side sends, each of the flows in turn. "New": a SYN that makes a
//! connection in a table that is full of as many others as the setting has flows, so that it pushes one out.

#![expect(clippy::print_stdout, reason = "the table is what the program is for")]

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use bench::frames::{Probe, ROUTER};
use bench::raw::{self, Cycle, Runner};
use bench::site;
use clap::{Parser, ValueEnum};
use dataplane_user::compile::{RouterFacts, Tables, compile};
use dataplane_user::loader::{Datapath, Hook, LoadOptions, Trunk};
use netmodel::ids::MacAddr;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Rounds per site.
const ROUNDS: usize = 15;
/// Packets per round and case, where the case leaves no state.
const REPEAT: u32 = 100_000;
/// Packets per round of a case that makes connections, if the table is small: when ports come again, it has long
/// forgotten them.
const NEW: u32 = 20_000;
/// The same for a large table: all rounds have other ports.
const NEW_IN_LARGE: u32 = 2_000;
/// Ports that new connections take in turn.
const NEW_FLOWS: u32 = 1 << 15;
/// How often a site is measured at most.
const TRIES: usize = 3;
/// Multipliers of the sequences in which flows are made and met again: not the same order.
const MAKE: i32 = 1_664_525;
const MEET: i32 = 22_695_477;

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Measures the XDP program in the kernel.
#[derive(Parser)]
struct Args {
    /// How results are printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// CPU to run on.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Only settings whose name (MODE/SEGMENTS-segments/RULES-rules/FLOWS-flows) contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    setting: String,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    case: String,
}

/// What is measured together.
#[derive(Clone, Copy)]
struct Setting {
    hook: Hook,
    segments: u16,
    rules: usize,
    flows: u32,
}

impl Setting {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for segments in [3, 100, 4094] {
            for rules in [10, 10_000] {
                for flows in [1 << 10, 1 << 20] {
                    all.push(Self {
                        hook: Hook::Xdp,
                        segments,
                        rules,
                        flows,
                    });
                }
            }
        }
        // What depends on flows depends on the map, which is the same for both hooks.
        let tc = all.iter().filter(|setting| setting.flows == 1 << 10);
        let tc = tc.map(|setting| Self {
            hook: Hook::Tc,
            ..*setting
        });
        all.extend(tc.collect::<Vec<_>>());
        all
    }

    /// As the JSON's `mode`.
    fn mode(self) -> &'static str {
        match self.hook {
            Hook::Xdp => "xdp",
            Hook::Tc => "tc",
        }
    }

    fn name(self) -> String {
        let flows = if self.flows > 1 << 10 { "1M" } else { "1k" };
        let Self {
            segments, rules, ..
        } = self;
        let mode = self.mode();
        format!("{mode}/{segments}-segments/{rules}-rules/{flows}-flows")
    }
}

/// What becomes of a case's frames.
#[derive(Clone, Copy)]
enum End {
    Dropped,
    Forwarded,
    ToKernel,
}

impl End {
    /// The hook's number for it.
    fn action(self, hook: Hook) -> u32 {
        match (hook, self) {
            (Hook::Xdp, Self::Dropped) => 1,
            (Hook::Xdp, Self::ToKernel) | (Hook::Tc, Self::Dropped) => 2,
            (Hook::Xdp, Self::Forwarded) => 3,
            (Hook::Tc, Self::Forwarded) => 7,
            (Hook::Tc, Self::ToKernel) => u32::MAX,
        }
    }
}

/// One thing to measure.
struct Case {
    name: &'static str,
    runner: Runner,
    frame: Vec<u8>,
    repeat: u32,
    /// ns per packet, by round.
    times: Vec<f64>,
}

impl Case {
    fn measure(&mut self) -> Result<()> {
        let before = cpu_time()?;
        self.runner.run(&mut self.frame, self.repeat)?;
        let after = cpu_time()?;
        self.times.push((after - before) / f64::from(self.repeat));
        Ok(())
    }
}

/// CPU time of this thread, ns.
fn cpu_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// Loads the programs and publishes the tables.
fn load(tables: &Tables, connections: u32) -> Result<Datapath> {
    let mut datapath = Datapath::load(&LoadOptions {
        connections,
        ..LoadOptions::default()
    })?;
    let trunk = Trunk {
        ifindex: 1,
        mac: ROUTER,
    };
    // All frames are of one segment: it may have the whole table.
    let mut tables = tables.clone();
    for segment in tables.segments.values_mut() {
        segment.limits.connections = connections;
    }
    datapath.publish(&tables, &trunk, datapath.next_number())?;
    Ok(datapath)
}

/// The cases of a setting.
struct Bench {
    datapath: Datapath,
    /// The same, with a full table of connections.
    full: Datapath,
    setting: Setting,
    cases: Vec<Case>,
}

impl Bench {
    fn new(setting: Setting, wanted: &str) -> Result<Self> {
        let facts = RouterFacts {
            mac: Some(MacAddr(ROUTER)),
            ..RouterFacts::default()
        };
        let tables = compile(&site::model(setting.segments, setting.rules)?, &facts)?;
        // Three families of flows, and room so that none of them pushes out another; the daemon's default at least.
        let room = (setting.flows << 2).max(LoadOptions::default().connections);
        let mut bench = Self {
            datapath: load(&tables, room)?,
            full: load(&tables, setting.flows)?,
            setting,
            cases: Vec::new(),
        };
        bench.add_probes()?;
        bench.add_cases(wanted)?;
        Ok(bench)
    }

    /// The tenant whose frames are judged: the first, which has rules with every setting.
    const TENANT: u16 = site::FIRST_TENANT;

    /// Empty programs and lookups.
    fn add_probes(&mut self) -> Result<()> {
        let hook = self.setting.hook;
        let probe = Probe::operated(Self::TENANT, true, false);
        let programs = [
            ("empty", raw::empty(hook)?),
            ("empty-again", raw::empty(hook)?),
            ("lookup-1", raw::lookups(hook, 1)?),
            ("lookup-5", raw::lookups(hook, 5)?),
        ];
        for (name, program) in programs {
            let runner = Runner::new(hook, &program, &probe.bytes, cycle(&probe, 1 << 10, MEET))?;
            self.push(name, runner, probe.bytes.clone(), REPEAT);
        }
        Ok(())
    }

    fn push(&mut self, name: &'static str, runner: Runner, frame: Vec<u8>, repeat: u32) {
        self.cases.push(Case {
            name,
            runner,
            frame,
            repeat,
            times: Vec::new(),
        });
    }

    fn add_cases(&mut self, wanted: &str) -> Result<()> {
        let tenant = Self::TENANT;
        let is_wanted = |name: &str| name.contains(wanted);
        for (name, is_ipv4) in [("established-v4", true), ("established-v6", false)] {
            if !is_wanted(name) {
                continue;
            }
            let opening = Probe::operated(tenant, is_ipv4, true);
            let going = Probe::operated(tenant, is_ipv4, false);
            self.add_established(name, &opening, &going, End::Forwarded)?;
        }
        if is_wanted("established-v4-internet") {
            let opening = Probe::internet(tenant, true, true);
            let going = Probe::internet(tenant, true, false);
            self.add_established("established-v4-internet", &opening, &going, End::ToKernel)?;
        }
        let new = [
            ("new-v4", Probe::requested(tenant, true)),
            ("new-v6", Probe::requested(tenant, false)),
        ];
        for (name, probe) in new.into_iter().filter(|(name, _)| is_wanted(name)) {
            let program = self.full.hook_fd(self.setting.hook)?;
            let fill = Probe::operated(tenant, name.ends_with("v4"), true);
            make(self.setting, &program, &fill)?;
            let mut cycle = cycle(&probe, NEW_FLOWS, MAKE);
            cycle.both_ports = false;
            let runner = Runner::new(
                self.setting.hook,
                &program.as_fd().as_raw_fd(),
                &probe.bytes,
                cycle,
            )?;
            let large = self.setting.flows > NEW_FLOWS;
            let repeat = if large { NEW_IN_LARGE } else { NEW };
            self.push_checked(name, runner, &probe, (repeat, End::Forwarded))?;
        }
        let dropped = [
            ("denied-v4", Probe::denied(tenant, true)),
            ("denied-v6", Probe::denied(tenant, false)),
            ("spoofed-v4", Probe::spoofed(tenant, true)),
            ("spoofed-v6", Probe::spoofed(tenant, false)),
        ];
        for (name, probe) in dropped.into_iter().filter(|(name, _)| is_wanted(name)) {
            self.add(
                name,
                &probe,
                cycle(&probe, 1 << 10, MEET),
                (REPEAT, End::Dropped),
            )?;
        }
        Ok(())
    }

    /// Makes the flows, then adds the case that meets them again.
    fn add_established(
        &mut self,
        name: &'static str,
        opening: &Probe,
        going: &Probe,
        end: End,
    ) -> Result<()> {
        let program = self.datapath.hook_fd(self.setting.hook)?;
        make(self.setting, &program, opening)?;
        self.add(
            name,
            going,
            cycle(going, self.setting.flows, MEET),
            (REPEAT, end),
        )
    }

    /// Adds a case whose frames must all end with one action.
    fn add(
        &mut self,
        name: &'static str,
        probe: &Probe,
        cycle: Cycle,
        (repeat, end): (u32, End),
    ) -> Result<()> {
        let program = self.datapath.hook_fd(self.setting.hook)?;
        let runner = Runner::new(
            self.setting.hook,
            &program.as_fd().as_raw_fd(),
            &probe.bytes,
            cycle,
        )?;
        self.push_checked(name, runner, probe, (repeat, end))
    }

    fn push_checked(
        &mut self,
        name: &'static str,
        runner: Runner,
        probe: &Probe,
        (repeat, end): (u32, End),
    ) -> Result<()> {
        let mut frame = probe.bytes.clone();
        let action = runner.run(&mut frame, 1)?;
        let expected = end.action(self.setting.hook);
        ensure!(
            action == expected,
            "{name}: action {action} instead of {expected}"
        );
        self.push(name, runner, frame, repeat);
        Ok(())
    }

    fn measure(&mut self) -> Result<()> {
        let mut order: Vec<usize> = (0..self.cases.len()).collect();
        for _ in 0..ROUNDS {
            fastrand::shuffle(&mut order);
            for &index in &order {
                self.cases[index].measure()?;
            }
        }
        Ok(())
    }

    fn times(&self, name: &str) -> &[f64] {
        let case = self.cases.iter().find(|case| case.name == name);
        case.map_or(&[], |case| &case.times)
    }

    /// How far the A/A pair is apart, as a ratio.
    fn noise(&self) -> f64 {
        let pairs = self.times("empty").iter().zip(self.times("empty-again"));
        (median(pairs.map(|(a, b)| a / b)) - 1.0).abs()
    }

    /// The cost of one more hot lookup, ns.
    fn unit(&self) -> f64 {
        let pairs = self.times("lookup-1").iter().zip(self.times("lookup-5"));
        median(pairs.map(|(one, five)| (five - one) / 4.0))
    }

    fn rows(&self) -> Vec<Value> {
        let empty = self.times("empty");
        let unit = self.unit();
        let baseline = median(empty.iter().copied());
        let mut rows = vec![row(
            self.setting,
            "lookup",
            ("time", unit, "ns"),
            (baseline, unit / baseline),
        )];
        for case in &self.cases {
            if case.name.starts_with("lookup") {
                continue;
            }
            let setting = self.setting;
            let pairs = || case.times.iter().zip(empty);
            let ratio = median(pairs().map(|(time, empty)| time / empty));
            let net = median(pairs().map(|(time, empty)| (time - empty) / unit));
            let time = median(case.times.iter().copied());
            rows.push(row(
                setting,
                case.name,
                ("time", time, "ns"),
                (baseline, ratio),
            ));
            rows.push(row(setting, case.name, ("net", net, "U"), (unit, net)));
        }
        rows
    }
}

fn row(
    setting: Setting,
    case: &str,
    (metric, value, unit): (&str, f64, &str),
    (baseline, ratio): (f64, f64),
) -> Value {
    json!({
        "bench": "path", "case": format!("{}/{case}", setting.name()), "mode": setting.mode(), "metric": metric,
        "value": value, "unit": unit, "baseline": baseline, "ratio": ratio,
    })
}

/// Makes connections.
fn make(setting: Setting, program: &ProgramFd, opening: &Probe) -> Result<()> {
    let flows = setting.flows;
    let program = program.as_fd().as_raw_fd();
    let runner = Runner::new(
        setting.hook,
        &program,
        &opening.bytes,
        cycle(opening, flows, MAKE),
    )?;
    runner.run(&mut opening.bytes.clone(), flows)?;
    Ok(())
}

fn cycle(probe: &Probe, flows: u32, multiplier: i32) -> Cycle {
    Cycle {
        flows,
        multiplier,
        ports: probe.ports,
        both_ports: true,
        state: probe.state(),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures a setting until the A/A pair agrees; no rows if it never does.
fn measure(setting: Setting, wanted: &str) -> Result<Vec<Value>> {
    for _ in 0..TRIES {
        let mut bench = Bench::new(setting, wanted)?;
        bench.measure()?;
        let noise = bench.noise();
        if noise <= 0.05 {
            return Ok(bench.rows());
        }
        let (name, noise) = (setting.name(), noise * 100.0);
        eprintln!("{name}: void, the A/A pair is off by {noise:.1} %");
    }
    Ok(Vec::new())
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor")
        .to_owned();
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let governor = match governor.trim() {
        "" => "unknown",
        governor => governor,
    };
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let commit = git.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    format!(
        "Linux {}, {processor}, governor {governor}, commit {}",
        read("/proc/sys/kernel/osrelease").trim(),
        commit.unwrap_or_default().trim()
    )
}

fn print_rows(rows: &[Value]) {
    for row in rows.iter().filter(|row| row["metric"] == "time") {
        let of_case = |other: &&Value| other["metric"] == "net" && other["case"] == row["case"];
        let net = rows.iter().find(of_case);
        let net = net.and_then(|net| net["value"].as_f64());
        println!(
            "{:<62} {:>8.1} {:>7.2} {:>6}",
            row["case"].as_str().unwrap_or_default(),
            row["value"].as_f64().unwrap_or(f64::NAN),
            row["ratio"].as_f64().unwrap_or(f64::NAN),
            net.map(|net| format!("{net:.1}")).unwrap_or_default()
        );
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut cpus = CpuSet::new();
    cpus.set(args.cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("pin to a CPU")?;
    if args.format == Format::Text {
        println!("{}", machine());
        println!("{:<62} {:>8} {:>7} {:>6}", "case", "ns", "ratio", "net U");
    }
    let (mut all, mut void) = (Vec::new(), 0);
    let mut settings = Setting::all();
    settings.retain(|setting| setting.name().contains(&args.setting));
    ensure!(!settings.is_empty(), "no setting is named {}", args.setting);
    for setting in settings {
        let rows = measure(setting, &args.case)?;
        void += usize::from(rows.is_empty());
        if args.format == Format::Text {
            print_rows(&rows);
        }
        all.extend(rows);
    }
    if args.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    ensure!(void == 0, "{void} settings are void: too noisy a machine");
    Ok(())
}
