//! Guards in source text: where they are and how each one is disabled.
//!
//! A guard is one check of the policy whose loss would let something through. Its line is marked:
//!
//! ```text
//! // guard: bad-source-mac
//! check_source_mac(&ether)?;
//! ```
//!
//! What follows the mark is a statement, an `if` that returns, a match arm, or the last
//! expression of a function. Where it has another shape, a second line says what stands in its
//! place when it is disabled:
//!
//! ```text
//! // guard: spoofed-source
//! // off: Binding::Contradicts => Ok(source),
//! Binding::Contradicts => Err(DropReason::SpoofedSource),
//! ```
//!
//! or which part of the code the guard is:
//!
//! ```text
//! // guard: connection-live
//! // without: if flow.expires > now
//! Some(flow) if flow.expires > now => { .. }
//! ```
//!
//! The loss of some guards cannot be seen, because another check stands behind them. They say so:
//!
//! ```text
//! // guard: tag-cut-short
//! // exempt: the length of the frame is checked above
//! let tag = frame.read::<Tag>(14).ok_or(DropReason::Truncated)?;
//! ```
//!
//! This is no parser of Rust: what it cannot disable is an error of the run, never a guard that is
//! silently left alone.

use std::ops::Range;

/// The mark of a guard.
const MARK: &str = "// guard:";
/// What stands in its place when it is disabled, if its shape does not tell.
const OFF: &str = "// off:";
/// What part of the code is the guard, if not all of it.
const WITHOUT: &str = "// without:";
/// Why no test can see that it is disabled.
const EXEMPT: &str = "// exempt:";
/// The same of a part of it: the part between backticks, a colon, why.
const EXEMPT_PART: &str = "// exempt part:";
/// What no line of code outside of a guard may name.
const REASON: &str = "DropReason::";

/// A guard in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Guard {
    /// Its name.
    pub(crate) name: String,
    /// The line of its mark, from 1.
    pub(crate) line: usize,
    /// Where its code is in the text, in bytes.
    span: Range<usize>,
    /// What kind of code that is.
    form: Form,
    /// What replaces it, if the source says so.
    off: Option<String>,
    /// What part of its code is taken out, if the source says so.
    without: Option<String>,
    /// Why its loss cannot be seen, if the source says so.
    pub(crate) exempt: Option<String>,
    /// Parts of its condition whose loss cannot be seen, and why.
    pub(crate) exempt_parts: Vec<(String, String)>,
}

/// The shape of a guard's code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// `expression?;`
    Try,
    /// `let pattern = expression?;`
    LetTry,
    /// `if condition { return Err(..); }`
    If,
    /// `pattern => expression?,`
    Arm,
    /// `expression` at the end of a block.
    Last,
    /// Anything else.
    Other,
}

/// All guards of a source text, in its order.
pub(crate) fn find(text: &str) -> Vec<Guard> {
    let mut guards = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        offset += line.len();
        if let Some(name) = line.trim_start().strip_prefix(MARK) {
            let span = code_after(text, offset);
            let code = text.get(span.clone()).unwrap_or_default();
            guards.push(Guard {
                name: name.trim().to_owned(),
                line: index + 1,
                form: form(code),
                off: said(text, offset, OFF),
                without: said(text, offset, WITHOUT),
                exempt: said(text, offset, EXEMPT),
                exempt_parts: exempt_parts(text, offset),
                span,
            });
        }
    }
    guards
}

/// The texts with one guard disabled: candidates in the order in which they should be tried; the
/// first one that compiles is the mutant. Empty if the guard's shape is not known.
pub(crate) fn disabled(text: &str, guard: &Guard) -> Vec<String> {
    let code = text.get(guard.span.clone()).unwrap_or_default();
    let replacements = match (&guard.off, &guard.without) {
        (Some(off), _) => vec![off.clone()],
        (None, Some(part)) if code.contains(part) => vec![code.replacen(part, "", 1)],
        (None, Some(_)) => Vec::new(),
        (None, None) => replacements(code, guard.form),
    };
    replacements
        .iter()
        .map(|replacement| replaced(text, guard, replacement))
        .collect()
}

/// For a guard that is made of several tests, the text with only one of them disabled, for each of
/// `if a || b {..}`, `if !(a && b) {..}` and `let ok = a && b;`.
pub(crate) fn parts_disabled(text: &str, guard: &Guard) -> Vec<(String, Vec<String>)> {
    let code = text.get(guard.span.clone()).unwrap_or_default();
    let Some(split) = Split::of(code) else {
        return Vec::new();
    };
    (0..split.parts.len())
        .map(|left_out| {
            let mut kept = split.parts.clone();
            let name = kept.remove(left_out).to_owned();
            let joined = kept.join(&format!("\n {} ", split.operator));
            let mutant = format!("{}{joined}{}", split.before, split.after);
            (name, vec![replaced(text, guard, &mutant)])
        })
        .collect()
}

/// A guard's code around the tests that it is made of.
struct Split<'c> {
    before: &'c str,
    parts: Vec<&'c str>,
    operator: &'static str,
    after: &'c str,
}

impl<'c> Split<'c> {
    /// Splits code that has at least two parts.
    fn of(code: &'c str) -> Option<Self> {
        let split = if let Some(all) = code.strip_prefix("let ") {
            let at = "let ".len() + all.find('=')? + 1;
            Self::at(code, at, code.strip_suffix(';')?.len(), "&&")
        } else {
            let (condition, _) = condition_of(code)?;
            let end = "if ".len() + condition.trim_end().len();
            match condition.trim().strip_prefix("!(") {
                Some(inner) if inner.find(')') == Some(inner.len() - 1) => {
                    Self::at(code, "if !(".len(), end - 1, "&&")
                }
                _ => Self::at(code, "if ".len(), end, "||"),
            }
        };
        split.filter(|split| split.parts.len() > 1)
    }

    fn at(code: &'c str, start: usize, end: usize, operator: &'static str) -> Option<Self> {
        let tests = code.get(start..end)?;
        Some(Self {
            before: code.get(..start)?,
            parts: split_at(tests, operator),
            operator,
            after: code.get(end..)?,
        })
    }
}

/// The condition of an `if` and its block.
fn condition_of(code: &str) -> Option<(&str, &str)> {
    let rest = code.strip_prefix("if ")?;
    let mut depth = 0_i32;
    for (at, symbol) in symbols(rest) {
        match symbol {
            '{' if depth == 0 => return Some((rest.get(..at)?, rest.get(at..)?)),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The parts of a condition between operators, outside of all brackets.
fn split_at<'c>(condition: &'c str, operator: &str) -> Vec<&'c str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_i32);
    for (at, symbol) in symbols(condition) {
        match symbol {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '|' | '&'
                if depth == 0 && at >= start && condition.get(at..at + 2) == Some(operator) =>
            {
                parts.extend(condition.get(start..at));
                start = at + 2;
            }
            _ => {}
        }
    }
    parts.extend(condition.get(start..));
    parts.into_iter().map(str::trim).collect()
}

/// The text with a guard's code replaced.
fn replaced(text: &str, guard: &Guard, replacement: &str) -> String {
    let mut mutant = text.to_owned();
    mutant.replace_range(guard.span.clone(), replacement);
    mutant
}

/// What the comment lines behind a mark say after a word.
fn said(text: &str, offset: usize, word: &str) -> Option<String> {
    all_said(text, offset, word).into_iter().next()
}

/// The same, each time that the word stands there; a line of `//  ` goes on with the one before.
fn all_said(text: &str, offset: usize, word: &str) -> Vec<String> {
    let lines = text.get(offset..).unwrap_or_default().lines();
    let mut comments = lines
        .map(str::trim_start)
        .take_while(|line| line.starts_with("//"))
        .peekable();
    let mut all = Vec::new();
    while let Some(line) = comments.next() {
        let Some(first) = line.strip_prefix(word) else {
            continue;
        };
        let mut words = vec![first.trim()];
        while let Some(more) = comments.next_if(|line| line.starts_with("//  ")) {
            words.push(more.trim_start_matches('/').trim());
        }
        all.push(words.join(" "));
    }
    all
}

fn exempt_parts(text: &str, offset: usize) -> Vec<(String, String)> {
    all_said(text, offset, EXEMPT_PART)
        .iter()
        .filter_map(|line| line.strip_prefix('`')?.split_once("`:"))
        .map(|(part, why)| (part.to_owned(), why.trim().to_owned()))
        .collect()
}

/// The lines (from 1) that name a drop reason outside of every guard.
pub(crate) fn unguarded(text: &str) -> Vec<usize> {
    let guards = find(text);
    let mut lines = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let at = offset + (line.len() - line.trim_start().len());
        offset += line.len();
        let is_code = !line.trim_start().starts_with("//");
        let is_guarded = guards.iter().any(|guard| guard.span.contains(&at));
        if is_code && !is_guarded && line.contains(REASON) {
            lines.push(index + 1);
        }
    }
    lines
}

/// What a guard's code is replaced by.
fn replacements(code: &str, form: Form) -> Vec<String> {
    match form {
        Form::Try => {
            let tried = code.trim_end_matches(';').trim_end_matches('?');
            // The second one for expressions whose type is only known through the `?`.
            vec![format!("let _ = {tried};"), String::new()]
        }
        Form::LetTry => {
            let tried = code.trim_end_matches(';').trim_end_matches('?');
            let mut all = vec![format!("{tried}.unwrap_or_default();")];
            if let Some(at) = tried.rfind(".ok_or") {
                let before = tried.get(..at).unwrap_or_default();
                all.insert(0, format!("{before}.unwrap_or_default();"));
                // For headers, which are octets: all zero.
                let zero = "unsafe { core::mem::zeroed() }";
                all.insert(1, format!("{before}.unwrap_or_else(|| {zero});"));
            }
            all
        }
        Form::If => vec![String::new(), "{}".into()],
        Form::Arm => arm_replacements(code),
        Form::Last => vec!["Ok(())".into(), "Ok(Default::default())".into()],
        Form::Other => Vec::new(),
    }
}

/// What an arm of a match is replaced by: first one that never matches, so that a later arm does.
fn arm_replacements(code: &str) -> Vec<String> {
    let Some((pattern, result)) = code.split_once("=>") else {
        return Vec::new();
    };
    let never = match pattern.split_once(" if ") {
        Some((pattern, condition)) => format!("{pattern} if false && ({condition}) =>{result}"),
        None => format!("{pattern}if false =>{result}"),
    };
    vec![
        never,
        format!("{pattern}=> {{}}"),
        format!("{pattern}=> Ok(()),"),
    ]
}

/// The shape of a piece of code.
fn form(code: &str) -> Form {
    let first = code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next();
    if first == Some("if") {
        return if code.ends_with('}') {
            Form::If
        } else {
            Form::Other
        };
    }
    if first == Some("let") {
        return if code.ends_with("?;") {
            Form::LetTry
        } else {
            Form::Other
        };
    }
    if code.ends_with([',', '}']) && code.contains("=>") {
        return Form::Arm;
    }
    if code.ends_with("?;") {
        return Form::Try;
    }
    if code.ends_with([';', ',']) || code.is_empty() {
        return Form::Other;
    }
    Form::Last
}

/// Where the code is that begins behind `offset`: comments and attributes are skipped, and it ends
/// with its `;` or `,`, with the block of an `if`, or before the end of the block it is in.
fn code_after(text: &str, offset: usize) -> Range<usize> {
    let start = skip_comments(text, offset);
    let rest = text.get(start..).unwrap_or_default();
    let mut ends_with_block = rest.starts_with("if ");
    let mut depth = 0_i32;
    for (at, symbol) in symbols(rest) {
        match symbol {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                return start..start + rest.get(..at).unwrap_or_default().trim_end().len();
            }
            ')' | ']' | '}' => {
                depth -= 1;
                let more = rest.get(at + 1..).unwrap_or_default().trim_start();
                if symbol == '}' && depth == 0 && ends_with_block && !more.starts_with("else") {
                    return start..start + at + 1;
                }
            }
            '=' if depth == 0 && rest.get(at..at + 2) == Some("=>") => {
                let result = rest.get(at + 2..).unwrap_or_default();
                ends_with_block |= result.trim_start().starts_with('{');
            }
            ';' | ',' if depth == 0 => return start..start + at + 1,
            _ => {}
        }
    }
    start..start
}

/// The begin of the next code: behind white space, comment lines and attribute lines.
fn skip_comments(text: &str, mut offset: usize) -> usize {
    loop {
        let rest = text.get(offset..).unwrap_or_default();
        let code = rest.trim_start();
        offset += rest.len() - code.len();
        if !code.starts_with("//") && !code.starts_with("#[") {
            return offset;
        }
        offset += code.find('\n').map_or(code.len(), |end| end + 1);
    }
}

/// The characters of code with their places, without those in comments, strings and characters.
fn symbols(code: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut skipped_until = 0;
    code.char_indices().filter(move |&(at, symbol)| {
        if at < skipped_until {
            return false;
        }
        let rest = code.get(at..).unwrap_or_default();
        let skip = match symbol {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => literal(rest, '"'),
            // A lifetime has no closing quote within the three characters of a character.
            '\'' if rest.chars().nth(2) == Some('\'') || rest.starts_with(r"'\") => {
                literal(rest, '\'')
            }
            _ => 0,
        };
        skipped_until = at + skip;
        skip == 0
    })
}

/// The length of a literal that begins and ends with `quote`.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, symbol) in text.char_indices().skip(1) {
        match symbol {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if symbol == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first mutant of the only guard in a text.
    fn mutant(text: &str) -> String {
        let guards = find(text);
        assert_eq!(guards.len(), 1, "{text}");
        disabled(text, &guards[0]).remove(0)
    }

    #[test]
    fn a_tried_statement_loses_its_question_mark() {
        let text = "// guard: a\n    check(frame, &[1; 2])?;\nrest()\n";
        assert_eq!(
            mutant(text),
            "// guard: a\n    let _ = check(frame, &[1; 2]);\nrest()\n"
        );
    }

    #[test]
    fn an_if_that_returns_is_removed() {
        let text = "// guard: a\n// why\nif x { return Err(Y); }\nrest()\n";
        assert_eq!(mutant(text), "// guard: a\n// why\n\nrest()\n");
    }

    #[test]
    fn a_statement_over_several_lines_is_taken_whole() {
        let text = "// guard: a\nfoo\n    .bar(';', \";\") // ; no end\n    .baz()?;\nrest()\n";
        assert_eq!(
            mutant(text),
            "// guard: a\nlet _ = foo\n    .bar(';', \";\") // ; no end\n    .baz();\nrest()\n"
        );
    }

    #[test]
    fn an_arm_of_a_match_is_left_to_the_later_ones() {
        let text = "match x {\n// guard: a\nArp => check(x)?,\n_ => {}\n}";
        assert_eq!(
            disabled(text, &find(text)[0])[..2],
            [
                "match x {\n// guard: a\nArp if false => check(x)?,\n_ => {}\n}",
                "match x {\n// guard: a\nArp => {}\n_ => {}\n}"
            ]
        );
    }

    #[test]
    fn an_arm_with_a_condition_or_a_block_is_taken_whole() {
        let text = "match x {\n// guard: a\nn if f(n) => {\n return Err(Y);\n}\n_ => {}\n}";
        let off = "n if false && (f(n) ) => {\n return Err(Y);\n}";
        assert_eq!(
            mutant(text),
            format!("match x {{\n// guard: a\n{off}\n_ => {{}}\n}}")
        );
    }

    #[test]
    fn the_source_can_say_what_replaces_a_guard() {
        let text = "match x {\n// guard: a\n// off: A => Ok(1),\nA => Err(2),\nB => Ok(3),\n}";
        assert_eq!(mutant(text), text.replace("Err(2)", "Ok(1)"));
    }

    #[test]
    fn the_source_can_say_which_part_is_the_guard() {
        let text = "match x {\n// guard: a\n// without: if y\nA if y => {},\n_ => {}\n}";
        assert_eq!(mutant(text), text.replace("A if y =>", "A  =>"));
        assert!(disabled("// guard: a\n// without: z\nx()?;", &find(text)[0]).is_empty());
    }

    #[test]
    fn parts_of_a_condition_are_left_out_one_by_one() {
        let text = "// guard: a\nif x\n    || (y || z)\n    || f(|| 1)\n{ return Err(Y); }\n";
        let parts = parts_disabled(text, &find(text)[0]);
        let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x", "(y || z)", "f(|| 1)"]);
        assert_eq!(
            parts[1].1,
            ["// guard: a\nif x\n || f(|| 1)\n{ return Err(Y); }\n"]
        );
    }

    #[test]
    fn parts_of_what_must_all_hold_are_left_out_one_by_one() {
        let rows = [
            (
                "if !(x && y) { return Err(Y); }",
                "if !(y) { return Err(Y); }",
            ),
            ("let ok = x\n && f(&&y);", "let ok =f(&&y);"),
        ];
        for (code, without_x) in rows {
            let text = format!("// guard: a\n{code}\n");
            let parts = parts_disabled(&text, &find(&text)[0]);
            assert_eq!(parts.len(), 2, "{code}");
            assert_eq!(parts[0].0, "x");
            assert_eq!(parts[0].1, [format!("// guard: a\n{without_x}\n")]);
        }
    }

    #[test]
    fn the_source_can_say_why_a_guard_cannot_be_seen() {
        let text = "// guard: a\n// exempt: b stands\n//  behind it\nif x { return Err(Y); }\n";
        assert_eq!(find(text)[0].exempt.as_deref(), Some("b stands behind it"));
        assert_eq!(
            find("// guard: a\nx()?;\n// exempt: no\ny()?;")[0].exempt,
            None
        );
    }

    #[test]
    fn the_source_can_say_why_a_part_cannot_be_seen() {
        let text = "// guard: a\n// exempt part: `x`: y\n//  stands\n// exempt part: `z`: w\nif x || z {}\n";
        let parts = [("x", "y stands"), ("z", "w")];
        let parts = parts.map(|(part, why)| (part.to_owned(), why.to_owned()));
        assert_eq!(find(text)[0].exempt_parts, parts);
    }

    #[test]
    fn reasons_outside_of_every_guard_are_found() {
        let text = "use DropReason;\n// guard: a\nif x {\n return Err(DropReason::A);\n}\n\
                    // DropReason::B\nErr(DropReason::B)\n";
        assert_eq!(unguarded(text), [7]);
    }

    #[test]
    fn all_branches_of_an_if_are_one_guard() {
        let text = "// guard: a\n// off: A\nif x {\n B\n} else {\n C\n}\n";
        assert_eq!(mutant(text), "// guard: a\n// off: A\nA\n");
    }

    #[test]
    fn the_last_expression_becomes_ok() {
        let text = "fn f() {\n    // guard: a\n    check(x)\n}\n";
        assert_eq!(mutant(text), "fn f() {\n    // guard: a\n    Ok(())\n}\n");
    }

    #[test]
    fn a_binding_falls_back_to_the_default() {
        let text = "// guard: a\nlet vlan = tag.vlan().ok_or(Untagged)?;\n";
        assert_eq!(
            mutant(text),
            "// guard: a\nlet vlan = tag.vlan().unwrap_or_default();\n"
        );
    }

    #[test]
    fn what_is_not_understood_has_no_mutant() {
        let text = "// guard: a\nfoo();\n";
        assert!(disabled(text, &find(text)[0]).is_empty());
    }

    #[test]
    fn lifetimes_are_no_characters() {
        let text = "// guard: a\ncheck::<'a>(x, 'b', '\\'')?;\nrest;\n";
        assert_eq!(
            mutant(text),
            "// guard: a\nlet _ = check::<'a>(x, 'b', '\\'');\nrest;\n"
        );
    }

    #[test]
    fn guards_know_their_name_and_line() {
        let guards =
            find("fn f() {\n    // guard: one\n    a()?;\n    // guard: two\n    b()?;\n}\n");
        let names: Vec<_> = guards
            .iter()
            .map(|guard| (guard.name.as_str(), guard.line))
            .collect();
        assert_eq!(names, [("one", 2), ("two", 4)]);
    }
}
