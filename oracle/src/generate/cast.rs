//! Who sends: the endpoints of an inventory, and hosts that it does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netmodel::Model;
use netmodel::model::{Interface, SegmentId};

use super::dice::{Dice, Rng};
use super::model::{new_mac, random_ipv4, random_ipv6};
use crate::World;

/// A host on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    pub(crate) segment: SegmentId,
    pub(crate) vlan: u16,
    pub(crate) mac: [u8; 6],
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// Is it an endpoint of the inventory?
    pub(crate) is_known: bool,
}

impl Actor {
    /// Any link-local address that is not the router's will do.
    pub(crate) fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac;
        Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ])
    }

    /// Its address of one family.
    pub(crate) fn address(&self, is_ipv4: bool) -> Option<IpAddr> {
        if is_ipv4 {
            self.ipv4.map(IpAddr::V4)
        } else {
            self.ipv6.map(IpAddr::V6)
        }
    }

    /// Its addresses in both families.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Everybody on the trunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cast {
    pub(crate) actors: Vec<Actor>,
}

impl Cast {
    /// Every endpoint on a segment, and two unknown hosts per segment.
    pub(crate) fn of(rng: &mut Rng, model: &Model) -> Self {
        let mut actors = Vec::new();
        for host in model.hosts.iter().filter(|host| !host.is_router) {
            for interface in &host.interfaces {
                actors.extend(endpoint(rng, model, interface));
            }
        }
        for index in 0..model.segments.len() {
            for _ in 0..2 {
                actors.push(stranger(rng, model, SegmentId(index)));
            }
        }
        Self { actors }
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> Option<Actor> {
        rng.pick(&self.actors).copied()
    }

    /// Who has an address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<Actor> {
        self.actors
            .iter()
            .find(|actor| actor.addresses().any(|a| a == address))
            .copied()
    }

    /// One of the addresses, of this family; of endpoints for preference.
    pub(crate) fn address(&self, rng: &mut Rng, is_ipv4: bool) -> Option<IpAddr> {
        let first = self.pick(rng)?;
        let actor = if first.is_known {
            first
        } else {
            self.pick(rng)?
        };
        actor.address(is_ipv4)
    }

    /// An address in another segment of the same owner.
    fn sibling(
        &self,
        rng: &mut Rng,
        model: &Model,
        actor: &Actor,
        is_ipv4: bool,
    ) -> Option<IpAddr> {
        let owner = model.segment(actor.segment).owner;
        let siblings: Vec<IpAddr> = self
            .actors
            .iter()
            .filter(|other| other.segment != actor.segment)
            .filter(|other| model.segment(other.segment).owner == owner)
            .filter_map(|other| other.address(is_ipv4))
            .collect();
        rng.pick(&siblings).copied()
    }
}

/// An endpoint; where it has no fixed address it may have a dynamic one.
fn endpoint(rng: &mut Rng, model: &Model, interface: &Interface) -> Option<Actor> {
    let segment = interface.segment?;
    let dynamic = stranger(rng, model, segment);
    let is_dynamic = rng.percent(50);
    Some(Actor {
        mac: interface.mac.map_or(dynamic.mac, |mac| mac.0),
        ipv4: interface.ipv4.or(dynamic.ipv4.filter(|_| is_dynamic)),
        ipv6: interface.ipv6.or(dynamic.ipv6.filter(|_| is_dynamic)),
        is_known: true,
        ..dynamic
    })
}

fn stranger(rng: &mut Rng, model: &Model, id: SegmentId) -> Actor {
    let segment = model.segment(id);
    Actor {
        segment: id,
        vlan: segment.vlan_id.as_u16(),
        mac: new_mac(rng),
        is_known: false,
        ipv4: segment.ipv4.map(|subnet| random_ipv4(rng, subnet)),
        ipv6: segment.ipv6.map(|subnet| random_ipv6(rng, subnet)),
    }
}

/// Returns a destination of the same family as the source for a packet of `actor`.
pub(crate) fn destination(
    rng: &mut Rng,
    world: &World<'_>,
    cast: &Cast,
    actor: &Actor,
    is_ipv4: bool,
) -> IpAddr {
    let found = match rng.u8(0..100) {
        0..=41 => cast.address(rng, is_ipv4),
        42..=54 => cast.sibling(rng, world.model, actor, is_ipv4),
        55..=66 => gateway(world.model, actor.segment, is_ipv4),
        67..=71 => {
            let id = SegmentId(rng.usize(..world.model.segments.len()));
            gateway(world.model, id, is_ipv4)
        }
        72..=81 => service(rng, world.model, is_ipv4),
        82..=89 => Some(internet(rng, is_ipv4)),
        90..=93 => router(rng, world, is_ipv4),
        _ => Some(special(rng, world, is_ipv4)),
    };
    found.unwrap_or_else(|| internet(rng, is_ipv4))
}

pub(crate) fn gateway(model: &Model, id: SegmentId, is_ipv4: bool) -> Option<IpAddr> {
    let segment = model.segment(id);
    if is_ipv4 {
        segment.ipv4.map(|subnet| IpAddr::V4(subnet.gateway))
    } else {
        segment.ipv6.map(|subnet| IpAddr::V6(subnet.gateway))
    }
}

fn service(rng: &mut Rng, model: &Model, is_ipv4: bool) -> Option<IpAddr> {
    let service = rng.pick(&model.services)?;
    if is_ipv4 {
        service.ipv4.map(IpAddr::V4)
    } else {
        service.ipv6.map(IpAddr::V6)
    }
}

fn internet(rng: &mut Rng, is_ipv4: bool) -> IpAddr {
    if is_ipv4 {
        IpAddr::from(rng.one_of([
            [1, 1, 1, 1],
            [8, 8, 8, 8],
            [203, 0, 113, 77],
            [93, 184, 0, 1],
        ]))
    } else {
        let [a, b] = rng.one_of([[0x2606, 0x4700], [0x2001, 0x4860], [0x2a00, 1], [0x2400, 2]]);
        IpAddr::from([a, b, 0, 0, 0, 0, 0, 1])
    }
}

/// An address of the router, or of a host, that may be on no segment.
fn router(rng: &mut Rng, world: &World<'_>, is_ipv4: bool) -> Option<IpAddr> {
    let extra = world.router.extra_addresses.iter().copied();
    let hosts = world.model.hosts.iter();
    let odd = hosts
        .flat_map(|host| host.interfaces.iter().map(move |i| (host.is_router, i)))
        .filter(|(is_router, i)| *is_router || i.segment.is_none())
        .flat_map(|(_, i)| [i.ipv4.map(IpAddr::V4), i.ipv6.map(IpAddr::V6)])
        .flatten();
    let link_local = [IpAddr::V6(world.router.link_local)];
    let all: Vec<IpAddr> = extra
        .chain(odd)
        .chain(link_local)
        .filter(|a| a.is_ipv4() == is_ipv4)
        .collect();
    rng.pick(&all).copied()
}

/// Edges of subnets, and addresses that nobody may use.
pub(crate) fn special(rng: &mut Rng, world: &World<'_>, is_ipv4: bool) -> IpAddr {
    let model = world.model;
    let segment = model.segment(SegmentId(rng.usize(..model.segments.len())));
    if is_ipv4 {
        let edges = segment.ipv4.map(|s| [s.net.network(), s.net.broadcast()]);
        let [low, high] = edges.unwrap_or([Ipv4Addr::LOCALHOST; 2]);
        let fixed: [u8; 4] = rng.one_of([
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 255, 255, 250],
            [240, 0, 0, 1],
            [255, 255, 255, 255],
            [169, 254, 1, 1],
            [10, 255, 255, 1],
            [198, 51, 100, 1],
            [172, 31, 0, 1],
        ]);
        IpAddr::V4(rng.one_of([low, high, Ipv4Addr::from(fixed), Ipv4Addr::from(fixed)]))
    } else {
        let network = segment
            .ipv6
            .map_or(Ipv6Addr::LOCALHOST, |s| s.net.network());
        let fixed = rng.one_of([
            Ipv6Addr::UNSPECIFIED,
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a00, 1),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0x0a00, 1),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xfebf, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2),
            Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2),
            Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1),
            world.router.link_local,
        ]);
        IpAddr::V6(rng.one_of([network, fixed, fixed]))
    }
}
