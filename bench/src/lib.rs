//! What the benchmarks share: sites of any size, frames of them, and raw eBPF programs around the real one.

pub mod frames;
pub mod raw;
pub mod site;
