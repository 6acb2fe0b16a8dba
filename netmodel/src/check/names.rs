//! DNS names and values as the inventory writes them.

use std::net::{Ipv4Addr, Ipv6Addr};

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

/// Why a record's type and value do not go together.
pub(crate) enum BadRecord {
    /// The type is not served.
    Type,
    /// The type has other values; what to write.
    Value(&'static str),
}

/// Returns the value in presentation form.
pub(crate) fn check_value(kind: &str, value: &str, zone: &str) -> Result<String, BadRecord> {
    let name = |text: &str| target(text, zone);
    let parts: Vec<&str> = value.split_whitespace().collect();
    let number = |text: &str| text.parse::<u16>().is_ok();
    match kind {
        "A" => value
            .parse::<Ipv4Addr>()
            .map(|a| a.to_string())
            .map_err(|_| BadRecord::Value("write an IPv4 address")),
        "AAAA" => value
            .parse::<Ipv6Addr>()
            .map(|a| a.to_string())
            .map_err(|_| BadRecord::Value("write an IPv6 address")),
        "CNAME" => name(value).ok_or(BadRecord::Value(
            "write a name: `www`, or `www.example.org.`",
        )),
        "MX" => match parts.as_slice() {
            [preference, host] if number(preference) => {
                name(host).map(|h| format!("{preference} {h}"))
            }
            _ => None,
        }
        .ok_or(BadRecord::Value("write `10 mail`: preference and host")),
        "SRV" => match parts.as_slice() {
            [a, b, c, host] if [a, b, c].into_iter().all(|text| number(text)) => {
                name(host).map(|h| format!("{a} {b} {c} {h}"))
            }
            _ => None,
        }
        .ok_or(BadRecord::Value(
            "write `0 5 5060 sip`: priority, weight, port and host",
        )),
        "TXT" if value.len() <= 2048 && !value.chars().any(char::is_control) => {
            Ok(value.to_owned())
        }
        "TXT" => Err(BadRecord::Value(
            "write at most 2048 characters, without line breaks",
        )),
        "CAA" => match parts.as_slice() {
            [flags, "issue" | "issuewild" | "iodef", _, ..]
                if flags.parse::<u8>().is_ok() && !value.chars().any(char::is_control) =>
            {
                Ok(parts.join(" "))
            }
            _ => Err(BadRecord::Value("write `0 issue \"ca.example\"`")),
        },
        _ => Err(BadRecord::Type),
    }
}

/// A name as a value: relative to the zone, or with a final dot.
fn target(text: &str, zone: &str) -> Option<String> {
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
