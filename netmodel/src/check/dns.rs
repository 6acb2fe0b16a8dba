//! DNS records out of hosts and `tenant_dns_records`.

use std::collections::HashMap;
use std::sync::Arc;

use super::cx::Text;
use super::draft::{Draft, InterfaceFacts};
use super::names::{bad_name, relative, why_not_label, why_not_name};
use super::record;
use super::tenant::check_limit;
use crate::finding::{Code, Finding};
use crate::model::{DnsRecord, HostId, Owner, TenantId};
use crate::source::Place;

/// Who says a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    /// A host has the name.
    Host(HostId),
    /// An alias of a host.
    Alias(HostId),
    /// `tenant_dns_records`.
    Tenant,
    /// The site's DNS zone ends where a tenant's begins.
    Delegation,
}

/// What is already at a name.
struct Present {
    by: By,
    is_cname: bool,
    place: Place,
}

/// Collects the records and their clashes.
#[derive(Default)]
struct Records {
    records: Vec<DnsRecord>,
    names: HashMap<(Owner, String), Vec<Present>>,
    /// Whose DNS zone was asked for last, and its name.
    zone: Option<(Owner, Arc<str>)>,
}

impl Records {
    /// Returns the name of the DNS zone of the site or of a tenant.
    fn zone(&mut self, draft: &Draft, owner: Owner) -> Arc<str> {
        match &self.zone {
            Some((last, zone)) if *last == owner => Arc::clone(zone),
            _ => {
                let zone: Arc<str> = draft.dns_zone(owner).into();
                self.zone = Some((owner, Arc::clone(&zone)));
                zone
            }
        }
    }
}

/// Makes all records.
pub(crate) fn read(draft: &mut Draft) -> Vec<DnsRecord> {
    let mut records = Records::default();
    check_zone_names(draft);
    for tenant in &draft.tenants {
        let name = tenant.tenant.name.to_string();
        let delegation = Present {
            by: By::Delegation,
            is_cname: false,
            place: tenant.key,
        };
        records
            .names
            .insert((Owner::Platform, name), vec![delegation]);
    }
    for index in 0..draft.hosts.len() {
        add_host(draft, HostId(index), &mut records);
    }
    for index in 0..draft.tenants.len() {
        add_tenant(draft, TenantId(index), &mut records);
    }
    let mut records = records.records;
    records.sort();
    // The same record twice is one record.
    records.dedup_by(|a, b| {
        a.zone == b.zone && a.name == b.name && a.record_type == b.record_type && a.value == b.value
    });
    records
}

/// `site_name` is a label, `site_domain` a name.
fn check_zone_names(draft: &mut Draft) {
    for (key, is_label) in [("site_name", true), ("site_domain", false)] {
        let Some(var) = draft.site_var(key) else {
            continue;
        };
        let text = if is_label {
            &draft.site_name
        } else {
            &draft.site_domain
        };
        let why = if is_label {
            why_not_label(text)
        } else {
            why_not_name(text)
        };
        if let (Some(why), false) = (why, text.is_empty()) {
            let finding = Finding::new(
                Code::DnsLabel,
                format!("`{text}` cannot be `{key}`"),
                var.value.place,
            )
            .label(why)
            .note("the site's DNS zone is <site_name>.<site_domain>")
            .help(if is_label {
                "choose a short name out of a-z, 0-9 and `-`"
            } else {
                "write a domain name such as lab.example"
            });
            draft.findings.push(finding);
        }
    }
}

impl Draft {
    /// The DNS zone of the site or of a tenant.
    fn dns_zone(&self, owner: Owner) -> String {
        let site = format!("{}.{}", self.site_name, self.site_domain);
        match owner {
            Owner::Platform => site,
            Owner::Tenant(id) => format!("{}.{site}", self.tenant_name(id)),
        }
    }
}

fn add_host(draft: &mut Draft, id: HostId, records: &mut Records) {
    let host = &draft.hosts[id.0];
    let (owner, name, place) = (host.host.owner, host.host.name.to_string(), host.place);
    let wants = |facts: &InterfaceFacts| facts.record.is_some() || !facts.cnames.is_empty();
    if !host.facts.iter().any(wants) {
        return;
    }
    let interfaces = host.facts.len();
    let cnames = host.facts.iter().flat_map(|facts| facts.cnames.clone());
    let cnames: Vec<Text> = cnames.collect();
    let zone = records.zone(draft, owner);
    let name = relative(&name.to_ascii_lowercase(), &zone);
    if let Some(why) = why_not_name(&name) {
        let finding = Finding::new(
            Code::DnsLabel,
            format!("the host's name `{name}` cannot be a DNS name"),
            place,
        )
        .label(why)
        .help("rename the host, or set `host_a_record: false` and remove its cnames");
        draft.findings.push(finding);
        return;
    }
    let mut has_record = false;
    for index in 0..interfaces {
        has_record |= add_addresses(draft, id, index, &name, records);
    }
    for cname in &cnames {
        add_alias(draft, id, cname, (&name, has_record), records);
    }
}

/// Adds the addresses of one interface, if it wants them to have records; tells whether it has any.
fn add_addresses(
    draft: &mut Draft,
    id: HostId,
    index: usize,
    name: &str,
    records: &mut Records,
) -> bool {
    let host = &draft.hosts[id.0];
    let owner = host.host.owner;
    let (interface, facts) = (&host.host.interfaces[index], &host.facts[index]);
    let Some(asked) = facts.record else {
        return false;
    };
    let addresses = [
        (interface.ipv4.map(|a| ("A", a.to_string())), facts.ipv4),
        (interface.ipv6.map(|a| ("AAAA", a.to_string())), facts.ipv6),
    ];
    let has_address = addresses.iter().any(|(address, _)| address.is_some());
    if !has_address && !facts.unreadable {
        let finding = no_address(draft, id, asked, facts.ipv4);
        draft.findings.push(finding);
    }
    for ((kind, value), place) in addresses.into_iter().filter_map(|(a, at)| a.zip(at)) {
        let record = NewRecord {
            owner,
            by: By::Host(id),
            name: name.to_owned(),
            kind,
            value,
            ttl: None,
            place,
        };
        add(draft, records, record);
    }
    has_address
}

fn no_address(draft: &Draft, id: HostId, asked: Place, ip: Option<Place>) -> Finding {
    let finding = Finding::new(
        Code::RecordNoAddress,
        format!(
            "`{}` wants a DNS record, but has no fixed address",
            draft.host_name(id)
        ),
        asked,
    )
    .help("write its address as `ip`, or set `host_a_record: false`");
    match ip {
        Some(ip) => finding.also(ip, "the address is left to DHCP"),
        None => finding,
    }
}

fn add_alias(
    draft: &mut Draft,
    id: HostId,
    cname: &Text,
    (target, has_record): (&str, bool),
    records: &mut Records,
) {
    let owner = draft.hosts[id.0].host.owner;
    let zone = records.zone(draft, owner);
    let name = relative(&cname.text.to_ascii_lowercase(), &zone);
    if let Some(why) = why_not_name(&name) {
        draft.findings.push(bad_name(&cname.text, why, cname.place));
        return;
    }
    if !has_record && draft.hosts[id.0].facts.iter().any(|facts| facts.unreadable) {
        return;
    }
    if !has_record {
        draft.findings.push(
            Finding::new(
                Code::RecordNoAddress,
                format!("the alias `{name}` leads to `{target}`, which has no DNS record"),
                cname.place,
            )
            .help("set `host_a_record: true` on an interface with a fixed address"),
        );
        return;
    }
    let record = NewRecord {
        owner,
        by: By::Alias(id),
        name,
        kind: "CNAME",
        value: target.to_owned(),
        ttl: None,
        place: cname.place,
    };
    add(draft, records, record);
}

struct NewRecord<'a> {
    owner: Owner,
    by: By,
    name: String,
    kind: &'a str,
    value: String,
    ttl: Option<u32>,
    place: Place,
}

/// Adds a record, unless it clashes with what is there.
fn add(draft: &mut Draft, records: &mut Records, new: NewRecord<'_>) {
    let is_cname = new.kind == "CNAME";
    let key = (new.owner, new.name.clone());
    let zone = records.zone(draft, new.owner);
    let present = records.names.entry(key).or_default();
    if let Some(clash) = clash(draft, &new, (&zone, is_cname), present) {
        draft.findings.push(clash);
        return;
    }
    // One of a kind is enough to clash with.
    if !present.iter().any(|there| there.by == new.by) {
        present.push(Present {
            by: new.by,
            is_cname,
            place: new.place,
        });
    }
    let origin = draft.sources.origin(new.place);
    records.records.push(DnsRecord {
        zone: zone.to_string(),
        name: new.name,
        record_type: new.kind.to_owned(),
        value: new.value,
        ttl: new.ttl,
        origin,
    });
}

fn clash(
    draft: &Draft,
    new: &NewRecord<'_>,
    (zone, is_cname): (&str, bool),
    present: &[Present],
) -> Option<Finding> {
    if is_cname && new.name == "@" {
        return Some(
            Finding::new(
                Code::DnsCname,
                format!("the apex of {zone} cannot be a CNAME"),
                new.place,
            )
            .note("a name that has SOA and NS records can have no CNAME (RFC 1034, 3.6.2)")
            .help("write A and AAAA records with name `@`"),
        );
    }
    let first = present
        .iter()
        .find(|there| is_cname || there.is_cname || !(there.by == new.by))?;
    let full = format!("{}.{zone}", new.name);
    let (code, message) = if is_cname && first.is_cname {
        (
            Code::DnsNameTwice,
            format!("the alias `{full}` is claimed twice"),
        )
    } else if is_cname || first.is_cname {
        (
            Code::DnsCname,
            format!("`{full}` is a CNAME and something else"),
        )
    } else {
        (
            Code::DnsNameTwice,
            format!("the name `{full}` is claimed twice"),
        )
    };
    let first_text = match first.by {
        By::Host(id) | By::Alias(id) => format!("`{}` has it", draft.host_name(id)),
        By::Tenant => "it is written here".to_owned(),
        By::Delegation => "it is this tenant's DNS zone".to_owned(),
    };
    Some(
        Finding::new(code, message, new.place)
            .also(first.place, first_text)
            .help("keep one of the two, rename the other"),
    )
}

fn add_tenant(draft: &mut Draft, id: TenantId, records: &mut Records) {
    let Some(scope) = draft.tenants[id.0].scope.clone() else {
        return;
    };
    let mut cx = draft.cx(&scope);
    let Some(var) = cx.var("tenant_dns_records") else {
        return;
    };
    let items = cx
        .list(&var.value, "`tenant_dns_records`")
        .unwrap_or_default();
    let places: Vec<Place> = items.iter().map(|item| item.place).collect();
    check_limit(draft, id, "dns_records", &places);
    let zone = draft.dns_zone(Owner::Tenant(id));
    for item in items {
        if let Some(record) = record::read(&mut draft.cx(&scope), &item, &zone) {
            let record = NewRecord {
                kind: &record.kind,
                owner: Owner::Tenant(id),
                by: By::Tenant,
                name: record.name,
                value: record.value,
                ttl: record.ttl,
                place: record.place,
            };
            add(draft, records, record);
        }
    }
}
