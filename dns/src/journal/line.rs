//! One line of the journal: a change of a zone, with a sum in front.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::name::Name;
use crate::zone::{RrOwner, RrSet};

/// A line of the file.
#[derive(Deserialize, Serialize)]
pub(super) struct Line {
    pub(super) tenant: Arc<str>,
    pub(super) zone: String,
    pub(super) changes: u32,
    pub(super) sets: Vec<LineSet>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct LineSet {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Arc<str>>,
    #[serde(default)]
    pub(super) ttl: u32,
    #[serde(default)]
    pub(super) rdata: Vec<String>,
}

impl LineSet {
    pub(super) fn new((name, kind): &(Name, u16), set: Option<&RrSet>) -> Self {
        Self {
            name: name.to_string(),
            kind: *kind,
            key: match set.map(|set| &set.owner) {
                Some(RrOwner::Key(key)) => Some(Arc::clone(key)),
                _ => None,
            },
            ttl: set.map_or(0, |set| set.ttl),
            rdata: set.map_or_else(Vec::new, |set| {
                set.rdata.iter().map(|data| hex(data)).collect()
            }),
        }
    }

    /// Returns the set; `None` if it was removed, or cannot be read.
    pub(super) fn read(&self) -> Option<RrSet> {
        let rdata: Option<Vec<Box<[u8]>>> = self.rdata.iter().map(|text| unhex(text)).collect();
        Some(RrSet {
            rtype: self.kind,
            ttl: self.ttl,
            rdata: rdata.filter(|rdata| !rdata.is_empty())?,
            owner: RrOwner::Key(self.key.clone().unwrap_or_else(|| "".into())),
        })
    }
}

pub(super) fn write_line(line: &Line) -> String {
    let json = serde_json::to_string(line).expect("text, numbers and lists can be written as JSON");
    format!("{} {json}\n", sum(json.as_bytes()))
}

pub(super) fn read_line(line: &[u8]) -> Option<Line> {
    let line = line.strip_suffix(b"\n")?;
    let (found, rest) = line.split_at_checked(16)?;
    let json = rest.strip_prefix(b" ")?;
    if found != sum(json).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

pub(super) fn sum(json: &[u8]) -> String {
    hex(Sha256::digest(json).get(..8).unwrap_or(&[]))
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Box<[u8]>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}
