//! The files with the keys of zones: one for each zone that is signed, PKCS#8, mode 600.
//!
//! # Guarantees
//!
//! * **Durable.** A key is on the disk before anything is signed with it: a parent, or who trusts the zone, holds on to it.
//! * **Never replaced.** Only where there is no file a key is made. A file that cannot be used is an error, and stays as it is.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::dnssec::DnsSecError;
use netmodel::published::{self, PublishedError};
use rustls::pki_types::PrivatePkcs8KeyDer;
use thiserror::Error;
use tracing::warn;

use super::key::ZoneKey;
use crate::name::Name;
use crate::rdata::{self, rtype};

/// Where the keys are unless told otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/bulkhead/dns/zone-keys";
/// Longest file, in octets: many times what a key needs.
const LONGEST: u64 = 4096;

/// A zone has no key that can be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// A file cannot be read, or the folder cannot be made.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("{} has mode {mode:o}: others can read the key (remedy: chmod 600 {}, then systemctl reload bulkhead-dns)", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no key.
    #[error(
        "{} is no ECDSA P-256 key in PKCS#8 (remedy: put it back from a backup; without one remove it, and give the parent \
         the DS of the key that is made then: bulkhead dns keys; then systemctl reload bulkhead-dns)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DnsSecError,
    },
    /// There is none yet, and none is to be made.
    #[error("{} is not there yet: bulkhead-dns makes it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make a key")]
    Make(#[source] DnsSecError),
    /// It cannot be written.
    #[error("cannot write a key")]
    Write(#[source] PublishedError),
    /// There is no folder.
    #[error("there is no folder for keys of zones")]
    NoFolder,
}

/// The keys of zones.
#[derive(Debug, Default)]
pub struct KeyFolder {
    path: Option<PathBuf>,
    /// Are keys made that are not there?
    is_writer: bool,
    known: Mutex<HashMap<Name, Arc<ZoneKey>>>,
}

impl KeyFolder {
    /// The daemon's: keys that are not there are made, and the folder, too.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self {
            is_writer: true,
            ..Self::read(path)
        }
    }

    /// One that may be another process's: nothing is written.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// Returns the key of a zone.
    ///
    /// # Errors
    ///
    /// [`FolderError`] if it has none that can be used.
    pub fn key(&self, origin: &Name) -> Result<Arc<ZoneKey>, FolderError> {
        // A thread that panicked left a whole map.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(origin) {
            return Ok(Arc::clone(key));
        }
        let folder = self.path.as_ref().ok_or(FolderError::NoFolder)?;
        let path = folder.join(file_name(origin));
        let octets = match read(&path) {
            Err(FolderError::Missing { .. }) if self.is_writer => self.make(folder, &path)?,
            other => other?,
        };
        let octets = PrivatePkcs8KeyDer::from(octets);
        let key = ZoneKey::from_pkcs8(origin, &octets);
        let key = key.map_err(|source| FolderError::Damaged {
            path: path.clone(),
            source,
        })?;
        let key = Arc::new(key);
        known.insert(origin.clone(), Arc::clone(&key));
        Ok(key)
    }

    /// Makes a key, and writes it down.
    fn make(&self, folder: &Path, path: &Path) -> Result<Vec<u8>, FolderError> {
        let is_made = fs::DirBuilder::new().mode(0o700).create(folder);
        match is_made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|source| FolderError::Io {
                op: "make",
                path: folder.to_owned(),
                source,
            })?,
        }
        let octets = ZoneKey::generate().map_err(FolderError::Make)?;
        let octets = octets.secret_pkcs8_der().to_vec();
        published::write(path, &octets, 0o600).map_err(FolderError::Write)?;
        warn!(key = %path.display(), "a zone has a new key: whoever trusts it needs its DS (bulkhead dns keys)");
        Ok(octets)
    }
}

/// Reads the octets of a key.
fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    let wrap = |source| FolderError::Io {
        op: "read",
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned();
            return Err(FolderError::Missing { path });
        }
        other => other.map_err(wrap)?,
    };
    let mode = file.metadata().map_err(wrap)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(FolderError::Mode { path, mode });
    }
    let mut octets = Vec::new();
    file.take(LONGEST).read_to_end(&mut octets).map_err(wrap)?;
    Ok(octets)
}

/// A zone's name as the name of a file: what could lead out of the folder is written as the HTTP API does (`=2F`).
fn file_name(origin: &Name) -> String {
    let mut text = String::new();
    for character in origin.to_string().trim_end_matches('.').chars() {
        match character {
            'a'..='z' | '0'..='9' | '-' | '_' | '.' => text.push(character),
            other => text += &format!("={:02X}", u32::from(other)),
        }
    }
    text + ".pk8"
}

/// Returns the DS of a key in presentation form.
#[must_use]
pub fn shown_ds(key: &ZoneKey) -> String {
    let ds = key.ds();
    let data = ds.rdata.first();
    data.map_or_else(String::new, |data| rdata::show(rtype::DS, data))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn origin() -> Name {
        Name::absolute("64/26.0.1.10.in-addr.arpa").unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_read_by_whoever_comes_later() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys");
        let missing = KeyFolder::read(&path).key(&origin());
        assert!(matches!(missing, Err(FolderError::Missing { .. })));
        let tag = KeyFolder::open(&path).key(&origin()).unwrap().tag();
        let file = path.join("64=2F26.0.1.10.in-addr.arpa.pk8");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        for again in [KeyFolder::open(&path), KeyFolder::read(&path)] {
            assert_eq!(again.key(&origin()).unwrap().tag(), tag);
        }
    }

    #[test]
    fn a_damaged_key_is_an_error_with_the_file_and_the_remedy_and_is_left_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        KeyFolder::open(place.path()).key(&origin()).unwrap();
        let file = place.path().join(file_name(&origin()));
        let mut octets = fs::read(&file).unwrap();
        octets[50] ^= 0xff;
        fs::write(&file, &octets).unwrap();
        let error = KeyFolder::open(place.path()).key(&origin()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&*file.to_string_lossy()) && text.contains("backup"),
            "{text}"
        );
        assert_eq!(fs::read(&file).unwrap(), octets);
        // An empty file is what a crash without fsync would leave.
        fs::write(&file, b"").unwrap();
        assert!(KeyFolder::open(place.path()).key(&origin()).is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        KeyFolder::open(place.path()).key(&origin()).unwrap();
        let file = place.path().join(file_name(&origin()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = KeyFolder::open(place.path()).key(&origin());
        assert!(matches!(
            refused,
            Err(FolderError::Mode { mode: 0o640, .. })
        ));
    }
}
