//! DHCPv6 and router advertisements on one segment, as a generation and the settings want them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;
use netmodel::Model;
use netmodel::ids::{MacAddr, VlanId};
use netmodel::model::{Owner, Segment, SegmentId, Subnet6, TenantState};

use crate::settings::{SegmentSettings, Settings, SettingsError};

/// Where clients have their addresses from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// DHCPv6 for everybody.
    Managed,
    /// DHCPv6 for reservations; others get nothing.
    StaticOnly,
    /// They make them up (RFC 4862); DHCPv6 tells the rest.
    Slaac,
}

/// DHCPv6 on one segment.
#[derive(Clone, Debug)]
pub struct Scope6 {
    /// Its VLAN.
    pub vlan: VlanId,
    /// `guest`, or `TENANT/main`.
    pub name: String,
    /// The subnet.
    pub net: Ipv6Net,
    /// The router's address in it.
    pub gateway: Ipv6Addr,
    /// Where addresses come from.
    pub mode: Mode,
    /// Who has an address of his own.
    pub reservations: HashMap<MacAddr, Ipv6Addr>,
    /// Addresses that are nobody's to give: reserved, static, the gateway's.
    pub fixed: HashSet<Ipv6Addr>,
    /// May new clients have leases? Not while the tenant is draining.
    pub takes_new: bool,
    /// What clients are told.
    pub told: Told6,
}

/// What clients of a scope are told.
#[derive(Clone, Debug)]
pub struct Told6 {
    /// Longest lease, in seconds.
    pub lease_time: u32,
    /// DNS servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// NTP servers.
    pub ntp_servers: Vec<Ipv6Addr>,
    /// Domains to search, the segment's own first.
    pub domain_search: Vec<String>,
    /// Largest IP packet, in octets.
    pub mtu: u16,
}

impl Scope6 {
    /// Makes the scope of a segment, if it has one: a subnet, and DHCP or addresses that clients make up.
    ///
    /// # Errors
    ///
    /// Clients cannot make up addresses in a subnet that is no /64.
    pub(crate) fn new(
        model: &Model,
        settings: &Settings,
        (name, id): (&str, SegmentId),
    ) -> Result<Option<Self>, SettingsError> {
        let segment = model.segment(id);
        let default = SegmentSettings::default();
        let own = settings.segments.get(name).unwrap_or(&default);
        if own.slaac
            && segment
                .ipv6
                .is_none_or(|subnet| subnet.net.prefix_len() != 64)
        {
            return Err(SettingsError::Value {
                key: format!("segments.{name}.slaac"),
                value: "true".to_owned(),
                why: "wants a `subnet6` of the length 64: clients make up the other half",
            });
        }
        let Some(Subnet6 { net, gateway }) = segment.ipv6 else {
            return Ok(None);
        };
        let mode = match &segment.dhcp {
            _ if own.slaac => Mode::Slaac,
            Some(dhcp) if dhcp.pool.is_some() => Mode::Managed,
            Some(_) => Mode::StaticOnly,
            None => return Ok(None),
        };
        let interfaces = model.hosts.iter().flat_map(|host| &host.interfaces);
        let on_segment = interfaces.filter(|interface| interface.segment == Some(id));
        let known = on_segment.filter_map(|interface| Some((interface.mac, interface.ipv6?)));
        let known: Vec<_> = known.collect();
        let mut fixed: HashSet<_> = known.iter().map(|(_, at)| *at).collect();
        fixed.extend([gateway, net.network()]);
        Ok(Some(Self {
            vlan: segment.vlan_id,
            name: name.to_owned(),
            net,
            gateway,
            mode,
            reservations: known
                .iter()
                .filter_map(|(mac, at)| Some(((*mac)?, *at)))
                .collect(),
            fixed,
            takes_new: match segment.owner {
                Owner::Platform => true,
                Owner::Tenant(tenant) => model.tenant(tenant).state == TenantState::Present,
            },
            told: told(model, segment, (settings, own)),
        }))
    }

    /// Is it a scope that serves reservations only?
    pub(super) fn is_static_only(&self) -> bool {
        self.mode == Mode::StaticOnly
    }

    /// Does it give addresses to clients without a reservation?
    pub(super) fn gives_any(&self) -> bool {
        self.mode == Mode::Managed
    }

    /// May the address be given to anybody?
    pub(super) fn is_dynamic(&self, at: Ipv6Addr) -> bool {
        // RFC 2526: the last 128 addresses of a subnet are routers' and other anycast addresses.
        let last = u128::from(self.net.broadcast());
        let is_anycast = last - u128::from(at).min(last) < 128 && self.net.prefix_len() <= 112;
        self.gives_any() && self.net.contains(&at) && !is_anycast && !self.fixed.contains(&at)
    }

    /// Is the address one that the scope could give to this client today?
    pub(super) fn is_home(&self, mac: MacAddr, at: Ipv6Addr) -> bool {
        match self.reservations.get(&mac) {
            Some(reserved) => *reserved == at,
            None => self.is_dynamic(at),
        }
    }

    /// The nth address that a client without a reservation could have: made of its hardware address.
    pub(super) fn address_of(&self, mac: MacAddr, nth: u64) -> Ipv6Addr {
        // FNV-1a over VLAN and hardware address: the same after each start.
        let vlan = self.vlan.as_u16().to_be_bytes();
        let octets = vlan.iter().chain(&mac.0);
        let hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        });
        // What RFC 7136 says of identifiers: no bit of them means anything.
        let host = u128::from(hash.wrapping_add(nth)) & u128::from(self.net.hostmask());
        Ipv6Addr::from(u128::from(self.net.network()) | host)
    }
}

fn told(model: &Model, segment: &Segment, (settings, own): (&Settings, &SegmentSettings)) -> Told6 {
    let gateway: Vec<_> = segment.ipv6.iter().map(|subnet| subnet.gateway).collect();
    let said = segment.dhcp.iter().flat_map(|dhcp| &dhcp.dns_servers);
    let mut dns_servers: Vec<_> = said
        .filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        })
        .collect();
    if dns_servers.is_empty() && model.gateway_services.dns {
        dns_servers.clone_from(&gateway);
    }
    let domain = crate::scope::domain(model, segment);
    Told6 {
        lease_time: own.lease_time.unwrap_or(settings.lease_time),
        dns_servers,
        ntp_servers: if model.gateway_services.ntp {
            gateway
        } else {
            Vec::new()
        },
        domain_search: [&[domain], own.domain_search.as_slice()].concat(),
        mtu: segment.mtu,
    }
}
