//! The long texts of drop reasons.

use dataplane_common::reason::DropReason;

/// One `## name` section per reason; its first paragraph is the summary.
const TEXTS: &str = include_str!("reasons.md");

/// Returns the long text of a drop reason by its kebab-case name.
#[must_use]
pub fn explain(name: &str) -> Option<&'static str> {
    let mut sections = TEXTS.split("\n## ").skip(1);
    sections
        .find(|section| section.lines().next() == Some(name))
        .map(str::trim_end)
}

/// Returns what a drop reason means, in one sentence without its full stop.
#[must_use]
pub fn summary(reason: DropReason) -> &'static str {
    let text = explain(reason.name()).unwrap_or_default();
    text.lines()
        .nth(2)
        .unwrap_or_default()
        .trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_long_text_and_a_summary() {
        for reason in DropReason::ALL {
            assert!(explain(reason.name()).is_some(), "{reason}");
            assert!(!summary(*reason).is_empty(), "{reason}");
        }
    }

    #[test]
    fn every_long_text_is_of_a_reason() {
        for section in TEXTS.split("\n## ").skip(1) {
            let name = section.lines().next().unwrap();
            assert!(
                DropReason::ALL.iter().any(|reason| reason.name() == name),
                "{name}"
            );
        }
    }
}
