//! `bulkhead.toml`: where the inventory is, and what its author's older names mean.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::network::NetworkSettings;

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
    /// Other names of site keys: `deevnet_vlans = "site_segments"`.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// What of the kernel's network is managed, and how.
    #[serde(default)]
    pub network: NetworkSettings,
    /// Generations that are kept for `bulkhead rollback`. Absent: 50.
    pub history: Option<usize>,
    /// What `bulkhead run --watch` may do.
    #[serde(default)]
    pub watch: Watch,
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
        Ok(config.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    fn relative_to(mut self, folder: &Path) -> Self {
        self.site = self.site.map(|path| folder.join(path));
        self.tenants = self.tenants.map(|path| folder.join(path));
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
    fn absent_default_file_is_an_empty_one_but_a_named_file_must_exist() {
        assert!(Config::load(Some(Path::new("/nonexistent/bulkhead.toml"))).is_err());
    }
}
