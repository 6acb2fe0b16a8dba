//! YAML with places: every value knows the file, line and column it was written at.
//!
//! The values are not typed: a plain scalar stays text until somebody needs a number, a boolean or
//! a name, because only then is it known whether YAML 1.1 (which Ansible speaks) would have read
//! something else than the author meant; see [`plain`].

mod compose;
pub(crate) mod plain;

use std::sync::Arc;

use crate::source::Place;

pub(crate) use compose::{YamlBounds, compose};

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Where it is written. For a block collection: its first character.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) kind: Kind,
    /// Number of values in it, itself included, aliases expanded.
    weight: u32,
}

/// What a [`Value`] is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Text, number, boolean, null.
    Scalar(Scalar),
    /// A list.
    List(Vec<Arc<Value>>),
    /// A map, in file order, keys unique.
    Map(Vec<Entry>),
    /// Something that cannot be looked into.
    Opaque(Opaque),
}

/// Why a value cannot be looked into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Opaque {
    /// `!vault`: encrypted.
    Vault,
    /// An application's tag.
    Tag(Box<str>),
}

/// A scalar.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Scalar {
    /// Its text, escapes and folding undone.
    pub(crate) text: Box<str>,
    /// Written without quotes: YAML may read it as something else than text.
    pub(crate) plain: bool,
    /// Jinja inside is to be evaluated (false for `!unsafe` and for what Jinja returned).
    pub(crate) template: bool,
}

/// One key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The key's text.
    pub(crate) key: Arc<str>,
    /// The key was written without quotes.
    pub(crate) key_plain: bool,
    /// Where the key is written.
    pub(crate) key_place: Place,
    /// The value.
    pub(crate) value: Arc<Value>,
}

impl Value {
    /// Makes a scalar that is not to be evaluated again.
    pub(crate) fn scalar(place: Place, text: &str, plain: bool) -> Self {
        Self::new(
            place,
            Kind::Scalar(Scalar {
                text: text.into(),
                plain,
                template: false,
            }),
        )
    }

    /// Makes a value; its weight is that of its parts.
    pub(crate) fn new(place: Place, kind: Kind) -> Self {
        let parts = match &kind {
            Kind::Scalar(_) | Kind::Opaque(_) => 0,
            Kind::List(items) => items
                .iter()
                .fold(0_u32, |sum, item| sum.saturating_add(item.weight)),
            Kind::Map(entries) => entries
                .iter()
                .fold(0_u32, |sum, entry| sum.saturating_add(entry.value.weight)),
        };
        Self {
            place,
            kind,
            weight: parts.saturating_add(1),
        }
    }

    /// Returns the value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            Kind::Scalar(_) | Kind::List(_) | Kind::Opaque(_) => None,
        }
    }

    /// Is this an explicit or implied null?
    pub(crate) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar(scalar) => {
                scalar.plain && matches!(plain::read(&scalar.text), plain::Plain::Null)
            }
            Kind::List(_) | Kind::Map(_) | Kind::Opaque(_) => false,
        }
    }

    /// Names the kind for a message: `a map`.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(_) if self.is_null() => "nothing",
            Kind::Scalar(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Opaque(Opaque::Vault) => "an encrypted value",
            Kind::Opaque(Opaque::Tag(_)) => "a value with a tag",
        }
    }
}
