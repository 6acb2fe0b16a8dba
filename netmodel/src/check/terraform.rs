//! The hosts that Terraform made: output `tenant_hosts` of the outputs file.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::cx::{Cx, Unknown};
use super::draft::{Draft, HostDraft};
use super::hosts::{self, Read, add_interface, read_mac};
use super::tenant;
use crate::finding::{Code, Finding};
use crate::ids::HostName;
use crate::model::{Host, HostId, Owner, TenantId};
use crate::options::Options;
use crate::reader::{Content, Reader, unreadable};
use crate::source::{Place, Realm};
use crate::tree::Tree;
use crate::yaml::{Entry, Value};

const HOST_KEYS: &[&str] = &["mac", "ip", "segment", "cnames"];

/// Name of the interface of a host that only Terraform knows.
const INTERFACE: &str = "eth0";

/// Reads the outputs file, if the tenant names one.
pub(crate) fn read(
    draft: &mut Draft,
    id: TenantId,
    tenants: &dyn Tree,
    options: &Options,
    (files, bytes): (usize, u64),
) {
    let Some(scope) = draft.tenants[id.0].scope.clone() else {
        return;
    };
    let Some(path) = outputs_path(&mut draft.cx(&scope)) else {
        return;
    };
    let name = draft.tenant_name(id);
    let tree = match tenants.subtree(&name) {
        Ok(tree) => tree,
        // It was read a moment ago: somebody is changing it.
        Err(error) => {
            let place = tenant::folder_place(draft, tenants, &name);
            draft.findings.push(unreadable(&error, place));
            return;
        }
    };
    let mut reader = Reader {
        tree: &*tree,
        realm: Realm::Tenant(name),
        bounds: options.tenant_bounds,
        sources: draft.sources.shelf(tenant::shelf(id)),
        findings: &mut draft.findings,
        files,
        bytes,
    };
    let (file, content) = reader.yaml(&path);
    let Content::Map(Some(outputs)) = content else {
        return;
    };
    let Some(hosts) = outputs.get("tenant_hosts") else {
        draft.findings.push(
            Finding::new(
                Code::OutputsJson,
                "the Terraform outputs have no `tenant_hosts`",
                Place::file(file),
            )
            .note("it is a map from host to {mac, ip, segment, cnames}")
            .help("add `output \"tenant_hosts\"`, and run `terraform output -json` again"),
        );
        return;
    };
    let hosts = unwrap_output(hosts);
    let entries = draft.cx(&scope).named_entries(&hosts, "`tenant_hosts`");
    let mut entries = entries.unwrap_or_default();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    for entry in entries {
        read_host(draft, id, &scope, &entry);
    }
}

fn outputs_path(cx: &mut Cx<'_>) -> Option<String> {
    let var = cx.var("tenant_terraform")?;
    let keys = ["dns", "outputs"];
    let fields = cx.fields(&var.value, "`tenant_terraform`", &keys, Unknown::Refuse)?;
    if let Some(dns) = fields.get("dns") {
        cx.word(&dns.value, "`dns`", &[("rfc2136", ()), ("none", ())]);
    }
    let entry = fields.get("outputs")?;
    let path = cx.text(&entry.value, "`outputs`")?;
    let inside = path.text.starts_with("terraform/") && !path.text.split('/').any(|p| p == "..");
    if !inside {
        cx.report(
            Finding::new(
                Code::PathEscape,
                format!("`{}` is not in the tenant's folder `terraform/`", path.text),
                path.place,
            )
            .help("write `terraform/outputs.json`"),
        );
        return None;
    }
    Some(path.text)
}

/// `terraform output -json` wraps each output in `{sensitive, type, value}`.
fn unwrap_output(output: &Entry) -> Arc<Value> {
    let is_wrapped = output.value.get("type").is_some() || output.value.get("sensitive").is_some();
    match output.value.get("value") {
        Some(inner) if is_wrapped => Arc::clone(&inner.value),
        Some(_) | None => Arc::clone(&output.value),
    }
}

fn read_host(draft: &mut Draft, id: TenantId, scope: &crate::ansible::Scope, entry: &Entry) {
    let what = format!("the host `{}`", entry.key);
    let mut cx = draft.cx(scope);
    let Some(fields) = cx.fields(&entry.value, &what, HOST_KEYS, Unknown::Suspect) else {
        return;
    };
    let mut read = Read::new(entry.key_place);
    if let Some(mac) = fields.get("mac") {
        read_mac(&mut cx, &mac.value, &mut read);
    }
    if let Some(ip) = fields.get("ip") {
        let at = cx.parse::<Ipv4Addr>(&ip.value, "`ip`", "an IPv4 address");
        read.ipv4 = at.map(|at| at.value);
        read.facts.ipv4 = Some(ip.value.place);
        read.facts.record = Some(entry.key_place);
        read.facts.reservation = Some(entry.key_place);
        read.facts.reservation_implied = true;
    }
    if let Some(segment) = fields.get("segment") {
        read.segment = cx.text(&segment.value, "`segment`");
        read.facts.segment = Some(segment.value.place);
    }
    if let Some(cnames) = fields.get("cnames") {
        read.facts.cnames = cx.texts(&cnames.value, "`cnames`").unwrap_or_default();
    }
    let owner = Owner::Tenant(id);
    match draft.host_ids.get(&(owner, entry.key.to_string())) {
        Some(&known) => join(draft, known, entry, read),
        None => {
            let mut host = HostDraft {
                host: Host {
                    name: HostName::new(&entry.key),
                    owner,
                    form: Some("vm".to_owned()),
                    is_router: false,
                    interfaces: Vec::new(),
                    origin: draft.sources.origin(entry.key_place),
                },
                place: entry.key_place,
                facts: Vec::new(),
            };
            add_interface(draft, &mut host, INTERFACE, read);
            hosts::add(draft, host);
        }
    }
}

/// A host that the inventory has too: Terraform fills in what the inventory leaves open.
fn join(draft: &mut Draft, known: HostId, entry: &Entry, read: Read) {
    let host = &mut draft.hosts[known.0];
    let place = host.place;
    let same_address = |index: &usize| {
        let ipv4 = host.host.interfaces[*index].ipv4;
        ipv4.is_none() || read.ipv4.is_none() || ipv4 == read.ipv4
    };
    let one = host.host.interfaces.len() == 1;
    let index = (0..host.host.interfaces.len())
        .find(same_address)
        .filter(|_| one);
    let fits = index.is_some_and(|index| {
        let mac = host.host.interfaces[index].mac;
        mac.is_none() || read.mac.is_none() || mac == read.mac
    });
    if let (Some(index), true) = (index, fits) {
        let interface = &mut host.host.interfaces[index];
        let facts = &mut host.facts[index];
        if interface.mac.is_none() && read.mac.is_some() {
            interface.mac = read.mac;
            facts.mac = read.facts.mac;
            facts.mac_unknown = false;
        }
        if interface.ipv4.is_none() && read.ipv4.is_some() {
            interface.ipv4 = read.ipv4;
            facts.ipv4 = read.facts.ipv4;
        }
        facts.cnames.extend(read.facts.cnames);
        return;
    }
    draft.findings.push(
        Finding::new(
            Code::HostTwice,
            format!(
                "`{}` is described here and in hosts.yml, differently",
                entry.key
            ),
            entry.key_place,
        )
        .also(place, "the inventory's host")
        .note("the two must agree on hardware address and address, on one interface")
        .help("remove the host from one of the two, or correct the addresses"),
    );
}
