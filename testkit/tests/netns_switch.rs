//! The switch carries real sockets' traffic inside of VLANs, and none between them. Needs root.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use testkit::frame::role::{ROUTER_MAC, TENANT_A, TENANT_B};
use testkit::frame::{BROADCAST, Frame, ParsedFrame};
use testkit::kernel_vlan::{vlan_devices_available, vlan_filtering_available};
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::switch::Switch;

/// A trunk and three hosts: `first` and `second` in VLAN 100, `other` in VLAN 101. All three hosts
/// have addresses of one subnet, so that only the switch is between them.
struct Bench {
    trunk: RawSocket,
    hosts: [NetNs; 3],
    switch: Switch,
    _namespaces: [NetNs; 2],
}

fn address(host: usize) -> IpAddr {
    format!("192.0.2.{}", host + 10)
        .parse()
        .expect("an address")
}

fn bench() -> anyhow::Result<Bench> {
    let (middle, router) = (NetNs::new("switch")?, NetNs::new("router")?);
    middle.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    middle.add_veth("trunk", &router, "eth0")?;
    router.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")?;
    router.set_up("eth0")?;
    middle.set_up("trunk")?;
    let hosts = [
        NetNs::new("first")?,
        NetNs::new("second")?,
        NetNs::new("other")?,
    ];
    for (number, host) in hosts.iter().enumerate() {
        let port = format!("port{number}");
        middle.add_veth(&port, host, "eth0")?;
        host.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")?;
        host.set_tx_checksum("eth0", false)?;
        host.set_up("eth0")?;
        middle.set_up(&port)?;
        host.add_address("eth0", address(number), 24)?;
    }
    let ports = [("port0", 100), ("port1", 100), ("port2", 101)];
    let switch = Switch::start(&middle, "trunk", &ports)?;
    let trunk = RawSocket::open(&router, "eth0")?;
    Ok(Bench {
        trunk,
        hosts,
        switch,
        _namespaces: [middle, router],
    })
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn megabyte_of_tcp_crosses_the_switch_unharmed() {
    let bench = bench().unwrap();
    let listener = bench.hosts[1]
        .run(|| TcpListener::bind((address(1), 80)))
        .unwrap();
    let mut client = bench.hosts[0]
        .run(|| TcpStream::connect((address(1), 80)))
        .unwrap();
    let sent: Vec<u8> = (0..=250u8).cycle().take(1 << 20).collect();
    let (mut server, _) = listener.accept().unwrap();
    let received = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            client.write_all(&sent).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        received
    });
    assert!(
        received == sent,
        "{} of {} octets",
        received.len(),
        sent.len()
    );
}

#[test]
fn nothing_crosses_from_one_vlan_to_another() {
    let bench = bench().unwrap();
    let ear = RawSocket::open(&bench.hosts[2], "eth0").unwrap();
    let socket = bench.hosts[0]
        .run(|| UdpSocket::bind((address(0), 9)))
        .unwrap();
    socket
        .send_to(b"to the other VLAN", (address(2), 9))
        .unwrap(); // ARP goes out first
    let raw = RawSocket::open(&bench.hosts[0], "eth0").unwrap();
    let hop = Frame::new(TENANT_A.mac, BROADCAST)
        .ipv4(TENANT_A.ipv4, TENANT_B.ipv4)
        .udp(1, 2);
    raw.send(&hop.clone().vlan(101).build()).unwrap();
    raw.send(&hop.build()).unwrap();
    let last = Frame::new(TENANT_B.mac, BROADCAST).payload(&[0; 46]);
    raw.send(&last.build()).unwrap();
    // When the trunk sees the last frame, all before it have been flooded everywhere.
    let seen = bench.trunk.receive_where(soon(), |frame| {
        let parsed = ParsedFrame::parse(frame)?;
        assert_eq!(parsed.vlan(), Some(100));
        (parsed.source == TENANT_B.mac).then_some(())
    });
    assert_eq!(seen.unwrap(), Some(()));
    assert_eq!(bench.switch.refused(), 1);
    assert_eq!(ear.try_receive().unwrap(), None);
}

#[test]
fn trunk_carries_tags_both_ways() {
    let bench = bench().unwrap();
    let ears: Vec<_> = bench
        .hosts
        .iter()
        .map(|host| RawSocket::open(host, "eth0").unwrap())
        .collect();
    let frame = Frame::new(ROUTER_MAC, BROADCAST).payload(&[5; 46]);
    bench.trunk.send(&frame.clone().vlan(101).build()).unwrap();
    assert_eq!(ears[2].receive(soon()).unwrap(), Some(frame.build()));
    assert_eq!(ears[0].try_receive().unwrap(), None);
    assert_eq!(ears[1].try_receive().unwrap(), None);
}

#[test]
fn probes_for_vlan_support_answer() {
    // Which answer is right depends on the kernel; that both agree with what can be made does not.
    let devices = vlan_devices_available().unwrap();
    let ns = NetNs::new("check").unwrap();
    ns.add_veth("a", &ns, "b").unwrap();
    assert_eq!(ns.add_vlan_device("a", 5, "a.5").is_ok(), devices);
    assert_eq!(ns.ifindex("a.5").is_ok(), devices);
    vlan_filtering_available().unwrap();
}
