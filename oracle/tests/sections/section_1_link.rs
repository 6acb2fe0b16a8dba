use oracle::fixtures::{ROUTER_MAC, sample_model, segments};
use oracle::frames::{Ether, TPID, flags, protocol, tcp};
use oracle::{Frame, State, World, from_trunk};

use crate::support::{API, Router, check, own_packet, packet};

/// A connection that is allowed: the positive control.
fn good() -> Ether {
    let syn = tcp(40_000, 443, flags::SYN);
    packet(API, &own_packet(API, "1.1.1.1", protocol::TCP, syn))
}

fn with(change: impl FnOnce(&mut Ether)) -> Ether {
    let mut ether = good();
    change(&mut ether);
    ether
}

fn tags(tags: &[(u16, u16)]) -> Ether {
    with(|ether| ether.tags = tags.to_vec())
}

#[test]
fn tags_are_judged_row_by_row() {
    check(vec![
        ("a tagged frame of a tenant passes", good(), "to-kernel"),
        ("priority bits of the tag do not matter", tags(&[(TPID, 0xf064)]), "to-kernel"),
        ("a frame without tag", tags(&[]), "untagged"),
        ("an untagged frame of an unknown type", with(|e| { e.tags.clear(); e.ether_type = 0x88cc }), "untagged"),
        ("an 802.1ad tag", tags(&[(0x88a8, 100)]), "double-tag"),
        ("a 0x9100 tag", tags(&[(0x9100, 100)]), "double-tag"),
        ("a priority tag", tags(&[(TPID, 0)]), "priority-tag"),
        ("a priority tag with priority", tags(&[(TPID, 0xe000)]), "priority-tag"),
        ("a VLAN without segment", tags(&[(TPID, 2000)]), "unknown-vlan"),
        ("VLAN 4095", tags(&[(TPID, 4095)]), "unknown-vlan"),
        ("VLAN in VLAN", tags(&[(TPID, 100), (TPID, 100)]), "double-tag"),
        ("802.1ad in VLAN", tags(&[(TPID, 100), (0x88a8, 100)]), "double-tag"),
        ("0x9100 in VLAN", tags(&[(TPID, 100), (0x9100, 100)]), "double-tag"),
        ("a second tag in an unknown VLAN", tags(&[(TPID, 2000), (TPID, 100)]), "unknown-vlan"),
        ("a second tag in a blackhole", tags(&[(TPID, 998), (TPID, 100)]), "double-tag"),
        ("a segment without subnet", tags(&[(TPID, 998)]), "blackhole-segment"),
        ("the native segment", tags(&[(TPID, 999)]), "blackhole-segment"),
    ]);
}

#[test]
fn macs_and_types_are_judged_row_by_row() {
    check(vec![
        ("a broadcast source", with(|e| e.source = [0xff; 6]), "bad-source-mac"),
        ("a multicast source", with(|e| e.source[0] |= 1), "bad-source-mac"),
        ("a zero source", with(|e| e.source = [0; 6]), "bad-source-mac"),
        ("the router's MAC as source", with(|e| e.source = ROUTER_MAC), "router-mac-spoof"),
        ("to another unicast MAC", with(|e| e.destination = [2, 0, 0, 0, 0, 1]), "not-for-router"),
        ("LLDP", with(|e| e.ether_type = 0x88cc), "unknown-ether-type"),
        ("PPPoE", with(|e| e.ether_type = 0x8864), "unknown-ether-type"),
        ("an 802.3 length", with(|e| e.ether_type = 0x0026), "unknown-ether-type"),
    ]);
}

#[test]
fn a_native_segment_with_a_subnet_is_a_blackhole() {
    let model = sample_model();
    let mut router = Router::new(&model);
    router.world.router.native_segment = Some(segments::GROOVEIQ);
    router.expect("native with subnet", &good(), "blackhole-segment");
}

#[test]
fn a_frame_that_ends_in_its_headers_is_truncated() {
    let model = sample_model();
    let world = World::new(&model, ROUTER_MAC, 1);
    let bytes = good().bytes();
    // Up to the IPv4 header every header that is missing is `truncated`.
    for length in 0..18 + 20 {
        let frame = Frame {
            bytes: &bytes[..length],
            offloaded_tag: None,
        };
        let verdict = from_trunk(&world, &mut State::default(), &frame, 0);
        assert_eq!(verdict.name(), "truncated", "{length} octets");
    }
}

#[test]
fn a_tag_in_the_metadata_is_the_outer_tag() {
    let model = sample_model();
    let world = World::new(&model, ROUTER_MAC, 1);
    let name = |ether: &Ether, tag| {
        let bytes = ether.bytes();
        let frame = Frame {
            bytes: &bytes,
            offloaded_tag: Some(tag),
        };
        from_trunk(&world, &mut State::default(), &frame, 0).name()
    };
    let untagged = tags(&[]);
    assert_eq!(name(&untagged, (TPID, 100)), "to-kernel");
    assert_eq!(name(&untagged, (TPID, 0)), "priority-tag");
    assert_eq!(name(&untagged, (TPID, 2000)), "unknown-vlan");
    assert_eq!(name(&untagged, (0x88a8, 100)), "double-tag");
    assert_eq!(name(&tags(&[(TPID, 100)]), (TPID, 100)), "double-tag");
}
