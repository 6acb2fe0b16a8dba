//! `bulkhead doctor` on a hypervisor: a real bridge that filters VLANs, and a real VLAN device. Needs root and a kernel
//! with both, so it runs in the virtual machines.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::fixtures;
use testkit::kernel_vlan::BridgeVlan::{Tagged, Untagged};
use testkit::netns::NetNs;

/// Returns how bad each finding is, by name.
fn doctor(ns: &NetNs) -> Result<BTreeMap<String, String>> {
    let mut command = ns.command(env!("CARGO_BIN_EXE_bulkhead"));
    command.arg("doctor").args(["--format", "json"]);
    command.arg("--site").arg(fixtures::sample_site());
    command.arg("--tenants").arg(fixtures::sample_tenants());
    let told: Value = serde_json::from_slice(&command.output()?.stdout)?;
    let findings = told["findings"].as_array().context("no findings")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = findings.iter();
    Ok(found
        .map(|f| (text(&f["name"]), text(&f["severity"])))
        .collect())
}

fn severity(ns: &NetNs, name: &str) -> Result<String> {
    Ok(doctor(ns)?.remove(name).unwrap_or_default())
}

/// A bridge with a trunk port and an access port.
fn hypervisor() -> Result<NetNs> {
    let ns = NetNs::new("hypervisor")?;
    ns.add_vlan_bridge("br0")?;
    for (port, peer) in [("eno1", "a"), ("tap7", "b")] {
        ns.add_veth(port, &ns, peer)?;
        ns.set_controller(port, "br0")?;
    }
    for vlan in [100, 101] {
        ns.add_bridge_vlan("eno1", vlan, Tagged)?;
    }
    ns.add_bridge_vlan("tap7", 100, Untagged)?;
    Ok(ns)
}

#[test]
fn ports_that_carry_named_vlans_are_fine() -> Result<()> {
    let found = doctor(&hypervisor()?)?;
    assert_eq!(found["bridge-port"], "ok", "{found:?}");
    Ok(())
}

#[test]
fn port_with_every_vlan_is_found() -> Result<()> {
    let ns = hypervisor()?;
    for vlan in 2..4095 {
        ns.add_bridge_vlan("tap7", vlan, Tagged)?;
    }
    assert_eq!(severity(&ns, "bridge-port-carries-all-vlans")?, "error");
    Ok(())
}

#[test]
fn trunk_port_with_an_untagged_vlan_is_found() -> Result<()> {
    let ns = hypervisor()?;
    ns.add_bridge_vlan("eno1", 1, Untagged)?;
    assert_eq!(severity(&ns, "bridge-port-native-vlan")?, "error");
    Ok(())
}

#[test]
fn access_port_in_the_default_vlan_is_found() -> Result<()> {
    let ns = hypervisor()?;
    ns.add_veth("tap8", &ns, "c")?;
    ns.set_controller("tap8", "br0")?;
    ns.add_bridge_vlan("tap8", 1, Untagged)?;
    assert_eq!(severity(&ns, "bridge-port-default-vlan")?, "warning");
    Ok(())
}

#[test]
fn vlan_devices_on_the_trunk_are_held_against_their_segments() -> Result<()> {
    let ns = NetNs::new("router")?;
    ns.add_veth("eth0", &ns, "peer")?;
    ns.add_vlan_device("eth0", 100, "eth0.100")?;
    assert_eq!(severity(&ns, "device-mtu")?, "");
    ns.set_mtu("eth0.100", 1400)?;
    assert_eq!(severity(&ns, "device-mtu")?, "warning");
    assert_eq!(severity(&ns, "native-vlan")?, "ok");
    // The sample's native segment.
    ns.add_vlan_device("eth0", 999, "eth0.999")?;
    assert_eq!(severity(&ns, "native-vlan")?, "error");
    Ok(())
}
