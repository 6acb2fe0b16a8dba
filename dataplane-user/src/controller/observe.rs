//! What the kernel has.

use std::collections::HashSet;
use std::net::IpAddr;

use netmodel::Model;
use netmodel::ids::MacAddr;

use super::ports::hypervisor;
use super::{Controller, Desired, Enforcement};
use crate::compile::{RouterFacts, Trunk};
use crate::nat;
use crate::network::{self, Address, Netlink, Network, Origin, rx_vlan_offload};
use crate::ports::Ports;
use crate::run::RunError;

/// What the kernel has of all that a generation is about.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The trunk.
    pub trunk: Trunk,
    /// Does the trunk's NIC take tags out of received frames?
    pub rx_vlan: bool,
    /// The router; its `host` is not known to the kernel.
    pub router: RouterFacts,
    /// Programs and maps.
    pub enforcement: Enforcement,
    /// Links, addresses, sysctls.
    pub network: network::Observed,
    /// Our nftables table; `None`: it is not managed.
    pub nat: Option<nat::Observed>,
    /// The ports of a hypervisor; `None`: this machine is a router.
    pub ports: Option<Ports>,
}

impl Controller {
    /// Looks at the kernel. Nothing is changed.
    pub(super) async fn observe(&self, desired: &Desired) -> Result<Observed, RunError> {
        if let Some(hypervisor) = hypervisor(&desired.model, desired.host) {
            return self.observe_hypervisor(desired, hypervisor).await;
        }
        let place = &self.options.place;
        let netlink = Netlink::connect()?;
        let interface = netlink.interface(&place.interface).await?;
        let trunk = Trunk {
            ifindex: interface.ifindex,
            mac: interface.mac,
        };
        let network = Network::connect()?.observe(&place.interface).await?;
        let addresses = netlink.addresses().await?;
        let on_links = network.links.values().flat_map(|link| &link.addresses);
        let addresses = beside_the_model(addresses, &desired.model, on_links);
        Ok(Observed {
            trunk,
            rx_vlan: rx_vlan_offload(&place.interface)?,
            router: RouterFacts {
                host: None,
                trunk: place.interface.clone(),
                mac: Some(MacAddr(interface.mac)),
                addresses,
            },
            enforcement: Enforcement::observe(place, &trunk, &netlink).await?,
            network,
            nat: match self.options.network.manage.nat {
                true => Some(nat::observe()?),
                false => None,
            },
            ports: None,
        })
    }
}

/// Leaves out what the model declares as the router's anyway (the gateways, which come and go with the devices that bulkhead
/// makes), the gateways that bulkhead has made and that go with their segment, and what no packet can be sent to from another link.
fn beside_the_model<'a>(
    mut addresses: Vec<IpAddr>,
    model: &Model,
    on_links: impl Iterator<Item = &'a Address>,
) -> Vec<IpAddr> {
    let gateways4 = model.segments.iter().filter_map(|s| s.ipv4);
    let gateways6 = model.segments.iter().filter_map(|s| s.ipv6);
    let gateways: HashSet<IpAddr> = gateways4
        .map(|subnet| IpAddr::V4(subnet.gateway))
        .chain(gateways6.map(|subnet| IpAddr::V6(subnet.gateway)))
        .collect();
    let (mut ours, mut others) = (HashSet::new(), HashSet::new());
    for address in on_links {
        let set = match address.origin {
            Origin::Ours => &mut ours,
            Origin::Kernel | Origin::RouterAdvertisement | Origin::Foreign => &mut others,
        };
        set.insert(address.net.addr());
    }
    addresses.retain(|address| {
        let goes = ours.contains(address) && !others.contains(address);
        let stays_on_link = match address {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        };
        !stays_on_link && !gateways.contains(address) && !goes
    });
    addresses
}

#[cfg(test)]
mod tests {
    use testkit::{fixtures, lab};

    use super::*;

    #[test]
    fn gateway_that_goes_with_its_segment_is_no_address_of_the_router() {
        let model = lab::load(&fixtures::sample()).unwrap();
        let addresses = ["10.77.0.1", "10.78.0.1", "192.0.2.1", "10.100.0.1"];
        let found: Vec<IpAddr> = addresses.map(|ip| ip.parse().unwrap()).to_vec();
        // Somebody else has the second, too, so it stays.
        let on_links = [
            ("10.77.0.1/24", Origin::Ours),
            ("10.78.0.1/24", Origin::Ours),
            ("10.78.0.1/24", Origin::Foreign),
            ("192.0.2.1/24", Origin::Foreign),
        ]
        .map(|(net, origin)| Address {
            net: net.parse().unwrap(),
            origin,
        });
        let left = beside_the_model(found, &model, on_links.iter());
        let left: Vec<_> = left.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["10.78.0.1", "192.0.2.1"]);
    }
}
