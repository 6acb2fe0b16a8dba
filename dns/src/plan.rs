//! Which zones there are, what is in them, and who sees them: pure, out of one generation.
//!
//! | zone | in it | who sees it |
//! |---|---|---|
//! | site, whole | hosts of the platform, delegations of the tenants that the view sees | platform segments |
//! | site, public part | the name server, hosts of granted services | each tenant its own |
//! | tenant | its records | its segments, users of its offers, platform segments that may reach it |
//! | reverse of a segment | PTR of its owner's hosts | as the owner's zone |
//! | reverse /24 (RFC 2317) | aliases into the smaller zones that the view sees | each view its own |
//!
//! A zone of which two views see different parts exists once for each part: the view is not asked
//! while a question is answered, so it cannot be forgotten.

mod parts;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use netmodel::model::{DnsRecord, Model, Owner, SegmentId, TenantId, TenantKind, TenantState};
use netmodel::published::Published;
use thiserror::Error;

use crate::name::{self, Name, NameError};
use crate::rdata::{self, rtype};
use crate::reverse;
use crate::view::{Clients, View, ViewId, ZoneId};
use crate::zone::{Contents, DEFAULT_TTL, RrOwner, Soa};

/// Label of the name server in the site's zone.
const NAME_SERVER: &str = "ns";

/// A zone to be made.
#[derive(Clone, Debug)]
pub struct ZoneSpec {
    /// Its name.
    pub origin: Name,
    /// The tenant that may change it; `None`: nobody.
    pub tenant: Option<Arc<str>>,
    /// Is it to be signed (DNSSEC)?
    pub is_signed: bool,
    /// Its records, without SOA and without dynamic ones.
    pub contents: Contents,
}

/// What updates need to know of a tenant.
#[derive(Clone, Debug)]
pub struct TenantInfo {
    /// Name of its update key.
    pub key: Option<String>,
    /// It takes no new names.
    pub is_draining: bool,
    /// Subnets of its segments.
    pub nets: Vec<IpNet>,
    /// VLANs of its segments.
    pub vlans: Vec<u16>,
    /// Its gateways, where it asks for names.
    pub gateways: Vec<IpAddr>,
    /// Its own zone.
    pub zone: Name,
}

/// Everything that a generation says of DNS.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of the generation.
    pub number: u32,
    /// All zones; [`ZoneId`] is the place in here.
    pub zones: Vec<ZoneSpec>,
    /// All views.
    pub views: Vec<View>,
    /// Whose is which.
    pub clients: Clients,
    /// For all zones.
    pub soa: Soa,
    /// By name.
    pub tenants: HashMap<Arc<str>, TenantInfo>,
    /// Records that cannot be served, in words.
    pub rejected: Vec<String>,
    /// Zones that are to be signed.
    pub signed: BTreeSet<Name>,
    /// Zones whose names are asked of nobody.
    local: HashSet<Name>,
    /// Subnets of all segments.
    nets: Vec<IpNet>,
}

impl Plan {
    /// Returns a view.
    #[must_use]
    pub fn view(&self, id: ViewId) -> Option<&View> {
        self.views.get(id.0)
    }

    /// Returns the view of a source address.
    #[must_use]
    pub fn view_of(&self, source: IpAddr) -> Option<&View> {
        self.view(self.clients.view_of(source)?)
    }

    /// Is a name (lower case) in a zone of the site, whoever sees it, or in one that is nobody's on the
    /// internet? It is not asked of others, which must not learn what is looked for here.
    #[must_use]
    pub fn is_local(&self, name: &[u8]) -> bool {
        name::ancestors(name).any(|ancestor| self.local.contains(ancestor))
    }

    /// Is it an address of a segment?
    #[must_use]
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }
}

/// Zones that are not the internet's: RFC 6303, 4 (reverse), RFC 7793; RFC 6761, 6762, 7686, 8375, 9476, and `internal`.
const NOT_PUBLIC: &[&str] = &[
    "0.in-addr.arpa",
    "10.in-addr.arpa",
    "127.in-addr.arpa",
    "254.169.in-addr.arpa",
    "168.192.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    "0.0.0.0.0.0.0.0.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
    "c.f.ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "alt",
    "home.arpa",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
];

/// The zones whose names are asked of nobody.
fn local(zones: &[ZoneSpec]) -> HashSet<Name> {
    let private = (16..32).map(|octet| format!("{octet}.172.in-addr.arpa"));
    let shared = (64..128).map(|octet| format!("{octet}.100.in-addr.arpa"));
    let fixed = NOT_PUBLIC.iter().map(ToString::to_string);
    let fixed = fixed.chain(private).chain(shared);
    let fixed = fixed.filter_map(|text| Name::absolute(&text).ok());
    fixed
        .chain(zones.iter().map(|zone| zone.origin.clone()))
        .collect()
}

fn signed(zones: &[ZoneSpec]) -> BTreeSet<Name> {
    let signed = zones.iter().filter(|zone| zone.is_signed);
    signed.map(|zone| zone.origin.clone()).collect()
}

fn nets(model: &Model) -> Vec<IpNet> {
    model.segments.iter().flat_map(nets_of).collect()
}

fn nets_of(segment: &netmodel::model::Segment) -> impl Iterator<Item = IpNet> + use<> {
    let v4 = segment.ipv4.map(|subnet| IpNet::from(subnet.net));
    let v6 = segment.ipv6.map(|subnet| IpNet::from(subnet.net));
    v4.into_iter().chain(v6)
}

/// A generation cannot be served.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The name of a zone is none.
    #[error("{what} has no DNS zone")]
    Zone {
        /// Site, tenant or subnet.
        what: String,
        /// Why not.
        #[source]
        source: NameError,
    },
}

/// Makes the plan.
///
/// # Errors
///
/// [`PlanError`] if the site's or a tenant's name is no DNS name; a checked model has none of those.
pub fn plan(published: &Published) -> Result<Plan, PlanError> {
    let model = &published.model;
    let site_text = format!("{}.{}", model.site_name, model.site_domain);
    let site = named("the site", Name::absolute(&site_text))?;
    let child = |label| named("the site", Name::parse(label, &site));
    let mut planner = Planner {
        model,
        soa: Soa {
            mname: child(NAME_SERVER)?,
            rname: child("hostmaster")?,
        },
        tenant_names: Vec::new(),
        zones: Vec::new(),
        parts: HashMap::new(),
        forward: Vec::new(),
        pointers: HashMap::new(),
        rejected: Vec::new(),
        site,
    };
    for tenant in &model.tenants {
        let name = Name::parse(tenant.name.as_str(), &planner.site);
        let name = named(tenant.name.as_str(), name)?;
        planner.tenant_names.push(name);
    }
    let site_contents = planner.read_records();
    planner.read_pointers(&site_contents);
    planner.add_tenant_zones();
    let reverse = planner.add_reverse_zones()?;
    let (views, view_of) = planner.views(&site_contents, &reverse)?;
    let clients = Clients::new(model, |segment| view_of.get(&segment).copied());
    Ok(Plan {
        number: published.number,
        tenants: tenant_infos(model, &planner.tenant_names),
        local: local(&planner.zones),
        signed: signed(&planner.zones),
        nets: nets(model),
        zones: planner.zones,
        soa: planner.soa,
        rejected: planner.rejected,
        views,
        clients,
    })
}

fn named<T>(what: &str, made: Result<T, NameError>) -> Result<T, PlanError> {
    made.map_err(|source| PlanError::Zone {
        what: what.to_owned(),
        source,
    })
}

fn tenant_infos(model: &Model, zones: &[Name]) -> HashMap<Arc<str>, TenantInfo> {
    let info = |tenant: &netmodel::model::Tenant, zone: &Name| TenantInfo {
        key: tenant.dns_update_key.clone(),
        is_draining: tenant.state == TenantState::Draining,
        nets: tenant
            .segments
            .iter()
            .flat_map(|segment| nets_of(model.segment(*segment)))
            .collect(),
        vlans: tenant
            .segments
            .iter()
            .map(|segment| model.segment(*segment).vlan_id.as_u16())
            .collect(),
        gateways: tenant
            .segments
            .iter()
            .map(|segment| model.segment(*segment))
            .flat_map(|segment| {
                let ipv4 = segment.ipv4.map(|subnet| IpAddr::V4(subnet.gateway));
                let ipv6 = segment.ipv6.map(|subnet| IpAddr::V6(subnet.gateway));
                ipv4.into_iter().chain(ipv6)
            })
            .collect(),
        zone: zone.clone(),
    };
    let all = model.tenants.iter().zip(zones);
    all.map(|(tenant, zone)| (tenant.name.as_str().into(), info(tenant, zone)))
        .collect()
}

/// The reverse zones of a segment.
struct SegmentReverse {
    zones: Vec<ZoneId>,
    /// Of a subnet smaller than /24: its zone, and what that is cut out of.
    classless: Option<(Ipv4Net, Ipv4Net, Name)>,
}

struct Planner<'m> {
    model: &'m Model,
    site: Name,
    soa: Soa,
    tenant_names: Vec<Name>,
    zones: Vec<ZoneSpec>,
    /// Parts of zones that several views share.
    parts: HashMap<(Name, String), ZoneId>,
    forward: Vec<Contents>,
    /// Addresses that have a name, by the segment they are on.
    pointers: HashMap<SegmentId, Vec<(IpAddr, Name)>>,
    rejected: Vec<String>,
}

impl Planner<'_> {
    /// Sorts the model's records into zones; returns the site's.
    fn read_records(&mut self) -> Contents {
        let mut site = Contents::default();
        self.forward = vec![Contents::default(); self.tenant_names.len()];
        let zone_of: HashMap<&Name, usize> = self
            .tenant_names
            .iter()
            .enumerate()
            .map(|(i, name)| (name, i))
            .collect();
        for record in &self.model.records {
            let place = read_record(record).and_then(|read| {
                let target = match zone_of.get(&read.zone) {
                    Some(index) => self.forward.get_mut(*index)?,
                    None if read.zone == self.site => &mut site,
                    None => return None,
                };
                let is_apex =
                    read.name == read.zone && matches!(read.data.0, rtype::NS | rtype::CNAME);
                let is_tenants = read.zone == self.site
                    && self
                        .tenant_names
                        .iter()
                        .any(|tenant| read.name.is_within(tenant));
                (!is_apex && !is_tenants).then_some((target, read))
            });
            match place {
                Some((target, read)) => {
                    let ttl = record.ttl.unwrap_or(DEFAULT_TTL);
                    target.add(read.name, read.data, ttl, RrOwner::Inventory);
                }
                None => self.rejected.push(format!(
                    "{}:{}: {}.{} {} `{}`",
                    record.origin.file,
                    record.origin.line,
                    record.name,
                    record.zone,
                    record.record_type,
                    record.value
                )),
            }
        }
        site
    }

    /// Finds the hosts' addresses that have a record of the host's own name.
    fn read_pointers(&mut self, site: &Contents) {
        for host in &self.model.hosts {
            let (zone, contents) = match host.owner {
                Owner::Platform => (&self.site, Some(site)),
                Owner::Tenant(id) => match self.tenant_names.get(id.0) {
                    Some(name) => (name, self.forward.get(id.0)),
                    None => continue,
                },
            };
            let (Some(contents), Some(name)) = (contents, host_name(host.name.as_str(), zone))
            else {
                continue;
            };
            for interface in &host.interfaces {
                let Some(segment) = interface.segment else {
                    continue;
                };
                if self.model.segment(segment).owner != host.owner {
                    continue;
                }
                let v4 = interface.ipv4.map(IpAddr::from);
                for address in v4.into_iter().chain(interface.ipv6.map(IpAddr::from)) {
                    if has_address(contents, &name, address) {
                        let of_segment = self.pointers.entry(segment).or_default();
                        of_segment.push((address, name.clone()));
                    }
                }
            }
        }
    }

    fn add_tenant_zones(&mut self) {
        for (index, tenant) in self.model.tenants.iter().enumerate() {
            let Some(origin) = self.tenant_names.get(index).cloned() else {
                continue;
            };
            let mut contents = self.forward.get(index).cloned().unwrap_or_default();
            self.add_name_server(&mut contents, &origin);
            self.zones.push(ZoneSpec {
                origin,
                tenant: Some(tenant.name.as_str().into()),
                is_signed: tenant.dnssec,
                contents,
            });
        }
    }

    /// A tenant's zone has the tenant's place: [`Planner::add_tenant_zones`] comes first.
    fn tenant_zone(&self, tenant: TenantId) -> Option<(Name, ZoneId)> {
        let name = self.tenant_names.get(tenant.0)?;
        Some((name.clone(), ZoneId(tenant.0)))
    }

    fn add_name_server(&self, contents: &mut Contents, origin: &Name) {
        let data = (rtype::NS, self.soa.mname.as_wire().into());
        contents.add(origin.clone(), data, DEFAULT_TTL, RrOwner::Platform);
    }

    fn add_reverse_zones(&mut self) -> Result<Vec<SegmentReverse>, PlanError> {
        let mut all = Vec::new();
        for index in 0..self.model.segments.len() {
            let mut of_segment = SegmentReverse {
                zones: Vec::new(),
                classless: None,
            };
            for net in self.reverse_nets(SegmentId(index)) {
                let zones = named(&net.to_string(), reverse::zones(net))?;
                for origin in zones.origins {
                    if let (Some(within), IpNet::V4(net)) = (zones.within, net) {
                        of_segment.classless = Some((net, within, origin.clone()));
                    }
                    let id = self.add_reverse_zone(SegmentId(index), net, origin, |_| true);
                    of_segment.zones.push(id);
                }
            }
            all.push(of_segment);
        }
        Ok(all)
    }

    /// Subnets of the site's address plan; those of a VPC of its own may overlap others.
    fn reverse_nets(&self, segment: SegmentId) -> Vec<IpNet> {
        let segment = self.model.segment(segment);
        let is_own_plan = match segment.owner {
            Owner::Platform => false,
            Owner::Tenant(id) => self.model.tenant(id).kind == TenantKind::Vpc,
        };
        if segment.vpc_id != 0 || is_own_plan {
            return Vec::new();
        }
        let v4 = segment.ipv4.map(|subnet| IpNet::from(subnet.net));
        let v6 = segment.ipv6.map(|subnet| IpNet::from(subnet.net));
        v4.into_iter().chain(v6).collect()
    }

    fn add_reverse_zone(
        &mut self,
        segment: SegmentId,
        net: IpNet,
        origin: Name,
        is_shown: impl Fn(IpAddr) -> bool,
    ) -> ZoneId {
        let mut contents = Contents::default();
        self.add_name_server(&mut contents, &origin);
        for (address, name) in self.pointers.get(&segment).into_iter().flatten() {
            if !net.contains(address) || !is_shown(*address) {
                continue;
            }
            if let Ok(owner) = reverse::owner_name(*address, net) {
                let data = (rtype::PTR, name.as_wire().into());
                contents.add(owner, data, DEFAULT_TTL, RrOwner::Inventory);
            }
        }
        let (tenant, is_signed) = match self.model.segment(segment).owner {
            Owner::Platform => (None, self.model.site_dnssec),
            Owner::Tenant(id) => {
                let tenant = self.model.tenant(id);
                (Some(tenant.name.as_str().into()), tenant.dnssec)
            }
        };
        self.add_zone(ZoneSpec {
            origin,
            tenant,
            is_signed,
            contents,
        })
    }

    fn add_zone(&mut self, zone: ZoneSpec) -> ZoneId {
        self.zones.push(zone);
        ZoneId(self.zones.len() - 1)
    }
}

/// A record of the inventory as it stands in a zone.
struct RecordRead {
    zone: Name,
    name: Name,
    data: (u16, Box<[u8]>),
}

fn read_record(record: &DnsRecord) -> Option<RecordRead> {
    let zone = Name::absolute(&record.zone).ok()?;
    Some(RecordRead {
        name: Name::parse(&record.name, &zone).ok()?,
        data: rdata::parse(&record.record_type, &record.value, &zone).ok()?,
        zone,
    })
}

/// Returns a host's full name.
fn host_name(host: &str, zone: &Name) -> Option<Name> {
    let relative = Name::parse(host, zone).ok()?;
    // A host can be listed by its full name.
    match Name::absolute(host) {
        Ok(absolute) if absolute.is_within(zone) => Some(absolute),
        _ => Some(relative),
    }
}

fn has_address(contents: &Contents, name: &Name, address: IpAddr) -> bool {
    let (kind, octets) = address_data(address);
    let mut sets = contents.sets(name).iter();
    sets.any(|set| set.rtype == kind && set.rdata.contains(&octets))
}

/// Returns the record that an address makes.
fn address_data(address: IpAddr) -> (u16, Box<[u8]>) {
    match address {
        IpAddr::V4(address) => (rtype::A, address.octets().into()),
        IpAddr::V6(address) => (rtype::AAAA, address.octets().into()),
    }
}
