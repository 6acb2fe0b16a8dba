//! Scopes: what one generation of the inventory, and the settings, mean for DHCP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use netmodel::Model;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::model::{Owner, Segment, SegmentId, Subnet4, TenantState};

use crate::settings::{Boot, HostSettings, Route, SegmentSettings, Settings, SettingsError};
use crate::six::Scope6;

/// DHCP on one segment.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Its VLAN: what a request is told apart by.
    pub vlan: VlanId,
    /// `guest`, or `TENANT/main`.
    pub name: String,
    /// The subnet.
    pub net: Ipv4Net,
    /// The router's address in it: server identifier, default route.
    pub gateway: Ipv4Addr,
    /// Dynamic addresses, both ends included; none in a static-only scope.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Who has an address of his own, with the name of the host.
    pub reservations: HashMap<MacAddr, (Ipv4Addr, String)>,
    /// The same by client identifier: of the settings, since the inventory knows hardware addresses only.
    pub client_ids: HashMap<Box<[u8]>, Ipv4Addr>,
    /// Addresses that are nobody's to give: reserved, static, the gateway's.
    pub fixed: HashSet<Ipv4Addr>,
    /// May new clients have leases? Not while the tenant is draining.
    pub takes_new: bool,
    /// What clients are told.
    pub told: Told,
    /// What single hosts are told instead.
    pub told_hosts: HashMap<MacAddr, Told>,
}

/// What clients of a scope are told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Longest lease, in seconds.
    pub lease_time: u32,
    /// Routers, the best first.
    pub routers: Vec<Ipv4Addr>,
    /// DNS servers.
    pub dns_servers: Vec<Ipv4Addr>,
    /// NTP servers.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: String,
    /// Domains to search, the segment's own first.
    pub domain_search: Vec<String>,
    /// Largest IP packet, in octets.
    pub mtu: u16,
    /// Classless static routes without the default one.
    pub routes: Vec<Route>,
    /// `V6ONLY_WAIT`, in seconds.
    pub ipv6_only_wait: Option<u32>,
    /// Network boot.
    pub boot: Option<Boot>,
    /// Vendor-specific information.
    pub vendor: Vec<u8>,
}

impl Scope {
    /// Is the address one of the pool's that may be given to anybody?
    #[must_use]
    pub fn is_dynamic(&self, address: Ipv4Addr) -> bool {
        let in_pool = self
            .pool
            .is_some_and(|(first, last)| (first..=last).contains(&address));
        in_pool && !self.fixed.contains(&address)
    }

    /// Returns the address that is kept for a client: by its hardware address, else by its client identifier.
    #[must_use]
    pub fn reserved(&self, mac: MacAddr, client_id: &[u8]) -> Option<Ipv4Addr> {
        let by_mac = self.reservations.get(&mac).map(|(address, _)| *address);
        by_mac.or_else(|| self.client_ids.get(client_id).copied())
    }

    /// Returns what a client is told.
    #[must_use]
    pub fn told_to(&self, mac: MacAddr) -> &Told {
        self.told_hosts.get(&mac).unwrap_or(&self.told)
    }

    /// Is the address kept for anybody?
    #[must_use]
    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        let mut by_mac = self.reservations.values();
        by_mac.any(|(reserved, _)| *reserved == address)
            || self
                .client_ids
                .values()
                .any(|reserved| *reserved == address)
    }
}

/// A relay agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relay {
    /// The VLAN on which its packets reach the router.
    pub vlan: VlanId,
    /// The VLANs that it relays for.
    pub serves: Vec<VlanId>,
}

/// All scopes of a generation.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    /// By VLAN.
    pub by_vlan: BTreeMap<VlanId, Arc<Scope>>,
    /// By the address that the relay writes into `giaddr`.
    pub relays: HashMap<Ipv4Addr, Relay>,
    /// Those of DHCPv6, by VLAN.
    pub six: BTreeMap<VlanId, Arc<Scope6>>,
    /// Relays of DHCPv6, by the address that they send from.
    pub relays6: HashMap<Ipv6Addr, Relay>,
}

impl Scopes {
    /// Makes the scopes of a generation. There are none if the gateways do not offer DHCP.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Value`] if the settings name a segment that is not there, or have a value that
    /// cannot be used.
    pub fn new(model: &Model, settings: &Settings) -> Result<Self, SettingsError> {
        let names: HashMap<String, SegmentId> = (0..model.segments.len())
            .map(|index| (segment_name(model, SegmentId(index)), SegmentId(index)))
            .collect();
        if let Some(name) = settings
            .segments
            .keys()
            .find(|name| !names.contains_key(*name))
        {
            return Err(no_segment("segments", name));
        }
        let mut scopes = Self::default();
        scopes.add_relays(model, settings, &names)?;
        if !model.gateway_services.dhcp {
            return Ok(scopes);
        }
        for (name, id) in names {
            if let Some(scope) = Scope6::new(model, settings, (&name, id))? {
                scopes.six.insert(scope.vlan, Arc::new(scope));
            }
            if let Some(scope) = scope(model, settings, (name, id))? {
                scopes.by_vlan.insert(scope.vlan, Arc::new(scope));
            }
        }
        Ok(scopes)
    }
}

impl Scopes {
    fn add_relays(
        &mut self,
        model: &Model,
        settings: &Settings,
        names: &HashMap<String, SegmentId>,
    ) -> Result<(), SettingsError> {
        let vlan = |key: &str, name: &String| match names.get(name) {
            Some(id) => Ok(model.segment(*id).vlan_id),
            None => Err(no_segment(key, name)),
        };
        for relay in &settings.relays {
            let serves: Result<_, _> = relay
                .serves
                .iter()
                .map(|name| vlan("relays.serves", name))
                .collect();
            let made = Relay {
                vlan: vlan("relays.segment", &relay.segment)?,
                serves: serves?,
            };
            match relay.address {
                IpAddr::V4(address) => drop(self.relays.insert(address, made)),
                IpAddr::V6(address) => drop(self.relays6.insert(address, made)),
            }
        }
        Ok(())
    }
}

/// Returns what the settings, logs and counters call a segment.
#[must_use]
pub fn segment_name(model: &Model, id: SegmentId) -> String {
    let segment = model.segment(id);
    match segment.owner {
        Owner::Platform => segment.name.to_string(),
        Owner::Tenant(tenant) => format!("{}/{}", model.tenant(tenant).name, segment.name),
    }
}

fn no_segment(key: &str, name: &str) -> SettingsError {
    SettingsError::Value {
        key: key.to_owned(),
        value: name.to_owned(),
        why: "is no segment of the inventory: `bulkhead show segments` lists them, a tenant's as TENANT/NAME",
    }
}

fn scope(
    model: &Model,
    settings: &Settings,
    (name, id): (String, SegmentId),
) -> Result<Option<Scope>, SettingsError> {
    let segment = model.segment(id);
    let (Some(dhcp), Some(Subnet4 { net, gateway })) = (&segment.dhcp, segment.ipv4) else {
        return Ok(None);
    };
    let reservations: HashMap<_, _> = model
        .reservations
        .iter()
        .filter(|reservation| reservation.segment == id)
        .map(|r| (r.mac, (r.ipv4, model.host(r.host).name.to_string())))
        .collect();
    let interfaces = model.hosts.iter().flat_map(|host| &host.interfaces);
    let on_segment = interfaces.filter(|interface| interface.segment == Some(id));
    let mut fixed: HashSet<_> = on_segment.filter_map(|interface| interface.ipv4).collect();
    fixed.extend(reservations.values().map(|(address, _)| *address));
    fixed.extend([gateway, net.network(), net.broadcast()]);
    let client_ids = client_ids(settings, &name, |at| {
        net.contains(&at) && !fixed.contains(&at)
    })?;
    fixed.extend(client_ids.values());
    let told = told(model, segment, settings, &name)?;
    let told_hosts = told_hosts(settings, (&name, net), &reservations, &told)?;
    Ok(Some(Scope {
        vlan: segment.vlan_id,
        name,
        net,
        gateway,
        pool: dhcp.pool,
        reservations,
        client_ids,
        fixed,
        takes_new: match segment.owner {
            Owner::Platform => true,
            Owner::Tenant(tenant) => model.tenant(tenant).state == TenantState::Present,
        },
        told,
        told_hosts,
    }))
}

/// What the settings say of single hosts, over what their segment is told.
fn told_hosts(
    settings: &Settings,
    (name, net): (&str, Ipv4Net),
    reservations: &HashMap<MacAddr, (Ipv4Addr, String)>,
    segment: &Told,
) -> Result<HashMap<MacAddr, Told>, SettingsError> {
    let said = settings.segments.get(name).map(|own| &own.hosts);
    let mut hosts = HashMap::new();
    for (host, own) in said.into_iter().flatten() {
        let key = format!("segments.{name}.hosts.{host}");
        let of_host = reservations.iter().filter(|(_, (_, known))| known == host);
        let macs: Vec<_> = of_host.map(|(mac, _)| *mac).collect();
        if macs.is_empty() {
            return Err(SettingsError::Value {
                key,
                value: host.clone(),
                why: "is no host with a reservation on this segment: `bulkhead show reservations` lists them",
            });
        }
        let told = told_host(own, segment, (&key, net))?;
        hosts.extend(macs.into_iter().map(|mac| (mac, told.clone())));
    }
    Ok(hosts)
}

fn told_host(
    own: &HostSettings,
    segment: &Told,
    (key, net): (&str, Ipv4Net),
) -> Result<Told, SettingsError> {
    let own = own.clone();
    let routers = own.routers.unwrap_or_else(|| segment.routers.clone());
    if let Some(far) = routers.iter().find(|at| !net.contains(*at)) {
        return Err(SettingsError::Value {
            key: format!("{key}.routers"),
            value: far.to_string(),
            why: "is not in the subnet of the segment: the host could not reach it",
        });
    }
    Ok(Told {
        lease_time: own.lease_time.unwrap_or(segment.lease_time),
        routers,
        dns_servers: own
            .dns_servers
            .unwrap_or_else(|| segment.dns_servers.clone()),
        ntp_servers: own
            .ntp_servers
            .unwrap_or_else(|| segment.ntp_servers.clone()),
        domain: own.domain.unwrap_or_else(|| segment.domain.clone()),
        domain_search: own
            .domain_search
            .unwrap_or_else(|| segment.domain_search.clone()),
        mtu: own.mtu.unwrap_or(segment.mtu),
        routes: own.routes.unwrap_or_else(|| segment.routes.clone()),
        ipv6_only_wait: own.ipv6_only_wait.or(segment.ipv6_only_wait),
        boot: own.boot.or_else(|| segment.boot.clone()),
        vendor: match own.vendor {
            Some(text) => vendor(key, &text)?,
            None => segment.vendor.clone(),
        },
    })
}

fn vendor(key: &str, text: &str) -> Result<Vec<u8>, SettingsError> {
    octets(text).ok_or_else(|| SettingsError::Value {
        key: format!("{key}.vendor"),
        value: text.to_owned(),
        why: "is not an even number of hexadecimal digits",
    })
}

/// Reads the reservations of the settings; `is_free` says whether an address can be one.
fn client_ids(
    settings: &Settings,
    name: &str,
    is_free: impl Fn(Ipv4Addr) -> bool,
) -> Result<HashMap<Box<[u8]>, Ipv4Addr>, SettingsError> {
    let said = settings.segments.get(name).map(|own| &own.client_ids);
    let mut known = HashMap::new();
    for (text, address) in said.into_iter().flatten() {
        let wrong = |value: String, why| SettingsError::Value {
            key: format!("segments.{name}.client_ids"),
            value,
            why,
        };
        let id = octets(text).filter(|id| (2..=255).contains(&id.len()));
        let id = id.ok_or_else(|| {
            wrong(
                text.clone(),
                "is no client identifier: 2 to 255 octets in hexadecimal",
            )
        })?;
        if !is_free(*address) || known.values().any(|other| other == address) {
            let why = "is not in the subnet, or somebody's already: a host's of the inventory or the gateway's";
            return Err(wrong(address.to_string(), why));
        }
        known.insert(id.into(), *address);
    }
    Ok(known)
}

fn told(
    model: &Model,
    segment: &Segment,
    settings: &Settings,
    name: &str,
) -> Result<Told, SettingsError> {
    let default = SegmentSettings::default();
    let own = settings.segments.get(name).unwrap_or(&default);
    let gateway: Vec<_> = segment.ipv4.iter().map(|subnet| subnet.gateway).collect();
    let said = segment.dhcp.iter().flat_map(|dhcp| &dhcp.dns_servers);
    let mut dns_servers: Vec<_> = said
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
        .collect();
    if dns_servers.is_empty() && model.gateway_services.dns {
        dns_servers.clone_from(&gateway);
    }
    let domain = domain(model, segment);
    let offered = if model.gateway_services.ntp {
        gateway
    } else {
        Vec::new()
    };
    let said = own.vendor.as_deref().unwrap_or_default();
    Ok(Told {
        lease_time: own.lease_time.unwrap_or(settings.lease_time),
        routers: segment.ipv4.iter().map(|subnet| subnet.gateway).collect(),
        dns_servers,
        ntp_servers: own.ntp_servers.clone().unwrap_or(offered),
        domain_search: [std::slice::from_ref(&domain), &own.domain_search].concat(),
        domain,
        mtu: segment.mtu,
        routes: own.routes.clone(),
        ipv6_only_wait: own.ipv6_only_wait,
        boot: own.boot.clone(),
        vendor: vendor(&format!("segments.{name}"), said)?,
    })
}

/// The DNS zone of a segment's owner.
pub(crate) fn domain(model: &Model, segment: &Segment) -> String {
    let site = format!("{}.{}", model.site_name, model.site_domain);
    match segment.owner {
        Owner::Platform => site,
        Owner::Tenant(tenant) => format!("{}.{site}", model.tenant(tenant).name),
    }
}

/// Reads hexadecimal digits.
pub(crate) fn octets(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
            _ => None,
        })
        .collect()
}
