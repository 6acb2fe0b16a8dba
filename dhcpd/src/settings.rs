//! What the inventory does not say: how long a lease lasts, who may relay, what a client boots.
//!
//! One TOML file, by default `/etc/bulkhead/dhcpd.toml`; every key has a default, so no file at all is the
//! normal case. `docs/dhcp.md` shows every key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use ipnet::Ipv4Net;
use serde::Deserialize;
use thiserror::Error;

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/bulkhead/dhcpd.toml";

/// The whole file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Longest lease, in seconds. A client may ask for less.
    pub lease_time: u32,
    /// How long an offered address is kept for the client, in seconds.
    pub offer_time: u32,
    /// How long an address that a client declined, or that answered a probe, is not given, in seconds.
    pub decline_time: u32,
    /// How long a probe of a never-seen address waits for an answer, in milliseconds; 0 probes nothing.
    pub probe_wait: u32,
    /// Addresses that one hardware address may hold at once, told apart by their client identifiers.
    pub leases_per_mac: u32,
    /// Messages per second from one hardware address; four times as many in a burst. 0 is no limit.
    pub messages_per_mac: u32,
    /// Messages per second and segment from clients that hold no lease and have no reservation; twice
    /// as many in a burst. 0 is no limit.
    pub strangers_per_segment: u32,
    /// Who may relay requests.
    pub relays: Vec<RelaySettings>,
    /// By segment: `guest`, or `TENANT/main`.
    pub segments: BTreeMap<String, SegmentSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_time: 3600,
            offer_time: 30,
            decline_time: 3600,
            probe_wait: 200,
            leases_per_mac: 1,
            messages_per_mac: 4,
            strangers_per_segment: 200,
            relays: Vec::new(),
            segments: BTreeMap::new(),
        }
    }
}

/// A relay agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// Its address, as it writes it into `giaddr`; of a relay of DHCPv6, the one that it sends from.
    pub address: IpAddr,
    /// The segment on which its packets reach the router.
    pub segment: String,
    /// The segments whose clients it relays.
    pub serves: Vec<String>,
}

/// What clients of one segment are told beside the inventory's own.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentSettings {
    /// Longest lease, in seconds.
    pub lease_time: Option<u32>,
    /// NTP servers; without it, the gateway if it offers NTP.
    pub ntp_servers: Option<Vec<Ipv4Addr>>,
    /// Domains to search besides the segment's own, in order.
    pub domain_search: Vec<String>,
    /// Classless static routes (RFC 3442); the default route is added.
    pub routes: Vec<Route>,
    /// `V6ONLY_WAIT` of RFC 8925, in seconds: clients that can do without IPv4 shall.
    pub ipv6_only_wait: Option<u32>,
    /// Addresses that are kept for clients without a known hardware address: by client identifier (option 61), in
    /// hexadecimal. Whoever says that identifier on the segment gets the address.
    pub client_ids: BTreeMap<String, Ipv4Addr>,
    /// Clients make up their IPv6 addresses (RFC 4862) instead of asking for them.
    pub slaac: bool,
    /// Network boot.
    pub boot: Option<Boot>,
    /// Vendor-specific information (option 43), in hexadecimal.
    pub vendor: Option<String>,
    /// What single hosts are told instead: by the name of a host of the inventory that has a reservation here.
    pub hosts: BTreeMap<String, HostSettings>,
}

/// What one host is told over DHCPv4 instead of what its segment is told. What is not here is as for the segment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// Longest lease, in seconds.
    pub lease_time: Option<u32>,
    /// Routers, on its own subnet; an empty list is none.
    pub routers: Option<Vec<Ipv4Addr>>,
    /// DNS servers; an empty list is none.
    pub dns_servers: Option<Vec<Ipv4Addr>>,
    /// Domain name.
    pub domain: Option<String>,
    /// Domains to search, all of them.
    pub domain_search: Option<Vec<String>>,
    /// NTP servers; an empty list is none.
    pub ntp_servers: Option<Vec<Ipv4Addr>>,
    /// Largest IP packet, in octets.
    pub mtu: Option<u16>,
    /// Classless static routes (RFC 3442); the default route is added.
    pub routes: Option<Vec<Route>>,
    /// `V6ONLY_WAIT` of RFC 8925, in seconds.
    pub ipv6_only_wait: Option<u32>,
    /// Network boot.
    pub boot: Option<Boot>,
    /// Vendor-specific information (option 43), in hexadecimal.
    pub vendor: Option<String>,
}

/// A route for clients.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination.
    pub to: Ipv4Net,
    /// Next hop.
    pub via: Ipv4Addr,
}

/// What a client boots from the network.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// TFTP or HTTP server (`siaddr`, option 66).
    pub next_server: Ipv4Addr,
    /// File for clients whose architecture is not in `architectures`.
    pub file: Option<String>,
    /// File by architecture (option 93, RFC 4578, decimal): `7 = "x64.efi"`.
    #[serde(default)]
    pub architectures: BTreeMap<String, String>,
    /// File, mostly a URL, for a client that is iPXE already (user class `iPXE`).
    pub ipxe: Option<String>,
}

/// The settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not TOML, has a key that is not known, or a value of another type.
    #[error("{}: not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("{key}: {value:?} {why}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it, and what would be right.
        why: &'static str,
    },
}

/// Reads the file. One that is not there is the defaults, unless it was asked for by name.
///
/// # Errors
///
/// [`SettingsError`].
pub fn read(path: Option<&Path>) -> Result<Settings, SettingsError> {
    let named = path.is_some();
    let path = path.unwrap_or(Path::new(DEFAULT_PATH));
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => Ok(Settings::default()),
        Err(source) => Err(SettingsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Parses the file's text and checks what can be checked without a model.
///
/// # Errors
///
/// [`SettingsError::Parse`], [`SettingsError::Value`].
pub fn parse(text: &str, path: &Path) -> Result<Settings, SettingsError> {
    let settings: Settings = toml::from_str(text).map_err(|source| SettingsError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let segments = settings.segments.values();
    let hosts = segments.clone().flat_map(|segment| segment.hosts.values());
    let of_hosts = hosts.filter_map(|host| host.lease_time);
    let of_segments = segments.filter_map(|segment| segment.lease_time);
    for lease_time in of_hosts.chain(of_segments).chain([settings.lease_time]) {
        if lease_time < MIN_LEASE_TIME {
            return Err(SettingsError::Value {
                key: "lease_time".to_owned(),
                value: lease_time.to_string(),
                why: "is too short: at least 60 seconds",
            });
        }
    }
    if settings.leases_per_mac == 0 {
        return Err(SettingsError::Value {
            key: "leases_per_mac".to_owned(),
            value: "0".to_owned(),
            why: "would give nobody an address: at least 1",
        });
    }
    Ok(settings)
}

/// Shortest lease, in seconds.
pub const MIN_LEASE_TIME: u32 = 60;
/// Longest first lease of a client while the pool is scarce, in seconds: addresses of clients that were
/// made up come back soon.
pub(crate) const SCARCE_LEASE_TIME: u32 = 600;
/// Longest lease of a client whose reserved address is not free yet, in seconds.
pub(crate) const INTERIM_LEASE_TIME: u32 = 120;
/// Longest quarantine of a reserved address, in seconds: its client has no other one.
pub(crate) const RESERVED_DECLINE_TIME: u64 = 60;
