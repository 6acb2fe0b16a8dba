//! What changed between two serials of a zone: for incremental transfers (RFC 1995).
//!
//! The history is in memory only. Whoever asks for more than it has gets the whole zone, which RFC 1995, 4 allows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::name::Name;
use crate::rdata::rtype;
use crate::zone::{RrSet, Zone};

/// Steps that are kept at most.
const MAX_STEPS: usize = 256;

/// Records of one name and type.
pub type Records = (Name, Arc<RrSet>);

/// One step from a serial to the next.
#[derive(Debug)]
pub struct Step {
    /// The SOA before.
    pub from: Arc<RrSet>,
    /// The SOA behind.
    pub to: Arc<RrSet>,
    /// What is gone.
    pub removed: Vec<Records>,
    /// What came.
    pub added: Vec<Records>,
}

impl Step {
    /// Returns the number of records that it moves.
    fn len(&self) -> usize {
        let all = self.removed.iter().chain(&self.added);
        all.map(|(_, set)| set.rdata.len()).sum()
    }

    /// Works out what changed, apart from the SOA.
    fn between(old: &Zone, new: &Zone) -> Self {
        Self {
            from: Arc::clone(old.soa()),
            to: Arc::clone(new.soa()),
            removed: missing_in(new, old),
            added: missing_in(old, new),
        }
    }
}

/// Returns the records of `zone` that `other` does not have, or has with another TTL.
fn missing_in(other: &Zone, zone: &Zone) -> Vec<Records> {
    let mut all = Vec::new();
    for (name, set) in zone.iter().filter(|(_, set)| set.rtype != rtype::SOA) {
        let there = other
            .set(name, set.rtype)
            .filter(|there| there.ttl == set.ttl);
        let mut only = RrSet::clone(set);
        if let Some(there) = there {
            only.rdata
                .retain(|data| there.rdata.binary_search(data).is_err());
        }
        if !only.rdata.is_empty() {
            all.push((name.clone(), Arc::new(only)));
        }
    }
    all
}

/// The steps that led to a zone, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Arc<Step>>);

impl History {
    /// Goes on from the history of `old` to `new`. Nothing is kept if the serial does not tell the
    /// two apart, or goes back.
    #[must_use]
    pub fn after(old: &Zone, new: &Zone) -> Self {
        let step = Step::between(old, new);
        let grown = new.serial().wrapping_sub(old.serial());
        // RFC 1982, 3.2: greater, if it is less than half of all numbers ahead.
        if grown == 0 && step.len() == 0 {
            return old.history().clone();
        }
        if grown == 0 || grown > u32::MAX / 2 {
            return Self::default();
        }
        let mut steps = old.history().0.clone();
        steps.push_back(Arc::new(step));
        // A history longer than the zone is worth less than the zone.
        let most = new.len();
        let mut total: usize = steps.iter().map(|step| step.len()).sum();
        while steps.len() > MAX_STEPS || total > most {
            let Some(step) = steps.pop_front() else { break };
            total -= step.len();
        }
        Self(steps)
    }

    /// Returns the steps that lead from a serial to now, if all of them are there.
    #[must_use]
    pub fn since(&self, serial: u32) -> Option<Vec<Arc<Step>>> {
        let first = self
            .0
            .iter()
            .position(|step| serial_of(&step.from) == Some(serial))?;
        Some(self.0.iter().skip(first).cloned().collect())
    }
}

/// Returns the serial of an SOA: the first of its five numbers.
fn serial_of(soa: &RrSet) -> Option<u32> {
    let rdata = soa.rdata.first()?;
    let at = rdata.len().checked_sub(20)?;
    let octets = rdata.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Contents, RrOwner, Soa};

    fn zone(serial: u32, hosts: &[(&str, u8, u32)]) -> Zone {
        let origin = Name::absolute("z.example").unwrap();
        let soa = Soa {
            mname: origin.clone(),
            rname: origin.clone(),
        };
        let mut contents = Contents::default();
        for (label, octet, ttl) in hosts {
            let name = Name::parse(label, &origin).unwrap();
            let data = (rtype::A, [192, 0, 2, *octet].into());
            contents.add(name, data, *ttl, RrOwner::Inventory);
        }
        Zone::new(origin, &soa, serial, &contents)
    }

    fn shown(records: &[Records]) -> Vec<String> {
        let line = |(name, set): &Records| format!("{name} {} {:?}", set.ttl, set.rdata);
        let mut lines: Vec<String> = records.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_step_is_what_is_gone_and_what_came() {
        let old = zone(1, &[("a", 1, 60), ("a", 2, 60), ("b", 3, 60), ("c", 4, 60)]);
        let new = zone(2, &[("a", 2, 60), ("a", 5, 60), ("b", 3, 61), ("c", 4, 60)]).after(&old);
        let steps = new.history().since(1).unwrap();
        assert_eq!(steps.len(), 1);
        assert_eq!(
            shown(&steps[0].removed),
            [
                "a.z.example. 60 [[192, 0, 2, 1]]",
                "b.z.example. 60 [[192, 0, 2, 3]]"
            ]
        );
        assert_eq!(
            shown(&steps[0].added),
            [
                "a.z.example. 60 [[192, 0, 2, 5]]",
                "b.z.example. 61 [[192, 0, 2, 3]]"
            ]
        );
    }

    #[test]
    fn steps_lead_from_any_serial_that_was_seen_and_from_no_other() {
        let hosts: Vec<(String, u8, u32)> = (0..20).map(|i| (format!("h{i}"), i, 60)).collect();
        let hosts: Vec<(&str, u8, u32)> = hosts
            .iter()
            .map(|(name, octet, ttl)| (name.as_str(), *octet, *ttl))
            .collect();
        let mut now = zone(10, &hosts[..15]);
        for (serial, count) in [(11, 16), (12, 17), (15, 18)] {
            now = zone(serial, &hosts[..count]).after(&now);
        }
        let steps = |serial| now.history().since(serial).map(|steps| steps.len());
        assert_eq!(
            (steps(10), steps(11), steps(12)),
            (Some(3), Some(2), Some(1))
        );
        assert_eq!((steps(9), steps(13), steps(15)), (None, None, None));
    }

    #[test]
    fn a_history_longer_than_the_zone_is_forgotten() {
        let few =
            zone(2, &[("x", 1, 60)]).after(&zone(1, &[("a", 1, 60), ("b", 2, 60), ("c", 3, 60)]));
        assert!(few.history().since(1).is_none());
    }

    #[test]
    fn a_serial_that_does_not_grow_ends_the_history() {
        let first = zone(1, &[("a", 1, 60), ("b", 1, 60)]);
        let second = zone(2, &[("a", 1, 60), ("b", 1, 60), ("c", 1, 60)]).after(&first);
        assert!(second.history().since(1).is_some());
        let same = zone(2, &[("a", 1, 60), ("b", 1, 60), ("c", 1, 60)]).after(&second);
        assert!(same.history().since(1).is_some(), "nothing changed");
        let other = zone(2, &[("a", 1, 60), ("b", 1, 60), ("d", 1, 60)]).after(&second);
        assert!(
            other.history().since(1).is_none(),
            "another zone of the same serial"
        );
        let back = zone(1, &[("a", 1, 60), ("b", 1, 60)]).after(&second);
        assert!(back.history().since(2).is_none(), "the serial went back");
    }
}
