//! `docs/isolation.md` section 7: servers and messages that only the router may be and send.

use crate::Reason;
use crate::ip::{Family, ICMP, ICMPV6, Packet};
use crate::wire::u8_at;

const REDIRECT: u8 = 5;

/// Applies the table of section 7.
pub(crate) fn check(packet: &Packet<'_>) -> Result<(), Reason> {
    let (client, server) = match packet.family() {
        Family::V4 => (68, 67),
        Family::V6 => (546, 547),
    };
    if let Some((from, to)) = packet.udp_ports()?
        && (to == client || from == server)
    {
        return Err(Reason::DhcpServer);
    }
    match packet.protocol {
        ICMP | ICMPV6 if packet.is_icmp() => {
            check_icmp_type(packet.family(), u8_at(packet.transport, 0)?)
        }
        // The other family's ICMP.
        ICMP | ICMPV6 => Err(Reason::IcmpType),
        _ => Ok(()),
    }
}

fn check_icmp_type(family: Family, kind: u8) -> Result<(), Reason> {
    match (family, kind) {
        (Family::V4, REDIRECT) => Err(Reason::IcmpRedirect),
        (Family::V4, 0 | 8 | 3 | 11 | 12) | (Family::V6, 1..=4 | 128 | 129) => Ok(()),
        (Family::V4 | Family::V6, _) => Err(Reason::IcmpType),
    }
}
