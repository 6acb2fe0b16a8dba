//! The tables on the terminal.

use std::io::{IsTerminal, Write};

use anyhow::Result;

/// How a thing went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Mark {
    /// Allowed, as it should be.
    Allowed,
    /// Dropped, as it should be.
    Dropped,
    /// Something else than should be.
    Wrong,
    /// Nothing to see.
    Nothing,
}

impl Mark {
    /// Returns the sign and its colour.
    fn look(&self) -> (&'static str, &'static str) {
        match self {
            Self::Allowed => ("✓", "32"),
            Self::Dropped => ("✗", "36"),
            Self::Wrong => ("‼", "1;31"),
            Self::Nothing => ("·", "2"),
        }
    }
}

/// The terminal.
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    /// Colour if it is asked for, or if the output is a terminal and `NO_COLOR` does not forbid it.
    pub(crate) fn new(asked: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal() || set("CLICOLOR_FORCE");
        Self {
            colour: asked || (terminal && !set("NO_COLOR")),
        }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A line of prose.
    pub(crate) fn say(&self, text: &str) -> Result<()> {
        writeln!(std::io::stdout(), "{text}")?;
        Ok(())
    }

    /// What the signs mean.
    pub(crate) fn legend(&self) -> Result<()> {
        let rows = [
            (Mark::Allowed, "asked and answered, as it should be"),
            (Mark::Dropped, "dropped, as it should be: bulkhead's reason"),
            (Mark::Wrong, "something else than should be"),
        ];
        writeln!(std::io::stdout())?;
        for (mark, text) in rows {
            let (sign, style) = mark.look();
            writeln!(std::io::stdout(), "  {}  {text}", self.paint(style, sign))?;
        }
        Ok(())
    }

    /// A heading with a remark.
    pub(crate) fn heading(&self, title: &str, note: &str) -> Result<()> {
        let (title, note) = (self.paint("1", title), self.paint("2", note));
        writeln!(std::io::stdout(), "\n{title}\n{note}")?;
        Ok(())
    }

    /// A table: the heads of the columns, then rows of a name and cells.
    pub(crate) fn table(
        &self,
        heads: &[String],
        rows: &[(String, Vec<(Mark, String)>)],
    ) -> Result<()> {
        let names = rows
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        let width = |column: usize| {
            let cells = rows
                .iter()
                .map(|(_, cells)| cells[column].1.chars().count() + 2);
            cells
                .chain([heads[column].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..heads.len()).map(width).collect();
        let mut out = std::io::stdout().lock();
        write!(out, "  {:names$}", "")?;
        for (head, width) in heads.iter().zip(&widths) {
            write!(out, "  {}", self.paint("4", &format!("{head:width$}")))?;
        }
        writeln!(out)?;
        for (name, cells) in rows {
            write!(out, "  {name:names$}")?;
            for ((mark, text), width) in cells.iter().zip(&widths) {
                let (sign, style) = mark.look();
                let text = format!("{sign} {text}");
                write!(out, "  {}", self.paint(style, &format!("{text:width$}")))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// The last line.
    pub(crate) fn verdict(&self, good: bool, text: &str) -> Result<()> {
        let style = if good { "1;32" } else { "1;31" };
        writeln!(std::io::stdout(), "\n{}", self.paint(style, text))?;
        Ok(())
    }
}
