//! Relays: RFC 2131 section 4.1, RFC 3046, RFC 3527.

use std::net::Ipv4Addr;

use dhcpd::counters::Reason;
use dhcpd::engine::Verdict;
use dhcpd::scope::Relay;
use dhcproto::v4::{DhcpOption, MessageType};

use crate::kit::{Answer, Client, Server, mac, scope, scopes, settings, vlan};

/// The relay's address on VLAN 101, which it serves.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 101, 0, 2);
/// Circuit id 7; a suboption that nobody knows.
const INFO: &[u8] = &[1, 1, 7, 200, 2, 9, 9];

fn server() -> Server {
    let mut scopes = scopes([scope(100), scope(101), scope(102)]);
    let relay = Relay {
        vlan: vlan(100),
        serves: vec![vlan(101)],
    };
    scopes.relays.insert(RELAY, relay);
    Server::with(settings(), scopes)
}

fn relayed(mut client: Client, by: Ipv4Addr) -> Client {
    client.message.set_giaddr(by).set_hops(1);
    client
}

#[test]
fn a_relayed_client_has_an_address_of_the_relays_link_and_the_relay_is_answered() {
    let client = relayed(Client::discover(1), RELAY).relay_info(INFO);
    let offer = Answer::of(server().hear_on(100, mac(200), &client));
    assert_eq!(offer.message.yiaddr().octets()[1], 101);
    assert_eq!(
        (offer.reply.to, offer.reply.to_port, offer.reply.to_mac),
        (RELAY, 67, mac(200))
    );
    assert_eq!(offer.reply.vlan, vlan(100), "on the segment of the relay");
    assert_eq!(offer.message.giaddr(), RELAY);
}

#[test]
fn relay_agent_information_is_echoed_as_it_came_and_last() {
    let client = relayed(Client::discover(1), RELAY)
        .relay_info(INFO)
        .id(&[0, 1]);
    let offer = Answer::of(server().hear_on(100, mac(200), &client));
    assert_eq!(offer.codes().last(), Some(&82));
    let wire: Vec<u8> = [&[82, 7], INFO, &[255]].concat();
    let at = offer.reply.payload.len() - wire.len();
    assert_eq!(offer.reply.payload[at..], wire);
}

#[test]
fn only_relays_of_the_settings_are_answered_and_only_on_their_segment() {
    let mut server = server();
    let unknown = relayed(Client::discover(1), Ipv4Addr::new(10, 101, 0, 3));
    assert_eq!(
        server.hear_on(100, mac(200), &unknown),
        Verdict::Silence(Reason::UnknownRelay)
    );
    let elsewhere = relayed(Client::discover(1), RELAY);
    assert_eq!(
        server.hear_on(102, mac(200), &elsewhere),
        Verdict::Silence(Reason::UnknownRelay)
    );
    assert_eq!(
        server.hear_on(101, mac(1), &elsewhere),
        Verdict::Silence(Reason::UnknownRelay)
    );
}

#[test]
fn link_selection_chooses_among_the_links_that_the_relay_serves() {
    let mut server = server();
    let selects = |second: u8| {
        let link = [5, 4, 10, second, 0, 0];
        relayed(Client::discover(1), RELAY).relay_info(&link)
    };
    let offer = Answer::of(server.hear_on(100, mac(200), &selects(101)));
    assert_eq!(offer.message.yiaddr().octets()[1], 101);
    let verdict = server.hear_on(100, mac(200), &selects(102));
    assert_eq!(
        verdict,
        Verdict::Silence(Reason::RelayLink),
        "it does not serve that one"
    );
}

#[test]
fn a_refusal_through_a_relay_asks_it_to_broadcast() {
    let client = relayed(Client::init_reboot(1, Ipv4Addr::new(192, 0, 2, 1)), RELAY);
    let nak = Answer::of(server().hear_on(100, mac(200), &client));
    assert_eq!(
        (nak.kind, nak.reply.to, nak.reply.to_port),
        (MessageType::Nak, RELAY, 67)
    );
    assert!(nak.message.flags().broadcast());
}

#[test]
fn a_client_does_not_choose_its_segment() {
    let mut server = server();
    let messages = [
        Client::discover(1).relay_info(&[5, 4, 10, 102, 0, 0]),
        Client::discover(1).raw_option(118, &[10, 102, 0, 0]),
        Client::discover(1).option(DhcpOption::RequestedIpAddress(Ipv4Addr::new(
            10, 102, 0, 100,
        ))),
        Client::discover(1).option(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 102, 0, 1))),
    ];
    for message in messages {
        let offer = Answer::of(server.hear_on(100, mac(1), &message));
        assert_eq!(offer.message.yiaddr().octets()[1], 100);
    }
}

/// Binds a client behind the relay, and returns its address.
fn bind_behind(server: &mut Server) -> Ipv4Addr {
    let rapid = relayed(Client::discover(1).option(DhcpOption::RapidCommit), RELAY);
    let ack = Answer::of(server.hear_on(100, mac(200), &rapid));
    assert_eq!(ack.kind, MessageType::Ack);
    server.engine.commit();
    ack.message.yiaddr()
}

/// The gateway of the client's segment: the server that it knows.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 101, 0, 1);

#[test]
fn a_client_behind_a_relay_renews_without_it_and_the_answer_goes_back_through_the_router() {
    let mut server = server();
    let address = bind_behind(&mut server);
    server.wait(1000);
    let renewal = Client::extending(1, address);
    let ack = Answer::of(server.hear_to((100, SERVER), mac(200), &renewal));
    assert_eq!(
        (ack.kind, ack.message.yiaddr()),
        (MessageType::Ack, address)
    );
    assert_eq!(
        (
            ack.reply.vlan,
            ack.reply.to_mac,
            ack.reply.to,
            ack.reply.to_port
        ),
        (vlan(100), mac(200), address, 68)
    );
    assert_eq!(ack.reply.from, SERVER);
    assert_eq!(server.engine.changes().len(), 1);
}

#[test]
fn what_nobody_vouches_for_extends_nothing_else() {
    let mut server = server();
    let address = bind_behind(&mut server);
    let [a, b, c, last] = address.octets();
    let free = Ipv4Addr::from([a, b, c, last ^ 1]);
    let refused = [
        // Another client's; nobody's; another identifier.
        Client::extending(2, address),
        Client::extending(1, free),
        Client::extending(1, address).id(&[1, 2, 3]),
        // Not a renewal.
        Client::new(1, MessageType::Release).from(address),
        Client::discover(1),
        Client::selecting(1, address),
    ];
    for client in refused {
        let verdict = server.hear_to((100, SERVER), mac(200), &client);
        assert!(
            matches!(verdict, Verdict::Silence(_)),
            "{:?}",
            client.message
        );
    }
    // Over a segment without a relay, and to another server.
    for to in [(102, SERVER), (100, Ipv4Addr::new(10, 102, 0, 1))] {
        let verdict = server.hear_to(to, mac(200), &Client::extending(1, address));
        assert!(matches!(verdict, Verdict::Silence(_)), "{to:?}");
    }
    assert!(server.engine.changes().is_empty());
}

#[test]
fn a_client_behind_a_relay_that_is_to_move_is_told_when_it_rebinds() {
    let mut server = server();
    let address = bind_behind(&mut server);
    let mut changed = scope(101);
    crate::kit::reserve(&mut changed, mac(1), Ipv4Addr::new(10, 101, 0, 20));
    let mut scopes = scopes([scope(100), changed]);
    let relay = Relay {
        vlan: vlan(100),
        serves: vec![vlan(101)],
    };
    scopes.relays.insert(RELAY, relay);
    server.engine.switch(scopes);
    let renewal = Client::extending(1, address);
    let verdict = server.hear_to((100, SERVER), mac(200), &renewal);
    assert!(matches!(verdict, Verdict::Silence(_)));
    let rebinding = relayed(Client::extending(1, address), RELAY);
    let nak = Answer::of(server.hear_on(100, mac(200), &rebinding));
    assert_eq!(nak.kind, MessageType::Nak);
}
