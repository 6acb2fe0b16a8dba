//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}";

const EXAMPLES: &str = "\
Examples:
  bulkhead lint                                    is the inventory right?
  bulkhead show segments                           what does it say?
  bulkhead show matrix                             who reaches whom?
  bulkhead can grooveiq/grooveiq-api01 logs:3100   may this connection be opened?
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
    /// Would this connection be allowed? Exits with 0 (yes) or 1 (no, or not all of it)
    Can(CanArgs),
    /// Explain a finding (E0102, W0402) or a drop reason (no-policy)
    Explain(ExplainArgs),
    /// Check the inventory, its policy tests and protected flows; exits with 1 on any error
    Lint(LintArgs),
    /// Print the checked inventory
    Show(ShowArgs),
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
