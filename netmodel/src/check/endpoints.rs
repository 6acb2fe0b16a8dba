//! Endpoints: addresses and hardware addresses of all hosts, reservations, DHCP scopes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::cx::At;
use super::draft::Draft;
use super::hosts::addresses;
use super::plan::{Addresses, Claim};
use super::segments::{NotHost, why_not_host4, why_not_host6};
use super::tenant::{check_limit, is_vpc};
use crate::finding::{Code, Finding};
use crate::ids::MacAddr;
use crate::model::{DhcpScope, HostId, Owner, Reservation, SegmentId, TenantId};
use crate::source::Place;

/// Checks all endpoints and returns the reservations.
pub(crate) fn check(draft: &mut Draft) -> Vec<Reservation> {
    let plan = Addresses::new(draft);
    let mut used = Used::default();
    let mut reservations = Vec::new();
    for index in 0..draft.hosts.len() {
        for interface in 0..draft.hosts[index].facts.len() {
            let at = Endpoint {
                host: HostId(index),
                interface,
            };
            check_addresses(draft, at, &plan);
            used.check(draft, at);
            reservations.extend(check_reservation(draft, at));
        }
    }
    let mut reservations = within_limits(draft, reservations);
    make_scopes(draft, &reservations);
    reservations.retain(|reservation| {
        draft
            .segment(reservation.reservation.segment)
            .segment
            .dhcp
            .is_some()
    });
    check_pools(draft, &reservations);
    let mut reservations: Vec<Reservation> = reservations
        .into_iter()
        .map(|wanted| wanted.reservation)
        .collect();
    reservations.sort_by_key(|reservation| (reservation.segment, reservation.ipv4));
    reservations
}

/// One interface of one host.
#[derive(Clone, Copy)]
struct Endpoint {
    host: HostId,
    interface: usize,
}

/// A reservation and where it is asked for.
struct Wanted {
    reservation: Reservation,
    place: Place,
    implied: bool,
}

fn check_addresses(draft: &mut Draft, at: Endpoint, plan: &Addresses) {
    let host = &draft.hosts[at.host.0];
    let interface = &host.host.interfaces[at.interface];
    let facts = &host.facts[at.interface];
    let (segment, is_router) = (interface.segment, host.host.is_router);
    let said_segment = facts.segment;
    let claims: Vec<Claim> = addresses(interface, facts).collect();
    for claim in claims {
        match segment {
            Some(segment) => {
                let finding = check_in_segment(draft, at, claim, segment, is_router);
                draft.findings.extend(finding);
            }
            None if said_segment.is_some() => {}
            None => {
                let finding = without_segment(draft, at, claim, plan);
                draft.findings.push(finding);
            }
        }
    }
}

fn check_in_segment(
    draft: &Draft,
    at: Endpoint,
    claim: Claim,
    id: SegmentId,
    is_router: bool,
) -> Option<Finding> {
    let found = draft.segment(id);
    let segment = &found.segment;
    let (why, net, net_place, is_gateway) = match claim.value {
        IpAddr::V4(address) => match segment.ipv4 {
            None => return no_subnet(draft, at, claim, id),
            Some(subnet) => (
                why_not_host4(subnet.net, address),
                subnet.net.to_string(),
                found.net4,
                address == subnet.gateway,
            ),
        },
        IpAddr::V6(address) => match segment.ipv6 {
            None => return no_subnet(draft, at, claim, id),
            Some(subnet) => (
                why_not_host6(subnet.net, address),
                subnet.net.to_string(),
                found.net6,
                address == subnet.gateway,
            ),
        },
    };
    let host = draft.host_name(at.host);
    let name = draft.segment_name(id);
    let net_place = net_place.unwrap_or(found.key);
    let address = claim.value;
    let finding = match why {
        Some(NotHost::Outside) => Finding::new(
            Code::AddressOutside,
            format!("{address} of `{host}` is outside of its segment `{name}`"),
            claim.place,
        )
        .also(net_place, format!("the segment is {net}"))
        .help("correct the address, or the segment that the interface is on"),
        Some(NotHost::Network) => reserved(claim, "network", net_place, &net),
        Some(NotHost::Broadcast) => reserved(claim, "broadcast", net_place, &net),
        None if is_gateway && !is_router => Finding::new(
            Code::AddressGateway,
            format!("`{host}` has the gateway's address {address}"),
            claim.place,
        )
        .also(
            net_place,
            format!("the gateway of `{name}` is the router's own address"),
        )
        .note("only a host for which `router_parent` is set may have it")
        .help("give the host another address"),
        None => return None,
    };
    Some(finding)
}

fn reserved(claim: Claim, what: &str, net_place: Place, net: &str) -> Finding {
    Finding::new(
        Code::AddressReserved,
        format!("{} is the {what} address of its subnet", claim.value),
        claim.place,
    )
    .also(net_place, format!("the subnet is {net}"))
    .help("choose an address between the two ends of the subnet")
}

fn no_subnet(draft: &Draft, at: Endpoint, claim: Claim, id: SegmentId) -> Option<Finding> {
    let segment = draft.segment(id);
    let unreadable = match claim.value {
        IpAddr::V4(_) => segment.net4.is_some(),
        IpAddr::V6(_) => segment.net6.is_some(),
    };
    if unreadable {
        return None;
    }
    let family = if claim.value.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    let name = draft.segment_name(id);
    Some(
        Finding::new(
            Code::AddressOutside,
            format!(
                "{} of `{}` is on `{name}`, which has no {family} subnet",
                claim.value,
                draft.host_name(at.host)
            ),
            claim.place,
        )
        .also(segment.key, "the segment")
        .help("remove the address, or give the segment a subnet"),
    )
}

fn without_segment(draft: &Draft, at: Endpoint, claim: Claim, plan: &Addresses) -> Finding {
    let host = draft.host_name(at.host);
    let address = claim.value;
    let owner = draft.hosts[at.host.0].host.owner;
    match (owner, plan.segment_of(address)) {
        (Owner::Tenant(tenant), found) => {
            let main = draft.segment(draft.tenants[tenant.0].tenant.segments[0]);
            let place = main.net4.unwrap_or(main.key);
            let finding = Finding::new(
                Code::AddressOutside,
                format!("{address} of `{host}` is in none of the tenant's segments"),
                claim.place,
            )
            .also(place, "what the tenant is granted")
            .help("choose an address out of the tenant's subnet");
            match found {
                Some(other) if !is_vpc(draft, tenant) => finding.platform_note(format!(
                    "the address belongs to `{}`",
                    draft.segment_name(other)
                )),
                Some(_) | None => finding,
            }
        }
        (Owner::Platform, Some(id)) => {
            let segment = draft.segment(id);
            Finding::new(
                Code::AddressOutside,
                format!(
                    "{address} of the site's host `{host}` is in the tenant segment `{}`",
                    draft.segment_name(id)
                ),
                claim.place,
            )
            .also(segment.net4.unwrap_or(segment.key), "the tenant's subnet")
            .help("platform hosts belong in platform segments: move it")
        }
        (Owner::Platform, None) => Finding::new(
            Code::AddressNowhere,
            format!("{address} of `{host}` is in no segment of the site"),
            claim.place,
        )
        .note("such a host is nobody to bulkhead: no zone, no binding")
        .help("correct the address, or add the segment"),
    }
}

/// Who has which address and hardware address.
#[derive(Default)]
struct Used {
    addresses: HashMap<(u32, IpAddr), (Place, HostId)>,
    macs: HashMap<MacAddr, (Place, Endpoint)>,
}

impl Used {
    fn check(&mut self, draft: &mut Draft, at: Endpoint) {
        let host = &draft.hosts[at.host.0];
        let interface = &host.host.interfaces[at.interface];
        let facts = &host.facts[at.interface];
        let plan = interface
            .segment
            .map_or(0, |id| draft.segment(id).segment.vpc_id);
        let claims: Vec<Claim> = addresses(interface, facts).collect();
        let mac = interface.mac.zip(facts.mac);
        for claim in claims {
            let mine = (claim.place, at.host);
            match self.addresses.get(&(plan, claim.value)) {
                None => {
                    self.addresses.insert((plan, claim.value), mine);
                }
                Some(&(place, other)) => {
                    let finding = address_twice(draft, claim, at.host, (place, other));
                    draft.findings.push(finding);
                }
            }
        }
        let Some((mac, place)) = mac else {
            return;
        };
        match self.macs.get(&mac) {
            None => {
                self.macs.insert(mac, (place, at));
            }
            Some(&first) => {
                let finding = mac_twice(draft, At { value: mac, place }, at, first);
                draft.findings.extend(finding);
            }
        }
    }
}

fn address_twice(draft: &Draft, claim: Claim, host: HostId, other: (Place, HostId)) -> Finding {
    let (name, other_name) = (draft.host_name(host), draft.host_name(other.1));
    Finding::new(
        Code::AddressTwice,
        format!(
            "{} is used twice: by `{other_name}` and by `{name}`",
            claim.value
        ),
        claim.place,
    )
    .public(format!("{} is used twice", claim.value))
    .also(other.0, format!("`{other_name}` has it"))
    .help("give one of the two another address")
}

/// One host may have one hardware address on several VLANs (a trunk of its own); two hosts may not.
fn mac_twice(
    draft: &Draft,
    mac: At<MacAddr>,
    at: Endpoint,
    (place, other): (Place, Endpoint),
) -> Option<Finding> {
    let segment = |at: Endpoint| draft.hosts[at.host.0].host.interfaces[at.interface].segment;
    if at.host == other.host && segment(at) != segment(other) {
        return None;
    }
    let (name, other_name) = (draft.host_name(at.host), draft.host_name(other.host));
    let message = if at.host == other.host {
        format!(
            "two interfaces of `{name}` have the hardware address {}",
            mac.value
        )
    } else {
        format!(
            "{} is used twice: by `{other_name}` and by `{name}`",
            mac.value
        )
    };
    Some(
        Finding::new(Code::MacTwice, message, mac.place)
            .public(format!(
                "the hardware address {} is already in use",
                mac.value
            ))
            .also(place, format!("`{other_name}` has it"))
            .note(
                "a hardware address is what an endpoint is known by; it must be unique in the site",
            )
            .help("look it up on the host with `ip link`; give a copied virtual machine a new one"),
    )
}

fn check_reservation(draft: &mut Draft, at: Endpoint) -> Option<Wanted> {
    let host = &draft.hosts[at.host.0];
    let interface = &host.host.interfaces[at.interface];
    let facts = &host.facts[at.interface];
    let place = facts.reservation?;
    let implied = facts.reservation_implied;
    let name = draft.host_name(at.host);
    let automatic = match host.host.owner {
        Owner::Platform => false,
        Owner::Tenant(tenant) => draft.tenants[tenant.0].macs_are_automatic,
    };
    let Some(ipv4) = interface.ipv4 else {
        if !facts.unreadable && (interface.ipv6.is_none() || facts.ipv4.is_some()) {
            let mut finding = Finding::new(
                Code::ReservationNoAddress,
                format!("`{name}` wants a reservation, but no address is said"),
                place,
            )
            .help("write the address as `ip`, or remove `dhcp_reservation`");
            if let Some(ip) = facts.ipv4 {
                finding = finding.also(ip, "the address is left to DHCP");
            }
            draft.findings.push(finding);
        }
        return None;
    };
    let Some(mac) = interface.mac else {
        // One that is malformed has a finding of its own.
        if !automatic && (facts.mac.is_none() || facts.mac_unknown) {
            let finding = unknown_mac(&name, place, facts.mac);
            draft.findings.push(finding);
        }
        return None;
    };
    let segment = interface.segment?;
    let origin = draft.sources.origin(place);
    Some(Wanted {
        reservation: Reservation {
            segment,
            mac,
            ipv4,
            host: at.host,
            origin,
        },
        place,
        implied,
    })
}

fn unknown_mac(name: &str, place: Place, mac: Option<Place>) -> Finding {
    let finding = Finding::new(
        Code::MacUnknown,
        format!("`{name}` wants a reservation, but its hardware address is not known"),
        place,
    )
    .note("until it is known, DHCP treats the host as a stranger and its address is not bound")
    .help("write its `mac` under `infrastructure.interfaces`");
    match mac {
        Some(mac) => finding.also(mac, "not known yet"),
        None => finding,
    }
}

/// Those beyond a tenant's limit are reported.
fn within_limits(draft: &mut Draft, wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut places: HashMap<TenantId, Vec<Place>> = HashMap::new();
    let mut hosts: HashMap<TenantId, Vec<Place>> = HashMap::new();
    for host in &draft.hosts {
        if let Owner::Tenant(tenant) = host.host.owner {
            hosts.entry(tenant).or_default().push(host.place);
        }
    }
    for wanted in &wanted {
        if let Owner::Tenant(tenant) = draft.hosts[wanted.reservation.host.0].host.owner {
            places.entry(tenant).or_default().push(wanted.place);
        }
    }
    for index in 0..draft.tenants.len() {
        let id = TenantId(index);
        for (limit, used) in [("reservations", &places), ("hosts", &hosts)] {
            if let Some(used) = used.get(&id) {
                check_limit(draft, id, limit, used);
            }
        }
    }
    wanted
}

/// A scope exists if there is a pool, or at least one reservation, unless DHCP is switched off.
fn make_scopes(draft: &mut Draft, wanted: &[Wanted]) {
    let mut reserved = vec![false; draft.segments.len()];
    for wanted in wanted {
        reserved[wanted.reservation.segment.0] = true;
    }
    for (index, reserved) in reserved.iter().enumerate() {
        let found = &mut draft.segments[index];
        let pool = found.range.map(|(start, end)| (start.value, end.value));
        let is_on = found.dhcp_enabled != Some(false);
        if is_on && found.segment.ipv4.is_some() && (pool.is_some() || *reserved) {
            found.segment.dhcp = Some(DhcpScope {
                pool,
                dns_servers: found.dns_servers.clone(),
            });
        }
        if let (false, Some((start, _))) = (is_on, found.range) {
            let finding = Finding::new(
                Code::DhcpIgnored,
                format!("the DHCP range of `{}` is not used", found.segment.name),
                start.place,
            )
            .label("`dhcp_enabled: false` switches it off")
            .help("remove the range, or `dhcp_enabled: false`");
            draft.findings.push(finding);
        }
    }
    for wanted in wanted.iter().filter(|wanted| !wanted.implied) {
        let segment = draft.segment(wanted.reservation.segment);
        if segment.segment.dhcp.is_none() {
            let finding = no_scope(draft, wanted);
            draft.findings.push(finding);
        }
    }
    for index in 0..draft.segments.len() {
        let finding = without_dhcp(draft, SegmentId(index));
        draft.findings.extend(finding);
    }
}

fn no_scope(draft: &Draft, wanted: &Wanted) -> Finding {
    let segment = draft.segment(wanted.reservation.segment);
    let name = draft.segment_name(wanted.reservation.segment);
    let host = draft.host_name(wanted.reservation.host);
    Finding::new(
        Code::ReservationNoScope,
        format!("`{host}` wants a reservation, but `{name}` has no DHCP"),
        wanted.place,
    )
    .also(segment.key, "this segment has DHCP switched off")
    .note("nobody will answer the host's DHCP requests: it needs its address configured by hand")
    .help("remove `dhcp_reservation`, or enable DHCP for the segment")
}

fn without_dhcp(draft: &Draft, id: SegmentId) -> Option<Finding> {
    let found = draft.segment(id);
    if found.segment.dhcp.is_some() || found.segment.ipv4.is_none() || found.range.is_some() {
        return None;
    }
    match found.segment.owner {
        Owner::Tenant(tenant) => {
            let tenant = &draft.tenants[tenant.0];
            let name = &tenant.tenant.name;
            Some(
                Finding::new(
                    Code::TenantNoDhcp,
                    format!("the tenant `{name}` has no DHCP scope"),
                    found.key,
                )
                .note(match tenant.scope {
                    Some(_) => {
                        "its machines get no address, unless each has one configured by hand"
                    }
                    None => "there is no tree for this tenant: its hosts are not known either",
                })
                .help(format!(
                    "add dhcp_range_start and dhcp_range_end to `tenant_segments.main` in \
                     group_vars/{name}, or reservations to its hosts"
                )),
            )
        }
        Owner::Platform if found.dhcp_enabled.is_none() => Some(
            Finding::new(
                Code::SegmentNoDhcp,
                format!("the segment `{}` has no DHCP scope", found.segment.name),
                found.key,
            )
            .note("it has neither a range nor a reservation")
            .help("write `dhcp_enabled: false` if that is meant"),
        ),
        Owner::Platform => None,
    }
}

/// No static address may lie in a dynamic pool, except those that DHCP itself keeps for their host.
fn check_pools(draft: &mut Draft, reservations: &[Wanted]) {
    let kept: std::collections::HashSet<(SegmentId, Ipv4Addr)> = reservations
        .iter()
        .map(|wanted| (wanted.reservation.segment, wanted.reservation.ipv4))
        .collect();
    let mut findings = Vec::new();
    for host in &draft.hosts {
        for (interface, facts) in host.host.interfaces.iter().zip(&host.facts) {
            let (Some(id), Some(ipv4), Some(place)) =
                (interface.segment, interface.ipv4, facts.ipv4)
            else {
                continue;
            };
            if !kept.contains(&(id, ipv4)) {
                let what = format!("{ipv4} of `{}`", host.host.name);
                findings.extend(in_pool(draft, id, ipv4, place, &what));
            }
        }
    }
    for index in 0..draft.segments.len() {
        let found = &draft.segments[index];
        if let Some(subnet) = found.segment.ipv4 {
            let place = found.net4.unwrap_or(found.key);
            let what = format!("the gateway {}", subnet.gateway);
            findings.extend(in_pool(
                draft,
                SegmentId(index),
                subnet.gateway,
                place,
                &what,
            ));
        }
    }
    draft.findings.append(&mut findings);
}

fn in_pool(
    draft: &Draft,
    id: SegmentId,
    address: Ipv4Addr,
    place: Place,
    what: &str,
) -> Option<Finding> {
    let segment = draft.segment(id);
    segment.segment.dhcp.as_ref()?;
    let (start, end) = segment.range?;
    if address < start.value || address > end.value {
        return None;
    }
    Some(
        Finding::new(
            Code::DhcpRangeStatic,
            format!(
                "{what} is inside of the DHCP range of `{}`",
                draft.segment_name(id)
            ),
            place,
        )
        .also(
            start.place,
            format!("the range is {} to {}", start.value, end.value),
        )
        .note("DHCP could give the same address to another host")
        .help("move one of the two, or set `dhcp_reservation: true` with the host's `mac`"),
    )
}
