//! An operator's connection to a tenant's machine that must never lose a packet, beside a forger.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use netmodel::Model;
use netmodel::model::{Owner, SegmentId};
use testkit::frame::{Frame, ParsedFrame, tcp_flag};
use testkit::wait::PATIENCE;

use crate::place::{Net, Place, UNKNOWN_MAC};
use crate::plane::Line;

/// Exchanges between one event and the next.
const EXCHANGES: usize = 300;

/// An operator's connection to a tenant's machine, and a forger beside that machine.
pub(crate) struct Traffic {
    opening: Frame,
    pub(crate) there: (Frame, u16),
    pub(crate) back: (Frame, u16),
    forged: Frame,
    pub(crate) exchanges: u64,
}

impl Traffic {
    pub(crate) fn new(model: &Model) -> Self {
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

    pub(crate) fn open(&self, line: &Line) -> Result<()> {
        self.forwarded(line, &self.opening, self.there.1)?;
        let answer = self.back.0.clone().tcp(22, 40_000, tcp_flag::SYN_ACK);
        self.forwarded(line, &answer, self.back.1)
    }

    /// One packet in each direction, each of which must come out, and a forged one, which must not.
    pub(crate) fn exchange(&mut self, line: &Line) -> Result<()> {
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

    pub(crate) fn exchange_many(&mut self, line: &Line) -> Result<()> {
        (0..EXCHANGES).try_for_each(|_| self.exchange(line))
    }
}
