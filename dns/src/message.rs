//! DNS messages: what is read of a request, and how a reply is put together.

mod request;

use crate::compose::Body;
use crate::cookie;
use crate::rdata::rtype;
use request::CHECKING_DISABLED;

pub(crate) use request::skip_name;
pub use request::{COMPACT_OK, DNSSEC_OK, Edns, Query, Read, read};

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
        let [id0, id1] = self.query.id.to_be_bytes();
        let asked = 0x80 | (self.query.flags[0] & 0x79);
        let [answers, authority, additional] = counts;
        let additional = additional + u16::from(self.query.edns.is_some());
        let [[an0, an1], [ns0, ns1], [ar0, ar1]] =
            [answers, authority, additional].map(u16::to_be_bytes);
        let (flags, more) = (asked | flags[0], flags[1] | low(code));
        let questions = u8::from(self.query.has_question());
        let header: [u8; HEADER] = [
            id0, id1, flags, more, 0, questions, an0, an1, ns0, ns1, ar0, ar1,
        ];
        out.clear();
        out.extend_from_slice(&header);
        let end = self.query.question_end();
        // The name as the client wrote it, upper and lower case.
        out.extend_from_slice(self.message.get(HEADER..end).unwrap_or(&[]));
    }

    /// Adds our EDNS, if the client has it.
    fn put_opt(&self, out: &mut Vec<u8>, (code, flags): (u16, u16), why: Option<(Extended, &str)>) {
        if self.query.edns.is_none() {
            return;
        }
        let cookie = self.query.cookie_back.as_ref();
        let text = why.map_or(&[][..], |(_, text)| text.as_bytes());
        let of_cookie = cookie.map_or(0, |cookie| 4 + cookie.len());
        let of_error = if why.is_some() { 6 + text.len() } else { 0 };
        let [t0, t1] = rtype::OPT.to_be_bytes();
        let [p0, p1] = u16::try_from(UDP_MAX).unwrap_or(512).to_be_bytes();
        let high = u8::try_from(code >> 4).unwrap_or(0);
        let [f0, f1] = flags.to_be_bytes();
        let [l0, l1] = length(of_cookie + of_error);
        out.extend_from_slice(&[0, t0, t1, p0, p1, high, 0, f0, f1, l0, l1]);
        if let Some(cookie) = cookie {
            let [o0, o1] = cookie::OPTION.to_be_bytes();
            let [l0, l1] = length(cookie.len());
            out.extend_from_slice(&[o0, o1, l0, l1]);
            out.extend_from_slice(cookie);
        }
        if let Some((extended, _)) = why {
            let [l0, l1] = length(2 + text.len());
            let [e0, e1] = extended.code().to_be_bytes();
            out.extend_from_slice(&[0, 15, l0, l1, e0, e1]);
            out.extend_from_slice(text);
        }
    }
}

fn length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(0).to_be_bytes()
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
