//! The daemon `bulkhead-dns`.

use std::io::Write as _;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dns::inspect::{self, Show};
use dns::server::{Config, Server};
use dns::{journal, keys};
use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Authoritative DNS for the site, its tenants and their reverse zones.
///
/// Serves the generation that `bulkhead apply` published, and follows it.
#[derive(Parser)]
#[command(name = "bulkhead-dns", version)]
struct Args {
    /// Show something and end, instead of serving.
    #[command(subcommand)]
    show: Option<Show>,
    /// The published generation.
    #[arg(long, default_value = netmodel::published::DEFAULT_PATH)]
    generation: PathBuf,
    /// Secrets of the tenants' update keys (mode 600).
    #[arg(long, default_value = keys::DEFAULT_PATH)]
    keys: PathBuf,
    /// Journal of dynamic updates.
    #[arg(long, default_value = journal::DEFAULT_PATH)]
    journal: PathBuf,
    /// Address and port to listen on, UDP and TCP; can be repeated.
    #[arg(long, default_values = ["0.0.0.0:53", "[::]:53"])]
    listen: Vec<SocketAddr>,
    /// UDP threads for each address [default: one per processor].
    #[arg(long)]
    workers: Option<usize>,
    /// How many dynamic records a tenant may have.
    #[arg(long, default_value_t = 1000)]
    records_per_tenant: usize,
    /// Resolver to ask for names of others, for segments that may open connections to the internet;
    /// `ADDRESS` or `ADDRESS:PORT`; can be repeated. Without one, nobody is asked.
    #[arg(long, value_parser = upstream)]
    upstream: Vec<SocketAddr>,
}

/// Reads an address with or without a port.
fn upstream(text: &str) -> Result<SocketAddr, AddrParseError> {
    let with_port = text.parse::<SocketAddr>();
    with_port.or_else(|_| text.parse::<IpAddr>().map(|address| (address, 53).into()))
}

/// Shows what is served; works beside the daemon, too.
fn inspect(args: &Args, what: &Show) -> ExitCode {
    let loaded = inspect::load(&args.generation, &args.keys, &args.journal);
    match loaded.and_then(|world| inspect::show(&world, what)) {
        Ok(text) => {
            // Whoever reads may stop reading.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("bulkhead-dns: {}", dns::chain(&reason));
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(what) = &args.show {
        return inspect(&args, what);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // Before the first thread, so that all of them inherit it.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    if let Err(errno) = signals.thread_block() {
        error!(%errno, "cannot wait for signals");
        return ExitCode::FAILURE;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let config = Config {
        workers: args.workers.unwrap_or(processors).max(1),
        generation: args.generation,
        keys: args.keys,
        journal: args.journal,
        listen: args.listen,
        records_per_tenant: args.records_per_tenant,
        upstreams: args.upstream,
    };
    // While there is no generation yet, a signal must end the process, too.
    std::thread::spawn(move || {
        let signal = signals.wait();
        info!(?signal, "ending");
        std::process::exit(0);
    });
    match Server::start(&config) {
        Ok(server) => {
            info!(addresses = ?server.addresses(), generation = server.generation(), "ready");
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            loop {
                std::thread::park();
            }
        }
        Err(reason) => {
            error!(error = %dns::chain(&reason), "cannot start");
            ExitCode::FAILURE
        }
    }
}
