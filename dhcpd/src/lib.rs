//! DHCP per VLAN, from the inventory.
//!
//! * [`engine`]: DHCPv4, pure: a message and the time come in, an answer goes out.
//! * [`six`]: the same for DHCPv6, and router advertisements.
//! * [`scope`]: what a generation means for DHCP; [`settings`]: what the inventory does not say.
//! * [`store`]: leases are durable before they are acknowledged.
//! * [`server`]: sockets, batches, the generation file: the daemon `bulkhead-dhcpd`.
//! * [`import`]: leases of Kea and dnsmasq.
//!
//! A machine that starts depends on this crate for its address, and on nothing else of bulkhead but the
//! generation file.

#![deny(unsafe_code, clippy::indexing_slicing)]

pub mod args;
mod code;
pub mod counters;
pub mod engine;
pub mod frame;
pub mod frame6;
pub mod import;
mod limit;
mod options;
mod request;
pub mod scope;
pub mod server;
pub mod settings;
pub mod six;
pub mod store;
mod table;
mod time;

pub use engine::Engine;
pub use request::{ClientState, Kind, Request};
pub use table::Usage;
pub use time::Time;
