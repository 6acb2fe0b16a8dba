//! Relayed messages: RFC 8415 section 19, RFC 6939.

use std::net::Ipv6Addr;

use dhcpd::counters::Reason;
use dhcpd::six::{Inbound6, Reply6};
use dhcproto::v6::MessageType;
use netmodel::ids::MacAddr;

use crate::kit::{
    Answer, Client, RELAY, Server, VLAN, at, link_local, mac, reserve, scope, scopes, settings,
    vlan,
};

/// VLAN 100 is where the relay is, 200 is behind it.
fn server() -> Server {
    let mut behind = scope(200);
    reserve(&mut behind, mac(1), at(200, 20));
    Server::with(settings(), scopes([scope(VLAN), behind]))
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

/// Relay-forward around a message.
fn forward(
    (hops, link, peer): (u8, Ipv6Addr, Ipv6Addr),
    options: &[Vec<u8>],
    inner: &[u8],
) -> Vec<u8> {
    let head = [&[12, hops][..], &link.octets(), &peer.octets()].concat();
    [head, options.concat(), option(9, inner)].concat()
}

fn hear(server: &mut Server, from: Ipv6Addr, payload: &[u8]) -> Result<Reply6, Reason> {
    let inbound = Inbound6 {
        vlan: vlan(VLAN),
        source: MacAddr([2, 9, 9, 9, 9, 9]),
        from,
        to: at(VLAN, 1),
        payload,
    };
    server.engine.receive(&inbound, server.now)
}

/// The message to the client inside of a Relay-reply, and what is around it.
fn unwrap(payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let at = payload.windows(2).rposition(|pair| pair == [0, 9]).unwrap();
    (payload[..at].to_vec(), payload[at + 4..].to_vec())
}

#[test]
fn a_relayed_client_is_served_out_of_the_scope_of_its_link() {
    let mut server = server();
    let client = Client::new(1, MessageType::Solicit);
    let peer = link_local(client.mac);
    let id = option(18, b"port 7");
    let payload = forward(
        (0, at(200, 1), peer),
        std::slice::from_ref(&id),
        &client.bytes(),
    );
    let reply = hear(&mut server, RELAY, &payload).unwrap();
    assert_eq!(
        (reply.to, reply.to_port, reply.from),
        (RELAY, 547, at(VLAN, 1))
    );
    assert_eq!(reply.vlan, vlan(VLAN));
    let (around, inner) = unwrap(&reply.payload);
    let wanted = [&[13, 0][..], &at(200, 1).octets(), &peer.octets(), &id].concat();
    assert_eq!(around, wanted, "the interface id is echoed");
    let answer = Answer::of(Reply6 {
        payload: inner,
        ..reply
    });
    assert_eq!(answer.address(), Some(at(200, 20)), "by its reservation");
}

#[test]
fn the_relay_says_the_hardware_address_if_no_address_tells_it() {
    let mut client = Client::new(2, MessageType::Solicit);
    let duid = dhcproto::v6::DhcpOption::ClientId(vec![0, 4, 1, 1]);
    client
        .message
        .opts_mut()
        .remove(dhcproto::v6::OptionCode::ClientId);
    let client = client.with(duid);
    let peer = "fe80::1234".parse().unwrap();
    let unknown = forward((0, at(200, 1), peer), &[], &client.bytes());
    assert_eq!(
        hear(&mut server(), RELAY, &unknown),
        Err(Reason::NotEthernet)
    );
    let said = option(79, &[&[0, 1], &mac(1).0[..]].concat());
    let known = forward((0, at(200, 1), peer), &[said], &client.bytes());
    let reply = hear(&mut server(), RELAY, &known).unwrap();
    let (_, payload) = unwrap(&reply.payload);
    let answer = Answer::of(Reply6 { payload, ..reply });
    assert_eq!(answer.address(), Some(at(200, 20)));
}

#[test]
fn the_link_is_that_of_the_relay_closest_to_the_client() {
    let client = Client::new(1, MessageType::Solicit);
    let none = Ipv6Addr::UNSPECIFIED;
    let inner = forward(
        (0, at(200, 1), link_local(client.mac)),
        &[],
        &client.bytes(),
    );
    let middle = forward((1, none, at(200, 9)), &[], &inner);
    let reply = hear(
        &mut server(),
        RELAY,
        &forward((2, at(VLAN, 1), at(200, 8)), &[], &middle),
    )
    .unwrap();
    assert_eq!(reply.payload[..2], [13, 2]);
    let (_, payload) = unwrap(&reply.payload);
    let answer = Answer::of(Reply6 { payload, ..reply });
    assert_eq!(answer.address(), Some(at(200, 20)));
}

#[test]
fn a_relay_that_the_settings_do_not_name_or_a_link_that_it_does_not_serve_is_refused() {
    let client = Client::new(1, MessageType::Solicit);
    let peer = link_local(client.mac);
    let to = |link| forward((0, link, peer), &[], &client.bytes());
    assert_eq!(
        hear(&mut server(), at(VLAN, 66), &to(at(200, 1))),
        Err(Reason::UnknownRelay)
    );
    let elsewhere = Inbound6 {
        vlan: vlan(200),
        source: mac(9),
        from: RELAY,
        to: at(200, 1),
        payload: &to(at(200, 1)),
    };
    let mut other = server();
    let now = other.now;
    let refused = other.engine.receive(&elsewhere, now);
    assert_eq!(refused, Err(Reason::UnknownRelay));
    assert_eq!(
        hear(&mut server(), RELAY, &to(at(VLAN, 1))),
        Err(Reason::RelayLink)
    );
    assert_eq!(
        hear(&mut server(), RELAY, &to(Ipv6Addr::UNSPECIFIED)),
        Err(Reason::RelayLink)
    );
}

#[test]
fn relays_are_unwrapped_to_a_bounded_depth_and_whole() {
    let client = Client::new(1, MessageType::Solicit);
    let mut payload = client.bytes();
    for hops in 0..9 {
        payload = forward((hops, at(200, 1), link_local(client.mac)), &[], &payload);
    }
    assert_eq!(
        hear(&mut server(), RELAY, &payload),
        Err(Reason::TooManyRelays)
    );
    let whole = forward(
        (0, at(200, 1), link_local(client.mac)),
        &[],
        &client.bytes(),
    );
    for length in 0..whole.len() {
        assert!(
            hear(&mut server(), RELAY, &whole[..length]).is_err(),
            "{length}"
        );
    }
}
