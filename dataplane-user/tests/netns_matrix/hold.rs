//! The hold: nothing passes but what the operator needs; a generation takes its place without a gap, and it never takes a
//! generation's.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Output;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dataplane_common::hold::{HoldDrop, Needs, judge};
use dataplane_common::host::Slice;
use dataplane_user::config::Config;
use dataplane_user::loader::{Hold, HoldCounts, Mode, Pins, WantedMode};
use testkit::frame::{BROADCAST, Frame, link_local, tcp_flag};
use testkit::raw::RawSocket;
use testkit::wait::PATIENCE;

use crate::inventory;
use crate::place::{ROUTER_MAC, UNKNOWN_MAC};
use crate::plane::{Line, TRUNK, enforce, pinned_counters};

const SETTINGS: &str = r#"
[hold]
vlans = [99]
addresses = ["192.0.2.1", "2001:db8:99::1"]
ports = [22, 51820]
sources = ["192.0.2.0/25", "2001:db8:99::/64"]
"#;
const VLAN: u16 = 99;
const ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8:99::1"];
const OPERATOR: [&str; 2] = ["192.0.2.20", "2001:db8:99::20"];
/// The other half of the operator's VLAN, and another network.
const STRANGER: [&str; 2] = ["192.0.2.130", "2001:db8:98::20"];
/// What the kernel would forward to.
const TENANT: [&str; 2] = ["10.100.0.10", "fd00:100::10"];
/// Everything that is not of the `ipv4` and `ipv6` network.
const FAMILIES: [usize; 2] = [0, 1];

fn needs() -> Needs {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bulkhead.toml");
    std::fs::write(&path, SETTINGS).unwrap();
    let config = Config::load(Some(&path)).unwrap();
    config.hold.expect("it has a section [hold]").needs()
}

/// A frame, and what must become of it.
type Row = (String, Vec<u8>, Result<(), HoldDrop>);

fn tagged() -> Frame {
    Frame::new(UNKNOWN_MAC, ROUTER_MAC).vlan(VLAN)
}

fn ip(frame: Frame, from: &str, to: &str) -> Frame {
    let parse = |text: &str| text.parse::<IpAddr>().expect("it is an address");
    frame.ip(parse(from), parse(to))
}

fn ssh(frame: Frame) -> Frame {
    frame.tcp(40_000, 22, tcp_flag::SYN)
}

fn rows() -> Vec<Row> {
    let mut rows = link_rows();
    rows.extend(neighbour_rows());
    rows.extend(disguised_rows());
    for family in FAMILIES {
        rows.extend(friendly_rows(family));
        rows.extend(hostile_rows(family));
    }
    rows.extend(shape_rows());
    rows
}

fn row(what: impl Into<String>, frame: Frame, expected: Result<(), HoldDrop>) -> Row {
    (what.into(), frame.build(), expected)
}

fn link_rows() -> Vec<Row> {
    let with = |frame: Frame| ssh(ip(frame, OPERATOR[0], ROUTER[0]));
    let plain = || Frame::new(UNKNOWN_MAC, ROUTER_MAC);
    let (v4, any): (Ipv4Addr, _) = (OPERATOR[0].parse().unwrap(), ROUTER[0].parse().unwrap());
    let mut rows = vec![
        row("no tag", with(plain()), Err(HoldDrop::Untagged)),
        row(
            "priority tag",
            with(plain().vlan(0)),
            Err(HoldDrop::Untagged),
        ),
        row(
            "another VLAN",
            with(plain().vlan(100)),
            Err(HoldDrop::OtherVlan),
        ),
        row(
            "a listed VLAN behind another",
            with(plain().vlan(100).vlan(VLAN)),
            Err(HoldDrop::OtherVlan),
        ),
        row(
            "spanning tree",
            plain().ether_type(0x88b5).vlan(VLAN).payload(&[0; 46]),
            Err(HoldDrop::OtherProtocol),
        ),
        row(
            "ARP request",
            tagged().destination_mac(BROADCAST).arp_request(v4, any),
            Ok(()),
        ),
        row("ARP reply", tagged().arp_reply(v4, any), Ok(())),
        row(
            "reverse ARP",
            tagged().arp_request(v4, any).rarp(3),
            Err(HoldDrop::OtherProtocol),
        ),
        row(
            "ARP, operation 3",
            tagged().arp(3, (UNKNOWN_MAC, v4), (ROUTER_MAC, any)),
            Err(HoldDrop::OtherProtocol),
        ),
        row(
            "ARP in another VLAN",
            plain().vlan(100).arp_request(v4, any),
            Err(HoldDrop::OtherVlan),
        ),
    ];
    for tpid in [0x8100, 0x88a8, 0x9100] {
        let frame = with(plain().vlan(VLAN).tag(tpid, 100));
        rows.push(row(
            format!("second tag {tpid:#x}"),
            frame,
            Err(HoldDrop::SecondTag),
        ));
    }
    rows
}

fn neighbour_rows() -> Vec<Row> {
    let (own, router): (Ipv6Addr, Ipv6Addr) =
        (OPERATOR[1].parse().unwrap(), ROUTER[1].parse().unwrap());
    let nodes = testkit::frame::solicited_node(router);
    let local = link_local(UNKNOWN_MAC);
    let solicit = |from: Ipv6Addr, to: Ipv6Addr| {
        let frame = tagged().ipv6(from, to).neighbour_solicitation(router);
        frame.link_layer_option(false)
    };
    let tenant: Ipv6Addr = TENANT[1].parse().unwrap();
    vec![
        row("NS to the router's group", solicit(own, nodes), Ok(())),
        row(
            "NS from a link-local address",
            solicit(local, nodes),
            Ok(()),
        ),
        row(
            "NS to the router's link-local address",
            solicit(local, link_local(ROUTER_MAC)),
            Ok(()),
        ),
        row("NS to the router", solicit(own, router), Ok(())),
        row(
            "NA",
            tagged().ipv6(own, router).neighbour_advertisement(own),
            Ok(()),
        ),
        row(
            "NS to a tenant",
            solicit(own, tenant),
            Err(HoldDrop::OtherAddress),
        ),
        row(
            "NS that was forwarded",
            solicit(own, nodes).hop_limit(254),
            Err(HoldDrop::Malformed),
        ),
        row(
            "router advertisement",
            tagged().ipv6(own, router).router_advertisement(),
            Err(HoldDrop::OtherProtocol),
        ),
        row(
            "redirect",
            tagged().ipv6(own, router).nd_redirect(tenant, tenant),
            Err(HoldDrop::OtherProtocol),
        ),
    ]
}

/// What looks like something else.
fn disguised_rows() -> Vec<Row> {
    let (v4, any): (Ipv4Addr, _) = (OPERATOR[0].parse().unwrap(), ROUTER[0].parse().unwrap());
    let nodes = testkit::frame::solicited_node(ROUTER[1].parse().unwrap()).to_string();
    let with_priority = Frame::new(UNKNOWN_MAC, ROUTER_MAC).vlan(VLAN | 5 << 13);
    let solicitation_type = 135 << 8;
    let mut rows = vec![
        row(
            "priority 5 in the VLAN",
            ssh(ip(with_priority, OPERATOR[0], ROUTER[0])),
            Ok(()),
        ),
        row(
            "UDP whose source port begins as NS does",
            ip(tagged(), STRANGER[1], &nodes)
                .hop_limit(255)
                .udp(solicitation_type, 22),
            Err(HoldDrop::OtherAddress),
        ),
        row(
            "destination as in a place that is not in use",
            ssh(ip(tagged(), OPERATOR[1], "::")),
            Err(HoldDrop::OtherAddress),
        ),
    ];
    let formats = [
        (6, 0x0800, [6, 4]),
        (1, 0x86dd, [6, 4]),
        (1, 0x0800, [8, 4]),
        (1, 0x0800, [6, 16]),
    ];
    for (hardware, protocol, lengths) in formats {
        rows.push(row(
            format!("ARP of format {hardware}, {protocol:#x}, {lengths:?}"),
            tagged()
                .arp_request(v4, any)
                .arp_format(hardware, protocol, lengths),
            Err(HoldDrop::Malformed),
        ));
    }
    rows
}

fn friendly_rows(family: usize) -> Vec<Row> {
    let to_router = || ip(tagged(), OPERATOR[family], ROUTER[family]);
    let name = ROUTER[family];
    vec![
        row(format!("ssh to {name}"), ssh(to_router()), Ok(())),
        row(
            format!("UDP to {name}"),
            to_router().udp(40_000, 51_820),
            Ok(()),
        ),
        row(
            format!("echo request to {name}"),
            to_router().echo_request(1, 1),
            Ok(()),
        ),
        row(
            format!("echo reply to {name}"),
            to_router().echo_reply(1, 1),
            Ok(()),
        ),
    ]
}

fn hostile_rows(family: usize) -> Vec<Row> {
    let (operator, router) = (OPERATOR[family], ROUTER[family]);
    let between = |from, to| ip(tagged(), from, to);
    let to_router = || between(operator, router);
    let mut rows = vec![
        row(
            "another TCP port",
            to_router().tcp(22, 80, tcp_flag::SYN),
            Err(HoldDrop::OtherPort),
        ),
        row(
            "another UDP port",
            to_router().udp(22, 53),
            Err(HoldDrop::OtherPort),
        ),
        row("port 0", to_router().udp(22, 0), Err(HoldDrop::OtherPort)),
        row(
            "ssh from a stranger",
            ssh(between(STRANGER[family], router)),
            Err(HoldDrop::OtherSource),
        ),
        row(
            "echo from a stranger",
            between(STRANGER[family], router).echo_request(1, 1),
            Err(HoldDrop::OtherSource),
        ),
        row(
            "ssh to a tenant",
            ssh(between(operator, TENANT[family])),
            Err(HoldDrop::OtherAddress),
        ),
        row(
            "echo to a tenant",
            between(operator, TENANT[family]).echo_request(1, 1),
            Err(HoldDrop::OtherAddress),
        ),
        row(
            "another protocol",
            to_router().protocol(47).payload(&[0; 8]),
            Err(HoldDrop::OtherProtocol),
        ),
        row(
            "first fragment",
            ssh(to_router().fragment(0, true)),
            Err(HoldDrop::Fragment),
        ),
        row(
            "later fragment",
            ssh(to_router().fragment(8, false)),
            Err(HoldDrop::Fragment),
        ),
        row(
            "another version",
            ssh(to_router().version(5)),
            Err(HoldDrop::Malformed),
        ),
        row(
            "ports cut off",
            ssh(to_router()).cut(18 + 22 + 20 * family),
            Err(HoldDrop::Malformed),
        ),
    ];
    let icmp = [3, 1][family];
    let unreachable = to_router().icmp(icmp, 0, [0; 4]).payload(&[0; 28]);
    rows.push(row("ICMP error", unreachable, Err(HoldDrop::OtherProtocol)));
    for (what, _, _) in &mut rows {
        *what = format!("{what} ({router})");
    }
    rows
}

/// What only one family has.
fn shape_rows() -> Vec<Row> {
    let v4 = || ip(tagged(), OPERATOR[0], ROUTER[0]);
    let v6 = || ip(tagged(), OPERATOR[1], ROUTER[1]);
    let mapped = |from: &str, to: &str| {
        let map = |text: &str| {
            text.parse::<Ipv4Addr>()
                .map_or_else(|_| text.parse().unwrap(), |ip| ip.to_ipv6_mapped())
        };
        ssh(tagged().ipv6(map(from), map(to)))
    };
    let mut rows = vec![
        row(
            "IPv4 options",
            ssh(v4().ipv4_options(&[7, 7, 4, 0, 0, 0, 0])),
            Err(HoldDrop::Options),
        ),
        row(
            "IPv4 header of 4 words",
            ssh(v4().header_words(4)),
            Err(HoldDrop::Options),
        ),
        row(
            "mapped destination",
            mapped(OPERATOR[1], ROUTER[0]),
            Err(HoldDrop::Malformed),
        ),
        row(
            "mapped source",
            mapped(OPERATOR[0], ROUTER[1]),
            Err(HoldDrop::Malformed),
        ),
        row(
            "IPv6 in IPv4",
            v4().protocol(58).payload(&[128, 0, 0, 0, 0, 1, 0, 1]),
            Err(HoldDrop::OtherProtocol),
        ),
        row(
            "IPv4 echo in IPv6",
            v6().protocol(1).payload(&[8, 0, 0, 0, 0, 1, 0, 1]),
            Err(HoldDrop::OtherProtocol),
        ),
    ];
    for kind in [0, 43, 60, 51, 135, 139, 140] {
        let frame = ssh(v6().extension(kind, &[0; 6]));
        rows.push(row(
            format!("extension header {kind}"),
            frame,
            Err(HoldDrop::Options),
        ));
    }
    rows
}

#[test]
fn hold_judges_every_row_outside_of_the_kernel() {
    let needs = needs();
    for (what, bytes, expected) in rows() {
        let frame = Slice {
            bytes: &bytes,
            tag: None,
        };
        assert_eq!(judge(&frame, &needs), expected, "{what}");
        // As TC sees it.
        if bytes.get(12..14) == Some(&[0x81, 0]) {
            let tci = u16::from_be_bytes([bytes[14], bytes[15]]);
            let rest = [&bytes[..12], &bytes[16..]].concat();
            let frame = Slice {
                bytes: &rest,
                tag: Some((0x8100, tci)),
            };
            assert_eq!(
                judge(&frame, &needs),
                expected,
                "{what}, tag in the metadata"
            );
            let frame = Slice {
                bytes: &rest,
                tag: Some((0x88a8, tci)),
            };
            assert_eq!(
                judge(&frame, &needs),
                Err(HoldDrop::SecondTag),
                "{what}, service tag"
            );
        }
    }
}

#[test]
fn hold_of_nothing_lets_nothing_pass() {
    for (what, bytes, _) in rows() {
        let frame = Slice {
            bytes: &bytes,
            tag: None,
        };
        assert!(judge(&frame, &Needs::default()).is_err(), "{what}");
    }
}

/// Each of these ends within the headers that are judged.
#[test]
fn frame_that_is_cut_off_is_dropped() {
    let needs = needs();
    for (what, bytes, expected) in rows() {
        for end in 0..bytes.len().min(18 + 28) {
            let cut = Slice {
                bytes: &bytes[..end],
                tag: None,
            };
            let verdict = judge(&cut, &needs);
            assert!(verdict.is_err(), "{what}, {end} octets");
            if expected.is_ok() {
                let malformed = Err(HoldDrop::Malformed);
                assert_eq!(verdict, malformed, "{what}, {end} octets");
            }
        }
    }
}

/// A trunk that is held.
struct HeldLine {
    line: Line,
    /// What the router's network stack gets. `None` for TC, which packet sockets come before.
    stack: Option<RawSocket>,
}

impl HeldLine {
    fn build(mode: Mode) -> Result<Self> {
        let line = Line::build()?;
        let stack = match mode {
            Mode::XdpNative | Mode::XdpGeneric => Some(RawSocket::open(&line.router, TRUNK)?),
            Mode::Tcx | Mode::Clsact => None,
        };
        let pins = line.pins();
        let held = line.router.run(|| {
            let mut hold = Hold::load(&pins, &needs())?;
            hold.attach(TRUNK, WantedMode::Exactly(mode), false)
        });
        held.with_context(|| format!("holding as {mode}"))?;
        Ok(Self { line, stack })
    }

    fn counts(&self) -> Result<HoldCounts> {
        Ok(HoldCounts::read(&Pins::at(&self.line.pins()))?)
    }

    /// Sends a frame; returns what became of it.
    fn send(&self, bytes: &[u8]) -> Result<Vec<(&'static str, u64)>> {
        let before = moved(&self.counts()?);
        self.line.wire.send(bytes)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = moved(&self.counts()?);
            let grown = now.iter().zip(&before).filter(|(now, old)| now.1 != old.1);
            let grown: Vec<_> = grown.map(|(now, old)| (now.0, now.1 - old.1)).collect();
            if !grown.is_empty() || Instant::now() > deadline {
                return Ok(grown);
            }
        }
    }

    /// The network stack gets what passed, as it was sent, and nothing else.
    fn check_stack(&self, bytes: &[u8], passes: bool) -> Result<()> {
        let Some(stack) = &self.stack else {
            return Ok(());
        };
        let got = match passes {
            true => stack.receive(Instant::now() + PATIENCE)?,
            false => stack.try_receive()?,
        };
        let expected = passes.then(|| bytes.to_vec());
        ensure!(got == expected, "the network stack got {got:02x?}");
        Ok(())
    }
}

fn moved(counts: &HoldCounts) -> Vec<(&'static str, u64)> {
    let dropped = HoldDrop::ALL.map(|reason| (reason.name(), counts.dropped(reason)));
    [("passed", counts.passed())]
        .into_iter()
        .chain(dropped)
        .collect()
}

fn held_trunk_lets_only_the_operator_pass(mode: Mode) -> Result<()> {
    let held = HeldLine::build(mode)?;
    for (what, bytes, expected) in rows() {
        let outcome = expected.map_or_else(HoldDrop::name, |()| "passed");
        let grown = held.send(&bytes)?;
        ensure!(grown == [(outcome, 1)], "{what}: {grown:?}, not {outcome}");
        held.check_stack(&bytes, expected.is_ok()).context(what)?;
    }
    Ok(())
}

/// A generation takes the place of the hold while a forger sends: each of the frames was dropped, by the one or the other.
fn generation_takes_the_place_of_the_hold_without_a_gap(mode: Mode) -> Result<()> {
    let held = HeldLine::build(mode)?;
    let (model, pins) = (inventory::model(), held.line.pins());
    let hold = held.counts_kept()?;
    let forged = ssh(ip(
        Frame::new(UNKNOWN_MAC, ROUTER_MAC),
        STRANGER[0],
        ROUTER[0],
    ))
    .build();
    let done = std::sync::atomic::AtomicBool::new(false);
    let sent = std::thread::scope(|scope| -> Result<u64> {
        let sender = scope.spawn(|| -> Result<u64> {
            let (mut sent, mut after) = (0, 0);
            while after < 500 {
                held.line.wire.send(&forged)?;
                sent += 1;
                after += u64::from(done.load(std::sync::atomic::Ordering::Relaxed));
            }
            Ok(sent)
        });
        let enforced = held.line.router.run(|| enforce(&model, mode, pins.clone()));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let (_, attached) = enforced?;
        ensure!(attached.replaced && attached.mode == mode, "{attached:?}");
        sender.join().expect("the sender does not panic")
    })?;
    let dropped = |outcome: u32| -> Result<u64> {
        let cpus = pinned_counters(&pins)?.get(&0, 0)?;
        Ok(cpus
            .iter()
            .map(|cpu| cpu.packets[0][outcome as usize])
            .sum())
    };
    let deadline = Instant::now() + PATIENCE;
    let untagged = dataplane_common::reason::DropReason::Untagged as u32;
    loop {
        let (by_hold, by_generation) = (hold(HoldDrop::Untagged as u32)?, dropped(untagged)?);
        if by_hold + by_generation == sent {
            ensure!(
                by_hold > 0 && by_generation > 0,
                "{by_hold}, {by_generation}"
            );
            eprintln!("{mode}: {by_hold} dropped by the hold, {by_generation} by the generation");
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "of {sent}, {by_hold} and {by_generation} were dropped"
        );
    }
    held.check_stack(&[], false)?;
    ensure!(
        !pins.join("hold").exists(),
        "the maps of the hold are still there"
    );
    Ok(())
}

impl HeldLine {
    /// Opens the counters, which stay open when the hold is gone.
    fn counts_kept(&self) -> Result<impl Fn(u32) -> Result<u64> + use<>> {
        use aya::maps::{Map, MapData, PerCpuArray};
        let path = Pins::at(&self.line.pins()).hold_map("HOLD_COUNTERS");
        let map: PerCpuArray<_, u64> = Map::PerCpuArray(MapData::from_pin(path)?).try_into()?;
        Ok(move |outcome| Ok(map.get(&outcome, 0)?.iter().sum()))
    }
}

/// A command on the trunk of a line; standard error.
fn bulkhead(line: &Line, words: &[&str], settings: &Path) -> Result<Output> {
    let mut command = line.router.command(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(words).args(["--interface", TRUNK]);
    command.arg("--pins").arg(line.pins());
    command
        .arg("--state")
        .arg(settings.with_file_name("state.json"));
    command.arg("--config").arg(settings);
    command.output().context("starting bulkhead")
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn hold_command_holds_once_and_never_weakens(mode: Mode) -> Result<()> {
    let line = Line::build()?;
    let folder = tempfile::tempdir()?;
    let settings = folder.path().join("bulkhead.toml");
    std::fs::write(&settings, SETTINGS)?;
    let hold = || bulkhead(&line, &["hold", "--mode", mode.name()], &settings);
    let status = || bulkhead(&line, &["status"], &settings);
    let first = hold()?;
    ensure!(first.status.code() == Some(0), "{}", talk(&first));
    ensure!(talk(&first).contains("is held"), "{}", talk(&first));
    let told = status()?;
    ensure!(told.status.code() == Some(1), "{}", talk(&told));
    ensure!(
        talk(&told).contains("held: no generation yet"),
        "{}",
        talk(&told)
    );
    let again = hold()?;
    ensure!(
        again.status.success() && talk(&again).contains("held already"),
        "{}",
        talk(&again)
    );

    let model = inventory::model();
    let enforced = line.router.run(|| enforce(&model, mode, line.pins()));
    drop(enforced?);
    let generation = Pins::at(&line.pins()).generation()?.number;
    let after = hold()?;
    ensure!(
        after.status.success() && talk(&after).contains("is enforced"),
        "{}",
        talk(&after)
    );
    let told = status()?;
    ensure!(told.status.success(), "{}", talk(&told));
    ensure!(
        Pins::at(&line.pins()).generation()?.number == generation,
        "another generation"
    );

    let gone = bulkhead(&line, &["detach", "--yes"], &settings)?;
    ensure!(gone.status.success(), "{}", talk(&gone));
    hold()?;
    let gone = bulkhead(&line, &["detach", "--yes"], &settings)?;
    ensure!(gone.status.success(), "{}", talk(&gone));
    ensure!(!line.pins().exists(), "something is still pinned");
    let told = status()?;
    ensure!(!talk(&told).contains("held"), "{}", talk(&told));
    Ok(())
}

macro_rules! in_every_mode {
    ($($name:ident: $work:ident as $mode:ident;)*) => { $(
        #[test]
        fn $name() {
            $work(Mode::$mode).unwrap();
        }
    )* };
}

in_every_mode! {
    held_trunk_lets_only_the_operator_pass_native_xdp: held_trunk_lets_only_the_operator_pass as XdpNative;
    held_trunk_lets_only_the_operator_pass_generic_xdp: held_trunk_lets_only_the_operator_pass as XdpGeneric;
    held_trunk_lets_only_the_operator_pass_tcx: held_trunk_lets_only_the_operator_pass as Tcx;
    held_trunk_lets_only_the_operator_pass_clsact: held_trunk_lets_only_the_operator_pass as Clsact;
    generation_takes_the_place_of_the_hold_native_xdp: generation_takes_the_place_of_the_hold_without_a_gap as XdpNative;
    generation_takes_the_place_of_the_hold_tcx: generation_takes_the_place_of_the_hold_without_a_gap as Tcx;
    generation_takes_the_place_of_the_hold_clsact: generation_takes_the_place_of_the_hold_without_a_gap as Clsact;
    hold_command_holds_once_native_xdp: hold_command_holds_once_and_never_weakens as XdpNative;
    hold_command_holds_once_tcx: hold_command_holds_once_and_never_weakens as Tcx;
    hold_command_holds_once_clsact: hold_command_holds_once_and_never_weakens as Clsact;
}
