//! Namespaces and links do what their docs say. Needs root.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

use testkit::netns::NetNs;
use testkit::wait::wait_for;

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const RIGHT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn pair() -> (NetNs, NetNs) {
    let make = || {
        let (left, right) = (NetNs::new("left")?, NetNs::new("right")?);
        left.add_veth("a0", &right, "b0")?;
        left.set_up("a0")?;
        right.set_up("b0")?;
        anyhow::Ok((left, right))
    };
    make().expect("root can make two namespaces and a veth pair")
}

fn links() -> String {
    std::fs::read_to_string("/proc/thread-self/net/dev").expect("every thread has a namespace")
}

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let outside = links();
    let ns = NetNs::new("inside").unwrap();
    let inside = ns.run(links);
    assert_eq!(inside.lines().count(), 3, "{inside}"); // two lines of heading, and lo
    assert_eq!(links(), outside);
}

#[test]
fn real_sockets_talk_over_a_veth_pair_in_both_families() {
    let (left, right) = pair();
    left.add_address("a0", LEFT, 24).unwrap();
    right.add_address("b0", RIGHT, 24).unwrap();
    left.add_address("a0", "2001:db8::1".parse().unwrap(), 64)
        .unwrap();
    right.add_address("b0", RIGHT_V6, 64).unwrap();
    for address in [RIGHT, RIGHT_V6] {
        let listener = right.run(|| TcpListener::bind((address, 7))).unwrap();
        let mut client = left.run(|| TcpStream::connect((address, 7))).unwrap();
        let (server, from) = listener.accept().unwrap();
        drop(server);
        assert_eq!(from.ip().is_ipv4(), address.is_ipv4());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn addresses_macs_and_routes_are_set() {
    let (left, right) = pair();
    let mac = [2, 0, 0, 0, 0, 7];
    left.set_mac("a0", mac).unwrap();
    assert_eq!(left.mac("a0").unwrap(), mac);
    left.set_mtu("a0", 1400).unwrap();
    left.add_address("a0", LEFT, 24).unwrap();
    left.add_default_route(RIGHT).unwrap();
    left.add_neighbour("a0", RIGHT, [2, 0, 0, 0, 0, 9]).unwrap();
    let routes = left
        .run(|| std::fs::read_to_string("/proc/thread-self/net/route"))
        .unwrap();
    assert!(routes.contains("a0\t00000000\t020200C0"), "{routes}");
    let neighbours = left
        .run(|| std::fs::read_to_string("/proc/thread-self/net/arp"))
        .unwrap();
    assert!(neighbours.contains("02:00:00:00:00:09"), "{neighbours}");
    assert!(right.ifindex("a0").is_err());
}

#[test]
fn dropping_a_namespace_takes_its_links_away() {
    let (left, right) = pair();
    drop(right);
    // The kernel takes a namespace down on a worker of its own: wait for it.
    wait_for("the peer's end to go", || {
        left.ifindex("a0").is_err().then_some(())
    })
    .unwrap();
}

#[test]
fn a_panic_inside_comes_out_and_the_namespace_is_usable() {
    let ns = NetNs::new("panic").unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ns.run(|| panic!("inside"));
    }));
    assert!(panicked.is_err());
    ns.ifindex("lo").unwrap();
}

#[test]
fn a_command_runs_inside() {
    let ns = NetNs::new("command").unwrap();
    let output = ns
        .command("/bin/cat")
        .arg("/proc/self/net/dev")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
}

#[test]
fn offloads_are_switched_and_read_back() {
    let (left, _right) = pair();
    left.set_tx_checksum("a0", false).unwrap();
    left.set_gro("a0", true).unwrap();
    let before = left.rx_vlan_offload("a0").unwrap();
    left.set_rx_vlan_offload("a0", before).unwrap();
    assert_eq!(left.rx_vlan_offload("a0").unwrap(), before);
    assert!(left.rx_vlan_offload("nothing").is_err());
}

#[test]
fn a_sysctl_of_one_namespace_is_its_own() {
    let (left, right) = (NetNs::new("left").unwrap(), NetNs::new("right").unwrap());
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    left.sysctl("net.ipv4.ip_forward", "1").unwrap();
    right.sysctl("net.ipv4.ip_forward", "0").unwrap();
    assert_eq!((left.run(read).trim(), right.run(read).trim()), ("1", "0"));
    assert!(left.sysctl("net.no.such.key", "1").is_err());
}
