//! What is lost or damaged on the disk changes nothing of what is enforced; what was interrupted is finished.

use std::fs;

use dataplane_user::loader::Pins;
use testkit::fixtures;

use crate::lab::Lab;
use crate::traffic::Attack;

#[test]
fn lost_store_leaves_enforcement_and_the_next_apply_goes_on_counting() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let attack = Attack::begin(&lab);
    fs::remove_dir_all(lab.path("store")).unwrap();
    let run = lab.start(&["run"]);
    run.wait_until_it_says("what is enforced stays as it is");
    assert_eq!(lab.enforced(), 2);
    attack.operator_passes();
    drop(run);
    lab.bulkhead(&["status"]).expect(0);
    attack.operator_passes();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 3);
    attack.end();
}

#[test]
fn lost_store_is_no_leave_to_forget_a_segment() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    fs::remove_dir_all(lab.path("store")).unwrap();
    lab.remove_moneyrouter();
    let said = lab.bulkhead(&["apply", "--yes"]).expect(1);
    assert!(said.out.contains("VLAN 102"), "{}", said.out);
    assert!(said.out.contains("--allow-destroy 1"), "{}", said.out);
    assert_eq!(lab.enforced(), 1);
    lab.bulkhead(&["apply", "--yes", "--allow-destroy", "1"])
        .expect(0);
    assert_eq!(lab.enforced(), 2);
}

#[test]
fn damaged_generation_leaves_enforcement_and_says_so() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let path = lab.path("store/generations/1/generation");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut run = lab.start(&["run"]);
    assert_eq!(run.end(), 1);
    assert!(run.said().contains("is damaged"), "{}", run.said());
    let status = lab.json(&["status"]);
    let notice = status["notice"].as_str().unwrap_or_default();
    assert!(notice.contains("is damaged"), "{status}");
    assert_eq!(lab.enforced(), 1);
    let said = lab.bulkhead(&["drift"]).expect(1);
    assert!(said.talk.contains("is damaged"), "{}", said.talk);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
}

#[test]
fn damaged_current_is_mended_by_an_apply() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    fs::write(lab.path("store/current"), "one").unwrap();
    lab.bulkhead(&["drift"]).expect(1);
    // What is enforced is what a change is compared with: a tenant that goes is noticed.
    let tenants = lab.path("site/group_vars/all/tenants.yml");
    let with_all = fs::read(&tenants).unwrap();
    lab.remove_moneyrouter();
    let refused = lab.bulkhead(&["apply", "--yes"]).expect(1);
    let told = format!("{}{}", refused.out, refused.talk);
    assert!(told.contains("moneyrouter"), "{told}");
    fs::write(tenants, with_all).unwrap();
    let there = lab.path("tenants/moneyrouter");
    fixtures::copy(&fixtures::sample_tenants().join("moneyrouter"), &there).unwrap();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
    lab.bulkhead(&["drift"]).expect(0);
}

#[test]
fn interrupted_apply_is_finished_by_run() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    // As if the kernel had not been reached: the tables of generation 1, while 2 is current.
    lab.bulkhead(&["rollback", "--yes"]).expect(0);
    fs::write(lab.path("store/current"), "2\n").unwrap();
    let run = lab.start(&["run"]);
    run.wait_until_it_says("generation 4");
    drop(run);
    lab.bulkhead(&["drift"]).expect(0);
    lab.bulkhead(&["plan"]).expect(0);
}

#[test]
fn generation_is_back_after_a_reboot() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.bulkhead(&["detach", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("enforcing generation 1");
    assert_eq!(lab.enforced(), 1);
    lab.bulkhead(&["status"]).expect(0);
}

#[test]
fn maps_of_another_layout_are_taken_over() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let attack = Attack::begin(&lab);
    let pins = lab.pins();
    let maps = pins.map("FLOWS");
    let maps = maps.parent().unwrap();
    // Programs do not look at the names of pins.
    fs::rename(maps, pins.folder().join("abi-1")).unwrap();
    assert_eq!(pins.other_abis(), [1]);
    let drift = lab.bulkhead(&["drift"]).expect(2);
    assert!(drift.out.contains("layout 1"), "{}", drift.out);
    attack.operator_passes();
    let run = lab.start(&["run"]);
    run.wait_until_it_says("enforcing generation 1");
    attack.operator_passes();
    drop(run);
    assert_eq!(Pins::at(pins.folder()).other_abis(), [0_u32; 0]);
    assert_eq!(lab.enforced(), 1);
    lab.bulkhead(&["drift"]).expect(0);
    lab.bulkhead(&["status"]).expect(0);
    attack.end();
}

#[test]
fn old_generations_are_pruned_and_numbers_go_on() {
    let lab = Lab::new();
    lab.configure("history = 3\n");
    for round in 0..3 {
        lab.bulkhead(&["apply", "--yes"]).expect(0);
        lab.withdraw_offer();
        lab.bulkhead(&["apply", "--yes"]).expect(0);
        let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
        lab.edit(file, "tcp/8443", "tcp/443");
        assert_eq!(lab.enforced(), 2 * round + 2);
    }
    let store = dataplane_user::store::Store::at(lab.path("store"));
    assert_eq!(store.numbers().unwrap(), [4, 5, 6]);
}

#[test]
fn no_two_daemons_run_on_one_trunk() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    let said = lab.bulkhead(&["run"]).expect(1);
    assert!(said.talk.contains("another bulkhead"), "{}", said.talk);
}

#[test]
fn applies_that_fail_do_not_fill_the_disk() {
    let lab = Lab::new();
    let nowhere = lab.path("no-bpf-fs");
    for _ in 0..3 {
        let command = lab.router.command(env!("CARGO_BIN_EXE_bulkhead"));
        let words = ["apply", "--yes"];
        let mut command = testkit::program::place(command, &words, &nowhere, lab.folder.path());
        command.args(["--interface", crate::lab::TRUNK]);
        let output = command.output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(talk.contains("not on a BPF file system"), "{talk}");
    }
    let store = dataplane_user::store::Store::at(lab.path("store"));
    assert_eq!(store.numbers().unwrap(), [3]);
}
