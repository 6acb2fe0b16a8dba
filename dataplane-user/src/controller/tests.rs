//! Changes of the kernel as a person sees them, on kernels that are made up.

use std::path::Path;

use insta::assert_snapshot;
use netmodel::ids::VlanId;
use testkit::{fixtures, lab};

use super::*;
use crate::cli::Paint;
use crate::compile::{RouterFacts, Trunk};
use crate::loader::Mode;
use crate::network::sysctl::{ALL, DEVICE, FORWARDING, Family, Key};
use crate::network::{Address, GROUP, Kind, Link, Origin, link_local};

const TRUNK: Trunk = Trunk {
    ifindex: 2,
    mac: [0, 0xe0, 0x4c, 0x29, 0x1e, 0x50],
};
/// The generation that is current.
const CURRENT: u32 = 7;

/// The sample, with the tenant vintronics on this VLAN.
fn sample(vlan_id: u16) -> Build {
    let mut model = lab::load(&fixtures::sample()).unwrap();
    let mut segments = model.segments.iter_mut();
    let segment = segments.find(|segment| segment.vlan_id.as_u16() == 101);
    segment.unwrap().vlan_id = VlanId::new(vlan_id).unwrap();
    let facts = RouterFacts::from_model(&model);
    Build::new(model, facts).unwrap()
}

fn link(index: u32, name: &str, kind: Kind) -> Link {
    Link {
        index,
        name: name.to_owned(),
        altnames: Default::default(),
        alias: None,
        kind,
        controller: None,
        group: 0,
        mac: Some(TRUNK.mac),
        mtu: 1500,
        up: true,
        running: true,
        addresses: Vec::new(),
        sysctls: DEVICE.iter().copied().collect(),
        vlans: Default::default(),
    }
}

fn address(text: &str, origin: Origin) -> Address {
    let net = text.parse().unwrap();
    Address { net, origin }
}

/// Index of the device of a VLAN.
fn device(vlan_id: u16) -> u32 {
    1000 + u32::from(vlan_id)
}

/// A router's kernel, with the network of a generation; nothing is attached, and there is no table of the uplinks.
fn kernel(build: &Build) -> Observed {
    let settings = NetworkSettings::default();
    let desired = network::desired(&build.model, build.facts.host.unwrap(), None, &settings);
    let router = desired.router.unwrap();
    let devices = router.devices.iter().map(|(&vlan_id, wanted)| {
        let parent = Some(TRUNK.ifindex);
        let kind = Kind::Vlan { parent, vlan_id };
        let own = format!("{}/64", link_local(TRUNK.mac));
        let mut device = link(device(vlan_id), &wanted.name, kind);
        device.group = GROUP;
        device.addresses.push(address(&own, Origin::Kernel));
        let ours = wanted.addresses.iter().map(|&net| {
            let origin = Origin::Ours;
            Address { net, origin }
        });
        device.addresses.extend(ours);
        device
    });
    let trunk = link(TRUNK.ifindex, &router.trunk, Kind::Other);
    let links = devices.chain([trunk]).map(|link| (link.index, link));
    Observed {
        trunk: TRUNK,
        rx_vlan: false,
        router: build.facts.clone(),
        enforcement: Enforcement::nothing(&TRUNK),
        network: network::Observed {
            links: links.collect(),
            sysctls: ALL.iter().chain(FORWARDING).copied().collect(),
            rx_vlan_offload: Some(false),
        },
        nat: Some(nat::Observed::Absent),
        ports: None,
    }
}

fn at(observed: &mut Observed, index: u32) -> &mut Link {
    observed.network.links.get_mut(&index).unwrap()
}

/// What an apply of `new` would change, where `old` is current.
fn prepared(old: Build, new: Build, observed: Observed) -> Prepared {
    let place = Place::new("eth0", Some(Path::new("/nonexistent")), None);
    let controller = Controller::new(ControlOptions::new(place));
    let base = Some(CURRENT);
    let host = new.facts.host;
    let (network, ruleset, nat) = controller.kernel_plan(&new, host, &observed);
    let enforcement = observed.enforcement.changes(&controller.options, base, &[]);
    Prepared {
        base,
        old: Some(old),
        unreadable: None,
        forgotten: Vec::new(),
        body: Body::new(&new.model),
        new,
        host,
        inventory: "an inventory".to_owned(),
        observed,
        tables: Vec::new(),
        enforcement,
        network,
        ruleset,
        nat,
    }
}

/// A tenant gets another VLAN, after `bulkhead detach` and much else.
pub(crate) fn change() -> Prepared {
    let (old, new) = (sample(105), sample(101));
    let mut observed = kernel(&old);
    let (family, name) = (Family::V4, "rp_filter");
    let trunk = at(&mut observed, TRUNK.ifindex);
    trunk.sysctls.insert(Key { family, name }, 0);
    let management = at(&mut observed, device(99));
    let lost = address("fd00:99::1/64", Origin::Ours);
    management.addresses.retain(|found| *found != lost);
    at(&mut observed, device(100)).mtu = 1400;
    prepared(old, new, observed)
}

#[test]
fn plan_lists_what_changes_in_the_kernel() {
    let change = change();
    let text = Review::new(&change, Some(1)).to_text(Paint::PLAIN);
    assert_snapshot!(text, @r#"
    Network
      + programs on eth0 (the best mode that hides no tag)
      ~ sysctls of eth0: ipv4.rp_filter 0 -> 1
      + address fd00:99::1/64 on eth0.99
      ~ eth0.100 mtu 1400 -> 1500
      + vlan device eth0.101 "vintronics" mtu 1500
      ~ sysctls of eth0.101: the 19 of isolation
      + address 10.101.0.1/24 on eth0.101
      + address fd00:101::1/64 on eth0.101
      ~ eth0.101 down -> up
      ~ eth0.105 up -> down
      - vlan device eth0.105
      + nat table bulkhead: 14 prefixes may reach the internet, 11 are not the internet
      + nat masquerade 14 prefixes on eth1 (wan)

    vintronics
    -/+ segment main              vlan_id 105 -> 101

    Map entries: segments +1 -1, endpoints ~3, bound_macs +1 -1, prefixes ~2

    Plan: 1 to add, 0 to change, 1 to destroy, 13 on the network.
    "#);
}

#[test]
fn what_is_in_the_way_comes_first_with_its_remedy() {
    let build = sample(101);
    let mut observed = kernel(&build);
    observed.enforcement.attached = Some((Mode::Tcx, TRUNK.ifindex));
    observed.enforcement.generation = CURRENT;
    observed.nat = None;
    // Somebody made this device, and gave another one an address.
    at(&mut observed, device(100)).group = 0;
    let management = at(&mut observed, device(99));
    let given = address("192.0.2.9/24", Origin::Foreign);
    management.addresses.push(given);
    at(&mut observed, device(40)).mtu = 1400;
    let mut prepared = prepared(build.clone(), build, observed);
    let problem = "/var/lib/bulkhead/current is damaged: it is not the number of a generation";
    prepared.unreadable = Some(problem.to_owned());
    let review = Review::new(&prepared, Some(0));
    assert!(review.is_refused());
    assert_snapshot!(review.to_text(Paint::PLAIN), @r"
    note: /var/lib/bulkhead/current is damaged: it is not the number of a generation
      so what goes cannot be told from what was never there
    refused: VLAN 100 of eth0 has a device, eth0.100, that bulkhead did not make
      help: ip link delete eth0.100; or let bulkhead have it: ip link set eth0.100 group 1651862635; or leave links out of `manage` in [network] of bulkhead.toml
    note: eth0.99 has the address 192.0.2.9/24, which the inventory does not know
      help: give it to the router in the inventory, or ip address delete 192.0.2.9/24 dev eth0.99

    Network
      ~ eth0.40 mtu 1400 -> 1500

    Plan: 0 to add, 0 to change, 0 to destroy, 1 on the network.
    ");
    // As `bulkhead status` and the log of `bulkhead run --watch` have it.
    assert_snapshot!(review.refusals(), @"VLAN 100 of eth0 has a device, eth0.100, that bulkhead did not make (remedy: ip link delete eth0.100; or let bulkhead have it: ip link set eth0.100 group 1651862635; or leave links out of `manage` in [network] of bulkhead.toml)");
}
