//! What each kind of thing is known by, when two are the same, and its attributes in words.

use std::collections::HashMap;
use std::fmt::Display;

use netmodel::Model;
use netmodel::ids::TenantName;
use netmodel::model::{
    DnsRecord, Host, Interface, Owner, PlatformService, PortSpec, Reservation, Segment, SegmentId,
    Tenant, Zone,
};

use super::joined::{Attributes, Item, Telling};
use super::{ObjectChange, ObjectKind};
use crate::can::service_label;

/// Compares everything but rules and settings.
pub(super) fn changes(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    let mut changes = tenants(old, new);
    changes.extend(segments(old, new));
    changes.extend(scopes(old, new));
    changes.extend(hosts(old, new));
    changes.extend(reservations(old, new));
    changes.extend(records(old, new));
    changes.extend(services(old, new));
    changes
}

/// Returns the owner's name; `None` is the platform.
pub(super) fn owner(model: &Model, owner: Owner) -> Option<&TenantName> {
    match owner {
        Owner::Platform => None,
        Owner::Tenant(id) => Some(&model.tenant(id).name),
    }
}

/// Returns `iot`, or `grooveiq/main`.
pub(super) fn segment_name(model: &Model, id: SegmentId) -> String {
    let segment = model.segment(id);
    match owner(model, segment.owner) {
        None => segment.name.to_string(),
        Some(tenant) => format!("{tenant}/{}", segment.name),
    }
}

pub(super) fn zone_name(model: &Model, zone: Zone) -> String {
    match zone {
        Zone::Segment(id) => segment_name(model, id),
        Zone::Tenants => "tenants".to_owned(),
    }
}

pub(super) fn ports(ports: &[PortSpec]) -> String {
    list(ports.iter().map(service_label))
}

pub(super) fn list(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

/// Collects attributes that are set.
#[derive(Default)]
pub(super) struct Said(Attributes);

impl Said {
    pub(super) fn with(mut self, name: &str, value: Option<impl Display>) -> Self {
        let value = value.map(|value| value.to_string());
        let value = value.filter(|value| !value.is_empty());
        self.0.extend(value.map(|value| (name.to_owned(), value)));
        self
    }

    pub(super) fn done(self) -> Attributes {
        self.0
    }
}

fn tenants(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    let before = |tenant: &&Tenant| old.map_or_else(Vec::new, |model| told_tenant(model, tenant));
    let after = |tenant: &&Tenant| told_tenant(new, tenant);
    Telling {
        kind: ObjectKind::Tenant,
        name: &|name: &&str| (*name).to_owned(),
        is_same: &|a, b| before(a) == after(b),
        attributes: [&before, &after],
        origin: &|tenant| Some(tenant.origin.clone()),
        replacing: &["kind"],
    }
    .compare(old.map_or_else(Vec::new, tenant_items), tenant_items(new))
}

fn tenant_items(model: &Model) -> Vec<Item<'_, &str, &Tenant>> {
    let items = model.tenants.iter().map(|tenant| Item {
        owner: Some(&tenant.name),
        key: tenant.name.as_str(),
        thing: tenant,
    });
    items.collect()
}

fn told_tenant(model: &Model, tenant: &Tenant) -> Attributes {
    let services = tenant.services.iter();
    let operators = tenant.trusted_operators.iter();
    let said = Said::default()
        .with("kind", Some(format!("{:?}", tenant.kind).to_lowercase()))
        .with("state", Some(format!("{:?}", tenant.state).to_lowercase()))
        .with("description", tenant.description.as_ref())
        .with(
            "internet",
            Some(if tenant.internet.is_some() {
                "nat"
            } else {
                "none"
            }),
        )
        .with(
            "services",
            Some(list(services.map(|(id, _)| &model.service(*id).name))),
        )
        .with(
            "trusted_operators",
            Some(list(operators.map(|(id, _)| segment_name(model, *id)))),
        )
        .with("isolate_hosts", tenant.isolate_hosts.then_some("true"))
        .with("dns_update", tenant.dns_update_key.as_ref())
        .with("dnssec", tenant.dnssec.then_some("true"));
    let limits = tenant.told_limits().into_iter();
    limits
        .fold(said, |said, (key, value)| {
            said.with(&format!("limits.{key}"), Some(value))
        })
        .done()
}

fn segment_items(model: &Model) -> Vec<Item<'_, &str, &Segment>> {
    let items = model.segments.iter().map(|segment| Item {
        owner: owner(model, segment.owner),
        key: segment.name.as_str(),
        thing: segment,
    });
    items.collect()
}

fn segments(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    Telling {
        kind: ObjectKind::Segment,
        name: &|name: &&str| (*name).to_owned(),
        is_same: &|a: &&Segment, b| {
            (a.vlan_id, a.ipv4, a.ipv6, a.mtu) == (b.vlan_id, b.ipv4, b.ipv6, b.mtu)
        },
        attributes: [&told_segment, &told_segment],
        origin: &|segment| Some(segment.origin.clone()),
        replacing: &["vlan_id", "subnet", "subnet6"],
    }
    .compare(old.map_or_else(Vec::new, segment_items), segment_items(new))
}

fn told_segment(segment: &&Segment) -> Attributes {
    Said::default()
        .with("vlan_id", Some(segment.vlan_id))
        .with("subnet", segment.ipv4.map(|subnet| subnet.net))
        .with("gateway", segment.ipv4.map(|subnet| subnet.gateway))
        .with("subnet6", segment.ipv6.map(|subnet| subnet.net))
        .with("gateway6", segment.ipv6.map(|subnet| subnet.gateway))
        .with("mtu", Some(segment.mtu))
        .done()
}

/// The scope of a segment is called by the segment's name.
fn scopes(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    Telling {
        kind: ObjectKind::Scope,
        name: &|name: &&str| (*name).to_owned(),
        is_same: &|a: &&Segment, b| a.dhcp == b.dhcp,
        attributes: [&told_scope, &told_scope],
        origin: &|segment| Some(segment.origin.clone()),
        replacing: &[],
    }
    .compare(old.map_or_else(Vec::new, scope_items), scope_items(new))
}

fn scope_items(model: &Model) -> Vec<Item<'_, &str, &Segment>> {
    let mut items = segment_items(model);
    items.retain(|item| item.thing.dhcp.is_some());
    items
}

fn told_scope(segment: &&Segment) -> Attributes {
    let Some(scope) = &segment.dhcp else {
        return Vec::new();
    };
    let pool = scope.pool.map(|(first, last)| format!("{first}-{last}"));
    Said::default()
        .with("pool", Some(pool.unwrap_or_else(|| "static".to_owned())))
        .with("dns_servers", Some(list(scope.dns_servers.iter())))
        .done()
}

fn hosts(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    let before = |host: &&Host| old.map_or_else(Vec::new, |model| told_host(model, host));
    Telling {
        kind: ObjectKind::Host,
        name: &|name: &&str| (*name).to_owned(),
        is_same: &|a: &&Host, b| old.is_some_and(|old| is_same_host(old, a, new, b)),
        attributes: [&before, &|host| told_host(new, host)],
        origin: &|host| Some(host.origin.clone()),
        replacing: &[],
    }
    .compare(old.map_or_else(Vec::new, host_items), host_items(new))
}

fn host_items(model: &Model) -> Vec<Item<'_, &str, &Host>> {
    let items = model.hosts.iter().map(|host| Item {
        owner: owner(model, host.owner),
        key: host.name.as_str(),
        thing: host,
    });
    items.collect()
}

fn is_same_host(old: &Model, a: &Host, new: &Model, b: &Host) -> bool {
    let is_same = |(a, b): (&Interface, &Interface)| {
        let values = |i: &Interface| (i.mac, i.ipv4, i.ipv6);
        a.name == b.name && values(a) == values(b) && {
            let segment = |model, i: &Interface| i.segment.map(|id| segment_id(model, id));
            segment(old, a) == segment(new, b)
        }
    };
    let count = a.interfaces.len() == b.interfaces.len();
    let mut interfaces = a.interfaces.iter().zip(&b.interfaces);
    (&a.form, a.is_router, count) == (&b.form, b.is_router, true) && interfaces.all(is_same)
}

/// Returns what a segment is known by in every model.
fn segment_id(model: &Model, id: SegmentId) -> (Option<&TenantName>, &str) {
    let segment = model.segment(id);
    (owner(model, segment.owner), segment.name.as_str())
}

fn told_host(model: &Model, host: &Host) -> Attributes {
    let mut said = Said::default().with("form", host.form.as_ref());
    for interface in &host.interfaces {
        let of = |what: &str| format!("{} {what}", interface.name);
        said = said
            .with(
                &of("segment"),
                interface.segment.map(|id| segment_name(model, id)),
            )
            .with(&of("mac"), interface.mac)
            .with(&of("ip"), interface.ipv4)
            .with(&of("ip6"), interface.ipv6);
    }
    said.done()
}

type ReservationKey<'m> = (&'m str, std::net::Ipv4Addr);

fn reservations(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    let before = |it: &&Reservation| old.map_or_else(Vec::new, |old| told_reservation(old, it));
    Telling {
        kind: ObjectKind::Reservation,
        name: &|(_, address): &ReservationKey<'_>| address.to_string(),
        is_same: &|a: &&Reservation, b| {
            let is_same_host = |old: &Model| old.host(a.host).name == new.host(b.host).name;
            a.mac == b.mac && old.is_some_and(is_same_host)
        },
        attributes: [&before, &|it| told_reservation(new, it)],
        origin: &|reservation| Some(reservation.origin.clone()),
        replacing: &[],
    }
    .compare(
        old.map_or_else(Vec::new, reservation_items),
        reservation_items(new),
    )
}

fn reservation_items(model: &Model) -> Vec<Item<'_, ReservationKey<'_>, &Reservation>> {
    let items = model.reservations.iter().map(|reservation| {
        let (owner, segment) = segment_id(model, reservation.segment);
        Item {
            owner,
            key: (segment, reservation.ipv4),
            thing: reservation,
        }
    });
    items.collect()
}

fn told_reservation(model: &Model, reservation: &Reservation) -> Attributes {
    Said::default()
        .with("mac", Some(reservation.mac))
        .with("host", Some(&model.host(reservation.host).name))
        .done()
}

type RecordKey<'m> = (&'m str, &'m str, &'m str);

fn records(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    Telling {
        kind: ObjectKind::Record,
        name: &|(zone, name, record_type): &RecordKey<'_>| match *name {
            "@" => format!("{zone} {record_type}"),
            name => format!("{name}.{zone} {record_type}"),
        },
        is_same: &|a: &&DnsRecord, b| (&a.value, a.ttl) == (&b.value, b.ttl),
        attributes: [&told_record, &told_record],
        origin: &|record| Some(record.origin.clone()),
        replacing: &[],
    }
    .compare(old.map_or_else(Vec::new, record_items), record_items(new))
}

fn record_items(model: &Model) -> Vec<Item<'_, RecordKey<'_>, &DnsRecord>> {
    let owners = zone_owners(model);
    let items = model.records.iter().map(|record| Item {
        owner: owners.get(&record.zone).copied(),
        key: (
            record.zone.as_str(),
            record.name.as_str(),
            record.record_type.as_str(),
        ),
        thing: record,
    });
    items.collect()
}

/// Returns whose each tenant's DNS zone is.
fn zone_owners(model: &Model) -> HashMap<String, &TenantName> {
    let site = format!("{}.{}", model.site_name, model.site_domain);
    let tenants = model.tenants.iter();
    tenants
        .map(|tenant| (format!("{}.{site}", tenant.name), &tenant.name))
        .collect()
}

fn told_record(record: &&DnsRecord) -> Attributes {
    Said::default()
        .with("value", Some(&record.value))
        .with("ttl", record.ttl)
        .done()
}

fn services(old: Option<&Model>, new: &Model) -> Vec<ObjectChange> {
    let before = |it: &&PlatformService| old.map_or_else(Vec::new, |old| told_service(old, it));
    let after = |service: &&PlatformService| told_service(new, service);
    Telling {
        kind: ObjectKind::Service,
        name: &|name: &&str| (*name).to_owned(),
        is_same: &|a, b| before(a) == after(b),
        attributes: [&before, &after],
        origin: &|service| Some(service.origin.clone()),
        replacing: &[],
    }
    .compare(old.map_or_else(Vec::new, service_items), service_items(new))
}

fn service_items(model: &Model) -> Vec<Item<'_, &str, &PlatformService>> {
    let items = model.services.iter().map(|service| Item {
        owner: None,
        key: service.name.as_str(),
        thing: service,
    });
    items.collect()
}

fn told_service(model: &Model, service: &PlatformService) -> Attributes {
    Said::default()
        .with("segment", Some(segment_name(model, service.segment)))
        .with("address", service.ipv4)
        .with("address6", service.ipv6)
        .with("ports", Some(ports(&service.ports)))
        .done()
}
