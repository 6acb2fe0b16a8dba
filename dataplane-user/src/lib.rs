//! bulkhead: the loader of the eBPF data plane, the controller, and the command line over them.

pub mod can;
pub mod cli;
pub mod config;
pub mod controller;
pub mod doctor;
pub mod loader;
pub mod nat;
pub mod network;
pub mod plan;
pub mod ports;
pub mod reasons;
pub mod run;
pub mod store;

pub use policy_compiler as compile;
