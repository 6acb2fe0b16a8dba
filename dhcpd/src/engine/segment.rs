//! What is known of one segment, who is let in, and how leases end.

use std::net::Ipv4Addr;

use netmodel::ids::VlanId;
use netmodel::leases::{Lease, State};

use super::Change;
use crate::counters::{Counters, Event, Reason};
use crate::limit::Limits;
use crate::request::Request;
use crate::scope::Scope;
use crate::settings::Settings;
use crate::table::Table;
use crate::time::Time;

/// All that is known of one segment. Outlives its scope: a lease does not end because a file changed.
#[derive(Debug, Default)]
pub(super) struct SegmentState {
    pub(super) table: Table,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
}

/// Is the address one that the scope could give to this client today?
pub(super) fn is_home(scope: &Scope, address: Ipv4Addr, lease: &Lease) -> bool {
    match scope.reserved(lease.mac, &lease.client_id) {
        Some(reserved) => reserved == address,
        None => scope.is_dynamic(address),
    }
}

/// Limits rates. Strangers share one; whoever has a lease or a reservation is not theirs to crowd out.
pub(super) fn admit(
    settings: &Settings,
    scope: &Scope,
    state: &mut SegmentState,
    (request, now): (&Request, Time),
) -> Result<(), Reason> {
    let mac = request.mac;
    let holds = |(_, lease): (_, &Lease)| lease.state == State::Bound;
    let is_known =
        scope.reserved(mac, &request.client_id).is_some() || state.table.of(mac).any(holds);
    state.limits.admit(settings, (mac, is_known), now)
}

/// Ends leases whose time is over, with or without a scope.
pub(super) fn expire(
    (vlan, scope): (VlanId, Option<&Scope>),
    state: &mut SegmentState,
    changes: &mut Vec<Change>,
    now: Time,
) {
    for address in state.table.due(now) {
        end(vlan, scope, state, (address, State::Expired, now), changes);
    }
}

/// Ends the lease of an address.
pub(super) fn end(
    vlan: VlanId,
    scope: Option<&Scope>,
    state: &mut SegmentState,
    (address, to, now): (Ipv4Addr, State, Time),
    changes: &mut Vec<Change>,
) {
    let Some(old) = state.table.get(address).cloned() else {
        return;
    };
    if old.state == State::Bound {
        match to {
            State::Expired => state.counters.add(Event::Expired),
            State::Revoked => state.counters.add(Event::Revoked),
            State::Bound | State::Declined | State::Released => {}
        }
    }
    let after = Lease {
        state: to,
        until: old.until.min(now.seconds()),
        ..old
    };
    let before = state.table.set(scope, address, Some(after.clone()));
    changes.push(Change {
        vlan,
        address: address.into(),
        before,
        after,
    });
}
