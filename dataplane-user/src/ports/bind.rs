//! Which endpoint of the inventory a claim is about.

use std::collections::{HashMap, HashSet};

use netmodel::Model;
use netmodel::ids::MacAddr;
use netmodel::model::{HostId, Owner};

use super::Unknown;
use super::claim::{Claim, Pool};

/// A machine of the inventory, at one of its interfaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// `grooveiq/grooveiq-api01`, or a host of the platform.
    pub name: String,
    /// Whose it is; `None` is the platform.
    pub tenant: Option<String>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// VLAN id of its segment.
    pub vlan_id: u16,
    /// Connections that its tenant is promised for each of its endpoints; 0: a share.
    pub connections: u32,
}

/// Every machine that may be behind a port, by hardware address.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    by_mac: HashMap<[u8; 6], Endpoint>,
    tenants: HashSet<String>,
}

impl Endpoints {
    /// Returns those of a model: all but routers and hypervisors.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let hypervisors: HashSet<HostId> = model.hypervisors.iter().map(|h| h.host).collect();
        let mut by_mac = HashMap::new();
        for (index, host) in model.hosts.iter().enumerate() {
            if host.is_router || hypervisors.contains(&HostId(index)) {
                continue;
            }
            let tenant = match host.owner {
                Owner::Platform => None,
                Owner::Tenant(id) => Some(model.tenant(id)),
            };
            let connections = tenant.map_or(0, |tenant| tenant.endpoint_limits.connections);
            let tenant = tenant.map(|tenant| tenant.name.to_string());
            let name = match &tenant {
                Some(tenant) => format!("{tenant}/{}", host.name),
                None => host.name.to_string(),
            };
            for interface in &host.interfaces {
                let (Some(mac), Some(segment)) = (interface.mac, interface.segment) else {
                    continue;
                };
                let endpoint = Endpoint {
                    name: name.clone(),
                    tenant: tenant.clone(),
                    mac: mac.0,
                    vlan_id: model.segment(segment).vlan_id.as_u16(),
                    connections,
                };
                by_mac.insert(mac.0, endpoint);
            }
        }
        Self {
            by_mac,
            tenants: model.tenants.iter().map(|t| t.name.to_string()).collect(),
        }
    }

    /// Returns the endpoint with that hardware address.
    #[must_use]
    pub fn get(&self, mac: [u8; 6]) -> Option<&Endpoint> {
        self.by_mac.get(&mac)
    }

    /// Returns all of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.by_mac.values()
    }

    /// Returns the endpoint that the claim is about, if the machine may be it.
    pub(super) fn bind(&self, claim: &Claim, require_pool: bool) -> Result<Endpoint, Unknown> {
        let Some(endpoint) = self.by_mac.get(&claim.mac) else {
            return Err(Unknown::NoEndpoint {
                mac: MacAddr(claim.mac).to_string(),
                by: claim.by.clone(),
            });
        };
        let name = || endpoint.name.clone();
        match (&claim.pool, &endpoint.tenant) {
            (Pool::Said, _) => {}
            (Pool::Named(pool), Some(tenant)) if pool == tenant => {}
            // A pool of the platform's own may be called anything but as a tenant.
            (Pool::Named(pool), None) if !self.tenants.contains(pool) => {}
            (Pool::Named(pool), _) => {
                return Err(Unknown::OtherPool {
                    pool: pool.clone(),
                    endpoint: name(),
                });
            }
            (Pool::None, Some(_)) if require_pool => {
                return Err(Unknown::NoPool { endpoint: name() });
            }
            (Pool::None, _) => {}
        }
        Ok(endpoint.clone())
    }
}
