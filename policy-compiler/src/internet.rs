//! What the internet is, and who may reach it: for the packet path's tables and for the router's NAT.
//!
//! [`Internet`] is the same answer as `docs/isolation.md` section 9 gives, as prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netmodel::Model;
use netmodel::model::{Owner, SegmentId, Zone};

use super::SITE_PLAN;
use super::index::{addresses, interfaces, subnet_of, subnets};

/// IPv4 addresses that are never part of the internet. The packet path knows them without an entry.
const NEVER_INTERNET: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
];

/// IPv4 addresses that no packet may go to: the packet path's *martians*.
const MARTIANS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6 addresses outside of this are never part of the internet; the packet path knows that too.
const IPV6_INTERNET: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Everything that is outside of [`IPV6_INTERNET`].
const IPV6_REST: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::UNSPECIFIED, 3),
    (Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 0), 2),
    (Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0), 1),
];

/// Who may reach the internet, and what is no part of it. Each list is sorted and has no overlaps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Internet {
    /// Subnets of the segments that may open connections to the internet.
    pub sources: Vec<IpNet>,
    /// Subnets of every segment.
    pub site: Vec<IpNet>,
    /// What is never a part of the internet: private and special addresses, the site, its hosts elsewhere, and
    /// `internet_excludes`.
    pub excluded: Vec<IpNet>,
}

impl Internet {
    /// Says what the inventory says.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let ids = (0..model.segments.len()).map(SegmentId);
        let routed = ids.filter(|&id| model.segment(id).vpc_id == SITE_PLAN);
        let nets = |ids: &mut dyn Iterator<Item = SegmentId>| -> Vec<IpNet> {
            ids.flat_map(|id| subnets(model.segment(id))).collect()
        };
        let sources = nets(&mut routed.clone().filter(|&id| may_reach(model, id)));
        let site = nets(&mut routed.clone());
        let excluded: Vec<_> = never()
            .chain(site.iter().copied())
            .chain(strays(model))
            .chain(model.internet_excludes.iter().map(IpNet::trunc))
            .collect();
        Self {
            sources: sorted(sources),
            site: sorted(site),
            // Subnets do not overlap, and stay as they are said. These do.
            excluded: sorted(IpNet::aggregate(&excluded)),
        }
    }
}

fn sorted(mut nets: Vec<IpNet>) -> Vec<IpNet> {
    nets.sort_unstable();
    nets
}

/// Returns what is never a part of the internet, whatever the inventory says.
fn never() -> impl Iterator<Item = IpNet> {
    let ipv4 = NEVER_INTERNET.into_iter().chain(MARTIANS);
    let ipv4 = ipv4.map(|(address, length)| net(address.into(), length));
    ipv4.chain(IPV6_REST.map(|(address, length)| net(address.into(), length)))
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).expect("a constant has a length that fits")
}

/// Returns the addresses of the site's hosts that are on no segment.
fn strays(model: &Model) -> impl Iterator<Item = IpNet> {
    interfaces(model)
        .filter(|(_, host, _)| !host.is_router)
        .flat_map(move |(_, _, interface)| {
            let home = interface.segment.map(|id| model.segment(id));
            addresses(interface).filter(move |&address| {
                home.is_none_or(|segment| subnet_of(segment, address).is_none())
            })
        })
        .map(IpNet::from)
}

/// May the segment open connections to the internet?
pub(super) fn may_reach(model: &Model, id: SegmentId) -> bool {
    let (is_granted, is_tenant) = match model.segment(id).owner {
        Owner::Platform => (true, false),
        Owner::Tenant(tenant) => (model.tenant(tenant).internet.is_some(), true),
    };
    let mut zones = model.internet_zones.iter();
    is_granted
        && zones.any(|entry| match entry.zone {
            Zone::Segment(zone) => zone == id,
            Zone::Tenants => is_tenant,
        })
}

/// Could an address of the prefix be part of the internet, if nobody excluded it?
pub(super) fn could_be_part(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => {
            let mut nevers = NEVER_INTERNET
                .iter()
                .map(|&(a, length)| Ipv4Net::new(a, length));
            !nevers.any(|never| never.is_ok_and(|never| never.contains(&net)))
        }
        IpNet::V6(net) => {
            let (address, length) = IPV6_INTERNET;
            Ipv6Net::new(address, length)
                .is_ok_and(|internet| internet.contains(&net) || net.contains(&internet))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_and_the_rest_are_all_of_ipv6() {
        let (address, length) = IPV6_INTERNET;
        let rest = IPV6_REST.map(|(address, length)| net(address.into(), length));
        let all = rest
            .into_iter()
            .chain([net(address.into(), length)])
            .collect();
        assert_eq!(IpNet::aggregate(&all), ["::/0".parse().unwrap()]);
    }

    #[test]
    fn what_is_never_internet_cannot_be_a_part_of_it() {
        let ipv4 = NEVER_INTERNET.map(|(address, length)| net(address.into(), length));
        let ipv6 = IPV6_REST.map(|(address, length)| net(address.into(), length));
        for net in ipv4.into_iter().chain(ipv6) {
            assert!(!could_be_part(net), "{net}");
        }
        assert!(could_be_part("198.51.100.0/24".parse().unwrap()));
        assert!(could_be_part("2001:db8::/32".parse().unwrap()));
    }
}
