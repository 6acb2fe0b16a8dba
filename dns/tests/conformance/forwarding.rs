//! Which questions leave the site: by segment, by name, and only if the client wants it.

use std::net::IpAddr;

use dns::answer::{Client, Outcome, Transport, answer};
use dns::world::World;
use netmodel::published::Published;

use super::support::*;

const SITE: &str = "\
site_name: east
site_domain: lab.example
site_segments:
  management: {vlan_id: 99, subnet: 10.0.99.0/24}
  guest: {vlan_id: 40, subnet: 203.0.112.0/24}
firewall_internet_zones: [tenants, guest]
platform_gateway_services: [dhcp, dns]
tenant_pool: {vlan_ids: 100-110}
tenant_defaults: {services: [], internet: none}
tenants:
  a: {vlan_id: 100, subnet: 10.1.0.0/26, internet: nat}
  b: {vlan_id: 101, subnet: 10.1.0.64/26}
";
const RECORDS: &str = "
  - {name: web, type: A, value: 10.1.0.10}
  - {name: out, type: CNAME, value: www.example.org.}
  - {name: twice, type: CNAME, value: out}
  - {name: hidden, type: CNAME, value: only-b.b.east.lab.example.}
  - {name: inside, type: CNAME, value: 1.99.0.10.in-addr.arpa.}
";
const IN_GUEST: &str = "203.0.112.9";
const IN_MANAGEMENT: &str = "10.0.99.5";

fn published() -> Published {
    let a = format!("tenant_name: a\ntenant_dns_records:{RECORDS}");
    let b = "tenant_name: b\ntenant_dns_records: [{name: only-b, type: A, value: 10.1.0.70}]\n";
    small(SITE, &[("a", &a), ("b", b)])
}

/// What is asked upstream: the name, and how many answers of ours it begins with.
fn asked(world: &World, source: &str, message: &[u8]) -> Option<(String, u16)> {
    let client = Client::new(source.parse::<IpAddr>().unwrap(), Transport::Udp, NOW);
    let mut out = Vec::new();
    match answer(world, client, message, &mut out) {
        Outcome::Forward(wanted) => {
            let begun = wanted
                .begun
                .map_or(0, |begun| u16::from_be_bytes([begun[6], begun[7]]));
            Some((wanted.target.to_string(), begun))
        }
        Outcome::Reply | Outcome::Silence | Outcome::Transfer(_) | Outcome::Update(..) => None,
    }
}

#[test]
fn names_of_others_are_asked_for_by_segments_that_reach_the_internet_only() {
    let world = world(&published()).forwarding(true);
    let ask = |source| asked(&world, source, &question("www.example.org", A));
    for source in [IN_A, IN_GUEST] {
        assert_eq!(
            ask(source),
            Some(("www.example.org.".into(), 0)),
            "{source}"
        );
    }
    for source in [IN_B, IN_MANAGEMENT, "192.0.2.1", "10.0.98.1"] {
        assert_eq!(ask(source), None, "{source}");
    }
}

#[test]
fn without_upstreams_and_without_rd_nothing_is_asked() {
    let closed = world(&published());
    assert_eq!(asked(&closed, IN_A, &question("www.example.org", A)), None);
    let open = world(&published()).forwarding(true);
    let mut plain = question("www.example.org", A);
    plain[2] = 0;
    assert_eq!(asked(&open, IN_A, &plain), None, "RD is not set");
    let mut chaos = question("www.example.org", A);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(asked(&open, IN_A, &chaos), None, "class CH");
    for kind in [250, 251, 252, 41, 249] {
        assert_eq!(
            asked(&open, IN_A, &question("www.example.org", kind)),
            None,
            "type {kind}"
        );
    }
}

#[test]
fn nothing_of_the_site_is_asked_of_others() {
    let world = world(&published()).forwarding(true);
    let rows = [
        "east.lab.example",
        "nowhere.east.lab.example",
        "b.east.lab.example",
        "only-b.b.east.lab.example",
        // Reverse names: of the site's own public addresses, private ones, and what is in RFC 6303.
        "9.112.0.203.in-addr.arpa",
        "1.99.0.10.in-addr.arpa",
        "70.0.1.10.in-addr.arpa",
        "1.2.3.10.in-addr.arpa",
        "1.1.31.172.in-addr.arpa",
        "1.1.168.192.in-addr.arpa",
        "1.0.64.100.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        "printer.local",
        "localhost",
        "a.home.arpa",
        "x.internal",
    ];
    for name in rows {
        for source in [IN_A, IN_GUEST] {
            assert_eq!(
                asked(&world, source, &question(name, A)),
                None,
                "{name} from {source}"
            );
        }
    }
    // Beside them, what is not the site's.
    for name in [
        "1.1.32.172.in-addr.arpa",
        "8.8.8.8.in-addr.arpa",
        "lab.example",
        "other.lab.example",
        ".",
    ] {
        assert!(asked(&world, IN_A, &question(name, A)).is_some(), "{name}");
    }
}

#[test]
fn an_alias_that_leads_out_is_followed_and_one_that_leads_to_a_hidden_name_is_not() {
    let world = world(&published()).forwarding(true);
    let ask = |label: &str| {
        asked(
            &world,
            IN_A,
            &question(&format!("{label}.a.east.lab.example"), A),
        )
    };
    assert_eq!(ask("web"), None);
    assert_eq!(ask("out"), Some(("www.example.org.".into(), 1)));
    assert_eq!(ask("twice"), Some(("www.example.org.".into(), 2)));
    assert_eq!(ask("hidden"), None);
    assert_eq!(ask("inside"), None);
}
