//! The Debian package: install, hold, apply, kill, upgrade, remove, purge. What is enforced stays through all of it.
//!
//! The steps are `packaging/test-lifecycle`, in an overlay of the root and namespaces of its own: nothing of the machine changes.
//! `BULKHEAD_DEBS=OLD:NEW` are the packages; `cargo xtask test vm` makes them.

use std::path::Path;
use std::process::Command;

use testkit::fixtures;

#[test]
fn what_is_enforced_stays_through_install_upgrade_and_removal() {
    let debs =
        std::env::var("BULKHEAD_DEBS").expect("BULKHEAD_DEBS: run it by `cargo xtask test vm`");
    let (old, new) = debs.split_once(':').expect("OLD:NEW");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/test-lifecycle");
    let sample = Path::new(&fixtures::sample_site())
        .parent()
        .unwrap()
        .to_owned();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh"]);
    command.arg(script).args([old, new]).arg(sample);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{talk}");
    assert!(said.ends_with("ok: all\n"), "{said}\n{talk}");
}
