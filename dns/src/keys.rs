//! TSIG keys: which tenant a signature stands for.
//!
//! The inventory says which key a tenant has (`dns_update.key`), a file that only root and this daemon
//! can read says what its secret is:
//!
//! ```toml
//! [keys.grooveiq-tf]
//! algorithm = "hmac-sha256"   # or hmac-sha384, hmac-sha512; hmac-sha1 only by a switch
//! secret = "bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGUgISE="
//! ```
//!
//! A key that two tenants name stands for neither of them. A key with `hmac-sha1` stands for nobody, unless the file has
//! `hmac_sha1 = true` before its tables: some old clients can do no better.
//!
//! The same file names the servers that copy zones, each with a key of its own:
//!
//! ```toml
//! [secondaries.ns2]
//! address = "10.20.99.53"     # port = 53
//! key = "ns2-transfer"
//! ```
//!
//! And the keys of the HTTP API, each for one tenant:
//!
//! ```toml
//! [api.grooveiq-octodns]
//! tenant = "grooveiq"
//! key = "not a key, only an example"
//! ```

mod file;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::name::Name;
use crate::plan::TenantInfo;
use crate::secret::Secret;

#[cfg(test)]
pub(crate) use file::base64;
pub use file::{KeysError, Secrets};

/// Where the secrets are unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/bulkhead/dns-keys.toml";
/// Furthest that a client's clock may be off, in seconds (RFC 8945, 10).
pub const FUDGE: u16 = 300;
/// A key of the HTTP API. What is kept of the secret is its SHA-256.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKey {
    /// Its name: whose records are whose follows it, as with TSIG keys.
    pub name: Arc<str>,
    /// Whose zones it reaches.
    pub tenant: Arc<str>,
    digest: [u8; 32],
}

/// Whose a key is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A secondary's: it may transfer what its segment sees.
    Secondary(Arc<str>),
    /// A tenant's: it may change and transfer the tenant's zones.
    Tenant(Arc<str>),
}

impl Key {
    /// Returns what it signs with, as it is written in files: `hmac-sha256`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        let name = self.secret.algorithm().to_name().to_string();
        name.trim_end_matches('.').to_owned()
    }

    /// Returns the tenant whose zones it may change.
    #[must_use]
    pub fn tenant(&self) -> Option<&Arc<str>> {
        match &self.holder {
            Holder::Secondary(_) => None,
            Holder::Tenant(tenant) => Some(tenant),
        }
    }
}

/// A key and whose it is.
#[derive(Clone)]
pub struct Key {
    /// As the inventory writes it.
    pub name: Arc<str>,
    /// Whose it is.
    pub holder: Holder,
    pub(crate) secret: Secret,
}

/// All keys, by name.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: HashMap<Name, Key>,
    /// Name, address, and name of the key.
    secondaries: Vec<(Arc<str>, SocketAddr, Name)>,
    api: Vec<ApiKey>,
    /// What an admin should know: keys without a secret, keys of two tenants.
    pub complaints: Vec<String>,
}

impl Keyring {
    /// Joins the secrets with the tenants that name them.
    #[must_use]
    pub fn new(secrets: &Secrets, tenants: &HashMap<Arc<str>, TenantInfo>) -> Self {
        let mut users: BTreeMap<String, Vec<&Arc<str>>> = BTreeMap::new();
        for (tenant, info) in tenants {
            if let Some(key) = &info.key {
                users
                    .entry(key.to_ascii_lowercase())
                    .or_default()
                    .push(tenant);
            }
        }
        let mut ring = Self::default();
        for (key, tenants) in users {
            let [tenant] = tenants.as_slice() else {
                ring.complaints.push(format!(
                    "key `{key}` is named by several tenants: refused for all"
                ));
                continue;
            };
            let (name, secret) = match secrets.usable(&key) {
                Ok(found) => found,
                Err(why) => {
                    let complaint = format!("key `{key}` of tenant {tenant} {why}: no updates");
                    ring.complaints.push(complaint);
                    continue;
                }
            };
            let found = Key {
                name: key.as_str().into(),
                holder: Holder::Tenant(Arc::clone(tenant)),
                secret: secret.clone(),
            };
            ring.keys.insert(name, found);
        }
        ring.add_secondaries(secrets);
        ring.add_api(secrets, tenants);
        ring
    }

    /// A key of the API is one tenant's. Its name is no other key's, so that owners of records cannot be mistaken.
    fn add_api(&mut self, secrets: &Secrets, tenants: &HashMap<Arc<str>, TenantInfo>) {
        let mut known = BTreeSet::new();
        for key in &secrets.api {
            let why = if !tenants.contains_key(&key.tenant) {
                "of a tenant that there is not"
            } else if secrets.keys.contains_key(&*key.name) {
                "called as a TSIG key"
            } else if !known.insert(key.digest) {
                "the same as another's"
            } else {
                self.api.push(key.clone());
                continue;
            };
            self.complaints
                .push(format!("API key `{}` is {why}: refused", key.name));
        }
    }

    /// Returns the key of the API that a client shows. It takes as long for a wrong one as for a right one.
    #[must_use]
    pub fn api_key(&self, shown: &[u8]) -> Option<&ApiKey> {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let mut found = None;
        for key in &self.api {
            if key.digest.ct_eq(&shown).into() {
                found = Some(key);
            }
        }
        found
    }

    /// Goes through the keys of the API.
    pub fn api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.api.iter()
    }

    /// Goes through the TSIG keys of a tenant.
    pub fn of_tenant<'k>(&'k self, tenant: &str) -> impl Iterator<Item = &'k Key> {
        let is_own = move |key: &&Key| key.tenant().is_some_and(|own| **own == *tenant);
        self.keys.values().filter(is_own)
    }

    /// Returns the names of a tenant's other keys, of either kind: what they added is theirs.
    #[must_use]
    pub fn others(&self, tenant: &str, key: &str) -> Vec<Arc<str>> {
        let signers = self.of_tenant(tenant).map(|key| &key.name);
        let api = self.api.iter().filter(|key| *key.tenant == *tenant);
        let all = signers.chain(api.map(|key| &key.name));
        all.filter(|name| ***name != *key).map(Arc::clone).collect()
    }

    /// A key has one holder: what a tenant or another secondary has is refused.
    fn add_secondaries(&mut self, secrets: &Secrets) {
        for (secondary, entry) in &secrets.secondaries {
            let key = entry.key.to_ascii_lowercase();
            let (name, secret) = match secrets.usable(&key) {
                Ok(found) => found,
                Err(why) => {
                    let complaint =
                        format!("key `{key}` of secondary {secondary} {why}: no transfers");
                    self.complaints.push(complaint);
                    continue;
                }
            };
            if self.keys.contains_key(&name) {
                self.complaints.push(format!(
                    "key `{key}` of secondary {secondary} is another's already: no transfers"
                ));
                continue;
            }
            let secondary: Arc<str> = secondary.as_str().into();
            let found = Key {
                name: key.as_str().into(),
                holder: Holder::Secondary(Arc::clone(&secondary)),
                secret: secret.clone(),
            };
            self.keys.insert(name.clone(), found);
            let address = SocketAddr::new(entry.address, entry.port);
            self.secondaries.push((secondary, address, name));
        }
    }

    /// Returns name, address and key's name of each secondary.
    pub(crate) fn secondaries(&self) -> &[(Arc<str>, SocketAddr, Name)] {
        &self.secondaries
    }

    /// Goes through all keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    /// Returns the key of a name (lower case).
    #[must_use]
    pub fn key(&self, name: &[u8]) -> Option<&Key> {
        self.keys.get(name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::file::SecondaryEntry;
    use super::*;

    /// The key file of the tests: `KEY` for each name.
    pub(crate) fn secrets(names: &[&str]) -> Secrets {
        let entry = |name: &&str| {
            format!("[keys.{name}]\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n")
        };
        let text: String = names.iter().map(entry).collect();
        Secrets::parse(&text, Path::new("keys.toml")).unwrap()
    }

    pub(crate) const SECRET: &str = "bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGUgISE=";

    #[test]
    fn a_key_that_two_tenants_name_stands_for_neither() {
        let info = |key: &str| TenantInfo {
            key: Some(key.to_owned()),
            is_draining: false,
            nets: Vec::new(),
            vlans: Vec::new(),
            gateways: Vec::new(),
            zone: Name::root(),
        };
        let tenants = HashMap::from([
            ("a".into(), info("shared")),
            ("b".into(), info("Shared")),
            ("c".into(), info("c-tf")),
            ("d".into(), info("unknown")),
        ]);
        let ring = Keyring::new(&secrets(&["shared", "c-tf"]), &tenants);
        let key = |name: &str| ring.key(Name::absolute(name).unwrap().as_wire());
        assert!(key("shared").is_none());
        assert_eq!(key("c-tf").unwrap().holder, Holder::Tenant("c".into()));
        assert_eq!(ring.complaints.len(), 2);
    }

    #[test]
    fn a_key_with_sha1_stands_for_nobody_unless_the_file_allows_it() {
        let info = TenantInfo {
            key: Some("old".to_owned()),
            is_draining: false,
            nets: Vec::new(),
            vlans: Vec::new(),
            gateways: Vec::new(),
            zone: Name::root(),
        };
        let tenants = HashMap::from([("c".into(), info)]);
        let entry =
            |key: &str| format!("[keys.{key}]\nalgorithm = \"hmac-sha1\"\nsecret = \"{SECRET}\"\n");
        let file = entry("old")
            + &entry("ns2")
            + "[secondaries.ns2]\naddress = \"192.0.2.53\"\nkey = \"ns2\"\n";
        for (switch, count) in [
            ("", 0),
            ("hmac_sha1 = false\n", 0),
            ("hmac_sha1 = true\n", 2),
        ] {
            let secrets = Secrets::parse(&format!("{switch}{file}"), Path::new("x")).unwrap();
            let ring = Keyring::new(&secrets, &tenants);
            assert_eq!(ring.iter().count(), count, "{switch}");
            assert_eq!(ring.complaints.len(), 2 - count, "{:?}", ring.complaints);
            let told = |complaint: &String| complaint.contains("hmac_sha1 = true");
            assert!(ring.complaints.iter().all(told), "{:?}", ring.complaints);
            assert!(ring.iter().all(|key| key.algorithm() == "hmac-sha1"));
        }
        // Below a table it would be the table's.
        assert!(Secrets::parse(&format!("{file}hmac_sha1 = true"), Path::new("x")).is_err());
    }

    #[test]
    fn a_secondary_has_a_key_of_its_own_or_none() {
        let mut secrets = secrets(&["c-tf", "ns2", "ns3"]);
        let entry = |key: &str| SecondaryEntry {
            address: "192.0.2.53".parse().unwrap(),
            port: 53,
            key: key.to_owned(),
        };
        for (secondary, key) in [
            ("good", "NS2"),
            ("same", "ns2"),
            ("tenants", "c-tf"),
            ("unknown", "x"),
        ] {
            secrets.secondaries.insert(secondary.to_owned(), entry(key));
        }
        let info = TenantInfo {
            key: Some("c-tf".to_owned()),
            is_draining: false,
            nets: Vec::new(),
            vlans: Vec::new(),
            gateways: Vec::new(),
            zone: Name::root(),
        };
        let ring = Keyring::new(&secrets, &HashMap::from([("c".into(), info)]));
        let names: Vec<&str> = ring
            .secondaries()
            .iter()
            .map(|(name, ..)| &**name)
            .collect();
        assert_eq!(names, ["good"]);
        assert_eq!(ring.complaints.len(), 3);
        let key = |name: &str| {
            ring.key(Name::absolute(name).unwrap().as_wire())
                .unwrap()
                .tenant()
        };
        assert_eq!(key("ns2"), None, "it changes nobody's zones");
        assert_eq!(key("c-tf").map(|tenant| &**tenant), Some("c"));
    }

    #[test]
    fn a_key_of_the_api_reaches_its_tenant_and_no_one_elses_name() {
        let text = |name: &str, tenant: &str, key: &str| {
            format!("[api.{name}]\ntenant = \"{tenant}\"\nkey = \"{key}\"\n")
        };
        let rows = [
            ("good", "c", "0123456789abcdef"),
            ("same", "c", "0123456789abcdef"),
            ("nobody", "x", "0123456789abcdeX"),
            ("c-tf", "c", "0123456789abcdeY"),
        ];
        let rows: String = rows.iter().map(|(a, b, c)| text(a, b, c)).collect();
        let file =
            format!("[keys.c-tf]\nalgorithm = \"hmac-sha256\"\nsecret = \"{SECRET}\"\n{rows}");
        let secrets = Secrets::parse(&file, Path::new("x")).unwrap();
        let info = TenantInfo {
            key: Some("c-tf".to_owned()),
            is_draining: false,
            nets: Vec::new(),
            vlans: Vec::new(),
            gateways: Vec::new(),
            zone: Name::root(),
        };
        let ring = Keyring::new(&secrets, &HashMap::from([("c".into(), info)]));
        let names: Vec<&str> = ring.api_keys().map(|key| &*key.name).collect();
        // In the order of the file: by name.
        assert_eq!(names, ["good"]);
        assert_eq!(ring.complaints.len(), 3, "{:?}", ring.complaints);
        assert_eq!(&*ring.api_key(b"0123456789abcdef").unwrap().tenant, "c");
        for wrong in [
            &b""[..],
            b"0123456789abcdeg",
            b"0123456789abcdeY",
            b"0123456789abcdef ",
        ] {
            assert_eq!(ring.api_key(wrong), None);
        }
        assert_eq!(ring.others("c", "good"), ["c-tf".into()]);
        assert_eq!(ring.others("d", "good"), Vec::<Arc<str>>::new());
        for key in ["short", "0123456789 abcdef", "0123456789äbcdef"] {
            let bad = Secrets::parse(&text("a", "c", key), Path::new("x"));
            assert!(matches!(bad, Err(KeysError::Api { .. })), "{key}");
        }
    }
}
