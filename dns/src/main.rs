//! The daemon `bulkhead-dns`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use dns::args::Args;
use dns::inspect::{self, Show};
use dns::limit::Rates;
use dns::server::{Config, Server};
use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

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
        rates: Rates {
            client: args.replies_per_client,
            view: args.replies_per_segment,
        },
        status: Some(args.status),
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
