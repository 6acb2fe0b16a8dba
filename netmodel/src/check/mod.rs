//! From two trees of files to a checked model.
//!
//! The order matters: segments before hosts, hosts before services and rules, all of them before
//! the checks that look at everything together.

mod cx;
mod dhcp;
mod dns;
mod draft;
mod endpoints;
mod flows;
mod halves;
mod hosts;
mod lints;
mod names;
mod plan;
mod policy;
mod ports;
mod record;
mod registry;
mod rules;
mod segments;
mod services;
mod site;
mod subnets;
mod tenant;
mod terraform;
mod values;
mod words;

use crate::finding::{Finding, Severity};
use crate::model::{DnsRecord, Model, Owner, Reservation};
use crate::options::Options;
use crate::source::Sources;
use crate::tree::Tree;
use draft::Draft;

/// Loads and checks; the model is there if no finding is an error.
pub(crate) fn run(
    site: &dyn Tree,
    tenants: Option<&dyn Tree>,
    options: &Options,
    sources: &mut Sources,
    findings: &mut Vec<Finding>,
) -> Option<Model> {
    let mut draft = site::open(site, options);
    site::read_identity(&mut draft);
    segments::read_site(&mut draft);
    registry::read(&mut draft);
    site::read_native(&mut draft);
    plan::check(&mut draft);
    let tree = draft.site.clone();
    let hosts = hosts::read(&tree, &mut draft.findings);
    hosts::add_all(&mut draft, Owner::Platform, hosts);
    site::read_routers(&mut draft);
    site::read_hypervisors(&mut draft);
    if let Some(tenants) = tenants {
        tenant::read_all(&mut draft, tenants, options);
    }
    sort_hosts(&mut draft);
    services::read(&mut draft);
    services::resolve_grants(&mut draft);
    policy::read(&mut draft);
    rules::read_all(&mut draft);
    let reservations = endpoints::check(&mut draft);
    let records = dns::read(&mut draft);
    registry::check_promises(&mut draft, options.connections);
    lints::check(&mut draft);
    halves::check(&mut draft);
    *sources = std::mem::take(&mut draft.sources);
    *findings = std::mem::take(&mut draft.findings);
    let is_error = |finding: &Finding| finding.severity() == Severity::Error;
    if findings.iter().any(is_error) {
        return None;
    }
    Some(into_model(draft, records, reservations))
}

/// Takes what the model keeps out of the draft.
fn into_model(draft: Draft, records: Vec<DnsRecord>, reservations: Vec<Reservation>) -> Model {
    Model {
        site_name: draft.site_name,
        site_domain: draft.site_domain,
        site_dnssec: draft.site_dnssec,
        segments: draft
            .segments
            .into_iter()
            .map(|draft| draft.segment)
            .collect(),
        tenants: draft
            .tenants
            .into_iter()
            .map(|draft| draft.tenant)
            .collect(),
        hosts: draft.hosts.into_iter().map(|draft| draft.host).collect(),
        routers: draft.routers,
        hypervisors: draft.hypervisors,
        policies: draft.policies,
        internet_zones: draft.internet_zones,
        internet_excludes: draft.internet_excludes,
        gateway_services: draft.gateway_services,
        services: draft.services,
        protected_flows: draft.protected_flows,
        policy_tests: draft.policy_tests,
        records,
        reservations,
    }
}

/// Terraform's hosts come after the inventory's; the model wants them by name.
fn sort_hosts(draft: &mut Draft) {
    draft.hosts.sort_by(|a, b| {
        let [a, b] = [a, b].map(|draft| &draft.host);
        (a.owner, &a.name).cmp(&(b.owner, &b.name))
    });
    let ids = draft.hosts.iter().enumerate().map(|(index, host)| {
        let key = (host.host.owner, host.host.name.to_string());
        (key, crate::model::HostId(index))
    });
    draft.host_ids = ids.collect();
}
