//! Does one change, and says what the kernel said.
//!
//! A change that is done already is no error, so a plan that was cut off can be done again.

use std::io;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::link::{BridgeVlanInfoFlags, InfoBridge, InfoKind, LinkMessage};
use rtnetlink::{LinkBridge, LinkBridgeVlan, LinkMessageBuilder, LinkUnspec, LinkVlan};

use super::change::{Change, LinkRef, SysctlChange, VlanRange};
use super::ethtool::set_rx_vlan_offload;
use super::observed::{Kind, Link, address_of, link_of};
use super::{GROUP, NetlinkError, Network, NetworkError, PROTOCOL};

impl Network {
    /// Does a change.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Apply`] names the change, what the kernel said, and a remedy.
    pub async fn apply(&self, change: &Change) -> Result<(), NetworkError> {
        self.check_namespace()?;
        self.try_apply(change)
            .await
            .map_err(|source| NetworkError::Apply {
                change: change.to_string(),
                remedy: remedy(change, &source),
                source,
            })
    }

    /// Gives a link one more name (`ip link property add altname`): whoever looks for it by that one finds it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; so it does if another link has the name.
    pub async fn add_name(&self, index: u32, name: &str) -> Result<(), NetworkError> {
        self.check_namespace()?;
        let request = self.handle.link().property_add(index).alt_ifname(&[name]);
        request.execute().await.map_err(|source| {
            let op = "give a link one more name";
            NetlinkError::Ask { op, source }.into()
        })
    }

    async fn try_apply(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::CreateVlan {
                name,
                trunk,
                vlan_id,
                mtu,
                ..
            } => self.create_vlan(name, trunk, (*vlan_id, *mtu)).await,
            Change::RemoveVlan { link, .. } => self.remove_vlan(link).await,
            Change::SetMtu { link, to, .. } => {
                let message = LinkUnspec::new_with_index(index(link)?).mtu(*to);
                self.set_link(message.build()).await
            }
            Change::SetUp { link } => {
                let message = LinkUnspec::new_with_index(index(link)?).up();
                self.set_link(message.build()).await
            }
            Change::SetDown { link } => {
                let message = LinkUnspec::new_with_index(index(link)?).down();
                self.set_link(message.build()).await
            }
            Change::AddAddress { link, address } => self.add_address(link, *address).await,
            Change::ReplaceAddress { link, from, to } => {
                // IPv6 has an address once on a device; IPv4 can have both for the moment.
                if matches!(from, IpNet::V6(_)) {
                    self.remove_address(link, *from).await?;
                    return self.add_address(link, *to).await;
                }
                self.add_address(link, *to).await?;
                self.remove_address(link, *from).await
            }
            Change::RemoveAddress { link, address } => self.remove_address(link, *address).await,
            Change::SetSysctls { device, values } => set_sysctls(device, values),
            Change::SetRxVlanOff { link } => set_rx_vlan_offload(&link.name, false),
            Change::SetVlanFiltering { bridge } => {
                self.set_bridge(bridge, InfoBridge::VlanFiltering(true))
                    .await
            }
            Change::ClearDefaultPvid { bridge, .. } => {
                self.set_bridge(bridge, InfoBridge::VlanDefaultPvid(0))
                    .await
            }
            Change::CarryVlans { port, vlans } | Change::TagVlans { port, vlans } => {
                self.set_link(bridge_vlans(port, vlans)?).await
            }
            Change::SetAccessVlan { port, vlan } => {
                let untagged = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
                let message = LinkBridgeVlan::new(index(port)?).vlan(*vlan, untagged);
                self.set_link(message.build()).await
            }
            Change::DropVlans { port, vlans } => {
                let message = bridge_vlans(port, vlans)?;
                let request = self.handle.link().del_with_message(message);
                request.execute().await.map_err(into_io)
            }
        }
    }

    async fn set_link(&self, message: LinkMessage) -> io::Result<()> {
        let request = self.handle.link().set(message);
        request.execute().await.map_err(into_io)
    }

    /// By index only: with the name in it, Linux 6.1 takes the request for a renaming, which a link that is up
    /// refuses.
    async fn set_bridge(&self, bridge: &LinkRef, setting: InfoBridge) -> io::Result<()> {
        let message = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
            .index(index(bridge)?)
            .append_info_data(setting)
            .build();
        let request = self.handle.link().change(message);
        request.execute().await.map_err(into_io)
    }

    /// Group and MTU are in the request that makes the device: there is never one of ours without the mark.
    async fn create_vlan(
        &self,
        name: &str,
        trunk: &LinkRef,
        (vlan_id, mtu): (u16, u32),
    ) -> io::Result<()> {
        let parent = index(trunk)?;
        let device = LinkVlan::new(name, parent, vlan_id);
        let message = device.mtu(mtu).link_group(GROUP).build();
        let made = self.handle.link().add(message).execute().await;
        let Err(error) = made.map_err(into_io) else {
            return Ok(());
        };
        let kind = Kind::Vlan {
            parent: Some(parent),
            vlan_id,
        };
        let found = self.link(None, name).await;
        let is_it = |link: &Link| link.is_ours() && link.kind == kind && link.mtu == mtu;
        match found {
            Ok(Some(link)) if has_code(&error, libc::EEXIST) && is_it(&link) => Ok(()),
            _ => Err(error),
        }
    }

    /// Looks at the mark once more: the index may be another link's by now.
    async fn remove_vlan(&self, link: &LinkRef) -> io::Result<()> {
        match self.link(link.index, &link.name).await? {
            Some(found) if found.is_ours() => {
                let removed = self.handle.link().del(found.index).execute().await;
                ignore(removed.map_err(into_io), &[libc::ENODEV])
            }
            Some(_) => Err(io::Error::from_raw_os_error(libc::EPERM)),
            None => Ok(()),
        }
    }

    async fn link(&self, index: Option<u32>, name: &str) -> io::Result<Option<Link>> {
        let request = self.handle.link().get();
        let request = match index {
            Some(index) => request.match_index(index),
            None => request.match_name(name),
        };
        let found = std::pin::pin!(request.execute()).try_next().await;
        match found.map_err(into_io) {
            Ok(message) => Ok(message.map(link_of)),
            Err(error) if has_code(&error, libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Without asking whether it is taken: a host that claims an address of the router must not take it away.
    async fn add_address(&self, link: &LinkRef, address: IpNet) -> io::Result<()> {
        let index = index(link)?;
        let (ip, length) = (address.addr(), address.prefix_len());
        let mut request = self.handle.address().add(index, ip, length);
        mark(request.message_mut());
        let Err(error) = request.execute().await.map_err(into_io) else {
            return Ok(());
        };
        if has_code(&error, libc::EEXIST) && self.has_address(index, address).await? {
            return Ok(());
        }
        Err(error)
    }

    async fn has_address(&self, index: u32, address: IpNet) -> io::Result<bool> {
        let request = self.handle.address().get().set_link_index_filter(index);
        let messages: Result<Vec<AddressMessage>, _> = request.execute().try_collect().await;
        let messages = messages.map_err(into_io)?;
        let mut found = messages.iter().filter_map(address_of);
        Ok(found.any(|found| found.net == address))
    }

    async fn remove_address(&self, link: &LinkRef, address: IpNet) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = index(link)?;
        message.header.prefix_len = address.prefix_len();
        message.header.family = match address {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        let ip = address.addr();
        message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
        let removed = self.handle.address().del(message).execute().await;
        ignore(removed.map_err(into_io), &[libc::EADDRNOTAVAIL])
    }
}

fn mark(message: &mut AddressMessage) {
    message.header.flags |= AddressHeaderFlags::Nodad;
    let flags = AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent);
    let protocol = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
    message.attributes.extend([flags, protocol]);
}

fn index(link: &LinkRef) -> io::Result<u32> {
    match link.index {
        Some(index) => Ok(index),
        None => Ok(nix::net::if_::if_nametoindex(link.name.as_str())?),
    }
}

fn bridge_vlans(port: &LinkRef, vlans: &[VlanRange]) -> io::Result<LinkMessage> {
    let plain = BridgeVlanInfoFlags::empty();
    let mut message = LinkBridgeVlan::new(index(port)?);
    for range in vlans {
        message = if range.first == range.last {
            message.vlan(range.first, plain)
        } else {
            let begun = message.vlan_range_start(range.first, plain);
            begun.vlan_range_end(range.last, plain)
        };
    }
    Ok(message.build())
}

fn set_sysctls(device: &str, values: &[SysctlChange]) -> io::Result<()> {
    for SysctlChange { key, to, .. } in values {
        let path = key.path(device);
        std::fs::write(&path, to.to_string()).map_err(|error| SysctlError::wrap(*key, error))?;
    }
    Ok(())
}

/// Says which of several sysctls it was.
#[derive(Debug, thiserror::Error)]
#[error("{key}")]
struct SysctlError {
    key: super::sysctl::Key,
    #[source]
    source: io::Error,
}

impl SysctlError {
    fn wrap(key: super::sysctl::Key, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), Self { key, source })
    }
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io()
    } else {
        io::Error::other(error)
    }
}

fn has_code(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

fn ignore(result: io::Result<()>, codes: &[i32]) -> io::Result<()> {
    match result {
        Err(error) if codes.iter().any(|code| has_code(&error, *code)) => Ok(()),
        other => other,
    }
}

/// What the operator can do about an error; empty if nothing is known to help.
fn remedy(change: &Change, error: &io::Error) -> String {
    let code = error.raw_os_error();
    match (change, code) {
        (Change::CreateVlan { .. }, Some(libc::EOPNOTSUPP)) => {
            "this kernel has no VLAN devices: modprobe 8021q".to_owned()
        }
        (Change::CreateVlan { name, .. }, Some(libc::EEXIST)) => format!(
            "another link has this name, or this VLAN on the trunk: ip link show {name}; plan again"
        ),
        (Change::CreateVlan { .. } | Change::SetMtu { .. }, Some(libc::ERANGE | libc::EINVAL)) => {
            "ip -d link show says the largest MTU of the NIC (maxmtu); native XDP may allow less, a VLAN \
             device no more than its trunk: lower `mtu` of the segment, or attach with --mode tcx"
                .to_owned()
        }
        (Change::SetSysctls { .. }, None) if error.kind() == io::ErrorKind::NotFound => {
            "the device went away, or IPv6 is off in this kernel (ipv6.disable=1 in /proc/cmdline)"
                .to_owned()
        }
        (Change::SetSysctls { .. }, None) => {
            "/proc/sys must be writable: in a container or a unit, not ProtectKernelTunables".to_owned()
        }
        (Change::SetRxVlanOff { link }, _) => format!(
            "the driver cannot leave tags in the frames: native_xdp = false in [network] of bulkhead.toml; \
             ethtool -k {link} shows rx-vlan-offload"
        ),
        (Change::SetVlanFiltering { .. } | Change::CarryVlans { .. }, Some(libc::EOPNOTSUPP)) => {
            "this kernel's bridges cannot filter VLANs (CONFIG_BRIDGE_VLAN_FILTERING)".to_owned()
        }
        (Change::RemoveVlan { link, .. }, Some(libc::EPERM)) => {
            format!("{link} has lost the mark of bulkhead, or we lack CAP_NET_ADMIN; plan again")
        }
        (_, Some(libc::EPERM)) => "run as root, or with CAP_NET_ADMIN".to_owned(),
        (_, Some(libc::ENODEV)) => "the link went away meanwhile: plan again".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::with_causes;

    fn create() -> Change {
        Change::CreateVlan {
            name: "eth1.100".to_owned(),
            trunk: LinkRef {
                name: "eth1".to_owned(),
                index: Some(2),
            },
            vlan_id: 100,
            segment: "grooveiq".to_owned(),
            mtu: 1500,
        }
    }

    #[test]
    fn error_names_object_operation_cause_and_remedy() {
        let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let error = NetworkError::Apply {
            change: create().to_string(),
            remedy: remedy(&create(), &source),
            source,
        };
        assert_eq!(
            with_causes(&error),
            "cannot do `+ vlan device eth1.100 \"grooveiq\" mtu 1500` (remedy: this kernel has no VLAN \
             devices: modprobe 8021q): Operation not supported (os error 95)"
        );
    }
}
