//! Messages of clients on the link: RFC 8415 sections 16 and 18.3.

use std::net::Ipv6Addr;
use std::sync::Arc;

use dhcpd::counters::{Event, Reason};
use dhcpd::six::Mode;
use dhcproto::v6::{DhcpOption, DhcpOptions, IAPD, MessageType, OptionCode, Status};
use netmodel::leases::State;

use crate::kit::{
    Client, DUID, LEASE_TIME, START, Server, VLAN, at, ia, link_local, mac, reserve, scope, scopes,
    vlan,
};

#[test]
fn a_solicit_is_answered_by_an_advertise_that_promises_nothing() {
    let mut server = Server::new(scope(VLAN));
    let client = Client::new(1, MessageType::Solicit);
    let answer = server.answer(&client);
    assert_eq!(answer.kind(), MessageType::Advertise);
    assert_eq!(answer.message.xid(), [1, 2, 3]);
    assert_eq!(
        answer.option(1),
        Some(DhcpOption::ClientId(client.duid.clone()))
    );
    assert_eq!(answer.option(2), Some(DhcpOption::ServerId(DUID.to_vec())));
    assert_eq!(answer.option(7), Some(DhcpOption::Preference(255)));
    assert!(scope(VLAN).net.contains(&answer.address().unwrap()));
    assert!(!answer.reply.is_binding && server.engine.changes().is_empty());
    let reply = &answer.reply;
    assert_eq!((reply.to, reply.to_port), (link_local(client.mac), 546));
    assert_eq!((reply.to_mac, reply.vlan), (client.mac, vlan(VLAN)));
}

#[test]
fn a_request_binds_the_address_that_was_advertised() {
    let mut server = Server::new(scope(VLAN));
    let advertised = server
        .answer(&Client::new(1, MessageType::Solicit))
        .address();
    let answer = server.answer(&Client::new(1, MessageType::Request));
    assert_eq!(
        (answer.kind(), answer.address()),
        (MessageType::Reply, advertised)
    );
    assert!(answer.reply.is_binding);
    let [change] = server.engine.changes() else {
        panic!("one change");
    };
    assert_eq!(change.address, advertised.unwrap());
    assert_eq!(
        (change.after.mac, change.after.state),
        (mac(1), State::Bound)
    );
    assert_eq!(change.after.until, START + u64::from(LEASE_TIME));
    // RFC 4361: 255, IAID, DUID.
    let identity = [
        &[255, 0, 0, 0, 7],
        Client::bare(1, MessageType::Solicit).duid.as_slice(),
    ]
    .concat();
    assert_eq!(*change.after.client_id, *identity);
    let (ia, _) = &answer.ias()[0];
    assert_eq!(
        (ia.id, ia.t1, ia.t2),
        (7, LEASE_TIME / 2, LEASE_TIME * 4 / 5)
    );
}

#[test]
fn rapid_commit_binds_at_once_and_says_so() {
    let mut server = Server::new(scope(VLAN));
    let solicit = Client::new(1, MessageType::Solicit).with(DhcpOption::RapidCommit);
    let answer = server.answer(&solicit);
    assert_eq!(answer.kind(), MessageType::Reply);
    assert_eq!(answer.option(14), Some(DhcpOption::RapidCommit));
    assert!(answer.reply.is_binding);
}

#[test]
fn renew_and_rebind_give_more_time_to_the_same_address() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    for kind in [MessageType::Renew, MessageType::Rebind] {
        server.wait(1000);
        let answer = server.answer(&Client::new(1, kind).naming(&[address]));
        assert_eq!(answer.address(), Some(address));
        let until = server.engine.changes()[0].after.until;
        assert_eq!(until, server.now.seconds() + u64::from(LEASE_TIME));
        assert_eq!(server.engine.changes()[0].after.since, START);
        server.engine.commit();
    }
}

#[test]
fn a_client_whose_duid_changes_keeps_its_address() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let mut client = Client::new(1, MessageType::Request);
    client.message.opts_mut().remove(OptionCode::ClientId);
    let client = client.with(DhcpOption::ClientId(vec![0, 4, 5, 5]));
    assert_eq!(server.answer(&client).address(), Some(address));
}

#[test]
fn the_same_client_gets_the_same_address_without_any_memory() {
    let first = Server::new(scope(VLAN)).bind(1);
    assert_eq!(Server::new(scope(VLAN)).bind(1), first);
    assert_ne!(Server::new(scope(VLAN)).bind(2), first);
}

#[test]
fn a_reservation_wins_and_moves_its_client_at_the_next_renewal() {
    let mut server = Server::new(scope(VLAN));
    let old = server.bind(1);
    let mut changed = scope(VLAN);
    reserve(&mut changed, mac(1), at(VLAN, 20));
    server.engine.switch(Arc::new(scopes([changed])));
    let answer = server.answer(&Client::new(1, MessageType::Renew).naming(&[old]));
    let (_, (told, _)) = &answer.ias()[0];
    assert_eq!(
        *told,
        [(at(VLAN, 20), LEASE_TIME), (old, 0)],
        "the old one is over"
    );
    let states: Vec<_> = server
        .engine
        .changes()
        .iter()
        .map(|c| c.after.state)
        .collect();
    assert_eq!(states, [State::Released, State::Bound]);
}

#[test]
fn nobody_else_gets_a_reserved_address() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let mut changed = scope(VLAN);
    reserve(&mut changed, mac(2), address);
    server.engine.switch(Arc::new(scopes([changed])));
    let interim = server.answer(&Client::new(2, MessageType::Request));
    let (_, (told, _)) = &interim.ias()[0];
    let [(other, 120)] = told[..] else {
        panic!("two minutes of another address, until the first one moves: {told:?}");
    };
    assert_ne!(other, address, "somebody has it still");
    let moved = server.answer(&Client::new(1, MessageType::Renew).naming(&[address]));
    assert_ne!(moved.address(), Some(address));
    let answer = server.answer(&Client::new(2, MessageType::Request));
    assert_eq!(answer.address(), Some(address));
}

#[test]
fn a_static_only_scope_serves_no_strangers() {
    let mut scope = scope(VLAN);
    scope.mode = Mode::StaticOnly;
    reserve(&mut scope, mac(1), at(VLAN, 20));
    let mut server = Server::new(scope);
    assert_eq!(server.bind(1), at(VLAN, 20));
    let kinds = [
        MessageType::Solicit,
        MessageType::Request,
        MessageType::Rebind,
        MessageType::Confirm,
    ];
    for kind in kinds {
        assert_eq!(server.silence(&Client::new(2, kind)), Reason::NoReservation);
    }
    let ask = Client::bare(2, MessageType::InformationRequest);
    assert_eq!(server.silence(&ask), Reason::NoReservation);
}

#[test]
fn clients_that_make_up_their_addresses_are_told_the_rest() {
    let mut scope = scope(VLAN);
    scope.mode = Mode::Slaac;
    let mut server = Server::new(scope);
    let ask = Client::bare(1, MessageType::InformationRequest).wanting(&[23, 24, 32, 56]);
    let answer = server.answer(&ask);
    assert_eq!(answer.kind(), MessageType::Reply);
    assert_eq!(
        answer.option(23),
        Some(DhcpOption::DomainNameServers(vec![at(VLAN, 1)]))
    );
    assert!(
        [24, 32, 56]
            .iter()
            .all(|code| answer.option(*code).is_some())
    );
    let refused = server.answer(&Client::new(1, MessageType::Solicit));
    assert_eq!(refused.ias()[0].1, (vec![], Some(Status::NoAddrsAvail)));
}

#[test]
fn only_what_was_asked_for_is_told() {
    let mut server = Server::new(scope(VLAN));
    let answer = server.answer(&Client::new(1, MessageType::Solicit).wanting(&[24]));
    assert_eq!((answer.option(23), answer.option(32)), (None, None));
    let Some(DhcpOption::DomainSearchList(names)) = answer.option(24) else {
        panic!("a search list");
    };
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["alpha.east.lab.example.", "lab.example."]);
}

#[test]
fn confirm_says_whether_the_addresses_are_of_this_link() {
    let mut server = Server::new(scope(VLAN));
    let confirm = |address| Client::new(1, MessageType::Confirm).naming(&[address]);
    let right = server.answer(&confirm(at(VLAN, 999)));
    assert_eq!(
        (right.kind(), right.status()),
        (MessageType::Reply, Some(Status::Success))
    );
    let wrong = server.answer(&confirm(at(200, 999)));
    assert_eq!(wrong.status(), Some(Status::NotOnLink));
    let none = Client::new(1, MessageType::Confirm);
    assert_eq!(server.silence(&none), Reason::InvalidMessage);
}

#[test]
fn release_ends_the_lease_of_its_holder_only() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let foreign = server.answer(&Client::new(2, MessageType::Release).naming(&[address]));
    assert_eq!(foreign.status(), Some(Status::Success));
    assert_eq!(foreign.ias()[0].1, (vec![], Some(Status::NoBinding)));
    assert!(server.engine.changes().is_empty());
    let own = server.answer(&Client::new(1, MessageType::Release).naming(&[address]));
    assert_eq!((own.status(), own.ias().len()), (Some(Status::Success), 0));
    assert_eq!(server.engine.changes()[0].after.state, State::Released);
}

#[test]
fn decline_keeps_everybody_from_the_address() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let answer = server.answer(&Client::new(1, MessageType::Decline).naming(&[address]));
    assert_eq!(answer.status(), Some(Status::Success));
    assert_eq!(server.engine.changes()[0].after.state, State::Declined);
    server.engine.commit();
    assert_ne!(server.bind(1), address);
    let foreign = server.answer(&Client::new(2, MessageType::Decline).naming(&[address]));
    assert_eq!(foreign.ias()[0].1, (vec![], Some(Status::NoBinding)));
}

#[test]
fn a_second_identity_association_gets_no_address_and_the_first_keeps_its_own() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    // The other one comes first now.
    let mut client = Client::new(1, MessageType::Renew);
    client.message.opts_mut().remove(OptionCode::IANA);
    let client = client.with(ia(1, &[])).with(ia(7, &[address]));
    let answer = server.answer(&client);
    for (ia, (told, status)) in answer.ias() {
        if ia.id == 7 {
            assert_eq!((told, status), (vec![(address, LEASE_TIME)], None));
        } else {
            assert_eq!((told, status), (vec![], Some(Status::NoAddrsAvail)));
        }
    }
}

#[test]
fn prefixes_are_not_delegated() {
    let mut server = Server::new(scope(VLAN));
    let wish = DhcpOption::IAPD(IAPD {
        id: 9,
        t1: 0,
        t2: 0,
        opts: DhcpOptions::new(),
    });
    let answer = server.answer(&Client::new(1, MessageType::Solicit).with(wish));
    let Some(DhcpOption::IAPD(refused)) = answer.option(25) else {
        panic!("an answer to the wish");
    };
    let Some(DhcpOption::StatusCode(code)) = refused.opts.get(OptionCode::StatusCode) else {
        panic!("a status");
    };
    assert_eq!((refused.id, code.status), (9, Status::NoPrefixAvail));
}

#[test]
fn what_section_16_forbids_is_not_answered() {
    let server_id = || DhcpOption::ServerId(DUID.to_vec());
    let without = |kind, code: OptionCode| {
        let mut client = Client::new(1, kind);
        client.message.opts_mut().remove(code);
        client
    };
    let mut rows = Vec::new();
    for kind in [
        MessageType::Solicit,
        MessageType::Confirm,
        MessageType::Rebind,
    ] {
        rows.push((without(kind, OptionCode::ClientId), Reason::InvalidMessage));
        rows.push((
            Client::new(1, kind).with(server_id()),
            Reason::InvalidMessage,
        ));
    }
    for kind in [
        MessageType::Request,
        MessageType::Renew,
        MessageType::Release,
        MessageType::Decline,
    ] {
        rows.push((without(kind, OptionCode::ClientId), Reason::InvalidMessage));
        rows.push((without(kind, OptionCode::ServerId), Reason::InvalidMessage));
        let other = without(kind, OptionCode::ServerId).with(DhcpOption::ServerId(vec![0, 4, 1]));
        rows.push((other, Reason::OtherServer));
    }
    let inform = Client::new(1, MessageType::InformationRequest);
    rows.push((inform, Reason::InvalidMessage));
    for kind in [
        MessageType::Advertise,
        MessageType::Reply,
        MessageType::Reconfigure,
    ] {
        rows.push((Client::new(1, kind), Reason::ServerMessage));
    }
    let mut server = Server::new(scope(VLAN));
    for (client, reason) in rows {
        assert_eq!(server.silence(&client), reason, "{:?}", client.message);
    }
}

#[test]
fn a_message_to_this_server_alone_is_told_to_use_multicast_or_not_answered() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let renew = Client::new(1, MessageType::Renew).naming(&[address]);
    let answer = server.hear_to(at(VLAN, 1), &renew).unwrap();
    let answer = crate::kit::Answer::of(answer);
    assert_eq!(
        (answer.status(), answer.ias().len()),
        (Some(Status::UseMulticast), 0)
    );
    assert!(server.engine.changes().is_empty());
    let solicit = Client::new(1, MessageType::Solicit);
    let silence = server.hear_to(at(VLAN, 1), &solicit).unwrap_err();
    assert_eq!(silence, Reason::OtherDestination);
}

#[test]
fn leases_end_by_themselves_and_what_failed_to_be_written_is_undone() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    server.wait(u64::from(LEASE_TIME));
    server.engine.expire(server.now);
    assert_eq!(server.engine.changes()[0].after.state, State::Expired);
    server.engine.revert();
    let states: Vec<_> = server
        .engine
        .leases()
        .map(|(_, at, lease)| (at, lease.state))
        .collect();
    assert_eq!(states, [(address, State::Bound)]);
}

#[test]
fn leases_that_were_written_down_are_taken_over() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let known: Vec<_> = server
        .engine
        .leases()
        .map(|(v, at, l)| (v, at, l.clone()))
        .collect();
    let mut next = Server::new(scope(VLAN));
    next.engine.restore(known);
    let renewed = next.answer(&Client::new(1, MessageType::Renew).naming(&[address]));
    assert_eq!(renewed.address(), Some(address));
    let (_, usage, _) = next.engine.segments().next().unwrap();
    assert_eq!(usage.bound, 1);
}

#[test]
fn a_draining_tenant_keeps_its_leases_and_gets_no_new_ones() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    let mut draining = scope(VLAN);
    draining.takes_new = false;
    server.engine.switch(Arc::new(scopes([draining])));
    let renewed = server.answer(&Client::new(1, MessageType::Renew).naming(&[address]));
    assert_eq!(renewed.address(), Some(address));
    let new = server.answer(&Client::new(2, MessageType::Solicit));
    assert_eq!(new.address(), None);
}

#[test]
fn a_scope_that_becomes_static_only_keeps_leases_until_they_end_and_says_so() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let mut smaller = scope(100);
    smaller.mode = Mode::StaticOnly;
    let foreign = server.engine.switch(scopes([smaller]).into());
    assert_eq!(foreign, [("vlan100".to_owned(), 1)].into());
    server.wait(1800);
    let renew = Client::new(1, MessageType::Renew).naming(&[bound]);
    let mut told = || {
        let (_, (list, _)) = server.answer(&renew).ias().remove(0);
        server.wait(1780);
        list
    };
    assert_eq!(told(), [(bound, LEASE_TIME - 1800)]);
    assert_eq!(told(), [(bound, 0)], "too short to be given");
}

#[test]
fn another_subnet_takes_the_old_address_back() {
    let mut server = Server::new(scope(VLAN));
    let old = server.bind(1);
    let mut moved = scope(VLAN);
    (moved.net, moved.gateway) = (scope(200).net, at(200, 1));
    server.engine.switch(Arc::new(scopes([moved])));
    let answer = server.answer(&Client::new(1, MessageType::Renew).naming(&[old]));
    assert!(scope(200).net.contains(&answer.address().unwrap()));
    let (_, (told, _)) = &answer.ias()[0];
    assert!(told.contains(&(old, 0)));
}

#[test]
fn messages_are_counted_by_type() {
    let mut server = Server::new(scope(VLAN));
    server.bind(1);
    server.answer(&Client::new(2, MessageType::Solicit));
    let (_, _, counters) = server.engine.segments().next().unwrap();
    let of = |event: Event| counters.events.get(&event).copied().unwrap_or_default();
    let counts = [
        Event::Solicit,
        Event::Request6,
        Event::Advertise,
        Event::Reply,
        Event::Renew,
    ];
    assert_eq!(counts.map(of), [1, 1, 1, 1, 0]);
}

#[test]
fn small_subnets_are_used_up_and_never_beyond() {
    let mut scope = scope(VLAN);
    scope.net = format!("{}/124", at(VLAN, 0)).parse().unwrap();
    let net = scope.net;
    let mut server = Server::new(scope);
    let mut given: Vec<Ipv6Addr> = Vec::new();
    for number in 1..=20 {
        let answer = server.answer(&Client::new(number, MessageType::Request));
        given.extend(answer.address());
    }
    given.sort();
    given.dedup();
    assert_eq!(
        given.len(),
        14,
        "16 but for the network's and the gateway's"
    );
    assert!(given.iter().all(|at| net.contains(at)));
}

#[test]
fn addresses_that_are_routers_by_definition_are_given_to_nobody() {
    let mut scope = scope(VLAN);
    scope.net = format!("{}/112", at(VLAN, 0)).parse().unwrap();
    // RFC 2526: the last 128.
    let first = at(VLAN, 0xff80);
    let mut server = Server::new(scope);
    for number in 1..=4000 {
        assert!(server.bind(number) < first);
    }
}
