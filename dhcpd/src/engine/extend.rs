//! DHCPREQUEST of a client that has, or had, an address: RFC 2131 section 4.3.2.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;
use netmodel::leases::State;

use super::case::{Case, Decision, Denied};
use super::offer::given;
use crate::counters::Reason;
use crate::settings::MIN_LEASE_TIME;

impl Case<'_> {
    /// "If the DHCP server has no record of this client, then it MUST remain silent"; "Server SHOULD
    /// send a DHCPNAK message to the client if the 'requested IP address' is incorrect, or is on the
    /// wrong network."
    pub(super) fn init_reboot(&mut self, at: Ipv4Addr) -> Result<Decision, Reason> {
        if !self.scope.net.contains(&at) && !self.is_stranger() {
            return Ok(self.refuse(at));
        }
        let is_known = self.own().next().is_some() || self.reserved().is_some();
        if !is_known {
            return Err(Reason::UnknownClient);
        }
        let is_its_own = self.own_at(at).is_some() || self.reservation() == Some(at);
        match self.check(at) {
            Ok(()) if is_its_own => Ok(self.acknowledge(at)),
            Err(Denied::Foreign) => self.let_run_out(at),
            Ok(()) | Err(Denied::WrongNet | Denied::Moved | Denied::Held | Denied::NotGiven) => {
                Ok(self.refuse(at))
            }
        }
    }

    /// RENEWING and REBINDING: which of both it is makes no difference to the answer, but for where
    /// it is sent, and that follows from `ciaddr` in both cases.
    pub(super) fn extending(&mut self, at: Ipv4Addr) -> Result<Decision, Reason> {
        if self.is_stranger() {
            return Err(Reason::NoReservation);
        }
        let is_its_own = self.own_at(at).is_some() || self.reservation() == Some(at);
        match self.check(at) {
            Ok(()) if is_its_own => Ok(self.acknowledge(at)),
            Err(Denied::Foreign) => self.let_run_out(at),
            Ok(()) | Err(Denied::WrongNet | Denied::Moved | Denied::Held | Denied::NotGiven) => {
                Ok(self.refuse(at))
            }
        }
    }

    /// The scope has shrunk: the client keeps its address until the lease ends, and is told so.
    fn let_run_out(&mut self, at: Ipv4Addr) -> Result<Decision, Reason> {
        let lease = self.own_at(at).filter(|lease| lease.state == State::Bound);
        let left = lease.map_or(0, |lease| lease.until.saturating_sub(self.now.seconds()));
        match u32::try_from(left) {
            Ok(left) if left >= MIN_LEASE_TIME => {
                Ok(Decision::Answer(given(MessageType::Ack, at, left)))
            }
            _ => Ok(self.refuse(at)),
        }
    }
}
