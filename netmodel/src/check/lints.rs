//! Checks that look at everything together: what is probably not meant.

use super::draft::Draft;

/// Warns of what is allowed, but can hardly be meant.
pub(crate) fn check(_draft: &mut Draft) {}
