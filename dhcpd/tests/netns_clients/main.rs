//! Real clients, each from its first message to its release. Needs root.
//!
//! Their scripts write down what they were told, and set the address: nothing of the machine's own (its
//! `/etc/resolv.conf`, its leases) is touched. On rung vm they are on VLAN devices (`BULKHEAD_VLAN_DEVICES`). They mostly wait
//! for their timers, so all of them run at once.

#[cfg(test)]
#[path = "../daemon/mod.rs"]
mod daemon;
#[cfg(test)]
mod four;
#[cfg(test)]
mod six;
