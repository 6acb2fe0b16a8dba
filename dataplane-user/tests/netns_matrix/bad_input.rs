//! Frames that are cut, random or damaged, of every length that a wire carries: each is counted once,
//! so the program never aborted, and none passes that the reference evaluator does not let pass.
//!
//! A packet socket sends no frame below 14 octets; the lengths 0 to 13 are `BPF_PROG_TEST_RUN`'s.

use dataplane_common::abi::direction::FROM_TENANT;
use dataplane_common::reason::outcome_name;
use dataplane_user::loader::Mode;
use netmodel::model::SegmentId;
use testkit::frame::{Frame, ether_type, protocol, tcp_flag};

use crate::inventory;
use crate::place::{Place, ROUTER_MAC, UNKNOWN_MAC};
use crate::plane::{Counts, Plane, shown};

/// Lengths of frames, without the frame check sequence.
const LENGTHS: std::ops::RangeInclusive<usize> = 14..=200;
/// Octets that the kernel itself wants behind the first tag before TC sees a frame.
const LEAST_TAGGED_FOR_TC: usize = 20;

/// Honest frames, to be cut and damaged.
fn honest(place: &Place<'_>) -> Vec<Vec<u8>> {
    let mut frames = vec![place.to_all().dhcp_discover().build()];
    for net in [place.v4, place.v6].into_iter().flatten() {
        let to_gateway = || place.to_gateway(&net);
        let syn = to_gateway()
            .tcp(40_000, 53, tcp_flag::SYN)
            .payload(&[1; 150]);
        let first = to_gateway()
            .udp(40_000, 53)
            .payload(&[2; 144])
            .fragment(0, true);
        frames.extend([
            syn.build(),
            first.build(),
            place.echo(&net).payload(&[3; 150]).build(),
        ]);
        if net.own.is_ipv4() {
            frames.push(
                to_gateway()
                    .ipv4_options(&[7, 7, 4, 0, 0, 0, 0])
                    .udp(1, 53)
                    .build(),
            );
        } else {
            let options = to_gateway().extension(protocol::HOP_BY_HOP, &[0; 6]);
            frames.push(
                options
                    .extension(protocol::DESTINATION_OPTIONS, &[0; 30])
                    .udp(1, 53)
                    .build(),
            );
        }
    }
    frames
}

/// A frame of `length` octets, random from `kept` octets of the honest beginning on.
fn random(rng: &mut fastrand::Rng, beginning: &Frame, kept: usize, length: usize) -> Vec<u8> {
    let mut frame = beginning.build();
    frame.truncate(kept);
    frame.resize_with(length.max(kept), || rng.u8(..));
    frame.truncate(length);
    frame
}

/// An honest frame of `length` octets (cut, or with padding) with some of its header damaged.
fn damaged(rng: &mut fastrand::Rng, honest: &[u8], length: usize) -> Vec<u8> {
    let mut frame = honest.to_vec();
    frame.resize(length, 0);
    for _ in 0..rng.usize(0..3) {
        let at = rng.usize(12..length.min(80));
        frame[at] = if rng.bool() {
            rng.u8(..)
        } else {
            frame[at] ^ (1 << rng.u8(0..8))
        };
    }
    frame
}

fn frames(place: &Place<'_>) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(0x6275_6c6b);
    let honest = honest(place);
    let start = |kind: u16| {
        Frame::new(UNKNOWN_MAC, ROUTER_MAC)
            .vlan(place.vlan)
            .ether_type(kind)
    };
    let kinds = [
        ether_type::IPV4,
        ether_type::IPV6,
        ether_type::ARP,
        ether_type::RARP,
        0x8100,
    ];
    let mut frames = Vec::new();
    for length in LENGTHS {
        frames.push(random(&mut rng, &start(0), 0, length));
        frames.extend(kinds.map(|kind| random(&mut rng, &start(kind), 18, length)));
        for frame in &honest {
            let mut cut = frame.clone();
            cut.truncate(length);
            frames.extend([
                cut,
                damaged(&mut rng, frame, length),
                damaged(&mut rng, frame, length),
            ]);
        }
    }
    frames
}

/// VLAN id that the frame's counters are on.
fn counted_on(frame: &[u8]) -> u16 {
    match frame.get(12..18) {
        Some([0x81, 0, a, b, ..]) => u16::from_be_bytes([*a, *b]) & 0xfff,
        _ => 0,
    }
}

fn is_for_the_kernel(frame: &[u8]) -> bool {
    let tagged = matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8]));
    tagged && frame.len() < LEAST_TAGGED_FOR_TC
}

/// Sends it; returns what was wrong.
fn run(plane: &Plane, frame: &[u8], expected: &str) -> Result<(), String> {
    let vlan = counted_on(frame);
    let before = plane.counts([vlan]).map_err(|error| format!("{error:#}"))?;
    plane
        .wire()
        .send(frame)
        .map_err(|error| format!("not sent: {error}"))?;
    let moved = plane
        .moved(&[vlan], &before, 1)
        .map_err(|error| format!("{error:#}"))?;
    let from: Counts = moved
        .into_iter()
        .filter(|((_, way, _), _)| *way == FROM_TENANT)
        .collect();
    let seen: Vec<_> = from
        .keys()
        .map(|(_, _, outcome)| outcome_name(*outcome))
        .collect();
    if seen == [Some(expected)] && from.values().sum::<u64>() == 1 {
        Ok(())
    } else {
        Err(format!("{}, instead of {expected}", shown(&from)))
    }
}

fn bad_input_is_counted_once_and_passes_only_if_it_may(mode: Mode) {
    let model = inventory::model();
    let world = oracle::World::new(&model, ROUTER_MAC, 1);
    let mut state = oracle::State::default();
    let plane = Plane::build(&model, mode).expect("root can build a trunk");
    let ids = (0..model.segments.len()).map(SegmentId);
    let mut places = ids.map(|id| Place::new(&model, id));
    let place = places.find(|place| place.v4.is_some() && place.v6.is_some() && place.is_tenant());
    let place = place.expect("a tenant with both families");
    let is_tc = matches!(mode, Mode::Tcx | Mode::Clsact);
    let mut wrong = Vec::new();
    let mut sent = 0;
    for bytes in frames(&place) {
        if wrong.len() == crate::ENOUGH {
            break;
        }
        if is_tc && is_for_the_kernel(&bytes) {
            continue;
        }
        let frame = oracle::Frame {
            bytes: &bytes,
            offloaded_tag: None,
        };
        let expected = oracle::from_trunk(&world, &mut state, &frame, 1).name();
        if let Err(what) = run(&plane, &bytes, expected) {
            wrong.push(format!("{what}: {bytes:02x?}"));
        }
        sent += 1;
    }
    let counted: u64 = plane
        .all_counts()
        .expect("counters can be read")
        .iter()
        .filter(|((_, way, _), _)| *way == FROM_TENANT)
        .map(|(_, frames)| frames)
        .sum();
    assert!(wrong.is_empty(), "of {sent} frames:\n{}", wrong.join("\n"));
    assert_eq!(counted, sent, "every frame is counted once");
    eprintln!("{mode}: {sent} frames");
}

#[test]
fn bad_input_never_aborts_and_never_passes_native_xdp() {
    bad_input_is_counted_once_and_passes_only_if_it_may(Mode::XdpNative);
}

#[test]
fn bad_input_never_aborts_and_never_passes_generic_xdp() {
    bad_input_is_counted_once_and_passes_only_if_it_may(Mode::XdpGeneric);
}

#[test]
fn bad_input_never_aborts_and_never_passes_tcx() {
    bad_input_is_counted_once_and_passes_only_if_it_may(Mode::Tcx);
}

#[test]
fn bad_input_never_aborts_and_never_passes_clsact() {
    bad_input_is_counted_once_and_passes_only_if_it_may(Mode::Clsact);
}
