//! Links, addresses, routes and neighbours of a [`NetNs`], over netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, anyhow};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    new_connection,
};

use crate::netns::NetNs;
use crate::wait::wait_for;

impl NetNs {
    /// Makes a veth pair: `name` here, `peer_name` in `peer`. Both ends are down.
    ///
    /// # Errors
    ///
    /// If a name is taken, or no interface name.
    pub fn add_veth(&self, name: &str, peer: &NetNs, peer_name: &str) -> Result<()> {
        let namespace = peer.as_fd().as_raw_fd();
        let far_end = LinkUnspec::new_with_name(peer_name)
            .setns_by_fd(namespace)
            .build();
        let message = LinkVeth::new(name, peer_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
            .build();
        self.netlink(|handle| async move { handle.link().add(message).execute().await })
            .with_context(|| format!("making veth {name} -- {peer_name} in {}", self.name()))
    }

    /// Makes a bridge that floods what it does not know, and asks for no VLAN.
    ///
    /// # Errors
    ///
    /// If the name is taken, or no interface name.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name).mcast_snooping(false).build();
        self.netlink(|handle| async move { handle.link().add(message).execute().await })
            .with_context(|| format!("making bridge {name} in {}", self.name()))
    }

    /// Deletes a link; a veth takes its peer with it.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn delete_link(&self, name: &str) -> Result<()> {
        let index = self.ifindex(name)?;
        self.netlink(|handle| async move { handle.link().del(index).execute().await })
            .with_context(|| format!("deleting {name} in {}", self.name()))
    }

    /// Moves a link to another namespace, under the same name; it is down there, and has no addresses.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or there is one already over there.
    pub fn move_link(&self, name: &str, to: &NetNs) -> Result<()> {
        let namespace = to.as_fd().as_raw_fd();
        self.set_link(name, |link| link.setns_by_fd(namespace))
    }

    /// Sets a link up.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn set_up(&self, name: &str) -> Result<()> {
        self.set_link(name, LinkMessageBuilder::up)
    }

    /// Sets a link down.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn set_down(&self, name: &str) -> Result<()> {
        self.set_link(name, LinkMessageBuilder::down)
    }

    /// Sets the hardware address of a link.
    ///
    /// # Errors
    ///
    /// If there is no such link or the kernel refuses the address.
    pub fn set_mac(&self, name: &str, mac: [u8; 6]) -> Result<()> {
        self.set_link(name, |link| link.address(mac.to_vec()))
    }

    /// Sets the MTU of a link.
    ///
    /// # Errors
    ///
    /// If there is no such link or the kernel refuses the value.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        self.set_link(name, |link| link.mtu(mtu))
    }

    /// Makes a link a port of the bridge `controller`.
    ///
    /// # Errors
    ///
    /// If either does not exist.
    pub fn set_controller(&self, name: &str, controller: &str) -> Result<()> {
        let controller = self.ifindex(controller)?;
        self.set_link(name, |link| link.controller(controller))
    }

    /// Adds an address to a link. It can be used at once: nobody asks whether it is taken.
    ///
    /// # Errors
    ///
    /// If there is no such link or it has the address.
    pub fn add_address(&self, name: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.ifindex(name)?;
        self.netlink(|handle| async move {
            let mut request = handle.address().add(index, address, prefix);
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await
        })
        .with_context(|| format!("adding {address}/{prefix} to {name} in {}", self.name()))
    }

    /// Adds a route to `net` (address and prefix length; `0.0.0.0` and 0 is the default route).
    ///
    /// # Errors
    ///
    /// If the gateway is not on a link, or of the other family.
    pub fn add_route(&self, net: (IpAddr, u8), gateway: IpAddr) -> Result<()> {
        let message = match (net.0, gateway) {
            (IpAddr::V4(to), IpAddr::V4(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, net.1)
                .gateway(via)
                .build(),
            (IpAddr::V6(to), IpAddr::V6(via)) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, net.1)
                .gateway(via)
                .build(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(anyhow!(
                    "route to {} through {gateway}: two families",
                    net.0
                ));
            }
        };
        self.netlink(|handle| async move { handle.route().add(message).execute().await })
            .with_context(|| {
                format!(
                    "adding route {}/{} via {gateway} in {}",
                    net.0,
                    net.1,
                    self.name()
                )
            })
    }

    /// Adds a default route.
    ///
    /// # Errors
    ///
    /// As [`NetNs::add_route`].
    pub fn add_default_route(&self, gateway: IpAddr) -> Result<()> {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.add_route((any, 0), gateway)
    }

    /// Says for good which hardware address an address on a link has.
    ///
    /// # Errors
    ///
    /// If there is no such link.
    pub fn add_neighbour(&self, name: &str, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let index = self.ifindex(name)?;
        self.netlink(|handle| async move {
            let request = handle.neighbours().add(index, address);
            request.link_layer_address(&mac).replace().execute().await
        })
        .with_context(|| format!("adding neighbour {address} of {name} in {}", self.name()))
    }

    /// Returns the index of a link.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn ifindex(&self, name: &str) -> Result<u32> {
        self.run(|| nix::net::if_::if_nametoindex(name))
            .with_context(|| format!("looking for {name} in {}", self.name()))
    }

    /// Returns the hardware address of a link.
    ///
    /// # Errors
    ///
    /// If there is no such link, or it has none.
    pub fn mac(&self, name: &str) -> Result<[u8; 6]> {
        let address = self
            .link(name)?
            .attributes
            .into_iter()
            .find_map(|attribute| {
                if let LinkAttribute::Address(octets) = attribute {
                    Some(octets)
                } else {
                    None
                }
            });
        let address = address.with_context(|| format!("{name} has no hardware address"))?;
        address
            .try_into()
            .map_err(|_| anyhow!("hardware address of {name} has not six octets"))
    }

    /// Waits until a link that is set up, as is its peer, can send. That is a while later: a worker
    /// of the kernel puts the queue in place, and until then frames are lost without an error.
    ///
    /// # Errors
    ///
    /// If there is no such link, or it does not come up, for example because its peer is down.
    pub fn wait_until_up(&self, name: &str) -> Result<()> {
        // The worker sets the state and the queue under the lock that answering takes:
        // https://github.com/torvalds/linux/blob/v6.12/net/core/link_watch.c#L170
        let up = LinkAttribute::OperState(State::Up);
        let is_up = || match self.link(name) {
            Ok(link) if !link.attributes.contains(&up) => None,
            answer => Some(answer.map(|_| ())),
        };
        wait_for(&format!("{name} in {} to come up", self.name()), is_up)?
    }

    fn link(&self, name: &str) -> Result<LinkMessage> {
        let index = self.ifindex(name)?;
        let found = self.netlink(|handle| async move {
            handle
                .link()
                .get()
                .match_index(index)
                .execute()
                .try_next()
                .await
        });
        found?.with_context(|| format!("{name} in {} went away", self.name()))
    }

    fn set_link(
        &self,
        name: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = change(LinkUnspec::new_with_index(self.ifindex(name)?)).build();
        self.netlink(|handle| async move { handle.link().set(message).execute().await })
            .with_context(|| format!("changing {name} in {}", self.name()))
    }

    /// Runs one request on a netlink socket of the namespace.
    pub(crate) fn netlink<T: Send, F>(&self, request: impl FnOnce(Handle) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, rtnetlink::Error>>,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()?;
            runtime.block_on(async {
                let (connection, handle, _) = new_connection()?;
                tokio::spawn(connection);
                Ok(request(handle).await?)
            })
        })
    }
}
