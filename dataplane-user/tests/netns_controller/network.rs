//! What is beside the programs: the trunk, devices and sysctls, the uplinks' table; and what others have put in their way.

use nix::sys::signal::Signal;
use testkit::kernel_vlan::vlan_devices_available;

use crate::lab::{Lab, TRUNK};
use crate::traffic::Attack;

#[test]
fn what_is_in_the_way_refuses_an_apply_which_names_the_remedy() {
    let lab = Lab::with_devices();
    lab.router.add_bridge("eth0.100").unwrap();
    let gateway = "10.101.0.1".parse().unwrap();
    lab.router.add_address(TRUNK, gateway, 24).unwrap();
    for words in [&["plan"][..], &["apply", "--yes"]] {
        let said = lab.bulkhead(words).expect(1);
        for part in [
            "refused: the device of VLAN 100 is to be called eth0.100, and another link is",
            "help: ip link set eth0.100 name OTHER",
            "refused: 10.101.0.1 belongs on eth0.101, and is on eth0",
            "help: ip address delete 10.101.0.1/24 dev eth0",
        ] {
            assert!(said.out.contains(part), "{part}: {}", said.out);
        }
    }
    assert!(!lab.path("store").exists());
    assert!(!lab.pins().is_in_use());
}

#[test]
fn trunk_that_is_renamed_is_followed() {
    let lab = Lab::with_everything();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    lab.router.set_down(TRUNK).unwrap();
    lab.tool("ip link set eth0 name wan0");
    run.wait_until_it_says("eth0 is called wan0 now, and eth0 as well");
    lab.router.set_up("wan0").unwrap();
    lab.settles();
    lab.bulkhead(&["status"]).expect(0);
    let attack = Attack::begin(&lab);
    lab.withdraw_offer();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
    attack.end();
    // What is lost is put back.
    lab.lose_an_endpoint();
    run.signal(Signal::SIGHUP);
    run.wait_until_it_says("repaired, as generation 3");
    lab.settles();
}

#[test]
fn port_that_nobody_explains_refuses_an_apply_until_it_is_out_of_the_bridge() {
    let lab = Lab::new();
    lab.configure("hypervisor = \"hv01\"\n");
    lab.router.delete_link(TRUNK).unwrap();
    lab.router.add_bridge(TRUNK).unwrap();
    // Neither the uplink, nor the end of a machine's cable.
    lab.tool("ip link add port7 type vxlan id 7 dstport 4789");
    lab.tool("ip link set port7 master eth0");
    let said = lab.bulkhead(&["apply", "--yes"]).expect(1);
    for part in [
        "refused: port7 is a port of a bridge",
        "help: ip link set port7 nomaster",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!lab.pins().is_in_use());
    lab.tool("ip link set port7 nomaster");
    lab.bulkhead(&["plan"]).expect(2);
}

#[test]
fn native_xdp_that_is_wanted_finds_the_tags_in_the_frames_from_the_first_apply_on() {
    let lab = Lab::managing("manage = [\"offloads\"]\nnative_xdp = true");
    lab.router.set_rx_vlan_offload(TRUNK, true).unwrap();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let status = lab.json(&["status"]);
    assert_eq!(
        (&status["mode"], &status["rx_vlan_offload"]),
        (&"xdp-native".into(), &false.into()),
        "{status}"
    );
}

#[test]
fn trunk_that_is_not_there_yet_is_waited_for() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    // A reboot: nothing is attached, and the NIC has not got its name yet.
    lab.bulkhead(&["detach", "--yes"]).expect(0);
    lab.router.set_down(TRUNK).unwrap();
    lab.tool("ip link set eth0 name raw0");
    let run = lab.start(&["run"]);
    run.wait_until_it_says("what is enforced stays");
    assert_eq!(lab.enforced(), 0);
    lab.tool("ip link set raw0 name eth0");
    lab.router.set_up(TRUNK).unwrap();
    run.wait_until_it_says("enforcing generation 1 on eth0");
    assert_eq!(lab.enforced(), 1);
    lab.bulkhead(&["status"]).expect(0);
}

#[test]
fn foreign_hand_in_the_network_is_drift_which_run_repairs() {
    let lab = Lab::with_everything();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let mut hands = vec![
        (
            "nft flush chain inet bulkhead to_uplink",
            "+ nat rules of chain to_uplink",
        ),
        (
            "sysctl -w net/ipv4/conf/eth0/rp_filter=0",
            "~ sysctls of eth0: ipv4.rp_filter 0 -> 1",
        ),
    ];
    if vlan_devices_available().unwrap() {
        hands.extend([
            ("ip link set eth0.100 down", "~ eth0.100 down -> up"),
            (
                "ip address delete 10.101.0.1/24 dev eth0.101",
                "+ address 10.101.0.1/24 on eth0.101",
            ),
        ]);
    }
    let meddle = || {
        for (hand, _) in &hands {
            lab.tool(hand);
        }
    };
    meddle();
    let drift = lab.bulkhead(&["drift"]).expect(2);
    for (hand, seen) in &hands {
        assert!(drift.out.contains(seen), "{hand}: {}", drift.out);
    }
    let run = lab.start(&["run"]);
    run.wait_until_it_says("enforcing generation 1");
    lab.settles();
    // While it runs, too.
    meddle();
    run.signal(Signal::SIGHUP);
    lab.settles();
    assert_eq!(lab.enforced(), 1, "the policy is what it was");
}
