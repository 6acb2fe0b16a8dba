//! The site itself: its variables, its name, its routers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::cx::{At, Cx, Unknown};
use super::draft::Draft;
use super::policy::find_platform_segment;
use crate::ansible::jinja::Engine;
use crate::ansible::{Inventory, Scope, Target};
use crate::finding::{Code, Finding};
use crate::model::{GatewayServices, HostId, Hypervisor, Owner, Router, Uplink};
use crate::options::Options;
use crate::reader::Reader;
use crate::source::{Place, Realm, Sources};
use crate::tree::Tree;

/// Names that labs use already.
const BUILT_IN_ALIASES: [(&str, &str); 3] = [
    ("deevnet_vlans", "site_segments"),
    ("deevnet_root_domain", "site_domain"),
    ("deevnet_substrate", "site_name"),
];

/// Reads the site's files and starts the draft.
pub(crate) fn open(tree: &dyn Tree, options: &Options) -> Draft {
    let mut sources = Sources::default();
    let mut findings = Vec::new();
    let mut reader = Reader {
        tree,
        realm: Realm::Site,
        bounds: options.site_bounds,
        sources: sources.site(),
        findings: &mut findings,
        files: 0,
        bytes: 0,
    };
    let inventory = Arc::new(Inventory::load(&mut reader));
    let all = Scope::new(inventory, Arc::new(Engine::new(true)), Target::All);
    let site = choose_router(&all, options).map_or_else(|| all.clone(), |host| all.of(host));
    let mut aliases: BTreeMap<String, String> = BUILT_IN_ALIASES
        .iter()
        .map(|(name, key)| ((*name).to_owned(), (*key).to_owned()))
        .collect();
    aliases.extend(options.aliases.clone());
    Draft {
        findings,
        sources,
        site,
        aliases,
        site_name: String::new(),
        site_domain: String::new(),
        site_dnssec: false,
        segments: Vec::new(),
        zones: HashMap::new(),
        unusable: HashSet::new(),
        suggestions: 1000,
        named_router: options.router.clone(),
        named_hypervisor: options.hypervisor.clone(),
        native: None,
        tenants: Vec::new(),
        tenant_ids: HashMap::new(),
        absent: HashMap::new(),
        hosts: Vec::new(),
        host_ids: HashMap::new(),
        routers: Vec::new(),
        hypervisors: Vec::new(),
        services: Vec::new(),
        gateway_services: GatewayServices::default(),
        policies: Vec::new(),
        policy_places: Vec::new(),
        internet_zones: Vec::new(),
        internet_excludes: Vec::new(),
        protected_flows: Vec::new(),
        policy_tests: Vec::new(),
    }
}

/// The hosts for which `router_parent` is set, by name.
fn router_hosts(scope: &Scope) -> Vec<usize> {
    let hosts = &scope.inventory().hosts;
    let is_router = |&index: &usize| {
        let scope = scope.of(Target::Host(index));
        scope
            .get("router_parent")
            .is_some_and(|entry| !entry.value.is_null())
    };
    let mut routers: Vec<usize> = (0..hosts.len()).filter(is_router).collect();
    routers.sort_by(|&a, &b| hosts[a].name.cmp(&hosts[b].name));
    routers
}

/// The router whose view of the variables is the site's: the one named, else the first by name.
fn choose_router(scope: &Scope, options: &Options) -> Option<Target> {
    let routers = router_hosts(scope);
    let named = options
        .router
        .as_ref()
        .and_then(|name| scope.inventory().host(name));
    let chosen = named
        .filter(|host| routers.contains(host))
        .or(routers.first().copied());
    chosen.map(Target::Host)
}

/// Reads `site_name`, `site_domain` and `site_dnssec`.
pub(crate) fn read_identity(draft: &mut Draft) {
    draft.site_name = required_text(draft, "site_name", "east").to_ascii_lowercase();
    let domain = required_text(draft, "site_domain", "lab.example").to_ascii_lowercase();
    draft.site_domain = domain.trim_end_matches('.').to_owned();
    let scope = draft.site.clone();
    if let Some(var) = draft.site_var("site_dnssec") {
        let mut cx = draft.cx(&scope);
        let said = cx.boolean(&var.value, "`site_dnssec`");
        draft.site_dnssec = said.unwrap_or(false);
    }
}

fn required_text(draft: &mut Draft, key: &str, example: &str) -> String {
    let scope = draft.site.clone();
    if let Some(var) = draft.site_var(key) {
        let mut cx = draft.cx(&scope);
        let Some(text) = cx.text(&var.value, &format!("`{key}`")) else {
            return String::new();
        };
        if text.text.is_empty() {
            cx.invalid(
                text.place,
                format!("`{key}` is empty"),
                &format!("write `{key}: {example}`"),
            );
        }
        return text.text;
    }
    missing(
        draft,
        key,
        example,
        "the site's DNS zone is <site_name>.<site_domain>",
    );
    String::new()
}

/// Reports a site variable that must be there.
pub(crate) fn missing(draft: &mut Draft, key: &str, example: &str, why: &str) {
    let place = site_place(draft);
    let encrypted = !draft.site.encrypted().is_empty();
    let finding = Finding::new(
        Code::MissingKey,
        format!("the site does not say `{key}`"),
        place,
    )
    .note(why)
    .help(format!("write `{key}: {example}` in group_vars/all"));
    let finding = super::tenant::with_encrypted_note(finding, encrypted);
    draft.findings.push(finding);
}

/// Where something is said to be missing from the site: its hosts file.
fn site_place(draft: &mut Draft) -> Place {
    let first = draft
        .site
        .inventory()
        .hosts
        .first()
        .map(|host| host.place.file);
    Place::file(first.unwrap_or_else(|| draft.sources.first()))
}

/// Reads `router_native_segment` of the site's router.
pub(crate) fn read_native(draft: &mut Draft) {
    let scope = draft.site.clone();
    let mut cx = draft.cx(&scope);
    let Some(var) = cx.var("router_native_segment") else {
        return;
    };
    let Some(said) = cx.text(&var.value, "`router_native_segment`") else {
        return;
    };
    if let Some(value) = find_platform_segment(draft, &said) {
        draft.native = Some(At {
            value,
            place: said.place,
        });
    }
}

/// Reads the routers' trunk and uplinks; their hosts must have been read.
pub(crate) fn read_routers(draft: &mut Draft) {
    let site = draft.site.clone();
    for index in router_hosts(&site) {
        let scope = site.of(Target::Host(index));
        let name = site.inventory().hosts[index].name.to_string();
        let Some(&host) = draft.host_ids.get(&(Owner::Platform, name)) else {
            continue;
        };
        draft.hosts[host.0].host.is_router = true;
        if let Some(router) = read_router(draft, &scope, host) {
            draft.routers.push(router);
        }
    }
}

fn read_router(draft: &mut Draft, scope: &Scope, host: HostId) -> Option<Router> {
    let mut cx = draft.cx(scope);
    let parent = cx.var("router_parent")?;
    let trunk = interface_name(&mut cx, &parent.value)?;
    let uplinks = read_uplinks(&mut cx);
    let native = cx.var("router_native_segment");
    let native = native.and_then(|var| {
        let said = draft
            .cx(scope)
            .text(&var.value, "`router_native_segment`")?;
        draft.zones.get(&said.text).copied()
    });
    Some(Router {
        host,
        trunk,
        native_segment: native,
        uplinks,
        origin: draft.sources.origin(parent.value.place),
    })
}

fn read_uplinks(cx: &mut Cx<'_>) -> Vec<Uplink> {
    let Some(var) = cx.var("router_uplinks") else {
        return Vec::new();
    };
    let entries = cx
        .named_entries(&var.value, "`router_uplinks`")
        .unwrap_or_default();
    let mut uplinks = Vec::new();
    for entry in entries {
        let what = format!("the uplink `{}`", entry.key);
        let keys = ["interface", "mode", "description"];
        let Some(fields) = cx.fields(&entry.value, &what, &keys, Unknown::Refuse) else {
            continue;
        };
        let interface = cx.required(&fields, "interface");
        let interface = interface.and_then(|entry| interface_name(cx, &entry.value));
        let mode = cx.required(&fields, "mode");
        let nat = mode
            .and_then(|entry| cx.word(&entry.value, "`mode`", &[("nat", true), ("routed", false)]));
        if let (Some(interface), Some(nat)) = (interface, nat) {
            uplinks.push(Uplink {
                name: entry.key.to_string(),
                interface,
                nat,
            });
        }
    }
    uplinks.sort_by(|a, b| a.name.cmp(&b.name));
    uplinks
}

/// Reads the hypervisors' bridges; their hosts must have been read.
pub(crate) fn read_hypervisors(draft: &mut Draft) {
    let site = draft.site.clone();
    for (index, host) in site.inventory().hosts.iter().enumerate() {
        let scope = site.of(Target::Host(index));
        let mut cx = draft.cx(&scope);
        let bridge = cx.var("hypervisor_bridge");
        let port = cx.var("hypervisor_uplink_port");
        let uplink_port = port.and_then(|var| interface_name(&mut cx, &var.value));
        let Some(bridge) = bridge else { continue };
        let Some(name) = interface_name(&mut cx, &bridge.value) else {
            continue;
        };
        let id = (Owner::Platform, host.name.to_string());
        if let Some(&host) = draft.host_ids.get(&id) {
            draft.hypervisors.push(Hypervisor {
                host,
                bridge: name,
                uplink_port,
                origin: draft.sources.origin(bridge.value.place),
            });
        }
    }
    draft.hypervisors.sort_by_key(|hypervisor| hypervisor.host);
}

/// Reads a name that the kernel could have for an interface.
fn interface_name(cx: &mut Cx<'_>, value: &Arc<crate::yaml::Value>) -> Option<String> {
    let text = cx.text(value, "an interface")?;
    let allowed = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    let fits = (1..=15).contains(&text.text.len()) && text.text.chars().all(allowed);
    if !fits || matches!(text.text.as_str(), "." | "..") {
        let message = format!("`{}` cannot be an interface's name", text.text);
        cx.invalid(
            text.place,
            message,
            "Linux allows 1 to 15 characters, without `/`, `:` and spaces",
        );
        return None;
    }
    Some(text.text)
}
