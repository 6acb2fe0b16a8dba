//! bulkhead: the policy compiler, the loader of the eBPF data plane, and the command line over them.

pub mod can;
pub mod compile;
pub mod reasons;
