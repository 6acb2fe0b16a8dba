//! Subnets, their gateways, and who can live in them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::cx::{At, Cx, Fields};
use crate::finding::{Code, Finding};
use crate::model::{Subnet4, Subnet6};
use crate::source::Place;
use crate::yaml::Entry;

/// Reads an IPv4 subnet that hosts can live in.
pub(crate) fn read_net4(cx: &mut Cx<'_>, entry: &Entry) -> Option<At<Ipv4Net>> {
    let net: At<Ipv4Net> = cx.parse(
        &entry.value,
        "a subnet",
        "an IPv4 prefix such as 10.20.30.0/24",
    )?;
    check_net4(cx, net).then_some(net)
}

/// Says what is wrong with a subnet, if anything is.
pub(crate) fn check_net4(cx: &mut Cx<'_>, net: At<Ipv4Net>) -> bool {
    const UNUSABLE: [([u8; 4], u8, &str); 5] = [
        ([0, 0, 0, 0], 8, "\"this network\""),
        ([127, 0, 0, 0], 8, "loopback"),
        ([169, 254, 0, 0], 16, "link-local"),
        ([224, 0, 0, 0], 4, "multicast"),
        ([240, 0, 0, 0], 4, "reserved"),
    ];
    let found = UNUSABLE.iter().find(|(octets, length, _)| {
        let range = Ipv4Net::new_assert(Ipv4Addr::from(*octets), *length);
        range.contains(&net.value.network()) || net.value.contains(&range.network())
    });
    let finding = if net.value.trunc() != net.value {
        subnet(
            net.place,
            format!("`{}` is a host's address with a prefix", net.value),
        )
        .help(format!("write the subnet: {}", net.value.trunc()))
    } else if let Some((_, _, what)) = found {
        subnet(
            net.place,
            format!("`{}` reaches into {what} addresses", net.value),
        )
        .help("choose a prefix out of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, or a public one")
    } else if net.value.prefix_len() > 30 {
        subnet(
            net.place,
            format!("`{}` has no room for a gateway and a host", net.value),
        )
        .help("use a prefix of at most /30")
    } else {
        return true;
    };
    cx.report(finding);
    false
}

/// Reads an IPv6 subnet that hosts can live in.
pub(crate) fn read_net6(cx: &mut Cx<'_>, entry: &Entry) -> Option<At<Ipv6Net>> {
    let net: At<Ipv6Net> = cx.parse(
        &entry.value,
        "an IPv6 subnet",
        "an IPv6 prefix such as fd00:30::/64",
    )?;
    check_net6(cx, net).then_some(net)
}

/// Says what is wrong with a subnet, if anything is.
pub(crate) fn check_net6(cx: &mut Cx<'_>, net: At<Ipv6Net>) -> bool {
    let usable = [
        Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3),
        Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    ];
    let finding = if net.value.trunc() != net.value {
        subnet(
            net.place,
            format!("`{}` is a host's address with a prefix", net.value),
        )
        .help(format!("write the subnet: {}", net.value.trunc()))
    } else if !usable.iter().any(|range| range.contains(&net.value)) {
        subnet(
            net.place,
            format!("`{}` is neither global nor unique local", net.value),
        )
        .help("choose a prefix out of 2000::/3 or fd00::/8")
    } else if net.value.prefix_len() > 126 {
        subnet(
            net.place,
            format!("`{}` has no room for a gateway and a host", net.value),
        )
        .help("use a /64")
    } else {
        return true;
    };
    cx.report(finding);
    false
}

fn subnet(place: Place, message: String) -> Finding {
    Finding::new(Code::SubnetInvalid, message, place)
}

/// Returns the first host address, the gateway by default.
pub(crate) fn default_gateway4(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits().saturating_add(1))
}

/// Returns the network address + 1, the gateway by default.
pub(crate) fn default_gateway6(net: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(net.network().to_bits().saturating_add(1))
}

/// Reads the gateway of a subnet.
pub(crate) fn read_gateway4(cx: &mut Cx<'_>, fields: &Fields, net: At<Ipv4Net>) -> Option<Subnet4> {
    let gateway = match fields.get("gateway") {
        None => default_gateway4(net.value),
        Some(entry) => {
            let said: At<Ipv4Addr> = cx.parse(&entry.value, "a gateway", "an IPv4 address")?;
            let why = why_not_host4(net.value, said.value);
            check_gateway(cx, said.place, net.place, &said.value, (&net.value, why))?;
            said.value
        }
    };
    Some(Subnet4 {
        net: net.value,
        gateway,
    })
}

/// Reads the gateway of a subnet.
pub(crate) fn read_gateway6(cx: &mut Cx<'_>, fields: &Fields, net: At<Ipv6Net>) -> Option<Subnet6> {
    let gateway = match fields.get("gateway6") {
        None => default_gateway6(net.value),
        Some(entry) => {
            let said: At<Ipv6Addr> = cx.parse(&entry.value, "a gateway", "an IPv6 address")?;
            let why = why_not_host6(net.value, said.value);
            check_gateway(cx, said.place, net.place, &said.value, (&net.value, why))?;
            said.value
        }
    };
    Some(Subnet6 {
        net: net.value,
        gateway,
    })
}

fn check_gateway(
    cx: &mut Cx<'_>,
    said: Place,
    net_place: Place,
    gateway: &dyn std::fmt::Display,
    (net, why): (&dyn std::fmt::Display, Option<NotHost>),
) -> Option<()> {
    let why = match why {
        None => return Some(()),
        Some(NotHost::Outside) => "is not in the subnet",
        Some(NotHost::Network) => "is the subnet's network address",
        Some(NotHost::Broadcast) => "is the subnet's broadcast address",
    };
    cx.report(
        Finding::new(
            Code::GatewayInvalid,
            format!("the gateway {gateway} {why}"),
            said,
        )
        .also(net_place, format!("the subnet is {net}"))
        .help("leave the gateway out to get the first address of the subnet"),
    );
    None
}

/// Why an address is not one that a host of a subnet can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotHost {
    /// It is in another network.
    Outside,
    /// It names the network (in IPv6: any router of it).
    Network,
    /// It names all hosts.
    Broadcast,
}

/// Tells why a host of a subnet cannot have an address.
pub(crate) fn why_not_host4(net: Ipv4Net, address: Ipv4Addr) -> Option<NotHost> {
    if !net.contains(&address) {
        Some(NotHost::Outside)
    } else if address == net.network() {
        Some(NotHost::Network)
    } else if address == net.broadcast() {
        Some(NotHost::Broadcast)
    } else {
        None
    }
}

/// Tells why a host of a subnet cannot have an address.
pub(crate) fn why_not_host6(net: Ipv6Net, address: Ipv6Addr) -> Option<NotHost> {
    if !net.contains(&address) {
        Some(NotHost::Outside)
    } else {
        (address == net.network()).then_some(NotHost::Network)
    }
}
