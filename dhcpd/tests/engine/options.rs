//! Options: RFC 2131 section 4.3.1, RFC 2132, RFC 3397, RFC 3442, RFC 4578, RFC 8925.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcpd::scope::Told;
use dhcpd::settings::{Boot, Route};
use dhcproto::v4::{DhcpOption, MessageType};

use crate::kit::{Client, GATEWAY, LEASE_TIME, Server, at, mac, reserve, scope};

#[test]
fn options_come_in_the_order_of_the_list_and_only_as_asked() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1).wants(&[6, 1, 28, 3, 42, 6, 200]));
    assert_eq!(offer.codes(), [53, 54, 51, 6, 1, 28, 3, 42]);
}

#[test]
fn the_subnet_mask_comes_before_the_router() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1).wants(&[6, 3, 15, 1]));
    assert_eq!(offer.codes(), [53, 54, 51, 6, 1, 3, 15]);
}

#[test]
fn a_client_that_asks_for_nothing_is_told_the_usual() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1));
    assert_eq!(offer.codes(), [53, 54, 51, 1, 3, 6, 15, 26, 28, 58, 59]);
}

#[test]
fn a_client_that_asks_for_nothing_that_is_known_is_told_what_must_be() {
    let mut server = Server::new(scope(100));
    assert_eq!(
        server.answer(&Client::discover(1).wants(&[200])).codes(),
        [53, 54, 51]
    );
}

#[test]
fn a_refusal_has_no_options_but_the_server_and_what_is_echoed() {
    let mut server = Server::new(scope(100));
    let client = Client::init_reboot(1, Ipv4Addr::new(192, 0, 2, 1))
        .wants(&[1, 3])
        .id(&[0, 1]);
    let nak = server.answer(&client);
    assert_eq!(
        (nak.kind, nak.codes()),
        (MessageType::Nak, vec![53, 54, 61])
    );
}

#[test]
fn values_are_those_of_the_scope() {
    let mut server = Server::new(scope(100));
    let offer = server.answer(&Client::discover(1).wants(&[1, 3, 6, 15, 26, 28, 42, 58, 59]));
    let values = [
        (1, DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0))),
        (3, DhcpOption::Router(vec![GATEWAY])),
        (6, DhcpOption::DomainNameServer(vec![GATEWAY])),
        (
            15,
            DhcpOption::DomainName("alpha.east.lab.example".to_owned()),
        ),
        (26, DhcpOption::InterfaceMtu(1500)),
        (28, DhcpOption::BroadcastAddr(at(255))),
        (42, DhcpOption::NtpServers(vec![GATEWAY])),
        (54, DhcpOption::ServerIdentifier(GATEWAY)),
        (58, DhcpOption::Renewal(LEASE_TIME / 2)),
        (59, DhcpOption::Rebinding(LEASE_TIME / 8 * 7)),
    ];
    for (code, value) in values {
        assert_eq!(offer.option(code), Some(&value));
    }
}

#[test]
fn a_host_with_a_reservation_is_told_its_name() {
    let mut scope = scope(100);
    reserve(&mut scope, mac(1), at(20));
    let mut server = Server::new(scope);
    let name = DhcpOption::Hostname("web".to_owned());
    assert_eq!(
        server.answer(&Client::discover(1).wants(&[12])).option(12),
        Some(&name)
    );
    assert_eq!(
        server.answer(&Client::discover(2).wants(&[12])).option(12),
        None
    );
}

#[test]
fn classless_routes_include_the_default_route() {
    let mut scope = scope(100);
    let net = "10.20.0.0/16".parse().unwrap();
    scope.told.routes = vec![Route {
        to: net,
        via: at(2),
    }];
    let mut server = Server::new(scope);
    let offer = server.answer(&Client::discover(1).wants(&[121, 3]));
    let routes = vec![(net, at(2)), (Default::default(), GATEWAY)];
    assert_eq!(
        offer.option(121),
        Some(&DhcpOption::ClasslessStaticRoute(routes))
    );
    let wire = [121, 7 + 5, 16, 10, 20, 10, 100, 0, 2, 0, 10, 100, 0, 1];
    assert!(
        offer
            .reply
            .payload
            .windows(wire.len())
            .any(|part| part == wire)
    );
}

#[test]
fn the_search_list_is_names_as_in_dns_and_an_end_is_said_once() {
    let mut scope = scope(100);
    scope.told.domain_search.push("beta.lab.example".to_owned());
    let mut server = Server::new(scope);
    let offer = server.answer(&Client::discover(1).wants(&[119]));
    // RFC 3397 section 2: pointers count from the first octet of the list.
    let wire = b"\x77\x21\x05alpha\x04east\x03lab\x07example\x00\xc0\x0b\x04beta\xc0\x0b";
    assert!(
        offer
            .reply
            .payload
            .windows(wire.len())
            .any(|part| part == wire)
    );
}

#[test]
fn a_single_host_is_told_what_the_settings_say_of_it() {
    let mut scope = scope(100);
    reserve(&mut scope, mac(1), at(20));
    let own = Told {
        lease_time: 600,
        routers: vec![at(2), at(3)],
        dns_servers: vec![at(4)],
        ntp_servers: Vec::new(),
        domain: "own.lab.example".to_owned(),
        mtu: 1400,
        boot: Some(Boot {
            next_server: at(5),
            file: Some("own.kpxe".to_owned()),
            architectures: BTreeMap::new(),
            ipxe: None,
        }),
        routes: vec![Route {
            to: "10.20.0.0/16".parse().unwrap(),
            via: at(6),
        }],
        ..scope.told.clone()
    };
    scope.told_hosts.insert(mac(1), own);
    let mut server = Server::new(scope);
    let wants = [3, 6, 15, 26, 42, 67, 121];
    let offer = server.answer(&Client::discover(1).wants(&wants));
    assert_eq!(offer.codes(), [53, 54, 51, 3, 6, 15, 26, 67, 121]);
    let routes = vec![
        ("10.20.0.0/16".parse().unwrap(), at(6)),
        (Default::default(), at(2)),
    ];
    let values = [
        (3, DhcpOption::Router(vec![at(2), at(3)])),
        (6, DhcpOption::DomainNameServer(vec![at(4)])),
        (15, DhcpOption::DomainName("own.lab.example".to_owned())),
        (26, DhcpOption::InterfaceMtu(1400)),
        (51, DhcpOption::AddressLeaseTime(600)),
        (67, DhcpOption::BootfileName(b"own.kpxe".to_vec())),
        (121, DhcpOption::ClasslessStaticRoute(routes)),
    ];
    for (code, value) in values {
        assert_eq!(offer.option(code), Some(&value));
    }
    assert_eq!(offer.message.siaddr(), at(5));
    // Its neighbour is told what the segment is told.
    let other = server.answer(&Client::discover(2).wants(&wants));
    assert_eq!(other.codes(), [53, 54, 51, 3, 6, 15, 26, 42]);
    assert_eq!(other.option(3), Some(&DhcpOption::Router(vec![GATEWAY])));
}

#[test]
fn ipv6_only_preferred_is_told_to_those_who_ask() {
    let mut scope = scope(100);
    scope.told.ipv6_only_wait = Some(1800);
    let mut server = Server::new(scope);
    let has = |codes: Vec<u8>| codes.contains(&108);
    let offer = server.answer(&Client::discover(1).wants(&[1, 108]));
    assert!(has(offer.codes()) && !offer.message.yiaddr().is_unspecified());
    let wire = [108, 4, 0, 0, 7, 8];
    assert!(
        offer
            .reply
            .payload
            .windows(wire.len())
            .any(|part| part == wire)
    );
    assert!(!has(server
        .answer(&Client::discover(2).wants(&[1]))
        .codes()));
}

#[test]
fn a_machine_boots_what_its_architecture_can() {
    let mut scope = scope(100);
    scope.told.boot = Some(Boot {
        next_server: at(5),
        file: Some("undionly.kpxe".to_owned()),
        architectures: BTreeMap::from([("7".to_owned(), "x64.efi".to_owned())]),
        ipxe: Some("http://10.100.0.5/menu.ipxe".to_owned()),
    });
    let mut server = Server::new(scope);
    let rows = [
        (Client::discover(1), "undionly.kpxe"),
        (Client::discover(2).raw_option(93, &[0, 7]), "x64.efi"),
        (
            Client::discover(3).raw_option(93, &[0, 11]),
            "undionly.kpxe",
        ),
        (
            Client::discover(4)
                .raw_option(93, &[0, 7])
                .raw_option(77, b"iPXE"),
            "http://10.100.0.5/menu.ipxe",
        ),
    ];
    for (client, file) in rows {
        let offer = server.answer(&client.wants(&[66, 67]));
        assert_eq!(offer.message.siaddr(), at(5));
        assert_eq!(
            offer
                .message
                .fname_str()
                .unwrap()
                .unwrap()
                .trim_end_matches('\0'),
            file
        );
        assert_eq!(
            offer.option(67),
            Some(&DhcpOption::BootfileName(file.into()))
        );
        assert_eq!(
            offer.option(66),
            Some(&DhcpOption::TFTPServerName(b"10.100.0.5".to_vec()))
        );
    }
}

#[test]
fn a_message_is_no_larger_than_the_client_takes() {
    let mut scope = scope(100);
    scope.told.vendor = vec![7; 200];
    scope.told.domain_search = (0..8)
        .map(|n| format!("a-long-name-{n}.lab.example"))
        .collect();
    let mut server = Server::new(scope);
    let wants = [1, 119, 43, 3];
    let small = server.answer(&Client::discover(1).wants(&wants).id(&[1; 60]));
    assert!(
        small.reply.payload.len() <= 576 - 28,
        "{} octets",
        small.reply.payload.len()
    );
    assert_eq!(
        small.codes(),
        [53, 54, 51, 1, 119, 3, 61],
        "what fits, in order, and what must be"
    );
    let size = DhcpOption::MaxMessageSize(1400);
    let large = server.answer(&Client::discover(2).wants(&wants).option(size));
    assert_eq!(large.codes(), [53, 54, 51, 1, 119, 43, 3]);
}

#[test]
fn a_long_option_is_split() {
    let mut scope = scope(100);
    scope.told.domain_search = (0..16)
        .map(|n| format!("a-long-name-{n}.lab.example"))
        .collect();
    let mut server = Server::new(scope);
    let size = DhcpOption::MaxMessageSize(1400);
    let offer = server.answer(&Client::discover(1).wants(&[119, 3]).option(size));
    assert_eq!(offer.codes(), [53, 54, 51, 119, 119, 3], "RFC 3396");
}

#[test]
fn a_message_is_not_shorter_than_bootp() {
    let mut server = Server::new(scope(100));
    assert_eq!(
        server
            .answer(&Client::discover(1).wants(&[200]))
            .reply
            .payload
            .len(),
        300
    );
}

#[test]
fn options_in_the_fields_for_names_are_read() {
    let mut client = Client::discover(1).option(DhcpOption::OptionOverload(1));
    client.message.set_fname(&[12, 3, b'w', b'e', b'b', 255]);
    let mut server = Server::new(scope(100));
    server.answer(&client.option(DhcpOption::RapidCommit));
    assert_eq!(&*server.engine.changes()[0].after.hostname, "web");
}

/// The options that iPXE 1.21 sends for UEFI on x86-64 (`dhcp_request_options_data` and what its drivers add).
fn ipxe(client: Client) -> Client {
    const WANTED: &[u8] = &[
        1, 3, 6, 7, 12, 15, 17, 26, 42, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134,
        135, 175, 203,
    ];
    let encapsulated = [
        &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 19, 1, 1][..],
        &[23, 1, 1, 21, 1, 1, 235, 3, 1, 21, 1],
    ];
    let uuid = [&[0][..], &[7; 16]].concat();
    client
        .option(DhcpOption::MaxMessageSize(1472))
        .raw_option(93, &[0, 7])
        .raw_option(94, &[1, 3, 16])
        .raw_option(60, b"PXEClient:Arch:00007:UNDI:003016")
        .raw_option(77, b"iPXE")
        .wants(WANTED)
        .raw_option(175, &encapsulated.concat())
        .id(&[1, 2, 0, 0, 0, 0, 1])
        .raw_option(97, &uuid)
}

#[test]
fn a_machine_that_boots_by_ipxe_goes_from_discover_to_its_script() {
    let mut scope = scope(100);
    reserve(&mut scope, mac(1), at(20));
    scope.told.boot = Some(Boot {
        next_server: at(5),
        file: Some("undionly.kpxe".to_owned()),
        architectures: BTreeMap::from([("7".to_owned(), "x64.efi".to_owned())]),
        ipxe: Some("http://10.100.0.5/menu.ipxe".to_owned()),
    });
    let mut server = Server::new(scope);
    let offer = server.answer(&ipxe(Client::discover(1)));
    assert_eq!(offer.message.yiaddr(), at(20));
    // What iPXE wants, as far as there is such a thing, in its order; and its identifier.
    let told = [53, 54, 51, 1, 3, 6, 12, 15, 26, 42, 66, 67, 119, 61];
    assert_eq!(offer.codes(), told);
    let ack = server.answer(&ipxe(Client::selecting(1, at(20))));
    assert_eq!((ack.kind, ack.codes()), (MessageType::Ack, told.to_vec()));
    let file = Some(&DhcpOption::BootfileName(
        "http://10.100.0.5/menu.ipxe".into(),
    ));
    assert_eq!((ack.message.siaddr(), ack.option(67)), (at(5), file));
}
