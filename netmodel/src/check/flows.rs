//! `protected_flows` and `policy_tests`: what is expected of the policy. Judging it is not done here.

use std::sync::Arc;

use super::cx::{Text, Unknown};
use super::draft::Draft;
use super::policy::site_list;
use super::ports;
use super::words::did_you_mean;
use crate::ansible::Scope;
use crate::finding::{Code, Finding};
use crate::model::{Owner, Peer, PeerKind, PolicyTest, ProtectedFlow, Zone};
use crate::yaml::{Entry, Value};

/// Reads both lists.
pub(crate) fn read(draft: &mut Draft, scope: &Scope) {
    for value in site_list(draft, scope, "protected_flows") {
        if let Some(flow) = read_flow(draft, scope, &value) {
            draft.protected_flows.push(flow);
        }
    }
    for value in site_list(draft, scope, "policy_tests") {
        if let Some(test) = read_test(draft, scope, &value) {
            draft.policy_tests.push(test);
        }
    }
}

fn read_flow(draft: &mut Draft, scope: &Scope, value: &Arc<Value>) -> Option<ProtectedFlow> {
    let keys = ["from", "to", "ports", "name", "description"];
    let mut cx = draft.cx(scope);
    let fields = cx.fields(value, "a protected flow", &keys, Unknown::Refuse)?;
    let from = cx.required(&fields, "from")?;
    let to = cx.required(&fields, "to")?;
    let ports = cx.required(&fields, "ports")?;
    let ports = ports::read_some(&mut cx, &ports);
    let (from, to) = (read_peer(draft, scope, &from), read_peer(draft, scope, &to));
    Some(ProtectedFlow {
        from: from?,
        to: to?,
        ports: ports?,
        origin: draft.sources.origin(fields.place),
    })
}

fn read_test(draft: &mut Draft, scope: &Scope, value: &Arc<Value>) -> Option<PolicyTest> {
    let keys = ["from", "to", "port", "expect", "name", "description"];
    let mut cx = draft.cx(scope);
    let fields = cx.fields(value, "a policy test", &keys, Unknown::Refuse)?;
    let from = cx.required(&fields, "from")?;
    let to = cx.required(&fields, "to")?;
    let port = cx.required(&fields, "port")?;
    let port = ports::read_one(&mut cx, &port.value);
    let expect = cx.required(&fields, "expect")?;
    let expect = cx.word(
        &expect.value,
        "`expect`",
        &[("allow", true), ("deny", false)],
    );
    let (from, to) = (read_peer(draft, scope, &from), read_peer(draft, scope, &to));
    Some(PolicyTest {
        from: from?,
        to: to?,
        port: port?,
        expect_allow: expect?,
        origin: draft.sources.origin(fields.place),
    })
}

/// Reads one side of a flow: `internet`, an address, `TENANT/HOST`, a zone, a tenant or a host.
fn read_peer(draft: &mut Draft, scope: &Scope, entry: &Entry) -> Option<Peer> {
    let text = draft.cx(scope).text(&entry.value, "a side of a flow")?;
    let Some(kind) = resolve_peer(draft, &text.text) else {
        let first = text.text.split('/').next().unwrap_or_default();
        if draft.unusable.contains(first) {
            return None;
        }
        let finding = unknown_peer(draft, &text);
        draft.findings.push(finding);
        return None;
    };
    Some(Peer {
        text: text.text,
        kind,
    })
}

fn resolve_peer(draft: &Draft, text: &str) -> Option<PeerKind> {
    if text == "internet" {
        return Some(PeerKind::Internet);
    }
    if text == "tenants" {
        return Some(PeerKind::Zone(Zone::Tenants));
    }
    if let Ok(address) = text.parse() {
        return Some(PeerKind::Address(address));
    }
    if let Some((tenant, host)) = text.split_once('/') {
        let tenant = *draft.tenant_ids.get(tenant)?;
        let key = (Owner::Tenant(tenant), host.to_owned());
        return draft.host_ids.get(&key).copied().map(PeerKind::Host);
    }
    let zone = || {
        draft
            .zones
            .get(text)
            .map(|&id| PeerKind::Zone(Zone::Segment(id)))
    };
    let tenant = || draft.tenant_ids.get(text).copied().map(PeerKind::Tenant);
    let host = || {
        let key = (Owner::Platform, text.to_owned());
        draft.host_ids.get(&key).copied().map(PeerKind::Host)
    };
    zone().or_else(tenant).or_else(host)
}

fn unknown_peer(draft: &Draft, said: &Text) -> Finding {
    let mut names: Vec<String> = draft
        .zones
        .keys()
        .chain(draft.tenant_ids.keys())
        .cloned()
        .collect();
    names.extend(draft.host_ids.iter().map(|((owner, name), _)| match owner {
        Owner::Platform => name.clone(),
        Owner::Tenant(id) => format!("{}/{name}", draft.tenant_name(*id)),
    }));
    names.sort_unstable();
    let finding = Finding::new(
        Code::UnknownPeer,
        format!("`{}` is no zone, tenant, host or address", said.text),
        said.place,
    )
    .note("a tenant's host is written TENANT/HOST");
    match did_you_mean(&said.text, names.iter().map(String::as_str)) {
        Some(similar) => finding.help(format!("did you mean `{similar}`?")),
        None => finding.help("`bulkhead show hosts` and `show segments` list the names"),
    }
}
