//! The other messages: RFC 2131 sections 4.3.1 and 4.3.3 to 4.3.5, RFC 2563, RFC 4039, RFC 6842.

use std::net::Ipv4Addr;

use dhcpd::counters::{Event, Reason};
use dhcpd::engine::Verdict;
use dhcproto::v4::{AutoConfig, DhcpOption, MessageType};
use netmodel::ids::MacAddr;
use netmodel::leases::State;

use crate::kit::{
    Answer, Client, LEASE_TIME, Server, at, mac, reserve, scope, scopes, settings, vlan,
};

#[test]
fn a_discover_is_offered_the_address_that_the_client_has() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let offer = server.answer(&Client::discover(1).option(DhcpOption::RequestedIpAddress(at(105))));
    assert_eq!(offer.message.yiaddr(), bound);
}

#[test]
fn a_discover_is_offered_the_address_that_the_client_had() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    server.wait(u64::from(LEASE_TIME) + 1);
    assert_eq!(server.answer(&Client::discover(1)).message.yiaddr(), bound);
}

#[test]
fn a_discover_is_offered_the_address_that_it_asks_for_if_it_is_free() {
    let mut server = Server::new(scope(100));
    let asks = |last| Client::discover(1).option(DhcpOption::RequestedIpAddress(at(last)));
    assert_eq!(server.answer(&asks(105)).message.yiaddr(), at(105));
    for outside in [99, 110, 1, 255] {
        let mut server = Server::new(scope(100));
        let offered = server.answer(&asks(outside)).message.yiaddr();
        assert!(
            (at(100)..=at(109)).contains(&offered),
            "{outside} is not in the pool"
        );
    }
}

#[test]
fn two_clients_are_not_offered_one_address() {
    let mut server = Server::new(scope(100));
    let asks = |number| Client::discover(number).option(DhcpOption::RequestedIpAddress(at(105)));
    assert_eq!(server.answer(&asks(1)).message.yiaddr(), at(105));
    assert_ne!(server.answer(&asks(2)).message.yiaddr(), at(105));
}

#[test]
fn an_offer_that_is_not_taken_is_forgotten() {
    let mut server = Server::new(scope(100));
    let asks = |number| Client::discover(number).option(DhcpOption::RequestedIpAddress(at(105)));
    server.answer(&asks(1));
    server.wait(31);
    assert_eq!(server.answer(&asks(2)).message.yiaddr(), at(105));
}

#[test]
fn a_full_pool_is_silence_and_the_address_that_ended_first_is_given_again() {
    let mut server = Server::new(scope(100));
    let bound: Vec<_> = (1..=10)
        .map(|number| {
            server.wait(1);
            server.bind(number)
        })
        .collect();
    assert_eq!(server.silence(&Client::discover(11)), Reason::PoolExhausted);
    for released in [4_u8, 2] {
        server.wait(1);
        let from = bound[usize::from(released) - 1];
        let message = Client::new(released, MessageType::Release).from(from);
        assert_eq!(server.silence(&message), Reason::Released);
    }
    assert_eq!(
        server.answer(&Client::discover(11)).message.yiaddr(),
        bound[3]
    );
}

#[test]
fn the_broadcast_flag_decides_where_an_offer_goes() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1).broadcast());
    assert_eq!(
        (offer.reply.to_mac, offer.reply.to),
        (MacAddr([0xff; 6]), Ipv4Addr::BROADCAST)
    );
    assert!(offer.message.flags().broadcast());
    let offer = server.answer(&Client::discover(1));
    assert_eq!(
        (offer.reply.to_mac, offer.reply.to),
        (mac(1), offer.message.yiaddr())
    );
}

#[test]
fn a_client_may_ask_for_a_shorter_lease_but_not_for_a_longer_or_a_tiny_one() {
    for (asked, got) in [
        (600, 600),
        (7200, LEASE_TIME),
        (5, 60),
        (u32::MAX, LEASE_TIME),
    ] {
        let mut server = Server::new(scope(100));
        let asks = |client: Client| client.option(DhcpOption::AddressLeaseTime(asked));
        let offer = server.answer(&asks(Client::discover(1)));
        assert_eq!(offer.lease_time(), Some(got));
        let ack = server.answer(&asks(Client::selecting(1, offer.message.yiaddr())));
        assert_eq!(ack.lease_time(), Some(got));
        let after = &server.engine.changes()[0].after;
        assert_eq!(
            after.until - after.since,
            u64::from(got),
            "what is told is what is written"
        );
    }
}

#[test]
fn rapid_commit_binds_at_once_and_says_so() {
    let mut server = Server::new(scope(100));
    let ack = server.answer(&Client::discover(1).option(DhcpOption::RapidCommit));
    assert_eq!(
        (ack.kind, ack.lease_time()),
        (MessageType::Ack, Some(LEASE_TIME))
    );
    assert!(ack.option(80).is_some() && ack.reply.is_binding);
    let after = &server.engine.changes()[0].after;
    assert_eq!(
        (after.state, after.until - after.since),
        (State::Bound, LEASE_TIME.into())
    );
}

#[test]
fn without_rapid_commit_nothing_is_bound_by_a_discover() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1));
    assert!(offer.option(80).is_none() && server.engine.changes().is_empty());
}

#[test]
fn release_ends_the_lease_of_its_holder_only() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let release = |number| Client::new(number, MessageType::Release).from(bound);
    assert_eq!(server.silence(&release(2)), Reason::NotHolder);
    assert!(server.engine.changes().is_empty());
    assert_eq!(server.silence(&release(1)), Reason::Released);
    assert_eq!(server.engine.changes()[0].after.state, State::Released);
    assert_eq!(
        server.silence(&release(1)),
        Reason::NotHolder,
        "there is nothing left to release"
    );
}

#[test]
fn decline_keeps_everybody_from_the_address_for_an_hour() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let decline = |number| {
        Client::new(number, MessageType::Decline).option(DhcpOption::RequestedIpAddress(bound))
    };
    assert_eq!(server.silence(&decline(2)), Reason::NotHolder);
    assert_eq!(server.silence(&decline(1)), Reason::Declined);
    let asks = Client::discover(1).option(DhcpOption::RequestedIpAddress(bound));
    assert_ne!(server.answer(&asks).message.yiaddr(), bound);
    server.wait(3601);
    assert_eq!(server.answer(&asks).message.yiaddr(), bound);
}

#[test]
fn decline_cannot_empty_the_pool() {
    let mut server = Server::new(scope(100));
    for number in 1..=30 {
        let offer = server.answer(&Client::discover(number));
        let address = DhcpOption::RequestedIpAddress(offer.message.yiaddr());
        server.hear(&Client::new(number, MessageType::Decline).option(address));
    }
    let (_, usage, counters) = server.engine.segments().next().unwrap();
    assert_eq!(usage.declined, 2, "a quarter of ten");
    assert_eq!(counters.events[&Event::QuarantineFull], 28);
}

#[test]
fn inform_is_answered_without_lease_time_or_address() {
    let mut server = Server::new(scope(100));
    let ack = server.answer(&Client::new(1, MessageType::Inform).from(at(50)));
    assert_eq!(
        (ack.kind, ack.lease_time(), ack.option(58)),
        (MessageType::Ack, None, None)
    );
    assert!(ack.message.yiaddr().is_unspecified());
    assert_eq!((ack.reply.to, ack.reply.to_mac), (at(50), mac(1)));
    assert!(ack.option(6).is_some());
    let foreign = Client::new(1, MessageType::Inform).from(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(server.silence(&foreign), Reason::NotInTable4);
}

#[test]
fn a_client_that_would_configure_itself_is_told_not_to_if_there_is_no_address() {
    let mut server = Server::new(crate::kit::static_only(scope(100)));
    let option = DhcpOption::DisableSLAAC(AutoConfig::AutoConfigure);
    let offer = server.answer(&Client::discover(1).option(option));
    assert!(offer.message.yiaddr().is_unspecified());
    let no = DhcpOption::DisableSLAAC(AutoConfig::DoNotAutoConfigure);
    assert_eq!(
        (offer.kind, offer.option(116)),
        (MessageType::Offer, Some(&no))
    );
    assert_eq!(offer.lease_time(), None);
    assert_eq!(server.silence(&Client::discover(1)), Reason::NoReservation);
}

#[test]
fn the_client_identifier_is_echoed_in_every_answer() {
    let mut server = Server::new(scope(100));
    let id: &[u8] = &[0xff, 1, 2, 3, 4, 0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 1];
    let echo = Some(DhcpOption::ClientIdentifier(id.to_vec()));
    let offer = server.answer(&Client::discover(1).id(id));
    assert_eq!(offer.option(61), echo.as_ref());
    let ack = server.answer(&Client::selecting(1, offer.message.yiaddr()).id(id));
    assert_eq!(ack.option(61), echo.as_ref());
    let nak = server.answer(&Client::init_reboot(1, at(9)).id(id));
    assert_eq!(
        (nak.kind, nak.option(61)),
        (MessageType::Nak, echo.as_ref())
    );
    assert_eq!(server.answer(&Client::discover(2)).option(61), None);
}

#[test]
fn a_machine_that_boots_over_the_network_keeps_its_address_under_another_client_identifier() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let offer = server.answer(&Client::discover(1).id(&[0, 7, 7, 7]));
    assert_eq!(offer.message.yiaddr(), bound);
}

#[test]
fn machines_that_were_cloned_with_their_client_identifier_have_an_address_each() {
    let mut server = Server::new(scope(100));
    let id = [0xff, 1, 2, 3, 4];
    let first = server.answer(&Client::discover(1).option(DhcpOption::RapidCommit).id(&id));
    let second = server.answer(&Client::discover(2).option(DhcpOption::RapidCommit).id(&id));
    assert_ne!(first.message.yiaddr(), second.message.yiaddr());
}

#[test]
fn a_client_that_takes_another_address_gives_its_first_one_back() {
    let mut server = Server::new(scope(100));
    let first = server.bind(1);
    let other = if first == at(100) { at(101) } else { at(100) };
    let ack = server.answer(&Client::selecting(1, other));
    assert_eq!((ack.kind, ack.message.yiaddr()), (MessageType::Ack, other));
    let states: Vec<_> = server
        .engine
        .changes()
        .iter()
        .map(|c| (c.address, c.after.state))
        .collect();
    let wanted = [
        (first.into(), State::Released),
        (other.into(), State::Bound),
    ];
    assert_eq!(states, wanted);
}

#[test]
fn clients_of_one_hardware_address_are_told_apart_where_the_settings_allow_several() {
    let settings = dhcpd::settings::Settings {
        leases_per_mac: 2,
        ..settings()
    };
    let mut server = Server::with(settings, scopes([scope(100)]));
    let commit = |id: u8| {
        Client::discover(1)
            .option(DhcpOption::RapidCommit)
            .id(&[0, id])
    };
    let first = server.answer(&commit(1)).message.yiaddr();
    let second = server.answer(&commit(2)).message.yiaddr();
    assert_ne!(first, second);
    assert_eq!(server.silence(&commit(3)), Reason::TooManyLeases);
    let theft = Client::selecting(1, first).id(&[0, 2]);
    assert_eq!(server.answer(&theft).kind, MessageType::Nak);
}

#[test]
fn a_never_seen_address_is_probed_and_offered_when_nobody_answers() {
    let settings = dhcpd::settings::Settings {
        probe_wait: 200,
        ..settings()
    };
    let mut server = Server::with(settings, scopes([scope(100)]));
    let Verdict::Probe(probe) = server.hear(&Client::discover(1)) else {
        panic!("a probe expected")
    };
    assert_eq!(
        server.silence(&Client::discover(1)),
        Reason::Probing,
        "once is enough"
    );
    assert!(server.engine.poll(server.now.plus_millis(199)).is_empty());
    server.now = server.now.plus_millis(200);
    let replies = server.engine.poll(server.now);
    let [reply] = replies.as_slice() else {
        panic!("one offer expected")
    };
    assert_eq!(reply.to, probe.address);
    let ack = server.answer(&Client::selecting(1, probe.address));
    assert_eq!(ack.kind, MessageType::Ack);
    server.wait(u64::from(LEASE_TIME) + 1);
    assert_eq!(
        server.answer(&Client::discover(1)).kind,
        MessageType::Offer,
        "it is known now"
    );
}

#[test]
fn a_probe_lets_nobody_wait_but_the_client_that_it_is_for() {
    let settings = dhcpd::settings::Settings {
        probe_wait: 200,
        ..settings()
    };
    let mut scope = scope(100);
    reserve(&mut scope, mac(9), at(20));
    let mut server = Server::with(settings, scopes([scope]));
    let all: Vec<_> = (1..=3)
        .map(|number| match server.hear(&Client::discover(number)) {
            Verdict::Probe(probe) => probe.address,
            other @ (Verdict::Reply(_) | Verdict::Silence(_)) => panic!("{other:?}"),
        })
        .collect();
    assert!(all[0] != all[1] && all[1] != all[2], "each has its own");
    assert_eq!(
        server.answer(&Client::discover(9)).message.yiaddr(),
        at(20),
        "an address that is not probed is offered meanwhile"
    );
    server.now = server.now.plus_millis(200);
    assert_eq!(server.engine.poll(server.now).len(), 3, "all at once");
}

#[test]
fn an_address_that_somebody_uses_is_quarantined_and_another_one_is_probed() {
    let settings = dhcpd::settings::Settings {
        probe_wait: 200,
        ..settings()
    };
    let mut server = Server::with(settings, scopes([scope(100)]));
    let Verdict::Probe(probe) = server.hear(&Client::discover(1)) else {
        panic!("a probe expected")
    };
    assert_eq!(
        server
            .engine
            .heard(vlan(100), probe.address, mac(1), server.now),
        None
    );
    let next = server
        .engine
        .heard(vlan(100), probe.address, mac(9), server.now);
    let Some(Verdict::Probe(next)) = next else {
        panic!("another probe expected, got {next:?}")
    };
    assert_ne!(next.address, probe.address);
    assert_eq!(server.engine.changes()[0].after.state, State::Declined);
    server.now = server.now.plus_millis(200);
    let reply = server.engine.poll(server.now).remove(0);
    let offer = Answer::of(Verdict::Reply(reply));
    assert_eq!(offer.message.yiaddr(), next.address);
}

#[test]
fn what_is_sent_to_another_server_is_not_answered() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let renewal = Client::extending(1, bound);
    for to in [
        Ipv4Addr::new(192, 0, 2, 67),
        at(9),
        Ipv4Addr::new(10, 101, 0, 1),
    ] {
        let verdict = server.hear_to((100, to), mac(1), &renewal);
        assert_eq!(verdict, Verdict::Silence(Reason::OtherDestination));
    }
    for to in [at(1), at(255), Ipv4Addr::BROADCAST] {
        let ack = Answer::of(server.hear_to((100, to), mac(1), &renewal));
        assert_eq!(ack.kind, MessageType::Ack);
    }
}
