//! The checked model: what a tree of inventory files means once every check has passed.
//!
//! # Guarantees
//!
//! A [`Model`] exists only if no finding of severity *error* was made, so its readers (policy
//! compiler, reference evaluator, DHCP, DNS) need not check again: ids are in range of their
//! vectors, addresses lie in their segment's subnet, subnets of one address plan do not overlap,
//! VLAN ids are unique, no endpoint appears twice.
//!
//! Vectors are in a deterministic order (stated at the field), so equal inventories give equal
//! models, byte for byte.
//!
//! The model keeps the *halves* of two-sided grants (`accepts` and tenant rules, offers and uses)
//! apart; who combines them is the reader. `docs/isolation.md` says how.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::bandwidth::Bandwidth;
use crate::ids::{HostName, MacAddr, SegmentName, TenantName, VlanId};

/// The place in the inventory that says a thing; shown to the operator as `file:line:column`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Origin {
    /// Path as the operator gave the tree, joined with the path inside of it.
    pub file: Arc<str>,
    /// 1-based line.
    pub line: u32,
    /// 1-based column, in characters.
    pub column: u32,
}

/// Index into [`Model::segments`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SegmentId(pub usize);

/// Index into [`Model::tenants`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TenantId(pub usize);

/// Index into [`Model::hosts`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct HostId(pub usize);

/// Index into [`Model::services`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ServiceId(pub usize);

/// Who owns a segment or a host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The site itself (substrate).
    Platform,
    /// A tenant.
    Tenant(TenantId),
}

/// The whole checked inventory.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Model {
    /// `site_name`.
    pub site_name: String,
    /// `site_domain`, without a final dot.
    pub site_domain: String,
    /// `site_dnssec`: the site's own DNS zones are signed.
    #[serde(default)]
    pub site_dnssec: bool,
    /// All segments: the platform's by name, then the tenants' by tenant name (`main` first, then by
    /// name). Segments of tenants with `state: absent` are not here.
    pub segments: Vec<Segment>,
    /// All tenants with `state` other than `absent`, by name.
    pub tenants: Vec<Tenant>,
    /// All hosts: the site's by name, then each tenant's by tenant name and host name.
    pub hosts: Vec<Host>,
    /// The core routers (hosts for which `router_parent` is set), by name. A site has one; a lab may
    /// describe a spare.
    pub routers: Vec<Router>,
    /// The hypervisors (hosts for which `hypervisor_bridge` is set), by name.
    pub hypervisors: Vec<Hypervisor>,
    /// `firewall_zone_policies`, in file order.
    pub policies: Vec<ZonePolicy>,
    /// `firewall_internet_zones`, in file order.
    pub internet_zones: Vec<InternetZone>,
    /// `internet_excludes`, in file order.
    pub internet_excludes: Vec<IpNet>,
    /// `platform_gateway_services`.
    pub gateway_services: GatewayServices,
    /// `platform_services`, by name.
    pub services: Vec<PlatformService>,
    /// `protected_flows`, in file order.
    pub protected_flows: Vec<ProtectedFlow>,
    /// `policy_tests`, in file order.
    pub policy_tests: Vec<PolicyTest>,
    /// DNS records of hosts and tenants, by (zone, name, type, value).
    pub records: Vec<DnsRecord>,
    /// Address reservations for DHCP, by (segment, address).
    pub reservations: Vec<Reservation>,
}

/// One VLAN, one broadcast domain, one subnet per family, one DHCP scope, one firewall zone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Segment {
    /// Key in `site_segments` or `tenant_segments`.
    pub name: SegmentName,
    /// Who owns it.
    pub owner: Owner,
    /// 802.1Q VLAN id, unique in the site.
    pub vlan_id: VlanId,
    /// Address plan the subnets belong to: 0 is the site's, shared by the substrate and every tenant
    /// of `kind: vlan`; each tenant of `kind: vpc` has its own, from 1 up in name order.
    pub vpc_id: u32,
    /// IPv4 subnet; `None` in both families is an unrouted VLAN (a blackhole).
    pub ipv4: Option<Subnet4>,
    /// IPv6 subnet.
    pub ipv6: Option<Subnet6>,
    /// DHCP scope, if the segment has one.
    pub dhcp: Option<DhcpScope>,
    /// Largest IP packet in octets, headers included. Default 1500.
    pub mtu: u16,
    /// Key of the segment in its map (for a tenant's `main` without a `tenant_segments` entry, the
    /// registry's `vlan_id`).
    pub origin: Origin,
}

/// An IPv4 subnet and its gateway.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Subnet4 {
    /// The subnet, truncated to its network address.
    pub net: Ipv4Net,
    /// The router's own address in it. Default: the first host address.
    pub gateway: Ipv4Addr,
}

/// An IPv6 subnet and its gateway.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Subnet6 {
    /// The subnet, truncated to its network address.
    pub net: Ipv6Net,
    /// The router's own address in it. Default: network address + 1.
    pub gateway: Ipv6Addr,
}

/// DHCP for one segment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DhcpScope {
    /// Dynamic pool, both ends included; `None` is a static-only scope.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `dns_servers`; empty means the gateway.
    pub dns_servers: Vec<std::net::IpAddr>,
}

/// How a tenant is attached to the site's address plan.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantKind {
    /// Subnets out of the site's address plan.
    Vlan,
    /// An address plan of its own. Modelled, not yet enforced: the policy compiler refuses it.
    Vpc,
}

/// Life of a tenant. Absent tenants are not in the model.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantState {
    /// Served and enforced.
    Present,
    /// Enforced as `Present`; DHCP and DNS stop taking new names and leases.
    Draining,
}

/// A registry entry joined with the tenant's own tree.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tenant {
    /// Key in `tenants`.
    pub name: TenantName,
    /// `kind`.
    pub kind: TenantKind,
    /// `state`.
    pub state: TenantState,
    /// `description`.
    pub description: Option<String>,
    /// Segments of the tenant; the first is `main`.
    pub segments: Vec<SegmentId>,
    /// May open connections to the internet (`internet: nat`). Effective only if the zone `tenants`
    /// is in `firewall_internet_zones`.
    pub internet: Option<Origin>,
    /// Granted platform services.
    pub services: Vec<(ServiceId, Origin)>,
    /// Zones that may open any connection to every host of the tenant. Platform tier.
    pub trusted_operators: Vec<(SegmentId, Origin)>,
    /// The platform's half of requests in `rules` that name a zone.
    pub accepts: Vec<Accept>,
    /// `tenant_firewall_rules`, in file order.
    pub rules: Vec<TenantRule>,
    /// `tenant_offers`, in file order.
    pub offers: Vec<TenantOffer>,
    /// `tenant_uses`, in file order.
    pub uses: Vec<TenantUse>,
    /// `tenant_isolate_hosts`.
    pub isolate_hosts: bool,
    /// `dns_update.key`.
    pub dns_update_key: Option<String>,
    /// `dnssec`: the tenant's DNS zones are signed.
    #[serde(default)]
    pub dnssec: bool,
    /// `limits`, for each of its segments at the router.
    #[serde(default = "Limits::segment")]
    pub limits: Limits,
    /// `limits.endpoint`, for each of its endpoints at its hypervisor's port.
    #[serde(default = "Limits::endpoint")]
    pub endpoint_limits: Limits,
    /// Key of the tenant in the registry.
    pub origin: Origin,
}

impl Tenant {
    /// Returns its limits: key below `limits`, and value in words.
    #[must_use]
    pub fn told_limits(&self) -> [(&'static str, String); 10] {
        told_limits(self.limits, self.endpoint_limits)
    }

    /// Returns those that a tenant has of which the inventory says nothing.
    #[must_use]
    pub fn built_in_limits() -> [(&'static str, String); 10] {
        told_limits(Limits::SEGMENT, Limits::ENDPOINT)
    }
}

/// What one of those who share the packet path may take of it: a segment at the router, an endpoint at its port.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Connections that are remembered for it; 0: an equal share of what nobody was promised.
    pub connections: u32,
    /// New connections a second; 0: any number. The other rates alike.
    pub connection_rate: u32,
    /// ARP and neighbour discovery, and echo to the gateway.
    pub neighbour_rate: u32,
    /// DHCP to all, or to a server's port.
    pub dhcp_rate: u32,
    /// Octets of frames: of a tenant what all of its segments send over the router, of an endpoint what it sends and what it
    /// receives at its port.
    #[serde(default)]
    pub bandwidth: Bandwidth,
}

impl Limits {
    /// Of a tenant's segment of which the inventory says nothing.
    pub const SEGMENT: Self = Self {
        connections: 0,
        connection_rate: 5_000,
        neighbour_rate: 1_000,
        dhcp_rate: 100,
        bandwidth: Bandwidth::ANY,
    };
    /// Of a tenant's endpoint of which the inventory says nothing.
    pub const ENDPOINT: Self = Self {
        connections: 0,
        connection_rate: 1_000,
        neighbour_rate: 200,
        dhcp_rate: 10,
        bandwidth: Bandwidth::ANY,
    };

    // Generations that an earlier version stored say nothing of limits.
    fn segment() -> Self {
        Self::SEGMENT
    }

    fn endpoint() -> Self {
        Self::ENDPOINT
    }
}

fn told_limits(own: Limits, endpoint: Limits) -> [(&'static str, String); 10] {
    let share = |connections: u32| match connections {
        0 => "a share".to_owned(),
        some => some.to_string(),
    };
    let rate = |rate: u32| match rate {
        0 => "any".to_owned(),
        some => format!("{some}/s"),
    };
    [
        ("connections", share(own.connections)),
        ("connection_rate", rate(own.connection_rate)),
        ("neighbour_rate", rate(own.neighbour_rate)),
        ("dhcp_rate", rate(own.dhcp_rate)),
        ("bandwidth", own.bandwidth.to_string()),
        ("endpoint.connections", share(endpoint.connections)),
        ("endpoint.connection_rate", rate(endpoint.connection_rate)),
        ("endpoint.neighbour_rate", rate(endpoint.neighbour_rate)),
        ("endpoint.dhcp_rate", rate(endpoint.dhcp_rate)),
        ("endpoint.bandwidth", endpoint.bandwidth.to_string()),
    ]
}

/// The platform's consent that a zone may reach a tenant's hosts on some ports.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Accept {
    /// The platform segment whose hosts may open the connection.
    pub from: SegmentId,
    /// On these ports; never empty.
    pub ports: Vec<PortSpec>,
    /// Where it is said.
    pub origin: Origin,
}

/// One entry of `tenant_firewall_rules`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantRule {
    /// `name`.
    pub name: String,
    /// Where the connection comes from.
    pub from: RuleFrom,
    /// Where it goes to: always something of the tenant's own.
    pub to: RuleTo,
    /// On these ports; empty means every protocol and port.
    pub ports: Vec<PortSpec>,
    /// Allow or deny.
    pub action: RuleAction,
    /// Where it is said.
    pub origin: Origin,
}

/// Source of a tenant rule.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleFrom {
    /// Every host of a platform segment.
    Zone(SegmentId),
    /// Every host of one of the tenant's own segments.
    Segment(SegmentId),
    /// One of the tenant's own hosts.
    Host(HostId),
    /// Every host of another tenant.
    Tenant(TenantId),
    /// Every source address inside of a prefix.
    Cidr(IpNet),
}

/// Destination of a tenant rule.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleTo {
    /// One of the tenant's own hosts (all of its addresses).
    Host(HostId),
    /// One of the tenant's own segments.
    Segment(SegmentId),
}

/// What a tenant rule does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Lets it through, together with its other half where one is needed.
    Allow,
    /// Stops it, unless the platform tier allowed it already.
    Deny,
}

/// The offering half of a cross-tenant allow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantOffer {
    /// `name`, unique in the tenant.
    pub name: String,
    /// What is offered.
    pub to: RuleTo,
    /// On these ports; never empty.
    pub ports: Vec<PortSpec>,
    /// To these tenants.
    pub consumers: Vec<TenantId>,
    /// Where it is said.
    pub origin: Origin,
}

/// The using half of a cross-tenant allow.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TenantUse {
    /// The offering tenant.
    pub tenant: TenantId,
    /// Name of the offer, as said; the offer may not exist (a warning).
    pub offer: String,
    /// Where it is said.
    pub origin: Origin,
}

/// A machine, physical or virtual.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Host {
    /// Name in `hosts.yml` or in the Terraform outputs.
    pub name: HostName,
    /// Whose tree it is in.
    pub owner: Owner,
    /// `infrastructure.form`, as said.
    pub form: Option<String>,
    /// Is this host a core router ([`Model::routers`])? Its addresses are the router's own.
    pub is_router: bool,
    /// Network interfaces, by name.
    pub interfaces: Vec<Interface>,
    /// Where the host is listed.
    pub origin: Origin,
}

/// One interface of a host on one segment: the inventory's *endpoint*.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Interface {
    /// Key in `env.interfaces`.
    pub name: String,
    /// Hardware address; `None` if absent or `UNKNOWN`.
    pub mac: Option<MacAddr>,
    /// The segment it is on: said, or derived from its address; `None` if neither tells.
    pub segment: Option<SegmentId>,
    /// Fixed IPv4 address; `None` if `ip: dhcp`, null or absent.
    pub ipv4: Option<Ipv4Addr>,
    /// Fixed IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Where its `ip` is said (else the interface's key).
    pub origin: Origin,
}

/// A core router.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Router {
    /// The host.
    pub host: HostId,
    /// `router_parent`: the 802.1Q trunk interface.
    pub trunk: String,
    /// `router_native_segment`: where untagged frames would belong.
    pub native_segment: Option<SegmentId>,
    /// `router_uplinks`, by name.
    pub uplinks: Vec<Uplink>,
    /// Where `router_parent` is said.
    pub origin: Origin,
}

/// The WAN side of a router.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Uplink {
    /// Key in `router_uplinks`.
    pub name: String,
    /// Kernel interface name.
    pub interface: String,
    /// `mode: nat` (true) or `routed`.
    pub nat: bool,
}

/// A host whose bridge connects virtual machines to the site's segments.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Hypervisor {
    /// The host.
    pub host: HostId,
    /// `hypervisor_bridge`: the VLAN-aware bridge.
    pub bridge: String,
    /// `hypervisor_uplink_port`: the bridge's port towards the switch; `None` if it has none.
    pub uplink_port: Option<String>,
    /// Where `hypervisor_bridge` is said.
    pub origin: Origin,
}

/// One side of a zone policy.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zone {
    /// A platform segment.
    Segment(SegmentId),
    /// The built-in zone `tenants`: every tenant segment.
    Tenants,
}

/// One entry of `firewall_zone_policies`: always an allow. Platform tier.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ZonePolicy {
    /// `name`, or `FROM -> TO`.
    pub name: String,
    /// `from_zone`. Never [`Zone::Tenants`]: what tenants may do is granted by name only.
    pub from: Zone,
    /// `to_zone`.
    pub to: Zone,
    /// `protocol`; `None` is every protocol.
    pub protocol: Option<Protocol>,
    /// `source_net`; `None` is every source of the zone.
    pub source_net: Option<IpNet>,
    /// `destination_net`; `None` is every destination in the zone.
    pub destination_net: Option<IpNet>,
    /// `destination_port`; empty is every port. With ports and no `protocol`: TCP and UDP.
    pub destination_ports: Vec<RangeInclusive<u16>>,
    /// Where it is said.
    pub origin: Origin,
}

/// One entry of `firewall_internet_zones`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InternetZone {
    /// The zone.
    pub zone: Zone,
    /// Where it is said.
    pub origin: Origin,
}

/// A transport that policies name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// ICMP over IPv4, ICMPv6 over IPv6.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// `tcp/443`, `udp/5000-5100`, `icmp`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct PortSpec {
    /// Transport.
    pub protocol: Protocol,
    /// Destination ports, both ends included; `0..=65535` for [`Protocol::Icmp`] and for a bare
    /// `tcp` or `udp`.
    pub ports: RangeInclusive<u16>,
}

/// Which services the router offers on each segment's own gateway address.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GatewayServices {
    /// UDP 67 over IPv4, UDP 547 over IPv6.
    pub dhcp: bool,
    /// UDP and TCP 53.
    pub dns: bool,
    /// UDP 123.
    pub ntp: bool,
    /// Echo request.
    pub icmp: bool,
}

/// A named service in a platform segment that tenants can be granted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlatformService {
    /// Key in `platform_services`.
    pub name: String,
    /// The platform segment it is in.
    pub segment: SegmentId,
    /// IPv4 address (said, or of the named host).
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Never empty.
    pub ports: Vec<PortSpec>,
    /// Where it is said.
    pub origin: Origin,
}

/// A name on one side of a protected flow or policy test: as said, and what it stands for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Peer {
    /// As said.
    pub text: String,
    /// What it stands for.
    pub kind: PeerKind,
}

/// What a [`Peer`] stands for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// A host.
    Host(HostId),
    /// Every address of a zone.
    Zone(Zone),
    /// Every address of a tenant.
    Tenant(TenantId),
    /// One address.
    Address(std::net::IpAddr),
    /// The word `internet`.
    Internet,
}

/// A flow that no plan may remove.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProtectedFlow {
    /// Source.
    pub from: Peer,
    /// Destination.
    pub to: Peer,
    /// Never empty.
    pub ports: Vec<PortSpec>,
    /// Where it is said.
    pub origin: Origin,
}

/// An expectation checked on every lint and plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PolicyTest {
    /// Source.
    pub from: Peer,
    /// Destination.
    pub to: Peer,
    /// Destination port.
    pub port: PortSpec,
    /// `expect: allow` (true) or `deny`.
    pub expect_allow: bool,
    /// Where it is said.
    pub origin: Origin,
}

/// One DNS record that the inventory asks for.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct DnsRecord {
    /// DNS zone, without a final dot.
    pub zone: String,
    /// Owner name relative to the zone; `@` for the apex.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, …
    pub record_type: String,
    /// Presentation form; names in the zone are relative, others end with a dot.
    pub value: String,
    /// Seconds; `None` is the zone's default.
    pub ttl: Option<u32>,
    /// Where it is said.
    pub origin: Origin,
}

/// An address that DHCP keeps for a hardware address.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Reservation {
    /// The scope.
    pub segment: SegmentId,
    /// The client.
    pub mac: MacAddr,
    /// Its address.
    pub ipv4: Ipv4Addr,
    /// Whose it is.
    pub host: HostId,
    /// Where it is said.
    pub origin: Origin,
}

impl Model {
    /// Returns the segment.
    #[must_use]
    pub fn segment(&self, id: SegmentId) -> &Segment {
        &self.segments[id.0]
    }

    /// Returns the tenant.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> &Tenant {
        &self.tenants[id.0]
    }

    /// Returns the host.
    #[must_use]
    pub fn host(&self, id: HostId) -> &Host {
        &self.hosts[id.0]
    }

    /// Returns the service.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> &PlatformService {
        &self.services[id.0]
    }
}
