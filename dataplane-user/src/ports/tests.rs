//! Hypervisors as they are wired, and what is claimed of their ports.

use std::fs;
use std::path::Path;

use netmodel::{Options, load};
use tempfile::TempDir;

use super::*;
use crate::network::{Kind, Link};

/// Links, by and by.
#[derive(Default)]
struct Wiring {
    observed: Observed,
}

impl Wiring {
    fn add(&mut self, name: &str, kind: Kind, on: Option<&str>) -> &mut Link {
        let index = u32::try_from(self.observed.links.len()).unwrap() + 1;
        let controller = on.map(|name| self.index(name));
        let link = Link {
            index,
            name: name.to_owned(),
            altnames: BTreeSet::new(),
            alias: None,
            kind,
            controller,
            group: 0,
            mac: Some([0x06, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
            mtu: 1500,
            up: true,
            running: true,
            addresses: Vec::new(),
            sysctls: BTreeMap::new(),
            vlans: BTreeMap::new(),
        };
        self.observed.links.entry(index).or_insert(link)
    }

    fn index(&self, name: &str) -> u32 {
        let mut links = self.observed.links.values();
        links.find(|link| link.name == name).unwrap().index
    }

    fn bridge(&mut self, name: &str) {
        let kind = Kind::Bridge {
            vlan_filtering: true,
            default_pvid: 0,
        };
        self.add(name, kind, None);
    }

    fn vlan(&mut self, name: &str, parent: &str, on: Option<&str>) {
        let kind = Kind::Vlan {
            parent: Some(self.index(parent)),
            vlan_id: 100,
        };
        self.add(name, kind, on);
    }

    fn cable(&mut self, ends: [(&str, &str); 2]) {
        let first = u32::try_from(self.observed.links.len()).unwrap() + 1;
        for ((name, bridge), peer) in ends.into_iter().zip([first + 1, first]) {
            let kind = Kind::Veth { peer: Some(peer) };
            self.add(name, kind, Some(bridge));
        }
    }

    fn tap(&mut self, name: &str, on: &str) {
        self.add(name, Kind::Tap, Some(on));
    }

    fn alias(&mut self, name: &str, alias: &str) {
        let index = self.index(name);
        let link = self.observed.links.get_mut(&index).unwrap();
        link.alias = Some(alias.to_owned());
    }

    fn find(&self, endpoints: &Endpoints, settings: &PortSettings) -> Ports {
        let names = Names {
            bridge: "vmbr0".to_owned(),
            uplink: Some("nic0".to_owned()),
        };
        Ports::find(
            &self.observed,
            &names,
            endpoints,
            settings,
            &BTreeMap::new(),
        )
    }

    /// Names of the access ports, with no inventory.
    fn access(&self) -> Vec<String> {
        let ports = self.find(&Endpoints::default(), &nowhere());
        ports.access.into_values().map(|port| port.name).collect()
    }
}

fn nowhere() -> PortSettings {
    PortSettings {
        proxmox: "/nonexistent".into(),
        require_pool: false,
    }
}

/// One bridge with the uplink.
fn one_bridge() -> Wiring {
    let mut wiring = Wiring::default();
    wiring.bridge("vmbr0");
    wiring.add("nic0", Kind::Other, Some("vmbr0"));
    wiring
}

#[test]
fn access_ports_of_one_bridge_are_all_but_the_uplink() {
    let mut wiring = one_bridge();
    wiring.add("nic1", Kind::Other, None);
    wiring.bridge("docker0");
    wiring.tap("tap7", "docker0");
    wiring.tap("tap101i0", "vmbr0");
    wiring.add("veth102i0", Kind::Veth { peer: None }, Some("vmbr0"));
    assert_eq!(wiring.access(), ["tap101i0", "veth102i0"]);
    let ports = wiring.find(&Endpoints::default(), &nowhere());
    assert_eq!(ports.uplink, Some((2, "nic0".to_owned())));
    let own: Vec<u8> = ports.macs.iter().map(|mac| mac[5]).collect();
    assert_eq!(own, [1, 2], "the bridge and the uplink");
}

#[test]
fn bridge_per_vlan_is_found_by_its_device() {
    let mut wiring = one_bridge();
    wiring.bridge("vmbr0v100");
    wiring.vlan("nic0.100", "nic0", Some("vmbr0v100"));
    wiring.tap("tap101i0", "vmbr0v100");
    assert_eq!(wiring.access(), ["tap101i0"]);
    // The same, with the device on the bridge.
    let mut wiring = one_bridge();
    wiring.bridge("vnet1");
    wiring.vlan("vmbr0.100", "vmbr0", Some("vnet1"));
    wiring.tap("tap101i0", "vnet1");
    assert_eq!(wiring.access(), ["tap101i0"]);
}

#[test]
fn machine_behind_a_firewall_bridge_is_at_its_tap() {
    let mut wiring = one_bridge();
    wiring.bridge("fwbr101i0");
    wiring.cable([("fwpr101p0", "vmbr0"), ("fwln101i0", "fwbr101i0")]);
    wiring.tap("tap101i0", "fwbr101i0");
    assert_eq!(wiring.access(), ["tap101i0"]);
    // The far end first.
    let mut wiring = one_bridge();
    wiring.bridge("fwbr101i0");
    wiring.cable([("fwln101i0", "fwbr101i0"), ("fwpr101p0", "vmbr0")]);
    wiring.tap("tap101i0", "fwbr101i0");
    assert_eq!(wiring.access(), ["tap101i0"]);
}

#[test]
fn second_card_in_the_bridge_is_a_port_that_should_be_explained() {
    let mut wiring = one_bridge();
    wiring.add("nic1", Kind::Other, Some("vmbr0"));
    let ports = wiring.find(&Endpoints::default(), &nowhere());
    let port = ports.access.values().next().unwrap();
    assert!(port.is_foreign && port.who == Err(Unknown::Unsaid));
}

/// The sample's endpoints.
fn endpoints() -> Endpoints {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    let options = Options::new(folder.join("site"), Some(folder.join("tenants")));
    Endpoints::of(&load(&options).model.unwrap())
}

fn mac_of(endpoints: &Endpoints, name: &str) -> String {
    let mut all = endpoints.all();
    let found = all.find(|endpoint| endpoint.name == name).unwrap();
    netmodel::ids::MacAddr(found.mac).to_string()
}

fn said(ports: &Ports, name: &str) -> Result<String, String> {
    let mut access = ports.access.values();
    let port = access.find(|port| port.name == name).unwrap();
    let who = port.who.as_ref();
    who.map(|endpoint| endpoint.name.clone())
        .map_err(ToString::to_string)
}

#[test]
fn alias_says_who_is_behind_a_port() {
    let endpoints = endpoints();
    let mac = mac_of(&endpoints, "grooveiq/grooveiq-api01");
    let mut wiring = one_bridge();
    for (name, alias) in [
        ("tap1", format!("bulkhead mac={mac}")),
        ("tap2", format!("bulkhead mac={mac} or so")),
        ("tap3", "bulkhead".to_owned()),
        ("tap4", "the mail server".to_owned()),
        ("tap5", "bulkhead mac=02:00:00:00:00:99".to_owned()),
    ] {
        wiring.tap(name, "vmbr0");
        wiring.alias(name, &alias);
    }
    let ports = wiring.find(&endpoints, &nowhere());
    assert_eq!(said(&ports, "tap1").unwrap(), "grooveiq/grooveiq-api01");
    for (name, why) in [
        ("tap2", "its alias is `bulkhead mac="),
        ("tap3", "its alias is `bulkhead`"),
        ("tap4", "nobody says"),
        ("tap5", "its alias: 02:00:00:00:00:99 is no machine"),
    ] {
        let found = said(&ports, name).unwrap_err();
        assert!(found.starts_with(why), "{name}: {found}");
    }
    assert_eq!(ports.host().ports.len(), 1);
    assert_eq!(ports.host().ports.values().next().unwrap().vlan_id, 100);
}

/// A folder as Proxmox VE's: machines with their MAC, and pools.
fn proxmox(machines: &[(u32, &str)], pools: &str) -> (TempDir, PortSettings) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("qemu-server")).unwrap();
    for (id, mac) in machines {
        let text = format!("net0: virtio={mac},bridge=vmbr0,tag=101\n");
        let path = folder.path().join(format!("qemu-server/{id}.conf"));
        fs::write(path, text).unwrap();
    }
    fs::write(folder.path().join("user.cfg"), pools).unwrap();
    let settings = PortSettings {
        proxmox: folder.path().to_owned(),
        require_pool: false,
    };
    (folder, settings)
}

#[test]
fn machine_in_a_tenants_pool_is_nobody_elses() {
    let endpoints = endpoints();
    let api = mac_of(&endpoints, "grooveiq/grooveiq-api01");
    let web = mac_of(&endpoints, "vintronics/vintronics-web01");
    let own = mac_of(&endpoints, "provisioner-ph01");
    let machines = [(1, api.as_str()), (2, &web), (3, &own), (4, &own)];
    let pools = "pool:grooveiq::1,2,3::\npool:infra::4::\n";
    let (_folder, settings) = proxmox(&machines, pools);
    let mut wiring = one_bridge();
    for id in 1..=4 {
        wiring.tap(&format!("tap{id}i0"), "vmbr0");
    }
    let ports = wiring.find(&endpoints, &settings);
    assert_eq!(said(&ports, "tap1i0").unwrap(), "grooveiq/grooveiq-api01");
    for (port, claimed) in [
        ("tap2i0", "vintronics-web01"),
        ("tap3i0", "provisioner-ph01"),
    ] {
        let why = said(&ports, port).unwrap_err();
        assert!(
            why.contains(claimed) && why.contains("the pool `grooveiq`"),
            "{why}"
        );
    }
    assert_eq!(said(&ports, "tap4i0").unwrap(), "provisioner-ph01");
}

#[test]
fn machine_without_a_pool_is_anybodys_unless_pools_are_required() {
    let endpoints = endpoints();
    let api = mac_of(&endpoints, "grooveiq/grooveiq-api01");
    let (_folder, mut settings) = proxmox(&[(1, &api)], "");
    let mut wiring = one_bridge();
    wiring.tap("tap1i0", "vmbr0");
    assert!(said(&wiring.find(&endpoints, &settings), "tap1i0").is_ok());
    settings.require_pool = true;
    let why = said(&wiring.find(&endpoints, &settings), "tap1i0").unwrap_err();
    assert!(why.contains("in no pool"), "{why}");
}

#[test]
fn no_machine_is_the_router_or_a_hypervisor() {
    let endpoints = endpoints();
    for mac in ["00:e0:4c:29:1e:50", "d8:9e:f3:7d:94:c4"] {
        let mac: netmodel::ids::MacAddr = mac.parse().unwrap();
        assert_eq!(endpoints.get(mac.0), None, "{mac}");
    }
}

#[test]
fn endpoint_stays_at_the_port_that_had_it() {
    let endpoints = endpoints();
    let mac = mac_of(&endpoints, "grooveiq/grooveiq-api01");
    let mut wiring = one_bridge();
    for name in ["tap1", "tap2"] {
        wiring.tap(name, "vmbr0");
        wiring.alias(name, &format!("bulkhead mac={mac}"));
    }
    let who_has_it = |before: &[&str]| {
        let mac: netmodel::ids::MacAddr = mac.parse().unwrap();
        let before = before.iter().map(|name| (wiring.index(name), mac.0));
        let names = Names {
            bridge: "vmbr0".to_owned(),
            uplink: None,
        };
        let ports = Ports::find(
            &wiring.observed,
            &names,
            &endpoints,
            &nowhere(),
            &before.collect(),
        );
        ["tap1", "tap2"].map(|name| said(&ports, name))
    };
    let [first, second] = who_has_it(&[]);
    assert!(first.is_ok());
    let why = second.unwrap_err();
    assert!(why.ends_with("but that is tap1"), "{why}");
    let [first, second] = who_has_it(&["tap2"]);
    assert!(first.is_err() && second.is_ok());
}

#[test]
fn machine_stays_whom_it_was_while_the_configuration_cannot_be_read() {
    let endpoints = endpoints();
    let api = mac_of(&endpoints, "grooveiq/grooveiq-api01");
    let (folder, settings) = proxmox(&[(1, &api)], "pool:grooveiq::1::\n");
    let mut wiring = one_bridge();
    wiring.tap("tap1i0", "vmbr0");
    let first = wiring.find(&endpoints, &settings);
    // The cluster file system goes: an empty folder is left.
    for part in ["qemu-server/1.conf", "user.cfg"] {
        fs::remove_file(folder.path().join(part)).unwrap();
    }
    fs::remove_dir(folder.path().join("qemu-server")).unwrap();
    let why = said(&wiring.find(&endpoints, &settings), "tap1i0").unwrap_err();
    assert!(why.ends_with("is empty, or not there"), "{why}");
    let before = first.host().ports.into_iter();
    let before = before.map(|(index, plug)| (index, plug.mac)).collect();
    let names = Names {
        bridge: "vmbr0".to_owned(),
        uplink: None,
    };
    let ports = Ports::find(&wiring.observed, &names, &endpoints, &settings, &before);
    assert_eq!(said(&ports, "tap1i0").unwrap(), "grooveiq/grooveiq-api01");
    // It is there again, without that machine.
    fs::create_dir(folder.path().join("qemu-server")).unwrap();
    let ports = Ports::find(&wiring.observed, &names, &endpoints, &settings, &before);
    assert!(said(&ports, "tap1i0").is_err());
}
