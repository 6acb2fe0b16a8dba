//! The model while it is being checked: with the place of everything that findings point at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::cx::{At, Cx, Text};
use crate::ansible::Scope;
use crate::finding::Finding;
use crate::model::{
    GatewayServices, Host, HostId, Hypervisor, InternetZone, Owner, PlatformService, PolicyTest,
    ProtectedFlow, Router, Segment, SegmentId, Tenant, TenantId, ZonePolicy,
};
use crate::source::{Place, Sources};
use crate::yaml::Entry;

/// Everything found so far.
pub(crate) struct Draft {
    /// Findings so far.
    pub(crate) findings: Vec<Finding>,
    /// All files.
    pub(crate) sources: Sources,
    /// The site's variables, as the router sees them.
    pub(crate) site: Scope,
    /// Other names of site keys: name → key.
    pub(crate) aliases: BTreeMap<String, String>,
    /// `site_name`.
    pub(crate) site_name: String,
    /// `site_domain`.
    pub(crate) site_domain: String,
    /// `site_dnssec`.
    pub(crate) site_dnssec: bool,
    /// Segments, as in the model.
    pub(crate) segments: Vec<SegmentDraft>,
    /// The platform's segments by name.
    pub(crate) zones: HashMap<String, SegmentId>,
    /// Segments and services that could not be read: naming them is no second mistake.
    pub(crate) unusable: HashSet<String>,
    /// Suggestions that may still be looked for in tenants' mistakes, of which there may be many.
    pub(crate) suggestions: usize,
    /// The host that the operator says is the router.
    pub(crate) named_router: Option<String>,
    /// The hypervisor that the settings say this machine is.
    pub(crate) named_hypervisor: Option<String>,
    /// The blackhole for untagged frames.
    pub(crate) native: Option<At<SegmentId>>,
    /// Tenants, as in the model.
    pub(crate) tenants: Vec<TenantDraft>,
    /// Tenants by name.
    pub(crate) tenant_ids: HashMap<String, TenantId>,
    /// Names of tenants with `state: absent`.
    pub(crate) absent: HashMap<String, Place>,
    /// Hosts, as in the model.
    pub(crate) hosts: Vec<HostDraft>,
    /// Hosts by owner and name.
    pub(crate) host_ids: HashMap<(Owner, String), HostId>,
    /// Routers, as in the model.
    pub(crate) routers: Vec<Router>,
    /// Hypervisors, as in the model.
    pub(crate) hypervisors: Vec<Hypervisor>,
    /// Platform services, as in the model.
    pub(crate) services: Vec<PlatformService>,
    /// `platform_gateway_services`.
    pub(crate) gateway_services: GatewayServices,
    /// Zone policies, as in the model.
    pub(crate) policies: Vec<ZonePolicy>,
    /// Where each zone policy is written.
    pub(crate) policy_places: Vec<Place>,
    /// Internet zones, as in the model.
    pub(crate) internet_zones: Vec<InternetZone>,
    /// `internet_excludes`.
    pub(crate) internet_excludes: Vec<ipnet::IpNet>,
    /// `protected_flows`.
    pub(crate) protected_flows: Vec<ProtectedFlow>,
    /// `policy_tests`.
    pub(crate) policy_tests: Vec<PolicyTest>,
}

/// A segment and what findings need besides.
pub(crate) struct SegmentDraft {
    /// As in the model.
    pub(crate) segment: Segment,
    /// Its key.
    pub(crate) key: Place,
    /// Where its VLAN id is said.
    pub(crate) vlan: Place,
    /// Where its IPv4 subnet is said.
    pub(crate) net4: Option<Place>,
    /// Where its IPv6 subnet is said.
    pub(crate) net6: Option<Place>,
    /// Both ends of its dynamic pool.
    pub(crate) range: Option<(At<Ipv4Addr>, At<Ipv4Addr>)>,
    /// `dhcp_enabled`, if it is said.
    pub(crate) dhcp_enabled: Option<bool>,
    /// `dns_servers`.
    pub(crate) dns_servers: Vec<IpAddr>,
}

/// What the registry grants and the tenant's own tree says.
pub(crate) struct TenantDraft {
    /// As in the model; filled step by step.
    pub(crate) tenant: Tenant,
    /// Its key in the registry.
    pub(crate) key: Place,
    /// `services`, not looked up yet.
    pub(crate) services: Vec<Text>,
    /// `trusted_operators`, not looked up yet.
    pub(crate) operators: Vec<Text>,
    /// `accepts`, not read yet.
    pub(crate) accepts: Option<Entry>,
    /// Where `internet` is granted.
    pub(crate) internet: Option<Place>,
    /// Bounds by name.
    pub(crate) limits: BTreeMap<&'static str, At<usize>>,
    /// The variables of its own tree; `None` without a tree.
    pub(crate) scope: Option<Scope>,
    /// Where each of the tenant's `accepts` is written.
    pub(crate) accept_places: Vec<Place>,
    /// Where each of its rules is written.
    pub(crate) rule_places: Vec<Place>,
    /// Where each of its offers is written.
    pub(crate) offer_places: Vec<Place>,
    /// Where each of its uses is written.
    pub(crate) use_places: Vec<Place>,
    /// Its own segments by name.
    pub(crate) zones: HashMap<String, SegmentId>,
    /// `tenant_mac_policy: auto`: addresses are bound to whoever has them.
    pub(crate) macs_are_automatic: bool,
}

/// A host and what findings need besides.
pub(crate) struct HostDraft {
    /// As in the model.
    pub(crate) host: Host,
    /// Where it is listed.
    pub(crate) place: Place,
    /// Beside each interface.
    pub(crate) facts: Vec<InterfaceFacts>,
}

/// What findings need about an interface.
#[derive(Clone, Debug)]
pub(crate) struct InterfaceFacts {
    /// Where its hardware address is said.
    pub(crate) mac: Option<Place>,
    /// It is said to be `UNKNOWN`.
    pub(crate) mac_unknown: bool,
    /// Where its IPv4 address is said, also if it is `dhcp`.
    pub(crate) ipv4: Option<Place>,
    /// Where its IPv6 address is said.
    pub(crate) ipv6: Option<Place>,
    /// Its address or segment is said, but cannot be read.
    pub(crate) unreadable: bool,
    /// Where its segment is said.
    pub(crate) segment: Option<Place>,
    /// `host_a_record: true`.
    pub(crate) record: Option<Place>,
    /// `dhcp_reservation: true`.
    pub(crate) reservation: Option<Place>,
    /// The reservation is implied (Terraform), not asked for.
    pub(crate) reservation_implied: bool,
    /// `cnames`.
    pub(crate) cnames: Vec<Text>,
}

impl TenantDraft {
    /// A tenant of which only the registry entry is known.
    pub(crate) fn new(tenant: Tenant, key: Place) -> Self {
        Self {
            tenant,
            key,
            services: Vec::new(),
            operators: Vec::new(),
            accepts: None,
            internet: None,
            limits: BTreeMap::new(),
            scope: None,
            accept_places: Vec::new(),
            rule_places: Vec::new(),
            offer_places: Vec::new(),
            use_places: Vec::new(),
            zones: HashMap::new(),
            macs_are_automatic: false,
        }
    }
}

impl Draft {
    /// Reads values of a scope.
    pub(crate) fn cx<'a>(&'a mut self, scope: &'a Scope) -> Cx<'a> {
        Cx {
            scope,
            findings: &mut self.findings,
        }
    }

    /// Returns a site variable under its own name or an alias.
    pub(crate) fn site_var(&self, key: &str) -> Option<Entry> {
        let under = |name: &str| {
            let entry = self.site.get(name)?;
            (!entry.value.is_null()).then(|| entry.clone())
        };
        under(key).or_else(|| {
            let names = self.aliases.iter().filter(|(_, target)| *target == key);
            names.map(|(name, _)| under(name)).find(Option::is_some)?
        })
    }

    /// May a suggestion be looked for? It takes a look at every name there is.
    pub(crate) fn may_suggest(&mut self) -> bool {
        self.suggestions = self.suggestions.saturating_sub(1);
        self.suggestions > 0
    }

    /// Returns a segment.
    pub(crate) fn segment(&self, id: SegmentId) -> &SegmentDraft {
        &self.segments[id.0]
    }

    /// Names a segment for a message: `iot`, or `grooveiq/main` of a tenant.
    pub(crate) fn segment_name(&self, id: SegmentId) -> String {
        let segment = &self.segments[id.0].segment;
        match segment.owner {
            Owner::Platform => segment.name.to_string(),
            Owner::Tenant(tenant) => {
                format!("{}/{}", self.tenants[tenant.0].tenant.name, segment.name)
            }
        }
    }

    /// Names a host for a message: `hv01`, or `grooveiq/api01` of a tenant.
    pub(crate) fn host_name(&self, id: HostId) -> String {
        let host = &self.hosts[id.0].host;
        match host.owner {
            Owner::Platform => host.name.to_string(),
            Owner::Tenant(tenant) => {
                format!("{}/{}", self.tenants[tenant.0].tenant.name, host.name)
            }
        }
    }

    /// Names a tenant.
    pub(crate) fn tenant_name(&self, id: TenantId) -> Arc<str> {
        self.tenants[id.0].tenant.name.as_str().into()
    }
}
