//! Frames, network namespaces and whole sites for the tests of bulkhead.
//!
//! * [`frame`]: one fluent builder for every frame that a test needs, honest or forged, and a parser
//!   to assert on what comes back; [`forgery`]: what a machine must not send.
//! * [`netns`]: a network namespace per test, closures that run inside of it, veth pairs, addresses,
//!   routes, sysctls.
//! * [`raw`]: an `AF_PACKET` socket that shows a received tag in the bytes, wherever the kernel had
//!   put it.
//! * [`tap`]: a tap, as a virtual machine monitor has it.
//! * [`switch`]: an 802.1Q switch in userspace, for kernels without VLAN-filtering bridges;
//!   [`kernel_vlan`] is its twin for kernels that have them.
//! * [`site`]: a router, its trunk, and hosts on segments, built out of a description.
//! * [`lab`]: the sample inventory as such a description.
//! * [`peers`]: name servers of others, to talk to and to compare with.
//! * [`program`]: how a test runs the program `bulkhead`.
//! * [`fixtures`]: where the project's sample inventory is.
//!
//! Everything but [`frame`], [`program`] and [`fixtures`] needs root. Nothing ever leaves the namespaces that the
//! test made: they have no way out.

pub mod bpffs;
pub mod ethtool;
pub mod fixtures;
pub mod forgery;
pub mod frame;
pub mod kernel_vlan;
pub mod lab;
pub mod link;
pub mod netns;
pub mod peers;
pub mod program;
pub mod raw;
pub mod site;
pub mod switch;
pub mod tap;
pub mod wait;
pub mod xdp;
