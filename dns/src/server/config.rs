//! What the daemon is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::ServerError;
use crate::limit::Rates;
use crate::{leases, tls};

/// What the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The published generation.
    pub generation: PathBuf,
    /// The secrets of the keys.
    pub keys: PathBuf,
    /// The folder with the keys of signed zones.
    pub zone_keys: PathBuf,
    /// The journal of updates.
    pub journal: PathBuf,
    /// Where to listen, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// UDP threads for each address.
    pub workers: usize,
    /// How many dynamic records a tenant may have.
    pub records_per_tenant: usize,
    /// Resolvers that are asked for names of others; none: nobody is.
    pub upstreams: Vec<SocketAddr>,
    /// How many replies over UDP.
    pub rates: Rates,
    /// The file that says what was done; `None`: nobody wants to know.
    pub status: Option<PathBuf>,
    /// Certificate and key, for TLS.
    pub tls: Option<tls::Files>,
    /// Where to listen for DNS over TLS; needs [`Config::tls`].
    pub tls_listen: Vec<SocketAddr>,
    /// Where to listen for the HTTP API: plain on loopback, TLS elsewhere.
    pub api_listen: Vec<SocketAddr>,
    /// Which leases get names.
    pub leases: leases::Config,
    /// Set: generation, keys and certificate are to be read again.
    pub reload: Arc<AtomicBool>,
}

/// What needs TLS on an address that is not loopback's.
pub(super) const API: &str = "the HTTP API";

impl Config {
    /// Nothing is served in the clear that is to be kept secret.
    pub(super) fn check_tls(&self) -> Result<(), ServerError> {
        if self.tls.is_some() {
            return Ok(());
        }
        let dns = self
            .tls_listen
            .iter()
            .map(|address| ("DNS over TLS", address));
        let api = self.api_listen.iter().map(|address| (API, address));
        let mut open = dns.chain(api.filter(|(_, address)| !address.ip().is_loopback()));
        match open.next() {
            None => Ok(()),
            Some((what, address)) => Err(ServerError::NoCertificate {
                what,
                address: *address,
            }),
        }
    }
}
