//! Endpoints: addresses and hardware addresses of all hosts.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::cx::At;
use super::dhcp::{self, Endpoint};
use super::draft::{Draft, SegmentDraft};
use super::hosts::addresses;
use super::plan::{Addresses, Claim};
use super::subnets::{NotHost, why_not_host4, why_not_host6};
use super::tenant::is_vpc;
use crate::finding::{Code, Finding};
use crate::ids::MacAddr;
use crate::model::{HostId, Owner, Reservation, SegmentId};
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
            reservations.extend(dhcp::check_reservation(draft, at));
        }
    }
    dhcp::check(draft, reservations)
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
                draft.findings.extend(finding);
            }
        }
    }
}

/// How an address relates to the subnet of its family.
struct Judged {
    why: Option<NotHost>,
    is_gateway: bool,
    net: IpNet,
    net_place: Place,
}

/// `None` if the segment has no subnet of the family.
fn judge(found: &SegmentDraft, address: IpAddr) -> Option<Judged> {
    match address {
        IpAddr::V4(address) => found.segment.ipv4.map(|subnet| Judged {
            why: why_not_host4(subnet.net, address),
            is_gateway: address == subnet.gateway,
            net: subnet.net.into(),
            net_place: found.net4.unwrap_or(found.key),
        }),
        IpAddr::V6(address) => found.segment.ipv6.map(|subnet| Judged {
            why: why_not_host6(subnet.net, address),
            is_gateway: address == subnet.gateway,
            net: subnet.net.into(),
            net_place: found.net6.unwrap_or(found.key),
        }),
    }
}

fn check_in_segment(
    draft: &Draft,
    at: Endpoint,
    claim: Claim,
    id: SegmentId,
    is_router: bool,
) -> Option<Finding> {
    let Some(judged) = judge(draft.segment(id), claim.value) else {
        return no_subnet(draft, at, claim, id);
    };
    let Judged { net, net_place, .. } = judged;
    if judged.why.is_none() && (!judged.is_gateway || is_router) {
        return None;
    }
    let host = draft.host_name(at.host);
    let name = draft.segment_name(id);
    let address = claim.value;
    Some(match judged.why {
        Some(NotHost::Outside) => Finding::new(
            Code::AddressOutside,
            format!("{address} of `{host}` is outside of its segment `{name}`"),
            claim.place,
        )
        .also(net_place, format!("the segment is {net}"))
        .help("correct the address, or the segment that the interface is on"),
        Some(NotHost::Network) => reserved(claim, "network", net_place, net),
        Some(NotHost::Broadcast) => reserved(claim, "broadcast", net_place, net),
        None => Finding::new(
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
    })
}

fn reserved(claim: Claim, what: &str, net_place: Place, net: IpNet) -> Finding {
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
    if is_unreadable(segment, claim.value) {
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

/// A subnet that is said, but could not be read, has a finding of its own.
fn is_unreadable(segment: &SegmentDraft, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => segment.net4.is_some() && segment.segment.ipv4.is_none(),
        IpAddr::V6(_) => segment.net6.is_some() && segment.segment.ipv6.is_none(),
    }
}

fn without_segment(draft: &Draft, at: Endpoint, claim: Claim, plan: &Addresses) -> Option<Finding> {
    let host = draft.host_name(at.host);
    let address = claim.value;
    let owner = draft.hosts[at.host.0].host.owner;
    let finding = match (owner, plan.segment_of(address)) {
        (Owner::Tenant(tenant), found) => {
            let main = draft.segment(draft.tenants[tenant.0].tenant.segments[0]);
            if is_unreadable(main, address) {
                return None;
            }
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
    };
    Some(finding)
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
