use oracle::fixtures::sample_model;
use oracle::frames::{Ether, Ip, Part, echo, flags, protocol, tcp, udp};

use crate::support::{API, check, check_with, ip, packet};

fn to(source: &str, to: &str, protocol: u8, payload: Vec<u8>) -> Ether {
    packet(API, &Ip::new(ip(source), ip(to), protocol, payload))
}

fn discover() -> Ether {
    to(API.ipv4, "255.255.255.255", protocol::UDP, udp(68, 67, b""))
}

fn solicit(source: &str) -> Ether {
    to(source, "ff02::1:2", protocol::UDP, udp(546, 547, b""))
}

fn first_fragment(source: &str, to: &str, client: u16) -> Ether {
    let server = if client == 68 { 67 } else { 547 };
    let mut ip = Ip::new(ip(source), ip(to), protocol::UDP, udp(client, server, b""));
    ip.part = Some(Part { id: 1, offset: 0, more: true });
    packet(API, &ip)
}

#[test]
fn only_dhcp_clients_may_send_to_groups() {
    let mdns = udp(5353, 5353, b"");
    check(vec![
        ("DHCP with an address", discover(), "to-kernel"),
        ("DHCPv6", solicit("fe80::9"), "to-kernel"),
        ("DHCPv6 with a global source", solicit(API.ipv6), "multicast-not-allowed"),
        ("DHCPv6 to all nodes", to("fe80::9", "ff02::1", protocol::UDP, udp(546, 547, b"")), "multicast-not-allowed"),
        ("DHCP in fragments", first_fragment(API.ipv4, "255.255.255.255", 68), "multicast-not-allowed"),
        ("DHCPv6 in fragments", first_fragment("fe80::9", "ff02::1:2", 546), "multicast-not-allowed"),
        ("mDNS", to(API.ipv4, "224.0.0.251", protocol::UDP, mdns.clone()), "multicast-not-allowed"),
        ("mDNS over IPv6", to("fe80::9", "ff02::fb", protocol::UDP, mdns), "multicast-not-allowed"),
        ("ping to broadcast", to(API.ipv4, "255.255.255.255", protocol::ICMP, echo(8, 1)), "multicast-not-allowed"),
        ("ping to all nodes", to(API.ipv6, "ff02::1", protocol::ICMPV6, echo(128, 1)), "multicast-not-allowed"),
        ("a DHCP offer to broadcast", to(API.ipv4, "255.255.255.255", protocol::UDP, udp(67, 68, b"")), "multicast-not-allowed"),
        ("TCP to a group", to(API.ipv4, "239.1.2.3", protocol::TCP, tcp(1, 2, flags::SYN)), "multicast-not-allowed"),
    ]);
}

#[test]
fn without_dhcp_at_the_gateway_nothing_goes_to_groups() {
    let mut model = sample_model();
    model.gateway_services.dhcp = false;
    check_with(
        &model,
        vec![
            ("DHCP", discover(), "multicast-not-allowed"),
            ("DHCPv6", solicit("fe80::9"), "multicast-not-allowed"),
        ],
    );
}
