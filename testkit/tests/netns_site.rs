//! A site without a data plane: everybody reaches everybody through the router. This is the control
//! of every test that says "dropped" on the same site. Needs root.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use testkit::netns::NetNs;
use testkit::site::{HostSpec, SegmentSpec, Site, SiteSpec, UplinkSpec, Wiring, segment_device};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn host(name: &str, vlan: u16, last: u8) -> HostSpec {
    HostSpec {
        name: name.to_owned(),
        vlan,
        mac: [2, 0, 0, 0, 0, last],
        addresses: vec![
            (ip(&format!("10.{vlan}.0.{last}")), 24),
            (ip(&format!("fd00:{vlan}::{last}")), 64),
        ],
        gateways: vec![
            ip(&format!("10.{vlan}.0.1")),
            ip(&format!("fd00:{vlan}::1")),
        ],
    }
}

fn spec() -> SiteSpec {
    let segment = |vlan: u16| SegmentSpec {
        vlan,
        gateways: vec![
            (ip(&format!("10.{vlan}.0.1")), 24),
            (ip(&format!("fd00:{vlan}::1")), 64),
        ],
    };
    SiteSpec {
        trunk: "eth0".to_owned(),
        router_mac: [0, 0xe0, 0x4c, 0x29, 0x1e, 0x50],
        segments: vec![
            segment(100),
            segment(101),
            SegmentSpec {
                vlan: 999,
                gateways: vec![],
            },
        ],
        hosts: vec![
            host("a", 100, 10),
            host("b", 101, 11),
            host("neighbour", 100, 12),
        ],
        uplink: Some(UplinkSpec {
            interface: "eth1".to_owned(),
            router: vec![(ip("203.0.113.1"), 24), (ip("2001:db8:ffff::1"), 64)],
            internet: vec![(ip("203.0.113.80"), 24), (ip("2001:db8:ffff::80"), 64)],
        }),
    }
}

/// Asks over UDP and answers; returns from where the question seemed to come.
fn ask(from: &NetNs, to: &NetNs, address: IpAddr) -> SocketAddr {
    let bind = |ns: &NetNs, address| {
        let socket = ns
            .run(|| UdpSocket::bind(address))
            .expect("the address is there");
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout can be set");
        socket
    };
    let any: IpAddr = if address.is_ipv4() {
        ip("0.0.0.0")
    } else {
        ip("::")
    };
    let (server, client) = (bind(to, (address, 5353)), bind(from, (any, 0)));
    client
        .send_to(b"question", (address, 5353))
        .expect("there is a route");
    let mut buffer = [0; 16];
    let (length, source) = server.recv_from(&mut buffer).expect("the question arrives");
    assert_eq!(&buffer[..length], b"question");
    server
        .send_to(b"answer", source)
        .expect("there is a route back");
    let (length, answerer) = client.recv_from(&mut buffer).expect("the answer arrives");
    assert_eq!(
        (&buffer[..length], answerer.ip()),
        (b"answer".as_slice(), address)
    );
    source
}

#[test]
fn hosts_reach_neighbours_other_segments_gateways_and_the_internet() {
    let site = Site::build(&spec(), Wiring::best().unwrap()).unwrap();
    let (a, b) = (site.host("a").unwrap(), site.host("b").unwrap());
    let neighbour = site.host("neighbour").unwrap();
    for (from, to, address, source) in [
        (a, neighbour, "10.100.0.12", "10.100.0.10"),
        (a, b, "10.101.0.11", "10.100.0.10"),
        (a, b, "fd00:101::11", "fd00:100::10"),
        (a, &site.router, "10.100.0.1", "10.100.0.10"),
        (b, &site.router, "fd00:101::1", "fd00:101::11"),
        (
            b,
            site.internet.as_ref().unwrap(),
            "203.0.113.80",
            "10.101.0.11",
        ),
        (
            b,
            site.internet.as_ref().unwrap(),
            "2001:db8:ffff::80",
            "fd00:101::11",
        ),
    ] {
        assert_eq!(ask(from, to, ip(address)).ip(), ip(source), "to {address}");
    }
    assert_eq!(site.refused_frames(), 0);
}

#[test]
fn the_router_has_one_mac_everywhere_and_no_device_on_an_unrouted_vlan() {
    let site = Site::build(&spec(), Wiring::best().unwrap()).unwrap();
    for device in ["eth0", &segment_device(100), &segment_device(101)] {
        assert_eq!(site.router.mac(device).unwrap(), spec().router_mac);
    }
    assert!(site.router.ifindex(&segment_device(999)).is_err());
    assert!(site.host("nobody").is_err());
}
