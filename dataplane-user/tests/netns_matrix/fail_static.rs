//! `bulkhead run` is killed under traffic: nothing forbidden passes, allowed connections go on, and the
//! next one adopts what is there without a gap.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_common::abi::direction::FROM_TENANT;
use dataplane_common::reason::{DropReason, FORWARDED};
use dataplane_user::loader::{Mode, Pins};
use netmodel::Model;
use netmodel::model::{Owner, SegmentId};
use testkit::fixtures;
use testkit::frame::{Frame, ParsedFrame, tcp_flag};

use crate::inventory;
use crate::place::{Net, Place, UNKNOWN_MAC};
use crate::plane::{Line, counts, pinned_counters};

/// What `bulkhead run` says when the kernel is what the current generation says.
const READY: [&str; 2] = ["is as it should be", "enforcing generation"];
/// Exchanges between one event and the next.
const EXCHANGES: usize = 300;
/// How long a frame may be on its way.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let (mut said, deadline) = (Vec::new(), Instant::now() + 3 * PATIENCE);
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

/// An operator's connection to a tenant's machine, and a forger beside that machine.
struct Traffic {
    opening: Frame,
    there: (Frame, u16),
    back: (Frame, u16),
    forged: Frame,
    exchanges: u64,
}

impl Traffic {
    fn new(model: &Model) -> Self {
        let bound = |wanted: fn(Owner) -> bool, name: &str| -> (Place<'_>, Net) {
            let mut ids = (0..model.segments.len()).map(SegmentId);
            let id = ids.find(|id| {
                let segment = model.segment(*id);
                wanted(segment.owner) && segment.name.as_str() == name && segment.ipv4.is_some()
            });
            let place = Place::new(model, id.expect("the sample has the segment"));
            let net = place.v4.expect("it has IPv4");
            (place, net)
        };
        let (operator, from) = bound(|owner| owner == Owner::Platform, "management");
        let (tenant, to) = bound(|owner| owner != Owner::Platform, "main");
        let there = operator.to_router().ip(from.own, to.own);
        let back = tenant
            .to_router()
            .ip(to.own, from.own)
            .tcp(22, 40_000, tcp_flag::ACK);
        Self {
            opening: there.clone().tcp(40_000, 22, tcp_flag::SYN),
            there: (there.tcp(40_000, 22, tcp_flag::ACK), tenant.vlan),
            forged: back.clone().source_mac(UNKNOWN_MAC),
            back: (back, operator.vlan),
            exchanges: 0,
        }
    }

    fn open(&self, line: &Line) -> Result<()> {
        self.forwarded(line, &self.opening, self.there.1)?;
        let answer = self.back.0.clone().tcp(22, 40_000, tcp_flag::SYN_ACK);
        self.forwarded(line, &answer, self.back.1)
    }

    /// One packet in each direction, each of which must come out, and a forged one, which must not.
    fn exchange(&mut self, line: &Line) -> Result<()> {
        line.wire.send(&self.forged.build())?;
        self.forwarded(line, &self.there.0, self.there.1)?;
        self.forwarded(line, &self.back.0, self.back.1)?;
        self.exchanges += 1;
        Ok(())
    }

    /// Sends a frame; what comes out next must be that frame on the other VLAN. A forged frame that
    /// was forwarded before it would come out before it.
    fn forwarded(&self, line: &Line, frame: &Frame, vlan: u16) -> Result<()> {
        let bytes = frame.build();
        line.wire.send(&bytes)?;
        let out = line.wire.receive(Instant::now() + PATIENCE)?;
        let out = out.with_context(|| format!("exchange {}: a packet is lost", self.exchanges))?;
        let parsed = |bytes: &[u8]| ParsedFrame::parse(bytes).context("half a frame came out");
        let (sent, seen) = (parsed(&bytes)?, parsed(&out)?);
        ensure!(
            seen.vlan() == Some(vlan),
            "exchange {}: out came {seen:?}",
            self.exchanges
        );
        ensure!(
            seen.transport() == sent.transport(),
            "another packet came out: {seen:?}"
        );
        Ok(())
    }

    fn exchange_many(&mut self, line: &Line) -> Result<()> {
        (0..EXCHANGES).try_for_each(|_| self.exchange(line))
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
