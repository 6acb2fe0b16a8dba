//! `docs/isolation.md`, "What happens to what is allowed".

use netmodel::ids::MacAddr;

use crate::ip::{Family, Fragment, Packet};
use crate::{Verdict, World, site};

/// Returns what becomes of an allowed unicast packet.
pub(crate) fn send(world: &World<'_>, packet: &Packet<'_>) -> Verdict {
    if is_echo_request_to_gateway(world, packet) {
        return Verdict::Answered;
    }
    forward(world, packet).unwrap_or(Verdict::ToKernel)
}

/// To an endpoint with a known MAC on another segment, if size and TTL permit.
///
/// The router is no endpoint: what is for its own addresses is for the kernel.
fn forward(world: &World<'_>, packet: &Packet<'_>) -> Option<Verdict> {
    let (host, interface) = site::endpoint(world.model, packet.destination)?;
    let MacAddr(dst_mac) = interface.mac?;
    let to = interface.segment.filter(|to| *to != packet.segment)?;
    let segment = world.model.segment(to);
    let fits = packet.length <= usize::from(segment.mtu) && packet.ttl > 1;
    if host.is_router || !fits {
        return None;
    }
    Some(Verdict::Forwarded {
        vlan: segment.vlan_id.as_u16(),
        dst_mac,
    })
}

fn is_echo_request_to_gateway(world: &World<'_>, packet: &Packet<'_>) -> bool {
    let echo_request = match packet.family() {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let segment = world.model.segment(packet.segment);
    packet.fragment == Fragment::Whole
        && !packet.has_options
        && packet.is_icmp()
        && packet.transport.first() == Some(&echo_request)
        && site::is_own_gateway(&world.router, segment, packet.destination)
}
