//! `docs/isolation.md` section 5: multicast and broadcast destinations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::{Fragment, Packet};
use crate::wire::is_link_local;
use crate::{Reason, Verdict, World};

/// ff02::1:2, All_DHCP_Relay_Agents_and_Servers.
const DHCPV6_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Decides on a packet to a group that is no message of section 6.
pub(crate) fn check(world: &World<'_>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    if world.model.gateway_services.dhcp && is_dhcp_client(packet)? {
        return Ok(Verdict::ToKernel);
    }
    Err(Reason::MulticastNotAllowed)
}

fn is_dhcp_client(packet: &Packet<'_>) -> Result<bool, Reason> {
    if packet.fragment != Fragment::Whole {
        return Ok(false);
    }
    Ok(match packet.destination {
        IpAddr::V4(d) => d == Ipv4Addr::BROADCAST && packet.is_udp(68, 67)?,
        IpAddr::V6(d) => {
            d == DHCPV6_SERVERS && is_link_local(packet.source) && packet.is_udp(546, 547)?
        }
    })
}
