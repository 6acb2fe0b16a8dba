//! The compiled tables agree with the naive evaluator on who may open a connection to whom.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netmodel::Model;
use netmodel::ids::MacAddr;
use netmodel::model::{Segment, SegmentId};
use oracle::fixtures::ROUTER_MAC;
use oracle::generate::{Rng, model};
use oracle::{Source, World, may_connect};
use policy_compiler::{Connection, RouterFacts, Tables, Tier, Verdict, compile};

const MODELS: u64 = 400;
const QUESTIONS_PER_MODEL: usize = 1_000;
const PORTS: [u16; 12] = [22, 53, 67, 80, 123, 443, 547, 3100, 5432, 8883, 9000, 0];

/// A question, and the segment that it comes from.
fn question(rng: &mut Rng, model: &Model) -> Option<(SegmentId, Connection)> {
    let id = SegmentId(rng.usize(..model.segments.len()));
    let segment = model.segment(id);
    let is_ipv4 = rng.bool();
    let source = host_address(rng, segment, is_ipv4)?;
    let destination = destination(rng, model, is_ipv4);
    let icmp = if is_ipv4 { 1 } else { 58 };
    let (protocol, port) = match rng.u8(0..10) {
        0..5 => (6, PORTS[rng.usize(..PORTS.len())]),
        5..8 => (17, PORTS[rng.usize(..PORTS.len())]),
        8 => (icmp, 0),
        _ => ([2, 47, 50, 132][rng.usize(..4)], 0),
    };
    let vlan_id = segment.vlan_id.as_u16();
    Some((
        id,
        Connection {
            vlan_id,
            source,
            destination,
            protocol,
            port,
        },
    ))
}

/// An address that section 4 lets pass as a source: in the subnet, and neither its edge nor gateway.
fn host_address(rng: &mut Rng, segment: &Segment, is_ipv4: bool) -> Option<IpAddr> {
    if is_ipv4 {
        let subnet = segment.ipv4?;
        let (network, broadcast) = (subnet.net.network(), subnet.net.broadcast());
        let address = near4(rng, network, broadcast);
        let is_edge = address == network || address == broadcast;
        let is_host = address != subnet.gateway && (!is_edge || subnet.net.prefix_len() > 30);
        is_host.then_some(IpAddr::V4(address))
    } else {
        let subnet = segment.ipv6?;
        let address = near6(rng, subnet.net.network(), subnet.net.broadcast());
        let is_host = address != subnet.gateway && address != subnet.net.network();
        is_host.then_some(IpAddr::V6(address))
    }
}

fn near4(rng: &mut Rng, first: Ipv4Addr, last: Ipv4Addr) -> Ipv4Addr {
    let (first, last) = (u32::from(first), u32::from(last));
    let bits = match rng.u8(0..8) {
        0..5 => first.saturating_add(rng.u32(0..24)).min(last),
        5 => last,
        6 => last.saturating_sub(1).max(first),
        _ => rng.u32(first..=last),
    };
    bits.into()
}

fn near6(rng: &mut Rng, first: Ipv6Addr, last: Ipv6Addr) -> Ipv6Addr {
    let (first, last) = (u128::from(first), u128::from(last));
    let bits = match rng.u8(0..8) {
        0..6 => (first + u128::from(rng.u8(0..24))).min(last),
        6 => last,
        _ => rng.u128(first..=last),
    };
    bits.into()
}

fn destination(rng: &mut Rng, model: &Model, is_ipv4: bool) -> IpAddr {
    match rng.u8(0..20) {
        0..9 => known_address(rng, model, is_ipv4),
        9..17 => address_of_segment(rng, model, is_ipv4),
        _ => None,
    }
    .unwrap_or_else(|| elsewhere(rng, is_ipv4))
}

/// An address of a host or service.
fn known_address(rng: &mut Rng, model: &Model, is_ipv4: bool) -> Option<IpAddr> {
    let interfaces = model.hosts.iter().flat_map(|host| &host.interfaces);
    let hosts = interfaces.map(|interface| (interface.ipv4, interface.ipv6));
    let services = model
        .services
        .iter()
        .map(|service| (service.ipv4, service.ipv6));
    let addresses = hosts.chain(services).filter_map(|(ipv4, ipv6)| {
        if is_ipv4 {
            ipv4.map(IpAddr::V4)
        } else {
            ipv6.map(IpAddr::V6)
        }
    });
    let addresses: Vec<_> = addresses.collect();
    (!addresses.is_empty()).then(|| addresses[rng.usize(..addresses.len())])
}

fn address_of_segment(rng: &mut Rng, model: &Model, is_ipv4: bool) -> Option<IpAddr> {
    let segment = &model.segments[rng.usize(..model.segments.len())];
    if is_ipv4 {
        let subnet = segment.ipv4?;
        let gateway = rng.u8(0..8) == 0;
        let address = near4(rng, subnet.net.network(), subnet.net.broadcast());
        Some(IpAddr::V4(if gateway { subnet.gateway } else { address }))
    } else {
        let subnet = segment.ipv6?;
        let gateway = rng.u8(0..8) == 0;
        let address = near6(rng, subnet.net.network(), subnet.net.broadcast());
        Some(IpAddr::V6(if gateway { subnet.gateway } else { address }))
    }
}

fn elsewhere(rng: &mut Rng, is_ipv4: bool) -> IpAddr {
    let ipv4 = [
        "8.8.8.8",
        "9.9.9.9",
        "198.51.100.7",
        "203.0.113.9",
        "203.0.112.1",
        "10.250.1.1",
        "100.64.0.1",
        "169.254.1.1",
        "172.16.9.9",
        "192.168.250.1",
        "0.0.0.0",
        "127.0.0.1",
        "240.0.0.1",
        "203.0.113.77",
    ];
    let ipv6 = [
        "2001:4860::1",
        "2606:4700::1",
        "2a00::1",
        "fd99::1",
        "fe80::1",
        "::1",
        "::",
        "::ffff:8.8.8.8",
        "64:ff9b::1",
        "2001:db8:ffff::1",
        "4000::1",
        "2001:db8:77::1",
    ];
    let texts: &[&str] = if is_ipv4 { &ipv4 } else { &ipv6 };
    texts[rng.usize(..texts.len())].parse().unwrap()
}

/// Addresses that the kernel would report: on no segment, on one, and on a host's place.
fn extra_addresses(rng: &mut Rng, model: &Model) -> Vec<IpAddr> {
    let count = rng.usize(0..4);
    (0..count)
        .map(|_| {
            let is_ipv4 = rng.bool();
            let found = address_of_segment(rng, model, is_ipv4);
            found
                .filter(|_| rng.bool())
                .unwrap_or_else(|| elsewhere(rng, is_ipv4))
        })
        .filter(|address| !is_martian(*address))
        .collect()
}

fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets()[0], 0 | 127 | 240..),
        IpAddr::V6(address) => address.octets()[0] == 0,
    }
}

/// What one side says: the rule's tier, or the reason.
fn said_by_tables(tables: &Tables, connection: &Connection) -> Result<Tier, &'static str> {
    match tables.judge(connection) {
        Verdict::Allow(id) => Ok(tables.rule(id).unwrap().tier),
        Verdict::Deny(reason) => Err(reason.name()),
    }
}

fn said_by_oracle(
    world: &World<'_>,
    id: SegmentId,
    connection: &Connection,
) -> Result<Tier, &'static str> {
    let Connection {
        source: address,
        destination,
        protocol,
        port,
        ..
    } = *connection;
    let segment = id;
    let source = Source { segment, address };
    let decision = may_connect(world, source, destination, protocol, port);
    match decision.reason() {
        Some(reason) => Err(reason.name()),
        None => Ok(match decision.tier {
            oracle::Tier::Platform => Tier::Platform,
            oracle::Tier::Tenant => Tier::Tenant,
            oracle::Tier::Baseline => Tier::Baseline,
        }),
    }
}

#[test]
fn tables_and_oracle_agree_on_every_question() {
    let (mut asked, mut allowed) = (0_u64, 0_u64);
    for seed in 0..MODELS {
        let mut rng = Rng::with_seed(seed);
        let model = model(&mut rng);
        let router = RouterFacts {
            mac: Some(MacAddr(ROUTER_MAC)),
            addresses: extra_addresses(&mut rng, &model),
            ..RouterFacts::default()
        };
        let tables = compile(&model, &router).unwrap();
        let mut world = World::new(&model, ROUTER_MAC, 1);
        world.router.extra_addresses.clone_from(&router.addresses);
        for _ in 0..QUESTIONS_PER_MODEL {
            let Some((id, connection)) = question(&mut rng, &model) else {
                continue;
            };
            let tables = said_by_tables(&tables, &connection);
            let oracle = said_by_oracle(&world, id, &connection);
            assert_eq!(tables, oracle, "seed {seed}: {connection:?}");
            asked += 1;
            allowed += u64::from(tables.is_ok());
        }
    }
    eprintln!("{asked} questions, {allowed} allowed");
    assert!(asked > 100_000, "only {asked} questions were asked");
    assert!(
        allowed > asked / 20,
        "only {allowed} of {asked} are allowed"
    );
}
