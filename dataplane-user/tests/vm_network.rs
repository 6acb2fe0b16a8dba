//! Real VLAN devices and a real VLAN-filtering bridge: from nothing to what the sample wants, and back to it from
//! drift, with foreign objects beside.
//!
//! Needs root and a kernel with VLAN devices, so it runs in the virtual machines.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::network::{
    Desired, Event, Network, NetworkPlan, NetworkSettings, WatchOptions, desired, plan,
};
use futures_util::StreamExt;
use netmodel::model::HostId;
use netmodel::{Model, Options, load};
use testkit::fixtures;
use testkit::netns::NetNs;

fn sample() -> Result<Model> {
    let options = Options::new(fixtures::sample_site(), Some(fixtures::sample_tenants()));
    load(&options).model.context("the sample has errors")
}

fn wanted(model: &Model, host: &str) -> Result<Desired> {
    let mut hosts = model.hosts.iter();
    let at = hosts
        .position(|found| found.name.as_str() == host)
        .context("no such host")?;
    Ok(desired(
        model,
        HostId(at),
        None,
        &NetworkSettings::default(),
    ))
}

/// Runs async work on a thread inside of the namespace.
fn inside<T: Send, F: Future<Output = Result<T>>>(
    ns: &NetNs,
    work: impl FnOnce(Network) -> F + Send,
) -> Result<T> {
    ns.run(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build()?
            .block_on(async { work(Network::connect()?).await })
    })
}

fn plan_of(ns: &NetNs, desired: &Desired) -> Result<NetworkPlan> {
    let trunk = desired.router.as_ref().map_or("", |router| &router.trunk);
    inside(ns, async |network| {
        Ok(plan(desired, &network.observe(trunk).await?))
    })
}

fn texts(plan: &NetworkPlan) -> Vec<String> {
    plan.changes().iter().map(ToString::to_string).collect()
}

/// Plans, does it, and holds a second plan to be empty. Returns what was done.
fn converge(ns: &NetNs, desired: &Desired) -> Result<Vec<String>> {
    let first = plan_of(ns, desired)?;
    ensure!(first.conflicts.is_empty(), "{:?}", first.conflicts);
    inside(ns, async |network| {
        for change in first.changes() {
            network.apply(change).await?;
        }
        Ok(())
    })?;
    if let Some(router) = &desired.router {
        ns.wait_until_up(&router.trunk)?;
        for device in router.devices.values() {
            ns.wait_until_up(&device.name)?;
        }
    }
    let second = plan_of(ns, desired)?;
    ensure!(second.is_empty(), "a second plan: {:?}", texts(&second));
    Ok(texts(&first))
}

/// Runs a command of iproute2 and returns what it says.
fn ip(ns: &NetNs, words: &str) -> Result<String> {
    let mut words = words.split_whitespace();
    let mut command = ns.command(words.next().context("no program")?);
    let output = command.args(words).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

struct Router {
    ns: NetNs,
    _switch: NetNs,
    desired: Desired,
}

/// A host with nothing but the sample's trunk, which is down, and not even quiet.
fn empty_router() -> Result<Router> {
    let (ns, switch) = (NetNs::new("router")?, NetNs::new("switch")?);
    for key in ["accept_dad", "accept_ra", "autoconf"] {
        ns.sysctl(&format!("net.ipv6.conf.default.{key}"), "1")?;
    }
    ns.add_veth("eth0", &switch, "far")?;
    ns.set_mac("eth0", [0x00, 0xe0, 0x4c, 0x29, 0x1e, 0x50])?;
    switch.set_up("far")?;
    Ok(Router {
        ns,
        _switch: switch,
        desired: wanted(&sample()?, "core-rt01")?,
    })
}

#[test]
fn empty_host_gets_the_devices_of_the_sample_and_a_second_plan_is_empty() {
    let router = empty_router().unwrap();
    let done = converge(&router.ns, &router.desired).unwrap();
    assert!(
        done.contains(&"+ vlan device eth0.101 \"vintronics\" mtu 1500".to_owned()),
        "{done:?}"
    );
    let link = ip(&router.ns, "ip -d link show eth0.101").unwrap();
    for part in [
        "vlan protocol 802.1Q id 101",
        "group 1651862635",
        ",UP,",
        "mtu 1500",
    ] {
        assert!(link.contains(part), "{part}: {link}");
    }
    let addresses = ip(&router.ns, "ip address show dev eth0.101").unwrap();
    // The link-local address is the one that the program answers as.
    for part in [
        "inet 10.101.0.1/24",
        "inet6 fd00:101::1/64",
        "inet6 fe80::2e0:4cff:fe29:1e50/64",
    ] {
        assert!(addresses.contains(part), "{part}: {addresses}");
    }
    assert!(!addresses.contains("tentative"), "{addresses}");
    // The routes that come with the addresses; and the kernel routes.
    let routes = ip(&router.ns, "ip -6 route show dev eth0.101").unwrap();
    assert!(routes.contains("fd00:101::/64"), "{routes}");
    assert_eq!(
        ip(&router.ns, "cat /proc/sys/net/ipv4/ip_forward").unwrap(),
        "1\n"
    );
    // A blackhole has no device.
    assert!(ip(&router.ns, "ip link show eth0.999").is_err());
}

#[test]
fn drift_is_planned_back_and_foreign_objects_survive() {
    let router = empty_router().unwrap();
    let (ns, desired) = (&router.ns, &router.desired);
    converge(ns, desired).unwrap();
    let foreign = [
        "ip address add 192.0.2.77/24 dev eth0.101",
        "ip link add link eth0 name mine type vlan id 200",
        "ip address add 198.51.100.1/24 dev mine",
    ];
    for command in foreign {
        ip(ns, command).unwrap();
    }
    let rows: [(&str, &[&str]); 7] = [
        (
            "ip address delete 10.101.0.1/24 dev eth0.101",
            &["+ address 10.101.0.1/24 on eth0.101"],
        ),
        (
            "ip link set eth0.101 down",
            &[
                "+ address fd00:101::1/64 on eth0.101",
                "~ eth0.101 down -> up",
            ],
        ),
        (
            "ip link set eth0.101 mtu 1400",
            &["~ eth0.101 mtu 1400 -> 1500"],
        ),
        (
            "ip address delete fe80::2e0:4cff:fe29:1e50/64 dev eth0.101",
            &["+ address fe80::2e0:4cff:fe29:1e50/64 on eth0.101"],
        ),
        (
            "sysctl -w net/ipv4/conf/eth0.101/rp_filter=0",
            &["~ sysctls of eth0.101: ipv4.rp_filter 0 -> 1"],
        ),
        (
            "ip link set eth0.101 addrgenmode none",
            &["~ sysctls of eth0.101: ipv6.addr_gen_mode 1 -> 0"],
        ),
        (
            "ip link delete eth0.102",
            &[
                "+ vlan device eth0.102 \"moneyrouter\" mtu 1500",
                "~ sysctls of eth0.102: the 19 of isolation",
                "+ address 10.102.0.1/24 on eth0.102",
                "~ eth0.102 down -> up",
            ],
        ),
    ];
    for (drift, back) in rows {
        ip(ns, drift).unwrap();
        let done = converge(ns, desired).unwrap();
        assert_eq!(done, back, "{drift}");
    }
    let plan = plan_of(ns, desired).unwrap();
    let told: Vec<_> = plan
        .foreign
        .iter()
        .map(|foreign| foreign.object.as_str())
        .collect();
    assert_eq!(told, ["192.0.2.77/24"]);
    // The segment goes, and its device with it, whatever is on it; the foreign device stays.
    let mut without = desired.clone();
    without.router.as_mut().unwrap().devices.remove(&101);
    let done = converge(ns, &without).unwrap();
    assert_eq!(done, ["~ eth0.101 up -> down", "- vlan device eth0.101"]);
    assert!(
        ip(ns, "ip address show dev mine")
            .unwrap()
            .contains("198.51.100.1/24")
    );
}

#[test]
fn vlan_that_has_a_foreign_device_is_a_conflict_until_it_is_handed_over() {
    let router = empty_router().unwrap();
    let ns = &router.ns;
    ip(ns, "ip link add link eth0 name theirs type vlan id 101").unwrap();
    let plan = plan_of(ns, &router.desired).unwrap();
    let objects: Vec<_> = plan.conflicts.iter().map(|c| c.object.as_str()).collect();
    assert_eq!(objects, ["theirs"]);
    assert!(
        !texts(&plan)
            .iter()
            .any(|text| text.contains("theirs") || text.contains("eth0.101"))
    );
    // The remedy of the message.
    ip(ns, "ip link set theirs group 1651862635").unwrap();
    let mut desired = router.desired.clone();
    desired
        .router
        .as_mut()
        .unwrap()
        .devices
        .retain(|vlan, _| *vlan == 101);
    desired
        .router
        .as_mut()
        .unwrap()
        .devices
        .get_mut(&101)
        .unwrap()
        .name = "theirs".to_owned();
    let done = converge(ns, &desired).unwrap();
    assert!(
        done.contains(&"+ address 10.101.0.1/24 on theirs".to_owned()),
        "{done:?}"
    );
}

/// A bridge as `ip link add` makes it, with the leak that Proxmox writes: `bridge-vids 2-4094`.
fn hypervisor() -> Result<(NetNs, Vec<NetNs>, Desired)> {
    let ns = NetNs::new("hypervisor")?;
    let (switch, guest) = (NetNs::new("switch")?, NetNs::new("guest")?);
    ns.add_veth("nic0", &switch, "far")?;
    ns.add_veth("tap0", &guest, "eth0")?;
    for command in [
        "ip link add vmbr0 type bridge vlan_filtering 0",
        "ip link set nic0 master vmbr0",
        "ip link set tap0 master vmbr0",
        "bridge vlan add vid 2-4094 dev nic0",
        "bridge vlan del vid 1 dev tap0",
        "bridge vlan add vid 100 dev tap0 pvid untagged",
    ] {
        ip(&ns, command)?;
    }
    let desired = wanted(&sample()?, "hv01")?;
    Ok((ns, vec![switch, guest], desired))
}

const CARRIED: &str = "nic0 10 20 25 30-31 35 40 99-102";

/// What a port carries, in one line.
fn carried(ns: &NetNs, port: &str) -> Result<String> {
    let text = ip(ns, &format!("bridge -compressvlans vlan show dev {port}"))?;
    let words = text.lines().skip(1).flat_map(str::split_whitespace);
    Ok(words.collect::<Vec<_>>().join(" "))
}

#[test]
fn uplink_of_a_bridge_carries_the_segments_and_nothing_else() {
    let (ns, _others, desired) = hypervisor().unwrap();
    let done = converge(&ns, &desired).unwrap();
    assert_eq!(done[0], "~ vmbr0 vlan_filtering off -> on");
    assert_eq!(done[1], "~ vmbr0 vlan_default_pvid 1 -> none");
    assert_eq!(carried(&ns, "nic0").unwrap(), CARRIED);
    // The access port is not managed (yet), but for the default VLAN.
    assert_eq!(
        carried(&ns, "tap0").unwrap(),
        "tap0 100 PVID Egress Untagged"
    );
    let link = ip(&ns, "ip -d link show vmbr0").unwrap();
    assert!(
        link.contains("vlan_filtering 1") && link.contains("vlan_default_pvid 0"),
        "{link}"
    );
    let rows = [
        ("bridge vlan add vid 500 dev nic0", "- vlan 500 on nic0"),
        (
            "bridge vlan add vid 1 dev nic0 pvid untagged",
            "- vlan 1 on nic0",
        ),
        (
            "bridge vlan add vid 100 dev nic0 untagged",
            "~ vlan 100 on nic0 untagged -> tagged",
        ),
        ("bridge vlan del vid 20-25 dev nic0", "+ vlan 20,25 on nic0"),
        (
            "ip link set vmbr0 type bridge vlan_filtering 0",
            "~ vmbr0 vlan_filtering off -> on",
        ),
    ];
    for (drift, back) in rows {
        ip(&ns, drift).unwrap();
        assert_eq!(converge(&ns, &desired).unwrap(), [back], "{drift}");
        assert_eq!(carried(&ns, "nic0").unwrap(), CARRIED, "{drift}");
    }
}

#[test]
fn change_of_a_ports_vlans_is_an_event() {
    let (ns, _others, _) = hypervisor().unwrap();
    let done = inside(&ns, async |network| {
        let mut watch = network.watch("nic0", WatchOptions::default())?;
        while watch.next().await != Some(Event::Resync) {}
        ip(&ns, "bridge vlan del vid 77 dev nic0")?;
        let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await?;
        ensure!(event == Some(Event::Changed), "{event:?}");
        Ok(())
    });
    done.unwrap();
}

/// As many devices as asked for; the kernel is asked once for all of them.
#[test]
fn many_segments_are_made_and_found_again() {
    let wanted = std::env::var("BULKHEAD_SEGMENTS");
    let count: u16 = wanted.map_or(100, |text| text.parse().unwrap());
    let router = empty_router().unwrap();
    let mut desired = router.desired.clone();
    let devices = &mut desired.router.as_mut().unwrap().devices;
    let device = devices.remove(&101).unwrap();
    devices.clear();
    for vlan_id in 1..=count {
        let mut device = device.clone();
        device.name = format!("eth0.{vlan_id}");
        let address = format!("10.{}.{}.1/24", vlan_id >> 8, vlan_id & 0xff);
        device.addresses = [address.parse().unwrap()].into();
        devices.insert(vlan_id, device);
    }
    let begin = std::time::Instant::now();
    converge(&router.ns, &desired).unwrap();
    let made = begin.elapsed();
    let begin = std::time::Instant::now();
    let plan = plan_of(&router.ns, &desired).unwrap();
    eprintln!(
        "{count} devices: made in {made:?}, observed and planned in {:?}",
        begin.elapsed()
    );
    assert!(plan.is_empty());
}
