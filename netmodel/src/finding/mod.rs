//! Findings: what is wrong with an inventory, where, and what to do about it.
//!
//! # What a tenant may see
//!
//! A finding is made once, with everything that the platform admin wants to know. When it is shown
//! to a tenant ([`Audience::Tenant`]), places outside of the tenant's own tree, notes and helps
//! marked as the platform's, and the names in the message are left out: a clash between two tenants
//! never tells one who the other is.

mod code;
mod json;
mod text;

use serde::Serialize;

use crate::source::{Place, Realm, Sources};

pub use code::{Code, explain};
pub use json::{FORMAT_VERSION, to_json};
pub use text::{Style, to_text};

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// There is no model.
    Error,
    /// There is a model, but it is probably not what was meant.
    Warning,
}

/// For whom findings are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience<'a> {
    /// The platform admin, who sees everything.
    Platform,
    /// A tenant, by name: sees what concerns its own tree.
    Tenant(&'a str),
}

/// A place with a few words that stand under it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label {
    /// The place.
    pub place: Place,
    /// The words; may be empty.
    pub text: String,
}

/// A note or help line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// The text.
    pub text: String,
    /// Only for the platform admin: it names what a tenant must not know.
    pub platform_only: bool,
}

/// One thing that is wrong, or probably wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What kind of thing; decides the severity.
    pub code: Code,
    /// What is wrong, in one line.
    pub message: String,
    /// What a tenant is told instead of `message`.
    pub public_message: Option<String>,
    /// Where it is wrong.
    pub primary: Label,
    /// Other places involved.
    pub secondary: Vec<Label>,
    /// Facts that help to understand.
    pub notes: Vec<Remark>,
    /// What to do.
    pub help: Vec<Remark>,
}

impl Finding {
    /// Makes a finding.
    pub(crate) fn new(code: Code, message: impl Into<String>, place: Place) -> Self {
        Self {
            code,
            message: message.into(),
            public_message: None,
            primary: Label {
                place,
                text: String::new(),
            },
            secondary: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// Says something under the caret.
    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        self.primary.text = text.into();
        self
    }

    /// Names another place.
    pub(crate) fn also(mut self, place: Place, text: impl Into<String>) -> Self {
        if place != self.primary.place {
            let text = text.into();
            self.secondary.push(Label { place, text });
        }
        self
    }

    /// Adds a note.
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(remark(text, false));
        self
    }

    /// Adds a note that only the platform admin sees.
    pub(crate) fn platform_note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(remark(text, true));
        self
    }

    /// Adds a help line.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(remark(text, false));
        self
    }

    /// Adds a help line that only the platform admin sees.
    pub(crate) fn platform_help(mut self, text: impl Into<String>) -> Self {
        self.help.push(remark(text, true));
        self
    }

    /// Says what a tenant is told instead of the message.
    pub(crate) fn public(mut self, message: impl Into<String>) -> Self {
        self.public_message = Some(message.into());
        self
    }

    /// Returns how bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Returns the finding as the audience may see it; `None` if it is none of its business.
    #[must_use]
    pub fn seen_by(&self, audience: Audience<'_>, sources: &Sources) -> Option<Self> {
        let Audience::Tenant(tenant) = audience else {
            return Some(self.clone());
        };
        let own = |label: &&Label| matches!(&sources.get(label.place.file).realm, Realm::Tenant(name) if **name == *tenant);
        let all = || std::iter::once(&self.primary).chain(&self.secondary);
        let mut labels: Vec<Label> = all().filter(own).cloned().collect();
        if labels.is_empty() {
            return None;
        }
        let hidden = all().count() > labels.len();
        let mut primary = labels.remove(0);
        if hidden {
            // The words under a caret describe this place's part in a clash with a hidden place.
            primary.text = String::new();
            labels
                .iter_mut()
                .for_each(|label| label.text = String::new());
        }
        Some(Self {
            code: self.code,
            message: self
                .public_message
                .as_ref()
                .unwrap_or(&self.message)
                .clone(),
            public_message: None,
            primary,
            secondary: labels,
            notes: public(&self.notes),
            help: public(&self.help),
        })
    }
}

fn remark(text: impl Into<String>, platform_only: bool) -> Remark {
    Remark {
        text: text.into(),
        platform_only,
    }
}

fn public(remarks: &[Remark]) -> Vec<Remark> {
    remarks
        .iter()
        .filter(|remark| !remark.platform_only)
        .cloned()
        .collect()
}
