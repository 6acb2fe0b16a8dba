//! What `plan`, `apply` and `rollback` share: finding out what would change, and saying it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::report::{CHANGES, NO, Paint, YES};
use crate::controller::Prepared;
use crate::store::Summary;

/// What would change, in words.
pub(super) struct Review<'p> {
    prepared: &'p Prepared,
}

impl<'p> Review<'p> {
    /// Looks at what was prepared. `allow_destroy`: what may be destroyed; `None`: all.
    pub(super) fn new(prepared: &'p Prepared, _allow_destroy: Option<usize>) -> Self {
        Self { prepared }
    }

    pub(super) fn prepared(&self) -> &'p Prepared {
        self.prepared
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prepared.is_empty()
    }

    pub(super) fn is_refused(&self) -> bool {
        false
    }

    /// Returns the exit code of a plan.
    pub(super) fn code(&self) -> u8 {
        match (self.is_refused(), self.is_empty()) {
            (true, _) => NO,
            (false, true) => YES,
            (false, false) => CHANGES,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary::default()
    }

    /// Returns what tells this plan from every other one.
    pub(super) fn digest(&self) -> String {
        let prepared = self.prepared;
        let parts = (&prepared.base, &prepared.inventory, self.to_json());
        let text = serde_json::to_vec(&parts).expect("a plan can be written as JSON");
        netmodel::published::digest(&text)
    }

    pub(super) fn to_text(&self, _paint: Paint) -> String {
        let mut text = String::new();
        for change in &self.prepared.enforcement {
            let _ = writeln!(text, "  {change}");
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "format_version": 1, "enforcement": self.prepared.enforcement })
    }
}
