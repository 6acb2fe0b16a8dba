//! The command line of `bulkhead-dns`.

use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

use crate::inspect::Show;
use crate::{journal, keys, status};

/// Authoritative DNS for the site, its tenants and their reverse zones.
///
/// Serves the generation that `bulkhead apply` published, and follows it.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-dns", version)]
pub struct Args {
    /// Show something and end, instead of serving.
    #[command(subcommand)]
    pub show: Option<Show>,
    /// The published generation.
    #[arg(long, default_value = netmodel::published::DEFAULT_PATH)]
    pub generation: PathBuf,
    /// Secrets of the tenants' update keys (mode 600).
    #[arg(long, default_value = keys::DEFAULT_PATH)]
    pub keys: PathBuf,
    /// Journal of dynamic updates.
    #[arg(long, default_value = journal::DEFAULT_PATH)]
    pub journal: PathBuf,
    /// Address and port to listen on, UDP and TCP; can be repeated.
    #[arg(long, default_values = ["0.0.0.0:53", "[::]:53"])]
    pub listen: Vec<SocketAddr>,
    /// UDP threads for each address [default: one per processor].
    #[arg(long)]
    pub workers: Option<usize>,
    /// How many dynamic records a tenant may have.
    #[arg(long, default_value_t = 1000)]
    pub records_per_tenant: usize,
    /// Resolver to ask for names of others, for segments that may open connections to the internet;
    /// `ADDRESS` or `ADDRESS:PORT`; can be repeated. Without one, nobody is asked.
    #[arg(long, value_parser = upstream)]
    pub upstream: Vec<SocketAddr>,
    /// Replies per second over UDP to one address without a DNS cookie; 0 is no limit.
    #[arg(long, default_value_t = 5000)]
    pub replies_per_client: u32,
    /// Replies per second over UDP to all clients of a tenant, or of a platform segment, without a DNS cookie; 0 is no limit.
    #[arg(long, default_value_t = 50_000)]
    pub replies_per_segment: u32,
    /// The file that says every two seconds what was done.
    #[arg(long, default_value = status::DEFAULT_PATH)]
    pub status: PathBuf,
}

/// Reads an address with or without a port.
fn upstream(text: &str) -> Result<SocketAddr, AddrParseError> {
    let with_port = text.parse::<SocketAddr>();
    with_port.or_else(|_| text.parse::<IpAddr>().map(|address| (address, 53).into()))
}
