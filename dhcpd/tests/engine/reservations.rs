//! Reservations win.

use dhcpd::counters::{Event, Reason};
use dhcproto::v4::{DhcpOption, MessageType};
use netmodel::leases::State;

use crate::kit::{Client, LEASE_TIME, Server, at, mac, reserve, scope, scopes, static_only};

#[test]
fn a_reserved_address_outside_of_the_pool_is_given_to_its_client_only() {
    let mut scope = scope(100);
    reserve(&mut scope, mac(1), at(20));
    let mut server = Server::new(scope);
    assert_eq!(server.bind(1), at(20));
    let other = Client::selecting(2, at(20));
    assert_eq!(server.answer(&other).kind, MessageType::Nak);
}

#[test]
fn a_reserved_address_inside_of_the_pool_is_not_given_to_others() {
    let mut scope = scope(100);
    reserve(&mut scope, mac(1), at(105));
    let mut server = Server::new(scope);
    for number in 2..=10 {
        assert_ne!(server.bind(number), at(105));
    }
    assert_eq!(server.silence(&Client::discover(11)), Reason::PoolExhausted);
    assert_eq!(server.bind(1), at(105));
}

#[test]
fn a_static_only_scope_never_serves_strangers() {
    let mut scope = static_only(scope(100));
    reserve(&mut scope, mac(1), at(20));
    let mut server = Server::new(scope);
    let messages = [
        Client::discover(2),
        Client::discover(2).option(DhcpOption::RequestedIpAddress(at(20))),
        Client::discover(2).option(DhcpOption::RapidCommit),
        Client::selecting(2, at(20)),
        Client::extending(2, at(20)),
        Client::new(2, MessageType::Inform).from(at(30)),
    ];
    for message in messages {
        assert_eq!(server.silence(&message), Reason::NoReservation);
    }
    assert_eq!(
        server.silence(&Client::init_reboot(2, at(20))),
        Reason::UnknownClient
    );
    assert_eq!(server.bind(1), at(20));
}

#[test]
fn a_reservation_moves_a_dynamic_lease_at_its_next_renewal() {
    let mut server = Server::new(scope(100));
    let dynamic = server.bind(1);
    let mut reserved = scope(100);
    reserve(&mut reserved, mac(1), at(20));
    server.engine.switch(scopes([reserved]));
    server.wait(u64::from(LEASE_TIME) / 2);
    let nak = server.answer(&Client::extending(1, dynamic));
    assert_eq!((nak.kind, nak.reply.is_binding), (MessageType::Nak, true));
    assert_eq!(server.engine.changes()[0].after.state, State::Revoked);
    assert_eq!(server.bind(1), at(20));
    assert_ne!(server.bind(2), at(20));
}

#[test]
fn an_older_lease_of_a_reserved_address_is_revoked_at_its_next_renewal() {
    let mut server = Server::new(scope(100));
    let contested = server.bind(2);
    let mut reserved = scope(100);
    reserve(&mut reserved, mac(1), contested);
    server.engine.switch(scopes([reserved]));
    let interim = server.answer(&Client::discover(1));
    assert_ne!(
        interim.message.yiaddr(),
        contested,
        "nobody loses an address that is in use"
    );
    assert_eq!(
        interim.lease_time(),
        Some(120),
        "but it shall not take long"
    );
    let interim = server.bind(1);
    server.wait(60);
    assert_eq!(
        server.answer(&Client::extending(1, interim)).kind,
        MessageType::Ack
    );
    let nak = server.answer(&Client::extending(2, contested));
    assert_eq!(nak.kind, MessageType::Nak);
    assert_eq!(
        server.answer(&Client::extending(1, interim)).kind,
        MessageType::Nak
    );
    assert_eq!(server.bind(1), contested);
    let (_, _, counters) = server.engine.segments().next().unwrap();
    assert_eq!(counters.events[&Event::Revoked], 2);
}

#[test]
fn a_reserved_address_that_its_client_declines_comes_back_in_a_minute() {
    let mut scope = static_only(scope(100));
    reserve(&mut scope, mac(1), at(20));
    let mut server = Server::new(scope);
    server.bind(1);
    let decline =
        Client::new(1, MessageType::Decline).option(DhcpOption::RequestedIpAddress(at(20)));
    assert_eq!(server.silence(&decline), Reason::Declined);
    assert_eq!(server.silence(&Client::discover(1)), Reason::NoReservation);
    server.wait(61);
    assert_eq!(server.bind(1), at(20));
}

#[test]
fn an_address_can_be_kept_for_a_client_identifier() {
    let mut scope = static_only(scope(100));
    reserve(&mut scope, mac(3), at(30));
    scope.client_ids.insert([255, 1, 2].into(), at(20));
    scope.fixed.insert(at(20));
    let mut server = Server::new(scope);
    let with_id = |client: Client| client.id(&[255, 1, 2]);
    let offer = server.answer(&with_id(Client::discover(1)));
    assert_eq!(offer.message.yiaddr(), at(20));
    let ack = server.answer(&with_id(Client::selecting(1, at(20))));
    assert_eq!(ack.kind, MessageType::Ack);
    server.engine.commit();
    let renewed = server.answer(&with_id(Client::extending(1, at(20))));
    assert_eq!(renewed.kind, MessageType::Ack);
    server.engine.commit();
    // Another identifier is a stranger; the hardware address comes first; and a copied identifier gets nothing.
    let other = Client::discover(2).id(&[255, 1, 3]);
    assert_eq!(server.silence(&other), Reason::NoReservation);
    let both = server.answer(&with_id(Client::discover(3)));
    assert_eq!(both.message.yiaddr(), at(30));
    let copy = with_id(Client::selecting(2, at(20)));
    assert_eq!(server.answer(&copy).kind, MessageType::Nak);
}
