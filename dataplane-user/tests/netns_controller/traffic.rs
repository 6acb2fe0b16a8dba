//! Machines at the far end of the trunk, and what they send.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::frame::{Frame, ParsedFrame, tcp_flag};
use testkit::raw::RawSocket;
use testkit::wait::wait_for;

use crate::lab::{FAR_TRUNK, Lab, TRUNK};

/// A machine at the far end of the trunk: hardware address, VLAN, address.
pub(crate) type Machine = ([u8; 6], u16, Ipv4Addr);
pub(crate) const WEB: Machine = (
    [2, 0xdd, 0xee, 0x65, 0, 1],
    101,
    Ipv4Addr::new(10, 101, 0, 10),
);
pub(crate) const API: Machine = (
    [2, 0xdd, 0xee, 0x64, 0, 1],
    100,
    Ipv4Addr::new(10, 100, 0, 10),
);
pub(crate) const OPERATOR: Machine = (
    [0, 0, 0x5e, 0, 0x53, 0x67],
    99,
    Ipv4Addr::new(10, 20, 99, 66),
);

/// Source ports of what is forbidden, and of what is not.
const FORBIDDEN: u16 = 40_000;
const ALLOWED: u16 = 40_100;

/// A packet from a machine to one of another segment, on its way to the router.
pub(crate) fn packet(lab: &Lab, from: Machine, to: Machine) -> Frame {
    let frame = Frame::new(from.0, lab.router.mac(TRUNK).unwrap()).vlan(from.1);
    frame.ip(from.2.into(), to.2.into())
}

/// Returns the source port of a frame, if it has one.
pub(crate) fn source_port(frame: &[u8]) -> Option<u16> {
    let parsed = ParsedFrame::parse(frame)?;
    Some(parsed.transport()?.source_port)
}

/// A tenant's machine that sends what no version of the inventory allows, beside an operator who sends what every version does,
/// as long as this lives.
pub(crate) struct Attack {
    /// Frames of the operator that came out.
    passed: Arc<AtomicU64>,
    attacker: JoinHandle<()>,
}

impl Attack {
    pub(crate) fn begin(lab: &Lab) -> Self {
        let open = |from, source, port| {
            let packet = packet(lab, from, API);
            packet.tcp(source, port, tcp_flag::SYN).build()
        };
        let (mac, vlan, own) = WEB;
        let forbidden = [
            // What nobody offers, a stranger's address, nobody's VLAN.
            open(WEB, FORBIDDEN, 9999),
            open((mac, vlan, OPERATOR.2), FORBIDDEN, 22),
            open((mac, 4000, own), FORBIDDEN, 443),
        ];
        let allowed = open(OPERATOR, ALLOWED, 22);
        let wire = RawSocket::open(&lab.far, FAR_TRUNK).unwrap();
        let passed = Arc::new(AtomicU64::new(0));
        let counter = Arc::downgrade(&passed);
        let attacker = thread::spawn(move || {
            for frame in forbidden.iter().cycle() {
                let Some(passed) = counter.upgrade() else {
                    return;
                };
                wire.send(frame).unwrap();
                wire.send(&allowed).unwrap();
                let soon = || Instant::now() + Duration::from_millis(1);
                while let Some(out) = wire.receive(soon()).unwrap() {
                    let port = source_port(&out);
                    assert_ne!(
                        port,
                        Some(FORBIDDEN),
                        "a forbidden packet passed: {out:02x?}"
                    );
                    passed.fetch_add(u64::from(port == Some(ALLOWED)), Ordering::Relaxed);
                }
            }
        });
        Self { passed, attacker }
    }

    /// What the operator sends from now on passes.
    #[track_caller]
    pub(crate) fn operator_passes(&self) {
        // One frame may be on its way.
        let enough = self.passed.load(Ordering::Relaxed) + 2;
        let passed = wait_for("frames of an operator", || {
            (self.passed.load(Ordering::Relaxed) >= enough).then_some(())
        });
        let is_over = self.attacker.is_finished();
        assert!(
            passed.is_ok(),
            "nothing passes; a forbidden packet has: {is_over}"
        );
    }

    /// Ends it: the operator's frames pass, and no other ever did.
    #[track_caller]
    pub(crate) fn end(self) {
        self.operator_passes();
        drop(self.passed);
        self.attacker.join().unwrap();
    }
}
