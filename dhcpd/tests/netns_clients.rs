//! Real clients: udhcpc, dhclient, dhcpcd, each from DISCOVER to RELEASE. Needs root.
//!
//! Their scripts write down what they were told, and set the address: nothing of the machine's own (its
//! `/etc/resolv.conf`, its leases) is touched.

#[cfg(test)]
mod daemon;

use std::fs;

use daemon::Talk;
use daemon::wire::{LINK, Wire, bound, later};
use netmodel::leases::State;
use nix::sys::signal::Signal;
use testkit::wait::wait_for;

#[test]
fn udhcpc_is_bound_renews_and_releases() {
    let wire = Wire::new(&Talk::default());
    let script = wire.script(
        r#"case "$1" in
            bound|renew) bind "$ip"; said "$1" "$ip" "$mask" "$router" "$dns" "$domain";;
            deconfig) unbind;;
        esac"#,
    );
    let client = wire.start("udhcpc", &["-f", "-i", LINK, "-s", &script, "-O", "domain"]);
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("bound"), address, "24");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal(Signal::SIGUSR1);
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!((same, renewed.since), (address, lease.since));
    wire.wait_for_log("renew");
    client.signal(Signal::SIGUSR2);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhclient_is_bound_reboots_and_releases() {
    let wire = Wire::new(&Talk::default());
    let script = wire.script(
        r#"case "$reason" in
            BOUND|REBOOT|RENEW|REBIND)
                bind "$new_ip_address"
                said "$reason" "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" "$new_domain_name";;
            PREINIT) ip link set far up;;
            RELEASE|STOP|EXPIRE|FAIL) unbind;;
        esac"#,
    );
    let place = |name: &str| wire.lab.path(name).display().to_string();
    let (leases, pid, config) = (
        place("dhclient.leases"),
        place("dhclient.pid"),
        place("dhclient.conf"),
    );
    fs::write(
        &config,
        "request subnet-mask, routers, domain-name-servers, domain-name;\n",
    )
    .unwrap();
    let common = [
        "-4", "-d", "-cf", &config, "-lf", &leases, "-pf", &pid, "-sf", &script,
    ];
    let run = |more: &[&str]| wire.start("dhclient", &[&common[..], more, &[LINK]].concat());
    let client = run(&[]);
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("BOUND"), address, "255.255.255.0");
    wait_for("the client to write its lease down", || {
        let text = fs::read_to_string(&leases).ok()?;
        text.contains("expire").then_some(())
    })
    .unwrap();
    drop(client);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    // It remembers its address: INIT-REBOOT.
    let client = run(&[]);
    let (same, _) = wire.wait("an extension", later(&lease));
    assert_eq!(same, address);
    wire.wait_for_log("REBOOT");
    drop(client);
    let _release = run(&["-r"]);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhcpcd_is_bound_renews_rebinds_and_releases() {
    let wire = Wire::new(&Talk::default());
    let script = wire.script(
        r#"case "$reason" in
            BOUND|REBOOT|RENEW|REBIND)
                said "$reason" "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" "$new_domain_name";;
        esac"#,
    );
    let config = wire.lab.path("dhcpcd.conf").display().to_string();
    fs::write(
        &config,
        "option subnet_mask, routers, domain_name_servers, domain_name\nnoarp\n",
    )
    .unwrap();
    // Its files are at fixed places: they get a disk of their own. It leaves helpers behind when it is
    // killed: they get a process tree of their own, which ends as a whole, but not before it has
    // sent its last message.
    let private =
        "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/dhcpcd && \"$@\" && sleep 20";
    let client = wire.start(
        "unshare",
        &[
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            private,
            "sh",
            "dhcpcd",
            "-4",
            "-B",
            "-f",
            &config,
            "-c",
            &script,
            LINK,
        ],
    );
    let (address, lease) = wire.wait("a lease", bound);
    wire.assert_told(&wire.wait_for_log("BOUND"), address, "255.255.255.0");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGUSR1);
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!(same, address);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGHUP);
    let (same, _) = wire.wait("a rebinding", later(&renewed));
    assert_eq!(same, address);
    // A signal that comes while its script runs is lost, now and then.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGALRM);
    wire.wait("a release", |lease| lease.state == State::Released);
}
