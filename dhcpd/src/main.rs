//! `bulkhead-dhcpd`: flags, log, exit code. Everything else is the library's.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use dhcpd::server::{self, InterfaceArg, Options, chain};
use dhcpd::{import, settings};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Serves DHCP for every segment of the published generation that has a scope.
#[derive(Parser)]
#[command(
    name = "bulkhead-dhcpd",
    version,
    before_help = "Examples:\n  bulkhead-dhcpd --interface enp1s0\n  bulkhead-dhcpd --interface br-guest=40 --interface enp1s0"
)]
struct Args {
    /// A trunk (`enp1s0`), or an interface of one VLAN without tags (`br-guest=40`). May be repeated.
    #[arg(long, required_unless_present_any = ["import_kea", "import_dnsmasq"])]
    interface: Vec<InterfaceArg>,
    /// The generation file.
    #[arg(long, default_value = netmodel::published::DEFAULT_PATH)]
    generation: PathBuf,
    /// The folder of the leases.
    #[arg(long, default_value = "/var/lib/bulkhead/dhcp")]
    state: PathBuf,
    /// The status file.
    #[arg(long, default_value = "/run/bulkhead/dhcp/status.json")]
    status: PathBuf,
    /// What the inventory does not say: lease time, relays, network boot (default: /etc/bulkhead/dhcpd.toml, if it is there).
    #[arg(long)]
    config: Option<PathBuf>,
    /// Takes over the leases of Kea's memfile, and ends.
    #[arg(long, value_name = "FILE", conflicts_with = "interface")]
    import_kea: Option<PathBuf>,
    /// Takes over the leases of dnsmasq, and ends.
    #[arg(long, value_name = "FILE", conflicts_with = "interface")]
    import_dnsmasq: Option<PathBuf>,
    /// Form of the log on stderr.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { 64 } else { 0 });
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.format {
        Format::Text => log.with_target(false).init(),
        Format::Json => log.json().init(),
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %chain(&*error), "cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let settings = settings::read(args.config.as_deref())?;
    let options = Options {
        interfaces: args.interface,
        generation: args.generation,
        state: args.state,
        status: args.status,
        settings,
    };
    if let Some(path) = args.import_kea {
        let text = std::fs::read_to_string(path)?;
        server::import(&options, |scopes, now| import::kea(&text, scopes, now))?;
    } else if let Some(path) = args.import_dnsmasq {
        let text = std::fs::read_to_string(path)?;
        server::import(&options, |scopes, now| import::dnsmasq(&text, scopes, now))?;
    } else {
        server::run(options)?;
    }
    Ok(())
}
