//! The engines of both families, as one: frames in, frames out, and the changes in between.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::Lease;

use crate::counters::{Event, Reason};
use crate::engine::{Change, Inbound, ProbeRequest, Reply, Verdict};
use crate::frame::{self, Frame};
use crate::frame6::{self, Packet6};
use crate::scope::Scopes;
use crate::settings::Settings;
use crate::six::{Advert, Advertiser, Engine6, Inbound6, Reply6};
use crate::store::Known;
use crate::{Engine, Time};

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) enum Outbound {
    Four(Reply),
    Six(Reply6),
    Probe(ProbeRequest),
    Advert(Advert),
}

impl Outbound {
    pub(super) fn vlan(&self) -> VlanId {
        match self {
            Self::Four(reply) => reply.vlan,
            Self::Six(reply) => reply.vlan,
            Self::Probe(probe) => probe.vlan,
            Self::Advert(advert) => advert.vlan,
        }
    }

    /// Is it an answer to a client's message?
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Four(_) | Self::Six(_) => true,
            Self::Probe(_) | Self::Advert(_) => false,
        }
    }

    /// Does it promise what must be durable first?
    pub(super) fn is_binding(&self) -> bool {
        match self {
            Self::Four(reply) => reply.is_binding,
            Self::Six(reply) => reply.is_binding,
            Self::Probe(_) | Self::Advert(_) => false,
        }
    }

    /// Returns the frame, with the interface's hardware address and with or without a tag.
    pub(super) fn frame(&self, mac: MacAddr, tag: Option<VlanId>) -> Option<Vec<u8>> {
        match self {
            Self::Four(reply) => frame::reply(reply, mac, tag),
            Self::Six(reply) => frame6::reply(reply, mac, tag),
            Self::Probe(probe) => Some(frame::probe(*probe, mac, tag)),
            Self::Advert(advert) => frame6::advert(advert, mac, tag),
        }
    }
}

/// Both engines, and the advertiser.
pub(super) struct Engines {
    pub(super) four: Engine,
    pub(super) six: Engine6,
    adverts: Advertiser,
}

impl Engines {
    pub(super) fn new(settings: &Settings, duid: Vec<u8>, (scopes, now): (Scopes, Time)) -> Self {
        let shared = Arc::new(scopes.clone());
        let mut adverts = Advertiser::default();
        adverts.switch(Arc::clone(&shared), now);
        Self {
            four: Engine::new(settings.clone(), scopes),
            six: Engine6::new(settings.clone(), duid, shared),
            adverts,
        }
    }

    /// Takes over leases that were written down before.
    pub(super) fn restore(&mut self, known: Vec<Known>) {
        let (mut four, mut six) = (Vec::with_capacity(known.len()), Vec::new());
        for (vlan, address, lease) in known {
            match address {
                IpAddr::V4(address) => four.push((vlan, address, lease)),
                IpAddr::V6(address) => six.push((vlan, address, lease)),
            }
        }
        self.four.restore(four);
        self.six.restore(six);
    }

    /// Serves another generation; returns how many leases of both families do not fit it, by segment.
    pub(super) fn switch(&mut self, scopes: Scopes, now: Time) -> BTreeMap<String, usize> {
        let shared = Arc::new(scopes.clone());
        self.adverts.switch(Arc::clone(&shared), now);
        let mut foreign = self.four.switch(scopes);
        for (segment, leases) in self.six.switch(shared) {
            *foreign.entry(segment).or_default() += leases;
        }
        foreign
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.four.expire(now);
        self.six.expire(now);
    }

    /// Returns when [`Engines::poll`] has something to do.
    pub(super) fn next_poll(&self) -> Option<Time> {
        let both = [self.four.next_poll(), self.adverts.next_poll()];
        both.into_iter().flatten().min()
    }

    /// Returns what has waited long enough: offers after their probe, and advertisements.
    pub(super) fn poll(&mut self, now: Time) -> Vec<Outbound> {
        let mut out: Vec<_> = self
            .four
            .poll(now)
            .into_iter()
            .map(Outbound::Four)
            .collect();
        let adverts = self.adverts.poll(now);
        for advert in &adverts {
            self.six.count(advert.vlan, Event::RouterAdvertisement);
        }
        out.extend(adverts.into_iter().map(Outbound::Advert));
        out
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.four.changes().iter().chain(self.six.changes())
    }

    pub(super) fn commit(&mut self) {
        self.four.commit();
        self.six.commit();
    }

    pub(super) fn revert(&mut self) {
        self.four.revert();
        self.six.revert();
    }

    /// Counts an answer that was not sent, since its lease could not be written down.
    pub(super) fn count_not_durable(&mut self, answer: &Outbound) {
        let (vlan, reason) = (answer.vlan(), Reason::NotDurable);
        match answer {
            Outbound::Six(_) => self.six.count_refused(vlan, reason),
            Outbound::Four(_) | Outbound::Probe(_) | Outbound::Advert(_) => {
                self.four.count_refused(Some(vlan), reason);
            }
        }
    }

    /// Returns all records.
    pub(super) fn leases(&self) -> impl Iterator<Item = (VlanId, IpAddr, &Lease)> {
        let four = self.four.leases();
        let four = four.map(|(vlan, at, lease)| (vlan, IpAddr::V4(at), lease));
        let six = self.six.leases();
        four.chain(six.map(|(vlan, at, lease)| (vlan, IpAddr::V6(at), lease)))
    }

    pub(super) fn lease_count(&self) -> usize {
        self.four.lease_count() + self.six.lease_count()
    }

    /// Judges a frame. `plain` is the VLAN of untagged frames, on an interface that is no trunk.
    pub(super) fn judge(
        &mut self,
        (bytes, hidden): (&[u8], Option<u16>),
        plain: Option<VlanId>,
        now: Time,
    ) -> Option<Outbound> {
        let place = |tag: Option<u16>| match (tag.filter(|id| *id != 0), plain) {
            (None, Some(vlan)) => Ok(vlan),
            (Some(id), None) => VlanId::new(id).ok_or(Reason::NoScope),
            (None, None) => Err(Reason::Untagged),
            // A tag on an access port: nobody's VLAN.
            (Some(_), Some(_)) => Err(Reason::NoScope),
        };
        let (tag, frame) = match frame::parse(bytes, hidden) {
            Ok(frame) => (frame.vlan(), frame),
            Err((vlan, reason)) => {
                self.four.count_refused(place(vlan).ok(), reason);
                return None;
            }
        };
        match place(tag) {
            Ok(vlan) => self.take(frame, vlan, now),
            Err(reason) => {
                self.four.count_refused(None, reason);
                None
            }
        }
    }

    fn take(&mut self, frame: Frame<'_>, vlan: VlanId, now: Time) -> Option<Outbound> {
        let verdict = match frame {
            Frame::Message {
                source,
                to,
                payload,
                ..
            } => {
                let inbound = Inbound {
                    vlan,
                    source,
                    to,
                    payload,
                };
                Some(self.four.receive(&inbound, now))
            }
            Frame::Taken { address, mac, .. } => self.four.heard(vlan, address, mac, now),
            Frame::Six { source, packet, .. } => return self.take6(packet, (vlan, source), now),
        };
        match verdict? {
            Verdict::Reply(reply) => Some(Outbound::Four(reply)),
            Verdict::Probe(probe) => Some(Outbound::Probe(probe)),
            Verdict::Silence(_) => None,
        }
    }

    fn take6(
        &mut self,
        packet: Packet6<'_>,
        (vlan, source): (VlanId, MacAddr),
        now: Time,
    ) -> Option<Outbound> {
        match packet {
            Packet6::Message { from, to, payload } => {
                let inbound = Inbound6 {
                    vlan,
                    source,
                    from,
                    to,
                    payload,
                };
                self.six.receive(&inbound, now).ok().map(Outbound::Six)
            }
            Packet6::Solicitation { from } => {
                self.six.count(vlan, Event::RouterSolicitation);
                let advert = self.adverts.solicited(vlan, (source, from), now)?;
                self.six.count(vlan, Event::RouterAdvertisement);
                Some(Outbound::Advert(advert))
            }
        }
    }
}
