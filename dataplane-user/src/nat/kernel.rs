//! The only code that talks to the kernel about the table, through the program `nft`.

use std::io::ErrorKind;
use std::path::Path;

use nftables::batch::Batch;
use nftables::helper::{self, DEFAULT_ARGS, NftablesError};
use thiserror::Error;

use super::TABLE;
use super::desired::Ruleset;
use super::observed::Observed;
use super::transaction;

/// The table could not be read or written. Nothing of it changed.
#[derive(Debug, Error)]
pub enum NatError {
    /// The program is not there.
    #[error("cannot run nft, which the uplinks' NAT needs (remedy: apt-get install nftables)")]
    NoNft(#[source] NftablesError),
    /// The process may not.
    #[error("cannot {op} the nftables table inet {TABLE}: this needs root or CAP_NET_ADMIN")]
    Privileges {
        /// What was tried.
        op: &'static str,
    },
    /// The kernel lacks nftables, or a part of it.
    #[error(
        "cannot {op} the nftables table inet {TABLE}: {why} (remedy: a kernel with CONFIG_NF_TABLES_INET, NFT_CT, \
         NFT_NAT and NFT_MASQ; modprobe nf_tables, nft_ct, nft_masq)"
    )]
    Unsupported {
        /// What was tried.
        op: &'static str,
        /// What nft says.
        why: String,
    },
    /// `nft` failed.
    #[error("cannot {op} the nftables table inet {TABLE}: {why}")]
    Refused {
        /// What was tried.
        op: &'static str,
        /// What nft says.
        why: String,
    },
}

/// Reads the table.
///
/// # Errors
///
/// [`NatError`] with what to do about it. That there is no table is no error.
pub fn observe() -> Result<Observed, NatError> {
    let args = ["list", "table", "inet", TABLE];
    match helper::get_current_ruleset_raw(Some(program()), args) {
        Ok(listing) => Ok(Observed::parse(&listing)),
        Err(NftablesError::NftFailed { stderr, .. }) if is_absent(&stderr) => Ok(Observed::Absent),
        Err(error) => Err(NatError::of("read", error)),
    }
}

/// Makes the table what it should be, in one transaction, whatever it was; without uplinks, removes it.
///
/// # Errors
///
/// [`NatError`] with what to do about it; nothing was changed.
pub fn apply(ruleset: &Ruleset) -> Result<(), NatError> {
    if ruleset.is_empty() {
        return remove();
    }
    if let Observed::Present(found) = observe()?
        && let Some(update) = transaction::update(ruleset, &found)
        && send("change", update).is_ok()
    {
        return Ok(());
    }
    send("replace", transaction::replace(ruleset))
}

/// Removes the table, if it is there.
///
/// # Errors
///
/// [`NatError`] with what to do about it; nothing was changed.
pub fn remove() -> Result<(), NatError> {
    if observe()? == Observed::Absent {
        return Ok(());
    }
    send("remove", transaction::remove())
}

fn send(op: &'static str, batch: Batch<'static>) -> Result<(), NatError> {
    let sent = helper::apply_ruleset_with_args(&batch.to_nftables(), Some(program()), DEFAULT_ARGS);
    sent.map_err(|error| NatError::of(op, error))
}

/// Returns where `nft` is: `/usr/sbin` is not in everybody's `PATH`.
fn program() -> &'static str {
    const USUAL: &str = "/usr/sbin/nft";
    if Path::new(USUAL).exists() {
        USUAL
    } else {
        "nft"
    }
}

fn is_absent(stderr: &str) -> bool {
    stderr.contains("No such file or directory")
}

impl NatError {
    fn of(op: &'static str, error: NftablesError) -> Self {
        match error {
            NftablesError::NftExecution { ref inner, .. }
                if inner.kind() == ErrorKind::NotFound =>
            {
                Self::NoNft(error)
            }
            NftablesError::NftFailed { stderr, .. } => Self::refused(op, &stderr),
            NftablesError::NftExecution { .. }
            | NftablesError::NftOutputEncoding { .. }
            | NftablesError::NftInvalidJson(_) => Self::refused(op, &error.to_string()),
        }
    }

    fn refused(op: &'static str, stderr: &str) -> Self {
        let first = stderr.lines().find(|line| !line.trim().is_empty());
        let why = first
            .unwrap_or("nft failed and does not say why")
            .trim()
            .to_owned();
        if stderr.contains("Operation not permitted") {
            Self::Privileges { op }
        } else if stderr.contains("not supported") || is_absent(stderr) {
            Self::Unsupported { op, why }
        } else {
            Self::Refused { op, why }
        }
    }
}
