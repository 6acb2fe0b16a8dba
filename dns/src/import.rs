//! `bulkhead-dns import FILE --key NAME`: a master file (RFC 1035, 5) becomes records of a tenant's zone, in one signed update.
//!
//! All of it or nothing: one message is atomic (RFC 2136, 3.4.2.7). The records belong to the key, as if its Terraform had made them, so what
//! the inventory has stays the inventory's: then the server refuses all. SOA, and NS of the zone itself, are the platform's, keys,
//! signatures and proofs the server's: they are left out.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hickory_proto::rr::{Name, Record, RecordType};
use hickory_proto::serialize::txt::{ParseError, Parser};
use thiserror::Error;

use crate::client::{Client, ClientError};
use crate::dnssec;
use crate::inspect::Imported;
use crate::world::World;
use crate::zone::DEFAULT_TTL;

/// Longest file, in octets: many times what a message can hold.
const LONGEST: u64 = 1 << 20;

/// Nothing was imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It would read other files.
    #[error("{}:{line}: `$INCLUDE` is not read (remedy: put the records into this file)", path.display())]
    Include {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// It is no master file.
    #[error("{} is no master file (RFC 1035, 5) that can be read (remedy: leave out keys, signatures and proofs, if that is it)", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
    /// A record of another zone.
    #[error("{}: {name} is not in {zone}, the zone of the key (remedy: remove it, or write `$ORIGIN {zone}` at the top)", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The record's name.
        name: String,
        /// The key's zone.
        zone: String,
    },
    /// There is nothing in it.
    #[error("{} has no records to import", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Imports a file; returns what to tell.
///
/// # Errors
///
/// [`ImportError`]; then nothing was changed.
pub fn run(
    world: &World,
    path: &Path,
    key: &str,
    server: Option<SocketAddr>,
) -> Result<Imported, ImportError> {
    let client = Client::new(world, key, server)?;
    let text = read_text(path).map_err(|source| ImportError::Io {
        path: path.to_owned(),
        source,
    })?;
    let records = read(&text, path, &client.zone)?;
    let (wanted, left): (Vec<Record>, Vec<Record>) = records
        .into_iter()
        .partition(|record| !is_of_platform(record, &client.zone));
    if wanted.is_empty() {
        let path = path.to_owned();
        return Err(ImportError::Empty { path });
    }
    let count = wanted.len();
    let mut update = client.update();
    update.add_authorities(wanted);
    client.exchange(&update, "update")?;
    Ok(Imported {
        file: path.display().to_string(),
        key: key.to_owned(),
        zone: client.zone.to_string(),
        records: count,
        left_out: left.len(),
    })
}

/// Reads the file, or so much of it that a message cannot hold it.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    if text.len() as u64 == LONGEST {
        return Err(io::Error::other(format!(
            "it is longer than {LONGEST} octets"
        )));
    }
    Ok(text)
}

/// Reads the text of a master file: the records of a zone.
///
/// # Errors
///
/// [`ImportError`] if it is none, would read others, or has a record that is not in the zone.
pub fn read(text: &str, path: &Path, zone: &Name) -> Result<Vec<Record>, ImportError> {
    let includes = |line: &str| {
        let word = line.split_whitespace().next();
        word.is_some_and(|word| word.eq_ignore_ascii_case("$INCLUDE"))
    };
    if let Some(index) = text.lines().position(includes) {
        let (path, line) = (path.to_owned(), index + 1);
        return Err(ImportError::Include { path, line });
    }
    // Where nothing is said, as in the inventory.
    let text = format!("$TTL {DEFAULT_TTL}\n{text}");
    let parser = Parser::new(text, None, Some(zone.clone()));
    let (_, sets) = parser.parse().map_err(|source| ImportError::Parse {
        path: path.to_owned(),
        source,
    })?;
    let records = sets.values().flat_map(|set| set.records_without_rrsigs());
    let records: Vec<Record> = records.cloned().collect();
    match records.iter().find(|record| !zone.zone_of(&record.name)) {
        Some(record) => Err(ImportError::Foreign {
            path: path.to_owned(),
            name: record.name.to_string(),
            zone: zone.to_string(),
        }),
        None => Ok(records),
    }
}

fn is_of_platform(record: &Record, zone: &Name) -> bool {
    let kind = record.record_type();
    kind == RecordType::SOA
        || (kind == RecordType::NS && record.name == *zone)
        || dnssec::is_made(kind.into())
}
