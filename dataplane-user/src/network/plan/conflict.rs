//! Foreign objects, in words.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use crate::network::GROUP;

/// Something that is not ours, or not as the inventory says: what, and what the operator can do.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Conflict {
    /// The link (or address) that it is about.
    pub object: String,
    /// What is the matter.
    pub what: String,
    /// What the operator can do.
    pub remedy: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (remedy: {})", self.what, self.remedy)
    }
}

impl Conflict {
    fn new(object: impl fmt::Display, what: String, remedy: String) -> Self {
        Self {
            object: object.to_string(),
            what,
            remedy,
        }
    }

    pub(crate) fn unexplained_port(port: &str) -> Self {
        Self::new(
            port,
            format!(
                "{port} is a port of a bridge, and neither the uplink nor a machine's: nothing would pass there"
            ),
            format!(
                "ip link set {port} nomaster; or name it in hypervisor_uplink_port; or say which endpoint is behind it: \
                 ip link set {port} alias \"bulkhead mac=MAC\""
            ),
        )
    }

    pub(super) fn no_trunk(trunk: &str) -> Self {
        Self::new(
            trunk,
            format!("there is no interface {trunk}, which `router_parent` names as the trunk"),
            "plug it in, or correct router_parent; `ip link` lists what there is".to_owned(),
        )
    }

    pub(super) fn foreign_device(name: &str, trunk: &str, vlan_id: u16) -> Self {
        Self::new(
            name,
            format!("VLAN {vlan_id} of {trunk} has a device, {name}, that bulkhead did not make"),
            format!(
                "ip link delete {name}; or let bulkhead have it: ip link set {name} group {GROUP}; or leave \
                 links out of `manage` in [network] of bulkhead.toml"
            ),
        )
    }

    pub(super) fn name_taken(name: &str, vlan_id: u16) -> Self {
        Self::new(
            name,
            format!("the device of VLAN {vlan_id} is to be called {name}, and another link is"),
            format!("ip link set {name} name OTHER, or remove its alternative name {name}"),
        )
    }

    pub(super) fn no_device(trunk: &str, vlan_id: u16) -> Self {
        Self::new(
            format!("{trunk} vlan {vlan_id}"),
            format!("there is no device for VLAN {vlan_id} on {trunk}, and links are not managed"),
            "make one, or add links to `manage` in [network] of bulkhead.toml".to_owned(),
        )
    }

    pub(super) fn address_elsewhere(address: IpNet, wanted: &str, found: &str) -> Self {
        let ip = address.addr();
        Self::new(
            address,
            format!("{ip} belongs on {wanted}, and is on {found}, where bulkhead did not put it"),
            format!("ip address delete {address} dev {found}"),
        )
    }

    pub(super) fn foreign_length(wanted: IpNet, found: IpNet, link: &str) -> Self {
        Self::new(
            found,
            format!("{link} has {found}, which bulkhead did not add, instead of {wanted}"),
            format!("ip address delete {found} dev {link}"),
        )
    }

    pub(super) fn foreign_address(address: IpNet, link: &str) -> Self {
        Self::new(
            address,
            format!("{link} has the address {address}, which the inventory does not know"),
            format!(
                "give it to the router in the inventory, or ip address delete {address} dev {link}"
            ),
        )
    }

    pub(super) fn needs_advertisements(link: &str) -> Self {
        Self::new(
            link,
            format!(
                "{link} has an address out of a router advertisement, and Linux ignores those on a router: \
                 IPv6 forwarding stays off"
            ),
            format!(
                "sysctl -w net.ipv6.conf.{}.accept_ra=2",
                link.replace('.', "/")
            ),
        )
    }

    pub(super) fn no_bridge(name: &str) -> Self {
        Self::new(
            name,
            format!("there is no bridge {name}, which `hypervisor_bridge` names"),
            "make it, or correct hypervisor_bridge; `ip link show type bridge` lists what there is"
                .to_owned(),
        )
    }

    pub(super) fn no_port(port: &str, bridge: &str) -> Self {
        Self::new(
            port,
            format!("{port}, which `hypervisor_uplink_port` names, is no port of {bridge}"),
            format!("ip link set {port} master {bridge}, or correct hypervisor_uplink_port"),
        )
    }

    /// `vlan_id`: 0 if the bridge does not filter VLANs.
    pub(super) fn untagged_host(bridge: &str, vlan_id: u16, address: IpNet) -> Self {
        let (side, like) = match vlan_id {
            0 => ("untagged side".to_owned(), 99),
            _ => (format!("untagged side (VLAN {vlan_id})"), vlan_id),
        };
        Self::new(
            bridge,
            format!(
                "{bridge} has the address {address} on its {side}: to stop untagged frames would cut off this host"
            ),
            format!(
                "move the address to a VLAN device of its segment, like {bridge}.{like}, for which the bridge's own side must carry the \
                 VLAN: bridge vlan add dev {bridge} vid {like} self"
            ),
        )
    }

    /// Of the VLAN: its id, and whether it is a segment that the uplink carries.
    pub(super) fn tagged_host(
        device: &str,
        bridge: &str,
        (vlan_id, is_segment): (u16, bool),
    ) -> Self {
        let entry = format!("bridge vlan add dev {bridge} vid {vlan_id} self");
        let remedy = if is_segment {
            entry
        } else {
            format!(
                "make VLAN {vlan_id} a segment of the site, and {entry}; or move the address to a segment that there is"
            )
        };
        Self::new(
            device,
            format!(
                "this host has an address on {device}, and {bridge} would not carry VLAN {vlan_id} for it any more: that would cut off \
                 this host"
            ),
            remedy,
        )
    }
}
