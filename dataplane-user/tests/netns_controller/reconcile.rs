//! Whatever an operator, a foreign hand, a cable or the kernel's killer does, in whatever order: once it is over, the kernel is what
//! the current generation says, and at no moment does a forbidden packet pass.
//!
//! A hostile sender runs all the time. Links and addresses are bulkhead's where the kernel has VLAN devices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use netmodel::Model;
use netmodel::model::SegmentId;
use testkit::frame::{Frame, ParsedFrame, tcp_flag};
use testkit::kernel_vlan::vlan_devices_available;
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::wait::wait_at_most;

use crate::lab::{FAR_TRUNK, Lab, PATIENCE, Running, TRUNK};

/// Sequences of steps. `BULKHEAD_CASES` changes it.
const CASES: u64 = 4;
/// Steps of a sequence, after each of which everything settles. `BULKHEAD_STEPS` changes it.
const STEPS: u64 = 12;

/// A subnet goes now and then.
const APPLY: [&str; 4] = ["apply", "--yes", "--allow-destroy", "1"];

/// A number of the environment, for longer and for shorter runs.
fn asked_for(variable: &str, default: u64) -> u64 {
    let number = std::env::var(variable);
    number.map_or(default, |number| number.parse().unwrap())
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The tenants' file of rules is edited, and applied.
    Edit,
    /// A tenant gets a subnet of the other family, or loses it: with it go an address of the router and a part of its tables.
    Grow,
    /// An apply on trial is killed at a random moment: somebody else undoes it.
    Trial,
    /// The generation before is applied.
    Rollback,
    /// A foreign hand takes an entry out of a map.
    LoseEntry,
    /// A foreign hand sets a device of ours down.
    BreakLink,
    /// The trunk goes down and comes up.
    Flap,
    /// The trunk goes and comes back as another interface.
    Renew,
    /// The daemon is killed, and started again.
    Kill,
    /// An apply is killed at a random moment.
    KillApply,
    /// The router gets an address on its trunk.
    Readdress,
}

const ALL: [Step; 11] = [
    Step::Edit,
    Step::Grow,
    Step::Trial,
    Step::Rollback,
    Step::LoseEntry,
    Step::BreakLink,
    Step::Flap,
    Step::Renew,
    Step::Kill,
    Step::KillApply,
    Step::Readdress,
];

/// Frames that no version of the inventory allows: one tenant to another, forged sources, unknown VLANs, second tags.
fn hostile(model: &Model, router: [u8; 6]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let segments: Vec<_> = (0..model.segments.len()).map(SegmentId).collect();
    let tenants = segments.iter().filter(|id| {
        let segment = model.segment(**id);
        segment.owner != netmodel::model::Owner::Platform
    });
    let tenants: Vec<_> = tenants.map(|id| model.segment(*id)).collect();
    let unknown = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x66];
    for from in &tenants {
        for to in &tenants {
            let (Some(own), Some(other)) = (from.ipv4, to.ipv4) else {
                continue;
            };
            if from.vlan_id == to.vlan_id {
                continue;
            }
            let host = |net: ipnet::Ipv4Net, last: u32| -> std::net::IpAddr {
                std::net::Ipv4Addr::from(u32::from(net.network()) + last).into()
            };
            let frame = Frame::new(unknown, router).vlan(from.vlan_id.as_u16());
            let open = frame.clone().ip(host(own.net, 66), host(other.net, 67));
            frames.push(open.tcp(HOSTILE[0], 9999, tcp_flag::SYN).build());
            let forged = frame.ip(host(other.net, 66), host(other.net, 67));
            frames.push(forged.tcp(HOSTILE[1], 22, tcp_flag::SYN).build());
            for tags in [
                vec![NO_VLAN],
                vec![from.vlan_id.as_u16(), to.vlan_id.as_u16()],
            ] {
                let frame = Frame::new(unknown, router);
                let tagged = tags.into_iter().fold(frame, Frame::vlan);
                let open = tagged.ip(host(own.net, 66), host(other.net, 67));
                frames.push(open.tcp(HOSTILE[0], 443, tcp_flag::SYN).build());
            }
        }
    }
    frames
}

/// A VLAN that carries no segment.
const NO_VLAN: u16 = 4000;
/// Source ports of the hostile frames, and of the friendly one.
const HOSTILE: [u16; 2] = [40_000, 40_001];
const FRIENDLY: u16 = 40_100;

/// An operator opens a connection to a tenant's machine: every version of the inventory allows that.
fn friendly(model: &Model, router: [u8; 6]) -> Vec<u8> {
    let management = model
        .segments
        .iter()
        .find(|s| s.name.as_str() == "management");
    let management = management.unwrap();
    let hosts = model
        .hosts
        .iter()
        .find(|host| host.name.as_str() == "grooveiq-api01");
    let to = hosts.unwrap().interfaces[0].ipv4.unwrap();
    let net = management.ipv4.unwrap().net;
    let from = std::net::Ipv4Addr::from(u32::from(net.network()) + 66);
    let frame = Frame::new([0x00, 0x00, 0x5e, 0x00, 0x53, 0x67], router);
    let frame = frame
        .vlan(management.vlan_id.as_u16())
        .ip(from.into(), to.into());
    frame.tcp(FRIENDLY, 22, tcp_flag::SYN).build()
}

/// What goes over the trunk while the story is told.
struct Traffic {
    hostile: Vec<Vec<u8>>,
    friendly: Vec<u8>,
    is_over: AtomicBool,
    sent: AtomicU64,
    /// Friendly frames that came back, forwarded: those that look for forbidden ones are not blind.
    forwarded: AtomicU64,
}

impl Traffic {
    /// Sends hostile frames and looks for them coming back, until told to end.
    fn attack(&self, far: &NetNs) {
        while !self.is_over.load(Ordering::Relaxed) {
            // The trunk may be gone at the moment.
            if let Ok(wire) = RawSocket::open(far, FAR_TRUNK) {
                self.attack_on(&wire);
            }
        }
    }

    /// Returns when the trunk is gone.
    fn attack_on(&self, wire: &RawSocket) {
        for frame in self.hostile.iter().cycle() {
            if self.is_over.load(Ordering::Relaxed) || wire.send(&self.friendly).is_err() {
                return;
            }
            if wire.send(frame).is_ok() {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            while let Ok(Some(out)) = wire.receive(Instant::now() + Duration::from_millis(1)) {
                self.look(&out);
            }
        }
    }

    fn look(&self, out: &[u8]) {
        let parsed = ParsedFrame::parse(out);
        let transport = parsed.as_ref().and_then(ParsedFrame::transport);
        let port = transport.map_or(0, |ports| ports.source_port);
        assert!(
            !HOSTILE.contains(&port),
            "a forbidden packet passed: {out:02x?}"
        );
        if port == FRIENDLY {
            self.forwarded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Story {
    lab: Lab,
    run: Option<Running>,
    random: Rng,
    /// Which of two versions of the rules is in the inventory.
    edited: bool,
    /// Whether the tenant has both families.
    grown: bool,
    addresses: u8,
}

/// Starts the daemon, and waits until it has said something: before that, a hangup would end it.
fn daemon(lab: &Lab) -> Running {
    let run = lab.start(&["run"]);
    run.wait_until_it_says(" ");
    run
}

impl Story {
    fn tell(&mut self, traffic: &Traffic) {
        for _ in 0..asked_for("BULKHEAD_STEPS", STEPS) {
            let step = ALL[self.random.usize(..ALL.len())];
            self.take(step);
            self.settle(step, traffic);
        }
    }

    fn edit(&mut self) {
        let file = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
        let (from, to) = match self.edited {
            false => ("tcp/443", "tcp/8443"),
            true => ("tcp/8443", "tcp/443"),
        };
        self.lab.edit(file, from, to);
        self.edited = !self.edited;
    }

    /// Starts an apply and kills it after so many milliseconds.
    fn kill_an_apply(&mut self, words: &[&str], moments: std::ops::Range<u64>) {
        let mut apply = self.lab.start_logged(words, "apply.log");
        let moment = self.random.u64(moments);
        std::thread::sleep(Duration::from_millis(moment));
        apply.kill();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Edit => {
                self.edit();
                self.lab.bulkhead(&APPLY).expect(0);
            }
            Step::Grow => {
                let (small, large) = (
                    "subnet: 10.102.0.0/24",
                    "subnet: 10.102.0.0/24\n    subnet6: fd00:102::/64",
                );
                let (from, to) = match self.grown {
                    false => (small, large),
                    true => (large, small),
                };
                self.lab.edit("site/group_vars/all/tenants.yml", from, to);
                self.grown = !self.grown;
                self.lab.bulkhead(&APPLY).expect(0);
            }
            Step::Trial => {
                self.edit();
                let words = [&APPLY[..], &["--confirm-within", "1s"]].concat();
                self.kill_an_apply(&words, 0..800);
            }
            Step::Rollback => {
                // There may be nothing to go back to.
                self.lab.bulkhead(&["rollback", "--yes"]);
            }
            Step::LoseEntry => self.lab.lose_an_endpoint(),
            Step::BreakLink => self.lab.break_a_device(),
            Step::Flap => {
                self.lab.router.set_down(TRUNK).unwrap();
                self.lab.router.set_up(TRUNK).unwrap();
            }
            Step::Renew => self.lab.renew_trunk(),
            Step::Kill => {
                self.run = None;
                self.run = Some(daemon(&self.lab));
            }
            Step::KillApply => {
                self.edit();
                self.kill_an_apply(&APPLY, 0..400);
            }
            Step::Readdress => {
                self.addresses += 1;
                let address = std::net::Ipv4Addr::new(192, 0, 2, self.addresses);
                let router = &self.lab.router;
                router.add_address(TRUNK, address.into(), 32).unwrap();
            }
        }
    }

    /// Waits until there is no drift.
    fn settle(&self, step: Step, traffic: &Traffic) {
        if let Some(run) = &self.run {
            // Foreign hands in maps are no event; the daemon would find them within a minute.
            run.signal(nix::sys::signal::Signal::SIGHUP);
        }
        let settled = wait_at_most(PATIENCE, "no drift", || {
            let waits = self.lab.path("store/pending.json").exists();
            (!waits && self.lab.bulkhead(&["drift"]).code == 0).then_some(())
        });
        let drift = || self.lab.bulkhead(&["drift"]).out;
        let said = || self.run.as_ref().map(Running::said);
        assert!(settled.is_ok(), "after {step:?}: {}\n{:?}", drift(), said());
        self.lab.bulkhead(&["status"]).expect(0);
        let before = traffic.forwarded.load(Ordering::Relaxed);
        let forwarded = || traffic.forwarded.load(Ordering::Relaxed) > before;
        let passed = wait_at_most(PATIENCE, "a friendly frame", || forwarded().then_some(()));
        assert!(passed.is_ok(), "after {step:?} nothing passes any more");
    }
}

fn live(seed: u64) {
    let lab = match vlan_devices_available().unwrap() {
        true => Lab::with_devices(),
        false => Lab::new(),
    };
    let inventory = netmodel::Options::new(lab.path("site"), Some(lab.path("tenants")));
    let model = netmodel::load(&inventory).model.unwrap();
    let router = lab.router.mac(TRUNK).unwrap();
    let traffic = Traffic {
        hostile: hostile(&model, router),
        friendly: friendly(&model, router),
        is_over: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        forwarded: AtomicU64::new(0),
    };
    assert!(traffic.hostile.len() >= 6, "too few frames");
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let mut story = Story {
        run: Some(daemon(&lab)),
        lab,
        random: Rng::with_seed(seed),
        edited: false,
        grown: false,
        addresses: 0,
    };
    let far = story.lab.far.clone();
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| traffic.attack(&far));
        let tell = std::panic::AssertUnwindSafe(|| story.tell(&traffic));
        let told = std::panic::catch_unwind(tell);
        traffic.is_over.store(true, Ordering::Relaxed);
        attacker.join().unwrap();
        if let Err(panic) = told {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    });
    let (sent, dropped) = (traffic.sent.load(Ordering::Relaxed), story.lab.dropped());
    assert!(sent > 100, "only {sent} hostile frames");
    assert!(dropped > 0, "none of {sent} hostile frames was counted");
    eprintln!("seed {seed}: {sent} hostile frames sent, {dropped} drops counted");
}

#[test]
fn whatever_happens_it_settles_and_nothing_forbidden_passes() {
    for seed in 0..asked_for("BULKHEAD_CASES", CASES) {
        live(seed);
    }
}
