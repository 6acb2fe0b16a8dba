//! `bulkhead-demo`: the sample site, built, enforced, tried.
//!
//! Real sockets of every machine talk through an 802.1Q switch and the router's trunk, where the real
//! `bulkhead run` enforces the sample inventory. The isolation matrix is printed: what should happen,
//! what happened, how many packets, and why they were dropped. The exit code is 1 if a cell differs.

mod bulkhead;
mod plan;
mod run;
mod screen;
mod services;
mod spoof;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use testkit::lab;
use testkit::site::{Site, SiteSpec, Wiring};

use crate::bulkhead::Bulkhead;
use crate::plan::{Grid, TENANTS};
use crate::run::Runner;
use crate::screen::{Mark, Screen};

/// Builds the sample site, runs bulkhead on it, sends real traffic, prints the isolation matrix.
#[derive(Parser)]
struct Args {
    /// The program `bulkhead`.
    #[arg(long)]
    bulkhead: PathBuf,
    /// The sample inventory: a folder with `site` and `tenants`.
    #[arg(long)]
    sample: PathBuf,
    /// Colour, also if the output is no terminal.
    #[arg(long)]
    colour: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new(args.colour);
    match demo(&args, &screen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bulkhead-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every cell was as expected.
fn demo(args: &Args, screen: &Screen) -> Result<bool> {
    let start = Instant::now();
    let model = lab::load(&args.sample)?;
    let spec = lab::site(&model)?;
    let wiring = match Wiring::best()? {
        // There bulkhead can make the router's devices and addresses itself.
        Wiring::Kernel | Wiring::EmptyRouter => Wiring::EmptyRouter,
        Wiring::Userspace => Wiring::Userspace,
    };
    introduce(screen, &spec, wiring)?;
    let site = Site::build(&spec, wiring)?;
    for (_, ns) in site.hosts() {
        services::serve(ns)?;
    }
    services::serve(&site.router)?;
    services::serve(site.internet.as_ref().context("the site has an uplink")?)?;
    let bulkhead = Bulkhead::start(
        &args.bulkhead,
        &args.sample,
        (&site.router, &spec.trunk),
        wiring,
    )?;
    screen.say(&format!("  bulkhead   {}", bulkhead.describe()?))?;
    screen.legend()?;
    let counters = bulkhead.counters()?;
    let mut runner = Runner {
        site: &site,
        bulkhead: &bulkhead,
        counters,
        tried: 0,
        wrong: Vec::new(),
    };
    for grid in plan::grids(&spec)? {
        show_grid(screen, &mut runner, &grid)?;
    }
    show_replies(screen, &mut runner, &spec)?;
    show_spoofs(screen, &mut runner, &spec)?;
    bulkhead.check_that_a_second_plan_is_empty()?;
    screen.say("  plan       empty: the kernel is as the inventory says")?;
    show_verdict(screen, &runner, start)
}

fn introduce(screen: &Screen, spec: &SiteSpec, wiring: Wiring) -> Result<()> {
    screen.heading(
        "bulkhead: the sample site",
        "every machine is a network namespace",
    )?;
    let switch = match wiring {
        Wiring::Kernel => "the kernel's: VLAN-filtering bridge, VLAN devices",
        Wiring::EmptyRouter => {
            "the kernel's; the router is empty: bulkhead makes its VLAN devices and addresses"
        }
        Wiring::Userspace => "in userspace: this kernel has no VLAN devices",
    };
    let routed = spec
        .segments
        .iter()
        .filter(|segment| !segment.gateways.is_empty())
        .count();
    screen.say(&format!(
        "  machines   {} on {routed} segments",
        spec.hosts.len()
    ))?;
    screen.say(&format!("  switch     {switch}"))
}

fn show_grid(screen: &Screen, runner: &mut Runner<'_>, grid: &Grid) -> Result<()> {
    screen.heading(grid.title, grid.note)?;
    let mut rows = Vec::new();
    for (name, cells) in &grid.rows {
        let mut shown = Vec::new();
        for cell in cells {
            shown.push(match cell {
                Some(cell) => runner.cell(cell)?,
                None => (Mark::Nothing, String::new()),
            });
        }
        rows.push((name.clone(), shown));
    }
    screen.table(&grid.columns, &rows)
}

/// Replies of an allowed connection pass, as often as it likes.
fn show_replies(screen: &Screen, runner: &mut Runner<'_>, spec: &SiteSpec) -> Result<()> {
    const EXCHANGES: usize = 100;
    screen.heading(
        "Replies",
        "an allowed connection carries a hundred questions and answers",
    )?;
    let mut rows = Vec::new();
    for (from, to, port) in plan::CONVERSATIONS {
        let address = SocketAddr::new(plan::address(spec, to)?, *port);
        let shown = runner.conversation((from, address), EXCHANGES)?;
        rows.push((format!("{from} → {to} :{port}"), vec![shown]));
    }
    screen.table(&["both directions".to_owned()], &rows)
}

fn show_spoofs(screen: &Screen, runner: &mut Runner<'_>, spec: &SiteSpec) -> Result<()> {
    screen.heading(
        "Spoofing attempts",
        "raw frames of each tenant's machine, and of a hypervisor that puts anything on the trunk",
    )?;
    let heads: Vec<_> = TENANTS
        .iter()
        .map(|(tenant, _)| (*tenant).to_owned())
        .collect();
    let mut rows: Vec<(String, Vec<(Mark, String)>)> = Vec::new();
    for (number, (_, host)) in TENANTS.iter().enumerate() {
        let (_, victim) = TENANTS[(number + 1) % TENANTS.len()];
        for (row, spoof) in spoof::spoofs(spec, host, victim)?.iter().enumerate() {
            let shown = runner.spoof(host, spoof)?;
            match rows.get_mut(row) {
                Some((_, cells)) => cells.push(shown),
                None => rows.push((spoof.what.to_owned(), vec![shown])),
            }
        }
    }
    screen.table(&heads, &rows)
}

fn show_verdict(screen: &Screen, runner: &Runner<'_>, start: Instant) -> Result<bool> {
    let good = runner.wrong.is_empty();
    for wrong in &runner.wrong {
        screen.say(&format!("  {wrong}"))?;
    }
    let seconds = start.elapsed().as_secs_f32();
    let summary = format!(
        "{} of {} cells as expected, in {seconds:.1} s",
        runner.tried - runner.wrong.len(),
        runner.tried
    );
    screen.verdict(good, &summary)?;
    Ok(good)
}
