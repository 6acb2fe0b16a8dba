//! 10,000 flips between two generations under traffic: no packet sees half of one.
//!
//! What both allow never loses a packet, what both deny never passes. That this is about halves is proven first: the tables of
//! the two, mixed, would let through what both deny, or stop what both allow.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use dataplane_common::abi::{Address, endpoint_flags};
use dataplane_user::compile::{RouterFacts, Tables, Trunk, Verdict, compile};
use dataplane_user::loader::{Datapath, Mode};
use netmodel::Model;
use netmodel::model::SegmentId;
use testkit::frame::{Frame, tcp_flag};

use crate::inventory;
use crate::place::{Place, ROUTER_MAC};
use crate::plane::{Line, TRUNK, enforce};
use crate::traffic::Traffic;

/// Flips. The virtual machines do fewer: their processor is emulated.
const FLIPS: usize = 10_000;

/// A connection that somebody tries to open.
struct Attempt {
    frame: Frame,
    from: IpAddr,
    to: IpAddr,
}

/// TCP port of the attempts.
const PORT: u16 = 22;
const TCP: u8 = 6;

/// Another generation of the same site: the zones' policies the other way round, and no tenant trusts its operators any more
/// but for what the policies say. So classes and rules have other numbers.
fn other(model: &Model) -> Model {
    let mut other = model.clone();
    other.policies.reverse();
    other.services.clear();
    for tenant in &mut other.tenants {
        tenant.services.clear();
        tenant.offers.clear();
        tenant.uses.clear();
        tenant.accepts.clear();
        tenant.trusted_operators.clear();
        tenant.rules.clear();
        tenant.isolate_hosts = false;
    }
    other
}

/// Every segment's first machine tries to reach every other segment's.
fn attempts(model: &Model) -> Vec<Attempt> {
    let ids = (0..model.segments.len()).map(SegmentId);
    let places: Vec<Place<'_>> = ids.map(|id| Place::new(model, id)).collect();
    let mut attempts = Vec::new();
    for place in &places {
        for (family, net) in place.nets() {
            for other in places.iter().filter(|other| other.id != place.id) {
                let there = other.nets().find(|(found, _)| *found == family);
                if let Some((_, there)) = there {
                    let frame = place.to_router().ip(net.own, there.own);
                    attempts.push(Attempt {
                        frame: frame.tcp(50_000, PORT, tcp_flag::SYN),
                        from: net.own,
                        to: there.own,
                    });
                }
            }
        }
    }
    attempts
}

fn is_allowed(tables: &Tables, attempt: &Attempt) -> bool {
    matches!(
        tables.evaluate(attempt.from, attempt.to, TCP, PORT),
        Verdict::Allow(_)
    )
}

/// Is the hardware address of its destination known? Else the kernel would look for it, and nobody would see it come out.
fn would_come_out(tables: &Tables, attempt: &Attempt) -> bool {
    let address = match attempt.to {
        IpAddr::V4(ip) => Address::from_ipv4(ip.octets()),
        IpAddr::V6(ip) => Address::from_ipv6(ip.octets()),
    };
    let mut endpoints = tables.endpoints.iter();
    endpoints.any(|(key, to)| key.address == address && to.flags & endpoint_flags::MAC_KNOWN != 0)
}

/// Returns every generation that could be seen by a packet that saw half of each.
fn halves<'t>(a: &'t Tables, b: &'t Tables) -> Vec<Tables> {
    let mixed = |a: &'t Tables, b: &'t Tables| {
        [
            Tables {
                endpoints: b.endpoints.clone(),
                prefixes: b.prefixes.clone(),
                ..a.clone()
            },
            Tables {
                rules: b.rules.clone(),
                services: b.services.clone(),
                ..a.clone()
            },
        ]
    };
    mixed(a, b).into_iter().chain(mixed(b, a)).collect()
}

fn flip_under_traffic(mode: Mode, flips: usize) -> Result<()> {
    let (mut model, line) = (inventory::model(), Line::build()?);
    inventory::add_machines(&mut model);
    let other = other(&model);
    let tables = [&model, &other].map(|m| compile(m, &RouterFacts::from_model(m)));
    let [first, second] = tables;
    let tables = [first?, second?];
    let denied: Vec<Attempt> = attempts(&model)
        .into_iter()
        .filter(|attempt| tables.iter().all(|t| !is_allowed(t, attempt)))
        .filter(|attempt| tables.iter().all(|t| would_come_out(t, attempt)))
        .collect();
    let halves = halves(&tables[0], &tables[1]);
    let is_telling = |half: &Tables| denied.iter().any(|attempt| is_allowed(half, attempt));
    ensure!(
        halves.iter().any(is_telling),
        "half a generation would do no harm here: the test could not fail"
    );
    let trunk = Trunk {
        ifindex: line.router.run(|| nix::net::if_::if_nametoindex(TRUNK))?,
        mac: ROUTER_MAC,
    };
    let (mut datapath, _) = line.router.run(|| enforce(&model, mode, line.pins()))?;
    let mut traffic = Traffic::new(&model);
    traffic.open(&line)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let flipper = scope.spawn(|| flip(&mut datapath, &tables, &trunk, (flips, &is_over)));
        let mut attempts = denied.iter().cycle();
        let mut result = Ok(());
        while result.is_ok() && !is_over.load(Ordering::Relaxed) {
            // Whatever of this comes out comes out before the packet that is waited for.
            for attempt in attempts.by_ref().take(4) {
                line.wire.send(&attempt.frame.build())?;
            }
            result = traffic.exchange(&line);
        }
        is_over.store(true, Ordering::Relaxed);
        let flipped = flipper.join().expect("the flipper does not panic")?;
        result?;
        ensure!(flipped == flips, "only {flipped} flips");
        Ok(())
    })?;
    ensure!(traffic.exchanges > 100, "only {}", traffic.exchanges);
    eprintln!("{mode}: {flips} flips, {} exchanges", traffic.exchanges);
    Ok(())
}

/// Flips until it is done or told to end; returns how often.
fn flip(
    datapath: &mut Datapath,
    tables: &[Tables; 2],
    trunk: &Trunk,
    (flips, is_over): (usize, &AtomicBool),
) -> Result<usize> {
    let mut flipped = 0;
    while flipped < flips && !is_over.load(Ordering::Relaxed) {
        let number = datapath.next_number();
        let result = datapath.publish(&tables[(flipped + 1) % 2], trunk, number);
        if let Err(error) = result {
            is_over.store(true, Ordering::Relaxed);
            return Err(error.into());
        }
        flipped += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    Ok(flipped)
}

fn flips() -> usize {
    std::env::var("BULKHEAD_FLIPS").map_or(FLIPS, |flips| flips.parse().expect("a number"))
}

#[test]
fn no_packet_sees_half_a_generation_native_xdp() {
    flip_under_traffic(Mode::XdpNative, flips()).unwrap();
}

#[test]
fn no_packet_sees_half_a_generation_tcx() {
    flip_under_traffic(Mode::Tcx, flips()).unwrap();
}

#[test]
fn no_packet_sees_half_a_generation_clsact() {
    flip_under_traffic(Mode::Clsact, flips()).unwrap();
}
