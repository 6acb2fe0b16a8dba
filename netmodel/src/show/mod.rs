//! Views of the model for `bulkhead show`: tables that a terminal prints and JSON that scripts read.
//!
//! Both forms have the same content. A cell with nothing in it is empty in the table and null in
//! JSON.

mod rows;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

use crate::model::Model;

/// Version of the JSON form of views. Grows when a reader would have to change.
pub const FORMAT_VERSION: u32 = 1;

/// What to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// Hosts, one line per interface.
    Hosts,
    /// Zone policies, tenants' rules and offers.
    Policies,
    /// DNS records.
    Records,
    /// Addresses that DHCP keeps.
    Reservations,
    /// Segments.
    Segments,
    /// Platform services.
    Services,
    /// Tenants.
    Tenants,
}

impl What {
    /// All views, in name order.
    pub const ALL: &[Self] = &[
        Self::Hosts,
        Self::Policies,
        Self::Records,
        Self::Reservations,
        Self::Segments,
        Self::Services,
        Self::Tenants,
    ];

    /// Returns the word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Policies => "policies",
            Self::Records => "records",
            Self::Reservations => "reservations",
            Self::Segments => "segments",
            Self::Services => "services",
            Self::Tenants => "tenants",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no view.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("there is no view `{0}`")]
pub struct ParseWhatError(String);

impl FromStr for What {
    type Err = ParseWhatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|what| what.as_str() == text);
        found
            .copied()
            .ok_or_else(|| ParseWhatError(text.to_owned()))
    }
}

/// One cell of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::List(items) => f.write_str(&items.join(", ")),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Empty => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(items) => items.serialize(serializer),
        }
    }
}

/// A table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// What it shows.
    pub what: What,
    /// Names of the columns: lower case, words joined by `_`.
    pub headers: Vec<&'static str>,
    /// Rows, each as long as `headers`.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Returns the rows as a list of objects, under the view's name.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<Cell>| -> Value {
            let cells = self.headers.iter().zip(row);
            let pairs = cells.map(|(header, cell)| ((*header).to_owned(), json!(cell)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let rows: Vec<Value> = self.rows.iter().map(object).collect();
        json!({ "format_version": FORMAT_VERSION, self.what.as_str(): rows })
    }

    /// Returns the table in columns, two spaces apart, with a headline.
    #[must_use]
    pub fn to_text(&self) -> String {
        let headline = self
            .headers
            .iter()
            .map(|header| header.to_uppercase().replace('_', " "));
        let mut lines: Vec<Vec<String>> = vec![headline.collect()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(shown).collect()));
        let widths: Vec<usize> = (0..self.headers.len())
            .map(|column| {
                let width = |line: &Vec<String>| line[column].chars().count();
                lines.iter().map(width).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for line in &lines {
            let cells = line.iter().zip(&widths);
            let padded: Vec<String> = cells
                .map(|(cell, &width)| format!("{cell:width$}"))
                .collect();
            out.push_str(padded.join("  ").trim_end());
            out.push('\n');
        }
        out
    }
}

/// A cell for a terminal: texts of untrusted trees must not control it.
fn shown(cell: &Cell) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    cell.to_string().chars().map(printable).collect()
}

/// Makes a view of the model.
#[must_use]
pub fn table(what: What, model: &Model) -> Table {
    let (headers, rows) = match what {
        What::Hosts => rows::hosts(model),
        What::Policies => rows::policies(model),
        What::Records => rows::records(model),
        What::Reservations => rows::reservations(model),
        What::Segments => rows::segments(model),
        What::Services => rows::services(model),
        What::Tenants => rows::tenants(model),
    };
    Table {
        what,
        headers,
        rows,
    }
}
