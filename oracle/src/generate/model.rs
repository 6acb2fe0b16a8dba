//! Random inventories that keep the guarantees of [`netmodel::model`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netmodel::Model;
use netmodel::ids::VlanId;
use netmodel::model::{
    GatewayServices, Host, HostId, Interface, InternetZone, Owner, PlatformService, Router,
    Segment, SegmentId, Subnet4, Subnet6, TenantId, Zone,
};

use super::dice::{Dice, Rng, one_of};
use super::policies;
use crate::build;
use crate::fixtures::ROUTER_MAC;

/// Makes an inventory: 2 to 6 platform segments, up to 6 tenants of 1 to 3 segments each.
pub fn model(rng: &mut Rng) -> Model {
    let mut model = build::empty_model();
    model.gateway_services = GatewayServices {
        dhcp: rng.percent(80),
        dns: rng.percent(80),
        ntp: rng.percent(70),
        icmp: rng.percent(80),
    };
    add_segments(rng, &mut model);
    add_hosts(rng, &mut model);
    add_router(rng, &mut model);
    add_services(rng, &mut model);
    policies::add(rng, &mut model);
    model
}

/// Platform segments by name, then the tenants' by tenant name, `main` first.
fn add_segments(rng: &mut Rng, model: &mut Model) {
    for index in 0..rng.usize(2..=6) {
        add_segment(rng, model, &format!("p{index:02}"), Owner::Platform);
    }
    for index in 0..rng.usize(0..=6) {
        let owner = Owner::Tenant(TenantId(index));
        let first = model.segments.len();
        let count = rng.one_of([1, 1, 1, 2, 2, 3]);
        for number in 0..count {
            let name = if number == 0 {
                "main".to_owned()
            } else {
                format!("s{number}")
            };
            add_segment(rng, model, &name, owner);
        }
        let segments = (first..first + count).map(SegmentId).collect();
        model
            .tenants
            .push(build::tenant(&format!("t{index}"), segments));
    }
}

fn add_segment(rng: &mut Rng, model: &mut Model, name: &str, owner: Owner) {
    let mut segment = build::segment(name, owner, free_vlan(rng, model));
    let number = u8::try_from(model.segments.len()).unwrap_or(u8::MAX);
    let (has_ipv4, has_ipv6) = one_of!(
        rng,
        [
            (true, true),
            (true, true),
            (true, true),
            (true, false),
            (true, false),
            (true, false),
            (false, true),
            (rng.percent(70), false),
        ]
    );
    segment.ipv4 = has_ipv4.then(|| subnet4(rng, number));
    segment.ipv6 = has_ipv6.then(|| subnet6(rng, number));
    segment.mtu = rng.one_of([1500, 1500, 1500, 1500, 9000, 1300, 1280, 576, 100]);
    model.segments.push(segment);
}

pub(super) fn free_vlan(rng: &mut Rng, model: &Model) -> u16 {
    loop {
        let vlan = one_of!(rng, [1, 4094, rng.u16(1..=200), rng.u16(1..=4094)]);
        let taken = |segment: &Segment| VlanId::new(vlan) == Some(segment.vlan_id);
        if !model.segments.iter().any(taken) {
            return vlan;
        }
    }
}

/// A subnet inside of a /16 (or a public /24) of the segment's own: no two overlap.
fn subnet4(rng: &mut Rng, number: u8) -> Subnet4 {
    let length = rng.one_of([24, 24, 24, 24, 16, 20, 25, 28, 29, 30, 31]);
    let (base, length) = match rng.u8(0..10) {
        0 => (Ipv4Addr::new(192, 168, number, rng.u8(..)), length.max(24)),
        1 => (Ipv4Addr::new(198, 18, number, rng.u8(..)), length.max(24)),
        2 => (
            Ipv4Addr::new(100, 64 + number, rng.u8(..), rng.u8(..)),
            length,
        ),
        _ => (Ipv4Addr::new(10, number, rng.u8(..), rng.u8(..)), length),
    };
    let mut subnet = build::subnet4(Ipv4Net::new_assert(base, length));
    if length <= 29 && rng.percent(30) {
        subnet.gateway = Ipv4Addr::from(u32::from(subnet.net.broadcast()) - 1);
    }
    subnet
}

/// A subnet inside of a /32 or /48 of the segment's own.
fn subnet6(rng: &mut Rng, number: u8) -> Subnet6 {
    let length = rng.one_of([64, 64, 64, 64, 56, 48, 80, 112, 120, 126, 127]);
    let [a, b] = [rng.u16(..), rng.u16(..)];
    let base = match rng.u8(0..4) {
        0 => Ipv6Addr::new(0x2001, 0xdb8, u16::from(number), a, b, a, b, a),
        _ => Ipv6Addr::new(0xfd00, u16::from(number), 0x10, a, b, a, b, a),
    };
    let mut subnet = build::subnet6(Ipv6Net::new_assert(base, length));
    if length <= 126 && rng.percent(20) {
        subnet.gateway = Ipv6Addr::from(u128::from(subnet.net.network()) + 2);
    }
    subnet
}

/// Is this address free, and one that a host can have?
fn is_free(model: &Model, hosts: &[Interface], address: IpAddr) -> bool {
    let has = |interface: &Interface| match address {
        IpAddr::V4(a) => interface.ipv4 == Some(a),
        IpAddr::V6(a) => interface.ipv6 == Some(a),
    };
    let is_special = |segment: &Segment| match address {
        IpAddr::V4(a) => segment.ipv4.is_some_and(|s| {
            let edge = s.net.prefix_len() <= 30;
            a == s.gateway || edge && (a == s.net.network() || a == s.net.broadcast())
        }),
        IpAddr::V6(a) => segment
            .ipv6
            .is_some_and(|s| a == s.gateway || s.net.prefix_len() <= 126 && a == s.net.network()),
    };
    !model.segments.iter().any(is_special)
        && !model
            .hosts
            .iter()
            .flat_map(|host| &host.interfaces)
            .any(has)
        && !hosts.iter().any(has)
}

/// Returns an address of the segment that no host has: low ones and the last one preferred.
pub(super) fn random_ipv4(rng: &mut Rng, subnet: Subnet4) -> Ipv4Addr {
    let first = u32::from(subnet.net.network());
    let last = u32::from(subnet.net.broadcast());
    let near = first.saturating_add(rng.u32(1..=20)).min(last);
    Ipv4Addr::from(one_of!(
        rng,
        [
            near,
            near,
            near,
            last.saturating_sub(1),
            rng.u32(first..=last),
        ]
    ))
}

pub(super) fn random_ipv6(rng: &mut Rng, subnet: Subnet6) -> Ipv6Addr {
    if subnet.net.prefix_len() == 127 {
        return subnet.net.network();
    }
    let first = u128::from(subnet.net.network());
    let last = u128::from(subnet.net.broadcast());
    let near = (first + u128::from(rng.u8(2..=20))).min(last);
    Ipv6Addr::from(one_of!(
        rng,
        [near, near, near, last, rng.u128(first..=last)]
    ))
}

/// The site's hosts by name, then each tenant's.
fn add_hosts(rng: &mut Rng, model: &mut Model) {
    let owners: Vec<Owner> = [Owner::Platform]
        .into_iter()
        .chain((0..model.tenants.len()).map(|index| Owner::Tenant(TenantId(index))))
        .collect();
    for owner in owners {
        let own: Vec<SegmentId> = (0..model.segments.len())
            .map(SegmentId)
            .filter(|id| model.segment(*id).owner == owner)
            .collect();
        for index in 0..rng.usize(0..=own.len() * 3) {
            let interfaces = interfaces(rng, model, &own);
            let name = match owner {
                Owner::Platform => format!("h{index:02}"),
                Owner::Tenant(tenant) => format!("t{}-h{index:02}", tenant.0),
            };
            model.hosts.push(build::host(&name, owner, interfaces));
        }
    }
}

/// One interface, sometimes two; rarely one on no segment.
fn interfaces(rng: &mut Rng, model: &Model, own: &[SegmentId]) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    let count = if rng.percent(15) { 2 } else { 1 };
    for segment in rng.some(own, count) {
        let interface = interface(rng, model, segment, &interfaces);
        interfaces.push(interface);
    }
    if rng.percent(3) {
        let mut outside = build::interface(None, Some(new_mac(rng)));
        outside.ipv4 = Some(Ipv4Addr::new(203, 0, 113, rng.u8(1..=254)))
            .filter(|a| is_free(model, &interfaces, IpAddr::V4(*a)));
        interfaces.push(outside);
    }
    for (index, interface) in interfaces.iter_mut().enumerate() {
        interface.name = format!("eth{index}");
    }
    interfaces
}

fn interface(rng: &mut Rng, model: &Model, id: SegmentId, others: &[Interface]) -> Interface {
    let segment = model.segment(id);
    let mac = rng.percent(80).then(|| new_mac(rng));
    let mut interface = build::interface(Some(id), mac);
    if rng.percent(80) {
        interface.ipv4 = segment
            .ipv4
            .map(|subnet| random_ipv4(rng, subnet))
            .filter(|a| is_free(model, others, IpAddr::V4(*a)));
    }
    if rng.percent(80) {
        interface.ipv6 = segment
            .ipv6
            .map(|subnet| random_ipv6(rng, subnet))
            .filter(|a| is_free(model, others, IpAddr::V6(*a)));
    }
    interface
}

/// A unicast MAC that nobody has (46 random bits).
pub(crate) fn new_mac(rng: &mut Rng) -> [u8; 6] {
    let [_, _, b, c, d, e, f, a] = rng.u64(..).to_be_bytes();
    [(a & 0xfc) | 0x02, b, c, d, e, f]
}

/// The router, its native segment, and rarely a spare one; host interfaces of it, or none.
fn add_router(rng: &mut Rng, model: &mut Model) {
    let platform: Vec<SegmentId> = ids(model, |owner| owner == Owner::Platform);
    let native = match rng.u8(0..10) {
        0 => rng.pick(&platform).copied(),
        1 | 2 => None,
        _ => platform
            .iter()
            .copied()
            .find(|id| is_unrouted(model.segment(*id))),
    };
    let count = if rng.percent(10) { 2 } else { 1 };
    for number in 0..count {
        let host = router_host(rng, model, number);
        let place = model
            .hosts
            .iter()
            .take_while(|h| h.owner == Owner::Platform)
            .count();
        model.hosts.insert(place, host);
        model.routers.push(Router {
            host: HostId(place),
            trunk: "eth0".to_owned(),
            native_segment: native,
            uplinks: Vec::new(),
            origin: build::origin(),
        });
    }
}

fn is_unrouted(segment: &Segment) -> bool {
    segment.ipv4.is_none() && segment.ipv6.is_none()
}

/// Segments whose owner is one of these.
pub(super) fn ids(model: &Model, wanted: impl Fn(Owner) -> bool) -> Vec<SegmentId> {
    (0..model.segments.len())
        .map(SegmentId)
        .filter(|id| wanted(model.segment(*id).owner))
        .collect()
}

/// A router declares some gateways as its own, perhaps another address, and perhaps a WAN address.
fn router_host(rng: &mut Rng, model: &Model, number: u8) -> Host {
    let mut interfaces: Vec<Interface> = Vec::new();
    for (index, segment) in model.segments.iter().enumerate() {
        let is_platform = segment.owner == Owner::Platform;
        if !rng.percent(if is_platform { 25 } else { 4 }) {
            continue;
        }
        let mac = one_of!(rng, [None, Some(new_mac(rng))]);
        let mut interface = build::interface(Some(SegmentId(index)), mac);
        if number == 0 && rng.percent(75) {
            interface.ipv4 = segment.ipv4.map(|subnet| subnet.gateway);
            interface.ipv6 = segment
                .ipv6
                .map(|subnet| subnet.gateway)
                .filter(|_| rng.percent(70));
        } else {
            interface.ipv4 = segment
                .ipv4
                .map(|subnet| random_ipv4(rng, subnet))
                .filter(|a| is_free(model, &interfaces, IpAddr::V4(*a)));
        }
        interfaces.push(interface);
    }
    if number == 0
        && let Some(first) = interfaces.first_mut()
    {
        first.mac = rng
            .percent(70)
            .then_some(netmodel::ids::MacAddr(ROUTER_MAC));
    }
    if rng.percent(40) {
        let mut wan = build::interface(None, None);
        wan.ipv4 = Some(Ipv4Addr::new(203, 0, 112, number + 1));
        wan.ipv6 = Some(Ipv6Addr::new(
            0x2001,
            0xdb8,
            0xffff,
            0,
            0,
            0,
            0,
            u16::from(number) + 1,
        ));
        interfaces.push(wan);
    }
    for (index, interface) in interfaces.iter_mut().enumerate() {
        interface.name = format!("eth{index}");
    }
    let mut host = build::host(&format!("r{number:02}"), Owner::Platform, interfaces);
    host.is_router = true;
    host
}

/// Up to four services in platform segments: on a host's address, or on one without a host.
fn add_services(rng: &mut Rng, model: &mut Model) {
    let platform = ids(model, |owner| owner == Owner::Platform);
    for index in 0..rng.usize(0..=4) {
        let Some(&id) = rng.pick(&platform) else {
            return;
        };
        let segment = model.segment(id);
        let on_segment: Vec<&Interface> = model
            .hosts
            .iter()
            .flat_map(|host| &host.interfaces)
            .filter(|interface| interface.segment == Some(id))
            .collect();
        let (ipv4, ipv6) = match rng.pick(&on_segment) {
            Some(interface) if rng.percent(70) => (interface.ipv4, interface.ipv6),
            _ => (
                segment.ipv4.map(|subnet| random_ipv4(rng, subnet)),
                segment.ipv6.map(|subnet| random_ipv6(rng, subnet)),
            ),
        };
        if ipv4.is_none() && ipv6.is_none() {
            continue;
        }
        model.services.push(PlatformService {
            name: format!("svc{index}"),
            segment: id,
            ipv4,
            ipv6,
            ports: policies::ports(rng, 1),
            origin: build::origin(),
        });
    }
}

/// A prefix that has to do with the site: a subnet, half of one, a host, or the whole family.
pub(super) fn related_net(rng: &mut Rng, model: &Model) -> IpNet {
    let nets: Vec<IpNet> = model
        .segments
        .iter()
        .flat_map(|s| {
            [
                s.ipv4.map(|n| IpNet::V4(n.net)),
                s.ipv6.map(|n| IpNet::V6(n.net)),
            ]
        })
        .flatten()
        .collect();
    let addresses: Vec<IpAddr> = model
        .hosts
        .iter()
        .flat_map(|host| &host.interfaces)
        .flat_map(|i| [i.ipv4.map(IpAddr::V4), i.ipv6.map(IpAddr::V6)])
        .flatten()
        .collect();
    match (rng.u8(0..8), rng.pick(&nets), rng.pick(&addresses)) {
        (0, _, _) => build::net(rng.one_of(["0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/16"])),
        (1..=3, _, Some(address)) => IpNet::from(*address),
        (4, Some(net), _) => half(*net),
        (_, Some(net), _) => *net,
        _ => build::net("192.0.2.0/24"),
    }
}

/// The lower half of a prefix.
fn half(net: IpNet) -> IpNet {
    let length = (net.prefix_len() + 1).min(net.max_prefix_len());
    IpNet::new(net.network(), length).unwrap_or(net)
}

/// The zone of an `internet_zones` entry.
pub(super) fn internet_zone(zone: Zone) -> InternetZone {
    InternetZone {
        zone,
        origin: build::origin(),
    }
}
