//! Writes man pages and shell completions of the real command line, for the package: `documents FOLDER`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use dataplane_user::cli::Cli;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("which folder?")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "bulkhead", &folder)
            .with_context(|| format!("write the completions of {shell}"))?;
    }
    command.build();
    write_man_page(&folder, &command, "bulkhead")?;
    // The page of `bulkhead dns` is that of the program which it runs, and has its name.
    let subs = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "dns");
    for sub in subs {
        write_man_page(&folder, sub, &format!("bulkhead-{}", sub.get_name()))?;
    }
    Ok(())
}

fn write_man_page(folder: &Path, command: &Command, name: &str) -> Result<()> {
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    // A name that is not in the program's text is leaked: clap wants it for ever, and this process ends soon.
    let name: &'static str = name.to_owned().leak();
    let named = command.clone().name(name);
    clap_mangen::Man::new(named).render(&mut page)?;
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}
