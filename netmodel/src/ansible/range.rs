//! Host ranges: `web[01:20]`, `db-[a:c]`, `rack[0:8:2]`.

/// Returns the names that a pattern stands for; `None` if they would be more than `room`.
pub(super) fn expand(pattern: &str, room: usize) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, range, after)) = next_range(rest) {
        let mut longer = Vec::new();
        for name in &names {
            for item in &range {
                if longer.len() >= room {
                    return None;
                }
                longer.push(format!("{name}{before}{item}"));
            }
        }
        names = longer;
        rest = after;
    }
    if names.len() > room {
        return None;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Some(names)
}

/// Splits at the first `[…]` that is a range.
fn next_range(text: &str) -> Option<(&str, Vec<String>, &str)> {
    let open = text.find('[')?;
    let close = open + text[open..].find(']')?;
    let items = items(&text[open + 1..close])?;
    Some((&text[..open], items, &text[close + 1..]))
}

/// More items than any bound on hosts allows are not worth making.
const MAX_ITEMS: u32 = 100_000;

fn items(range: &str) -> Option<Vec<String>> {
    let mut parts = range.split(':');
    let (first, last) = (parts.next()?, parts.next()?);
    let step: u32 = parts.next().map_or(Some(1), |step| step.parse().ok())?;
    if parts.next().is_some() || step == 0 {
        return None;
    }
    let step = usize::try_from(step).ok()?;
    if let (Some(first), Some(last)) = (letter(first), letter(last)) {
        let letters = (first..=last).step_by(step);
        return Some(letters.map(|c| char::from(c).to_string()).collect());
    }
    let width = if first.starts_with('0') {
        first.len()
    } else {
        0
    };
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let last = last.min(first.saturating_add(MAX_ITEMS));
    Some(
        (first..=last)
            .step_by(step)
            .map(|number| format!("{number:0width$}"))
            .collect(),
    )
}

fn letter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [c] if c.is_ascii_alphabetic() => Some(*c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ranges_expand_as_ansible_expands_them() {
        let rows: &[(&str, &[&str])] = &[
            ("web01", &["web01"]),
            ("web[08:10]", &["web08", "web09", "web10"]),
            ("db-[a:c].x", &["db-a.x", "db-b.x", "db-c.x"]),
            ("n[0:4:2]", &["n0", "n2", "n4"]),
            ("[1:2][a:b]", &["1a", "1b", "2a", "2b"]),
            ("odd[]", &["odd[]"]),
        ];
        for (pattern, expected) in rows {
            assert_eq!(expand(pattern, 100).unwrap(), *expected, "{pattern}");
        }
    }

    #[test]
    fn more_hosts_than_there_is_room_for_are_refused() {
        assert_eq!(expand("a[1:1000000]", 50), None);
        assert_eq!(expand("a[1:99][1:99][1:99][1:99][1:99]", 50_000), None);
    }
}
