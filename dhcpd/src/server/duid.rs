//! This server's DUID: made once, and kept beside the leases. A client that renews names it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Name of the file in the state folder: hexadecimal digits.
const FILE: &str = "duid";
/// DUID-UUID: RFC 6355.
const TYPE: [u8; 2] = [0, 4];

/// There is no DUID.
#[derive(Debug, Error)]
pub enum DuidError {
    /// The disk refuses.
    #[error("cannot keep the server's DUID in {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not what this server wrote.
    #[error(
        "{} is not a DUID in hexadecimal (remedy: restore it from a backup; or remove it, and clients of DHCPv6 rebind)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the DUID, or makes one: it is on the disk when this returns. The folder must be there.
pub(super) fn read_or_make(folder: &Path) -> Result<Vec<u8>, DuidError> {
    let path = folder.join(FILE);
    let known = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(&path).map_err(|source| DuidError::Io {
                path: path.clone(),
                source,
            })?
        }
        Err(source) => return Err(DuidError::Io { path, source }),
    };
    let duid = crate::scope::octets(known.trim_end());
    // RFC 8415 section 11.1: a type, and 1 to 128 octets.
    let duid = duid.filter(|duid| (3..=130).contains(&duid.len()));
    duid.ok_or(DuidError::Damaged { path })
}

fn make(path: &Path) -> io::Result<String> {
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut uuid)?;
    let octets = TYPE.iter().chain(&uuid);
    let text: String = octets.map(|octet| format!("{octet:02x}")).collect();
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = read_or_make(folder.path()).unwrap();
        assert!(first.len() == 18 && first.starts_with(&TYPE));
        assert_eq!(read_or_make(folder.path()).unwrap(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(read_or_make(other.path()).unwrap(), first);
    }

    #[test]
    fn a_file_that_is_something_else_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "00", "xyz", "0004f", "not a duid"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let error = read_or_make(folder.path()).unwrap_err();
            assert!(matches!(error, DuidError::Damaged { .. }), "{text:?}");
        }
    }
}
