//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::loader::DEFAULT_CONNECTIONS;

const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}";

const EXAMPLES: &str = "\
Examples:
  bulkhead lint                                    is the inventory right?
  bulkhead show segments                           what does it say?
  bulkhead show matrix                             who reaches whom?
  bulkhead can grooveiq/grooveiq-api01 logs:3100   may this connection be opened?
  bulkhead explain W0402                           what does this mean, what do I do?
  bulkhead run                                     enforce it
  bulkhead status                                  is it enforced? what was dropped?
  bulkhead doctor                                  is anything wrong with this host?";

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
    /// Would this connection be allowed? Exits with 0 (yes) or 1 (no, or not all of it)
    Can(CanArgs),
    /// Remove the enforcement; the only command that does
    Detach(DetachArgs),
    /// What is wrong with this host and its NICs? Exits with 1 on any error
    Doctor(DoctorArgs),
    /// Explain a finding (E0102, W0402) or a drop reason (no-policy)
    Explain(ExplainArgs),
    /// Check the inventory, its policy tests and protected flows; exits with 1 on any error
    Lint(LintArgs),
    /// Print drops and opened connections as they happen
    Observe(ObserveArgs),
    /// Enforce the inventory on the trunk; stays until SIGTERM, and the enforcement stays after it
    Run(RunArgs),
    /// Print the checked inventory
    Show(ShowArgs),
    /// What is enforced, and what was dropped? Exits with 1 if nothing is enforced
    Status(StatusArgs),
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

/// Which enforcement a command is about.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    /// The 802.1Q trunk [default: the inventory's router_parent]
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// Folder for the pinned maps, on a BPF file system [default: /sys/fs/bpf/bulkhead/IF]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// What `run` leaves for `status` and `observe` [default: /run/bulkhead/IF.json]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
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
  bulkhead run                                       on the inventory's router_parent
  bulkhead run --interface eth1 --mode tcx
  kill -HUP PID                                      load the inventory again")]
pub struct RunArgs {
    /// Where
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How to attach: auto, xdp-native, xdp-generic, tcx or clsact
    #[arg(long, value_enum, default_value_t = ModeArg::Auto, hide_possible_values = true)]
    pub mode: ModeArg,
    /// Connections that are remembered at once; counts only when nothing is adopted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONNECTIONS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
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
