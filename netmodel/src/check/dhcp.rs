//! DHCP: reservations, scopes, and what must not be in a pool.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use super::draft::{Draft, InterfaceFacts};
use super::tenant::check_limit;
use crate::finding::{Code, Finding};
use crate::model::{DhcpScope, HostId, Owner, Reservation, SegmentId, TenantId};
use crate::source::Place;

/// One interface of one host.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    /// The host.
    pub(crate) host: HostId,
    /// Index of the interface.
    pub(crate) interface: usize,
}

/// A reservation and where it is asked for.
pub(crate) struct Wanted {
    reservation: Reservation,
    place: Place,
    implied: bool,
}

/// Makes the scopes and returns the reservations that are in one, by segment and address.
pub(crate) fn check(draft: &mut Draft, mut wanted: Vec<Wanted>) -> Vec<Reservation> {
    check_limits(draft, &wanted);
    make_scopes(draft, &wanted);
    for index in 0..draft.segments.len() {
        let finding = without_dhcp(draft, SegmentId(index));
        draft.findings.extend(finding);
    }
    wanted.retain(|wanted| {
        let segment = draft.segment(wanted.reservation.segment);
        segment.segment.dhcp.is_some()
    });
    check_pools(draft, &wanted);
    let mut reservations: Vec<Reservation> = wanted
        .into_iter()
        .map(|wanted| wanted.reservation)
        .collect();
    reservations.sort_by_key(|reservation| (reservation.segment, reservation.ipv4));
    reservations
}

/// Makes the reservation that an endpoint asks for, if it can be had.
pub(crate) fn check_reservation(draft: &mut Draft, at: Endpoint) -> Option<Wanted> {
    let host = &draft.hosts[at.host.0];
    let interface = &host.host.interfaces[at.interface];
    let facts = &host.facts[at.interface];
    let place = facts.reservation?;
    let implied = facts.reservation_implied;
    let automatic = match host.host.owner {
        Owner::Platform => false,
        Owner::Tenant(tenant) => draft.tenants[tenant.0].macs_are_automatic,
    };
    let Some(ipv4) = interface.ipv4 else {
        if !facts.unreadable && (interface.ipv6.is_none() || facts.ipv4.is_some()) {
            let finding = no_address(&draft.host_name(at.host), place, facts);
            draft.findings.push(finding);
        }
        return None;
    };
    let Some(mac) = interface.mac else {
        // One that is malformed has a finding of its own.
        if !automatic && (facts.mac.is_none() || facts.mac_unknown) {
            let finding = unknown_mac(&draft.host_name(at.host), place, facts.mac);
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

fn no_address(name: &str, place: Place, facts: &InterfaceFacts) -> Finding {
    let finding = Finding::new(
        Code::ReservationNoAddress,
        format!("`{name}` wants a reservation, but no address is said"),
        place,
    )
    .help("write the address as `ip`, or remove `dhcp_reservation`");
    match facts.ipv4 {
        Some(ip) => finding.also(ip, "the address is left to DHCP"),
        None => finding,
    }
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

/// Reservations and hosts beyond a tenant's limits.
fn check_limits(draft: &mut Draft, wanted: &[Wanted]) {
    let mut places: HashMap<TenantId, Vec<Place>> = HashMap::new();
    let mut hosts: HashMap<TenantId, Vec<Place>> = HashMap::new();
    for host in &draft.hosts {
        if let Owner::Tenant(tenant) = host.host.owner {
            hosts.entry(tenant).or_default().push(host.place);
        }
    }
    for wanted in wanted {
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
    let kept: HashSet<(SegmentId, Ipv4Addr)> = reservations
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
