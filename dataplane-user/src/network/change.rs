//! One change of the kernel's network, as it is shown and as it is recorded.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use super::sysctl::{ALL_DEVICES, Key};

/// A link: by its index, so that a link of the same name that came after it is not taken for it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LinkRef {
    /// Its name when it was observed, or that it will be made with.
    pub name: String,
    /// Its index; `None` for a link that an earlier change of the same plan makes.
    pub index: Option<u32>,
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A sysctl of a device and its value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct SysctlChange {
    /// Which.
    pub key: Key,
    /// What it was; `None` if it is not known.
    pub from: Option<i32>,
    /// What it will be.
    pub to: i32,
}

/// VLAN ids, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct VlanRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// What a change does to its object.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It will be there: `+`.
    Create,
    /// It will be different: `~`.
    Change,
    /// It will be gone: `-`.
    Remove,
}

/// A change of the kernel's network.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Makes a VLAN device with our mark; it is down.
    CreateVlan {
        /// Its name.
        name: String,
        /// What it is on.
        trunk: LinkRef,
        /// 802.1Q VLAN id.
        vlan_id: u16,
        /// The segment, for people.
        segment: String,
        /// In octets.
        mtu: u32,
    },
    /// Removes a VLAN device of ours, with its addresses.
    RemoveVlan {
        /// The device.
        link: LinkRef,
        /// 802.1Q VLAN id.
        vlan_id: u16,
    },
    /// Sets the largest packet of a link.
    SetMtu {
        /// The link.
        link: LinkRef,
        /// In octets.
        from: u32,
        /// In octets.
        to: u32,
    },
    /// Sets a link up.
    SetUp {
        /// The link.
        link: LinkRef,
    },
    /// Sets a link down.
    SetDown {
        /// The link.
        link: LinkRef,
    },
    /// Adds an address with our mark; nobody is asked whether it is taken.
    AddAddress {
        /// The device.
        link: LinkRef,
        /// Address and prefix length.
        address: IpNet,
    },
    /// Changes the prefix length of an address of ours.
    ReplaceAddress {
        /// The device.
        link: LinkRef,
        /// Address and prefix length.
        from: IpNet,
        /// The same address with another length.
        to: IpNet,
    },
    /// Removes an address of ours.
    RemoveAddress {
        /// The device.
        link: LinkRef,
        /// Address and prefix length.
        address: IpNet,
    },
    /// Sets sysctls of one device, or of `all`.
    SetSysctls {
        /// The device.
        device: String,
        /// In this order.
        values: Vec<SysctlChange>,
    },
    /// Lets a NIC leave VLAN tags in the frames.
    SetRxVlanOff {
        /// The NIC.
        link: LinkRef,
    },
    /// Lets a bridge filter VLANs.
    SetVlanFiltering {
        /// The bridge.
        bridge: LinkRef,
    },
    /// Lets a bridge give its ports no VLAN by itself.
    ClearDefaultPvid {
        /// The bridge.
        bridge: LinkRef,
        /// The VLAN that it gave.
        from: u16,
    },
    /// Lets a bridge's port carry VLANs, with tags.
    CarryVlans {
        /// The port.
        port: LinkRef,
        /// Which.
        vlans: Vec<VlanRange>,
    },
    /// Lets a bridge's port carry VLANs with tags that it carried without.
    TagVlans {
        /// The port.
        port: LinkRef,
        /// Which.
        vlans: Vec<VlanRange>,
    },
    /// Lets a bridge's port have a VLAN without a tag, in both directions.
    SetAccessVlan {
        /// The port.
        port: LinkRef,
        /// Which.
        vlan: u16,
    },
    /// Takes VLANs off a bridge's port.
    DropVlans {
        /// The port.
        port: LinkRef,
        /// Which.
        vlans: Vec<VlanRange>,
    },
}

impl Change {
    /// Says whether the object comes, changes or goes.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::CreateVlan { .. } | Self::AddAddress { .. } | Self::CarryVlans { .. } => {
                Action::Create
            }
            Self::RemoveVlan { .. } | Self::RemoveAddress { .. } | Self::DropVlans { .. } => {
                Action::Remove
            }
            Self::SetMtu { .. }
            | Self::SetUp { .. }
            | Self::SetDown { .. }
            | Self::ReplaceAddress { .. }
            | Self::SetSysctls { .. }
            | Self::SetRxVlanOff { .. }
            | Self::SetVlanFiltering { .. }
            | Self::ClearDefaultPvid { .. }
            | Self::SetAccessVlan { .. }
            | Self::TagVlans { .. } => Action::Change,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action() {
            Action::Create => '+',
            Action::Change => '~',
            Action::Remove => '-',
        };
        write!(f, "{sign} ")?;
        match self {
            Self::CreateVlan {
                name, segment, mtu, ..
            } => write!(f, "vlan device {name} \"{segment}\" mtu {mtu}"),
            Self::RemoveVlan { link, .. } => write!(f, "vlan device {link}"),
            Self::SetMtu { link, from, to } => write!(f, "{link} mtu {from} -> {to}"),
            Self::SetUp { link } => write!(f, "{link} down -> up"),
            Self::SetDown { link } => write!(f, "{link} up -> down"),
            Self::AddAddress { link, address } | Self::RemoveAddress { link, address } => {
                write!(f, "address {address} on {link}")
            }
            Self::ReplaceAddress { link, from, to } => {
                write!(f, "address {from} -> /{} on {link}", to.prefix_len())
            }
            Self::SetSysctls { device, values } => write_sysctls(f, device, values),
            Self::SetRxVlanOff { link } => write!(f, "{link} rxvlan on -> off"),
            Self::SetVlanFiltering { bridge } => write!(f, "{bridge} vlan_filtering off -> on"),
            Self::ClearDefaultPvid { bridge, from } => {
                write!(f, "{bridge} vlan_default_pvid {from} -> none")
            }
            Self::CarryVlans { port, vlans } => write!(f, "vlan {} on {port}", list(vlans)),
            Self::TagVlans { port, vlans } => {
                write!(f, "vlan {} on {port} untagged -> tagged", list(vlans))
            }
            Self::SetAccessVlan { port, vlan } => {
                write!(f, "vlan {vlan} on {port} is that of its machine")
            }
            Self::DropVlans { port, vlans } => write!(f, "vlan {} on {port}", list(vlans)),
        }
    }
}

fn write_sysctls(f: &mut fmt::Formatter<'_>, device: &str, values: &[SysctlChange]) -> fmt::Result {
    if device == ALL_DEVICES {
        f.write_str("sysctls of all devices:")?;
    } else {
        write!(f, "sysctls of {device}:")?;
    }
    // Those of a new device are the same for each: docs of `sysctl`.
    if values.iter().all(|value| value.from.is_none()) {
        return write!(f, " the {} of isolation", values.len());
    }
    for (number, SysctlChange { key, from, to }) in values.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        match from {
            Some(from) => write!(f, "{comma} {key} {from} -> {to}")?,
            None => write!(f, "{comma} {key} = {to}")?,
        }
    }
    Ok(())
}

fn list(vlans: &[VlanRange]) -> String {
    let texts: Vec<String> = vlans.iter().map(VlanRange::to_string).collect();
    texts.join(",")
}
