//! Machines at real taps, which leave segmentation and checksums to others, as machines do that have virtio.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane_user::loader::{PortHook, WantedMode};
use testkit::frame::{Frame, ParsedFrame, fragments, tcp_flag};
use testkit::tap::{Gso, Left, Tap};
use testkit::wait::{PATIENCE, wait_for};

use crate::host::{Lab, Machine, Wiring, model};

/// Where the port of the sample's one rule between two hosts of a segment is.
const PORT: u16 = 5432;
const SEGMENT: u16 = 1400;
/// So much later than at once a frame may leave a port that has a bandwidth.
const BACKLOG: Duration = Duration::from_millis(100);
/// So long nothing may arrive where nothing should.
const SILENCE: Duration = Duration::from_millis(50);

/// IPv4 or IPv6 between two machines.
fn packet(from: Machine, to: Machine, v6: bool) -> Frame {
    let frame = Frame::new(from.mac, to.mac);
    if v6 {
        frame.ipv6(from.ipv6, to.ipv6)
    } else {
        frame.ipv4(from.ipv4, to.ipv4)
    }
}

/// What a sender writes into the checksum that it leaves to others: the sum of the pseudo-header (RFC 9293 section 3.1).
fn pseudo(frame: &[u8]) -> u16 {
    let ip = ParsedFrame::parse(frame).unwrap().ip.unwrap();
    let header = if ip.source.is_ipv4() { 20 } else { 40 };
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let pairs = [octets(ip.source), octets(ip.destination)].concat();
    let pairs = pairs
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let length = u32::try_from(ip.packet_length - header).unwrap();
    let mut sum = pairs.sum::<u32>() + length + u32::from(ip.protocol);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// The frame without its transport checksum, and what is left to others.
fn unfinished(frame: Frame, v6: bool, (gso, checksum_at): (Gso, u16)) -> (Vec<u8>, Left) {
    let sum = pseudo(&frame.build());
    let start = if v6 { 54 } else { 34 };
    let left = Left {
        checksum: Some((start, checksum_at)),
        gso: (gso, if gso == Gso::None { 0 } else { SEGMENT }),
    };
    (frame.transport_checksum(sum).build(), left)
}

/// Everything that arrives until all of `octets` of payload is there: frames, and what was left to the receiver.
fn collect(tap: &Tap, port: u16, octets: usize) -> Vec<(ParsedFrame, Left)> {
    let (mut got, mut sum) = (Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while sum < octets {
        let Some((frame, left)) = tap.receive(deadline).unwrap() else {
            panic!("{sum} of {octets} octets arrived: {got:?}");
        };
        let parsed = ParsedFrame::parse(&frame).unwrap();
        let transport = parsed
            .transport()
            .filter(|found| found.destination_port == port);
        let Some(length) = transport.map(|found| found.payload.len()) else {
            continue;
        };
        sum += length;
        got.push((parsed, left));
    }
    got
}

fn payload(octets: usize) -> Vec<u8> {
    (0..=250).cycle().take(octets).collect()
}

fn payload_of(frames: &[(ParsedFrame, Left)]) -> Vec<u8> {
    let payloads = frames
        .iter()
        .map(|(frame, _)| frame.transport().unwrap().payload.clone());
    payloads.collect::<Vec<_>>().concat()
}

#[track_caller]
fn is_silent(tap: &Tap, port: u16, what: &str) {
    let deadline = Instant::now() + SILENCE;
    while let Some((frame, _)) = tap.receive(deadline).unwrap() {
        let parsed = ParsedFrame::parse(&frame).unwrap();
        let ports = parsed.transport().map(|found| found.destination_port);
        assert_ne!(ports, Some(port), "{what}: {parsed:?}");
    }
}

fn lab() -> Lab {
    Lab::build(Wiring::OneBridge, &model(), WantedMode::Auto).unwrap()
}

#[test]
fn packet_that_is_to_be_cut_up_arrives_whole_or_in_segments_with_right_checksums() {
    let data = payload(20_000);
    for (v6, gso) in [(false, Gso::Tcp4), (true, Gso::Tcp6)] {
        for offloads in [true, false] {
            let mut lab = lab();
            let (app, db) = (lab.machine(3), lab.machine(4));
            let from = lab.move_to_tap(app, 1500, true).unwrap();
            let to = lab.move_to_tap(db, 1500, offloads).unwrap();
            let opening = packet(app, db, v6).tcp(4000, PORT, tcp_flag::SYN);
            from.send(&opening.build(), Left::NOTHING).unwrap();
            let frame = packet(app, db, v6).tcp(4000, PORT, tcp_flag::ACK);
            let (frame, left) = unfinished(frame.payload(&data), v6, (gso, 16));
            let sent = from.send(&frame, left);
            assert!(sent.is_ok(), "{gso:?} {left:?}: {sent:?}");
            let got = collect(&to, PORT, data.len());
            assert_eq!(payload_of(&got), data);
            if offloads {
                let left: Vec<_> = got.iter().map(|(_, left)| left.gso).collect();
                assert!(left.contains(&(gso, SEGMENT)), "{left:?}");
            } else {
                assert!(got.len() > 14, "{} segments", got.len());
                let whole = |(frame, left): &(ParsedFrame, Left)| {
                    frame.checksums_ok && *left == Left::NOTHING
                };
                assert!(got.iter().all(whole), "{got:?}");
            }
        }
    }
}

#[test]
fn checksum_that_the_sender_leaves_out_is_there_when_the_receiver_wants_it() {
    for v6 in [false, true] {
        let mut lab = lab();
        let (api, db) = (lab.machine(0), lab.machine(1));
        let from = lab.move_to_tap(api, 1500, true).unwrap();
        let to = lab.move_to_tap(db, 1500, false).unwrap();
        let frame = packet(api, db, v6).udp(4000, 4001).payload(&payload(333));
        let (frame, left) = unfinished(frame, v6, (Gso::None, 6));
        from.send(&frame, left).unwrap();
        let got = collect(&to, 4001, 333);
        assert!(got.iter().all(|(frame, _)| frame.checksums_ok), "{got:?}");
    }
}

#[test]
fn forged_packet_that_is_to_be_cut_up_is_dropped_before_it_is() {
    let mut lab = lab();
    let [api, web, app, db] = [0, 2, 3, 4].map(|at| lab.machine(at));
    let from = lab.move_to_tap(app, 1500, true).unwrap();
    let to = lab.move_to_tap(db, 1500, true).unwrap();
    let big = |frame: Frame| {
        let frame = frame
            .tcp(4000, PORT, tcp_flag::ACK)
            .payload(&payload(20_000));
        unfinished(frame, false, (Gso::Tcp4, 16))
    };
    let direct = || Frame::new(app.mac, db.mac);
    for (what, frame, reason) in [
        (
            "MAC of another",
            direct().source_mac(api.mac).ipv4(app.ipv4, db.ipv4),
            "spoofed-mac",
        ),
        (
            "address of the receiver",
            direct().ipv4(db.ipv4, db.ipv4),
            "spoofed-source",
        ),
        (
            "address of another tenant",
            direct().ipv4(web.ipv4, db.ipv4),
            "source-not-in-segment",
        ),
        (
            "a tag",
            direct().vlan(102).ipv4(app.ipv4, db.ipv4),
            "tagged-frame",
        ),
    ] {
        let before = lab.counts();
        let (frame, mut left) = big(frame);
        if what == "a tag" {
            // The header that is to be filled in is behind the tag.
            left.checksum = Some((38, 16));
        }
        from.send(&frame, left).unwrap();
        lab.expect(
            what,
            &before,
            &[(app.vlan, PortHook::FromTenant, reason, 1)],
        );
        is_silent(&to, PORT, what);
    }
}

#[test]
fn headers_of_the_segments_of_what_is_to_be_cut_up_take_bandwidth_too() {
    let (mut model, octet_time) = (model(), Duration::from_micros(125));
    for tenant in &mut model.tenants {
        tenant.endpoint_limits.bandwidth = "64kbit".parse().unwrap();
    }
    let mut lab = Lab::build(Wiring::OneBridge, &model, WantedMode::Auto).unwrap();
    let (api, db) = (lab.machine(0), lab.machine(1));
    let from = lab.move_to_tap(api, 1500, true).unwrap();
    let to = lab.move_to_tap(db, 1500, true).unwrap();
    let tcp = |port, flag| packet(api, db, true).tcp(port, PORT, flag);
    from.send(&tcp(4000, tcp_flag::SYN).build(), Left::NOTHING)
        .unwrap();
    // 200 segments of 50 octets, each behind Ethernet, IPv6 and TCP.
    let (segments, headers, size) = (200, 14 + 40 + 20, 50);
    let frame = tcp(4000, tcp_flag::ACK).payload(&payload(10_000));
    let (frame, left) = unfinished(frame, true, (Gso::Tcp6, 16));
    let gso = (Gso::Tcp6, size);
    let begin = Instant::now();
    from.send(&frame, Left { gso, ..left }).unwrap();
    // What is refused takes no time of the line: the first frame that passes tells how long it was busy.
    let later = tcp(4001, tcp_flag::SYN).build();
    let passed = wait_for("a later frame", || {
        from.send(&later, Left::NOTHING).unwrap();
        let (frame, _) = to
            .receive(Instant::now() + Duration::from_millis(1))
            .unwrap()?;
        let port = ParsedFrame::parse(&frame)?.transport()?.source_port;
        (port == 4001).then_some(())
    });
    passed.unwrap();
    let busy = octet_time * (segments * headers + 10_000) - BACKLOG;
    assert!(begin.elapsed() >= busy, "{:?}", begin.elapsed());
}

#[test]
fn jumbo_packet_passes_where_the_mtu_says_so() {
    let mut lab = lab();
    let (api, db) = (lab.machine(0), lab.machine(1));
    let from = lab.move_to_tap(api, 9000, true).unwrap();
    let to = lab.move_to_tap(db, 9000, false).unwrap();
    for v6 in [false, true] {
        let octets = 9000 - if v6 { 48 } else { 28 };
        let frame = packet(api, db, v6)
            .udp(4000, 4001)
            .payload(&payload(octets));
        from.send(&frame.build(), Left::NOTHING).unwrap();
        let got = collect(&to, 4001, octets);
        assert_eq!(payload_of(&got), payload(octets));
    }
}

#[test]
fn fragments_and_extension_headers_pass_a_tap_and_stray_fragments_do_not() {
    const DESTINATION_OPTIONS: u8 = 60;
    let mut lab = lab();
    let (api, db) = (lab.machine(0), lab.machine(1));
    let from = lab.move_to_tap(api, 1500, true).unwrap();
    let to = lab.move_to_tap(db, 1500, false).unwrap();
    let frame = packet(api, db, true).extension(DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0]);
    let frame = frame.udp(4000, 4001).payload(&payload(100));
    from.send(&frame.build(), Left::NOTHING).unwrap();
    assert_eq!(payload_of(&collect(&to, 4001, 100)), payload(100));
    for v6 in [false, true] {
        let whole = packet(api, db, v6).identification(77).udp(4000, 4002);
        let parts = fragments(&whole.payload(&payload(3000)).build(), 1400);
        assert_eq!(parts.len(), 3);
        // A later one before the first: nobody knows what it belongs to.
        let before = lab.counts();
        from.send(&parts[1], Left::NOTHING).unwrap();
        let stray = [(api.vlan, PortHook::FromTenant, "fragment-without-first", 1)];
        lab.expect("a stray fragment", &before, &stray);
        let mut arrived = 0;
        for part in &parts {
            from.send(part, Left::NOTHING).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while arrived < parts.len() {
            let got = to.receive(deadline).unwrap();
            let (got, _) = got.unwrap_or_else(|| panic!("{arrived} fragments arrived"));
            arrived += usize::from(parts.contains(&got));
        }
    }
}
