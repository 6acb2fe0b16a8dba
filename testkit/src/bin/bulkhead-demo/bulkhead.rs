//! The real `bulkhead apply`, then `bulkhead run` as a child process, in the router's namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::bpffs::BpfFs;
use testkit::netns::NetNs;
use testkit::site::Wiring;
use testkit::wait::wait_for;

use crate::status::Counters;

/// A running controller; killed when it is dropped.
pub(crate) struct Bulkhead<'s> {
    program: PathBuf,
    trunk: String,
    router: &'s NetNs,
    fs: BpfFs,
    store: TempDir,
    sample: PathBuf,
    child: Child,
}

impl<'s> Bulkhead<'s> {
    /// Starts it and waits until it enforces.
    pub(crate) fn start(
        program: &Path,
        sample: &Path,
        (router, trunk): (&'s NetNs, &str),
        wiring: Wiring,
    ) -> Result<Self> {
        let fs = BpfFs::mount()?;
        let store = tempfile::tempdir()?;
        let config = store.path().join("bulkhead.toml");
        let settings = match wiring {
            Wiring::EmptyRouter => "",
            // The wiring has made the devices and addresses.
            Wiring::Kernel | Wiring::Userspace => "[network]\nmanage = []\n",
        };
        std::fs::write(&config, settings)?;
        let at = |verb: &str| {
            let mut command = command(program, router, &fs, verb);
            command.arg("--store").arg(store.path());
            command.arg("--config").arg(&config);
            command.arg("--publish").arg(store.path().join("published"));
            command.arg("--site").arg(sample.join("site"));
            command.arg("--tenants").arg(sample.join("tenants"));
            command
        };
        let applied = at("apply").arg("--yes").output();
        let applied = applied.with_context(|| format!("starting {}", program.display()))?;
        let said = String::from_utf8_lossy(&applied.stderr);
        ensure!(applied.status.success(), "bulkhead apply: {said}");
        let child = at("run").stdout(Stdio::null()).spawn();
        let child = child.with_context(|| format!("starting {}", program.display()))?;
        let mut bulkhead = Self {
            program: program.to_owned(),
            trunk: trunk.to_owned(),
            router,
            fs,
            store,
            sample: sample.to_owned(),
            child,
        };
        wait_for("bulkhead to enforce", || match bulkhead.child.try_wait() {
            Ok(None) => bulkhead.status().is_ok().then_some(Ok(())),
            Ok(Some(status)) => Some(Err(anyhow::anyhow!("bulkhead run ended: {status}"))),
            Err(error) => Some(Err(error.into())),
        })??;
        Ok(bulkhead)
    }
}

impl Bulkhead<'_> {
    /// Returns one line about it: mode, why that mode, generation.
    pub(crate) fn describe(&self) -> Result<String> {
        let status = self.status()?;
        let text = |key: &str| {
            status
                .get(key)
                .map(|v| v.to_string().replace('"', ""))
                .unwrap_or_default()
        };
        Ok(format!(
            "enforces generation {} as {} ({})",
            text("generation"),
            text("mode"),
            text("why")
        ))
    }

    /// Returns the frames that it has counted.
    pub(crate) fn counters(&self) -> Result<Counters> {
        Counters::parse(&self.status()?)
    }

    /// Fails if bulkhead would change anything.
    pub(crate) fn check_that_a_second_plan_is_empty(&self) -> Result<()> {
        let mut command = command(&self.program, self.router, &self.fs, "plan");
        for (option, name) in [
            ("--store", ""),
            ("--publish", "published"),
            ("--config", "bulkhead.toml"),
        ] {
            command.arg(option).arg(self.store.path().join(name));
        }
        command.arg("--site").arg(self.sample.join("site"));
        command.arg("--tenants").arg(self.sample.join("tenants"));
        let output = command.output().context("starting bulkhead plan")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "a second plan is not empty:\n{said}"
        );
        Ok(())
    }

    /// Asks without the inventory: that is read for names only, and takes most of the time.
    fn status(&self) -> Result<Value> {
        let mut command = command(&self.program, self.router, &self.fs, "status");
        let output = command
            .args(["--format", "json", "--interface", &self.trunk])
            .output()
            .context("starting bulkhead status")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("reading what bulkhead status says")
    }
}

impl Drop for Bulkhead<'_> {
    fn drop(&mut self) {
        // What it attached goes away with the router's namespace and the BPF file system.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One of bulkhead's commands, in the router's namespace.
fn command(program: &Path, router: &NetNs, fs: &BpfFs, verb: &str) -> Command {
    let mut command = router.command(program);
    command.arg(verb);
    command.arg("--pins").arg(fs.path().join("bulkhead"));
    command
}
