//! What the eBPF programs of bulkhead and the controller share, without the standard library.
//!
//! * [`abi`]: types of map keys and values.
//! * [`hold`]: the verdict until there is a first generation.
//! * [`reason`]: the outcomes of a frame.
//! * [`wire`]: headers of the protocols that are judged.
//! * [`policy`]: the verdict on a frame, pure and generic over the frame and the tables, so that unit
//!   tests, fuzzers and benchmarks run the very code that the kernel runs.

#![no_std]
#![deny(clippy::indexing_slicing)]

#[cfg(feature = "std")]
extern crate std;

pub mod abi;
pub mod hold;
#[cfg(feature = "std")]
pub mod host;
pub mod policy;
pub mod reason;
pub mod rewrite;
pub mod wire;
