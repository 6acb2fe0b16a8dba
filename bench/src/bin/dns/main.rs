//! `cargo xtask bench dns`: queries per second and processor time per query, of us and of others.
//!
//! All servers run at once in one network namespace, each with one thread for UDP and all on one core; the
//! load has another core. They are asked in turns, in a random order in each round, and only the one that is
//! asked has work. Processor time is what the kernel's scheduler counted for the server's processes: it does
//! not suffer when others use the machine, queries per second do. Ratios are medians of the ratios within
//! rounds. Before anything is measured, every question is asked once, and every answer must be right; all threads of all
//! servers are on their core before, and still are behind.

mod load;
mod serve;
mod servers;
mod sites;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use servers::Running;
use sites::{SERVER, Site};
use testkit::netns::NetNs;

use crate::load::Load;

/// What is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// A list of `{bench, case, mode, metric, value, unit, baseline, ratio}`.
    Json,
}

/// Measures name servers.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Inner>,
    /// What is printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Only these servers.
    #[arg(long, value_enum, value_delimiter = ',')]
    server: Vec<servers::Kind>,
    /// Only cases with this in their name, for example `tenants`.
    #[arg(long, default_value = "")]
    case: String,
    /// How often each server is asked.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of each time.
    #[arg(long, default_value_t = 500)]
    milliseconds: u64,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// One of the servers; the benchmark starts itself so.
    #[command(hide = true)]
    Serve {
        #[arg(value_enum)]
        kind: servers::Kind,
        #[arg(long)]
        port: u16,
        #[arg(long)]
        folder: PathBuf,
    },
}

/// One server asked once.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Queries per second.
    rate: f64,
    /// Processor time of a query, in nanoseconds.
    cost: f64,
    lost: f64,
}

/// All turns of one server in one case.
struct Measured {
    case: String,
    server: servers::Kind,
    turns: Vec<Turn>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(Inner::Serve { kind, port, folder }) => serve(*kind, *port, folder),
        None => measure_all(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench dns: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(kind: servers::Kind, port: u16, folder: &std::path::Path) -> Result<()> {
    match kind {
        servers::Kind::Echo => serve::echo(port),
        servers::Kind::EchoBatch => serve::echo_batch(port),
        servers::Kind::Hickory => serve::hickory(folder, port),
        servers::Kind::Bulkhead | servers::Kind::BulkheadGateways => serve::bulkhead(folder, port),
        servers::Kind::Nsd
        | servers::Kind::Knot
        | servers::Kind::Bind
        | servers::Kind::Powerdns => bail!("{} is a program of its own", kind.name()),
    }
}

fn measure_all(args: &Args) -> Result<()> {
    let mut sites = vec![
        Site::one_zone(10_000)?,
        Site::tenants(4094, 4)?,
        Site::signed_zone(10_000)?,
    ];
    sites.retain(|site| !cases(args, site).is_empty());
    ensure!(!sites.is_empty(), "no case has `{}` in its name", args.case);
    sites.retain(|site| !servers_of(args, site).is_empty());
    ensure!(
        !sites.is_empty(),
        "none of these servers signs zones (remedy: --server bulkhead,knot)"
    );
    let mut all = Vec::new();
    // What was measured is worth something, whatever becomes of the other sites.
    let result = sites.iter().try_for_each(|site| {
        let measured = measure(args, site)?;
        if args.format == Format::Text {
            show(&table(&measured));
        }
        all.extend(measured);
        Ok(())
    });
    if args.format == Format::Json {
        show(&format!("{}\n", serde_json::to_string_pretty(&rows(&all))?));
    }
    result
}

#[expect(clippy::print_stdout, reason = "the result")]
fn show(text: &str) {
    print!("{text}");
}

/// The cases of a site that are wanted.
fn cases(args: &Args, site: &Site) -> Vec<(sites::Kind, String)> {
    let named = |kind: sites::Kind| (kind, format!("{}/{}", site.name, kind.name()));
    let all = site.kinds().map(named).into_iter();
    all.filter(|(_, case)| case.contains(&args.case)).collect()
}

/// The servers that are wanted and can serve a site.
fn servers_of(args: &Args, site: &Site) -> Vec<servers::Kind> {
    let wanted = match args.server.as_slice() {
        [] => servers::Kind::value_variants(),
        some => some,
    };
    let can = |kind: &servers::Kind| !site.is_signed || kind.signs();
    wanted.iter().copied().filter(can).collect()
}

/// Lets this process run before others of the machine, if it may: a load that waits measures nothing.
fn go_first() {
    // SAFETY: nice() takes a number and has no other effect.
    let _ = unsafe { libc::nice(-5) };
}

/// The first and the last core that we may use.
fn cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut ours = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    let first = ours.next().context("no core to run on")?;
    let last = ours
        .next_back()
        .context("two cores are needed: one for the load, one for the server")?;
    Ok((first, last))
}

fn measure(args: &Args, site: &Site) -> Result<Vec<Measured>> {
    let (client_core, server_core) = cores()?;
    let folder = tempfile::tempdir()?;
    let ns = NetNs::new("dns")?;
    ns.add_address("lo", SERVER.into(), 32)?;
    // Every client and every gateway of the site is an address of this namespace.
    let status = ns
        .command("ip")
        .args(["route", "add", "local", "10.0.0.0/8", "dev", "lo"])
        .status();
    ensure!(
        status.context("run ip (Debian: iproute2)")?.success(),
        "ip route failed"
    );
    let mut running = Vec::new();
    for (kind, port) in servers_of(args, site).into_iter().zip(5300..) {
        let place = folder.path().join(kind.name());
        running.push(Running::start(
            kind,
            &ns,
            (&place, port),
            site,
            server_core,
        )?);
    }
    let mut cores = CpuSet::new();
    cores.set(client_core)?;
    ns.run(|| {
        sched_setaffinity(Pid::from_raw(0), &cores)?;
        go_first();
        let mut all = Vec::new();
        for (kind, case) in cases(args, site) {
            all.extend(measure_case(args, site, (kind, &case), &running)?);
        }
        Ok(all)
    })
}

fn measure_case(
    args: &Args,
    site: &Site,
    (kind, case): (sites::Kind, &str),
    running: &[Running],
) -> Result<Vec<Measured>> {
    let questions = site.questions(kind, 8192);
    let mut loads = Vec::new();
    for server in running {
        let name = server.kind.name();
        let asks_gateways = server.kind == servers::Kind::BulkheadGateways;
        let address: Option<Ipv4Addr> = (!asks_gateways).then_some(SERVER);
        let first = questions.first().context("no questions")?;
        // The echo has no names: it is up when it answers at all, with what it takes for a name that is there.
        let expected = if server.kind.is_name_server() {
            kind
        } else {
            sites::Kind::Found
        };
        serve::wait_until_up((first, expected), server.port, Duration::from_secs(60))
            .with_context(|| format!("{name} in case {}", site.name))?;
        let mut load = Load::new(&questions, kind, (address, server.port))?;
        if server.kind.is_name_server() {
            load.check(name)?;
        }
        server.pin()?;
        loads.push(load);
    }
    let mut all: Vec<Measured> = running
        .iter()
        .map(|server| Measured {
            case: case.to_owned(),
            server: server.kind,
            turns: Vec::new(),
        })
        .collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    let time = Duration::from_millis(args.milliseconds);
    for round in 0..args.rounds {
        eprintln!("bench dns: {case}: round {} of {}", round + 1, args.rounds);
        fastrand::shuffle(&mut order);
        for &index in &order {
            let mut once = || turn(&running[index], &mut loads[index], time);
            // A server that others keep from running is asked again.
            all[index].turns.push(once().or_else(|_| once())?);
        }
    }
    running.iter().try_for_each(Running::check_core)?;
    Ok(all)
}

fn turn(server: &Running, load: &mut Load, time: Duration) -> Result<Turn> {
    // What it still does for the one before it must not count.
    std::thread::sleep(Duration::from_millis(20));
    let before = server.cpu_time()?;
    let seen = load.run(time)?;
    let cost = server.cpu_time()? - before;
    let wrong = if server.kind.is_name_server() {
        seen.wrong
    } else {
        0
    };
    ensure!(
        wrong == 0,
        "{} answered {wrong} of {} questions wrongly",
        server.kind.name(),
        seen.answered
    );
    ensure!(seen.answered > 0, "{} answered nothing", server.kind.name());
    #[expect(clippy::cast_precision_loss, reason = "counts of half a second")]
    let (answered, lost) = (seen.answered as f64, seen.lost as f64);
    Ok(Turn {
        rate: answered / time.as_secs_f64(),
        cost: cost.as_secs_f64() * 1e9 / answered,
        lost: lost / answered,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Measured {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    /// The median, over the rounds, of the ratio to another server in the same round.
    fn ratio(&self, other: &Self, of: impl Fn(&Turn) -> f64) -> f64 {
        let pairs = self.turns.iter().zip(&other.turns);
        median(pairs.map(|(own, other)| of(own) / of(other)).collect())
    }
}

/// Who the others are compared with: NSD, Knot where zones are signed, or the first that there is.
fn baseline<'a>(all: &'a [Measured], row: &'a Measured) -> &'a Measured {
    let of_case = || all.iter().filter(|other| other.case == row.case);
    let mut usual = [servers::Kind::Nsd, servers::Kind::Knot].into_iter();
    let usual = usual.find_map(|kind| of_case().find(|other| other.server == kind));
    usual.or_else(|| of_case().next()).unwrap_or(row)
}

/// The table of one site.
fn table(all: &[Measured]) -> String {
    use std::fmt::Write as _;
    let to = all
        .first()
        .map_or("", |row| baseline(all, row).server.name());
    let to = format!("to {to}");
    let mut text = format!(
        "{:<26} {:<18} {:>13} {to:>8} {:>13} {to:>8} {:>8}\n",
        "case", "server", "CPU ns/query", "queries/s", "lost"
    );
    for row in all {
        let base = baseline(all, row);
        let _ = writeln!(
            text,
            "{:<26} {:<18} {:>13.0} {:>8.2} {:>13.0} {:>8.2} {:>7.2}%",
            row.case,
            row.server.name(),
            row.median(|turn| turn.cost),
            row.ratio(base, |turn| turn.cost),
            row.median(|turn| turn.rate),
            row.ratio(base, |turn| turn.rate),
            row.median(|turn| turn.lost) * 100.0,
        );
    }
    let denied = format!("/{}", sites::Kind::Denied.name());
    if all.iter().any(|row| row.case.ends_with(&denied)) {
        text += "denied: bulkhead signs each denial when it is asked for (RFC 9824), knot has its NSECs and their signatures stored\n";
    }
    text
}

/// A row for each metric of a server in a case, with its [`baseline`]'s value.
fn rows(all: &[Measured]) -> serde_json::Value {
    let mut rows = Vec::new();
    for row in all {
        let base = baseline(all, row);
        type Metric = (&'static str, &'static str, fn(&Turn) -> f64);
        let metrics: [Metric; 2] = [
            ("cpu_per_query", "ns", |turn| turn.cost),
            ("queries", "1/s", |turn| turn.rate),
        ];
        for (metric, unit, of) in metrics {
            rows.push(json!({
                "bench": "dns", "case": row.case, "mode": row.server.name(), "metric": metric,
                "value": row.median(of), "unit": unit,
                "baseline": base.median(of), "ratio": row.ratio(base, of),
            }));
        }
    }
    rows.into()
}
