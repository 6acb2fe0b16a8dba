//! DHCPv6 and router advertisements: the kernel itself, dhclient, dhcpcd, systemd-networkd.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::Talk;
use crate::daemon::wire::{GATEWAY6, Wire, bound, later};
use netmodel::leases::{Lease, State};
use nix::sys::signal::Signal;
use testkit::frame::{Frame, link_local, multicast_mac_v6};
use testkit::raw::RawSocket;
use testkit::wait::wait_for;

/// Guests with IPv6; the shortest lease there is.
fn six() -> Talk {
    Talk {
        six: true,
        lease_time: 60,
        ..Talk::default()
    }
}

fn slaac() -> Talk {
    Talk {
        settings: "[segments.guest]\nslaac = true\n",
        ..six()
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The text of `ip -6 ...` at the client's, once it has a line that has all of these words.
fn wait_for_ip(wire: &Wire, arguments: &[&str], words: &[&str]) -> String {
    let what = format!("ip -6 {arguments:?} with {words:?}");
    let found = wait_for(&what, || {
        let text = said(wire.command_only("ip").arg("-6").args(arguments));
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().find(has_all).map(str::to_owned)
    });
    found.unwrap()
}

/// The gateway's kernel answers the client: that nobody listens there.
fn reach_gateway(wire: &Wire) {
    wait_for("an answer of the gateway", || {
        let target = (GATEWAY6, 9).into();
        let wait = Duration::from_secs(1);
        let tried = wire
            .lab
            .switch
            .run(|| TcpStream::connect_timeout(&target, wait));
        (tried.err()?.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
    .unwrap();
}

/// The kernel listens to advertisements, and asks for one as it comes up.
fn listen(wire: &Wire) {
    for key in ["accept_ra", "autoconf"] {
        let key = format!("net.ipv6.conf.{}.{key}", wire.link);
        wire.lab.switch.sysctl(&key, "1").unwrap();
    }
    wire.lab.switch.set_down(wire.link).unwrap();
    wire.lab.switch.set_up(wire.link).unwrap();
}

#[test]
fn the_kernel_takes_its_default_route_and_no_address_out_of_an_advertisement() {
    let wire = Wire::new(&six());
    listen(&wire);
    let router = link_local(wire.lab.router.mac("trunk").unwrap()).to_string();
    wait_for_ip(&wire, &["route", "show", "default"], &[&router, "proto ra"]);
    wait_for_ip(&wire, &["route"], &["fd00:40::/64", "proto kernel"]);
    let addresses = said(
        wire.command_only("ip")
            .args(["-6", "address", "show", "scope", "global"]),
    );
    assert_eq!(addresses, "", "addresses are the server's to give");
}

#[test]
fn the_kernel_makes_up_its_address_where_the_settings_say_so() {
    let wire = Wire::new(&slaac());
    listen(&wire);
    wait_for_ip(&wire, &["address", "show"], &["fd00:40::", "dynamic"]);
    reach_gateway(&wire);
}

#[test]
fn who_asks_for_routers_is_answered_by_this_one() {
    let wire = Wire::new(&six());
    let raw = RawSocket::open(&wire.lab.switch, wire.link).unwrap();
    let all_routers: Ipv6Addr = "ff02::2".parse().unwrap();
    let asker = [2, 0, 0, 0, 0, 9];
    let frame = Frame::new(asker, multicast_mac_v6(all_routers))
        .ipv6(link_local(asker), all_routers)
        .hop_limit(255)
        .icmp(133, 0, [0; 4])
        .build();
    raw.send(&frame).unwrap();
    let trunk = wire.lab.router.mac("trunk").unwrap();
    let answer = raw.receive_where(Instant::now() + Duration::from_secs(5), |frame| {
        let parsed = testkit::frame::ParsedFrame::parse(frame)?;
        // Type 134, to the asker alone.
        let icmp = frame.get(parsed.packet_at + 40..)?;
        (parsed.destination == asker && icmp.first() == Some(&134)).then(|| {
            assert!(parsed.checksums_ok);
            assert_eq!(parsed.source, trunk);
            (
                frame[parsed.packet_at + 7],
                frame[parsed.packet_at + 8..parsed.packet_at + 24].to_vec(),
            )
        })
    });
    let (hops, from) = answer.unwrap().expect("an advertisement");
    assert_eq!((hops, from), (255, link_local(trunk).octets().to_vec()));
}

/// What dhclient and dhcpcd do with an address.
const SCRIPT: &str = r#"
case "$reason" in
    BOUND6|REBOOT6|RENEW6|REBIND6)
        at="$new_ip6_address$new_dhcp6_ia_na1_ia_addr1"
        ip -6 address replace "$at/128" dev "$LINK"
        echo "$reason address=$at dns=$new_dhcp6_name_servers" >> "$LOG";;
    PREINIT6) ip link set "$LINK" up;;
    RELEASE6|STOP6|EXPIRE6) ip -6 address flush dev "$LINK" scope global; echo "$reason" >> "$LOG";;
esac
exit 0"#;

/// The kernel's own address can be used: clients send from it.
fn wait_for_link_local(wire: &Wire) {
    wait_for("a link-local address", || {
        let text = said(
            wire.command_only("ip")
                .args(["-6", "address", "show", "dev", wire.link]),
        );
        (text.contains("fe80::") && !text.contains("tentative")).then_some(())
    })
    .unwrap();
}

#[test]
fn dhclient_is_bound_renews_rebinds_and_releases() {
    let mut wire = Wire::new(&six());
    listen(&wire);
    wait_for_link_local(&wire);
    let script = wire.script(SCRIPT);
    let place = |name: &str| wire.lab.path(name).display().to_string();
    let (leases, pid) = (place("dhclient.leases"), place("dhclient.pid"));
    let common = [
        "-6",
        "-d",
        "-cf",
        "/dev/null",
        "-lf",
        &leases,
        "-pf",
        &pid,
        "-sf",
        &script,
    ];
    let run = |wire: &Wire, more: &[&str]| {
        wire.start("dhclient", &[&common[..], more, &[wire.link]].concat())
    };
    let client = run(&wire, &[]);
    let (address, lease) = wire.wait("a lease", bound);
    let told = wire.wait_for_log("BOUND6");
    assert!(told.contains(&format!("address={address}")), "{told}");
    reach_gateway(&wire);
    // T1 is half of the lease.
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!((same, renewed.since), (address, lease.since));
    wire.wait_for_log("RENEW6");
    wire.change_server();
    let (same, _) = wire.wait("a rebinding", later(&renewed));
    assert_eq!(same, address);
    wire.wait_for_log("REBIND6");
    drop(client);
    let _release = run(&wire, &["-r"]);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn dhcpcd_is_bound_renews_rebinds_and_releases() {
    let mut wire = Wire::new(&six());
    let script = wire.script(SCRIPT);
    let settings = "duid\noption dhcp6_name_servers\nipv6rs\nia_na 1\nslaac hwaddr\n";
    let client = wire.start_dhcpcd("-6", settings, &script);
    let (address, lease) = wire.wait("a lease", bound);
    wire.wait_for_log("BOUND6");
    let (same, renewed) = wire.wait("a renewal", later(&lease));
    assert_eq!((same, renewed.since), (address, lease.since));
    wire.change_server();
    let (same, rebound) = wire.wait("a rebinding", later(&renewed));
    assert_eq!((same, rebound.since), (address, lease.since));
    wire.wait_for_log("REBIND6");
    std::thread::sleep(Duration::from_millis(1100));
    client.signal_grandchild(Signal::SIGALRM);
    wire.wait("a release", |lease| lease.state == State::Released);
}

#[test]
fn systemd_networkd_is_bound_in_both_families_renews_rebinds_and_releases() {
    let mut wire = Wire::new(&six());
    let network = format!(
        "[Match]\nName={}\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n",
        wire.link
    );
    fs::write(wire.lab.path("10-client.network"), network).unwrap();
    let config = wire.lab.path("10-client.network").display().to_string();
    // Its files are at fixed places: they get disks of their own. Devices are not udev's where /sys cannot be written.
    // It changes its user, and with that forgets to die with its parent: it gets a process tree that does.
    let private = "mount -t tmpfs tmpfs /run && mount -t sysfs -o ro sysfs /sys && \
        mkdir -p /run/systemd/network /run/systemd/netif/leases /run/systemd/netif/links \
        /run/systemd/netif/lldp && cp \"$1\" /run/systemd/network/ && \
        chmod -R a+rX /run/systemd/network && \
        chown -R systemd-network:systemd-network /run/systemd/netif && \
        exec /lib/systemd/systemd-networkd & wait";
    let client = wire.start_tree(private, &[&config]);
    let of = |is_six: bool| move |at: IpAddr, lease: &Lease| bound(lease) && at.is_ipv6() == is_six;
    let (four, lease4) = wire.wait_where("a lease of IPv4", of(false));
    let (six, lease6) = wire.wait_where("a lease of IPv6", of(true));
    for (address, family) in [(four, "-4"), (six, "-6")] {
        wait_for("the client to use its address", || {
            let text = said(wire.command_only("ip").args([family, "address", "show"]));
            text.contains(&address.to_string()).then_some(())
        })
        .unwrap();
    }
    let extended = |wire: &Wire, what: &str, leases: [(IpAddr, Lease); 2]| {
        leases.map(|(address, before)| {
            let (_, after) =
                wire.wait_where(what, |at, lease| at == address && later(&before)(lease));
            assert_eq!(after.since, before.since);
            (address, after)
        })
    };
    let renewed = extended(&wire, "a renewal", [(four, lease4), (six, lease6)]);
    // Nobody answers what it sends to its server alone.
    wire.lose_unicast(true);
    wire.change_server();
    extended(&wire, "a rebinding", renewed);
    wire.lose_unicast(false);
    client.signal_grandchild(Signal::SIGTERM);
    // An address of DHCPv6 it gives back from systemd 255 on.
    wire.wait_where("a release", |at, lease| {
        at == four && lease.state == State::Released
    });
}
