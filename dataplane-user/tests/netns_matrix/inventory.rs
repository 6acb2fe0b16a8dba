//! The sample inventory, as a model, with what it leaves out: IPv6 addresses of bound hosts, a
//! segment without IPv4, a tenant with two segments and a rule between them, one without internet.

use std::net::Ipv4Addr;

use netmodel::Model;
use netmodel::ids::{HostName, MacAddr, SegmentName, VlanId};
use netmodel::model::{
    Interface, Owner, RuleAction, RuleFrom, RuleTo, Segment, SegmentId, Subnet4, Subnet6,
    TenantRule,
};
use testkit::fixtures;

use crate::place::{plus4, plus6};

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
    add_db_hosts(model, id);
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

fn add_db_hosts(model: &mut Model, segment: SegmentId) {
    for last in [10, 11] {
        add_machine(model, segment, last);
    }
}

/// Adds a machine whose hardware address is known to each segment that has none.
pub(crate) fn add_machines(model: &mut Model) {
    for id in (0..model.segments.len()).map(SegmentId) {
        let hosts = model.hosts.iter().filter(|host| !host.is_router);
        let mut interfaces = hosts.flat_map(|host| &host.interfaces);
        if !interfaces.any(|interface| interface.segment == Some(id) && interface.mac.is_some()) {
            add_machine(model, id, 10);
        }
    }
}

/// Adds a machine of the segment's owner to the segment: its hardware address is known, its addresses end in `last`.
fn add_machine(model: &mut Model, id: SegmentId, last: u8) {
    let segment = model.segment(id);
    let [.., high, low] = segment.vlan_id.as_u16().to_be_bytes();
    let mac = [2, 0xdd, 0xee, high, low, last];
    let ipv4 = segment.ipv4.map(|it| plus4(it.net.network(), last.into()));
    let ipv6 = segment.ipv6.map(|it| plus6(it.net.network(), last.into()));
    let like = model.hosts.iter().find(|host| !host.is_router);
    let mut host = like.expect("the sample has hosts").clone();
    host.name = HostName::new(&format!("{}-{last}", segment.name));
    host.owner = segment.owner;
    host.interfaces.truncate(1);
    let [interface] = &mut host.interfaces[..] else {
        panic!("the sample's hosts have interfaces")
    };
    *interface = Interface {
        mac: Some(MacAddr(mac)),
        segment: Some(id),
        ipv4,
        ipv6,
        ..interface.clone()
    };
    model.hosts.push(host);
}
