//! `bulkhead.toml`: where the inventory is, and what its author's older names mean.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use dataplane_common::abi::Address;
use dataplane_common::hold::{NEEDS, Needs, Source};
use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;

use crate::network::NetworkSettings;
use crate::ports::PortSettings;

/// Where the file is unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/bulkhead/bulkhead.toml";

/// The file. Every key may be absent; paths in it are relative to its folder.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the site tree. Absent: `/etc/bulkhead/site`.
    pub site: Option<PathBuf>,
    /// Folder of the tenants' trees. Absent: `/etc/bulkhead/tenants`.
    pub tenants: Option<PathBuf>,
    /// The host of the inventory that this router is. Absent: the only one with `router_parent`.
    pub router: Option<String>,
    /// The host of the inventory that this hypervisor is. Absent: this machine is a router.
    pub hypervisor: Option<String>,
    /// Other names of site keys: `deevnet_vlans = "site_segments"`.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// What of the kernel's network is managed, and how.
    #[serde(default)]
    pub network: NetworkSettings,
    /// Whose machine is behind a port of this hypervisor's bridges.
    #[serde(default)]
    pub ports: PortSettings,
    /// Connections that are remembered at once, of all segments and ports; it counts when the maps are made, not when they are
    /// adopted. Absent: 262,144.
    pub connections: Option<NonZeroU32>,
    /// Generations that are kept for `bulkhead rollback`. Absent: 50.
    pub history: Option<usize>,
    /// What `bulkhead run --watch` may do.
    #[serde(default)]
    pub watch: Watch,
    /// What passes before there is a generation. Absent: `bulkhead run` holds nothing.
    pub hold: Option<Hold>,
}

/// `[hold]`: what the operator needs of the trunk before the first generation is in. What is not listed is dropped.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// The trunk. Absent: the inventory's `router_parent`, if the inventory has no errors.
    pub interface: Option<String>,
    /// VLANs of the operator: ARP and neighbour discovery pass there. Absent: none.
    pub vlans: Vec<u16>,
    /// Addresses of this router that may be spoken to: its gateways in these VLANs. Absent: none.
    pub addresses: Vec<IpAddr>,
    /// TCP and UDP ports of these addresses. Absent: none, so that only echo passes.
    pub ports: Vec<u16>,
    /// Where the operator is. Absent: any address. (`[]`: none.)
    pub sources: Option<Vec<IpNet>>,
}

impl Hold {
    /// Returns what is wrong with it: the key, and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let lengths = [
            ("vlans", self.vlans.len()),
            ("addresses", self.addresses.len()),
            ("ports", self.ports.len()),
            ("sources", self.sources.as_ref().map_or(0, Vec::len)),
        ];
        if let Some((key, length)) = lengths.into_iter().find(|(_, length)| *length > NEEDS) {
            return Err((key, format!("{length} are listed, at most {NEEDS} can be")));
        }
        if let Some(id) = self.vlans.iter().find(|id| !(1..=4094).contains(*id)) {
            return Err(("vlans", format!("{id} is no VLAN id (1-4094)")));
        }
        if self.ports.contains(&0) {
            return Err(("ports", "0 is no port".to_owned()));
        }
        let is_unusable = |ip: &&IpAddr| ip.is_unspecified() || ip.is_multicast() || is_mapped(ip);
        if let Some(ip) = self.addresses.iter().find(is_unusable) {
            return Err(("addresses", format!("{ip} is no address of a router")));
        }
        Ok(())
    }

    /// Returns it as the programs look it up.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let any = ["0.0.0.0/0", "::/0"].map(|text| text.parse().expect("it is a prefix"));
        let sources = self.sources.as_deref().unwrap_or(&any);
        let mut needs = Needs::default();
        fill(&mut needs.vlans, self.vlans.iter().copied());
        fill(&mut needs.ports, self.ports.iter().copied());
        fill(
            &mut needs.addresses,
            self.addresses.iter().copied().map(address),
        );
        fill(&mut needs.sources, sources.iter().map(source));
        needs
    }
}

fn fill<T>(places: &mut [T], values: impl Iterator<Item = T>) {
    for (place, value) in places.iter_mut().zip(values) {
        *place = value;
    }
}

fn is_mapped(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::from_ipv4(ip.octets()),
        IpAddr::V6(ip) => Address::from_ipv6(ip.octets()),
    }
}

fn source(net: &IpNet) -> Source {
    let length = u32::from(net.prefix_len());
    let (family, length) = match net {
        IpNet::V4(_) => (4, length + 96),
        IpNet::V6(_) => (6, length),
    };
    Source {
        network: address(net.network()),
        mask: Address::mask(length),
        family,
    }
}

/// `[watch]`: what `bulkhead run --watch` does when the inventory changes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Apply the plan; otherwise it is only logged and shown in `status`. Absent: false.
    pub apply: bool,
    /// How many objects such an apply may destroy; a plan that destroys more waits for `bulkhead apply`. Absent: 0.
    pub allow_destroy: usize,
    /// How long nothing may touch the files before they are read, in milliseconds. Absent: 2000.
    pub quiet_milliseconds: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            apply: false,
            allow_destroy: 0,
            quiet_milliseconds: 2000,
        }
    }
}

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("cannot parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        #[source]
        source: toml::de::Error,
    },
    /// A value of `[hold]` makes no sense.
    #[error("{}: `{key}` of [hold]: {why}", path.display())]
    Hold {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value, and what is wrong with it.
        why: String,
    },
}

impl Config {
    /// Reads the file that was named, or the default one if there is one.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the file is there (or was named) and cannot be used.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => {
                return Err(ConfigError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let parsed = toml::from_str::<Self>(&text);
        let config = parsed.map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })?;
        if let Some(Err((key, why))) = config.hold.as_ref().map(Hold::check) {
            let path = path.to_owned();
            return Err(ConfigError::Hold { path, key, why });
        }
        Ok(config.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    fn relative_to(mut self, folder: &Path) -> Self {
        self.site = self.site.map(|path| folder.join(path));
        self.tenants = self.tenants.map(|path| folder.join(path));
        self.ports.proxmox = folder.join(self.ports.proxmox);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file() {
        let config: Config = toml::from_str("site = \"site\"\ntenants = \"/srv/tenants\"").unwrap();
        let config = config.relative_to(Path::new("/etc/bulkhead"));
        assert_eq!(config.site.unwrap(), Path::new("/etc/bulkhead/site"));
        assert_eq!(config.tenants.unwrap(), Path::new("/srv/tenants"));
    }

    #[test]
    fn network_is_managed_as_the_section_says() {
        let config: Config = toml::from_str("[network]\nmanage = [\"links\"]").unwrap();
        assert!(config.network.manage.links && !config.network.manage.addresses);
        assert!(toml::from_str::<Config>("[network]\nmange = []").is_err());
    }

    #[test]
    fn unknown_key_is_refused() {
        let error = toml::from_str::<Config>("sites = \"x\"").unwrap_err();
        assert!(
            error.to_string().contains("unknown field `sites`"),
            "{error}"
        );
    }

    #[test]
    fn hold_lists_what_passes_and_refuses_what_makes_no_sense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bulkhead.toml");
        let load = |text: &str| {
            std::fs::write(&path, format!("[hold]\n{text}")).unwrap();
            Config::load(Some(&path))
        };
        let nothing = load("").unwrap().hold.unwrap().needs();
        assert_eq!((nothing.vlans, nothing.ports), ([0; NEEDS], [0; NEEDS]));
        assert_eq!(nothing.addresses, [Address::default(); NEEDS]);
        // Absent is any source, which is of no use without the rest; `[]` is none.
        assert_eq!(nothing.sources.map(|place| place.family)[..3], [4, 6, 0]);
        let none = load("sources = []").unwrap().hold.unwrap().needs();
        assert_eq!(none.sources, [Source::default(); NEEDS]);
        for (text, named) in [
            ("vlans = [0]", "`vlans`"),
            ("vlans = [4095]", "`vlans`"),
            ("ports = [0]", "`ports`"),
            ("addresses = [\"::\"]", "`addresses`"),
            ("addresses = [\"224.0.0.1\"]", "`addresses`"),
            ("addresses = [\"::ffff:192.0.2.1\"]", "`addresses`"),
            (
                "ports = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
                "`ports`",
            ),
            ("port = [1]", "cannot parse"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    const PACKAGED: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/etc/bulkhead.toml"
    );

    /// The keys (or words) that could stand in the place of an unknown one.
    fn expected_instead(text: &str) -> Vec<String> {
        let error = toml::from_str::<Config>(text).unwrap_err();
        let (unknown, expected) = error.message().split_once(", expected ").unwrap();
        assert!(unknown.contains("`unknown`"), "{unknown}");
        let names = expected.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn packaged_file_sets_nothing_and_shows_every_key() {
        let packaged = Config::load(Some(Path::new(PACKAGED))).unwrap();
        assert_eq!(packaged, Config::default());

        let text = std::fs::read_to_string(PACKAGED).unwrap();
        // A comment has a space behind its `#`, a key has none.
        let set = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        let text: String = text.lines().map(set).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bulkhead.toml");
        std::fs::write(&path, &text).unwrap();
        let config = Config::load(Some(&path)).unwrap();
        assert_eq!(config.network, NetworkSettings::default());
        assert_eq!(config.watch, Watch::default());
        assert_eq!(config.ports, PortSettings::default());

        let shown: toml::Table = toml::from_str(&text).unwrap();
        for key in expected_instead("unknown = 1") {
            let section = shown.get(&key).and_then(toml::Value::as_table);
            assert!(shown.contains_key(&key), "{key} is not shown");
            // The keys of this one are the reader's own.
            let Some(section) = section.filter(|_| key != "aliases") else {
                continue;
            };
            for inner in expected_instead(&format!("[{key}]\nunknown = 1")) {
                assert!(
                    section.contains_key(&inner),
                    "{inner} of [{key}] is not shown"
                );
            }
        }
        let manage = shown["network"]["manage"].as_array().unwrap();
        for word in expected_instead("[network]\nmanage = [\"unknown\"]") {
            assert!(manage.contains(&word.clone().into()), "{word} is not shown");
        }
    }

    #[test]
    fn absent_default_file_is_an_empty_one_but_a_named_file_must_exist() {
        assert!(Config::load(Some(Path::new("/nonexistent/bulkhead.toml"))).is_err());
    }
}
