//! Probes: before an address that nobody ever had is offered, the segment is asked whether somebody has it.
//!
//! The client whose offer waits is the only one that waits. A reply to the probe puts the address into quarantine
//! and another one is tried; no reply within the time of the settings is an offer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use netmodel::ids::{MacAddr, VlanId};

use super::case::Case;
use super::{Engine, Inbound, ProbeRequest, Reply, Verdict};
use crate::counters::Event;
use crate::request::Request;
use crate::scope::Scope;
use crate::time::Time;

/// An offer that waits.
#[derive(Debug)]
pub(super) struct Probe {
    due: Time,
    source: MacAddr,
    request: Request,
}

impl Engine {
    /// Keeps the address, and lets the offer wait.
    pub(super) fn park(
        &mut self,
        source: MacAddr,
        request: Request,
        (scope, address): (&Scope, Ipv4Addr),
        now: Time,
    ) -> Verdict {
        let vlan = scope.vlan;
        let wait = self.settings.probe_wait;
        self.case(scope, &request, now).keep(address, wait);
        let probe = Probe {
            due: now.plus_millis(u64::from(wait)),
            source,
            request,
        };
        self.probes.insert((vlan, address), probe);
        Verdict::Probe(ProbeRequest { vlan, address })
    }

    /// Does an offer to this client wait already?
    pub(super) fn is_probing(&self, vlan: VlanId, mac: MacAddr) -> bool {
        let state = self.segments.get(&vlan);
        let offered = state.and_then(|state| state.table.offer_to(mac));
        offered.is_some_and(|address| self.probes.contains_key(&(vlan, address)))
    }

    /// Puts together what a message is judged by.
    pub(super) fn case<'a>(
        &'a mut self,
        scope: &'a Scope,
        request: &'a Request,
        now: Time,
    ) -> Case<'a> {
        Case {
            settings: &self.settings,
            scope,
            state: self.segments.entry(scope.vlan).or_default(),
            changes: &mut self.changes,
            request,
            now,
        }
    }

    /// Hears that somebody has an address: an ARP reply. Returns what becomes of the offer that
    /// waited for it, if there is one.
    pub fn heard(
        &mut self,
        vlan: VlanId,
        address: Ipv4Addr,
        mac: MacAddr,
        now: Time,
    ) -> Option<Verdict> {
        let probe = self.probes.get(&(vlan, address))?;
        if probe.request.mac == mac {
            // The client itself already uses it.
            return None;
        }
        let probe = self.probes.remove(&(vlan, address))?;
        let scope = Arc::clone(self.scopes.by_vlan.get(&vlan)?);
        let mut case = self.case(&scope, &probe.request, now);
        case.state.counters.add(Event::Conflict);
        case.state.table.withdraw(&scope, probe.request.mac);
        if !case.quarantine(address) {
            return None;
        }
        let inbound = Inbound {
            vlan,
            source: probe.source,
            to: Ipv4Addr::BROADCAST,
            payload: &[],
        };
        let verdict = self.judge(&scope, &inbound, probe.request, now);
        Some(verdict.unwrap_or_else(Verdict::Silence))
    }

    /// Returns the offers whose probes nobody answered.
    pub fn poll(&mut self, now: Time) -> Vec<Reply> {
        let due = self.probes.extract_if(.., |_, probe| probe.due <= now);
        let due: Vec<_> = due.collect();
        let replies = due.into_iter().filter_map(|((vlan, address), probe)| {
            let scope = Arc::clone(self.scopes.by_vlan.get(&vlan)?);
            let mut case = self.case(&scope, &probe.request, now);
            case.check(address).ok()?;
            let before = case.changes.len();
            let answer = case.offer(address);
            let is_binding = case.changes.len() > before;
            let inbound = Inbound {
                vlan,
                source: probe.source,
                to: Ipv4Addr::BROADCAST,
                payload: &[],
            };
            let reply = self.reply((&inbound, &probe.request), &scope, &answer);
            Some(Reply {
                is_binding,
                ..reply
            })
        });
        replies.collect()
    }

    /// Returns when [`Engine::poll`] has something to do.
    #[must_use]
    pub fn next_poll(&self) -> Option<Time> {
        self.probes.values().map(|probe| probe.due).min()
    }
}
