//! Sites of any size, as checked models.
//!
//! Two platform segments (`management`, which operates every tenant, and `iot`) and the rest tenants with one
//! segment and one host each. Rules are dealt out to the tenants in turn: `iot` may open one port each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use netmodel::Model;
use netmodel::ids::{HostName, MacAddr, SegmentName, TenantName, VlanId};
use netmodel::model::{
    Accept, GatewayServices, Host, Interface, InternetZone, Limits, Origin, Owner, PortSpec,
    Protocol, RuleAction, RuleFrom, RuleTo, Segment, SegmentId, Subnet4, Subnet6, Tenant, TenantId,
    TenantKind, TenantRule, TenantState, Zone, ZonePolicy,
};

/// First port that a rule opens; each tenant's rules open the ports from here on.
pub const FIRST_PORT: u16 = 2000;
/// VLAN id of `management`.
pub const MANAGEMENT: u16 = 1;
/// VLAN id of `iot`.
pub const IOT: u16 = 2;
/// VLAN id of the first tenant.
pub const FIRST_TENANT: u16 = 3;

/// Returns the hardware address of the host of a VLAN.
#[must_use]
pub fn mac(vlan_id: u16) -> [u8; 6] {
    let [high, low] = vlan_id.to_be_bytes();
    [2, 0, 0, high, low, 1]
}

/// Returns an IPv4 address of a VLAN's segment: 1 is the gateway, 10 the host.
#[must_use]
pub fn ipv4(vlan_id: u16, host: u8) -> Ipv4Addr {
    let [high, low] = vlan_id.to_be_bytes();
    Ipv4Addr::new(10, high, low, host)
}

/// Returns an IPv6 address of a VLAN's segment.
#[must_use]
pub fn ipv6(vlan_id: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, vlan_id, 0, 0, 0, 0, 0, host)
}

fn origin() -> Origin {
    Origin {
        file: "bench.yml".into(),
        line: 1,
        column: 1,
    }
}

/// Makes a site of so many segments (at least 3) and tenant rules.
///
/// # Errors
///
/// More segments than VLAN ids, or more rules than ports.
pub fn model(segments: u16, rules: usize) -> Result<Model> {
    ensure!(segments >= FIRST_TENANT, "a site has 3 segments at least");
    let mut model = empty();
    for (vlan_id, name) in [(MANAGEMENT, "management"), (IOT, "iot")] {
        add_segment(&mut model, Owner::Platform, name, vlan_id)?;
    }
    for vlan_id in FIRST_TENANT..=segments {
        let id = TenantId(model.tenants.len());
        model.tenants.push(tenant(&format!("t{vlan_id:04}")));
        let segment = add_segment(&mut model, Owner::Tenant(id), "main", vlan_id)?;
        model.tenants[id.0].segments.push(segment);
    }
    let tenants = model.tenants.len();
    for number in 0..rules {
        add_rule(&mut model, number % tenants, number / tenants)?;
    }
    Ok(model)
}

fn empty() -> Model {
    let management = Zone::Segment(SegmentId(0));
    Model {
        site_name: "bench".into(),
        site_domain: "lab.example".into(),
        site_dnssec: false,
        segments: vec![],
        tenants: vec![],
        hosts: vec![],
        routers: vec![],
        hypervisors: Vec::new(),
        policies: vec![ZonePolicy {
            name: "operate".into(),
            from: management,
            to: Zone::Tenants,
            protocol: None,
            source_net: None,
            destination_net: None,
            destination_ports: vec![],
            origin: origin(),
        }],
        internet_zones: vec![InternetZone {
            zone: Zone::Tenants,
            origin: origin(),
        }],
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

fn tenant(name: &str) -> Tenant {
    Tenant {
        name: TenantName::new(name),
        kind: TenantKind::Vlan,
        state: TenantState::Present,
        description: None,
        segments: vec![],
        internet: Some(origin()),
        services: vec![],
        trusted_operators: vec![(SegmentId(0), origin())],
        accepts: vec![],
        rules: vec![],
        offers: vec![],
        uses: vec![],
        isolate_hosts: false,
        dns_update_key: None,
        dnssec: false,
        limits: Limits::default(),
        endpoint_limits: Limits::default(),
        origin: origin(),
    }
}

/// Adds a segment with its one host.
fn add_segment(model: &mut Model, owner: Owner, name: &str, vlan_id: u16) -> Result<SegmentId> {
    let id = SegmentId(model.segments.len());
    let net4 = format!("{}/24", ipv4(vlan_id, 0)).parse()?;
    let net6 = format!("{}/64", ipv6(vlan_id, 0)).parse()?;
    model.segments.push(Segment {
        name: SegmentName::new(name),
        owner,
        vlan_id: VlanId::new(vlan_id).with_context(|| format!("VLAN id {vlan_id}"))?,
        vpc_id: 0,
        ipv4: Some(Subnet4 {
            net: net4,
            gateway: ipv4(vlan_id, 1),
        }),
        ipv6: Some(Subnet6 {
            net: net6,
            gateway: ipv6(vlan_id, 1),
        }),
        dhcp: None,
        mtu: 1500,
        origin: origin(),
    });
    model.hosts.push(Host {
        name: HostName::new(&format!("host{vlan_id:04}")),
        owner,
        form: None,
        is_router: false,
        interfaces: vec![Interface {
            name: "eth0".into(),
            mac: Some(MacAddr(mac(vlan_id))),
            segment: Some(id),
            ipv4: Some(ipv4(vlan_id, 10)),
            ipv6: Some(ipv6(vlan_id, 10)),
            origin: origin(),
        }],
        origin: origin(),
    });
    Ok(id)
}

/// Adds both halves of a request: `iot` may open the tenant's `nth` port.
fn add_rule(model: &mut Model, tenant: usize, nth: usize) -> Result<()> {
    let port = FIRST_PORT
        .checked_add(u16::try_from(nth)?)
        .context("more rules than ports")?;
    let ports = vec![PortSpec {
        protocol: Protocol::Tcp,
        ports: port..=port,
    }];
    let iot = SegmentId(1);
    let segment = SegmentId(tenant + 2);
    let entry = &mut model.tenants[tenant];
    entry.accepts.push(Accept {
        from: iot,
        ports: ports.clone(),
        origin: origin(),
    });
    entry.rules.push(TenantRule {
        name: format!("rule{nth}"),
        from: RuleFrom::Zone(iot),
        to: RuleTo::Segment(segment),
        ports,
        action: RuleAction::Allow,
        origin: origin(),
    });
    Ok(())
}

/// Returns the host's address in a family.
#[must_use]
pub fn host(vlan_id: u16, is_ipv4: bool) -> IpAddr {
    if is_ipv4 {
        ipv4(vlan_id, 10).into()
    } else {
        ipv6(vlan_id, 10).into()
    }
}
