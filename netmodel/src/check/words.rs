//! Words of messages: suggestions and lists.

use std::collections::HashSet;
use std::fmt::Display;

/// Returns the candidate that was probably meant.
pub(crate) fn did_you_mean<'a>(
    said: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near =
        |candidate: &&str| said.len().abs_diff(candidate.len()) * 3 <= candidate.len().max(3);
    candidates
        .into_iter()
        // Measuring is slow, and names may be many and long.
        .filter(near)
        .map(|candidate| (strsim::damerau_levenshtein(said, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `dhcp_range_start6` is like `dhcp_range_start`, but nobody misspells by adding a digit.
pub(crate) fn looks_unrelated(key: &str, known: &[&str]) -> bool {
    let stem = key.trim_end_matches(|c: char| c.is_ascii_digit());
    stem != key && known.contains(&stem)
}

/// Joins names for a message: "`a`, `b` and `c`"; long lists are cut.
pub(crate) fn listed<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut seen = HashSet::new();
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .filter(|name| seen.insert(name.clone()))
        .collect();
    const SHOWN: usize = 12;
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] if names.len() <= SHOWN => format!("{} and {last}", first.join(", ")),
        _ => format!(
            "{} and {} more",
            names[..SHOWN].join(", "),
            names.len() - SHOWN
        ),
    }
}
