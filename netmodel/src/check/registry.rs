//! The registry: `tenant_pool`, `tenant_defaults`, `tenants`. The only place that gives a tenant
//! anything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::cx::{At, Cx, Fields, Unknown};
use super::draft::{Draft, SegmentDraft, TenantDraft};
use super::segments::read_vlan;
use super::subnets::{
    check_net4, check_net6, default_gateway4, default_gateway6, read_net4, read_net6,
};
use crate::bandwidth::Bandwidth;
use crate::finding::{Code, Finding};
use crate::ids::{SegmentName, TenantName, VlanId};
use crate::model::{
    Limits, Origin, Owner, Segment, SegmentId, Subnet4, Subnet6, Tenant, TenantId, TenantKind,
    TenantState,
};
use crate::options::promisable;
use crate::source::Place;
use crate::yaml::Entry;

const TENANT_KEYS: &[&str] = &[
    "vlan_id",
    "subnet",
    "subnet6",
    "kind",
    "description",
    "services",
    "internet",
    "accepts",
    "trusted_operators",
    "limits",
    "dns_update",
    "dnssec",
    "admins",
    "state",
];
const POOL_KEYS: &[&str] = &["vlan_ids", "subnet", "subnet6"];

/// Keys of `limits` about the tenant's part of the inventory.
const COUNTS: &[&str] = &[
    "segments",
    "reservations",
    "dns_records",
    "firewall_rules",
    "hosts",
];
/// Keys of `limits` about what packets may take; all but the last are those of `endpoint` as well.
const SHARES: &[&str] = &[
    "connections",
    "connection_rate",
    "neighbour_rate",
    "dhcp_rate",
    "bandwidth",
    "endpoint",
];
/// The most that a share can be: the packet path counts in 32 bits.
const MOST: usize = 1_000_000;

/// `tenant_pool`.
#[derive(Default)]
struct Pool {
    vlan_ids: Option<At<Vec<RangeInclusive<u16>>>>,
    subnet: Option<(String, Place)>,
    subnet6: Option<(String, Place)>,
}

/// Reads the registry and makes each tenant's main segment.
pub(crate) fn read(draft: &mut Draft) {
    let Some(var) = draft.site_var("tenants") else {
        return;
    };
    let scope = draft.site.clone();
    let pool_var = draft.site_var("tenant_pool");
    let defaults_var = draft.site_var("tenant_defaults");
    let mut cx = draft.cx(&scope);
    let pool = pool_var
        .and_then(|var| read_pool(&mut cx, &var))
        .unwrap_or_default();
    let defaults = defaults_var.and_then(|var| {
        cx.fields(
            &var.value,
            "`tenant_defaults`",
            TENANT_KEYS,
            Unknown::Refuse,
        )
    });
    let Some(mut entries) = cx.named_entries(&var.value, "`tenants`") else {
        return;
    };
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let mut next_vpc = 0;
    for entry in entries {
        let mut reader = GrantReader {
            draft,
            defaults: defaults.as_ref(),
            pool: &pool,
        };
        let read = reader.read(&entry);
        if read.is_none() {
            draft.unusable.insert(entry.key.to_string());
        }
        if let Some((tenant, mut segment)) = read {
            if tenant.tenant.kind == TenantKind::Vpc {
                next_vpc += 1;
                segment.segment.vpc_id = next_vpc;
            }
            add(draft, tenant, segment);
        }
    }
}

fn add(draft: &mut Draft, mut tenant: TenantDraft, segment: SegmentDraft) {
    let id = SegmentId(draft.segments.len());
    tenant.tenant.segments.push(id);
    tenant.zones.insert("main".to_owned(), id);
    let name = tenant.tenant.name.to_string();
    draft.tenant_ids.insert(name, TenantId(draft.tenants.len()));
    draft.segments.push(segment);
    draft.tenants.push(tenant);
}

fn read_pool(cx: &mut Cx<'_>, var: &Entry) -> Option<Pool> {
    let fields = cx.fields(&var.value, "`tenant_pool`", POOL_KEYS, Unknown::Refuse)?;
    let mut text = |key: &str| {
        let entry = fields.get(key)?;
        let text = cx.text(&entry.value, "a subnet template")?;
        Some((text.text, text.place))
    };
    let (subnet, subnet6) = (text("subnet"), text("subnet6"));
    let vlan_ids = fields
        .get("vlan_ids")
        .and_then(|entry| read_vlan_ids(cx, entry));
    Some(Pool {
        vlan_ids,
        subnet,
        subnet6,
    })
}

/// Reads `100-191`, `100`, or a list of them.
fn read_vlan_ids(cx: &mut Cx<'_>, entry: &Entry) -> Option<At<Vec<RangeInclusive<u16>>>> {
    let value = cx.resolve(&entry.value)?;
    let items = match &value.kind {
        crate::yaml::Kind::List(items) => items.clone(),
        crate::yaml::Kind::Scalar(_) | crate::yaml::Kind::Map(_) | crate::yaml::Kind::Opaque(_) => {
            vec![value]
        }
    };
    let mut ranges = Vec::new();
    for item in items {
        let text = cx.text(&item, "a range of VLAN ids")?;
        for part in text.text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse().ok().and_then(VlanId::new);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => {
                    ranges.push(first.as_u16()..=last.as_u16());
                }
                _ => cx.report(
                    Finding::new(
                        Code::VlanRange,
                        format!("`{part}` is not a range of VLAN ids"),
                        text.place,
                    )
                    .help("write `100-191`, between 1 and 4094"),
                ),
            }
        }
    }
    Some(At {
        value: ranges,
        place: entry.value.place,
    })
}

struct GrantReader<'a> {
    draft: &'a mut Draft,
    defaults: Option<&'a Fields>,
    pool: &'a Pool,
}

impl GrantReader<'_> {
    fn read(&mut self, entry: &Entry) -> Option<(TenantDraft, SegmentDraft)> {
        let scope = self.draft.site.clone();
        let (pool, defaults) = (self.pool, self.defaults);
        let origin = self.draft.sources.origin(entry.key_place);
        let id = TenantId(self.draft.tenants.len());
        let mut cx = self.draft.cx(&scope);
        if !check_name(&mut cx, entry) {
            return None;
        }
        let what = format!("the tenant `{}`", entry.key);
        let own = cx.fields(&entry.value, &what, TENANT_KEYS, Unknown::Refuse)?;
        let get = |key: &str| own.get(key).or_else(|| defaults?.get(key)).cloned();
        let mut word = |key: &str, words: &[(&str, u8)]| {
            get(key).and_then(|entry| cx.word(&entry.value, &format!("`{key}`"), words))
        };
        let state = word("state", &[("present", 0), ("draining", 1), ("absent", 2)]);
        let kind = word("kind", &[("vlan", 0), ("vpc", 1)]);
        let internet = word("internet", &[("none", 0), ("nat", 1)]);
        if state == Some(2) {
            self.draft
                .absent
                .insert(entry.key.to_string(), entry.key_place);
            return None;
        }
        let segment = read_main(&mut cx, pool, &own, entry, (id, origin.clone()))?;
        let mut cx = self.draft.cx(&scope);
        let mut texts = |key: &str| {
            let list = get(key).and_then(|e| cx.texts(&e.value, &format!("`{key}`")));
            list.unwrap_or_default()
        };
        let (services, operators) = (texts("services"), texts("trusted_operators"));
        texts("admins");
        let limits = read_limits(&mut cx, &own, defaults);
        let (shares, endpoint_shares) = read_shares(&mut cx, &own, defaults);
        let description = get("description")
            .and_then(|entry| cx.text(&entry.value, "`description`"))
            .map(|text| text.text);
        let key = get("dns_update").and_then(|entry| read_dns_update(&mut cx, &entry));
        let dnssec = get("dnssec").and_then(|entry| cx.boolean(&entry.value, "`dnssec`"));
        let mut tenant = new_tenant(entry, origin);
        if kind == Some(1) {
            tenant.kind = TenantKind::Vpc;
        }
        if state == Some(1) {
            tenant.state = TenantState::Draining;
        }
        (tenant.limits, tenant.endpoint_limits) = (shares, endpoint_shares);
        tenant.description = description;
        tenant.dns_update_key = key;
        tenant.dnssec = dnssec.unwrap_or(false);
        let mut draft = TenantDraft::new(tenant, entry.key_place);
        draft.services = services;
        draft.operators = operators;
        draft.accepts = get("accepts");
        draft.limits = limits;
        draft.internet = get("internet")
            .filter(|_| internet == Some(1))
            .map(|entry| entry.value.place);
        Some((draft, segment))
    }
}

/// A tenant that is granted nothing yet.
fn new_tenant(entry: &Entry, origin: Origin) -> Tenant {
    Tenant {
        name: TenantName::new(&entry.key),
        kind: TenantKind::Vlan,
        state: TenantState::Present,
        description: None,
        segments: Vec::new(),
        internet: None,
        services: Vec::new(),
        trusted_operators: Vec::new(),
        accepts: Vec::new(),
        rules: Vec::new(),
        offers: Vec::new(),
        uses: Vec::new(),
        isolate_hosts: false,
        dns_update_key: None,
        dnssec: false,
        limits: Limits::default(),
        endpoint_limits: Limits::default(),
        origin,
    }
}

fn check_name(cx: &mut Cx<'_>, entry: &Entry) -> bool {
    let name = &entry.key;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let why = if name.is_empty() || name.len() > 63 {
        "a name has 1 to 63 characters"
    } else if name.starts_with('-') || name.ends_with('-') {
        "a DNS label cannot begin or end with `-`"
    } else if !name.bytes().all(allowed) {
        "a name is made of a-z, 0-9 and `-`; no capitals, no underscore"
    } else if matches!(&**name, "tenants" | "internet" | "all") {
        "policies use this word for something else"
    } else {
        return true;
    };
    let suggestion: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let mut finding = Finding::new(
        Code::TenantName,
        format!("`{name}` cannot be a tenant's name"),
        entry.key_place,
    )
    .label(why)
    .note("the name becomes a DNS label and a part of interface and key names");
    let suggestion = suggestion.trim_matches('-');
    if !suggestion.is_empty() && suggestion != &**name && suggestion.len() <= 63 {
        finding = finding.help(format!(
            "call it `{suggestion}`, also the folder of its tree"
        ));
    } else {
        finding = finding.help("choose another name");
    }
    cx.report(finding);
    false
}

/// Makes the main segment out of VLAN id and subnets.
fn read_main(
    cx: &mut Cx<'_>,
    pool: &Pool,
    own: &Fields,
    entry: &Entry,
    (id, origin): (TenantId, Origin),
) -> Option<SegmentDraft> {
    let vlan_entry = cx.required(own, "vlan_id")?;
    let vlan = read_vlan(cx, &vlan_entry)?;
    check_pool(cx, pool, vlan);
    let net4 = match own.get("subnet") {
        Some(entry) => read_net4(cx, entry),
        None => pool.subnet.as_ref().and_then(|template| {
            let net = from_template(cx, template, vlan.value, "an IPv4 prefix")?;
            check_net4(cx, net).then_some(net)
        }),
    };
    let net6 = match own.get("subnet6") {
        Some(entry) => read_net6(cx, entry),
        None => pool.subnet6.as_ref().and_then(|template| {
            let net = from_template(cx, template, vlan.value, "an IPv6 prefix")?;
            check_net6(cx, net).then_some(net)
        }),
    };
    // A subnet that cannot be read is there all the same.
    let place_of = |key: &str| own.get(key).map(|entry| entry.value.place);
    Some(SegmentDraft {
        segment: Segment {
            name: SegmentName::new("main"),
            owner: Owner::Tenant(id),
            vlan_id: vlan.value,
            vpc_id: 0,
            ipv4: net4.map(|net| Subnet4 {
                net: net.value,
                gateway: default_gateway4(net.value),
            }),
            ipv6: net6.map(|net| Subnet6 {
                net: net.value,
                gateway: default_gateway6(net.value),
            }),
            dhcp: None,
            mtu: 1500,
            origin,
        },
        key: entry.key_place,
        vlan: vlan.place,
        net4: net4.map(|net| net.place).or_else(|| place_of("subnet")),
        net6: net6.map(|net| net.place).or_else(|| place_of("subnet6")),
        range: None,
        dhcp_enabled: None,
        dns_servers: Vec::new(),
    })
}

fn check_pool(cx: &mut Cx<'_>, pool: &Pool, vlan: At<VlanId>) {
    let Some(ids) = &pool.vlan_ids else {
        return;
    };
    if ids
        .value
        .iter()
        .any(|range| range.contains(&vlan.value.as_u16()))
    {
        return;
    }
    cx.report(
        Finding::new(
            Code::VlanNotInPool,
            format!("VLAN {} is not in the tenants' pool", vlan.value),
            vlan.place,
        )
        .also(ids.place, "the pool")
        .note("only the VLANs of the pool are trunked to the hypervisors' ports")
        .help("choose one out of the pool, or extend `tenant_pool.vlan_ids`"),
    );
}

/// Puts the VLAN id into `10.{vlan_id}.0.0/24`.
fn from_template<T: std::str::FromStr>(
    cx: &mut Cx<'_>,
    (template, place): &(String, Place),
    vlan: VlanId,
    form: &str,
) -> Option<At<T>> {
    let text = template.replace("{vlan_id}", &vlan.to_string());
    let Ok(value) = text.parse() else {
        cx.invalid(
            *place,
            format!("the template gives `{text}` for VLAN {vlan}, which is not {form}"),
            "give this tenant a `subnet` of its own, or change the template",
        );
        return None;
    };
    Some(At {
        value,
        place: *place,
    })
}

/// Own limits first, then the defaults', limit by limit: a tenant never loses a limit by having
/// another one.
fn read_limits(
    cx: &mut Cx<'_>,
    own: &Fields,
    defaults: Option<&Fields>,
) -> BTreeMap<&'static str, At<usize>> {
    let maps = limit_maps(cx, own, defaults);
    let counts = COUNTS.iter();
    counts
        .filter_map(|&name| Some((name, read_limit(cx, &maps, name)?)))
        .collect()
}

/// What each segment and what each endpoint may take of what all share.
fn read_shares(cx: &mut Cx<'_>, own: &Fields, defaults: Option<&Fields>) -> (Limits, Limits) {
    let maps = limit_maps(cx, own, defaults);
    let endpoints: Vec<_> = maps
        .iter()
        .filter_map(|map| map.get("endpoint").cloned())
        .collect();
    let endpoints: Vec<_> = endpoints
        .iter()
        .filter_map(|entry| {
            let keys = SHARES.split_last().map_or(SHARES, |(_, keys)| keys);
            cx.fields(&entry.value, "`limits.endpoint`", keys, Unknown::Refuse)
        })
        .collect();
    (
        read_share(cx, &maps, Limits::SEGMENT),
        read_share(cx, &endpoints, Limits::ENDPOINT),
    )
}

fn read_share(cx: &mut Cx<'_>, maps: &[Fields], default: Limits) -> Limits {
    let mut read = |name, default| {
        let Some(limit) = read_limit(cx, maps, name) else {
            return default;
        };
        if limit.value > MOST {
            let message = format!("`{name}` is {}, more than {MOST}", limit.value);
            let help = "write less; 0 is any rate, and of `connections` an equal share";
            cx.invalid(limit.place, message, help);
        }
        u32::try_from(limit.value).unwrap_or(default)
    };
    Limits {
        connections: read("connections", default.connections),
        connection_rate: read("connection_rate", default.connection_rate),
        neighbour_rate: read("neighbour_rate", default.neighbour_rate),
        dhcp_rate: read("dhcp_rate", default.dhcp_rate),
        bandwidth: read_bandwidth(cx, maps).unwrap_or(default.bandwidth),
    }
}

fn read_bandwidth(cx: &mut Cx<'_>, maps: &[Fields]) -> Option<Bandwidth> {
    let said = maps.iter().find_map(|fields| fields.get("bandwidth"))?;
    let form = "a bandwidth: `64kbit` to `100gbit`, such as `200mbit`, or `any`";
    Some(cx.parse(&said.value, "`bandwidth`", form)?.value)
}

/// Checks that connections that segments are promised fit into a hypervisor's half of the table.
pub(crate) fn check_promises(draft: &mut Draft, connections: u32) {
    let (room, mut promised) = (u64::from(promisable(connections)), 0);
    let mut first_over = None;
    for tenant in &draft.tenants {
        let segments = tenant.tenant.segments.len() as u64;
        promised += segments * u64::from(tenant.tenant.limits.connections);
        if promised > room && first_over.is_none() {
            first_over = Some(tenant.key);
        }
    }
    if let Some(place) = first_over {
        draft.findings.push(
            Finding::new(
                Code::LimitExceeded,
                format!("`limits.connections` promise {promised} connections, but at most {room} of {connections} can be"),
                place,
            )
            .label("with this tenant's, they are too many")
            .note("half is for a hypervisor's ports, an eighth for segments that are promised none, the platform's among them")
            .help("promise less, or raise `connections` in bulkhead.toml on the router and every hypervisor; maps that are there keep their size until `bulkhead detach`"),
        );
    }
}

/// The maps `limits` that count for a tenant, its own first.
fn limit_maps(cx: &mut Cx<'_>, own: &Fields, defaults: Option<&Fields>) -> Vec<Fields> {
    let known = [COUNTS, SHARES].concat();
    let both = [Some(own), defaults].into_iter().flatten();
    let entries = both.filter_map(|fields| fields.get("limits"));
    entries
        .filter_map(|entry| cx.fields(&entry.value, "`limits`", &known, Unknown::Refuse))
        .collect()
}

fn read_limit(cx: &mut Cx<'_>, maps: &[Fields], name: &str) -> Option<At<usize>> {
    let said = maps.iter().filter_map(|fields| fields.get(name));
    let mut read = said.filter_map(|limit| cx.count(&limit.value, "a limit"));
    read.next()
}

fn read_dns_update(cx: &mut Cx<'_>, entry: &Entry) -> Option<String> {
    let fields = cx.fields(&entry.value, "`dns_update`", &["key"], Unknown::Refuse)?;
    let key = cx.required(&fields, "key")?;
    Some(cx.text(&key.value, "the name of a key")?.text)
}
