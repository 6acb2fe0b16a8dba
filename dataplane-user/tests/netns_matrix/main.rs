//! The isolation matrix: every segment × every forgery of `docs/isolation.md` × IPv4 and IPv6 × every
//! attach mode, on a real veth with real tagged frames. Needs root.
//!
//! Each row asserts that the forgery was dropped, for exactly its reason, that **no other counter
//! moved**, and that nothing came back out of the trunk; then that its honest twin passes, so that a
//! data plane that drops everything fails.

mod bad_input;
mod fail_static;
mod flips;
#[allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its input must fail"
)]
mod hold;
mod inventory;
mod ip;
mod link;
mod nd;
mod place;
mod plane;
mod policy;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use dataplane_common::abi::direction::{FROM_TENANT, TO_TENANT};
use dataplane_common::reason::{ANSWERED, DropReason, FORWARDED, outcome_name};
use dataplane_user::loader::Mode;
use netmodel::Model;
use netmodel::model::SegmentId;
use testkit::frame::ParsedFrame;

use crate::place::{Friendly, Place, ROUTER_MAC, Row};
use crate::plane::{Counts, Plane, difference, shown};

/// So many wrong rows tell what is wrong.
const ENOUGH: usize = 40;

/// Every row of every segment.
fn matrix(model: &Model) -> Vec<Row> {
    let places: Vec<_> = (0..model.segments.len())
        .map(|id| Place::new(model, SegmentId(id)))
        .collect();
    let routed = places
        .iter()
        .find(|place| !place.is_blackhole())
        .expect("a routed segment");
    let mut rows = Vec::new();
    for place in &places {
        rows.extend(link::rows(place));
        rows.extend(ip::rows(place));
        rows.extend(nd::rows(place));
        rows.extend(policy::rows(place));
        if place.is_blackhole() {
            rows.extend(link::blackhole_rows(place, routed));
        }
    }
    rows
}

/// Sends a frame and tells what was wrong with what came of it.
fn send(plane: &Plane, vlans: &[u16], frame: &[u8], expected: &Counts) -> Result<(), String> {
    let before = plane
        .counts(vlans.iter().copied())
        .map_err(|e| format!("{e:#}"))?;
    plane
        .wire()
        .send(frame)
        .map_err(|error| format!("not sent: {error}"))?;
    let frames = expected.values().sum();
    let moved = plane
        .moved(vlans, &before, frames)
        .map_err(|error| format!("{error:#}"))?;
    if moved == *expected {
        Ok(())
    } else {
        Err(format!("{}, instead of {}", shown(&moved), shown(expected)))
    }
}

/// The counters that an honest frame moves.
fn expected_of(friendly: &Friendly, vlan: u16) -> Counts {
    let mut counts = Counts::from([((vlan, FROM_TENANT, friendly.outcome), 1)]);
    if let Some(to) = friendly.to {
        counts.insert((to, TO_TENANT, friendly.outcome), 1);
    }
    counts
}

/// Sends an honest frame; checks what comes back out of the trunk.
fn send_friendly(plane: &Plane, vlans: &[u16], friendly: &Friendly) -> Result<(), String> {
    let sent = ParsedFrame::parse(&friendly.frame).ok_or("no frame")?;
    let vlan = sent.vlan().ok_or("an honest frame has a tag")?;
    send(plane, vlans, &friendly.frame, &expected_of(friendly, vlan))?;
    let back = match friendly.outcome {
        FORWARDED | ANSWERED => {
            let deadline = std::time::Instant::now() + testkit::wait::PATIENCE;
            let frame = plane
                .wire()
                .receive(deadline)
                .map_err(|error| error.to_string())?;
            ParsedFrame::parse(&frame.ok_or("nothing came back")?).ok_or("half a frame")?
        }
        _ => return check_stack(plane, &friendly.frame),
    };
    if back.source != ROUTER_MAC || !back.checksums_ok || back.tags.len() != 1 {
        return Err(format!("the router sent {back:?}"));
    }
    if back.vlan() != Some(friendly.to.unwrap_or(vlan)) {
        return Err(format!("it came back on another VLAN: {back:?}"));
    }
    check_hops(friendly, &sent, &back)
}

/// The router's network stack gets what is for the kernel, as it was sent.
fn check_stack(plane: &Plane, sent: &[u8]) -> Result<(), String> {
    let Some(stack) = &plane.stack else {
        return Ok(());
    };
    let deadline = std::time::Instant::now() + testkit::wait::PATIENCE;
    match stack.receive(deadline).map_err(|error| error.to_string())? {
        Some(frame) if frame == sent => Ok(()),
        other => Err(format!("the network stack got {other:02x?}")),
    }
}

/// Nothing of a dropped frame comes out of the trunk or gets to the network stack.
fn check_gone(plane: &Plane) -> Result<(), String> {
    for socket in [Some(plane.wire()), plane.stack.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Some(frame) = socket.try_receive().map_err(|error| error.to_string())? {
            return Err(format!("it came through: {:?}", ParsedFrame::parse(&frame)));
        }
    }
    Ok(())
}

/// A forwarded packet is one hop older; an answer goes to who asked.
fn check_hops(friendly: &Friendly, sent: &ParsedFrame, back: &ParsedFrame) -> Result<(), String> {
    let hops = |frame: &ParsedFrame| frame.ip.as_ref().map(|ip| ip.hop_limit);
    let fine = if friendly.outcome == FORWARDED {
        hops(back) == hops(sent).map(|hops| hops - 1)
    } else {
        back.destination == sent.source
    };
    if fine {
        Ok(())
    } else {
        Err(format!("the router sent {back:?}"))
    }
}

/// Runs one row; returns what was wrong.
fn run(plane: &Plane, vlans: &[u16], row: &Row) -> Result<(), String> {
    for before in &row.before {
        send_friendly(plane, vlans, before)
            .map_err(|wrong| format!("setting the scene: {wrong}"))?;
    }
    let dropped = Counts::from([((row.counted_on, FROM_TENANT, row.reason as u32), 1)]);
    send(plane, vlans, &row.forged, &dropped)?;
    check_gone(plane)?;
    send_friendly(plane, vlans, &row.control).map_err(|wrong| format!("honest twin: {wrong}"))
}

/// VLAN ids whose counters a row may move.
fn vlans_of(model: &Model, rows: &[Row]) -> Vec<u16> {
    let segments = model
        .segments
        .iter()
        .map(|segment| segment.vlan_id.as_u16());
    let counted = rows.iter().map(|row| row.counted_on);
    segments
        .chain(counted)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn every_forgery_is_dropped_for_its_reason(mode: Mode) {
    let model = inventory::model();
    let rows = matrix(&model);
    let vlans = vlans_of(&model, &rows);
    let plane = Plane::build(&model, mode).expect("root can build a trunk");
    let mut wrong = Vec::new();
    for row in &rows {
        if wrong.len() == ENOUGH {
            break;
        }
        if let Err(what) = run(&plane, &vlans, row) {
            wrong.push(format!(
                "section {}, VLAN {}: {}: {what}",
                row.section, row.counted_on, row.what
            ));
            for socket in [Some(plane.wire()), plane.stack.as_ref()]
                .into_iter()
                .flatten()
            {
                socket.drain().expect("the trunk is up");
            }
        }
    }
    // What the rows moved is all that moved, on any VLAN id.
    let all = plane.all_counts().expect("counters can be read");
    let watched = plane
        .counts(vlans.iter().copied())
        .expect("counters can be read");
    assert_eq!(shown(&difference(&all, &watched)), "nothing was counted");
    assert!(
        wrong.is_empty(),
        "of {} rows:\n{}",
        rows.len(),
        wrong.join("\n")
    );
    eprintln!("{mode}: {} rows", rows.len());
}

#[test]
fn every_forgery_is_dropped_for_its_reason_by_native_xdp() {
    every_forgery_is_dropped_for_its_reason(Mode::XdpNative);
}

#[test]
fn every_forgery_is_dropped_for_its_reason_by_generic_xdp() {
    every_forgery_is_dropped_for_its_reason(Mode::XdpGeneric);
}

#[test]
fn every_forgery_is_dropped_for_its_reason_by_tcx() {
    every_forgery_is_dropped_for_its_reason(Mode::Tcx);
}

#[test]
fn every_forgery_is_dropped_for_its_reason_by_clsact() {
    every_forgery_is_dropped_for_its_reason(Mode::Clsact);
}

/// The table and the naive evaluator were written apart, each from `docs/isolation.md`.
#[test]
fn every_row_is_what_the_reference_evaluator_says() {
    let model = inventory::model();
    let world = oracle::World::new(&model, ROUTER_MAC, 1);
    let mut wrong = Vec::new();
    for row in matrix(&model) {
        let mut state = oracle::State::default();
        let mut says = |what: &str, bytes: &[u8], expected: Option<&str>| {
            let frame = oracle::Frame {
                bytes,
                offloaded_tag: None,
            };
            let verdict = oracle::from_trunk(&world, &mut state, &frame, 1).name();
            if Some(verdict) != expected {
                let (section, forgery) = (row.section, &row.what);
                wrong.push(format!(
                    "section {section}, {forgery}: {what}: {verdict}, not {expected:?}"
                ));
            }
        };
        for before in &row.before {
            says("the scene", &before.frame, outcome_name(before.outcome));
        }
        says("the forgery", &row.forged, Some(row.reason.name()));
        says(
            "the honest twin",
            &row.control.frame,
            outcome_name(row.control.outcome),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Reasons that no forgery on a trunk can show, each with why.
const NOT_ON_THE_WIRE: &[(DropReason, &str)] = &[
    (DropReason::ForwardFailed, "a fault of the host"),
    (
        DropReason::NoGeneration,
        "programs are attached after a generation is published",
    ),
    (DropReason::UnknownPort, AT_PORTS),
    (DropReason::TaggedFrame, AT_PORTS),
    (DropReason::SpoofedMac, AT_PORTS),
    (DropReason::OtherSegment, AT_PORTS),
    (DropReason::NotJudged, AT_PORTS),
    (DropReason::NotForPort, AT_PORTS),
    (DropReason::LocalMacClaim, AT_PORTS),
    (DropReason::HostIsolation, AT_PORTS),
    (DropReason::HostAddress, AT_PORTS),
    (
        DropReason::RateLimited,
        "many frames, not one: the flood of netns_hypervisor",
    ),
    (
        DropReason::OverBandwidth,
        "many frames, not one: bandwidth of netns_hypervisor",
    ),
];

/// Their rows are those of the test `netns_ports`.
const AT_PORTS: &str = "a hypervisor's port, never a trunk";

#[test]
fn every_drop_reason_has_a_row() {
    let model = inventory::model();
    let mut rows_of = BTreeMap::<_, usize>::new();
    for row in matrix(&model) {
        *rows_of.entry(row.reason).or_default() += 1;
    }
    let named = |reason: &&DropReason| NOT_ON_THE_WIRE.iter().all(|(other, _)| other != *reason);
    let missing: Vec<_> = DropReason::ALL
        .iter()
        .filter(named)
        .filter(|reason| !rows_of.contains_key(reason))
        .collect();
    assert!(missing.is_empty(), "no row gives {missing:?}");
}
