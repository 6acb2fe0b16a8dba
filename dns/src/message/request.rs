//! What is read of a request before anything is known.
//!
//! The order of the cheap refusals: too short and responses are not answered at all (RFC 8906; two
//! servers must not talk to each other), then the opcode, then the question, then what follows it.

use super::{HEADER, UDP_MAX, UDP_PLAIN, rcode};
use crate::cookie::{self, Cookie};
use crate::name::MAX_NAME;
use crate::rdata::rtype;

/// A question and what came with it.
#[derive(Clone, Debug)]
pub struct Query {
    /// The message's id.
    pub id: u16,
    /// Third and fourth octet of the header.
    pub(super) flags: [u8; 2],
    /// The question's name in lower case.
    name: [u8; MAX_NAME],
    /// 0: there is no question (RFC 7873, 5.4).
    pub(super) name_length: usize,
    /// Type asked for.
    pub kind: u16,
    /// Class asked for.
    pub class: u16,
    /// The client's EDNS, if it has any.
    pub edns: Option<Edns>,
    /// Does a TSIG record end the message?
    pub is_signed: bool,
    /// The serial that the client of IXFR has (RFC 1995, 3).
    pub serial: Option<u32>,
    /// The client's cookie (RFC 7873).
    pub cookie: Option<Cookie>,
    /// The cookie that goes back.
    pub(crate) cookie_back: Option<[u8; cookie::BOTH]>,
}

/// A client's EDNS (RFC 6891).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edns {
    /// Largest UDP message it takes.
    pub payload: u16,
    /// 0 is the only one there is.
    pub version: u8,
    /// The flags: [`DNSSEC_OK`], [`COMPACT_OK`].
    pub flags: u16,
}

/// EDNS flag DO: the client wants signatures (RFC 3225).
pub const DNSSEC_OK: u16 = 0x8000;
/// EDNS flag CO: the client knows compact denials, and takes NXDOMAIN with them (RFC 9824, 5.1).
pub const COMPACT_OK: u16 = 0x4000;
/// Header flag CD: the client checks signatures itself (RFC 4035, 3.1.6).
pub(super) const CHECKING_DISABLED: u8 = 0x10;

/// What a message is.
#[derive(Debug)]
pub enum Read {
    /// Not to be answered.
    Silence,
    /// Only the header can be answered.
    Refuse(u16),
    /// A query whose question is good.
    Query(Box<Query>),
    /// A dynamic update (RFC 2136); its question section is its zone section.
    Update(Box<Query>),
}

impl Query {
    /// Returns the question's name in lower case.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.name_length).unwrap_or(&[])
    }

    /// Has it a question? Without one, it asks for a cookie (RFC 7873, 5.4).
    #[must_use]
    pub fn has_question(&self) -> bool {
        self.name_length > 0
    }

    /// Returns where the question ends.
    pub(crate) fn question_end(&self) -> usize {
        if self.has_question() {
            HEADER + self.name_length + 4
        } else {
            HEADER
        }
    }

    /// Returns how long the OPT record of a reply is, in octets, without an extended error.
    pub(crate) fn opt_length(&self) -> usize {
        match (self.edns, self.cookie_back) {
            (None, _) => 0,
            (Some(_), None) => 11,
            (Some(_), Some(_)) => 11 + 4 + cookie::BOTH,
        }
    }

    /// Does the client want others to be asked (RD)?
    #[must_use]
    pub fn wants_recursion(&self) -> bool {
        self.flags[0] & 0x01 != 0
    }

    /// Does the client want signatures?
    #[must_use]
    pub fn wants_dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.flags & DNSSEC_OK != 0)
    }

    /// Returns how long a UDP reply may be.
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        match self.edns {
            Some(edns) => usize::from(edns.payload).clamp(UDP_PLAIN, UDP_MAX),
            None => UDP_PLAIN,
        }
    }
}

/// Reads a message as far as it must be read to answer it.
#[must_use]
pub fn read(message: &[u8]) -> Read {
    let Some((header, _)) = message.split_first_chunk::<HEADER>() else {
        return Read::Silence;
    };
    let [a, b, flags, more, qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = *header;
    if flags & 0x80 != 0 {
        return Read::Silence;
    }
    let opcode = (flags >> 3) & 0xf;
    if !matches!(opcode, 0 | 5) {
        return Read::Refuse(rcode::NOTIMP);
    }
    let questions = u16::from_be_bytes([qd0, qd1]);
    if questions > 1 || (questions == 0 && opcode != 0) {
        return Read::Refuse(rcode::FORMERR);
    }
    let mut query = Box::new(Query {
        id: u16::from_be_bytes([a, b]),
        flags: [flags, more],
        name: [0; MAX_NAME],
        name_length: 0,
        kind: 0,
        class: 0,
        edns: None,
        is_signed: false,
        serial: None,
        cookie: None,
        cookie_back: None,
    });
    let counts = [[an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes);
    let question = match questions {
        0 => Some(()),
        _ => read_question(message, &mut query),
    };
    let good = question.and_then(|()| {
        if opcode == 0 && !has_query_sections(counts, query.kind) {
            return None;
        }
        read_records(message, &mut query, counts)?;
        (query.has_question() || query.cookie.is_some()).then_some(())
    });
    match (good, opcode) {
        (None, _) => Read::Refuse(rcode::FORMERR),
        (Some(()), 0) => Read::Query(query),
        (Some(()), _) => Read::Update(query),
    }
}

/// A query has nothing in its answer section, and only IXFR has one SOA in its authority section
/// (RFC 1995, 3).
fn has_query_sections([answers, authority, _]: [u16; 3], kind: u16) -> bool {
    answers == 0 && (authority == 0 || (authority == 1 && kind == rtype::IXFR))
}

fn read_question(message: &[u8], query: &mut Query) -> Option<()> {
    let mut rest = message.get(HEADER..)?;
    let mut length = 0;
    loop {
        let (&label, _) = rest.split_first()?;
        // A pointer in the first name of a message has nothing to point to.
        if label > 63 {
            return None;
        }
        let taken = usize::from(label) + 1;
        let (octets, after) = rest.split_at_checked(taken)?;
        let place = query.name.get_mut(length..length + taken)?;
        place.copy_from_slice(octets);
        place.make_ascii_lowercase();
        length += taken;
        rest = after;
        if label == 0 {
            break;
        }
    }
    query.name_length = length;
    let ([k0, k1, c0, c1], _) = rest.split_first_chunk::<4>()?;
    query.kind = u16::from_be_bytes([*k0, *k1]);
    query.class = u16::from_be_bytes([*c0, *c1]);
    Some(())
}

/// Reads what follows the question; `None` if it is cut off, is followed by something, or has two OPT.
fn read_records(message: &[u8], query: &mut Query, counts: [u16; 3]) -> Option<()> {
    let mut rest = message.get(query.question_end()..)?;
    for (section, count) in counts.into_iter().enumerate() {
        for index in 0..count {
            let is_root = rest.first() == Some(&0);
            rest = skip_name(rest)?;
            let (fixed, after) = rest.split_first_chunk::<10>()?;
            let [k0, k1, p0, p1, _, version, z0, z1, l0, l1] = *fixed;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let data = after.get(..length)?;
            rest = after.get(length..)?;
            let is_additional = section == 2;
            match u16::from_be_bytes([k0, k1]) {
                rtype::OPT if !is_additional || !is_root || query.edns.is_some() => return None,
                rtype::OPT => {
                    query.edns = Some(Edns {
                        payload: u16::from_be_bytes([p0, p1]),
                        version,
                        flags: u16::from_be_bytes([z0, z1]),
                    });
                    query.cookie = cookie::read(data)?;
                }
                // RFC 8945, 5.1: only the last record can be one.
                rtype::TSIG if !is_additional || index + 1 != count => return None,
                rtype::TSIG => query.is_signed = true,
                // The serial is the first of the five numbers at its end.
                rtype::SOA if section == 1 => {
                    let numbers = data.get(data.len().checked_sub(20)?..)?;
                    query.serial = numbers
                        .first_chunk::<4>()
                        .map(|octets| u32::from_be_bytes(*octets));
                }
                _ => {}
            }
        }
    }
    rest.is_empty().then_some(())
}

/// Returns what follows a name.
pub(crate) fn skip_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&label, after) = rest.split_first()?;
        rest = match label {
            0 => return Some(after),
            1..=63 => after.get(usize::from(label)..)?,
            0xc0..=0xff => return after.get(1..),
            _ => return None,
        };
    }
}
