//! The ports of a hypervisor's bridges: which there are, and whose machine is behind each.
//!
//! ```text
//!  links ─► topology: the access ports, the uplink, the host's own MACs
//!                │
//!  alias, Proxmox VE ─► claim: "behind tap101i0 is 02:…:0a, in the pool grooveiq"
//!                │
//!  inventory ─► bind: an endpoint of the inventory, or why the port is unknown
//! ```
//!
//! # Guarantees
//!
//! * **The VLAN of a port is never asked.** A tenant's Terraform sets it; what counts is the segment that the inventory
//!   gives the endpoint.
//! * **One port for an endpoint.** If two ports claim one, the one that had it keeps it, else the older one has it.
//! * **No machine is the router or a hypervisor,** whatever is claimed for it.
//! * A port that nobody knows is unknown, and nothing passes there.
//! * **Fail static.** While what says who is behind a port cannot be read, whoever was behind it stays.

mod bind;
mod claim;
mod proxmox;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::bind::{Endpoint, Endpoints};
use self::proxmox::Proxmox;
use crate::loader::{Host, Plug};
use crate::network::{Conflict, Observed};

/// `[ports]` of `bulkhead.toml`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct PortSettings {
    /// Folder of Proxmox VE's configuration. Absent: `/etc/pve`, which need not exist.
    pub proxmox: PathBuf,
    /// A tenant's machine must be in the pool that has the tenant's name. Absent: false, one in no pool may be anybody's.
    pub require_pool: bool,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self {
            proxmox: "/etc/pve".into(),
            require_pool: false,
        }
    }
}

/// What the ports are called that matter here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    /// `hypervisor_bridge`.
    pub bridge: String,
    /// `hypervisor_uplink_port`.
    pub uplink: Option<String>,
}

/// The ports of a hypervisor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ports {
    /// Index and name of the port towards the switch; `None` if it is not there.
    pub uplink: Option<(u32, String)>,
    /// Ports with one machine behind each, by interface index.
    pub access: BTreeMap<u32, Port>,
    /// Hardware addresses of the hypervisor itself.
    pub macs: BTreeSet<[u8; 6]>,
}

/// An access port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// Name of the interface.
    pub name: String,
    /// Is it something else than the end of a machine's or a container's cable? Then the inventory should say what it is.
    pub is_foreign: bool,
    /// Who is behind it.
    pub who: Result<Endpoint, Unknown>,
}

/// Why nobody knows who is behind a port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Unknown {
    /// No alias, no configuration of a machine.
    Unsaid,
    /// What should say it makes no sense.
    Unreadable {
        /// What, and what is wrong with it.
        what: String,
    },
    /// What says it cannot be read at the moment, and nobody was behind the port before.
    Unavailable {
        /// What, and why.
        what: String,
    },
    /// The inventory has no endpoint with that MAC, or one that no machine may be.
    NoEndpoint {
        /// The MAC, as `02:00:00:00:00:07`.
        mac: String,
        /// Who says it.
        by: String,
    },
    /// The endpoint is not of the tenant whose pool the machine is in.
    OtherPool {
        /// The pool.
        pool: String,
        /// Whose endpoint it claims to be.
        endpoint: String,
    },
    /// The machine is in no pool, and must be.
    NoPool {
        /// Whose endpoint it claims to be.
        endpoint: String,
    },
    /// Another port has the endpoint.
    Taken {
        /// Whose endpoint it claims to be.
        endpoint: String,
        /// The port that has it.
        by: String,
    },
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => f.write_str("nobody says whose machine is behind it"),
            Self::Unreadable { what } | Self::Unavailable { what } => f.write_str(what),
            Self::NoEndpoint { mac, by } => write!(f, "{by}: {mac} is no machine of the inventory"),
            Self::OtherPool { pool, endpoint } => {
                write!(f, "it claims to be {endpoint}, but is in the pool `{pool}`")
            }
            Self::NoPool { endpoint } => write!(f, "it claims to be {endpoint}, but is in no pool"),
            Self::Taken { endpoint, by } => {
                write!(f, "it claims to be {endpoint}, but that is {by}")
            }
        }
    }
}

impl Ports {
    /// Finds them. `before`: the MAC at each port until now, by interface index.
    #[must_use]
    pub fn find(
        observed: &Observed,
        names: &Names,
        endpoints: &Endpoints,
        settings: &PortSettings,
        before: &BTreeMap<u32, [u8; 6]>,
    ) -> Self {
        let topology = topology::Topology::of(observed, names);
        let proxmox = Proxmox::at(&settings.proxmox);
        let mut claims: Vec<_> = topology
            .access
            .iter()
            .map(|link| (*link, claim::of(link, &proxmox, before.get(&link.index))))
            .collect();
        // The one that had it first, then the older one.
        claims.sort_by_key(|(link, claim)| {
            let mac = claim.as_ref().ok().map(|claim| claim.mac);
            let had_it = mac.is_some() && before.get(&link.index).copied() == mac;
            (!had_it, link.index)
        });
        let mut taken = BTreeMap::new();
        let access = claims.into_iter().map(|(link, claim)| {
            let who = claim.and_then(|claim| endpoints.bind(&claim, settings.require_pool));
            let port = Port {
                name: link.name.clone(),
                is_foreign: topology::is_foreign(link),
                who: who.and_then(|endpoint| take(&mut taken, endpoint, &link.name)),
            };
            (link.index, port)
        });
        Self {
            access: access.collect(),
            uplink: topology.uplink.map(|link| (link.index, link.name.clone())),
            macs: topology.macs,
        }
    }

    /// Returns what should not be there: ports that are no machine's, and that nobody explains.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        let foreign = self.access.values();
        let foreign = foreign.filter(|port| port.is_foreign && port.who.is_err());
        foreign
            .map(|port| Conflict::unexplained_port(&port.name))
            .collect()
    }

    /// Is there a port of that index?
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        let is_uplink = self
            .uplink
            .as_ref()
            .is_some_and(|(uplink, _)| *uplink == index);
        is_uplink || self.access.contains_key(&index)
    }

    /// Returns the VLAN of each machine that is known, by the index of its port.
    #[must_use]
    pub fn vlans(&self) -> BTreeMap<u32, u16> {
        let known = self.access.iter();
        let known =
            known.filter_map(|(&index, port)| Some((index, port.who.as_ref().ok()?.vlan_id)));
        known.collect()
    }

    /// Returns it as the programs look it up.
    #[must_use]
    pub fn host(&self) -> Host {
        let known = self.access.iter().filter_map(|(&index, port)| {
            let endpoint = port.who.as_ref().ok()?;
            let plug = Plug {
                mac: endpoint.mac,
                vlan_id: endpoint.vlan_id,
                connections: endpoint.connections,
            };
            Some((index, plug))
        });
        Host {
            ports: known.collect(),
            macs: self.macs.clone(),
        }
    }
}

fn take(
    taken: &mut BTreeMap<[u8; 6], String>,
    endpoint: Endpoint,
    port: &str,
) -> Result<Endpoint, Unknown> {
    match taken.get(&endpoint.mac) {
        Some(by) => Err(Unknown::Taken {
            endpoint: endpoint.name,
            by: by.clone(),
        }),
        None => {
            taken.insert(endpoint.mac, port.to_owned());
            Ok(endpoint)
        }
    }
}

#[cfg(test)]
mod tests;
