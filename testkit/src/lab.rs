//! The sample inventory as a site that can be built: who is there, and who stands for whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use netmodel::Model;
use netmodel::model::{Interface, Owner, SegmentId};

use crate::site::{Address, HostSpec, SegmentSpec, SiteSpec, UplinkSpec};

/// A host on the internet.
pub const INTERNET: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x80)),
];
/// The router's addresses on its uplink.
const UPLINK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];

/// Machines that the inventory does not list: people's own, with dynamic addresses.
const UNLISTED: &[(&str, &str)] = &[
    ("workstation", "trusted"),
    ("sensor", "iot"),
    ("visitor", "guest"),
    ("nas", "storage"),
];
/// Last octet of their addresses.
const DYNAMIC: u8 = 50;

/// Loads the inventory out of a folder with `site` and `tenants`.
///
/// # Errors
///
/// If it has errors.
pub fn load(sample: &std::path::Path) -> Result<Model> {
    let options = netmodel::Options::new(sample.join("site"), Some(sample.join("tenants")));
    let loaded = netmodel::load(&options);
    let errors = loaded.errors();
    let Some(model) = loaded.model else {
        bail!(
            "{} has {errors} errors: `bulkhead lint` shows them",
            sample.display()
        )
    };
    Ok(model)
}

/// Describes the site: every machine that the inventory lists, and some that it does not.
///
/// # Errors
///
/// If the inventory is not enough to build a router, or is not like the sample.
pub fn site(model: &Model) -> Result<SiteSpec> {
    let router = model
        .routers
        .first()
        .context("the inventory has no router")?;
    let interfaces = &model.host(router.host).interfaces;
    let trunk = interfaces
        .iter()
        .find(|interface| interface.name == router.trunk);
    let mac = trunk
        .and_then(|interface| interface.mac)
        .context("the trunk's MAC is unknown")?;
    let uplink = router.uplinks.first().context("the router has no uplink")?;
    Ok(SiteSpec {
        trunk: router.trunk.clone(),
        router_mac: mac.0,
        segments: segments(model),
        hosts: [listed(model), services(model), unlisted(model)?].concat(),
        uplink: Some(UplinkSpec {
            interface: uplink.interface.clone(),
            router: UPLINK.map(with_prefix).into(),
            internet: INTERNET.map(with_prefix).into(),
        }),
    })
}

fn with_prefix(address: IpAddr) -> Address {
    (address, if address.is_ipv4() { 24 } else { 64 })
}

fn segments(model: &Model) -> Vec<SegmentSpec> {
    let gateways = |id| {
        let segment = model.segment(id);
        let v4 = segment
            .ipv4
            .map(|net| (net.gateway.into(), net.net.prefix_len()));
        let v6 = segment
            .ipv6
            .map(|net| (net.gateway.into(), net.net.prefix_len()));
        v4.into_iter().chain(v6).collect()
    };
    let ids = (0..model.segments.len()).map(SegmentId);
    ids.map(|id| SegmentSpec {
        vlan: model.segment(id).vlan_id.as_u16(),
        gateways: gateways(id),
    })
    .collect()
}

/// Hosts with a fixed address. A MAC that the inventory calls unknown is made up.
fn listed(model: &Model) -> Vec<HostSpec> {
    let hosts = model.hosts.iter().filter(|host| !host.is_router);
    hosts
        .filter_map(|host| {
            let on_segment = |interface: &&Interface| interface.ipv4.is_some();
            let interface = host.interfaces.iter().find(on_segment)?;
            let last = interface.ipv4?.octets()[3];
            let mac = interface.mac.map_or([2, 0, 0, 0, 1, last], |mac| mac.0);
            Some(host_on(
                model,
                host.name.as_str(),
                (interface.segment?, last),
                mac,
            ))
        })
        .collect()
}

/// Platform services whose address is no host's.
fn services(model: &Model) -> Vec<HostSpec> {
    let taken: Vec<_> = model
        .hosts
        .iter()
        .flat_map(|host| &host.interfaces)
        .collect();
    let free = model.services.iter().filter(|service| {
        service.ipv4.is_some() && taken.iter().all(|interface| interface.ipv4 != service.ipv4)
    });
    free.filter_map(|service| {
        let last = service.ipv4?.octets()[3];
        let mut host = host_on(
            model,
            &service.name,
            (service.segment, last),
            [2, 0, 0, 0, 2, last],
        );
        host.addresses.retain(|(address, _)| address.is_ipv4());
        host.addresses
            .extend(service.ipv6.map(|address| (address.into(), 64)));
        // Without an IPv6 address there is nothing to route.
        let has_v6 = host.addresses.iter().any(|(address, _)| address.is_ipv6());
        host.gateways.retain(|gateway| gateway.is_ipv4() || has_v6);
        Some(host)
    })
    .collect()
}

fn unlisted(model: &Model) -> Result<Vec<HostSpec>> {
    (1..)
        .zip(UNLISTED)
        .map(|(number, (name, zone))| {
            let is_zone = |s: &netmodel::model::Segment| {
                s.owner == Owner::Platform && s.name.as_str() == *zone
            };
            let id = model.segments.iter().position(is_zone);
            let id = id.with_context(|| format!("the inventory has no segment {zone}"))?;
            Ok(host_on(
                model,
                name,
                (SegmentId(id), DYNAMIC),
                [2, 0, 0, 0, 3, number],
            ))
        })
        .collect()
}

/// A host on a segment, with addresses that end with one octet, in every family of the segment.
fn host_on(model: &Model, name: &str, (id, last): (SegmentId, u8), mac: [u8; 6]) -> HostSpec {
    let segment = model.segment(id);
    let v4 = segment.ipv4.map(|net| {
        let address = u32::from(net.net.network()) + u32::from(last);
        (
            (Ipv4Addr::from(address).into(), net.net.prefix_len()),
            IpAddr::V4(net.gateway),
        )
    });
    let v6 = segment.ipv6.map(|net| {
        let address = u128::from(net.net.network()) + u128::from(last);
        (
            (Ipv6Addr::from(address).into(), net.net.prefix_len()),
            IpAddr::V6(net.gateway),
        )
    });
    let (addresses, gateways) = v4.into_iter().chain(v6).unzip();
    HostSpec {
        name: name.to_owned(),
        vlan: segment.vlan_id.as_u16(),
        mac,
        addresses,
        gateways,
    }
}
