//! DHCP leases as a file: what `bulkhead-dhcpd` writes, and what everything else follows.
//!
//! # Format
//!
//! Text, one line per change of a lease, in the order in which they happened:
//!
//! ```text
//! bulkhead-leases 1 0
//! 1 100 10.100.0.20 02:00:00:00:01:14 bound 1700000000 1700003600 01020000000114 web 5f3a0c11
//! 2 100 10.100.0.20 02:00:00:00:01:14 released 1700000000 1700000042 01020000000114 web 0badcafe
//! ```
//!
//! The first line is the name, the format's version, and the *base*: the number of the last change that the
//! first lines sum up. Then number, VLAN id, address, hardware address, state, since and until (seconds
//! since 1970-01-01 UTC), client identifier (hexadecimal, `-` is none; of DHCPv6, 255, IAID and DUID as in RFC 4361), host
//! name (`-` is none), and the
//! CRC-32 (IEEE) of the line up to the blank before it, in eight hexadecimal digits.
//!
//! A line says the whole state of one address: to read a line twice does no harm. Lines with a number up to
//! the base are a summary: one per address that has a state, in no order. Behind them numbers grow by one.
//!
//! # Guarantees
//!
//! * A line that is there, whole and with the right checksum, is durable once a later read sees it again
//!   after a crash of the machine; an acknowledged lease always is.
//! * The file only grows, or is replaced in one step by one that is a summary of it ([`Follow`] copes).
//! * What follows the last good line is a write that was cut off: it never was acknowledged.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::ids::{MacAddr, VlanId};

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/bulkhead/dhcp/leases";
/// Name of the file in its folder.
pub const FILE: &str = "leases";
/// Version of the format.
pub const FORMAT_VERSION: u32 = 1;
/// Longest line, in octets.
pub const LINE_BYTES: u64 = 1024;
const NAME: &str = "bulkhead-leases";

/// What became of an address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The client holds it until [`Lease::until`].
    Bound,
    /// The client gave it back.
    Released,
    /// The client let it run out.
    Expired,
    /// The server took it back: the inventory gives the client, or the address, another partner.
    Revoked,
    /// Somebody else uses it: not given to anybody until [`Lease::until`].
    Declined,
}

impl State {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Bound, "bound"),
        (Self::Released, "released"),
        (Self::Expired, "expired"),
        (Self::Revoked, "revoked"),
        (Self::Declined, "declined"),
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(state, _)| state == self);
        f.pad(name.map_or("", |(_, name)| name))
    }
}

/// The state of one address.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct Lease {
    /// The client.
    pub mac: MacAddr,
    /// What became of the address.
    pub state: State,
    /// Since when the client has or had it, in seconds since 1970-01-01 UTC.
    pub since: u64,
    /// Until when it is, or was, in this state; the end of the lease if it has ended.
    pub until: u64,
    /// Client identifier (option 61); empty is none.
    #[serde(serialize_with = "as_hex")]
    pub client_id: Box<[u8]>,
    /// The name that the client says it has, if it is a host name; empty is none.
    pub hostname: Box<str>,
}

#[expect(clippy::borrowed_box, reason = "serde's shape")]
fn as_hex<S: serde::Serializer>(octets: &Box<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::published::hex(octets))
}

/// One line of the file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Number of the change.
    pub number: u64,
    /// VLAN id of the segment.
    pub vlan: VlanId,
    /// The address, of either family.
    pub address: IpAddr,
    /// Its state from then on.
    #[serde(flatten)]
    pub lease: Lease,
}

/// Is this a host name that can be kept: letters, digits, hyphens, at most 63?
#[must_use]
pub fn is_hostname(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-')
}

/// Returns the first line of a file.
#[must_use]
pub fn head_line(base: u64) -> String {
    format!("{NAME} {FORMAT_VERSION} {base}\n")
}

/// Appends the line of an entry, with its line feed.
pub fn push_line(line: &mut String, entry: &Entry) {
    use fmt::Write as _;
    let (start, lease) = (line.len(), &entry.lease);
    // Writing into a `String` does not fail.
    let _ = write!(
        line,
        "{} {} {} {} {} {} {} ",
        entry.number, entry.vlan, entry.address, lease.mac, lease.state, lease.since, lease.until
    );
    for octet in &lease.client_id {
        let _ = write!(line, "{octet:02x}");
    }
    line.push_str(if lease.client_id.is_empty() {
        "- "
    } else {
        " "
    });
    line.push_str(if lease.hostname.is_empty() {
        "-"
    } else {
        &lease.hostname
    });
    let checksum = crc32fast::hash(line.as_bytes().get(start..).unwrap_or_default());
    let _ = writeln!(line, " {checksum:08x}");
}

/// Parses a line without its line feed; `None` if it is not whole.
#[must_use]
pub fn parse_line(line: &[u8]) -> Option<Entry> {
    let (text, checksum) = line.split_at_checked(line.len().checked_sub(9)?)?;
    let checksum = std::str::from_utf8(checksum).ok()?.strip_prefix(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(text) {
        return None;
    }
    let mut fields = std::str::from_utf8(text).ok()?.split(' ');
    let number = field(fields.next())?;
    let vlan = VlanId::new(field(fields.next())?)?;
    let address = field(fields.next())?;
    let mac = field(fields.next())?;
    let state = fields.next()?;
    let (state, _) = State::ALL.into_iter().find(|(_, name)| *name == state)?;
    let (since, until) = (field(fields.next())?, field(fields.next())?);
    let client_id = octets(fields.next()?)?;
    let hostname = match fields.next()? {
        "-" => "",
        name => name,
    };
    let whole = fields.next().is_none();
    whole.then(|| Entry {
        number,
        vlan,
        address,
        lease: Lease {
            mac,
            state,
            since,
            until,
            client_id,
            hostname: hostname.into(),
        },
    })
}

fn field<T: FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

fn octets(text: &str) -> Option<Box<[u8]>> {
    if text == "-" {
        return Some(Box::default());
    }
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The leases cannot be read.
#[derive(Debug, Error)]
pub enum LeasesError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its first line is not one.
    #[error("{} is not a lease file of format {FORMAT_VERSION}: its first line is {found:?}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line.
        found: String,
    },
}

/// What [`Follow::next`] gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// What was read before is no longer a basis: forget it all. A summary follows.
    Restart,
    /// A change, or a line of the summary.
    Entry(Entry),
}

/// Reads the file while it is written, over every replacement.
///
/// To go on after a restart of the reader, keep the number of the last [`Entry`] and give it to
/// [`Follow::open`]: what was read before comes again only if it was summed up since.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: BufReader<File>,
    inode: u64,
    /// Start of the next line.
    offset: u64,
    /// Number of the last entry that was given.
    last: u64,
    base: u64,
    restart: bool,
    line: Vec<u8>,
}

impl Follow {
    /// Opens the file behind the change with the number `after`; 0 is from the start.
    ///
    /// # Errors
    ///
    /// [`LeasesError`], also if the file is not there (yet).
    pub fn open(path: &Path, after: u64) -> Result<Self, LeasesError> {
        let wrap = |source| LeasesError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(wrap)?;
        let inode = file.metadata().map_err(wrap)?.ino();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut line = Vec::new();
        io::Read::take(&mut file, LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(wrap)?;
        let base = parse_head(&line).ok_or_else(|| LeasesError::Format {
            path: path.to_owned(),
            found: String::from_utf8_lossy(&line).trim_end().to_owned(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            inode,
            offset: line.len() as u64,
            last: after,
            base,
            restart: after < base,
            line,
        })
    }

    /// Returns the next step, or `None` if there is nothing new yet.
    ///
    /// # Errors
    ///
    /// [`LeasesError`]
    #[expect(
        clippy::should_implement_trait,
        reason = "it is not over when it says `None`"
    )]
    pub fn next(&mut self) -> Result<Option<Step>, LeasesError> {
        loop {
            if self.restart {
                self.restart = false;
                self.last = 0;
                return Ok(Some(Step::Restart));
            }
            let Some(entry) = self.next_line()? else {
                if !self.is_replaced() {
                    // The summary is read to its end: it need not come again.
                    self.last = self.last.max(self.base);
                    return Ok(None);
                }
                *self = Self::open(&self.path, self.last)?;
                continue;
            };
            // Lines of the summary carry numbers of their own past; they all count as the base.
            let known =
                entry.number <= self.last && (entry.number > self.base || self.last >= self.base);
            if !known {
                if entry.number > self.base {
                    self.last = entry.number;
                }
                return Ok(Some(Step::Entry(entry)));
            }
        }
    }

    /// Number of the last change that was given; where to go on.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.last
    }

    /// Octets up to the end of the last whole line.
    #[must_use]
    pub fn good_bytes(&self) -> u64 {
        self.offset
    }

    fn next_line(&mut self) -> Result<Option<Entry>, LeasesError> {
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| LeasesError::Io { path, source }
        };
        self.line.clear();
        let limited = io::Read::take(&mut self.file, LINE_BYTES).read_until(b'\n', &mut self.line);
        limited.map_err(wrap(&self.path))?;
        let entry = self.line.strip_suffix(b"\n").and_then(parse_line);
        if entry.is_some() {
            self.offset += self.line.len() as u64;
        } else {
            let back = self.file.seek(SeekFrom::Start(self.offset));
            back.map_err(wrap(&self.path))?;
        }
        Ok(entry)
    }

    fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| now.ino() != self.inode)
    }
}

fn parse_head(line: &[u8]) -> Option<u64> {
    let mut fields = std::str::from_utf8(line)
        .ok()?
        .strip_suffix('\n')?
        .split(' ');
    let fits = fields.next()? == NAME && field(fields.next()) == Some(FORMAT_VERSION);
    let base = field(fields.next())?;
    (fits && fields.next().is_none()).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client_id: &[u8], hostname: &str, state: State) -> Entry {
        Entry {
            number: 7,
            vlan: VlanId::new(100).unwrap(),
            address: [10, 100, 0, 20].into(),
            lease: Lease {
                mac: MacAddr([2, 0, 0, 0, 1, 0x14]),
                state,
                since: 1_700_000_000,
                until: 1_700_003_600,
                client_id: client_id.into(),
                hostname: hostname.into(),
            },
        }
    }

    fn line(entry: &Entry) -> String {
        let mut line = String::new();
        push_line(&mut line, entry);
        line
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for (state, _) in State::ALL {
            for (id, name) in [(&[1, 2, 0xff][..], "web"), (&[], ""), (&[0; 255], "a")] {
                let entry = entry(id, name, state);
                let text = line(&entry);
                assert!(text.len() as u64 <= LINE_BYTES);
                assert_eq!(parse_line(text.trim_end().as_bytes()), Some(entry));
            }
        }
    }

    #[test]
    fn a_line_is_in_the_documented_form() {
        let entry = entry(&[1, 2, 0, 0, 0, 1, 0x14], "web", State::Bound);
        let text = line(&entry);
        let (fields, checksum) = text.trim_end().rsplit_once(' ').unwrap();
        let documented =
            "7 100 10.100.0.20 02:00:00:00:01:14 bound 1700000000 1700003600 01020000000114 web";
        assert_eq!(fields, documented);
        assert_eq!(
            checksum,
            format!("{:08x}", crc32fast::hash(documented.as_bytes()))
        );
    }

    #[test]
    fn a_line_with_one_wrong_octet_is_not_read() {
        let text = line(&entry(&[1, 2, 3], "web", State::Released));
        let whole = text.trim_end().as_bytes();
        for at in 0..whole.len() {
            for flip in [1, 0x20, 0x80] {
                let mut wrong = whole.to_vec();
                wrong[at] ^= flip;
                // Hexadecimal digits of the checksum mean the same in both cases.
                let is_case =
                    at + 8 >= whole.len() && flip == 0x20 && wrong[at].is_ascii_alphabetic();
                assert_eq!(parse_line(&wrong).is_none(), !is_case, "octet {at}");
            }
            assert_eq!(
                parse_line(whole.get(..at).unwrap()),
                None,
                "cut off at {at}"
            );
        }
    }

    #[test]
    fn only_host_names_are_host_names() {
        let long = "a".repeat(64);
        for (name, is) in [
            ("web-1", true),
            ("", false),
            ("-a", false),
            ("a b", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_hostname(name), is, "{name:?}");
        }
    }
}
