//! Writes the man page of the real command line, for the package: `dns-documents FOLDER`.

use std::io::{Error, Result};

use clap::CommandFactory as _;
use dns::args::Args;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.ok_or_else(|| Error::other("which folder?"))?;
    clap_mangen::Man::new(Args::command()).generate_to(folder)?;
    Ok(())
}
