//! What the inventory says about the uplinks of one router.

use ipnet::{IpNet, Ipv6Net};
use netmodel::Model;
use netmodel::model::HostId;

use crate::compile::Internet;

/// An uplink.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Uplink {
    /// Its key in `router_uplinks`.
    pub name: String,
    /// The kernel's interface.
    pub interface: String,
    /// Are sources translated?
    pub nat: bool,
}

/// All that the table is made of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ruleset {
    /// The router's uplinks, by name. Without any, there is no table.
    pub uplinks: Vec<Uplink>,
    /// The prefixes that the table tells apart.
    pub internet: Internet,
}

/// Unique local addresses (RFC 4193), which no router of the internet has a way back to.
fn unique_local() -> Ipv6Net {
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)
}

/// Returns what the uplinks of a router should be like.
#[must_use]
pub fn desired(model: &Model, host: HostId) -> Ruleset {
    let router = model.routers.iter().find(|router| router.host == host);
    let uplinks = router.into_iter().flat_map(|router| &router.uplinks);
    let uplinks: Vec<_> = uplinks
        .map(|uplink| Uplink {
            name: uplink.name.clone(),
            interface: uplink.interface.clone(),
            nat: uplink.nat,
        })
        .collect();
    if uplinks.is_empty() {
        return Ruleset::default();
    }
    Ruleset {
        uplinks,
        internet: Internet::of(model),
    }
}

impl Ruleset {
    /// Is there nothing to do, so that there should be no table?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uplinks.is_empty()
    }

    /// Returns the sources that an uplink with `mode: nat` translates: all of IPv4, and in IPv6 those that cannot
    /// be routed on the internet. Global IPv6 addresses are left alone (RFC 7084 knows no NAT).
    pub fn translated(&self) -> impl Iterator<Item = IpNet> {
        let sources = self.internet.sources.iter().copied();
        sources.filter(|source| match source {
            IpNet::V4(_) => true,
            IpNet::V6(net) => unique_local().contains(net),
        })
    }
}

#[cfg(test)]
mod tests {
    use testkit::{fixtures, lab};

    use super::*;

    fn sample() -> Model {
        lab::load(&fixtures::sample()).unwrap()
    }

    fn of(model: &Model) -> Ruleset {
        desired(model, model.routers[0].host)
    }

    fn has(nets: &[IpNet], net: &str) -> bool {
        nets.contains(&net.parse().unwrap())
    }

    #[test]
    fn sources_are_the_subnets_of_internet_zones_and_granted_tenants() {
        let mut model = sample();
        let vintronics = model.tenants.iter_mut();
        let vintronics = vintronics.filter(|t| t.name.as_str() == "vintronics");
        vintronics.for_each(|tenant| tenant.internet = None);
        let sources = of(&model).internet.sources;
        for net in [
            "10.20.99.0/24",
            "fd00:99::/64",
            "10.100.0.0/24",
            "fd00:100::/64",
        ] {
            assert!(has(&sources, net), "{net}");
        }
        // Not an internet zone, and a tenant without a grant.
        for net in ["10.20.20.0/24", "10.101.0.0/24", "fd00:101::/64"] {
            assert!(!has(&sources, net), "{net}");
        }
        model
            .internet_zones
            .retain(|entry| entry.zone != netmodel::model::Zone::Tenants);
        assert!(!has(&of(&model).internet.sources, "10.100.0.0/24"));
    }

    #[test]
    fn private_special_and_site_addresses_are_not_the_internet() {
        let mut model = sample();
        model.internet_excludes = vec!["203.0.113.7/24".parse().unwrap()];
        let public = model.segments.iter_mut().find_map(|s| s.ipv4.as_mut());
        let public = public.unwrap();
        public.net = "192.0.2.0/24".parse().unwrap();
        let excluded = of(&model).internet.excluded;
        let all = [
            "0.0.0.1",
            "10.20.99.5",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::ffff:8.8.8.8",
            "64:ff9b::1",
            "fc00::1",
            "fd00:100::1",
            "fe80::1",
            "ff02::1",
            "203.0.113.200",
            "192.0.2.1",
        ];
        let holds = |address: &str| {
            let address: std::net::IpAddr = address.parse().unwrap();
            excluded.iter().any(|net| net.contains(&address))
        };
        for address in all {
            assert!(holds(address), "{address}");
        }
        for address in ["8.8.8.8", "198.51.100.1", "2001:db8::1", "2606:4700::1111"] {
            assert!(!holds(address), "{address}");
        }
    }

    #[test]
    fn only_ipv4_and_unique_local_sources_are_translated() {
        let mut model = sample();
        let grooveiq = model
            .segments
            .iter_mut()
            .find(|s| s.vlan_id.as_u16() == 100);
        let subnet = grooveiq.and_then(|segment| segment.ipv6.as_mut()).unwrap();
        subnet.net = "2001:db8:100::/64".parse().unwrap();
        let translated: Vec<_> = of(&model).translated().collect();
        assert!(has(&translated, "10.100.0.0/24") && has(&translated, "fd00:101::/64"));
        assert!(!has(&translated, "2001:db8:100::/64"));
    }

    #[test]
    fn without_uplinks_nothing_is_wanted() {
        let mut model = sample();
        model.routers[0].uplinks.clear();
        assert_eq!(of(&model), Ruleset::default());
        assert!(of(&model).is_empty());
    }
}
