//! What is read of a request before anything is known.
//!
//! The order of the cheap refusals: too short and responses are not answered at all (RFC 8906; two
//! servers must not talk to each other), then the opcode, then the question, then what follows it.

use std::fmt;

use super::{HEADER, UDP_MAX, UDP_PLAIN, rcode};
use crate::cookie::{self, Cookie};
use crate::name::MAX_NAME;
use crate::rdata::rtype;

/// A question and what came with it. One is enough for many messages: see [`read`].
#[derive(Clone)]
pub struct Query {
    /// The message's id.
    pub id: u16,
    /// Third and fourth octet of the header.
    pub(super) flags: [u8; 2],
    /// The question's name in lower case. What stands behind it is of an earlier message, and shown to nobody.
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Read {
    /// Not to be answered.
    Silence,
    /// Only the header can be answered.
    Refuse(u16),
    /// A query whose question is good.
    Query,
    /// A dynamic update (RFC 2136); its question section is its zone section.
    Update,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            id: 0,
            flags: [0; 2],
            name: [0; MAX_NAME],
            name_length: 0,
            kind: 0,
            class: 0,
            edns: None,
            is_signed: false,
            serial: None,
            cookie: None,
            cookie_back: None,
        }
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            flags,
            name: _,
            name_length: _,
            kind,
            class,
            edns,
            is_signed,
            serial,
            cookie,
            cookie_back,
        } = self;
        f.debug_struct("Query")
            .field("id", id)
            .field("flags", flags)
            .field("name", &self.name())
            .field("kind", kind)
            .field("class", class)
            .field("edns", edns)
            .field("is_signed", is_signed)
            .field("serial", serial)
            .field("cookie", cookie)
            .field("cookie_back", cookie_back)
            .finish()
    }
}

impl Query {
    /// Forgets what was read before. Each field is named: a new one cannot be forgotten here.
    fn clear(&mut self) {
        let Self {
            id,
            flags,
            // Without a length, there is none.
            name: _,
            name_length,
            kind,
            class,
            edns,
            is_signed,
            serial,
            cookie,
            cookie_back,
        } = self;
        (*id, *flags, *name_length, *kind, *class) = (0, [0; 2], 0, 0, 0);
        (*edns, *is_signed, *serial) = (None, false, None);
        (*cookie, *cookie_back) = (None, None);
    }

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

/// Reads a message as far as it must be read to answer it. Nothing that `query` was before is left in it.
#[must_use]
pub fn read(message: &[u8], query: &mut Query) -> Read {
    query.clear();
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
    (query.id, query.flags) = (u16::from_be_bytes([a, b]), [flags, more]);
    let counts = [[an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes);
    let question = match questions {
        0 => Some(()),
        _ => read_question(message, query),
    };
    let good = question.and_then(|()| {
        if opcode == 0 && !has_query_sections(counts, query.kind) {
            return None;
        }
        read_records(message, query, counts)?;
        (query.has_question() || query.cookie.is_some()).then_some(())
    });
    match (good, opcode) {
        (None, _) => Read::Refuse(rcode::FORMERR),
        (Some(()), 0) => Read::Query,
        (Some(()), _) => Read::Update,
    }
}

/// A query has nothing in its answer section, and only IXFR has one SOA in its authority section
/// (RFC 1995, 3).
fn has_query_sections([answers, authority, _]: [u16; 3], kind: u16) -> bool {
    answers == 0 && (authority == 0 || (authority == 1 && kind == rtype::IXFR))
}

fn read_question(message: &[u8], query: &mut Query) -> Option<()> {
    let question = message.get(HEADER..)?;
    let mut length = 0;
    loop {
        let label = *question.get(length)?;
        // A pointer in the first name of a message has nothing to point to.
        if label > 63 {
            return None;
        }
        length += usize::from(label) + 1;
        match label {
            0 => break,
            _ if length >= MAX_NAME => return None,
            _ => {}
        }
    }
    let (name, rest) = question.split_at_checked(length)?;
    let place = query.name.get_mut(..length)?;
    place.copy_from_slice(name);
    // The lengths of labels are smaller than any letter.
    place.make_ascii_lowercase();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A question about this name, with these counts of records behind it.
    fn question(name: &[u8], kind: u16, counts: [u8; 2]) -> Vec<u8> {
        let mut message = vec![
            0xaa, 0xbb, 0x01, 0x10, 0, 1, 0, 0, 0, counts[0], 0, counts[1],
        ];
        message.extend_from_slice(name);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    /// A record of the root.
    fn record(message: &mut Vec<u8>, kind: u16, data: &[u8]) {
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0x10, 0, 0, 0, 0xc0, 0]);
        put_length(message, data);
    }

    fn put_length(message: &mut Vec<u8>, data: &[u8]) {
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend_from_slice(data);
    }

    const COOKIE: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

    /// The longest name there is, and all that can come with a question.
    fn full() -> Vec<u8> {
        let mut name = [63, 63, 63, 61]
            .iter()
            .flat_map(|length| std::iter::once(*length).chain((0..*length).map(|_| b'X')))
            .collect::<Vec<u8>>();
        name.push(0);
        assert_eq!(name.len(), MAX_NAME);
        let mut message = question(&name, rtype::IXFR, [1, 2]);
        record(&mut message, rtype::SOA, &[7; 22]);
        record(&mut message, rtype::OPT, &COOKIE);
        record(&mut message, rtype::TSIG, &[]);
        message
    }

    /// Reads the fullest message there is.
    fn used() -> Query {
        let mut query = Query::default();
        assert_eq!(read(&full(), &mut query), Read::Query);
        query.cookie_back = Some([9; cookie::BOTH]);
        assert_eq!(query.name().len(), MAX_NAME);
        assert!(!query.name().contains(&b'X'));
        assert!(query.edns.is_some() && query.is_signed);
        assert!(query.serial.is_some() && query.cookie.is_some());
        query
    }

    #[test]
    fn nothing_of_a_message_is_left_in_the_next_one() {
        let short = question(b"\x01A\x00", rtype::A, [0, 0]);
        let mut with_cookie = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        record(&mut with_cookie, rtype::OPT, &COOKIE);
        let mut with_edns = question(b"\x02ab\x00", rtype::DS, [0, 1]);
        record(&mut with_edns, rtype::OPT, &[]);
        let mut update = short.clone();
        update[2] = 5 << 3;
        let nothing = vec![0; HEADER];
        let cut = full()[..40].to_vec();
        let notify = vec![0, 1, 4 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let rows = [
            (&short, Read::Query),
            (&with_cookie, Read::Query),
            (&with_edns, Read::Query),
            (&update, Read::Update),
            (&nothing, Read::Refuse(rcode::FORMERR)),
            (&cut, Read::Refuse(rcode::FORMERR)),
            (&notify, Read::Refuse(rcode::NOTIMP)),
            (&Vec::new(), Read::Silence),
        ];
        for (message, is) in rows {
            let (mut used, mut fresh) = (used(), Query::default());
            assert_eq!(read(message, &mut used), is, "{message:?}");
            assert_eq!(read(message, &mut fresh), is);
            assert_eq!(format!("{used:?}"), format!("{fresh:?}"), "{message:?}");
            assert!(used.name().len() < 10, "{used:?}");
        }
    }

    #[test]
    fn a_name_is_read_in_lower_case_and_only_if_it_is_whole() {
        let name = |octets: &[u8]| {
            let mut query = Query::default();
            let is = read(&question(octets, rtype::A, [0, 0]), &mut query);
            (is == Read::Query).then(|| query.name().to_vec())
        };
        assert_eq!(name(b"\x03A[z\x00"), Some(b"\x03a[z\x00".to_vec()));
        assert_eq!(name(b"\x00"), Some(vec![0]));
        let long = [&[63][..], &[0xc1; 63], b"\x00"].concat();
        assert_eq!(name(&long), Some(long.clone()));
        for bad in [&b"\xc0\x0c"[..], b"\x40", b"\x03ab", b"\x05ab\x00"] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
        let too_long = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
        assert_eq!(name(&[&too_long[..], b"\x00"].concat()), None);
    }
}
