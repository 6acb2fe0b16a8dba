//! Router advertisements: RFC 4861 section 6.2, RFC 8106.

use std::net::Ipv6Addr;
use std::sync::Arc;

use dhcpd::Time;
use dhcpd::six::{Advert, Advertiser, Mode, Scope6};

use crate::kit::{START, VLAN, at, link_local, mac, scope, scopes, vlan};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

struct Router {
    adverts: Advertiser,
    now: Time,
}

impl Router {
    fn new(scope: Scope6) -> Self {
        let mut router = Self {
            adverts: Advertiser::default(),
            now: Time::from_seconds(START),
        };
        router.switch([scope]);
        router
    }

    fn switch(&mut self, list: impl IntoIterator<Item = Scope6>) {
        self.adverts.switch(Arc::new(scopes(list)), self.now);
    }

    fn wait(&mut self, millis: u64) -> Vec<Advert> {
        self.now = self.now.plus_millis(millis);
        self.adverts.poll(self.now)
    }
}

/// The options of an advertisement: type and data.
fn options(body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut options) = (&body[12..], Vec::new());
    while let [kind, units, ..] = rest {
        let length = usize::from(*units) * 8;
        options.push((*kind, rest[2..length].to_vec()));
        rest = &rest[length..];
    }
    options
}

fn option(body: &[u8], kind: u8) -> Option<Vec<u8>> {
    options(body)
        .into_iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, data)| data)
}

#[test]
fn a_segment_that_comes_up_is_told_three_times_soon_and_then_now_and_then() {
    let mut router = Router::new(scope(VLAN));
    let mut times = Vec::new();
    for second in 0..3000 {
        for advert in router.wait(1000) {
            assert_eq!(
                (advert.to, advert.to_mac.0),
                (ALL_NODES, [0x33, 0x33, 0, 0, 0, 1])
            );
            times.push(second);
        }
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[..2], [16, 16]);
    // RFC 4861: between MinRtrAdvInterval and MaxRtrAdvInterval, at most 1800 s.
    assert!(
        gaps[2..].iter().all(|gap| (450..=601).contains(gap)),
        "{gaps:?}"
    );
    assert!(gaps.len() > 5);
}

#[test]
fn what_is_said_follows_the_scope() {
    let mut router = Router::new(scope(VLAN));
    let [advert] = &router.wait(1000)[..] else {
        panic!("one advertisement");
    };
    let body = &advert.body;
    assert_eq!(
        body[..4],
        [64, 0xc0, 0x23, 0x28],
        "hop limit, M and O, 9000 s"
    );
    let prefix = option(body, 3).unwrap();
    assert_eq!(
        prefix[..2],
        [64, 0x80],
        "on the link, and no addresses of one's own"
    );
    assert_eq!(prefix[14..], at(VLAN, 0).octets());
    assert_eq!(option(body, 5).unwrap(), [0, 0, 0, 0, 5, 0xdc]);
    let dns = option(body, 25).unwrap();
    assert_eq!(dns[6..], at(VLAN, 1).octets());
    let search = option(body, 31).unwrap();
    assert!(search[6..].starts_with(b"\x05alpha\x04east\x03lab\x07example\0\x03lab"));

    let mut slaac = scope(VLAN);
    slaac.mode = Mode::Slaac;
    let advert = Router::new(slaac).wait(1000).remove(0);
    assert_eq!(advert.body[1], 0x40, "O alone");
    assert_eq!(option(&advert.body, 3).unwrap()[1], 0xc0);
}

#[test]
fn who_asks_is_answered_at_once_and_alone() {
    let mut router = Router::new(scope(VLAN));
    router.wait(1000);
    let asker = (mac(1), link_local(mac(1)));
    let advert = router
        .adverts
        .solicited(vlan(VLAN), asker, router.now)
        .unwrap();
    assert_eq!((advert.to_mac, advert.to), asker);
    assert_eq!(router.adverts.solicited(vlan(300), asker, router.now), None);
}

#[test]
fn those_without_an_address_are_answered_together_and_not_more_often_than_every_three_seconds() {
    let mut router = Router::new(scope(VLAN));
    assert_eq!(router.wait(1000).len(), 1);
    let nobody = (mac(1), Ipv6Addr::UNSPECIFIED);
    for _ in 0..1000 {
        assert_eq!(
            router.adverts.solicited(vlan(VLAN), nobody, router.now),
            None
        );
    }
    assert_eq!(router.wait(2900).len(), 0);
    assert_eq!(router.wait(200).len(), 1, "they are answered then");
    router.wait(3000);
    let advert = router
        .adverts
        .solicited(vlan(VLAN), nobody, router.now)
        .unwrap();
    assert_eq!(advert.to, ALL_NODES);
}

#[test]
fn a_prefix_that_is_gone_is_taken_back() {
    let mut router = Router::new(scope(VLAN));
    router.wait(1000);
    let mut moved = scope(VLAN);
    (moved.net, moved.gateway) = (scope(200).net, at(200, 1));
    router.switch([moved]);
    let told = router.wait(1000);
    let prefixes: Vec<_> = told
        .iter()
        .map(|advert| option(&advert.body, 3).unwrap())
        .collect();
    assert_eq!(prefixes.len(), 2);
    assert_eq!(prefixes[0][14..], at(VLAN, 0).octets());
    assert_eq!(prefixes[0][6..10], [0; 4], "not preferred any longer");
    assert_eq!(prefixes[1][14..], at(200, 0).octets());
    assert!(
        told.iter().all(|advert| advert.body[2..4] != [0, 0]),
        "the router stays"
    );
}

#[test]
fn a_segment_that_is_gone_has_no_router_any_longer() {
    let mut router = Router::new(scope(VLAN));
    router.wait(1000);
    router.switch([]);
    let mut count = 0;
    for _ in 0..3000 {
        for advert in router.wait(1000) {
            assert_eq!(advert.body[2..4], [0, 0], "lifetime of the router");
            count += 1;
        }
    }
    assert_eq!(count, 3);
    assert_eq!(router.adverts.next_poll(), None);
}

#[test]
fn a_generation_that_changes_nothing_says_nothing() {
    let mut router = Router::new(scope(VLAN));
    for _ in 0..60 {
        router.wait(1000);
    }
    router.switch([scope(VLAN)]);
    assert_eq!(router.wait(1000), []);
}

#[test]
fn thousands_of_segments_do_not_speak_at_once() {
    let mut router = Router::new(scope(VLAN));
    let all = (1..=4000).map(|id| Scope6 {
        vlan: vlan(id),
        ..scope(VLAN)
    });
    router.switch(all);
    let counts: Vec<_> = (0..100).map(|_| router.wait(10).len()).collect();
    assert!(counts.iter().all(|count| *count <= 50), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 4000);
}
