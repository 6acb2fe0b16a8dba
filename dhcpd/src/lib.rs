//! DHCP per VLAN, from the inventory. Not built yet: this crate holds the place that the workspace's layout
//! gives it, and nothing depends on it.

#![forbid(unsafe_code)]
