//! Plan, apply, roll back, drift.

use crate::lab::Lab;

#[test]
fn first_apply_makes_generation_1_and_a_second_plan_is_empty() {
    let lab = Lab::new();
    lab.bulkhead(&["plan"]).expect(2);
    assert_eq!(lab.enforced(), 0, "a plan has changed something");
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 1);
    let plan = lab.bulkhead(&["plan"]).expect(0);
    assert!(plan.out.starts_with("No changes."), "{}", plan.out);
    lab.bulkhead(&["drift"]).expect(0);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 1, "nothing was to be done");
    let published = netmodel::published::read(&lab.path("published")).unwrap();
    assert_eq!(published.number, 1);
    assert_eq!(lab.outcome(1), "applied");
}

#[test]
fn apply_without_a_yes_or_a_terminal_changes_nothing() {
    let lab = Lab::new();
    let said = lab.bulkhead(&["apply"]).expect(1);
    assert!(said.talk.contains("--yes"), "{}", said.talk);
    assert_eq!(lab.enforced(), 0);
    assert!(!lab.path("store").exists());
}

#[test]
fn plan_file_is_applied_once_and_refused_when_anything_has_changed_since() {
    let lab = Lab::new();
    let file = lab.path("change.plan");
    let file = file.to_str().unwrap();
    lab.bulkhead(&["plan", "--out", file]).expect(2);
    lab.bulkhead(&["apply", file]).expect(0);
    let said = lab.bulkhead(&["apply", file]).expect(1);
    assert!(
        said.talk.contains("generation 1 was applied since"),
        "{}",
        said.talk
    );

    lab.withdraw_offer();
    lab.bulkhead(&["plan", "--out", file]).expect(2);
    lab.edit(
        "site/group_vars/all/segments.yml",
        "10.20.10.200",
        "10.20.10.201",
    );
    let said = lab.bulkhead(&["apply", file]).expect(1);
    assert!(
        said.talk.contains("the inventory has changed since"),
        "{}",
        said.talk
    );

    lab.bulkhead(&["plan", "--out", file]).expect(2);
    // An address of the router is denied to every tenant: the tables change with it.
    lab.router
        .add_address(crate::lab::TRUNK, "192.0.2.1".parse().unwrap(), 24)
        .unwrap();
    let said = lab.bulkhead(&["apply", file]).expect(1);
    assert!(
        said.talk.contains("what the kernel has changed since"),
        "{}",
        said.talk
    );
    assert_eq!(lab.enforced(), 1);
}

#[test]
fn rollback_is_a_new_generation_with_the_old_model() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.bulkhead(&["rollback", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 3);
    assert_eq!(lab.model(3), lab.model(1));
    assert_ne!(lab.model(3), lab.model(2));
    // The inventory still has the change.
    lab.bulkhead(&["plan"]).expect(2);
    lab.bulkhead(&["rollback", "2", "--yes"]).expect(0);
    lab.bulkhead(&["plan"]).expect(0);
    let said = lab.bulkhead(&["rollback", "77", "--yes"]).expect(1);
    assert!(said.talk.contains("no generation 77"), "{}", said.talk);
}

#[test]
fn foreign_hand_in_a_map_is_drift_and_is_repaired_as_a_new_generation() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.lose_an_endpoint();
    let drift = lab.bulkhead(&["drift"]).expect(2);
    assert!(drift.out.contains("map ENDPOINTS"), "{}", drift.out);
    lab.bulkhead(&["plan"]).expect(2);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
    lab.bulkhead(&["drift"]).expect(0);
}

#[test]
fn both_walls_are_compared_as_they_are_in_the_kernel() {
    let lab = Lab::new();
    let said = lab.bulkhead(&["verify"]).expect(1);
    assert!(
        said.talk.contains("nothing was applied yet"),
        "{}",
        said.talk
    );
    // An address that hypervisors cannot know of.
    let own = "192.0.2.1".parse().unwrap();
    lab.router.add_address(crate::lab::TRUNK, own, 24).unwrap();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let said = lab.bulkhead(&["verify"]).expect(0);
    for words in [
        "the tables in this kernel",
        "and refuses: 192.0.2.1",
        "They agree.",
    ] {
        assert!(said.out.contains(words), "{}", said.out);
    }
    lab.lose_an_endpoint();
    let said = lab.bulkhead(&["verify"]).expect(1);
    assert!(said.out.contains("nothing at the router"), "{}", said.out);
}

#[test]
fn removed_published_file_is_drift_which_run_repairs() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    std::fs::remove_file(lab.path("published")).unwrap();
    let drift = lab.bulkhead(&["drift"]).expect(2);
    assert!(drift.out.contains("published"), "{}", drift.out);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    drop(run);
    lab.bulkhead(&["drift"]).expect(0);
}

#[test]
fn run_repairs_what_a_foreign_hand_does_while_it_runs() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    // More often than there are slots for tables: what was lost from one is not taken for there when its turn comes again.
    for number in 2..=4 {
        lab.lose_an_endpoint();
        run.signal(nix::sys::signal::Signal::SIGHUP);
        run.wait_until_it_says(&format!("repaired, as generation {number}"));
        lab.bulkhead(&["drift"]).expect(0);
    }
}

#[test]
fn interface_that_vanished_and_came_back_is_attached_to_again() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.renew_trunk();
    let drift = lab.bulkhead(&["drift"]).expect(2);
    assert!(
        drift.out.contains("the interface is a new one"),
        "{}",
        drift.out
    );
    let run = lab.start(&["run"]);
    run.wait_until_it_says("generation");
    drop(run);
    lab.bulkhead(&["drift"]).expect(0);
    lab.bulkhead(&["status"]).expect(0);
}

#[test]
fn another_hardware_address_of_the_trunk_is_drift() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let mac = [0x02, 0x00, 0x5e, 0x00, 0x53, 0x01];
    lab.router.set_mac(crate::lab::TRUNK, mac).unwrap();
    // Frames to the new address would not be taken as the router's.
    let drift = lab.bulkhead(&["drift"]).expect(2);
    assert!(drift.out.contains("map GENERATION"), "{}", drift.out);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(lab.enforced(), 2);
    lab.bulkhead(&["drift"]).expect(0);
}
