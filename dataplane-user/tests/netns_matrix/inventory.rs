//! The sample inventory, as a model, with what it leaves out: IPv6 addresses of bound hosts, a
//! segment without IPv4, a tenant with two segments and a rule between them, one without internet.

use std::net::{Ipv4Addr, Ipv6Addr};

use netmodel::Model;
use netmodel::ids::{HostName, SegmentName, VlanId};
use netmodel::model::{
    Interface, Owner, RuleAction, RuleFrom, RuleTo, Segment, SegmentId, Subnet4, Subnet6,
    TenantRule,
};
use testkit::fixtures;

/// Loads it.
pub(crate) fn model() -> Model {
    let options = netmodel::Options::new(fixtures::sample_site(), Some(fixtures::sample_tenants()));
    let loaded = netmodel::load(&options);
    let findings = format!("{:?}", loaded.findings);
    let mut model = loaded
        .model
        .unwrap_or_else(|| panic!("the sample is wrong: {findings}"));
    add_ipv6_addresses(&mut model);
    add_segment_without_ipv4(&mut model);
    add_second_segment(&mut model);
    let moneyrouter = model
        .tenants
        .iter_mut()
        .find(|t| t.name.as_str() == "moneyrouter");
    moneyrouter.expect("a tenant of the sample").internet = None;
    model
}

/// Gives every host with an IPv4 address the IPv6 address that ends alike, where there is IPv6. One
/// of them bound in IPv6 and one in both families on each segment of tenants.
fn add_ipv6_addresses(model: &mut Model) {
    let segments = model.segments.clone();
    let hosts = model.hosts.iter_mut().filter(|host| !host.is_router);
    for interface in hosts.flat_map(|host| &mut host.interfaces) {
        let subnet = interface.segment.and_then(|id| segments[id.0].ipv6);
        if let (Some(subnet), Some(ipv4)) = (subnet, interface.ipv4) {
            let last = u128::from(ipv4.octets()[3]);
            interface.ipv6 = Some((u128::from(subnet.net.network()) + last).into());
        }
    }
}

fn segment_like(model: &Model, like: SegmentId, name: &str, vlan: u16) -> Segment {
    Segment {
        name: SegmentName::new(name),
        vlan_id: VlanId::new(vlan).expect("a VLAN id"),
        ipv4: None,
        ipv6: Some(Subnet6 {
            net: format!("fd00:{vlan}::/64").parse().expect("a subnet"),
            gateway: format!("fd00:{vlan}::1").parse().expect("an address"),
        }),
        dhcp: None,
        ..model.segment(like).clone()
    }
}

fn add_segment_without_ipv4(model: &mut Model) {
    let like = model
        .segments
        .iter()
        .position(|segment| segment.owner == Owner::Platform);
    let like = SegmentId(like.expect("the sample has a substrate"));
    let segment = segment_like(model, like, "sensors", 36);
    model.segments.push(segment);
}

/// Gives the tenant vintronics a second segment, which the first may not reach.
fn add_second_segment(model: &mut Model) {
    let tenant = model
        .tenants
        .iter()
        .position(|t| t.name.as_str() == "vintronics");
    let tenant = tenant.expect("a tenant of the sample");
    let main = model.tenants[tenant].segments[0];
    let mut segment = segment_like(model, main, "db", 110);
    segment.ipv4 = Some(Subnet4 {
        net: "10.110.0.0/24".parse().expect("a subnet"),
        gateway: Ipv4Addr::new(10, 110, 0, 1),
    });
    let id = SegmentId(model.segments.len());
    model.segments.push(segment);
    add_db_hosts(model, tenant, id);
    let tenant = &mut model.tenants[tenant];
    tenant.segments.push(id);
    tenant.rules.push(TenantRule {
        name: "db-is-for-operators".to_owned(),
        from: RuleFrom::Segment(main),
        to: RuleTo::Segment(id),
        ports: Vec::new(),
        action: RuleAction::Deny,
        origin: tenant.origin.clone(),
    });
}

fn add_db_hosts(model: &mut Model, tenant: usize, segment: SegmentId) {
    let owner = Owner::Tenant(netmodel::model::TenantId(tenant));
    let like = model
        .hosts
        .iter()
        .find(|host| host.owner == owner)
        .expect("it has a host")
        .clone();
    for last in [10, 11] {
        let mut host = like.clone();
        host.name = HostName::new(&format!("vintronics-db{last}"));
        let [interface] = &mut host.interfaces[..] else {
            panic!("the sample's hosts have one")
        };
        *interface = Interface {
            mac: Some(netmodel::ids::MacAddr([2, 0xdd, 0xee, 0x6e, 0, last])),
            segment: Some(segment),
            ipv4: Some(Ipv4Addr::new(10, 110, 0, last)),
            ipv6: Some(Ipv6Addr::new(0xfd00, 0x110, 0, 0, 0, 0, 0, last.into())),
            ..interface.clone()
        };
        model.hosts.push(host);
    }
}
