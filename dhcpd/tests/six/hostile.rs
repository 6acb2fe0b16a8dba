//! Clients that lie, and messages that are none.

use dhcpd::counters::Reason;
use dhcpd::settings::Settings;
use dhcpd::six::Inbound6;
use dhcproto::v6::MessageType;
use netmodel::ids::MacAddr;

use crate::kit::{Client, SERVERS, Server, VLAN, at, ia, link_local, mac, scope, scopes, vlan};

#[test]
fn a_client_of_another_link_is_not_answered() {
    let mut server = Server::new(scope(VLAN));
    let client = Client::new(1, MessageType::Solicit);
    let payload = client.bytes();
    let inbound = Inbound6 {
        vlan: vlan(VLAN),
        source: client.mac,
        from: at(VLAN, 77),
        to: SERVERS,
        payload: &payload,
    };
    assert_eq!(
        server.engine.receive(&inbound, server.now),
        Err(Reason::OffLink)
    );
    let group = Inbound6 {
        source: MacAddr([3, 0, 0, 0, 0, 1]),
        from: link_local(client.mac),
        ..inbound
    };
    assert_eq!(
        server.engine.receive(&group, server.now),
        Err(Reason::MacNotUnicast)
    );
    let elsewhere = Inbound6 {
        vlan: vlan(300),
        from: link_local(client.mac),
        ..inbound
    };
    assert_eq!(
        server.engine.receive(&elsewhere, server.now),
        Err(Reason::NoScope)
    );
}

#[test]
fn the_frame_says_who_a_client_is_and_the_duid_does_not() {
    let mut server = Server::new(scope(VLAN));
    let address = server.bind(1);
    // Another machine with the first one's DUID.
    let mut liar = Client::new(1, MessageType::Release).naming(&[address]);
    liar.mac = mac(2);
    server.answer(&liar);
    assert!(server.engine.changes().is_empty(), "nothing is released");
    liar = Client::new(1, MessageType::Request);
    liar.mac = mac(2);
    assert_ne!(server.answer(&liar).address(), Some(address));
}

#[test]
fn strangers_share_a_rate_and_bound_clients_are_not_crowded_out() {
    let settings = Settings {
        strangers_per_segment: 5,
        messages_per_mac: 4,
        ..Settings::default()
    };
    let mut server = Server::with(settings, scopes([scope(VLAN)]));
    let address = server.bind(1);
    let answered = (100..200).filter(|number| {
        server
            .hear(&Client::new(*number, MessageType::Solicit))
            .is_ok()
    });
    assert_eq!(
        answered.count(),
        9,
        "twice the rate at once, less the one before"
    );
    let renew = Client::new(1, MessageType::Renew).naming(&[address]);
    assert_eq!(server.answer(&renew).address(), Some(address));
    let flood = (0..100).filter(|_| server.hear(&renew).is_ok()).count();
    assert!(flood < 16, "{flood}");
}

#[test]
fn one_client_cannot_quarantine_the_subnet() {
    let mut server = Server::new(scope(VLAN));
    for _ in 0..1200 {
        let address = server.bind(1);
        server.answer(&Client::new(1, MessageType::Decline).naming(&[address]));
        server.engine.commit();
    }
    let (_, usage, _) = server.engine.segments().next().unwrap();
    assert!(usage.declined <= 1024, "{}", usage.declined);
}

#[test]
fn messages_that_are_cut_off_or_too_much_are_refused() {
    let mut server = Server::new(scope(VLAN));
    let whole = Client::new(1, MessageType::Request)
        .naming(&[at(VLAN, 9)])
        .wanting(&[23, 24]);
    let bytes = whole.bytes();
    let hear = |server: &mut Server, payload: &[u8]| {
        let inbound = Inbound6 {
            vlan: vlan(VLAN),
            source: whole.mac,
            from: link_local(whole.mac),
            to: SERVERS,
            payload,
        };
        server.engine.receive(&inbound, server.now)
    };
    assert!(hear(&mut server, &bytes).is_ok());
    for length in 0..4 {
        assert_eq!(hear(&mut server, &bytes[..length]), Err(Reason::Truncated));
    }
    let ends = [3, 9, 20];
    for end in ends {
        assert_eq!(
            hear(&mut server, &bytes[..bytes.len() - end]),
            Err(Reason::MalformedOption)
        );
    }
    let mut many = Client::new(1, MessageType::Solicit);
    for id in 0..20 {
        many = many.with(ia(id, &[]));
    }
    assert_eq!(server.silence(&many), Reason::MalformedOption);
    for length in [0, 1, 2, 131] {
        let duid = dhcproto::v6::DhcpOption::ClientId(vec![7; length]);
        let mut client = Client::new(1, MessageType::Solicit);
        client
            .message
            .opts_mut()
            .remove(dhcproto::v6::OptionCode::ClientId);
        assert_eq!(
            server.silence(&client.with(duid)),
            Reason::MalformedOption,
            "{length}"
        );
    }
}
