//! A model to test with: the sample inventory, IPv6 everywhere it matters, and oddities.

use std::net::{Ipv4Addr, Ipv6Addr};

use netmodel::Model;
use netmodel::model::{
    Accept, Host, HostId, InternetZone, Owner, PlatformService, PortSpec, Protocol, Router,
    RuleAction, RuleFrom, RuleTo, SegmentId, ServiceId, Subnet4, Subnet6, TenantId, TenantOffer,
    TenantUse, Uplink, Zone, ZonePolicy,
};

use crate::build;

/// MAC of the router's trunk: what tests give to [`crate::World::new`].
pub const ROUTER_MAC: [u8; 6] = [0x00, 0xe0, 0x4c, 0x29, 0x1e, 0x50];

/// Segments of [`sample_model`], by name.
pub mod segments {
    use netmodel::model::SegmentId;

    /// VLAN 999, no subnet: the router's native segment.
    pub const BLACKHOLE: SegmentId = SegmentId(0);
    /// VLAN 40, 10.20.40.0/24.
    pub const GUEST: SegmentId = SegmentId(1);
    /// VLAN 30, 10.20.30.0/24.
    pub const IOT: SegmentId = SegmentId(2);
    /// VLAN 35, 10.20.35.0/24.
    pub const IOT_BACKEND: SegmentId = SegmentId(3);
    /// VLAN 31, 10.20.31.0/24, MTU 1300.
    pub const IOT_VENDOR: SegmentId = SegmentId(4);
    /// VLAN 99, 10.20.99.0/24, `fd00:99::/64`; the router is a host of it.
    pub const MANAGEMENT: SegmentId = SegmentId(5);
    /// VLAN 25, 10.20.25.0/24, `fd00:25::/64`.
    pub const PLATFORM: SegmentId = SegmentId(6);
    /// VLAN 36, `fd00:36::/64` only.
    pub const SENSORS6: SegmentId = SegmentId(7);
    /// VLAN 20, 10.20.20.0/24, MTU 9000.
    pub const STORAGE: SegmentId = SegmentId(8);
    /// VLAN 50, 10.20.250.0/31.
    pub const TRANSIT: SegmentId = SegmentId(9);
    /// VLAN 10, 10.20.10.0/24.
    pub const TRUSTED: SegmentId = SegmentId(10);
    /// VLAN 998, no subnet.
    pub const UNROUTED: SegmentId = SegmentId(11);
    /// VLAN 100, 10.100.0.0/24, `fd00:100::/64`.
    pub const GROOVEIQ: SegmentId = SegmentId(12);
    /// VLAN 102, 10.102.0.0/24.
    pub const MONEYROUTER: SegmentId = SegmentId(13);
    /// VLAN 103, 10.103.0.0/24, `fd00:103::/64`.
    pub const QUIET: SegmentId = SegmentId(14);
    /// VLAN 104, 10.104.0.0/24, `fd00:104::/64`.
    pub const QUIET_DB: SegmentId = SegmentId(15);
    /// VLAN 101, 10.101.0.0/24, `fd00:101::/64`.
    pub const VINTRONICS: SegmentId = SegmentId(16);
}

/// Tenants of [`sample_model`], by name.
pub mod tenants {
    use netmodel::model::TenantId;

    /// Offers its API to vintronics and quiet, MQTT to the zone iot.
    pub const GROOVEIQ: TenantId = TenantId(0);
    /// IPv4 only.
    pub const MONEYROUTER: TenantId = TenantId(1);
    /// Two segments, deny rules, no internet.
    pub const QUIET: TenantId = TenantId(2);
    /// Uses grooveiq's API; offers its web server to quiet.
    pub const VINTRONICS: TenantId = TenantId(3);
}

use segments as s;
use tenants as t;

/// Places of hosts in the model that rules and offers name.
mod hosts {
    use netmodel::model::HostId;

    pub(super) const CORE_RT01: HostId = HostId(2);
    pub(super) const GROOVEIQ_API01: HostId = HostId(11);
    pub(super) const GROOVEIQ_MQTT01: HostId = HostId(13);
    pub(super) const MONEYROUTER_APP01: HostId = HostId(15);
    pub(super) const MONEYROUTER_DB01: HostId = HostId(16);
    pub(super) const QUIET_DB01: HostId = HostId(17);
    pub(super) const QUIET_WEB01: HostId = HostId(19);
    pub(super) const VINTRONICS_WEB01: HostId = HostId(20);
}

/// Returns the sample inventory as a model, with more of everything that isolation depends on.
#[must_use]
pub fn sample_model() -> Model {
    let mut model = build::empty_model();
    add_segments(&mut model);
    add_hosts(&mut model);
    add_services(&mut model);
    add_policies(&mut model);
    add_tenants(&mut model);
    model.routers.push(Router {
        host: hosts::CORE_RT01,
        trunk: "eth0".to_owned(),
        native_segment: Some(s::BLACKHOLE),
        uplinks: vec![Uplink {
            name: "wan".to_owned(),
            interface: "eth1".to_owned(),
            nat: true,
        }],
        origin: build::origin(),
    });
    model
}

/// Name, tenant, VLAN id, third octets of 10.A.B.0 with prefix length, IPv6 group of `fd00:X::/64`.
type SegmentRow = (
    &'static str,
    Option<TenantId>,
    u16,
    Option<(u8, u8, u8)>,
    Option<u16>,
);

const SEGMENTS: [SegmentRow; 17] = [
    ("blackhole", None, 999, None, None),
    ("guest", None, 40, Some((20, 40, 24)), None),
    ("iot", None, 30, Some((20, 30, 24)), None),
    ("iot_backend", None, 35, Some((20, 35, 24)), None),
    ("iot_vendor", None, 31, Some((20, 31, 24)), None),
    ("management", None, 99, Some((20, 99, 24)), Some(0x99)),
    ("platform", None, 25, Some((20, 25, 24)), Some(0x25)),
    ("sensors6", None, 36, None, Some(0x36)),
    ("storage", None, 20, Some((20, 20, 24)), None),
    ("transit", None, 50, Some((20, 250, 31)), None),
    ("trusted", None, 10, Some((20, 10, 24)), None),
    ("unrouted", None, 998, None, None),
    (
        "main",
        Some(t::GROOVEIQ),
        100,
        Some((100, 0, 24)),
        Some(0x100),
    ),
    ("main", Some(t::MONEYROUTER), 102, Some((102, 0, 24)), None),
    ("main", Some(t::QUIET), 103, Some((103, 0, 24)), Some(0x103)),
    ("db", Some(t::QUIET), 104, Some((104, 0, 24)), Some(0x104)),
    (
        "main",
        Some(t::VINTRONICS),
        101,
        Some((101, 0, 24)),
        Some(0x101),
    ),
];

fn add_segments(model: &mut Model) {
    for (name, tenant, vlan, ipv4, ipv6) in SEGMENTS {
        let owner = tenant.map_or(Owner::Platform, Owner::Tenant);
        let mut segment = build::segment(name, owner, vlan);
        segment.ipv4 = ipv4.map(|(a, b, length)| subnet4(a, b, length));
        segment.ipv6 = ipv6.map(subnet6);
        model.segments.push(segment);
    }
    model.segments[s::STORAGE.0].mtu = 9000;
    model.segments[s::IOT_VENDOR.0].mtu = 1300;
}

fn subnet4(a: u8, b: u8, length: u8) -> Subnet4 {
    build::subnet4(ipnet::Ipv4Net::new_assert(
        Ipv4Addr::new(10, a, b, 0),
        length,
    ))
}

fn subnet6(group: u16) -> Subnet6 {
    let network = Ipv6Addr::new(0xfd00, group, 0, 0, 0, 0, 0, 0);
    build::subnet6(ipnet::Ipv6Net::new_assert(network, 64))
}

/// Name, segment, last two octets of the MAC (`None`: `UNKNOWN`), last octet of the addresses in the
/// segment's IPv4 and IPv6 subnet (`None`: no fixed address).
type HostRow = (
    &'static str,
    SegmentId,
    Option<[u8; 2]>,
    Option<u8>,
    Option<u8>,
);

const HOSTS: [HostRow; 21] = [
    ("backend01", s::IOT_BACKEND, Some([35, 10]), Some(10), None),
    ("cam01", s::IOT, Some([30, 30]), None, None),
    ("core-rt01", s::MANAGEMENT, None, Some(1), None),
    ("hv01", s::MANAGEMENT, Some([99, 21]), Some(21), None),
    ("hv02", s::MANAGEMENT, None, Some(22), None),
    ("laptop01", s::TRUSTED, Some([10, 20]), Some(20), None),
    ("logs01", s::PLATFORM, Some([25, 20]), Some(20), Some(0x20)),
    ("nas01", s::STORAGE, Some([20, 10]), Some(10), None),
    (
        "provisioner-ph01",
        s::MANAGEMENT,
        Some([99, 95]),
        Some(95),
        Some(0x95),
    ),
    ("sensor01", s::IOT, Some([30, 20]), Some(20), None),
    ("sensor6", s::SENSORS6, Some([36, 10]), None, Some(0x10)),
    (
        "grooveiq-api01",
        s::GROOVEIQ,
        Some([100, 10]),
        Some(10),
        Some(0x10),
    ),
    (
        "grooveiq-db01",
        s::GROOVEIQ,
        Some([100, 11]),
        Some(11),
        None,
    ),
    (
        "grooveiq-mqtt01",
        s::GROOVEIQ,
        Some([100, 12]),
        Some(12),
        None,
    ),
    (
        "grooveiq-worker01",
        s::GROOVEIQ,
        Some([100, 20]),
        Some(20),
        None,
    ),
    (
        "moneyrouter-app01",
        s::MONEYROUTER,
        Some([102, 11]),
        Some(11),
        None,
    ),
    (
        "moneyrouter-db01",
        s::MONEYROUTER,
        Some([102, 10]),
        Some(10),
        None,
    ),
    (
        "quiet-db01",
        s::QUIET_DB,
        Some([104, 10]),
        Some(10),
        Some(0x10),
    ),
    ("quiet-unknown01", s::QUIET_DB, None, Some(20), Some(0x20)),
    (
        "quiet-web01",
        s::QUIET,
        Some([103, 10]),
        Some(10),
        Some(0x10),
    ),
    (
        "vintronics-web01",
        s::VINTRONICS,
        Some([101, 10]),
        Some(10),
        Some(0x10),
    ),
];

fn add_hosts(model: &mut Model) {
    let hosts = HOSTS.iter().map(|row| host(model, row)).collect();
    model.hosts = hosts;
    let router = &mut model.hosts[hosts::CORE_RT01.0];
    router.is_router = true;
    router.interfaces[0].mac = Some(netmodel::ids::MacAddr(ROUTER_MAC));
    let mut wan = build::interface(None, None);
    wan.name = "eth1".to_owned();
    wan.ipv4 = Some(Ipv4Addr::new(203, 0, 113, 2));
    router.interfaces.push(wan);
}

fn host(model: &Model, row: &HostRow) -> Host {
    let (name, id, mac, ipv4, ipv6) = *row;
    let segment = model.segment(id);
    let mac = mac.map(|[a, b]| [0x02, 0xdd, 0xee, 0, a, b]);
    let mut interface = build::interface(Some(id), mac);
    interface.ipv4 = ipv4
        .zip(segment.ipv4)
        .map(|(last, subnet)| Ipv4Addr::from(u32::from(subnet.net.network()) + u32::from(last)));
    interface.ipv6 = ipv6
        .zip(segment.ipv6)
        .map(|(last, subnet)| Ipv6Addr::from(u128::from(subnet.net.network()) + u128::from(last)));
    build::host(name, segment.owner, vec![interface])
}

fn tcp(from: u16, to: u16) -> PortSpec {
    build::port(Protocol::Tcp, from, to)
}

fn udp(from: u16, to: u16) -> PortSpec {
    build::port(Protocol::Udp, from, to)
}

fn add_services(model: &mut Model) {
    let service = |name: &str, segment, address: [u8; 4], ports| PlatformService {
        name: name.to_owned(),
        segment,
        ipv4: Some(Ipv4Addr::from(address)),
        ipv6: None,
        ports,
        origin: build::origin(),
    };
    let artifacts = vec![tcp(80, 80), tcp(443, 443)];
    model.services = vec![
        service("artifacts", s::MANAGEMENT, [10, 20, 99, 95], artifacts),
        service("logs", s::PLATFORM, [10, 20, 25, 20], vec![tcp(3100, 3100)]),
        service(
            "metrics",
            s::PLATFORM,
            [10, 20, 25, 21],
            vec![tcp(9090, 9090)],
        ),
    ];
    model.services[1].ipv6 = Some(Ipv6Addr::new(0xfd00, 0x25, 0, 0, 0, 0, 0, 0x20));
}

fn add_policies(model: &mut Model) {
    let to = |segment| Zone::Segment(segment);
    model.policies = vec![
        build::policy(s::MANAGEMENT, Zone::Tenants),
        build::policy(s::TRUSTED, Zone::Tenants),
        build::policy(s::TRUSTED, to(s::PLATFORM)),
        build::policy(s::IOT, to(s::IOT_BACKEND)),
        ZonePolicy {
            protocol: Some(Protocol::Tcp),
            source_net: Some(build::net("10.20.40.0/25")),
            destination_net: Some(build::net("10.20.35.10/32")),
            destination_ports: vec![443..=443, 8000..=8010],
            ..build::policy(s::GUEST, to(s::IOT_BACKEND))
        },
        ZonePolicy {
            destination_ports: vec![2049..=2049],
            ..build::policy(s::IOT_VENDOR, to(s::STORAGE))
        },
        ZonePolicy {
            protocol: Some(Protocol::Icmp),
            ..build::policy(s::MANAGEMENT, to(s::SENSORS6))
        },
        build::policy(s::TRUSTED, to(s::MANAGEMENT)),
        build::policy(s::STORAGE, to(s::IOT_VENDOR)),
    ];
    let zones = [
        s::MANAGEMENT,
        s::TRUSTED,
        s::PLATFORM,
        s::IOT,
        s::IOT_VENDOR,
        s::IOT_BACKEND,
    ];
    let segments = zones
        .into_iter()
        .chain([s::GUEST, s::SENSORS6])
        .map(Zone::Segment);
    model.internet_zones = segments
        .chain([Zone::Tenants])
        .map(|zone| InternetZone {
            zone,
            origin: build::origin(),
        })
        .collect();
    model.internet_excludes = vec![
        build::net("198.51.100.0/24"),
        build::net("2001:db8:66::/48"),
    ];
}

fn add_tenants(model: &mut Model) {
    let services = |ids: &[usize]| {
        ids.iter()
            .map(|id| (ServiceId(*id), build::origin()))
            .collect::<Vec<_>>()
    };
    let mut grooveiq = build::tenant("grooveiq", vec![s::GROOVEIQ]);
    grooveiq.services = services(&[1, 2, 0]);
    let mut moneyrouter = build::tenant("moneyrouter", vec![s::MONEYROUTER]);
    moneyrouter.services = services(&[1]);
    let mut quiet = build::tenant("quiet", vec![s::QUIET, s::QUIET_DB]);
    quiet.internet = None;
    quiet.trusted_operators = vec![(s::STORAGE, build::origin())];
    let mut vintronics = build::tenant("vintronics", vec![s::VINTRONICS]);
    vintronics.services = services(&[1, 2]);
    model.tenants = vec![grooveiq, moneyrouter, quiet, vintronics];
    for tenant in &mut model.tenants {
        let operators = [s::MANAGEMENT, s::TRUSTED].map(|zone| (zone, build::origin()));
        tenant.trusted_operators.extend(operators);
    }
    add_rules(model);
    add_offers(model);
}

fn add_rules(model: &mut Model) {
    let mqtt = RuleTo::Host(hosts::GROOVEIQ_MQTT01);
    let db = RuleTo::Segment(s::QUIET_DB);
    let accept = |from, ports| Accept {
        from,
        ports,
        origin: build::origin(),
    };
    let allow = |from, to, ports| build::rule(from, to, ports, RuleAction::Allow);
    let deny = |from, to, ports| build::rule(from, to, ports, RuleAction::Deny);
    let grooveiq = &mut model.tenants[t::GROOVEIQ.0];
    grooveiq.rules = vec![
        allow(RuleFrom::Zone(s::IOT), mqtt, vec![tcp(8883, 8883)]),
        // Waits for its other half.
        allow(RuleFrom::Zone(s::IOT_VENDOR), mqtt, vec![tcp(8883, 8883)]),
    ];
    // The second one waits for its other half.
    grooveiq.accepts = vec![
        accept(s::IOT, vec![tcp(8883, 8883)]),
        accept(s::GUEST, vec![tcp(443, 443)]),
    ];
    let app = RuleFrom::Host(hosts::MONEYROUTER_APP01);
    model.tenants[t::MONEYROUTER.0].rules = vec![allow(
        app,
        RuleTo::Host(hosts::MONEYROUTER_DB01),
        vec![tcp(5432, 5432)],
    )];
    let quiet = &mut model.tenants[t::QUIET.0];
    quiet.rules = vec![
        allow(RuleFrom::Host(hosts::QUIET_WEB01), db, vec![tcp(22, 22)]),
        deny(
            RuleFrom::Segment(s::QUIET),
            db,
            vec![tcp(22, 22), build::icmp()],
        ),
        deny(
            RuleFrom::Zone(s::IOT),
            RuleTo::Host(hosts::QUIET_DB01),
            vec![],
        ),
        allow(
            RuleFrom::Cidr(build::net("10.20.30.0/24")),
            db,
            vec![tcp(80, 80)],
        ),
    ];
    quiet.accepts = vec![accept(s::IOT, vec![tcp(80, 90)])];
    model.tenants[t::VINTRONICS.0].rules = vec![deny(
        RuleFrom::Tenant(t::QUIET),
        RuleTo::Host(hosts::VINTRONICS_WEB01),
        vec![build::icmp()],
    )];
}

fn add_offers(model: &mut Model) {
    let offer = |name: &str, to, ports, consumers: &[TenantId]| TenantOffer {
        name: name.to_owned(),
        to,
        ports,
        consumers: consumers.to_vec(),
        origin: build::origin(),
    };
    let uses = |tenant, offer: &str| TenantUse {
        tenant,
        offer: offer.to_owned(),
        origin: build::origin(),
    };
    let host = |id: HostId| RuleTo::Host(id);
    model.tenants[t::GROOVEIQ.0].offers = vec![offer(
        "api-for-vintronics",
        host(hosts::GROOVEIQ_API01),
        vec![tcp(443, 443)],
        &[t::VINTRONICS, t::QUIET],
    )];
    model.tenants[t::VINTRONICS.0].offers = vec![offer(
        "web",
        RuleTo::Segment(s::VINTRONICS),
        vec![udp(5000, 5100), build::icmp()],
        &[t::QUIET],
    )];
    model.tenants[t::VINTRONICS.0].uses = vec![
        uses(t::GROOVEIQ, "api-for-vintronics"),
        uses(t::GROOVEIQ, "no-such-offer"),
    ];
    // moneyrouter uses what is not offered to it; quiet does not use grooveiq's offer.
    model.tenants[t::MONEYROUTER.0].uses = vec![uses(t::GROOVEIQ, "api-for-vintronics")];
    model.tenants[t::QUIET.0].uses = vec![uses(t::VINTRONICS, "web")];
}
