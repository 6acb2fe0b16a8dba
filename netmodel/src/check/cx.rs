//! Reads values as what they should be; every misfit becomes a finding.

use std::str::FromStr;
use std::sync::Arc;

use super::words::{did_you_mean, looks_unrelated};
use crate::ansible::Scope;
use crate::finding::{Code, Finding};
use crate::source::Place;
use crate::yaml::plain::{Plain, read};
use crate::yaml::{Entry, Kind, Opaque, Scalar, Value};

/// A text with its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Text {
    /// The text.
    pub(crate) text: String,
    /// Where it is written.
    pub(crate) place: Place,
}

/// A value with its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it is written.
    pub(crate) place: Place,
}

/// What to do about keys that are not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unknown {
    /// They are errors: the table is bulkhead's own.
    Refuse,
    /// They may be somebody else's; one that looks like a known key is warned of.
    Suspect,
}

/// A map whose keys are known.
#[derive(Debug)]
pub(crate) struct Fields {
    /// What it is, for messages: "the segment `iot`".
    pub(crate) what: String,
    /// Where it is written.
    pub(crate) place: Place,
    value: Arc<Value>,
}

impl Fields {
    /// Returns a key that has a value.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.value.get(key).filter(|entry| !entry.value.is_null())
    }
}

/// Reads the values of one scope.
pub(crate) struct Cx<'a> {
    /// Where variables and templates get their values from.
    pub(crate) scope: &'a Scope,
    /// Where findings go.
    pub(crate) findings: &'a mut Vec<Finding>,
}

impl Cx<'_> {
    /// Makes a finding known.
    pub(crate) fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Returns a variable of the scope that has a value.
    pub(crate) fn var(&self, name: &str) -> Option<Entry> {
        let entry = self.scope.get(name)?;
        (!entry.value.is_null()).then(|| entry.clone())
    }

    /// Evaluates Jinja and refuses what cannot be looked into.
    pub(crate) fn resolve(&mut self, value: &Arc<Value>) -> Option<Arc<Value>> {
        let value = match self.scope.evaluate(value) {
            Ok(value) => value,
            Err(error) => {
                self.report(
                    Finding::new(Code::Template, "this template gives no value", value.place)
                        .label(error.to_string())
                        .note("templates are evaluated only where bulkhead needs their value")
                        .help("write the value itself, or define what the template needs"),
                );
                return None;
            }
        };
        match &value.kind {
            Kind::Opaque(Opaque::Vault) => {
                self.report(
                    Finding::new(
                        Code::Encrypted,
                        "this value is needed, but it is encrypted",
                        value.place,
                    )
                    .note("bulkhead has no vault password and never decrypts")
                    .help("network facts are no secrets: write it in clear"),
                );
                None
            }
            Kind::Opaque(Opaque::Tag(tag)) => {
                self.report(
                    Finding::new(
                        Code::WrongType,
                        format!("the tag `{tag}` has no meaning here"),
                        value.place,
                    )
                    .help("remove the tag"),
                );
                None
            }
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => Some(value),
        }
    }

    /// Reads a map with known keys.
    pub(crate) fn fields(
        &mut self,
        value: &Arc<Value>,
        what: &str,
        known: &[&str],
        unknown: Unknown,
    ) -> Option<Fields> {
        let value = self.resolve(value)?;
        let Kind::Map(entries) = &value.kind else {
            self.wrong_type(&value, what, "a map", "write `name: value` below it");
            return None;
        };
        for entry in entries {
            if !known.contains(&&*entry.key) {
                self.unknown_key(entry, what, known, unknown);
            }
        }
        Some(Fields {
            what: what.to_owned(),
            place: value.place,
            value,
        })
    }

    fn unknown_key(&mut self, entry: &Entry, what: &str, known: &[&str], unknown: Unknown) {
        let key = &entry.key;
        let similar = did_you_mean(key, known.iter().copied());
        let finding = match (unknown, similar) {
            (Unknown::Suspect, None) => return,
            (Unknown::Suspect, Some(_)) if looks_unrelated(key, known) => return,
            (Unknown::Suspect, Some(similar)) => Finding::new(
                Code::ProbableTypo,
                format!("`{key}` of {what} has no meaning to bulkhead"),
                entry.key_place,
            )
            .help(format!("did you mean `{similar}`?")),
            (Unknown::Refuse, Some(similar)) => Finding::new(
                Code::UnknownKey,
                format!("{what} has no key `{key}`"),
                entry.key_place,
            )
            .help(format!("did you mean `{similar}`?")),
            (Unknown::Refuse, None) => Finding::new(
                Code::UnknownKey,
                format!("{what} has no key `{key}`"),
                entry.key_place,
            )
            .note(format!("the keys are: {}", known.join(", ")))
            .help("correct the key, or remove it"),
        };
        self.report(finding);
    }

    /// Refuses keys that are there without a value: what narrows a rule must not vanish from it.
    pub(crate) fn check_said(&mut self, fields: &Fields, keys: &[&str]) -> Option<()> {
        let empty = keys
            .iter()
            .filter_map(|key| fields.value.get(key))
            .find(|entry| entry.value.is_null());
        let Some(entry) = empty else {
            return Some(());
        };
        self.report(
            Finding::new(
                Code::WrongType,
                format!("`{}` of {} has no value", entry.key, fields.what),
                entry.key_place,
            )
            .note("without a value it would match everything")
            .help("write a value, or remove the key if everything is meant"),
        );
        None
    }

    /// Reads a key that must be there.
    pub(crate) fn required(&mut self, fields: &Fields, key: &str) -> Option<Entry> {
        let found = fields.get(key).cloned();
        if found.is_none() {
            self.report(
                Finding::new(
                    Code::MissingKey,
                    format!("{} has no `{key}`", fields.what),
                    fields.place,
                )
                .help(format!("add `{key}: …`")),
            );
        }
        found
    }

    /// Reads a map whose keys are names.
    pub(crate) fn entries(&mut self, value: &Arc<Value>, what: &str) -> Option<Vec<Entry>> {
        let value = self.resolve(value)?;
        match &value.kind {
            Kind::Map(entries) => Some(entries.clone()),
            Kind::Scalar(_) | Kind::List(_) | Kind::Opaque(_) => {
                self.wrong_type(&value, what, "a map", "write `name: value` below it");
                None
            }
        }
    }

    /// Reads a map whose keys are names that YAML must not take for something else.
    pub(crate) fn named_entries(&mut self, value: &Arc<Value>, what: &str) -> Option<Vec<Entry>> {
        let mut entries = self.entries(value, what)?;
        entries.retain(|entry| {
            let plain = !entry.key_plain || self.check_plain(&entry.key, entry.key_place);
            plain && self.check_printable(&entry.key, entry.key_place)
        });
        Some(entries)
    }

    /// Reads a list.
    pub(crate) fn list(&mut self, value: &Arc<Value>, what: &str) -> Option<Vec<Arc<Value>>> {
        let value = self.resolve(value)?;
        match &value.kind {
            Kind::List(items) => Some(items.clone()),
            Kind::Scalar(_) | Kind::Map(_) | Kind::Opaque(_) => {
                self.wrong_type(&value, what, "a list", "write `[a, b]`, or lines with `- `");
                None
            }
        }
    }

    /// Reads a list of texts; those that are none are left out, with a finding.
    pub(crate) fn texts(&mut self, value: &Arc<Value>, what: &str) -> Option<Vec<Text>> {
        let items = self.list(value, what)?;
        let one = format!("an entry of {what}");
        Some(
            items
                .iter()
                .filter_map(|item| self.text(item, &one))
                .collect(),
        )
    }

    /// Reads a text.
    pub(crate) fn text(&mut self, value: &Arc<Value>, what: &str) -> Option<Text> {
        let value = self.resolve(value)?;
        let scalar = self.scalar(&value, what, "a text")?;
        if scalar.plain && !self.check_plain(&scalar.text, value.place) {
            return None;
        }
        if !self.check_printable(scalar.text.trim(), value.place) {
            return None;
        }
        Some(Text {
            text: scalar.text.trim().to_owned(),
            place: value.place,
        })
    }

    /// Names end up on terminals, in logs and in file names: control characters are refused.
    fn check_printable(&mut self, text: &str, place: Place) -> bool {
        let allowed = |c: char| !c.is_control() || c == '\n' || c == '\t';
        let fine = text.chars().all(allowed);
        if !fine {
            self.invalid(
                place,
                "a control character in a text",
                "remove it, or what made it",
            );
        }
        fine
    }

    /// Is a plain scalar the text that it looks like?
    fn check_plain(&mut self, text: &str, place: Place) -> bool {
        let quote = format!("quote it: \"{text}\"");
        let finding = match read(text) {
            Plain::Null => Finding::new(Code::WrongType, "there is no value here", place)
                .help("write one, or quote it if it is a name"),
            Plain::Bool(_) => Finding::new(
                Code::WrongType,
                format!("`{text}` is a boolean, not a text"),
                place,
            )
            .help(quote),
            Plain::BoolTrap(value) => Finding::new(
                Code::BooleanTrap,
                format!("`{text}` without quotes is a boolean"),
                place,
            )
            .label(format!("Ansible reads this as `{value}`"))
            .help(quote),
            Plain::Octal(value) => Finding::new(
                Code::OctalTrap,
                format!("`{text}` without quotes is an octal number"),
                place,
            )
            .label(format!("Ansible reads this as {value}"))
            .help(quote),
            Plain::Sexagesimal(value) => Finding::new(
                Code::SexagesimalMac,
                format!("`{text}` without quotes is a number in base 60"),
                place,
            )
            .label(format!("Ansible reads this as {value}"))
            .help(quote),
            Plain::Int(_) | Plain::OddInt(_) | Plain::Float | Plain::Text => return true,
        };
        self.report(finding);
        false
    }

    /// Reads a boolean.
    pub(crate) fn boolean(&mut self, value: &Arc<Value>, what: &str) -> Option<bool> {
        let value = self.resolve(value)?;
        let scalar = self.scalar(&value, what, "`true` or `false`")?;
        match read(&scalar.text) {
            Plain::Bool(value) | Plain::BoolTrap(value) => Some(value),
            Plain::Null
            | Plain::Int(_)
            | Plain::Octal(_)
            | Plain::Sexagesimal(_)
            | Plain::OddInt(_)
            | Plain::Float
            | Plain::Text => {
                self.report(
                    Finding::new(
                        Code::WrongType,
                        format!("{what} must be `true` or `false`"),
                        value.place,
                    )
                    .help("write `true` or `false`"),
                );
                None
            }
        }
    }

    /// Reads an integer.
    pub(crate) fn integer(&mut self, value: &Arc<Value>, what: &str) -> Option<At<i64>> {
        let value = self.resolve(value)?;
        let scalar = self.scalar(&value, what, "a number")?;
        let text = scalar.text.trim().to_owned();
        let place = value.place;
        match read(&text) {
            Plain::Int(value) => return Some(At { value, place }),
            Plain::Octal(octal) => self.report(
                Finding::new(
                    Code::OctalTrap,
                    format!("`{text}` is an octal number"),
                    place,
                )
                .label(format!("Ansible reads this as {octal}"))
                .help("write it without the leading zero"),
            ),
            Plain::Null
            | Plain::Bool(_)
            | Plain::BoolTrap(_)
            | Plain::Sexagesimal(_)
            | Plain::OddInt(_)
            | Plain::Float
            | Plain::Text => self.report(
                Finding::new(Code::WrongType, format!("{what} must be a number"), place)
                    .help("write a whole number in decimal digits"),
            ),
        }
        None
    }

    /// Reads a whole number of at least 0.
    pub(crate) fn count(&mut self, value: &Arc<Value>, what: &str) -> Option<At<usize>> {
        let number = self.integer(value, what)?;
        match usize::try_from(number.value) {
            Ok(value) => Some(At {
                value,
                place: number.place,
            }),
            Err(_) => {
                self.invalid(
                    number.place,
                    format!("{what} is negative"),
                    "write 0 or more",
                );
                None
            }
        }
    }

    /// Reads a text that has a form of its own, such as an address.
    pub(crate) fn parse<T: FromStr>(
        &mut self,
        value: &Arc<Value>,
        what: &str,
        form: &str,
    ) -> Option<At<T>> {
        let text = self.text(value, what)?;
        match text.text.parse() {
            Ok(value) => Some(At {
                value,
                place: text.place,
            }),
            Err(_) => {
                let message = format!("`{}` is not {form}", text.text);
                self.invalid(text.place, message, &format!("{what} must be {form}"));
                None
            }
        }
    }

    /// Reads one of a few words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        value: &Arc<Value>,
        what: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.word_text(value, what)?;
        let found = words
            .iter()
            .find(|(word, _)| text.text.eq_ignore_ascii_case(word));
        if found.is_none() {
            let mut all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            all.dedup();
            let message = format!("`{}` is not possible for {what}", text.text);
            self.invalid(
                text.place,
                message,
                &format!("write one of: {}", all.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// A word may be one that YAML takes for a boolean or null (`none`, `no`): nothing is lost.
    fn word_text(&mut self, value: &Arc<Value>, what: &str) -> Option<Text> {
        let value = self.resolve(value)?;
        let scalar = self.scalar(&value, what, "a word")?;
        Some(Text {
            text: scalar.text.trim().to_owned(),
            place: value.place,
        })
    }

    fn scalar(&mut self, value: &Arc<Value>, what: &str, wanted: &str) -> Option<Scalar> {
        match &value.kind {
            Kind::Scalar(scalar) => Some(scalar.clone()),
            Kind::List(_) | Kind::Map(_) | Kind::Opaque(_) => {
                self.wrong_type(value, what, wanted, "write a single value");
                None
            }
        }
    }

    fn wrong_type(&mut self, value: &Value, what: &str, wanted: &str, help: &str) {
        self.report(
            Finding::new(
                Code::WrongType,
                format!("{what} must be {wanted}, this is {}", value.describe()),
                value.place,
            )
            .help(help),
        );
    }

    /// Reports a value that is not possible.
    pub(crate) fn invalid(&mut self, place: Place, message: impl Into<String>, help: &str) {
        self.report(Finding::new(Code::InvalidValue, message, place).help(help));
    }
}
