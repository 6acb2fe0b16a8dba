//! Models built in code, for the compiler's tests.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::net::{IpAddr, Ipv4Addr};

use dataplane_common::host::HostTables;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netmodel::CONNECTIONS;
use netmodel::Model;
use netmodel::ids::{HostName, MacAddr, SegmentName, TenantName, VlanId};
use netmodel::model::*;
use policy_compiler::{RouterFacts, Trunk, compile};

pub(crate) fn origin(line: u32) -> Origin {
    Origin {
        file: "test.yml".into(),
        line,
        column: 1,
    }
}

/// `10.0.0.0/24`
pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `tcp/443`, `udp/5000-5100`, `icmp`
pub(crate) fn ports(texts: &[&str]) -> Vec<PortSpec> {
    texts.iter().map(|text| port(text)).collect()
}

fn port(text: &str) -> PortSpec {
    let (protocol, range) = text.split_once('/').unwrap_or((text, "0-65535"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    PortSpec {
        protocol: match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => Protocol::Icmp,
        },
        ports: first.parse().unwrap()..=last.parse().unwrap(),
    }
}

/// The router's trunk in [`two_hosts`].
pub(crate) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// One tenant with two segments, VLANs 100 (10.1.0.0/24) and 101 (10.1.1.0/24), with a host `.10` in each.
pub(crate) fn two_hosts(macs: [[u8; 6]; 2], mtu_of_second: u16, number: u32) -> HostTables {
    let mut model = empty();
    let owner = Owner::Tenant(add_tenant(&mut model, "a"));
    let first = add_segment(&mut model, owner, "main", 100, &["10.1.0.0/24"]);
    let second = add_segment(&mut model, owner, "db", 101, &["10.1.1.0/24"]);
    model.segments[second.0].mtu = mtu_of_second;
    add_host(&mut model, first, "a", Some(macs[0]), "10.1.0.10");
    add_host(&mut model, second, "b", Some(macs[1]), "10.1.1.10");
    let facts = RouterFacts {
        mac: Some(MacAddr(ROUTER_MAC)),
        ..RouterFacts::from_model(&model)
    };
    let tables = compile(&model, &facts).unwrap();
    let trunk = Trunk {
        ifindex: 1,
        mac: ROUTER_MAC,
    };
    tables.to_host(trunk.generation(&tables, number, 250, CONNECTIONS))
}

/// A site without anything in it.
pub(crate) fn empty() -> Model {
    Model {
        site_name: "east".into(),
        site_domain: "lab.example".into(),
        site_dnssec: false,
        segments: vec![],
        tenants: vec![],
        hosts: vec![],
        routers: vec![],
        hypervisors: Vec::new(),
        policies: vec![],
        internet_zones: vec![],
        internet_excludes: vec![],
        gateway_services: GatewayServices {
            dhcp: true,
            dns: true,
            ntp: false,
            icmp: true,
        },
        services: vec![],
        protected_flows: vec![],
        policy_tests: vec![],
        records: vec![],
        reservations: vec![],
    }
}

/// Adds a segment with a subnet per family given.
pub(crate) fn add_segment(
    model: &mut Model,
    owner: Owner,
    name: &str,
    vlan: u16,
    nets: &[&str],
) -> SegmentId {
    let mut segment = Segment {
        name: SegmentName::new(name),
        owner,
        vlan_id: VlanId::new(vlan).unwrap(),
        vpc_id: 0,
        ipv4: None,
        ipv6: None,
        dhcp: None,
        mtu: 1500,
        origin: origin(u32::from(vlan)),
    };
    for text in nets {
        match net(text) {
            IpNet::V4(net) => segment.ipv4 = Some(subnet4(net)),
            IpNet::V6(net) => segment.ipv6 = Some(subnet6(net)),
        }
    }
    model.segments.push(segment);
    let id = SegmentId(model.segments.len() - 1);
    if let Owner::Tenant(tenant) = owner {
        model.tenants[tenant.0].segments.push(id);
    }
    id
}

fn subnet4(net: Ipv4Net) -> Subnet4 {
    Subnet4 {
        net,
        gateway: net.hosts().next().unwrap(),
    }
}

fn subnet6(net: Ipv6Net) -> Subnet6 {
    let gateway = (u128::from(net.network()) + 1).into();
    Subnet6 { net, gateway }
}

pub(crate) fn add_tenant(model: &mut Model, name: &str) -> TenantId {
    model.tenants.push(Tenant {
        name: TenantName::new(name),
        kind: TenantKind::Vlan,
        state: TenantState::Present,
        description: None,
        segments: vec![],
        internet: Some(origin(900)),
        services: vec![],
        trusted_operators: vec![],
        accepts: vec![],
        rules: vec![],
        offers: vec![],
        uses: vec![],
        isolate_hosts: false,
        dns_update_key: None,
        dnssec: false,
        limits: Limits::default(),
        endpoint_limits: Limits::default(),
        origin: origin(800),
    });
    TenantId(model.tenants.len() - 1)
}

/// Adds a host with one interface.
pub(crate) fn add_host(
    model: &mut Model,
    segment: SegmentId,
    name: &str,
    mac: Option<[u8; 6]>,
    address: &str,
) -> HostId {
    let mut interface = Interface {
        name: "eth0".into(),
        mac: mac.map(MacAddr),
        segment: Some(segment),
        ipv4: None,
        ipv6: None,
        origin: origin(700),
    };
    match ip(address) {
        IpAddr::V4(address) => interface.ipv4 = Some(address),
        IpAddr::V6(address) => interface.ipv6 = Some(address),
    }
    model.hosts.push(Host {
        name: HostName::new(name),
        owner: model.segment(segment).owner,
        form: None,
        is_router: false,
        interfaces: vec![interface],
        origin: origin(701),
    });
    HostId(model.hosts.len() - 1)
}

pub(crate) fn add_service(
    model: &mut Model,
    segment: SegmentId,
    name: &str,
    address: Ipv4Addr,
    on: &[&str],
) -> ServiceId {
    model.services.push(PlatformService {
        name: name.into(),
        segment,
        ipv4: Some(address),
        ipv6: None,
        ports: ports(on),
        origin: origin(600),
    });
    ServiceId(model.services.len() - 1)
}

pub(crate) fn policy(from: SegmentId, to: Zone) -> ZonePolicy {
    ZonePolicy {
        name: "policy".into(),
        from: Zone::Segment(from),
        to,
        protocol: None,
        source_net: None,
        destination_net: None,
        destination_ports: vec![],
        origin: origin(500),
    }
}

pub(crate) fn rule(from: RuleFrom, to: RuleTo, on: &[&str], action: RuleAction) -> TenantRule {
    TenantRule {
        name: "rule".into(),
        from,
        to,
        ports: ports(on),
        action,
        origin: origin(400),
    }
}

/// A site of many tenants: a management zone that operates all of them, a service that all may use,
/// an `iot` zone whose requests every `stride`-th tenant takes, with a rule and hosts of its own.
pub(crate) fn many_tenants(count: u16, stride: usize) -> Model {
    let mut model = empty();
    let platform = Owner::Platform;
    let management = add_segment(&mut model, platform, "management", 1, &["192.168.1.0/24"]);
    let iot = add_segment(&mut model, platform, "iot", 2, &["192.168.2.0/24"]);
    let service_address = Ipv4Addr::new(192, 168, 1, 20);
    let logs = add_service(
        &mut model,
        management,
        "logs",
        service_address,
        &["tcp/3100"],
    );
    model.policies.push(policy(management, Zone::Tenants));
    model.internet_zones.push(InternetZone {
        zone: Zone::Tenants,
        origin: origin(1),
    });
    for i in 0..count {
        let tenant = add_tenant(&mut model, &format!("t{i:04}"));
        let [high, low] = i.to_be_bytes();
        let (high, low) = (high, low);
        let net = format!("10.{high}.{low}.0/24");
        let net6 = format!("fd00:{i:x}::/64");
        let owner = Owner::Tenant(tenant);
        let main = add_segment(&mut model, owner, "main", i + 3, &[&net, &net6]);
        let host = format!("10.{high}.{low}.10");
        let host = add_host(
            &mut model,
            main,
            "web",
            Some([2, 0, 0, high, low, 1]),
            &host,
        );
        let entry = &mut model.tenants[tenant.0];
        entry.services.push((logs, origin(2)));
        entry.trusted_operators.push((management, origin(3)));
        if usize::from(i) % stride == 0 {
            let port = format!("tcp/{}", 1000 + i);
            let accept = Accept {
                from: iot,
                ports: ports(&[&port]),
                origin: origin(4),
            };
            entry.accepts.push(accept);
            let allow = RuleAction::Allow;
            entry.rules.push(rule(
                RuleFrom::Zone(iot),
                RuleTo::Host(host),
                &[&port],
                allow,
            ));
        }
    }
    model
}
