//! The command line of `bulkhead-dns`.

mod host;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;

use crate::dnssec::folder;
use crate::inspect::{Format, Show};
use crate::limit::Rates;
use crate::server::Config;
use crate::{journal, keys, leases, status, tls};

pub use host::{HostError, Upstream};

/// Authoritative DNS for the site, its tenants and their reverse zones.
///
/// Serves the generation that `bulkhead apply` published, and follows it.
#[derive(Debug, Parser)]
#[command(name = "bulkhead-dns", version)]
pub struct Args {
    /// Show something and end, instead of serving.
    #[command(subcommand)]
    pub show: Option<Show>,
    /// How to print what is shown
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "text|json",
        default_value_t,
        hide_possible_values = true
    )]
    pub format: Format,
    /// The published generation.
    #[arg(long, global = true, default_value = netmodel::published::DEFAULT_PATH)]
    pub generation: PathBuf,
    /// Secrets of the tenants' update keys (mode 600).
    #[arg(long, global = true, default_value = keys::DEFAULT_PATH)]
    pub keys: PathBuf,
    /// Journal of dynamic updates.
    #[arg(long, global = true, default_value = journal::DEFAULT_PATH)]
    pub journal: PathBuf,
    /// Keys of signed zones, a file for each; the daemon makes those that are not there (mode 600).
    #[arg(long, global = true, value_name = "FOLDER", default_value = folder::DEFAULT_PATH)]
    pub zone_keys: PathBuf,
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
    /// `ADDRESS`, `ADDRESS:PORT`, or `host` for those of /etc/resolv.conf, read at start only; can be repeated. Without
    /// one, nobody is asked.
    #[arg(long)]
    pub upstream: Vec<Upstream>,
    /// Replies per second over UDP to one address without a DNS cookie; 0 is no limit.
    #[arg(long, default_value_t = 5000)]
    pub replies_per_client: u32,
    /// Replies per second over UDP to all clients of a tenant, or of a platform segment, without a DNS cookie; 0 is no limit.
    #[arg(long, default_value_t = 50_000)]
    pub replies_per_segment: u32,
    /// Signatures per second that are made for all clients of a tenant, or of a platform segment: for names that are not there, and for those
    /// that nobody asked for before; 0 is no limit.
    #[arg(long, default_value_t = 1000)]
    pub signatures_per_segment: u32,
    /// Tenant whose DHCP clients get names, HOST.dhcp.TENANT.SITE; can be repeated.
    #[arg(long, global = true, value_name = "TENANT")]
    pub lease_names: Vec<String>,
    /// The leases of `bulkhead-dhcpd`.
    #[arg(long, global = true, default_value = netmodel::leases::DEFAULT_PATH)]
    pub leases: PathBuf,
    /// Certificate for DNS over TLS and the HTTP API, PEM; read again when it changes, and on SIGHUP.
    #[arg(long, requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Key of the certificate, PEM (mode 600 or 640).
    #[arg(long, requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Address and port to serve DNS over TLS on, usually port 853; can be repeated.
    #[arg(long, requires = "tls_certificate")]
    pub tls_listen: Vec<SocketAddr>,
    /// Address and port of the HTTP API, in the words of PowerDNS': plain HTTP on loopback (127.0.0.1:8081), HTTPS elsewhere; can
    /// be repeated.
    #[arg(long)]
    pub api_listen: Vec<SocketAddr>,
    /// The file that says every two seconds what was done.
    #[arg(long, default_value = status::DEFAULT_PATH)]
    pub status: PathBuf,
}

impl Args {
    /// Returns which leases get names.
    #[must_use]
    pub fn lease_names(&self) -> leases::Config {
        leases::Config {
            file: self.leases.clone(),
            tenants: self.lease_names.iter().cloned().collect(),
        }
    }

    /// Returns what the daemon is told. Whoever sets `reload` has everything read again.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the resolvers of the host are to be asked, and there are none.
    pub fn into_config(self, reload: Arc<AtomicBool>) -> Result<Config, HostError> {
        let resolv_conf = Path::new(host::RESOLV_CONF);
        let upstreams = host::resolve(&self.upstream, &self.listen, resolv_conf)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let leases = self.lease_names();
        let files = self.tls_certificate.zip(self.tls_key);
        Ok(Config {
            generation: self.generation,
            keys: self.keys,
            zone_keys: self.zone_keys,
            journal: self.journal,
            listen: self.listen,
            workers: self.workers.unwrap_or(processors).max(1),
            records_per_tenant: self.records_per_tenant,
            upstreams,
            rates: Rates {
                client: self.replies_per_client,
                view: self.replies_per_segment,
                signatures: self.signatures_per_segment,
            },
            status: Some(self.status),
            tls: files.map(|(certificate, key)| tls::Files { certificate, key }),
            tls_listen: self.tls_listen,
            api_listen: self.api_listen,
            leases,
            reload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_may_be_named_before_and_behind_a_word() {
        let rows = [
            "bulkhead-dns --generation g --keys k --journal j --leases l --lease-names a list",
            "bulkhead-dns list --generation g --keys k --journal j --leases l --lease-names a",
            "bulkhead-dns --generation g --keys k list --journal j --leases l --lease-names a",
        ];
        for row in rows {
            let args = Args::try_parse_from(row.split(' ')).unwrap();
            assert!(matches!(args.show, Some(Show::List)), "{row}");
            let files = [&args.generation, &args.keys, &args.journal, &args.leases];
            assert_eq!(
                files.map(|file| file.to_str().unwrap()),
                ["g", "k", "j", "l"],
                "{row}"
            );
            assert_eq!(args.lease_names, ["a"], "{row}");
        }
    }
}
