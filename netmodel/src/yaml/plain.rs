//! What YAML 1.1 makes of a scalar without quotes.
//!
//! Ansible reads files with PyYAML, which follows YAML 1.1 (<https://yaml.org/type/>): `no` is a
//! boolean, `010` is eight, `12:34:56` is a number in base 60. This module tells which of them a
//! text is, so that a message can say what happened instead of "not a string".

/// The meaning of a plain scalar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Plain {
    /// Empty, `~`, `null`.
    Null,
    /// `true` or `false`, in the spelling that every reader agrees on.
    Bool(bool),
    /// `yes`, `no`, `on`, `off`: booleans in YAML 1.1, text in YAML 1.2.
    BoolTrap(bool),
    /// A decimal integer.
    Int(i64),
    /// `010`: octal in YAML 1.1, ten in YAML 1.2.
    Octal(i64),
    /// `12:34:56`: base 60 in YAML 1.1.
    Sexagesimal(i64),
    /// Hexadecimal or binary integer, or a number with underscores.
    OddInt(i64),
    /// A floating point number.
    Float,
    /// None of these.
    Text,
}

/// Tells what YAML 1.1 makes of a text without quotes.
pub(crate) fn read(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "true" | "True" | "TRUE" => Plain::Bool(true),
        "false" | "False" | "FALSE" => Plain::Bool(false),
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Plain::BoolTrap(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => Plain::BoolTrap(false),
        _ => read_number(text),
    }
}

fn read_number(text: &str) -> Plain {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let integer = |value: Option<i64>, kind: fn(i64) -> Plain| {
        value
            .and_then(|value| value.checked_mul(sign))
            .map_or(Plain::Text, kind)
    };
    if let Some(hex) = digits.strip_prefix("0x") {
        return integer(radix(hex, 16), Plain::OddInt);
    }
    if let Some(binary) = digits.strip_prefix("0b") {
        return integer(radix(binary, 2), Plain::OddInt);
    }
    if digits.contains(':') {
        return integer(sexagesimal(digits), Plain::Sexagesimal);
    }
    if digits.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return match digits.strip_prefix('0') {
            None if digits.contains('_') => integer(radix(digits, 10), Plain::OddInt),
            None | Some("") => integer(radix(digits, 10), Plain::Int),
            Some(rest) => integer(radix(rest, 8), Plain::Octal),
        };
    }
    if is_float(digits) {
        Plain::Float
    } else {
        Plain::Text
    }
}

/// Reads digits with underscores between them.
fn radix(digits: &str, radix: u32) -> Option<i64> {
    let clean: String = digits.chars().filter(|&c| c != '_').collect();
    if clean.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&clean, radix).ok()
}

/// Reads `[1-9][0-9_]*(:[0-5]?[0-9])+`.
fn sexagesimal(digits: &str) -> Option<i64> {
    if digits.starts_with('0') {
        return None;
    }
    let mut parts = digits.split(':');
    let mut value = radix(parts.next()?, 10)?;
    for part in parts {
        let fits = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit());
        let part: i64 = part.parse().ok().filter(|&part| fits && part < 60)?;
        value = value.checked_mul(60)?.checked_add(part)?;
    }
    Some(value)
}

/// YAML 1.1 wants a point in a float; `1e3` is text.
fn is_float(digits: &str) -> bool {
    digits.matches('.').count() == 1
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.replace('_', "").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_read_as_yaml_1_1_reads_them() {
        let rows = [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("no", Plain::BoolTrap(false)),
            ("On", Plain::BoolTrap(true)),
            ("n", Plain::Text),
            ("100", Plain::Int(100)),
            ("-1", Plain::Int(-1)),
            ("0", Plain::Int(0)),
            ("010", Plain::Octal(8)),
            ("089", Plain::Text),
            ("0x1f", Plain::OddInt(31)),
            ("1_000", Plain::OddInt(1000)),
            ("12:34:56", Plain::Sexagesimal(45_296)),
            ("12:34:56:12:34:56", Plain::Sexagesimal(9_783_981_296)),
            ("02:34:56:12:34:56", Plain::Text),
            ("12:34:56:78:34:56", Plain::Text),
            ("1.5", Plain::Float),
            ("1e3", Plain::Text),
            ("10.20.30.1", Plain::Text),
            ("99999999999999999999", Plain::Text),
            ("c8:ff:bf:06:5a:5a", Plain::Text),
        ];
        for (text, expected) in rows {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
