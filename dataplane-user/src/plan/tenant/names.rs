//! Where the things of both models are in a merged one.
//!
//! What a model gave to the merged one keeps its place there. What it did not give (the tenant's old
//! things, the site's new ones) is what the merged model calls by the same name, if it does.

use std::collections::HashMap;

use netmodel::Model;
use netmodel::ids::TenantName;
use netmodel::model::{HostId, Owner, SegmentId, ServiceId, TenantId};

use super::Merge;

/// Ids in the merged model, by the ids of one model.
#[derive(Default)]
struct Places {
    tenants: Vec<Option<usize>>,
    segments: Vec<Option<usize>>,
    hosts: Vec<Option<usize>>,
    services: Vec<Option<usize>>,
}

/// Ids in the merged model.
#[derive(Default)]
pub(super) struct Names<'m> {
    old: Option<&'m Model>,
    of_old: Places,
    of_new: Places,
}

impl<'m> Names<'m> {
    pub(super) fn new(merge: &Merge<'m>) -> Self {
        let segments = merge.owned(|model| &model.segments, |segment| segment.owner);
        let hosts = merge.owned(|model| &model.hosts, |host| host.owner);
        let services = (0..merge.old.services.len()).map(|i| (merge.old, i));
        let services: Vec<_> = services.collect();
        let tenants = merge.tenants.iter().map(|&(model, id)| (model, id.0));
        let tenants: Vec<_> = tenants.collect();
        let places = |model: &'m Model| Places {
            tenants: places(model, &tenants, model.tenants.len(), |model, i| {
                (None, model.tenants[i].name.as_str())
            }),
            segments: places(model, &segments, model.segments.len(), |model, i| {
                let segment = &model.segments[i];
                (owner(model, segment.owner), segment.name.as_str())
            }),
            hosts: places(model, &hosts, model.hosts.len(), |model, i| {
                let host = &model.hosts[i];
                (owner(model, host.owner), host.name.as_str())
            }),
            services: places(model, &services, model.services.len(), |model, i| {
                (None, model.services[i].name.as_str())
            }),
        };
        Self {
            old: Some(merge.old),
            of_old: places(merge.old),
            of_new: places(merge.new),
        }
    }

    fn places(&self, model: &Model) -> &Places {
        match self.old.is_some_and(|old| std::ptr::eq(old, model)) {
            true => &self.of_old,
            false => &self.of_new,
        }
    }

    pub(super) fn tenant(&self, model: &Model, id: TenantId) -> Option<TenantId> {
        self.places(model).tenants[id.0].map(TenantId)
    }

    pub(super) fn segment(&self, model: &Model, id: SegmentId) -> Option<SegmentId> {
        self.places(model).segments[id.0].map(SegmentId)
    }

    pub(super) fn host(&self, model: &Model, id: HostId) -> Option<HostId> {
        self.places(model).hosts[id.0].map(HostId)
    }

    pub(super) fn service(&self, model: &Model, id: ServiceId) -> Option<ServiceId> {
        self.places(model).services[id.0].map(ServiceId)
    }
}

type Named<'n> = (Option<&'n TenantName>, &'n str);

/// Returns where a model's things of one kind are in the merged list.
fn places<'m>(
    model: &'m Model,
    merged: &[(&'m Model, usize)],
    count: usize,
    name: impl Fn(&'m Model, usize) -> Named<'m>,
) -> Vec<Option<usize>> {
    let mut places = vec![None; count];
    for (place, (source, i)) in merged.iter().enumerate() {
        if std::ptr::eq(*source, model) {
            places[*i] = Some(place);
        }
    }
    let missing: Vec<usize> = (0..count).filter(|&i| places[i].is_none()).collect();
    if missing.is_empty() {
        return places;
    }
    let by_name: HashMap<Named<'_>, usize> = merged
        .iter()
        .enumerate()
        .filter(|(_, (source, _))| !std::ptr::eq(*source, model))
        .map(|(place, (source, i))| (name(source, *i), place))
        .collect();
    for i in missing {
        places[i] = by_name.get(&name(model, i)).copied();
    }
    places
}

fn owner(model: &Model, owner: Owner) -> Option<&TenantName> {
    match owner {
        Owner::Platform => None,
        Owner::Tenant(id) => Some(&model.tenant(id).name),
    }
}
