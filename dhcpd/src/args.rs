//! The command line of `bulkhead-dhcpd`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::server::InterfaceArg;

/// Serves DHCP for every segment of the published generation that has a scope.
#[derive(Debug, Parser)]
#[command(
    name = "bulkhead-dhcpd",
    version,
    before_help = "Examples:\n  bulkhead-dhcpd --interface enp1s0\n  bulkhead-dhcpd --interface br-guest=40 --interface enp1s0"
)]
pub struct Args {
    /// A trunk (`enp1s0`), or an interface of one VLAN without tags (`br-guest=40`). May be repeated.
    #[arg(long, required_unless_present_any = ["import_kea", "import_dnsmasq"])]
    pub interface: Vec<InterfaceArg>,
    /// The generation file.
    #[arg(long, default_value = netmodel::published::DEFAULT_PATH)]
    pub generation: PathBuf,
    /// The folder of the leases.
    #[arg(long, default_value = "/var/lib/bulkhead/dhcp")]
    pub state: PathBuf,
    /// The status file.
    #[arg(long, default_value = "/run/bulkhead/dhcp/status.json")]
    pub status: PathBuf,
    /// What the inventory does not say: lease time, relays, network boot (default: /etc/bulkhead/dhcpd.toml, if it is there).
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Takes over the leases of Kea's memfile, and ends.
    #[arg(long, value_name = "FILE", conflicts_with = "interface")]
    pub import_kea: Option<PathBuf>,
    /// Takes over the leases of dnsmasq, and ends.
    #[arg(long, value_name = "FILE", conflicts_with = "interface")]
    pub import_dnsmasq: Option<PathBuf>,
    /// Form of the log on stderr.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}
