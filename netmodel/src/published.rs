//! A generation as a file: what the controller stores and publishes, and what DHCP and DNS read.
//!
//! # Format
//!
//! A line of JSON, ended by a line feed: the [`Head`], at most [`HEAD_BYTES`] long. All that follows is the [`Body`]: one
//! Zstandard frame (RFC 8878), which is the [`Model`] as JSON. `tail -n +2 generation | zstd -d` shows it.
//!
//! ```text
//! {"format_version":2,"number":7,"inventory":"…","bytes":48213,"sha256":"…"}
//! ```
//!
//! # Guarantees
//!
//! * **Whole or not at all.** [`write()`] replaces the file in one step: a reader sees the old or the new one.
//! * **Durable.** When [`write()`] returns, the file and its name are on the disk.
//! * **Checked.** [`read()`] refuses what is cut off, changed, or of another format.
//!
//! The file is trusted to be the controller's: its folder is writable by root only.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::Model;

/// Where the controller publishes unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/bulkhead/generation";
/// Version of the format.
pub const FORMAT_VERSION: u32 = 2;
/// Longest head, in octets.
pub const HEAD_BYTES: u64 = 4096;
/// Longest model, in octets of JSON; a longer body is refused, too.
pub const MODEL_BYTES: u64 = 1 << 30;
/// How hard Zstandard tries: models are so regular that the fastest level leaves a thirtieth of them.
const LEVEL: i32 = 1;

/// The first line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Head {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Number of the generation: only grows.
    pub number: u32,
    /// [`crate::Sources::digest`] of the inventory that the model is of.
    pub inventory: String,
    /// Octets of the model's JSON, at most [`MODEL_BYTES`].
    pub bytes: u64,
    /// SHA-256 of the body, in lower-case hexadecimal.
    pub sha256: String,
}

/// A generation.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its number.
    pub number: u32,
    /// Digest of the inventory.
    pub inventory: String,
    /// The desired state.
    pub model: Model,
}

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum PublishedError {
    /// It cannot be read or written.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file or its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It was written by another version of bulkhead.
    #[error(
        "{} has format {found}, this bulkhead reads format {FORMAT_VERSION} \
         (remedy: `bulkhead apply` with this version)",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl PublishedError {
    /// Is there no such file?
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads and checks a generation.
///
/// # Errors
///
/// [`PublishedError`] if it is absent, damaged, or of another format.
pub fn read(path: &Path) -> Result<Published, PublishedError> {
    let wrap = |source| PublishedError::Io {
        op: "read",
        path: path.to_owned(),
        source,
    };
    let damaged = |what: String| PublishedError::Damaged {
        path: path.to_owned(),
        what,
    };
    let mut file = BufReader::new(File::open(path).map_err(wrap)?);
    let head = read_head(&mut file, path)?;
    if head.bytes > MODEL_BYTES {
        return Err(damaged(format!("it says it has {} octets", head.bytes)));
    }
    let mut body = Vec::new();
    file.take(MODEL_BYTES)
        .read_to_end(&mut body)
        .map_err(wrap)?;
    if digest(&body) != head.sha256 {
        return Err(damaged("its checksum is another".to_owned()));
    }
    let text = unpacked(&body, head.bytes).map_err(|error| damaged(error.to_string()))?;
    let model = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    Ok(Published {
        number: head.number,
        inventory: head.inventory,
        model,
    })
}

/// Reads the first line only: which generation is it?
///
/// # Errors
///
/// As [`read()`]; the model is not checked.
pub fn head(path: &Path) -> Result<Head, PublishedError> {
    let file = File::open(path).map_err(|source| PublishedError::Io {
        op: "read",
        path: path.to_owned(),
        source,
    })?;
    read_head(&mut BufReader::new(file), path)
}

fn read_head(file: &mut BufReader<File>, path: &Path) -> Result<Head, PublishedError> {
    #[derive(Deserialize)]
    struct Format {
        format_version: u32,
    }
    let damaged = |error: serde_json::Error| PublishedError::Damaged {
        path: path.to_owned(),
        what: format!("its first line: {error}"),
    };
    let mut line = Vec::new();
    let read = file.by_ref().take(HEAD_BYTES).read_until(b'\n', &mut line);
    read.map_err(|source| PublishedError::Io {
        op: "read",
        path: path.to_owned(),
        source,
    })?;
    let format: Format = serde_json::from_slice(&line).map_err(damaged)?;
    if format.format_version != FORMAT_VERSION {
        return Err(PublishedError::Format {
            path: path.to_owned(),
            found: format.format_version,
        });
    }
    serde_json::from_slice(&line).map_err(damaged)
}

/// The second part of the file: a model, packed. Making it takes most of the time that a large generation takes.
#[derive(Clone, Debug)]
pub struct Body {
    packed: Vec<u8>,
    bytes: u64,
    sha256: String,
}

impl Body {
    /// Packs a model.
    ///
    /// # Panics
    ///
    /// Never: a model is made of text, numbers and lists, and memory takes what is written to it.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let json = serde_json::to_vec(model).expect("a model can be written as JSON");
        let packed = zstd::bulk::compress(&json, LEVEL).expect("memory takes what is packed");
        Self {
            bytes: json.len() as u64,
            sha256: digest(&packed),
            packed,
        }
    }

    /// Returns the whole file's octets.
    ///
    /// # Panics
    ///
    /// Never: a head is made of text and numbers.
    #[must_use]
    pub fn to_file(&self, number: u32, inventory: &str) -> Vec<u8> {
        let head = Head {
            format_version: FORMAT_VERSION,
            number,
            inventory: inventory.to_owned(),
            bytes: self.bytes,
            sha256: self.sha256.clone(),
        };
        let mut octets = serde_json::to_vec(&head).expect("a head can be written as JSON");
        octets.push(b'\n');
        octets.extend_from_slice(&self.packed);
        octets
    }
}

/// Unpacks what should be `bytes` octets, and never more.
fn unpacked(body: &[u8], bytes: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let unpacker = zstd::Decoder::with_buffer(body)?;
    unpacker.take(bytes + 1).read_to_end(&mut text)?;
    if text.len() as u64 == bytes {
        Ok(text)
    } else {
        Err(io::Error::other(format!("it does not have {bytes} octets")))
    }
}

impl Published {
    /// Returns the file's octets.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        Body::new(&self.model).to_file(self.number, &self.inventory)
    }
}

/// Writes or replaces a file in one step. `mode` is the file's, for example `0o640`.
///
/// # Errors
///
/// [`PublishedError::Io`]; the old file, if there was one, is then untouched.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PublishedError> {
    let wrap = |op, path: &Path| {
        let path = path.to_owned();
        move |source| PublishedError::Io { op, path, source }
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options.open(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&draft, path));
    if replaced.is_err() {
        // What cannot be removed is a draft that nobody reads.
        let _ = fs::remove_file(&draft);
    }
    replaced.map_err(wrap("write", path))?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(wrap("sync the folder", folder))
}

/// Returns the SHA-256 of octets, in lower-case hexadecimal.
#[must_use]
pub fn digest(octets: &[u8]) -> String {
    hex(&Sha256::digest(octets))
}

/// Returns octets in lower-case hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
