//! The programs on the ports of real bridges: three tenants, real frames, every counter.
//!
//! Three ways to wire a host: one plain bridge for all tenants, which joins them if the programs do not hold; a bridge that filters
//! VLANs, rightly set; and the same with every port in one tenant's VLAN, as its Terraform could say. The last two need a kernel
//! with VLAN filtering. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod host;
mod taps;

use dataplane_user::loader::{Mode, PortHook, WantedMode};
use host::{Lab, Machine, Wiring, model};
use testkit::forgery::forgeries;
use testkit::frame::{BROADCAST, Frame, link_local, tcp_flag};

const SYN: u8 = tcp_flag::SYN;

fn every_forgery_is_dropped(lab: &Lab, others: bool) {
    for (from, friend) in [(0, 1), (1, 0), (3, 4)] {
        let peer = lab.machine(2);
        let (from, friend) = (lab.machine(from), lab.machine(friend));
        let ends = [from, friend, peer].map(Machine::endpoint);
        for (what, frame, reason) in forgeries(&lab.around(from), ends[0], ends[1], ends[2]) {
            let what = format!("{what}, from {}", from.name);
            lab.settle();
            let before = lab.counts();
            lab.send(from, &frame);
            lab.expect(
                &what,
                &before,
                &[(from.vlan, PortHook::FromTenant, reason, 1)],
            );
            lab.nobody_received(&what);
            if others {
                friend_is_reached(lab, from, friend, &what);
            }
        }
    }
}

/// The positive control: the same sender's honest frame arrives, at its friend and at nobody else.
fn friend_is_reached(lab: &Lab, from: Machine, friend: Machine, what: &str) {
    let honest = Frame::new(from.mac, friend.mac).ipv4(from.ipv4, friend.ipv4);
    let honest = honest.tcp(4000, 5432, SYN).build();
    lab.send_bytes(from, &honest);
    assert!(
        lab.received(friend, &honest),
        "{what}: {} is not reached",
        friend.name
    );
}

fn modes() -> Vec<WantedMode> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let clsact = WantedMode::Exactly(Mode::Clsact);
    if kernel.starts_with("6.1.") {
        vec![clsact]
    } else {
        vec![WantedMode::Exactly(Mode::Tcx), clsact]
    }
}

#[test]
fn forgeries_are_dropped_on_one_bridge_for_all_tenants() {
    for mode in modes() {
        let lab = Lab::build(Wiring::OneBridge, &model(), mode).unwrap();
        every_forgery_is_dropped(&lab, true);
    }
}

#[test]
fn forgeries_are_dropped_on_a_bridge_that_filters_vlans() {
    if !testkit::kernel_vlan::vlan_filtering_available().unwrap() {
        eprintln!("skipped: this kernel has no bridge that filters VLANs");
        return;
    }
    for mode in modes() {
        let lab = Lab::build(Wiring::VlanAware, &model(), mode).unwrap();
        every_forgery_is_dropped(&lab, true);
    }
}

#[test]
fn broadcast_reaches_its_segment_alone_even_on_one_bridge() {
    let lab = Lab::build(Wiring::OneBridge, &model(), WantedMode::Auto).unwrap();
    let [a, b, c] = [0, 1, 2].map(|at| lab.machine(at));
    lab.settle();
    let before = lab.counts();
    let arp = Frame::new(a.mac, BROADCAST)
        .arp_request(a.ipv4, b.ipv4)
        .build();
    lab.send_bytes(a, &arp);
    assert!(lab.received(b, &arp));
    // `b` and the third machine of its segment get it; the others' ports and the uplink refuse it.
    lab.expect_at_least(&before, (a.vlan, PortHook::FromTenant, "to-kernel", 1));
    lab.expect_at_least(&before, (c.vlan, PortHook::ToTenant, "other-segment", 1));
    lab.nobody_received("an ARP request of another segment");
}

#[test]
fn isolated_hosts_reach_each_other_only_where_a_rule_says_so() {
    let lab = Lab::build(Wiring::OneBridge, &model(), WantedMode::Auto).unwrap();
    let (app, db) = (lab.machine(3), lab.machine(4));
    let tcp = |from: Machine, to: Machine, ports: (u16, u16), flags| {
        let frame = Frame::new(from.mac, to.mac).ipv4(from.ipv4, to.ipv4);
        frame.tcp(ports.0, ports.1, flags)
    };
    let drops = |what: &str, from: Machine, frame: Frame, reason| {
        lab.settle();
        let before = lab.counts();
        lab.send(from, &frame);
        lab.expect(
            what,
            &before,
            &[(from.vlan, PortHook::FromTenant, reason, 1)],
        );
    };
    drops(
        "another port",
        app,
        tcp(app, db, (4000, 22), SYN),
        "host-isolation",
    );
    drops(
        "the other way",
        db,
        tcp(db, app, (4000, 5432), SYN),
        "host-isolation",
    );
    let v6 = Frame::new(app.mac, db.mac).ipv6(app.ipv6, db.ipv6);
    drops("IPv6", app, v6.tcp(4000, 22, SYN), "host-isolation");
    let local = Frame::new(app.mac, db.mac).ipv6(link_local(app.mac), link_local(db.mac));
    drops(
        "link-local",
        app,
        local.tcp(4000, 5432, SYN),
        "host-isolation",
    );
    drops(
        "an answer to nothing",
        db,
        tcp(db, app, (5432, 4000), tcp_flag::SYN_ACK),
        "tcp-no-connection",
    );
    drops(
        "a segment of nothing, from where nothing may be opened",
        db,
        tcp(db, app, (5432, 4000), tcp_flag::ACK),
        "host-isolation",
    );
    let opening = tcp(app, db, (4000, 5432), SYN).build();
    lab.send_bytes(app, &opening);
    assert!(lab.received(db, &opening), "the rule's port");
    let answer = tcp(db, app, (5432, 4000), tcp_flag::SYN_ACK).build();
    lab.send_bytes(db, &answer);
    assert!(lab.received(app, &answer), "the answer");
}

#[test]
fn connection_from_before_goes_on_when_the_side_that_may_open_it_sends() {
    let lab = Lab::build(Wiring::OneBridge, &model(), WantedMode::Auto).unwrap();
    let (app, db) = (lab.machine(3), lab.machine(4));
    let segment = |from: Machine, to: Machine, ports: (u16, u16), flags| {
        let frame = Frame::new(from.mac, to.mac).ipv4(from.ipv4, to.ipv4);
        frame.tcp(ports.0, ports.1, flags).build()
    };
    let answer = segment(db, app, (5432, 4000), tcp_flag::ACK);
    lab.settle();
    lab.send_bytes(db, &answer);
    lab.nobody_received("the server, before its client");
    for flags in [
        tcp_flag::RST,
        tcp_flag::FIN | tcp_flag::ACK,
        tcp_flag::SYN_ACK,
    ] {
        lab.send_bytes(app, &segment(app, db, (4000, 5432), flags));
        lab.nobody_received("the end of nothing");
    }
    let data = segment(app, db, (4000, 5432), tcp_flag::ACK);
    lab.send_bytes(app, &data);
    assert!(lab.received(db, &data), "the client goes on");
    lab.send_bytes(db, &answer);
    assert!(lab.received(app, &answer), "and so does the server");
}

#[test]
fn port_without_programs_or_identity_reaches_nobody() {
    let mut lab = Lab::build(Wiring::OneBridge, &model(), WantedMode::Auto).unwrap();
    let [a, b] = [0, 1].map(|at| lab.machine(at));
    // A machine that nobody knows and whose port has no programs yet sends as somebody who is trusted.
    let stranger = lab.add_stranger().unwrap();
    // So that the bridge knows where `b` is, and floods nothing.
    friend_is_reached(&lab, b, a, "before");
    let honest = Frame::new(a.mac, b.mac)
        .ipv4(a.ipv4, b.ipv4)
        .tcp(4000, 5432, SYN)
        .build();
    lab.settle();
    let before = lab.counts();
    stranger.send(&honest).unwrap();
    lab.expect(
        "no programs",
        &before,
        &[(b.vlan, PortHook::ToTenant, "not-judged", 1)],
    );
    lab.nobody_received("a frame from a port without programs");
    // As the hypervisor itself, with any tag.
    let as_host = Frame::new(lab.around(a).host_mac, lab.router_mac())
        .vlan(a.vlan)
        .ipv4(a.ipv4, b.ipv4)
        .tcp(4000, 5432, SYN);
    lab.settle();
    let before = lab.counts();
    stranger.send(&as_host.build()).unwrap();
    lab.expect_at_least(&before, (a.vlan, PortHook::ToUplink, "not-judged", 1));
    lab.nobody_received("a frame with the hypervisor's address");
    lab.bridge_send(&as_host.build());
    let untagged = as_host.untagged().build();
    assert!(
        lab.trunk_received(a.vlan, &untagged),
        "the hypervisor itself"
    );
    // The same with programs, and unknown.
    lab.attach_stranger().unwrap();
    let before = lab.counts();
    stranger.send(&honest).unwrap();
    lab.expect(
        "unknown",
        &before,
        &[(0, PortHook::FromTenant, "unknown-port", 1)],
    );
    lab.nobody_received("a frame from an unknown port");
    // Known, as `a`, which is known no longer where it was.
    lab.know_stranger_as(a).unwrap();
    stranger.send(&honest).unwrap();
    assert!(lab.received(b, &honest), "a machine that moved");
    let before = lab.counts();
    lab.send_bytes(a, &honest);
    lab.expect(
        "moved away",
        &before,
        &[(0, PortHook::FromTenant, "unknown-port", 1)],
    );
}

#[test]
fn a_generation_without_the_endpoint_takes_its_port_away_at_once() {
    let mut site = model();
    let mut lab = Lab::build(Wiring::OneBridge, &site, WantedMode::Auto).unwrap();
    let [a, b] = [0, 1].map(|at| lab.machine(at));
    friend_is_reached(&lab, a, b, "before");
    site.hosts.retain(|host| host.name.as_str() != a.name);
    lab.publish(&site).unwrap();
    let before = lab.counts();
    lab.send(a, &Frame::new(a.mac, b.mac).ipv4(a.ipv4, b.ipv4).udp(1, 2));
    lab.expect(
        "removed",
        &before,
        &[(0, PortHook::FromTenant, "unknown-port", 1)],
    );
}

#[test]
fn uplink_is_refused_what_is_not_the_routers_or_another_ends() {
    if !testkit::kernel_vlan::vlan_filtering_available().unwrap() {
        eprintln!("skipped: this kernel has no bridge that filters VLANs");
        return;
    }
    let lab = Lab::build(Wiring::VlanAware, &model(), WantedMode::Auto).unwrap();
    let [a, b, c] = [0, 1, 2].map(|at| lab.machine(at));
    let router = lab.router_mac();
    let far = [2, 0xdd, 0xee, 9, 9, 9];
    let rows = [
        (
            "claims a",
            Frame::new(a.mac, b.mac)
                .vlan(a.vlan)
                .ipv4(a.ipv4, b.ipv4)
                .udp(1, 2),
            a.vlan,
            "local-mac-claim",
        ),
        (
            "no such VLAN",
            Frame::new(far, a.mac)
                .vlan(3999)
                .ipv4(b.ipv4, a.ipv4)
                .udp(1, 2),
            3999,
            "unknown-vlan",
        ),
        (
            "wrong VLAN",
            Frame::new(far, a.mac)
                .vlan(c.vlan)
                .ipv4(c.ipv4, a.ipv4)
                .udp(1, 2),
            c.vlan,
            "other-segment",
        ),
        (
            "not here",
            Frame::new(far, far)
                .vlan(a.vlan)
                .ipv4(b.ipv4, a.ipv4)
                .udp(1, 2),
            a.vlan,
            "not-for-port",
        ),
        (
            "untagged",
            Frame::new(far, a.mac).ipv4(b.ipv4, a.ipv4).udp(1, 2),
            0,
            "untagged",
        ),
        (
            "foreign tenant by the router",
            Frame::new(router, a.mac)
                .vlan(a.vlan)
                .ipv4(c.ipv4, a.ipv4)
                .tcp(1, 2, SYN),
            a.vlan,
            "other-tenant",
        ),
        (
            "internet",
            Frame::new(router, a.mac)
                .vlan(a.vlan)
                .ipv4([198, 51, 100, 1].into(), a.ipv4)
                .tcp(1, 2, SYN),
            a.vlan,
            "no-policy",
        ),
    ];
    for (what, frame, vlan, reason) in rows {
        lab.settle();
        let before = lab.counts();
        lab.trunk_send(&frame.build());
        lab.expect(what, &before, &[(vlan, PortHook::FromUplink, reason, 1)]);
        lab.nobody_received(what);
    }
    let echo = Frame::new(router, a.mac)
        .vlan(a.vlan)
        .ipv4(lab.around(a).gateway4, a.ipv4)
        .echo_request(1, 1);
    lab.trunk_send(&echo.build());
    assert!(
        lab.received(a, &echo.untagged().build()),
        "the router itself"
    );
    // Out: with the tag of its segment.
    let dns = Frame::new(a.mac, router)
        .ipv4(a.ipv4, lab.around(a).gateway4)
        .udp(4000, 53)
        .build();
    lab.send_bytes(a, &dns);
    assert!(lab.trunk_received(a.vlan, &dns), "to the router");
}

#[test]
fn vlan_that_terraform_says_does_not_join_tenants() {
    if !testkit::kernel_vlan::vlan_filtering_available().unwrap() {
        eprintln!("skipped: this kernel has no bridge that filters VLANs");
        return;
    }
    let lab = Lab::build(Wiring::AllInOneVlan, &model(), WantedMode::Auto).unwrap();
    let [a, b, c] = [0, 1, 2].map(|at| lab.machine(at));
    // Everybody is in `a`'s VLAN; what `c` sends reaches neither that tenant nor its uplink.
    lab.settle();
    let before = lab.counts();
    lab.send(
        c,
        &Frame::new(c.mac, BROADCAST).arp_request(c.ipv4, lab.around(c).gateway4),
    );
    lab.expect_at_least(&before, (c.vlan, PortHook::FromTenant, "to-kernel", 1));
    lab.expect_at_least(&before, (a.vlan, PortHook::ToTenant, "other-segment", 1));
    lab.expect_at_least(&before, (a.vlan, PortHook::ToUplink, "other-segment", 1));
    lab.nobody_received("a frame of another segment in this VLAN");
    friend_is_reached(&lab, a, b, "in the right VLAN");
}
