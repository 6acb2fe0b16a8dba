//! What can go wrong between the controller and the kernel.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use thiserror::Error;

/// The kernel refused something. `Display` says what was tried; the source says why it failed.
#[derive(Debug, Error)]
pub enum LoaderError {
    /// The pinned maps were made by another version of bulkhead.
    #[error(
        "what is pinned in {} was made by a bulkhead with ABI version {found}, this one speaks {wanted}; the old \
         enforcement goes on (remedy: `bulkhead run` takes it over)",
        path.display()
    )]
    AbiMismatch {
        /// The pin folder.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Version wanted.
        wanted: u32,
    },
    /// A program could not be attached.
    #[error("cannot attach to {interface} as {mode}")]
    Attach {
        /// The trunk.
        interface: String,
        /// The attach mode.
        mode: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the programs log cannot be read.
    #[cfg(feature = "debug-log")]
    #[error("cannot read what the programs log")]
    DebugLog(#[source] aya_log::Error),
    /// No attach mode works.
    #[error("cannot attach to {interface} in any mode: {tried}")]
    AttachAny {
        /// The trunk.
        interface: String,
        /// What was tried, and why it failed.
        tried: String,
    },
    /// Elements of a map could not be read, written or deleted at once.
    #[error("cannot use elements of the map {map}")]
    Batch {
        /// The map.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program's file descriptor could not be duplicated.
    #[error("cannot duplicate the descriptor of program {program}")]
    CloneFd {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program could not be detached.
    #[error("cannot detach from {interface}")]
    Detach {
        /// The trunk.
        interface: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object's type information could not be loaded.
    #[error("cannot load the eBPF object's BTF (needs root or CAP_BPF)")]
    LoadBtf(#[source] io::Error),
    /// The object could not be loaded.
    #[error("cannot load the eBPF object (needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)")]
    LoadObject(#[source] EbpfError),
    /// A map could not be read or written.
    #[error("cannot use the map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// The object has no such map: a bug.
    #[error("the eBPF object has no map {0} (a bug in bulkhead)")]
    MissingMap(&'static str),
    /// The object has no such program: a bug.
    #[error("the eBPF object has no program {0} (a bug in bulkhead)")]
    MissingProgram(&'static str),
    /// Nothing is attached or pinned there.
    #[error("nothing of bulkhead is pinned in {}", path.display())]
    NotRunning {
        /// The pin folder.
        path: PathBuf,
    },
    /// A link could not be pinned.
    #[error("cannot pin {}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: PinError,
    },
    /// A file of the pin folder could not be made, read or removed.
    #[error("cannot {op} {}", path.display())]
    PinFile {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program could not be loaded or run.
    #[error("cannot use the program {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why, with the end of the verifier's log.
        #[source]
        source: Box<ProgramError>,
    },
    /// A generation must be published before the programs are attached.
    #[error("no generation has been published yet, so nothing may be attached")]
    Unpublished,
}

impl LoaderError {
    pub(super) fn map(map: &'static str, source: MapError) -> Self {
        Self::Map { map, source }
    }

    pub(super) fn program(program: &'static str, source: ProgramError) -> Self {
        Self::Program {
            program,
            source: Box::new(source),
        }
    }
}
