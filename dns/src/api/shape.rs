//! What the API shows, in PowerDNS' words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::dnssec;
use crate::keys::ApiKey;
use crate::name::Name;
use crate::plan::ZoneSpec;
use crate::rdata;
use crate::view::ZoneId;
use crate::world::World;

/// The kind of all zones: changed here, told to secondaries.
pub(super) const KIND: &str = "Master";
/// Tools look at the version to know how the API behaves: as this one of PowerDNS.
const VERSION: &str = concat!("4.9.0-bulkhead-", env!("CARGO_PKG_VERSION"));
/// The kinds of metadata that there are.
pub(super) const METADATA: [&str; 2] = ["ALLOW-DNSUPDATE-FROM", "TSIG-ALLOW-DNSUPDATE"];
const BASE: &str = "/api/v1/servers/localhost";

pub(super) fn versions() -> Value {
    json!([{ "version": 1, "url": "/api/v1" }])
}

pub(super) fn version() -> Value {
    json!({ "version": "1", "server_url": "/api/v1/servers{/server}", "api_features": [] })
}

pub(super) fn server() -> Value {
    json!({
        "type": "Server",
        "id": "localhost",
        "daemon_type": "authoritative",
        "version": VERSION,
        "url": BASE,
        "config_url": format!("{BASE}/config{{/config_setting}}"),
        "zones_url": format!("{BASE}/zones{{/zone}}"),
    })
}

/// A zone without its records.
pub(super) fn zone(world: &World, id: ZoneId, spec: &ZoneSpec) -> Option<Value> {
    let serial = world.zone(id)?.serial();
    let name = spec.origin.to_string();
    let zone_id = name.replace('/', "=2F");
    Some(json!({
        "id": zone_id,
        "name": name,
        "type": "Zone",
        "url": format!("{BASE}/zones/{zone_id}"),
        "kind": KIND,
        "account": spec.tenant.as_deref().unwrap_or(""),
        "dnssec": spec.is_signed,
        "masters": [],
        "serial": serial,
        "edited_serial": serial,
        "notified_serial": serial,
        "last_check": 0,
        "soa_edit": "",
        "soa_edit_api": "",
        "api_rectify": false,
        "catalog": "",
    }))
}

/// The records of a zone, by name and type; only those of one name, or one type, if that is wanted.
pub(super) fn rrsets(
    world: &World,
    id: ZoneId,
    (name, kind): &(Option<Cow<'_, str>>, Option<Cow<'_, str>>),
) -> Value {
    let Some(zone) = world.zone(id) else {
        return json!([]);
    };
    let wanted = name.as_ref().map(|name| Name::absolute(name).ok());
    let mut sets = BTreeMap::new();
    for (at, set) in zone.iter().filter(|(_, set)| !dnssec::is_made(set.rtype)) {
        let is_name = wanted.as_ref().is_none_or(|name| name.as_ref() == Some(at));
        let type_name = rdata::type_name(set.rtype);
        if is_name && kind.as_ref().is_none_or(|kind| *type_name == **kind) {
            sets.insert((at, set.rtype), (type_name, set));
        }
    }
    let shown = sets.into_iter().map(|((name, number), (kind, set))| {
        let records = set
            .rdata
            .iter()
            .map(|data| json!({ "content": rdata::show(number, data), "disabled": false }));
        json!({
            "name": name.to_string(),
            "type": kind,
            "ttl": set.ttl,
            "records": records.collect::<Vec<_>>(),
            "comments": [],
        })
    });
    shown.collect()
}

/// What PowerDNS keeps beside a zone: who may change it, as far as it is the tenant's.
pub(super) fn metadata(world: &World, key: &ApiKey, kind: &str) -> Value {
    let info = world.plan.tenants.get(&key.tenant);
    let values: Vec<String> = match kind {
        "TSIG-ALLOW-DNSUPDATE" => world
            .keys
            .of_tenant(&key.tenant)
            .map(|key| key.name.to_string())
            .collect(),
        "ALLOW-DNSUPDATE-FROM" => info
            .map(|info| info.nets.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    json!({ "type": "Metadata", "kind": kind, "metadata": values })
}

/// The tenant's TSIG keys, without their secrets.
pub(super) fn tsig_keys(world: &World, key: &ApiKey) -> Vec<Value> {
    let keys = world.keys.of_tenant(&key.tenant);
    keys.map(|key| {
        json!({
            "type": "TSIGKey",
            "id": format!("{}.", key.name),
            "name": &*key.name,
            "algorithm": key.algorithm(),
            "key": "",
        })
    })
    .collect()
}
