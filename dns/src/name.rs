//! Domain names in the form they have on the wire: lower case, uncompressed, with the root's zero.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest name on the wire, in octets (RFC 1035, 2.3.4).
pub const MAX_NAME: usize = 255;
/// Longest label, in octets.
const MAX_LABEL: usize = 63;

/// A domain name: lower case, so that equal names have equal octets (RFC 4343).
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<[u8]>);

/// Why a text or its octets are no name.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum NameError {
    /// Two dots in a row, or a dot at the beginning.
    #[error("a label of the name is empty")]
    EmptyLabel,
    /// More than 63 octets.
    #[error("a label of the name has more than 63 octets")]
    LongLabel,
    /// More than 255 octets.
    #[error("the name has more than 255 octets")]
    LongName,
    /// The octets end within a label, or have a compression pointer.
    #[error("the octets are no name")]
    Octets,
}

impl Name {
    /// Reads a name as it is written in the inventory: `@` is `origin`, a name without a final dot is
    /// inside of it. There are no escapes.
    ///
    /// # Errors
    ///
    /// [`NameError`] if a label is empty or something is too long.
    pub fn parse(text: &str, origin: &Self) -> Result<Self, NameError> {
        if text == "@" {
            return Ok(origin.clone());
        }
        match text.strip_suffix('.') {
            Some("") => Ok(Self::root()),
            Some(absolute) => Self::from_labels(absolute.split('.'), &Self::root()),
            None => Self::from_labels(text.split('.'), origin),
        }
    }

    /// Reads a name that is complete with or without its final dot.
    ///
    /// # Errors
    ///
    /// As [`Name::parse`].
    pub fn absolute(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::root());
        }
        Self::from_labels(text.split('.'), &Self::root())
    }

    /// Puts labels, leftmost first, in front of a name.
    ///
    /// # Errors
    ///
    /// As [`Name::parse`].
    pub fn from_labels<L: AsRef<[u8]>>(
        labels: impl IntoIterator<Item = L>,
        origin: &Self,
    ) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(MAX_NAME);
        for label in labels {
            let label = label.as_ref();
            let length = u8::try_from(label.len()).map_err(|_| NameError::LongLabel)?;
            match label.len() {
                0 => return Err(NameError::EmptyLabel),
                1..=MAX_LABEL => {}
                _ => return Err(NameError::LongLabel),
            }
            wire.push(length);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.extend_from_slice(&origin.0);
        if wire.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        Ok(Self(wire.into()))
    }

    /// Takes a name's octets, which must be uncompressed; letters become lower case.
    ///
    /// # Errors
    ///
    /// [`NameError::Octets`] if they are not one whole name.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        let mut labels = Vec::new();
        let mut rest = wire;
        loop {
            let (&length, after) = rest.split_first().ok_or(NameError::Octets)?;
            if length == 0 {
                if !after.is_empty() {
                    return Err(NameError::Octets);
                }
                return Self::from_labels(labels, &Self::root());
            }
            let (label, after) = after
                .split_at_checked(usize::from(length))
                .ok_or(NameError::Octets)?;
            labels.push(label);
            rest = after;
        }
    }

    /// The root of all names.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from([0u8].as_slice()))
    }

    /// Returns the name's octets.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Is this name `ancestor`, or below it?
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        is_within(&self.0, &ancestor.0)
    }

    /// Does the name begin with the label `*` (RFC 4592)?
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(&[1, b'*'])
    }
}

/// Returns the name without its first label; `None` for the root and for what is no name.
#[must_use]
pub fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.split_first()? {
        (0, _) => None,
        (length, rest) => rest.get(usize::from(*length)..),
    }
}

/// Returns the name, its parent, and so on up to the root.
pub fn ancestors(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(wire), |name| parent(name))
}

/// Is a lower-case name `ancestor`, or below it?
#[must_use]
pub fn is_within(wire: &[u8], ancestor: &[u8]) -> bool {
    wire.len() >= ancestor.len() && ancestors(wire).any(|name| name == ancestor)
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for name in ancestors(&self.0) {
            let Some((&length, rest)) = name.split_first() else {
                continue;
            };
            for &octet in rest.iter().take(usize::from(length)) {
                match octet {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(octet))?,
                    0x21..=0x7e => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            if length > 0 {
                f.write_str(".")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_name_is_inside_of_its_origin() {
        let origin = Name::absolute("East.lab.example").unwrap();
        let rows = [
            ("www", "www.east.lab.example."),
            ("WWW.a", "www.a.east.lab.example."),
            ("@", "east.lab.example."),
            ("other.example.", "other.example."),
            (".", "."),
        ];
        for (text, full) in rows {
            assert_eq!(Name::parse(text, &origin).unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        let many = format!("{}a", "aa.".repeat(90));
        let rows = [
            ("a..b.", NameError::EmptyLabel),
            (long.as_str(), NameError::LongLabel),
            (many.as_str(), NameError::LongName),
        ];
        for (text, error) in rows {
            assert_eq!(Name::parse(text, &Name::root()), Err(error), "{text}");
        }
        for wire in [&b""[..], b"\x01", b"\x01a", b"\xc0\x0c", b"\x01a\x00\x00"] {
            assert!(Name::from_wire(wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn a_name_is_within_another_by_whole_labels_only() {
        let name = |text| Name::absolute(text).unwrap();
        assert!(name("a.b.c").is_within(&name("b.c")));
        assert!(name("b.c").is_within(&name("b.c")));
        assert!(!name("ab.c").is_within(&name("b.c")));
        assert!(!name("c").is_within(&name("b.c")));
    }
}
