//! DNS messages: what is read of a request before anything is known, and how a reply is put together.
//!
//! The order of the cheap refusals: too short and responses are not answered at all (RFC 8906; two
//! servers must not talk to each other), then the opcode, then the question, then what follows it.

use crate::compose::Body;
use crate::cookie::{self, Cookie};
use crate::name::MAX_NAME;
use crate::rdata::rtype;

/// Octets of the header.
pub const HEADER: usize = 12;
/// Longest UDP reply to a client without EDNS (RFC 1035, 2.3.4).
pub const UDP_PLAIN: usize = 512;
/// Longest UDP reply at all: fits every path without fragments (RFC 9715, 3.1).
pub const UDP_MAX: usize = 1232;
/// Longest message over TCP.
pub const TCP_MAX: usize = 65_535;

/// Response codes.
pub mod rcode {
    #![expect(missing_docs, reason = "they are called as IANA calls them")]
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const YXDOMAIN: u16 = 6;
    pub const YXRRSET: u16 = 7;
    pub const NXRRSET: u16 = 8;
    pub const NOTAUTH: u16 = 9;
    pub const NOTZONE: u16 = 10;
    pub const BADVERS: u16 = 16;
    pub const BADCOOKIE: u16 = 23;
}

/// Extended errors (RFC 8914, 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extended {
    /// "Other": for what has no number of its own.
    Other,
    /// "Prohibited".
    Prohibited,
    /// "Not Supported".
    NotSupported,
    /// "Invalid Query Type" (RFC 9824, 9).
    InvalidQueryType,
}

impl Extended {
    fn code(self) -> u16 {
        match self {
            Self::Other => 0,
            Self::Prohibited => 18,
            Self::NotSupported => 21,
            Self::InvalidQueryType => 30,
        }
    }
}

/// A question and what came with it.
#[derive(Clone, Debug)]
pub struct Query {
    /// The message's id.
    pub id: u16,
    /// Third and fourth octet of the header.
    flags: [u8; 2],
    /// The question's name in lower case.
    name: [u8; MAX_NAME],
    /// 0: there is no question (RFC 7873, 5.4).
    name_length: usize,
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
const CHECKING_DISABLED: u8 = 0x10;

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

/// Writes a reply that has only a header.
pub fn write_header_only(out: &mut Vec<u8>, message: &[u8], code: u16) {
    let id = message.get(..2).unwrap_or(&[0, 0]);
    let flags = message.get(2).copied().unwrap_or(0);
    out.clear();
    out.extend_from_slice(id);
    // QR, the opcode, RD.
    out.extend([0x80 | (flags & 0x79), low(code)]);
    out.extend([0; 8]);
}

/// A reply in the making.
#[derive(Debug)]
pub struct Reply<'m> {
    /// The request.
    pub message: &'m [u8],
    /// What was read of it.
    pub query: &'m Query,
    /// Longest reply, in octets.
    pub limit: usize,
}

impl Reply<'_> {
    /// Writes an answer; over the limit, only that it is truncated (RFC 2181, 9).
    pub fn write(&self, out: &mut Vec<u8>, body: &Body) {
        let length = self.query.question_end() + body.len() + self.query.opt_length();
        let authority = u8::from(body.is_authoritative) << 2;
        let (checking, edns) = self.dnssec_flags(body);
        if length > self.limit {
            let is_stream = self.limit > TCP_MAX / 2;
            let (code, truncated) = if is_stream {
                (rcode::SERVFAIL, 0)
            } else {
                (self.code_of(body), 0x02)
            };
            self.start(out, code, [truncated | authority, checking], [0; 3]);
        } else {
            let code = self.code_of(body);
            self.start(out, code, [authority, checking], body.counts);
            body.append_to(out, self.query.name_length);
        }
        self.put_opt(out, (0, edns), None);
    }

    /// A compact denial says by its NSEC that there is no such name. Its code says so only to clients that are not
    /// misled by that (RFC 9824, 3.1 and 5.1).
    fn code_of(&self, body: &Body) -> u16 {
        let is_compact = self
            .query
            .edns
            .is_some_and(|edns| edns.flags & COMPACT_OK != 0);
        match u16::from(body.rcode) {
            rcode::NXDOMAIN if body.is_signed && !is_compact => rcode::NOERROR,
            code => code,
        }
    }

    /// RFC 4035, 3.1.6: CD goes back as it came; RFC 3225, 3: so does DO; RFC 9824, 5.1: and CO.
    fn dnssec_flags(&self, body: &Body) -> (u8, u16) {
        match self.query.edns {
            Some(edns) if body.is_signed => (
                self.query.flags[1] & CHECKING_DISABLED,
                edns.flags & (DNSSEC_OK | COMPACT_OK),
            ),
            _ => (0, 0),
        }
    }

    /// Writes that the answer is to be asked for over TCP.
    pub fn truncate(&self, out: &mut Vec<u8>) {
        self.start(out, rcode::NOERROR, [0x02, 0], [0; 3]);
        self.put_opt(out, (0, 0), None);
    }

    /// Writes a reply without records; the reason is told to who speaks EDNS.
    pub fn refuse(&self, out: &mut Vec<u8>, code: u16, why: Option<(Extended, &str)>) {
        self.start(out, code, [0; 2], [0; 3]);
        self.put_opt(out, (code, 0), why);
    }

    fn start(&self, out: &mut Vec<u8>, code: u16, flags: [u8; 2], counts: [u16; 3]) {
        out.clear();
        out.extend(self.query.id.to_be_bytes());
        let asked = 0x80 | (self.query.flags[0] & 0x79);
        out.extend([asked | flags[0], flags[1] | low(code)]);
        out.extend([0, u8::from(self.query.has_question())]);
        let [answers, authority, additional] = counts;
        let additional = additional + u16::from(self.query.edns.is_some());
        for count in [answers, authority, additional] {
            out.extend(count.to_be_bytes());
        }
        let end = self.query.question_end();
        // The name as the client wrote it, upper and lower case.
        out.extend_from_slice(self.message.get(HEADER..end).unwrap_or(&[]));
    }

    /// Adds our EDNS, if the client has it.
    fn put_opt(&self, out: &mut Vec<u8>, (code, flags): (u16, u16), why: Option<(Extended, &str)>) {
        if self.query.edns.is_none() {
            return;
        }
        let payload = u16::try_from(UDP_MAX).unwrap_or(512).to_be_bytes();
        let [high, low] = rtype::OPT.to_be_bytes();
        out.extend([0, high, low]);
        out.extend(payload);
        out.extend([u8::try_from(code >> 4).unwrap_or(0), 0]);
        out.extend(flags.to_be_bytes());
        let cookie = self.query.cookie_back.as_ref();
        let text = why.map_or(&[][..], |(_, text)| text.as_bytes());
        let of_cookie = cookie.map_or(0, |cookie| 4 + cookie.len());
        let of_error = if why.is_some() { 6 + text.len() } else { 0 };
        put_length(out, of_cookie + of_error);
        if let Some(cookie) = cookie {
            out.extend(cookie::OPTION.to_be_bytes());
            put_length(out, cookie.len());
            out.extend_from_slice(cookie);
        }
        if let Some((extended, _)) = why {
            out.extend([0, 15]);
            put_length(out, 2 + text.len());
            out.extend(extended.code().to_be_bytes());
            out.extend_from_slice(text);
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend(u16::try_from(length).unwrap_or(0).to_be_bytes());
}

/// The part of a response code that stands in the header.
fn low(code: u16) -> u8 {
    u8::try_from(code & 0xf).unwrap_or(0)
}

/// Returns the response code of a message that this module wrote.
#[must_use]
pub fn rcode_of(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |octet| octet & 0xf)
}
