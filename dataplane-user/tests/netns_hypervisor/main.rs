//! `bulkhead` on a hypervisor: ports that are there, that come, that nobody knows; with the daemon, and without it.
//!
//! The bridge is plain, so that nothing but the programs keeps tenants apart. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod bandwidth;
mod flood;
mod host;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use host::{Lab, UPLINK, end, is_silent, lose_a_program, reaches, receives};
use testkit::frame::{BROADCAST, Frame, tcp_flag};
use testkit::kernel_vlan::BridgeVlan;
use testkit::raw::RawSocket;
use testkit::wait::{PATIENCE, wait_at_most};

const API: &str = "grooveiq-api01";
const DB: &str = "grooveiq-db01";
const WEB: &str = "vintronics-web01";

#[test]
fn apply_binds_ports_by_the_machines_configuration_and_never_by_their_tag() {
    let lab = Lab::new();
    let (api, at_api) = lab.start_machine(API, 101);
    let (db, at_db) = lab.start_machine(DB, 102);
    let (web, at_web) = lab.start_machine(WEB, 103);
    // Before: the bridge joins them all.
    let cross = Frame::new(web.mac, api.mac).ipv4(web.ipv4, api.ipv4);
    let cross = cross.tcp(4000, 443, tcp_flag::SYN).build();
    at_web.send(&cross).unwrap();
    assert!(receives(&at_api, &cross), "a plain bridge joins tenants");
    at_db.drain().unwrap();

    let (plan, _) = lab.bulkhead(&["plan"], 2);
    assert!(
        plan.contains("programs on port tap101i0 (grooveiq/grooveiq-api01)"),
        "{plan}"
    );
    lab.bulkhead(&["apply", "--yes"], 0);
    let row = lab.port("tap101i0");
    assert_eq!(
        (&row["endpoint"], &row["vlan_id"]),
        (&"grooveiq/grooveiq-api01".into(), &100.into()),
        "{row}"
    );
    assert_eq!(lab.port(UPLINK)["attached"], true);
    at_web.send(&cross).unwrap();
    is_silent(&at_api, "another tenant");
    assert_eq!(lab.dropped("mac-ip-mismatch"), 1);
    let forged = api.opens(db).source_mac(db.mac).build();
    at_api.send(&forged).unwrap();
    is_silent(&at_db, "a forged address");
    assert_eq!(lab.dropped("spoofed-mac"), 1);
    let honest = api.opens(db).build();
    at_api.send(&honest).unwrap();
    assert!(receives(&at_db, &honest), "a friend");

    lab.bulkhead(&["plan"], 0);
    lab.bulkhead(&["drift"], 0);
    let (verified, _) = lab.bulkhead(&["verify"], 0);
    assert!(
        verified.contains("the hypervisors  the tables in this kernel"),
        "{verified}"
    );
    // Without the programs, the frame would pass: the test can fail.
    lab.bulkhead(&["detach", "--yes"], 0);
    let is_free = reaches(&at_web, &at_api, &cross);
    assert!(is_free, "nothing is enforced any more");
}

#[test]
fn unknown_port_passes_nothing_until_somebody_says_whose_it_is() {
    let lab = Lab::new();
    let (db, at_db) = lab.start_machine(DB, 102);
    lab.bulkhead(&["apply", "--yes"], 0);
    let _daemon = lab.run();
    // Not one of Proxmox' names, and no alias.
    let api = lab.machine(API, 7);
    lab.cable("port7");
    let socket = lab.socket("port7");
    lab.wait_until_unknown("port7");
    assert_eq!(lab.port("port7")["unknown"]["why"], "unsaid");
    let honest = api.opens(db).build();
    socket.send(&honest).unwrap();
    is_silent(&at_db, "an unknown port");
    assert!(lab.dropped("unknown-port") >= 1);

    let mac = netmodel::ids::MacAddr(api.mac);
    let alias = format!("bulkhead mac={mac}");
    let mut ip = lab.hypervisor.command("ip");
    ip.args(["link", "set", "port7", "alias", &alias]);
    assert!(ip.status().unwrap().success());
    let took = lab.wait_until_bound("port7", "grooveiq/grooveiq-api01");
    eprintln!("bound after {took:?}, with the time of `status`");
    socket.send(&honest).unwrap();
    assert!(receives(&at_db, &honest), "it is known now");
}

#[test]
fn machine_that_sends_from_the_first_moment_reaches_nobody_before_it_is_judged() {
    let lab = Lab::new();
    let (api, at_api) = lab.start_machine(API, 101);
    lab.bulkhead(&["apply", "--yes"], 0);
    let daemon = lab.run();
    daemon.wait_until_it_says("is as it should be");
    let trunk = lab.socket(UPLINK);
    // The bridge knows where the neighbour is, and floods nothing to him.
    let web = lab.machine(WEB, 103);
    let forged = Frame::new(web.mac, api.mac).ipv4(web.ipv4, api.ipv4);
    let forged = forged.tcp(4000, 443, tcp_flag::SYN).build();
    for round in 0..rounds() {
        let machine = lab.machine(WEB, 200 + round);
        let port = machine.port();
        lab.configure(machine);
        lab.hypervisor
            .add_veth(&port, &lab.far, &end(&port))
            .unwrap();
        lab.far.set_up(&end(&port)).unwrap();
        lab.hypervisor.set_up(&port).unwrap();
        let socket = lab.socket(&port);
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| flood(&socket, &forged, (&stop, &sent)));
            lab.join(&port);
            lab.wait_until_bound(&port, "vintronics/vintronics-web01");
            stop.store(true, Ordering::Relaxed);
        });
        assert!(sent.load(Ordering::Relaxed) > 100, "nobody was hostile");
        for (socket, who) in [(&at_api, "another tenant"), (&trunk, "the trunk")] {
            while let Some(frame) = socket.try_receive().unwrap() {
                assert_ne!(frame.get(6..12), Some(&web.mac[..]), "round {round}: {who}");
            }
        }
        lab.hypervisor.delete_link(&port).unwrap();
    }
    assert!(
        lab.dropped("mac-ip-mismatch") > 0,
        "it was judged in the end"
    );
}

/// Machines that come and go. `BULKHEAD_CASES` changes it: an emulated processor does fewer.
fn rounds() -> u32 {
    std::env::var("BULKHEAD_CASES").map_or(10, |rounds| rounds.parse().unwrap())
}

fn flood(socket: &RawSocket, frame: &[u8], (stop, sent): (&AtomicBool, &AtomicU64)) {
    while !stop.load(Ordering::Relaxed) {
        // The queue may be full.
        if socket.send(frame).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn machine_that_moves_to_another_port_takes_its_identity_with_it() {
    let lab = Lab::new();
    let (db, at_db) = lab.start_machine(DB, 102);
    let (api, old) = lab.start_machine(API, 101);
    lab.bulkhead(&["apply", "--yes"], 0);
    let _daemon = lab.run();
    let honest = api.opens(db).build();
    old.send(&honest).unwrap();
    assert!(receives(&at_db, &honest), "at its old port");
    // It appears a second time: the first keeps it.
    let (again, new) = lab.start_machine(API, 105);
    lab.wait_until_unknown("tap105i0");
    let why = lab.port("tap105i0");
    assert_eq!(why["unknown"]["by"], "tap101i0", "{why}");
    new.send(&honest).unwrap();
    is_silent(&at_db, "a second port with the same identity");
    lab.hypervisor.delete_link("tap101i0").unwrap();
    lab.wait_until_bound("tap105i0", "grooveiq/grooveiq-api01");
    new.send(&honest).unwrap();
    assert!(receives(&at_db, &honest), "at its new port, {}", again.id);
}

#[test]
fn killed_daemon_leaves_the_wall_standing_and_the_next_one_follows_what_came() {
    let lab = Lab::new();
    let (db, at_db) = lab.start_machine(DB, 102);
    lab.bulkhead(&["apply", "--yes"], 0);
    let mut daemon = lab.run();
    daemon.wait_until_it_says("is as it should be");
    daemon.kill();
    let (api, at_api) = lab.start_machine(API, 101);
    let honest = api.opens(db).build();
    at_api.send(&honest).unwrap();
    is_silent(&at_db, "a port that has no programs");
    let forged = db.opens(api).source_mac(api.mac).build();
    at_db.send(&forged).unwrap();
    is_silent(&at_api, "a forged address, without a daemon");
    let (status, _) = lab.bulkhead(&["drift"], 2);
    assert!(status.contains("programs on port tap101i0"), "{status}");
    let daemon = lab.run();
    lab.wait_until_bound("tap101i0", "grooveiq/grooveiq-api01");
    at_api.send(&honest).unwrap();
    assert!(receives(&at_db, &honest), "it is followed");
    drop(daemon);
}

#[test]
fn program_that_is_lost_is_drift_and_comes_back() {
    let lab = Lab::new();
    let (_, _) = lab.start_machine(API, 101);
    lab.bulkhead(&["apply", "--yes"], 0);
    let ifindex = lab.hypervisor.ifindex("tap101i0").unwrap();
    if !lose_a_program(&lab.pins(), ifindex) {
        // Filters of clsact are no pins.
        let mut tc = lab.hypervisor.command("tc");
        tc.args(["filter", "del", "dev", "tap101i0", "ingress"]);
        assert!(tc.status().unwrap().success());
    }
    assert_eq!(lab.port("tap101i0")["attached"], false);
    assert_eq!(lab.status()["enforcing"], false);
    let (drift, _) = lab.bulkhead(&["drift"], 2);
    assert!(drift.contains("+ programs on port tap101i0"), "{drift}");
    let _daemon = lab.run();
    lab.wait_until_bound("tap101i0", "grooveiq/grooveiq-api01");
    lab.bulkhead(&["drift"], 0);
}

#[test]
fn first_generation_that_nobody_confirms_leaves_the_ports_as_they_were() {
    let lab = Lab::new();
    let (api, at_api) = lab.start_machine(API, 101);
    let (web, at_web) = lab.start_machine(WEB, 103);
    let (_, talk) = lab.bulkhead(&["apply", "--yes", "--confirm-within", "1s"], 1);
    assert!(talk.contains("no generation is enforced"), "{talk}");
    let cross = Frame::new(web.mac, api.mac).ipv4(web.ipv4, api.ipv4);
    let cross = cross.tcp(4000, 443, tcp_flag::SYN).build();
    assert!(reaches(&at_web, &at_api, &cross), "as before");
    assert!(!lab.pins().is_in_use());
}

#[test]
fn machine_of_another_pool_is_not_whom_its_configuration_claims() {
    let lab = Lab::new();
    std::fs::write(lab.path("pve/user.cfg"), "pool:vintronics::101::\n").unwrap();
    let (_, _) = lab.start_machine(API, 101);
    lab.bulkhead(&["apply", "--yes"], 0);
    let row = lab.port("tap101i0");
    assert_eq!(row["unknown"]["why"], "other-pool", "{row}");
    let (text, _) = lab.bulkhead(&["status"], 0);
    assert!(text.contains("is in the pool `vintronics`"), "{text}");
}

#[test]
fn bridge_that_filters_vlans_carries_the_sites_and_a_port_in_a_foreign_one_reaches_nobody() {
    if !testkit::kernel_vlan::vlan_filtering_available().unwrap() {
        eprintln!("skipped: this kernel has no bridge that filters VLANs");
        return;
    }
    let lab = Lab::vlan_aware();
    let (api, at_api) = lab.start_machine(API, 101);
    let (web, at_web) = lab.start_machine(WEB, 103);
    let trunk = lab.socket(UPLINK);
    for port in [api.port(), web.port()] {
        // The second is not in its own: its tenant's Terraform says so.
        let how = BridgeVlan::Untagged;
        lab.hypervisor.add_bridge_vlan(&port, 100, how).unwrap();
    }
    let (plan, _) = lab.bulkhead(&["plan"], 2);
    for line in [
        "vlan 10,20,25,30-31,35,40,99-102 on nic0",
        "vlan 101 on tap103i0 is that of its machine",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    lab.bulkhead(&["apply", "--yes"], 0);
    lab.bulkhead(&["plan"], 0);
    let cross = Frame::new(web.mac, api.mac).ipv4(web.ipv4, api.ipv4);
    let cross = cross.tcp(4000, 443, tcp_flag::SYN).build();
    at_web.send(&cross).unwrap();
    is_silent(&at_api, "another tenant in the same VLAN of the bridge");
    assert_eq!(lab.dropped("mac-ip-mismatch"), 1);
    let arp = Frame::new(api.mac, BROADCAST).arp_request(api.ipv4, web.ipv4);
    let mut tagged = Frame::new(api.mac, BROADCAST)
        .vlan(100)
        .arp_request(api.ipv4, web.ipv4)
        .build();
    at_api.send(&arp.build()).unwrap();
    assert!(receives(&trunk, &tagged), "the trunk gets it with the tag");
    is_silent(&at_web, "the broadcast of another segment");
    // Another site's VLAN that comes in over the trunk goes nowhere.
    tagged[15] = 200;
    trunk.send(&tagged).unwrap();
    is_silent(&at_api, "a VLAN that is not carried");
}

#[test]
fn port_that_leaves_the_bridge_is_free_again() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"], 0);
    let _daemon = lab.run();
    lab.cable("port7");
    lab.wait_until_unknown("port7");
    let mut ip = lab.hypervisor.command("ip");
    ip.args(["link", "set", "port7", "nomaster"]);
    assert!(ip.status().unwrap().success());
    let gone = wait_at_most(PATIENCE, "the port to be forgotten", || {
        lab.port("port7").is_null().then_some(())
    });
    assert!(gone.is_ok());
    let here = RawSocket::open(&lab.hypervisor, "port7").unwrap();
    let frame =
        Frame::new([2; 6], BROADCAST).arp_request([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let frame = frame.build();
    let socket = lab.socket("port7");
    let passes = wait_at_most(PATIENCE, "its frames", || {
        let before = lab.dropped("unknown-port");
        socket.send(&frame).unwrap();
        receives(&here, &frame).then_some(())?;
        (lab.dropped("unknown-port") == before).then_some(())
    });
    assert!(passes.is_ok(), "it is judged, and is no port");
}
