//! What the rest of the compiler asks the model again and again, answered once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use netmodel::Model;
use netmodel::model::{
    Host, HostId, Interface, Owner, RuleFrom, RuleTo, Segment, SegmentId, ServiceId, TenantId, Zone,
};

/// Both halves of a cross-tenant allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// Who offers.
    pub(super) offerer: TenantId,
    /// Index into the offerer's `offers`.
    pub(super) offer: usize,
    /// Who uses it.
    pub(super) consumer: TenantId,
    /// Index into the consumer's `uses`.
    pub(super) uses: usize,
}

/// The model with the lookups that compilation needs.
pub(super) struct Index<'m> {
    pub(super) model: &'m Model,
    /// Every effective exchange, by offerer, offer, consumer.
    pub(super) exchanges: Vec<Exchange>,
    /// Which policies come from a segment, in file order.
    pub(super) policies_from: BTreeMap<SegmentId, Vec<usize>>,
    /// Tenants whose rules can matter to a connection towards them.
    selective: BTreeSet<TenantId>,
    /// Tenants that use another tenant's offer.
    consumers: BTreeSet<TenantId>,
    /// Tenant rules whose `cidr` covers a part of a segment, by that segment.
    cidr_rules: BTreeMap<SegmentId, Vec<(TenantId, usize, IpNet)>>,
    /// Policies whose `destination_net` is set, by zone they go to.
    policies_with_destination: Vec<usize>,
    /// Hosts that a tenant rule or offer names.
    named_sources: BTreeSet<HostId>,
    named_destinations: BTreeSet<HostId>,
    services_at: HashMap<IpAddr, Vec<ServiceId>>,
}

impl<'m> Index<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let exchanges = exchanges(model);
        let mut index = Self {
            model,
            policies_from: policies_from(model),
            selective: BTreeSet::new(),
            consumers: exchanges.iter().map(|e| e.consumer).collect(),
            exchanges,
            cidr_rules: BTreeMap::new(),
            policies_with_destination: (0..model.policies.len())
                .filter(|&i| model.policies[i].destination_net.is_some())
                .collect(),
            named_sources: BTreeSet::new(),
            named_destinations: BTreeSet::new(),
            services_at: services_at(model),
        };
        index.selective = index.find_selective();
        index.find_named_hosts();
        index.cidr_rules = index.find_cidr_rules();
        index
    }

    /// Returns every tenant with its id.
    pub(super) fn tenants(&self) -> impl Iterator<Item = TenantId> + use<> {
        (0..self.model.tenants.len()).map(TenantId)
    }

    /// Returns the tenant that owns the segment.
    pub(super) fn tenant_of(&self, segment: SegmentId) -> Option<TenantId> {
        match self.model.segment(segment).owner {
            Owner::Platform => None,
            Owner::Tenant(tenant) => Some(tenant),
        }
    }

    /// Can connections between the tenant's own segments cross the router?
    pub(super) fn has_several_segments(&self, tenant: TenantId) -> bool {
        let segments = &self.model.tenant(tenant).segments;
        segments
            .iter()
            .filter(|&&id| !subnets(self.model.segment(id)).is_empty())
            .count()
            > 1
    }

    /// Can the tenant's rules, or `tenant_isolate_hosts`, stop one host of a segment from reaching another? The router
    /// never sees that; the ports of hypervisors do.
    pub(super) fn has_local_policy(&self, tenant: TenantId) -> bool {
        let said = self.model.tenant(tenant);
        said.isolate_hosts
            || said.rules.iter().any(|rule| match rule.from {
                RuleFrom::Zone(_) => false,
                RuleFrom::Tenant(from) => from == tenant,
                RuleFrom::Segment(_) | RuleFrom::Host(_) | RuleFrom::Cidr(_) => true,
            })
    }

    /// Are the tenant's rules about connections between its own hosts, wherever they are?
    fn judges_own_hosts(&self, tenant: TenantId) -> bool {
        self.has_several_segments(tenant) || self.has_local_policy(tenant)
    }

    /// Must the tenant's sources be told apart from those of tenants with the same grants?
    pub(super) fn is_distinct_source(&self, tenant: TenantId) -> bool {
        self.consumers.contains(&tenant) || self.judges_own_hosts(tenant)
    }

    /// Must the tenant's destinations be told apart from those of tenants with the same grants?
    pub(super) fn is_distinct_destination(&self, tenant: TenantId) -> bool {
        self.selective.contains(&tenant)
    }

    /// Is the host named as the source of a rule between the tenant's own segments?
    pub(super) fn is_named_source(&self, host: HostId) -> bool {
        self.named_sources.contains(&host)
    }

    /// Is the host named as the destination of a rule or an offer that can matter?
    pub(super) fn is_named_destination(&self, host: HostId) -> bool {
        self.named_destinations.contains(&host)
    }

    /// Returns the tenant rules whose `cidr` covers a part of the segment.
    pub(super) fn cidr_rules(&self, segment: SegmentId) -> &[(TenantId, usize, IpNet)] {
        self.cidr_rules.get(&segment).map_or(&[], Vec::as_slice)
    }

    /// Returns the policies from the segment.
    pub(super) fn policies_from(&self, segment: SegmentId) -> &[usize] {
        self.policies_from.get(&segment).map_or(&[], Vec::as_slice)
    }

    /// Returns the policies with a `destination_net` that go to the segment.
    pub(super) fn narrow_policies_to(
        &self,
        segment: SegmentId,
    ) -> impl Iterator<Item = (usize, IpNet)> {
        self.policies_with_destination.iter().filter_map(move |&i| {
            let policy = &self.model.policies[i];
            let net = policy.destination_net?;
            self.is_in_zone(policy.to, segment).then_some((i, net))
        })
    }

    /// Is the segment part of the zone?
    pub(super) fn is_in_zone(&self, zone: Zone, segment: SegmentId) -> bool {
        match zone {
            Zone::Segment(id) => id == segment,
            Zone::Tenants => self.tenant_of(segment).is_some(),
        }
    }

    /// Returns the exchanges that the tenant offers, with their indexes.
    pub(super) fn exchanges_of(
        &self,
        offerer: TenantId,
    ) -> impl Iterator<Item = (usize, &Exchange)> {
        let start = self.exchanges.partition_point(|e| e.offerer < offerer);
        let following = self.exchanges.iter().enumerate().skip(start);
        following.take_while(move |(_, e)| e.offerer == offerer)
    }

    /// Returns the services with that address.
    pub(super) fn services_at(&self, address: IpAddr) -> &[ServiceId] {
        self.services_at.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Returns the segments whose hosts a rule of the tenant can apply to as sources.
    fn rule_sources(&self, tenant: TenantId) -> BTreeSet<SegmentId> {
        let mut sources: BTreeSet<_> = {
            let accepts = &self.model.tenant(tenant).accepts;
            accepts.iter().map(|accept| accept.from).collect()
        };
        if self.judges_own_hosts(tenant) {
            sources.extend(&self.model.tenant(tenant).segments);
        }
        for (_, exchange) in self.exchanges_of(tenant) {
            sources.extend(&self.model.tenant(exchange.consumer).segments);
        }
        sources
    }

    fn find_selective(&self) -> BTreeSet<TenantId> {
        let offerers: BTreeSet<_> = self.exchanges.iter().map(|e| e.offerer).collect();
        self.tenants()
            .filter(|&id| {
                let tenant = self.model.tenant(id);
                let takes_requests = !tenant.accepts.is_empty() && !tenant.rules.is_empty();
                takes_requests || offerers.contains(&id) || self.judges_own_hosts(id)
            })
            .collect()
    }

    fn find_named_hosts(&mut self) {
        for &id in &self.selective {
            let tenant = self.model.tenant(id);
            for rule in &tenant.rules {
                if let RuleFrom::Host(host) = rule.from {
                    self.named_sources.insert(host);
                }
            }
            let rules = tenant.rules.iter().map(|rule| rule.to);
            for to in rules.chain(tenant.offers.iter().map(|offer| offer.to)) {
                if let RuleTo::Host(host) = to {
                    self.named_destinations.insert(host);
                }
            }
        }
    }

    fn find_cidr_rules(&self) -> BTreeMap<SegmentId, Vec<(TenantId, usize, IpNet)>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &id in &self.selective {
            for segment in self.rule_sources(id) {
                for (i, rule) in self.model.tenant(id).rules.iter().enumerate() {
                    if let RuleFrom::Cidr(net) = rule.from
                        && divides(net, self.model.segment(segment))
                    {
                        found.entry(segment).or_default().push((id, i, net));
                    }
                }
            }
        }
        found
    }
}

/// Returns the segment's subnets, IPv4 first.
pub(super) fn subnets(segment: &Segment) -> Vec<IpNet> {
    let ipv4 = segment.ipv4.map(|subnet| IpNet::V4(subnet.net));
    let ipv6 = segment.ipv6.map(|subnet| IpNet::V6(subnet.net));
    ipv4.into_iter().chain(ipv6).collect()
}

/// Returns the segment's subnet of the address, if it is in one.
pub(super) fn subnet_of(segment: &Segment, address: IpAddr) -> Option<IpNet> {
    subnets(segment)
        .into_iter()
        .find(|net| net.contains(&address))
}

/// Does the prefix cover some of the segment's addresses, but not all?
fn divides(net: IpNet, segment: &Segment) -> bool {
    let subnets = subnets(segment);
    let covers_one = subnets.iter().any(|subnet| net.contains(subnet));
    let covers_all = subnets.iter().all(|subnet| net.contains(subnet));
    splits(net, segment) || (covers_one && !covers_all)
}

/// Is the prefix a real part of one of the segment's subnets?
pub(super) fn splits(net: IpNet, segment: &Segment) -> bool {
    subnets(segment)
        .iter()
        .any(|subnet| subnet.contains(&net) && subnet.prefix_len() < net.prefix_len())
}

/// Returns every interface of every host.
pub(super) fn interfaces(model: &Model) -> impl Iterator<Item = (HostId, &Host, &Interface)> {
    model.hosts.iter().enumerate().flat_map(|(i, host)| {
        host.interfaces
            .iter()
            .map(move |interface| (HostId(i), host, interface))
    })
}

/// Returns the fixed addresses of an interface.
pub(super) fn addresses(interface: &Interface) -> impl Iterator<Item = IpAddr> + use<> {
    let ipv4 = interface.ipv4.map(IpAddr::V4);
    ipv4.into_iter().chain(interface.ipv6.map(IpAddr::V6))
}

fn policies_from(model: &Model) -> BTreeMap<SegmentId, Vec<usize>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (i, policy) in model.policies.iter().enumerate() {
        // What tenants may do is granted by name: a policy from the zone `tenants` allows nothing.
        if let Zone::Segment(from) = policy.from {
            found.entry(from).or_default().push(i);
        }
    }
    found
}

fn services_at(model: &Model) -> HashMap<IpAddr, Vec<ServiceId>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for (i, service) in model.services.iter().enumerate() {
        let ipv4 = service.ipv4.map(IpAddr::V4);
        for address in ipv4.into_iter().chain(service.ipv6.map(IpAddr::V6)) {
            found.entry(address).or_default().push(ServiceId(i));
        }
    }
    found
}

fn exchanges(model: &Model) -> Vec<Exchange> {
    let mut found = Vec::new();
    for (c, tenant) in model.tenants.iter().enumerate() {
        let consumer = TenantId(c);
        for (uses, half) in tenant.uses.iter().enumerate() {
            let offers = model.tenant(half.tenant).offers.iter().enumerate();
            for (offer, other) in offers {
                let is_named = other.name == half.offer && half.tenant != consumer;
                if is_named && other.consumers.contains(&consumer) {
                    found.push(Exchange {
                        offerer: half.tenant,
                        offer,
                        consumer,
                        uses,
                    });
                }
            }
        }
    }
    found.sort_by_key(|e| (e.offerer, e.offer, e.consumer, e.uses));
    found
}
