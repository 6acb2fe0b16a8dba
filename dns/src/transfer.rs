//! Zone transfers: whole (AXFR, RFC 5936), by steps (IXFR, RFC 1995), and the list of zones (RFC 9432).
//!
//! # Guarantees
//!
//! * **Signed only.** Who does not sign is refused before any zone is looked for.
//! * **By key and by view.** A tenant's key gets the tenant's own zones; a secondary's key gets every zone
//!   that its segment sees, as its segment sees it, and only from the secondary's address. All else
//!   is refused, and the refusal is the same whether there is such a zone or not (ADR 0010, 7).
//! * **One moment.** A transfer is of one serial, however long it takes.
//! * **Unsigned.** What is transferred is what can be changed: neither keys nor signatures. A signed zone is no
//!   secondary's: without them it would be bogus there (ADR 0013, 5).

use std::net::IpAddr;
use std::sync::Arc;

use crate::compose::Section;
use crate::dnssec;
use crate::history::Records;
use crate::keys::{Holder, Key};
use crate::message::Query;
use crate::name::Name;
use crate::rdata::rtype;
use crate::tsig::Signer;
use crate::view::View;
use crate::world::World;
use crate::zone::{RrSet, Zone};

/// Messages end when they are this long: pointers reach no further (RFC 1035, 4.1.4).
const MESSAGE: usize = 16 * 1024;

/// What there is to transfer for a key.
pub(crate) enum Offer {
    /// This zone.
    Zone(Arc<Zone>),
    /// A signed zone, which a secondary does not get.
    Signed,
}

/// Returns the zone that a key may transfer.
pub(crate) fn zone(
    world: &World,
    view: &View,
    (key, source): (&Key, IpAddr),
    name: &[u8],
) -> Option<Offer> {
    match &key.holder {
        Holder::Tenant(tenant) => {
            let id = view.zone_at(name)?;
            let spec = world.plan.zones.get(id.0)?;
            let zone = (spec.tenant.as_ref() == Some(tenant)).then(|| world.zone(id))?;
            zone.map(Offer::Zone)
        }
        Holder::Secondary(secondary) => {
            let secondary = world.secondary(secondary)?;
            if secondary.address.ip() != source {
                return None;
            }
            if secondary.catalog.origin().as_wire() == name {
                return Some(Offer::Zone(Arc::clone(&secondary.catalog)));
            }
            let id = view.zone_at(name)?;
            if world.plan.zones.get(id.0)?.is_signed {
                return Some(Offer::Signed);
            }
            world.zone(id).map(Offer::Zone)
        }
    }
}

/// A transfer that goes on: its messages, one after the other.
pub struct Transfer {
    zone: Arc<Zone>,
    question: Vec<u8>,
    id: u16,
    signer: Signer,
    /// Of the message before.
    mac: Option<Vec<u8>>,
    records: Vec<Records>,
    /// The next record: its set, and its place in it.
    next: (usize, usize),
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer")
            .field("zone", self.zone.origin())
            .finish_non_exhaustive()
    }
}

impl Transfer {
    /// Begins to answer a question.
    pub(crate) fn new(zone: Arc<Zone>, query: &Query, message: &[u8], signer: Signer) -> Self {
        let mut records = match (query.kind, query.serial) {
            (rtype::IXFR, Some(serial)) => by_steps(&zone, serial),
            _ => whole(&zone),
        };
        records.retain(|(_, set)| !dnssec::is_made(set.rtype));
        Self {
            zone,
            question: message
                .get(12..query.question_end())
                .unwrap_or(&[])
                .to_vec(),
            id: query.id,
            signer,
            mac: None,
            records,
            next: (0, 0),
        }
    }

    /// Returns the next message; `None` behind the last.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        self.records.get(self.next.0)?;
        let mut out = self.id.to_be_bytes().to_vec();
        // A response, authoritative; one question; no answers yet.
        out.extend([0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.question);
        let mut section = Section::new(&mut out, self.zone.origin());
        let mut count: u16 = 0;
        while let Some((name, set)) = self.records.get(self.next.0) {
            let Some(rdata) = set.rdata.get(self.next.1) else {
                self.next = (self.next.0 + 1, 0);
                continue;
            };
            if section.len() + name.as_wire().len() + rdata.len() + 10 > MESSAGE && count > 0 {
                break;
            }
            section.put(name, set, rdata);
            count += 1;
            self.next.1 += 1;
        }
        if let Some(place) = out.get_mut(6..8) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        self.mac = Some(match &self.mac {
            None => self.signer.sign(&mut out),
            Some(before) => self.signer.sign_next(&mut out, before),
        });
        Some(out)
    }
}

/// RFC 5936, 2.2: the SOA, everything else, the SOA.
fn whole(zone: &Zone) -> Vec<Records> {
    let soa = soa(zone);
    let all = zone.records().filter(|(_, set)| set.rtype != rtype::SOA);
    std::iter::once(soa.clone())
        .chain(all)
        .chain([soa])
        .collect()
}

fn soa(zone: &Zone) -> Records {
    (zone.origin().clone(), Arc::clone(zone.soa()))
}

/// RFC 1995, 4: the SOA; for each step the old SOA, what is gone, the new SOA, what came; the SOA.
fn by_steps(zone: &Zone, serial: u32) -> Vec<Records> {
    let behind = zone.serial().wrapping_sub(serial);
    // RFC 1995, 2: "If the version is up to date, only SOA"; one that is ahead of us is told so, too.
    if behind == 0 || behind > u32::MAX / 2 {
        return vec![soa(zone)];
    }
    let Some(steps) = zone.history().since(serial) else {
        return whole(zone);
    };
    let own = |set: &Arc<RrSet>| (zone.origin().clone(), Arc::clone(set));
    let mut records = vec![soa(zone)];
    for step in steps {
        records.push(own(&step.from));
        records.extend(step.removed.iter().cloned());
        records.push(own(&step.to));
        records.extend(step.added.iter().cloned());
    }
    records.push(soa(zone));
    records
}

/// Returns the name of the list of zones, and of each secondary's own list (RFC 9432).
#[must_use]
pub fn catalog_name() -> Name {
    Name::absolute("catalog.bulkhead.invalid").unwrap_or_else(|_| Name::root())
}
