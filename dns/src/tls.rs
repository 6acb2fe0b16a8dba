//! The certificate that DNS over TLS and the HTTP API show, read again when it changes.
//!
//! A pair of files that does not fit together, or cannot be read, leaves the one before it in place, and is said
//! once: a program that renews certificates writes one file after the other.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

use crate::follow::{Stamp, stamp};

/// Where certificate and key are, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Files {
    /// The certificate, and those that it is signed by.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("cannot use {} (remedy: a certificate and its key, in PEM)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// The key's file cannot be looked at.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Everybody could read the key.
    #[error("{} has mode {mode:o}: everybody can read the key (remedy: chmod o= {})", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// They do not fit together.
    #[error("{} is not the key of {}", files.key.display(), files.certificate.display())]
    Pair {
        /// The files.
        files: Files,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The library refuses its own defaults.
    #[error("cannot set TLS up")]
    Setup(#[source] rustls::Error),
}

/// The certificate as it is now.
pub(crate) struct Certificates {
    files: Files,
    provider: Arc<CryptoProvider>,
    seen: Mutex<(Stamp, Stamp)>,
    current: ArcSwap<CertifiedKey>,
}

impl Certificates {
    /// Reads the files.
    pub(crate) fn load(files: &Files) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let seen = stamps(files);
        let current = read(files, &provider)?;
        Ok(Arc::new(Self {
            files: files.clone(),
            provider,
            seen: Mutex::new(seen),
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// Reads them again if they changed, or in any case.
    pub(crate) fn reload(&self, in_any_case: bool) {
        let now = stamps(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now && !in_any_case {
            return;
        }
        *seen = now;
        match read(&self.files, &self.provider) {
            Ok(current) => {
                self.current.store(Arc::new(current));
                info!(certificate = %self.files.certificate.display(), "the certificate was read again");
            }
            Err(reason) => {
                error!(error = %crate::chain(&reason), "the certificate stays as it was");
            }
        }
    }

    /// Returns what makes TLS of connections, for one protocol (RFC 7301).
    pub(crate) fn acceptor(self: &Arc<Self>, protocol: &[u8]) -> Result<TlsAcceptor, TlsError> {
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let config = config.with_safe_default_protocol_versions();
        let mut config = config
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config).into())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn stamps(files: &Files) -> (Stamp, Stamp) {
    (stamp(&files.certificate), stamp(&files.key))
}

fn read(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let wrap = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate);
    let chain: Result<Vec<_>, _> = chain.map_err(wrap(&files.certificate))?.collect();
    let chain = chain.map_err(wrap(&files.certificate))?;
    let about = std::fs::metadata(&files.key).map_err(|source| TlsError::Io {
        path: files.key.clone(),
        source,
    })?;
    if about.mode() & 0o007 != 0 {
        return Err(TlsError::Mode {
            path: files.key.clone(),
            mode: about.mode() & 0o7777,
        });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrap(&files.key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair {
        files: files.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn write(folder: &Path) -> Files {
        let made = rcgen::generate_simple_self_signed(["ns.example".to_owned()]).unwrap();
        let files = Files {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
        };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
        files
    }

    #[test]
    fn a_new_certificate_is_taken_and_one_without_its_key_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path());
        let certificates = Certificates::load(&files).unwrap();
        let shown = || certificates.current.load().cert.clone();
        let first = shown();
        certificates.reload(true);
        assert_eq!(shown(), first, "the same");
        // One file of two.
        let other = tempfile::tempdir().unwrap();
        let others = write(other.path());
        std::fs::copy(&others.certificate, &files.certificate).unwrap();
        certificates.reload(false);
        assert_eq!(shown(), first, "half of a pair");
        std::fs::copy(&others.key, &files.key).unwrap();
        certificates.reload(false);
        assert_ne!(shown(), first);
    }

    #[test]
    fn a_key_that_everybody_can_read_or_of_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path());
        let mode = |mode| {
            std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o644);
        assert!(matches!(
            Certificates::load(&files),
            Err(TlsError::Mode { .. })
        ));
        mode(0o600);
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(write(other.path()).key, &files.key).unwrap();
        assert!(matches!(
            Certificates::load(&files),
            Err(TlsError::Pair { .. })
        ));
        std::fs::write(&files.key, "nothing").unwrap();
        assert!(matches!(
            Certificates::load(&files),
            Err(TlsError::File { .. })
        ));
    }
}
