//! Checks of bridges: which VLANs a port carries. On a hypervisor, that is the wall between tenants.

use super::Finding;
use super::facts::{Facts, Link, LinkKind};

/// So many VLANs on a port are the default of an interface file ("bridge-vids 2-4094"), not a choice.
const ALL_VLANS: usize = 4000;
/// The VLAN that Linux gives every new port.
const DEFAULT_PVID: u16 = 1;

/// Returns the ports of bridges that filter VLANs.
fn filtered_ports(facts: &Facts) -> impl Iterator<Item = &Link> {
    let filters = |index: u32| {
        let mut links = facts.links.iter().flatten();
        links.any(|link| link.index == index && link.kind == LinkKind::Bridge { filters: true })
    };
    let links = facts.links.iter().flatten();
    links.filter(move |link| link.controller.is_some_and(filters))
}

pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut count = 0;
    for port in filtered_ports(facts) {
        count += 1;
        findings.extend(all_vlans(port));
        findings.extend(untagged(port));
    }
    if findings.is_empty() && count > 0 {
        let found = format!("{count} ports carry named VLANs only");
        findings.push(Finding::ok("bridge-port", found));
    }
    findings
}

fn all_vlans(port: &Link) -> Option<Finding> {
    let name = &port.name;
    (port.vlans.len() >= ALL_VLANS).then(|| {
        Finding::error(
            "bridge-port-carries-all-vlans",
            format!(
                "{name} carries {} VLANs, as by \"bridge-vids 2-4094\"",
                port.vlans.len()
            ),
            "whoever is behind the port chooses the tenant by the tag",
            format!("bridge vlan delete dev {name} vid 2-4094; then add those that it needs"),
        )
    })
}

/// A port with tags that also takes frames without, or one in the VLAN that every port gets by default.
fn untagged(port: &Link) -> Option<Finding> {
    let (pvid, _) = port.vlans.iter().find(|(_, how)| how.pvid)?;
    let name = &port.name;
    let remedy = format!("bridge vlan delete dev {name} vid {pvid}");
    if !port.tagged().is_empty() {
        return Some(Finding::error(
            "bridge-port-native-vlan",
            format!("{name} is a trunk, and puts frames without a tag into VLAN {pvid}"),
            "frames without a tag must go nowhere on a trunk",
            remedy,
        ));
    }
    (*pvid == DEFAULT_PVID).then(|| {
        Finding::warning(
            "bridge-port-default-vlan",
            format!("{name} is in VLAN 1, which every new port gets by default"),
            "ports that nobody configured are in one network",
            remedy,
        )
    })
}

pub(super) fn filtering(facts: &Facts) -> Vec<Finding> {
    let Some(links) = &facts.links else {
        return Vec::new();
    };
    let trunk = facts.trunk_link();
    let carries_tags = |bridge: &Link| {
        let is_port = |link: &&Link| link.controller == Some(bridge.index);
        let mut ports = links.iter().filter(is_port);
        ports.any(|port| trunk.is_some_and(|trunk| trunk.index == port.index))
    };
    let unfiltered = links
        .iter()
        .filter(|link| link.kind == LinkKind::Bridge { filters: false } && carries_tags(link));
    let findings = unfiltered.map(|bridge| {
        let name = &bridge.name;
        Finding::error(
            "bridge-filters-nothing",
            format!("the trunk is a port of {name}, which does not filter VLANs"),
            "every port of the bridge gets and sends every tenant's frames",
            format!("ip link set dev {name} type bridge vlan_filtering 1"),
        )
    });
    findings.collect()
}
