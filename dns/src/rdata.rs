//! Record types and their data: from the inventory's text and from updates to octets.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, BinEncodable as _, BinEncoder, Restrict};
use thiserror::Error;

use crate::name::{Name, NameError};

/// Numbers of record types that the code names.
pub mod rtype {
    #![expect(missing_docs, reason = "they are called as IANA calls them")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const SSHFP: u16 = 44;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const DHCID: u16 = 49;
    pub const NSEC3: u16 = 50;
    pub const NSEC3PARAM: u16 = 51;
    pub const TLSA: u16 = 52;
    pub const CDS: u16 = 59;
    pub const CDNSKEY: u16 = 60;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const NXNAME: u16 = 128;
    pub const TKEY: u16 = 249;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
    pub const CAA: u16 = 257;
}

/// The types that a zone can hold, apart from its SOA.
pub const SERVED: &[u16] = &[
    rtype::A,
    rtype::NS,
    rtype::CNAME,
    rtype::PTR,
    rtype::MX,
    rtype::TXT,
    rtype::AAAA,
    rtype::SRV,
    rtype::SSHFP,
    rtype::DHCID,
    rtype::TLSA,
    rtype::SVCB,
    rtype::HTTPS,
    rtype::CAA,
];

/// A record's value cannot be served.
#[derive(Debug, Error)]
pub enum RdataError {
    /// The type has no place in a zone.
    #[error("records of type {0} are not served")]
    Type(String),
    /// The value does not fit the type.
    #[error("`{value}` cannot be the value of type {rtype}")]
    Value {
        /// The type.
        rtype: String,
        /// The value as written.
        value: String,
    },
    /// The value has a name that is none.
    #[error("`{value}` has a bad name")]
    Name {
        /// The value as written.
        value: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

/// Reads the inventory's value of a record, with names relative to `origin`; gives the type and the
/// octets, names lower case and uncompressed.
///
/// # Errors
///
/// [`RdataError`]; a checked inventory causes none.
pub fn parse(kind: &str, value: &str, origin: &Name) -> Result<(u16, Box<[u8]>), RdataError> {
    let bad = || RdataError::Value {
        rtype: kind.to_owned(),
        value: value.to_owned(),
    };
    let name = |text: &str| {
        Name::parse(text, origin).map_err(|source| RdataError::Name {
            value: value.to_owned(),
            source,
        })
    };
    let words: Vec<&str> = value.split_whitespace().collect();
    let numbers_then_name = |count: usize| {
        let (target, numbers) = words.split_last().ok_or_else(bad)?;
        if numbers.len() != count {
            return Err(bad());
        }
        let mut wire = Vec::new();
        for number in numbers {
            let number: u16 = number.parse().map_err(|_| bad())?;
            wire.extend(number.to_be_bytes());
        }
        wire.extend_from_slice(name(target)?.as_wire());
        Ok(wire)
    };
    let kind_number: RecordType = kind.parse().map_err(|_| RdataError::Type(kind.into()))?;
    let number = u16::from(kind_number);
    let wire = match number {
        rtype::A => value
            .parse::<Ipv4Addr>()
            .map_err(|_| bad())?
            .octets()
            .to_vec(),
        rtype::AAAA => value
            .parse::<Ipv6Addr>()
            .map_err(|_| bad())?
            .octets()
            .to_vec(),
        rtype::CNAME | rtype::NS | rtype::PTR => numbers_then_name(0)?,
        rtype::MX => numbers_then_name(1)?,
        rtype::SRV => numbers_then_name(3)?,
        rtype::TXT if !value.starts_with('"') => character_strings(value.as_bytes()),
        rtype::TXT => quoted_strings(value).ok_or_else(bad)?,
        rtype::SVCB | rtype::HTTPS => {
            let absolute = absolute_target(&words, origin).ok_or_else(bad)?;
            by_hickory(kind_number, &absolute).ok_or_else(bad)?
        }
        _ if SERVED.contains(&number) => by_hickory(kind_number, value).ok_or_else(bad)?,
        _ => return Err(RdataError::Type(kind.to_owned())),
    };
    Ok((number, wire.into()))
}

/// A text as character strings of at most 255 octets (RFC 1035, 3.3.14).
fn character_strings(text: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    if text.is_empty() {
        wire.push(0);
    }
    for chunk in text.chunks(255) {
        wire.extend(u8::try_from(chunk.len()));
        wire.extend_from_slice(chunk);
    }
    wire
}

/// Strings in quotes (RFC 1035, 5.1), cut where one is too long: keys of DKIM are written in one.
fn quoted_strings(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    let mut rest = text.trim().as_bytes();
    while !rest.is_empty() {
        rest = rest.strip_prefix(b"\"")?;
        let mut string = Vec::new();
        loop {
            let (&octet, after) = rest.split_first()?;
            rest = after;
            match octet {
                b'"' => break,
                b'\\' => {
                    let digits = rest
                        .get(..3)
                        .filter(|digits| digits.iter().all(u8::is_ascii_digit));
                    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                    let (octet, taken) = match number {
                        Some(number) => (number.parse().ok()?, 3),
                        None => (*rest.first()?, 1),
                    };
                    string.push(octet);
                    rest = rest.get(taken..)?;
                }
                octet => string.push(octet),
            }
        }
        wire.extend(character_strings(&string));
        rest = rest.trim_ascii_start();
    }
    Some(wire).filter(|wire| !wire.is_empty())
}

/// Returns a type's name.
#[must_use]
pub fn type_name(kind: u16) -> String {
    let known = RecordType::from(kind);
    if kind == rtype::DHCID {
        // hickory has no DHCID.
        "DHCID".to_owned()
    } else if matches!(known, RecordType::Unknown(_)) {
        // RFC 3597, 5.
        format!("TYPE{kind}")
    } else {
        known.to_string()
    }
}

/// Returns data in presentation form; what cannot be read as its type as RFC 3597, 5 has it.
#[must_use]
pub fn show(kind: u16, data: &[u8]) -> String {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let kind = RecordType::from(kind);
    let read = RData::read(&mut BinDecoder::new(data), kind, Restrict::new(length));
    match read {
        Ok(_) if kind == RecordType::TXT => strings(data),
        Ok(read) if !matches!(read, RData::Unknown { .. }) => read.to_string(),
        Ok(_) | Err(_) => {
            let digits: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("\\# {length} {digits}")
        }
    }
}

/// Character strings in quotes (RFC 1035, 5.1).
fn strings(mut data: &[u8]) -> String {
    let mut all = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let Some((string, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        let mut text = String::new();
        for octet in string {
            // Writing to a string cannot fail.
            let _ = match octet {
                b'"' | b'\\' => write!(text, "\\{}", char::from(*octet)),
                0x20..=0x7e => write!(text, "{}", char::from(*octet)),
                _ => write!(text, "\\{octet:03}"),
            };
        }
        all.push(format!("\"{text}\""));
        data = rest;
    }
    all.join(" ")
}

/// Makes the target of `1 web alpn=h2` a complete name.
fn absolute_target(words: &[&str], origin: &Name) -> Option<String> {
    let (priority, rest) = words.split_first()?;
    let (target, params) = rest.split_first()?;
    let target = Name::parse(target, origin).ok()?;
    let mut text = format!("{priority} {target}");
    for param in params {
        text.push(' ');
        text.push_str(param);
    }
    Some(text)
}

/// Lets hickory read the presentation form of the types that have no names in them.
fn by_hickory(kind: RecordType, value: &str) -> Option<Vec<u8>> {
    let rdata = RData::try_from_str(kind, value).ok()?;
    encode(&rdata)
}

/// Encodes record data without compression; the names of the types in RFC 4034, 6.2 become lower case.
#[must_use]
pub fn encode(rdata: &RData) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    let mut encoder = BinEncoder::new(&mut wire);
    encoder.set_canonical_form(true);
    rdata.emit(&mut encoder).ok()?;
    Some(wire)
}

/// Where in the record data a name begins that may be compressed (RFC 3597, section 4).
pub(crate) fn compressible_name(kind: u16) -> Option<usize> {
    match kind {
        rtype::CNAME | rtype::NS | rtype::PTR => Some(0),
        rtype::MX => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Name {
        Name::absolute("z.example").unwrap()
    }

    #[test]
    fn every_served_type_is_read_from_text() {
        let rows: &[(&str, &str, u16, &[u8])] = &[
            ("A", "192.0.2.1", rtype::A, &[192, 0, 2, 1]),
            ("NS", "ns", rtype::NS, b"\x02ns\x01z\x07example\x00"),
            ("CNAME", "Web", rtype::CNAME, b"\x03web\x01z\x07example\x00"),
            ("PTR", "@", rtype::PTR, b"\x01z\x07example\x00"),
            ("MX", "10 mail.", rtype::MX, b"\x00\x0a\x04mail\x00"),
            ("TXT", "v=1 a", rtype::TXT, b"\x05v=1 a"),
            ("TXT", "\"a b\" \"c\"", rtype::TXT, b"\x03a b\x01c"),
            ("TXT", "", rtype::TXT, b"\x00"),
            ("SRV", "0 5 53 a.", rtype::SRV, b"\0\0\0\x05\0\x35\x01a\0"),
            (
                "CAA",
                "0 issue \"ca.example\"",
                rtype::CAA,
                b"\x00\x05issueca.example",
            ),
            (
                "CAA",
                "0 issue ca.example",
                rtype::CAA,
                b"\x00\x05issueca.example",
            ),
            ("TLSA", "3 1 1 0aff", rtype::TLSA, &[3, 1, 1, 0x0a, 0xff]),
            ("SSHFP", "4 2 0aff", rtype::SSHFP, &[4, 2, 0x0a, 0xff]),
            (
                "HTTPS",
                "1 . alpn=h2",
                rtype::HTTPS,
                b"\0\x01\0\0\x01\0\x03\x02h2",
            ),
            (
                "SVCB",
                "1 w port=53",
                rtype::SVCB,
                b"\0\x01\x01w\x01z\x07example\0\0\x03\0\x02\0\x35",
            ),
        ];
        for (kind, value, number, wire) in rows {
            let (found, octets) = parse(kind, value, &origin()).unwrap();
            assert_eq!((found, &*octets), (*number, *wire), "{kind} {value}");
        }
        let (_, v6) = parse("AAAA", "2001:db8::1", &origin()).unwrap();
        assert_eq!(v6.len(), 16);
    }

    #[test]
    fn a_long_text_is_cut_into_character_strings() {
        let (_, wire) = parse("TXT", &"x".repeat(300), &origin()).unwrap();
        assert_eq!(
            (wire.len(), wire.first(), wire.get(256)),
            (302, Some(&255), Some(&45))
        );
    }

    #[test]
    fn strings_in_quotes_have_escapes_and_long_ones_are_cut() {
        let rows: &[(&str, &[u8])] = &[
            (r#""a\"b\\c""#, b"\x05a\"b\\c"),
            (r#""v=1\; \195\164""#, "\u{7}v=1; ä".as_bytes()),
            (r#""" "b""#, b"\x00\x01b"),
        ];
        for (text, wire) in rows {
            let (_, found) = parse("TXT", text, &origin()).unwrap();
            assert_eq!(&*found, *wire, "{text}");
            let again = parse("TXT", &show(rtype::TXT, wire), &origin()).unwrap();
            assert_eq!(&*again.1, *wire, "{text}");
        }
        let (_, long) = parse("TXT", &format!("\"{}\"", "x".repeat(300)), &origin()).unwrap();
        assert_eq!((long.len(), long.get(256)), (302, Some(&45)));
        for bad in ["\"a", "\"a\\", "\"a\" b", "\"\\256\""] {
            assert!(parse("TXT", bad, &origin()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again_as_the_same() {
        let rows = [
            ("A", "192.0.2.1"),
            ("AAAA", "2001:db8::1"),
            ("CNAME", "web.z.example."),
            ("MX", "10 mail.z.example."),
            ("SRV", "0 5 53 a.z.example."),
            ("CAA", "0 issue \"ca.example\""),
            ("TLSA", "3 1 1 0aff"),
            ("SSHFP", "4 2 0aff"),
            ("HTTPS", "1 . alpn=h2,h3 port=8443"),
            ("SVCB", "1 w.z.example. ipv4hint=192.0.2.1"),
        ];
        for (kind, value) in rows {
            let (number, data) = parse(kind, value, &origin()).unwrap();
            let shown = show(number, &data);
            let again = parse(kind, &shown, &origin());
            let again = again.unwrap_or_else(|error| panic!("{kind} {shown}: {error}"));
            assert_eq!(again.1, data, "{kind} {value} {shown}");
        }
        assert_eq!(show(rtype::A, &[1, 2]), "\\# 2 0102");
        assert_eq!(show(rtype::DHCID, &[0, 1, 255]), "\\# 3 0001ff");
        let names = [rtype::DHCID, rtype::HTTPS, 65_280].map(type_name);
        assert_eq!(names, ["DHCID", "HTTPS", "TYPE65280"]);
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let rows = [
            ("A", "::1"),
            ("AAAA", "192.0.2.1"),
            ("MX", "mail"),
            ("MX", "70000 mail"),
            ("SRV", "1 2 sip"),
            ("CNAME", "a b"),
            ("CNAME", "a..b"),
            ("TLSA", "3 1"),
            ("SOA", "a b 1 2 3 4 5"),
            ("NONSENSE", "1"),
            ("DNAME", "a."),
        ];
        for (kind, value) in rows {
            assert!(parse(kind, value, &origin()).is_err(), "{kind} {value}");
        }
    }
}
