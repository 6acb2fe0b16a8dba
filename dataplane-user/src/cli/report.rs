//! What a command has to say, and saying it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use netmodel::leases::LeasesError;
use serde_json::Value;
use thiserror::Error;

use super::plan_file::PlanFileError;
use crate::can::AskError;
use crate::compile::CompileError;
use crate::config::ConfigError;
use crate::run::{RunError, with_causes};

/// Exit code: yes, or done.
pub(super) const YES: u8 = 0;
/// Exit code: no, findings, or failed.
pub(super) const NO: u8 = 1;
/// Exit code: changes pending.
pub(super) const CHANGES: u8 = 2;
/// Exit code: the command line makes no sense (`EX_USAGE`).
pub(super) const USAGE: u8 = 64;

/// What a command has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// For standard output.
    pub data: String,
    /// For standard error.
    pub talk: String,
    /// Exit code.
    pub code: u8,
}

/// The command could not do its work.
#[derive(Debug, Error)]
pub enum CliError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model cannot be enforced.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The system cannot be run or looked at.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The leases cannot be read.
    #[error("{0} (is bulkhead-dhcpd running here?)")]
    Leases(#[from] LeasesError),
    /// A plan file cannot be used.
    #[error(transparent)]
    PlanFile(#[from] PlanFileError),
    /// While the operator was asked, something changed.
    #[error(
        "what would be done has changed while you were asked; nothing was changed (remedy: \
         run it again and look at the new plan)"
    )]
    PlanIsStale,
    /// An apply is not confirmed yet.
    #[error(
        "generation {generation} waits for its confirmation, for {seconds} s more; nothing was changed (remedy: `bulkhead confirm` or \
         `bulkhead rollback` first)"
    )]
    Waits {
        /// The generation that waits.
        generation: u32,
        /// How long it does.
        seconds: u64,
    },
    /// Nobody said which interface the trunk is, and the inventory has errors.
    #[error("which interface? the inventory has errors, so say --interface IF")]
    NoInterface,
    /// The inventory has no router.
    #[error(
        "which interface is the trunk? no host of the inventory sets `router_parent`, so say --interface IF"
    )]
    NoTrunk,
    /// The question cannot be answered.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No finding or drop reason has this name.
    #[error(
        "nothing to explain is called `{0}`: codes are like E0102, drop reasons like no-policy"
    )]
    NoSuchCode(String),
    /// The DNS server's program is not there.
    #[error(
        "bulkhead-dns is neither in {} nor in PATH (remedy: install it there; it comes with the package `bulkhead`)",
        .0.display()
    )]
    NoDns(PathBuf),
    /// The DNS server's program does not start.
    #[error("cannot run {}", program.display())]
    Dns {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Leases(_)
            | Self::Compile(_)
            | Self::Run(_)
            | Self::PlanFile(_)
            | Self::PlanIsStale
            | Self::Waits { .. }
            | Self::NoDns(_)
            | Self::Dns { .. } => NO,
            Self::Ask(_) | Self::NoInterface | Self::NoTrunk | Self::NoSuchCode(_) => USAGE,
        }
    }
}

impl Report {
    /// Makes a report of text.
    pub(super) fn text(data: impl Into<String>, code: u8) -> Self {
        Self {
            data: data.into(),
            talk: String::new(),
            code,
        }
    }

    /// Makes a report of JSON.
    pub(super) fn json(value: &Value, code: u8) -> Self {
        Self::text(format!("{value:#}\n"), code)
    }

    /// Adds a line of talk.
    pub(super) fn with_talk(mut self, line: &str) -> Self {
        self.talk.push_str(line);
        self.talk.push('\n');
        self
    }

    /// Reports an error with all that caused it.
    pub(super) fn of_error(error: &CliError) -> Self {
        let text = with_causes(error);
        Self::text("", error.code()).with_talk(&format!("bulkhead: {text}"))
    }

    /// Prints it. A reader that has gone away is no error.
    pub(super) fn print(&self) -> ExitCode {
        let _ = std::io::stdout().lock().write_all(self.data.as_bytes());
        let _ = std::io::stderr().lock().write_all(self.talk.as_bytes());
        ExitCode::from(self.code)
    }
}

/// Prints clap's message: help and version are data, everything else is a usage error.
pub(super) fn print_usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { YES })
}

/// Colours, if standard output is a terminal and `NO_COLOR` is not set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Paint(bool);

impl Paint {
    /// No colours, wherever it is printed.
    pub const PLAIN: Self = Self(false);

    pub(super) fn for_stdout() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !is_refused)
    }

    /// Returns no colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self(false)
    }

    pub(super) fn is_on(self) -> bool {
        self.0
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green, text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint(AnsiColor::Red, text)
    }

    pub(crate) fn middling(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow, text)
    }

    fn paint(self, colour: AnsiColor, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let style = Style::new().bold().fg_color(Some(colour.into()));
        format!("{style}{text}{style:#}")
    }
}
