//! One segment, seen by somebody who sends into it: who is there, what is theirs, what is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_common::reason::{ANSWERED, DropReason, TO_KERNEL};
use netmodel::Model;
use netmodel::model::{Owner, Segment, SegmentId};
use testkit::frame::{BROADCAST, Frame, link_local};

/// MAC of the router's trunk in the sample inventory.
pub(crate) const ROUTER_MAC: [u8; 6] = [0x00, 0xe0, 0x4c, 0x29, 0x1e, 0x50];
/// A machine that the inventory does not know.
pub(crate) const UNKNOWN_MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x66];
/// A machine that nobody is.
pub(crate) const NOBODY_MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x53, 0x99];
/// A host on the internet.
pub(crate) const INTERNET_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// A host on the internet.
pub(crate) const INTERNET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x80);

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a segment has in one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) gateway: IpAddr,
    pub(crate) network: IpAddr,
    /// IPv4 only.
    pub(crate) broadcast: Option<IpAddr>,
    /// The sender's own address.
    pub(crate) own: IpAddr,
    /// An address of nobody that the inventory knows.
    pub(crate) free: IpAddr,
    /// Another machine that is bound here: its MAC and its address.
    pub(crate) other: Option<([u8; 6], IpAddr)>,
    /// Is the sender bound in this family: its MAC may use no other address?
    pub(crate) is_bound: bool,
}

/// A segment and an honest sender in it.
#[derive(Clone, Debug)]
pub(crate) struct Place<'m> {
    pub(crate) model: &'m Model,
    pub(crate) id: SegmentId,
    pub(crate) vlan: u16,
    pub(crate) mac: [u8; 6],
    pub(crate) v4: Option<Net>,
    pub(crate) v6: Option<Net>,
}

/// A frame that must pass.
#[derive(Clone, Debug)]
pub(crate) struct Friendly {
    pub(crate) frame: Vec<u8>,
    /// Outcome number.
    pub(crate) outcome: u32,
    /// VLAN id of the segment that it is forwarded to.
    pub(crate) to: Option<u16>,
}

impl Friendly {
    pub(crate) fn to_kernel(frame: &Frame) -> Self {
        Self {
            frame: frame.build(),
            outcome: TO_KERNEL,
            to: None,
        }
    }

    pub(crate) fn answered(frame: &Frame) -> Self {
        Self {
            frame: frame.build(),
            outcome: ANSWERED,
            to: None,
        }
    }
}

/// One row of the matrix: a forgery, why it is dropped, and its honest twin.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Section of `docs/isolation.md`.
    pub(crate) section: u8,
    pub(crate) what: String,
    /// Frames that set the scene.
    pub(crate) before: Vec<Friendly>,
    pub(crate) forged: Vec<u8>,
    /// VLAN id whose counters move; 0 if the frame has no valid tag.
    pub(crate) counted_on: u16,
    pub(crate) reason: DropReason,
    pub(crate) control: Friendly,
}

impl Row {
    pub(crate) fn before(mut self, friendly: Friendly) -> Self {
        self.before.push(friendly);
        self
    }

    pub(crate) fn counted_on(mut self, vlan: u16) -> Self {
        self.counted_on = vlan;
        self
    }
}

impl<'m> Place<'m> {
    /// Returns the place of a segment. The sender is a machine that is bound there, if there is one,
    /// else one that the inventory does not know.
    pub(crate) fn new(model: &'m Model, id: SegmentId) -> Self {
        let segment = model.segment(id);
        let bound = bound(model, id);
        let mac = bound.first().map_or(UNKNOWN_MAC, |endpoint| endpoint.mac);
        let net = |family| net(segment, &bound, family);
        let (v4, v6) = (net(Family::V4), net(Family::V6));
        Self {
            model,
            id,
            vlan: segment.vlan_id.as_u16(),
            mac,
            v4,
            v6,
        }
    }

    pub(crate) fn segment(&self) -> &'m Segment {
        self.model.segment(self.id)
    }

    pub(crate) fn is_tenant(&self) -> bool {
        matches!(self.segment().owner, Owner::Tenant(_))
    }

    /// Is it a segment where nothing at all passes?
    pub(crate) fn is_blackhole(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    pub(crate) fn nets(&self) -> impl Iterator<Item = (Family, Net)> {
        let all = [(Family::V4, self.v4), (Family::V6, self.v6)];
        all.into_iter()
            .filter_map(|(family, net)| Some((family, net?)))
    }

    pub(crate) fn link_local(&self) -> Ipv6Addr {
        link_local(self.mac)
    }

    /// A frame from the sender to the router, on this segment.
    pub(crate) fn to_router(&self) -> Frame {
        Frame::new(self.mac, ROUTER_MAC).vlan(self.vlan)
    }

    /// A frame from the sender to everyone on this segment.
    pub(crate) fn to_all(&self) -> Frame {
        self.to_router().destination_mac(BROADCAST)
    }

    /// An honest packet to the segment's own gateway.
    pub(crate) fn to_gateway(&self, net: &Net) -> Frame {
        self.to_router().ip(net.own, net.gateway)
    }

    /// An echo request to the gateway: answered.
    pub(crate) fn echo(&self, net: &Net) -> Frame {
        self.to_gateway(net).echo_request(7, 1).payload(b"bulkhead")
    }

    /// The honest twin of every row that needs no other.
    pub(crate) fn friendly_echo(&self, net: &Net) -> Friendly {
        Friendly::answered(&self.echo(net))
    }

    /// The honest twin of a row in the family of `net`, whatever the place has.
    pub(crate) fn any_friendly(&self) -> Friendly {
        let (_, net) = self.nets().next().expect("a blackhole has no friends");
        self.friendly_echo(&net)
    }

    /// An address of the same family on another segment.
    pub(crate) fn elsewhere(&self, family: Family) -> IpAddr {
        let others = self
            .model
            .segments
            .iter()
            .filter(|other| other.vlan_id.as_u16() != self.vlan);
        let mut addresses = others.filter_map(|other| match family {
            Family::V4 => other.ipv4.map(|net| plus4(net.net.network(), 77).into()),
            Family::V6 => other.ipv6.map(|net| plus6(net.net.network(), 0x77).into()),
        });
        addresses
            .next()
            .expect("the site has two segments of each family")
    }

    /// Makes a row whose frame is counted on this segment.
    pub(crate) fn row(
        &self,
        section: u8,
        what: impl Into<String>,
        (forged, reason): (Frame, DropReason),
        control: Friendly,
    ) -> Row {
        Row {
            section,
            what: what.into(),
            before: Vec::new(),
            forged: forged.build(),
            counted_on: self.vlan,
            reason,
            control,
        }
    }
}

/// A machine whose MAC the inventory knows.
struct Bound {
    mac: [u8; 6],
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// The machines bound on a segment: those with an address first.
fn bound(model: &Model, id: SegmentId) -> Vec<Bound> {
    let hosts = model.hosts.iter().filter(|host| !host.is_router);
    let interfaces = hosts.flat_map(|host| &host.interfaces);
    interfaces
        .filter(|interface| interface.segment == Some(id))
        .filter_map(|interface| {
            let (v4, v6) = (interface.ipv4, interface.ipv6);
            Some(Bound {
                mac: interface.mac?.0,
                v4,
                v6,
            })
        })
        .filter(|endpoint| endpoint.v4.is_some() || endpoint.v6.is_some())
        .collect()
}

fn net(segment: &Segment, bound: &[Bound], family: Family) -> Option<Net> {
    let address = |endpoint: &Bound| match family {
        Family::V4 => endpoint.v4.map(IpAddr::V4),
        Family::V6 => endpoint.v6.map(IpAddr::V6),
    };
    let (gateway, network, broadcast, dynamic, free): (IpAddr, IpAddr, _, IpAddr, IpAddr) =
        match family {
            Family::V4 => {
                let subnet = segment.ipv4?;
                let network = subnet.net.network();
                let at = |last| plus4(network, last).into();
                let broadcast = IpAddr::V4(subnet.net.broadcast());
                (
                    subnet.gateway.into(),
                    network.into(),
                    Some(broadcast),
                    at(66),
                    at(67),
                )
            }
            Family::V6 => {
                let subnet = segment.ipv6?;
                let network = subnet.net.network();
                let at = |last| plus6(network, last).into();
                (
                    subnet.gateway.into(),
                    network.into(),
                    None,
                    at(0x66),
                    at(0x67),
                )
            }
        };
    let own = bound.first().and_then(address);
    let other = bound
        .iter()
        .skip(1)
        .find_map(|other| Some((other.mac, address(other)?)));
    Some(Net {
        gateway,
        network,
        broadcast,
        own: own.unwrap_or(dynamic),
        free,
        other,
        is_bound: own.is_some(),
    })
}

pub(crate) fn plus4(network: Ipv4Addr, offset: u32) -> Ipv4Addr {
    (u32::from(network) + offset).into()
}

pub(crate) fn plus6(network: Ipv6Addr, offset: u128) -> Ipv6Addr {
    (u128::from(network) + offset).into()
}
