//! Names of reverse zones: in-addr.arpa, ip6.arpa, and RFC 2317 for subnets smaller than /24.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::name::{Name, NameError};

/// The reverse zones of one subnet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reverse {
    /// One zone where the prefix ends at a label, up to 128 where it does not.
    pub(crate) origins: Vec<Name>,
    /// The /24 that the zone is cut out of (RFC 2317).
    pub(crate) within: Option<Ipv4Net>,
}

/// Returns the reverse zones of a subnet.
pub(crate) fn zones(net: IpNet) -> Result<Reverse, NameError> {
    match net {
        IpNet::V4(net) if net.prefix_len() > 24 => Ok(Reverse {
            origins: vec![classless(net)?],
            within: Some(parent24(net.network())),
        }),
        IpNet::V4(net) => {
            let whole = net.prefix_len().div_ceil(8) * 8;
            let parts = net.subnets(whole).into_iter().flatten();
            let origins = parts.map(|part| octets(part.network(), usize::from(whole / 8)));
            Ok(Reverse {
                origins: origins.collect::<Result<_, _>>()?,
                within: None,
            })
        }
        IpNet::V6(net) => Ok(Reverse {
            origins: nibble_zones(net)?,
            within: None,
        }),
    }
}

fn nibble_zones(net: Ipv6Net) -> Result<Vec<Name>, NameError> {
    let whole = net.prefix_len().div_ceil(4) * 4;
    let parts = net.subnets(whole).into_iter().flatten();
    parts
        .map(|part| nibbles(part.network(), usize::from(whole / 4)))
        .collect()
}

/// RFC 2317, 4: the zone is called after the first address and the prefix, `64/26`.
fn classless(net: Ipv4Net) -> Result<Name, NameError> {
    let [.., first] = net.network().octets();
    let label = format!("{first}/{}", net.prefix_len());
    Name::from_labels([label], &octets(net.network(), 3)?)
}

/// Returns the /24 that an address is in.
pub(crate) fn parent24(address: Ipv4Addr) -> Ipv4Net {
    let [a, b, c, _] = address.octets();
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), 24)
}

/// Returns the zone of a /24.
pub(crate) fn zone24(net: Ipv4Net) -> Result<Name, NameError> {
    octets(net.network(), 3)
}

/// Returns the name that an address has in the zone of its subnet.
pub(crate) fn owner_name(address: IpAddr, net: IpNet) -> Result<Name, NameError> {
    match (address, net) {
        (IpAddr::V4(address), IpNet::V4(net)) if net.prefix_len() > 24 => {
            let [.., last] = address.octets();
            Name::from_labels([last.to_string()], &classless(net)?)
        }
        (IpAddr::V4(address), _) => octets(address, 4),
        (IpAddr::V6(address), _) => nibbles(address, 32),
    }
}

/// Returns the name of the first `count` octets.
pub(crate) fn octets(address: Ipv4Addr, count: usize) -> Result<Name, NameError> {
    let octets = address.octets();
    let labels = octets.iter().take(count).rev().map(ToString::to_string);
    Name::from_labels(labels, &Name::absolute("in-addr.arpa")?)
}

/// Returns the name of the first `count` nibbles.
fn nibbles(address: Ipv6Addr, count: usize) -> Result<Name, NameError> {
    let mut text = String::new();
    for octet in address.octets() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    let labels: Vec<&[u8]> = text.as_bytes().chunks(1).take(count).collect();
    Name::from_labels(labels.into_iter().rev(), &Name::absolute("ip6.arpa")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(net: &str) -> Vec<String> {
        let zones = zones(net.parse().unwrap()).unwrap();
        zones.origins.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_prefix_that_ends_at_a_label_has_one_zone() {
        let rows = [
            ("10.100.0.0/24", "0.100.10.in-addr.arpa."),
            ("172.16.0.0/16", "16.172.in-addr.arpa."),
            ("10.0.0.0/8", "10.in-addr.arpa."),
            ("fd00:100::/32", "0.0.1.0.0.0.d.f.ip6.arpa."),
            ("10.1.2.64/26", "64/26.2.1.10.in-addr.arpa."),
            ("10.1.2.7/32", "7/32.2.1.10.in-addr.arpa."),
        ];
        for (net, zone) in rows {
            assert_eq!(of(net), [zone], "{net}");
        }
        assert_eq!(of("fd00:100::/64").concat().len(), 16 * 2 + 9);
    }

    #[test]
    fn a_prefix_between_two_labels_has_several_zones() {
        let two = ["2.1.10.in-addr.arpa.", "3.1.10.in-addr.arpa."];
        assert_eq!(of("10.1.2.0/23"), two);
        assert_eq!(of("10.128.0.0/9").len(), 128);
        assert_eq!(of("fd00::/62").len(), 4);
    }

    #[test]
    fn an_address_is_named_in_the_zone_of_its_subnet() {
        let rows = [
            ("10.1.2.70", "10.1.2.0/24", "70.2.1.10.in-addr.arpa."),
            ("10.1.2.70", "10.1.2.64/26", "70.64/26.2.1.10.in-addr.arpa."),
        ];
        for (address, net, name) in rows {
            let net: IpNet = net.parse().unwrap();
            let found = owner_name(address.parse().unwrap(), net).unwrap();
            assert_eq!(found.to_string(), name);
            let zones = zones(net).unwrap().origins;
            assert!(zones.iter().any(|zone| found.is_within(zone)), "{name}");
        }
    }
}
