//! The daemon `bulkhead-dns`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use dns::args::Args;
use dns::inspect::{self, Show};
use dns::server::Server;
use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Shows what is served; works beside the daemon, too.
fn inspect(args: &Args, what: &Show) -> ExitCode {
    let loaded = inspect::load(
        &args.generation,
        &args.keys,
        (&args.journal, &args.zone_keys),
        &args.lease_names(),
    );
    match loaded.and_then(|world| inspect::show(&world, what, args.format)) {
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

/// Waits for signals: SIGHUP has everything read again, the others end the process, also while there is no
/// generation yet.
fn obey(signals: &SigSet, reload: &AtomicBool) -> ! {
    loop {
        match signals.wait() {
            Ok(Signal::SIGHUP) => reload.store(true, Ordering::Relaxed),
            signal => {
                info!(?signal, "ending");
                std::process::exit(0);
            }
        }
    }
}

/// Exit code: the command line makes no sense (`EX_USAGE`), as `bulkhead` has it.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Some(what) = &args.show {
        return inspect(&args, what);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // Before the first thread, so that all of them inherit it.
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .collect();
    if let Err(errno) = signals.thread_block() {
        error!(%errno, "cannot wait for signals");
        return ExitCode::FAILURE;
    }
    let reload = Arc::new(AtomicBool::new(false));
    let config = match args.into_config(Arc::clone(&reload)) {
        Ok(config) => config,
        Err(reason) => {
            error!(error = %dns::chain(&reason), "cannot start");
            return ExitCode::FAILURE;
        }
    };
    std::thread::spawn(move || obey(&signals, &reload));
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
