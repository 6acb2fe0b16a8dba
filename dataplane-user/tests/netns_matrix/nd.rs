//! Section 6: neighbour discovery and multicast listener discovery.

use std::net::{IpAddr, Ipv6Addr};

use dataplane_common::reason::DropReason;
use testkit::frame::{Frame, link_local, multicast_mac_v6, solicited_node};

use crate::place::{Friendly, INTERNET_V6, NOBODY_MAC, Place, ROUTER_MAC, Row, UNKNOWN_MAC};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

pub(crate) fn rows(place: &Place<'_>) -> Vec<Row> {
    if place.is_blackhole() {
        return Vec::new();
    }
    let mut rows = [routers(place), shapes(place), options(place), claims(place)].concat();
    if let Some(net) = place.v6
        && let (IpAddr::V6(own), IpAddr::V6(gateway), IpAddr::V6(free)) =
            (net.own, net.gateway, net.free)
    {
        let other = net.other.and_then(|(_, other)| v6(other));
        let global = Global {
            own,
            gateway,
            free,
            other,
            is_bound: net.is_bound,
        };
        rows.extend(global_sources(place, &global));
        rows.extend(global_claims(place, &global));
    }
    rows
}

/// What the sender's segment has beyond link-local addresses.
struct Global {
    own: Ipv6Addr,
    gateway: Ipv6Addr,
    free: Ipv6Addr,
    other: Option<Ipv6Addr>,
    is_bound: bool,
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

fn to_group(place: &Place<'_>, source: Ipv6Addr, group: Ipv6Addr) -> Frame {
    place
        .to_router()
        .destination_mac(multicast_mac_v6(group))
        .ipv6(source, group)
}

/// Who has the router's link-local address? Answered on every segment.
fn solicitation(place: &Place<'_>) -> Frame {
    let router = link_local(ROUTER_MAC);
    to_group(place, place.link_local(), solicited_node(router)).neighbour_solicitation(router)
}

/// Here is my link-local address: for the kernel.
fn advertisement(place: &Place<'_>) -> Frame {
    to_group(place, place.link_local(), ALL_NODES).neighbour_advertisement(place.link_local())
}

fn router_solicitation(place: &Place<'_>) -> Frame {
    to_group(place, place.link_local(), ALL_ROUTERS).router_solicitation()
}

fn solicited(place: &Place<'_>) -> Friendly {
    Friendly::answered(&solicitation(place).link_layer_option(false))
}

fn make<const N: usize>(
    place: &Place<'_>,
    rows: [(&str, Frame, DropReason); N],
    control: &Friendly,
) -> Vec<Row> {
    rows.map(|(what, forged, reason)| place.row(6, what, (forged, reason), control.clone()))
        .into()
}

/// What only a router may say.
fn routers(place: &Place<'_>) -> Vec<Row> {
    use DropReason::{IcmpRedirect, RouterAdvertisement};
    let local = place.link_local();
    let router = link_local(ROUTER_MAC);
    let to_all = || to_group(place, local, ALL_NODES);
    let to_router = || place.to_router().ipv6(local, router);
    let advertises = || to_all().router_advertisement().link_layer_option(false);
    let redirects = to_router().nd_redirect(local, INTERNET_V6);
    let rows = [
        (
            "router advertisement to all",
            advertises(),
            RouterAdvertisement,
        ),
        (
            "router advertisement to the router",
            to_router().router_advertisement(),
            RouterAdvertisement,
        ),
        (
            "router advertisement from afar",
            advertises().hop_limit(64),
            RouterAdvertisement,
        ),
        ("MLD query", to_all().mld_query(), RouterAdvertisement),
        ("redirect", redirects, IcmpRedirect),
    ];
    let solicits = Friendly::to_kernel(&router_solicitation(place).link_layer_option(false));
    make(place, rows, &solicits)
}

fn shapes(place: &Place<'_>) -> Vec<Row> {
    use DropReason::NdMalformed;
    let local = place.link_local();
    let unicast = |to| place.to_router().ipv6(local, to);
    let report = || to_group(place, local, MLD_ROUTERS).mld_report_v2(ALL_ROUTERS);
    let router = link_local(ROUTER_MAC);
    let mut rows = make(
        place,
        [
            (
                "solicitation from afar",
                solicitation(place).hop_limit(254),
                NdMalformed,
            ),
            (
                "advertisement from afar",
                advertisement(place).hop_limit(64),
                NdMalformed,
            ),
            (
                "router solicitation from afar",
                router_solicitation(place).hop_limit(1),
                NdMalformed,
            ),
            (
                "solicitation of code 1",
                { solicitation(place).icmp(135, 1, [0; 4]) },
                NdMalformed,
            ),
            (
                "solicitation as a first fragment",
                solicitation(place).fragment(0, true),
                NdMalformed,
            ),
            (
                "advertisement as a first fragment",
                advertisement(place).fragment(0, true),
                NdMalformed,
            ),
        ],
        &solicited(place),
    );
    rows.extend(make(
        place,
        [(
            "MLD report to the router alone",
            unicast(router).mld_report_v2(ALL_ROUTERS),
            NdMalformed,
        )],
        &Friendly::to_kernel(&report()),
    ));
    rows
}

fn options(place: &Place<'_>) -> Vec<Row> {
    use DropReason::{NdMalformed, NdMismatch};
    let solicits = || solicitation(place);
    let advertises = || advertisement(place);
    let five = (0..5).fold(solicits(), |frame, _| frame.nd_option(14, 1, &[0; 6]));
    let four = (0..3).fold(advertises(), |frame, _| frame.nd_option(14, 1, &[0; 6]));
    let mut rows = make(
        place,
        [
            (
                "option of length 0",
                solicits().nd_option(14, 0, &[0; 6]),
                NdMalformed,
            ),
            (
                "option longer than the message",
                solicits().nd_option(14, 2, &[0; 6]),
                NdMalformed,
            ),
            ("five options", five, NdMalformed),
            (
                "solicitation for another MAC",
                solicits().link_layer_option_of(false, NOBODY_MAC),
                NdMismatch,
            ),
            (
                "router solicitation for another MAC",
                { router_solicitation(place).link_layer_option_of(false, NOBODY_MAC) },
                NdMismatch,
            ),
        ],
        // Four options are fine.
        &Friendly::to_kernel(&four.link_layer_option(true)),
    );
    let honest = Friendly::to_kernel(&advertises().link_layer_option(true));
    rows.extend(make(
        place,
        [
            (
                "advertisement of another MAC",
                advertises().link_layer_option_of(true, NOBODY_MAC),
                NdMismatch,
            ),
            (
                "advertisement of the router's MAC",
                { advertises().link_layer_option_of(true, ROUTER_MAC) },
                NdMismatch,
            ),
        ],
        &honest,
    ));
    rows
}

/// Claims that can be made on every segment: of link-local addresses, and of what is no host's.
fn claims(place: &Place<'_>) -> Vec<Row> {
    use DropReason::{GatewayClaim, NdMismatch};
    let router = link_local(ROUTER_MAC);
    let advertises =
        |target| to_group(place, place.link_local(), ALL_NODES).neighbour_advertisement(target);
    let detects = |target| {
        to_group(place, Ipv6Addr::UNSPECIFIED, solicited_node(target))
            .neighbour_solicitation(target)
    };
    let mut rows = make(
        place,
        [
            (
                "advertisement of the router's link-local",
                advertises(router),
                GatewayClaim,
            ),
            (
                "advertisement of the internet",
                advertises(INTERNET_V6),
                NdMismatch,
            ),
        ],
        &Friendly::to_kernel(&advertisement(place)),
    );
    rows.extend(make(
        place,
        [
            (
                "detection of the router's link-local",
                detects(router),
                GatewayClaim,
            ),
            (
                "detection of the internet",
                detects(INTERNET_V6),
                NdMismatch,
            ),
            (
                "detection with a link-layer option",
                { detects(place.link_local()).link_layer_option(false) },
                DropReason::NdMalformed,
            ),
        ],
        &Friendly::to_kernel(&detects(place.link_local())),
    ));
    rows
}

fn global_sources(place: &Place<'_>, global: &Global) -> Vec<Row> {
    use DropReason::{GatewayClaim, NdMalformed, SourceNotInSegment, SpoofedSource};
    let group = solicited_node(global.gateway);
    let from = |source| to_group(place, source, group).neighbour_solicitation(global.gateway);
    let honest = Friendly::answered(&from(global.own).link_layer_option(false));
    let neighbour = place.to_router().ipv6(global.own, global.free);
    let mut rows = make(
        place,
        [
            (
                "solicitation from the gateway",
                from(global.gateway),
                GatewayClaim,
            ),
            (
                "solicitation from the internet",
                from(INTERNET_V6),
                SourceNotInSegment,
            ),
            (
                "solicitation to a neighbour, through the router",
                { neighbour.neighbour_solicitation(global.free) },
                NdMalformed,
            ),
        ],
        &honest,
    );
    let report = |source| to_group(place, source, MLD_ROUTERS).mld_report_v2(ALL_ROUTERS);
    let honest_report = Friendly::to_kernel(&report(place.link_local()));
    let forged = (
        "MLD report from a global address",
        report(global.own),
        NdMalformed,
    );
    rows.extend(make(place, [forged], &honest_report));
    if global.is_bound {
        let stranger = from(global.own).source_mac(UNKNOWN_MAC);
        rows.extend(make(
            place,
            [
                (
                    "solicitation: a bound address, another MAC",
                    stranger,
                    SpoofedSource,
                ),
                (
                    "solicitation: a bound MAC, another address",
                    from(global.free),
                    SpoofedSource,
                ),
            ],
            &honest,
        ));
    }
    rows
}

fn global_claims(place: &Place<'_>, global: &Global) -> Vec<Row> {
    use DropReason::{GatewayClaim, NdMalformed, NdMismatch};
    let advertises =
        |target| to_group(place, place.link_local(), ALL_NODES).neighbour_advertisement(target);
    let detects = |target| {
        to_group(place, Ipv6Addr::UNSPECIFIED, solicited_node(target))
            .neighbour_solicitation(target)
    };
    let advertised = Friendly::to_kernel(&advertises(global.own).link_layer_option(true));
    let detected = Friendly::to_kernel(&detects(global.own));
    let with_option = detects(global.own).link_layer_option(false);
    let mut rows = make(
        place,
        [(
            "advertisement of the gateway",
            advertises(global.gateway),
            GatewayClaim,
        )],
        &advertised,
    );
    rows.extend(make(
        place,
        [
            (
                "detection of the gateway",
                detects(global.gateway),
                GatewayClaim,
            ),
            (
                "detection of one's own, with an option",
                with_option,
                NdMalformed,
            ),
        ],
        &detected,
    ));
    if global.is_bound {
        let stranger = |frame: Frame| frame.source_mac(UNKNOWN_MAC);
        rows.extend(make(
            place,
            [
                (
                    "advertisement: a bound address, another MAC",
                    stranger(advertises(global.own)),
                    NdMismatch,
                ),
                (
                    "advertisement: a bound MAC, another address",
                    advertises(global.free),
                    NdMismatch,
                ),
                (
                    "detection: a bound address, another MAC",
                    stranger(detects(global.own)),
                    NdMismatch,
                ),
                (
                    "detection: a bound MAC, another address",
                    detects(global.free),
                    NdMismatch,
                ),
            ],
            &advertised,
        ));
    }
    if let Some(other) = global.other {
        let forged = (
            "advertisement of another's bound address",
            advertises(other),
            NdMismatch,
        );
        rows.extend(make(place, [forged], &advertised));
    }
    rows
}
