//! What the hypervisor says about who is behind a port.

use netmodel::ids::MacAddr;

use super::Unknown;
use super::proxmox::Proxmox;
use crate::network::Link;

/// The first word of an alias that is for us.
const OURS: &str = "bulkhead";

/// A claim: not yet held against the inventory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Claim {
    /// Hardware address of the machine.
    pub(super) mac: [u8; 6],
    /// The pool that the machine is in, where there are pools.
    pub(super) pool: Pool,
    /// Who says so.
    pub(super) by: String,
}

/// Whose the machine is, as far as the hypervisor knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Pool {
    /// The hypervisor's administrator said the endpoint himself, or it was settled before.
    Said,
    /// It is in no pool.
    None,
    /// It is in this one.
    Named(String),
}

/// Returns the claim: the alias, which only the hypervisor's administrator sets, else the machine's configuration. While that
/// cannot be read, what was so before (`before`, if anybody was there) is still so.
pub(super) fn of(
    link: &Link,
    proxmox: &Proxmox,
    before: Option<&[u8; 6]>,
) -> Result<Claim, Unknown> {
    if let Some(claim) = link.alias.as_deref().and_then(of_alias) {
        return claim;
    }
    let claim = proxmox.claim(&link.name);
    match (claim.unwrap_or(Err(Unknown::Unsaid)), before) {
        (Err(Unknown::Unavailable { what }), Some(mac)) => Ok(Claim {
            mac: *mac,
            pool: Pool::Said,
            by: what,
        }),
        (claim, _) => claim,
    }
}

/// `bulkhead mac=02:00:00:00:00:07`; `None` if the alias is not for us.
fn of_alias(alias: &str) -> Option<Result<Claim, Unknown>> {
    let mut words = alias.split_whitespace();
    if words.next() != Some(OURS) {
        return None;
    }
    let mac = words.next().and_then(|word| word.strip_prefix("mac="));
    let mac = mac.and_then(|mac| mac.parse::<MacAddr>().ok());
    let what = || Unknown::Unreadable {
        what: format!("its alias is `{alias}`, not `{OURS} mac=02:00:00:00:00:07`"),
    };
    Some(match (mac, words.next()) {
        (Some(mac), None) => Ok(Claim {
            mac: mac.0,
            pool: Pool::Said,
            by: "its alias".to_owned(),
        }),
        _ => Err(what()),
    })
}
