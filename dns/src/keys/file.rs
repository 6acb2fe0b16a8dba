//! The file of secrets: what it says, before anyone knows whose the keys are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hickory_proto::rr::Name as HickoryName;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::ApiKey;
use crate::name::{Name, NameError};
use crate::secret::{Algorithm, Secret};

/// Shortest secret, in octets: what HMAC-SHA256 is worth half of (RFC 2104, 3).
const SHORTEST: usize = 16;

/// The file of secrets.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    /// Whether keys may be used with HMAC-SHA1.
    #[serde(default)]
    hmac_sha1: bool,
    #[serde(default)]
    keys: BTreeMap<String, KeyEntry>,
    #[serde(default)]
    secondaries: BTreeMap<String, SecondaryEntry>,
    #[serde(default)]
    api: BTreeMap<String, ApiEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiEntry {
    tenant: String,
    key: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecondaryEntry {
    pub(super) address: IpAddr,
    #[serde(default = "default_port")]
    pub(super) port: u16,
    pub(super) key: String,
}

fn default_port() -> u16 {
    53
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    algorithm: Algorithm,
    secret: String,
}

/// The secrets, before anyone knows whose they are.
#[derive(Clone, Default)]
pub struct Secrets {
    pub(super) keys: BTreeMap<String, Secret>,
    /// Whether those with HMAC-SHA1 may be used.
    hmac_sha1: bool,
    pub(super) secondaries: BTreeMap<String, SecondaryEntry>,
    pub(super) api: Vec<ApiKey>,
}

/// The file of secrets cannot be used.
#[derive(Debug, Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("{} has mode {mode:o}: others can read the secrets (remedy: chmod 600 {})", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no such file.
    #[error("{} cannot be understood", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key's name is no DNS name.
    #[error("{}: `{key}` cannot be the name of a key", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// A key of the API is too short, or cannot stand in a header.
    #[error(
        "{}: the key of `{key}` is not {SHORTEST} or more printable characters without blanks \
         (remedy: openssl rand -hex 32)",
        path.display()
    )]
    Api {
        /// The file.
        path: PathBuf,
        /// The key's name.
        key: String,
    },
    /// A secret is none.
    #[error(
        "{}: the secret of `{key}` is not base64 of at least {SHORTEST} octets \
         (remedy: openssl rand -base64 32)",
        path.display()
    )]
    Secret {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

impl Secrets {
    /// Reads the file. No file is no keys.
    ///
    /// # Errors
    ///
    /// [`KeysError`] if there is one and it cannot be used.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let wrap = |source| KeysError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(wrap)?,
        };
        let mode = file.metadata().map_err(wrap)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeysError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(wrap)?;
        Self::parse(&text, path)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// As [`Secrets::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, KeysError> {
        let file: KeyFile = toml::from_str(text).map_err(|source| KeysError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let mut keys = BTreeMap::new();
        for (key, entry) in file.keys {
            let name = Name::absolute(&key).map_err(|source| KeysError::Name {
                path: path.to_owned(),
                key: key.clone(),
                source,
            })?;
            let bad_secret = || KeysError::Secret {
                path: path.to_owned(),
                key: key.clone(),
            };
            let secret = base64(&entry.secret).filter(|secret| secret.len() >= SHORTEST);
            let hickory_name =
                HickoryName::from_ascii(name.to_string()).map_err(|_| bad_secret())?;
            let secret = secret.ok_or_else(bad_secret)?;
            let secret = Secret::new(hickory_name, entry.algorithm, &secret);
            keys.insert(key.to_ascii_lowercase(), secret);
        }
        let api = file.api.into_iter().map(|(name, entry)| {
            let octets = entry.key.as_bytes();
            let is_good = octets.len() >= SHORTEST && octets.iter().all(u8::is_ascii_graphic);
            let key = ApiKey {
                name: name.to_ascii_lowercase().into(),
                tenant: entry.tenant.into(),
                digest: Sha256::digest(octets).into(),
            };
            is_good.then_some(key).ok_or_else(|| KeysError::Api {
                path: path.to_owned(),
                key: name,
            })
        });
        Ok(Self {
            api: api.collect::<Result<_, _>>()?,
            keys,
            hmac_sha1: file.hmac_sha1,
            secondaries: file.secondaries,
        })
    }

    /// Returns a key that may be used, or why there is none.
    pub(super) fn usable(&self, key: &str) -> Result<(Name, &Secret), &'static str> {
        const NONE: &str = "has no secret";
        let secret = self.keys.get(key).ok_or(NONE)?;
        if secret.kind() == Algorithm::HmacSha1 && !self.hmac_sha1 {
            return Err(
                "is for hmac-sha1, which is off (remedy: algorithm = \"hmac-sha256\" here and at the client, \
                 or hmac_sha1 = true at the top of the file)",
            );
        }
        Ok((Name::absolute(key).map_err(|_| NONE)?, secret))
    }
}

/// Decodes base64 (RFC 4648, 4), with its padding.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut octets = Vec::new();
    let mut bits: u32 = 0;
    let mut count = 0;
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.extend(u8::try_from((bits >> count) & 0xff));
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_as_rfc_4648_section_10_says() {
        let rows = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, octets) in rows {
            assert_eq!(base64(text).unwrap(), octets.as_bytes());
        }
        for bad in ["Zg=", "Zg", "Z===", "Zm9v!mFy"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        std::fs::write(&path, "").unwrap();
        for (mode, is_good) in [(0o600, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Secrets::read(&path).is_ok(), is_good, "{mode:o}");
        }
        assert!(
            Secrets::read(&folder.path().join("absent"))
                .unwrap()
                .keys
                .is_empty()
        );
    }

    #[test]
    fn bad_keys_are_refused() {
        let rows = [
            "[keys.a]\nalgorithm = \"hmac-md5\"\nsecret = \"Zm9vYmFyZm9vYmFyZm9vYmFy\"",
            "[keys.a]\nalgorithm = \"hmac-sha256\"\nsecret = \"Zm9v\"",
            "[keys.a]\nalgorithm = \"hmac-sha256\"\nsecret = \"Zm9vYmFyZm9vYmFyZm9vYmFy\"\nmore = 1",
            "[keys.\"a..b\"]\nalgorithm = \"hmac-sha256\"\nsecret = \"Zm9vYmFyZm9vYmFyZm9vYmFy\"",
        ];
        for text in rows {
            assert!(Secrets::parse(text, Path::new("x")).is_err(), "{text}");
        }
    }
}
