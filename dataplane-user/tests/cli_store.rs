//! What stands in the way of a change, and the history of changes, as a person sees them. The store is the test's own, and nothing
//! gets as far as the kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fs;
use std::time::Duration;

use assert_cmd::Command;
use dataplane_user::run::{RunError, with_causes};
use dataplane_user::store::{Cause, Outcome, Pending, Record, Store, Summary};
use insta::assert_snapshot;
use netmodel::published::Body;
use tempfile::TempDir;
use testkit::{fixtures, lab};

/// Digest of an inventory.
const INVENTORY: &str = "0f3ac5d2e1b74c8896a1b2c3d4e5f60718293a4b5c6d7e8f9001122334455667";

/// A folder with a store, settings that say nothing, and the sample.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(TempDir::new().unwrap());
        fixtures::copy(&fixtures::sample(), &site.0.path().join("sample")).unwrap();
        fs::write(site.0.path().join("bulkhead.toml"), "").unwrap();
        site
    }

    fn store(&self) -> Store {
        Store::at(self.0.path().join("store"))
    }

    /// Stores a generation of the sample, an hour after the one before it.
    fn add(&self, number: u32, cause: Cause, outcome: Outcome) {
        let who = if number == 3 { "alice (sudo)" } else { "root" };
        let previous = number.checked_sub(1).filter(|number| *number > 0);
        let record = Record {
            at: 1_795_244_770 + 3600 * u64::from(number),
            who: who.to_owned(),
            summary: Summary {
                add: 3,
                change: 1,
                destroy: 0,
            },
            outcome,
            ..Record::new(number, previous, cause, INVENTORY)
        };
        let model = lab::load(&fixtures::sample()).unwrap();
        let bytes = Body::new(&model).to_file(number, INVENTORY);
        let plan = "Plan: 3 to add, 1 to change, 0 to destroy.\n";
        self.store().add(&bytes, &record, plan).unwrap();
    }

    /// Generation 8 is enforced, and waits for its confirmation.
    fn wait(&self, within: Duration) {
        self.add(7, Cause::Apply, Outcome::Applied);
        self.add(8, Cause::Apply, Outcome::Unconfirmed);
        let store = self.store();
        store.set_current(8).unwrap();
        store
            .set_pending(&Pending::new(8, Some(7), within))
            .unwrap();
    }

    /// Puts `to` in the place of `from` in a file of the sample.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.0.path().join("sample").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Runs `bulkhead`; returns what it printed and its exit code.
    fn bulkhead(&self, args: &[&str]) -> String {
        let output = Command::cargo_bin("bulkhead")
            .unwrap()
            .current_dir(self.0.path())
            .args(args)
            .args(["--site", "sample/site", "--tenants", "sample/tenants"])
            .args(["--config", "bulkhead.toml", "--interface", "eth1"])
            .args(["--store", "store", "--state", "run/eth1.json"])
            .args(["--pins", "pins", "--publish", "run/generation"])
            .output()
            .unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let mut text = format!("$ bulkhead {}\n{out}", args.join(" "));
        if !output.stderr.is_empty() {
            let talk = String::from_utf8(output.stderr).unwrap();
            text.push_str(&format!("--- stderr\n{talk}"));
        }
        let code = output.status.code().unwrap();
        text.push_str(&format!("--- exit {code}\n"));
        text
    }
}

#[test]
fn history_has_a_line_for_each_generation_the_newest_first() {
    let site = Site::new();
    assert_snapshot!(site.bulkhead(&["history"]), @r"
    $ bulkhead history
    nothing was applied yet: bulkhead apply
    --- exit 0
    ");
    let back = |to, unconfirmed| Cause::Rollback { to, unconfirmed };
    let why = "cannot do `~ eth1 down -> up`: Operation not permitted (os error 1)";
    let why = why.to_owned();
    site.add(1, Cause::Apply, Outcome::Applied);
    site.add(2, Cause::Watch, Outcome::Failed { why });
    site.add(3, Cause::Apply, Outcome::RolledBack { by: 4 });
    site.add(4, back(1, true), Outcome::Applied);
    site.add(5, Cause::Repair, Outcome::Applied);
    site.add(6, back(4, false), Outcome::Applied);
    site.add(7, Cause::Apply, Outcome::Unconfirmed);
    site.store().set_current(7).unwrap();
    // Somebody cut this one off.
    site.add(8, Cause::Apply, Outcome::Applied);
    let record = site.0.path().join("store/generations/8/record.json");
    fs::write(record, "{").unwrap();
    assert_snapshot!(site.bulkhead(&["history"]), @r"
    $ bulkhead history
          8  store/generations/8/record.json is damaged: EOF while parsing an object at line 1 column 1 (remedy: `bulkhead apply`; the enforced generation stays until then)
    *     7  2026-11-21 14:06:10Z  root          apply                     0f3ac5d2e1b7  +3 ~1 -0  not confirmed yet
          6  2026-11-21 13:06:10Z  root          rollback to 4             0f3ac5d2e1b7  +3 ~1 -0  applied
          5  2026-11-21 12:06:10Z  root          repair                    0f3ac5d2e1b7  +3 ~1 -0  applied
          4  2026-11-21 11:06:10Z  root          not confirmed: back to 1  0f3ac5d2e1b7  +3 ~1 -0  applied
          3  2026-11-21 10:06:10Z  alice (sudo)  apply                     0f3ac5d2e1b7  +3 ~1 -0  rolled back by 4
          2  2026-11-21 09:06:10Z  root          watch                     0f3ac5d2e1b7  +3 ~1 -0  failed: cannot do `~ eth1 down -> up`: Operation not permitted (os error 1)
          1  2026-11-21 08:06:10Z  root          apply                     0f3ac5d2e1b7  +3 ~1 -0  applied
    --- exit 0
    ");
}

#[test]
fn repairs_do_not_push_out_what_can_be_gone_back_to() {
    let site = Site::new();
    site.add(1, Cause::Apply, Outcome::Applied);
    site.add(2, Cause::Apply, Outcome::Applied);
    (3..=6).for_each(|number| site.add(number, Cause::Repair, Outcome::Applied));
    site.store().prune(3, &[6]).unwrap();
    assert_eq!(site.store().numbers().unwrap(), [1, 2, 6]);
    site.store().prune(1, &[2]).unwrap();
    assert_eq!(site.store().numbers().unwrap(), [2, 6]);
}

#[test]
fn failed_ones_do_not_pile_up_and_no_number_is_given_twice() {
    let site = Site::new();
    let failed = || Outcome::Failed {
        why: "cannot do it".to_owned(),
    };
    site.add(1, Cause::Apply, Outcome::Applied);
    site.add(2, Cause::Watch, failed());
    site.add(3, Cause::Repair, failed());
    site.add(4, Cause::Apply, Outcome::Applied);
    site.add(5, Cause::Apply, failed());
    site.add(6, Cause::Apply, failed());
    site.store().prune(50, &[5]).unwrap();
    assert_eq!(site.store().numbers().unwrap(), [1, 4, 5, 6]);
    assert_eq!(site.store().next_number(4).unwrap(), 7);
    // One that cannot be read is not taken for a failed one.
    site.add(7, Cause::Apply, Outcome::Applied);
    let record = site.0.path().join("store/generations/4/record.json");
    fs::write(record, "{").unwrap();
    site.store().prune(3, &[]).unwrap();
    assert_eq!(site.store().numbers().unwrap(), [1, 4, 7]);
}

#[test]
fn history_of_one_generation_is_its_plan() {
    let site = Site::new();
    site.add(1, Cause::Apply, Outcome::Applied);
    assert_snapshot!(site.bulkhead(&["history", "1"]), @r"
    $ bulkhead history 1
    Plan: 3 to add, 1 to change, 0 to destroy.
    --- exit 0
    ");
    assert_snapshot!(site.bulkhead(&["history", "9"]), @r"
    $ bulkhead history 9
    --- stderr
    bulkhead: there is no generation 9 in store (`bulkhead history` lists those there are)
    --- exit 1
    ");
}

#[test]
fn apply_that_waits_for_its_confirmation_keeps_others_off() {
    let site = Site::new();
    site.wait(Duration::from_secs(3600));
    let text = site.bulkhead(&["apply", "--yes"]);
    // However long the program took to come to it.
    let (before, rest) = text.split_once(", for ").unwrap();
    let (seconds, after) = rest.split_once(" s more").unwrap();
    let seconds: u64 = seconds.parse().unwrap();
    assert!((1..3600).contains(&seconds), "{seconds}");
    assert_snapshot!(format!("{before}, for SECONDS s more{after}"), @r"
    $ bulkhead apply --yes
    --- stderr
    bulkhead: generation 8 waits for its confirmation, for SECONDS s more; nothing was changed (remedy: `bulkhead confirm` or `bulkhead rollback` first)
    --- exit 1
    ");
}

#[test]
fn confirm_says_what_stays() {
    let site = Site::new();
    assert_snapshot!(site.bulkhead(&["confirm"]), @r"
    $ bulkhead confirm
    --- stderr
    bulkhead: nothing waits for a confirmation
    --- exit 1
    ");
    site.wait(Duration::from_secs(3600));
    assert_snapshot!(site.bulkhead(&["confirm"]), @r"
    $ bulkhead confirm
    --- stderr
    bulkhead: generation 8 stays
    --- exit 0
    ");
    assert_eq!(site.store().record(8).unwrap().outcome, Outcome::Applied);
    assert_eq!(site.store().pending().unwrap(), None);
}

#[test]
fn confirm_that_comes_too_late_says_so() {
    let site = Site::new();
    site.wait(Duration::ZERO);
    assert_snapshot!(site.bulkhead(&["confirm"]), @r"
    $ bulkhead confirm
    --- stderr
    bulkhead: too late: generation 8 is being undone
    --- exit 1
    ");
    let record = site.store().record(8).unwrap();
    assert_eq!(record.outcome, Outcome::Unconfirmed);
}

#[test]
fn part_of_a_tenant_that_does_not_fit_is_refused_with_a_reason() {
    let site = Site::new();
    assert_snapshot!(site.bulkhead(&["plan", "--tenant", "vintronics"]), @r"
    $ bulkhead plan --tenant vintronics
    --- stderr
    bulkhead: nothing was applied yet, so there is nothing that --tenant could change (remedy: bulkhead apply)
    --- exit 1
    ");
    site.add(1, Cause::Apply, Outcome::Applied);
    site.store().set_current(1).unwrap();
    assert_snapshot!(site.bulkhead(&["plan", "--tenant", "vintronix"]), @r"
    $ bulkhead plan --tenant vintronix
    --- stderr
    bulkhead: --tenant vintronix: there is no tenant `vintronix`, neither in force nor in the inventory
    --- exit 1
    ");
    // The service is the platform's, and in the inventory only.
    site.edit(
        "site/group_vars/all/platform_services.yml",
        "platform_services:\n",
        "platform_services:\n  backups: { segment: storage, address: 10.20.20.30, ports: [tcp/873] }\n",
    );
    site.edit(
        "site/group_vars/all/tenants.yml",
        "    description: Electronics projects\n",
        "    description: Electronics projects\n    services: [logs, metrics, backups]\n",
    );
    assert_snapshot!(site.bulkhead(&["plan", "--tenant", "vintronics"]), @r"
    $ bulkhead plan --tenant vintronics
    --- stderr
    bulkhead: --tenant vintronics: sample/site/group_vars/all/tenants.yml:24: tenant `vintronics` needs the service `backups`, which is not applied yet: apply without --tenant, or that first
    --- exit 1
    ");
}

#[test]
fn file_that_is_no_plan_is_refused_with_what_makes_one() {
    let site = Site::new();
    let file = site.0.path().join("change.plan");
    assert_snapshot!(site.bulkhead(&["apply", "change.plan"]), @r"
    $ bulkhead apply change.plan
    --- stderr
    bulkhead: cannot read change.plan: No such file or directory (os error 2)
    --- exit 1
    ");
    fs::write(&file, "Plan: 3 to add, 1 to change, 0 to destroy.\n").unwrap();
    assert_snapshot!(site.bulkhead(&["apply", "change.plan"]), @r"
    $ bulkhead apply change.plan
    --- stderr
    bulkhead: change.plan is no plan of this bulkhead: expected value at line 1 column 1 (remedy: bulkhead plan --out)
    --- exit 1
    ");
    let later = serde_json::json!({
        "format_version": 2,
        "base": 7,
        "inventory": INVENTORY,
        "digest": INVENTORY,
        "tenant": null,
        "allow_destroy": 0,
    });
    fs::write(&file, later.to_string()).unwrap();
    assert_snapshot!(site.bulkhead(&["apply", "change.plan"]), @r"
    $ bulkhead apply change.plan
    --- stderr
    bulkhead: change.plan is no plan of this bulkhead: it has format 2 (remedy: bulkhead plan --out)
    --- exit 1
    ");
}

#[test]
fn trial_without_anything_to_go_back_to_is_refused_with_what_mends_it() {
    let store = "/var/lib/bulkhead".into();
    assert_snapshot!(with_causes(&RunError::NothingToGoBackTo { store }), @"there is nothing to go back to: something is enforced, and /var/lib/bulkhead does not say what, so this generation could not be undone (remedy: bulkhead apply without --confirm-within; it mends the store)");
    assert_snapshot!(with_causes(&RunError::NoPrevious), @"there is no generation before the current one (`bulkhead history` lists them)");
}

#[test]
fn apply_that_died_before_it_began_waits_for_nothing() {
    let site = Site::new();
    site.add(7, Cause::Apply, Outcome::Applied);
    site.add(8, Cause::Apply, Outcome::Applying);
    let store = site.store();
    store.set_current(7).unwrap();
    let pending = Pending::new(8, Some(7), Duration::from_secs(3600));
    store.set_pending(&pending).unwrap();
    let text = site.bulkhead(&["confirm"]);
    assert!(text.contains("nothing waits for a confirmation"), "{text}");
    assert_eq!(store.record(8).unwrap().outcome, Outcome::Applying);
    assert_eq!(store.pending().unwrap(), None);
}
