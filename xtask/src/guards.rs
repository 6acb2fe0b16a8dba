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
//! This is no parser of Rust: what it cannot disable is an error of the run, never a guard that is
//! silently left alone.

use std::ops::Range;

/// The mark of a guard.
const MARK: &str = "// guard:";
/// What stands in its place when it is disabled, if its shape does not tell.
const OFF: &str = "// off:";

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
                off: off(text, offset),
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
    let replacements = match &guard.off {
        Some(off) => vec![off.clone()],
        None => replacements(code, guard.form),
    };
    replacements
        .iter()
        .map(|replacement| replaced(text, guard, replacement))
        .collect()
}

/// For a guard `if a || b { .. }`: each part by itself, and the text with only that part disabled.
pub(crate) fn parts_disabled(text: &str, guard: &Guard) -> Vec<(String, Vec<String>)> {
    let code = text.get(guard.span.clone()).unwrap_or_default();
    let Some((condition, block)) = condition_of(code).filter(|_| guard.form == Form::If) else {
        return Vec::new();
    };
    let parts = alternatives(condition);
    if parts.len() < 2 {
        return Vec::new();
    }
    (0..parts.len())
        .map(|left_out| {
            let kept: Vec<&str> = parts
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != left_out)
                .map(|(_, part)| part.trim())
                .collect();
            let mutant = format!("if {} {block}", kept.join("\n || "));
            let name = parts.get(left_out).map_or("", |part| part.trim());
            (name.to_owned(), vec![replaced(text, guard, &mutant)])
        })
        .collect()
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

/// The parts of a condition between `||`, outside of all brackets.
fn alternatives(condition: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_i32);
    for (at, symbol) in symbols(condition) {
        match symbol {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '|' if depth == 0 && at >= start && condition.get(at..at + 2) == Some("||") => {
                parts.extend(condition.get(start..at));
                start = at + 2;
            }
            _ => {}
        }
    }
    parts.extend(condition.get(start..));
    parts
}

/// The text with a guard's code replaced.
fn replaced(text: &str, guard: &Guard, replacement: &str) -> String {
    let mut mutant = text.to_owned();
    mutant.replace_range(guard.span.clone(), replacement);
    mutant
}

/// What the line behind a mark says that replaces the guard.
fn off(text: &str, offset: usize) -> Option<String> {
    let line = text.get(offset..)?.lines().next()?;
    Some(line.trim().strip_prefix(OFF)?.trim().to_owned())
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
                if symbol == '}' && depth == 0 && ends_with_block {
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
    fn parts_of_a_condition_are_left_out_one_by_one() {
        let text = "// guard: a\nif x\n    || (y || z)\n    || f(|| 1)\n{ return Err(Y); }\n";
        let parts = parts_disabled(text, &find(text)[0]);
        let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x", "(y || z)", "f(|| 1)"]);
        assert_eq!(
            parts[1].1,
            ["// guard: a\nif x\n || f(|| 1) { return Err(Y); }\n"]
        );
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
