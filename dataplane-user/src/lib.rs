//! bulkhead: the policy compiler, the loader of the eBPF data plane, and the command line over them.

pub mod can;
pub mod cli;
pub mod compile;
pub mod config;
pub mod loader;
pub mod netlink;
pub mod reasons;
pub mod run;
