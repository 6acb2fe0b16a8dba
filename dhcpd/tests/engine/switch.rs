//! Another generation, and a store that fails: no lease is lost.

use dhcpd::counters::Reason;
use dhcproto::v4::{DhcpOption, MessageType};
use netmodel::leases::State;

use crate::kit::{Client, LEASE_TIME, Server, at, mac, reserve, scope, scopes, static_only, vlan};

#[test]
fn a_scope_that_shrinks_keeps_foreign_leases_until_they_end_and_says_so() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let mut smaller = scope(100);
    smaller.pool = Some((at(200), at(209)));
    let foreign = server.engine.switch(scopes([smaller]));
    assert_eq!(foreign["vlan100"], 1);
    server.wait(1800);
    let ack = server.answer(&Client::extending(1, bound));
    assert_eq!(
        (ack.kind, ack.lease_time()),
        (MessageType::Ack, Some(LEASE_TIME - 1800))
    );
    assert!(
        server.engine.changes().is_empty(),
        "it ends when it would have ended"
    );
    server.wait(1799);
    assert_eq!(
        server.answer(&Client::extending(1, bound)).kind,
        MessageType::Nak
    );
    assert!((at(200)..=at(209)).contains(&server.bind(1)));
}

#[test]
fn a_scope_that_moves_to_another_subnet_refuses_at_once() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let mut other = scope(101);
    other.vlan = vlan(100);
    server.engine.switch(scopes([other]));
    assert_eq!(
        server.answer(&Client::extending(1, bound)).kind,
        MessageType::Nak
    );
}

#[test]
fn leases_of_a_scope_that_goes_and_comes_back_are_still_there() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let foreign = server.engine.switch(scopes([]));
    assert_eq!(foreign["VLAN 100"], 1);
    assert_eq!(
        server.silence(&Client::extending(1, bound)),
        Reason::NoScope
    );
    server.engine.switch(scopes([scope(100)]));
    assert_eq!(
        server.answer(&Client::extending(1, bound)).kind,
        MessageType::Ack
    );
    for number in 2..=10 {
        assert_ne!(server.bind(number), bound);
    }
}

#[test]
fn leases_end_also_without_a_scope_or_a_message() {
    let mut server = Server::new(scope(100));
    server.bind(1);
    server.engine.switch(scopes([]));
    server.wait(u64::from(LEASE_TIME) + 1);
    server.engine.expire(server.now);
    assert_eq!(server.engine.changes()[0].after.state, State::Expired);
}

#[test]
fn a_draining_tenant_keeps_its_leases_and_gets_no_new_ones() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let mut draining = scope(100);
    draining.takes_new = false;
    server.engine.switch(scopes([draining]));
    assert_eq!(
        server.answer(&Client::extending(1, bound)).kind,
        MessageType::Ack
    );
    assert_eq!(server.answer(&Client::discover(1)).message.yiaddr(), bound);
    assert_eq!(server.silence(&Client::discover(2)), Reason::Draining);
    let nak = server.answer(&Client::selecting(2, at(105)));
    assert_eq!(nak.kind, MessageType::Nak);
}

#[test]
fn leases_that_were_written_down_are_as_before_a_restart() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let leases: Vec<_> = server
        .engine
        .leases()
        .map(|(v, a, l)| (v, a, l.clone()))
        .collect();
    let mut again = Server::new(scope(100));
    again.engine.restore(leases);
    assert_eq!(
        again.answer(&Client::extending(1, bound)).kind,
        MessageType::Ack
    );
    for number in 2..=10 {
        assert_ne!(again.bind(number), bound);
    }
}

#[test]
fn what_could_not_be_written_down_never_happened() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let before: Vec<_> = server
        .engine
        .leases()
        .map(|(v, a, l)| (v, a, l.clone()))
        .collect();
    server.wait(60);
    server.answer(&Client::extending(1, bound));
    server.answer(&Client::discover(2).option(DhcpOption::RapidCommit));
    server.hear(&Client::new(1, MessageType::Release).from(bound));
    server.engine.revert();
    let after: Vec<_> = server
        .engine
        .leases()
        .map(|(v, a, l)| (v, a, l.clone()))
        .collect();
    assert_eq!(
        before,
        after
            .into_iter()
            .filter(|(_, a, _)| *a == bound)
            .collect::<Vec<_>>()
    );
    assert!(server.engine.changes().is_empty());
    let (_, usage, _) = server.engine.segments().next().unwrap();
    assert_eq!(usage.bound, 1);
}

#[test]
fn a_reservation_that_is_gone_lets_its_lease_run_out() {
    let mut reserved = static_only(scope(100));
    reserve(&mut reserved, mac(1), at(20));
    let mut server = Server::new(reserved);
    let bound = server.bind(1);
    server.engine.switch(scopes([static_only(scope(100))]));
    server.wait(600);
    let ack = server.answer(&Client::extending(1, bound));
    assert_eq!(ack.lease_time(), Some(LEASE_TIME - 600));
    server.wait(3001);
    assert_eq!(server.silence(&Client::discover(1)), Reason::NoReservation);
}
