//! Source and destination classes: places that no rule tells apart share one number.
//!
//! A place's *signature* is the set of facts about it that some rule asks for. Equal signatures,
//! equal class: a thousand tenants with the same grants and no rules of their own are one class.

use std::collections::BTreeMap;

use ipnet::IpNet;
use netmodel::model::{HostId, SegmentId, ServiceId, TenantId};

use super::index::Index;
use super::number;

/// A set of addresses that are treated alike: one address, or a prefix without its exceptions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The segment it is in.
    pub(super) segment: SegmentId,
    /// The addresses.
    pub(super) net: IpNet,
    /// The host whose address it is.
    pub(super) host: Option<HostId>,
}

/// Who the source is, as far as any rule asks.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum SourceIdentity {
    Segment(SegmentId),
    /// A tenant that no rule names: only its grants count.
    Granted(Vec<ServiceId>),
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct SourceSignature {
    identity: SourceIdentity,
    host: Option<HostId>,
    /// Policies whose `source_net` covers it.
    policies: Vec<usize>,
    /// Tenant rules whose `cidr` covers it but not all of its segment.
    rules: Vec<(TenantId, usize)>,
}

/// Who the destination is, as far as any rule asks.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum DestinationIdentity {
    Segment(SegmentId),
    /// A tenant without rules that matter: only its trusted operators count.
    Trusting(Vec<SegmentId>),
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct DestinationSignature {
    identity: DestinationIdentity,
    host: Option<HostId>,
    /// Policies whose `destination_net` covers it.
    policies: Vec<usize>,
    services: Vec<ServiceId>,
}

/// Numbers for signatures, from 1 in order of first use, each with one place that has it.
struct Numbering<S> {
    numbers: BTreeMap<S, u32>,
    places: Vec<Place>,
}

impl<S: Ord> Numbering<S> {
    fn new() -> Self {
        Self {
            numbers: BTreeMap::new(),
            places: Vec::new(),
        }
    }

    fn class(&mut self, signature: S, place: Place) -> u32 {
        *self.numbers.entry(signature).or_insert_with(|| {
            self.places.push(place);
            number(self.places.len())
        })
    }
}

/// The two class spaces.
pub(super) struct Classes<'i, 'm> {
    index: &'i Index<'m>,
    sources: Numbering<SourceSignature>,
    destinations: Numbering<DestinationSignature>,
}

impl<'i, 'm> Classes<'i, 'm> {
    pub(super) fn new(index: &'i Index<'m>) -> Self {
        Self {
            index,
            sources: Numbering::new(),
            destinations: Numbering::new(),
        }
    }

    /// Returns the source class and the destination class of a place.
    pub(super) fn of(&mut self, place: Place) -> (u32, u32) {
        let source = source_signature(self.index, &place);
        let destination = destination_signature(self.index, &place);
        (
            self.sources.class(source, place),
            self.destinations.class(destination, place),
        )
    }

    /// Returns every source class with a place that has it.
    pub(super) fn sources(&self) -> impl Iterator<Item = (u32, &Place)> {
        (1..).zip(&self.sources.places)
    }

    /// Returns every destination class with a place that has it.
    pub(super) fn destinations(&self) -> impl Iterator<Item = (u32, &Place)> {
        (1..).zip(&self.destinations.places)
    }
}

fn source_signature(index: &Index, place: &Place) -> SourceSignature {
    let identity = match index.tenant_of(place.segment) {
        Some(tenant) if !index.is_distinct_source(tenant) => {
            let grants = &index.model.tenant(tenant).services;
            SourceIdentity::Granted(sorted(grants.iter().map(|(id, _)| *id)))
        }
        _ => SourceIdentity::Segment(place.segment),
    };
    let policies = index.policies_from(place.segment).iter().copied();
    let rules = index.cidr_rules(place.segment).iter();
    SourceSignature {
        identity,
        host: place.host.filter(|&host| index.is_named_source(host)),
        policies: policies
            .filter(|&i| {
                let net = index.model.policies[i].source_net;
                net.is_some_and(|net| net.contains(&place.net))
            })
            .collect(),
        rules: rules
            .filter(|(_, _, net)| net.contains(&place.net))
            .map(|&(tenant, rule, _)| (tenant, rule))
            .collect(),
    }
}

fn destination_signature(index: &Index, place: &Place) -> DestinationSignature {
    let tenant = index.tenant_of(place.segment);
    let identity = match tenant {
        Some(tenant) if !index.is_distinct_destination(tenant) => {
            let operators = &index.model.tenant(tenant).trusted_operators;
            DestinationIdentity::Trusting(sorted(operators.iter().map(|(id, _)| *id)))
        }
        _ => DestinationIdentity::Segment(place.segment),
    };
    let is_one_address = place.net.prefix_len() == place.net.max_prefix_len();
    let policies = index.narrow_policies_to(place.segment);
    DestinationSignature {
        identity,
        host: place.host.filter(|&host| index.is_named_destination(host)),
        policies: policies
            .filter(|(_, net)| net.contains(&place.net))
            .map(|(i, _)| i)
            .collect(),
        services: if tenant.is_none() && is_one_address {
            index.services_at(place.net.addr()).to_vec()
        } else {
            Vec::new()
        },
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort();
    items.dedup();
    items
}
