//! What the inventory wants of a host's network.
//!
//! * A router has, on its trunk, a VLAN device for each segment with a subnet: with the gateway's addresses, the
//!   addresses that the inventory gives the router as a host, the MTU of the segment, the sysctls of
//!   [`super::sysctl`], and up. An unrouted VLAN (a blackhole) has no device, so that nothing of the kernel is
//!   ever on it. The trunk's MTU must be at least that of the largest segment; a larger one is left alone, since
//!   the tag is not counted in it.
//! * A hypervisor's bridge filters VLANs and gives no port a VLAN by default; its uplink port carries each
//!   segment's VLAN with its tag, nothing else, nothing untagged. The native segment of a router is for untagged
//!   frames that shall go nowhere, so no hypervisor carries it. The port of a machine that is known is in the VLAN of
//!   its endpoint, without a tag, whatever its tenant asked for; who is behind which port is not the inventory's to say
//!   ([`crate::ports`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netmodel::Model;
use netmodel::model::{Host, HostId, Hypervisor, Owner, Router, Segment, SegmentId};
use serde::Serialize;

use super::settings::{Manage, NetworkSettings};

/// The least MTU, in octets, with which Linux has IPv6 on a link (RFC 8200 section 5).
pub(super) const LEAST_IPV6_MTU: u32 = 1280;

/// Longest name that the kernel takes for an interface: `IFNAMSIZ` without its final zero.
const LONGEST_NAME: usize = 15;

/// What a host's network should be.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Desired {
    /// What is managed.
    pub manage: Manage,
    /// If the host is a router.
    pub router: Option<DesiredRouter>,
    /// If the host is a hypervisor.
    pub bridge: Option<DesiredBridge>,
}

/// A router's trunk and the devices on it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DesiredRouter {
    /// The trunk interface.
    pub trunk: String,
    /// Must the NIC leave VLAN tags in the frames?
    pub tags_in_frames: bool,
    /// VLAN devices, by VLAN id.
    pub devices: BTreeMap<u16, Device>,
}

/// A VLAN device.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Device {
    /// The name that it is made with. It may be renamed: what identifies it is trunk, VLAN id and mark.
    pub name: String,
    /// The segment, for people: `iot`, `grooveiq`, `grooveiq/db`.
    pub segment: String,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// The router's addresses, each with the prefix length of its subnet.
    pub addresses: BTreeSet<IpNet>,
}

/// A hypervisor's bridge.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DesiredBridge {
    /// The bridge.
    pub name: String,
    /// Its port towards the switch.
    pub uplink_port: Option<String>,
    /// What that port carries, with tags.
    pub vlans: BTreeSet<u16>,
    /// Ports of machines, by index, with the VLAN of the machine's endpoint.
    pub access: BTreeMap<u32, u16>,
}

impl DesiredRouter {
    /// The least MTU of the trunk, in octets; 0 without devices.
    #[must_use]
    pub fn trunk_mtu(&self) -> u32 {
        let mtus = self.devices.values().map(|device| device.mtu);
        mtus.max().unwrap_or(0)
    }
}

/// Says what the inventory wants of a host: nothing, if it is neither a router nor a hypervisor. `interface`: the trunk or
/// the bridge, if it is not the inventory's.
#[must_use]
pub fn desired(
    model: &Model,
    host: HostId,
    interface: Option<&str>,
    settings: &NetworkSettings,
) -> Desired {
    let router = model.routers.iter().find(|router| router.host == host);
    let mut hypervisors = model.hypervisors.iter();
    let hypervisor = hypervisors.find(|hypervisor| hypervisor.host == host);
    Desired {
        manage: settings.manage,
        router: router.map(|router| {
            let trunk = interface.unwrap_or(&router.trunk);
            desired_router(model, (router, trunk), settings)
        }),
        bridge: hypervisor.map(|hypervisor| {
            let bridge = interface.unwrap_or(&hypervisor.bridge);
            desired_bridge(model, hypervisor, bridge)
        }),
    }
}

fn desired_router(
    model: &Model,
    (router, trunk): (&Router, &str),
    settings: &NetworkSettings,
) -> DesiredRouter {
    let own = own_addresses(model, router);
    let segments = model.segments.iter().enumerate();
    // An address plan of a VPC's own is refused by the compiler until it is enforced.
    let routed = segments.filter(|(_, segment)| is_routed(segment) && segment.vpc_id == 0);
    let devices = routed.map(|(index, segment)| {
        let mut addresses = gateways(segment);
        addresses.extend(own.get(&SegmentId(index)).into_iter().flatten());
        // Linux would refuse them.
        addresses.retain(|net| net.addr().is_ipv4() || u32::from(segment.mtu) >= LEAST_IPV6_MTU);
        let vlan_id = segment.vlan_id.as_u16();
        let device = Device {
            name: device_name(trunk, vlan_id),
            segment: label(model, segment),
            mtu: segment.mtu.into(),
            addresses,
        };
        (vlan_id, device)
    });
    DesiredRouter {
        trunk: trunk.to_owned(),
        tags_in_frames: settings.native_xdp,
        devices: devices.collect(),
    }
}

/// Name of the device of a VLAN: `eth1.100`; `vlan100` where that would be too long for the kernel.
#[must_use]
pub fn device_name(trunk: &str, vlan_id: u16) -> String {
    let name = format!("{trunk}.{vlan_id}");
    if name.len() <= LONGEST_NAME {
        name
    } else {
        format!("vlan{vlan_id}")
    }
}

fn is_routed(segment: &Segment) -> bool {
    segment.ipv4.is_some() || segment.ipv6.is_some()
}

fn label(model: &Model, segment: &Segment) -> String {
    match segment.owner {
        Owner::Platform => segment.name.to_string(),
        Owner::Tenant(id) => {
            let tenant = &model.tenant(id).name;
            if segment.name.as_str() == "main" {
                tenant.to_string()
            } else {
                format!("{tenant}/{}", segment.name)
            }
        }
    }
}

fn gateways(segment: &Segment) -> BTreeSet<IpNet> {
    let v4 = segment
        .ipv4
        .and_then(|subnet| with_length(subnet.gateway.into(), subnet.net.prefix_len()));
    let v6 = segment
        .ipv6
        .and_then(|subnet| with_length(subnet.gateway.into(), subnet.net.prefix_len()));
    v4.into_iter().chain(v6).collect()
}

fn with_length(address: IpAddr, length: u8) -> Option<IpNet> {
    IpNet::new(address, length).ok()
}

/// The addresses that the inventory gives the router as a host, by segment. Those on its uplinks are not ours.
fn own_addresses(model: &Model, router: &Router) -> BTreeMap<SegmentId, Vec<IpNet>> {
    let mut own: BTreeMap<SegmentId, Vec<IpNet>> = BTreeMap::new();
    let host: &Host = model.host(router.host);
    for interface in &host.interfaces {
        let mut uplinks = router.uplinks.iter();
        let Some(id) = interface.segment else {
            continue;
        };
        if uplinks.any(|uplink| uplink.interface == interface.name) {
            continue;
        }
        let segment = model.segment(id);
        let v4 = segment.ipv4.zip(interface.ipv4);
        let v4 = v4.and_then(|(subnet, ip)| with_length(ip.into(), subnet.net.prefix_len()));
        let v6 = segment.ipv6.zip(interface.ipv6);
        let v6 = v6.and_then(|(subnet, ip)| with_length(ip.into(), subnet.net.prefix_len()));
        own.entry(id).or_default().extend(v4.into_iter().chain(v6));
    }
    own
}

fn desired_bridge(model: &Model, hypervisor: &Hypervisor, bridge: &str) -> DesiredBridge {
    let native = |id: usize| {
        let mut routers = model.routers.iter();
        routers.any(|router| router.native_segment == Some(SegmentId(id)))
    };
    let segments = model.segments.iter().enumerate();
    let carried = segments.filter(|(id, _)| !native(*id));
    DesiredBridge {
        name: bridge.to_owned(),
        uplink_port: hypervisor.uplink_port.clone(),
        vlans: carried.map(|(_, s)| s.vlan_id.as_u16()).collect(),
        access: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use netmodel::{Options, load};

    use super::*;

    fn sample() -> Model {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../sample"));
        let options = Options::new(folder.join("site"), Some(folder.join("tenants")));
        load(&options).model.unwrap()
    }

    fn host(model: &Model, name: &str) -> HostId {
        let mut hosts = model.hosts.iter();
        HostId(hosts.position(|host| host.name.as_str() == name).unwrap())
    }

    fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn router_has_a_device_with_its_gateways_for_each_routed_segment() {
        let model = sample();
        let wanted = desired(
            &model,
            host(&model, "core-rt01"),
            None,
            &NetworkSettings::default(),
        );
        let router = wanted.router.unwrap();
        assert_eq!(wanted.bridge, None);
        assert_eq!(router.trunk, "eth0");
        let vlans: Vec<u16> = router.devices.keys().copied().collect();
        assert_eq!(vlans, [10, 20, 25, 30, 31, 35, 40, 99, 100, 101, 102]);
        let tenant = Device {
            name: "eth0.101".to_owned(),
            segment: "vintronics".to_owned(),
            mtu: 1500,
            addresses: nets(&["10.101.0.1/24", "fd00:101::1/64"]),
        };
        assert_eq!(router.devices[&101], tenant);
        assert_eq!(router.trunk_mtu(), 1500);
    }

    #[test]
    fn address_of_the_router_as_a_host_is_beside_the_gateway() {
        let mut model = sample();
        let id = host(&model, "core-rt01");
        let interface = &mut model.hosts[id.0].interfaces[0];
        interface.ipv4 = Some("10.20.99.7".parse().unwrap());
        let router = desired(&model, id, None, &NetworkSettings::default())
            .router
            .unwrap();
        let expected = nets(&["10.20.99.1/24", "10.20.99.7/24", "fd00:99::1/64"]);
        assert_eq!(router.devices[&99].addresses, expected);
        // The same interface, but an uplink: the operator's.
        model.routers[0].uplinks[0].interface = model.hosts[id.0].interfaces[0].name.clone();
        let router = desired(&model, id, None, &NetworkSettings::default())
            .router
            .unwrap();
        let expected = nets(&["10.20.99.1/24", "fd00:99::1/64"]);
        assert_eq!(router.devices[&99].addresses, expected);
    }

    #[test]
    fn trunk_that_is_said_counts_more_than_that_of_the_inventory() {
        let model = sample();
        let id = host(&model, "core-rt01");
        let wanted = desired(&model, id, Some("wan7"), &NetworkSettings::default());
        let router = wanted.router.unwrap();
        assert_eq!(router.trunk, "wan7");
        assert_eq!(router.devices[&101].name, "wan7.101");
    }

    #[test]
    fn hypervisor_carries_every_segment_but_the_native_one() {
        let model = sample();
        let wanted = desired(
            &model,
            host(&model, "hv01"),
            None,
            &NetworkSettings::default(),
        );
        assert_eq!(wanted.router, None);
        let bridge = wanted.bridge.unwrap();
        assert_eq!(
            (bridge.name.as_str(), bridge.uplink_port.as_deref()),
            ("vmbr0", Some("nic0"))
        );
        let expected = [10, 20, 25, 30, 31, 35, 40, 99, 100, 101, 102];
        assert_eq!(bridge.vlans, BTreeSet::from(expected));
    }

    #[test]
    fn segment_too_small_for_ipv6_has_addresses_of_ipv4_only() {
        let mut model = sample();
        let mut segments = model.segments.iter_mut();
        segments
            .find(|segment| segment.vlan_id.as_u16() == 101)
            .unwrap()
            .mtu = 1279;
        let id = host(&model, "core-rt01");
        let router = desired(&model, id, None, &NetworkSettings::default())
            .router
            .unwrap();
        assert_eq!(router.devices[&101].addresses, nets(&["10.101.0.1/24"]));
    }

    #[test]
    fn other_hosts_want_nothing() {
        let model = sample();
        let wanted = desired(
            &model,
            host(&model, "provisioner-ph01"),
            None,
            &NetworkSettings::default(),
        );
        assert_eq!(wanted, Desired::default());
    }

    #[test]
    fn name_that_the_kernel_would_refuse_is_shortened() {
        assert_eq!(device_name("enp0s31f6", 4094), "enp0s31f6.4094");
        assert_eq!(device_name("enx00e04c291e50", 100), "vlan100");
    }
}
