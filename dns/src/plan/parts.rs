//! Views, and the parts of zones that only some of them see.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use netmodel::model::{Owner, SegmentId, TenantId};

use super::{PlanError, Planner, SegmentReverse, ZoneSpec, address_data, named};
use crate::lookup;
use crate::name::Name;
use crate::rdata::rtype;
use crate::reverse;
use crate::view::{View, ViewId, ViewOwner, ZoneId, may_resolve, visible_tenants};
use crate::zone::{Contents, DEFAULT_TTL, RrOwner};

impl Planner<'_> {
    pub(super) fn views(
        &mut self,
        site: &Contents,
        reverse: &[SegmentReverse],
    ) -> Result<(Vec<View>, HashMap<SegmentId, ViewId>), PlanError> {
        let mut views = Vec::new();
        let mut view_of = HashMap::new();
        for index in 0..self.model.segments.len() {
            let segment = SegmentId(index);
            // All segments of a tenant see the same; the first of them makes the view.
            if let Owner::Tenant(tenant) = self.model.segment(segment).owner {
                let others = &self.model.tenant(tenant).segments;
                if let Some(view) = others.iter().find_map(|other| view_of.get(other)).copied() {
                    view_of.insert(segment, view);
                    continue;
                }
            }
            let view = self.view(segment, site, reverse)?;
            view_of.insert(segment, ViewId(views.len()));
            views.push(view);
        }
        Ok((views, view_of))
    }

    fn view(
        &mut self,
        segment: SegmentId,
        site: &Contents,
        reverse: &[SegmentReverse],
    ) -> Result<View, PlanError> {
        let tenants = visible_tenants(self.model, segment);
        let owner = self.model.segment(segment).owner;
        let of = match owner {
            Owner::Platform => ViewOwner::Segment(self.model.segment(segment).name.as_str().into()),
            Owner::Tenant(id) => ViewOwner::Tenant(self.model.tenant(id).name.as_str().into()),
        };
        let mut view = View::new(of, may_resolve(self.model, segment));
        for (origin, zone) in tenants
            .iter()
            .filter_map(|tenant| self.tenant_zone(*tenant))
        {
            view.insert(origin, zone);
        }
        let site_zone = match owner {
            Owner::Platform => self.whole_site(site, &tenants),
            Owner::Tenant(tenant) => self.public_site(site, tenant, &tenants),
        };
        view.insert(self.site.clone(), site_zone);
        let is_seen = |owner: Owner| match owner {
            Owner::Platform => false,
            Owner::Tenant(id) => tenants.contains(&id),
        };
        let mut classless: BTreeMap<Ipv4Net, Vec<(Ipv4Net, Name)>> = BTreeMap::new();
        for (index, part) in reverse.iter().enumerate() {
            let other = self.model.segments.get(index).map(|segment| segment.owner);
            let is_own = owner == Owner::Platform && other == Some(Owner::Platform);
            if is_own || other.is_some_and(is_seen) {
                for id in &part.zones {
                    if let Some(spec) = self.zones.get(id.0) {
                        view.insert(spec.origin.clone(), *id);
                    }
                }
                if let Some((net, within, origin)) = &part.classless {
                    classless
                        .entry(*within)
                        .or_default()
                        .push((*net, origin.clone()));
                }
            }
        }
        if let Owner::Tenant(tenant) = owner {
            self.add_public_reverse(&mut view, tenant, &mut classless)?;
        }
        for (within, parts) in classless {
            let origin = named("a subnet", reverse::zone24(within))?;
            let id = self.parent24(&origin, within, &parts);
            view.insert(origin, id);
        }
        Ok(view)
    }

    /// Returns a part of a zone, made once for all views that see this part.
    fn part(
        &mut self,
        origin: &Name,
        key: String,
        make: impl FnOnce(&mut Self) -> ZoneId,
    ) -> ZoneId {
        let key = (origin.clone(), key);
        if let Some(id) = self.parts.get(&key) {
            return *id;
        }
        let id = make(self);
        self.parts.insert(key, id);
        id
    }

    /// The site's zone with the delegations of these tenants.
    fn whole_site(&mut self, site: &Contents, tenants: &BTreeSet<TenantId>) -> ZoneId {
        let origin = self.site.clone();
        self.part(&origin.clone(), format!("{tenants:?}"), |planner| {
            let mut contents = site.clone();
            planner.add_name_server(&mut contents, &origin);
            if site.sets(&planner.soa.mname).is_empty() {
                planner.add_gateways(&mut contents, Owner::Platform);
            }
            planner.add_delegations(&mut contents, tenants);
            planner.add_zone(ZoneSpec {
                origin,
                tenant: None,
                is_signed: planner.model.site_dnssec,
                contents,
            })
        })
    }

    /// What a tenant sees of the site: the name server at its own gateways, the delegations that it
    /// sees, and the hosts of the services that it was granted, by the addresses that were granted.
    fn public_site(
        &mut self,
        site: &Contents,
        tenant: TenantId,
        tenants: &BTreeSet<TenantId>,
    ) -> ZoneId {
        let mut contents = Contents::default();
        let origin = self.site.clone();
        self.add_name_server(&mut contents, &origin);
        self.add_gateways(&mut contents, Owner::Tenant(tenant));
        self.add_delegations(&mut contents, tenants);
        let granted: HashSet<(u16, Box<[u8]>)> =
            self.granted(tenant).into_iter().map(address_data).collect();
        let mut shown = HashSet::new();
        for (name, set) in site.iter().filter(|(name, _)| **name != self.soa.mname) {
            for rdata in &set.rdata {
                let data = (set.rtype, rdata.clone());
                if granted.contains(&data) {
                    shown.insert(name.clone());
                    contents.add(name.clone(), data, set.ttl, set.owner.clone());
                }
            }
        }
        for (name, set) in site.iter().filter(|(_, set)| set.rtype == rtype::CNAME) {
            let target = lookup::target(set);
            if target.is_some_and(|target| shown.contains(&target)) {
                contents.add_set(name, set);
            }
        }
        self.add_zone(ZoneSpec {
            origin,
            tenant: None,
            is_signed: self.model.site_dnssec,
            contents,
        })
    }

    /// Returns the addresses of the services that a tenant was granted.
    fn granted(&self, tenant: TenantId) -> BTreeSet<IpAddr> {
        let services = self.model.tenant(tenant).services.iter();
        let addresses = services.flat_map(|(id, _)| {
            let service = self.model.service(*id);
            let v4 = service.ipv4.map(IpAddr::from);
            v4.into_iter().chain(service.ipv6.map(IpAddr::from))
        });
        addresses.collect()
    }

    /// The zones of these tenants are cut out of the site's: their names are there.
    fn add_delegations(&self, contents: &mut Contents, tenants: &BTreeSet<TenantId>) {
        for (name, _) in tenants.iter().filter_map(|id| self.tenant_zone(*id)) {
            self.add_name_server(contents, &name);
        }
    }

    fn add_gateways(&self, contents: &mut Contents, owner: Owner) {
        for segment in self
            .model
            .segments
            .iter()
            .filter(|segment| segment.owner == owner)
        {
            let v4 = segment.ipv4.map(|subnet| IpAddr::from(subnet.gateway));
            let v6 = segment.ipv6.map(|subnet| IpAddr::from(subnet.gateway));
            for address in v4.into_iter().chain(v6) {
                let name = self.soa.mname.clone();
                contents.add(name, address_data(address), DEFAULT_TTL, RrOwner::Platform);
            }
        }
    }

    /// Reverse zones of the platform with nothing but the addresses of granted services in them.
    fn add_public_reverse(
        &mut self,
        view: &mut View,
        tenant: TenantId,
        classless: &mut BTreeMap<Ipv4Net, Vec<(Ipv4Net, Name)>>,
    ) -> Result<(), PlanError> {
        let granted = self.granted(tenant);
        for index in 0..self.model.segments.len() {
            let segment = SegmentId(index);
            if self.model.segment(segment).owner != Owner::Platform {
                continue;
            }
            for net in self.reverse_nets(segment) {
                let mut pointers = self.pointers.get(&segment).into_iter().flatten();
                let has_one =
                    pointers.any(|(address, _)| net.contains(address) && granted.contains(address));
                if !has_one {
                    continue;
                }
                let zones = named(&net.to_string(), reverse::zones(net))?;
                for origin in zones.origins {
                    if let (Some(within), IpNet::V4(net)) = (zones.within, net) {
                        classless
                            .entry(within)
                            .or_default()
                            .push((net, origin.clone()));
                    }
                    let id = self.part(&origin.clone(), format!("{granted:?}"), |planner| {
                        let is_shown = |address| granted.contains(&address);
                        planner.add_reverse_zone(segment, net, origin.clone(), is_shown)
                    });
                    view.insert(origin, id);
                }
            }
        }
        Ok(())
    }

    /// RFC 2317, 4: the /24 has an alias for each address of the smaller zones, and their delegation.
    fn parent24(&mut self, origin: &Name, within: Ipv4Net, parts: &[(Ipv4Net, Name)]) -> ZoneId {
        self.part(origin, format!("{parts:?}"), |planner| {
            let mut contents = Contents::default();
            planner.add_name_server(&mut contents, origin);
            for (net, child) in parts {
                planner.add_name_server(&mut contents, child);
                for address in u32::from(net.network())..=u32::from(net.broadcast()) {
                    let address = Ipv4Addr::from(address);
                    debug_assert!(within.contains(&address));
                    let names = (
                        reverse::octets(address, 4),
                        reverse::owner_name(address.into(), (*net).into()),
                    );
                    if let (Ok(name), Ok(target)) = names {
                        let data = (rtype::CNAME, target.as_wire().into());
                        contents.add(name, data, DEFAULT_TTL, RrOwner::Platform);
                    }
                }
            }
            planner.add_zone(ZoneSpec {
                origin: origin.clone(),
                tenant: None,
                is_signed: planner.model.site_dnssec,
                contents,
            })
        })
    }
}
