//! Segments: the platform's, and what platform's and tenants' segments have in common.

use std::net::{IpAddr, Ipv4Addr};

use super::cx::{At, Cx, Fields, Unknown};
use super::draft::{Draft, SegmentDraft};
use super::subnets::{read_gateway4, read_gateway6, read_net4, read_net6, why_not_host4};
use crate::finding::{Code, Finding};
use crate::ids::{SegmentName, VlanId};
use crate::model::{Owner, Segment, SegmentId};
use crate::yaml::Entry;

/// Keys of a segment that bulkhead reads.
pub(crate) const SEGMENT_KEYS: &[&str] = &[
    "vlan_id",
    "subnet",
    "gateway",
    "subnet6",
    "gateway6",
    "dhcp_range_start",
    "dhcp_range_end",
    "dhcp_enabled",
    "dns_servers",
    "mtu",
];

/// Names that mean something else where a zone is named.
const RESERVED: [&str; 2] = ["tenants", "internet"];

/// Largest IP packet on a segment without `mtu`.
const DEFAULT_MTU: u16 = 1500;

/// Reads `site_segments`.
pub(crate) fn read_site(draft: &mut Draft) {
    let Some(var) = draft.site_var("site_segments") else {
        let why = "a site without any segment is more likely a mistake than meant";
        super::site::missing(draft, "site_segments", "{ NAME: { vlan_id: … } }", why);
        return;
    };
    let scope = draft.site.clone();
    let mut cx = draft.cx(&scope);
    let Some(mut entries) = cx.named_entries(&var.value, &format!("`{}`", var.key)) else {
        return;
    };
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    for entry in entries {
        let mut cx = draft.cx(&scope);
        check_name(&mut cx, &entry);
        if let Some(segment) = read_segment(draft, &entry) {
            let id = SegmentId(draft.segments.len());
            draft.zones.insert(entry.key.to_string(), id);
            draft.segments.push(segment);
        } else {
            draft.unusable.insert(entry.key.to_string());
        }
    }
}

fn check_name(cx: &mut Cx<'_>, entry: &Entry) {
    if RESERVED.contains(&&*entry.key) {
        cx.report(
            Finding::new(
                Code::ReservedZoneName,
                format!("a segment cannot be called `{}`", entry.key),
                entry.key_place,
            )
            .note("policies use this word for every tenant segment, or for the internet")
            .help("give it another name"),
        );
    }
}

fn read_segment(draft: &mut Draft, entry: &Entry) -> Option<SegmentDraft> {
    let scope = draft.site.clone();
    let what = format!("the segment `{}`", entry.key);
    let origin = draft.sources.origin(entry.key_place);
    let mut cx = draft.cx(&scope);
    let fields = cx.fields(&entry.value, &what, SEGMENT_KEYS, Unknown::Suspect)?;
    let vlan_entry = cx.required(&fields, "vlan_id")?;
    let vlan = read_vlan(&mut cx, &vlan_entry)?;
    let mut segment = SegmentDraft {
        segment: Segment {
            name: SegmentName::new(&entry.key),
            owner: Owner::Platform,
            vlan_id: vlan.value,
            vpc_id: 0,
            ipv4: None,
            ipv6: None,
            dhcp: None,
            mtu: DEFAULT_MTU,
            origin,
        },
        key: entry.key_place,
        vlan: vlan.place,
        net4: None,
        net6: None,
        range: None,
        dhcp_enabled: None,
        dns_servers: Vec::new(),
    };
    if let Some(entry) = fields.get("subnet") {
        segment.net4 = Some(entry.value.place);
        let net = read_net4(&mut cx, entry);
        segment.segment.ipv4 = net.and_then(|net| read_gateway4(&mut cx, &fields, net));
    }
    if let Some(entry) = fields.get("subnet6") {
        segment.net6 = Some(entry.value.place);
        let net = read_net6(&mut cx, entry);
        segment.segment.ipv6 = net.and_then(|net| read_gateway6(&mut cx, &fields, net));
    }
    read_dhcp(&mut cx, &fields, &mut segment);
    Some(segment)
}

/// Reads a VLAN id.
pub(crate) fn read_vlan(cx: &mut Cx<'_>, entry: &Entry) -> Option<At<VlanId>> {
    let number = cx.integer(&entry.value, "a VLAN id")?;
    let id = u16::try_from(number.value).ok().and_then(VlanId::new);
    if id.is_none() {
        let label = match number.value {
            0 => "0 marks a priority tag",
            4095 => "4095 is reserved",
            _ => "",
        };
        cx.report(
            Finding::new(
                Code::VlanRange,
                format!("{} is not a VLAN id", number.value),
                number.place,
            )
            .label(label)
            .help("choose one from 1 to 4094"),
        );
    }
    id.map(|value| At {
        value,
        place: number.place,
    })
}

/// Reads DHCP and MTU; the scope itself is made when the reservations are known.
pub(crate) fn read_dhcp(cx: &mut Cx<'_>, fields: &Fields, segment: &mut SegmentDraft) {
    if let Some(entry) = fields.get("dhcp_enabled") {
        segment.dhcp_enabled = cx.boolean(&entry.value, "`dhcp_enabled`");
    }
    if let Some(entry) = fields.get("dns_servers") {
        let servers = cx.list(&entry.value, "`dns_servers`").unwrap_or_default();
        segment.dns_servers = servers
            .iter()
            .filter_map(|value| cx.parse::<IpAddr>(value, "a DNS server", "an address"))
            .map(|at| at.value)
            .collect();
    }
    if let Some(entry) = fields.get("mtu") {
        segment.segment.mtu = read_mtu(cx, entry).unwrap_or(DEFAULT_MTU);
    }
    let start = fields.get("dhcp_range_start");
    let end = fields.get("dhcp_range_end");
    match (start, end) {
        (None, None) => {}
        (Some(start), Some(end)) => {
            let what = "an end of a DHCP range";
            let start = cx.parse::<Ipv4Addr>(&start.value, what, "an IPv4 address");
            let end = cx.parse::<Ipv4Addr>(&end.value, what, "an IPv4 address");
            segment.range = start
                .zip(end)
                .filter(|&range| check_range(cx, segment, range));
        }
        (Some(only), None) | (None, Some(only)) => {
            let missing = match start {
                Some(_) => "dhcp_range_end",
                None => "dhcp_range_start",
            };
            cx.report(
                Finding::new(
                    Code::DhcpRangeIncomplete,
                    format!("a DHCP range needs both ends: `{missing}` is missing"),
                    only.key_place,
                )
                .help(format!("add `{missing}`, or remove `{}`", only.key)),
            );
        }
    }
}

fn read_mtu(cx: &mut Cx<'_>, entry: &Entry) -> Option<u16> {
    const MTU: std::ops::RangeInclusive<u16> = 576..=9216;
    let number = cx.integer(&entry.value, "`mtu`")?;
    let mtu = u16::try_from(number.value)
        .ok()
        .filter(|mtu| MTU.contains(mtu));
    if mtu.is_none() {
        cx.invalid(
            number.place,
            format!("an MTU of {} octets is not possible", number.value),
            "write 576 to 9216; IPv6 needs at least 1280",
        );
    }
    mtu
}

fn check_range(
    cx: &mut Cx<'_>,
    segment: &SegmentDraft,
    (start, end): (At<Ipv4Addr>, At<Ipv4Addr>),
) -> bool {
    let Some(subnet) = segment.segment.ipv4 else {
        // A subnet that could not be read has a finding of its own.
        if segment.net4.is_none() {
            cx.report(
                Finding::new(
                    Code::DhcpRangeOutside,
                    "a DHCP range in a segment without an IPv4 subnet",
                    start.place,
                )
                .also(segment.key, "this segment has no `subnet`")
                .help("add the subnet, or remove the range"),
            );
        }
        return false;
    };
    let outside = |at: &At<Ipv4Addr>| why_not_host4(subnet.net, at.value).is_some();
    let outside: Vec<At<Ipv4Addr>> = [start, end].into_iter().filter(outside).collect();
    for at in &outside {
        cx.report(
            Finding::new(
                Code::DhcpRangeOutside,
                format!("{} is not a host address of {}", at.value, subnet.net),
                at.place,
            )
            .also(segment.net4.unwrap_or(segment.key), "the subnet")
            .help("both ends of the range must be host addresses of the segment's subnet"),
        );
    }
    let reversed = start.value > end.value;
    if outside.is_empty() && reversed {
        cx.report(range_reversed(start, end));
    }
    outside.is_empty() && !reversed
}

fn range_reversed(start: At<Ipv4Addr>, end: At<Ipv4Addr>) -> Finding {
    let (first, last) = (start.value, end.value);
    Finding::new(
        Code::DhcpRangeReversed,
        format!("the DHCP range ends before it starts: {first} > {last}"),
        start.place,
    )
    .also(end.place, "the end")
    .help("swap the two")
}
