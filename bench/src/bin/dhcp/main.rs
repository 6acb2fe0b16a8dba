//! `cargo xtask bench dhcp`: this server, Kea and dnsmasq behind the same veth pair, and a program that only echoes.
//!
//! Kea's own load generator asks as a relay of 60,000 clients. Every server has one processor, the generator another one. Two
//! questions:
//!
//! * What does an exchange of four messages cost the server, in processor time? All are asked at the same rates, in turns; the
//!   median of the rounds counts. Work that the kernel does on the generator's account is not in it, for any of them.
//! * What is the highest rate at which at most one exchange of a thousand is lost? Found by doubling and halving.
//!
//! This server syncs every lease to the disk before it answers; Kea writes its memfile and never syncs it; dnsmasq writes its
//! file anew for each lease. Limits of rates of strangers are off, since all come from one segment; those of each client are on.

mod load;
mod scale;
mod servers;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use serde_json::json;

use load::{Load, Outcome};
use servers::{Lab, Running, Server};

/// What is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// A list of `{bench, case, mode, metric, value, unit, baseline, ratio}`.
    Json,
}

/// Measures DHCP servers.
#[derive(Debug, Parser)]
struct Args {
    /// What is printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Folder with `bulkhead-dhcpd`.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Folder with Kea, dnsmasq and perfdhcp, as Debian's packages unpack.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Which servers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Server::ALL)]
    servers: Vec<Server>,
    /// Rates at which the cost is measured, in exchanges per second.
    #[arg(long, value_delimiter = ',', default_values_t = [500, 4000, 8000])]
    rates: Vec<u32>,
    /// Rounds of each.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each round.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Do not look for the highest rate.
    #[arg(long)]
    no_limit: bool,
    /// Measures a site of 4,094 VLANs with a million leases instead.
    #[arg(long)]
    scale: bool,
    /// Is the echo, in the namespace that it was started in.
    #[arg(long, hide = true)]
    echo: bool,
}

/// What was measured of one server at one rate.
#[derive(Clone, Copy, Debug)]
struct Cost {
    server: Server,
    rate: u32,
    /// Processor time of an exchange, in microseconds.
    micros: f64,
    /// Exchanges that were lost, of one.
    lost: f64,
}

/// What one server can do.
#[derive(Clone, Copy, Debug)]
struct Limit {
    server: Server,
    /// Exchanges per second.
    rate: u32,
    /// Processor time of an exchange at that rate, in microseconds.
    micros: f64,
}

/// Most exchanges that may be lost, of one.
const LOSS: f64 = 0.001;
/// The rate from which the highest one is looked for.
const FIRST_RATE: u32 = 250;
/// No server on one core can do this.
const LAST_RATE: u32 = 128_000;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.echo {
        servers::echo()
    } else {
        measure(&args)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench dhcp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0 && args.seconds > 0, "nothing to measure");
    let own = std::env::current_exe().context("find this program")?;
    let own = own.parent().context("the folder of this program")?;
    let peers = args.peers.clone().unwrap_or_else(testkit::peers::unpacked);
    let programs = args.programs.clone().unwrap_or_else(|| own.to_owned());
    let lab = Lab::new(&programs, &peers)?;
    let (text, rows) = if args.scale {
        let all = scale::measure_all(&lab)?;
        (scale::table(&all)?, scale::rows(&all))
    } else {
        let (costs, limits) = compare(&lab, args)?;
        (table(&costs, &limits)?, rows(&costs, &limits))
    };
    #[expect(clippy::print_stdout, reason = "the result")]
    match args.format {
        Format::Text => print!("{text}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    Ok(())
}

/// Measures all servers, at each rate and up to their limits.
fn compare(lab: &Lab, args: &Args) -> Result<(Vec<Cost>, Vec<Limit>)> {
    let mut costs = Vec::new();
    for &rate in &args.rates {
        costs.extend(cost(lab, args, rate)?);
    }
    let mut limits = Vec::new();
    if !args.no_limit {
        for &server in &args.servers {
            limits.push(limit(lab, server, args.seconds)?);
        }
    }
    Ok((costs, limits))
}

/// Measures what an exchange costs each server at a rate, in turns.
fn cost(lab: &Lab, args: &Args, rate: u32) -> Result<Vec<Cost>> {
    let mut all: Vec<(Server, Vec<Outcome>)> = args
        .servers
        .iter()
        .map(|server| (*server, vec![]))
        .collect();
    for round in 1..=args.rounds {
        for (server, outcomes) in &mut all {
            eprintln!("bench dhcp: {server} at {rate}/s, round {round}");
            let running = lab.start(*server)?;
            outcomes.push(lab.warm(&running, rate, args.seconds)?);
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let costs = all.into_iter().map(|(server, outcomes)| Cost {
        server,
        rate,
        micros: median(outcomes.iter().map(Outcome::micros).collect()),
        lost: median(outcomes.iter().map(Outcome::lost).collect()),
    });
    Ok(costs.collect())
}

/// Looks for the highest rate without loss: doubles until it loses, then halves the step five times.
fn limit(lab: &Lab, server: Server, seconds: u32) -> Result<Limit> {
    let running = lab.start(server)?;
    let mut best = Limit {
        server,
        rate: 0,
        micros: f64::NAN,
    };
    let (mut low, mut high) = (0, FIRST_RATE);
    while high <= LAST_RATE && holds(lab, &running, high, (seconds, &mut best))? {
        (low, high) = (high, high * 2);
    }
    for _ in 0..5 {
        let middle = low.midpoint(high);
        if holds(lab, &running, middle, (seconds, &mut best))? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(best)
}

/// Does the server answer at a rate, in one of two attempts? If the generator cannot ask that often, it is not known.
fn holds(
    lab: &Lab,
    running: &Running,
    rate: u32,
    (seconds, best): (u32, &mut Limit),
) -> Result<bool> {
    for _ in 0..2 {
        let outcome = lab.ask(running, Load { rate, seconds })?;
        let is_kept = outcome.lost() <= LOSS && outcome.is_on_time();
        eprintln!(
            "bench dhcp: {} at {rate}/s: {:.2} % lost{}",
            best.server,
            outcome.lost() * 100.0,
            if outcome.is_on_time() {
                ""
            } else {
                ", and the generator cannot keep up"
            },
        );
        if is_kept {
            (best.rate, best.micros) = (rate, outcome.micros());
            return Ok(true);
        }
        if !outcome.is_on_time() {
            return Ok(false);
        }
        // What is still queued is not the next attempt's.
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(false)
}

/// The ratio to Kea, where it was measured.
fn of_kea<T>(all: &[T], is_kea: impl Fn(&&T) -> bool, value: impl Fn(&T) -> f64) -> f64 {
    all.iter().find(is_kea).map_or(f64::NAN, value)
}

fn rows(costs: &[Cost], limits: &[Limit]) -> serde_json::Value {
    let mut rows = Vec::new();
    for cost in costs {
        let kea = of_kea(
            costs,
            |other| other.server == Server::Kea && other.rate == cost.rate,
            |other| other.micros,
        );
        rows.push(json!({
            "bench": "dhcp", "case": format!("{}/{}-per-second", cost.server, cost.rate),
            "mode": cost.server.mode(), "metric": "cpu-per-exchange",
            "value": cost.micros * 1000.0, "unit": "ns",
            "baseline": kea * 1000.0, "ratio": cost.micros / kea,
        }));
    }
    for limit in limits {
        let rate = f64::from(limit.rate);
        let kea = of_kea(
            limits,
            |other| other.server == Server::Kea,
            |other| f64::from(other.rate),
        );
        rows.push(json!({
            "bench": "dhcp", "case": format!("{}/highest", limit.server),
            "mode": limit.server.mode(), "metric": "exchanges-without-loss",
            "value": rate, "unit": "1/s", "baseline": kea, "ratio": rate / kea,
        }));
    }
    rows.into()
}

fn table(costs: &[Cost], limits: &[Limit]) -> Result<String> {
    let mut text = String::new();
    let row = |text: &mut String, parts: [String; 5]| {
        let [server, rate, micros, ratio, lost] = parts;
        writeln!(
            text,
            "{server:<10} {rate:>12} {micros:>12} {ratio:>8} {lost:>8}"
        )
    };
    let head = ["server", "exchanges/s", "CPU µs each", "of Kea", "lost"];
    row(&mut text, head.map(str::to_owned))?;
    for cost in costs {
        let kea = of_kea(
            costs,
            |other| other.server == Server::Kea && other.rate == cost.rate,
            |other| other.micros,
        );
        let parts = [
            cost.server.to_string(),
            cost.rate.to_string(),
            format!("{:.1}", cost.micros),
            format!("{:.2}", cost.micros / kea),
            format!("{:.2} %", cost.lost * 100.0),
        ];
        row(&mut text, parts)?;
    }
    for limit in limits {
        let kea = of_kea(
            limits,
            |other| other.server == Server::Kea,
            |other| f64::from(other.rate),
        );
        let parts = [
            limit.server.to_string(),
            format!("≤ {}", limit.rate),
            format!("{:.1}", limit.micros),
            format!("{:.2}", f64::from(limit.rate) / kea),
            "highest".to_owned(),
        ];
        row(&mut text, parts)?;
    }
    Ok(text)
}
