//! A tenant's own tree: what it says about itself, within what the registry grants.

use std::collections::HashMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::cx::{Fields, Unknown};
use super::draft::Draft;
use super::hosts::{self, ReadHost};
use super::segments::{SEGMENT_KEYS, read_dhcp};
use super::terraform;
use super::words::did_you_mean;
use crate::ansible::jinja::Engine;
use crate::ansible::{Inventory, Scope, Target};
use crate::finding::{Code, Finding, Severity};
use crate::model::{Owner, TenantId, TenantKind};
use crate::options::Options;
use crate::reader::{Reader, unreadable};
use crate::source::{Place, Realm, Shelf, Source};
use crate::tree::{EntryKind, Tree, TreeError, join};
use crate::yaml::Entry;

/// Reads the trees of all tenants that are in the registry.
pub(crate) fn read_all(draft: &mut Draft, tenants: &dyn Tree, options: &Options) {
    let entries = match tenants.list("") {
        Ok(entries) => entries,
        Err(error) => {
            let place = folder_place(draft, tenants, "");
            draft.findings.push(unreadable(&error, place));
            return;
        }
    };
    let folders = entries
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Dir && !entry.name.starts_with('.'));
    let mut registered = Vec::new();
    for folder in folders {
        if draft.absent.contains_key(&folder.name) || draft.unusable.contains(&folder.name) {
            continue;
        }
        match draft.tenant_ids.get(&folder.name) {
            // So many tenants cannot all have a VLAN, which is a finding of its own: shelves are not for them.
            Some(&id) if id.0 + 1 >= usize::from(u16::MAX) => {}
            Some(&id) => registered.push((id, Arc::from(folder.name))),
            None => not_registered(draft, tenants, &folder.name),
        }
    }
    for ((id, name), found) in registered
        .iter()
        .zip(load_all(&registered, tenants, options))
    {
        match found {
            Ok(found) => read(draft, *id, found, tenants, options),
            Err(error) => {
                let place = folder_place(draft, tenants, name);
                draft.findings.push(unreadable(&error, place));
            }
        }
    }
}

/// A tenant's tree and its hosts, read. What needs the rest of the site is not looked at yet.
struct Found {
    scope: Scope,
    hosts: Vec<ReadHost>,
    shelf: Shelf,
    findings: Vec<Finding>,
    /// No file was of no use.
    is_readable: bool,
    /// Files, and octets in them.
    read: (usize, u64),
}

/// The shelf of a tenant's files; the first one is the site's.
pub(super) fn shelf(id: TenantId) -> u16 {
    u16::try_from(id.0 + 1).unwrap_or(u16::MAX)
}

/// Reads the trees, which is most of the work of a load, on all processors. The order of the results is that of the tenants.
fn load_all(
    registered: &[(TenantId, Arc<str>)],
    tenants: &dyn Tree,
    options: &Options,
) -> Vec<Result<Found, TreeError>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((id, name)) = registered.get(index) else {
                return done;
            };
            done.push((index, load(*id, name, tenants, options)));
        }
    };
    let mut found = thread::scope(|scope| {
        let others = 1..threads.min(registered.len());
        let others: Vec<_> = others.map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            found.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        found
    });
    found.sort_unstable_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, found)| found).collect()
}

fn load(
    id: TenantId,
    name: &Arc<str>,
    tenants: &dyn Tree,
    options: &Options,
) -> Result<Found, TreeError> {
    let tree = tenants.subtree(name)?;
    let (mut shelf, mut findings) = (Shelf::new(shelf(id)), Vec::new());
    let mut reader = Reader {
        tree: &*tree,
        realm: Realm::Tenant(Arc::clone(name)),
        bounds: options.tenant_bounds,
        sources: &mut shelf,
        findings: &mut findings,
        files: 0,
        bytes: 0,
    };
    let inventory = Inventory::load(&mut reader);
    let read = (reader.files, reader.bytes);
    let is_error = |finding: &Finding| finding.severity() == Severity::Error;
    let is_readable = !findings.iter().any(is_error);
    let target = inventory.group(name).map_or(Target::All, Target::Group);
    let mut inventory = Arc::new(inventory);
    let engine = Arc::new(Engine::new(false));
    let scope =
        |inventory: &Arc<Inventory>| Scope::new(Arc::clone(inventory), Arc::clone(&engine), target);
    let hosts = hosts::read(&scope(&inventory), &mut findings);
    // Variables of hosts are most of what was read. Nobody asks for them again, unless a template does.
    if !shelf.mentions("hostvars")
        && let Some(inventory) = Arc::get_mut(&mut inventory)
    {
        inventory.forget_host_vars();
    }
    Ok(Found {
        scope: scope(&inventory),
        hosts,
        shelf,
        findings,
        is_readable,
        read,
    })
}

pub(super) fn folder_place(draft: &mut Draft, tenants: &dyn Tree, folder: &str) -> Place {
    let realm = match folder {
        "" => Realm::Site,
        folder => Realm::Tenant(folder.into()),
    };
    Place::file(draft.sources.add(Source {
        path: join(tenants.root(), folder).into(),
        text: "".into(),
        realm,
    }))
}

fn not_registered(draft: &mut Draft, tenants: &dyn Tree, folder: &str) {
    let place = folder_place(draft, tenants, folder);
    let names = draft.tenant_ids.keys().map(String::as_str);
    let similar = did_you_mean(folder, names).map(str::to_owned);
    let finding = Finding::new(
        Code::TenantNotRegistered,
        format!("the registry has no tenant `{folder}`"),
        place,
    )
    .note("a tenant's tree gives it nothing: VLAN and subnet come from the site's `tenants`");
    draft.findings.push(match similar {
        Some(similar) => finding.platform_help(format!(
            "did you mean `{similar}`? The folder's name must be the registry's"
        )),
        None => finding.help("register the tenant, or remove the folder"),
    });
}

fn read(draft: &mut Draft, id: TenantId, found: Found, tenants: &dyn Tree, options: &Options) {
    draft.findings.extend(found.findings);
    draft.sources.put(found.shelf);
    let scope = found.scope;
    draft.tenants[id.0].scope = Some(scope.clone());
    if found.is_readable || scope.get("tenant_name").is_some() {
        check_claimed_name(draft, id, &scope);
    }
    read_segments(draft, id, &scope);
    read_flags(draft, id, &scope);
    hosts::add_all(draft, Owner::Tenant(id), found.hosts);
    terraform::read(draft, id, tenants, options, found.read);
}

fn check_claimed_name(draft: &mut Draft, id: TenantId, scope: &Scope) {
    let name = draft.tenant_name(id);
    let key = draft.tenants[id.0].key;
    let mut cx = draft.cx(scope);
    let Some(var) = cx.var("tenant_name") else {
        let group = scope.inventory().hosts.first().map(|host| host.place);
        let encrypted = scope.encrypted();
        let place = group.or(encrypted.first().copied().map(Place::file));
        if let Some(place) = place {
            let finding = Finding::new(
                Code::MissingKey,
                format!("the tree of `{name}` does not say `tenant_name`"),
                place,
            )
            .help(format!(
                "write `tenant_name: {name}` in group_vars/{name}.yml"
            ));
            cx.report(with_encrypted_note(finding, !encrypted.is_empty()));
        }
        return;
    };
    let Some(said) = cx.text(&var.value, "`tenant_name`") else {
        return;
    };
    if said.text != *name {
        cx.report(
            Finding::new(
                Code::TenantFolder,
                format!(
                    "this tree says it is `{}`, but its folder is `{name}`",
                    said.text
                ),
                said.place,
            )
            .public(format!(
                "`tenant_name` must be `{name}`, the name of the folder"
            ))
            .also(key, "the registry entry that the folder stands for")
            .help(format!("write `tenant_name: {name}`")),
        );
    }
}

pub(crate) fn with_encrypted_note(finding: Finding, encrypted: bool) -> Finding {
    if encrypted {
        finding.note("it may be in a file that is encrypted whole: bulkhead does not look inside")
    } else {
        finding
    }
}

fn read_flags(draft: &mut Draft, id: TenantId, scope: &Scope) {
    let mut cx = draft.cx(scope);
    let isolate = cx
        .var("tenant_isolate_hosts")
        .and_then(|var| cx.boolean(&var.value, "`tenant_isolate_hosts`"));
    let policy = cx.var("tenant_mac_policy").and_then(|var| {
        let words = [("inventory", false), ("auto", true), ("terraform", false)];
        cx.word(&var.value, "`tenant_mac_policy`", &words)
    });
    let tenant = &mut draft.tenants[id.0];
    tenant.tenant.isolate_hosts = isolate.unwrap_or(false);
    tenant.macs_are_automatic = policy.unwrap_or(false);
}

fn read_segments(draft: &mut Draft, id: TenantId, scope: &Scope) {
    let mut cx = draft.cx(scope);
    let Some(var) = cx.var("tenant_segments") else {
        return;
    };
    let Some(entries) = cx.named_entries(&var.value, "`tenant_segments`") else {
        return;
    };
    let keys: Vec<Place> = entries.iter().map(|entry| entry.key_place).collect();
    check_limit(draft, id, "segments", &keys);
    for entry in &entries {
        if &*entry.key == "main" {
            read_main(draft, id, scope, entry);
        } else {
            no_grant(draft, id, entry);
        }
    }
}

fn no_grant(draft: &mut Draft, id: TenantId, entry: &Entry) {
    let key = draft.tenants[id.0].key;
    draft.findings.push(
        Finding::new(
            Code::SegmentNotGranted,
            format!("the segment `{}` has no grant", entry.key),
            entry.key_place,
        )
        .also(key, "the registry grants one VLAN: the segment `main`")
        .note("a segment is a VLAN, and only the registry gives VLANs out")
        .help("call the tenant's segment `main`; for a second one, ask for a second tenant entry"),
    );
}

fn read_main(draft: &mut Draft, id: TenantId, scope: &Scope, entry: &Entry) {
    let segment = draft.tenants[id.0].tenant.segments[0];
    let mut cx = draft.cx(scope);
    if entry.value.is_null() {
        return;
    }
    let what = format!("the segment `{}`", entry.key);
    let Some(fields) = cx.fields(&entry.value, &what, SEGMENT_KEYS, Unknown::Refuse) else {
        return;
    };
    check_claims(draft, id, scope, &fields);
    let origin = draft.sources.origin(entry.key_place);
    let found = &mut draft.segments[segment.0];
    found.segment.origin = origin;
    // Taken out for the time of reading: findings and segments are both in the draft.
    let mut taken = std::mem::replace(found, placeholder(found));
    read_dhcp(&mut draft.cx(scope), &fields, &mut taken);
    draft.segments[segment.0] = taken;
}

fn placeholder(of: &super::draft::SegmentDraft) -> super::draft::SegmentDraft {
    super::draft::SegmentDraft {
        segment: of.segment.clone(),
        dns_servers: Vec::new(),
        ..*of
    }
}

/// Repeating what was granted is allowed, claiming something else is not.
fn check_claims(draft: &mut Draft, id: TenantId, scope: &Scope, fields: &Fields) {
    for (name, granted, place) in grants(draft, id) {
        let Some(entry) = fields.get(name) else {
            continue;
        };
        let Some(said) = draft.cx(scope).text(&entry.value, &format!("`{name}`")) else {
            continue;
        };
        if same(&said.text, &granted) {
            continue;
        }
        draft.findings.push(
            Finding::new(
                Code::ClaimNotGranted,
                format!("`{name}` is {}, but {granted} is granted", said.text),
                said.place,
            )
            .also(place, "the grant")
            .help(format!("remove `{name}`: it comes from the registry")),
        );
    }
}

/// What a tenant may repeat: key, granted value, and where it is granted.
fn grants(draft: &Draft, id: TenantId) -> [(&'static str, String, Place); 5] {
    let granted = draft.segment(draft.tenants[id.0].tenant.segments[0]);
    let segment = &granted.segment;
    let key = draft.tenants[id.0].key;
    let net4 = granted.net4.unwrap_or(key);
    let net6 = granted.net6.unwrap_or(key);
    let show = |text: Option<String>| text.unwrap_or_else(|| "nothing".to_owned());
    [
        ("vlan_id", segment.vlan_id.to_string(), granted.vlan),
        (
            "subnet",
            show(segment.ipv4.map(|s| s.net.to_string())),
            net4,
        ),
        (
            "gateway",
            show(segment.ipv4.map(|s| s.gateway.to_string())),
            net4,
        ),
        (
            "subnet6",
            show(segment.ipv6.map(|s| s.net.to_string())),
            net6,
        ),
        (
            "gateway6",
            show(segment.ipv6.map(|s| s.gateway.to_string())),
            net6,
        ),
    ]
}

/// Two spellings of one subnet, address or number are the same.
fn same(said: &str, granted: &str) -> bool {
    let net = |text: &str| text.parse::<ipnet::IpNet>().ok();
    let address = |text: &str| text.parse::<std::net::IpAddr>().ok();
    said == granted
        || (net(said).is_some() && net(said) == net(granted))
        || (address(said).is_some() && address(said) == address(granted))
}

/// Checks that a limit of the registry is kept.
pub(crate) fn check_limit(draft: &mut Draft, id: TenantId, limit: &str, used: &[Place]) {
    let Some(bound) = draft.tenants[id.0].limits.get(limit).copied() else {
        return;
    };
    let Some(&first_over) = used.get(bound.value) else {
        return;
    };
    let what = limit.replace('_', " ");
    draft.findings.push(
        Finding::new(
            Code::LimitExceeded,
            format!(
                "{} {what}, but at most {} are granted",
                used.len(),
                bound.value
            ),
            first_over,
        )
        .label("the first one over the limit")
        .also(bound.place, "the limit")
        .help("remove some, or ask the platform admin for more"),
    );
}

/// Is the tenant's address plan its own?
pub(crate) fn is_vpc(draft: &Draft, id: TenantId) -> bool {
    draft.tenants[id.0].tenant.kind == TenantKind::Vpc
}

/// The tenant's hosts by name.
pub(crate) fn host_names(draft: &Draft, id: TenantId) -> HashMap<&str, Place> {
    draft
        .hosts
        .iter()
        .filter(|host| host.host.owner == Owner::Tenant(id))
        .map(|host| (host.host.name.as_str(), host.place))
        .collect()
}
