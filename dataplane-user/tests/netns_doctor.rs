//! `bulkhead doctor` on a trunk that is really wrong, in a namespace of its own. Needs root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::fixtures;
use testkit::netns::NetNs;
use testkit::program::place;

const BULKHEAD: &str = env!("CARGO_BIN_EXE_bulkhead");
/// The trunk, as the sample names it.
const TRUNK: &str = "eth0";

/// A router with a trunk, and what is on the other end of it.
struct Place {
    router: NetNs,
    _switch: NetNs,
    fs: BpfFs,
    folder: TempDir,
}

impl Place {
    fn build() -> Result<Self> {
        let (router, switch) = (NetNs::new("router")?, NetNs::new("switch")?);
        router.add_veth(TRUNK, &switch, "port")?;
        // On, it would be found, too.
        router.set_rx_vlan_offload(TRUNK, false)?;
        router.set_up(TRUNK)?;
        switch.set_up("port")?;
        let folder = tempfile::tempdir()?;
        let settings = "[network]\nmanage = []\n";
        std::fs::write(folder.path().join("bulkhead.toml"), settings)?;
        Ok(Self {
            router,
            _switch: switch,
            fs: BpfFs::mount()?,
            folder,
        })
    }

    fn pins(&self) -> PathBuf {
        self.fs.path().join("trunk")
    }

    fn command(&self, verb: &str, pins: PathBuf) -> std::process::Command {
        let command = self.router.command(BULKHEAD);
        let mut command = place(command, &[verb], &pins, self.folder.path());
        command.arg("--site").arg(fixtures::sample_site());
        command.arg("--tenants").arg(fixtures::sample_tenants());
        command
    }

    /// Returns the findings by name, each with its severity and what was found; `pins` says whose enforcement is ours.
    fn doctor_of(&self, pins: PathBuf) -> Result<BTreeMap<String, (String, String)>> {
        let output = self
            .command("doctor", pins)
            .args(["--format", "json"])
            .output()?;
        let talk = String::from_utf8_lossy(&output.stderr);
        let told: Value = serde_json::from_slice(&output.stdout).context(talk.into_owned())?;
        let code = if told["errors"] == 0 { 0 } else { 1 };
        ensure!(
            output.status.code() == Some(code),
            "exit code: {}",
            output.status
        );
        let findings = told["findings"].as_array().context("no findings")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = findings.iter().map(|finding| {
            let about = (text(&finding["severity"]), text(&finding["found"]));
            (text(&finding["name"]), about)
        });
        Ok(found.collect())
    }

    fn doctor(&self) -> Result<BTreeMap<String, (String, String)>> {
        self.doctor_of(self.pins())
    }

    /// Says how bad the finding is; empty if there is none of the name.
    fn severity(&self, name: &str) -> Result<String> {
        let found = self.doctor()?;
        Ok(found
            .get(name)
            .map(|(severity, _)| severity.clone())
            .unwrap_or_default())
    }

    /// Lets bulkhead enforce. It makes no devices: not every kernel has them.
    fn enforce(&self, mode: &str) -> Result<()> {
        let mut command = self.command("apply", self.pins());
        let output = command.args(["--mode", mode, "--yes"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bulkhead apply: {said}");
        Ok(())
    }
}

#[test]
fn trunk_without_enforcement_is_an_error_until_it_is_enforced() -> Result<()> {
    let place = Place::build()?;
    assert_eq!(place.severity("enforcement")?, "error");
    place.enforce("xdp-native")?;
    let found = place.doctor()?;
    for name in [
        "enforcement",
        "trunk",
        "trunk-mtu",
        "trunk-address",
        "hidden-tags",
        "native-vlan",
        "native-xdp",
    ] {
        assert_eq!(found[name].0, "ok", "{name}: {:?}", found[name]);
    }
    assert!(
        !found.contains_key("foreign-xdp") && !found.contains_key("foreign-tc"),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn trunk_that_was_made_anew_is_no_longer_enforced() -> Result<()> {
    let place = Place::build()?;
    place.enforce("xdp-native")?;
    assert_eq!(
        place.severity("enforcement")?,
        "ok",
        "it stays without the daemon"
    );
    place.router.delete_link(TRUNK)?;
    assert_eq!(place.severity("trunk")?, "error");
    place.router.add_veth(TRUNK, &place.router, "port")?;
    assert_eq!(place.severity("enforcement")?, "error");
    Ok(())
}

#[test]
fn xdp_program_of_somebody_else_is_found() -> Result<()> {
    let place = Place::build()?;
    assert_eq!(place.severity("foreign-xdp")?, "");
    let foreign = place.router.attach_xdp_pass(TRUNK)?;
    assert_eq!(place.severity("foreign-xdp")?, "error");
    drop(foreign);
    assert_eq!(place.severity("foreign-xdp")?, "");
    Ok(())
}

/// The program of another place stands for somebody else's.
fn assert_foreign_tc(mode: &str) -> Result<()> {
    let place = Place::build()?;
    place.enforce(mode)?;
    let ours = place.doctor()?;
    assert_eq!(ours["enforcement"].0, "ok");
    assert!(!ours.contains_key("foreign-tc"), "{ours:?}");
    let found = place.doctor_of(place.fs.path().join("elsewhere"))?;
    assert_eq!(found["foreign-tc"].0, "warning");
    Ok(())
}

#[test]
fn clsact_filter_of_somebody_else_is_found() -> Result<()> {
    assert_foreign_tc("clsact")
}

#[test]
fn tcx_program_of_somebody_else_is_found() -> Result<()> {
    assert_foreign_tc("tcx")
}

#[test]
fn offload_that_hides_tags_is_found_after_native_xdp_was_attached() -> Result<()> {
    let place = Place::build()?;
    place.enforce("xdp-native")?;
    place.router.set_rx_vlan_offload(TRUNK, true)?;
    assert_eq!(place.severity("hidden-tags")?, "error");
    place.router.set_rx_vlan_offload(TRUNK, false)?;
    assert_eq!(place.severity("hidden-tags")?, "ok");
    Ok(())
}

#[test]
fn trunk_that_is_down_small_or_has_an_address_is_found() -> Result<()> {
    let place = Place::build()?;
    place.router.set_mtu(TRUNK, 1400)?;
    place.router.add_address(TRUNK, "192.0.2.1".parse()?, 24)?;
    let found = place.doctor()?;
    let small = "eth0 has 1400, the segment";
    assert!(found["trunk-mtu"].1.starts_with(small), "{found:?}");
    assert_eq!(found["trunk-mtu"].0, "error");
    let address = (
        "error".to_owned(),
        "eth0 itself has 192.0.2.1/24".to_owned(),
    );
    assert_eq!(found["trunk-address"], address);
    place.router.set_down(TRUNK)?;
    assert_eq!(place.severity("trunk")?, "error");
    Ok(())
}

#[test]
fn sysctl_and_missing_uplink_table_are_found() -> Result<()> {
    let place = Place::build()?;
    let sysctls = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.eth0.accept_redirects", "0"),
        ("net.ipv4.conf.eth0.accept_source_route", "0"),
        ("net.ipv6.conf.eth0.accept_ra", "0"),
        ("net.ipv6.conf.eth0.accept_redirects", "0"),
    ];
    for (key, value) in sysctls {
        place.router.sysctl(key, value)?;
    }
    assert_eq!(place.severity("sysctl")?, "ok");
    for (key, value) in sysctls {
        place
            .router
            .sysctl(key, if value == "1" { "0" } else { "1" })?;
        assert_eq!(place.severity("sysctl")?, "warning", "{key}");
        place.router.sysctl(key, value)?;
    }
    assert_eq!(place.severity("uplink-table")?, "warning");
    let model = testkit::lab::load(&fixtures::sample())?;
    let wanted = dataplane_user::nat::desired(&model, model.routers[0].host);
    place.router.run(|| dataplane_user::nat::apply(&wanted))?;
    assert_eq!(place.severity("uplink-table")?, "ok");
    Ok(())
}

#[test]
fn ordinary_user_is_told_what_could_not_be_seen() -> Result<()> {
    let place = Place::build()?;
    let mut command = place.command("doctor", place.pins());
    // SAFETY: the closure makes one system call.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into())?;
            Ok(())
        });
    }
    let output = command
        .output()
        .context("the binary must be readable for all")?;
    let text = String::from_utf8(output.stdout)?;
    let expected = "this process lacks CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF";
    ensure!(
        text.contains(expected),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
