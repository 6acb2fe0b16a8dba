//! The kernel's network, as far as this kernel has it: no VLAN devices, but addresses, sysctls, MTU, marks, and
//! links that come, go and are renamed. What needs VLAN devices is in `vm_network.rs`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use dataplane_user::network::sysctl::{ALL, DEVICE, FORWARDING, Key};
use dataplane_user::network::{
    Address, Change, Event, LinkRef, Network, NetworkError, Observed, Origin, SysctlChange,
    TrunkEvent, Watch, WatchOptions, link_local,
};
use futures_util::StreamExt;
use testkit::netns::NetNs;

const TRUNK: &str = "eth1";

fn pair() -> Result<(NetNs, NetNs)> {
    let (router, switch) = (NetNs::new("router")?, NetNs::new("switch")?);
    router.add_veth(TRUNK, &switch, "far")?;
    Ok((router, switch))
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

fn apply(ns: &NetNs, changes: &[Change]) -> Result<()> {
    inside(ns, async |network| {
        for change in changes {
            network.apply(change).await?;
        }
        Ok(())
    })
}

fn observe(ns: &NetNs) -> Result<Observed> {
    inside(ns, async |network| Ok(network.observe(TRUNK).await?))
}

fn link(ns: &NetNs, name: &str) -> Result<dataplane_user::network::Link> {
    let observed = observe(ns)?;
    let mut links = observed.links.into_values();
    links
        .find(|link| link.name == name)
        .with_context(|| format!("no {name}"))
}

fn link_ref(ns: &NetNs, name: &str) -> Result<LinkRef> {
    let index = Some(ns.ifindex(name)?);
    let name = name.to_owned();
    Ok(LinkRef { name, index })
}

fn sysctls(device: &str, table: &[(Key, i32)]) -> Change {
    let values = table.iter().map(|&(key, to)| SysctlChange {
        key,
        from: None,
        to,
    });
    Change::SetSysctls {
        device: device.to_owned(),
        values: values.collect(),
    }
}

#[test]
fn every_sysctl_is_written_and_read_back() {
    let (router, _switch) = pair().unwrap();
    // Another value first, for each: what is right by default proves nothing.
    let others: Vec<_> = DEVICE
        .iter()
        .map(|&(key, value)| (key, i32::from(value == 0)))
        .collect();
    apply(&router, &[sysctls(TRUNK, &others)]).unwrap();
    let found = link(&router, TRUNK).unwrap().sysctls;
    assert_eq!(found.into_iter().collect::<Vec<_>>(), sorted(others));
    apply(
        &router,
        &[
            sysctls(TRUNK, DEVICE),
            sysctls("all", ALL),
            sysctls("all", FORWARDING),
        ],
    )
    .unwrap();
    let observed = observe(&router).unwrap();
    let found = link(&router, TRUNK).unwrap().sysctls;
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        sorted(DEVICE.to_vec())
    );
    let all: Vec<_> = ALL.iter().chain(FORWARDING).copied().collect();
    assert_eq!(
        observed.sysctls.into_iter().collect::<Vec<_>>(),
        sorted(all)
    );
}

fn sorted(mut values: Vec<(Key, i32)>) -> Vec<(Key, i32)> {
    values.sort();
    values
}

#[test]
fn address_of_ours_is_marked_and_usable_at_once_and_a_foreign_one_is_told_apart() {
    let (router, switch) = pair().unwrap();
    // The namespaces are quiet; here somebody might ask whether an address is taken.
    router
        .sysctl(&format!("net.ipv6.conf.{TRUNK}.accept_dad"), "1")
        .unwrap();
    let trunk = link_ref(&router, TRUNK).unwrap();
    let add = |text: &str| Change::AddAddress {
        link: trunk.clone(),
        address: text.parse().unwrap(),
    };
    let changes = [
        add("10.100.0.1/24"),
        add("fd00:100::1/64"),
        Change::SetMtu {
            link: trunk.clone(),
            from: 1500,
            to: 1400,
        },
        Change::SetUp {
            link: trunk.clone(),
        },
    ];
    apply(&router, &changes).unwrap();
    switch.set_up("far").unwrap();
    router.wait_until_up(TRUNK).unwrap();
    let foreign: IpAddr = "192.0.2.1".parse().unwrap();
    router.add_address(TRUNK, foreign, 24).unwrap();
    let bind = |ip: &str| router.run(|| std::net::UdpSocket::bind((ip, 0)));
    assert!(bind("fd00:100::1").is_ok(), "tentative");
    let found = link(&router, TRUNK).unwrap();
    assert_eq!((found.mtu, found.up, found.running), (1400, true, true));
    let of = |origin| {
        let addresses = found
            .addresses
            .iter()
            .filter(move |a: &&Address| a.origin == origin);
        addresses.map(|a| a.net.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(Origin::Ours), ["10.100.0.1/24", "fd00:100::1/64"]);
    assert_eq!(of(Origin::Foreign), ["192.0.2.1/24"]);
    let local = format!("{}/64", link_local(router.mac(TRUNK).unwrap()));
    assert_eq!(of(Origin::Kernel), [local]);
    // Done twice is done once; then another length; then gone, and gone twice.
    apply(&router, &changes).unwrap();
    let replace = |from: &str, to: &str| Change::ReplaceAddress {
        link: trunk.clone(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
    };
    let lengths = [
        replace("10.100.0.1/24", "10.100.0.1/25"),
        replace("fd00:100::1/64", "fd00:100::1/60"),
    ];
    apply(&router, &lengths).unwrap();
    let found = link(&router, TRUNK).unwrap();
    let ours = found.addresses.iter().filter(|a| a.origin == Origin::Ours);
    let ours: Vec<_> = ours.map(|a| a.net.to_string()).collect();
    assert_eq!(ours, ["10.100.0.1/25", "fd00:100::1/60"]);
    let remove = Change::RemoveAddress {
        link: trunk.clone(),
        address: "10.100.0.1/25".parse().unwrap(),
    };
    apply(&router, &[remove.clone(), remove]).unwrap();
    let left = link(&router, TRUNK).unwrap().addresses;
    assert!(
        !left.iter().any(|a| a.net.to_string() == "10.100.0.1/25"),
        "{left:?}"
    );
    assert!(left.iter().any(|a| a.net.addr() == foreign), "{left:?}");
}

#[test]
fn offload_that_hides_tags_is_switched_off() {
    let (router, _switch) = pair().unwrap();
    router.set_rx_vlan_offload(TRUNK, true).unwrap();
    assert_eq!(observe(&router).unwrap().rx_vlan_offload, Some(true));
    let link = link_ref(&router, TRUNK).unwrap();
    apply(&router, &[Change::SetRxVlanOff { link }]).unwrap();
    assert_eq!(observe(&router).unwrap().rx_vlan_offload, Some(false));
    assert!(!router.rx_vlan_offload(TRUNK).unwrap());
}

#[test]
fn link_that_is_not_ours_is_not_removed_whatever_the_plan_says() {
    let (router, _switch) = pair().unwrap();
    let link = link_ref(&router, TRUNK).unwrap();
    let remove = Change::RemoveVlan { link, vlan_id: 1 };
    let error = apply(&router, &[remove]).unwrap_err();
    assert!(format!("{error:#}").contains("lost the mark"), "{error:#}");
    assert!(router.ifindex(TRUNK).is_ok());
}

#[test]
fn kernel_without_vlan_devices_says_what_to_load() {
    if testkit::kernel_vlan::vlan_devices_available().unwrap() {
        return;
    }
    let (router, _switch) = pair().unwrap();
    let create = Change::CreateVlan {
        name: "eth1.100".to_owned(),
        trunk: link_ref(&router, TRUNK).unwrap(),
        vlan_id: 100,
        segment: "grooveiq".to_owned(),
        mtu: 1500,
    };
    let error = apply(&router, &[create]).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("`+ vlan device eth1.100") && text.contains("modprobe 8021q"),
        "{text}"
    );
}

#[test]
fn alternative_names_are_seen() {
    let (router, _switch) = pair().unwrap();
    let mut command = router.command("ip");
    command.args(["link", "property", "add", "dev", TRUNK, "altname", "core"]);
    assert!(command.status().unwrap().success());
    let names: Vec<_> = link(&router, TRUNK).unwrap().altnames.into_iter().collect();
    assert_eq!(names, ["core"]);
}

/// A thread of another namespace would write another namespace's sysctls.
#[test]
fn network_is_refused_on_a_thread_of_another_namespace() {
    let (router, switch) = pair().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let network = router.run(|| {
        let _inside = runtime.enter();
        Network::connect().unwrap()
    });
    let change = sysctls("all", FORWARDING);
    let refused = switch.run(|| runtime.block_on(network.apply(&change)));
    assert!(
        matches!(refused, Err(NetworkError::OtherNamespace)),
        "{refused:?}"
    );
    router
        .run(|| runtime.block_on(network.apply(&change)))
        .unwrap();
}

const PATIENT: WatchOptions = WatchOptions {
    quiet: Duration::from_millis(50),
    patience: Duration::from_millis(500),
    resync: Duration::from_secs(600),
    buffer: 1 << 20,
};

async fn next(watch: &mut Watch) -> Result<Event> {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    event.context("no event")?.context("the stream ended")
}

/// The next event about the trunk; others may be before it.
async fn next_of_trunk(watch: &mut Watch) -> Result<TrunkEvent> {
    loop {
        if let Event::Trunk(event) = next(watch).await? {
            return Ok(event);
        }
    }
}

async fn until(watch: &mut Watch, wanted: Event) -> Result<()> {
    while next(watch).await? != wanted {}
    Ok(())
}

#[test]
fn trunk_that_appears_is_renamed_and_vanishes_is_followed() {
    let (router, switch) = (NetNs::new("router").unwrap(), NetNs::new("switch").unwrap());
    let done = inside(&router, async |network| {
        let mut watch = network.watch(TRUNK, PATIENT)?;
        assert_eq!(next(&mut watch).await?, Event::Resync);
        router.add_veth(TRUNK, &switch, "far")?;
        let ifindex = router.ifindex(TRUNK)?;
        assert_eq!(
            next_of_trunk(&mut watch).await?,
            TrunkEvent::Appeared { ifindex }
        );
        rename(&router, TRUNK, "other")?;
        let to = "other".to_owned();
        assert_eq!(
            next_of_trunk(&mut watch).await?,
            TrunkEvent::Renamed { ifindex, to }
        );
        rename(&router, "other", TRUNK)?;
        assert_eq!(
            next_of_trunk(&mut watch).await?,
            TrunkEvent::Appeared { ifindex }
        );
        router.delete_link(TRUNK)?;
        assert_eq!(
            next_of_trunk(&mut watch).await?,
            TrunkEvent::Vanished { ifindex }
        );
        router.add_veth(TRUNK, &switch, "far")?;
        let again = router.ifindex(TRUNK)?;
        assert_ne!(again, ifindex);
        assert_eq!(
            next_of_trunk(&mut watch).await?,
            TrunkEvent::Appeared { ifindex: again }
        );
        Ok(())
    });
    done.unwrap();
}

fn rename(ns: &NetNs, from: &str, to: &str) -> Result<()> {
    let status = ns
        .command("ip")
        .args(["link", "set", from, "name", to])
        .status()?;
    anyhow::ensure!(status.success(), "ip link set {from} name {to}: {status}");
    Ok(())
}

#[test]
fn drift_is_told_of_once_per_burst() {
    let (router, _switch) = pair().unwrap();
    let done = inside(&router, async |network| {
        let mut watch = network.watch(TRUNK, PATIENT)?;
        until(&mut watch, Event::Resync).await?;
        for host in 1..=50 {
            router.add_address(TRUNK, IpAddr::from([10, 0, 0, host]), 24)?;
        }
        assert_eq!(next(&mut watch).await?, Event::Changed);
        let more = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
        assert!(more.is_err(), "{more:?}");
        router.set_mtu(TRUNK, 1400)?;
        assert_eq!(next(&mut watch).await?, Event::Changed);
        Ok(())
    });
    done.unwrap();
}

/// The runtime has one thread: while it works here, the watch cannot read, and the kernel drops messages.
#[test]
fn messages_that_the_kernel_dropped_are_made_up_for_by_a_full_sync() {
    let (router, _switch) = pair().unwrap();
    let options = WatchOptions {
        buffer: 1,
        ..PATIENT
    };
    let done = inside(&router, async |network| {
        let mut watch = network.watch(TRUNK, options)?;
        until(&mut watch, Event::Resync).await?;
        for host in 1..=100 {
            router.add_address(TRUNK, IpAddr::from([10, 0, 0, host]), 24)?;
        }
        until(&mut watch, Event::Resync).await
    });
    done.unwrap();
}

#[test]
fn full_sync_comes_from_time_to_time() {
    let (router, _switch) = pair().unwrap();
    let options = WatchOptions {
        resync: Duration::from_millis(100),
        ..PATIENT
    };
    let done = inside(&router, async |network| {
        let mut watch = network.watch(TRUNK, options)?;
        let first = next(&mut watch).await?;
        assert!(
            matches!(first, Event::Trunk(TrunkEvent::Appeared { .. })),
            "{first:?}"
        );
        for _ in 0..3 {
            assert_eq!(next(&mut watch).await?, Event::Resync);
        }
        Ok(())
    });
    done.unwrap();
}
