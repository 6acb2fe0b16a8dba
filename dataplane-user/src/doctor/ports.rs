//! Checks of a hypervisor: every port judged, every machine known.

use super::Finding;
use super::facts::Facts;

/// Names that are listed at most.
const LISTED: usize = 8;

pub(super) fn bridge(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "bridge";
    let Some(bridge) = &facts.trunk else {
        return Vec::new();
    };
    vec![match facts.trunk_link() {
        None => Finding::error(
            NAME,
            format!("there is no interface {bridge}"),
            "no port of it can be judged",
            "ip link; set hypervisor_bridge to the bridge's name",
        ),
        Some(_) => Finding::ok(NAME, format!("{bridge} is there")),
    }]
}

pub(super) fn programs(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "ports";
    const WHY: &str = "what is forged there is not dropped where it comes in";
    let Some(ports) = facts.ports.as_ref() else {
        return Vec::new();
    };
    let Some(ports) = ports else {
        return vec![Finding::error(
            NAME,
            "no generation of a hypervisor is applied here",
            "nothing judges the frames of tenants",
            "bulkhead apply",
        )];
    };
    let mut bare: Vec<&str> = ports.bare.iter().map(String::as_str).collect();
    bare.sort_unstable();
    vec![if bare.is_empty() {
        let judged = ports.ports.access.len();
        Finding::ok(
            NAME,
            format!("programs on the uplink and on {judged} ports"),
        )
    } else {
        let found = format!("no programs on {}", listed(&bare));
        Finding::error(NAME, found, WHY, "bulkhead run, which attaches them")
    }]
}

pub(super) fn machines(facts: &Facts) -> Vec<Finding> {
    const NAME: &str = "machines";
    let Some(Some(ports)) = facts.ports.as_ref() else {
        return Vec::new();
    };
    let access = || ports.ports.access.values();
    let mut findings = Vec::new();
    let foreign: Vec<&str> = access()
        .filter(|port| port.is_foreign && port.who.is_err())
        .map(|port| port.name.as_str())
        .collect();
    if !foreign.is_empty() {
        findings.push(Finding::error(
            NAME,
            format!("neither the uplink nor a machine's: {}", listed(&foreign)),
            "nothing passes there, and no plan is applied",
            "ip link set PORT nomaster, or name it in hypervisor_uplink_port",
        ));
    }
    let unknown: Vec<String> = access()
        .filter(|port| !port.is_foreign)
        .filter_map(|port| Some(format!("{} ({})", port.name, port.who.as_ref().err()?)))
        .collect();
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        findings.push(Finding::warning(
            NAME,
            format!("unknown: {}", listed(&unknown)),
            "nothing passes there",
            "add the machine to the inventory, or say whose it is: ip link set PORT alias \"bulkhead mac=MAC\"",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(NAME, "every machine is known"));
    }
    findings
}

fn listed(names: &[&str]) -> String {
    let mut text = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}
