//! Raw sockets give back on one end what was sent on the other. Needs root.

use std::time::{Duration, Instant};

use testkit::frame::role::{GATEWAY_V4, ROUTER_MAC, TENANT_A};
use testkit::frame::{BROADCAST, Frame, ether_type};
use testkit::netns::NetNs;
use testkit::raw::RawSocket;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// Two silent namespaces with a raw socket on each end of a veth pair.
fn wire() -> (NetNs, NetNs, RawSocket, RawSocket) {
    let make = || {
        let (left, right) = (NetNs::new("left")?, NetNs::new("right")?);
        left.add_veth("a0", &right, "b0")?;
        for (ns, link) in [(&left, "a0"), (&right, "b0")] {
            ns.sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "1")?;
            ns.set_up(link)?;
        }
        let sockets = (
            RawSocket::open(&left, "a0")?,
            RawSocket::open(&right, "b0")?,
        );
        anyhow::Ok((left, right, sockets.0, sockets.1))
    };
    make().expect("root can make a veth pair")
}

#[test]
fn every_tag_comes_back_in_the_bytes() {
    let (_left, _right, a, b) = wire();
    let packet = || {
        Frame::new(TENANT_A.mac, ROUTER_MAC)
            .ipv4(TENANT_A.ipv4, GATEWAY_V4)
            .udp(1, 2)
    };
    let rows = [
        ("untagged", packet()),
        ("one tag", packet().vlan(100)),
        ("priority", packet().tag(ether_type::VLAN, 0xe064)),
        ("two tags", packet().vlan(100).vlan(101)),
        ("three tags", packet().vlan(1).vlan(2).vlan(3)),
        (
            "service tag",
            packet().tag(ether_type::SERVICE_VLAN, 7).vlan(100),
        ),
        ("old service tag", packet().tag(ether_type::OLD_QINQ, 7)),
        ("broadcast", packet().vlan(100).destination_mac(BROADCAST)),
        ("full size", packet().vlan(100).payload(&[7; 1472])),
        // The kernel itself drops a tagged frame with less behind its tag (skb_vlan_untag).
        ("tag and two octets", packet().vlan(100).cut(20)),
    ];
    for (description, frame) in rows {
        let sent = frame.build();
        a.send(&sent).unwrap();
        let received = b.receive(soon()).unwrap().expect(description);
        assert_eq!(received, sent, "{description}");
    }
    assert_eq!(
        a.try_receive().unwrap(),
        None,
        "own frames are not received"
    );
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let (_left, _right, a, _b) = wire();
    let start = Instant::now();
    assert_eq!(a.receive(start + Duration::from_millis(20)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn frames_that_are_not_wanted_are_passed_over() {
    let (_left, _right, a, b) = wire();
    for vlan in 1..=20 {
        a.send(
            &Frame::new(TENANT_A.mac, ROUTER_MAC)
                .vlan(vlan)
                .pad(2)
                .build(),
        )
        .unwrap();
    }
    let third = b
        .receive_where(soon(), |frame| (frame[15] == 3).then_some(frame.len()))
        .unwrap();
    assert_eq!(third, Some(20));
    b.receive_where(soon(), |frame| (frame[15] == 20).then_some(()))
        .unwrap()
        .unwrap();
    b.drain().unwrap();
    assert_eq!(b.try_receive().unwrap(), None);
}

#[test]
fn a_frame_larger_than_the_mtu_is_refused() {
    let (_left, _right, a, _b) = wire();
    assert!(
        a.send(
            &Frame::new(TENANT_A.mac, ROUTER_MAC)
                .payload(&[0; 2000])
                .build()
        )
        .is_err()
    );
}
