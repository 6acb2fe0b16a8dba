//! What the kernel says of this network namespace: the trunk, and every address of the host.
//!
//! Over netlink and ioctl, not `/sys`: a process may be in a network namespace whose `/sys` is another's.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage};
use rtnetlink::{Handle, new_connection};
use thiserror::Error;

use crate::loader::is_our_filter;

/// The kernel could not be asked, or its answer is of no use.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// There is no such interface.
    #[error("there is no interface {0} here")]
    NoInterface(String),
    /// The interface is no Ethernet.
    #[error("interface {0} has no Ethernet address")]
    NoMac(String),
    /// The kernel refused a question.
    #[error("cannot {op}")]
    Ask {
        /// What was asked.
        op: &'static str,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
    /// The offloads cannot be read.
    #[error("cannot read the offloads of {interface}")]
    Offloads {
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A connection to the kernel; needs a tokio runtime.
pub struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its index.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
}

impl Netlink {
    /// Connects, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// If there can be no socket.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = new_connection().map_err(NetlinkError::Open)?;
        let task = tokio::spawn(connection);
        Ok(Self { handle, task })
    }

    /// Returns an interface.
    ///
    /// # Errors
    ///
    /// If there is none of that name, or it is no Ethernet.
    pub async fn interface(&self, name: &str) -> Result<Interface, NetlinkError> {
        let gone = || NetlinkError::NoInterface(name.to_owned());
        let ifindex = nix::net::if_::if_nametoindex(name).map_err(|_| gone())?;
        let mut links = self.handle.link().get().match_index(ifindex).execute();
        let link = links
            .try_next()
            .await
            .map_err(|source| NetlinkError::Ask {
                op: "read the interface",
                source,
            })?
            .ok_or_else(gone)?;
        let mac = link.attributes.into_iter().find_map(|attribute| {
            if let LinkAttribute::Address(octets) = attribute {
                <[u8; 6]>::try_from(octets).ok()
            } else {
                None
            }
        });
        let mac = mac.ok_or_else(|| NetlinkError::NoMac(name.to_owned()))?;
        Ok(Interface { ifindex, mac })
    }

    /// Returns every address of every interface, sorted.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to tell.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, NetlinkError> {
        let answers = self.handle.address().get().execute();
        let messages: Vec<_> = answers
            .try_collect()
            .await
            .map_err(|source| NetlinkError::Ask {
                op: "list the addresses",
                source,
            })?;
        let mut addresses: Vec<IpAddr> = messages.iter().filter_map(own_address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Is there a filter of ours on the ingress of the interface?
    ///
    /// # Errors
    ///
    /// If the kernel refuses to tell.
    pub async fn has_our_filter(&self, ifindex: u32) -> Result<bool, NetlinkError> {
        self.has_filter(ifindex, true).await
    }

    /// Are there filters of ours on ingress and egress of the interface?
    ///
    /// # Errors
    ///
    /// If the kernel refuses to tell.
    pub async fn has_port_filters(&self, ifindex: u32) -> Result<bool, NetlinkError> {
        Ok(self.has_filter(ifindex, true).await? && self.has_filter(ifindex, false).await?)
    }

    async fn has_filter(&self, ifindex: u32, is_ingress: bool) -> Result<bool, NetlinkError> {
        let bpf = TcAttribute::Kind("bpf".to_owned());
        let filters = self.filters(ifindex, is_ingress).await?;
        let is_ours = |filter: &TcMessage| {
            let handle = u32::from(filter.header.handle);
            is_our_filter(filter.header.info >> 16, handle) && filter.attributes.contains(&bpf)
        };
        Ok(filters.iter().any(is_ours))
    }

    async fn filters(
        &self,
        ifindex: u32,
        is_ingress: bool,
    ) -> Result<Vec<TcMessage>, NetlinkError> {
        let Ok(index) = i32::try_from(ifindex) else {
            return Ok(Vec::new());
        };
        let request = self.handle.traffic_filter(index).get();
        let request = match is_ingress {
            true => request.ingress(),
            false => request.egress(),
        };
        let answers = request.execute().try_collect().await;
        answers.map_err(|source| NetlinkError::Ask {
            op: "list the filters of the interface",
            source,
        })
    }
}

/// Returns the host's own address: on a point-to-point link, `Address` is the peer's.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(ip) = attribute {
            local = Some(*ip);
        } else if let AddressAttribute::Address(ip) = attribute {
            address = Some(*ip);
        }
    }
    local.or(address)
}
