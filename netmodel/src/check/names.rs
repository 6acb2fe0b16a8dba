//! DNS names and values as the inventory writes them.

use crate::finding::{Code, Finding};
use crate::source::Place;

/// Why a text is no label of a host's name.
pub(crate) fn why_not_label(label: &str) -> Option<&'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if label.is_empty() {
        Some("a label is empty")
    } else if label.len() > 63 {
        Some("a label has at most 63 characters")
    } else if label.contains('_') {
        Some("`_` is not allowed in a host's name")
    } else if !label.bytes().all(allowed) {
        Some("only a-z, 0-9 and `-` are allowed")
    } else if label.starts_with('-') || label.ends_with('-') {
        Some("a label cannot begin or end with `-`")
    } else {
        None
    }
}

/// Why a text is no host's name.
pub(crate) fn why_not_name(name: &str) -> Option<&'static str> {
    if name.len() > 200 {
        return Some("the name is too long");
    }
    name.split('.').find_map(why_not_label)
}

/// Names of records may also have `_` (SRV, TXT), a leading `*`, and be the apex `@`.
pub(crate) fn why_not_record_name(name: &str) -> Option<&'static str> {
    if name == "@" {
        return None;
    }
    let name = name
        .strip_prefix("*.")
        .unwrap_or(if name == "*" { return None } else { name });
    why_not_name(&name.replace('_', "x"))
}

/// Takes the zone off a name that ends with it.
pub(crate) fn relative(name: &str, zone: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    let inside = name
        .strip_suffix(zone)
        .and_then(|rest| rest.strip_suffix('.'));
    inside.unwrap_or(name).to_owned()
}

/// The finding for such a name.
pub(crate) fn bad_name(name: &str, why: &str, place: Place) -> Finding {
    Finding::new(
        Code::DnsLabel,
        format!("`{name}` cannot be a DNS name"),
        place,
    )
    .label(why)
    .help("names are made of labels out of a-z, 0-9 and `-`")
}

/// A name as a value: relative to the zone, or with a final dot.
pub(crate) fn target(text: &str, zone: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if lower == "@" {
        return Some(lower);
    }
    let inside = relative(&lower, zone);
    let is_inside = lower.ends_with('.') && inside != lower.trim_end_matches('.');
    let name = if is_inside { inside } else { lower };
    let bare = name.strip_suffix('.').unwrap_or(&name);
    why_not_name(&bare.replace('_', "x"))
        .is_none()
        .then_some(name)
}
