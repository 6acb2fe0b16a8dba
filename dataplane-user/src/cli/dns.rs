//! `bulkhead dns WORD …`: what `bulkhead-dns` says of its names and keys. It is a program of its own, which this one becomes: same
//! streams, and its exit code.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};

use super::args::{Common, Format, TEMPLATE};
use super::report::{CliError, Report};

/// The program, as the package installs it.
const PROGRAM: &str = "bulkhead-dns";

/// Arguments of `dns`.
#[derive(Args, Clone, Debug)]
#[command(disable_help_subcommand = true, help_template = TEMPLATE, before_help = "\
Examples:
  bulkhead dns list                                  zones: serial, records, views, owner
  bulkhead dns explain web.grooveiq.east.lab.example
  bulkhead dns explain www.example.org --from 10.100.0.50
  bulkhead dns keys                                  and what each of them may do
  bulkhead dns test-key grooveiq-tf                  does the running server take it? if not, why?
  bulkhead dns export grooveiq.east.lab.example > grooveiq.zone
  bulkhead dns import old.zone --key grooveiq-tf     all of its records, or none
  bulkhead dns import --help                         what a word takes

Runs bulkhead-dns, found beside this program or in PATH: what it says, and its exit code.")]
pub struct DnsArgs {
    /// What to ask
    #[command(subcommand)]
    pub word: DnsWord,
}

/// The words of `dns`; what follows one is bulkhead-dns' to understand, `--help` too.
#[derive(Clone, Debug, Subcommand)]
pub enum DnsWord {
    /// Who answers for a name, with what, whose it is, and which segments see it
    #[command(disable_help_flag = true)]
    Explain(DnsRest),
    /// Print a zone as a master file
    #[command(disable_help_flag = true)]
    Export(DnsRest),
    /// Add a master file's records to a tenant's zone, all of them or none, with the tenant's key
    #[command(disable_help_flag = true)]
    Import(DnsRest),
    /// Keys, and what each of them may do; no secrets
    #[command(disable_help_flag = true)]
    Keys(DnsRest),
    /// All zones: serial, records, tenant, and how many views see them
    #[command(disable_help_flag = true)]
    List(DnsRest),
    /// Ask the running server whether it takes a tenant's key; nothing is changed
    #[command(disable_help_flag = true)]
    TestKey(DnsRest),
}

impl DnsWord {
    /// Returns the word as bulkhead-dns knows it, and what follows.
    fn parts(&self) -> (&'static str, &[OsString]) {
        match self {
            Self::Explain(rest) => ("explain", &rest.arguments),
            Self::Export(rest) => ("export", &rest.arguments),
            Self::Import(rest) => ("import", &rest.arguments),
            Self::Keys(rest) => ("keys", &rest.arguments),
            Self::List(rest) => ("list", &rest.arguments),
            Self::TestKey(rest) => ("test-key", &rest.arguments),
        }
    }
}

/// What follows a word.
#[derive(Args, Clone, Debug)]
pub struct DnsRest {
    /// See `bulkhead dns WORD --help`
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<OsString>,
}

/// Becomes `bulkhead-dns`; comes back only if it cannot.
pub(super) fn run(common: &Common, args: &DnsArgs) -> Result<Report, CliError> {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new(""));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = find(folder, &path).ok_or_else(|| CliError::NoDns(folder.to_owned()))?;
    let (word, rest) = args.word.parts();
    let format: &[&str] = match common.format {
        Format::Text => &[],
        Format::Json => &["--format", "json"],
    };
    let mut command = Command::new(&program);
    let source = command.arg(word).args(format).args(rest).exec();
    Err(CliError::Dns { program, source })
}

/// Finds the program: beside this one, so that the two are of one version, or else in `PATH`. Never in the folder that root
/// happens to stand in, which may be a tenant's: parts of `PATH` that are empty or relative do not count.
fn find(beside: &Path, path: &OsStr) -> Option<PathBuf> {
    let folders = std::iter::once(beside.to_owned()).chain(std::env::split_paths(path));
    let folders = folders.filter(|folder| folder.is_absolute());
    let mut places = folders.map(|folder| folder.join(PROGRAM));
    places.find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_current_folder_is_never_run() {
        let folder = tempfile::tempdir_in(".").unwrap();
        std::fs::write(folder.path().join(PROGRAM), "").unwrap();
        let relative = Path::new(folder.path().file_name().unwrap());
        assert!(relative.join(PROGRAM).is_file(), "the test can fail");
        assert_eq!(find(relative, relative.as_os_str()), None);
        assert_eq!(find(Path::new(""), OsStr::new(":")), None);
        let absolute = folder.path().canonicalize().unwrap();
        let found = find(relative, absolute.as_os_str());
        assert_eq!(found, Some(absolute.join(PROGRAM)));
    }
}
