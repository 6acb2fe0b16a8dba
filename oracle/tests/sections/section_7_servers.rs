use oracle::frames::{Ether, Ip, echo, protocol, udp};

use crate::support::{API, check, ip, own_packet, packet};

fn send(to: &str, protocol: u8, payload: Vec<u8>) -> Ether {
    packet(API, &own_packet(API, to, protocol, payload))
}

#[test]
fn only_the_router_is_a_dhcp_server() {
    check(vec![
        ("to a client", send("10.101.0.10", protocol::UDP, udp(1000, 68, b"")), "dhcp-server"),
        ("from a server", send("1.1.1.1", protocol::UDP, udp(67, 1000, b"")), "dhcp-server"),
        ("from a server to the gateway", send("10.100.0.1", protocol::UDP, udp(67, 67, b"")), "dhcp-server"),
        ("to an IPv6 client", send("fd00:101::10", protocol::UDP, udp(1000, 546, b"")), "dhcp-server"),
        ("from an IPv6 server", send("2606:4700::1", protocol::UDP, udp(547, 1000, b"")), "dhcp-server"),
        ("IPv6's ports in IPv4", send("1.1.1.1", protocol::UDP, udp(547, 546, b"")), "to-kernel"),
        ("IPv4's ports in IPv6", send("2606:4700::1", protocol::UDP, udp(67, 68, b"")), "to-kernel"),
        ("a client that renews", send("10.100.0.1", protocol::UDP, udp(68, 67, b"")), "to-kernel"),
    ]);
}

#[test]
fn only_echo_and_errors_are_icmp() {
    let v4 = |kind| send("1.1.1.1", protocol::ICMP, echo(kind, 1));
    let v6 = |kind| send("2606:4700::1", protocol::ICMPV6, echo(kind, 1));
    let crossed = Ip::new(ip(API.ipv6), ip("2606:4700::1"), protocol::ICMP, echo(5, 1));
    check(vec![
        ("echo request", v4(8), "to-kernel"),
        ("echo request over IPv6", v6(128), "to-kernel"),
        ("redirect", v4(5), "icmp-redirect"),
        ("source quench", v4(4), "icmp-type"),
        ("timestamp", v4(13), "icmp-type"),
        ("router advertisement", v4(9), "icmp-type"),
        ("reserved in ICMPv6", v6(0), "icmp-type"),
        ("node information", v6(139), "icmp-type"),
        ("private use in ICMPv6", v6(200), "icmp-type"),
        ("ICMP over IPv6", packet(API, &crossed), "icmp-type"),
        ("ICMPv6 over IPv4", send("1.1.1.1", protocol::ICMPV6, echo(128, 1)), "icmp-type"),
    ]);
}
