//! `run --watch`: a change of the inventory becomes a plan and, if allowed, an apply.

use std::fs;
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::lab::Lab;
use testkit::fixtures;
use testkit::wait::{PATIENCE, wait_for};

const EAGER: &str = "[watch]\napply = true\nquiet_milliseconds = 200\n";

fn generation(lab: &Lab, number: u32) {
    let reached = wait_for("the generation", || {
        (lab.enforced() == number).then_some(())
    });
    assert!(reached.is_ok(), "generation {} is enforced", lab.enforced());
}

#[test]
fn change_is_applied_if_the_settings_say_so() {
    let lab = Lab::new();
    lab.configure(EAGER);
    let run = lab.start(&["run", "--watch"]);
    generation(&lab, 1);
    lab.withdraw_offer();
    generation(&lab, 2);
    run.wait_until_it_says("generation 2");
    let history = lab.json(&["history"]);
    assert_eq!(history["generations"][0]["cause"]["kind"], "watch");
}

#[test]
fn capabilities_of_the_unit_are_enough_to_adopt_and_to_change_everything() {
    let lab = Lab::with_everything();
    lab.configure(EAGER);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let pins = || {
        fs::read_dir(lab.pins().map("FLOWS").parent().unwrap())
            .unwrap()
            .count()
    };
    let run = lab.start_as_unit(&["run", "--watch"]);
    run.wait_until_it_says("is as it should be");
    lab.withdraw_offer();
    generation(&lab, 2);
    // After the flip, what no slot needs any more is taken away; it says so when it is done.
    run.wait_until_it_says("generation 2");
    // Both slots are full now; the next ones are in the place of what an earlier process has made.
    let full = pins();
    let ports = ["tcp/8443", "tcp/9443", "tcp/8443", "tcp/9443"];
    for (number, ports) in (3..).zip(ports.windows(2)) {
        let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
        lab.edit(file, ports[0], ports[1]);
        generation(&lab, number);
        run.wait_until_it_says(&format!("generation {number}"));
    }
    // Of the network, too.
    lab.tool("nft flush chain inet bulkhead to_uplink");
    lab.tool("sysctl -w net.ipv4.conf.eth0.rp_filter=0");
    run.signal(Signal::SIGHUP);
    lab.settles();
    drop(run);
    assert_eq!(pins(), full, "maps that nothing uses are not kept");
}

#[test]
fn change_is_only_shown_unless_the_settings_say_otherwise() {
    let lab = Lab::new();
    lab.configure("[watch]\nquiet_milliseconds = 200\n");
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run", "--watch"]);
    run.wait_until_it_says("is as it should be");
    lab.withdraw_offer();
    run.wait_until_it_says("bulkhead apply");
    assert_eq!(lab.enforced(), 1);
    let status = lab.json(&["status"]);
    assert!(
        status["notice"]
            .as_str()
            .unwrap()
            .contains("bulkhead apply"),
        "{status}"
    );
}

#[test]
fn hangup_lets_it_read_an_inventory_that_nobody_has_touched() {
    let lab = Lab::new();
    lab.configure(EAGER);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run", "--watch"]);
    run.wait_until_it_says("the inventory is what is applied");
    lab.bulkhead(&["rollback", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 3);
    run.signal(Signal::SIGHUP);
    generation(&lab, 4);
    assert_eq!(lab.model(4), lab.model(2));
}

#[test]
fn broken_inventory_keeps_the_old_generation_and_shows_in_status() {
    let lab = Lab::new();
    lab.configure(EAGER);
    let run = lab.start(&["run", "--watch"]);
    generation(&lab, 1);
    lab.edit(
        "site/group_vars/all/tenants.yml",
        "vlan_id: 100",
        "vlan_id: 5000",
    );
    run.wait_until_it_says("the inventory has errors");
    assert_eq!(lab.enforced(), 1);
    let status = lab.json(&["status"]);
    assert!(
        status["notice"].as_str().unwrap().contains("errors"),
        "{status}"
    );
    lab.edit(
        "site/group_vars/all/tenants.yml",
        "vlan_id: 5000",
        "vlan_id: 100",
    );
    run.wait_until_it_says("the inventory is what is applied");
    let is_gone = || lab.json(&["status"])["notice"].is_null().then_some(());
    wait_for("the end of the notice", is_gone).unwrap();
}

#[test]
fn change_that_found_an_apply_waiting_is_applied_once_that_is_confirmed() {
    let lab = Lab::new();
    lab.configure(EAGER);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    let mut apply = lab.start_logged(&["apply", "--yes", "--confirm-within", "10m"], "apply.log");
    apply.wait_until_it_says("it is undone in");
    let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
    lab.edit(file, "tcp/8443", "tcp/9443");
    let run = lab.start(&["run", "--watch"]);
    run.wait_until_it_says("an apply waits for its confirmation");
    assert_eq!(lab.enforced(), 2);
    lab.bulkhead(&["confirm"]).expect(0);
    assert_eq!(apply.end(), 0);
    generation(&lab, 3);
}

#[test]
fn folder_that_another_one_takes_the_place_of_is_followed() {
    let lab = Lab::new();
    lab.configure(EAGER);
    let run = lab.start(&["run", "--watch"]);
    generation(&lab, 1);
    run.wait_until_it_says("the inventory is what is applied");
    // As a deployment does it: the new tree is complete before it is put into place.
    let (site, next) = (lab.path("site"), lab.path("next"));
    fixtures::copy(&site, &next).unwrap();
    let file = "next/group_vars/all/tenants.yml";
    lab.edit(file, "Electronics projects", "Electronics");
    fs::rename(&site, lab.path("last")).unwrap();
    fs::rename(&next, &site).unwrap();
    generation(&lab, 2);
    let file = "site/group_vars/all/tenants.yml";
    lab.edit(file, "Financial tracking", "Finance");
    generation(&lab, 3);
}

#[test]
fn emptied_inventory_is_never_applied_by_itself() {
    let lab = Lab::new();
    lab.configure(EAGER);
    let run = lab.start(&["run", "--watch"]);
    generation(&lab, 1);
    fs::rename(lab.path("tenants/grooveiq"), lab.path("elsewhere")).unwrap();
    run.wait_until_it_says("refused");
    assert_eq!(lab.enforced(), 1);
}

#[test]
fn what_the_daemon_does_can_be_read_by_programs() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let mut run = lab.start(&["run", "--format", "json"]);
    run.wait_until_it_says("is as it should be");
    lab.lose_an_endpoint();
    run.signal(Signal::SIGHUP);
    run.wait_until_it_says("repaired");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(), 0);
    let said = run.said();
    let lines = said.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Result<Vec<_>, _> = lines.collect();
    let lines = lines.unwrap_or_else(|error| panic!("{error}: {said}"));
    let is_enforced = |line: &&serde_json::Value| line["message"] == "enforced";
    let enforced = lines.iter().rfind(is_enforced);
    let enforced = enforced.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(enforced["generation"], 2);
    assert_eq!(enforced["interface"], "eth0");
    assert_eq!(enforced["level"], "INFO");
    let drift = lines.iter().find_map(|line| line["drift"].as_str());
    assert!(drift.unwrap().contains("ENDPOINTS"), "{said}");
}

#[test]
fn service_manager_is_told_when_it_is_ready_that_it_lives_and_that_it_ends() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let path = lab.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 4096];
        let octets = socket.recv(&mut buffer).expect("something is told");
        String::from_utf8_lossy(&buffer[..octets]).into_owned()
    };
    let told_until = |word: &str| -> Vec<String> {
        let mut all = Vec::new();
        while !all.last().is_some_and(|last: &String| last.contains(word)) {
            all.push(told());
        }
        all
    };
    let mut command = lab.command(&["run"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000");
    let mut run = lab.spawn(command, "log");
    let begin = told_until("READY=1");
    let is_told = |words: &str| begin.iter().any(|told| told.contains(words));
    assert!(is_told("is as it should be"), "{begin:?}");
    // Not only at the beginning.
    for _ in 0..3 {
        told_until("WATCHDOG=1");
    }
    // What a foreign hand has done is repaired when it is asked to look.
    lab.lose_an_endpoint();
    run.signal(Signal::SIGHUP);
    told_until("repaired, as generation 2");
    run.signal(Signal::SIGTERM);
    told_until("STOPPING=1");
    assert_eq!(run.end(), 0, "{}", run.said());
    assert_eq!(lab.enforced(), 2, "enforcement stays");
}

#[test]
fn change_that_nobody_confirmed_is_not_applied_again_by_the_next_daemon() {
    let lab = Lab::new();
    lab.configure(EAGER);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    let mut apply = lab.start_logged(&["apply", "--yes", "--confirm-within", "10m"], "apply.log");
    apply.wait_until_it_says("it is undone in");
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    let run = lab.start(&["run", "--watch"]);
    run.wait_until_it_says("was undone");
    assert_eq!(lab.enforced(), 3);
    let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
    lab.edit(file, "tcp/8443", "tcp/9443");
    generation(&lab, 4);
}
