//! The daemon and the hold: before the first generation, and after one that nobody confirmed.

use testkit::wait::wait_for;

use crate::lab::Lab;

/// What the operator of the sample needs.
const HOLD: &str = "[hold]\nvlans = [99]\naddresses = [\"10.20.99.1\"]\nports = [22]\n";

fn is_held(lab: &Lab) -> bool {
    lab.json(&["status"])["held"] == true
}

fn wait_until_held(lab: &Lab) {
    let held = wait_for("the hold", || is_held(lab).then_some(()));
    assert!(held.is_ok(), "{}", lab.json(&["status"]));
}

#[test]
fn daemon_holds_the_trunk_until_something_is_applied_and_then_lets_it_be_judged() {
    let lab = Lab::new();
    lab.configure(HOLD);
    let run = lab.start(&["run"]);
    wait_until_held(&lab);
    run.wait_until_it_says("everything is dropped but what [hold] lists");
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let status = lab.json(&["status"]);
    assert_eq!(
        (&status["held"], &status["enforcing"], &status["generation"]),
        (&false.into(), &true.into(), &1.into()),
        "{status}"
    );
}

#[test]
fn daemon_holds_the_trunk_after_a_reboot_if_the_generation_is_damaged() {
    let lab = Lab::new();
    lab.configure(HOLD);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    // What a reboot leaves.
    lab.bulkhead(&["detach", "--yes"]).expect(0);
    std::fs::write(lab.path("store/generations/1/generation"), "{").unwrap();
    let mut run = lab.start(&["run"]);
    assert_eq!(run.end(), 1, "{}", run.said());
    assert!(is_held(&lab), "{}", run.said());
}

#[test]
fn first_generation_that_nobody_confirms_gives_the_trunk_back_to_the_hold() {
    let lab = Lab::new();
    lab.configure(HOLD);
    let run = lab.start(&["run"]);
    wait_until_held(&lab);
    let said = lab.bulkhead(&["apply", "--yes", "--confirm-within", "1s"]);
    said.expect(1);
    wait_until_held(&lab);
    assert_eq!(lab.enforced(), 0, "no table of the generation is left");
    assert_eq!(lab.outcome(1), "failed");
    drop(run);
    // Without a daemon, too: what undoes the generation holds the trunk by itself.
    assert!(is_held(&lab));
    lab.bulkhead(&["apply", "--yes", "--confirm-within", "1s"])
        .expect(1);
    assert!(is_held(&lab), "{}", lab.json(&["status"]));
}
