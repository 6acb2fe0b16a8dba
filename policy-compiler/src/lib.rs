//! The policy compiler: a checked model becomes the tables that the kernel looks things up in.
//!
//! # Guarantees
//!
//! * **Only allows.** Tiers, denies, first match and two-sided grants are resolved here. A pair or
//!   a service that is not in the tables is denied.
//! * **Deterministic.** Equal models and router facts give equal tables, in the same order.
//! * **Traceable.** Every allow carries a rule id, an index into [`Tables::trace`], which tells the
//!   rule in words and every file:line it comes from.
//! * **Linear.** Addresses that no rule tells apart share a class, so tables grow with what the
//!   inventory says, not with rules × tenants.
//!
//! `docs/isolation.md` section 9 is what is compiled; [`Tables::evaluate`] walks the tables in the
//! order in which the kernel does.

mod classes;
mod decide;
mod evaluate;
mod generation;
mod index;
mod internet;
mod kinds;
mod layout;
mod pairs;
mod services;
mod trace;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use dataplane_common::abi::{
    BoundMacKey, EndpointEntry, EndpointKey, NO_PREFIX_LENGTH, PREFIX_LENGTHS, PairEntry, PairKey,
    PrefixEntry, PrefixKey, RuleKey, SegmentEntry,
};
use indexmap::IndexMap;
use netmodel::Model;
use netmodel::ids::{MacAddr, TenantName};
use netmodel::model::{HostId, Origin, SegmentId, TenantKind, Zone};
use thiserror::Error;

use self::classes::Classes;
use self::decide::Decider;
pub use self::evaluate::{Connection, Verdict, is_edge};
pub use self::generation::Trunk;
use self::index::Index;
pub use self::internet::Internet;
pub use self::kinds::{DestinationKind, Own, SourceKind, Way, ip_of};
use self::layout::Layout;
use self::trace::Trace;
pub use self::trace::{Tier, TraceEntry};

/// The address plan of the site and of every tenant of `kind: vlan`.
const SITE_PLAN: u32 = 0;

/// What the compiler must know about the router beyond the inventory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouterFacts {
    /// Which of the model's routers this is; `None` is the first.
    pub host: Option<HostId>,
    /// The trunk interface.
    pub trunk: String,
    /// Hardware address of the trunk; `None` if it is not known (yet).
    pub mac: Option<MacAddr>,
    /// Addresses that the kernel has on any interface, beside those that the inventory declares.
    pub addresses: Vec<IpAddr>,
}

impl RouterFacts {
    /// Returns what the inventory alone says about its first router.
    #[must_use]
    pub fn from_model(model: &Model) -> Self {
        let Some(router) = model.routers.first() else {
            return Self::default();
        };
        let interfaces = &model.host(router.host).interfaces;
        let trunk = interfaces.iter().find(|i| i.name == router.trunk);
        Self {
            host: Some(router.host),
            trunk: router.trunk.clone(),
            mac: trunk.and_then(|interface| interface.mac),
            addresses: Vec::new(),
        }
    }

    /// Returns the link-local address that RFC 4291 appendix A derives from the trunk's MAC: the
    /// gateway's on every segment.
    #[must_use]
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        let [a, b, c, d, e, f] = self.mac?.0;
        Some(Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ]))
    }
}

/// Everything that one generation puts into the kernel's maps, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tables {
    /// `SEGMENTS`, by VLAN id.
    pub segments: BTreeMap<u16, SegmentEntry>,
    /// `ENDPOINTS`.
    pub endpoints: IndexMap<EndpointKey, EndpointEntry>,
    /// `BOUND_MACS`.
    pub bound_macs: IndexMap<BoundMacKey, u32>,
    /// `PREFIXES`.
    pub prefixes: IndexMap<PrefixKey, PrefixEntry>,
    /// Lengths in use for IPv4, longest first; see `Generation`.
    pub prefix_lengths4: [u8; PREFIX_LENGTHS],
    /// Lengths in use for IPv6.
    pub prefix_lengths6: [u8; PREFIX_LENGTHS],
    /// `PAIRS`.
    pub pairs: IndexMap<PairKey, PairEntry>,
    /// `RULES`.
    pub rules: IndexMap<RuleKey, u32>,
    /// `SERVICES`: the service class of every [`dataplane_common::abi::service_index`].
    pub services: Vec<u32>,
    /// The decision trace, by rule id. Entry 0 stands for "no rule".
    pub trace: Vec<TraceEntry>,
    /// Rule ids of what needs no entry in `PAIRS`: internet access, by VLAN id.
    pub internet_rules: BTreeMap<u16, u32>,
    /// Rule ids of segments whose gateway address is a host interface of the router, by VLAN id.
    pub router_host_rules: BTreeMap<u16, u32>,
    /// Rule id of the gateway services.
    pub gateway_rule: u32,
    /// The router's link-local address on every segment, if its hardware address is known.
    pub router_link_local: Option<Ipv6Addr>,
}

/// The model cannot be enforced.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CompileError {
    /// A tenant wants an address plan of its own.
    #[error(
        "{}:{}: tenant `{tenant}` is of `kind: vpc`, which is not enforced yet; use `kind: vlan`",
        origin.file, origin.line
    )]
    VpcTenant {
        /// The tenant.
        tenant: TenantName,
        /// Where the registry says it.
        origin: Origin,
    },
    /// The packet path looks up one prefix length after the other, so their number is bounded.
    #[error(
        "IPv{family}: {} different prefix lengths are in use ({lengths:?}), at most {PREFIX_LENGTHS} \
         can be: use fewer lengths in subnets, source_net, destination_net, cidr and internet_excludes",
        lengths.len()
    )]
    TooManyPrefixLengths {
        /// 4 or 6.
        family: u8,
        /// The lengths.
        lengths: Vec<u8>,
    },
}

/// Compiles the model for one router.
///
/// # Errors
///
/// [`CompileError`] if the model asks for something that the packet path cannot enforce.
pub fn compile(model: &Model, router: &RouterFacts) -> Result<Tables, CompileError> {
    refuse_vpcs(model)?;
    let index = Index::new(model);
    let mut tables = Tables::empty();
    tables.router_link_local = router.link_local();
    let mut classes = Classes::new(&index);
    Layout::new(&index, router, &mut classes, &mut tables).fill()?;

    let decider = Decider::new(&index);
    let mut trace = Trace::new(model, &index.exchanges);
    pairs::add(&index, &classes, &decider, &mut trace, &mut tables);
    tables.services = decider.into_services();
    add_local_rules(&index, &mut trace, &mut tables);
    tables.trace = trace.entries;
    Ok(tables)
}

impl Tables {
    /// Returns tables that allow nothing: what a router enforces before its first generation.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            segments: BTreeMap::new(),
            endpoints: IndexMap::new(),
            bound_macs: IndexMap::new(),
            prefixes: IndexMap::new(),
            prefix_lengths4: [NO_PREFIX_LENGTH; PREFIX_LENGTHS],
            prefix_lengths6: [NO_PREFIX_LENGTH; PREFIX_LENGTHS],
            pairs: IndexMap::new(),
            rules: IndexMap::new(),
            services: Vec::new(),
            trace: Vec::new(),
            internet_rules: BTreeMap::new(),
            router_host_rules: BTreeMap::new(),
            gateway_rule: 0,
            router_link_local: None,
        }
    }

    /// Returns the trace entry of a rule id; "no rule" for an id of no entry.
    #[must_use]
    pub fn rule(&self, id: u32) -> Option<&TraceEntry> {
        self.trace.get(id as usize)
    }
}

fn refuse_vpcs(model: &Model) -> Result<(), CompileError> {
    let vpc = model
        .tenants
        .iter()
        .find(|tenant| tenant.kind == TenantKind::Vpc);
    vpc.map_or(Ok(()), |tenant| {
        Err(CompileError::VpcTenant {
            tenant: tenant.name.clone(),
            origin: tenant.origin.clone(),
        })
    })
}

/// Traces what the kernel decides by flags of the segment.
fn add_local_rules(index: &Index, trace: &mut Trace, tables: &mut Tables) {
    let model = index.model;
    tables.gateway_rule = trace.push(TraceEntry::new(
        "gateway service",
        Tier::Platform,
        Vec::new(),
    ));
    for entry in &model.internet_zones {
        let text = match entry.zone {
            Zone::Segment(id) => format!("internet zone `{}`", model.segment(id).name),
            Zone::Tenants => "internet zone `tenants`, granted".to_owned(),
        };
        let mut told = TraceEntry::new(text, Tier::Platform, vec![entry.origin.clone()]);
        for tenant in index.tenants() {
            if entry.zone == Zone::Tenants
                && let Some(origin) = &model.tenant(tenant).internet
            {
                told.grants.insert(tenant, origin.clone());
            }
        }
        let id = trace.push(told);
        for (i, segment) in model.segments.iter().enumerate() {
            if index.is_in_zone(entry.zone, SegmentId(i)) {
                tables
                    .internet_rules
                    .entry(segment.vlan_id.as_u16())
                    .or_insert(id);
            }
        }
    }
    for (_, host, interface) in index::interfaces(model).filter(|(_, host, _)| host.is_router) {
        if let Some(segment) = interface.segment {
            let text = format!("interface `{}` of {} is a host", interface.name, host.name);
            let origins = vec![interface.origin.clone()];
            let id = trace.push(TraceEntry::new(text, Tier::Platform, origins));
            let vlan_id = model.segment(segment).vlan_id.as_u16();
            tables.router_host_rules.entry(vlan_id).or_insert(id);
        }
    }
}

/// Narrows a count of things in memory to a table's number.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a model has fewer than 2^32 parts")
}
