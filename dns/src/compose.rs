//! Answers as octets, made once and copied behind many questions.
//!
//! # How a prepared answer is compressed
//!
//! The question stands at octet 12, so a name can be shortened to a pointer into it before the
//! question is known: to octet 12 for the name that was asked for, and to the zone's name at its end.
//! Where the question is longer or shorter than the one that the answer was made for (a name that
//! does not exist, a wildcard), the second kind of pointer is moved by the difference.

use crate::lookup::{Answer, Item};
use crate::name::{self, Name};
use crate::rdata::compressible_name;
use crate::zone::RrSet;

/// Octets in front of the question's name.
const HEADER: usize = 12;
/// The two bits that mark a pointer (RFC 1035, 4.1.4).
const POINTER: u16 = 0xc000;

/// The octets of an answer behind its question.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Body {
    /// Response code.
    pub rcode: u8,
    /// The flag AA.
    pub is_authoritative: bool,
    /// Are there signatures and proofs in it, where there can be (RFC 4035, 3.1)?
    pub is_signed: bool,
    /// Records in the sections answer, authority, additional.
    pub counts: [u16; 3],
    bytes: Box<[u8]>,
    /// Where pointers to the zone's name stand.
    pointers: Box<[u32]>,
    /// Length of the name that the pointers fit.
    name_length: u16,
}

impl Body {
    /// Makes the answer to questions about exactly this name.
    #[must_use]
    pub fn exact(answer: &Answer, origin: &Name, name: &Name) -> Self {
        Composer::new(origin, name.as_wire(), true).compose(answer)
    }

    /// Makes the answer to a question about any name of the zone.
    #[must_use]
    pub fn shifting(answer: &Answer, origin: &Name) -> Self {
        Composer::new(origin, origin.as_wire(), false).compose(answer)
    }

    /// Says that it is out of a signed zone, and made for who wants signatures.
    #[must_use]
    pub(crate) fn signed(mut self) -> Self {
        self.is_signed = true;
        self
    }

    /// Returns how many octets it adds to the question.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Does it add nothing to the question?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds the octets to a message whose question has a name of `name_length` octets.
    pub fn append_to(&self, message: &mut Vec<u8>, name_length: usize) {
        let start = message.len();
        message.extend_from_slice(&self.bytes);
        if name_length == usize::from(self.name_length) {
            return;
        }
        for &at in &self.pointers {
            let at = start + usize::try_from(at).unwrap_or(usize::MAX);
            let Some([high, low]) = message.get_mut(at..at + 2) else {
                continue;
            };
            let old = usize::from(u16::from_be_bytes([*high, *low]));
            let moved = old + name_length - usize::from(self.name_length);
            [*high, *low] = u16::try_from(moved).unwrap_or(0).to_be_bytes();
        }
    }
}

/// Records put behind a question about a zone's own name, with pointers to that name.
pub(crate) struct Section<'a> {
    out: &'a mut Vec<u8>,
    composer: Composer<'a>,
}

impl<'a> Section<'a> {
    /// `out` is a message that ends with its question.
    pub(crate) fn new(out: &'a mut Vec<u8>, origin: &'a Name) -> Self {
        Self {
            composer: Composer::new(origin, origin.as_wire(), true),
            out,
        }
    }

    /// Returns how long the message is.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Adds a record of a set.
    pub(crate) fn put(&mut self, owner: &Name, set: &RrSet, rdata: &[u8]) {
        self.composer.bytes.clear();
        self.composer.put_record(Some(owner), set, rdata);
        self.out.extend_from_slice(&self.composer.bytes);
    }
}

struct Composer<'a> {
    origin: &'a [u8],
    name: &'a [u8],
    /// Will the question's name be exactly `name`?
    is_exact: bool,
    bytes: Vec<u8>,
    pointers: Vec<u32>,
}

impl<'a> Composer<'a> {
    fn new(origin: &'a Name, name: &'a [u8], is_exact: bool) -> Self {
        Self {
            origin: origin.as_wire(),
            name,
            is_exact,
            bytes: Vec::new(),
            pointers: Vec::new(),
        }
    }

    fn compose(mut self, answer: &Answer) -> Body {
        let counts = [&answer.answers, &answer.authority, &answer.additional]
            .map(|items| items.iter().map(|item| self.put(item)).sum());
        Body {
            rcode: answer.rcode,
            is_authoritative: answer.is_authoritative,
            is_signed: false,
            counts,
            bytes: self.bytes.into(),
            pointers: self.pointers.into(),
            name_length: u16::try_from(self.name.len()).unwrap_or(0),
        }
    }

    /// Writes the records of one set; returns how many.
    fn put(&mut self, item: &Item) -> u16 {
        let set = &item.set;
        let mut count = 0;
        for rdata in &set.rdata {
            self.put_record(item.owner.as_ref(), set, rdata);
            count += 1;
        }
        count
    }

    fn put_record(&mut self, owner: Option<&Name>, set: &RrSet, rdata: &[u8]) {
        match owner {
            None => self.put_pointer(HEADER),
            Some(owner) => self.put_name(owner.as_wire()),
        }
        self.bytes.extend(set.rtype.to_be_bytes());
        self.bytes.extend(1u16.to_be_bytes());
        self.bytes.extend(set.ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.put_rdata(set.rtype, rdata);
        let length = self.bytes.len() - length_at - 2;
        let length = u16::try_from(length).unwrap_or(0).to_be_bytes();
        if let Some(place) = self.bytes.get_mut(length_at..length_at + 2) {
            place.copy_from_slice(&length);
        }
    }

    fn put_rdata(&mut self, kind: u16, rdata: &[u8]) {
        match compressible_name(kind).and_then(|at| rdata.split_at_checked(at)) {
            Some((front, name)) => {
                self.bytes.extend_from_slice(front);
                self.put_name(name);
            }
            None => self.bytes.extend_from_slice(rdata),
        }
    }

    fn put_name(&mut self, wire: &[u8]) {
        if self.is_exact && wire == self.name {
            return self.put_pointer(HEADER);
        }
        if self.origin.len() <= 1 || !name::is_within(wire, self.origin) {
            return self.bytes.extend_from_slice(wire);
        }
        let labels = wire.len() - self.origin.len();
        self.bytes.extend(wire.iter().take(labels));
        if !self.is_exact {
            self.pointers.extend(u32::try_from(self.bytes.len()));
        }
        self.put_pointer(HEADER + self.name.len() - self.origin.len());
    }

    fn put_pointer(&mut self, to: usize) {
        let to = u16::try_from(to).unwrap_or(0);
        self.bytes.extend((POINTER | to).to_be_bytes());
    }
}
