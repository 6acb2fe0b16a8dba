//! Parser events to values, within bounds.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{Entry, Kind, Opaque, Scalar, Value};
use crate::finding::{Code, Finding};
use crate::source::{FileId, Place, Pos};

/// How much one YAML file may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct YamlBounds {
    /// Nesting of lists and maps.
    pub(crate) depth: usize,
    /// Values, those that aliases expand to included.
    pub(crate) nodes: u32,
}

/// The file is of no use; a finding says why.
struct Abort;

/// Reads one YAML document. `None` if it is empty or of no use (with a finding).
pub(crate) fn compose(
    text: &str,
    file: FileId,
    bounds: YamlBounds,
    findings: &mut Vec<Finding>,
) -> Option<Arc<Value>> {
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        file,
        bounds,
        nodes: 0,
        anchors: HashMap::new(),
        items: Vec::new(),
        entries: Vec::new(),
        findings,
    };
    composer.document().ok().flatten()
}

struct Composer<'input, 'findings> {
    parser: Parser<'input, StrInput<'input>>,
    file: FileId,
    bounds: YamlBounds,
    nodes: u32,
    anchors: HashMap<usize, Arc<Value>>,
    /// Of the lists that are open, the innermost one's last; so that each gets as much memory as it needs, at once.
    items: Vec<Arc<Value>>,
    /// The same of the maps that are open.
    entries: Vec<Entry>,
    findings: &'findings mut Vec<Finding>,
}

impl<'input> Composer<'input, '_> {
    fn document(&mut self) -> Result<Option<Arc<Value>>, Abort> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.refuse(
                        Code::YamlShape,
                        "a second YAML document in the file",
                        span,
                        "Ansible reads one document per file: remove this `---`, or split the file",
                    ));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'input>, Span), Abort> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let mark = *error.marker();
                let place = self.place(Span::empty(mark));
                self.findings.push(
                    Finding::new(Code::YamlSyntax, "this is not valid YAML", place)
                        .label(error.info())
                        .help("look here and at the line above: a quote, bracket or `:` is missing or too many"),
                );
                Err(Abort)
            }
            None => Err(Abort),
        }
    }

    fn node(
        &mut self,
        event: Event<'input>,
        span: Span,
        depth: usize,
    ) -> Result<Arc<Value>, Abort> {
        self.admit(span, depth)?;
        match event {
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(text, style, tag.as_deref());
                Ok(self.keep(anchor, Value::new(self.place(span), kind)))
            }
            Event::SequenceStart(anchor, tag) => {
                let value = self.list(span, tag.as_deref(), depth)?;
                Ok(self.keep(anchor, value))
            }
            Event::MappingStart(anchor, tag) => {
                let value = self.map(span, tag.as_deref(), depth)?;
                Ok(self.keep(anchor, value))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => Err(self.refuse(
                Code::YamlSyntax,
                "a value was expected here",
                span,
                "write a value, or remove the key",
            )),
        }
    }

    /// Counts a value.
    fn admit(&mut self, span: Span, depth: usize) -> Result<(), Abort> {
        self.count(1, span)?;
        if depth > self.bounds.depth {
            return Err(self.refuse(
                Code::Bounds,
                &format!("nested deeper than {} levels", self.bounds.depth),
                span,
                "an inventory does not need this; flatten it",
            ));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Arc<Value>, Abort> {
        let Some(target) = self.anchors.get(&anchor).cloned() else {
            return Err(self.refuse(
                Code::YamlSyntax,
                "an alias inside of the value that it stands for",
                span,
                "write the value out",
            ));
        };
        self.count(target.weight, span)?;
        Ok(target)
    }

    fn list(&mut self, span: Span, tag: Option<&Tag>, depth: usize) -> Result<Value, Abort> {
        let first = self.items.len();
        loop {
            let (event, item_span) = self.next()?;
            if event == Event::SequenceEnd {
                let place = self.collection_place(span, item_span);
                let items = self.items.drain(first..).collect();
                return Ok(Value::new(place, tagged(tag, Kind::List(items))));
            }
            let item = self.node(event, item_span, depth + 1)?;
            self.items.push(item);
        }
    }

    fn map(&mut self, span: Span, tag: Option<&Tag>, depth: usize) -> Result<Value, Abort> {
        let first = self.entries.len();
        let mut merges = Vec::new();
        let mut seen = SeenKeys::default();
        loop {
            let (event, key_span) = self.next()?;
            if event == Event::MappingEnd {
                let mut entries = self.entries.drain(first..).collect();
                merge(&mut entries, &merges);
                let place = self.collection_place(span, key_span);
                return Ok(Value::new(place, tagged(tag, Kind::Map(entries))));
            }
            let key = self.key(event, key_span, depth + 1)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            let Some((key, key_plain)) = key else {
                return Err(self.refuse(
                    Code::YamlShape,
                    "a key that is not a single value",
                    key_span,
                    "quote it if it contains `{` or `[`: \"{{ … }}\"",
                ));
            };
            if key_plain && &*key == "<<" {
                self.check_merge(&value)?;
                merges.push(value);
                continue;
            }
            let key_place = self.place(key_span);
            let before = self.entries.get(first..).unwrap_or_default();
            if let Some(first) = seen.add(before, &key, key_place) {
                self.duplicate(&key, key_place, first);
            }
            self.entries.push(Entry {
                key,
                key_plain,
                key_place,
                value,
            });
        }
    }

    /// Returns a key, and whether it is written without quotes; `None` if it is not a single value.
    fn key(
        &mut self,
        event: Event<'input>,
        span: Span,
        depth: usize,
    ) -> Result<Option<(Arc<str>, bool)>, Abort> {
        // Nearly all are this, and need no value of their own.
        if let Event::Scalar(text, style, 0, None) = &event {
            self.admit(span, depth)?;
            return Ok(Some((text.as_ref().into(), *style == ScalarStyle::Plain)));
        }
        let key = self.node(event, span, depth)?;
        Ok(match &key.kind {
            Kind::Scalar(scalar) => Some(((*scalar.text).into(), scalar.plain)),
            Kind::List(_) | Kind::Map(_) | Kind::Opaque(_) => None,
        })
    }

    fn duplicate(&mut self, name: &str, place: Place, first: Place) {
        self.findings.push(
            Finding::new(
                Code::DuplicateKey,
                format!("the key `{name}` is there twice"),
                place,
            )
            .label("the second one would silently win")
            .also(first, "the first one")
            .help("remove one of the two"),
        );
    }

    fn check_merge(&mut self, value: &Arc<Value>) -> Result<(), Abort> {
        let is_map = |value: &Arc<Value>| matches!(value.kind, Kind::Map(_));
        let fine = match &value.kind {
            Kind::Map(_) => true,
            Kind::List(items) => items.iter().all(is_map),
            Kind::Scalar(_) | Kind::Opaque(_) => false,
        };
        if fine {
            // Entries are copied, not shared: what a merge brings counts like an alias.
            return self.count_at(value.weight, value.place);
        }
        self.findings.push(
            Finding::new(
                Code::YamlShape,
                format!("`<<` merges maps, this is {}", value.describe()),
                value.place,
            )
            .help("write `<<: *anchor`, where `&anchor` stands at a map"),
        );
        Err(Abort)
    }

    fn keep(&mut self, anchor: usize, value: Value) -> Arc<Value> {
        let value = Arc::new(value);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&value));
        }
        value
    }

    fn count(&mut self, nodes: u32, span: Span) -> Result<(), Abort> {
        let place = self.place(span);
        self.count_at(nodes, place)
    }

    fn count_at(&mut self, nodes: u32, place: Place) -> Result<(), Abort> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= self.bounds.nodes {
            return Ok(());
        }
        self.findings.push(
            Finding::new(
                Code::Bounds,
                format!("more than {} values in one file", self.bounds.nodes),
                place,
            )
            .note("values that an alias (`*name`) stands for count each time")
            .help("split the file, or write fewer aliases of aliases"),
        );
        Err(Abort)
    }

    fn refuse(&mut self, code: Code, message: &str, span: Span, help: &str) -> Abort {
        let place = self.place(span);
        self.findings
            .push(Finding::new(code, message, place).help(help));
        Abort
    }

    fn place(&self, span: Span) -> Place {
        Place {
            file: self.file,
            start: pos(span.start.line(), span.start.col()),
            end: pos(span.end.line(), span.end.col()),
        }
    }

    /// A flow collection reaches to its closing bracket, a block collection is its first character.
    fn collection_place(&self, start: Span, end: Span) -> Place {
        let flow = !start.is_empty() && !end.is_empty();
        let end = if flow { end.end } else { start.start };
        self.place(Span::new(start.start, end))
    }
}

/// The keys of a map so far. Nearly all maps are so small that looking at their entries is faster than hashing.
#[derive(Default)]
struct SeenKeys(HashMap<Arc<str>, Place>);

impl SeenKeys {
    /// Entries that are looked at one by one.
    const FEW: usize = 8;

    /// Adds a key; the place of the one before, if there is one. `entries` has all keys so far.
    fn add(&mut self, entries: &[Entry], name: &Arc<str>, place: Place) -> Option<Place> {
        if entries.len() < Self::FEW {
            let mut same = entries.iter().rev().filter(|entry| entry.key == *name);
            return same.next().map(|entry| entry.key_place);
        }
        if self.0.is_empty() {
            let keys = entries
                .iter()
                .map(|entry| (Arc::clone(&entry.key), entry.key_place));
            self.0.extend(keys);
        }
        self.0.insert(Arc::clone(name), place)
    }
}

fn pos(line: usize, col: usize) -> Pos {
    Pos {
        line: u32::try_from(line.max(1)).unwrap_or(u32::MAX),
        column: u32::try_from(col + 1).unwrap_or(u32::MAX),
    }
}

/// Adds the merged maps' entries that are not there yet: own keys win, then the first map's.
fn merge(entries: &mut Vec<Entry>, merges: &[Arc<Value>]) {
    if merges.is_empty() {
        return;
    }
    let mut seen: HashSet<Arc<str>> = entries.iter().map(|e| Arc::clone(&e.key)).collect();
    let maps = merges.iter().flat_map(|value| match &value.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Map(_) | Kind::Scalar(_) | Kind::Opaque(_) => std::slice::from_ref(value),
    });
    for map in maps {
        if let Kind::Map(merged) = &map.kind {
            let new = merged.iter().filter(|e| seen.insert(Arc::clone(&e.key)));
            entries.extend(new.cloned());
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    let untagged = |plain, template| {
        Kind::Scalar(Scalar {
            text: text.into_owned().into_boxed_str(),
            plain,
            template,
        })
    };
    match tag {
        None => untagged(style == ScalarStyle::Plain, true),
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => untagged(false, true),
            "int" | "bool" | "null" | "float" => untagged(true, true),
            _ => opaque(tag),
        },
        Some(tag) if tag.handle == "!" && tag.suffix == "unsafe" => untagged(false, false),
        Some(tag) => opaque(tag),
    }
}

fn tagged(tag: Option<&Tag>, kind: Kind) -> Kind {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() && tag.suffix != "unsafe" => opaque(tag),
        Some(_) | None => kind,
    }
}

fn opaque(tag: &Tag) -> Kind {
    if tag.handle == "!" && matches!(tag.suffix.as_str(), "vault" | "vault-encrypted") {
        return Kind::Opaque(Opaque::Vault);
    }
    Kind::Opaque(Opaque::Tag(tag.to_string().into()))
}
