//! Findings as text for a terminal, in the shape that compilers have made familiar.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

use super::{Audience, Finding, Label, Severity};
use crate::source::{FileId, Place, Pos, Sources};

/// The longest line of a file that is shown; what lies behind is cut off.
const MAX_LINE: usize = 400;

/// Colours or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// ANSI colours.
    Colour,
    /// Text only.
    Plain,
}

/// Renders the findings that the audience may see, with an empty line behind each.
#[must_use]
pub fn to_text(
    findings: &[Finding],
    sources: &Sources,
    audience: Audience<'_>,
    style: Style,
) -> String {
    let renderer = match style {
        Style::Colour => Renderer::styled(),
        Style::Plain => Renderer::plain(),
    }
    .decor_style(DecorStyle::Ascii);
    let mut out = String::new();
    let seen = findings
        .iter()
        .filter_map(|finding| finding.seen_by(audience, sources));
    for finding in seen {
        out.push_str(&render(&finding, sources, &renderer));
        out.push_str("\n\n");
    }
    out
}

/// The lines of one file that a finding points at.
struct Excerpt {
    file: FileId,
    first_line: usize,
    text: String,
    marks: Vec<(AnnotationKind, Range<usize>, String)>,
}

fn render(finding: &Finding, sources: &Sources, renderer: &Renderer) -> String {
    let level = match finding.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(&finding.message)
        .id(finding.code.as_str())
        .elements(std::iter::empty::<
            Snippet<'_, annotate_snippets::Annotation<'_>>,
        >());
    for excerpt in excerpts(finding, sources) {
        group = add_excerpt(group, excerpt, finding, sources);
    }
    for note in &finding.notes {
        group = group.element(Level::NOTE.message(normalize_untrusted_str(&note.text)));
    }
    for help in &finding.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(&help.text)));
    }
    renderer.render(&[group])
}

fn add_excerpt<'a>(
    group: Group<'a>,
    excerpt: Excerpt,
    finding: &Finding,
    sources: &Sources,
) -> Group<'a> {
    let path = sources.get(excerpt.file).path.to_string();
    if excerpt.text.trim().is_empty() {
        let start = finding.primary.place.start;
        let origin = Origin::path(path);
        return group.element(if excerpt.file == finding.primary.place.file {
            origin
                .line(start.line as usize)
                .char_column(start.column as usize)
        } else {
            origin
        });
    }
    let marks = excerpt
        .marks
        .into_iter()
        .map(|(kind, span, text)| match text.as_str() {
            "" => kind.span(span),
            _ => kind.span(span).label(text),
        });
    group.element(
        Snippet::source(excerpt.text)
            .line_start(excerpt.first_line)
            .path(path)
            .annotations(marks.collect::<Vec<_>>()),
    )
}

/// One excerpt per file, the primary label's first.
fn excerpts(finding: &Finding, sources: &Sources) -> Vec<Excerpt> {
    let mut files = vec![finding.primary.place.file];
    for label in &finding.secondary {
        if !files.contains(&label.place.file) {
            files.push(label.place.file);
        }
    }
    files
        .into_iter()
        .map(|file| excerpt(finding, sources, file))
        .collect()
}

fn excerpt(finding: &Finding, sources: &Sources, file: FileId) -> Excerpt {
    let labels: Vec<(AnnotationKind, &Label)> =
        std::iter::once((AnnotationKind::Primary, &finding.primary))
            .chain(
                finding
                    .secondary
                    .iter()
                    .map(|l| (AnnotationKind::Context, l)),
            )
            .filter(|(_, label)| label.place.file == file)
            .collect();
    let line_of = |(_, label): &(AnnotationKind, &Label)| label.place.start.line as usize;
    let first_line = labels.iter().map(line_of).min().unwrap_or(1);
    let last_line = labels.iter().map(line_of).max().unwrap_or(1);
    let mut excerpt = Excerpt {
        file,
        first_line,
        text: String::new(),
        marks: Vec::new(),
    };
    let lines = sources.get(file).text.lines().skip(first_line - 1);
    for (line, text) in (first_line..=last_line).zip(lines) {
        let start = excerpt.text.len();
        let shown: String = text.chars().take(MAX_LINE).map(printable).collect();
        for (kind, label) in labels
            .iter()
            .filter(|(_, l)| l.place.start.line as usize == line)
        {
            let span = span_in_line(&shown, label.place);
            let span = start + span.start..start + span.end;
            excerpt.marks.push((*kind, span, label.text.clone()));
        }
        excerpt.text.push_str(&shown);
        excerpt.text.push('\n');
    }
    excerpt
}

/// Control characters in a file must not reach the terminal, nor confuse the columns.
fn printable(c: char) -> char {
    if c == '\t' || !c.is_control() {
        c
    } else {
        '\u{fffd}'
    }
}

/// The part of a place that lies in its first line, in octets; at least one character.
fn span_in_line(line: &str, place: Place) -> Range<usize> {
    let start = offset(line, place.start);
    let end = match place.end {
        end if end.line == place.start.line => offset(line, end),
        _ => line.trim_end().len(),
    };
    let next = line[start..]
        .chars()
        .next()
        .map_or(start, |c| start + c.len_utf8());
    start..end.max(next)
}

fn offset(line: &str, pos: Pos) -> usize {
    line.char_indices()
        .nth((pos.column as usize).saturating_sub(1))
        .map_or(line.len(), |(offset, _)| offset)
}
