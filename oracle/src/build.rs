//! Short ways to write parts of a model in code; for [`crate::fixtures`] and [`crate::generate`].

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netmodel::Model;
use netmodel::ids::{HostName, MacAddr, SegmentName, TenantName, VlanId};
use netmodel::model::{
    GatewayServices, Host, Interface, Limits, Origin, Owner, PortSpec, Protocol, RuleAction,
    RuleFrom, RuleTo, Segment, SegmentId, Subnet4, Subnet6, Tenant, TenantKind, TenantRule,
    TenantState, Zone, ZonePolicy,
};

/// Every part of a model made in code says that it comes from here.
pub(crate) fn origin() -> Origin {
    Origin {
        file: "oracle".into(),
        line: 1,
        column: 1,
    }
}

pub(crate) fn empty_model() -> Model {
    Model {
        site_name: "east".to_owned(),
        site_domain: "lab.example".to_owned(),
        site_dnssec: false,
        segments: Vec::new(),
        tenants: Vec::new(),
        hosts: Vec::new(),
        routers: Vec::new(),
        hypervisors: Vec::new(),
        policies: Vec::new(),
        internet_zones: Vec::new(),
        internet_excludes: Vec::new(),
        gateway_services: GatewayServices {
            dhcp: true,
            dns: true,
            ntp: true,
            icmp: true,
        },
        services: Vec::new(),
        protected_flows: Vec::new(),
        policy_tests: Vec::new(),
        records: Vec::new(),
        reservations: Vec::new(),
    }
}

/// A segment without subnets, MTU 1500.
pub(crate) fn segment(name: &str, owner: Owner, vlan: u16) -> Segment {
    Segment {
        name: SegmentName::new(name),
        owner,
        vlan_id: VlanId::new(vlan).expect("a VLAN id made in code is in 1..=4094"),
        vpc_id: 0,
        ipv4: None,
        ipv6: None,
        dhcp: None,
        mtu: 1500,
        origin: origin(),
    }
}

/// A subnet whose gateway is the first host address.
pub(crate) fn subnet4(net: Ipv4Net) -> Subnet4 {
    let net = net.trunc();
    let first = u32::from(net.network());
    let gateway = if net.prefix_len() <= 30 {
        first + 1
    } else {
        first
    };
    Subnet4 {
        net,
        gateway: Ipv4Addr::from(gateway),
    }
}

/// A subnet whose gateway is the network address + 1.
pub(crate) fn subnet6(net: Ipv6Net) -> Subnet6 {
    let net = net.trunc();
    Subnet6 {
        net,
        gateway: Ipv6Addr::from(u128::from(net.network()) + 1),
    }
}

/// A tenant of its own VLANs, with internet and nothing else.
pub(crate) fn tenant(name: &str, segments: Vec<SegmentId>) -> Tenant {
    Tenant {
        name: TenantName::new(name),
        kind: TenantKind::Vlan,
        state: TenantState::Present,
        description: None,
        segments,
        internet: Some(origin()),
        services: Vec::new(),
        trusted_operators: Vec::new(),
        accepts: Vec::new(),
        rules: Vec::new(),
        offers: Vec::new(),
        uses: Vec::new(),
        isolate_hosts: false,
        dns_update_key: None,
        dnssec: false,
        limits: Limits::default(),
        endpoint_limits: Limits::default(),
        origin: origin(),
    }
}

pub(crate) fn host(name: &str, owner: Owner, interfaces: Vec<Interface>) -> Host {
    Host {
        name: HostName::new(name),
        owner,
        form: None,
        is_router: false,
        interfaces,
        origin: origin(),
    }
}

/// An interface without addresses.
pub(crate) fn interface(segment: Option<SegmentId>, mac: Option<[u8; 6]>) -> Interface {
    Interface {
        name: "eth0".to_owned(),
        mac: mac.map(MacAddr),
        segment,
        ipv4: None,
        ipv6: None,
        origin: origin(),
    }
}

pub(crate) fn port(protocol: Protocol, from: u16, to: u16) -> PortSpec {
    PortSpec {
        protocol,
        ports: from..=to,
    }
}

pub(crate) fn icmp() -> PortSpec {
    port(Protocol::Icmp, 0, u16::MAX)
}

pub(crate) fn rule(
    from: RuleFrom,
    to: RuleTo,
    ports: Vec<PortSpec>,
    action: RuleAction,
) -> TenantRule {
    TenantRule {
        name: "rule".to_owned(),
        from,
        to,
        ports,
        action,
        origin: origin(),
    }
}

/// A policy for every protocol, source and destination of two zones.
pub(crate) fn policy(from: SegmentId, to: Zone) -> ZonePolicy {
    ZonePolicy {
        name: "policy".to_owned(),
        from: Zone::Segment(from),
        to,
        protocol: None,
        source_net: None,
        destination_net: None,
        destination_ports: Vec::new(),
        origin: origin(),
    }
}

/// Returns the prefix; for literals.
pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix written in code is valid")
}
