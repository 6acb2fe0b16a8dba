//! `bulkhead run` is killed under traffic: nothing forbidden passes, allowed connections go on, and the
//! next one adopts what is there without a gap.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dataplane_common::abi::direction::FROM_TENANT;
use dataplane_common::reason::{DropReason, FORWARDED};
use dataplane_user::loader::{Mode, Pins};
use testkit::fixtures;
use testkit::wait::PATIENCE;

use crate::inventory;
use crate::plane::{Line, counts, pinned_counters};
use crate::traffic::Traffic;

/// What `bulkhead run` says when the kernel is what the current generation says.
const READY: [&str; 2] = ["is as it should be", "enforcing generation"];

/// Applies the sample inventory.
fn apply(line: &Line, mode: Mode) -> Result<()> {
    let mut command = line.bulkhead("apply");
    command.args(["--mode", mode.name(), "--yes"]);
    command.arg("--site").arg(fixtures::sample_site());
    command.arg("--tenants").arg(fixtures::sample_tenants());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bulkhead apply: {said}");
    Ok(())
}

/// `bulkhead run`, killed when this is dropped, at the latest.
struct Controller {
    child: Child,
}

impl Controller {
    /// Starts one and waits until it enforces, while `meanwhile` goes on.
    fn start(line: &Line, mode: Mode, mut meanwhile: impl FnMut() -> Result<()>) -> Result<Self> {
        let mut command = line.bulkhead("run");
        command.args(["--mode", mode.name()]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stderr.take().context("it has a pipe")?);
        let controller = Self { child };
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // The other end is gone when the test is over.
            output
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(tell.send(line)));
        });
        let (mut said, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            match told.try_recv() {
                Ok(words) if READY.iter().any(|ready| words.contains(ready)) => {
                    return Ok(controller);
                }
                Ok(words) => said.push(words),
                Err(_) => meanwhile()?,
            }
            ensure!(Instant::now() < deadline, "it does not enforce: {said:?}");
        }
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing the controller")?;
        self.child.wait().context("waiting for its end").map(|_| ())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

fn killed_controller_changes_nothing_and_the_next_one_adopts(mode: Mode) -> Result<()> {
    let (model, line) = (inventory::model(), Line::build()?);
    let mut traffic = Traffic::new(&model);
    apply(&line, mode)?;
    let mut first = Controller::start(&line, mode, || Ok(()))?;
    traffic.open(&line)?;
    traffic.exchange_many(&line)?;
    first.kill()?;
    traffic.exchange_many(&line)?;
    let second = Controller::start(&line, mode, || traffic.exchange(&line))?;
    traffic.exchange_many(&line)?;
    drop(second);
    let generation = Pins::at(&line.pins()).generation()?.number;
    ensure!(
        generation == 1,
        "nothing was applied, and yet it is generation {generation}"
    );
    // Counters outlive controllers, and every frame was judged exactly once.
    let (there, back) = (traffic.back.1, traffic.there.1);
    let counted = counts(&pinned_counters(&line.pins())?, [there, back])?;
    let from = |vlan, outcome| counted.get(&(vlan, FROM_TENANT, outcome)).copied();
    let forwarded = Some(traffic.exchanges + 1);
    ensure!(
        from(there, FORWARDED) == forwarded,
        "{forwarded:?} in {counted:?}"
    );
    ensure!(
        from(back, FORWARDED) == forwarded,
        "{forwarded:?} in {counted:?}"
    );
    let dropped = from(back, DropReason::SpoofedSource as u32);
    ensure!(
        dropped == Some(traffic.exchanges),
        "{} in {counted:?}",
        traffic.exchanges
    );
    eprintln!("{mode}: {} exchanges", traffic.exchanges);
    Ok(())
}

#[test]
fn killed_controller_changes_nothing_native_xdp() {
    killed_controller_changes_nothing_and_the_next_one_adopts(Mode::XdpNative).unwrap();
}

#[test]
fn killed_controller_changes_nothing_tcx() {
    killed_controller_changes_nothing_and_the_next_one_adopts(Mode::Tcx).unwrap();
}

#[test]
fn killed_controller_changes_nothing_clsact() {
    killed_controller_changes_nothing_and_the_next_one_adopts(Mode::Clsact).unwrap();
}
