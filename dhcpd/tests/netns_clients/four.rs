//! DHCPv4: udhcpc, dhclient, dhcpcd, each from DISCOVER to RELEASE.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::Talk;
use crate::daemon::wire::{Wire, bound, later};
use netmodel::leases::{Lease, State};
use nix::sys::signal::Signal;
use testkit::wait::wait_for;

/// The shortest lease there is: T1 comes after 30 s, T2 after 52 s.
fn shortest() -> Talk {
    Talk {
        lease_time: 60,
        ..Talk::default()
    }
}

/// The client renews by itself at T1. Then what it sends to this server alone is lost, so that it asks all at T2.
fn renew_and_rebind(wire: &Wire, (address, lease): (IpAddr, Lease)) {
    let (same, renewed) = wire.wait("a renewal by itself", later(&lease));
    assert_eq!((same, renewed.since), (address, lease.since));
    wire.lose_unicast(true);
    let (same, _) = wire.wait("a rebinding by itself", later(&renewed));
    assert_eq!(same, address);
    wire.lose_unicast(false);
}

#[test]
fn udhcpc_is_bound_renews_rebinds_and_releases() {
    let wire = Wire::new(&shortest());
    let script = wire.script(
        r#"case "$1" in
            bound|renew) bind "$ip"; said "$1" "$ip" "$mask" "$router" "$dns" "$domain";;
            deconfig) unbind;;
        esac"#,
    );
    let client = wire.start(
        "udhcpc",
        &["-f", "-i", wire.link, "-s", &script, "-O", "domain"],
    );
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("bound"), address, "24");
    std::thread::sleep(Duration::from_millis(1100));
    client.signal(Signal::SIGUSR1);
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!((same, renewed.since), (address, lease.since));
    wire.wait_for_log("renew");
    renew_and_rebind(&wire, (same, renewed));
    client.signal(Signal::SIGUSR2);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhclient_is_bound_renews_rebinds_reboots_and_releases() {
    let wire = Wire::new(&shortest());
    let script = wire.script(
        r#"case "$reason" in
            BOUND|REBOOT|RENEW|REBIND)
                bind "$new_ip_address"
                said "$reason" "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" "$new_domain_name";;
            PREINIT) ip link set "$LINK" up;;
            RELEASE|STOP|EXPIRE|FAIL) unbind;;
        esac"#,
    );
    let folder = wire.lab.path("");
    let place = |name: &str| folder.join(name).display().to_string();
    let (leases, pid, config) = (
        place("dhclient.leases"),
        place("dhclient.pid"),
        place("dhclient.conf"),
    );
    fs::write(
        &config,
        "request subnet-mask, routers, domain-name-servers, domain-name;\n\
         initial-interval 1;\nbackoff-cutoff 2;\n",
    )
    .unwrap();
    let common = [
        "-4", "-d", "-cf", &config, "-lf", &leases, "-pf", &pid, "-sf", &script,
    ];
    let run = |wire: &Wire, more: &[&str]| {
        wire.start("dhclient", &[&common[..], more, &[wire.link]].concat())
    };
    let client = run(&wire, &[]);
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("BOUND"), address, "255.255.255.0");
    wait_for("the client to write its lease down", || {
        let text = fs::read_to_string(&leases).ok()?;
        text.contains("expire").then_some(())
    })
    .unwrap();
    renew_and_rebind(&wire, (address, lease));
    // It says so once it has written its lease down, and calls both by the same name: the first one to all is its
    // SELECTING, the second its REBINDING.
    let output = wait_for("the client to be bound thrice", || {
        let text = fs::read_to_string(wire.lab.path("client-output")).ok()?;
        (text.matches("bound to").count() >= 3).then_some(text)
    })
    .unwrap();
    let to_all = format!(
        "DHCPREQUEST for {address} on {} to 255.255.255.255",
        wire.link
    );
    assert_eq!(output.matches(&to_all).count(), 2, "{output}");
    let (_, lease) = wire.wait("the lease", bound);
    drop(client);
    std::thread::sleep(Duration::from_millis(1100));
    // It remembers its address: INIT-REBOOT.
    let client = run(&wire, &[]);
    let (same, _) = wire.wait("an extension", later(&lease));
    assert_eq!(same, address);
    wire.wait_for_log("REBOOT");
    drop(client);
    let _release = run(&wire, &["-r"]);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhcpcd_is_bound_renews_rebinds_and_releases() {
    let wire = Wire::new(&shortest());
    let script = wire.script(
        r#"case "$reason" in
            BOUND|REBOOT|RENEW|REBIND)
                said "$reason" "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" "$new_domain_name";;
        esac"#,
    );
    let settings = "option subnet_mask, routers, domain_name_servers, domain_name\nnoarp\n";
    let client = wire.start_dhcpcd("-4", settings, &script);
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("BOUND"), address, "255.255.255.0");
    std::thread::sleep(Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGUSR1);
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!(same, address);
    std::thread::sleep(Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGHUP);
    let (same, rebound) = wire.wait("a rebinding", later(&renewed));
    assert_eq!(same, address);
    renew_and_rebind(&wire, (same, rebound));
    wire.wait_for_log("REBIND");
    // A signal that comes while its script runs is lost, now and then.
    std::thread::sleep(Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGALRM);
    wire.wait("a release", |lease| lease.state == State::Released);
}
