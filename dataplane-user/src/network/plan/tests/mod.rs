//! Tables of rows: one for each kind of change, and for each thing that is not touched.

mod kernel;
mod property;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::network::desired::{DesiredBridge, DesiredRouter, Device};
use crate::network::observed::{Address, BridgeVlan, Kind, Origin, link_local};
use crate::network::settings::Manage;
use crate::network::sysctl::{ALL, DEVICE, FORWARDING};
use crate::network::{GROUP, NetworkSettings};

const TRUNK: u32 = 2;
const DEVICE_100: u32 = 10;
const MAC: [u8; 6] = [0, 0xe0, 0x4c, 0x29, 0x1e, 0x50];

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        altnames: BTreeSet::new(),
        alias: None,
        kind: Kind::Other,
        controller: None,
        group: 0,
        mac: Some(MAC),
        mtu: 1500,
        up: true,
        running: true,
        addresses: Vec::new(),
        sysctls: DEVICE.iter().copied().collect(),
        vlans: Default::default(),
    }
}

fn vlan(index: u32, name: &str, vlan_id: u16) -> Link {
    let mut device = link(index, name);
    device.kind = Kind::Vlan {
        parent: Some(TRUNK),
        vlan_id,
    };
    device.group = GROUP;
    device.addresses = vec![kernel_address()];
    device
}

fn kernel_address() -> Address {
    Address {
        net: format!("{}/64", link_local(MAC)).parse().unwrap(),
        origin: Origin::Kernel,
    }
}

fn address(text: &str, origin: Origin) -> Address {
    let net = text.parse().unwrap();
    Address { net, origin }
}

/// VLAN 100 of eth1, with two addresses.
fn wanted() -> Desired {
    let device = Device {
        name: "eth1.100".to_owned(),
        segment: "grooveiq".to_owned(),
        mtu: 1500,
        addresses: ["10.100.0.1/24", "fd00:100::1/64"]
            .map(|text| text.parse().unwrap())
            .into(),
    };
    Desired {
        manage: Manage::default(),
        router: Some(DesiredRouter {
            trunk: "eth1".to_owned(),
            tags_in_frames: false,
            devices: [(100, device)].into(),
        }),
        bridge: None,
    }
}

fn observed_of(links: impl IntoIterator<Item = Link>) -> Observed {
    Observed {
        links: links.into_iter().map(|link| (link.index, link)).collect(),
        sysctls: ALL.iter().chain(FORWARDING).copied().collect(),
        rx_vlan_offload: Some(false),
    }
}

/// The kernel as [`wanted`] wants it.
fn settled() -> Observed {
    let mut device = vlan(DEVICE_100, "eth1.100", 100);
    device.addresses.extend([
        address("10.100.0.1/24", Origin::Ours),
        address("fd00:100::1/64", Origin::Ours),
    ]);
    observed_of([link(1, "lo"), link(TRUNK, "eth1"), device])
}

fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

fn conflicts(plan: &NetworkPlan) -> Vec<&str> {
    plan.conflicts.iter().map(|c| c.object.as_str()).collect()
}

/// What an edit of the settled world is answered with: prepare, open, after.
type Answer = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

fn check(
    what: &str,
    edit: impl FnOnce(&mut Desired, &mut Observed),
    (prepare, open, after): Answer,
) {
    let (mut desired, mut observed) = (wanted(), settled());
    edit(&mut desired, &mut observed);
    let plan = plan(&desired, &observed);
    assert_eq!(texts(plan.prepare()), prepare, "{what}: prepare");
    assert_eq!(texts(plan.open()), open, "{what}: open");
    assert_eq!(texts(plan.after_flip()), after, "{what}: after");
    assert_eq!(plan.conflicts, [], "{what}");
}

fn device(observed: &mut Observed) -> &mut Link {
    observed.links.get_mut(&DEVICE_100).unwrap()
}

fn trunk(observed: &mut Observed) -> &mut Link {
    observed.links.get_mut(&TRUNK).unwrap()
}

fn segment(desired: &mut Desired) -> &mut Device {
    let router = desired.router.as_mut().unwrap();
    router.devices.get_mut(&100).unwrap()
}

fn set(link: &mut Link, name: &str, value: i32) {
    let (key, _) = DEVICE
        .iter()
        .find(|(key, _)| key.to_string() == name)
        .unwrap();
    link.sysctls.insert(*key, value);
}

#[test]
fn settled_world_needs_nothing() {
    check("nothing", |_, _| {}, (&[], &[], &[]));
}

#[test]
fn new_segment_gets_a_device_that_comes_up_last() {
    let edit = |_: &mut Desired, observed: &mut Observed| {
        observed.links.remove(&DEVICE_100);
        observed
            .sysctls
            .extend(FORWARDING.iter().map(|(key, _)| (*key, 0)));
        trunk(observed).up = false;
    };
    let prepare: &[&str] = &[
        "+ vlan device eth1.100 \"grooveiq\" mtu 1500",
        "~ sysctls of eth1.100: the 19 of isolation",
        "+ address 10.100.0.1/24 on eth1.100",
        "+ address fd00:100::1/64 on eth1.100",
    ];
    let open: &[&str] = &[
        "~ eth1 down -> up",
        "~ eth1.100 down -> up",
        "~ sysctls of all devices: ipv4.forwarding 0 -> 1, ipv6.forwarding 0 -> 1",
    ];
    check("new", edit, (prepare, open, &[]));
}

#[test]
fn segment_that_is_gone_loses_its_device_after_the_flip() {
    let edit = |desired: &mut Desired, _: &mut Observed| {
        desired.router.as_mut().unwrap().devices.clear();
    };
    let after: &[&str] = &["~ eth1.100 up -> down", "- vlan device eth1.100"];
    check("gone", edit, (&[], &[], after));
}

#[test]
fn drift_of_a_device_is_put_right() {
    check(
        "down",
        |_, o| device(o).up = false,
        (&[], &["~ eth1.100 down -> up"], &[]),
    );
    check(
        "mtu",
        |_, o| device(o).mtu = 1400,
        (&["~ eth1.100 mtu 1400 -> 1500"], &[], &[]),
    );
    check(
        "a sysctl",
        |_, o| set(device(o), "ipv6.accept_ra", 1),
        (&["~ sysctls of eth1.100: ipv6.accept_ra 1 -> 0"], &[], &[]),
    );
    check(
        "address gone",
        |_, o| device(o).addresses.retain(|a| a.net.addr().is_ipv6()),
        (&["+ address 10.100.0.1/24 on eth1.100"], &[], &[]),
    );
    check(
        "link-local address gone",
        |_, o| device(o).addresses.retain(|a| a.origin != Origin::Kernel),
        (
            &["+ address fe80::2e0:4cff:fe29:1e50/64 on eth1.100"],
            &[],
            &[],
        ),
    );
    check(
        "another address of ours",
        |_, o| {
            device(o)
                .addresses
                .push(address("10.9.9.9/24", Origin::Ours))
        },
        (&[], &[], &["- address 10.9.9.9/24 on eth1.100"]),
    );
    check(
        "another prefix length",
        |desired, _| {
            let addresses = &mut segment(desired).addresses;
            *addresses = ["10.100.0.1/25", "fd00:100::1/64"]
                .map(|t| t.parse().unwrap())
                .into();
        },
        (&["~ address 10.100.0.1/24 -> /25 on eth1.100"], &[], &[]),
    );
}

#[test]
fn device_without_a_carrier_has_no_link_local_address_yet() {
    let edit = |_: &mut Desired, observed: &mut Observed| {
        device(observed).running = false;
        device(observed)
            .addresses
            .retain(|a| a.origin != Origin::Kernel);
    };
    check("no carrier", edit, (&[], &[], &[]));
}

#[test]
fn trunk_is_made_fit_and_no_more() {
    check(
        "larger segment: the trunk first",
        |d, _| segment(d).mtu = 9000,
        (
            &["~ eth1 mtu 1500 -> 9000", "~ eth1.100 mtu 1500 -> 9000"],
            &[],
            &[],
        ),
    );
    check("larger trunk", |_, o| trunk(o).mtu = 9000, (&[], &[], &[]));
    check(
        "a sysctl",
        |_, o| set(trunk(o), "ipv4.rp_filter", 0),
        (&["~ sysctls of eth1: ipv4.rp_filter 0 -> 1"], &[], &[]),
    );
    check(
        "redirects",
        |_, o| o.sysctls.extend(ALL.iter().map(|(key, _)| (*key, 1))),
        (
            &["~ sysctls of all devices: ipv4.send_redirects 1 -> 0"],
            &[],
            &[],
        ),
    );
    check(
        "hidden tags, TC",
        |_, o| o.rx_vlan_offload = Some(true),
        (&[], &[], &[]),
    );
    check(
        "hidden tags, native XDP",
        |desired, observed| {
            desired.router.as_mut().unwrap().tags_in_frames = true;
            observed.rx_vlan_offload = Some(true);
        },
        (&["~ eth1 rxvlan on -> off"], &[], &[]),
    );
}

#[test]
fn trunk_of_another_name_gets_new_devices_and_the_old_ones_go() {
    let edit = |_: &mut Desired, observed: &mut Observed| {
        // What was eth1 is eth7, with our device on it.
        trunk(observed).name = "eth7".to_owned();
        device(observed).name = "eth7.100".to_owned();
        let new = link(3, "eth1");
        observed.links.insert(3, new);
    };
    let (mut desired, mut observed) = (wanted(), settled());
    edit(&mut desired, &mut observed);
    let plan = plan(&desired, &observed);
    assert_eq!(
        texts(plan.prepare())[0],
        "+ vlan device eth1.100 \"grooveiq\" mtu 1500"
    );
    let after = ["~ eth7.100 up -> down", "- vlan device eth7.100"];
    assert_eq!(texts(plan.after_flip()), after);
    // The same, but the old device has the name that the new one needs.
    device(&mut observed).name = "eth1.100".to_owned();
    let plan = super::plan(&desired, &observed);
    let first = ["~ eth1.100 up -> down", "- vlan device eth1.100"];
    assert_eq!(texts(plan.prepare())[..2], first);
    assert_eq!(
        texts(plan.prepare())[2],
        "+ vlan device eth1.100 \"grooveiq\" mtu 1500"
    );
    assert_eq!(texts(plan.after_flip()), [""; 0]);
}

#[test]
fn renamed_device_is_still_ours() {
    let edit = |_: &mut Desired, observed: &mut Observed| {
        device(observed).name = "grooveiq".to_owned();
        device(observed).mtu = 1400;
    };
    check(
        "renamed",
        edit,
        (&["~ grooveiq mtu 1400 -> 1500"], &[], &[]),
    );
}

#[test]
fn small_segment_has_no_sysctls_of_ipv6() {
    let edit = |desired: &mut Desired, observed: &mut Observed| {
        segment(desired).mtu = 1000;
        device(observed).mtu = 1000;
        let keys = DEVICE.iter().map(|(key, _)| *key);
        let v6 = keys.filter(|key| key.to_string().starts_with("ipv6"));
        for key in v6 {
            device(observed).sysctls.remove(&key);
        }
        device(observed)
            .addresses
            .retain(|a| a.origin != Origin::Kernel);
    };
    check("small", edit, (&[], &[], &[]));
}

fn refused(edit: impl FnOnce(&mut Desired, &mut Observed)) -> NetworkPlan {
    let (mut desired, mut observed) = (wanted(), settled());
    edit(&mut desired, &mut observed);
    let plan = plan(&desired, &observed);
    for conflict in &plan.conflicts {
        assert!(
            !conflict.remedy.is_empty() && conflict.what.contains(&conflict.object)
                || conflict.object.contains('/')
        );
    }
    plan
}

#[test]
fn foreign_objects_are_conflicts_and_not_touched() {
    let plan = refused(|_, o| device(o).group = 0);
    assert_eq!(
        (conflicts(&plan), plan.is_empty()),
        (vec!["eth1.100"], true)
    );
    assert!(
        plan.conflicts[0]
            .to_string()
            .contains("that bulkhead did not make (remedy: ip link delete eth1.100")
    );

    let plan = refused(|_, o| {
        device(o).kind = Kind::Other;
        device(o).group = 0;
    });
    assert_eq!(
        (conflicts(&plan), plan.is_empty()),
        (vec!["eth1.100"], true)
    );

    let plan = refused(|_, o| {
        let mut other = link(20, "other");
        other.altnames.insert("eth1.100".to_owned());
        o.links.remove(&DEVICE_100);
        o.links.insert(20, other);
    });
    assert_eq!(
        (conflicts(&plan), plan.is_empty()),
        (vec!["eth1.100"], true)
    );

    let plan = refused(|d, _| d.router.as_mut().unwrap().trunk = "eth9".to_owned());
    assert_eq!((conflicts(&plan), plan.is_empty()), (vec!["eth9"], true));

    let plan = refused(|_, o| {
        device(o).addresses.retain(|a| a.net.addr().is_ipv6());
        trunk(o)
            .addresses
            .push(address("10.100.0.1/24", Origin::Foreign));
    });
    assert_eq!(
        (conflicts(&plan), plan.is_empty()),
        (vec!["10.100.0.1/24"], true)
    );

    let plan = refused(|_, o| device(o).addresses[2] = address("fd00:100::1/48", Origin::Foreign));
    assert_eq!(
        (conflicts(&plan), plan.is_empty()),
        (vec!["fd00:100::1/48"], true)
    );
}

#[test]
fn foreign_device_of_a_vlan_that_is_gone_stays() {
    let plan = refused(|desired, observed| {
        desired.router.as_mut().unwrap().devices.clear();
        device(observed).group = 0;
    });
    assert_eq!(plan, NetworkPlan::default());
}

#[test]
fn foreign_address_on_a_device_of_ours_is_told_and_stays() {
    let plan = refused(|_, o| {
        device(o)
            .addresses
            .push(address("10.9.9.9/24", Origin::Foreign))
    });
    assert!(plan.is_empty() && plan.conflicts.is_empty());
    assert_eq!(plan.foreign.len(), 1);
    assert_eq!(plan.foreign[0].object, "10.9.9.9/24");
}

#[test]
fn address_that_is_there_already_satisfies_whoever_added_it() {
    let edit = |_: &mut Desired, observed: &mut Observed| {
        device(observed).addresses[1] = address("10.100.0.1/24", Origin::Foreign);
    };
    check("foreign, but right", edit, (&[], &[], &[]));
}

#[test]
fn forwarding_waits_for_an_uplink_that_lives_by_router_advertisements() {
    let plan = refused(|_, o| {
        o.sysctls
            .extend(FORWARDING.iter().map(|(key, _)| (*key, 0)));
        // Forwarding on one device is enough for Linux to forget the routes of the uplink.
        set(device(o), "ipv6.forwarding", 0);
        let mut uplink = link(30, "wan0");
        set(&mut uplink, "ipv6.accept_ra", 1);
        uplink
            .addresses
            .push(address("2001:db8::5/64", Origin::RouterAdvertisement));
        o.links.insert(30, uplink);
    });
    assert_eq!(
        texts(plan.changes()),
        ["~ sysctls of all devices: ipv4.forwarding 0 -> 1"]
    );
    assert_eq!(conflicts(&plan), ["wan0"]);
}

#[test]
fn what_is_not_managed_is_left_alone() {
    let broken = |o: &mut Observed| {
        o.rx_vlan_offload = Some(true);
        trunk(o).up = false;
        device(o).mtu = 1400;
        set(device(o), "ipv4.rp_filter", 0);
        device(o).addresses.clear();
        device(o).group = 0;
    };
    let plan_with = |words: &str| {
        let settings: NetworkSettings = toml::from_str(words).unwrap();
        refused(|desired, observed| {
            desired.manage = settings.manage;
            desired.router.as_mut().unwrap().tags_in_frames = true;
            broken(observed);
        })
    };
    assert_eq!(plan_with("manage = []"), NetworkPlan::default());
    let rows: [(&str, &[&str]); 3] = [
        (
            "manage = [\"sysctls\"]",
            &["~ sysctls of eth1.100: ipv4.rp_filter 0 -> 1"],
        ),
        ("manage = [\"offloads\"]", &["~ eth1 rxvlan on -> off"]),
        (
            "manage = [\"addresses\"]",
            &[
                "+ address 10.100.0.1/24 on eth1.100",
                "+ address fd00:100::1/64 on eth1.100",
                "+ address fe80::2e0:4cff:fe29:1e50/64 on eth1.100",
            ],
        ),
    ];
    for (words, changes) in rows {
        assert_eq!(texts(plan_with(words).changes()), changes, "{words}");
    }
}

fn bridge_world() -> (Desired, Observed) {
    let desired = Desired {
        bridge: Some(DesiredBridge {
            name: "vmbr0".to_owned(),
            uplink_port: Some("nic0".to_owned()),
            vlans: [10, 11, 100].into(),
            access: BTreeMap::new(),
        }),
        ..Desired::default()
    };
    let mut bridge = link(5, "vmbr0");
    bridge.kind = Kind::Bridge {
        vlan_filtering: true,
        default_pvid: 0,
    };
    let mut port = link(6, "nic0");
    port.controller = Some(5);
    port.vlans = [10, 11, 100]
        .map(|vlan| (vlan, BridgeVlan::default()))
        .into();
    (desired, observed_of([bridge, port]))
}

const LEAK: BridgeVlan = BridgeVlan {
    pvid: true,
    untagged: true,
};

#[test]
fn bridge_as_proxmox_leaves_it_carries_the_segments_and_nothing_else() {
    let (desired, mut observed) = bridge_world();
    assert!(plan(&desired, &observed).is_empty());
    observed.links.get_mut(&5).unwrap().kind = Kind::Bridge {
        vlan_filtering: false,
        default_pvid: 1,
    };
    let port = observed.links.get_mut(&6).unwrap();
    port.vlans = (2..=50).map(|vlan| (vlan, BridgeVlan::default())).collect();
    port.vlans.insert(1, LEAK);
    port.vlans.insert(
        11,
        BridgeVlan {
            pvid: false,
            untagged: true,
        },
    );
    let plan = plan(&desired, &observed);
    assert_eq!(texts(plan.prepare()), ["+ vlan 100 on nic0"]);
    assert_eq!(texts(plan.open()), ["~ vmbr0 vlan_filtering off -> on"]);
    let after = [
        "~ vmbr0 vlan_default_pvid 1 -> none",
        "~ vlan 11 on nic0 untagged -> tagged",
        "- vlan 1-9,12-50 on nic0",
    ];
    assert_eq!(texts(plan.after_flip()), after);
    assert_eq!(plan.conflicts, []);
}

#[test]
fn host_behind_the_untagged_side_of_its_bridge_is_not_cut_off() {
    let (desired, mut observed) = bridge_world();
    let bridge = observed.links.get_mut(&5).unwrap();
    bridge.kind = Kind::Bridge {
        vlan_filtering: true,
        default_pvid: 1,
    };
    bridge.vlans.insert(1, LEAK);
    bridge
        .addresses
        .push(address("192.0.2.10/24", Origin::Foreign));
    observed.links.get_mut(&6).unwrap().vlans.insert(1, LEAK);
    let plan = plan(&desired, &observed);
    assert_eq!((plan.is_empty(), conflicts(&plan)), (true, vec!["vmbr0"]));
}

#[test]
fn host_that_lives_by_untagged_frames_is_a_conflict_whatever_is_managed() {
    let (mut desired, mut observed) = bridge_world();
    desired.manage = Manage::NOTHING;
    let bridge = observed.links.get_mut(&5).unwrap();
    bridge
        .addresses
        .push(address("192.0.2.10/24", Origin::Foreign));
    assert_eq!(
        conflicts(&plan(&desired, &observed)),
        [""; 0],
        "its side is tagged"
    );
    observed.links.get_mut(&5).unwrap().kind = Kind::Bridge {
        vlan_filtering: false,
        default_pvid: 0,
    };
    let plan = plan(&desired, &observed);
    assert_eq!((plan.is_empty(), conflicts(&plan)), (true, vec!["vmbr0"]));
}

/// As the host of [`bridge_world`], with an address on VLAN 99 of its bridge.
fn host_on_vlan_99() -> (Desired, Observed) {
    let (desired, mut observed) = bridge_world();
    let mut device = link(8, "vmbr0.99");
    device.kind = Kind::Vlan {
        parent: Some(5),
        vlan_id: 99,
    };
    device.addresses = vec![kernel_address()];
    device
        .addresses
        .push(address("192.0.2.10/24", Origin::Foreign));
    observed.links.insert(8, device);
    (desired, observed)
}

fn own_side(observed: &mut Observed, filters: bool, how: Option<BridgeVlan>) {
    let bridge = observed.links.get_mut(&5).unwrap();
    bridge.kind = Kind::Bridge {
        vlan_filtering: filters,
        default_pvid: 0,
    };
    bridge.vlans = how.map(|how| (99, how)).into_iter().collect();
}

fn carry_99(desired: &mut Desired) {
    desired.bridge.as_mut().unwrap().vlans.insert(99);
}

/// The changes of the plan, and what its conflicts are about.
fn told(desired: &Desired, observed: &Observed) -> (Vec<String>, String) {
    let plan = plan(desired, observed);
    (texts(plan.changes()), conflicts(&plan).join(" "))
}

#[test]
fn host_on_a_vlan_of_a_bridge_that_begins_to_filter_is_not_cut_off() {
    let refused = (Vec::new(), "vmbr0.99".to_owned());
    let (mut desired, mut observed) = host_on_vlan_99();
    own_side(&mut observed, false, None);
    assert_eq!(told(&desired, &observed), refused, "neither");
    carry_99(&mut desired);
    assert_eq!(told(&desired, &observed), refused, "no entry of its own");
    own_side(&mut observed, false, Some(LEAK));
    assert_eq!(told(&desired, &observed), refused, "tags are taken off");
    own_side(&mut observed, false, Some(BridgeVlan::default()));
    let changes = ["+ vlan 99 on nic0", "~ vmbr0 vlan_filtering off -> on"];
    let done = (Vec::from(changes.map(str::to_owned)), String::new());
    assert_eq!(told(&desired, &observed), done);
    // A bridge over the device has the address.
    own_side(&mut observed, false, None);
    let mut over = link(9, "vmbr99");
    (over.kind, over.addresses) = (observed.links[&5].kind, vec![kernel_address()]);
    over.addresses
        .push(address("192.0.2.10/24", Origin::Foreign));
    observed.links.insert(9, over);
    let device = observed.links.get_mut(&8).unwrap();
    (device.controller, device.addresses) = (Some(9), Vec::new());
    let refused = (Vec::new(), "vmbr99".to_owned());
    assert_eq!(told(&desired, &observed), refused, "a bridge over it");
    observed.links.get_mut(&9).unwrap().addresses = vec![kernel_address()];
    assert_eq!(told(&desired, &observed), done, "nobody lives there");
}

#[test]
fn host_on_a_vlan_that_is_no_segment_is_not_cut_off() {
    let refused = (Vec::new(), "vmbr0.99".to_owned());
    let (mut desired, mut observed) = host_on_vlan_99();
    assert_eq!(
        told(&desired, &observed),
        (Vec::new(), String::new()),
        "its frames do not come through as it is"
    );
    own_side(&mut observed, true, Some(BridgeVlan::default()));
    assert_eq!(
        told(&desired, &observed),
        (Vec::new(), String::new()),
        "nor do they over the uplink"
    );
    let port = observed.links.get_mut(&6).unwrap();
    port.vlans.insert(99, BridgeVlan::default());
    assert_eq!(told(&desired, &observed), refused);
    // The programs drop the VLAN, too.
    desired.manage = Manage::NOTHING;
    assert_eq!(told(&desired, &observed), refused, "nothing is managed");
    desired.manage = Manage::default();
    carry_99(&mut desired);
    assert_eq!(told(&desired, &observed), (Vec::new(), String::new()));
}

#[test]
fn port_of_a_machine_is_put_right_though_the_host_would_be_cut_off() {
    let (mut desired, mut observed) = host_on_vlan_99();
    own_side(&mut observed, false, None);
    let mut port = link(7, "tap101i0");
    port.controller = Some(5);
    observed.links.insert(7, port);
    desired.bridge.as_mut().unwrap().access.insert(7, 100);
    let changes = vec!["~ vlan 100 on tap101i0 is that of its machine".to_owned()];
    assert_eq!(told(&desired, &observed), (changes, "vmbr0.99".to_owned()));
}

#[test]
fn port_of_a_known_machine_is_in_its_vlan_and_in_no_other() {
    let (mut desired, mut observed) = bridge_world();
    let mut port = link(7, "tap101i0");
    port.controller = Some(5);
    port.vlans = (2..=4094)
        .map(|vlan| (vlan, BridgeVlan::default()))
        .collect();
    port.vlans.insert(1, LEAK);
    observed.links.insert(7, port);
    assert!(plan(&desired, &observed).is_empty(), "nobody knows it");
    desired.bridge.as_mut().unwrap().access.insert(7, 100);
    let plan = plan(&desired, &observed);
    let said = ["~ vlan 100 on tap101i0 is that of its machine"];
    assert_eq!(texts(plan.open()), said);
    assert_eq!(
        texts(plan.after_flip()),
        ["- vlan 1-99,101-4094 on tap101i0"]
    );
    observed.links.get_mut(&7).unwrap().vlans = [(100, LEAK)].into();
    assert!(super::plan(&desired, &observed).is_empty());
}

#[test]
fn bridge_or_port_that_is_not_there_is_a_conflict() {
    let (desired, mut observed) = bridge_world();
    observed.links.get_mut(&6).unwrap().controller = None;
    assert_eq!(conflicts(&plan(&desired, &observed)), ["nic0"]);
    observed.links.get_mut(&5).unwrap().kind = Kind::Other;
    assert_eq!(conflicts(&plan(&desired, &observed)), ["vmbr0"]);
}

#[test]
fn change_is_an_object_in_json() {
    let (desired, mut observed) = (wanted(), settled());
    device(&mut observed).mtu = 1400;
    let json = serde_json::to_value(plan(&desired, &observed).changes()).unwrap();
    let expected = serde_json::json!([{
        "change": "set-mtu",
        "link": { "name": "eth1.100", "index": DEVICE_100 },
        "from": 1400,
        "to": 1500,
    }]);
    assert_eq!(json, expected);
}

/// 4,094 segments, each with a device to make, and then each settled: a planner with a nested loop takes minutes.
#[test]
fn plan_of_every_vlan_is_quick() {
    let mut desired = wanted();
    let router = desired.router.as_mut().unwrap();
    let device = router.devices.remove(&100).unwrap();
    for vlan_id in 1..=4094 {
        let mut device = device.clone();
        device.name = format!("eth1.{vlan_id}");
        device.addresses = [format!("10.{}.{}.1/24", vlan_id >> 8, vlan_id & 0xff)
            .parse()
            .unwrap()]
        .into();
        router.devices.insert(vlan_id, device);
    }
    let begin = std::time::Instant::now();
    let made = plan(&desired, &observed_of([link(TRUNK, "eth1")]));
    assert_eq!(made.changes().len(), 4094 * 4);
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}
