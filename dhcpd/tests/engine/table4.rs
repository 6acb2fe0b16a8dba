//! RFC 2131 table 4: client messages from different states, a test per row and per violation of one.
//!
//! ```text
//! |              | INIT-REBOOT | SELECTING | RENEWING | REBINDING |
//! | broad/unicast| broadcast   | broadcast | unicast  | broadcast |
//! | server-ip    | MUST NOT    | MUST      | MUST NOT | MUST NOT  |
//! | requested-ip | MUST        | MUST      | MUST NOT | MUST NOT  |
//! | ciaddr       | zero        | zero      | IP       | IP        |
//! ```
//!
//! A server cannot tell RENEWING from REBINDING by the message, only by how it came; the answer is the same.

use std::net::Ipv4Addr;

use dhcpd::counters::Reason;
use dhcproto::v4::{DhcpOption, MessageType};
use netmodel::ids::MacAddr;

use crate::kit::{Client, GATEWAY, LEASE_TIME, Server, at, mac, scope};

#[test]
fn selecting_is_acknowledged_to_the_address_offered() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1));
    assert!(!offer.reply.is_binding);
    let ack = server.answer(&Client::selecting(1, offer.message.yiaddr()));
    assert_eq!(ack.kind, MessageType::Ack);
    assert_eq!(ack.message.yiaddr(), offer.message.yiaddr());
    assert_eq!(ack.lease_time(), Some(LEASE_TIME));
    assert_eq!(
        (ack.reply.to_mac, ack.reply.to, ack.reply.to_port),
        (mac(1), ack.message.yiaddr(), 68)
    );
    assert_eq!(ack.reply.from, GATEWAY);
}

#[test]
fn selecting_another_server_is_silence_and_frees_the_offer() {
    let mut server = Server::new(scope(100));
    let offered = server.answer(&Client::discover(1)).message.yiaddr();
    let other = Client::init_reboot(1, offered).option(DhcpOption::ServerIdentifier(at(9)));
    assert_eq!(server.silence(&other), Reason::OtherServer);
    let ack = server.answer(&Client::selecting(2, offered));
    assert_eq!(
        ack.kind,
        MessageType::Ack,
        "another client can have it at once"
    );
}

#[test]
fn selecting_an_address_of_another_client_is_refused() {
    let mut server = Server::new(scope(100));
    let taken = server.bind(1);
    let nak = server.answer(&Client::selecting(2, taken));
    assert_eq!(nak.kind, MessageType::Nak);
}

#[test]
fn selecting_with_ciaddr_is_not_in_the_table() {
    let mut server = Server::new(scope(100));
    let offered = server.answer(&Client::discover(1)).message.yiaddr();
    let wrong = Client::selecting(1, offered).from(offered);
    assert_eq!(server.silence(&wrong), Reason::NotInTable4);
}

#[test]
fn selecting_without_requested_address_is_not_in_the_table() {
    let mut server = Server::new(scope(100));
    let wrong = Client::new(1, MessageType::Request).option(DhcpOption::ServerIdentifier(GATEWAY));
    assert_eq!(server.silence(&wrong), Reason::NotInTable4);
}

#[test]
fn init_reboot_with_the_right_address_is_acknowledged() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let ack = server.answer(&Client::init_reboot(1, bound));
    assert_eq!((ack.kind, ack.message.yiaddr()), (MessageType::Ack, bound));
}

#[test]
fn init_reboot_with_a_wrong_address_is_refused_by_broadcast() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let wrong = if bound == at(100) { at(101) } else { at(100) };
    let nak = server.answer(&Client::init_reboot(1, wrong));
    assert_eq!(nak.kind, MessageType::Nak);
    assert_eq!(
        (nak.reply.to_mac, nak.reply.to),
        (MacAddr([0xff; 6]), Ipv4Addr::BROADCAST)
    );
    assert!(nak.message.yiaddr().is_unspecified() && nak.message.ciaddr().is_unspecified());
}

#[test]
fn init_reboot_on_the_wrong_network_is_refused() {
    let mut server = Server::new(scope(100));
    let nak = server.answer(&Client::init_reboot(1, Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!(nak.kind, MessageType::Nak);
}

#[test]
fn init_reboot_of_a_client_without_a_record_is_silence() {
    let mut server = Server::new(scope(100));
    assert_eq!(
        server.silence(&Client::init_reboot(1, at(100))),
        Reason::UnknownClient
    );
}

#[test]
fn init_reboot_after_the_lease_has_ended_is_acknowledged_if_the_address_is_free() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    server.wait(u64::from(LEASE_TIME) + 1);
    let ack = server.answer(&Client::init_reboot(1, bound));
    assert_eq!((ack.kind, ack.message.yiaddr()), (MessageType::Ack, bound));
}

#[test]
fn renewing_extends_the_lease_and_is_answered_to_ciaddr() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    server.wait(u64::from(LEASE_TIME) / 2);
    let ack = server.answer(&Client::extending(1, bound));
    assert_eq!(
        (ack.kind, ack.lease_time()),
        (MessageType::Ack, Some(LEASE_TIME))
    );
    assert_eq!((ack.reply.to_mac, ack.reply.to), (mac(1), bound));
    assert_eq!((ack.message.ciaddr(), ack.message.yiaddr()), (bound, bound));
    let after = &server.engine.changes()[0].after;
    assert_eq!(after.until - after.since, u64::from(LEASE_TIME) * 3 / 2);
}

#[test]
fn rebinding_is_answered_to_ciaddr_even_with_the_broadcast_flag() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let ack = server.answer(&Client::extending(1, bound).broadcast());
    assert_eq!((ack.kind, ack.reply.to), (MessageType::Ack, bound));
}

#[test]
fn extending_the_address_of_another_client_is_refused_by_broadcast() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let nak = server.answer(&Client::extending(2, bound));
    assert_eq!(
        (nak.kind, nak.reply.to),
        (MessageType::Nak, Ipv4Addr::BROADCAST)
    );
    let ack = server.answer(&Client::extending(1, bound));
    assert_eq!(ack.kind, MessageType::Ack, "the holder keeps it");
}

#[test]
fn extending_with_a_requested_address_is_not_in_the_table() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let wrong = Client::init_reboot(1, bound).from(bound);
    assert_eq!(server.silence(&wrong), Reason::NotInTable4);
}

#[test]
fn extending_with_a_server_identifier_is_not_in_the_table() {
    let mut server = Server::new(scope(100));
    let bound = server.bind(1);
    let wrong = Client::extending(1, bound).option(DhcpOption::ServerIdentifier(GATEWAY));
    assert_eq!(server.silence(&wrong), Reason::NotInTable4);
}

#[test]
fn a_request_that_names_nothing_is_not_in_the_table() {
    let mut server = Server::new(scope(100));
    assert_eq!(
        server.silence(&Client::new(1, MessageType::Request)),
        Reason::NotInTable4
    );
}
