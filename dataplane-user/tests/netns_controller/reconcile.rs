//! Whatever an operator, a foreign hand, a cable or the kernel's killer does, in whatever order: once it is over, the kernel is what
//! the current generation says, and at no moment does a forbidden packet pass.
//!
//! A hostile sender runs all the time. It aims where a frame would come out of the trunk again, were it let through: another test
//! lets it through, and sees it. The uplinks' table is bulkhead's; so are links and addresses where the kernel has VLAN devices.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use netmodel::Model;
use netmodel::model::{Interface, Owner, Segment};
use testkit::frame::{Frame, ParsedFrame, tcp_flag};
use testkit::kernel_vlan::vlan_devices_available;
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::wait::{PATIENCE, wait_for};

use crate::lab::{FAR_TRUNK, Lab, Running, TRUNK};

/// Sequences of steps. `BULKHEAD_CASES` changes it.
const CASES: u64 = 4;
/// Steps of a sequence, besides one of each kind; after each of them everything settles. `BULKHEAD_STEPS` changes it.
const STEPS: u64 = 4;

/// A subnet goes now and then.
const APPLY: [&str; 4] = ["apply", "--yes", "--allow-destroy", "1"];
/// The tenants' file of rules.
const FIREWALL: &str = "tenants/grooveiq/group_vars/grooveiq/firewall.yml";
/// VLANs of two tenants of the sample: who offers, and who uses that.
const GROOVEIQ: u16 = 100;
const VINTRONICS: u16 = 101;
/// A VLAN that carries no segment.
const NO_VLAN: u16 = 4000;

/// The first source port of the hostile frames: each has one of its own.
const HOSTILE: u16 = 40_000;
/// Source ports of the friendly frames: while the hostile sender is at it, and in a truce.
const FRIENDLY: [u16; 2] = [50_000, 50_001];
/// Hardware addresses that the inventory does not know.
const STRANGER: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x66];
const OPERATOR: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x67];

/// A number of the environment, for longer and for shorter runs.
fn asked_for(variable: &str, default: u64) -> u64 {
    let number = std::env::var(variable);
    number.map_or(default, |number| number.parse().unwrap())
}

/// Something that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    /// A foreign hand removes what keeps the programs on the trunk, while no daemon runs.
    LoseLinkPin,
    /// A foreign hand empties a chain of the uplinks' table.
    FlushChain,
    /// A foreign hand sets a device of ours down.
    BreakLink,
    /// A foreign hand deletes a device of ours.
    DeleteDevice,
    /// A foreign hand takes the addresses of a device of ours.
    DeleteAddresses,
    /// A foreign hand lets the kernel believe what a router must not.
    SetSysctls,
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

/// What can happen on every kernel.
const ANYWHERE: [Step; 13] = [
    Step::Edit,
    Step::Grow,
    Step::Trial,
    Step::Rollback,
    Step::LoseEntry,
    Step::LoseLinkPin,
    Step::FlushChain,
    Step::SetSysctls,
    Step::Flap,
    Step::Renew,
    Step::Kill,
    Step::KillApply,
    Step::Readdress,
];
/// What can happen where there are VLAN devices.
const ON_DEVICES: [Step; 3] = [Step::BreakLink, Step::DeleteDevice, Step::DeleteAddresses];

fn inventory(lab: &Lab) -> netmodel::Options {
    netmodel::Options::new(lab.path("site"), Some(lab.path("tenants")))
}

/// Removes the pin of the attachment: if nobody else holds it, no programs are on the trunk any more.
fn lose_link_pin(lab: &Lab) {
    let pins = lab.pins();
    std::fs::remove_file(pins.link(pins.mode().unwrap())).unwrap();
}

/// Who would pass a hostile frame on, if it were not forbidden.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// The programs, which know the hardware address; without programs, the kernel.
    Programs,
    /// The kernel: it has to ask for the hardware address.
    Kernel,
    /// Nobody: the kernel would not have it either.
    Nobody,
}

/// A frame that no version of the inventory allows.
struct Hostile {
    /// Where it comes from, and where it goes.
    vlans: (u16, u16),
    way: Way,
    /// Its source port, by which it is known again.
    port: u16,
    frame: Vec<u8>,
}

/// Frames that no version of the inventory allows: from each tenant to all that is not its own, and what an operator may send, but with
/// the tags of a tenant, of two segments or of none.
fn hostile(model: &Model, router: [u8; 6]) -> Vec<Hostile> {
    let (places, operator) = (places(model), Operator::of(model));
    let mut frames: Vec<Hostile> = Vec::new();
    let mut add = |vlans: (u16, u16), way: Way, frame: Frame, to_port: u16| {
        let port = HOSTILE + u16::try_from(frames.len()).unwrap();
        let frame = frame.tcp(port, to_port, tcp_flag::SYN).build();
        frames.push(Hostile {
            vlans,
            way,
            port,
            frame,
        });
    };
    for from in tenants(model) {
        let vlan = from.vlan_id.as_u16();
        for &(to, address, way) in places.iter().filter(|(to, ..)| *to != vlan) {
            if let Some(own) = address_on(from, 66, address.is_ipv4()) {
                let frame = Frame::new(STRANGER, router).vlan(vlan);
                // No rule, offer or grant of the sample has this port.
                add((vlan, to), way, frame.ip(own, address), 9999);
            }
        }
        for tags in [&[vlan][..], &[vlan, operator.vlan][..]] {
            let frame = operator.packet(router, tags);
            add((vlan, GROOVEIQ), Way::Nobody, frame, 22);
        }
    }
    let frame = operator.packet(router, &[NO_VLAN]);
    add((NO_VLAN, GROOVEIQ), Way::Nobody, frame, 22);
    frames
}

/// Where hostile frames go, by VLAN: every machine whose hardware address is known, and nobody's address in each tenant's subnets.
fn places(model: &Model) -> Vec<(u16, IpAddr, Way)> {
    let mut places = Vec::new();
    let machines = model.hosts.iter().filter(|host| !host.is_router);
    for interface in machines.flat_map(|host| &host.interfaces) {
        let (Some(segment), Some(_)) = (interface.segment, interface.mac) else {
            continue;
        };
        let vlan = model.segment(segment).vlan_id.as_u16();
        let found = addresses(interface);
        places.extend(found.map(|address| (vlan, address, Way::Programs)));
    }
    for segment in tenants(model) {
        let vlan = segment.vlan_id.as_u16();
        let families = [true, false].into_iter();
        let found = families.filter_map(|is_ipv4| address_on(segment, 67, is_ipv4));
        places.extend(found.map(|address| (vlan, address, Way::Kernel)));
    }
    places
}

fn tenants(model: &Model) -> impl Iterator<Item = &Segment> {
    let segments = model.segments.iter();
    segments.filter(|segment| segment.owner != Owner::Platform)
}

fn addresses(interface: &Interface) -> impl Iterator<Item = IpAddr> {
    let v4 = interface.ipv4.map(IpAddr::V4);
    v4.into_iter().chain(interface.ipv6.map(IpAddr::V6))
}

/// Returns an address of a segment, if that has the family.
fn address_on(segment: &Segment, last: u8, is_ipv4: bool) -> Option<IpAddr> {
    if is_ipv4 {
        let net = u32::from(segment.ipv4?.net.network());
        return Some(Ipv4Addr::from(net + u32::from(last)).into());
    }
    let net = u128::from(segment.ipv6?.net.network());
    Some(Ipv6Addr::from(net + u128::from(last)).into())
}

/// Somebody who may open connections to a tenant's machine: every version of the inventory allows that.
struct Operator {
    vlan: u16,
    address: IpAddr,
    machine: IpAddr,
}

impl Operator {
    fn of(model: &Model) -> Self {
        let mut segments = model.segments.iter();
        let management = segments.find(|s| s.name.as_str() == "management");
        let management = management.unwrap();
        let mut hosts = model.hosts.iter();
        let machine = hosts.find(|host| host.name.as_str() == "grooveiq-api01");
        let machine = machine.unwrap().interfaces[0].ipv4.unwrap();
        Self {
            vlan: management.vlan_id.as_u16(),
            address: address_on(management, 66, true).unwrap(),
            machine: machine.into(),
        }
    }

    /// A packet to the machine, behind these tags.
    fn packet(&self, router: [u8; 6], tags: &[u16]) -> Frame {
        let frame = Frame::new(OPERATOR, router);
        let frame = tags.iter().fold(frame, |frame, tag| frame.vlan(*tag));
        frame.ip(self.address, self.machine)
    }
}

/// What goes over the trunk while the story is told.
struct Traffic {
    hostile: Vec<Hostile>,
    /// An operator's, as [`FRIENDLY`].
    friendly: [Vec<u8>; 2],
    /// Hardware addresses of the inventory.
    macs: BTreeMap<IpAddr, [u8; 6]>,
    is_over: AtomicBool,
    /// Nothing hostile is sent.
    is_truce: AtomicBool,
    sent: AtomicU64,
    /// Friendly frames that came back, forwarded: those that look for forbidden ones are not blind.
    forwarded: [AtomicU64; 2],
    /// The first forbidden frame that came back.
    passed: OnceLock<String>,
}

impl Traffic {
    fn new(lab: &Lab) -> Self {
        let model = netmodel::load(&inventory(lab)).model.unwrap();
        let router = lab.router.mac(TRUNK).unwrap();
        let operator = Operator::of(&model);
        let friendly = FRIENDLY.map(|port| {
            let packet = operator.packet(router, &[operator.vlan]);
            packet.tcp(port, 22, tcp_flag::SYN).build()
        });
        let interfaces = model.hosts.iter().flat_map(|host| &host.interfaces);
        let macs = interfaces.flat_map(|interface| {
            let known = addresses(interface).zip(std::iter::repeat(interface.mac));
            known.filter_map(|(address, mac)| Some((address, mac?.0)))
        });
        Self {
            hostile: hostile(&model, router),
            friendly,
            macs: macs.collect(),
            is_over: AtomicBool::new(false),
            is_truce: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            forwarded: Default::default(),
            passed: OnceLock::new(),
        }
    }

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
        for hostile in self.hostile.iter().cycle() {
            let is_truce = self.is_truce.load(Ordering::Relaxed);
            let friendly = &self.friendly[usize::from(is_truce)];
            if self.is_over.load(Ordering::Relaxed) || wire.send(friendly).is_err() {
                return;
            }
            if !is_truce && wire.send(&hostile.frame).is_ok() {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            while let Ok(Some(out)) = wire.receive(Instant::now() + Duration::from_millis(1)) {
                self.look(wire, &out);
            }
        }
    }

    fn look(&self, wire: &RawSocket, out: &[u8]) {
        let Some(port) = self.seen(wire, out) else {
            return;
        };
        if let Some(hostile) = self.hostile.iter().find(|hostile| hostile.port == port) {
            let (from, to) = hostile.vlans;
            // The first one is told of.
            let _ = self.passed.set(format!(
                "from VLAN {from} to {to}, a way for {:?}: {out:02x?}",
                hostile.way
            ));
        }
        for (count, friendly) in self.forwarded.iter().zip(FRIENDLY) {
            if port == friendly {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes a frame that came out of the trunk; if the router asks where somebody is, it gets an answer. Returns the source port.
    fn seen(&self, wire: &RawSocket, out: &[u8]) -> Option<u16> {
        let parsed = ParsedFrame::parse(out)?;
        if let Some(answer) = self.answer(&parsed) {
            // The trunk may be gone at the moment.
            let _ = wire.send(&answer);
        }
        Some(parsed.transport()?.source_port)
    }

    /// Everybody is there: the kernel, too, could send to every address of every segment.
    fn answer(&self, question: &ParsedFrame) -> Option<Vec<u8>> {
        let vlan = question.vlan()?;
        let reply = |asked: IpAddr| {
            let mac = self.macs.get(&asked).copied().unwrap_or(STRANGER);
            Frame::new(mac, question.source).vlan(vlan)
        };
        if let Some(arp) = question.arp.filter(|arp| arp.operation == 1) {
            let (asker, asked) = (arp.sender.1, arp.target.1);
            return Some(reply(asked.into()).arp_reply(asked, asker).build());
        }
        let asker = question.ip.as_ref()?.source;
        if !asker.is_ipv6() || asker.is_unspecified() || !question.is_icmp(135) {
            return None;
        }
        let asked: &[u8; 16] = question.transport()?.payload.first_chunk()?;
        let asked = Ipv6Addr::from(*asked);
        let reply = reply(asked.into()).ip(asked.into(), asker);
        let reply = reply.neighbour_advertisement(asked);
        Some(reply.link_layer_option(true).build())
    }

    /// Stops the hostile sender. When this returns, what it has sent is judged: frames keep their order.
    fn make_truce(&self) {
        let count = || self.forwarded[1].load(Ordering::Relaxed);
        let before = count();
        self.is_truce.store(true, Ordering::Relaxed);
        let is_quiet = || (count() > before).then_some(());
        wait_for("a friendly frame of the truce", is_quiet).unwrap();
    }

    fn end_truce(&self) {
        self.is_truce.store(false, Ordering::Relaxed);
    }

    fn assert_nothing_passed(&self, when: &str) {
        let passed = self.passed.get();
        assert!(
            passed.is_none(),
            "{when}: a forbidden packet passed {passed:?}"
        );
    }
}

struct Story {
    lab: Lab,
    has_devices: bool,
    run: Option<Running>,
    random: Rng,
    /// Which of two versions of the rules is in the inventory.
    edited: bool,
    /// Whether the tenant has both families.
    grown: bool,
    addresses: u8,
    /// How long an apply takes on this machine.
    apply_takes: Duration,
}

/// Starts the daemon, and waits until it has said something: before that, a hangup would end it.
fn daemon(lab: &Lab) -> Running {
    let run = lab.start(&["run"]);
    run.wait_until_it_says(" ");
    run
}

impl Story {
    fn tell(&mut self, traffic: &Traffic) {
        let mut kinds = ANYWHERE.to_vec();
        if self.has_devices {
            kinds.extend(ON_DEVICES);
        }
        self.random.shuffle(&mut kinds);
        let mut steps = kinds.clone();
        for _ in 0..asked_for("BULKHEAD_STEPS", STEPS) {
            steps.push(kinds[self.random.usize(..kinds.len())]);
        }
        for step in steps {
            // Where nothing judges, what passes is no fault of ours.
            if step == Step::LoseLinkPin {
                traffic.make_truce();
            }
            self.take(step);
            self.settle(step, traffic);
        }
    }

    fn edit(&mut self) {
        let (from, to) = match self.edited {
            false => ("tcp/443", "tcp/8443"),
            true => ("tcp/8443", "tcp/443"),
        };
        self.lab.edit(FIREWALL, from, to);
        self.edited = !self.edited;
    }

    /// Starts an apply and kills it, at the latest after so many times as long as one takes.
    fn kill_an_apply(&mut self, words: &[&str], times: f64) {
        let mut apply = self.lab.start_logged(words, "apply.log");
        let moment = self.random.f64() * times;
        std::thread::sleep(self.apply_takes.mul_f64(moment));
        apply.kill();
    }

    /// A device of a tenant's, or the trunk where there are none.
    fn device(&mut self) -> String {
        if !self.has_devices {
            return TRUNK.to_owned();
        }
        let vlan = GROOVEIQ + self.random.u16(..3);
        dataplane_user::network::device_name(TRUNK, vlan)
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
                self.kill_an_apply(&words, 2.0);
            }
            Step::Rollback => {
                self.lab.bulkhead(&["rollback", "--yes"]).expect(0);
            }
            Step::LoseEntry => self.lab.lose_an_endpoint(),
            Step::LoseLinkPin => {
                // It holds the attachment, too.
                self.run = None;
                lose_link_pin(&self.lab);
                self.run = Some(daemon(&self.lab));
            }
            Step::FlushChain => {
                self.lab.tool("nft flush chain inet bulkhead to_uplink");
            }
            Step::BreakLink => self.lab.break_a_device(),
            Step::DeleteDevice => {
                let device = self.device();
                self.lab.router.delete_link(&device).unwrap();
            }
            Step::DeleteAddresses => {
                let device = self.device();
                let hand = format!("ip address flush dev {device} scope global");
                self.lab.tool(&hand);
            }
            Step::SetSysctls => {
                let device = self.device();
                for key in ["rp_filter=0", "accept_redirects=1"] {
                    let hand = format!("sysctl -w net/ipv4/conf/{device}/{key}");
                    self.lab.tool(&hand);
                }
            }
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
                self.kill_an_apply(&APPLY, 1.2);
            }
            Step::Readdress => {
                self.addresses += 1;
                let address = Ipv4Addr::new(192, 0, 2, self.addresses);
                let router = &self.lab.router;
                router.add_address(TRUNK, address.into(), 32).unwrap();
            }
        }
    }

    /// Is what lies in the inventory's folder what is applied? Not after what went back.
    fn is_inventory_applied(&self) -> bool {
        let sources = netmodel::load(&inventory(&self.lab)).sources;
        let published = netmodel::published::head(&self.lab.path("published"));
        published.unwrap().inventory == sources.digest()
    }

    /// Waits until there is no drift, and sees that nobody wants anything more.
    fn settle(&self, step: Step, traffic: &Traffic) {
        if let Some(run) = &self.run {
            // Foreign hands in maps are no event; the daemon would find them within a minute.
            run.signal(nix::sys::signal::Signal::SIGHUP);
        }
        let settled = wait_for("no drift", || {
            let waits = self.lab.path("store/pending.json").exists();
            (!waits && self.lab.bulkhead(&["drift"]).code == 0).then_some(())
        });
        let drift = || self.lab.bulkhead(&["drift"]).out;
        let said = || self.run.as_ref().map(Running::said);
        assert!(settled.is_ok(), "after {step:?}: {}\n{:?}", drift(), said());
        traffic.end_truce();
        self.lab.bulkhead(&["status"]).expect(0);
        if matches!(step, Step::Edit | Step::Grow) || self.is_inventory_applied() {
            let plan = self.lab.bulkhead(&["plan"]);
            let told = format!("{}\n{}", plan.out, plan.talk);
            assert_eq!(plan.code, 0, "after {step:?}, a plan is not empty: {told}");
        }
        let count = || traffic.forwarded[0].load(Ordering::Relaxed);
        let before = count();
        let forwarded = || (count() > before).then_some(());
        let passed = wait_for("a friendly frame", forwarded);
        assert!(passed.is_ok(), "after {step:?} nothing passes any more");
        traffic.assert_nothing_passed(&format!("{step:?}"));
    }
}

fn live(seed: u64) {
    let (lab, has_devices) = (Lab::with_everything(), vlan_devices_available().unwrap());
    let traffic = Traffic::new(&lab);
    lab.bulkhead(&["apply", "--yes"]).expect(0);
    let mut story = Story {
        lab,
        has_devices,
        run: None,
        random: Rng::with_seed(seed),
        edited: false,
        grown: false,
        addresses: 0,
        apply_takes: Duration::ZERO,
    };
    // A second generation, so that there is one to go back to.
    let begin = Instant::now();
    story.take(Step::Edit);
    story.apply_takes = begin.elapsed();
    story.run = Some(daemon(&story.lab));
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
    traffic.assert_nothing_passed("in the end");
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

/// Sends a hostile frame until it is seen: the kernel may have to ask where to.
fn assert_seen(traffic: &Traffic, wire: &RawSocket, hostile: &Hostile) {
    let seen = wait_for("a hostile frame", || {
        wire.send(&hostile.frame).unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        let is_it = |out: &[u8]| {
            let port = traffic.seen(wire, out)?;
            (port == hostile.port).then_some(())
        };
        wire.receive_where(deadline, is_it).unwrap()
    });
    let (vlans, way) = (hostile.vlans, hostile.way);
    assert!(seen.is_ok(), "{vlans:?}, a way for {way:?}, is not seen");
}

#[test]
fn whatever_happens_to_let_a_hostile_frame_through_is_seen() {
    let (lab, has_devices) = (Lab::with_everything(), vlan_devices_available().unwrap());
    let traffic = Traffic::new(&lab);
    let wire = RawSocket::open(&lab.far, FAR_TRUNK).unwrap();
    // The inventory allows some of them, for once.
    let (one, all) = (
        "host: grooveiq-api01, ports: [tcp/443]",
        "segment: main, ports: [tcp/9999]",
    );
    lab.edit(FIREWALL, one, all);
    lab.bulkhead(&APPLY).expect(0);
    let of_offer = traffic.hostile.iter().filter(|hostile| {
        let is_way = match hostile.way {
            Way::Programs => true,
            Way::Kernel => has_devices,
            Way::Nobody => false,
        };
        is_way && hostile.vlans == (VINTRONICS, GROOVEIQ)
    });
    let of_offer: Vec<_> = of_offer.collect();
    assert!(of_offer.len() >= 3, "too few frames");
    for hostile in of_offer {
        assert_seen(&traffic, &wire, hostile);
    }
    // And then no more.
    lab.edit(FIREWALL, all, one);
    lab.bulkhead(&APPLY).expect(0);
    wire.drain().unwrap();
    for hostile in &traffic.hostile {
        wire.send(&hostile.frame).unwrap();
    }
    wire.send(&traffic.friendly[0]).unwrap();
    let is_of_ours = |out: &[u8]| {
        let port = traffic.seen(&wire, out)?;
        (port >= HOSTILE).then_some(port)
    };
    let first = wire.receive_where(Instant::now() + PATIENCE, is_of_ours);
    assert_eq!(first.unwrap(), Some(FRIENDLY[0]));
    if !has_devices {
        return;
    }
    // Without programs, the kernel passes on what goes from one segment to another.
    lose_link_pin(&lab);
    for hostile in &traffic.hostile {
        if hostile.way != Way::Nobody {
            assert_seen(&traffic, &wire, hostile);
        }
    }
}
