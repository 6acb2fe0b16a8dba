//! Which segment a message belongs to: the one of its VLAN, or behind a relay one that the relay serves.

use std::net::Ipv4Addr;

use netmodel::ids::VlanId;
use netmodel::leases::State;

use super::segment::is_home;
use super::{Engine, Inbound};
use crate::counters::Reason;
use crate::request::{ClientState, Kind, Request};

impl Engine {
    /// Returns the VLAN whose scope answers.
    pub(super) fn link(&self, inbound: &Inbound<'_>, request: &Request) -> Result<VlanId, Reason> {
        let is_group = request.mac.0.first().is_none_or(|octet| octet & 1 == 1);
        if is_group || request.mac.0 == [0; 6] {
            return Err(Reason::MacNotUnicast);
        }
        if let Some(vlan) = self.routed_renewal(inbound, request) {
            return Ok(vlan);
        }
        if !self.is_for_us(inbound.to, inbound.vlan, request) {
            return Err(Reason::OtherDestination);
        }
        if request.giaddr.is_unspecified() {
            let is_own = request.mac == inbound.source;
            return if is_own {
                Ok(inbound.vlan)
            } else {
                Err(Reason::MacMismatch)
            };
        }
        let relay = self.scopes.relays.get(&request.giaddr);
        let relay = relay
            .filter(|relay| relay.vlan == inbound.vlan)
            .ok_or(Reason::UnknownRelay)?;
        // RFC 3527 section 3: the link of the client, where it is not that of `giaddr`.
        let link = request.link.unwrap_or(request.giaddr);
        let is_on = |vlan: &&VlanId| {
            self.scopes
                .by_vlan
                .get(*vlan)
                .is_some_and(|scope| scope.net.contains(&link))
        };
        relay
            .serves
            .iter()
            .find(is_on)
            .copied()
            .ok_or(Reason::RelayLink)
    }

    /// Is the packet sent to everybody, or to this server? A router also sees what is for servers elsewhere.
    fn is_for_us(&self, to: Ipv4Addr, vlan: VlanId, request: &Request) -> bool {
        if !request.giaddr.is_unspecified() {
            return self.gateways.contains(&to);
        }
        let scope = self.scopes.by_vlan.get(&vlan);
        to == Ipv4Addr::BROADCAST
            || scope.is_some_and(|scope| to == scope.gateway || to == scope.net.broadcast())
    }

    /// A client behind a relay renews by unicast, without the relay: a router's frame brings it. Nobody vouches for its
    /// hardware address, so that only a lease that it has can be extended, and only where nothing speaks against it.
    /// Everything else of such a client comes through the relay, at the latest when it rebinds. Returns its VLAN.
    fn routed_renewal(&self, inbound: &Inbound<'_>, request: &Request) -> Option<VlanId> {
        let is_direct = request.mac == inbound.source || !request.giaddr.is_unspecified();
        if is_direct || request.kind != Kind::Request {
            return None;
        }
        let Ok(ClientState::Extending(at)) = request.state() else {
            return None;
        };
        let relays = self.scopes.relays.values();
        let here = relays.filter(|relay| relay.vlan == inbound.vlan);
        let mut served = here.flat_map(|relay| &relay.serves);
        let is_asked = |vlan: &&VlanId| {
            let scope = self.scopes.by_vlan.get(*vlan);
            scope.is_some_and(|scope| scope.gateway == inbound.to && scope.net.contains(&at))
        };
        let vlan = served.find(is_asked).copied()?;
        let scope = self.scopes.by_vlan.get(&vlan)?;
        let lease = self.segments.get(&vlan)?.table.get(at)?;
        let is_holder = lease.state == State::Bound
            && lease.mac == request.mac
            && lease.client_id == request.client_id;
        (is_holder && is_home(scope, at, lease)).then_some(vlan)
    }
}
