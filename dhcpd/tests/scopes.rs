//! What the sample inventory and the settings mean for DHCP.

use std::path::Path;

use dhcpd::scope::Scopes;
use dhcpd::settings::{Settings, SettingsError, parse};
use dhcpd::six::Mode;
use netmodel::Model;
use netmodel::ids::VlanId;

fn sample() -> Model {
    testkit::lab::load(&testkit::fixtures::sample()).expect("the sample has no errors")
}

fn settings(text: &str) -> Result<Settings, SettingsError> {
    parse(text, Path::new("dhcpd.toml"))
}

fn vlan(id: u16) -> VlanId {
    VlanId::new(id).expect("a VLAN id")
}

#[test]
fn the_sample_has_a_scope_for_each_segment_with_dhcp() {
    let scopes = Scopes::new(&sample(), &Settings::default()).expect("scopes");
    let found: Vec<_> = scopes
        .by_vlan
        .values()
        .map(|s| (s.vlan.as_u16(), s.name.as_str()))
        .collect();
    let expected = [
        (10, "trusted"),
        (30, "iot"),
        (31, "iot_vendor"),
        (40, "guest"),
        (100, "grooveiq/main"),
        (101, "vintronics/main"),
        (102, "moneyrouter/main"),
    ];
    assert_eq!(found, expected);
    let grooveiq = &scopes.by_vlan[&vlan(100)];
    assert_eq!(grooveiq.told.domain, "grooveiq.east.lab.example");
    assert_eq!(grooveiq.told.ntp_servers, [grooveiq.gateway]);
    assert!(!grooveiq.reservations.is_empty());
    for (address, _) in grooveiq.reservations.values() {
        assert!(grooveiq.fixed.contains(address) && grooveiq.net.contains(address));
    }
}

#[test]
fn a_segment_with_both_families_has_scopes_of_both() {
    let scopes = Scopes::new(&sample(), &Settings::default()).expect("scopes");
    let found: Vec<_> = scopes.six.values().map(|s| s.name.as_str()).collect();
    assert_eq!(found, ["grooveiq/main", "vintronics/main"]);
    let grooveiq = &scopes.six[&vlan(100)];
    assert_eq!(grooveiq.told.dns_servers, [grooveiq.gateway]);
    assert_eq!(grooveiq.told.domain_search, ["grooveiq.east.lab.example"]);
    let slaac = settings("[segments.\"grooveiq/main\"]\nslaac = true\n").expect("settings");
    let scopes = Scopes::new(&sample(), &slaac).expect("scopes");
    assert_eq!(scopes.six[&vlan(100)].mode, Mode::Slaac);
}

#[test]
fn gateways_that_do_not_offer_dhcp_serve_nobody() {
    let mut model = sample();
    model.gateway_services.dhcp = false;
    assert!(
        Scopes::new(&model, &Settings::default())
            .expect("scopes")
            .by_vlan
            .is_empty()
    );
}

#[test]
fn a_gateway_that_does_not_offer_a_service_is_not_named_for_it() {
    let mut model = sample();
    model.gateway_services.ntp = false;
    model.gateway_services.dns = false;
    let scopes = Scopes::new(&model, &Settings::default()).expect("scopes");
    let guest = &scopes.by_vlan[&vlan(40)];
    assert!(guest.told.ntp_servers.is_empty() && guest.told.dns_servers.is_empty());
}

#[test]
fn the_example_of_the_documentation_fits_the_sample() {
    let text = include_str!("../../docs/dhcp.md");
    let example = text.split("```toml\n").nth(1).expect("an example");
    let example = example.split("```").next().expect("its end");
    let settings = settings(example).expect("valid settings");
    let scopes = Scopes::new(&sample(), &settings).expect("settings that fit");
    assert!(
        scopes
            .by_vlan
            .values()
            .any(|scope| scope.told.boot.is_some())
    );
    assert_eq!((scopes.relays.len(), scopes.relays6.len()), (1, 1));
    assert_eq!(scopes.by_vlan[&vlan(40)].client_ids.len(), 1);
    let grooveiq = &scopes.by_vlan[&vlan(100)];
    let [(mac, own)] = grooveiq.told_hosts.iter().collect::<Vec<_>>()[..] else {
        panic!("one host with options of its own")
    };
    assert_eq!(grooveiq.reservations[mac].1, "grooveiq-db01");
    assert_eq!((own.lease_time, own.mtu), (86_400, 1400));
    assert_eq!(own.routers, grooveiq.told.routers, "what is not said");
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    for text in [
        "leases_time = 60\n",
        "lease_time = 59\n",
        "leases_per_mac = 0\n",
        "[segments.guest.hosts.tv]\nlease_time = 59\n",
        "[segments.guest.hosts.tv]\nslaac = true\n",
        "relays = 7\n",
    ] {
        assert!(settings(text).is_err(), "{text:?}");
    }
    for text in [
        "[segments.gest]\n",
        "[segments.guest]\nvendor = \"abc\"\n",
        "[segments.guest]\nslaac = true\n",
        "[segments.guest.hosts.nobody]\n",
        "[segments.\"grooveiq/main\".hosts.grooveiq-db01]\nrouters = [\"10.20.0.1\"]\n",
        "[segments.\"grooveiq/main\".hosts.grooveiq-db01]\nvendor = \"0\"\n",
        "[segments.guest.client_ids]\n\"xy\" = \"10.20.40.9\"\n",
        "[segments.guest.client_ids]\n\"01\" = \"10.20.40.9\"\n",
        "[segments.guest.client_ids]\n\"0102\" = \"10.20.41.9\"\n",
        "[segments.guest.client_ids]\n\"0102\" = \"10.20.40.1\"\n",
        "[segments.guest.client_ids]\n\"0102\" = \"10.20.40.9\"\n\"0103\" = \"10.20.40.9\"\n",
        "[[relays]]\naddress = \"10.20.30.2\"\nsegment = \"iott\"\nserves = []\n",
        "[[relays]]\naddress = \"10.20.30.2\"\nsegment = \"iot\"\nserves = [\"gest\"]\n",
    ] {
        let settings = settings(text).expect("well-formed");
        assert!(Scopes::new(&sample(), &settings).is_err(), "{text:?}");
    }
}
