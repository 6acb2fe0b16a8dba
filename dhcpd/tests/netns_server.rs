//! The daemon on a trunk: tags, a full disk, hostile clients, generations. Needs root.

#[cfg(test)]
mod daemon;

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use daemon::{GUEST, Lab, Talk, discover, rapid, renew, request};
use netmodel::leases::State;
use testkit::frame::{Frame, ParsedFrame, link_local, multicast_mac_v6};
use testkit::raw::RawSocket;
use testkit::wait::wait_for;

const IOT: u16 = 30;

fn mac(number: u16) -> [u8; 6] {
    let [a, b] = number.to_be_bytes();
    [2, 0, 0, 9, a, b]
}

#[test]
fn each_vlan_is_served_out_of_its_scope_with_its_tag() {
    let lab = Lab::new(&Talk::default());
    for (vlan, second) in [(GUEST, 40), (IOT, 30), (10, 10)] {
        let offer = lab.ask(vlan, mac(1), &discover(mac(1))).expect("an offer");
        assert_eq!(offer.vlan, Some(vlan), "the tag is in the answer");
        let [a, b, third, _] = offer.address.octets();
        assert_eq!([a, b, third], [10, 20, second]);
        assert_eq!(offer.server, Ipv4Addr::new(10, 20, second, 1));
        let ack = lab.ask(vlan, mac(1), &request(mac(1), offer.address, offer.server));
        assert_eq!(ack.expect("an acknowledgement").address, offer.address);
    }
    assert_eq!(lab.ask(20, mac(1), &discover(mac(1))), None, "no scope");
    assert_eq!(lab.ask(999, mac(1), &discover(mac(1))), None, "no subnet");
    assert_eq!(lab.ask(0, mac(1), &discover(mac(1))), None, "no tag");
}

#[test]
fn ipv6_has_its_tag_too_and_leases_of_both_families_are_in_one_file() {
    let lab = Lab::new(&Talk {
        six: true,
        ..Talk::default()
    });
    let client = mac(1);
    let router = testkit::frame::link_local(lab.router.mac("trunk").unwrap());
    let solicit = {
        use dhcproto::Encodable as _;
        use dhcproto::v6::{DhcpOption, DhcpOptions, IANA, Message, MessageType};
        let mut message = Message::new_with_id(MessageType::Solicit, [1, 2, 3]);
        message
            .opts_mut()
            .insert(DhcpOption::ClientId(vec![0, 4, 1, 2]));
        message.opts_mut().insert(DhcpOption::RapidCommit);
        message.opts_mut().insert(DhcpOption::IANA(IANA {
            id: 1,
            t1: 0,
            t2: 0,
            opts: DhcpOptions::new(),
        }));
        message.to_vec().unwrap()
    };
    let servers = "ff02::1:2".parse().unwrap();
    let ask = |vlan: u16| {
        let frame = Frame::new(client, multicast_mac_v6(servers)).vlan(vlan);
        let frame = frame.ipv6(link_local(client), servers).udp(546, 547);
        lab.raw.drain().unwrap();
        lab.raw.send(&frame.payload(&solicit).build()).unwrap();
        let deadline = Instant::now() + Duration::from_millis(700);
        let answer = lab.raw.receive_where(deadline, |frame| {
            let parsed = ParsedFrame::parse(frame)?;
            assert!(parsed.checksums_ok);
            let at = parsed.packet_at;
            // UDP to port 546; REPLY is 7.
            let is_reply =
                frame.get(at + 42..at + 44)? == [0x02, 0x22] && *frame.get(at + 48)? == 7;
            (is_reply && parsed.destination == client)
                .then(|| (parsed.vlan(), frame[at + 8..at + 24].to_vec()))
        });
        answer.unwrap()
    };
    assert_eq!(ask(GUEST), Some((Some(GUEST), router.octets().to_vec())));
    assert_eq!(ask(IOT), None, "no subnet of IPv6");
    let ack = lab.ask(GUEST, client, &rapid(client));
    let leases = lab.all_leases();
    let is_six = |six: bool| leases.iter().filter(move |(at, _)| at.is_ipv6() == six);
    assert_eq!((is_six(true).count(), is_six(false).count()), (1, 1));
    assert!(leases.contains_key(&ack.unwrap().address.into()));
    wait_for("the status to say so", || {
        let text = fs::read(lab.path("dhcpd.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let segments = status["segments"].as_array()?;
        let guest = segments.iter().find(|s| s["name"] == "guest")?;
        let six = &guest["ipv6"];
        (six["bound"] == 1 && six["events"]["solicit"] == 1 && guest["free"] == 200).then_some(())
    })
    .unwrap();
}

#[test]
fn an_acknowledged_lease_is_in_the_file_and_the_status() {
    let lab = Lab::new(&Talk::default());
    let ack = lab
        .ask(GUEST, mac(1), &rapid(mac(1)))
        .expect("an acknowledgement");
    let leases = lab.leases();
    assert_eq!(leases[&ack.address].state, State::Bound);
    assert_eq!(leases[&ack.address].mac.0, mac(1));
    wait_for("the status to say so", || {
        let text = fs::read(lab.path("dhcpd.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let segments = status["segments"].as_array()?;
        let guest = segments.iter().find(|s| s["name"] == "guest")?;
        let counts = guest["latency"]["below_power_of_two_us"].as_array()?;
        let answers: u64 = counts.iter().filter_map(serde_json::Value::as_u64).sum();
        let elsewhere = segments.iter().filter(|s| s["latency"].is_object());
        assert_eq!((answers, elsewhere.count()), (1, 1));
        assert_ne!(counts.last()?, 0, "zeroes at the end are left out");
        (guest["bound"] == 1 && guest["events"]["ack"] == 1 && guest["pool"] == 201).then_some(())
    })
    .unwrap();
}

#[test]
fn a_host_with_a_reservation_gets_its_address_while_another_one_starves_the_pool() {
    let lab = Lab::new(&Talk::default());
    let victim = lab.reservation();
    let vlan = victim.vlan;
    for number in 0..400 {
        lab.send(vlan, mac(number), &rapid(mac(number)));
        lab.send(GUEST, mac(number), &rapid(mac(number)));
    }
    // The pool of the guests is empty now; that of others is not, and the reserved address is free.
    wait_for("the pool to be empty", || {
        let bound = lab
            .leases()
            .values()
            .filter(|l| l.state == State::Bound)
            .count();
        (bound >= 201).then_some(())
    })
    .unwrap();
    assert_eq!(lab.ask(GUEST, mac(999), &discover(mac(999))), None);
    let ack = lab
        .ask(vlan, victim.mac, &rapid(victim.mac))
        .expect("an acknowledgement");
    assert_eq!(ack.address, victim.address);
    assert!(
        lab.ask(IOT, mac(999), &discover(mac(999))).is_some(),
        "another segment"
    );
}

#[test]
fn an_address_that_somebody_uses_is_not_offered() {
    let talk = Talk {
        probe_wait: 300,
        ..Talk::default()
    };
    let lab = Lab::new(&talk);
    lab.send(GUEST, mac(1), &discover(mac(1)));
    let probed = lab.answer_probe(GUEST, mac(66));
    let offer = lab
        .next_answer(GUEST, mac(1))
        .expect("an offer of another address");
    assert_ne!(offer.address, probed);
    assert_eq!(lab.leases()[&probed].state, State::Declined);
}

#[test]
fn another_generation_is_served_without_a_restart_and_a_bad_one_is_not() {
    let lab = Lab::new(&Talk::default());
    let ack = lab
        .ask(GUEST, mac(1), &rapid(mac(1)))
        .expect("an acknowledgement");
    lab.ask(IOT, mac(2), &rapid(mac(2))).expect("a lease");
    lab.publish(2, |model| {
        for segment in model
            .segments
            .iter_mut()
            .filter(|s| s.vlan_id.as_u16() == IOT)
        {
            segment.dhcp = None;
        }
    });
    wait_for("the second generation", || {
        lab.ask(IOT, mac(2), &discover(mac(2)))
            .is_none()
            .then_some(())
    })
    .unwrap();
    let renewed = lab.ask(GUEST, mac(1), &renew(mac(1), ack.address));
    assert_eq!(renewed.expect("the lease goes on").address, ack.address);
    let log = fs::read_to_string(lab.path("log")).unwrap();
    let said = log.lines().find(|line| line.contains("has no place for"));
    let said = said.expect("the lease of the other one is spoken of");
    assert!(said.contains("VLAN 30") && said.contains('1'), "{said}");
    fs::write(
        lab.path("generation"),
        "{\"format_version\":1,\"number\":3}\n",
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(
        lab.ask(GUEST, mac(3), &discover(mac(3))).is_some(),
        "the second one is served"
    );
}

#[test]
fn a_full_disk_gives_no_lease_until_there_is_room() {
    let talk = Talk {
        disk: Some("128k"),
        ..Talk::default()
    };
    let lab = Lab::new(&talk);
    let filler = lab.state().join("filler");
    let ack = lab
        .ask(GUEST, mac(1), &rapid(mac(1)))
        .expect("an acknowledgement");
    fs::write(&filler, vec![0; 100 << 10]).unwrap();
    let full = wait_for("the disk to be full", || {
        lab.ask(GUEST, mac(1), &renew(mac(1), ack.address))
            .is_none()
            .then_some(())
    });
    full.unwrap();
    assert_eq!(
        lab.ask(GUEST, mac(2), &rapid(mac(2))),
        None,
        "nothing is promised"
    );
    assert!(
        lab.ask(GUEST, mac(3), &discover(mac(3))).is_some(),
        "an offer promises nothing"
    );
    assert!(!lab.leases().values().any(|lease| lease.mac.0 == mac(2)));
    fs::remove_file(&filler).unwrap();
    let again = lab
        .ask(GUEST, mac(2), &rapid(mac(2)))
        .expect("there is room again");
    assert_eq!(lab.leases()[&again.address].mac.0, mac(2));
    assert_eq!(lab.leases()[&ack.address].mac.0, mac(1));
}

#[test]
fn two_capabilities_are_enough() {
    let lab = Lab::new(&Talk {
        unprivileged: true,
        six: true,
        ..Talk::default()
    });
    let ack = lab.ask(GUEST, mac(1), &rapid(mac(1)));
    assert!(lab.leases().contains_key(&ack.expect("a lease").address));
    let log = fs::read_to_string(lab.path("log")).unwrap();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let file = fs::metadata(lab.path("state/leases")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&file), 65534);
}

#[test]
fn an_interface_that_is_made_anew_is_served_again() {
    let mut lab = Lab::new(&Talk::default());
    lab.router.delete_link("trunk").unwrap();
    let log = |words: &str| {
        let log = fs::read_to_string(lab.path("log")).unwrap();
        log.contains(words).then_some(())
    };
    wait_for("the loss to be said", || log("the interface is gone")).unwrap();
    lab.router.add_veth("trunk", &lab.switch, "far").unwrap();
    lab.router.set_up("trunk").unwrap();
    lab.switch.set_up("far").unwrap();
    lab.raw = RawSocket::open(&lab.switch, "far").unwrap();
    wait_for("the new one to be served", || {
        lab.ask(GUEST, mac(1), &discover(mac(1))).map(|_| ())
    })
    .unwrap();
}

#[test]
fn a_signal_ends_it_cleanly() {
    let mut lab = Lab::new(&Talk::default());
    assert_eq!(lab.terminate().code(), Some(0));
}
