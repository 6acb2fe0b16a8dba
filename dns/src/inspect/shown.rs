//! What is shown, once: as text for people (`Display`) and as JSON for programs (`Serialize`).

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde::Serialize;

use crate::name::Name;
use crate::rdata;
use crate::zone::RrSet;

/// Version of the JSON.
const FORMAT_VERSION: u32 = 1;
/// Views that are named in a text; of more it says how many.
const NAMED: usize = 12;

/// How to print.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs; has a `format_version`
    Json,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    format_version: u32,
    #[serde(flatten)]
    shown: &'a T,
}

impl Format {
    /// Returns what is printed.
    pub(super) fn print<T: fmt::Display + Serialize>(self, shown: &T) -> String {
        match self {
            Self::Text => shown.to_string(),
            Self::Json => {
                let versioned = Versioned {
                    format_version: FORMAT_VERSION,
                    shown,
                };
                // Maps with text as keys can always be written.
                let text = serde_json::to_string_pretty(&versioned);
                text.unwrap_or_default() + "\n"
            }
        }
    }
}

/// A record.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Record {
    name: String,
    ttl: u32,
    #[serde(rename = "type")]
    kind: String,
    data: String,
    /// Who says it.
    owner: String,
}

impl Record {
    /// Returns the records of a set.
    pub(super) fn all<'a>(name: &'a Name, set: &'a RrSet) -> impl Iterator<Item = Self> + use<'a> {
        set.rdata.iter().map(move |data| Self {
            name: name.to_string(),
            ttl: set.ttl,
            kind: rdata::type_name(set.rtype),
            data: rdata::show(set.rtype, data),
            owner: set.owner.to_string(),
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            ttl,
            kind,
            data,
            ..
        } = self;
        write!(f, "{name} {ttl} IN {kind} {data}")
    }
}

/// `keys`.
#[derive(Debug, Serialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
    /// What the parent of each signed zone needs.
    pub(super) signed_zones: Vec<SignedZone>,
    /// Keys that cannot be used, and why.
    pub(super) refused: Vec<String>,
}

/// A key of the file.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    pub(super) name: String,
    /// `tsig` or `http`.
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secondary: Option<String>,
    /// Where the secondary is; none if it is in no segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<SocketAddr>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_http = self.kind == "http";
        let name = if is_http {
            format!("{} (HTTP)", self.name)
        } else {
            self.name.clone()
        };
        write!(f, "{name:<24} ")?;
        match (&self.secondary, self.address, &self.tenant) {
            (Some(secondary), Some(address), _) => {
                write!(f, "secondary {secondary}: transfers to {address}")
            }
            (Some(secondary), None, _) => {
                write!(f, "secondary {secondary}: in no segment, gets nothing")
            }
            (None, _, tenant) => {
                let tenant = tenant.as_deref().unwrap_or_default();
                let what = if is_http {
                    "changes its own zones"
                } else {
                    "changes and transfers its own zones"
                };
                write!(f, "tenant {tenant}: {what}")
            }
        }
    }
}

/// A zone that is to be signed.
#[derive(Debug, Serialize)]
pub(super) struct SignedZone {
    pub(super) zone: String,
    /// The digest of its key; none if it has no key that can be used.
    pub(super) ds: Option<String>,
    /// Why it has none.
    pub(super) problem: Option<String>,
}

impl fmt::Display for SignedZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ds {
            Some(ds) => write!(f, "{} IN DS {ds}", self.zone),
            None => write!(
                f,
                "; {} has no key that can be used: {}",
                self.zone,
                self.problem.as_deref().unwrap_or_default()
            ),
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        lines.sort();
        lines.extend(self.refused.iter().map(|why| format!("refused: {why}")));
        if lines.is_empty() {
            lines.push("no keys".to_owned());
        }
        if !self.signed_zones.is_empty() {
            lines.push("signed zones, for their parents and for who trusts them:".to_owned());
            lines.extend(self.signed_zones.iter().map(ToString::to_string));
        }
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// `list`.
#[derive(Debug, Serialize)]
pub(super) struct Zones {
    pub(super) zones: Vec<Zone>,
}

/// A zone, or a part of one that views of their own see.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Zone {
    pub(super) zone: String,
    pub(super) serial: u32,
    pub(super) records: usize,
    /// How many views see it.
    pub(super) views: usize,
    /// None: the platform's.
    pub(super) tenant: Option<String>,
    pub(super) is_signed: bool,
}

impl fmt::Display for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.zones.iter().map(|zone| zone.zone.len()).max();
        let width = width.unwrap_or(0).max(4);
        writeln!(
            f,
            "{:<width$} {:>10} {:>8} {:>6}  OWNER",
            "ZONE", "SERIAL", "RECORDS", "VIEWS"
        )?;
        self.zones.iter().try_for_each(|zone| {
            writeln!(
                f,
                "{:<width$} {:>10} {:>8} {:>6}  {}{}",
                zone.zone,
                zone.serial,
                zone.records,
                zone.views,
                zone.tenant.as_deref().unwrap_or("platform"),
                if zone.is_signed { ", signed" } else { "" }
            )
        })
    }
}

/// `explain`.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    pub(super) name: String,
    pub(super) told: Vec<Told>,
}

/// What some views are told of a name.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// Who they are.
    pub(super) views: Vec<String>,
    #[serde(flatten)]
    pub(super) answer: Answer,
}

/// What a view is told of a name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Answer {
    /// The zone that it is in, if it is in one.
    pub(super) zone: Option<String>,
    pub(super) serial: Option<u32>,
    pub(super) records: Vec<Record>,
    /// What is said instead of records.
    pub(super) instead: Option<Cow<'static, str>>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(zone), Some(serial)) = (&self.zone, self.serial) {
            writeln!(f, "  zone {zone} serial {serial}")?;
        }
        for record in &self.records {
            writeln!(f, "  {record}  ({})", record.owner)?;
        }
        let mut instead = self.instead.iter();
        instead.try_for_each(|text| writeln!(f, "  {text}"))
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Told { views, answer } in &self.told {
            let named: Vec<&str> = views.iter().take(NAMED).map(String::as_str).collect();
            write!(f, "to {}", named.join(", "))?;
            if views.len() > NAMED {
                write!(f, " and {} more", views.len() - NAMED)?;
            }
            write!(f, ":\n{answer}")?;
        }
        Ok(())
    }
}

/// `export`.
#[derive(Debug, Serialize)]
pub(super) struct Exported {
    pub(super) zone: String,
    /// The SOA comes first.
    pub(super) records: Vec<Record>,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut records = self.records.iter();
        records.try_for_each(|record| writeln!(f, "{record}"))
    }
}

/// `test-key`.
#[derive(Debug, Serialize)]
pub struct KeyTested {
    /// The key.
    pub key: String,
    /// Who was asked.
    pub server: SocketAddr,
    /// What the key may change.
    pub zone: String,
    /// The zone's serial, if it was told.
    pub serial: Option<u32>,
    /// The server's clock less ours, in seconds.
    pub clock_skew_seconds: i64,
}

impl fmt::Display for KeyTested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let serial = self
            .serial
            .map_or("unknown".into(), |serial| serial.to_string());
        writeln!(
            f,
            "{} works at {}: it may change {} (serial {serial}) and read it back; nothing was changed. Clocks differ by {} s.",
            self.key, self.server, self.zone, self.clock_skew_seconds
        )
    }
}

/// `import`.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// The file.
    pub file: String,
    /// The key whose they are now.
    pub key: String,
    /// The zone that they are in.
    pub zone: String,
    /// How many records it had.
    pub records: usize,
    /// How many were left out: SOA, the zone's NS, and what the server makes.
    pub left_out: usize,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            key,
            zone,
            records,
            left_out,
        } = self;
        write!(f, "{records} records of {file} are {key}'s in {zone}")?;
        if *left_out > 0 {
            write!(f, "; left out: {left_out} of SOA, the zone's NS and DNSSEC")?;
        }
        writeln!(f)
    }
}
