//! `--confirm-within`: what nobody confirms is undone, whoever is killed meanwhile.

use std::fs;

use dataplane_user::store::{Outcome, Store};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Running};
use testkit::kernel_vlan::vlan_devices_available;
use testkit::wait::wait_for;

/// A first generation, and then a second one that waits for its confirmation.
fn unconfirmed(within: &str) -> (Lab, Running) {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    let apply = lab.start(&["apply", "--yes", "--confirm-within", within]);
    apply.wait_until_it_says("it is undone in");
    assert_eq!(lab.enforced(), 2);
    assert_eq!(lab.outcome(2), "unconfirmed");
    (lab, apply)
}

fn is_undone(lab: &Lab) {
    wait_for("generation 3", || (lab.enforced() == 3).then_some(())).unwrap();
    wait_for("the record", || {
        (lab.outcome(2) == "rolled-back").then_some(())
    })
    .unwrap();
    assert_eq!(lab.model(3), lab.model(1));
    wait_for("the end of the wait", || {
        (!lab.path("store/pending.json").exists()).then_some(())
    })
    .unwrap();
    lab.bulkhead(&["drift"]).expect(0);
}

#[test]
fn what_is_confirmed_stays() {
    let (lab, mut apply) = unconfirmed("10m");
    lab.bulkhead(&["confirm"]).expect(0);
    assert_eq!(apply.end(), 0);
    assert_eq!((lab.enforced(), lab.outcome(2).as_str()), (2, "applied"));
    let said = lab.bulkhead(&["confirm"]).expect(1);
    assert!(said.talk.contains("nothing waits"), "{}", said.talk);
}

#[test]
fn what_was_confirmed_by_a_process_that_died_before_its_last_step_stays() {
    let (lab, mut apply) = unconfirmed("5s");
    let waiting = fs::read(lab.path("store/pending.json")).unwrap();
    lab.bulkhead(&["confirm"]).expect(0);
    assert_eq!(apply.end(), 0);
    fs::write(lab.path("store/pending.json"), waiting).unwrap();
    let run = lab.start(&["run"]);
    wait_for("the end of the wait", || {
        (!lab.path("store/pending.json").exists()).then_some(())
    })
    .unwrap();
    run.wait_until_it_says("is as it should be");
    assert_eq!((lab.enforced(), lab.outcome(2).as_str()), (2, "applied"));
}

#[test]
fn what_nobody_confirms_is_undone_by_apply_itself() {
    let (lab, mut apply) = unconfirmed("2s");
    assert_eq!(apply.end(), 1);
    is_undone(&lab);
}

#[test]
fn hangup_of_the_operators_connection_does_not_end_the_wait() {
    let (lab, mut apply) = unconfirmed("3s");
    apply.signal(Signal::SIGHUP);
    assert_eq!(apply.end(), 1);
    is_undone(&lab);
}

#[test]
fn interrupt_undoes_it_at_once() {
    let (lab, mut apply) = unconfirmed("10m");
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    is_undone(&lab);
}

/// Generation 2 waits, and `bulkhead run` has repaired it as generation 3.
fn unconfirmed_and_repaired() -> (Lab, Running, Running) {
    let (lab, apply) = unconfirmed("10m");
    let run = lab.start_logged(&["run"], "run.log");
    run.wait_until_it_says("is as it should be");
    lab.lose_an_endpoint();
    run.signal(Signal::SIGHUP);
    run.wait_until_it_says("repaired, as generation 3");
    assert_eq!(lab.outcome(3), "unconfirmed");
    (lab, apply, run)
}

#[test]
fn repair_of_what_waits_is_undone_with_it() {
    let (lab, mut apply, _run) = unconfirmed_and_repaired();
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    assert!(
        apply
            .said()
            .contains("1 is enforced again, as generation 4"),
        "{}",
        apply.said()
    );
    assert_eq!(lab.model(4), lab.model(1));
    assert_eq!(lab.enforced(), 4);
    for number in [2, 3] {
        assert_eq!(lab.outcome(number), "rolled-back", "{number}");
    }
    lab.bulkhead(&["drift"]).expect(0);
}

#[test]
fn repair_of_what_waits_is_confirmed_with_it() {
    let (lab, mut apply, _run) = unconfirmed_and_repaired();
    lab.bulkhead(&["confirm"]).expect(0);
    assert_eq!(apply.end(), 0, "{}", apply.said());
    for number in [2, 3] {
        assert_eq!(lab.outcome(number), "applied", "{number}");
    }
    assert_eq!(lab.enforced(), 3);
    assert!(!lab.path("store/pending.json").exists());
}

#[test]
fn damaged_pending_file_of_a_repair_goes_back_to_what_was_confirmed() {
    let (lab, mut apply, run) = unconfirmed_and_repaired();
    drop(run);
    apply.kill();
    fs::write(lab.path("store/pending.json"), "{").unwrap();
    let run = lab.start(&["run"]);
    wait_for("generation 4", || (lab.enforced() == 4).then_some(())).unwrap();
    run.wait_until_it_says("is as it should be");
    assert_eq!(lab.model(4), lab.model(1));
}

#[test]
fn what_waits_is_not_built_upon_and_a_rollback_says_no_to_it() {
    let (lab, mut apply) = unconfirmed("10m");
    let said = lab.bulkhead(&["apply", "--yes"]).expect(1);
    assert!(
        said.talk
            .contains("generation 2 waits for its confirmation"),
        "{}",
        said.talk
    );
    assert_eq!(lab.enforced(), 2);
    lab.bulkhead(&["rollback", "--yes"]).expect(0);
    assert_eq!(apply.end(), 1);
    assert!(
        apply
            .said()
            .contains("1 is enforced again, as generation 3"),
        "{}",
        apply.said()
    );
    is_undone(&lab);
}

#[test]
fn what_could_not_be_undone_is_not_applied_on_trial() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    fs::remove_dir_all(lab.path("store")).unwrap();
    let said = lab
        .bulkhead(&["apply", "--yes", "--confirm-within", "2s"])
        .expect(1);
    assert!(said.talk.contains("nothing to go back to"), "{}", said.talk);
    assert_eq!(lab.enforced(), 1);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
}

#[test]
fn killed_apply_is_undone_by_run() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    lab.withdraw_offer();
    let mut apply = lab
        .command(&["apply", "--yes", "--confirm-within", "5s"])
        .spawn()
        .unwrap();
    wait_for("generation 2", || (lab.enforced() == 2).then_some(())).unwrap();
    apply.kill().unwrap();
    apply.wait().unwrap();
    is_undone(&lab);
}

#[test]
fn when_everybody_is_killed_the_next_run_undoes_it() {
    let (lab, mut apply) = unconfirmed("2s");
    apply.kill();
    wait_for("the deadline", || {
        let store = Store::at(lab.path("store"));
        store.pending().unwrap()?.left().is_none().then_some(())
    })
    .unwrap();
    assert_eq!(lab.enforced(), 2, "nobody was there to undo it");
    let said = lab.bulkhead(&["confirm"]).expect(1);
    assert!(said.talk.contains("too late"), "{}", said.talk);
    let _run = lab.start(&["run"]);
    is_undone(&lab);
}

#[test]
fn after_a_reboot_the_time_is_up() {
    let (lab, mut apply) = unconfirmed("10m");
    apply.kill();
    let path = lab.path("store/pending.json");
    let mut pending: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    pending["boot_id"] = "of the boot before".into();
    fs::write(&path, pending.to_string()).unwrap();
    // Nothing is attached after one, either.
    lab.bulkhead(&["detach", "--yes"]).expect(0);
    let _run = lab.start(&["run"]);
    is_undone(&lab);
}

#[test]
fn damaged_pending_file_counts_as_not_confirmed() {
    let (lab, mut apply) = unconfirmed("10m");
    apply.kill();
    fs::write(lab.path("store/pending.json"), "{").unwrap();
    let _run = lab.start(&["run"]);
    is_undone(&lab);
}

#[test]
fn first_generation_that_nobody_confirms_leaves_nothing_enforced() {
    let lab = Lab::new();
    let mut apply = lab.start(&["apply", "--yes", "--confirm-within", "2s"]);
    assert_eq!(apply.end(), 1);
    assert!(
        apply.said().contains("no generation is enforced"),
        "{}",
        apply.said()
    );
    assert!(!lab.pins().is_in_use());
    lab.bulkhead(&["status"]).expect(1);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
}

#[test]
fn first_generation_that_nobody_confirms_leaves_no_device_and_no_table() {
    let lab = Lab::with_everything();
    let group = dataplane_user::network::GROUP;
    let made = || {
        let devices = lab.tool(&format!("ip -o link show group {group}"));
        devices + &lab.tool("nft list tables")
    };
    let mut apply = lab.start(&["apply", "--yes", "--confirm-within", "10m"]);
    apply.wait_until_it_says("it is undone in");
    assert!(made().contains("inet bulkhead"), "{}", made());
    let has_devices = vlan_devices_available().unwrap();
    assert_eq!(made().contains("eth0.100"), has_devices, "{}", made());
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    assert_eq!(made(), "");
}

#[test]
fn segment_that_nobody_confirms_leaves_no_device_and_no_place_in_the_table() {
    let lab = Lab::with_everything();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.edit(
        "site/group_vars/all/segments.yml",
        "  blackhole:",
        "  workshop: { vlan_id: 50, subnet: 10.20.50.0/24, gateway: 10.20.50.1, \
         dhcp_enabled: false }\n  blackhole:",
    );
    let made = || {
        let table = lab.tool("nft list table inet bulkhead");
        let has_device = lab.router.ifindex("eth0.50").is_ok();
        (has_device, table.contains("10.20.50.0/24"))
    };
    let mut apply = lab.start(&["apply", "--yes", "--confirm-within", "10m"]);
    apply.wait_until_it_says("it is undone in");
    assert_eq!(made(), (vlan_devices_available().unwrap(), true));
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    is_undone(&lab);
    assert_eq!(made(), (false, false));
}

#[test]
fn rollback_says_no_to_what_waits_though_it_was_repaired() {
    let (lab, mut apply, _run) = unconfirmed_and_repaired();
    lab.bulkhead(&["rollback", "--yes"]).expect(0);
    assert_eq!(apply.end(), 1, "{}", apply.said());
    assert_eq!(lab.model(4), lab.model(1));
    assert!(!lab.path("store/pending.json").exists());
}

#[test]
fn rollback_never_goes_to_what_nobody_confirmed() {
    let (lab, mut apply) = unconfirmed("10m");
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    let said = lab.bulkhead(&["rollback", "--yes"]).expect(1);
    assert!(said.talk.contains("no generation before"), "{}", said.talk);
    assert_eq!(lab.enforced(), 3);
}

#[test]
fn apply_undoes_what_it_waits_for_though_its_file_is_damaged() {
    let (lab, mut apply) = unconfirmed("10m");
    fs::write(lab.path("store/pending.json"), "{").unwrap();
    assert_eq!(apply.end(), 1, "{}", apply.said());
    is_undone(&lab);
}

#[test]
fn what_cannot_be_undone_any_more_stays_enforced_and_an_apply_ends_the_wait() {
    let (lab, mut apply) = unconfirmed("10m");
    apply.kill();
    fs::write(lab.path("store/generations/1/generation"), "{").unwrap();
    let path = lab.path("store/pending.json");
    let mut pending: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    pending["boot_id"] = "of the boot before".into();
    fs::write(&path, pending.to_string()).unwrap();
    lab.bulkhead(&["detach", "--yes"]).expect(0);
    let mut run = lab.start(&["run"]);
    assert_eq!(run.end(), 1, "{}", run.said());
    assert_eq!(lab.enforced(), 2, "{}", run.said());
    let said = lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert!(said.talk.contains("cannot be undone"), "{}", said.talk);
    assert!(!path.exists());
    lab.bulkhead(&["drift"]).expect(0);
}

#[test]
fn undo_that_died_before_its_last_step_is_noted() {
    let (lab, mut apply) = unconfirmed("10m");
    let waiting = fs::read(lab.path("store/pending.json")).unwrap();
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.end(), 1);
    let store = Store::at(lab.path("store"));
    store.set_outcome(2, Outcome::Unconfirmed).unwrap();
    fs::write(lab.path("store/pending.json"), waiting).unwrap();
    let _run = lab.start(&["run"]);
    is_undone(&lab);
}

#[test]
fn trial_that_nobody_else_would_undo_says_so() {
    const WARNING: &str = "`bulkhead run` does not run here";
    let (_lab, apply) = unconfirmed("10m");
    apply.wait_until_it_says(WARNING);
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    lab.withdraw_offer();
    let mut apply = lab.start_logged(&["apply", "--yes", "--confirm-within", "10m"], "apply.log");
    apply.wait_until_it_says("it is undone in");
    lab.bulkhead(&["confirm"]).expect(0);
    assert_eq!(apply.end(), 0);
    assert!(!apply.said().contains(WARNING), "{}", apply.said());
}
