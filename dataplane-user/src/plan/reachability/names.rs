//! Groups of addresses, called by the names that people gave them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use dataplane_common::abi::segment_flags;
use netmodel::Model;
use netmodel::ids::TenantName;
use netmodel::model::{HostId, Owner, PlatformService, SegmentId, TenantId};

use super::compare::Comparison;
use super::found::{Change, Who};
use super::space::{Place, Side, Sides};
use crate::compile::Way;

/// In which role groups are named.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Role {
    Source,
    Destination,
}

/// Who is on one end of a change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Named {
    /// Each name; never empty.
    pub(super) names: Vec<String>,
    /// The tenants among them.
    pub(super) tenants: BTreeSet<TenantId>,
    /// Are there addresses of both families?
    pub(super) is_dual: bool,
}

/// Names groups of one comparison.
pub(super) struct Names<'c, 's> {
    comparison: &'c Comparison<'s>,
    models: Sides<Option<&'s Model>>,
    segments: [HashMap<u16, SegmentId>; 2],
    /// Places of each VLAN and family, by role and side.
    totals: HashMap<(Role, Side, u16, bool), usize>,
    /// Places of the groups that are named.
    places: HashMap<(Role, usize), Vec<Place>>,
    hosts: [HashMap<IpAddr, HostId>; 2],
}

impl<'c, 's> Names<'c, 's> {
    /// Prepares to name what the changes are about.
    pub(super) fn new(
        comparison: &'c Comparison<'s>,
        models: Sides<Option<&'s Model>>,
        changes: &[Change],
    ) -> Self {
        let mut names = Self {
            comparison,
            models,
            segments: [Side::Old, Side::New].map(|side| segments(models.of(side))),
            totals: HashMap::new(),
            places: HashMap::new(),
            hosts: Default::default(),
        };
        names.count();
        names.collect(changes);
        names
    }

    fn count(&mut self) {
        let space = &self.comparison.space;
        for side in [Side::Old, Side::New] {
            for group in &space.sources.groups {
                if let Some(kind) = group.key.kinds.of(side) {
                    let key = (Role::Source, side, kind.vlan_id, group.key.is_ipv4);
                    *self.totals.entry(key).or_default() += group.places;
                }
            }
            for group in &space.destinations.groups {
                let kind = group.key.kinds.of(side);
                if let (Way::Class { vlan_id, .. }, None) = (kind.way, kind.own) {
                    let key = (Role::Destination, side, vlan_id, group.key.is_ipv4);
                    *self.totals.entry(key).or_default() += group.places;
                }
            }
        }
    }

    /// Looks up the places that some change is about a part of, and whose they are.
    fn collect(&mut self, changes: &[Change]) {
        let mut wanted: BTreeSet<(bool, usize)> = BTreeSet::new();
        for change in changes {
            match &change.who {
                Who::All(from, to) => {
                    wanted.extend(from.iter().map(|&i| (true, i)));
                    wanted.extend(to.iter().map(|&i| (false, i)));
                }
                Who::Own(pairs) => {
                    wanted.extend(
                        pairs
                            .iter()
                            .flat_map(|&(from, to)| [(true, from), (false, to)]),
                    );
                }
            }
        }
        if wanted.is_empty() {
            return;
        }
        let vlans = self.wanted_vlans(&wanted);
        for place in &self.comparison.space.places {
            if let Some(i) = place.source
                && wanted.contains(&(true, i))
            {
                self.places
                    .entry((Role::Source, i))
                    .or_default()
                    .push(*place);
            }
            if wanted.contains(&(false, place.destination)) {
                let key = (Role::Destination, place.destination);
                self.places.entry(key).or_default().push(*place);
            }
        }
        for (side, vlans) in [Side::Old, Side::New].into_iter().zip(vlans) {
            if let Some(model) = self.models.of(side) {
                self.hosts[side as usize] = hosts(model, &vlans);
            }
        }
    }

    fn wanted_vlans(&self, wanted: &BTreeSet<(bool, usize)>) -> [BTreeSet<u16>; 2] {
        let role = |is_source| {
            if is_source {
                Role::Source
            } else {
                Role::Destination
            }
        };
        [Side::Old, Side::New].map(|side| {
            let vlans = wanted.iter();
            vlans
                .filter_map(|&(is_source, i)| self.vlan(role(is_source), side, i))
                .collect()
        })
    }

    /// Returns the VLAN id of a group.
    fn vlan(&self, role: Role, side: Side, group: usize) -> Option<u16> {
        let space = &self.comparison.space;
        match role {
            Role::Source => {
                let kind = space.sources.groups[group].key.kinds.of(side)?;
                Some(kind.vlan_id)
            }
            Role::Destination => match space.destinations.groups[group].key.kinds.of(side).way {
                Way::Class { vlan_id, .. } => Some(vlan_id),
                Way::Never | Way::Internet => None,
            },
        }
    }

    /// Names groups of one family as one side knows them.
    pub(super) fn name(&self, role: Role, side: Side, groups: &BTreeSet<usize>) -> Named {
        let mut by_vlan: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let mut others: Vec<usize> = Vec::new();
        for &group in groups {
            match self.vlan(role, side, group) {
                Some(vlan_id) => by_vlan.entry(vlan_id).or_default().push(group),
                None => others.push(group),
            }
        }
        let mut named = Named::default();
        let mut whole: BTreeSet<SegmentId> = BTreeSet::new();
        let mut parts: Vec<String> = Vec::new();
        for (vlan_id, groups) in by_vlan {
            let Some(&segment) = self.segments[side as usize].get(&vlan_id) else {
                continue;
            };
            let is_ipv4 = self.is_ipv4(role, &groups);
            if let Some(Owner::Tenant(tenant)) = self.owner(side, segment) {
                named.tenants.insert(tenant);
            }
            let total = self.totals.get(&(role, side, vlan_id, is_ipv4));
            if total == Some(&self.places_in(role, &groups)) {
                named.is_dual |= self.is_dual(side, vlan_id);
                whole.insert(segment);
            } else {
                named.is_dual |= self.has_dual_host(role, side, &groups);
                parts.extend(self.name_part(role, side, segment, &groups));
            }
        }
        let is_ipv4 = groups.first().is_some_and(|&i| self.is_ipv4(role, &[i]));
        named.names = self.name_segments(side, is_ipv4, &whole);
        named.names.append(&mut parts);
        if !others.is_empty() {
            named.is_dual = true;
            named.names.extend(self.name_internet(&others));
        }
        named
    }

    fn owner(&self, side: Side, segment: SegmentId) -> Option<Owner> {
        Some(self.models.of(side)?.segment(segment).owner)
    }

    fn is_ipv4(&self, role: Role, groups: &[usize]) -> bool {
        let space = &self.comparison.space;
        groups.first().is_some_and(|&i| match role {
            Role::Source => space.sources.groups[i].key.is_ipv4,
            Role::Destination => space.destinations.groups[i].key.is_ipv4,
        })
    }

    fn is_dual(&self, side: Side, vlan_id: u16) -> bool {
        let both = segment_flags::IPV4 | segment_flags::IPV6;
        let segments = &self.comparison.space.tables.of(side).segments;
        segments
            .get(&vlan_id)
            .is_some_and(|s| s.flags & both == both)
    }

    /// Has one of the named hosts or services addresses of both families?
    fn has_dual_host(&self, role: Role, side: Side, groups: &[usize]) -> bool {
        let Some(model) = self.models.of(side) else {
            return false;
        };
        let places = groups.iter().filter_map(|&i| self.places.get(&(role, i)));
        let mut addresses = places.flatten().map(|place| place.address);
        addresses.any(|address| match self.hosts[side as usize].get(&address) {
            Some(&id) => {
                let interfaces = &model.host(id).interfaces;
                let has_ipv4 = interfaces.iter().any(|i| i.ipv4.is_some());
                has_ipv4 && interfaces.iter().any(|i| i.ipv6.is_some())
            }
            None => {
                let service = service_at(model, address);
                service.is_some_and(|service| service.ipv4.is_some() && service.ipv6.is_some())
            }
        })
    }

    fn places_in(&self, role: Role, groups: &[usize]) -> usize {
        let space = &self.comparison.space;
        let counts = groups.iter().map(|&i| match role {
            Role::Source => space.sources.groups[i].places,
            Role::Destination => space.destinations.groups[i].places,
        });
        counts.sum()
    }

    /// Whole segments: a tenant by its name if all of it that has the family is there, `all tenants` if
    /// all of them are.
    fn name_segments(&self, side: Side, is_ipv4: bool, whole: &BTreeSet<SegmentId>) -> Vec<String> {
        let Some(model) = self.models.of(side) else {
            return Vec::new();
        };
        let has_family = |id: &&SegmentId| {
            let segment = model.segment(**id);
            if is_ipv4 {
                segment.ipv4.is_some()
            } else {
                segment.ipv6.is_some()
            }
        };
        let mut names = Vec::new();
        let mut tenants: BTreeMap<TenantId, Vec<SegmentId>> = BTreeMap::new();
        for &id in whole {
            match model.segment(id).owner {
                Owner::Platform => names.push(model.segment(id).name.to_string()),
                Owner::Tenant(tenant) => tenants.entry(tenant).or_default().push(id),
            }
        }
        let routed = |tenant: TenantId| {
            let segments = model.tenant(tenant).segments.iter();
            segments.filter(has_family).count()
        };
        let is_whole = |tenant, segments: &[SegmentId]| routed(tenant) == segments.len();
        // Most of them: one tenant of many is called by its name, even if the others lack the family.
        let are_many = tenants.len() > 1 && tenants.len() * 2 > model.tenants.len();
        let mut ids = (0..model.tenants.len()).map(TenantId);
        let are_all = are_many
            && ids.all(|id| tenants.get(&id).map_or(0, Vec::len) == routed(id))
            && model.tenants.len() > 2;
        if are_all {
            names.push("all tenants".to_owned());
            return names;
        }
        for (tenant, segments) in tenants {
            let name = &model.tenant(tenant).name;
            if is_whole(tenant, &segments) {
                names.push(name.to_string());
                continue;
            }
            let segments = segments.iter().map(|&id| &model.segment(id).name);
            names.extend(segments.map(|segment| format!("{name}/{segment}")));
        }
        names
    }

    /// A part of a segment: its hosts, and what else is in it.
    fn name_part(
        &self,
        role: Role,
        side: Side,
        segment: SegmentId,
        groups: &[usize],
    ) -> Vec<String> {
        let segment_name = self.segment_name(side, segment);
        let places = groups.iter().filter_map(|&i| self.places.get(&(role, i)));
        let mut names = BTreeSet::new();
        let mut nets = BTreeSet::new();
        for place in places.flatten() {
            match (place.net, self.address_name(side, place.address)) {
                (Some(net), _) => _ = nets.insert(net),
                (None, Some(name)) => _ = names.insert(name),
                (None, None) => _ = names.insert(format!("{} ({segment_name})", place.address)),
            }
        }
        let subnets = self.subnets(side, segment);
        for net in nets {
            names.insert(match subnets.contains(&net) {
                true => format!("other addresses of {segment_name}"),
                false => format!("{net} ({segment_name})"),
            });
        }
        names.into_iter().collect()
    }

    fn subnets(&self, side: Side, segment: SegmentId) -> Vec<ipnet::IpNet> {
        let segment = self.models.of(side).map(|model| model.segment(segment));
        let v4 = segment.and_then(|s| s.ipv4).map(|s| s.net.into());
        let v6 = segment.and_then(|s| s.ipv6).map(|s| s.net.into());
        v4.into_iter().chain(v6).collect()
    }

    fn segment_name(&self, side: Side, id: SegmentId) -> String {
        let Some(model) = self.models.of(side) else {
            return String::new();
        };
        let segment = model.segment(id);
        match segment.owner {
            Owner::Platform => segment.name.to_string(),
            Owner::Tenant(tenant) => match segment.name.as_str() {
                "main" => model.tenant(tenant).name.to_string(),
                name => format!("{}/{name}", model.tenant(tenant).name),
            },
        }
    }

    /// Returns the name of the host or service with that address.
    fn address_name(&self, side: Side, address: IpAddr) -> Option<String> {
        let model = self.models.of(side)?;
        if let Some(&id) = self.hosts[side as usize].get(&address) {
            let host = model.host(id);
            return Some(match host.owner {
                Owner::Platform => host.name.to_string(),
                Owner::Tenant(tenant) => format!("{}/{}", model.tenant(tenant).name, host.name),
            });
        }
        service_at(model, address).map(|service| service.name.clone())
    }

    fn name_internet(&self, groups: &[usize]) -> Vec<String> {
        let space = &self.comparison.space;
        let is_all = groups.iter().any(|&i| {
            let kinds = space.destinations.groups[i].key.kinds;
            kinds.old.way == Way::Internet && kinds.new.way == Way::Internet
        });
        if is_all {
            return vec!["the internet".to_owned()];
        }
        let places = groups.iter();
        let places = places.filter_map(|&i| self.places.get(&(Role::Destination, i)));
        let names = places.flatten().map(|place| match place.net {
            Some(net) => format!("{net} (internet)"),
            None => format!("{} (internet)", place.address),
        });
        names.collect()
    }

    /// Returns the names of the tenants that one side knows by these ids.
    pub(super) fn tenants(&self, side: Side, ids: &BTreeSet<TenantId>) -> Vec<TenantName> {
        let model = self.models.of(side);
        let names = ids
            .iter()
            .filter_map(|&id| Some(model?.tenant(id).name.clone()));
        names.collect()
    }
}

fn service_at(model: &Model, address: IpAddr) -> Option<&PlatformService> {
    model.services.iter().find(|service| {
        service.ipv4.map(IpAddr::V4) == Some(address)
            || service.ipv6.map(IpAddr::V6) == Some(address)
    })
}

/// Returns the segment of each VLAN id.
fn segments(model: Option<&Model>) -> HashMap<u16, SegmentId> {
    let segments = model.into_iter().flat_map(|model| &model.segments);
    let ids = segments.enumerate();
    ids.map(|(i, segment)| (segment.vlan_id.as_u16(), SegmentId(i)))
        .collect()
}

/// Returns whose each address on some VLANs is.
fn hosts(model: &Model, vlans: &BTreeSet<u16>) -> HashMap<IpAddr, HostId> {
    let mut hosts = HashMap::new();
    for (i, host) in model.hosts.iter().enumerate() {
        for interface in &host.interfaces {
            let segment = interface.segment.map(|id| model.segment(id));
            if segment.is_some_and(|segment| vlans.contains(&segment.vlan_id.as_u16())) {
                let v4 = interface.ipv4.map(IpAddr::V4);
                let v6 = interface.ipv6.map(IpAddr::V6);
                hosts.extend(v4.into_iter().chain(v6).map(|a| (a, HostId(i))));
            }
        }
    }
    hosts
}
