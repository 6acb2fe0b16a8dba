//! Takes away what no ticket's turn comes for: connections that have ended, what ports left that are gone, and, where room gets
//! scarce, what a holder has beyond a quota that was made smaller (ADR 0014).
//!
//! While every quota stays what it is, nothing depends on it.

use std::collections::{HashMap as StdHashMap, HashSet};

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError};
use dataplane_common::abi::{FlowEntry, FlowKey, PORT_HOLDER, PortEntry, Ticket, flow_state};
use dataplane_common::policy::flow_timeout;

use super::{LoaderError, Pins, batch, connections};

/// So long a connection must have ended, in seconds: nobody is opening it again at this moment.
const GRACE: u64 = 60;
/// Entries that one sweep removes from each map at most.
const MOST: usize = 1 << 16;

/// What a sweep took away.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// Connections.
    pub connections: usize,
    /// Tickets.
    pub tickets: usize,
}

/// How many connections each holder may have; who is not in it is gone.
type Quotas = StdHashMap<u32, u32>;

/// What the maps hold.
struct Held {
    flows: StdHashMap<FlowKey, FlowEntry>,
    tickets: Vec<(Ticket, FlowKey)>,
    ticks_per_second: u64,
    /// Connections that fit in.
    room: usize,
}

impl Held {
    /// Returns a tick that is not after now. Every packet sets the end of its connection to its own time and a timeout; the kernel has no
    /// other way to tell its ticks. The longest timeout is taken for all: a packet may change the state on another CPU while the
    /// end is written or read, and a wrong guess would end everybody's connections. It is now where established TCP speaks.
    fn now(&self) -> u64 {
        let longest = flow_timeout(flow_state::ESTABLISHED) * self.ticks_per_second;
        let ends = self.flows.values().map(|flow| flow.expires);
        ends.max().unwrap_or(0).saturating_sub(longest)
    }

    fn ended(&self) -> Vec<FlowKey> {
        let before = self.now().saturating_sub(GRACE * self.ticks_per_second);
        let ended = self.flows.iter().filter(|(_, flow)| flow.expires < before);
        ended.map(|(key, _)| *key).take(MOST).collect()
    }

    /// Returns the connections of ports that are gone.
    fn orphans(&self, quotas: &Quotas) -> Vec<FlowKey> {
        let orphans = self.flows.iter().filter(|(_, flow)| {
            let holder = flow.ticket.holder;
            holder & PORT_HOLDER != 0 && !quotas.contains_key(&holder)
        });
        orphans.map(|(key, _)| *key).take(MOST).collect()
    }

    /// Returns the connections that are beyond their holders' quotas, live or not, once seven eighths of the room are taken: else a
    /// holder that keeps alive what it had would leave no room for what others were promised.
    fn surplus(&self, quotas: &Quotas) -> Vec<FlowKey> {
        if self.flows.len() < self.room - self.room / 8 {
            return Vec::new();
        }
        let surplus = self.flows.iter().filter(|(_, flow)| {
            let quota = quotas.get(&flow.ticket.holder).copied().unwrap_or(0);
            flow.ticket.index >= quota
        });
        surplus.map(|(key, _)| *key).take(MOST).collect()
    }

    /// Returns tickets that nobody draws any more, and that no connection of `flows` has.
    fn unused(&self, quotas: &Quotas, gone: &HashSet<FlowKey>) -> Vec<Ticket> {
        let is_unused = |(ticket, key): &&(Ticket, FlowKey)| {
            let quota = quotas.get(&ticket.holder).copied().unwrap_or(0);
            let has_it = |flow: &FlowEntry| flow.ticket == *ticket && !gone.contains(key);
            ticket.index >= quota && !self.flows.get(key).is_some_and(has_it)
        };
        let unused = self.tickets.iter().filter(is_unused);
        unused.map(|(ticket, _)| *ticket).take(MOST).collect()
    }
}

impl Pins {
    /// Takes away connections that ended a while ago, those of ports that are gone, those beyond a quota if there is little room,
    /// and tickets that nobody draws any more.
    /// Nothing if nothing is enforced. Packets go on meanwhile: what was read while it came or went stays for the next time.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn sweep(&self) -> Result<Swept, LoaderError> {
        let Some((generation, segments)) = self.segments()? else {
            return Ok(Swept::default());
        };
        let (flows, tickets) = (self.map_data("FLOWS")?, self.map_data("TICKETS")?);
        let held = Held {
            flows: read(&flows, "FLOWS")?.into_iter().collect(),
            tickets: read(&tickets, "TICKETS")?,
            ticks_per_second: generation.ticks_per_second.into(),
            room: connections::entries(&flows)? as usize,
        };
        let segments = (0_u32..).zip(&segments).map(|(vlan_id, segment)| {
            let quota = match segment.limits.connections {
                0 => generation.share,
                own => own,
            };
            (vlan_id, quota)
        });
        let mut quotas: Quotas = segments.collect();
        if self.has_ports() {
            let ports: Vec<(u32, PortEntry)> = read(&self.map_data("PORTS")?, "PORTS")?;
            let ports = ports.into_iter();
            quotas.extend(ports.map(|(ifindex, port)| (PORT_HOLDER | ifindex, port.connections)));
        }
        let mut gone = held.ended();
        gone.extend(held.orphans(&quotas));
        gone.extend(held.surplus(&quotas));
        let gone: HashSet<FlowKey> = gone.into_iter().collect();
        let unused = held.unused(&quotas, &gone);
        let is_same = |key: &FlowKey, now: &FlowEntry| {
            let read = held.flows.get(key);
            read.is_some_and(|read| (read.expires, read.ticket) == (now.expires, now.ticket))
        };
        remove(flows, "FLOWS", gone.iter(), is_same)?;
        let is_same = |_: &Ticket, _: &FlowKey| true;
        remove(tickets, "TICKETS", unused.iter(), is_same)?;
        Ok(Swept {
            connections: gone.len(),
            tickets: unused.len(),
        })
    }

    fn map_data(&self, name: &'static str) -> Result<MapData, LoaderError> {
        MapData::from_pin(self.map(name)).map_err(|source| LoaderError::map(name, source))
    }
}

fn read<K: Pod + Default, V: Pod + Default>(
    map: &MapData,
    name: &'static str,
) -> Result<Vec<(K, V)>, LoaderError> {
    batch::read(map).map_err(|source| LoaderError::Batch { map: name, source })
}

/// Removes entries that are still the same, unless they have gone by themselves.
fn remove<'k, K: Pod, V: Pod>(
    map: MapData,
    name: &'static str,
    keys: impl Iterator<Item = &'k K>,
    is_same: impl Fn(&K, &V) -> bool,
) -> Result<(), LoaderError> {
    let wrap = |source| LoaderError::map(name, source);
    let mut map: HashMap<MapData, K, V> = Map::HashMap(map).try_into().map_err(wrap)?;
    for key in keys {
        // A packet may have opened it again since it was read.
        if !map.get(key, 0).is_ok_and(|now| is_same(key, &now)) {
            continue;
        }
        match map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(source) => return Err(wrap(source)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 250;
    const PORT: u32 = PORT_HOLDER | 7;

    fn key(number: u16) -> FlowKey {
        FlowKey {
            port_a: number,
            ..FlowKey::default()
        }
    }

    /// A UDP connection whose last packet came at `last`.
    fn flow(last: u64, holder: u32, index: u32) -> FlowEntry {
        let mut flow = FlowEntry {
            expires: last + 30 * HZ,
            ticket: Ticket { holder, index },
            ..FlowEntry::default()
        };
        flow.sides[0].state = flow_state::UNREPLIED;
        flow
    }

    fn held(flows: &[(u16, FlowEntry)]) -> Held {
        let flows = flows.iter().map(|&(number, flow)| (key(number), flow));
        let flows: StdHashMap<_, _> = flows.collect();
        Held {
            tickets: flows
                .iter()
                .map(|(key, flow)| (flow.ticket, *key))
                .collect(),
            flows,
            ticks_per_second: HZ,
            room: 16,
        }
    }

    #[test]
    fn connection_that_ended_a_while_ago_goes_and_no_other() {
        let now = 10_000_000;
        let at = |seconds: u64| flow(now - seconds * HZ, 100, 1);
        // Established TCP that speaks: it tells what time it is.
        let mut speaking = at(0);
        speaking.sides[0].state = flow_state::ESTABLISHED;
        speaking.expires = now + 7440 * HZ;
        let held = held(&[
            (1, speaking),
            (2, at(29)),
            (3, at(89)),
            (4, at(91)),
            (5, at(5000)),
        ]);
        assert_eq!(held.now(), now);
        let mut ended = held.ended();
        ended.sort_by_key(|key| key.port_a);
        assert_eq!(ended, [key(4), key(5)]);
    }

    #[test]
    fn entry_that_was_read_half_changed_ends_nobodys_connection() {
        let now = 10_000_000;
        // Its state is of after a reset, its end of before.
        let mut torn = flow(now, 100, 1);
        torn.sides[0].state = flow_state::RESET;
        torn.expires = now + 7440 * HZ;
        let held = held(&[(1, torn), (2, flow(now, 101, 1))]);
        assert_eq!(held.ended(), []);
    }

    #[test]
    fn what_a_port_left_goes_with_it() {
        let held = held(&[(1, flow(1000, PORT, 0)), (2, flow(1000, 100, 0))]);
        assert_eq!(held.orphans(&Quotas::from([(100, 5)])), [key(1)]);
        assert_eq!(held.orphans(&Quotas::from([(PORT, 5)])), []);
    }

    #[test]
    fn live_connection_beyond_the_quota_goes_once_room_gets_scarce() {
        let flows = |count: u16| -> Vec<_> {
            let all = (0..count).map(|n| (n, flow(1000, 100, n.into())));
            all.collect()
        };
        let quotas = Quotas::from([(100, 12)]);
        assert_eq!(held(&flows(13)).surplus(&quotas), [], "there is room");
        let mut surplus = held(&flows(14)).surplus(&quotas);
        surplus.sort_by_key(|key| key.port_a);
        assert_eq!(surplus, [key(12), key(13)]);
        let of_nobody = held(&flows(14)).surplus(&Quotas::new());
        assert_eq!(of_nobody.len(), 14, "its segment is gone");
    }

    #[test]
    fn ticket_beyond_the_quota_goes_when_its_connection_has() {
        let mut held = held(&[(1, flow(1000, 100, 4)), (2, flow(1000, 100, 9))]);
        let quotas = Quotas::from([(100, 5)]);
        let none = HashSet::new();
        assert_eq!(held.unused(&quotas, &none), [], "its connection is live");
        let ticket = |index| Ticket { holder: 100, index };
        let gone = HashSet::from([key(1), key(2)]);
        assert_eq!(
            held.unused(&quotas, &gone),
            [ticket(9)],
            "the other is drawn again"
        );
        // Its connection has another ticket meanwhile.
        held.flows.insert(key(2), flow(1000, 101, 0));
        assert_eq!(held.unused(&quotas, &none), [ticket(9)]);
        let all = held.unused(&Quotas::new(), &gone);
        assert_eq!(all.len(), 2, "of nobody");
    }
}
