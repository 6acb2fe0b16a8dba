//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::dns::DnsArgs;

pub(super) const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}";

const EXAMPLES: &str = "\
Examples:
  bulkhead lint                                    is the inventory right?
  bulkhead show matrix                             who reaches whom?
  bulkhead can grooveiq/grooveiq-api01 logs:3100   may this connection be opened?
  bulkhead plan                                    what would an apply change?
  bulkhead apply --confirm-within 60s              change it; undone unless you confirm
  bulkhead status                                  is it enforced? what was dropped?
  bulkhead doctor                                  is anything wrong with this host?
  bulkhead dns list                                which DNS zones are served?
  bulkhead explain W0402                           what does this mean, what do I do?";

/// Hard-isolated tenant networks on a Linux core router.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, before_help = EXAMPLES, help_template = TEMPLATE)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Folder of the site's inventory [default: /etc/bulkhead/site]
    #[arg(long, value_name = "DIR", global = true)]
    pub site: Option<PathBuf>,
    /// Folder of the tenants' inventories [default: /etc/bulkhead/tenants, if no --site is given]
    #[arg(long, value_name = "DIR", global = true)]
    pub tenants: Option<PathBuf>,
    /// Settings [default: /etc/bulkhead/bulkhead.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How to print: text or json
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    #[arg(hide_possible_values = true)]
    pub format: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs; has a `format_version`.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the kernel what the inventory says: shows the plan, asks, does it
    Apply(ApplyArgs),
    /// Would this connection be allowed? Exits with 0 (yes) or 1 (no, or not all of it)
    Can(CanArgs),
    /// Let the generation that waits for its confirmation stay
    Confirm(ConfirmArgs),
    /// Remove the enforcement
    Detach(DetachArgs),
    /// What is wrong with this host and its NICs? Exits with 1 on any error
    Doctor(DoctorArgs),
    /// What bulkhead-dns serves, its keys, and what it takes
    Dns(DnsArgs),
    /// Does the kernel differ from the applied generation? Exits with 2 if it does
    Drift(DriftArgs),
    /// Explain a finding (E0102, W0402) or a drop reason (no-policy)
    Explain(ExplainArgs),
    /// List the generations: when, who, why, what came of it
    History(HistoryArgs),
    /// Drop everything on the trunk but what [hold] in bulkhead.toml lists, until there is a generation
    Hold(HoldArgs),
    /// Print what DHCP has given to whom
    Leases(LeasesArgs),
    /// Check the inventory, its policy tests and protected flows; exits with 1 on any error
    Lint(LintArgs),
    /// Print drops and opened connections as they happen
    Observe(ObserveArgs),
    /// Show what an apply would change; exits with 2 if anything, 1 if it is refused
    Plan(PlanArgs),
    /// Go back to an earlier generation: shows the plan, asks, does it
    Rollback(RollbackArgs),
    /// Keep the kernel what was applied; stays until SIGTERM, and the enforcement stays after it
    Run(RunArgs),
    /// Print the checked inventory
    Show(ShowArgs),
    /// What is enforced, and what was dropped? Exits with 1 if nothing is enforced
    Status(StatusArgs),
    /// Do the router and the hypervisors decide alike? Exits with 1 if not
    Verify(VerifyArgs),
}

/// Arguments of `can`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead can grooveiq/grooveiq-api01 logs          a platform service, on its own ports
  bulkhead can iot grooveiq/grooveiq-mqtt01:8883     a zone, to a tenant's host
  bulkhead can management tenants:22                 the same from and to every host
  bulkhead can 10.101.0.10 10.100.0.10:443/tcp       addresses
  bulkhead can vintronics internet:53/udp            the internet
  bulkhead can guest trusted                         without a port: what is allowed at all?")]
pub struct CanArgs {
    /// Host, tenant/host, tenant, tenant/segment, zone or address
    #[arg(value_name = "SRC")]
    pub source: String,
    /// As SRC, or a platform service or `internet`; PORT is 443, 8000-8100 or icmp, PROTO tcp or udp
    #[arg(value_name = "DST[:PORT[/PROTO]]")]
    pub destination: String,
}

/// Arguments of `plan`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead plan
  bulkhead plan --out change.plan && bulkhead apply change.plan
  bulkhead plan --tenant grooveiq                    what this tenant's part would change
  bulkhead plan --format json                        for CI; exit code 0 nothing, 2 changes, 1 refused")]
pub struct PlanArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What
    #[command(flatten)]
    pub what: WhatArgs,
    /// Write the plan to a file, for `bulkhead apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What to plan, and what it may destroy.
#[derive(Args, Clone, Debug)]
pub struct WhatArgs {
    /// Only what this tenant owns; all else stays as it was applied
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// How many objects (tenants, segments, hosts, scopes, reservations, records) may be destroyed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub allow_destroy: usize,
}

/// Arguments of `apply`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead apply                                     show the plan, ask, do it
  bulkhead apply --confirm-within 60s                undone unless confirmed: for changes that may lock you out
  bulkhead apply change.plan                         only if nothing has changed since `bulkhead plan --out`
  bulkhead apply --tenant grooveiq --yes
  bulkhead apply --allow-destroy 3                   a plan that destroys more is refused")]
pub struct ApplyArgs {
    /// What `bulkhead plan --out` wrote
    #[arg(value_name = "PLANFILE", conflicts_with_all = ["tenant", "allow_destroy"])]
    pub plan: Option<PathBuf>,
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How
    #[command(flatten)]
    pub how: HowArgs,
    /// What
    #[command(flatten)]
    pub what: WhatArgs,
    /// Undo it unless confirmed (here, or by `bulkhead confirm`) in this time: 60s, 5m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub confirm_within: Option<Duration>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `confirm`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead confirm                                   from a connection made after the apply: that proves it works")]
pub struct ConfirmArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `rollback`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead rollback                                  to the generation before the current one
  bulkhead rollback 7 --confirm-within 60s
  bulkhead history                                   which ones there are")]
pub struct RollbackArgs {
    /// Number of the generation [default: the one before the current one]
    #[arg(value_name = "GENERATION")]
    pub to: Option<u32>,
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How
    #[command(flatten)]
    pub how: HowArgs,
    /// Undo it unless confirmed in this time: 60s, 5m
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub confirm_within: Option<Duration>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `history`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead history
  bulkhead history 7                                 the plan that led to generation 7
  bulkhead history --format json")]
pub struct HistoryArgs {
    /// Show this generation's plan
    #[arg(value_name = "GENERATION")]
    pub number: Option<u32>,
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `drift`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead drift                                     0: none, 1: nothing was applied, 2: the list
  bulkhead drift --format json")]
pub struct DriftArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead verify                                    0: both walls agree, 1: the list
  bulkhead verify --format json")]
pub struct VerifyArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Reads a time: a whole number and `s`, `m` or `h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let found = units.into_iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    });
    match found {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("a time is like 60s, 5m or 1h, at most 24h".to_owned()),
    }
}

/// Which enforcement a command is about.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    /// The trunk, or a hypervisor's bridge [default: what is enforced; to plan and apply, what the inventory says]
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// Folder for the pinned maps, on a BPF file system [default: /sys/fs/bpf/bulkhead/IF]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// What an apply leaves for `status` and `observe` [default: /run/bulkhead/IF.json]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Folder of the generations [default: /var/lib/bulkhead]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// What DHCP and DNS read [default: /run/bulkhead/generation]
    #[arg(long, value_name = "FILE")]
    pub publish: Option<PathBuf>,
}

/// Arguments of `detach`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead detach                                    says what goes, and asks
  bulkhead detach --interface eth1 --yes             does not ask")]
pub struct DetachArgs {
    /// Which enforcement
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  sudo bulkhead doctor                               findings, worst first, each with its remedy
  bulkhead doctor --interface eth1                   without a usable inventory
  bulkhead doctor --format json                      for monitoring")]
pub struct DoctorArgs {
    /// Which enforcement
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead explain E0205
  bulkhead explain spoofed-source")]
pub struct ExplainArgs {
    /// Code of a finding, or name of a drop reason
    pub code: String,
}

/// Arguments of `hold`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead hold                                      before the network is up; see [hold] in bulkhead.toml
  bulkhead hold --interface eth1
  bulkhead status                                    is it held, or enforced?

Never weakens anything: where a generation or a hold is attached already, it does nothing.")]
pub struct HoldArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How to attach: auto, xdp-native, xdp-generic, tcx or clsact
    #[arg(long, value_enum, default_value_t = ModeArg::Auto, hide_possible_values = true)]
    pub mode: ModeArg,
}

/// Arguments of `leases`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead leases                                    who has which address now
  bulkhead leases --all                              and those that have ended
  bulkhead leases --watch --format json              each change as it happens, an object per line")]
pub struct LeasesArgs {
    /// Also leases that have ended
    #[arg(long)]
    pub all: bool,
    /// Print each change as it happens, after those that there were
    #[arg(long)]
    pub watch: bool,
    /// The lease file of bulkhead-dhcpd [default: /var/lib/bulkhead/dhcp/leases]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Arguments of `lint`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead lint --site ./site --tenants ./tenants
  bulkhead lint --strict --format json               for CI
  bulkhead lint --as-tenant grooveiq                 what this tenant may see of it")]
pub struct LintArgs {
    /// Exit with 1 on warnings too
    #[arg(long)]
    pub strict: bool,
    /// Show only what this tenant may see: nothing of other tenants
    #[arg(long, value_name = "NAME")]
    pub as_tenant: Option<String>,
}

/// Arguments of `observe`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead observe                                   everything, until Ctrl-C
  bulkhead observe --drops --count 10
  bulkhead observe --format json                     an object per line")]
pub struct ObserveArgs {
    /// Which enforcement
    #[command(flatten)]
    pub place: PlaceArgs,
    /// End after so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Only what was dropped
    #[arg(long)]
    pub drops: bool,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead run                                       keep the kernel as the last apply made it
  bulkhead run --watch                               and look at changes of the inventory; see [watch] in bulkhead.toml
  bulkhead run --interface eth1 --mode tcx
  bulkhead run --format json                         log one JSON object a line
  kill -HUP PID                                      compare everything now, and read the inventory again")]
pub struct RunArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How
    #[command(flatten)]
    pub how: HowArgs,
    /// Make a plan of each change of the inventory, and apply it if bulkhead.toml says so
    #[arg(long)]
    pub watch: bool,
}

/// How to enforce.
#[derive(Args, Clone, Debug)]
pub struct HowArgs {
    /// How to attach: auto, xdp-native, xdp-generic, tcx or clsact
    #[arg(long, value_enum, default_value_t = ModeArg::Auto, hide_possible_values = true)]
    pub mode: ModeArg,
    /// Connections that are remembered at once; counts only when nothing is adopted [default: that of bulkhead.toml, else 262144]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Option<u32>,
}

/// How to attach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ModeArg {
    /// The best that hides no tag.
    Auto,
    /// XDP in the driver.
    XdpNative,
    /// XDP in the kernel's generic hook, for tests.
    XdpGeneric,
    /// TCX link.
    Tcx,
    /// clsact filter.
    Clsact,
}

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead status                                    is it enforced? what was dropped?
  bulkhead status --interface eth1 --format json")]
pub struct StatusArgs {
    /// Which enforcement
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `show`.
#[derive(Args, Clone, Debug)]
#[command(help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead show hosts
  bulkhead show matrix                               who reaches whom?
  bulkhead show reservations --format json")]
pub struct ShowArgs {
    /// What to show
    #[arg(value_enum)]
    pub what: View,
}

/// What `show` can show.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum View {
    /// Hosts, one line per interface
    Hosts,
    /// Segments: VLAN, subnets, DHCP
    Segments,
    /// Tenants and what they are granted
    Tenants,
    /// Zone policies, tenants' rules and offers
    Policies,
    /// DNS records
    Records,
    /// Addresses that DHCP keeps
    Reservations,
    /// Platform services
    Services,
    /// Who reaches whom
    Matrix,
}
