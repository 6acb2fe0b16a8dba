//! The uplink's table in a real kernel: a tenant, a segment without internet, a router, and a host on the internet,
//! joined by veth pairs. Needs root and `nft`. Each refusal is seen at its counter and at the socket.

mod drift;
mod place;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};

use crate::place::{
    FORGED, PEER, PRIVATE, Place, ROUTER, STORAGE, TENANT, ip, model, received, ruleset, seen, udp,
};

/// So often is the table changed under traffic; an emulated processor is slow.
fn changes() -> usize {
    let said = std::env::var("BULKHEAD_CASES");
    said.ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

#[test]
fn source_of_a_tenant_is_masqueraded_and_the_answer_comes_back() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        let source = seen(&tenant, &peer)?;
        assert_eq!(source.ip(), ip(ROUTER[family]), "the peer sees the router");
        peer.send_to(b"answer", source)?;
        let (_, from) = received(&tenant, &mut [0; 64])?;
        assert_eq!(from, peer.local_addr()?);
    }
    assert_eq!(place.observe()?.drops().values().sum::<u64>(), 0);
    Ok(())
}

#[test]
fn error_about_a_packet_of_a_tenant_comes_back() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        // Nobody listens there, so the peer answers "port unreachable".
        tenant.connect(SocketAddr::new(ip(PEER[family]), 9))?;
        tenant.send(b"anybody?")?;
        let error = received(&tenant, &mut [0; 64]).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
    Ok(())
}

#[test]
fn global_ipv6_source_is_not_translated() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    let tenant = model
        .segments
        .iter_mut()
        .find(|s| s.vlan_id.as_u16() == 100);
    let subnet = tenant.and_then(|segment| segment.ipv6.as_mut());
    subnet.expect("grooveiq has IPv6").net = "2001:db8:100::/64".parse()?;
    place.apply(&ruleset(&model))?;
    place
        .router
        .add_address("seg100", ip("2001:db8:100::1"), 64)?;
    place
        .tenant
        .add_address("eth0", ip("2001:db8:100::10"), 64)?;
    place
        .peer
        .add_route((ip("2001:db8:100::"), 64), ip(ROUTER[1]))?;
    let tenant = udp(&place.tenant, "2001:db8:100::10")?;
    let peer = udp(&place.peer, PEER[1])?;
    assert_eq!(seen(&tenant, &peer)?, tenant.local_addr()?);
    // And nobody can open a connection to it.
    let stranger = udp(&place.peer, PEER[1])?;
    place.assert_dropped("unsolicited", &stranger, tenant.local_addr()?, &tenant)
}

#[test]
fn routed_uplink_translates_nothing_and_guards_all_the_same() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    model.routers[0].uplinks[0].nat = false;
    place.apply(&ruleset(&model))?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        assert_eq!(seen(&tenant, &peer)?, tenant.local_addr()?);
        assert_eq!(seen(&peer, &tenant)?, peer.local_addr()?, "the answer");
        let stranger = udp(&place.peer, PEER[family])?;
        place.assert_dropped("unsolicited", &stranger, tenant.local_addr()?, &tenant)?;
    }
    Ok(())
}

#[test]
fn unsolicited_packet_from_the_uplink_reaches_no_segment() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for (ns, addresses) in [(&place.tenant, TENANT), (&place.storage, STORAGE)] {
        for family in 0..2 {
            let host = udp(ns, addresses[family])?;
            let peer = udp(&place.peer, PEER[family])?;
            place.assert_dropped("unsolicited", &peer, host.local_addr()?, &host)?;
        }
    }
    Ok(())
}

#[test]
fn without_the_table_all_of_it_would_pass() -> Result<()> {
    let place = Place::build()?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let storage = udp(&place.storage, STORAGE[family])?;
        for address in [PEER, PRIVATE, FORGED] {
            let peer = udp(&place.peer, address[family])?;
            assert_eq!(seen(&peer, &tenant)?, peer.local_addr()?);
        }
        for address in [PEER, PRIVATE] {
            let peer = udp(&place.peer, address[family])?;
            assert_eq!(seen(&storage, &peer)?, storage.local_addr()?);
        }
    }
    Ok(())
}

#[test]
fn private_destination_does_not_leave_by_the_uplink() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let private = udp(&place.peer, PRIVATE[family])?;
        place.assert_dropped("not-internet", &tenant, private.local_addr()?, &private)?;
    }
    Ok(())
}

#[test]
fn excluded_destination_does_not_leave_by_the_uplink_nor_answer_from_there() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    place.apply(&ruleset(&model))?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        let source = seen(&tenant, &peer)?;
        let excluded = ["198.51.100.0/24", "2001:db8::/64"][family];
        model.internet_excludes.push(excluded.parse()?);
        place.apply(&ruleset(&model))?;
        place.assert_dropped("not-internet", &tenant, peer.local_addr()?, &peer)?;
        place.assert_dropped("excluded-source", &peer, source, &tenant)?;
    }
    Ok(())
}

#[test]
fn source_outside_of_the_internet_zones_does_not_leave_by_the_uplink() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for family in 0..2 {
        let storage = udp(&place.storage, STORAGE[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        let to = peer.local_addr()?;
        place.assert_dropped("source-not-granted", &storage, to, &peer)?;
    }
    Ok(())
}

#[test]
fn tenant_that_loses_the_internet_loses_its_connections() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    place.apply(&ruleset(&model))?;
    let open = |family: usize| -> Result<(UdpSocket, UdpSocket, SocketAddr)> {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        let source = seen(&tenant, &peer)?;
        Ok((tenant, peer, source))
    };
    let open = [open(0)?, open(1)?];
    let grooveiq = model
        .tenants
        .iter_mut()
        .find(|t| t.name.as_str() == "grooveiq");
    grooveiq.expect("a tenant of the sample").internet = None;
    place.apply(&ruleset(&model))?;
    for (tenant, peer, source) in &open {
        place.assert_dropped("unsolicited", peer, *source, tenant)?;
        let to = peer.local_addr()?;
        place.assert_dropped("source-not-granted", tenant, to, peer)?;
    }
    Ok(())
}

#[test]
fn source_of_the_site_is_a_forgery_on_the_uplink() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for family in 0..2 {
        let forger = udp(&place.peer, FORGED[family])?;
        let tenant = udp(&place.tenant, TENANT[family])?;
        place.assert_dropped("site-source", &forger, tenant.local_addr()?, &tenant)?;
        // Nor can it speak to the router, whose own firewall may trust the site.
        let router = udp(&place.router, ROUTER[family])?;
        place.assert_dropped("site-source", &forger, router.local_addr()?, &router)?;
    }
    Ok(())
}

#[test]
fn router_itself_is_left_alone() -> Result<()> {
    let place = Place::build()?;
    place.apply(&ruleset(&model()?))?;
    for family in 0..2 {
        let router = udp(&place.router, ROUTER[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        assert_eq!(seen(&peer, &router)?, peer.local_addr()?);
        let second = udp(&place.router, ROUTER[family])?;
        assert_eq!(seen(&second, &peer)?, second.local_addr()?);
    }
    Ok(())
}

/// Has the kernel remember connections before our table does.
fn remember_connections(place: &Place) -> Result<()> {
    place.nft("add table inet other")?;
    place.nft("add chain inet other forward { type filter hook forward priority 0 ; }")?;
    place.nft("add rule inet other forward ct state established accept")?;
    Ok(())
}

#[test]
fn connection_that_the_uplink_opened_before_the_table_ends() -> Result<()> {
    let place = Place::build()?;
    remember_connections(&place)?;
    let mut model = model()?;
    // Routed, so that the tenant's side of it gets out.
    model.routers[0].uplinks[0].nat = false;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        seen(&peer, &tenant)?;
        seen(&tenant, &peer)?;
        place.apply(&ruleset(&model))?;
        place.assert_dropped("unsolicited", &peer, tenant.local_addr()?, &tenant)?;
        // Nor do errors about it come in: "port unreachable", since the peer is gone.
        let gone = peer.local_addr()?;
        drop(peer);
        tenant.connect(gone)?;
        place.assert_dropped("unsolicited", &tenant, gone, &tenant)?;
        place.router.run(dataplane_user::nat::remove)?;
    }
    Ok(())
}

#[test]
fn connection_that_is_older_than_the_table_does_not_leave_untranslated() -> Result<()> {
    let place = Place::build()?;
    remember_connections(&place)?;
    for family in 0..2 {
        let tenant = udp(&place.tenant, TENANT[family])?;
        let peer = udp(&place.peer, PEER[family])?;
        assert_eq!(seen(&tenant, &peer)?, tenant.local_addr()?);
        place.apply(&ruleset(&model()?))?;
        place.assert_dropped("untranslated", &tenant, peer.local_addr()?, &peer)?;
        place.router.run(dataplane_user::nat::remove)?;
    }
    Ok(())
}

#[test]
fn replacing_the_table_loses_no_packet_of_a_connection_and_lets_none_in() -> Result<()> {
    let place = Place::build()?;
    let mut other = model()?;
    other.internet_excludes.push("203.0.113.0/24".parse()?);
    let rulesets = [ruleset(&model()?), ruleset(&other)];
    place.apply(&rulesets[0])?;
    let tenant = udp(&place.tenant, TENANT[0])?;
    let victim = udp(&place.tenant, TENANT[0])?;
    victim.set_nonblocking(true)?;
    let (peer, hostile) = (udp(&place.peer, PEER[0])?, udp(&place.peer, PEER[0])?);
    let source = seen(&tenant, &peer)?;
    let mut exchanged = 0;
    let to_victim = victim.local_addr()?;
    std::thread::scope(|scope| -> Result<()> {
        let replacing = scope.spawn(|| -> Result<()> {
            for round in 0..changes() {
                place.apply(&rulesets[round % 2])?;
            }
            Ok(())
        });
        while !replacing.is_finished() {
            hostile.send_to(b"forbidden", to_victim)?;
            let seen_as = seen(&tenant, &peer)?;
            ensure!(seen_as == source, "the peer saw {seen_as}, not {source}");
            peer.send_to(b"answer", source)?;
            received(&tenant, &mut [0; 64])?;
            exchanged += 1;
        }
        replacing.join().expect("it does not panic")
    })?;
    let entered = received(&victim, &mut [0; 64]);
    ensure!(entered.is_err(), "a hostile packet came in: {entered:?}");
    ensure!(exchanged > changes(), "only {exchanged} exchanges");
    Ok(())
}

#[test]
fn table_can_be_there_before_the_uplink() -> Result<()> {
    let place = Place::build()?;
    place.router.delete_link(place::UPLINK)?;
    place.apply(&ruleset(&model()?))?;
    let (router, peer) = (&place.router, &place.peer);
    router.add_veth(place::UPLINK, peer, "eth9")?;
    router.set_up(place::UPLINK)?;
    peer.set_up("eth9")?;
    router.add_address(place::UPLINK, ip(ROUTER[0]), 24)?;
    peer.add_address("eth9", ip(PEER[0]), 24)?;
    router.wait_until_up(place::UPLINK)?;
    peer.add_route((ip("10.0.0.0"), 8), ip(ROUTER[0]))?;
    let tenant = udp(&place.tenant, TENANT[0])?;
    let peer = udp(peer, PEER[0])?;
    place.assert_dropped("unsolicited", &peer, tenant.local_addr()?, &tenant)?;
    assert_eq!(seen(&tenant, &peer)?.ip(), ip(ROUTER[0]));
    Ok(())
}

#[test]
fn counters_go_on_when_the_table_is_changed() -> Result<()> {
    let place = Place::build()?;
    let mut model = model()?;
    place.apply(&ruleset(&model))?;
    let (peer, tenant) = (udp(&place.peer, PEER[0])?, udp(&place.tenant, TENANT[0])?);
    place.assert_dropped("unsolicited", &peer, tenant.local_addr()?, &tenant)?;
    model.internet_excludes.push("203.0.113.0/24".parse()?);
    place.apply(&ruleset(&model))?;
    assert_eq!(place.dropped("unsolicited")?, 1);
    Ok(())
}
