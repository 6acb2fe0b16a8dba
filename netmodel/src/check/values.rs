//! The types that `tenant_dns_records` can have, and their values in presentation form.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::names::target;

/// Each type, and what to write as its value.
const TYPES: &[(&str, &str)] = &[
    ("A", "write an IPv4 address"),
    ("AAAA", "write an IPv6 address"),
    ("CAA", "write `0 issue \"ca.example\"`"),
    ("CNAME", "write a name: `www`, or `www.example.org.`"),
    (
        "HTTPS",
        "write `1 . alpn=h2,h3 port=443`: priority, target (`.` is the name itself) and parameters; no parameters if the priority is 0",
    ),
    ("MX", "write `10 mail`: preference and host"),
    (
        "NS",
        "write the name of a server: `ns1`, or `ns1.example.org.`",
    ),
    ("PTR", "write a name: `www`, or `www.example.org.`"),
    (
        "SRV",
        "write `0 5 5060 sip`: priority, weight, port and host",
    ),
    (
        "SSHFP",
        "write `4 2 HEX`: algorithm, 1 (SHA-1) or 2 (SHA-256), and the digest, as `ssh-keygen -r` does",
    ),
    (
        "SVCB",
        "write `1 web port=8443`: priority, target (`.` is the name itself) and parameters; no parameters if the priority is 0",
    ),
    (
        "TLSA",
        "write `3 1 1 HEX`: usage 0-3, selector 0-1, matching 0-2 and the data; SHA-256 (1) has 64 digits, SHA-512 (2) 128",
    ),
    ("TXT", "write at most 2048 characters, without line breaks"),
];

/// Why a record's type and value do not go together.
pub(crate) enum BadRecord {
    /// The type is not served.
    Type,
    /// The type has other values; what to write.
    Value(&'static str),
}

/// Returns the value in presentation form.
pub(crate) fn check_value(kind: &str, value: &str, zone: &str) -> Result<String, BadRecord> {
    let (_, help) = TYPES
        .iter()
        .find(|(name, _)| *name == kind)
        .ok_or(BadRecord::Type)?;
    checked(kind, value, zone).ok_or(BadRecord::Value(help))
}

/// Returns the names of all types, for people.
pub(crate) fn all_types() -> String {
    let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    match names.split_last() {
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn checked(kind: &str, value: &str, zone: &str) -> Option<String> {
    let parts: Vec<&str> = value.split_whitespace().collect();
    match kind {
        "A" => value
            .parse::<Ipv4Addr>()
            .ok()
            .map(|address| address.to_string()),
        "AAAA" => value
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| address.to_string()),
        "CAA" => caa(&parts, value),
        "CNAME" | "NS" | "PTR" => target(value, zone),
        "HTTPS" | "SVCB" => service(&parts, zone),
        "MX" => numbers_and_name::<1>(&parts, zone),
        "SRV" => numbers_and_name::<3>(&parts, zone),
        "SSHFP" => fingerprint(&parts),
        "TLSA" => association(&parts),
        "TXT" => is_text(value, 2048).then(|| value.to_owned()),
        _ => None,
    }
}

fn is_text(value: &str, longest: usize) -> bool {
    value.len() <= longest && !value.chars().any(char::is_control)
}

fn caa(parts: &[&str], value: &str) -> Option<String> {
    let [flags, "issue" | "issuewild" | "iodef", _, ..] = parts else {
        return None;
    };
    (flags.parse::<u8>().is_ok() && is_text(value, 1024)).then(|| parts.join(" "))
}

/// `N` numbers of 16 bits, and a name behind them.
fn numbers_and_name<const N: usize>(parts: &[&str], zone: &str) -> Option<String> {
    let (host, numbers) = parts.split_last()?;
    let numbers: &[&str; N] = numbers.try_into().ok()?;
    let are_numbers = numbers.iter().all(|text| text.parse::<u16>().is_ok());
    let host = target(host, zone).filter(|_| are_numbers)?;
    Some(format!("{} {host}", numbers.join(" ")))
}

/// RFC 4255, 3.1: algorithm, type of the digest, digest.
fn fingerprint(parts: &[&str]) -> Option<String> {
    let [algorithm, kind, digest @ ..] = parts else {
        return None;
    };
    let digits = match *kind {
        "1" => 40,
        "2" => 64,
        _ => return None,
    };
    let digest = hexadecimal(digest).filter(|digest| digest.len() == digits)?;
    let algorithm: u8 = algorithm.parse().ok().filter(|number| *number > 0)?;
    Some(format!("{algorithm} {kind} {digest}"))
}

/// RFC 6698, 2.1: usage, selector, matching type, data.
fn association(parts: &[&str]) -> Option<String> {
    let [
        usage @ ("0" | "1" | "2" | "3"),
        selector @ ("0" | "1"),
        matching,
        data @ ..,
    ] = parts
    else {
        return None;
    };
    let data = hexadecimal(data)?;
    let is_long_enough = match *matching {
        "0" => (2..=8192).contains(&data.len()),
        "1" => data.len() == 64,
        "2" => data.len() == 128,
        _ => false,
    };
    is_long_enough.then(|| format!("{usage} {selector} {matching} {data}"))
}

/// Digits that may be in groups; in lower case.
fn hexadecimal(groups: &[&str]) -> Option<String> {
    let digits = groups.concat().to_ascii_lowercase();
    let is_good =
        digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_good.then_some(digits)
}

/// RFC 9460, 2.1: priority, target, parameters.
fn service(parts: &[&str], zone: &str) -> Option<String> {
    let [priority, host, parameters @ ..] = parts else {
        return None;
    };
    let priority: u16 = priority.parse().ok()?;
    // RFC 9460, 2.4.2: "In AliasMode, recipients MUST ignore any SvcParams that are present."
    if priority == 0 && !parameters.is_empty() {
        return None;
    }
    let host = if *host == "." {
        ".".to_owned()
    } else {
        target(host, zone)?
    };
    let mut keys: Vec<&str> = Vec::new();
    for parameter in parameters {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if keys.contains(&key) || !is_parameter(key, value) {
            return None;
        }
        keys.push(key);
    }
    let mut text = format!("{priority} {host}");
    for parameter in parameters {
        text.push(' ');
        text.push_str(parameter);
    }
    Some(text)
}

/// The parameters of RFC 9460, 7 that need no other knowledge.
fn is_parameter(key: &str, value: &str) -> bool {
    let each = |is_good: fn(&str) -> bool| value.split(',').all(is_good);
    match key {
        "alpn" => each(|id| {
            (1..=255).contains(&id.len())
                && id
                    .bytes()
                    .all(|octet| octet.is_ascii_graphic() && !b"\"\\;".contains(&octet))
        }),
        "ipv4hint" => each(|address| address.parse::<Ipv4Addr>().is_ok()),
        "ipv6hint" => each(|address| address.parse::<Ipv6Addr>().is_ok()),
        "no-default-alpn" => value.is_empty(),
        "port" => value.parse::<u16>().is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_fit_their_type_are_taken_as_they_will_be_served() {
        let sha1 = "ab".repeat(20);
        let sha256 = "cd".repeat(32);
        let sha512 = "ef".repeat(64);
        let rows = [
            ("NS", "Ns1", "ns1".to_owned()),
            ("NS", "ns.example.", "ns.example.".to_owned()),
            ("PTR", "@", "@".to_owned()),
            ("MX", "10  Mail", "10 mail".to_owned()),
            ("SRV", "0 5 5060 sip.z.example.", "0 5 5060 sip".to_owned()),
            ("SSHFP", &format!("4 1 {sha1}"), format!("4 1 {sha1}")),
            (
                "SSHFP",
                &format!("4 2 {}", sha256.to_uppercase()),
                format!("4 2 {sha256}"),
            ),
            (
                "TLSA",
                &format!("3 1 1 {} {}", &sha256[..32], &sha256[32..]),
                format!("3 1 1 {sha256}"),
            ),
            (
                "TLSA",
                &format!("2 0 2 {sha512}"),
                format!("2 0 2 {sha512}"),
            ),
            ("TLSA", "3 0 0 3082", "3 0 0 3082".to_owned()),
            (
                "HTTPS",
                "1 . alpn=h2,h3 port=8443",
                "1 . alpn=h2,h3 port=8443".to_owned(),
            ),
            ("HTTPS", "0 Web", "0 web".to_owned()),
            (
                "SVCB",
                "2 w ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1",
                "2 w ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1".to_owned(),
            ),
            (
                "SVCB",
                "1 w alpn=h2 no-default-alpn",
                "1 w alpn=h2 no-default-alpn".to_owned(),
            ),
        ];
        for (kind, value, expected) in rows {
            let found = check_value(kind, value, "z.example").ok();
            assert_eq!(found, Some(expected), "{kind} {value}");
        }
    }

    #[test]
    fn values_that_do_not_fit_their_type_are_refused() {
        let rows = [
            ("NS", ""),
            ("NS", "a b"),
            ("PTR", "192.0.2.1 x"),
            ("MX", "mail"),
            ("MX", "70000 mail"),
            ("SRV", "0 5 sip"),
            ("SSHFP", "4 1 abcd"),
            ("SSHFP", "4 3 abcd"),
            ("SSHFP", "0 1 abababababababababababababababababababab"),
            ("TLSA", "4 1 1 00"),
            ("TLSA", "3 1 1 abcd"),
            ("TLSA", "3 1 0 abc"),
            ("TLSA", "3 1 0 xy"),
            ("HTTPS", "1"),
            ("HTTPS", "0 . alpn=h2"),
            ("HTTPS", "1 . alpn=h2 alpn=h3"),
            ("HTTPS", "1 . port=70000"),
            ("HTTPS", "1 . ipv4hint=::1"),
            ("HTTPS", "1 . unknown=1"),
            ("HTTPS", "1 . alpn="),
            ("CAA", "0 other x"),
            ("TXT", "a\nb"),
        ];
        for (kind, value) in rows {
            assert!(
                matches!(
                    check_value(kind, value, "z.example"),
                    Err(BadRecord::Value(_))
                ),
                "{kind} {value}"
            );
        }
        assert!(matches!(
            check_value("SOA", "a b 1 2 3 4 5", "z.example"),
            Err(BadRecord::Type)
        ));
    }
}
