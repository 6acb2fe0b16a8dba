//! Secondary servers, and the list of zones that each of them reads (RFC 9432).

use std::net::SocketAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::keys::{Key, Keyring};
use crate::name::{Name, NameError};
use crate::plan::Plan;
use crate::rdata::rtype;
use crate::transfer;
use crate::view::{ViewId, ZoneId};
use crate::zone::{Contents, RrOwner, Zone};

/// TTL of the list's records (RFC 9432, 4.1 says that it means nothing).
const TTL: u32 = 0;

/// A server that copies zones, and is told when they change.
#[derive(Clone, Debug)]
pub struct Secondary {
    /// Its name in the file of keys.
    pub name: Arc<str>,
    /// Where it listens; transfers come from this address.
    pub address: SocketAddr,
    /// Name of its key.
    pub key: Name,
    /// What its segment sees.
    pub view: ViewId,
    /// The list of its zones.
    pub catalog: Arc<Zone>,
}

/// Returns the secondaries that stand in a segment.
pub(crate) fn secondaries(plan: &Plan, keys: &Keyring) -> Vec<Secondary> {
    let all = keys.secondaries().iter();
    all.filter_map(|(name, address, key)| {
        let view = plan.clients.view_of(address.ip())?;
        Some(Secondary {
            name: Arc::clone(name),
            address: *address,
            key: key.clone(),
            view,
            catalog: Arc::new(catalog(plan, view).ok()?),
        })
    })
    .collect()
}

/// Goes through the zones of a view that are copied: those that are not signed.
pub(crate) fn copied(plan: &Plan, view: ViewId) -> impl Iterator<Item = (&Name, ZoneId)> {
    let all = plan.view(view).into_iter().flat_map(|view| view.origins());
    all.filter(|(origin, _)| !plan.signed.contains(*origin))
}

/// Makes the list of the zones of a view.
fn catalog(plan: &Plan, view: ViewId) -> Result<Zone, NameError> {
    let origin = transfer::catalog_name();
    let mut contents = Contents::default();
    let mut add = |name: Name, kind: u16, data: Box<[u8]>| {
        contents.add(name, (kind, data), TTL, RrOwner::Platform);
    };
    // RFC 9432, 4.1: "a single NS resource record with an NSDNAME of invalid."
    let invalid = Name::absolute("invalid")?;
    add(origin.clone(), rtype::NS, invalid.as_wire().into());
    add(
        Name::parse("version", &origin)?,
        rtype::TXT,
        b"\x012".as_slice().into(),
    );
    let zones = Name::parse("zones", &origin)?;
    for (member, _) in copied(plan, view) {
        let digest = Sha256::digest(member.as_wire());
        let label: String = digest
            .iter()
            .take(16)
            .map(|octet| format!("{octet:02x}"))
            .collect();
        add(
            Name::from_labels([label], &zones)?,
            rtype::PTR,
            member.as_wire().into(),
        );
    }
    Ok(Zone::new(origin, &plan.soa, plan.number, &contents))
}

/// Returns the key of a secondary.
pub(crate) fn key_of<'k>(keys: &'k Keyring, secondary: &Secondary) -> Option<&'k Key> {
    keys.key(secondary.key.as_wire())
}
