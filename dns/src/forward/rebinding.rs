//! DNS rebinding: a name of others must not lead a browser to an address inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::SvcParamValue;

/// Does this record have an address that nobody outside has?
pub(super) fn is_forbidden(data: &RData, is_own: &impl Fn(IpAddr) -> bool) -> bool {
    if let RData::A(address) = data {
        return is_inside(address.0.into(), is_own);
    }
    if let RData::AAAA(address) = data {
        return is_inside(address.0.into(), is_own);
    }
    if let RData::SVCB(service) = data {
        return has_hint_inside(service, is_own);
    }
    if let RData::HTTPS(service) = data {
        return has_hint_inside(&service.0, is_own);
    }
    false
}

fn has_hint_inside(service: &SVCB, is_own: &impl Fn(IpAddr) -> bool) -> bool {
    service.svc_params.iter().any(|(_, value)| {
        if let SvcParamValue::Ipv4Hint(hints) = value {
            return hints
                .0
                .iter()
                .any(|address| is_inside(address.0.into(), is_own));
        }
        if let SvcParamValue::Ipv6Hint(hints) = value {
            return hints
                .0
                .iter()
                .any(|address| is_inside(address.0.into(), is_own));
        }
        false
    })
}

fn is_inside(address: IpAddr, is_own: &impl Fn(IpAddr) -> bool) -> bool {
    let is_special = match address {
        IpAddr::V4(address) => is_special_v4(address),
        IpAddr::V6(address) => is_special_v6(address, is_own),
    };
    is_special || is_own(address)
}

/// RFC 6890: this network, private, shared, loopback, link-local, and what is no unicast.
fn is_special_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || (a == 100 && b & 0xc0 == 64)
}

/// RFC 6890 likewise, and `fec0::/10`, which was site-local (RFC 3879); addresses with an IPv4 address in them are
/// judged by that.
fn is_special_v6(address: Ipv6Addr, is_own: &impl Fn(IpAddr) -> bool) -> bool {
    if let Some(inner) = embedded(address) {
        return is_inside(inner.into(), is_own);
    }
    let [first, ..] = address.segments();
    address.is_unique_local()
        || address.is_unicast_link_local()
        || first & 0xffc0 == 0xfec0
        || address.is_multicast()
}

/// The IPv4 address in an IPv6 address that some network sends to it. `::` and `::1` are among the first, as addresses
/// of 0.0.0.0/8.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let inner = match address.octets() {
        // RFC 4291, 2.5.5.1: compatible. 2.5.5.2: mapped. RFC 2765, 2.1: translated.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, inner @ ..]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, inner @ ..]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, inner @ ..]
        // RFC 6052, 2.1.
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, inner @ ..] => inner,
        // RFC 3056, 2: 6to4.
        [0x20, 0x02, a, b, c, d, ..] => [a, b, c, d],
        _ => return None,
    };
    Some(inner.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_told_from_what_is_outside() {
        let inside = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "203.0.113.7",
            "::",
            "::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "::ffff:203.0.113.7",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "2002:a00:1::1",
            "2002:7f00:1::",
            "2002:cb00:7107::1",
            "fec0::1",
            "feff::1",
        ];
        let outside = [
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "2001:4860::1",
            "64:ff9b::808:808",
            "::8.8.8.8",
            "2002:808:808::1",
            "2003::a00:1",
        ];
        let is_own = |address| address == IpAddr::from([203, 0, 113, 7]);
        for address in inside {
            assert!(is_inside(address.parse().unwrap(), &is_own), "{address}");
        }
        for address in outside {
            assert!(!is_inside(address.parse().unwrap(), &is_own), "{address}");
        }
    }
}
