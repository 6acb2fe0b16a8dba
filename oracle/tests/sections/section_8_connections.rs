use netmodel::Model;
use oracle::fixtures::{sample_model, segments, tenants};
use oracle::frames::{Ether, Ip, echo, flags, icmp, protocol, tcp, udp};

use crate::support::{
    API, Host, LAPTOP, QUIET_DB, QUIET_WEB, Router, STRANGER, WEB, ip, own_packet, packet,
};

use flags::{ACK, FIN, RST, SYN};

fn send(from: Host, to: Host, is_ipv4: bool, protocol: u8, payload: Vec<u8>) -> Ether {
    packet(
        from,
        &own_packet(
            from,
            if is_ipv4 { to.ipv4 } else { to.ipv6 },
            protocol,
            payload,
        ),
    )
}

/// vintronics' web server to grooveiq's API: offered and used.
fn ask(tcp_flags: u8) -> Ether {
    send(WEB, API, true, protocol::TCP, tcp(40_000, 443, tcp_flags))
}

fn answer(tcp_flags: u8) -> Ether {
    send(API, WEB, true, protocol::TCP, tcp(443, 40_000, tcp_flags))
}

fn established(model: &Model) -> Router<'_> {
    let mut router = Router::new(model);
    router.expect("SYN", &ask(SYN), "forwarded");
    router.expect("SYN+ACK", &answer(SYN | ACK), "forwarded");
    router.expect("ACK", &ask(ACK), "forwarded");
    router
}

#[test]
fn replies_pass_and_nothing_else_does() {
    let model = sample_model();
    let mut router = Router::new(&model);
    router.expect("an answer before the question", &answer(SYN | ACK), "tcp-no-connection");
    router.expect("data before the SYN", &ask(ACK), "tcp-no-connection");
    router.expect("SYN+FIN of no connection", &ask(SYN | FIN), "tcp-flags");
    router.expect("SYN+RST of no connection", &ask(SYN | RST), "tcp-flags");
    router.expect("the other way round", &answer(SYN), "other-tenant");
    router.expect("the SYN", &ask(SYN), "forwarded");
    router.expect("its answer", &answer(SYN | ACK), "forwarded");
    let other_port = send(API, WEB, true, protocol::TCP, tcp(443, 40_001, SYN | ACK));
    router.expect("an answer to another port", &other_port, "tcp-no-connection");
    let other_family = send(API, WEB, false, protocol::TCP, tcp(443, 40_000, SYN | ACK));
    router.expect("an answer in the other family", &other_family, "tcp-no-connection");
}

#[test]
fn flags_fit_the_side() {
    let model = sample_model();
    let mut router = established(&model);
    router.expect("SYN+ACK of the opener", &ask(SYN | ACK), "tcp-flags");
    router.expect("SYN+FIN", &answer(SYN | FIN), "tcp-flags");
    router.expect("SYN+RST", &ask(SYN | RST), "tcp-flags");
    router.expect("a SYN of the answering side, which may open nothing", &answer(SYN), "other-tenant");
    router.expect("a SYN once more", &ask(SYN), "forwarded");
    router.expect("no flags at all", &answer(0), "forwarded");
}

#[test]
fn an_opening_lives_for_a_minute() {
    let model = sample_model();
    let mut router = Router::new(&model);
    router.expect("SYN", &ask(SYN), "forwarded");
    router.now += 59;
    router.expect("SYN+ACK", &answer(SYN | ACK), "forwarded");
    router.now += 59;
    router.expect("SYN+ACK once more", &answer(SYN | ACK), "forwarded");
    router.now += 60;
    router.expect("too late", &answer(SYN | ACK), "tcp-no-connection");
}

#[test]
fn an_established_connection_lives_for_two_hours_and_four_minutes() {
    let model = sample_model();
    let mut router = established(&model);
    router.now += 7439;
    router.expect("after 2 h 3 min 59 s", &answer(ACK), "forwarded");
    router.now += 7440;
    router.expect("after 2 h 4 min", &answer(ACK), "tcp-no-connection");
}

#[test]
fn closing_takes_a_minute_and_a_reset_ten_seconds() {
    let model = sample_model();
    let mut router = established(&model);
    router.expect("FIN", &ask(FIN | ACK), "forwarded");
    router.now += 59;
    router.expect("FIN of the other side", &answer(FIN | ACK), "forwarded");
    router.now += 60;
    router.expect("after a minute", &ask(ACK), "tcp-no-connection");
    let mut router = established(&model);
    router.expect("RST", &answer(RST), "forwarded");
    router.now += 9;
    router.expect("FIN 9 s after it", &ask(FIN | ACK), "forwarded");
    router.now += 9;
    router.expect("data 9 s later", &ask(ACK), "forwarded");
    router.now += 10;
    router.expect("10 s after that", &ask(ACK), "tcp-no-connection");
}

#[test]
fn a_connection_to_the_internet_is_established_by_the_opener_alone() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let to_internet = |tcp_flags| {
        packet(API, &own_packet(API, "1.1.1.1", protocol::TCP, tcp(40_000, 443, tcp_flags)))
    };
    router.expect("SYN", &to_internet(SYN), "to-kernel");
    router.expect("SYN once more", &to_internet(SYN), "to-kernel");
    router.now += 59;
    router.expect("ACK", &to_internet(ACK), "to-kernel");
    router.now += 7439;
    router.expect("two hours later", &to_internet(ACK), "to-kernel");
}

#[test]
fn a_connection_to_a_host_is_established_by_both() {
    let model = sample_model();
    let mut router = Router::new(&model);
    router.expect("SYN", &ask(SYN), "forwarded");
    router.expect("ACK without an answer", &ask(ACK), "forwarded");
    router.now += 60;
    router.expect("a minute later", &ask(ACK), "tcp-no-connection");
    router.expect("SYN", &ask(SYN), "forwarded");
    router.expect("an answer without SYN", &answer(ACK), "forwarded");
    router.now += 7439;
    router.expect("two hours later", &ask(ACK), "forwarded");
}

#[test]
fn the_same_ports_can_open_again_after_a_reset() {
    let model = sample_model();
    let mut router = established(&model);
    router.expect("RST", &answer(RST | ACK), "forwarded");
    router.expect("SYN again", &ask(SYN), "forwarded");
    router.now += 30;
    router.expect("its answer", &answer(SYN | ACK), "forwarded");
}

#[test]
fn udp_lives_longer_after_a_reply() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let ask = send(QUIET_WEB, WEB, true, protocol::UDP, udp(1000, 5000, b""));
    let reply = send(WEB, QUIET_WEB, true, protocol::UDP, udp(5000, 1000, b""));
    router.expect("a reply to nothing", &reply, "other-tenant");
    router.expect("a datagram", &ask, "forwarded");
    router.now += 30;
    router.expect("a reply after 30 s", &reply, "other-tenant");
    router.expect("a datagram", &ask, "forwarded");
    router.now += 29;
    router.expect("a reply in time", &reply, "forwarded");
    router.now += 179;
    router.expect("another one", &reply, "forwarded");
    router.now += 180;
    router.expect("after 180 s", &reply, "other-tenant");
}

#[test]
fn echo_is_answered_once_asked() {
    let model = sample_model();
    for (is_ipv4, number, request, reply) in [
        (true, protocol::ICMP, 8, 0),
        (false, protocol::ICMPV6, 128, 129),
    ] {
        let mut router = Router::new(&model);
        let quiet = |from, to, kind, id| send(from, to, is_ipv4, number, echo(kind, id));
        let asked = quiet(QUIET_DB, QUIET_WEB, request, 7);
        let replied = quiet(QUIET_WEB, QUIET_DB, reply, 7);
        router.expect("a reply to nothing", &replied, "icmp-error-unrelated");
        router.expect("a request", &asked, "forwarded");
        router.expect("its reply", &replied, "forwarded");
        let other = quiet(QUIET_WEB, QUIET_DB, reply, 8);
        router.expect("a reply with another identifier", &other, "icmp-error-unrelated");
        let back = quiet(QUIET_WEB, QUIET_DB, request, 7);
        router.expect("a request the other way round is judged itself", &back, "tenant-rule");
        let odd = quiet(QUIET_DB, QUIET_WEB, reply, 7);
        router.expect("a reply of who asked", &odd, "icmp-error-unrelated");
        router.now += 30;
        router.expect("a reply after 30 s", &replied, "icmp-error-unrelated");
    }
}

#[test]
fn other_protocols_have_no_ports_and_live_for_ten_minutes() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let ask = send(QUIET_WEB, QUIET_DB, true, protocol::SCTP, vec![1, 2, 3]);
    router.expect("the first packet", &ask, "forwarded");
    router.now += 599;
    router.expect("a reply", &send(QUIET_DB, QUIET_WEB, true, 132, vec![9; 40]), "forwarded");
    assert_eq!(router.state.connections.len(), 1);
    router.now += 600;
    router.expect("a frame of anybody", &send(WEB, API, true, 132, vec![]), "other-tenant");
    assert!(router.state.connections.is_empty());
}

/// An ICMP error about `quoted`, from `from` (with source `source`).
fn error(from: Host, source: &str, to: &str, quoted: &[u8]) -> Ether {
    let (protocol, kind) = if ip(to).is_ipv4() {
        (protocol::ICMP, 3)
    } else {
        (protocol::ICMPV6, 1)
    };
    let payload = icmp(kind, 3, [0; 4], quoted);
    packet(from, &Ip::new(ip(source), ip(to), protocol, payload))
}

#[test]
fn an_icmp_error_is_about_a_live_connection() {
    let model = sample_model();
    let mut router = established(&model);
    let mut quoted = own_packet(WEB, API.ipv4, protocol::TCP, tcp(40_000, 443, ACK));
    quoted.payload.truncate(8);
    let about = |quoted: &Ip| error(API, API.ipv4, WEB.ipv4, &quoted.bytes());
    router.expect("of the other end", &about(&quoted), "forwarded");
    let back = own_packet(API, WEB.ipv4, protocol::TCP, tcp(443, 40_000, ACK));
    let of_opener = error(WEB, WEB.ipv4, API.ipv4, &back.bytes());
    router.expect("of the opener", &of_opener, "forwarded");
    let mut other = quoted.clone();
    other.payload[1] ^= 1;
    router.expect("about another port", &about(&other), "icmp-error-unrelated");
    let other = Ip {
        protocol: protocol::UDP,
        ..quoted.clone()
    };
    router.expect("about another protocol", &about(&other), "icmp-error-unrelated");
    let other = Ip {
        payload: quoted.payload[..7].to_vec(),
        ..quoted.clone()
    };
    router.expect("with 7 octets", &about(&other), "icmp-error-unrelated");
    let other = Ip {
        options: vec![1, 1, 1, 1],
        ..quoted.clone()
    };
    router.expect("with options", &about(&other), "icmp-error-unrelated");
    let stranger = error(STRANGER, STRANGER.ipv4, WEB.ipv4, &quoted.bytes());
    router.expect("from a third host", &stranger, "icmp-error-unrelated");
    let elsewhere = error(API, API.ipv4, "1.1.1.1", &quoted.bytes());
    router.expect("to a third host", &elsewhere, "icmp-error-unrelated");
    router.expect(
        "about its own packet",
        &error(API, API.ipv4, WEB.ipv4, &back.bytes()),
        "icmp-error-unrelated",
    );
    router.flip(&model);
    router.expect("under a new generation", &about(&quoted), "icmp-error-unrelated");
    router.expect("judged again", &ask(ACK), "forwarded");
    router.expect("after that", &about(&quoted), "forwarded");
    router.now += 7440;
    router.expect("of a dead connection", &about(&quoted), "icmp-error-unrelated");
}

#[test]
fn an_icmpv6_error_is_about_a_live_connection() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let syn = own_packet(WEB, API.ipv6, protocol::TCP, tcp(40_000, 443, SYN));
    let about = error(API, API.ipv6, WEB.ipv6, &syn.bytes());
    router.expect("about nothing", &about, "icmp-error-unrelated");
    router.expect("SYN", &packet(WEB, &syn), "forwarded");
    router.expect("about it", &about, "forwarded");
    let mut extended = syn.clone();
    extended.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
    let about = error(API, API.ipv6, WEB.ipv6, &extended.bytes());
    router.expect("with extension headers", &about, "icmp-error-unrelated");
}

#[test]
fn an_error_about_what_the_router_sends_passes_with_the_tenants_side() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let query = own_packet(API, "10.100.0.1", protocol::UDP, udp(1000, 53, b""));
    router.expect("a query", &packet(API, &query), "to-kernel");
    let reply = Ip::new(ip("10.100.0.1"), ip(API.ipv4), protocol::UDP, udp(53, 1000, b""));
    let about = error(API, API.ipv4, "10.100.0.1", &reply.bytes());
    router.expect("an error about its reply", &about, "to-kernel");
    let other = error(QUIET_WEB, QUIET_WEB.ipv4, "10.100.0.1", &reply.bytes());
    router.expect("another's error about it", &other, "icmp-error-unrelated");
}

#[test]
fn an_error_about_a_first_datagram_needs_no_reply_before() {
    let model = sample_model();
    let mut router = Router::new(&model);
    let ask = own_packet(QUIET_WEB, WEB.ipv4, protocol::UDP, udp(1000, 5000, b""));
    router.expect("a datagram", &packet(QUIET_WEB, &ask), "forwarded");
    let about = error(WEB, WEB.ipv4, QUIET_WEB.ipv4, &ask.bytes());
    router.expect("port unreachable", &about, "forwarded");
    router.now += 30;
    router.expect("an error does not prolong", &about, "icmp-error-unrelated");
}

#[test]
fn a_connection_is_spoofed_by_nobody() {
    let model = sample_model();
    let mut router = established(&model);
    let spoofed = Ether {
        source: STRANGER.mac,
        ..answer(ACK)
    };
    router.expect("another MAC", &spoofed, "spoofed-source");
    let elsewhere = Ether {
        tags: vec![(0x8100, 102)],
        ..answer(ACK)
    };
    router.expect("another VLAN", &elsewhere, "source-not-in-segment");
    router.expect("the right one", &answer(ACK), "forwarded");
}

#[test]
fn a_new_generation_revokes_what_it_no_longer_allows() {
    let before = sample_model();
    let mut after = sample_model();
    after.tenants[tenants::VINTRONICS.0].uses.clear();
    for (first, of) in [(ask(ACK), "the opener"), (answer(ACK), "the other side")] {
        let mut router = established(&before);
        router.flip(&after);
        router.expect(of, &first, "other-tenant");
        assert!(router.state.connections.is_empty(), "revoked by {of}");
        router.expect("then", &ask(ACK), "tcp-no-connection");
        router.flip(&before);
        router.expect("allowed again, but gone", &ask(ACK), "tcp-no-connection");
    }
}

#[test]
fn a_new_generation_keeps_what_it_still_allows() {
    let model = sample_model();
    let mut router = established(&model);
    router.flip(&model);
    router.expect("the other side first", &answer(ACK), "forwarded");
    router.expect("then the opener", &ask(ACK), "forwarded");
}

#[test]
fn a_new_generation_binds_again() {
    let before = sample_model();
    let mut after = sample_model();
    for host in after
        .hosts
        .iter_mut()
        .filter(|host| host.name.as_str() == "grooveiq-api01")
    {
        host.interfaces[0].mac = Some(netmodel::ids::MacAddr(STRANGER.mac));
    }
    let mut router = established(&before);
    router.flip(&after);
    router.expect("the old MAC", &answer(ACK), "spoofed-source");
    let replaced = Ether {
        source: STRANGER.mac,
        ..answer(ACK)
    };
    router.expect("the new MAC", &replaced, "forwarded");
}

#[test]
fn a_reply_is_judged_in_the_direction_of_the_opening() {
    // trusted may open connections to tenants, tenants none to trusted.
    let model = sample_model();
    let mut router = Router::new(&model);
    let syn = send(LAPTOP, API, true, protocol::TCP, tcp(5000, 22, SYN));
    let reply = send(API, LAPTOP, true, protocol::TCP, tcp(22, 5000, SYN | ACK));
    router.expect("the reply first", &reply, "tcp-no-connection");
    router.expect("SYN", &syn, "forwarded");
    router.flip(&model);
    router.expect("the reply", &reply, "forwarded");
    let new = send(API, LAPTOP, true, protocol::TCP, tcp(22, 5001, SYN));
    router.expect("a connection of its own", &new, "platform-address");
}

#[test]
fn a_connection_of_a_segment_that_moved_away_is_removed_by_a_reply() {
    let before = sample_model();
    let mut after = sample_model();
    after.segments[segments::VINTRONICS.0].vlan_id = netmodel::ids::VlanId::new(2000).unwrap();
    let mut router = established(&before);
    router.flip(&after);
    router.expect("a reply to the old VLAN's host", &answer(ACK), "no-policy");
    assert!(router.state.connections.is_empty());
    let mut router = established(&before);
    router.flip(&after);
    let moved = Ether {
        tags: vec![(0x8100, 2000)],
        ..ask(ACK)
    };
    router.expect("the opener on its new VLAN", &moved, "forwarded");
    router.expect("then the reply", &answer(ACK), "forwarded");
}

#[test]
fn a_connection_of_a_vlan_that_is_another_segment_s_is_removed_by_a_reply() {
    let before = sample_model();
    let mut after = sample_model();
    let (a, b) = (segments::VINTRONICS.0, segments::MONEYROUTER.0);
    let vlans = (before.segments[a].vlan_id, before.segments[b].vlan_id);
    (after.segments[a].vlan_id, after.segments[b].vlan_id) = (vlans.1, vlans.0);
    let mut router = established(&before);
    router.flip(&after);
    router.expect("a reply", &answer(ACK), "no-policy");
    assert!(router.state.connections.is_empty());
}

#[test]
fn an_icmp_error_comes_from_the_vlan_of_the_other_end() {
    let before = sample_model();
    let mut after = sample_model();
    after.segments[segments::GROOVEIQ.0].vlan_id = netmodel::ids::VlanId::new(2000).unwrap();
    let mut router = established(&before);
    router.flip(&after);
    router.expect("the opener is judged again", &ask(ACK), "forwarded");
    let quoted = own_packet(WEB, API.ipv4, protocol::TCP, tcp(40_000, 443, ACK));
    let moved = Host { vlan: 2000, ..API };
    let about = error(moved, API.ipv4, WEB.ipv4, &quoted.bytes());
    router.expect("an error before any packet from there", &about, "icmp-error-unrelated");
    let data = Ether { tags: vec![(0x8100, 2000)], ..answer(ACK) };
    router.expect("a packet from there", &data, "forwarded");
    router.expect("an error after it", &about, "forwarded");
}
