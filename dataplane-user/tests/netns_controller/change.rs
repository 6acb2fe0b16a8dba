//! Plan, apply, roll back, drift.

use std::time::{Duration, Instant};

use dataplane_user::store::{Outcome, Store};
use testkit::frame::tcp_flag;
use testkit::raw::RawSocket;
use testkit::wait::{PATIENCE, wait_for};

use crate::lab::{FAR_TRUNK, Lab};
use crate::traffic::{API, Machine, OPERATOR, WEB, packet, source_port};

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
fn plan_is_applied_if_somebody_types_yes_and_stays_if_they_type_confirm() {
    let lab = Lab::new();
    for answer in ["no\n", "y\n"] {
        let said = lab.on_a_terminal(&["apply"], answer).expect(1);
        assert!(said.out.contains("nothing was changed"), "{}", said.out);
        assert_eq!(lab.enforced(), 0, "{answer}");
    }
    lab.on_a_terminal(&["apply"], "yes\n").expect(0);
    assert_eq!(lab.enforced(), 1);
    lab.withdraw_offer();
    let trial = ["apply", "--yes", "--confirm-within", "60s"];
    lab.on_a_terminal(&trial, "confirm\n").expect(0);
    assert_eq!((lab.enforced(), lab.outcome(2).as_str()), (2, "applied"));
}

#[test]
fn apply_destroys_no_more_than_it_is_allowed_to() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.remove_moneyrouter();
    let said = lab.bulkhead(&["apply", "--yes"]).expect(1);
    let (_, needed) = said.out.split_once("--allow-destroy ").unwrap();
    let needed: usize = needed.split_whitespace().next().unwrap().parse().unwrap();
    let apply = |most: usize| {
        let most = most.to_string();
        lab.bulkhead(&["apply", "--yes", "--allow-destroy", &most])
    };
    apply(needed - 1).expect(1);
    assert_eq!(lab.enforced(), 1);
    apply(needed).expect(0);
    assert_eq!(lab.enforced(), 2);
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
        said.talk.contains("the kernel is not as it was then"),
        "{}",
        said.talk
    );
    assert_eq!(lab.enforced(), 1);
}

#[test]
fn flip_cuts_the_connection_that_it_denies_and_no_other() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let wire = RawSocket::open(&lab.far, FAR_TRUNK).unwrap();
    let segment = |from: Machine, to: Machine, ports: (u16, u16), flags| {
        let packet = packet(&lab, from, to);
        packet.tcp(ports.0, ports.1, flags).build()
    };
    // The source ports of what the router passes on, in order; the last one that is sent must be among them.
    let passing = |frames: [Vec<u8>; 2], last: u16| {
        for frame in &frames {
            wire.send(frame).unwrap();
        }
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while seen.last() != Some(&last) {
            let frame = wire.receive(deadline).unwrap().expect("a frame");
            // The kernel's own multicast is of no interest.
            let port = source_port(&frame);
            seen.extend(port.filter(|port| [443, 50_001, 50_002].contains(port)));
        }
        seen
    };
    // An operator's segment behind each of them: that one goes on.
    let (forth, back) = ((WEB, API, (50_001, 443)), (API, WEB, (443, 50_001)));
    let seen = |(from, to, ports), flags: u8| {
        let first = flags == tcp_flag::SYN;
        let own = if first { tcp_flag::SYN } else { tcp_flag::ACK };
        let operators = segment(OPERATOR, API, (50_002, 22), own);
        let frames = [segment(from, to, ports, flags), operators];
        passing(frames, 50_002)
    };
    assert_eq!(seen(forth, tcp_flag::SYN), [50_001, 50_002]);
    assert_eq!(seen(back, tcp_flag::SYN | tcp_flag::ACK), [443, 50_002]);
    assert_eq!(seen(forth, tcp_flag::ACK), [50_001, 50_002]);
    lab.withdraw_offer();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    assert_eq!(seen(forth, tcp_flag::ACK), [50_002]);
    assert_eq!(seen(back, tcp_flag::ACK), [50_002]);
}

#[test]
fn tenant_sends_over_the_router_at_its_bandwidth_and_the_platform_at_any() {
    /// Octets a second of `800kbit`, and frames that are sent as fast as it goes.
    const RATE: f64 = 100_000.0;
    const FRAMES: u32 = 2000;
    let lab = Lab::new();
    lab.edit(
        "site/group_vars/all/tenants.yml",
        "description: Electronics projects",
        "description: Electronics projects\n    limits: { bandwidth: 800kbit }",
    );
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let wire = RawSocket::open(&lab.far, FAR_TRUNK).unwrap();
    let rush = |from: Machine, ports: (u16, u16)| {
        let frame = packet(&lab, from, API);
        let open = frame.clone().tcp(ports.0, ports.1, tcp_flag::SYN).build();
        let data = frame.tcp(ports.0, ports.1, tcp_flag::ACK);
        let data = data.payload(&[7; 1000]).build();
        let begin = Instant::now();
        wire.send(&open).unwrap();
        for _ in 0..FRAMES {
            wire.send(&data).unwrap();
        }
        let (mut arrived, mut after) = (0, begin.elapsed());
        let is_of_it = |frame: &[u8]| (source_port(frame)? == ports.0).then_some(());
        let soon = || Instant::now() + Duration::from_millis(300);
        while wire.receive_where(soon(), is_of_it).unwrap().is_some() {
            arrived += 1;
            after = begin.elapsed();
        }
        (arrived, after, data.len())
    };
    let over_bandwidth = || {
        let status = lab.json(&["status"]);
        let rows = status["counters"].as_array().unwrap().iter();
        let row = rows.filter(|row| row["outcome"] == "over-bandwidth");
        row.map(|row| row["packets"].as_u64().unwrap()).sum::<u64>()
    };
    let (arrived, after, octets) = rush(WEB, (50_001, 443));
    let most = RATE * (after.as_secs_f64() + 0.1) / octets as f64 + 2.0;
    assert!(
        arrived > 1 && f64::from(arrived) < most,
        "{arrived} of {most}, {after:?}"
    );
    let dropped = over_bandwidth();
    assert!(dropped > 0, "{arrived} frames arrived");
    let (arrived, ..) = rush(OPERATOR, (50_002, 22));
    assert_eq!(arrived, FRAMES + 1);
    // Each drop is counted for both segments.
    assert_eq!(over_bandwidth(), dropped, "nobody else is limited");
}

#[test]
fn history_tells_who_applied_what_and_why() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    let plan = lab.bulkhead(&["plan"]).expect(2).out;
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let told = lab.json(&["history", "2"]);
    let record = &told["record"];
    let who = dataplane_user::store::who();
    assert_eq!(record["who"], who.as_str());
    assert_eq!(record["cause"]["kind"], "apply");
    assert_eq!(record["previous"], 1);
    let published = netmodel::published::read(&lab.path("published")).unwrap();
    assert_eq!(record["inventory"], published.inventory.as_str());
    assert_eq!(told["plan"].as_str().unwrap(), plan);
    let text = lab.bulkhead(&["history"]).expect(0).out;
    assert!(text.contains(&who), "{text}");
    assert!(text.contains(&published.inventory[..12]), "{text}");
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
fn rollback_cuts_no_protected_flow() {
    let lab = Lab::new();
    let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
    let path = lab.path("site/group_vars/all/zz.yml");
    lab.edit(file, "tcp/443", "tcp/8443");
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.edit(file, "tcp/8443", "tcp/443");
    let flow =
        "protected_flows: [{ from: vintronics, to: grooveiq/grooveiq-api01, ports: [tcp/443] }]\n";
    std::fs::write(path, flow).unwrap();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let said = lab.bulkhead(&["rollback", "--yes"]).expect(1);
    assert!(said.out.contains("protected"), "{}", said.out);
    assert_eq!(lab.enforced(), 2);
}

#[test]
fn apply_of_one_tenant_leaves_the_others_and_is_nobodys_inventory() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.withdraw_offer();
    let file = "tenants/moneyrouter/group_vars/moneyrouter/network.yml";
    lab.edit(file, "tcp/5432", "tcp/5433");
    lab.bulkhead(&["apply", "--tenant", "grooveiq", "--yes"])
        .expect(0);
    let plan = lab.bulkhead(&["plan"]).expect(2);
    assert!(plan.out.contains("tcp/5433"), "{}", plan.out);
    assert!(!plan.out.contains("tcp/8443"), "{}", plan.out);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let digest = |number: u32| {
        let history = lab.json(&["history", &number.to_string()]);
        history["record"]["inventory"].as_str().unwrap().to_owned()
    };
    assert_ne!(
        digest(2),
        digest(3),
        "hosts with one digest have one policy"
    );
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
fn apply_that_died_before_its_history_was_written_is_noted_by_run() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let store = Store::at(lab.path("store"));
    store.set_outcome(1, Outcome::Applying).unwrap();
    let run = lab.start(&["run"]);
    let is_applied = || (store.record(1).unwrap().outcome == Outcome::Applied).then_some(());
    wait_for("the outcome", is_applied).unwrap();
    drop(run);
    assert_eq!(store.numbers().unwrap(), [1], "nothing was wrong but that");
}

#[test]
fn removed_published_file_is_written_again_while_run_lives() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    std::fs::remove_file(lab.path("published")).unwrap();
    run.signal(nix::sys::signal::Signal::SIGHUP);
    lab.settles();
}

#[test]
fn run_repairs_what_a_foreign_hand_does_while_it_runs() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let run = lab.start(&["run"]);
    run.wait_until_it_says("is as it should be");
    // More often than there are slots for tables: what was lost from one is not taken for there when its turn comes again.
    let files: Vec<usize> = (2..=8)
        .map(|number| {
            lab.lose_an_endpoint();
            run.signal(nix::sys::signal::Signal::SIGHUP);
            run.wait_until_it_says(&format!("repaired, as generation {number}"));
            lab.bulkhead(&["drift"]).expect(0);
            run.open_files()
        })
        .collect();
    // Some come and go as it looks at the kernel.
    let most = |files: &[usize]| files.iter().copied().max();
    let (first, last) = files.split_at(4);
    assert!(
        most(last) <= most(first),
        "each generation leaves files open: {files:?}"
    );
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

#[test]
fn apply_of_one_tenant_that_waited_for_another_apply_keeps_what_that_did() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let rules = "tenants/moneyrouter/group_vars/moneyrouter/network.yml";
    lab.edit(rules, "tcp/5432", "tcp/5433");
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    // As if the second one were at it when the third begins.
    let store = Store::at(lab.path("store"));
    store.set_current(1).unwrap();
    let mut lock = std::fs::File::options();
    let lock = lock.write(true).open(lab.path("state.lock")).unwrap();
    lock.lock().unwrap();
    lab.withdraw_offer();
    let mut apply = lab.start(&["apply", "--tenant", "grooveiq", "--yes"]);
    apply.wait_until_it_says("waiting for another bulkhead");
    store.set_current(2).unwrap();
    drop(lock);
    assert_eq!(apply.end(), 0, "{}", apply.said());
    let model = lab.model(3);
    assert!(model.contains("5433") && model.contains("8443"), "{model}");
}

#[test]
fn apply_that_died_before_it_told_of_itself_is_finished_by_the_next_apply() {
    let lab = Lab::new();
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let why = lab.json(&["status"])["why"].clone();
    std::fs::remove_file(lab.path("published")).unwrap();
    let store = Store::at(lab.path("store"));
    store.set_outcome(1, Outcome::Applying).unwrap();
    lab.bulkhead(&["drift"]).expect(2);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    lab.bulkhead(&["drift"]).expect(0);
    assert_eq!((lab.enforced(), lab.outcome(1).as_str()), (1, "applied"));
    assert_eq!(lab.json(&["status"])["why"], why);
}
