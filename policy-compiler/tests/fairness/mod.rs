//! Section 11: what one of them takes, and that it takes it from nobody else. The evaluator knows no quotas, so the guards are
//! held here.

use dataplane_common::abi::*;
use dataplane_common::host::{HostTables, Slice};
use dataplane_common::policy::{self, Report, Scratch};
use dataplane_common::reason::DropReason;

use crate::models::{self, ROUTER_MAC};

const TICKS: u64 = 250;
const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const PORT: u32 = 7;
const QUOTA: u32 = 16;

/// A host: MAC, VLAN, address.
type Party = ([u8; 6], u16, [u8; 4]);
const A: Party = (MAC_A, 100, [10, 1, 0, 10]);
const B: Party = (MAC_B, 101, [10, 1, 1, 10]);
const GATEWAY: [u8; 4] = [10, 1, 0, 1];

/// A and B are hosts of one tenant, in segments of their own, of which each has a quota.
fn site() -> HostTables {
    let mut tables = models::two_hosts([MAC_A, MAC_B], 1500, 1);
    for segment in &mut tables.segments {
        segment.limits.connections = QUOTA;
    }
    let flags = &mut tables.segments[100].flags;
    *flags |= segment_flags::DHCP | segment_flags::ECHO;
    tables
}

fn ether(from: Party, to: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from.0].concat();
    frame.extend([0x81, 0]);
    frame.extend(from.1.to_be_bytes());
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `fragment`: flags and offset.
fn ipv4(from: [u8; 4], to: [u8; 4], (protocol, fragment): (u8, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend([from, to].concat());
    packet.extend(payload);
    packet
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

fn udp(from: Party, to: Party, (from_port, to_port): (u16, u16)) -> Vec<u8> {
    let datagram = [ports(from_port, to_port), vec![0, 8, 0, 0]].concat();
    ether(
        from,
        ROUTER_MAC,
        0x800,
        &ipv4(from.2, to.2, (17, 0), &datagram),
    )
}

fn tcp(from: Party, to: Party, (from_port, to_port): (u16, u16), flags: u8) -> Vec<u8> {
    let mut segment = ports(from_port, to_port);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    ether(
        from,
        ROUTER_MAC,
        0x800,
        &ipv4(from.2, to.2, (6, 0), &segment),
    )
}

fn arp() -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(MAC_A);
    arp.extend(A.2);
    arp.extend([0; 6]);
    arp.extend(GATEWAY);
    ether(A, [0xff; 6], 0x806, &arp)
}

/// A neighbour solicitation for a link-local address.
fn solicitation() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 7]);
    packet.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    ether(A, [0x33, 0x33, 0xff, 0, 0, 7], 0x86dd, &packet)
}

fn discover() -> Vec<u8> {
    let datagram = [ports(68, 67), vec![0, 8, 0, 0]].concat();
    let packet = ipv4([0; 4], [255; 4], (17, 0), &datagram);
    ether(A, [0xff; 6], 0x800, &packet)
}

/// A client that renews its lease: by unicast, packet after packet of one connection.
fn renewal() -> Vec<u8> {
    let gateway = (ROUTER_MAC, A.1, GATEWAY);
    udp(A, gateway, (68, 67))
}

fn echo(sequence: u16) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1];
    message.extend(sequence.to_be_bytes());
    ether(A, ROUTER_MAC, 0x800, &ipv4(A.2, GATEWAY, (1, 0), &message))
}

/// A first fragment of a datagram of one connection.
fn first_fragment() -> Vec<u8> {
    let datagram = [ports(1, 2), vec![0, 8, 0, 0]].concat();
    let packet = ipv4(A.2, B.2, (17, 0x2000), &datagram);
    ether(A, ROUTER_MAC, 0x800, &packet)
}

fn judge(tables: &HostTables, frame: &[u8]) -> Result<(), DropReason> {
    let slice = Slice {
        bytes: frame,
        tag: None,
    };
    tables.judge(&slice, &mut Report::default())
}

/// Connections that a holder has.
fn held(tables: &HostTables, holder: u32) -> usize {
    let flows = tables.flows.borrow();
    flows
        .values()
        .filter(|flow| flow.ticket.holder == holder)
        .count()
}

/// Opens a connection and answers it.
fn converse(tables: &HostTables, from: Party, to: Party, pair: (u16, u16)) {
    assert_eq!(judge(tables, &udp(from, to, pair)), Ok(()));
    assert_eq!(judge(tables, &udp(to, from, (pair.1, pair.0))), Ok(()));
}

/// Is it there, and has it been answered?
fn talks(tables: &HostTables, from: Party, to: Party, pair: (u16, u16)) -> bool {
    let flows = tables.flows.borrow();
    let mut of_pair = flows
        .iter()
        .filter(|(key, _)| [(key.port_a, key.port_b), (key.port_b, key.port_a)].contains(&pair));
    let opener = u32::from(from.1);
    let is_it = |flow: &FlowEntry| {
        flow.ticket.holder == opener && flow.sides[0].state == flow_state::REPLIED
    };
    to.1 != from.1 && of_pair.any(|(_, flow)| is_it(flow))
}

#[test]
fn flood_takes_its_own_quota_and_no_more() {
    let tables = site();
    for port in 1..=4 {
        converse(&tables, B, A, (port, 443));
    }
    for port in 1000..3000 {
        assert_eq!(judge(&tables, &udp(A, B, (port, 53))), Ok(()));
        let syn = tcp(A, B, (port, 80), 2);
        assert_eq!(judge(&tables, &syn), Ok(()));
    }
    assert_eq!(held(&tables, 100), QUOTA as usize);
    assert_eq!(held(&tables, 101), 4);
    for port in 1..=4 {
        assert!(talks(&tables, B, A, (port, 443)), "{port}");
    }
    assert_eq!(tables.tickets.borrow().len(), QUOTA as usize + 4);
}

#[test]
fn without_a_quota_of_its_own_a_segment_has_a_share() {
    let mut tables = site();
    tables.segments[100].limits.connections = 0;
    tables.generation.as_mut().unwrap().share = 5;
    for port in 1001..1100 {
        assert_eq!(judge(&tables, &udp(A, B, (port, 53))), Ok(()));
    }
    assert_eq!(held(&tables, 100), 5);
}

#[test]
fn answered_connections_outlive_a_flood_of_their_own_holder() {
    let tables = site();
    for port in 1..=3 {
        converse(&tables, A, B, (port, 443));
    }
    for port in 1000..3000 {
        judge(&tables, &udp(A, B, (port, 53))).unwrap();
    }
    for port in 1..=3 {
        assert!(talks(&tables, A, B, (port, 443)), "{port}");
    }
    // An answer long ago is none.
    tables.now.set(tables.now.get() + 181 * TICKS);
    for port in 1000..1100 {
        judge(&tables, &udp(A, B, (port, 53))).unwrap();
    }
    assert!(!(1..=3).any(|port| talks(&tables, A, B, (port, 443))));
}

#[test]
fn where_all_are_answered_one_goes_for_each_that_comes() {
    let tables = site();
    for port in 1001..=1200 {
        converse(&tables, A, B, (port, 443));
        assert!(talks(&tables, A, B, (port, 443)), "{port}");
    }
    assert_eq!(held(&tables, 100), QUOTA as usize);
}

#[test]
fn connection_that_the_other_side_opened_again_is_not_the_first_ones_to_push_out() {
    let tables = site();
    judge(&tables, &udp(A, B, (1, 2))).unwrap();
    tables.now.set(tables.now.get() + 31 * TICKS);
    judge(&tables, &udp(B, A, (2, 1))).unwrap();
    assert_eq!((held(&tables, 100), held(&tables, 101)), (0, 1));
    for port in 1000..1100 {
        judge(&tables, &udp(A, B, (port, 53))).unwrap();
    }
    assert_eq!(
        (held(&tables, 100), held(&tables, 101)),
        (QUOTA as usize, 1)
    );
}

#[test]
fn packets_of_a_live_connection_take_no_ticket_and_no_credit() {
    let mut tables = site();
    tables.segments[100].limits.rates = [5, 1, 1, 1];
    for _ in 0..100 {
        assert_eq!(judge(&tables, &tcp(A, B, (1, 80), 2)), Ok(()), "repeated");
    }
    assert_eq!(judge(&tables, &tcp(B, A, (80, 1), 0x12)), Ok(()));
    for _ in 0..100 {
        assert_eq!(judge(&tables, &tcp(A, B, (1, 80), 0x10)), Ok(()));
    }
    assert_eq!(tables.tickets.borrow().len(), 1);
    assert_eq!(tables.holders.borrow()[&100].tickets, 1);
}

#[test]
fn new_connections_beyond_the_rate_are_dropped_and_live_ones_are_not() {
    let mut tables = site();
    tables.segments[100].limits.rates[limit_kind::CONNECTION] = 10;
    let passed = |tables: &HostTables, from: u16| {
        let open = |port: u16| judge(tables, &tcp(A, B, (from + port, 80), 2));
        let judged: Vec<_> = (0..100).map(open).collect();
        let limited = Err(DropReason::RateLimited);
        assert!(judged.iter().all(|seen| seen.is_ok() || *seen == limited));
        judged.iter().filter(|seen| seen.is_ok()).count()
    };
    assert_eq!(passed(&tables, 1000), 10, "at once");
    assert_eq!(passed(&tables, 2000), 0, "no more");
    assert_eq!(held(&tables, 100), 10);
    assert_eq!(judge(&tables, &tcp(B, A, (80, 1000), 0x12)), Ok(()));
    assert_eq!(judge(&tables, &tcp(A, B, (1000, 80), 0x10)), Ok(()));
    // B is another's.
    assert_eq!(judge(&tables, &udp(B, A, (1, 2))), Ok(()));
    tables.now.set(tables.now.get() + TICKS / 2);
    assert_eq!(passed(&tables, 3000), 5, "half a second later");
}

#[test]
fn what_is_not_lawful_keeps_its_reason_and_costs_nothing() {
    let mut tables = site();
    tables.segments[100].limits.rates = [4; 4];
    let elsewhere = (MAC_B, 101, [10, 99, 0, 1]);
    let mut forged = arp();
    forged[31] = 99;
    for _ in 0..50 {
        let denied = judge(&tables, &udp(A, elsewhere, (1, 2)));
        assert_eq!(denied, Err(DropReason::NotInternet));
        let denied = judge(&tables, &forged);
        assert!(
            !matches!(denied, Ok(()) | Err(DropReason::RateLimited)),
            "{denied:?}"
        );
    }
    assert_eq!(judge(&tables, &udp(A, B, (1, 2))), Ok(()));
    assert_eq!(judge(&tables, &arp()), Ok(()));
}

#[test]
fn each_kind_has_a_rate_of_its_own() {
    let frames = [
        ("arp", limit_kind::NEIGHBOUR, arp()),
        (
            "neighbour solicitation",
            limit_kind::NEIGHBOUR,
            solicitation(),
        ),
        ("dhcp", limit_kind::DHCP, discover()),
        ("dhcp by unicast", limit_kind::DHCP, renewal()),
        ("echo", limit_kind::NEIGHBOUR, echo(1)),
        ("fragment", limit_kind::FRAGMENT, first_fragment()),
    ];
    for (what, kind, frame) in &frames {
        let mut tables = site();
        tables.segments[100].limits.rates[*kind] = 6;
        let passed = (0..50).filter(|_| judge(&tables, frame).is_ok()).count();
        assert_eq!(passed, 6, "{what}");
        assert_eq!(
            judge(&tables, frame),
            Err(DropReason::RateLimited),
            "{what}"
        );
        // All else goes on.
        for (other, its_kind, frame) in &frames {
            if its_kind != kind {
                assert_eq!(judge(&tables, frame), Ok(()), "{other} beside {what}");
            }
        }
        tables.now.set(tables.now.get() + TICKS);
        assert_eq!(judge(&tables, frame), Ok(()), "{what}, a second later");
    }
    let tables = site();
    for (what, _, frame) in &frames {
        assert!(
            (0..1000).all(|_| judge(&tables, frame).is_ok()),
            "{what}, without a rate"
        );
    }
}

#[test]
fn nobody_takes_anothers_credit_for_dhcp() {
    let mut tables = site();
    tables.segments[101].limits.rates[limit_kind::DHCP] = 4;
    // DHCPv6's port means nothing in IPv4: B answers who asked from it, again and again.
    for _ in 0..50 {
        assert_eq!(judge(&tables, &udp(A, B, (547, 53))), Ok(()));
        assert_eq!(judge(&tables, &udp(B, A, (53, 547))), Ok(()));
    }
    let asked = judge(&tables, &udp(A, B, (67, 53)));
    assert_eq!(
        asked,
        Err(DropReason::DhcpServer),
        "nor can DHCPv4's be asked from"
    );
}

/// A is behind a port; B is somewhere behind the uplink, in the same segment as its router says.
fn hypervisor() -> HostTables {
    let mut tables = site();
    tables.segments[100].port_rates = [3, 2, 0, 0];
    let (mac, vlan_id) = (Mac::from_octets(MAC_A), A.1);
    let port = PortEntry {
        mac,
        vlan_id,
        promised: 0,
        connections: 5,
    };
    tables.ports.insert(PORT, port);
    let at = StationEntry {
        ifindex: PORT,
        vlan_id,
        _pad: 0,
    };
    tables.stations.insert(StationKey { mac, _pad: 0 }, at);
    tables
}

fn from_port(tables: &HostTables, frame: &[u8]) -> Result<(), DropReason> {
    let bytes = &[&frame[..12], &frame[16..]].concat();
    let mut scratch = Box::<Scratch>::default();
    policy::from_tenant(&Slice { bytes, tag: None }, PORT, tables, &mut scratch)
}

/// As the router passes it on.
fn from_router(tables: &HostTables, frame: &[u8]) -> Result<(), DropReason> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&MAC_A);
    frame[6..12].copy_from_slice(&ROUTER_MAC);
    frame[14..16].copy_from_slice(&A.1.to_be_bytes());
    let slice = Slice {
        bytes: &frame,
        tag: None,
    };
    policy::from_router(&slice, tables, &mut Box::<Scratch>::default())
}

#[test]
fn port_pays_for_what_its_endpoint_opens_and_a_segment_for_what_comes_in() {
    let mut tables = hypervisor();
    tables.segments[101].limits.connections = 4;
    for second in 0..20_u16 {
        let open = |port: u16| from_port(&tables, &udp(A, B, (second * 100 + port, 53)));
        assert_eq!(
            (0..50).filter(|port| open(*port).is_ok()).count(),
            if second == 0 { 4 } else { 3 }
        );
        let from_beyond = |port: u16| from_router(&tables, &udp(B, A, (second * 100 + port, 53)));
        assert!(
            (0..50).all(|port| from_beyond(port).is_ok()),
            "no rate for the segment"
        );
        tables.now.set(tables.now.get() + TICKS);
    }
    assert_eq!(held(&tables, PORT_HOLDER | PORT), 5);
    assert_eq!(held(&tables, 101), 4);
    assert_eq!(held(&tables, 100), 0);
    let arps = (0..50).filter(|_| from_port(&tables, &arp()).is_ok());
    assert_eq!(arps.count(), 4, "a bucket holds four at least");
}

#[test]
fn port_that_was_used_before_does_not_pay_for_what_comes_over_the_uplink() {
    let tables = hypervisor();
    let mut scratch = Box::<Scratch>::default();
    let frame = udp(A, B, (1, 2));
    let bytes = &[&frame[..12], &frame[16..]].concat();
    policy::from_tenant(&Slice { bytes, tag: None }, PORT, &tables, &mut scratch).unwrap();
    let mut frame = udp(B, A, (9, 9));
    frame[..6].copy_from_slice(&MAC_A);
    frame[6..12].copy_from_slice(&ROUTER_MAC);
    frame[14..16].copy_from_slice(&A.1.to_be_bytes());
    let slice = Slice {
        bytes: &frame,
        tag: None,
    };
    policy::from_router(&slice, &tables, &mut scratch).unwrap();
    assert_eq!(
        (held(&tables, PORT_HOLDER | PORT), held(&tables, 101)),
        (1, 1)
    );
}

/// Octets of `frame` that pass of `count` that come at once; the rest is refused for the bandwidth.
fn octets_of(frame: &[u8], count: u64, judge: impl Fn() -> Result<(), DropReason>) -> u64 {
    let judged: Vec<_> = (0..count).map(|_| judge()).collect();
    let over = Err(DropReason::OverBandwidth);
    assert!(judged.iter().all(|seen| seen.is_ok() || *seen == over));
    frame.len() as u64 * judged.iter().filter(|seen| seen.is_ok()).count() as u64
}

/// What 1 Mbit/s carries in a tenth of a second, and the frame that began before its end.
fn is_a_burst(octets: u64, frame: &[u8]) -> bool {
    (12_500..=12_500 + frame.len() as u64).contains(&octets)
}

#[test]
fn segments_of_a_tenant_have_its_bandwidth_together_and_another_tenant_has_its_own() {
    for (tenant_of_b, is_shared) in [(1, true), (2, false)] {
        let mut tables = site();
        for (vlan_id, tenant) in [(100, 1), (101, tenant_of_b)] {
            tables.segments[vlan_id].tenant = tenant;
            tables.segments[vlan_id].octet_time = octet_time(1_000);
        }
        converse(&tables, A, B, (1, 2));
        // Packets of a live connection, and such as open one.
        for frame in [udp(A, B, (1, 2)), tcp(A, B, (7, 7), 2)] {
            tables
                .nanoseconds
                .set(tables.nanoseconds.get() + 1_000_000_000);
            let passed = octets_of(&frame, 1000, || judge(&tables, &frame));
            assert!(is_a_burst(passed, &frame), "{passed}");
        }
        let back = judge(&tables, &udp(B, A, (2, 1)));
        let expected = if is_shared {
            Err(DropReason::OverBandwidth)
        } else {
            Ok(())
        };
        assert_eq!(back, expected, "tenant {tenant_of_b}");
        // 8 ms are 1,000 octets.
        tables.nanoseconds.set(tables.nanoseconds.get() + 8_000_000);
        let frame = udp(A, B, (1, 2));
        let passed = octets_of(&frame, 1000, || judge(&tables, &frame));
        assert!((900..=1100).contains(&passed), "{passed}");
    }
}

#[test]
fn what_is_not_lawful_costs_no_bandwidth() {
    let mut tables = site();
    tables.segments[100].octet_time = octet_time(1_000);
    let elsewhere = (MAC_B, 101, [10, 99, 0, 1]);
    for _ in 0..1000 {
        let denied = judge(&tables, &udp(A, elsewhere, (1, 2)));
        assert_eq!(denied, Err(DropReason::NotInternet));
    }
    assert_eq!(judge(&tables, &udp(A, B, (1, 2))), Ok(()));
}

/// Judges a frame on its way out; tells when it may leave.
fn leaves(
    tables: &HostTables,
    frame: &[u8],
    exit: impl Fn(&Slice<'_>, &HostTables, &mut Scratch) -> Result<(), DropReason>,
) -> Result<u64, DropReason> {
    let mut scratch = Box::<Scratch>::default();
    let slice = Slice {
        bytes: frame,
        tag: None,
    };
    exit(&slice, tables, &mut scratch)?;
    Ok(scratch.report.departs)
}

#[test]
fn endpoint_sends_and_receives_at_its_bandwidth_and_what_it_receives_waits() {
    const MARK: u32 = judged_mark(0, A.1);
    let uplink = |tables: &HostTables, frame: &[u8]| {
        leaves(tables, frame, |f, t, s| {
            policy::to_uplink(f, (PORT, MARK), t, s)
        })
    };
    let port = |tables: &HostTables, frame: &[u8]| {
        leaves(tables, frame, |f, t, s| {
            policy::to_tenant(f, (PORT, MARK), t, s)
        })
    };
    let mut tables = hypervisor();
    let sent = udp(A, B, (1, 2));
    let from = |mac: [u8; 6]| [&MAC_A, &mac[..], &sent[16..]].concat();
    let received = from(ROUTER_MAC);
    // Without a bandwidth nothing waits.
    assert_eq!(
        (uplink(&tables, &sent), port(&tables, &received)),
        (Ok(0), Ok(0))
    );
    tables.segments[100].port_octet_time = octet_time(1_000);
    let now = tables.nanoseconds.get();
    // 42 octets take 336 µs.
    for turn in 0..5 {
        assert_eq!(port(&tables, &received), Ok(now + turn * 336_000));
        assert_eq!(uplink(&tables, &sent), Ok(0), "others are behind it there");
    }
    let passed = octets_of(&sent, 1000, || uplink(&tables, &sent).map(drop));
    assert!(
        is_a_burst(passed + 5 * sent.len() as u64, &sent),
        "{passed}"
    );
    // It receives all the same, from the router and from elsewhere.
    let passed = octets_of(&received, 1000, || port(&tables, &received).map(drop));
    assert!(
        is_a_burst(passed + 5 * received.len() as u64, &received),
        "{passed}"
    );
    // What goes to a group has rates of its own: the bridge makes a copy for each port.
    let group = [&[0xff; 6], &MAC_A[..], &sent[12..]].concat();
    assert_eq!(uplink(&tables, &group), Ok(0));
    let mut request = arp();
    request[..6].copy_from_slice(&ROUTER_MAC);
    assert_eq!(uplink(&tables, &request), Ok(0), "ARP to one of them, too");
    let group = [&[0xff; 6], &ROUTER_MAC[..], &sent[16..]].concat();
    assert_eq!(port(&tables, &group), Ok(0));
    tables.nanoseconds.set(now + 1_000_000_000);
    assert_eq!(port(&tables, &from(MAC_B)), Ok(now + 1_000_000_000));
    // What a neighbour on this host sends is paid by both.
    tables.nanoseconds.set(now + 2_000_000_000);
    let neighbour = StationEntry {
        ifindex: 9,
        vlan_id: A.1,
        _pad: 0,
    };
    let mac = Mac::from_octets(MAC_B);
    tables
        .stations
        .insert(StationKey { mac, _pad: 0 }, neighbour);
    let passed = octets_of(&received, 1000, || port(&tables, &from(MAC_B)).map(drop));
    assert!(is_a_burst(passed, &received), "{passed}");
    let busy = |number: u32| tables.holders.borrow()[&(PORT_HOLDER | number)].busy_until;
    let now = tables.nanoseconds.get();
    assert!(busy(9)[way::SENT] > now + 100_000_000);
    assert!(busy(PORT)[way::RECEIVED] > now + 99_000_000);
    assert_eq!(busy(9)[way::RECEIVED], 0);
}
