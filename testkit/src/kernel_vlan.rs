//! Real VLAN devices and VLAN-filtering bridges, where the kernel has them.

use anyhow::{Context, Result};
use rtnetlink::packet_route::link::BridgeVlanInfoFlags;
use rtnetlink::{LinkBridge, LinkBridgeVlan, LinkVlan};

use crate::netns::NetNs;

/// Returns whether the kernel can make VLAN devices. It says so by making one, in a namespace of its
/// own; a kernel that has the code as a module loads it.
///
/// # Errors
///
/// If the process may not make namespaces or links.
pub fn vlan_devices_available() -> Result<bool> {
    let ns = scratch()?;
    Ok(ns.add_vlan_device("a", 100, "a.100").is_ok())
}

/// Returns whether the kernel can make a bridge that filters VLANs.
///
/// # Errors
///
/// If the process may not make namespaces or links.
pub fn vlan_filtering_available() -> Result<bool> {
    let ns = scratch()?;
    let make = || {
        ns.add_vlan_bridge("br")?;
        ns.set_controller("a", "br")?;
        ns.add_bridge_vlan("a", 100, BridgeVlan::Untagged)
    };
    Ok(make().is_ok())
}

fn scratch() -> Result<NetNs> {
    let ns = NetNs::new("probe")?;
    ns.add_veth("a", &ns, "b")?;
    Ok(ns)
}

/// How a bridge port carries a VLAN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BridgeVlan {
    /// With the tag: a trunk.
    Tagged,
    /// Without: an access port. Untagged frames that it receives belong to this VLAN.
    Untagged,
}

impl NetNs {
    /// Makes a VLAN device on `parent`.
    ///
    /// # Errors
    ///
    /// If the kernel has no VLAN devices, or the parent does not exist.
    pub fn add_vlan_device(&self, parent: &str, vlan: u16, name: &str) -> Result<()> {
        let message = LinkVlan::new(name, self.ifindex(parent)?, vlan).build();
        self.netlink(|handle| async move { handle.link().add(message).execute().await })
            .with_context(|| format!("making VLAN device {name} in {}", self.name()))
    }

    /// Makes a bridge that filters VLANs and whose ports have none at first.
    ///
    /// # Errors
    ///
    /// If the kernel cannot filter VLANs in bridges.
    pub fn add_vlan_bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name)
            .vlan_filtering(true)
            .vlan_default_pvid(0)
            .mcast_snooping(false)
            .build();
        self.netlink(|handle| async move { handle.link().add(message).execute().await })
            .with_context(|| format!("making VLAN bridge {name} in {}", self.name()))
    }

    /// Lets a bridge port carry a VLAN.
    ///
    /// # Errors
    ///
    /// If the link is no port of a bridge that filters VLANs.
    pub fn add_bridge_vlan(&self, port: &str, vlan: u16, how: BridgeVlan) -> Result<()> {
        let flags = match how {
            BridgeVlan::Tagged => BridgeVlanInfoFlags::empty(),
            BridgeVlan::Untagged => BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
        };
        let message = LinkBridgeVlan::new(self.ifindex(port)?)
            .vlan(vlan, flags)
            .build();
        self.netlink(|handle| async move { handle.link().set(message).execute().await })
            .with_context(|| format!("adding VLAN {vlan} to port {port} in {}", self.name()))
    }
}
